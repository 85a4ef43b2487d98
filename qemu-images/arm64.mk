# SPDX-License-Identifier: GPL-2.0
#
# Every fact about an arm64 guest. Assignments only; GUEST_EXPORT names what scripts need.

GUEST_ARCH              := arm64
GUEST_SRCARCH           := arm64
GUEST_KERNEL_IMAGE      := arch/arm64/boot/Image

# pauth-impdef: the architected hash of pointer authentication is very slow in software. TCG runs the
# CPUs on one thread: with several, rseq's debug mode stayed off, or on, after it had been switched,
# in 2 of 24 runs of the suite, and in none of 55 with one. QEMU 7.2 probably keeps executing the old
# instruction of a static branch that another CPU is patching, as on x86_64.
GUEST_QEMU              := qemu-system-aarch64
GUEST_QEMU_NEEDED       := 7.2
GUEST_MACHINE           := virt,gic-version=3
GUEST_CPU               := max,pauth-impdef=on
GUEST_ACCEL             := tcg,thread=single
# A guest whose clock counts instructions (-icount shift=0), which wants one thread as well. Without
# cntfrq, 16 instructions make a tick of the counter.
GUEST_COUNTING_MACHINE  := $(GUEST_MACHINE)
GUEST_COUNTING_CPU      := $(GUEST_CPU),cntfrq=1000000000
GUEST_MEMORY            := 512M
# Each with its share of CPUs and memory: node_id is more than 0. The device tree describes them.
GUEST_NODES             := 2
# A kernel that dies before the console is there would die in silence without the early one.
GUEST_CONSOLE           := ttyAMA0
GUEST_EARLYCON          := earlycon
GUEST_VIRTIO_SERIAL     := virtio-serial-device

# What `uname -m` says on a host that needs no cross compiler, and what the others need.
GUEST_UNAME             := aarch64
GUEST_CROSS_PREFIX      := aarch64-linux-gnu-
GUEST_CROSS_COMPILE     := $(if $(filter $(GUEST_UNAME),$(shell uname -m)),,$(GUEST_CROSS_PREFIX))
GUEST_PACKAGES_QEMU     := qemu-system-arm
GUEST_PACKAGES_CROSS    := gcc-aarch64-linux-gnu g++-aarch64-linux-gnu
GUEST_PACKAGES          := $(GUEST_PACKAGES_QEMU) \
                           $(if $(GUEST_CROSS_COMPILE),$(GUEST_PACKAGES_CROSS))

GUEST_EXPORT            := GUEST_ARCH GUEST_SRCARCH GUEST_KERNEL_IMAGE GUEST_QEMU \
                           GUEST_QEMU_NEEDED GUEST_MACHINE GUEST_CPU GUEST_ACCEL \
                           GUEST_COUNTING_MACHINE GUEST_COUNTING_CPU GUEST_MEMORY GUEST_NODES \
                           GUEST_CONSOLE GUEST_EARLYCON GUEST_VIRTIO_SERIAL \
                           GUEST_CROSS_COMPILE GUEST_PACKAGES
