# SPDX-License-Identifier: GPL-2.0
#
# From a kernel source to a verdict. "make help" lists targets and values.
#
#   fetch -> patch -> kernel -> selftests -> initramfs -> run -> report
#
# Each step is a script of scripts/ with one verb; this file is the order between
# them and the home of the default values.

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

known_arches := $(sort $(patsubst qemu-images/%.mk,%,$(wildcard qemu-images/*.mk)))
known_bases  := $(sort $(patsubst patches/linux-%/series,%,$(wildcard patches/linux-*/series)))
known_tests  := $(sort $(patsubst selftests/%.cpp,%,$(wildcard selftests/*_test.cpp)))

ARCH     ?= $(patsubst aarch64,arm64,$(shell uname -m))
BASE     ?= 6.19
KDIR     ?=
O        ?= build
NR_CPUS  ?= 4
DEEP     ?= no
TIMEOUT  ?= $(if $(filter yes,$(DEEP)),3600,600)
TESTS    ?= $(known_tests)
TEST     ?=
V        ?= 0
LLVM     ?=
DEBUG_KERNEL ?= no
RELEASE_KERNEL ?= no
CMDLINE  ?=
MUTATION ?=
MUTATIONS ?=
KERNEL_CACHE ?=
# What outlives a checkout: tarballs and finished kernels
CACHE    ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rseq-modes
# Seconds that one test program may take in the guest
DEADLINE ?= 180
# Of check-series: compile, and boot, after each patch
BUILD    ?= 0
BOOT     ?= 0
# Of format-patch: what the subjects begin with, and where the mails go
PREFIX   ?= PATCH RFC $(BASE)
OUT      ?= $(here)/outgoing

# Of bench: the limits only; and other limits, to see them broken (NAME=NUMBER, scripts/check-limits)
QUICK    ?= no
LIMITS   ?=

comma := ,
space := $(subst ,, )

# make splits lists of files at spaces
path = $(if $(filter-out $(2),$(words $($(1)))),$(error $(1)=$($(1)): a path is needed, and one without a space))
$(foreach v,CURDIR O CACHE,$(call path,$(v),1))
$(foreach v,KDIR KERNEL_CACHE OUT,$(call path,$(v),0 1))

ifeq ($(strip $(TESTS)),)
override TESTS := $(known_tests)
endif

# check VARIABLE,KNOWN
check = $(foreach word,$($(1)),$(if $(filter $(word),$(2)),,$(error $(1)=$(word) is unknown; known are: $(2))))
$(call check,ARCH,$(known_arches))
$(call check,BASE,$(known_bases))
$(call check,TESTS,$(known_tests))
ifneq ($(words $(ARCH)) $(words $(BASE)),1 1)
$(error ARCH and BASE take one value each)
endif
ifneq ($(shell [[ "$(NR_CPUS)" =~ ^[1-8]$$ ]] && echo ok),ok)
$(error NR_CPUS=$(NR_CPUS) is no number from 1 to 8)
endif
ifneq ($(shell [[ "$(TIMEOUT)" =~ ^[1-9][0-9]{0,4}$$ ]] && echo ok),ok)
$(error TIMEOUT=$(TIMEOUT) is no number of seconds)
endif
ifneq ($(shell [[ "$(DEADLINE)" =~ ^[1-9][0-9]{0,4}$$ ]] && echo ok),ok)
$(error DEADLINE=$(DEADLINE) is no number of seconds)
endif

# Before there is a program to be asked, its source knows. A variant may come from a macro.
ifneq ($(TEST),)
program := $(firstword $(subst /, ,$(TEST)))
words   := $(subst ., ,$(TEST:$(program)/%=%))
ifneq ($(shell [[ "$(TEST)" =~ ^[a-z0-9_]+/[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+$$ ]] && echo ok),ok)
$(error TEST=$(TEST) is not PROGRAM/fixture.variant.case)
endif
ifeq ($(filter $(program),$(TESTS)),)
$(error TEST=$(TEST): no such program; there are: $(TESTS))
endif
ifneq ($(shell grep -qE 'TEST[A-Z_]*\(($(firstword $(words)), *)?$(lastword $(words))[,)]' \
	selftests/$(program).cpp && echo ok),ok)
$(error TEST=$(TEST): selftests/$(program).cpp has no such case)
endif
endif

$(call check,DEBUG_KERNEL,no yes)
$(call check,RELEASE_KERNEL,no yes)
$(call check,QUICK,no yes)
$(call check,BUILD,0 1)
$(call check,BOOT,0 1)
$(call check,DEEP,no yes)

# "make test" has guests of its own
ifneq ($(filter test,$(MAKECMDGOALS)),)
guest_variables := ARCH BASE KDIR TESTS TEST NR_CPUS CMDLINE LLVM CROSS_COMPILE DEBUG_KERNEL \
	RELEASE_KERNEL MUTATION
given = $(if $(filter command environment,$(firstword $(origin $(1)))),$($(1)))
$(foreach v,$(guest_variables),$(if $(call given,$(v)),\
	$(error make test: $(v)=$($(v)) is for a single guest; all of them are run here)))
endif

ifneq ($(shell [[ "$(LLVM)" =~ ^(|1|-[0-9]+)$$ ]] && echo ok),ok)
$(error LLVM=$(LLVM) is unknown; known are: 1, a suffix like -19, and nothing)
endif
# The clang that Debian 12 calls clang is too old for these kernels
ifeq ($(LLVM),1)
override LLVM := $(if $(shell command -v apt-get),-19,1)
# kbuild would be given the word from the command line otherwise
MAKEOVERRIDES := $(filter-out LLVM=%,$(MAKEOVERRIDES))
endif

# What an outer make has exported is about its own architecture, not about this one
$(foreach fact,$(filter GUEST_%,$(.VARIABLES)),$(eval unexport $(fact))$(eval undefine $(fact)))
include qemu-images/$(ARCH).mk
CROSS_COMPILE ?= $(GUEST_CROSS_COMPILE)
export ARCH CROSS_COMPILE LLVM V GUEST_CROSS_PREFIX GUEST_PACKAGES_QEMU GUEST_PACKAGES_CROSS \
	$(GUEST_EXPORT)

series   := patches/linux-$(BASE)
configs  := $(shell sed -n 's/^\# CONFIG \+//p' $(series)/series) \
	    $(if $(filter yes,$(DEBUG_KERNEL)),rseq-debug) \
	    $(if $(filter yes,$(RELEASE_KERNEL)),rseq-release)
# A fragment may be there for another architecture only
overlays := $(notdir $(wildcard kernel-overlay/kernel/configs/*.config kernel-overlay/arch/*/configs/*.config))
unknown  := $(filter-out $(overlays:.config=),$(configs))
ifneq ($(unknown),)
$(error $(series)/series: kernel-overlay has no fragment for CONFIG $(unknown))
endif
fragments := $(wildcard $(configs:%=kernel-overlay/kernel/configs/%.config) \
	       $(configs:%=kernel-overlay/arch/$(GUEST_SRCARCH)/configs/%.config))

here     := $(O)/$(BASE)$(if $(KDIR),-kdir)
source   := $(here)/source
tree     := $(here)/src
# After each patch: a tree and kbuild folders that no other target uses
prefixes := $(here)/prefixes
# What is built and run for one kernel: the patched one, or the unpatched base
flavour  ?= patched
how      := $(if $(filter yes,$(DEBUG_KERNEL)),-debug)$(if $(filter yes,$(RELEASE_KERNEL)),-release)$(if $(LLVM),-llvm)
out      := $(here)/$(ARCH)/$(flavour)$(how)

ifeq ($(flavour),base)
subset   := --count 0
endif

# One behaviour of the series undone, to see a test fail. Built where the patched kernel
# is: few objects differ.
workshop := $(abspath $(out))/kbuild
# The programs are the same, and are built for the kernel that is whole
whole    := $(out)
ifneq ($(MUTATION),)
$(call check,MUTATION,$(patsubst $(series)/mutations/%.diff,%,$(wildcard $(series)/mutations/*.diff)))
mutation := $(series)/mutations/$(MUTATION).diff
left_out := $(shell sed -n '/^---/q; s/^Leaves-out: //p' $(mutation))
subset   := $(if $(left_out),--without $(left_out),--then mutations/$(MUTATION).diff)
# Without a patch, those behind it find their lines elsewhere
ifneq ($(left_out),)
export ALLOW_OFFSET := yes
endif
out      := $(out)-without/$(MUTATION)
endif

kernel   := $(out)/kernel
image    := $(kernel)/$(notdir $(GUEST_KERNEL_IMAGE))
guest    := $(here)/$(ARCH)/guest
deep     := $(filter yes,$(DEEP))
rundir   ?= $(out)/run-$(NR_CPUS)cpu$(deep:yes=-deep)

.DEFAULT_GOAL := $(if $(KDIR),apply,help)
.PHONY: help host fetch patch apply defconfig kernel selftests guest initramfs run rerun report gdb \
	baseline kselftest test check-runner check-verdict check-input refresh checkpatch \
	check-series format-patch clean mrproper

export help_values
define help_values
ARCH|$(ARCH)|of the guest: $(known_arches)
BASE|$(BASE)|kernel line: $(known_bases)
KDIR|$(KDIR)|a kernel tree or git checkout of yours to take the base from
KERNEL_CACHE|$(KERNEL_CACHE)|a folder with kernel tarballs
TESTS||test programs to run, all if empty: $(known_tests:%_test=%) (each with _test)
TEST|$(TEST)|one case, as the verdict prints it: program/fixture.variant.case
NR_CPUS|$(NR_CPUS)|of the guest, 1 to 8
CMDLINE|$(CMDLINE)|more words for the guest's kernel, e.g. rseq_debug=1
TIMEOUT|$(TIMEOUT)|seconds for a guest
DEADLINE|$(DEADLINE)|seconds for one test program
DEEP|$(DEEP)|yes: the parts that count on chance, many times as long
LLVM|$(LLVM)|empty: GCC; 1 or a suffix like -19: clang
DEBUG_KERNEL|$(DEBUG_KERNEL)|yes: lockdep, entry and VM checks, DWARF for gdb
RELEASE_KERNEL|$(RELEASE_KERNEL)|yes: built with -O2 and without rseq/stats, as distributions do
JOBS|$(JOBS)|compilers at a time in a kernel build, one for each CPU if empty
V|$(V)|1 shows commands
O|$(O)|where this checkout is built
CACHE|$(CACHE)|tarballs and finished kernels, shared by checkouts
BUILD|$(BUILD)|check-series: 1 compiles after each patch, in the whole matrix
BOOT|$(BOOT)|check-series: 1 boots after each patch
MUTATION|$(MUTATION)|run: the kernel of this one of patches/linux-$(BASE)/mutations, not the whole series
MUTATIONS||mutation: names from patches/linux-$(BASE)/mutations, all if empty
ALLOW_OFFSET||check-series, run, KDIR=tree: yes takes hunks that moved, in a tree of yours
LIMITS||bench: NAME=NUMBER for other limits, to see them broken
QUICK|$(QUICK)|bench: yes checks the limits only, for one BASE
PREFIX||format-patch: how subjects begin, "$(PREFIX)" if not set
OUT||format-patch: where the mails go, $(OUT) if not set
endef

help:
	@cat scripts/help.txt
	@awk -F '|' '{ printf "  %-15s%-10s %s\n", $$1, $$2, $$3 }' <<< "$$help_values"

# Programs that a target needs, installed if they are missing
host:
	@scripts/check-host $(if $(LLVM),--llvm $(LLVM))

fetch: host
	@scripts/fetch-kernel --series $(series) --cache $(CACHE)/tarballs --out $(source) \
		$(if $(KDIR),--kdir $(KDIR)) $(if $(KERNEL_CACHE),--tarballs $(KERNEL_CACHE))

# The scratch tree: a commit a patch, to be edited and rebased, and "make refresh"
patch: fetch
	@scripts/prepare-tree --source $(source) --tree $(tree)
	@scripts/apply-series --series $(series) --tree $(tree)

# The user's own tree. That takes git, and nothing else that "host" would install.
apply:
	@[ -n "$(KDIR)" ] || { echo "make apply: KDIR= is not set" >&2; exit 3; }
	@scripts/fetch-kernel --series $(series) --cache $(CACHE)/tarballs --out $(source) --kdir $(KDIR)
	@scripts/apply-series --series $(series) --tree $(KDIR) --in-place

defconfig: patch
	@scripts/configure-kernel --tree $(tree) --build $(workshop) $(fragments)
	@echo "$(workshop)/.config"

kernel: fetch
	@scripts/build-kernel --series $(series) $(subset) --source $(source) --tree $(tree) \
		--build $(workshop) --cache $(CACHE) --image $(GUEST_KERNEL_IMAGE) \
		--link $(kernel) --label "Linux $(BASE) $(ARCH), $(or $(MUTATION),$(flavour))" $(abspath $(fragments))

selftests: kernel
	@$(if $(MUTATION),$(MAKE) MUTATION= kernel)
	@$(MAKE) $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc)) -C selftests \
		O=$(abspath $(whole))/selftests HEADERS=$(abspath $(whole))/kernel/include \
		KSELFTEST=$(abspath $(whole))/kernel/kselftest

guest: host
	@$(MAKE) -C qemu-images O=$(abspath $(guest))

initramfs: selftests guest
	@scripts/make-plan --out $(out)/plan --deadline $(DEADLINE) $(if $(TEST),--case $(TEST)) \
		$(if $(deep),--deep) --programs $(whole)/selftests -- $(TESTS)
	@scripts/make-initramfs --out $(out)/initramfs.cpio --init $(guest)/init --plan $(out)/plan \
		--tests $(TESTS:%=$(whole)/selftests/%)

boot = scripts/run-qemu --kernel $(image) --initrd $(out)/initramfs.cpio --out $(rundir) \
	--cpus $(NR_CPUS) --timeout $(TIMEOUT) $(if $(CMDLINE),--append '$(CMDLINE)')

# Without rseq/stats more is skipped than the list allows
judge = scripts/verdict $(rundir) \
	$(if $(filter patched:no,$(flavour):$(RELEASE_KERNEL)),$(if $(wildcard $(series)/skips),\
	&& scripts/check-skips $(rundir) $(series)/skips $(ARCH) $(NR_CPUS)))

run: initramfs
	@$(boot)
	@$(judge)

# Once more what was run last, without looking for anything to build
rerun:
	@[ -e $(image) ] || { echo "make rerun: nothing was run yet for ARCH=$(ARCH) BASE=$(BASE)" >&2; exit 3; }
	@$(boot)
	@$(judge)

# The guest of the last run, stopped at its first instruction. DEBUG_KERNEL=yes has lines.
# The logs of the run itself stay as they are.
gdb:
	@[ -e $(rundir)/qemu.cmd ] || { echo "make gdb: nothing was run yet in $(rundir)" >&2; exit 3; }
	@command -v gdb-multiarch > /dev/null || \
		{ echo "make gdb: gdb-multiarch is not installed" >&2; exit 3; }
	@mkdir -p $(rundir)/gdb
	@command=$$(sed -E 's:/(console\.log|results\.ktap):/gdb/\1:g' $(rundir)/qemu.cmd); \
	gdb-multiarch $(kernel)/vmlinux -ex "target remote | $$command -S -gdb stdio"

report:
	@[ -d $(rundir) ] || { echo "make report: nothing was run yet for ARCH=$(ARCH) BASE=$(BASE)" >&2; exit 3; }
	@scripts/verdict $(rundir)

# The same tests on the unpatched base: the listed ones must fail, and no other
baseline:
	@$(MAKE) flavour=base initramfs
	@$(MAKE) flavour=base baseline-run

.PHONY: baseline-run
baseline-run:
	@$(boot)
	@scripts/verdict --quiet $(rundir) || [ $$? -eq 1 ]
	@scripts/compare-baseline $(rundir) $(series)/baseline $(ARCH) $(NR_CPUS)

# Undo one behaviour of the series after the other and see the named test fail
mutation:
	@scripts/check-mutations --series $(series) --arch $(ARCH) --base $(BASE) --out $(here)/$(ARCH)/mutations \
		$(MUTATIONS:%=--only %)

.PHONY: mutation mutation-run
mutation-run: initramfs
	@$(boot)
	@scripts/verdict --quiet $(rundir) || [ $$? -eq 1 ]

# The table of rules against the cases that exist
check-rules: selftests
	@scripts/check-rules Documentation/rseq-abi-modes.rst selftests $(known_tests:%=$(out)/selftests/%)

.PHONY: check-rules

# The rseq programs of the patched tree itself, with each kind of registration; also in the kernel
# of flavour=base
ksft     := $(here)/$(ARCH)/kselftest
ksft_run := $(out)/run-kselftest$(deep:yes=-deep)
kselftest: kernel guest
	@$(MAKE) patch
	@scripts/build-kselftest --tree $(tree) --out $(ksft) \
		--headers $(here)/$(ARCH)/$(patsubst $(flavour)%,patched%,$(notdir $(out)))/kernel/include
	@scripts/make-kselftest-plan --out $(ksft)/plan --programs $(ksft)/bin \
		--deadline $(DEADLINE) $(if $(deep),--deep)
	@scripts/make-initramfs --out $(ksft)/initramfs.cpio --init $(guest)/init \
		--plan $(ksft)/plan --tests $(ksft)/bin
	@scripts/run-qemu --kernel $(image) --initrd $(ksft)/initramfs.cpio --out $(ksft_run) \
		--cpus $(NR_CPUS) --timeout $(TIMEOUT) $(if $(CMDLINE),--append '$(CMDLINE)')
	@scripts/verdict $(ksft_run)

check-verdict: host
	@scripts/check-verdict

# Everything around the judge, with what a user, a network and a machine may do to it
check-input: host
	@scripts/check-input

check-runner: check-verdict check-guests

# Live ones alone; "make test" has judged the recorded logs already
.PHONY: check-guests
check-guests: kernel guest
	@scripts/check-runner --arch $(ARCH) --kernel $(image) --init $(guest)/init \
		--misbehave $(guest)/misbehave --out $(here)/$(ARCH)/check-runner

# Everything. The closing line counts all guests.
test:
	@env -u CROSS_COMPILE scripts/run-all --out $(O) $(if $(deep),--deep)

refresh:
	@scripts/refresh-series --series $(series) --tree $(tree)

# What the series costs, in instructions, and whether that is within the limits. On both
# architectures unless ARCH= is given, and with all kernels; what cannot be built is reported as not
# measured. QUICK=yes: the limits only, for one BASE, and the document stays as it is.
bench_arches  := $(if $(filter command%,$(origin ARCH)),$(ARCH),$(known_arches))
bench_bases   := $(if $(filter yes,$(QUICK)),$(BASE),$(known_bases))
patches_of     = $(shell grep -v -e '^\#' -e '^$$' patches/linux-$(1)/series)
bench_kernels  = $(foreach base,$(bench_bases),$(base):base $(if $(call patches_of,$(base)),$(base):patched)) \
	$(if $(filter yes,$(QUICK)),,$(lastword $(known_bases)):base-release $(lastword $(known_bases)):patched-release)
bench_label    = $(patsubst %:base,%,$(patsubst %:patched,%+series,$(patsubst %-release,%,$(if \
	$(filter %-release,$(1)),$(subst :,-O2:,$(1)),$(1)))))
bench_out     := $(O)/bench$(if $(filter yes,$(QUICK)),-quick)
bench_results := $(if $(filter yes,$(QUICK)),$(bench_out),bench/results)
bench_options := $(if $(filter yes,$(QUICK)),--cpus 2 --samples 41 --paths $(subst $(space),$(comma),$(strip \
			null_call fault interrupt sleep yield yield_threads signal irq_signal irq_signal_stale \
			irq_signal_active preempt_active migration migration_stale)), \
		 --again 6.19+series --functions $(subst $(space),$(comma),$(strip \
			yield yield_stale preempt_null preempt_stale preempt_active signal irq_signal)))
every_result  := $(bench_arches:%=$(bench_results)/%.json)

.PHONY: bench bench-arch
bench: host
	@[ -z "$(KDIR)" ] || { echo "make bench: it compares kernels of known source; KDIR= is none" >&2; exit 3; }
	@[ "$(DEBUG_KERNEL) $(RELEASE_KERNEL)" = "no no" ] || \
		{ echo "make bench: it chooses its kernels; leave out DEBUG_KERNEL= and RELEASE_KERNEL=" >&2; exit 3; }
	@$(if $(filter yes,$(QUICK)),,scripts/check-host --program gnuplot gnuplot-nox)
	@for arch in $(bench_arches); do env -u CROSS_COMPILE $(MAKE) bench-arch ARCH=$$arch; done
	@$(if $(filter yes,$(QUICK)),,scripts/write-cost --out Documentation/cost.rst bench/results/*.json)
	@scripts/check-limits $(LIMITS:%=--limit %) $(every_result)

bench-arch: guest
	@$(MAKE) -C selftests/bench O=$(abspath $(bench_out))/$(ARCH)/programs
	@for kernel in $(bench_kernels); do \
		base=$${kernel%:*} flavour=$${kernel#*:} release=no; \
		case $$flavour in *-release) release=yes ;; esac; \
		$(MAKE) kernel BASE=$$base flavour=$${flavour%-release} RELEASE_KERNEL=$$release || \
			rm -f $(O)/$$base/$(ARCH)/$$flavour$(how)/kernel; \
	done
	@scripts/run-bench --programs $(bench_out)/$(ARCH)/programs --init $(guest)/init \
		--out $(bench_out)/$(ARCH) --results $(bench_results)/$(ARCH).json $(bench_options) \
		$(foreach kernel,$(bench_kernels),$(call bench_label,$(kernel))=$(O)/$(subst :,/$(ARCH)/,$(kernel))$(how)/kernel)

checkpatch: patch
	@scripts/check-host --module ply python3-ply --module git python3-git
	@scripts/check-patches --series $(series) --tree $(tree)

# Fit to be sent: a minute or two. BUILD=1 and BOOT=1 are hours each the first time, on both
# architectures unless ARCH= is given. What BUILD=1 compiled is kept, and so are the kernels of
# BOOT=1, but not its results.
series_arches := $(if $(filter command%,$(origin ARCH)),$(ARCH),$(known_arches))
series_steps  := $(if $(filter 1,$(BUILD)),$(series_arches:%=build-prefixes/%) build-elsewhere/) \
		 $(if $(filter 1,$(BOOT)),$(series_arches:%=boot-prefixes/%))

check-series: fetch
	@scripts/check-host --program quilt quilt --module ply python3-ply --module git python3-git
	@scripts/prepare-tree --source $(source) --tree $(tree)
	@scripts/check-series --series $(series) --source $(source) --tree $(tree)
	@status=0; \
	for step in $(series_steps); do \
		echo "=== $$step"; arch=$${step#*/}; \
		env -u CROSS_COMPILE $(MAKE) $${step%/*} $${arch:+ARCH=$$arch} || status=1; \
	done; \
	exit $$status

# The clang that is asked for, or else the one that "LLVM=1" would be
clang := $(or $(LLVM),$(if $(shell command -v apt-get),-19,1))
every_prefix = --series $(series) --source $(source) --tree $(prefixes)/src --cache $(CACHE)

.PHONY: build-prefixes build-elsewhere boot-prefixes
build-prefixes: fetch
	@scripts/check-host --llvm $(clang) --program sparse sparse
	@scripts/build-prefixes $(every_prefix) --work $(prefixes) --llvm $(clang) $(fragments)

build-elsewhere: fetch
	@scripts/build-elsewhere $(every_prefix) --work $(prefixes) --llvm $(clang)

boot-prefixes: fetch guest
	@scripts/boot-prefixes $(every_prefix) --build $(abspath $(prefixes))/$(ARCH)-boot \
		--image $(GUEST_KERNEL_IMAGE) --guest $(guest) --out $(here)/$(ARCH)/boot-prefixes \
		$(abspath $(fragments))

# Mails for git send-email, with a cover letter, from you as git knows you
format-patch: fetch
	@scripts/prepare-tree --source $(source) --tree $(tree)
	@scripts/format-patches --series $(series) --source $(source) --tree $(tree) --out $(OUT) \
		--prefix "$(PREFIX)"

# What was made here; O and CACHE may be folders that hold more
remove = rm -rf $(2:%=$(1)/%); [ ! -d $(1) ] || rmdir --ignore-fail-on-non-empty $(1)

clean:
	$(call remove,$(O),$(known_bases) $(known_bases:%=%-kdir) bench bench-quick summary)

# Also what other checkouts share
mrproper: clean
	$(call remove,$(CACHE),tarballs kernels objects prefixes)
