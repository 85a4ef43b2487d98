# SPDX-License-Identifier: GPL-2.0
#
# Every fact about an x86_64 guest. Assignments only; GUEST_EXPORT names what scripts need.

GUEST_ARCH              := x86_64
GUEST_SRCARCH           := x86
GUEST_KERNEL_IMAGE      := arch/x86/boot/bzImage

# microvm: a MP table instead of ACPI and virtio on MMIO instead of PCI, which spares a quarter of the
# kernel. TCG runs the CPUs on one thread because QEMU 7.2 now and then executes the int3 of a static
# branch that another CPU is patching.
GUEST_QEMU              := qemu-system-x86_64
GUEST_QEMU_NEEDED       := 7.2
GUEST_MACHINE           := microvm,acpi=off,rtc=off
GUEST_CPU               := max
GUEST_ACCEL             := tcg,thread=single
# A guest whose clock counts instructions (-icount shift=0): one tick each, and one thread as
# well. The kernel waits for an absent RTC for a second, which are 10^9 instructions then, and need
# not find out how fast the TSC is.
GUEST_COUNTING_MACHINE  := microvm,acpi=off,rtc=on
GUEST_COUNTING_CPU      := $(GUEST_CPU)
GUEST_MEMORY            := 512M
# node_id is more than 0 on the second socket. No ACPI table says so: the kernel splits its memory.
GUEST_NODES             := 2
GUEST_NODES_WORD        := numa=fake=
# A kernel that dies before the console is there would die in silence without the early one.
GUEST_CONSOLE           := ttyS0
GUEST_EARLYCON          := earlycon=uart8250,io,0x3f8
GUEST_VIRTIO_SERIAL     := virtio-serial-device
# There is no other clock to watch the TSC, which is fine under TCG, and no keyboard controller to
# ask for a reset. The check of the timer fails when the host is busy.
GUEST_WORDS             := tsc=reliable reboot=triple no_timer_check
GUEST_COUNTING_WORDS    := $(GUEST_WORDS) tsc_early_khz=1000000

# What `uname -m` says on a host that needs no cross compiler, and what the others need.
GUEST_UNAME             := x86_64
GUEST_CROSS_PREFIX      := x86_64-linux-gnu-
GUEST_CROSS_COMPILE     := $(if $(filter $(GUEST_UNAME),$(shell uname -m)),,$(GUEST_CROSS_PREFIX))
GUEST_PACKAGES_QEMU     := qemu-system-x86
GUEST_PACKAGES_CROSS    := gcc-x86-64-linux-gnu g++-x86-64-linux-gnu
GUEST_PACKAGES          := $(GUEST_PACKAGES_QEMU) \
                           $(if $(GUEST_CROSS_COMPILE),$(GUEST_PACKAGES_CROSS))

GUEST_EXPORT            := GUEST_ARCH GUEST_SRCARCH GUEST_KERNEL_IMAGE GUEST_QEMU \
                           GUEST_QEMU_NEEDED GUEST_MACHINE GUEST_CPU GUEST_ACCEL \
                           GUEST_COUNTING_MACHINE GUEST_COUNTING_CPU GUEST_COUNTING_WORDS \
                           GUEST_MEMORY GUEST_NODES GUEST_NODES_WORD GUEST_CONSOLE \
                           GUEST_EARLYCON GUEST_WORDS GUEST_VIRTIO_SERIAL GUEST_CROSS_COMPILE \
                           GUEST_PACKAGES
