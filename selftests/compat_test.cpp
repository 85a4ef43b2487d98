// SPDX-License-Identifier: GPL-2.0
/*
 * R1 to R3, R5, R7 and R12 for 32-bit programs: they enter the kernel and leave it on paths of
 * their own, their addresses end elsewhere, and the mode is the same. The program (compat.h) is
 * inside of a critical section when it is preempted on the same CPU; that it is aborted shows that
 * this has happened.
 */
#include "compat.hpp"
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"

#include <csignal>
#include <cstddef>
#include <cstring>
#include <sys/wait.h>

using namespace selftest;

namespace {

/* A section that is not aborted does not end. */
constexpr unsigned int deadline_s = 10;

/* The upper half of a word of 64 bits, in an order of bytes that both architectures have. */
constexpr std::size_t abort_ip_high = offsetof(struct rseq_cs, abort_ip) + sizeof(__u32);
constexpr std::uint32_t above_4g = 1;

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
	const char *missing = self->debug.set(false);

	if (missing)
		SKIP("%s", missing);
	if (!request.available())
		SKIP("%s", request.missing);
	ASSERT_LE(request.length, COMPAT_AREA_ALIGN);
	ASSERT_LE(request.align, COMPAT_AREA_ALIGN);
	self->order.length = request.length;
	self->order.flags = static_cast<__u32>(request.flags);
	ASSERT_EQ(pin(self->cpu), 0);
	ASSERT_EQ(self->visitor.start_visitor(self->cpu), 0);
}

namespace {

using Self = compat_data;

void set_ids(Self *self, const Ids &ids)
{
	self->order.cpu_id_start = ids.cpu_id_start;
	self->order.cpu_id = ids.cpu_id;
	self->order.node_id = ids.node_id;
	self->order.mm_cid = ids.mm_cid;
}

/* What the kernel writes: the program is the only thread of its process. */
Ids right_ids(const Self *self)
{
	const auto cpu = static_cast<std::uint32_t>(self->cpu);

	return { cpu, cpu, location().node, 0 };
}

void run(Self *self)
{
	self->program.set(compat_section_order, 0, &self->order, sizeof(self->order));
	self->program.set(compat_section_area, tail_offset, &stale_tail, sizeof(stale_tail));
	self->program.run();
}

/* It was aborted. What its area had then, up to the end of version 1. */
void expect_area(Self *self, const Ids &ids, std::uint32_t tail)
{
	struct rseq area;
	std::uint32_t tail_found;

	ASSERT_EQ(self->program.status(), 0);
	ASSERT_EQ(self->program.size(), COMPAT_AREA_SIZE);
	memcpy(&area, self->program.output(), COMPAT_AREA_SIZE);
	memcpy(&tail_found, self->program.output() + tail_offset, sizeof(tail_found));
	EXPECT_EQ(area.cpu_id_start, ids.cpu_id_start);
	EXPECT_EQ(area.cpu_id, ids.cpu_id);
	EXPECT_EQ(area.node_id, ids.node_id);
	EXPECT_EQ(area.mm_cid, ids.mm_cid);
	EXPECT_EQ(area.rseq_cs, 0);
	EXPECT_EQ(tail_found, tail);
}

void expect_death(Self *self)
{
	EXPECT_TRUE(WIFSIGNALED(self->program.status()));
	EXPECT_EQ(WTERMSIG(self->program.status()), SIGSEGV);
	EXPECT_EQ(self->program.size(), 0);
}

constexpr std::uint32_t tail_of(Mode mode)
{
	return is_v2(mode) ? 0 : stale_tail;
}

} /* namespace */

TEST_F_TIMEOUT(compat, preempted_section_aborts_rewriting_only_in_v1, deadline_s)
{
	set_ids(self, impossible_ids);
	ASSERT_NO_FAILURE(run(self));
	expect_area(self, is_v2(variant->mode) ? impossible_ids : right_ids(self),
		    tail_of(variant->mode));
}

TEST_F_TIMEOUT(compat, call_in_section_lives, deadline_s)
{
	set_ids(self, right_ids(self));
	self->order.system_call = 1;
	ASSERT_NO_FAILURE(run(self));
	expect_area(self, right_ids(self), tail_of(variant->mode));
}

TEST_F_TIMEOUT(compat, call_in_section_dies_in_debug_mode, deadline_s)
{
	const char *missing = self->debug.set(true);

	if (missing)
		SKIP("%s", missing);
	set_ids(self, right_ids(self));
	self->order.system_call = 1;
	ASSERT_NO_FAILURE(run(self));
	expect_death(self);
}

TEST_F_TIMEOUT(compat, no_call_in_section_lives_in_debug_mode, deadline_s)
{
	const char *missing = self->debug.set(true);

	if (missing)
		SKIP("%s", missing);
	set_ids(self, right_ids(self));
	ASSERT_NO_FAILURE(run(self));
	expect_area(self, right_ids(self), tail_of(variant->mode));
}

/* Where a 64-bit program could have it. */
TEST_F_TIMEOUT(compat, abort_above_4g_dies, deadline_s)
{
	set_ids(self, right_ids(self));
	self->program.set(compat_section_descriptor, abort_ip_high, &above_4g, sizeof(above_4g));
	ASSERT_NO_FAILURE(run(self));
	expect_death(self);
}

TEST_F_TIMEOUT(compat, descriptor_above_4g_dies, deadline_s)
{
	set_ids(self, right_ids(self));
	self->order.rseq_cs_high = above_4g;
	ASSERT_NO_FAILURE(run(self));
	expect_death(self);
}
