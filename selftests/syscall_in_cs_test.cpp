// SPDX-License-Identifier: GPL-2.0
/*
 * R5: a system call inside of a critical section.
 *
 *   rseq_debug=1	SIGSEGV on return from the call, in every mode
 *   v1			goes on; aborted if the thread was scheduled out meanwhile
 *   v2			goes on, also if scheduled out, except when the IDs changed during the call:
 *			SIGSEGV, since what the section computed belongs to another CPU
 *
 * The twin makes the same call with the same rseq_cs, but outside of the section.
 */
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"

#include <atomic>
#include <csignal>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int wanted_rounds = 20;
constexpr unsigned int max_rounds = 400;

std::uint64_t address(const void *p)
{
	return reinterpret_cast<std::uintptr_t>(p);
}

/* What the signal handler found. */
struct {
	const Area *area;
	volatile unsigned int hits;
	std::uintptr_t ip;
	std::uint64_t rseq_cs;
} handler_state;

void look(int, siginfo_t *, void *ucontext)
{
	handler_state.ip = interrupted_ip(ucontext);
	handler_state.rseq_cs = handler_state.area->rseq_cs();
	handler_state.hits = handler_state.hits + 1;
}

} /* namespace */

FIXTURE(syscall_in_cs) {
	Rseq rseq;
	RseqDebug debug;
	Agent mover;		/* on the other CPU, moves the thread there */
	int cpu = last_cpu();
	int other = cpu_at(0);

	/* In the section; 0 if it went on, 1 if it was aborted. */
	int call_inside(long number, long arg0 = 0, long arg1 = 0, long arg2 = 0)
	{
		return system_call(rseq.area.get(), number, arg0, arg1, arg2);
	}

	/* An interrupt before the call may abort the section: then there was no call. */
	void call_until_not_aborted(long number, long arg0 = 0, long arg1 = 0, long arg2 = 0)
	{
		while (call_inside(number, arg0, arg1, arg2))
			;
	}

	void call_outside(long number, long arg0 = 0, long arg1 = 0, long arg2 = 0)
	{
		rseq.area.set_rseq_cs(&system_call_cs);
		syscall(number, arg0, arg1, arg2);
	}
};

FIXTURE_MODES(syscall_in_cs);

FIXTURE_SETUP(syscall_in_cs)
{
	ASSERT_EQ(pin(self->cpu), 0);
}

namespace {

using Self = syscall_in_cs_data;
using Params = syscall_in_cs_variant;

void open(Self *self, const Params *variant, bool debug)
{
	const char *missing = self->debug.set(debug);

	if (missing) {
		skip_case("%s", missing);
		return;
	}
	if (self->rseq.open(variant->mode))
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

/* The arguments of sched_setaffinity() for one CPU. */
struct Affinity {
	explicit Affinity(int cpu)
	{
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
	}
	long pointer() const { return static_cast<long>(address(&set)); }

	cpu_set_t set;
};

/* What the kernel takes for the size of a signal set, which is less than that of sigset_t. */
constexpr long kernel_sigset_size = 8;

/* A child that wants to be woken up by a signal. */
struct Sleeper {
	volatile pid_t pid, tid;
	volatile bool moves;
};

} /* namespace */

TEST_F(syscall_in_cs, dies_in_debug_mode)
{
	ASSERT_NO_FAILURE(open(self, variant, true));
	for (long number : { __NR_getppid, __NR_gettid, __NR_sched_yield }) {
		Context context("system call %ld", number);

		EXPECT_DEATH(SIGSEGV, { self->call_until_not_aborted(number); });
		EXPECT_SURVIVAL({
			self->call_outside(number);
			EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
		});
	}
}

/* The call brings about a signal: later, the instruction pointer is that of the handler. */
TEST_F(syscall_in_cs, dies_in_debug_mode_before_the_handler)
{
	Shared<std::uint32_t> handled;
	static std::uint32_t *counter;

	counter = &*handled;
	ASSERT_NO_FAILURE(open(self, variant, true));
	ASSERT_EQ(handle_signal(SIGUSR1, [](int, siginfo_t *, void *) { ++*counter; }), 0);
	EXPECT_DEATH(SIGSEGV, {
		self->call_until_not_aborted(__NR_tgkill, getpid(), own_tid(), SIGUSR1);
	});
	EXPECT_EQ(*handled, 0);
	EXPECT_SURVIVAL({
		self->call_outside(__NR_tgkill, getpid(), own_tid(), SIGUSR1);
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
	});
	EXPECT_EQ(*handled, 1);
}

/* fork() returns twice, and the second time on a way of its own. */
TEST_F(syscall_in_cs, both_die_in_debug_mode_after_fork)
{
	/* So that the case waits for both. */
	constexpr long flags = CLONE_PARENT | SIGCHLD;
	int status;

	ASSERT_NO_FAILURE(open(self, variant, true));
	EXPECT_DEATH(SIGSEGV, { self->call_until_not_aborted(__NR_clone, flags); });
	ASSERT_GT(waitpid(-1, &status, 0), 0);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);

	EXPECT_SURVIVAL({ self->call_outside(__NR_clone, flags); });
	ASSERT_GT(waitpid(-1, &status, 0), 0);
	EXPECT_EQ(status, 0);
}

/* The twin of dies_in_debug_mode that differs in the switch: nothing happens, nothing is done. */
TEST_F(syscall_in_cs, undisturbed_call_goes_on)
{
	unsigned int clean = 0;

	ASSERT_NO_FAILURE(open(self, variant, false));
	for (unsigned int i = 0; i < max_rounds && clean < wanted_rounds; i++) {
		Switches before = switches();
		int aborted = self->call_inside(__NR_getppid);
		std::uint64_t left = self->rseq.area.rseq_cs();

		if (switches() != before)
			continue;
		clean++;
		EXPECT_EQ(aborted, 0);
		EXPECT_EQ(left, address(&system_call_cs));
	}
	EXPECT_EQ(clean, wanted_rounds);
}

/* ---- The IDs change during the call ---- */

TEST_F(syscall_in_cs, dies_on_migration_in_v2)
{
	const Affinity here(self->cpu), there(self->other);
	const auto here_cpu = static_cast<std::uint32_t>(self->cpu);

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant, false));

	auto migrate = [&] {
		int aborted;

		/* Aborted by an interrupt before the call, it is still here. */
		do {
			aborted = self->call_inside(__NR_sched_setaffinity, 0, sizeof(there.set),
						    there.pointer());
		} while (aborted && self->rseq.area.cpu_id() == here_cpu);
		EXPECT_EQ(aborted, 1);
		EXPECT_EQ(self->rseq.area.cpu_id(), self->other);
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
	};
	auto stay = [&] {
		self->call_inside(__NR_sched_setaffinity, 0, sizeof(here.set), here.pointer());
		EXPECT_EQ(self->rseq.area.cpu_id(), self->cpu);
	};

	for (unsigned int i = 0; i < wanted_rounds; i++) {
		if (is_v2(variant->mode))
			EXPECT_DEATH(SIGSEGV, { migrate(); });
		else
			EXPECT_SURVIVAL({ migrate(); });
		EXPECT_SURVIVAL({ stay(); });
	}
}

namespace {

/*
 * SIGSEGV can be handled. The handler is in no section any more, and neither is what follows: there
 * is nothing left to die of once more.
 */
void expect_handler_in_no_section(Self *self, bool dies)
{
	const Affinity there(self->other);
	const auto here_cpu = static_cast<std::uint32_t>(self->cpu);

	ASSERT_EQ(handle_signal(SIGSEGV, look), 0);
	handler_state.area = &self->rseq.area;

	auto migrate = [&] {
		int aborted;

		/* Aborted by an interrupt before the call, it is still here. */
		do {
			aborted = self->call_inside(__NR_sched_setaffinity, 0, sizeof(there.set),
						    there.pointer());
		} while (aborted && location().cpu == here_cpu);
		EXPECT_EQ(handler_state.hits, dies);
		EXPECT_EQ(handler_state.rseq_cs, 0);
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
		EXPECT_EQ(self->rseq.area.cpu_id(), self->other);
	};

	for (unsigned int i = 0; i < wanted_rounds; i++)
		EXPECT_SURVIVAL({ migrate(); });
}

} /* namespace */

TEST_F(syscall_in_cs, handler_is_in_no_section)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant, false));
	expect_handler_in_no_section(self, is_v2(variant->mode));
}

TEST_F(syscall_in_cs, debug_mode_handler_is_in_no_section)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant, true));
	expect_handler_in_no_section(self, true);
}

/*
 * The call is interrupted by a signal. On the way to the handler the section has to be looked at:
 * later, the instruction pointer is that of the handler.
 */
TEST_F(syscall_in_cs, dies_on_migration_with_signal_in_v2)
{
	Shared<Sleeper> sleeper;
	auto wake = [sleeper = &*sleeper, cpu = self->other](std::uint32_t) {
		spin_until([&] {
			const char state = thread_state(sleeper->tid);

			/* Or gone, which is no reason to wait for ever. */
			return state == 'S' || state == 'Z' || state == '?';
		});
		if (sleeper->moves)
			pin(cpu, sleeper->tid);
		send_signal(sleeper->pid, sleeper->tid, SIGUSR1);
	};
	sigset_t blocked, none;

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	ASSERT_EQ(self->mover.start_process(self->other, wake), 0);
	ASSERT_NO_FAILURE(open(self, variant, false));
	ASSERT_EQ(handle_signal(SIGUSR1, look), 0);
	ASSERT_EQ(sigprocmask(SIG_BLOCK, &blocked, nullptr), 0);
	handler_state.area = &self->rseq.area;

	/* True if it was the signal that ended the section. */
	auto sleep = [&](bool moves) {
		int aborted;

		sleeper->pid = getpid();
		sleeper->tid = own_tid();
		sleeper->moves = moves;
		self->mover.request();
		/* Aborted by an interrupt before the call, there was no signal. */
		do {
			aborted = self->call_inside(__NR_rt_sigsuspend, address(&none),
						    kernel_sigset_size);
		} while (!handler_state.hits);
		EXPECT_EQ(handler_state.hits, 1);
		EXPECT_EQ(self->rseq.area.cpu_id(), moves ? self->other : self->cpu);
		return aborted;
	};

	for (unsigned int i = 0; i < wanted_rounds; i++) {
		if (is_v2(variant->mode))
			EXPECT_DEATH(SIGSEGV, { sleep(true); });
		else
			EXPECT_SURVIVAL({ EXPECT_EQ(sleep(true), 1); });
		EXPECT_SURVIVAL({ sleep(false); });
	}
}

/*
 * No migration: while the third thread of a process sleeps the first one ends, and the third gets
 * a lower mm_cid.
 */
TEST_F(syscall_in_cs, dies_on_new_mm_cid_in_v2)
{
	/* The limit is a quarter above the number of threads, and not above that of CPUs. */
	if (nr_cpus() < 3)
		SKIP("needs three CPUs");
	if (!request_for(variant->mode).available())
		SKIP("%s", request_for(variant->mode).missing);
	ASSERT_EQ(self->debug.set(false), nullptr);

	auto sleep = [&](bool inside) {
		Area &area = self->rseq.area;
		std::atomic<pid_t> tid = 0;
		Bystander first;
		Thread third;
		int fds[2];

		ASSERT_EQ(pin_after_all(self->cpu), 0);
		ASSERT_EQ(pipe(fds), 0);
		ASSERT_EQ(first.start(), 0);
		ASSERT_EQ(third.start([&](Thread::Stop) {
			volatile char byte = 0;
			int aborted = 0;

			if (!self->rseq.open(variant->mode))
				return;
			EXPECT_EQ(area.mm_cid(), 2);
			tid = own_tid();
			/* Aborted by an interrupt before the call, it has read nothing. */
			while (!byte) {
				const auto buffer = static_cast<long>(address(const_cast<char *>(&byte)));

				if (inside)
					aborted = self->call_inside(__NR_read, fds[0], buffer, 1);
				else
					self->call_outside(__NR_read, fds[0], buffer, 1);
			}
			EXPECT_EQ(area.rseq_cs(), 0);
			EXPECT_EQ(area.mm_cid(), 1);
			EXPECT_EQ(aborted, inside);
			EXPECT_EQ(self->rseq.registration.close(), 0);
		}), 0);
		spin_until([&] { return tid && thread_state(tid) == 'S'; });
		first.end();
		EXPECT_EQ(write(fds[1], "x", 1), 1);
		third.join();
	};

	STEP("sleeping until mm_cid is another one");
	for (unsigned int i = 0; i < wanted_rounds / 4; i++) {
		if (is_v2(variant->mode))
			EXPECT_DEATH(SIGSEGV, { sleep(true); });
		else
			EXPECT_SURVIVAL({ sleep(true); });
		EXPECT_SURVIVAL({ sleep(false); });
	}
}

/* Another twin: the IDs change while the section runs in user space, as it is entitled to. */
TEST_F(syscall_in_cs, moved_without_call_is_aborted)
{
	auto move = [tid = own_tid(), cpu = self->other](std::uint32_t) { pin(cpu, tid); };
	unsigned int moved = 0;

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(self->mover.start_process(self->other, move), 0);
	ASSERT_NO_FAILURE(open(self, variant, false));
	STEP("waiting inside of a section to be moved");
	for (unsigned int i = 0; i < max_rounds && moved < wanted_rounds; i++) {
		std::uint32_t ticket = self->mover.next_ticket();

		ASSERT_EQ(pin(self->cpu), 0);

		int aborted = gated(self->rseq.area.get(), self->mover.gate(), ticket);

		/* Aborted by an interrupt before it has asked. */
		if (self->mover.gate()->entered != ticket)
			continue;
		self->mover.wait(ticket);
		moved++;
		EXPECT_EQ(aborted, 1);
		EXPECT_EQ(self->rseq.area.cpu_id(), self->other);
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
	}
	EXPECT_EQ(moved, wanted_rounds);
}

/* The kernel looks at rseq_cs anyway, and clears it as after any other ID update. */
TEST_F(syscall_in_cs, stale_section_is_cleared_on_migration)
{
	const Affinity here(self->cpu), there(self->other);

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant, false));
	for (unsigned int i = 0; i < wanted_rounds; i++) {
		const Affinity &next = i % 2 ? here : there;

		self->call_outside(__NR_sched_setaffinity, 0, sizeof(next.set), next.pointer());
		ASSERT_EQ(self->rseq.area.rseq_cs(), 0);
		ASSERT_EQ(self->rseq.area.cpu_id(), i % 2 ? self->cpu : self->other);
	}
}

/* ---- A signal is delivered on return from the call ---- */

namespace {

/* Runs make_call() until wanted_rounds of them had the signal and no switch. */
template <typename Call, typename Check>
void signal_rounds(Self *self, Call &&make_call, Check &&check)
{
	unsigned int clean = 0;

	handler_state.area = &self->rseq.area;
	for (unsigned int i = 0; i < max_rounds && clean < wanted_rounds; i++) {
		unsigned int hits = handler_state.hits;
		Switches before = switches();
		int aborted = make_call();
		std::uint64_t left = self->rseq.area.rseq_cs();

		const bool switched = switches() != before;

		/* Aborted before the call, there was none. */
		if (handler_state.hits == hits && switched)
			continue;
		ASSERT_EQ(handler_state.hits, hits + 1);
		if (switched)
			continue;
		clean++;
		check(aborted, left);
	}
	EXPECT_EQ(clean, wanted_rounds);
}

} /* namespace */

TEST_F(syscall_in_cs, signal_from_call_aborts_only_v1)
{
	const bool v1 = !is_v2(variant->mode);

	ASSERT_NO_FAILURE(open(self, variant, false));
	ASSERT_EQ(handle_signal(SIGUSR1, look), 0);
	signal_rounds(self, [&] {
		return self->call_inside(__NR_tgkill, getpid(), own_tid(), SIGUSR1);
	}, [&](int aborted, std::uint64_t left) {
		const std::uint64_t kept = v1 ? 0 : address(&system_call_cs);

		EXPECT_EQ(aborted, v1);
		EXPECT_EQ(handler_state.rseq_cs, kept);
		EXPECT_EQ(left, kept);
		if (v1)
			EXPECT_EQ(handler_state.ip, address(system_call_abort));
	});
}

TEST_F(syscall_in_cs, signal_from_call_outside_clears_only_in_v1)
{
	const bool v1 = !is_v2(variant->mode);

	ASSERT_NO_FAILURE(open(self, variant, false));
	ASSERT_EQ(handle_signal(SIGUSR1, look), 0);
	signal_rounds(self, [&] {
		self->call_outside(__NR_tgkill, getpid(), own_tid(), SIGUSR1);
		return 0;
	}, [&](int, std::uint64_t left) {
		const std::uint64_t kept = v1 ? 0 : address(&system_call_cs);

		EXPECT_EQ(handler_state.rseq_cs, kept);
		EXPECT_EQ(left, kept);
	});
}
