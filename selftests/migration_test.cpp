// SPDX-License-Identifier: GPL-2.0
/*
 * R2, R3 and R4 for a thread that others move to another CPU while it runs in user space: the
 * scheduler's balancing, a CPU that goes offline, the cpuset of its cgroup. In every mode the IDs
 * are written, whatever stood there in v1, and a section is aborted. The node and mm_cid are IDs
 * as well: mm_cid changes without any migration, when threads end and the numbers are compacted.
 */
#include "files.hpp"
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int wanted_moves = 5;
constexpr unsigned int max_rounds = 200;
/* Some milliseconds emulated, so that moves hit sections, and not much longer than a tick. */
constexpr std::uint64_t spins = 200000;
constexpr unsigned int max_nodes = 64;

/* Above every CPU and node number. */
constexpr std::uint32_t poison = 0x80000001;

cpu_set_t cpus(int first, int second)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(first, &set);
	CPU_SET(second, &set);
	return set;
}

} /* namespace */

FIXTURE(migration) {
	RseqDebug debug;
	Rseq rseq;
	Agent rival;
	Agent mover;
	int cpu = last_cpu();
	int other = cpu_at(0);

	/* For what is undone in the end. */
	char online[64] = "";
	bool mounted = false, grouped = false, enabled = false;
};

FIXTURE_MODES(migration);

FIXTURE_SETUP(migration)
{
	ASSERT_EQ(self->debug.set(false), nullptr);
	ASSERT_EQ(pin(self->cpu), 0);
}

FIXTURE_TEARDOWN(migration)
{
	if (self->online[0])
		EXPECT_EQ(write_file(self->online, "1"), 0);
	if (self->grouped) {
		EXPECT_EQ(write_file("/tmp/cgroup/cgroup.procs", "0"), 0);
		EXPECT_EQ(rmdir("/tmp/cgroup/rseq"), 0);
	}
	if (self->enabled)
		EXPECT_EQ(write_file("/tmp/cgroup/cgroup.subtree_control", "-cpuset"), 0);
	if (self->mounted) {
		EXPECT_EQ(umount("/tmp/cgroup"), 0);
		EXPECT_EQ(rmdir("/tmp/cgroup"), 0);
	}
}

namespace {

using Self = migration_data;
using Params = migration_variant;

/* v1 does not mind what stands there. */
void poison_in_v1(Self *self, const Params *variant)
{
	if (is_v2(variant->mode))
		return;
	self->rseq.area.set_ids({ poison, poison, poison, poison });
}

} /* namespace */

/* ---- By the scheduler ---- */

/*
 * Two of them on one CPU, and one may leave: an idle CPU takes it over. The sections load both CPU
 * numbers at once, at the beginning and at the end.
 */
TEST_F(migration, balanced)
{
	const cpu_set_t both = cpus(self->cpu, self->other);
	unsigned int moves = 0, inside = 0, commits = 0;
	Area &area = self->rseq.area;

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(self->rival.start_rival(self->cpu), 0);
	if (!self->rseq.open(variant->mode))
		return;

	const auto *numbers = reinterpret_cast<const volatile std::uint64_t *>(area.get());

	STEP("waiting to be taken over by an idle CPU");
	for (unsigned int round = 0; round < max_rounds && inside < wanted_moves; round++) {
		ASSERT_EQ(pin(self->cpu), 0);
		ASSERT_EQ(sched_setaffinity(0, sizeof(both), &both), 0);

		bool moved = false;

		while (!moved) {
			section_loads loads = {};
			auto before = static_cast<int>(area.cpu_id());
			int aborted = double_load(area.get(), numbers, spins, &loads);

			moved = static_cast<int>(area.cpu_id()) == self->other;
			if (aborted) {
				/* Moved right before it, or preempted as well. */
				inside += moved && before == self->cpu;
				ASSERT_EQ(area.rseq_cs(), 0);
				continue;
			}
			commits++;
			ASSERT_EQ(loads.first, loads.second);
		}
		moves++;
		expect_ids_of(area, self->other);
	}
	note("%u moves, %u of them inside of a section, %u sections committed", moves, inside,
	     commits);
	EXPECT_GE(inside, wanted_moves);
}

/* ---- Because the CPU goes offline ---- */

namespace {

void start_to_take_cpus_offline(Self *self, const Params *variant)
{
	const Request request = request_for(variant->mode);
	char path[64];

	if (!request.available())
		SKIP("%s", request.missing);
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	if (!system_is_throwaway())
		SKIP("others need their CPUs");
	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", self->cpu);
	if (access(path, W_OK))
		SKIP("cannot write to %s", path);
	memcpy(self->online, path, sizeof(path));
	ASSERT_EQ(self->mover.start_process(self->other, [self](std::uint32_t) {
		if (write_file(self->online, "0"))
			_exit(1);
	}), 0);
}

/* In a child that is the only one with a registration: FIXTURE_TEARDOWN needs its parent alive. */
void run_on_a_cpu_that_goes_offline(Self *self, const Params *variant)
{
	unsigned int moves = 0;

	ASSERT_TRUE(self->rseq.open(variant->mode));
	STEP("running on a CPU that goes offline");
	for (unsigned int round = 0; round < max_rounds && moves < wanted_moves; round++) {
		const std::uint32_t ticket = self->mover.next_ticket();

		ASSERT_EQ(write_file(self->online, "1"), 0);
		ASSERT_EQ(pin(self->cpu), 0);
		poison_in_v1(self, variant);

		int aborted = gated(self->rseq.area.get(), self->mover.gate(), ticket);

		if (self->mover.gate()->entered != ticket)
			continue;
		self->mover.wait(ticket);
		moves++;
		ASSERT_EQ(aborted, 1);
		ASSERT_EQ(self->rseq.area.rseq_cs(), 0);
		ASSERT_NE(self->mover.gate()->committed, ticket);
		/* Wherever that is. */
		expect_ids_of_current(self->rseq.area);
		ASSERT_NE(self->rseq.area.cpu_id(), self->cpu);
	}
	EXPECT_EQ(moves, wanted_moves);
}

} /* namespace */

TEST_F(migration, cpu_goes_offline)
{
	ASSERT_NO_FAILURE(start_to_take_cpus_offline(self, variant));
	EXPECT_SURVIVAL(run_on_a_cpu_that_goes_offline(self, variant));
}

/*
 * v2 is compared with what was written, not with what the kernel knows about a CPU that is gone:
 * its node, for one. And v1 may write what it likes.
 */
TEST_F(migration, cpu_goes_offline_in_debug_mode)
{
	const char *missing = self->debug.set(true);

	if (missing)
		SKIP("%s", missing);
	ASSERT_NO_FAILURE(start_to_take_cpus_offline(self, variant));
	EXPECT_SURVIVAL(run_on_a_cpu_that_goes_offline(self, variant));
}

/* ---- By the cpuset of its cgroup ---- */

namespace {

/* A group that nobody is in yet. */
void make_group(Self *self)
{
	char controllers[256];

	if (!system_is_throwaway())
		SKIP("others may use cgroups");
	ASSERT_EQ(mkdir("/tmp/cgroup", 0700), 0);
	if (mount("none", "/tmp/cgroup", "cgroup2", 0, nullptr)) {
		int err = errno;

		rmdir("/tmp/cgroup");
		SKIP("no cgroup2: %s", strerror(err));
	}
	self->mounted = true;
	ASSERT_EQ(read_file("/tmp/cgroup/cgroup.controllers", controllers, sizeof(controllers)), 0);
	if (!strstr(controllers, "cpuset"))
		SKIP("cgroup2 without cpuset");
	ASSERT_EQ(write_file("/tmp/cgroup/cgroup.subtree_control", "+cpuset"), 0);
	self->enabled = true;
	ASSERT_EQ(mkdir("/tmp/cgroup/rseq", 0700), 0);
	self->grouped = true;
}

} /* namespace */

TEST_F(migration, cpuset_changes)
{
	char here[12], there[12];

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	snprintf(here, sizeof(here), "%d", self->cpu);
	snprintf(there, sizeof(there), "%d", self->other);

	ASSERT_NO_FAILURE(make_group(self));
	ASSERT_EQ(self->mover.start_process(self->other, [&](std::uint32_t) {
		if (write_file("/tmp/cgroup/rseq/cpuset.cpus", there))
			_exit(1);
	}), 0);

	/* Not restricted by anything else. */
	ASSERT_EQ(unpin(), 0);
	ASSERT_EQ(write_file("/tmp/cgroup/rseq/cgroup.procs", "0"), 0);
	if (!self->rseq.open(variant->mode))
		return;

	unsigned int moves = 0;

	STEP("running while the cpuset changes");
	for (unsigned int round = 0; round < max_rounds && moves < wanted_moves; round++) {
		const std::uint32_t ticket = self->mover.next_ticket();

		ASSERT_EQ(write_file("/tmp/cgroup/rseq/cpuset.cpus", here), 0);
		ASSERT_EQ(location().cpu, self->cpu);
		poison_in_v1(self, variant);

		int aborted = gated(self->rseq.area.get(), self->mover.gate(), ticket);

		if (self->mover.gate()->entered != ticket)
			continue;
		self->mover.wait(ticket);
		moves++;
		ASSERT_EQ(aborted, 1);
		ASSERT_EQ(self->rseq.area.rseq_cs(), 0);
		ASSERT_NE(self->mover.gate()->committed, ticket);
		expect_ids_of(self->rseq.area, self->other);
	}
	EXPECT_EQ(moves, wanted_moves);
}

/* ---- Nodes ---- */

/* Back and forth between each two CPUs: the node is that of the CPU, and there is more than one. */
TEST_F(migration, node_changes)
{
	bool seen[max_nodes] = {};
	unsigned int nodes = 0;

	for (int i = 0; i < nr_cpus(); i++) {
		ASSERT_EQ(pin(cpu_at(i)), 0);

		const std::uint32_t node = location().node;

		ASSERT_LT(node, max_nodes);
		nodes += !seen[node];
		seen[node] = true;
	}
	if (nodes < 2)
		SKIP("there is one node");
	if (!self->rseq.open(variant->mode))
		return;
	note("%u nodes", nodes);
	for (int from = 0; from < nr_cpus(); from++) {
		for (int to = 0; to < nr_cpus(); to++) {
			Context context("from CPU %d to CPU %d", cpu_at(from), cpu_at(to));

			/* No event, and nobody would repair the IDs in v1. */
			if (from == to)
				continue;
			ASSERT_EQ(pin(cpu_at(from)), 0);
			expect_ids_of(self->rseq.area, cpu_at(from));
			poison_in_v1(self, variant);
			ASSERT_EQ(pin(cpu_at(to)), 0);
			expect_ids_of(self->rseq.area, cpu_at(to));
		}
	}
}

/* ---- mm_cid ---- */

/*
 * Two threads more, the first one ends: the second has a number that is too high for those who
 * are left, and gets a lower one without leaving its CPU.
 */
TEST_F(migration, mm_cid_is_compacted)
{
	Bystander first;
	Thread second;
	Rseq &rseq = self->rseq;
	bool compacted = false;

	/* The limit is a quarter above the number of threads, and not above that of CPUs. */
	if (nr_cpus() < 3)
		SKIP("needs three CPUs");
	if (!request_for(variant->mode).available())
		SKIP("%s", request_for(variant->mode).missing);
	ASSERT_EQ(self->rival.start_rival(self->cpu), 0);
	ASSERT_EQ(first.start(), 0);
	ASSERT_EQ(second.start([&](Thread::Stop) {
		if (!rseq.open(variant->mode))
			return;

		const std::uint32_t before = rseq.area.mm_cid();

		note("mm_cid %u of three threads", before);
		EXPECT_EQ(before, 2);
		first.end();
		for (unsigned int i = 0; i < max_rounds && !compacted; i++) {
			poison_in_v1(self, variant);
			self->rival.sleep(self->rival.request());
			compacted = rseq.area.mm_cid() < before;
		}
		EXPECT_EQ(rseq.area.mm_cid(), 1);
		expect_ids_of(rseq.area, self->cpu);
		EXPECT_EQ(rseq.registration.close(), 0);
	}), 0);
	STEP("waiting for a lower number");
	second.join();
	EXPECT_TRUE(compacted);
}
