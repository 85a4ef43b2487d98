// SPDX-License-Identifier: GPL-2.0
/*
 * R10 and the end of a registration in R1: the values it leaves behind, that nobody writes the
 * area any more, and that the next registration starts afresh, in whatever mode.
 */
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <sys/time.h>
#include <unistd.h>

using namespace selftest;

namespace {

/* cpu_id_start is a possible CPU number at any time: readers index with it. */
constexpr Ids values_after = { 0, static_cast<std::uint32_t>(RSEQ_CPU_ID_UNINITIALIZED), 0, 0 };

constexpr std::size_t flags_offset = 16;

void expect_ids(const Area &area, const Ids &wanted)
{
	EXPECT_EQ(area.cpu_id_start(), wanted.cpu_id_start);
	EXPECT_EQ(area.cpu_id(), wanted.cpu_id);
	EXPECT_EQ(area.node_id(), wanted.node_id);
	EXPECT_EQ(area.mm_cid(), wanted.mm_cid);
}

} /* namespace */

FIXTURE(unregister) {
	RseqDebug debug;
	Rseq rseq;
	Agent agent;
	int cpu = last_cpu();
};

FIXTURE_MODES(unregister);

FIXTURE_SETUP(unregister)
{
	/* Not CPU 0 if there is another: what is left behind is not what was there before. */
	ASSERT_EQ(pin(self->cpu), 0);
}

TEST_F(unregister, values)
{
	ASSERT_EQ(self->debug.set(false), nullptr);
	if (!self->rseq.open(variant->mode))
		return;

	Area &area = self->rseq.area;

	ASSERT_EQ(area.cpu_id_start(), self->cpu);
	area.set_word(flags_offset, stale_tail);
	if (!is_v2(variant->mode))
		area.set_word(tail_offset, stale_tail);
	/* Most of what is to be there is there already. In v2 nothing looks at it before the end. */
	area.set_ids(impossible_ids);
	ASSERT_EQ(self->rseq.registration.close(), 0);

	expect_ids(area, values_after);
	EXPECT_EQ(area.rseq_cs(), 0);
	EXPECT_EQ(area.word(flags_offset), stale_tail);
	EXPECT_EQ(area.word(tail_offset), is_v2(variant->mode) ? 0 : stale_tail);
	EXPECT_TRUE(area.canaries_intact());
}

/* What user space writes afterwards stays, and a stale rseq_cs is nobody's business. */
TEST_F(unregister, area_is_left_alone)
{
	if (!self->rseq.open(variant->mode))
		return;
	ASSERT_EQ(self->rseq.registration.close(), 0);
	ASSERT_EQ(handle_signal(SIGUSR1, [](int, siginfo_t *, void *) {}), 0);
	ASSERT_EQ(self->agent.start_rival(self->cpu), 0);

	Area &area = self->rseq.area;

	for (std::uint32_t value : { 0x80000001U, 0xffffffffU, 0x7fffffffU }) {
		Context context("poison 0x%08x", value);
		const Ids poison = { value, value ^ 1, value ^ 2, value ^ 3 };
		Switches before = switches();

		area.set_ids(poison);
		area.set_rseq_cs(&gated_cs);
		STEP("waiting to be preempted by the rival");
		self->agent.wait_for_progress();
		/* A quick agent has answered before the thread is asleep. */
		while ((switches() - before).voluntary == 0)
			self->agent.sleep(self->agent.request());
		send_signal(getpid(), own_tid(), SIGUSR1);
		/* Two IDs change as well, where there are two CPUs. */
		ASSERT_EQ(pin(cpu_at(0)), 0);
		ASSERT_EQ(pin(self->cpu), 0);

		Switches during = switches() - before;

		EXPECT_GT(during.voluntary, 0);
		EXPECT_GT(during.involuntary, 0);
		expect_ids(area, poison);
		EXPECT_EQ(area.rseq_cs(), reinterpret_cast<std::uintptr_t>(&gated_cs));
	}
	EXPECT_TRUE(area.canaries_intact());
}

/* The same memory, in each mode that there is, in turn: nothing of the mode before is left. */
TEST_F(unregister, next_mode_starts_afresh)
{
	const Mode modes[] = { Mode::v1, Mode::v2_size, Mode::v2_flag };
	const Request first = request_for(variant->mode);
	const Request longest = request_for(Mode::v2_size);
	unsigned int others = 0;
	Area area;

	if (!first.available())
		SKIP("%s", first.missing);
	ASSERT_EQ(self->debug.set(false), nullptr);
	ASSERT_EQ(area.map(std::max(longest.length, v1_length), std::max(longest.align, v1_length)),
		  0);
	for (Mode mode : modes) {
		for (Mode now : { variant->mode, mode }) {
			const Request request = request_for(now);
			Registration registration;

			if (!request.available())
				continue;

			Context context("%s after %s", mode_name(now), mode_name(variant->mode));

			area.set_word(tail_offset, stale_tail);
			ASSERT_EQ(registration.open(area, request), 0);
			EXPECT_EQ(area.word(tail_offset), is_v2(now) ? 0 : stale_tail);
			EXPECT_EQ(observe_service(area), service_of(now));
			ASSERT_EQ(registration.close(), 0);
			expect_ids(area, values_after);
			others += now != variant->mode;
		}
	}
	note("%u registrations in other modes", others);
	/* v1 is always there. */
	if (is_v2(variant->mode))
		EXPECT_GT(others, 0);
	EXPECT_TRUE(area.canaries_intact());
}

/* ---- Unregistering under membarriers and signals ---- */

namespace {

constexpr unsigned int wanted_rounds = 2000;
constexpr unsigned int wanted_barriers = 100;
constexpr unsigned int wanted_alarms = 50;
constexpr unsigned int wanted_signals = 100;
constexpr unsigned int max_rounds = 2000000;
/* More than a round takes, less than a time slice. */
constexpr long alarm_us = 900;

volatile unsigned int alarms;
/* Of another thread. */
std::atomic<unsigned int> signals;

void count_alarm(int, siginfo_t *, void *)
{
	alarms = alarms + 1;
}

void count_signal(int, siginfo_t *, void *)
{
	signals++;
}

int repeat_alarm(long microseconds)
{
	const itimerval timer = { { 0, microseconds }, { 0, microseconds } };

	return setitimer(ITIMER_REAL, &timer, nullptr) ? errno : 0;
}

struct Barrier {
	Thread thread;
	std::atomic<unsigned int> calls;

	/* Calls it in a loop; the interrupts find the thread wherever it is. */
	int start(int cpu, unsigned int flags, int target)
	{
		return thread.start([=, this](Thread::Stop stop) {
			sigset_t all;

			sigfillset(&all);
			pthread_sigmask(SIG_BLOCK, &all, nullptr);
			EXPECT_EQ(pin(cpu), 0);
			while (!stop) {
				int err = sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ,
							 flags, target);

				if (err)
					return EXPECT_EQ(err, 0);
				calls++;
			}
		});
	}
};

/* One signal after the other for that thread, each when the one before has been taken. */
struct Signaller {
	Thread thread;

	int start(int cpu, pid_t tid)
	{
		return thread.start([=](Thread::Stop stop) {
			sigset_t all;

			sigfillset(&all);
			pthread_sigmask(SIG_BLOCK, &all, nullptr);
			EXPECT_EQ(pin(cpu), 0);
			for (unsigned int i = 0; !stop; i++) {
				const unsigned int before = signals;

				EXPECT_EQ(send_signal(getpid(), tid, SIGUSR1), 0);
				while (!stop && signals == before)
					cpu_relax();
				/* The thread gets on a little, each time another way. */
				for (unsigned int relax = 0; relax < i % 256; relax++)
					cpu_relax();
			}
		});
	}
};

} /* namespace */

/*
 * An interrupt in the middle of unregistering must find the thread either registered or not:
 * an update that is left behind would write through a pointer that is gone, and kill.
 */
TEST_F_TIMEOUT(unregister, membarrier_storm, times_if_deep(default_deadline_s))
{
	const Request request = request_for(variant->mode);
	Area &area = self->rseq.area;
	Barrier everywhere, one_cpu;
	Signaller signaller;
	unsigned int rounds = 0;
	bool right = true;

	if (!request.available())
		SKIP("%s", request.missing);
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(area.map(request.length, request.align), 0);
	ASSERT_EQ(handle_signal(SIGALRM, count_alarm), 0);
	ASSERT_EQ(handle_signal(SIGUSR1, count_signal), 0);
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	ASSERT_EQ(everywhere.start(cpu_at(0), 0, 0), 0);
	ASSERT_EQ(one_cpu.start(cpu_at(nr_cpus() - 2), MEMBARRIER_CMD_FLAG_CPU, self->cpu), 0);
	ASSERT_EQ(signaller.start(cpu_at(0), own_tid()), 0);
	STEP("waiting for the other threads");
	spin_until([&] { return everywhere.calls && one_cpu.calls && signals; });

	const unsigned int everywhere_before = everywhere.calls, one_cpu_before = one_cpu.calls;
	const auto enough = [&] {
		return rounds >= times_if_deep(wanted_rounds) &&
		       alarms >= times_if_deep(wanted_alarms) &&
		       signals >= wanted_signals &&
		       everywhere.calls - everywhere_before >= wanted_barriers &&
		       one_cpu.calls - one_cpu_before >= wanted_barriers;
	};

	STEP("registering and unregistering");
	ASSERT_EQ(repeat_alarm(alarm_us), 0);
	while (right && rounds < times_if_deep(max_rounds) && !enough()) {
		Registration registration;

		rounds++;
		if (registration.open(area, request) || area.cpu_id() != location().cpu ||
		    registration.close() || area.ids() != values_after)
			right = false;
		/* Interrupts that come now must not bring anything back, whenever that is. */
		for (unsigned int i = 0; i < rounds % 64; i++)
			cpu_relax();
		right = right && area.ids() == values_after;
		if (!right && registration.is_open())
			EXPECT_EQ(registration.close(), 0);
	}
	ASSERT_EQ(repeat_alarm(0), 0);
	note("%u rounds, %u + %u membarriers, %u alarms, %u signals", rounds,
	     everywhere.calls - everywhere_before, one_cpu.calls - one_cpu_before, alarms,
	     signals.load());
	EXPECT_TRUE(right);
	expect_ids(area, values_after);
	EXPECT_TRUE(!right || enough());
	EXPECT_TRUE(area.canaries_intact());
}
