// SPDX-License-Identifier: GPL-2.0
/*
 * R11: a child without CLONE_VM inherits registration and mode, one that shares the memory
 * starts unregistered, and exec clears. Threads of one process may be in different modes. A thread
 * that ends takes its registration along, whatever it was doing, and nobody else's.
 */
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"
#include "tracee.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr Mode all_modes[] = { Mode::v1, Mode::v2_size, Mode::v2_flag };
constexpr std::size_t stack_size = 64 * 1024;

} /* namespace */

FIXTURE(inherit) {
	RseqDebug debug;
	Rseq rseq;
	Request request;
	int cpu = last_cpu();
};

FIXTURE_MODES(inherit);

FIXTURE_SETUP(inherit)
{
	self->request = request_for(variant->mode);
	ASSERT_EQ(self->debug.set(false), nullptr);
	ASSERT_EQ(pin(self->cpu), 0);
}

/* ---- Without CLONE_VM ---- */

TEST_F(inherit, fork_keeps_registration_and_mode)
{
	if (!self->rseq.open(variant->mode))
		return;

	Area &area = self->rseq.area;
	const Request &request = self->request;

	EXPECT_SURVIVAL({
		EXPECT_EQ(sys_rseq(area.get(), request.length, 0, SECTION_SIGNATURE), EBUSY);
		EXPECT_EQ(observe_service(area), service_of(variant->mode));
		/* Updated there, not only still there. */
		EXPECT_EQ(pin(cpu_at(0)), 0);
		EXPECT_EQ(area.cpu_id_start(), cpu_at(0));
		EXPECT_EQ(area.cpu_id(), cpu_at(0));
		/* A child of the child. */
		EXPECT_SURVIVAL({
			EXPECT_EQ(observe_service(area), service_of(variant->mode));
			EXPECT_EQ(self->rseq.registration.close(), 0);
		});
		EXPECT_EQ(self->rseq.registration.close(), 0);
		EXPECT_EQ(area.cpu_id(), static_cast<std::uint32_t>(RSEQ_CPU_ID_UNINITIALIZED));
	});
	/* The parent has its own. */
	EXPECT_EQ(area.cpu_id(), self->cpu);
	EXPECT_EQ(observe_service(area), service_of(variant->mode));
	EXPECT_TRUE(area.canaries_intact());
}

namespace {

/* What the child of a fork on any CPU tells. */
struct Forked {
	bool elsewhere;
};

} /* namespace */

/* The child is a copy with the IDs of its parent, and begins on another CPU. */
TEST_F(inherit, forked_to_another_cpu_has_ids_of_there)
{
	constexpr unsigned int max_forks = 200;
	Shared<Forked> forked;
	unsigned int forks = 0;

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(unpin(), 0);
	if (!self->rseq.open(variant->mode))
		return;
	STEP("forking until a child begins on another CPU");
	while (!forked->elsewhere && forks++ < max_forks) {
		const std::uint32_t parent = self->rseq.area.cpu_id();

		EXPECT_SURVIVAL({
			expect_ids_of_current(self->rseq.area);
			forked->elsewhere = self->rseq.area.cpu_id() != parent;
		});
		/* It was the parent that has moved. */
		if (self->rseq.area.cpu_id() != parent)
			forked->elsewhere = false;
	}
	note("%u forks", forks);
	EXPECT_TRUE(forked->elsewhere);
}

namespace {

/* What the child of a fork found before its first system call, and where it was then. */
struct Newborn {
	Ids ids;
	Location here;
	bool judged;
};

} /* namespace */

/* Not later than at its first instruction: a system call of its own could put the IDs right. */
TEST_F(inherit, forked_begins_with_the_right_ids)
{
	constexpr unsigned int max_forks = 400, wanted = 20;
	Area &area = self->rseq.area;
	Shared<Newborn> newborn;
	unsigned int forks = 0, judged = 0, elsewhere = 0;

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(unpin(), 0);
	if (!self->rseq.open(variant->mode))
		return;
	STEP("forking until some children have begun on another CPU");
	while (elsewhere < wanted && forks++ < max_forks) {
		const std::uint32_t parent = location().cpu;

		*newborn = {};
		/* In v1 it gets them in any case. */
		if (!is_v2(variant->mode))
			area.set_ids(impossible_ids);

		/* The library's fork() makes system calls in the child. */
		const long pid = syscall(__NR_clone, SIGCHLD, 0, 0, 0, 0);

		if (pid == 0) {
			newborn->ids = area.ids();
			newborn->here = location();
			/* Not moved in between. */
			newborn->judged = switches() == Switches{};
			_exit(0);
		}

		const bool moved = location().cpu != parent;

		ASSERT_GT(pid, 0);
		EXPECT_EQ(wait_status(static_cast<pid_t>(pid)), 0);
		if (!newborn->judged)
			continue;
		judged++;
		elsewhere += !moved && newborn->here.cpu != parent;
		ASSERT_EQ(newborn->ids.cpu_id_start, newborn->here.cpu);
		ASSERT_EQ(newborn->ids.cpu_id, newborn->here.cpu);
		ASSERT_EQ(newborn->ids.node_id, newborn->here.node);
		ASSERT_EQ(newborn->ids.mm_cid, 0);
	}
	note("%u forks, %u judged, %u of them began elsewhere", forks, judged, elsewhere);
	EXPECT_EQ(elsewhere, wanted);
}

/* Its memory is its own, and it is the first thread of it. */
TEST_F(inherit, forked_by_a_later_thread_has_the_first_mm_cid)
{
	Bystander first, second;
	Thread forker;

	/* The limit is a quarter above the number of threads, and not above that of CPUs. */
	if (nr_cpus() < 3)
		SKIP("needs three CPUs");
	if (!self->request.available())
		SKIP("%s", self->request.missing);
	ASSERT_EQ(pin_after_all(self->cpu), 0);
	ASSERT_EQ(first.start(), 0);
	ASSERT_EQ(second.start(), 0);
	ASSERT_EQ(forker.start([&](Thread::Stop) {
		if (!self->rseq.open(variant->mode))
			return;
		if (self->rseq.area.mm_cid()) {
			EXPECT_SURVIVAL({
				EXPECT_EQ(self->rseq.area.mm_cid(), 0);
				expect_ids_of(self->rseq.area, self->cpu);
			});
		} else {
			skip_case("all threads of one CPU have mm_cid 0");
		}
		EXPECT_EQ(self->rseq.registration.close(), 0);
	}), 0);
	forker.join();
}

/* ---- With CLONE_VM ---- */

namespace {

using Self = inherit_data;
using Params = inherit_variant;

/*
 * Of a thread or process that shares the parent's memory. The parent's registration is not its
 * own, and its own may be in any mode; the parent's area stays as it is.
 */
void expect_unregistered_start(Self *self)
{
	const Request &parent = self->request;
	const Ids parent_ids = self->rseq.area.ids();

	EXPECT_EQ(sys_rseq(self->rseq.area.get(), parent.length, RSEQ_FLAG_UNREGISTER,
			   SECTION_SIGNATURE), EINVAL);
	for (Mode mode : all_modes) {
		const Request request = request_for(mode);
		Area area;

		if (!request.available())
			continue;

		Context context("%s in the child", mode_name(mode));

		EXPECT_EQ(area.map(request.length, request.align), 0);
		area.set_word(tail_offset, stale_tail);

		int err = sys_rseq(area.get(), request.length, request.flags, SECTION_SIGNATURE);

		EXPECT_EQ(err, 0);
		if (err)
			continue;
		EXPECT_EQ(area.cpu_id(), self->cpu);
		EXPECT_EQ(area.word(tail_offset), is_v2(mode) ? 0 : stale_tail);
		EXPECT_EQ(observe_service(area), service_of(mode));
		EXPECT_EQ(sys_rseq(area.get(), request.length, RSEQ_FLAG_UNREGISTER,
				   SECTION_SIGNATURE), 0);
		EXPECT_TRUE(area.canaries_intact());
	}
	EXPECT_EQ(self->rseq.area.cpu_id_start(), parent_ids.cpu_id_start);
	EXPECT_EQ(self->rseq.area.cpu_id(), parent_ids.cpu_id);
}

/* The parent is registered as before, and in the same mode. */
void expect_parent_unharmed(Self *self, const Params *variant)
{
	EXPECT_EQ(sys_rseq(self->rseq.area.get(), self->request.length, 0, SECTION_SIGNATURE),
		  EBUSY);
	EXPECT_EQ(observe_service(self->rseq.area), service_of(variant->mode));
}

int child_main(void *self)
{
	unsigned int before = failures();

	expect_unregistered_start(static_cast<Self *>(self));
	return failures() != before;
}

/* By the library's clone(), so that the child has a stack of its own. */
void clone_child(Self *self, const Params *variant, int flags)
{
	alignas(16) static char stack[stack_size];

	if (!self->rseq.open(variant->mode))
		return;

	pid_t pid = clone(child_main, stack + sizeof(stack), flags | SIGCHLD, self);

	ASSERT_GT(pid, 0);
	EXPECT_EQ(wait_status(pid), 0);
	expect_parent_unharmed(self, variant);
}

} /* namespace */

TEST_F(inherit, thread_starts_unregistered)
{
	std::atomic<bool> ended = false;
	Thread thread;

	if (!self->rseq.open(variant->mode))
		return;
	ASSERT_EQ(thread.start([&](Thread::Stop) {
		expect_unregistered_start(self);
		ended = true;
	}), 0);
	thread.join();
	EXPECT_TRUE(ended);
	expect_parent_unharmed(self, variant);
}

TEST_F(inherit, clone_vm_starts_unregistered)
{
	clone_child(self, variant, CLONE_VM);
}

TEST_F(inherit, vfork_starts_unregistered)
{
	clone_child(self, variant, CLONE_VM | CLONE_VFORK);
}

/* ---- The end of a thread ---- */

/*
 * Exit is a system call, too, and one that a section does not return from. The kernel has to
 * leave the area of somebody who is gone alone, and a later thread may register it.
 */
TEST_F(inherit, exit_inside_of_a_section)
{
	Area &area = self->rseq.area;
	const Request &request = self->request;

	if (!request.available())
		SKIP("%s", request.missing);
	ASSERT_EQ(area.map(request.length, request.align), 0);
	for (bool debug : { false, true }) {
		Context context("rseq_debug=%d", debug);
		int err = -1;
		Thread thread, next;

		if (const char *missing = self->debug.set(debug)) {
			note("%s", missing);
			continue;
		}
		EXPECT_SURVIVAL({
			EXPECT_EQ(sys_rseq(area.get(), request.length, request.flags,
					   SECTION_SIGNATURE), 0);
			/* Until no interrupt has aborted it before the call. */
			for (;;)
				system_call(area.get(), __NR_exit_group, 0, 0, 0);
		});
		ASSERT_EQ(thread.start([&](Thread::Stop) {
			EXPECT_EQ(sys_rseq(area.get(), request.length, request.flags,
					   SECTION_SIGNATURE), 0);
			/* The library joins a thread when the kernel says that it is gone. */
			for (;;)
				system_call(area.get(), __NR_exit, 0, 0, 0);
		}), 0);
		thread.join();
		EXPECT_EQ(area.rseq_cs(), reinterpret_cast<std::uintptr_t>(&system_call_cs));

		/* With rseq_cs as the first one has left it. */
		ASSERT_EQ(next.start([&](Thread::Stop) {
			err = sys_rseq(area.get(), request.length, request.flags,
				       SECTION_SIGNATURE);
			EXPECT_EQ(area.rseq_cs(), 0);
			EXPECT_EQ(area.cpu_id(), self->cpu);
			err = err ? err : sys_rseq(area.get(), request.length,
						   RSEQ_FLAG_UNREGISTER, SECTION_SIGNATURE);
		}), 0);
		next.join();
		EXPECT_EQ(err, 0);
		EXPECT_TRUE(area.canaries_intact());
	}
}

/* Killed by somebody else while it runs in a section. */
TEST_F(inherit, killed_inside_of_a_section)
{
	Shared<section_gate> gate;
	Process child;
	int status;

	if (!self->request.available())
		SKIP("%s", self->request.missing);
	ASSERT_EQ(self->rseq.area.map(self->request.length, self->request.align), 0);
	ASSERT_EQ(child.start([&] {
		Registration registration;

		EXPECT_EQ(registration.open(self->rseq.area, self->request), 0);
		for (std::uint32_t ticket = 1;; ticket++)
			gated(self->rseq.area.get(), &*gate, ticket);
	}), 0);
	STEP("waiting until the child is inside");
	spin_until([&] { return __atomic_load_n(&gate->entered, __ATOMIC_ACQUIRE) != 0; });
	ASSERT_EQ(kill(child.pid(), SIGKILL), 0);
	status = child.wait();
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The registration of a thread does not depend on the one that the process began with. */
TEST_F(inherit, main_thread_exits_first)
{
	if (!self->rseq.open(variant->mode))
		return;
	EXPECT_SURVIVAL({
		static pid_t main_tid;
		Thread thread;

		main_tid = own_tid();
		EXPECT_EQ(thread.start([variant](Thread::Stop) {
			const Request request = request_for(variant->mode);
			unsigned int before = failures();
			Area area;

			EXPECT_EQ(area.map(request.length, request.align), 0);
			EXPECT_EQ(sys_rseq(area.get(), request.length, request.flags,
					   SECTION_SIGNATURE), 0);
			/* A zombie as long as there are other threads. */
			while (thread_state(main_tid) != 'Z')
				sched_yield();
			/* To a thread: the process has no other one to give it to. */
			EXPECT_EQ(observe_service(area), service_of(variant->mode));
			EXPECT_EQ(pin(cpu_at(0)), 0);
			EXPECT_EQ(area.cpu_id(), cpu_at(0));
			EXPECT_EQ(area.cpu_id_start(), cpu_at(0));
			EXPECT_EQ(sys_rseq(area.get(), request.length, RSEQ_FLAG_UNREGISTER,
					   SECTION_SIGNATURE), 0);
			_exit(failures() != before);
		}), 0);
		syscall(__NR_exit, 1);
	});
}

/* ---- exec ---- */

/* What the executed program runs: a registration in this mode is nothing special. */
TEST_F_HIDDEN(inherit, registers_after_exec, 20)
{
	if (!self->rseq.open(variant->mode))
		return;
	EXPECT_EQ(observe_service(self->rseq.area), service_of(variant->mode));
}

TEST_F(inherit, exec_clears)
{
	/* Another mode than before, if there is one. */
	bool other = variant->mode == Mode::v1 && request_for(Mode::v2_size).available();
	char name[] = "inherit_test", option[] = "-r", target[64];
	char *argv[] = { name, option, target, nullptr };
	RseqConfiguration before = {}, after = {};
	long size = 0;
	Tracee child;

	if (!self->rseq.open(variant->mode))
		return;
	snprintf(target, sizeof(target), "inherit.%s.registers_after_exec",
		 other ? "v2_size" : "v1");
	ASSERT_EQ(child.start([&] {
		Tracee::stop();
		/* Its results are not results of this program. */
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
		exec_self(argv);
	}), 0);

	ASSERT_TRUE(child.wait_for_stop(SIGSTOP));
	ASSERT_EQ(child.rseq_configuration(&before, sizeof(before), &size), 0);
	EXPECT_EQ(before.pointer, reinterpret_cast<std::uintptr_t>(self->rseq.area.get()));

	ASSERT_EQ(child.resume(), 0);
	ASSERT_TRUE(child.wait_for_stop(SIGTRAP));
	ASSERT_EQ(child.rseq_configuration(&after, sizeof(after), &size), 0);
	EXPECT_EQ(after.pointer, 0);
	EXPECT_EQ(after.size, 0);
	EXPECT_EQ(after.signature, 0);
	EXPECT_EQ(after.flags, 0);
	EXPECT_EQ(after.reg_flags, 0);

	ASSERT_EQ(child.detach(), 0);
	EXPECT_EQ(child.wait(), 0);
}
