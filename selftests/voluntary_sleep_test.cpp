// SPDX-License-Identifier: GPL-2.0
/*
 * R3, the part in which the modes differ: the thread gives up the CPU in a system call.
 *
 *   v1: rseq_cs is evaluated whatever the entry was. Outside it is cleared, a section that made
 *       the system call is aborted.
 *   v2: rseq_cs is not looked at, unless an ID changed meanwhile.
 *
 * The rival on the same CPU runs only when the thread does not. So if it did what it was asked
 * for and the thread was switched out once, by its own choice, then it did it during the sleep.
 */
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int wanted_rounds = 20;
constexpr unsigned int max_rounds = 400;
constexpr Switches slept_once = { 1, 0 };

std::uint64_t address(const void *p)
{
	return reinterpret_cast<std::uintptr_t>(p);
}

} /* namespace */

FIXTURE(voluntary_sleep) {
	Rseq rseq;
	RseqDebug debug;
	Agent rival;
	int cpu = last_cpu();
	int other = cpu_at(0);
	int pipe_fds[2] = { -1, -1 };

	/* What the rival writes while the thread sleeps in read(). */
	char byte = 0;
};

FIXTURE_MODES(voluntary_sleep);

FIXTURE_SETUP(voluntary_sleep)
{
	const char *missing = self->debug.set(false);

	if (missing)
		SKIP("%s", missing);
	ASSERT_EQ(pin(self->cpu), 0);
	ASSERT_EQ(pipe(self->pipe_fds), 0);
}

FIXTURE_TEARDOWN(voluntary_sleep)
{
	close(self->pipe_fds[0]);
	close(self->pipe_fds[1]);
}

namespace {

using Self = voluntary_sleep_data;
using Params = voluntary_sleep_variant;

template <typename Job>
void open(Self *self, const Params *variant, Job job)
{
	ASSERT_EQ(self->rival.start_process(self->cpu, job), 0);
	if (self->rseq.open(variant->mode))
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

/*
 * round() returns whether it was clean and leaves in *left what was in rseq_cs after the sleep;
 * that has to be kept, or 0.
 */
template <typename Round>
void expect_rseq_cs(std::uint64_t kept, Round &&round)
{
	unsigned int clean = 0, rounds = 0;

	while (clean < wanted_rounds && rounds++ < max_rounds) {
		std::uint64_t left = ~0ull;

		if (!round(&left))
			continue;
		clean++;
		ASSERT_EQ(left, kept);
	}
	note("%u clean rounds of %u", clean, rounds);
	EXPECT_EQ(clean, wanted_rounds);
}

/* One byte for each ticket. */
auto writer(const Self *self)
{
	return [fd = self->pipe_fds[1]](std::uint32_t) {
		if (write(fd, "", 1) != 1)
			_exit(1);
	};
}

/* Behind a round in which read() was not reached. */
void drain(const Self *self)
{
	int left = 0;
	char byte;

	while (ioctl(self->pipe_fds[0], FIONREAD, &left) == 0 && left > 0)
		ASSERT_EQ(read(self->pipe_fds[0], &byte, 1), 1);
}

/* Sleeps in read(); the rest of a round, whether read() is called inside or outside. */
template <typename Read>
bool read_round(Self *self, std::uint64_t *left, Read &&read_byte)
{
	std::uint32_t ticket = self->rival.request();
	Switches before = switches();

	read_byte();
	*left = self->rseq.area.rseq_cs();

	Switches during = switches() - before;

	self->rival.wait(ticket);
	drain(self);
	return during == slept_once;
}

} /* namespace */

/* ---- Outside ---- */

TEST_F(voluntary_sleep, futex_outside_clears_only_in_v1)
{
	ASSERT_NO_FAILURE(open(self, variant, [](std::uint32_t) {}));
	STEP("sleeping on a futex");
	for (const struct rseq_cs *cs : { &gated_cs, &system_call_cs })
		expect_rseq_cs(is_v2(variant->mode) ? address(cs) : 0, [&](std::uint64_t *left) {
			Switches before = switches();

			self->rseq.area.set_rseq_cs(cs);
			self->rival.sleep(self->rival.request());
			*left = self->rseq.area.rseq_cs();
			return switches() - before == slept_once;
		});
}

TEST_F(voluntary_sleep, read_outside_clears_only_in_v1)
{
	const std::uint64_t kept = is_v2(variant->mode) ? address(&system_call_cs) : 0;

	ASSERT_NO_FAILURE(open(self, variant, writer(self)));
	STEP("sleeping in read()");
	expect_rseq_cs(kept, [&](std::uint64_t *left) {
		return read_round(self, left, [&] {
			self->rseq.area.set_rseq_cs(&system_call_cs);
			syscall(__NR_read, self->pipe_fds[0], &self->byte, 1);
		});
	});
}

/* v2 does not look until it has another reason to: the next preemption. */
TEST_F(voluntary_sleep, preemption_after_sleep_clears)
{
	unsigned int seen_kept = 0;

	ASSERT_NO_FAILURE(open(self, variant, [](std::uint32_t) {}));
	STEP("sleeping, then waiting to be preempted");
	for (unsigned int i = 0; i < wanted_rounds; i++) {
		self->rseq.area.set_rseq_cs(&gated_cs);
		self->rival.sleep(self->rival.request());
		seen_kept += self->rseq.area.rseq_cs() != 0;
		self->rival.wait_for_progress();
		ASSERT_EQ(self->rseq.area.rseq_cs(), 0);
	}
	if (is_v2(variant->mode))
		EXPECT_GT(seen_kept, 0);
	else
		EXPECT_EQ(seen_kept, 0);
}

/* The twin in which an ID changes during the sleep: every mode looks. */
TEST_F(voluntary_sleep, waking_up_elsewhere_clears)
{
	auto move = [tid = own_tid(), cpu = self->other](std::uint32_t) { pin(cpu, tid); };

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant, move));
	STEP("sleeping while being moved");
	expect_rseq_cs(0, [&](std::uint64_t *left) {
		pin(self->cpu);

		Switches before = switches();

		self->rseq.area.set_rseq_cs(&gated_cs);
		self->rival.sleep(self->rival.request());
		*left = self->rseq.area.rseq_cs();

		bool clean = switches() - before == slept_once;

		if (clean)
			EXPECT_EQ(self->rseq.area.cpu_id(), self->other);
		return clean;
	});
}

/* ---- Inside ---- */

TEST_F(voluntary_sleep, read_inside_aborts_only_v1)
{
	const bool v1 = !is_v2(variant->mode);

	ASSERT_NO_FAILURE(open(self, variant, writer(self)));
	STEP("sleeping in read() inside of a section");
	expect_rseq_cs(v1 ? 0 : address(&system_call_cs), [&](std::uint64_t *left) {
		int aborted = -1;
		bool clean = read_round(self, left, [&] {
			aborted = system_call(self->rseq.area.get(), __NR_read, self->pipe_fds[0],
					      reinterpret_cast<long>(&self->byte), 1);
		});

		if (clean)
			EXPECT_EQ(aborted, v1);
		return clean;
	});
}
