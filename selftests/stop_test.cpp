// SPDX-License-Identifier: GPL-2.0
/*
 * R2 and R3 for a thread that is stopped and goes on: by SIGSTOP and SIGCONT, by a debugger, and
 * by a debugger after each instruction. In user space all the while, it was scheduled out and in:
 * a section is aborted in every mode, and v1 rewrites the IDs.
 *
 * Of the poison in the ID fields, the debugger's comes when the thread has already stopped.
 */
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"
#include "tracee.hpp"

#include <csignal>
#include <cstddef>
#include <ctime>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int wanted_rounds = 10;
constexpr unsigned int max_rounds = 2000;
/* From raise(SIGSTOP) into a section that is called next. */
constexpr unsigned int max_steps = 5000;
constexpr long look_again_ns = 100000;

/*
 * A stop is a sleep that the thread has not asked for. With one CPU it was preempted as well: by
 * who stopped it.
 */
bool only_stopped(const Switches &during)
{
	return during.voluntary == 1 && (nr_cpus() == 1 || during.involuntary == 0);
}

std::uintptr_t address(const char *label)
{
	return reinterpret_cast<std::uintptr_t>(label);
}

bool in_gated(std::uintptr_t ip)
{
	return ip >= address(gated_start) && ip < address(gated_post_commit);
}

constexpr std::uint32_t poisons[] = { 0x80000001, 0xffffffff, 0x7fffffff };

Ids poison_ids(std::uint32_t value)
{
	return { value, value ^ 0x10000, value ^ 0x20000, value ^ 0x40000 };
}

long mm_cid_limit()
{
	return sysconf(_SC_NPROCESSORS_CONF);
}

/* What the traced child has to say. */
struct Report {
	section_gate gate;
	std::uint32_t returned;		/* the ticket of a section that is over ... */
	int aborted;			/* ... and how it ended */
	std::uint32_t go;
	Ids seen;
};

} /* namespace */

FIXTURE(stop) {
	RseqDebug debug;
	Rseq rseq;
	Agent agent;		/* sends signals */
	Shared<std::uint32_t> stopped;	/* the last ticket that the thread was seen stopped for */
	Tracee child;
	Shared<Report> report;
	int cpu = last_cpu();
	Ids right = {};
};

FIXTURE_MODES(stop);

FIXTURE_SETUP(stop)
{
	ASSERT_EQ(pin(self->cpu), 0);
	ASSERT_EQ(self->debug.set(false), nullptr);
}

namespace {

using Self = stop_data;
using Params = stop_variant;

void open(Self *self, const Params *variant)
{
	if (self->rseq.open(variant->mode))
		self->right = self->rseq.area.ids();
}

void expect_ids(const Self *self, const Params *variant, const Ids &seen, const Ids &poison)
{
	Ids wanted = is_v2(variant->mode) ? poison : self->right;

	/* v1 may find another mm_cid to write than last time. */
	if (!is_v2(variant->mode) && seen.mm_cid < mm_cid_limit())
		wanted.mm_cid = seen.mm_cid;

	EXPECT_EQ(seen.cpu_id_start, wanted.cpu_id_start);
	EXPECT_EQ(seen.cpu_id, wanted.cpu_id);
	EXPECT_EQ(seen.node_id, wanted.node_id);
	EXPECT_EQ(seen.mm_cid, wanted.mm_cid);
}

/* ---- SIGSTOP and SIGCONT ---- */

/* The job: stop the process, see that it has stopped, let it go on. */
void start_stopper(Self *self)
{
	/* The CPU is not needed for looking. On the same CPU the thread could never stop then. */
	auto stop = [pid = getpid(), stopped = &*self->stopped](std::uint32_t ticket) {
		const timespec moment = { 0, look_again_ns };

		if (kill(pid, SIGSTOP))
			_exit(1);
		while (thread_state(pid) != 'T')
			nanosleep(&moment, nullptr);
		__atomic_store_n(stopped, ticket, __ATOMIC_RELEASE);
		if (kill(pid, SIGCONT))
			_exit(1);
	};

	ASSERT_EQ(nr_cpus() > 1 ? self->agent.start_process(cpu_at(0), stop) :
				  self->agent.start_visitor(self->cpu, stop), 0);
}

} /* namespace */

TEST_F(stop, signal_rewrites_only_in_v1)
{
	ASSERT_NO_FAILURE(start_stopper(self));
	ASSERT_NO_FAILURE(open(self, variant));
	STEP("stopped in user space");
	for (std::uint32_t value : poisons) {
		Context context("poison 0x%08x", value);
		const Ids poison = poison_ids(value);
		unsigned int round = 0;
		bool clean = false;
		Ids seen = {};

		while (!clean && round++ < max_rounds) {
			Switches before = switches();

			self->rseq.area.set_ids(poison);
			self->agent.wait(self->agent.request());
			seen = self->rseq.area.ids();
			clean = only_stopped(switches() - before);
			self->rseq.area.set_ids(self->right);
		}
		ASSERT_TRUE(clean);
		expect_ids(self, variant, seen, poison);
	}
	EXPECT_TRUE(self->rseq.area.canaries_intact());
}

TEST_F(stop, signal_aborts)
{
	unsigned int clean = 0, rounds = 0;

	ASSERT_NO_FAILURE(start_stopper(self));
	ASSERT_NO_FAILURE(open(self, variant));
	STEP("stopped inside of a section");
	while (clean < wanted_rounds && rounds++ < max_rounds) {
		std::uint32_t ticket = self->agent.next_ticket();
		Switches before = switches();
		int aborted = gated(self->rseq.area.get(), self->agent.gate(), ticket);
		std::uint64_t left = self->rseq.area.rseq_cs();

		/* Aborted by something else before it has asked to be stopped. */
		if (self->agent.gate()->entered != ticket)
			continue;

		/* Or before it was: then it is stopped behind the section. */
		const bool stopped = __atomic_load_n(&*self->stopped, __ATOMIC_ACQUIRE) == ticket;

		self->agent.wait(ticket);
		if (!stopped || !only_stopped(switches() - before))
			continue;
		clean++;
		ASSERT_EQ(aborted, 1);
		ASSERT_NE(self->agent.gate()->committed, ticket);
		ASSERT_EQ(left, 0);
	}
	note("%u clean rounds of %u", clean, rounds);
	EXPECT_EQ(clean, wanted_rounds);
}

/* ---- A debugger ---- */

namespace {

/* The debugger leaves the child alone on its CPU, if there is another one. */
template <typename Body>
void start_child(Self *self, Body &&body)
{
	ASSERT_EQ(self->child.start(body), 0);
	ASSERT_EQ(pin(cpu_at(0)), 0);
}

/* The child runs one section after the other. */
void start_sections(Self *self)
{
	start_child(self, [self] {
		Report &report = *self->report;

		/* One that is aborted before it has entered has had its ticket, too. */
		for (std::uint32_t ticket = 1;; ticket++) {
			report.aborted = gated(self->rseq.area.get(), &report.gate, ticket);
			__atomic_store_n(&report.returned, ticket, __ATOMIC_RELEASE);
		}
	});
}

std::uint32_t ticket_of(const section_gate &gate)
{
	return __atomic_load_n(&gate.entered, __ATOMIC_ACQUIRE);
}

} /* namespace */

TEST_F(stop, debugger_aborts)
{
	unsigned int clean = 0, rounds = 0;
	Report &report = *self->report;

	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_NO_FAILURE(start_sections(self));
	STEP("stopping a child inside of a section");
	while (clean < wanted_rounds && rounds++ < max_rounds) {
		std::uintptr_t ip = 0;

		/* Inside, unless something aborts it right now. */
		spin_until([&] {
			return ticket_of(report.gate) !=
			       __atomic_load_n(&report.returned, __ATOMIC_ACQUIRE);
		});

		ASSERT_EQ(kill(self->child.pid(), SIGUSR1), 0);
		ASSERT_TRUE(self->child.wait_for_stop(SIGUSR1));
		ASSERT_EQ(self->child.instruction_pointer(&ip), 0);

		const std::uint32_t ticket = ticket_of(report.gate);

		__atomic_store_n(&report.gate.open, ticket, __ATOMIC_RELEASE);
		ASSERT_EQ(self->child.resume(), 0);
		spin_until([&] {
			return __atomic_load_n(&report.returned, __ATOMIC_ACQUIRE) >= ticket;
		});
		/* Stopped before the section's first store, the next ticket is what it has entered. */
		if (!in_gated(ip))
			continue;
		clean++;
		ASSERT_NE(report.gate.committed, ticket);
	}
	note("%u stops inside, %u rounds", clean, rounds);
	EXPECT_EQ(clean, wanted_rounds);
}

namespace {

enum class GoOn { resume, step };

/* The child has stopped when the poison is written to its area. */
void expect_ids_after_stop(Self *self, const Params *variant, GoOn how)
{
	Area &area = self->rseq.area;
	Report &report = *self->report;

	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_NO_FAILURE(start_child(self, [&] {
		Tracee::stop();
		for (;;) {
			report.go = 0;
			spin_until([&] { return __atomic_load_n(&report.go, __ATOMIC_ACQUIRE); });
			report.seen = area.ids();
			area.set_ids(self->right);
			Tracee::stop();
		}
	}));

	STEP("poisoning the IDs of a stopped child");
	ASSERT_TRUE(self->child.wait_for_stop(SIGSTOP));
	for (std::uint32_t value : poisons) {
		Context context("poison 0x%08x", value);
		const Ids poison = poison_ids(value);

		/* Not in a system call, but where it waits to be told to go on. */
		__atomic_store_n(&report.go, 2, __ATOMIC_RELEASE);
		ASSERT_EQ(self->child.resume(), 0);
		spin_until([&] { return __atomic_load_n(&report.go, __ATOMIC_ACQUIRE) == 0; });
		ASSERT_EQ(kill(self->child.pid(), SIGUSR1), 0);
		ASSERT_TRUE(self->child.wait_for_stop(SIGUSR1));

		struct rseq copy;

		ASSERT_EQ(self->child.read_memory(area.get(), &copy, v1_length), 0);
		copy.cpu_id_start = poison.cpu_id_start;
		copy.cpu_id = poison.cpu_id;
		copy.node_id = poison.node_id;
		copy.mm_cid = poison.mm_cid;
		ASSERT_EQ(self->child.write_memory(area.get(), &copy, v1_length), 0);
		if (how == GoOn::step) {
			ASSERT_EQ(self->child.step(), 0);
			ASSERT_TRUE(self->child.wait_for_stop(SIGTRAP));
			ASSERT_EQ(self->child.read_memory(area.get(), &copy, v1_length), 0);
			expect_ids(self, variant, { copy.cpu_id_start, copy.cpu_id, copy.node_id,
						    copy.mm_cid }, poison);
		}
		__atomic_store_n(&report.go, 1, __ATOMIC_RELEASE);
		ASSERT_EQ(self->child.resume(), 0);
		ASSERT_TRUE(self->child.wait_for_stop(SIGSTOP));
		expect_ids(self, variant, report.seen, poison);
	}
}

} /* namespace */

TEST_F(stop, debugger_rewrites_only_in_v1)
{
	expect_ids_after_stop(self, variant, GoOn::resume);
}

TEST_F(stop, single_step_rewrites_only_in_v1)
{
	expect_ids_after_stop(self, variant, GoOn::step);
}

/*
 * The first step inside is the last one: the next goes to the abort handler. A section cannot be
 * stepped through, which is as it always was.
 */
TEST_F(stop, single_step_aborts)
{
	const Area &area = self->rseq.area;
	Report &report = *self->report;
	std::uint64_t rseq_cs = 1;
	std::uintptr_t ip = 0;
	unsigned int steps = 0;

	ASSERT_NO_FAILURE(open(self, variant));
	ASSERT_NO_FAILURE(start_child(self, [&] {
		Tracee::stop();
		report.aborted = gated(area.get(), &report.gate, 1);
	}));
	ASSERT_TRUE(self->child.wait_for_stop(SIGSTOP));
	STEP("stepping into a section");
	while (!in_gated(ip) && steps++ < max_steps) {
		ASSERT_EQ(self->child.step(), 0);
		ASSERT_TRUE(self->child.wait_for_stop(SIGTRAP));
		ASSERT_EQ(self->child.instruction_pointer(&ip), 0);
	}
	note("%u steps into the section", steps);
	ASSERT_EQ(ip, address(gated_start));
	ASSERT_EQ(self->child.read_memory(&area.get()->rseq_cs, &rseq_cs, sizeof(rseq_cs)), 0);
	ASSERT_NE(rseq_cs, 0);

	STEP("stepping inside of a section");
	ASSERT_EQ(self->child.step(), 0);
	ASSERT_TRUE(self->child.wait_for_stop(SIGTRAP));
	ASSERT_EQ(self->child.instruction_pointer(&ip), 0);
	EXPECT_FALSE(in_gated(ip));
	ASSERT_EQ(self->child.read_memory(&area.get()->rseq_cs, &rseq_cs, sizeof(rseq_cs)), 0);
	EXPECT_EQ(rseq_cs, 0);

	/* If it was not aborted, it would wait for the gate. */
	__atomic_store_n(&report.gate.open, 1, __ATOMIC_RELEASE);
	ASSERT_EQ(self->child.resume(), 0);
	EXPECT_EQ(self->child.wait(), 0);
	EXPECT_EQ(report.aborted, 1);
	EXPECT_EQ(report.gate.entered, 0);
	EXPECT_EQ(report.gate.committed, 0);
}
