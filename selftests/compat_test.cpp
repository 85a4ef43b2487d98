// SPDX-License-Identifier: GPL-2.0
/*
 * R1 to R3 and R5 for 32-bit programs: they enter the kernel and leave it on paths of their own,
 * and the mode is the same. The program (compat.h) is inside of a critical section when it is
 * preempted on the same CPU; that it is aborted shows that this has happened.
 */
#include "compat.hpp"
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"

#include <csignal>
#include <cstring>
#include <sys/wait.h>

using namespace selftest;

namespace {

/* A section that is not aborted does not end. */
constexpr unsigned int deadline_s = 10;

} /* namespace */

FIXTURE(compat) {
	RseqDebug debug;
	Agent visitor;
	int cpu = last_cpu();
	Compat program{ compat_section, compat_section_end };
	struct compat_order order = {};
};

FIXTURE_MODES(compat);

FIXTURE_SETUP(compat)
{
	Request request = request_for(variant->mode);

	if (!request.available())
		SKIP("%s", request.missing);
	ASSERT_LE(request.length, COMPAT_AREA_ALIGN);
	ASSERT_LE(request.align, COMPAT_AREA_ALIGN);
	self->order.cpu_id_start = static_cast<__u32>(self->cpu);
	self->order.length = request.length;
	self->order.flags = static_cast<__u32>(request.flags);
	ASSERT_EQ(pin(self->cpu), 0);
	ASSERT_EQ(self->visitor.start_visitor(self->cpu), 0);
}

namespace {

using Self = compat_data;

void run(Self *self, bool debug, bool system_call)
{
	const char *missing = self->debug.set(debug);

	if (missing)
		SKIP("%s", missing);
	self->order.system_call = system_call;
	self->program.set_order(self->order);
	self->program.run();
}

/* It was aborted. What its area had then, up to the end of version 1. */
void expect_area(Self *self, std::uint32_t cpu_id_start)
{
	struct rseq area;

	ASSERT_EQ(self->program.status(), 0);
	ASSERT_EQ(self->program.size(), COMPAT_AREA_SIZE);
	memcpy(&area, self->program.output(), COMPAT_AREA_SIZE);
	EXPECT_EQ(area.cpu_id_start, cpu_id_start);
	EXPECT_EQ(area.cpu_id, self->cpu);
	EXPECT_EQ(area.rseq_cs, 0);
}

} /* namespace */

TEST_F_TIMEOUT(compat, preempted_section_aborts_rewriting_only_in_v1, deadline_s)
{
	self->order.cpu_id_start = impossible_ids.cpu_id_start;
	ASSERT_NO_FAILURE(run(self, false, false));
	expect_area(self, is_v2(variant->mode) ? impossible_ids.cpu_id_start :
						 static_cast<std::uint32_t>(self->cpu));
}

TEST_F_TIMEOUT(compat, call_in_section_lives, deadline_s)
{
	ASSERT_NO_FAILURE(run(self, false, true));
	EXPECT_EQ(self->program.status(), 0);
	EXPECT_EQ(self->program.size(), COMPAT_AREA_SIZE);
}

TEST_F_TIMEOUT(compat, call_in_section_dies_in_debug_mode, deadline_s)
{
	ASSERT_NO_FAILURE(run(self, true, true));
	EXPECT_TRUE(WIFSIGNALED(self->program.status()));
	EXPECT_EQ(WTERMSIG(self->program.status()), SIGSEGV);
	EXPECT_EQ(self->program.size(), 0);
}

TEST_F_TIMEOUT(compat, no_call_in_section_lives_in_debug_mode, deadline_s)
{
	ASSERT_NO_FAILURE(run(self, true, false));
	expect_area(self, static_cast<std::uint32_t>(self->cpu));
}
