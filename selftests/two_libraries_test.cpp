// SPDX-License-Identifier: GPL-2.0
/*
 * R2 and R3: the registration of a thread is for everybody in it. Two libraries, each with its
 * own critical sections and data, use it in turn, one of them in signal handlers that interrupt
 * the other, and nobody's counters, lists and locks go wrong, whatever happens to the threads:
 * preempted by each other, moved to other CPUs, hit by signals or by membarrier.
 *
 * Each case is about one kind of disturbance, goes on until that has aborted enough sections,
 * each of them proven to be its doing, and then counts. The rules are those of v2; v1 has to
 * keep them as well.
 */
#include "harness.hpp"
#include "percpu.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "storm.hpp"

#include <atomic>
#include <csignal>
#include <sched.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int nr_workers = 2;
constexpr unsigned int nodes_each = 8;
/* Of each worker. One that was disturbed that often has had enough, aborts or not. */
constexpr unsigned int min_rounds = 1000;
constexpr unsigned int wanted_aborts = 10;
constexpr unsigned int wanted_refused = 3;		/* by migration */
constexpr unsigned int max_disturbed = 20 * wanted_aborts;

/* Some microseconds natively. */
constexpr std::uint64_t spins = 5000;
constexpr std::uint32_t max_delay_us = 100;

struct Item : percpu::Node {
	std::atomic<bool> listed;	/* in a list, so nobody's */
};

/* What one library does for its users. */
template <typename Sections>
struct Library {
	percpu::Counter<Sections> counter;
	percpu::List<Sections> list;
	percpu::Lock<Sections> lock;
	/* Guarded by the lock of the CPU, and by nothing else. */
	percpu::PerCpu<volatile std::uint64_t> guarded;

	std::atomic<std::uint64_t> taken;
	std::atomic<unsigned int> twice;

	Item items[nr_workers * nodes_each];
};

Library<percpu::One> one;
Library<percpu::Two> two;

/* A thread or its signal handler, as a user of one of the libraries. */
struct Account {
	percpu::User user;
	std::uint64_t added, guarded_rounds;
	Item *held[nr_workers * nodes_each];
	unsigned int count;
};

struct Worker {
	Rseq rseq;
	Account accounts[2];		/* in the main line: of each library */
	Account handler_accounts[2];
	BurstTimer timer;
	Random random{ 1 };
	pid_t tid;
	int cpu;

	/* In which library the main line is, for its signal handler: 0, 1. */
	volatile unsigned int inside;
	/* Of aborted sections, those that a signal interrupted. */
	volatile std::uint64_t by_signal;

	std::atomic<std::uint64_t> rounds;
	/* Rounds with what the case is about, and those of them in which that aborted a section. */
	std::atomic<std::uint64_t> disturbed, proven;
	/* Sections that were begun on another CPU than they were meant for. */
	std::atomic<std::uint64_t> refused;
	std::uint64_t aborts;
};

Worker workers[nr_workers];
thread_local Worker *self_worker;

enum class Disturbance { preemption, migration, signals, membarrier, everything };

struct {
	Disturbance disturbance;
	bool by_timer, by_pin, by_membarrier;
	std::atomic<unsigned int> started, running;
	std::atomic<std::uint64_t> migrations, barriers;
	std::atomic<bool> damaged;
} run;

/* ---- What a library is used for ---- */

template <typename Sections>
void use(Library<Sections> &library, Account &account, std::uint32_t dice)
{
	percpu::User &user = account.user;

	library.counter.add(user, 1);
	account.added++;

	if (dice & 1 && account.count) {
		Item *item = account.held[--account.count];

		item->listed = true;
		library.list.push(user, *item);
	} else if (percpu::Node *node = library.list.pop(user)) {
		auto *item = static_cast<Item *>(node);

		if (!item->listed.exchange(false)) {
			library.twice++;
			run.damaged = true;
			return;
		}
		account.held[account.count++] = item;
	}

	/* In a signal handler, waiting for the lock may be waiting for the interrupted thread. */
	int cpu = library.lock.try_lock(user);

	if (cpu < 0)
		return;

	auto &guarded = library.guarded[static_cast<std::uint32_t>(cpu)];
	std::uint64_t value = guarded;

	/* No cpu_relax(): emulated CPUs that take turns would only be interrupted there. */
	for (std::uint32_t i = dice % 64; i > 0; i--)
		if (guarded != value)
			run.damaged = true;
	guarded = value + 1;
	account.guarded_rounds++;
	library.lock.unlock(cpu);
}

void use(unsigned int which, Account &account, std::uint32_t dice)
{
	if (which == 0)
		use(one, account, dice);
	else
		use(two, account, dice);
}

/* Did the kernel send the thread to an abort handler before it came here? */
bool is_abort(std::uintptr_t ip)
{
	for (const section_entry *s = __start_rseq_sections; s < __stop_rseq_sections; s++)
		if (ip == s->cs->abort_ip)
			return true;
	return false;
}

void on_alarm(int, siginfo_t *, void *ucontext)
{
	Worker &w = *self_worker;
	const unsigned int other = !w.inside;

	w.timer.hit();
	if (is_abort(interrupted_ip(ucontext)))
		w.by_signal = w.by_signal + 1;
	use(other, w.handler_accounts[other], w.timer.hits());
}

/* ---- Threads, and how they know what has aborted a section ---- */

std::uint64_t rounds_of_others(const Worker &w)
{
	std::uint64_t sum = 0;

	for (unsigned int i = 0; i < nr_workers; i++)
		if (&workers[i] != &w)
			sum += workers[i].rounds;
	return sum;
}

/* What changes when a thread is disturbed. */
std::uint64_t evidence(const Worker &w)
{
	switch (run.disturbance) {
	case Disturbance::preemption:
		/* The threads share a CPU. */
		return rounds_of_others(w);
	case Disturbance::migration:
		return w.rseq.area.cpu_id();
	case Disturbance::signals:
	case Disturbance::everything:
		return w.timer.hits();
	case Disturbance::membarrier:
		return run.barriers;
	}
	return 0;
}

void round(Worker &w)
{
	const bool count_switches = run.disturbance == Disturbance::membarrier;
	const std::uint32_t dice = w.random.next();
	const unsigned int which = dice >> 8 & 1;
	Account &account = w.accounts[which];

	if (run.by_timer && !w.timer.armed())
		w.timer.arm(1 + w.random.below(max_delay_us));

	const Switches switched = count_switches ? switches() : Switches{};
	const std::uint64_t before = evidence(w), aborts = account.user.aborts;
	const std::uint64_t by_signal = w.by_signal;

	w.inside = which;
	use(which, account, dice);
	w.refused = w.accounts[0].user.moves + w.accounts[1].user.moves;

	/* The rest is bookkeeping: what is disturbed here aborts nothing. */
	if (evidence(w) == before)
		return;
	/* Without a switch and without a signal, nothing but membarrier is left. */
	if (count_switches && switches() != switched)
		return;
	w.disturbed++;
	w.proven += run.disturbance == Disturbance::signals ? w.by_signal != by_signal :
							      account.user.aborts != aborts;
}

/* "everything" is more than the signals that its rounds are counted by. */
bool everything_happened()
{
	std::uint64_t refused = 0;

	for (unsigned int i = 0; i < nr_workers; i++)
		refused += workers[i].refused;
	return refused >= wanted_refused && run.migrations >= wanted_aborts &&
	       run.barriers >= wanted_aborts;
}

bool enough(const Worker &w)
{
	if (run.disturbance == Disturbance::everything && !everything_happened())
		return false;
	return w.disturbed >= times_if_deep(max_disturbed) ||
	       (w.rounds >= min_rounds && w.proven >= times_if_deep(wanted_aborts) &&
		(run.disturbance != Disturbance::migration || w.refused >= wanted_refused));
}

bool all_have_enough()
{
	for (unsigned int i = 0; i < nr_workers; i++)
		if (!enough(workers[i]))
			return false;
	return true;
}

void work(Worker &w, Mode mode)
{
	self_worker = &w;
	w.tid = own_tid();
	if (!run.by_pin)
		EXPECT_EQ(pin(w.cpu), 0);
	if (w.rseq.open(mode)) {
		for (unsigned int i = 0; i < 2; i++)
			for (Account *a : { &w.accounts[i], &w.handler_accounts[i] })
				a->user = { .area = w.rseq.area.get(), .spins = spins };
		EXPECT_EQ(w.timer.start(SIGALRM), 0);
	}
	run.started++;
	spin_until([] {
		sched_yield();
		return run.started == nr_workers;
	});

	/* Nobody ends alone: the others need somebody who disturbs them. */
	while (w.rseq.registration.is_open() && !failures() && !run.damaged && !all_have_enough()) {
		round(w);
		w.rounds.store(w.rounds.load(std::memory_order_relaxed) + 1,
			       std::memory_order_relaxed);
	}
	w.timer.stop();
	for (unsigned int i = 0; i < 2; i++)
		w.aborts += w.accounts[i].user.aborts + w.handler_accounts[i].user.aborts;
	if (w.rseq.registration.is_open()) {
		EXPECT_TRUE(w.rseq.area.canaries_intact());
		EXPECT_EQ(w.rseq.registration.close(), 0);
	}
	run.running--;
}

/* ---- Those who disturb ---- */

void move_workers()
{
	Random random;

	while (run.running) {
		for (unsigned int i = 0; i < nr_workers; i++) {
			const auto cpu = random.below(static_cast<std::uint32_t>(nr_cpus()));

			/* It may have ended. */
			if (pin(cpu_at(static_cast<int>(cpu)), workers[i].tid) == 0)
				run.migrations++;
		}
		sched_yield();
	}
}

/* Takes what was added on a CPU, which takes a membarrier. */
template <typename Sections>
int take_count(Library<Sections> &library, int cpu, unsigned int flags)
{
	std::uint64_t count = 0;
	int err = library.counter.take(cpu, flags, &count);

	library.taken += count;
	run.barriers++;
	return err;
}

void fence_workers()
{
	while (run.running) {
		for (int i = 0; i < nr_cpus(); i++) {
			const int cpu = cpu_at(i);

			/* Where nobody is there is nothing to take. */
			if (!run.by_pin && cpu != workers[0].cpu && cpu != workers[1].cpu)
				continue;
			for (unsigned int flags : { 0u, unsigned{ MEMBARRIER_CMD_FLAG_CPU } }) {
				int err = take_count(one, cpu, flags);

				if (!err)
					err = take_count(two, cpu, flags);
				if (err)
					return EXPECT_EQ(err, 0);
			}
		}
	}
}

template <typename Disturb>
void disturb_workers(Disturb &&disturb)
{
	EXPECT_EQ(pin(cpu_at(0)), 0);
	spin_until([] {
		sched_yield();
		return run.started == nr_workers;
	});
	disturb();
}

/* ---- Counting ---- */

template <typename Sections>
void judge(Library<Sections> &library, unsigned int which, const char *name)
{
	static bool seen[nr_workers * nodes_each];
	std::uint64_t added = 0, guarded_rounds = 0, guarded = 0;
	unsigned int found = 0, twice = 0;
	const Context context("library %s", name);

	const auto see = [&](const percpu::Node *node) {
		auto index = static_cast<const Item *>(node) - library.items;

		/* A list that was cut short or closed to a ring would never end. */
		if (index < 0 || index >= static_cast<long>(nr_workers * nodes_each) || seen[index])
			return twice++, false;
		seen[index] = true;
		found++;
		return true;
	};

	for (bool &s : seen)
		s = false;
	for (unsigned int i = 0; i < nr_workers; i++) {
		const Worker &w = workers[i];

		for (const Account *a : { &w.accounts[which], &w.handler_accounts[which] }) {
			added += a->added;
			guarded_rounds += a->guarded_rounds;
			for (unsigned int n = 0; n < a->count; n++)
				see(a->held[n]);
		}
	}
	for (int i = 0; i < nr_cpus(); i++) {
		guarded += library.guarded[static_cast<std::uint32_t>(cpu_at(i))];
		for (percpu::Node *node = library.list.first(cpu_at(i)); node && see(node);)
			node = reinterpret_cast<percpu::Node *>(node->next);
	}

	EXPECT_GT(added, 0);
	EXPECT_EQ(library.counter.rest() + library.taken, added);
	EXPECT_GT(guarded_rounds, 0);
	EXPECT_EQ(guarded, guarded_rounds);
	EXPECT_EQ(found, nr_workers * nodes_each);
	EXPECT_EQ(twice + library.twice, 0);
	EXPECT_FALSE(run.damaged.load());
}

template <typename Sections>
void prepare(Library<Sections> &library, unsigned int which)
{
	library.counter.init();
	for (unsigned int i = 0; i < nr_workers; i++) {
		Account &account = workers[i].accounts[which];

		for (unsigned int n = 0; n < nodes_each; n++)
			account.held[account.count++] = &library.items[i * nodes_each + n];
	}
}

} /* namespace */

FIXTURE(two_libraries) {};
FIXTURE_MODES(two_libraries);

namespace {

using Params = two_libraries_variant;

void survive(const Params *variant, Disturbance disturbance)
{
	const Request request = request_for(variant->mode);
	const bool everything = disturbance == Disturbance::everything;
	std::uint64_t rounds = 0, aborts = 0, refused = 0, disturbed = 0, proven = 0;

	run.disturbance = disturbance;
	run.by_timer = everything || disturbance == Disturbance::signals;
	run.by_pin = everything || disturbance == Disturbance::migration;
	run.by_membarrier = everything || disturbance == Disturbance::membarrier;

	if (!request.available())
		SKIP("%s", request.missing);
	if (nr_cpus() < 2 && (run.by_pin || run.by_membarrier))
		SKIP("needs two CPUs");
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	ASSERT_EQ(handle_signal(SIGALRM, on_alarm), 0);

	run.running = nr_workers;
	for (unsigned int i = 0; i < nr_workers; i++) {
		workers[i].cpu = last_cpu();
		workers[i].random = Random(i);
	}
	/* On a CPU that it has to itself, a thread is hit by membarrier without being switched. */
	if (disturbance == Disturbance::membarrier && nr_cpus() > 2)
		workers[1].cpu = cpu_at(1);
	prepare(one, 0);
	prepare(two, 1);

	STEP("using both libraries in all threads");
	{
		Thread threads[nr_workers], mover, fencer;

		for (unsigned int i = 0; i < nr_workers; i++)
			ASSERT_EQ(threads[i].start([=](Thread::Stop) {
				work(workers[i], variant->mode);
			}), 0);
		if (run.by_pin)
			ASSERT_EQ(mover.start([](Thread::Stop) {
				disturb_workers(move_workers);
			}), 0);
		if (run.by_membarrier)
			ASSERT_EQ(fencer.start([](Thread::Stop) {
				disturb_workers(fence_workers);
			}), 0);
	}

	STEP("counting");
	for (unsigned int i = 0; i < nr_workers; i++) {
		Worker &w = workers[i];

		rounds += w.rounds;
		aborts += w.aborts;
		refused += w.refused;
		disturbed += w.disturbed;
		proven += w.proven;
		if (!run.damaged)
			EXPECT_GE(w.proven.load(), wanted_aborts);
		if (!run.damaged && disturbance == Disturbance::migration)
			EXPECT_GE(w.refused.load(), wanted_refused);
	}
	note("%llu rounds, %llu aborts, %llu sections refused on another CPU",
	     (unsigned long long)rounds, (unsigned long long)aborts, (unsigned long long)refused);
	note("%llu rounds disturbed, %llu of them with an abort; %llu migrations, %llu membarriers",
	     (unsigned long long)disturbed, (unsigned long long)proven,
	     (unsigned long long)run.migrations, (unsigned long long)run.barriers);
	if (!run.damaged && everything)
		EXPECT_TRUE(everything_happened());
	judge(one, 0, "one");
	judge(two, 1, "two");
}

} /* namespace */

/* Two threads on one CPU that use the same data. */
TEST_F_TIMEOUT(two_libraries, preemption, times_if_deep(default_deadline_s))
{
	survive(variant, Disturbance::preemption);
}

TEST_F_TIMEOUT(two_libraries, migration, times_if_deep(default_deadline_s))
{
	survive(variant, Disturbance::migration);
}

/* Each signal finds the thread in one library and uses the other. */
TEST_F_TIMEOUT(two_libraries, signals, times_if_deep(default_deadline_s))
{
	survive(variant, Disturbance::signals);
}

/* What is added on a CPU is taken by another one. */
TEST_F_TIMEOUT(two_libraries, membarrier, times_if_deep(default_deadline_s))
{
	survive(variant, Disturbance::membarrier);
}

TEST_F_TIMEOUT(two_libraries, everything, times_if_deep(default_deadline_s))
{
	survive(variant, Disturbance::everything);
}
