// SPDX-License-Identifier: GPL-2.0
/*
 * R2, R3 and R6 for a thread that is busy in a system call: preempted there on the same CPU, so
 * that it was scheduled out and in again, or hit there by membarrier RSEQ, without any switch. What
 * the kernel was entered by was no interrupt.
 *
 *   v1: events like all others. IDs are rewritten, rseq_cs is evaluated.
 *   v2: no ID has changed and user space was not interrupted. Nothing is touched.
 *
 * The call writes random bytes over a buffer that begins and ends with a mark. Who finds the first
 * mark gone and the last one there looks at it in its middle.
 */
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"

#include <algorithm>
#include <cstddef>
#include <sched.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int max_rounds = 2000;
constexpr std::uint64_t mark = 0x5ca1ab1e0ddba115;

/* Emulated, a call takes longer than the visitor stays away, and a part of that elsewhere. */
constexpr std::size_t visited_words = 16384;
constexpr unsigned int visited_rounds = 20;
constexpr long visit_ns = 1000000;

/*
 * Where one thread of QEMU runs all CPUs, it takes 100 ms until the next one may go on. On a host
 * that is slow, on the other hand, a call that long is never left alone.
 */
constexpr std::size_t barrier_words = 1 << 20, least_barrier_words = 1 << 15;
constexpr unsigned int barrier_rounds = 2;

std::uint64_t address(const void *p)
{
	return reinterpret_cast<std::uintptr_t>(p);
}

struct Watched {
	volatile std::size_t words;	/* as much of the buffer is used */
	volatile std::uint64_t calls;	/* and returns, so it is odd in a call */
	/* What the others have done, and how much of that in the middle of one call. */
	volatile std::uint64_t begun, done, in_the_middle;
	std::uint64_t buffer[barrier_words];

	bool in_progress() const
	{
		const volatile std::uint64_t *first = buffer, *last = buffer + words - 1;

		return *first != mark && *last == mark;
	}
};

/* Takes the CPU from whoever has it, again and again. */
void visit(Watched &watched, int cpu)
{
	const sched_param before_everybody = { 1 };
	const timespec pause = { 0, visit_ns };

	if (pin(cpu) || sched_setscheduler(0, SCHED_FIFO, &before_everybody))
		_exit(1);
	while (!nanosleep(&pause, nullptr)) {
		watched.begun = watched.begun + 1;
		watched.in_the_middle = watched.in_the_middle + watched.in_progress();
		watched.done = watched.done + 1;
	}
}

/* One membarrier for each call. */
void send_barriers(Watched &watched, int cpu, Thread::Stop stop)
{
	std::uint64_t last = 0;

	EXPECT_EQ(pin(cpu), 0);
	for (; !stop.load(std::memory_order_relaxed); cpu_relax()) {
		const std::uint64_t call = watched.calls;

		if (!(call & 1) || call == last || !watched.in_progress() ||
		    watched.calls != call)
			continue;
		last = call;
		watched.begun = watched.begun + 1;
		/* Either it is seen to have begun, or the call is seen to be over. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (watched.calls != call) {
			watched.done = watched.done + 1;
			continue;
		}
		if (sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ)) {
			EXPECT_TRUE(!"membarrier");
			return;
		}
		watched.in_the_middle = watched.in_the_middle +
					(watched.in_progress() && watched.calls == call);
		watched.done = watched.done + 1;
	}
}

} /* namespace */

FIXTURE(busy_call) {
	RseqDebug debug;
	Rseq rseq;
	Shared<Watched> watched;
	Process visitor;
	Thread sender;
	int cpu = last_cpu();

	/* The switches of a clean round with so many events. */
	Switches (*wanted)(long events) = nullptr;
	unsigned int wanted_rounds = 0;
	/* How much of the buffer a call fills. */
	std::size_t least_words = 0, most_words = 0;
};

FIXTURE_MODES(busy_call);

FIXTURE_SETUP(busy_call)
{
	const char *missing = self->debug.set(false);

	if (missing)
		SKIP("%s", missing);
	ASSERT_EQ(pin(self->cpu), 0);
}

namespace {

using Self = busy_call_data;
using Params = busy_call_variant;

/* What happens to the thread. */
enum class Event { preempted, membarrier };

void open(Self *self, const Params *variant, Event event)
{
	if (event == Event::preempted) {
		self->watched->words = self->least_words = self->most_words = visited_words;
		self->wanted_rounds = visited_rounds;
		self->wanted = [](long events) { return Switches{ 0, events }; };
		if (self->rseq.open(variant->mode))
			ASSERT_EQ(self->visitor.start([self] {
				visit(*self->watched, self->cpu);
			}), 0);
		return;
	}
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	self->least_words = least_barrier_words;
	self->watched->words = self->most_words = barrier_words;
	self->wanted_rounds = barrier_rounds;
	self->wanted = [](long) { return Switches{ 0, 0 }; };
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	ASSERT_EQ(self->sender.start([&watched = *self->watched](Thread::Stop stop) {
		send_barriers(watched, cpu_at(0), stop);
	}), 0);
	if (self->rseq.open(variant->mode))
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

/*
 * round() makes the call. check() sees what it has left behind if all that happened in the round
 * were events in the middle of the call.
 */
template <typename Round, typename Check>
void expect_of_busy_calls(Self *self, Round &&round, Check &&check)
{
	Watched &watched = *self->watched;
	unsigned int clean = 0, rounds = 0;

	STEP("waiting for events in a system call");
	while (clean < self->wanted_rounds && rounds++ < max_rounds) {
		const std::uint64_t begun = watched.begun, middle = watched.in_the_middle;

		watched.buffer[0] = mark;
		watched.buffer[watched.words - 1] = mark;
		watched.calls = watched.calls + 1;

		Switches before = switches();

		round();

		Switches during = switches() - before;

		watched.calls = watched.calls + 1;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		/* An event that has begun may go on behind the call. */
		spin_until([&] { return watched.done == watched.begun; });

		const auto events = static_cast<long>(watched.in_the_middle - middle);

		if (!events || watched.begun - begun != watched.in_the_middle - middle) {
			watched.words = std::min(self->most_words, watched.words * 2);
			continue;
		}
		if (during != self->wanted(events)) {
			watched.words = std::max(self->least_words, watched.words / 2);
			continue;
		}
		clean++;
		ASSERT_NO_FAILURE(check());
	}
	note("%u clean rounds of %u, %zu KiB the last", clean, rounds,
	     watched.words * sizeof(std::uint64_t) >> 10);
	EXPECT_EQ(clean, self->wanted_rounds);
}

/* In the section; 0 if it went on, 1 if it was aborted. */
int call_inside(Self *self)
{
	return system_call(self->rseq.area.get(), __NR_getrandom,
			   static_cast<long>(address(self->watched->buffer)),
			   static_cast<long>(self->watched->words * sizeof(std::uint64_t)),
			   GRND_INSECURE);
}

void call_outside(Self *self)
{
	syscall(__NR_getrandom, self->watched->buffer,
		self->watched->words * sizeof(std::uint64_t), GRND_INSECURE);
}

void expect_ids(Self *self, const Params *variant)
{
	const Ids right = self->rseq.area.ids();
	const Ids poison = impossible_ids;
	Ids wanted = is_v2(variant->mode) ? poison : right;
	Ids seen = {};

	expect_of_busy_calls(self, [&] {
		self->rseq.area.set_ids(poison);
		call_outside(self);
		seen = self->rseq.area.ids();
		self->rseq.area.set_ids(right);
	}, [&] {
		EXPECT_EQ(seen.cpu_id_start, wanted.cpu_id_start);
		EXPECT_EQ(seen.cpu_id, wanted.cpu_id);
		EXPECT_EQ(seen.node_id, wanted.node_id);
		/* v1 may find another one to write than last time. */
		if (is_v2(variant->mode))
			EXPECT_EQ(seen.mm_cid, wanted.mm_cid);
		else
			EXPECT_LT(seen.mm_cid, sysconf(_SC_NPROCESSORS_CONF));
	});
}

void expect_outside(Self *self, const Params *variant)
{
	std::uint64_t left = 0;

	expect_of_busy_calls(self, [&] {
		self->rseq.area.set_rseq_cs(&system_call_cs);
		call_outside(self);
		left = self->rseq.area.rseq_cs();
	}, [&] {
		EXPECT_EQ(left, is_v2(variant->mode) ? address(&system_call_cs) : 0);
	});
}

void expect_inside(Self *self, const Params *variant)
{
	std::uint64_t left = 0;
	int aborted = 0;

	expect_of_busy_calls(self, [&] {
		aborted = call_inside(self);
		left = self->rseq.area.rseq_cs();
	}, [&] {
		EXPECT_EQ(aborted, !is_v2(variant->mode));
		EXPECT_EQ(left, is_v2(variant->mode) ? address(&system_call_cs) : 0);
	});
}

} /* namespace */

TEST_F(busy_call, preempted_rewrites_only_in_v1)
{
	ASSERT_NO_FAILURE(open(self, variant, Event::preempted));
	expect_ids(self, variant);
}

TEST_F(busy_call, preempted_outside_clears_only_in_v1)
{
	ASSERT_NO_FAILURE(open(self, variant, Event::preempted));
	expect_outside(self, variant);
}

TEST_F(busy_call, preempted_inside_aborts_only_v1)
{
	ASSERT_NO_FAILURE(open(self, variant, Event::preempted));
	expect_inside(self, variant);
}

TEST_F(busy_call, membarrier_rewrites_only_in_v1)
{
	ASSERT_NO_FAILURE(open(self, variant, Event::membarrier));
	expect_ids(self, variant);
}

TEST_F(busy_call, membarrier_outside_clears_only_in_v1)
{
	ASSERT_NO_FAILURE(open(self, variant, Event::membarrier));
	expect_outside(self, variant);
}

TEST_F(busy_call, membarrier_inside_aborts_only_v1)
{
	ASSERT_NO_FAILURE(open(self, variant, Event::membarrier));
	expect_inside(self, variant);
}
