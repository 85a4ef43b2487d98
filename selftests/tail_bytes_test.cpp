// SPDX-License-Identifier: GPL-2.0
/*
 * R7: bytes 28..31 of the area.
 *
 *   v1: never written. TCMalloc keeps data there.
 *   v2: 0 from the registration on, whatever stood there.
 *
 * R8: bytes at offset 32 and up of a 32-byte registration are never touched, in either mode. The
 * area may end where the mapping ends, as it does in glibc's threads.
 */
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"

#include <csignal>
#include <cstddef>
#include <sched.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr std::size_t tail = 28;
constexpr std::uint32_t patterns[] = {
	0xffffffff, 0x00000001, 0x80000000, 0xa5a5a5a5, 0x12345678, 0x00ffff00,
};
constexpr unsigned int nr_patterns = sizeof(patterns) / sizeof(patterns[0]);

/* Of each kind of event; preemptions take some time each. */
constexpr unsigned int nr_events = 500;
constexpr unsigned int nr_preemptions = 50;

volatile unsigned int hits;

void count_hit(int, siginfo_t *, void *)
{
	hits = hits + 1;
}

} /* namespace */

FIXTURE(tail_bytes) {
	Rseq rseq;
	RseqDebug debug;
	Agent rival;		/* on the same CPU */
	Agent barrier;		/* a thread there, or on the other one: calls membarrier */
	int cpu = last_cpu();
	int other = cpu_at(0);

	/* What has to stand there. */
	std::uint32_t expected = 0;
	std::uint64_t checks = 0;
	bool failed = false;
};

FIXTURE_MODES(tail_bytes);

FIXTURE_SETUP(tail_bytes)
{
	ASSERT_EQ(pin(self->cpu), 0);
}

namespace {

using Self = tail_bytes_data;
using Params = tail_bytes_variant;

/* Registers memory that has this pattern in the tail. */
void open(Self *self, const Params *variant, Area::Place place, std::uint32_t pattern)
{
	const Request request = request_for(variant->mode);

	if (!request.available())
		SKIP("%s", request.missing);
	ASSERT_EQ(self->rseq.area.map(request.length, request.align, place), 0);
	self->rseq.area.set_word(tail, pattern);
	ASSERT_EQ(self->rseq.registration.open(self->rseq.area, request), 0);
	self->expected = is_v2(variant->mode) ? 0 : pattern;
	EXPECT_EQ(self->rseq.area.word(tail), self->expected);
}

/* After one event. In v1 the next one finds another pattern, which user space has put there. */
void check(Self *self, const Params *variant)
{
	Area &area = self->rseq.area;

	self->checks++;
	if (area.word(tail) != self->expected && !self->failed) {
		EXPECT_EQ(area.word(tail), self->expected);
		self->failed = true;
	}
	if (!is_v2(variant->mode)) {
		self->expected = patterns[self->checks % nr_patterns];
		area.set_word(tail, self->expected);
	}
}

template <typename Event>
void events(Self *self, const Params *variant, unsigned int count, Event &&event)
{
	for (unsigned int i = 0; i < count && !self->failed; i++) {
		event(i);
		check(self, variant);
	}
}

void run_events(Self *self, const Params *variant, Area::Place place)
{
	const bool two_cpus = nr_cpus() > 1;

	ASSERT_EQ(handle_signal(SIGUSR1, count_hit), 0);
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	ASSERT_EQ(self->barrier.start_thread(self->other, [](std::uint32_t) {
		int err = sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ);

		if (err)
			EXPECT_EQ(err, 0);
	}), 0);
	ASSERT_NO_FAILURE(open(self, variant, place, patterns[0]));

	Switches before = switches();

	STEP("preemptions");
	{
		Agent visitor;

		ASSERT_EQ(visitor.start_visitor(self->cpu), 0);
		events(self, variant, nr_preemptions, [&](unsigned int) {
			visitor.wait_for_progress();
		});
	}
	STEP("voluntary switches");
	ASSERT_EQ(self->rival.start_rival(self->cpu), 0);
	events(self, variant, nr_events, [&](unsigned int) {
		self->rival.sleep(self->rival.request());
	});

	Switches during = switches() - before;

	EXPECT_GE(during.involuntary, nr_preemptions);
	EXPECT_GE(during.voluntary, nr_events / 2);

	STEP("signals");
	events(self, variant, nr_events, [&](unsigned int) {
		send_signal(getpid(), own_tid(), SIGUSR1);
	});
	EXPECT_EQ(hits, nr_events);

	STEP("membarrier by another thread");
	events(self, variant, nr_events, [&](unsigned int) {
		std::uint32_t ticket = self->barrier.request();

		/* On the only CPU, it does not run unless this thread sleeps. */
		if (two_cpus)
			self->barrier.wait(ticket);
		else
			self->barrier.sleep(ticket);
	});
	if (two_cpus) {
		STEP("migrations");
		events(self, variant, nr_events, [&](unsigned int i) {
			pin(i % 2 ? self->cpu : self->other);
		});
		EXPECT_EQ(self->rseq.area.cpu_id(), self->cpu);
	}

	long where = 0;

	EXPECT_TRUE(self->rseq.area.canaries_intact(&where));
	EXPECT_EQ(where, 0);
	note("%llu checks", static_cast<unsigned long long>(self->checks));
}

} /* namespace */

TEST_F(tail_bytes, at_registration)
{
	for (std::uint32_t pattern : patterns) {
		Context context("0x%08x before the registration", pattern);
		Rseq rseq;
		const Request request = request_for(variant->mode);

		if (!request.available())
			SKIP("%s", request.missing);
		ASSERT_EQ(rseq.area.map(request.length, request.align), 0);
		rseq.area.set_word(tail, pattern);
		ASSERT_EQ(rseq.registration.open(rseq.area, request), 0);
		EXPECT_EQ(rseq.area.word(tail), is_v2(variant->mode) ? 0 : pattern);
		ASSERT_EQ(rseq.registration.close(), 0);
		EXPECT_EQ(rseq.area.word(tail), is_v2(variant->mode) ? 0 : pattern);
		EXPECT_TRUE(rseq.area.canaries_intact());
	}
}

TEST_F(tail_bytes, over_events)
{
	run_events(self, variant, Area::Place::middle);
}

TEST_F(tail_bytes, over_events_at_end_of_mapping)
{
	run_events(self, variant, Area::Place::at_end);
}

TEST_F(tail_bytes, over_events_in_debug_mode)
{
	const char *missing = self->debug.set(true);

	if (missing)
		SKIP("%s", missing);
	run_events(self, variant, Area::Place::at_end);
}

/*
 * As glibc reuses stacks: a thread ends without unregistering, and the next one registers the
 * same memory with everything in it that the first one left.
 */
TEST_F(tail_bytes, stale_from_earlier_thread)
{
	const Request request = request_for(variant->mode);
	Area &area = self->rseq.area;

	if (!request.available())
		SKIP("%s", request.missing);
	ASSERT_EQ(area.map(request.length, request.align, Area::Place::at_end), 0);
	for (std::uint32_t pattern : patterns) {
		Context context("0x%08x left behind", pattern);
		struct {
			const Request &request;
			Area &area;
			std::uint32_t pattern;
			int errors[2];
			std::uint32_t found;
			std::uint64_t rseq_cs;
			Ids ids;
			Location here;
		} shared = { request, area, pattern, { -1, -1 }, ~pattern, 1, {}, {} };
		Thread earlier, later;

		/* Threads inherit the CPU, so the IDs are known. */
		ASSERT_EQ(earlier.start([&shared](Thread::Stop) {
			shared.errors[0] = sys_rseq(shared.area.get(), v1_length, 0,
						    SECTION_SIGNATURE);
			shared.area.set_word(tail, shared.pattern);
			shared.area.set_rseq_cs(&gated_cs);
		}), 0);
		earlier.join();
		ASSERT_EQ(shared.errors[0], 0);

		ASSERT_EQ(later.start([&shared](Thread::Stop) {
			shared.errors[1] = sys_rseq(shared.area.get(), shared.request.length,
						    shared.request.flags, SECTION_SIGNATURE);
			shared.found = shared.area.word(tail);
			shared.rseq_cs = shared.area.rseq_cs();
			shared.ids = shared.area.ids();
			shared.here = location();
		}), 0);
		later.join();
		ASSERT_EQ(shared.errors[1], 0);
		EXPECT_EQ(shared.found, is_v2(variant->mode) ? 0 : pattern);
		EXPECT_EQ(shared.rseq_cs, 0);
		EXPECT_EQ(shared.here.cpu, self->cpu);
		EXPECT_EQ(shared.ids.cpu_id_start, self->cpu);
		EXPECT_EQ(shared.ids.cpu_id, self->cpu);
		EXPECT_EQ(shared.ids.node_id, shared.here.node);
		EXPECT_TRUE(area.canaries_intact());
	}
}

/*
 * The same where libc itself puts the area: in thread-local memory, which is at the end of the
 * mapping of a stack. The library gives the stack of a thread that has ended to the next one.
 */
namespace {

alignas(v1_length) thread_local unsigned char own_area[v1_length];

struct StackUser {
	const Request &request;
	std::uint32_t pattern;
	unsigned char *area;
	int error;
	std::uint32_t found;
	std::uint64_t rseq_cs;
	std::uint32_t cpu_id;
};

void use_stack(StackUser *user)
{
	auto *area = reinterpret_cast<struct rseq *>(own_area);
	auto *word = reinterpret_cast<std::uint32_t *>(own_area + tail);

	/* What an earlier thread has left there is overwritten by the library, except for this. */
	__atomic_store_n(word, user->pattern, __ATOMIC_RELAXED);
	__atomic_store_n(&area->rseq_cs, reinterpret_cast<std::uintptr_t>(&gated_cs),
			 __ATOMIC_RELAXED);
	user->area = own_area;
	user->error = sys_rseq(own_area, v1_length, user->request.flags, SECTION_SIGNATURE);
	user->found = __atomic_load_n(word, __ATOMIC_RELAXED);
	user->rseq_cs = __atomic_load_n(&area->rseq_cs, __ATOMIC_RELAXED);
	user->cpu_id = __atomic_load_n(&area->cpu_id, __ATOMIC_RELAXED);
	sched_yield();
	if (__atomic_load_n(word, __ATOMIC_RELAXED) != user->found)
		user->found = ~user->pattern;
	/* Ends without unregistering. */
}

} /* namespace */

TEST_F(tail_bytes, reused_stacks_of_threads)
{
	const Request request = request_for(variant->mode);
	unsigned char *first = nullptr;
	unsigned int reused = 0;

	if (!request.available())
		SKIP("%s", request.missing);
	if (request.length > v1_length)
		SKIP("libc has no more than 32 bytes there");
	for (unsigned int i = 0; i < nr_preemptions; i++) {
		StackUser user = { request, patterns[i % nr_patterns], nullptr, -1, 0, 1, 0 };
		Thread thread;

		ASSERT_EQ(thread.start([&user](Thread::Stop) { use_stack(&user); }), 0);
		thread.join();
		ASSERT_EQ(user.error, 0);
		ASSERT_EQ(user.found, is_v2(variant->mode) ? 0 : user.pattern);
		ASSERT_EQ(user.rseq_cs, 0);
		ASSERT_EQ(user.cpu_id, self->cpu);
		reused += user.area == first;
		first = user.area;
	}
	note("%u of %u threads on the stack of the one before", reused, nr_preemptions);
	EXPECT_GT(reused, 0);
}
