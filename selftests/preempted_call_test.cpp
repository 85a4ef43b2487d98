// SPDX-License-Identifier: GPL-2.0
/*
 * R2 and R3 for a thread that is preempted in a system call, on the same CPU: it was scheduled
 * out and in again, but what the kernel was entered by was no interrupt.
 *
 *   v1: an event like all others. IDs are rewritten, rseq_cs is evaluated.
 *   v2: no ID has changed and user space was not interrupted. Nothing is touched.
 *
 * The call writes random bytes over a buffer that begins and ends with a mark. Somebody who takes
 * the CPU away and finds the first mark gone and the last one there has come in its middle.
 */
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"

#include <cstddef>
#include <sched.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int wanted_rounds = 20;
constexpr unsigned int max_rounds = 2000;
/* The call takes longer than the visitor stays away when emulated, and a part of that elsewhere. */
constexpr std::size_t words = 16384;
constexpr long visit_ns = 1000000;
constexpr std::uint64_t mark = 0x5ca1ab1e0ddba115;

std::uint64_t address(const void *p)
{
	return reinterpret_cast<std::uintptr_t>(p);
}

struct Visited {
	std::uint64_t buffer[words];
	/* What the visitor has counted. */
	volatile std::uint64_t visits, in_the_middle;

	bool in_progress() const
	{
		const volatile std::uint64_t *first = buffer, *last = buffer + words - 1;

		return *first != mark && *last == mark;
	}
};

/* Takes the CPU from whoever has it, again and again. */
void visit(Visited &visited, int cpu)
{
	const sched_param before_everybody = { 1 };
	const timespec pause = { 0, visit_ns };

	if (pin(cpu) || sched_setscheduler(0, SCHED_FIFO, &before_everybody))
		_exit(1);
	while (!nanosleep(&pause, nullptr)) {
		visited.in_the_middle = visited.in_the_middle + visited.in_progress();
		visited.visits = visited.visits + 1;
	}
}

} /* namespace */

FIXTURE(preempted_call) {
	RseqDebug debug;
	Rseq rseq;
	Shared<Visited> visited;
	Process visitor;
	int cpu = last_cpu();
};

FIXTURE_MODES(preempted_call);

FIXTURE_SETUP(preempted_call)
{
	const char *missing = self->debug.set(false);

	if (missing)
		SKIP("%s", missing);
	ASSERT_EQ(pin(self->cpu), 0);
	if (!self->rseq.open(variant->mode))
		return;
	ASSERT_EQ(self->visitor.start([self] { visit(*self->visited, self->cpu); }), 0);
}

namespace {

using Self = preempted_call_data;
using Params = preempted_call_variant;

/*
 * round(call) makes that system call. check() sees what it has left behind if all switches of the
 * round were preemptions in the middle of the call.
 */
template <typename Round, typename Check>
void expect_of_preempted_calls(Self *self, Round &&round, Check &&check)
{
	Visited &visited = *self->visited;
	unsigned int clean = 0, rounds = 0;

	STEP("waiting to be preempted in a system call");
	while (clean < wanted_rounds && rounds++ < max_rounds) {
		visited.buffer[0] = mark;
		visited.buffer[words - 1] = mark;

		const std::uint64_t visits = visited.visits, middle = visited.in_the_middle;
		Switches before = switches();

		round();

		Switches during = switches() - before;
		const auto preempted = static_cast<long>(visited.in_the_middle - middle);

		if (!preempted || visited.visits - visits != visited.in_the_middle - middle ||
		    during != Switches{ 0, preempted })
			continue;
		clean++;
		ASSERT_NO_FAILURE(check());
	}
	note("%u clean rounds of %u", clean, rounds);
	EXPECT_EQ(clean, wanted_rounds);
}

/* In the section; 0 if it went on, 1 if it was aborted. */
int call_inside(Self *self)
{
	return system_call(self->rseq.area.get(), __NR_getrandom,
			   static_cast<long>(address(self->visited->buffer)),
			   sizeof(self->visited->buffer), GRND_INSECURE);
}

void call_outside(Self *self)
{
	syscall(__NR_getrandom, self->visited->buffer, sizeof(self->visited->buffer),
		GRND_INSECURE);
}

} /* namespace */

TEST_F(preempted_call, rewrites_only_in_v1)
{
	const Ids right = self->rseq.area.ids();
	const Ids poison = { 0x80000001, 0x80010002, 0x80020003, 0x80040004 };
	const Ids wanted = is_v2(variant->mode) ? poison : right;
	Ids seen = {};

	expect_of_preempted_calls(self, [&] {
		self->rseq.area.set_ids(poison);
		call_outside(self);
		seen = self->rseq.area.ids();
		self->rseq.area.set_ids(right);
	}, [&] {
		EXPECT_EQ(seen.cpu_id_start, wanted.cpu_id_start);
		EXPECT_EQ(seen.cpu_id, wanted.cpu_id);
		EXPECT_EQ(seen.node_id, wanted.node_id);
		EXPECT_EQ(seen.mm_cid, wanted.mm_cid);
	});
}

TEST_F(preempted_call, outside_clears_only_in_v1)
{
	std::uint64_t left = 0;

	expect_of_preempted_calls(self, [&] {
		self->rseq.area.set_rseq_cs(&system_call_cs);
		call_outside(self);
		left = self->rseq.area.rseq_cs();
	}, [&] {
		EXPECT_EQ(left, is_v2(variant->mode) ? address(&system_call_cs) : 0);
	});
}

TEST_F(preempted_call, inside_aborts_only_v1)
{
	std::uint64_t left = 0;
	int aborted = 0;

	expect_of_preempted_calls(self, [&] {
		aborted = call_inside(self);
		left = self->rseq.area.rseq_cs();
	}, [&] {
		EXPECT_EQ(aborted, !is_v2(variant->mode));
		EXPECT_EQ(left, is_v2(variant->mode) ? address(&system_call_cs) : 0);
	});
}
