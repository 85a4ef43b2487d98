// SPDX-License-Identifier: GPL-2.0
/*
 * R12: what user space says in rseq_cs may be anything. A thread that is inside of a section with
 * an invalid descriptor gets SIGSEGV at the next event, in both modes, and never ends up where
 * the descriptor says. v1 refuses it outside of the section as well; v2 has no use for it there
 * and just clears rseq_cs. The same end comes when the kernel cannot write to the area.
 *
 * The section "described" takes a descriptor that is made up here. Each case forks children that
 * differ from their surviving twin, a correct descriptor, in the one thing that its name says.
 * Dying of SIGSEGV is not enough: user space also gets one where it has no memory, so the children
 * look whether they have arrived at the address that the kernel should not have gone to.
 */
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"

#include <csignal>
#include <cstddef>
#include <cstring>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int max_rounds = 50;
constexpr long timer_us = 1000;
constexpr int user_fault = 42;		/* exit status of a child that jumped somewhere */

/* Where there is nothing, and the text of kernels that are not moved at boot. */
#if defined(__x86_64__)
constexpr std::uint64_t kernel_memory = 0xffffffff81000000;
#else
constexpr std::uint64_t kernel_memory = 0xffff800080010000;
#endif
constexpr std::uint64_t kernel_addresses[] = { 0xffff800000080000, kernel_memory };
constexpr std::uint64_t non_canonical = 0x0200000000000000;
/* Above every user address space, below every kernel. */
constexpr std::uint64_t beyond_user = 0x0200000000000000;
constexpr std::uint64_t tag = 0x2a00000000000000;

std::uint64_t address(const void *p)
{
	return reinterpret_cast<std::uintptr_t>(p);
}

struct {
	section_gate *gate;
	std::uint32_t ticket;
	Area *area;
	volatile unsigned int hits_inside;
} handler_state;

/* For the section that goes on in spite of the signal, or that had not begun. */
void open_gate(int, siginfo_t *, void *ucontext)
{
	std::uintptr_t ip = interrupted_ip(ucontext);

	if (ip >= address(described_start) && ip < address(described_post_commit)) {
		handler_state.hits_inside = handler_state.hits_inside + 1;
		/* It went on, and must not die of something else later. */
		handler_state.area->set_rseq_cs(nullptr);
	}
	__atomic_store_n(&handler_state.gate->open, handler_state.ticket, __ATOMIC_RELAXED);
}

/* Where the descriptor of the child says that it goes on. */
std::uint64_t made_abort_ip;

void tell_who_faulted(int, siginfo_t *, void *ucontext)
{
	if (interrupted_ip(ucontext) == made_abort_ip)
		_exit(user_fault);
	/* Fatal when the handler returns. */
	signal(SIGSEGV, SIG_DFL);
	send_signal(getpid(), own_tid(), SIGSEGV);
}

std::size_t page_size()
{
	return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/* A page with an inaccessible one before and after it; never unmapped, the child exits. */
char *lonely_page()
{
	void *map = mmap(nullptr, 3 * page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *page = static_cast<char *>(map) + page_size();

	if (map == MAP_FAILED || mprotect(page, page_size(), PROT_READ | PROT_WRITE))
		_exit(1);
	return page;
}

/* What a case makes invalid. The pointer is to the copy, unless the case moves it. */
struct Made {
	struct rseq_cs cs = described_cs;
	std::uint64_t pointer = 0;
};

} /* namespace */

FIXTURE(descriptor) {
	Rseq rseq;
	RseqDebug debug;
	Agent rival;
	int cpu = last_cpu();
	bool rival_started = false;
};

FIXTURE_MODES(descriptor);

FIXTURE_SETUP(descriptor)
{
	const char *missing = self->debug.set(false);

	if (missing)
		SKIP("%s", missing);
	ASSERT_EQ(pin(self->cpu), 0);
	ASSERT_EQ(handle_signal(SIGALRM, open_gate), 0);
	ASSERT_EQ(handle_signal(SIGSEGV, tell_who_faulted), 0);
	if (self->rseq.open(variant->mode))
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

namespace {

using Self = descriptor_data;
using Params = descriptor_variant;

void start_rival(Self *self)
{
	if (!self->rival_started)
		ASSERT_EQ(self->rival.start_visitor(self->cpu), 0);
	self->rival_started = true;
}

/* ---- In the child: events, which a correct descriptor survives ---- */

const struct rseq_cs *as_descriptor(std::uint64_t pointer)
{
	return reinterpret_cast<const struct rseq_cs *>(static_cast<std::uintptr_t>(pointer));
}

/* The rival opens the gate, but on the same CPU only after it has preempted the section. */
void be_preempted_inside(Self *self, std::uint64_t pointer)
{
	int aborted = described(self->rseq.area.get(), self->rival.gate(),
				self->rival.next_ticket(), as_descriptor(pointer));

	EXPECT_EQ(aborted, 1);
	EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

/* Nobody preempts the child from now on, where that is permitted: it would be an event as well. */
void come_before_everybody()
{
	const sched_param before_everybody = { 1 };

	sched_setscheduler(0, SCHED_FIFO, &before_everybody);
}

/* Again until the timer was slower than the way into the section. */
void get_signal_inside(Self *self, std::uint64_t pointer)
{
	section_gate *gate = self->rival.gate();
	unsigned int round = 0;
	int aborted = 0;

	handler_state.gate = gate;
	handler_state.area = &self->rseq.area;
	come_before_everybody();
	while (!aborted && !handler_state.hits_inside && round++ < max_rounds) {
		handler_state.ticket = gate->entered + 1;
		arm_timer(timer_us);
		aborted = described(self->rseq.area.get(), gate, handler_state.ticket,
				    as_descriptor(pointer));
	}
	EXPECT_EQ(aborted, 1);
	EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

void be_preempted_outside(Self *self, std::uint64_t pointer)
{
	self->rseq.area.set_rseq_cs(as_descriptor(pointer));
	self->rival.wait_for_progress();
	EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

/* Not in user space when that happens; only v1 looks then. */
void sleep_outside(Self *self, std::uint64_t pointer)
{
	self->rseq.area.set_rseq_cs(as_descriptor(pointer));
	self->rival.sleep(self->rival.request());
	EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

/* ---- In the parent ---- */

template <typename Defect>
std::uint64_t make(Made *made, Defect &&defect)
{
	made->pointer = address(&made->cs);
	defect(made);
	made_abort_ip = made->cs.abort_ip;
	return made->pointer;
}

/* A correct descriptor survives event(), one with the defect does not, or just as well. */
template <typename Defect, typename Event>
void expect_fate(Self *self, bool dies, Defect &&defect, Event &&event)
{
	alignas(32) Made made;

	EXPECT_SURVIVAL({ event(self, make(&made, [](Made *) {})); });
	if (dies)
		EXPECT_DEATH(SIGSEGV, { event(self, make(&made, defect)); });
	else
		EXPECT_SURVIVAL({ event(self, make(&made, defect)); });
}

/* Inside of the section, in every mode. The rival would compete with the signal: it comes later. */
template <typename Defect>
void expect_refused_at_signal(Self *self, Defect &&defect)
{
	ASSERT_FALSE(self->rival_started);
	STEP("signal inside of a section");
	expect_fate(self, true, defect, get_signal_inside);
}

template <typename Defect>
void expect_refused_when_preempted(Self *self, Defect &&defect)
{
	ASSERT_NO_FAILURE(start_rival(self));
	STEP("preemption inside of a section");
	expect_fate(self, true, defect, be_preempted_inside);
}

template <typename Defect>
void expect_refused_inside(Self *self, Defect &&defect)
{
	ASSERT_NO_FAILURE(expect_refused_at_signal(self, defect));
	expect_refused_when_preempted(self, defect);
}

template <typename Defect>
void expect_outside(Self *self, const Params *variant, bool dies, Defect &&defect)
{
	ASSERT_NO_FAILURE(start_rival(self));
	STEP("preemption outside of the section");
	expect_fate(self, dies, defect, be_preempted_outside);
	if (is_v2(variant->mode))
		return;
	STEP("sleeping outside of the section");
	expect_fate(self, dies, defect, sleep_outside);
}

/* What v2 does not read when the thread is outside. */
template <typename Defect>
void expect_refused(Self *self, const Params *variant, Defect &&defect)
{
	ASSERT_NO_FAILURE(expect_refused_inside(self, defect));
	expect_outside(self, variant, !is_v2(variant->mode), defect);
}

/* What no mode can do without. */
template <typename Defect>
void expect_refused_everywhere(Self *self, const Params *variant, Defect &&defect)
{
	ASSERT_NO_FAILURE(expect_refused_inside(self, defect));
	expect_outside(self, variant, true, defect);
}

} /* namespace */

/* ---- The pointer ---- */

TEST_F(descriptor, at_kernel_address)
{
	auto point_at = [](std::uint64_t at) { return [at](Made *made) { made->pointer = at; }; };

	for (std::uint64_t at : kernel_addresses) {
		Context context("at 0x%llx", (unsigned long long)at);

		ASSERT_NO_FAILURE(expect_refused_at_signal(self, point_at(at)));
	}
	for (std::uint64_t at : kernel_addresses) {
		Context context("at 0x%llx", (unsigned long long)at);

		ASSERT_NO_FAILURE(expect_refused_when_preempted(self, point_at(at)));
		expect_outside(self, variant, true, point_at(at));
	}
}

TEST_F(descriptor, at_non_canonical_address)
{
	expect_refused_everywhere(self, variant, [](Made *made) { made->pointer = non_canonical; });
}

/*
 * A process can ask for system calls that follow an address with a tag in its upper byte, if its
 * kernel has that. Nobody can ask for it on the way to a descriptor.
 */
TEST_F(descriptor, at_tagged_address)
{
	bool tags = !prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE, 0, 0, 0);

	expect_refused_everywhere(self, variant, [tags](Made *made) {
		static struct utsname name;
		bool followed = !uname(reinterpret_cast<struct utsname *>(address(&name) | tag));

		if (followed != tags)
			_exit(1);
		made->pointer |= tag;
	});
}

TEST_F(descriptor, at_unmapped_address)
{
	expect_refused_everywhere(self, variant, [](Made *made) {
		made->pointer = address(lonely_page() + page_size());
	});
}

/* Mapped, and with a correct descriptor, but nobody may read it. */
TEST_F(descriptor, at_unreadable_address)
{
	expect_refused_everywhere(self, variant, [](Made *made) {
		char *page = lonely_page();

		memcpy(page, &made->cs, sizeof(made->cs));
		if (mprotect(page, page_size(), PROT_NONE))
			_exit(1);
		made->pointer = address(page);
	});
}

TEST_F(descriptor, in_truncated_file)
{
	expect_refused_everywhere(self, variant, [](Made *made) {
		const auto page = static_cast<off_t>(page_size());
		int fd = memfd_create("descriptor", MFD_CLOEXEC);
		void *map = fd >= 0 && !ftruncate(fd, page) ?
			mmap(nullptr, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) :
			MAP_FAILED;

		if (map == MAP_FAILED)
			_exit(1);
		memcpy(map, &made->cs, sizeof(made->cs));
		if (ftruncate(fd, 0))
			_exit(1);
		made->pointer = address(map);
	});
}

/* The twin of those that are cut off: both pages are there. */
TEST_F(descriptor, across_two_pages)
{
	ASSERT_NO_FAILURE(start_rival(self));
	for (std::size_t bytes : { 4, 8, 12, 16, 24, 28 }) {
		Context context("%zu bytes on the first page", bytes);
		auto move = [bytes](Made *made) {
			void *map = mmap(nullptr, 2 * page_size(), PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			char *start = static_cast<char *>(map) + page_size() - bytes;

			if (map == MAP_FAILED)
				_exit(1);
			memcpy(start, &made->cs, sizeof(made->cs));
			made->pointer = address(start);
		};

		expect_fate(self, false, move, be_preempted_inside);
		expect_fate(self, false, move, be_preempted_outside);
	}
}

namespace {

/* The first bytes of a correct descriptor, and then the page ends. */
auto cut_off_after(std::size_t bytes)
{
	return [bytes](Made *made) {
		char *start = lonely_page() + page_size() - bytes;

		memcpy(start, &made->cs, bytes);
		made->pointer = address(start);
	};
}

} /* namespace */

TEST_F(descriptor, cut_off_after_flags)
{
	expect_refused_everywhere(self, variant, cut_off_after(offsetof(struct rseq_cs, start_ip)));
}

TEST_F(descriptor, cut_off_after_start_ip)
{
	expect_refused_everywhere(self, variant,
				  cut_off_after(offsetof(struct rseq_cs, post_commit_offset)));
}

/* As much as v2 reads outside. */
TEST_F(descriptor, cut_off_after_offset)
{
	expect_refused(self, variant, cut_off_after(offsetof(struct rseq_cs, abort_ip)));
}

/* ---- The abort handler ---- */

TEST_F(descriptor, abort_at_kernel_address)
{
	auto abort_at = [](std::uint64_t at) {
		return [at](Made *made) { made->cs.abort_ip = at; };
	};

	for (std::uint64_t at : kernel_addresses) {
		Context context("at 0x%llx", (unsigned long long)at);

		ASSERT_NO_FAILURE(expect_refused_at_signal(self, abort_at(at)));
	}
	for (std::uint64_t at : kernel_addresses) {
		Context context("at 0x%llx", (unsigned long long)at);

		ASSERT_NO_FAILURE(expect_refused_when_preempted(self, abort_at(at)));
		expect_outside(self, variant, !is_v2(variant->mode), abort_at(at));
	}
}

TEST_F(descriptor, abort_at_non_canonical_address)
{
	expect_refused(self, variant, [](Made *made) { made->cs.abort_ip = non_canonical; });
}

TEST_F(descriptor, abort_at_null)
{
	expect_refused(self, variant, [](Made *made) { made->cs.abort_ip = 0; });
}

/* There is no room for a signature before it. */
TEST_F(descriptor, abort_in_first_bytes)
{
	expect_refused(self, variant, [](Made *made) { made->cs.abort_ip = 3; });
}

TEST_F(descriptor, abort_with_other_signature)
{
	expect_refused(self, variant, [](Made *made) {
		made->cs.abort_ip = address(described_unsigned);
	});
}

/* The handler itself could run. */
TEST_F(descriptor, abort_with_unreadable_signature)
{
	expect_refused(self, variant, [](Made *made) {
		char *page = lonely_page();

		memcpy(page, described_unsigned, described_unsigned_end - described_unsigned);
		__builtin___clear_cache(page, page + page_size());
		if (mprotect(page, page_size(), PROT_READ | PROT_EXEC))
			_exit(1);
		made->cs.abort_ip = address(page);
	});
}

/* The range reaches over the handler, which is still a good one. */
TEST_F(descriptor, abort_inside_of_the_section)
{
	expect_refused(self, variant, [](Made *made) {
		made->cs.post_commit_offset = made->cs.abort_ip - made->cs.start_ip + 1;
	});
}

/* The twin: a handler right behind the range is outside of it, and so is one before it. */
TEST_F(descriptor, abort_outside_of_the_section)
{
	ASSERT_NO_FAILURE(start_rival(self));
	expect_fate(self, false, [](Made *made) {
		made->cs.post_commit_offset = made->cs.abort_ip - made->cs.start_ip;
	}, be_preempted_inside);
	expect_fate(self, false, [](Made *made) {
		made->cs.abort_ip = address(described_low);
	}, be_preempted_inside);
}

/* ---- The range; the thread is inside of these wherever it is ---- */

TEST_F(descriptor, range_overflows)
{
	expect_refused_inside(self, [](Made *made) {
		made->cs.abort_ip = address(described_low);
		made->cs.post_commit_offset = -made->cs.start_ip;
	});
}

TEST_F(descriptor, range_ends_beyond_user_space)
{
	expect_refused_inside(self, [](Made *made) {
		made->cs.abort_ip = address(described_low);
		made->cs.post_commit_offset = beyond_user - made->cs.start_ip;
	});
}

/* Nobody is inside of that one. */
TEST_F(descriptor, range_starts_in_kernel)
{
	expect_outside(self, variant, !is_v2(variant->mode), [](Made *made) {
		made->cs.start_ip = kernel_addresses[0];
	});
}

/* ---- Version and flags ---- */

TEST_F(descriptor, unknown_version)
{
	expect_refused(self, variant, [](Made *made) { made->cs.version = 1; });
}

/* They have no meaning outside, where no kernel has looked at them. */
TEST_F(descriptor, flags)
{
	for (std::uint32_t flag : { 1u, 2u, 4u, 8u, 0x80000000u }) {
		Context context("flag 0x%x", flag);
		auto set_flag = [flag](Made *made) { made->cs.flags = flag; };

		ASSERT_NO_FAILURE(start_rival(self));
		expect_fate(self, true, set_flag, be_preempted_inside);
		expect_outside(self, variant, false, set_flag);
	}
}

/* Those of the area were the same thing once. v2 has dropped them. */
TEST_F(descriptor, flags_of_the_area)
{
	for (std::uint32_t flag : { 1u, 2u, 4u, 8u, 0x80000000u }) {
		Context context("flag 0x%x", flag);
		auto set_flag = [self, flag](Made *) {
			self->rseq.area.set_word(offsetof(struct rseq, flags), flag);
		};

		ASSERT_NO_FAILURE(start_rival(self));
		expect_fate(self, !is_v2(variant->mode), set_flag, be_preempted_inside);
		expect_outside(self, variant, false, set_flag);
	}
}

/* ---- membarrier, which evaluates a section as the others do ---- */

namespace {

constexpr struct {
	const char *what;
	void (*defect)(Made *made);
} defects[] = {
	{ "no descriptor", [](Made *made) { made->pointer = kernel_memory; } },
	{ "wrong signature", [](Made *made) { made->cs.abort_ip = address(described_unsigned); } },
	{ "abort in the kernel", [](Made *made) { made->cs.abort_ip = kernel_memory; } },
};

/* The child's own thread sends it: it is the memory that is registered. */
void get_membarrier_inside(Self *self, std::uint64_t pointer)
{
	Agent barrier;
	int aborted = 0;

	ASSERT_EQ(barrier.start_thread(cpu_at(0), [](std::uint32_t) {
		EXPECT_EQ(sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ), 0);
	}), 0);
	aborted = described(self->rseq.area.get(), barrier.gate(), barrier.next_ticket(),
			    as_descriptor(pointer));
	EXPECT_EQ(aborted, 1);
	EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

} /* namespace */

TEST_F(descriptor, refused_at_membarrier)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	for (const auto &made : defects) {
		Context context("%s", made.what);

		expect_fate(self, true, made.defect, get_membarrier_inside);
	}
}

/* ---- Debug mode, which looks in other places, and at each return from a system call ---- */

namespace {

void call_outside(Self *self, std::uint64_t pointer)
{
	self->rseq.area.set_rseq_cs(as_descriptor(pointer));
	syscall(__NR_getppid);
	EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

} /* namespace */

TEST_F(descriptor, refused_in_debug_mode)
{
	if (const char *missing = self->debug.set(true))
		SKIP("%s", missing);
	for (const auto &made : defects) {
		Context context("%s", made.what);

		ASSERT_NO_FAILURE(expect_refused_at_signal(self, made.defect));
	}
	for (const auto &made : defects) {
		Context context("%s", made.what);

		ASSERT_NO_FAILURE(expect_refused_when_preempted(self, made.defect));
		STEP("system call outside of the section");
		expect_fate(self, true, made.defect, call_outside);
	}
}

/* ---- The area ---- */

namespace {

void *area_page(const Self *self)
{
	auto start = reinterpret_cast<std::uintptr_t>(self->rseq.area.get());

	return reinterpret_cast<void *>(start & ~(page_size() - 1));
}

/*
 * The area gets that protection while it has rseq_cs or not, and then the thread is preempted.
 * In v1 the kernel has to write the IDs, in both modes it has to clear rseq_cs.
 */
void be_preempted_protected(Self *self, int protection, const struct rseq_cs *cs)
{
	Area &area = self->rseq.area;
	unsigned int round = 0;

	/* Preempted before the memory is protected, rseq_cs is gone: again. */
	do {
		ASSERT_EQ(mprotect(area_page(self), page_size(), PROT_READ | PROT_WRITE), 0);
		area.set_rseq_cs(cs);
		ASSERT_EQ(mprotect(area_page(self), page_size(), protection), 0);
	} while (area.rseq_cs() != address(cs) && round++ < max_rounds);
	self->rival.wait_for_progress();
	EXPECT_EQ(area.rseq_cs(), 0);
}

/* In v2 a kernel with time slice extensions takes back a request on each switch: it writes, too. */
bool takes_back_requests(Self *self)
{
	constexpr std::uint32_t request = 1;

	self->rseq.area.set_word(tail_offset, request);
	self->rival.wait_for_progress();
	return self->rseq.area.word(tail_offset) != request;
}

} /* namespace */

TEST_F(descriptor, area_read_only_and_has_to_be_written)
{
	ASSERT_NO_FAILURE(start_rival(self));
	EXPECT_SURVIVAL({ be_preempted_protected(self, PROT_READ | PROT_WRITE, &described_cs); });
	EXPECT_DEATH(SIGSEGV, { be_preempted_protected(self, PROT_READ, &described_cs); });
}

TEST_F(descriptor, area_read_only_is_written_only_in_v1)
{
	ASSERT_NO_FAILURE(start_rival(self));
	EXPECT_SURVIVAL({ be_preempted_protected(self, PROT_READ | PROT_WRITE, nullptr); });
	if (is_v2(variant->mode) && !takes_back_requests(self))
		EXPECT_SURVIVAL({ be_preempted_protected(self, PROT_READ, nullptr); });
	else
		EXPECT_DEATH(SIGSEGV, { be_preempted_protected(self, PROT_READ, nullptr); });
}

/*
 * The IDs have changed and cannot be written. A handler of SIGSEGV could not trust them, not even
 * one that makes the area writable: a thread in v2 does not get there. In v1 it is doomed when it
 * does, as up to 6.18.
 */
TEST_F(descriptor, area_read_only_at_migration)
{
	struct Handled { volatile bool entered; };
	static Handled *handled;
	static void *page;
	Shared<Handled> shared;
	int other = cpu_at(0);

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	handled = &*shared;
	page = area_page(self);

	auto migrate = [&](int protection) {
		ASSERT_EQ(handle_signal(SIGSEGV, [](int, siginfo_t *, void *) {
			handled->entered = true;
			if (mprotect(page, page_size(), PROT_READ | PROT_WRITE))
				_exit(1);
		}), 0);
		ASSERT_EQ(mprotect(page, page_size(), protection), 0);
		ASSERT_EQ(pin(other), 0);
		EXPECT_EQ(self->rseq.area.cpu_id(), other);
	};

	EXPECT_SURVIVAL({ migrate(PROT_READ | PROT_WRITE); });
	EXPECT_DEATH(SIGSEGV, { migrate(PROT_READ); });
	if (is_v2(variant->mode))
		EXPECT_FALSE(handled->entered);
}

/* A signal in v1 is told the IDs before its handler runs, or there is no handler. */
TEST_F(descriptor, area_read_only_at_signal)
{
	struct Handled { volatile bool entered; };
	static Handled *handled;
	Shared<Handled> shared;

	handled = &*shared;

	auto raise_protected = [self](int protection) {
		/* SIGSEGV does not have to wait for its end. */
		ASSERT_EQ(handle_signal(SIGUSR1, [](int, siginfo_t *, void *) {
			handled->entered = true;
		}, SA_NODEFER), 0);
		come_before_everybody();
		ASSERT_EQ(mprotect(area_page(self), page_size(), protection), 0);
		ASSERT_EQ(send_signal(getpid(), own_tid(), SIGUSR1), 0);
	};

	EXPECT_SURVIVAL({ raise_protected(PROT_READ | PROT_WRITE); });
	EXPECT_TRUE(handled->entered);
	/* v2 has nothing to write, unless it is preempted and takes back requests on that. */
	if (is_v2(variant->mode))
		return;
	handled->entered = false;
	EXPECT_DEATH(SIGSEGV, { raise_protected(PROT_READ); });
	EXPECT_FALSE(handled->entered);
}

/* Nor may it be given up like that, with the last values unwritten. */
TEST_F(descriptor, area_read_only_at_the_end)
{
	const Request request = request_for(variant->mode);

	auto give_up = [self, &request](int protection) {
		come_before_everybody();
		ASSERT_EQ(mprotect(area_page(self), page_size(), protection), 0);
		EXPECT_EQ(sys_rseq(self->rseq.area.get(), request.length, RSEQ_FLAG_UNREGISTER,
				   SECTION_SIGNATURE), 0);
	};

	EXPECT_SURVIVAL({ give_up(PROT_READ | PROT_WRITE); });
	EXPECT_DEATH(SIGSEGV, { give_up(PROT_READ); });
}

TEST_F(descriptor, area_unmapped)
{
	/* The twin unmaps a page that has nothing to do with it. */
	auto unmap_and_wait = [self](void *page) {
		ASSERT_EQ(munmap(page, page_size()), 0);
		self->rival.wait_for_progress();
	};

	ASSERT_NO_FAILURE(start_rival(self));
	EXPECT_SURVIVAL({ unmap_and_wait(lonely_page()); });
	EXPECT_DEATH(SIGSEGV, { unmap_and_wait(area_page(self)); });
}

/* Memory that is there, but that nobody can have any more. */
TEST_F(descriptor, area_in_truncated_file)
{
	const Request request = request_for(variant->mode);
	const auto page = static_cast<off_t>(page_size());

	auto truncate_and_wait = [&](off_t size) {
		int fd = memfd_create("area", MFD_CLOEXEC);

		ASSERT_GE(fd, 0);
		ASSERT_EQ(ftruncate(fd, page), 0);

		void *area = mmap(nullptr, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		ASSERT_NE(area, MAP_FAILED);
		drop_inherited_registration();
		ASSERT_EQ(sys_rseq(area, request.length, request.flags, SECTION_SIGNATURE), 0);
		ASSERT_EQ(ftruncate(fd, size), 0);
		self->rival.wait_for_progress();
	};

	ASSERT_NO_FAILURE(start_rival(self));
	EXPECT_SURVIVAL({ truncate_and_wait(page); });
	EXPECT_DEATH(SIGSEGV, { truncate_and_wait(0); });
}
