// SPDX-License-Identifier: GPL-2.0
/*
 * R3 (and the rseq_cs half of R6), the part that is the same in every mode: a critical section
 * that is preempted, gets a signal or is hit by membarrier's interrupt is aborted, also if the
 * thread never leaves its CPU. rseq_cs is 0 afterwards.
 *
 * The sections are open ended ("gated"): they go on until the disturbance has happened, and
 * commit then, unless the kernel has moved the thread to the abort handler. "double_load" has a
 * commit that shows what a lost abort does: two loads of one word that disagree.
 */
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"

#include <csignal>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int wanted_rounds = 20;
constexpr unsigned int max_rounds = 400;
/* Enough to know. */
constexpr unsigned int max_survivors = 3;
constexpr long timer_us = 1000;

/* Some ten microseconds natively, under a millisecond emulated: much less than a time slice. */
constexpr std::uint64_t spins = 50000;

/* What the signal handler found. It opens the gate for a section that was not aborted. */
struct {
	section_gate *gate;
	std::uint32_t ticket;
	const Area *area;
	volatile unsigned int hits;
	std::uintptr_t ip;
	std::uint64_t rseq_cs;
	volatile bool expected;		/* set by the thread when it has prepared everything */
	bool was_expected;
} handler_state;

void look(int, siginfo_t *, void *ucontext)
{
	handler_state.ip = interrupted_ip(ucontext);
	handler_state.rseq_cs = handler_state.area->rseq_cs();
	handler_state.was_expected = handler_state.expected;
	handler_state.hits = handler_state.hits + 1;
}

void look_and_open(int sig, siginfo_t *info, void *ucontext)
{
	look(sig, info, ucontext);
	__atomic_store_n(&handler_state.gate->open, handler_state.ticket, __ATOMIC_RELAXED);
}

/* The section that a handler runs, and what the handler of the next signal found in it. */
struct {
	struct section_gate gate;
	volatile unsigned int hits;
	std::uintptr_t ip;
	std::uint64_t rseq_cs;
	int aborted;
	Switches before, after;
} inner;

void look_and_open_inner(int, siginfo_t *, void *ucontext)
{
	inner.ip = interrupted_ip(ucontext);
	inner.rseq_cs = handler_state.area->rseq_cs();
	inner.hits = inner.hits + 1;
	__atomic_store_n(&inner.gate.open, inner.gate.entered, __ATOMIC_RELAXED);
}

/* SIGALRM for the thread, and once more for the section that is run here. */
void run_section_in_handler(int sig, siginfo_t *info, void *ucontext)
{
	const std::uint32_t ticket = inner.gate.entered + 1;
	const unsigned int hits = inner.hits;

	look_and_open(sig, info, ucontext);
	handle_signal(SIGALRM, look_and_open_inner);
	arm_timer(timer_us);
	inner.before = switches();
	inner.aborted = gated(handler_state.area->get(), &inner.gate, ticket);
	inner.after = switches();
	spin_until([&] { return inner.hits != hits; });
}

alignas(16) char alternate_stack[64 * 1024];
bool on_alternate_stack;

void look_from_alternate_stack(int sig, siginfo_t *info, void *ucontext)
{
	auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
	auto stack = reinterpret_cast<std::uintptr_t>(alternate_stack);

	on_alternate_stack = frame - stack < sizeof(alternate_stack);
	look_and_open(sig, info, ucontext);
}

std::uintptr_t address(const char *label)
{
	return reinterpret_cast<std::uintptr_t>(label);
}

bool in_gated(std::uintptr_t ip)
{
	return ip >= address(gated_start) && ip < address(gated_post_commit);
}

} /* namespace */

FIXTURE(cs_abort) {
	Rseq rseq;
	Agent agent;
	RseqStats stats;
	int cpu = last_cpu();
	long fixups = -1;
	const char *no_stats = nullptr;

	section_gate *gate() { return agent.gate(); }
	bool committed(std::uint32_t ticket) { return gate()->committed == ticket; }
};

FIXTURE_MODES(cs_abort);

FIXTURE_SETUP(cs_abort)
{
	ASSERT_EQ(pin(self->cpu), 0);
	self->no_stats = self->stats.load();
	self->fixups = self->stats.value("fixup");
}

/* The kernel's own count, for the reader: other threads of the system are in it as well. */
FIXTURE_TEARDOWN(cs_abort)
{
	if (skipped())
		return;
	if (self->no_stats || self->stats.load())
		note("%s", self->no_stats ? self->no_stats : "rseq/stats is gone");
	else
		note("rseq/stats fixup: +%ld", self->stats.value("fixup") - self->fixups);
}

namespace {

using Self = cs_abort_data;
using Params = cs_abort_variant;

void open(Self *self, const Params *variant)
{
	if (self->rseq.open(variant->mode))
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
}

/* Runs a round until wanted_rounds of them were clean; every one of those has to abort. */
template <typename Round>
void expect_aborts(Self *self, Round &&round)
{
	unsigned int rounds = 0, aborted = 0, survived = 0;

	while (aborted < wanted_rounds && survived < max_survivors && rounds < max_rounds) {
		std::uint32_t ticket = self->agent.next_ticket();
		bool is_aborted = false;

		rounds++;
		if (!round(ticket, &is_aborted))
			continue;
		if (is_aborted) {
			aborted++;
			EXPECT_NE(self->gate()->committed, ticket);
			EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
		} else {
			survived++;
		}
	}
	note("%u disturbed sections aborted, %u survived, %u rounds", aborted, survived, rounds);
	EXPECT_EQ(survived, 0);
	EXPECT_GT(aborted, 0);
	/* With survivors it stops early; without, too few clean rounds prove too little. */
	if (!survived)
		EXPECT_EQ(aborted, wanted_rounds);
	EXPECT_TRUE(self->rseq.area.canaries_intact());
}

} /* namespace */

/* ---- Preempted on the same CPU ---- */

TEST_F(cs_abort, double_load_sees_one_value)
{
	unsigned int aborts = 0, commits = 0, torn = 0;

	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(self->agent.start_rival(self->cpu), 0);
	STEP("running sections against a rival on the same CPU");

	const volatile std::uint64_t *x = self->agent.counter();
	std::uint64_t first_x = *x;
	Switches start = switches();
	long preemptions = 0;

	while (aborts < wanted_rounds && torn < max_survivors && preemptions < max_rounds) {
		section_loads loads = {};

		if (double_load(self->rseq.area.get(), x, spins, &loads)) {
			aborts++;
			EXPECT_EQ(loads.committed, 0);
			EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
		} else {
			commits++;
			if (loads.first != loads.second && torn++ == 0)
				EXPECT_EQ(loads.first, loads.second);
		}
		preemptions = (switches() - start).involuntary;
	}
	note("%ld preemptions: %u aborts, %u commits, %u of them torn", preemptions, aborts,
	     commits, torn);
	EXPECT_EQ(torn, 0);
	EXPECT_GT(aborts, 0);
	EXPECT_GT(commits, 0);
	/* The rival ran, and what the sections loaded did change. */
	EXPECT_NE(*x, first_x);
	EXPECT_TRUE(self->rseq.area.canaries_intact());
}

TEST_F(cs_abort, preempted_inside)
{
	ASSERT_NO_FAILURE(open(self, variant));
	/* On the same CPU, the rival sees the ticket only when it has preempted the section. */
	ASSERT_EQ(self->agent.start_rival(self->cpu), 0);
	STEP("waiting inside of a section for the rival");
	expect_aborts(self, [&](std::uint32_t ticket, bool *aborted) {
		Switches before = switches();

		*aborted = gated(self->rseq.area.get(), self->gate(), ticket);
		/* Preempted at the section's first instruction, it has not asked for anything. */
		if (self->gate()->entered != ticket)
			return false;

		/* Aborted before the rival has come to open the gate: by something else. */
		bool opened = is_open(self->gate(), ticket);

		self->agent.wait(ticket);
		return opened && (switches() - before).involuntary > 0;
	});
}

/* Outside, rseq_cs is cleared and the thread goes on where it was. */
TEST_F(cs_abort, preempted_outside_is_cleared)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(self->agent.start_rival(self->cpu), 0);
	STEP("waiting outside of the section to be preempted");
	for (unsigned int i = 0; i < wanted_rounds; i++) {
		self->rseq.area.set_rseq_cs(&gated_cs);
		self->agent.wait_for_progress();
		ASSERT_EQ(self->rseq.area.rseq_cs(), 0);
	}
}

/* ---- Signals ---- */

namespace {

/*
 * Enters a section that ends by the signal; clean if that came while inside, and nothing else.
 * prepare() may arrange for the signal beforehand, else the ticket is what asks for it.
 */
template <typename Prepare>
bool signal_round(Self *self, std::uint32_t ticket, bool *aborted, Prepare &&prepare)
{
	unsigned int hits = handler_state.hits;

	handler_state.gate = self->gate();
	handler_state.ticket = ticket;
	handler_state.area = &self->rseq.area;

	bool prepared = prepare();
	Switches before = switches();

	*aborted = gated(self->rseq.area.get(), self->gate(), ticket);

	Switches after = switches();

	/* Aborted by a switch before it could ask: there will be no signal. */
	if (!prepared && self->gate()->entered != ticket)
		return false;
	/* Aborted by a switch later on: the signal is still to come. */
	spin_until([&] { return handler_state.hits != hits; });

	std::uintptr_t ip = handler_state.ip;

	if (after != before || (ip != address(gated_abort) && !in_gated(ip)))
		return false;
	EXPECT_EQ(ip, address(gated_abort));
	EXPECT_EQ(handler_state.rseq_cs, 0);
	return true;
}

} /* namespace */

TEST_F(cs_abort, signal_by_timer_inside)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(handle_signal(SIGALRM, look_and_open), 0);
	STEP("waiting inside of a section for the timer");
	expect_aborts(self, [&](std::uint32_t ticket, bool *aborted) {
		return signal_round(self, ticket, aborted, [] { return arm_timer(timer_us) == 0; });
	});
}

/* Outside, rseq_cs is cleared before the handler runs, in v2 as well: no system call was made. */
TEST_F(cs_abort, signal_by_timer_outside_is_cleared)
{
	unsigned int clean = 0;

	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(handle_signal(SIGALRM, look), 0);
	handler_state.area = &self->rseq.area;
	STEP("waiting outside of the section for the timer");
	for (unsigned int i = 0; i < max_rounds && clean < wanted_rounds; i++) {
		const unsigned int hits = handler_state.hits;
		const Switches before = switches();

		handler_state.expected = false;
		ASSERT_EQ(arm_timer(timer_us), 0);
		self->rseq.area.set_rseq_cs(&gated_cs);
		handler_state.expected = true;
		spin_until([&] { return handler_state.hits != hits; });
		/* The timer was faster, or a switch has cleared it. */
		if (!handler_state.was_expected || switches() != before)
			continue;
		clean++;
		ASSERT_EQ(handler_state.rseq_cs, 0);
	}
	EXPECT_EQ(clean, wanted_rounds);
}

TEST_F(cs_abort, signal_on_alternate_stack_inside)
{
	const stack_t stack = { alternate_stack, 0, sizeof(alternate_stack) };

	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(sigaltstack(&stack, nullptr), 0);
	ASSERT_EQ(handle_signal(SIGALRM, look_from_alternate_stack, SA_ONSTACK), 0);
	STEP("waiting inside of a section for the timer");
	expect_aborts(self, [&](std::uint32_t ticket, bool *aborted) {
		on_alternate_stack = false;

		bool clean = signal_round(self, ticket, aborted, [] {
			return arm_timer(timer_us) == 0;
		});

		EXPECT_TRUE(on_alternate_stack);
		return clean;
	});
}

/* A section in the handler of one signal, which the next one hits. Both sections are aborted. */
TEST_F(cs_abort, nested_signal_inside)
{
	unsigned int nested = 0;

	ASSERT_NO_FAILURE(open(self, variant));
	STEP("waiting inside of sections for the timer");
	expect_aborts(self, [&](std::uint32_t ticket, bool *aborted) {
		EXPECT_EQ(handle_signal(SIGALRM, run_section_in_handler, SA_NODEFER), 0);

		bool clean = signal_round(self, ticket, aborted, [] {
			return arm_timer(timer_us) == 0;
		});

		if (!clean || inner.before != inner.after ||
		    (inner.ip != address(gated_abort) && !in_gated(inner.ip)))
			return false;
		nested++;
		EXPECT_EQ(inner.ip, address(gated_abort));
		EXPECT_EQ(inner.rseq_cs, 0);
		EXPECT_EQ(inner.aborted, 1);
		return true;
	});
	EXPECT_GT(nested, 0);
}

TEST_F(cs_abort, signal_from_other_cpu_inside)
{
	/* The handler opens the gate: opened here, a section could end before the signal. */
	auto send = [pid = getpid(), tid = own_tid(), gate = self->gate()](std::uint32_t ticket) {
		send_signal(pid, tid, SIGUSR1);
		spin_until([&] { return is_open(gate, ticket); });
	};

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(handle_signal(SIGUSR1, look_and_open), 0);
	ASSERT_EQ(self->agent.start_process(cpu_at(0), send), 0);
	STEP("waiting inside of a section for the signal from the other CPU");
	expect_aborts(self, [&](std::uint32_t ticket, bool *aborted) {
		bool clean = signal_round(self, ticket, aborted, [] { return false; });

		if (self->gate()->entered == ticket)
			self->agent.wait(ticket);
		return clean;
	});
}

/* ---- membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ) against a running section ---- */

namespace {

void membarrier_inside(Self *self, const Params *variant, unsigned int flags)
{
	int target = self->cpu;

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	ASSERT_EQ(self->agent.start_thread(cpu_at(0), [=](std::uint32_t) {
		int err = sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, flags, target);

		if (err)
			EXPECT_EQ(err, 0);
	}), 0);
	ASSERT_NO_FAILURE(open(self, variant));
	STEP("waiting inside of a section for membarrier");
	expect_aborts(self, [&](std::uint32_t ticket, bool *aborted) {
		Switches before = switches();

		*aborted = gated(self->rseq.area.get(), self->gate(), ticket);

		Switches after = switches();

		if (self->gate()->entered != ticket)
			return false;
		/* Aborted by something else, it may be here before the membarrier. */
		self->agent.wait(ticket);
		return after == before;
	});
}

} /* namespace */

TEST_F(cs_abort, membarrier_all_cpus_inside)
{
	membarrier_inside(self, variant, 0);
}

TEST_F(cs_abort, membarrier_one_cpu_inside)
{
	membarrier_inside(self, variant, MEMBARRIER_CMD_FLAG_CPU);
}

/* As a signal: cleared outside, and not at the next switch. */
TEST_F(cs_abort, membarrier_outside_is_cleared)
{
	const int target = self->cpu;
	unsigned int clean = 0;

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	/* All CPUs and that one in turn. */
	ASSERT_EQ(self->agent.start_thread(cpu_at(0), [=](std::uint32_t ticket) {
		EXPECT_EQ(sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ,
					 ticket % 2 ? MEMBARRIER_CMD_FLAG_CPU : 0, target), 0);
	}), 0);
	ASSERT_NO_FAILURE(open(self, variant));
	STEP("waiting outside of the section for membarrier");
	for (unsigned int i = 0; i < max_rounds && clean < wanted_rounds; i++) {
		const Switches before = switches();

		self->rseq.area.set_rseq_cs(&gated_cs);
		self->agent.wait(self->agent.request());

		const std::uint64_t left = self->rseq.area.rseq_cs();

		if (switches() != before)
			continue;
		clean++;
		ASSERT_EQ(left, 0);
	}
	EXPECT_EQ(clean, wanted_rounds);
}

/* ---- The twin: nothing happens, and sections commit ---- */

TEST_F(cs_abort, undisturbed_commits)
{
	unsigned int commits = 0, undisturbed = 0;
	const std::uint64_t x = 42;

	ASSERT_NO_FAILURE(open(self, variant));
	for (unsigned int i = 0; i < max_rounds; i++) {
		Switches before = switches();
		section_loads loads = {};
		int aborted = double_load(self->rseq.area.get(), &x, 100, &loads);

		if (switches() != before)
			continue;
		undisturbed++;
		if (aborted)
			continue;
		commits++;
		ASSERT_EQ(loads.committed, 1);
		ASSERT_EQ(loads.first, x);
		ASSERT_EQ(loads.second, x);
	}
	note("%u of %u undisturbed sections committed", commits, undisturbed);
	/* The kernel may abort for reasons of its own, up to 6.18 at any interrupt. Not often. */
	EXPECT_GT(commits, undisturbed / 2);
}
