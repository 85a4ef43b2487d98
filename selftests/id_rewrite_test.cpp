// SPDX-License-Identifier: GPL-2.0
/*
 * R2: which events rewrite cpu_id_start, cpu_id, node_id and mm_cid.
 *
 *   v1: every event, all four, whether or not they changed: scheduled out and in again, signal
 *       (before the handler's first instruction), membarrier RSEQ (with R6).
 *   v2: only when one of them changes. Otherwise what stands there stays.
 *
 * A round writes poison to the fields, lets one event happen, and looks. It counts only if the
 * context switch counters and the event's own evidence say that this event happened and no
 * other one: an unclean round is repeated, a bounded number of times. In v2 the poison stands
 * only while nothing changes the IDs: the thread is pinned, the others are processes (or were
 * threads already before the registration), and the values are put back.
 */
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"

#include <csignal>
#include <sched.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int max_rounds = 2000;
/* Longer than arming the timer and writing the poison take, shorter than a time slice. */
constexpr long timer_us = 1000;

/* What the signal handler saw first, and whether the poison had been written by then. */
struct {
	const Area *area;
	volatile bool poisoned;
	volatile unsigned int hits;
	bool looked;
	Ids seen;
} handler_state;

void look_at_ids(int, siginfo_t *, void *)
{
	/* A handler that came too early leaves the poison alone: the round is not clean. */
	handler_state.looked = handler_state.poisoned;
	if (handler_state.looked)
		handler_state.seen = handler_state.area->ids();
	handler_state.hits = handler_state.hits + 1;
}

/* What a handler saw first that has raised the next signal, with a poison of its own for it. */
struct {
	Area *area;
	Ids poison;
	int signals[2];		/* in turn */
	unsigned int levels, entered;
	Ids seen[4];
} nesting;

void look_and_raise(int, siginfo_t *, void *)
{
	nesting.seen[nesting.entered++] = nesting.area->ids();
	if (nesting.entered == nesting.levels)
		return;
	nesting.area->set_ids(nesting.poison);
	send_signal(getpid(), own_tid(), nesting.signals[nesting.entered % 2]);
}

alignas(16) char alternate_stack[64 * 1024];
bool on_alternate_stack;

void look_from_alternate_stack(int sig, siginfo_t *info, void *ucontext)
{
	look_at_ids(sig, info, ucontext);

	auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
	auto stack = reinterpret_cast<std::uintptr_t>(alternate_stack);

	on_alternate_stack = frame - stack < sizeof(alternate_stack);
}

/* One poison, different in every field; the bits added are above every CPU and node number. */
Ids poison_ids(std::uint32_t value)
{
	return { value, value ^ 0x10000, value ^ 0x20000, value ^ 0x40000 };
}

/* mm_cid is whatever the scheduler likes below this; no poison is. */
long mm_cid_limit()
{
	return sysconf(_SC_NPROCESSORS_CONF);
}

} /* namespace */

FIXTURE(id_rewrite) {
	RseqDebug debug;
	Rseq rseq;
	Agent agent;
	int cpu = last_cpu();
	Ids right = {};		/* what the kernel has to write */
	Ids poison = {};

	void write_poison() { rseq.area.set_ids(poison); }
};

FIXTURE_MODES(id_rewrite);

FIXTURE_SETUP(id_rewrite)
{
	const char *missing = self->debug.set(false);

	if (missing)
		SKIP("%s", missing);
	ASSERT_EQ(pin(self->cpu), 0);
}

namespace {

using Self = id_rewrite_data;
using Params = id_rewrite_variant;

/* Registers the thread; after agents that are threads were started, so that mm_cid is settled. */
void open(Self *self, const Params *variant)
{
	Location here = location();

	if (!self->rseq.open(variant->mode))
		return;
	self->right = self->rseq.area.ids();
	EXPECT_EQ(here.cpu, self->cpu);
	EXPECT_EQ(self->right.cpu_id_start, here.cpu);
	EXPECT_EQ(self->right.cpu_id, here.cpu);
	EXPECT_EQ(self->right.node_id, here.node);
	EXPECT_LT(self->right.mm_cid, mm_cid_limit());
}

/*
 * The event writes the poison itself, at the last moment before it happens, and returns whether
 * the round was clean; *seen is what user space finds first.
 */
template <typename Event>
void expect_rewrite(Self *self, const Params *variant, Event &&event)
{
	const std::uint32_t cpu = self->right.cpu_id_start;
	const std::uint32_t poisons[] = {
		0xffffffff, 0x80000001, 0x7fffffff, 0x80000000 | cpu, cpu + 1, 0xfffffffe,
	};
	unsigned int rounds = 0, wrong = 0;
	Ids seen = {};

	/* What was still going to change the IDs does it now, without poison. */
	self->poison = self->right;
	event(&seen);
	self->right = self->rseq.area.ids();

	const Location here = location();

	EXPECT_EQ(self->right.cpu_id_start, here.cpu);
	EXPECT_EQ(self->right.cpu_id, here.cpu);
	EXPECT_EQ(self->right.node_id, here.node);
	EXPECT_LT(self->right.mm_cid, mm_cid_limit());

	for (std::uint32_t value : poisons) {
		Context context("poison 0x%08x", value);
		unsigned int round = 0;
		bool clean = false;

		self->poison = poison_ids(value);
		while (!clean && round++ < max_rounds) {
			clean = event(&seen);
			if (is_v2(variant->mode))
				self->rseq.area.set_ids(self->right);
		}
		rounds += round;
		EXPECT_TRUE(clean);
		if (!clean)
			continue;

		Ids wanted = is_v2(variant->mode) ? self->poison : self->right;

		/* v1 may find another mm_cid to write than last time. */
		if (!is_v2(variant->mode) && seen.mm_cid < mm_cid_limit())
			wanted.mm_cid = seen.mm_cid;

		/* The first one in detail, the others are counted. */
		if (seen == wanted || wrong++ == 0) {
			EXPECT_EQ(seen.cpu_id_start, wanted.cpu_id_start);
			EXPECT_EQ(seen.cpu_id, wanted.cpu_id);
			EXPECT_EQ(seen.node_id, wanted.node_id);
			EXPECT_EQ(seen.mm_cid, wanted.mm_cid);
		}
	}
	self->rseq.area.set_ids(self->right);
	EXPECT_TRUE(self->rseq.area.canaries_intact());
	note("%zu poisons, %u of them with a wrong result, %u rounds",
	     sizeof(poisons) / sizeof(poisons[0]), wrong, rounds);
}

} /* namespace */

/* ---- Scheduled out and in again on the same CPU ---- */

TEST_F(id_rewrite, same_cpu_preemption)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(self->agent.start_rival(self->cpu), 0);
	STEP("waiting to be preempted by the rival");
	expect_rewrite(self, variant, [&](Ids *seen) {
		Switches before = switches();

		self->write_poison();
		/* No system call in here: the rival moves only if it took the CPU away. */
		self->agent.wait_for_progress();
		*seen = self->rseq.area.ids();

		Switches during = switches() - before;

		return during.voluntary == 0 && during.involuntary > 0;
	});
}

namespace {

/*
 * A section that asks the agent to do its job and ends when that is done, and what is there right
 * behind it. False if it was aborted before it could ask.
 */
bool ask_inside(Self *self, Ids *seen, int *aborted)
{
	const std::uint32_t ticket = self->agent.next_ticket();

	self->write_poison();
	*aborted = gated(self->rseq.area.get(), self->agent.gate(), ticket);
	*seen = self->rseq.area.ids();
	if (self->agent.gate()->entered != ticket)
		return false;
	self->agent.wait(ticket);
	return true;
}

} /* namespace */

/* An event that also aborts a section: user space goes on with both done, or in v2 with one. */
TEST_F(id_rewrite, preemption_inside_of_a_section)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(self->agent.start_rival(self->cpu), 0);
	STEP("waiting inside of a section for the rival");
	expect_rewrite(self, variant, [&](Ids *seen) {
		const Switches before = switches();
		int aborted = 0;

		if (!ask_inside(self, seen, &aborted))
			return false;

		const Switches during = switches() - before;

		EXPECT_EQ(aborted, 1);
		return during.voluntary == 0 && during.involuntary > 0;
	});
}

TEST_F(id_rewrite, voluntary_switch)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(self->agent.start_rival(self->cpu), 0);
	STEP("sleeping until the rival wakes the thread");
	expect_rewrite(self, variant, [&](Ids *seen) {
		Switches before = switches();

		self->write_poison();
		self->agent.sleep(self->agent.request());
		*seen = self->rseq.area.ids();

		/* Asleep once, and not preempted. */
		return switches() - before == Switches{ 1, 0 };
	});
}

/* Switched out in a system call, but runnable: the kernel counts that as involuntary. */
TEST_F(id_rewrite, yield)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(self->agent.start_rival(self->cpu), 0);
	STEP("yielding to the rival");
	expect_rewrite(self, variant, [&](Ids *seen) {
		Switches before = switches();
		std::uint64_t progress = self->agent.progress();

		self->write_poison();
		sched_yield();
		*seen = self->rseq.area.ids();

		return self->agent.progress() != progress &&
		       switches() - before == Switches{ 0, 1 };
	});
}

/* Asleep until the child, which has the same memory but no registration, is gone. */
TEST_F(id_rewrite, vfork)
{
	alignas(16) static char stack[64 * 1024];

	ASSERT_NO_FAILURE(open(self, variant));
	expect_rewrite(self, variant, [&](Ids *seen) {
		Switches before = switches();

		self->write_poison();

		pid_t pid = clone([](void *) { return 0; }, stack + sizeof(stack),
				  CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr);

		*seen = self->rseq.area.ids();

		Switches during = switches() - before;

		EXPECT_EQ(wait_status(pid), 0);
		return during == Switches{ 1, 0 };
	});
}

/* ---- Signals ---- */

namespace {

/* Calls raise(), which has a signal delivered to this thread, and takes over what it saw. */
template <typename Raise>
bool signal_round(Self *self, Ids *seen, Raise &&raise)
{
	unsigned int hits = handler_state.hits;
	Switches before = switches();

	handler_state.area = &self->rseq.area;
	handler_state.poisoned = false;
	raise();
	spin_until([&] { return handler_state.hits != hits; });
	*seen = handler_state.seen;
	/* A switch would have rewritten the fields by itself. */
	return handler_state.looked && switches() == before;
}

void poison_for_handler(Self *self)
{
	self->write_poison();
	handler_state.poisoned = true;
}

} /* namespace */

TEST_F(id_rewrite, signal_from_system_call)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(handle_signal(SIGUSR1, look_at_ids), 0);
	STEP("sending a signal to itself");
	expect_rewrite(self, variant, [&](Ids *seen) {
		return signal_round(self, seen, [&] {
			poison_for_handler(self);
			send_signal(getpid(), own_tid(), SIGUSR1);
		});
	});
}

TEST_F(id_rewrite, signal_by_timer_in_user_space)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(handle_signal(SIGALRM, look_at_ids), 0);
	STEP("waiting in user space for the timer");
	expect_rewrite(self, variant, [&](Ids *seen) {
		/* The timer may be faster than the poison. */
		return signal_round(self, seen, [&] {
			arm_timer(timer_us);
			poison_for_handler(self);
		});
	});
}

TEST_F(id_rewrite, signal_from_other_cpu_in_user_space)
{
	auto send = [pid = getpid(), tid = own_tid()](std::uint32_t) {
		send_signal(pid, tid, SIGUSR1);
	};

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(handle_signal(SIGUSR1, look_at_ids), 0);
	ASSERT_EQ(self->agent.start_process(cpu_at(0), send), 0);
	STEP("waiting in user space for the signal from the other CPU");
	expect_rewrite(self, variant, [&](Ids *seen) {
		return signal_round(self, seen, [&] {
			poison_for_handler(self);
			self->agent.request();
		});
	});
}

namespace {

/* From handler to handler; *seen is what one of them found that the others did not, if any. */
bool nesting_round(Self *self, Ids *seen, int next)
{
	Switches before = switches();

	nesting.area = &self->rseq.area;
	nesting.poison = self->poison;
	nesting.signals[0] = SIGUSR1;
	nesting.signals[1] = next;
	nesting.levels = sizeof(nesting.seen) / sizeof(nesting.seen[0]);
	nesting.entered = 0;
	self->write_poison();
	send_signal(getpid(), own_tid(), SIGUSR1);

	*seen = nesting.seen[0];
	for (unsigned int i = 1; i < nesting.levels && *seen == nesting.seen[0]; i++)
		*seen = nesting.seen[i];
	EXPECT_EQ(nesting.entered, nesting.levels);
	return switches() == before;
}

} /* namespace */

TEST_F(id_rewrite, signal_in_handler_of_other_signal)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(handle_signal(SIGUSR1, look_and_raise, SA_NODEFER), 0);
	ASSERT_EQ(handle_signal(SIGUSR2, look_and_raise, SA_NODEFER), 0);
	STEP("raising signals in handlers");
	expect_rewrite(self, variant, [&](Ids *seen) {
		return nesting_round(self, seen, SIGUSR2);
	});
}

TEST_F(id_rewrite, signal_in_handler_of_same_signal)
{
	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(handle_signal(SIGUSR1, look_and_raise, SA_NODEFER), 0);
	STEP("raising a signal in its handler");
	expect_rewrite(self, variant, [&](Ids *seen) {
		return nesting_round(self, seen, SIGUSR1);
	});
}

TEST_F(id_rewrite, signal_on_alternate_stack)
{
	const stack_t stack = { alternate_stack, 0, sizeof(alternate_stack) };

	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_EQ(sigaltstack(&stack, nullptr), 0);
	ASSERT_EQ(handle_signal(SIGALRM, look_from_alternate_stack, SA_ONSTACK), 0);
	STEP("waiting in user space for the timer");
	expect_rewrite(self, variant, [&](Ids *seen) {
		on_alternate_stack = false;

		bool clean = signal_round(self, seen, [&] {
			unsigned int hits = handler_state.hits;

			arm_timer(timer_us);
			self->write_poison();
			handler_state.poisoned = handler_state.hits == hits;
		});

		EXPECT_TRUE(on_alternate_stack);
		return clean;
	});
}

/* ---- membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ) ---- */

namespace {

enum class Reach { all_cpus, one_cpu };

/* The agent becomes a thread, on that CPU, whose job is the membarrier against self->cpu. */
void start_barrier(Self *self, const Params *variant, int agent_cpu, Reach reach)
{
	unsigned int flags = reach == Reach::one_cpu ? MEMBARRIER_CMD_FLAG_CPU : 0;
	int target = self->cpu;

	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	ASSERT_EQ(self->agent.start_thread(agent_cpu, [=](std::uint32_t) {
		int err = sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, flags, target);

		if (err)
			EXPECT_EQ(err, 0);
	}), 0);
	open(self, variant);
}

/* The thread runs in user space on its CPU when the interrupt comes, and never leaves it. */
void membarrier_running(Self *self, const Params *variant, Reach reach)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(start_barrier(self, variant, cpu_at(0), reach));
	STEP("running in user space while another thread calls membarrier");
	expect_rewrite(self, variant, [&](Ids *seen) {
		Switches before = switches();

		self->write_poison();
		self->agent.wait(self->agent.request());
		*seen = self->rseq.area.ids();
		return switches() == before;
	});
}

/* The gate opens when membarrier is done: a section that it has not aborted ends. */
void membarrier_inside(Self *self, const Params *variant, Reach reach)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(start_barrier(self, variant, cpu_at(0), reach));
	STEP("running in a section while another thread calls membarrier");
	expect_rewrite(self, variant, [&](Ids *seen) {
		const Switches before = switches();
		int aborted = 0;

		if (!ask_inside(self, seen, &aborted) || switches() != before)
			return false;
		EXPECT_EQ(aborted, 1);
		return true;
	});
}

/* The other thread shares the CPU: while it calls membarrier, this one is preempted. */
void membarrier_preempted(Self *self, const Params *variant, Reach reach)
{
	ASSERT_NO_FAILURE(start_barrier(self, variant, self->cpu, reach));
	STEP("preempted while another thread calls membarrier");
	expect_rewrite(self, variant, [&](Ids *seen) {
		Switches before = switches();

		self->write_poison();
		self->agent.wait(self->agent.request());
		*seen = self->rseq.area.ids();

		Switches during = switches() - before;

		return during.voluntary == 0 && during.involuntary > 0;
	});
}

void membarrier_sleeping(Self *self, const Params *variant, Reach reach)
{
	ASSERT_NO_FAILURE(start_barrier(self, variant, self->cpu, reach));
	STEP("sleeping while another thread calls membarrier");
	expect_rewrite(self, variant, [&](Ids *seen) {
		Switches before = switches();

		self->write_poison();
		/* The other thread gets the CPU only by the one switch that is counted below. */
		self->agent.sleep(self->agent.request());
		*seen = self->rseq.area.ids();
		return switches() - before == Switches{ 1, 0 };
	});
}

} /* namespace */

TEST_F(id_rewrite, membarrier_all_cpus_running)
{
	membarrier_running(self, variant, Reach::all_cpus);
}

TEST_F(id_rewrite, membarrier_one_cpu_running)
{
	membarrier_running(self, variant, Reach::one_cpu);
}

TEST_F(id_rewrite, membarrier_all_cpus_inside_of_a_section)
{
	membarrier_inside(self, variant, Reach::all_cpus);
}

TEST_F(id_rewrite, membarrier_one_cpu_inside_of_a_section)
{
	membarrier_inside(self, variant, Reach::one_cpu);
}

TEST_F(id_rewrite, membarrier_all_cpus_preempted)
{
	membarrier_preempted(self, variant, Reach::all_cpus);
}

TEST_F(id_rewrite, membarrier_one_cpu_preempted)
{
	membarrier_preempted(self, variant, Reach::one_cpu);
}

TEST_F(id_rewrite, membarrier_all_cpus_sleeping)
{
	membarrier_sleeping(self, variant, Reach::all_cpus);
}

TEST_F(id_rewrite, membarrier_one_cpu_sleeping)
{
	membarrier_sleeping(self, variant, Reach::one_cpu);
}

/* ---- The IDs do change: every mode writes them, which shows that looking works ---- */

TEST_F(id_rewrite, migration)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant));
	for (int i = 0; i < 2 * nr_cpus(); i++) {
		int cpu = cpu_at(i % nr_cpus());
		Context context("to CPU %d", cpu);

		/* v2 takes a changed field for corruption and kills (R4). */
		if (!is_v2(variant->mode))
			self->rseq.area.set_ids(poison_ids(0x80000001));
		ASSERT_EQ(pin(cpu), 0);
		EXPECT_EQ(self->rseq.area.cpu_id_start(), cpu);
		EXPECT_EQ(self->rseq.area.cpu_id(), cpu);
		EXPECT_EQ(self->rseq.area.node_id(), location().node);
		EXPECT_LT(self->rseq.area.mm_cid(), mm_cid_limit());
	}
	EXPECT_TRUE(self->rseq.area.canaries_intact());
}
