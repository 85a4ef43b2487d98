// SPDX-License-Identifier: GPL-2.0
/*
 * R2, R3, R4, R6, R7 and R10 in v1, all at once: a client in the shape of TCMalloc (slab.hpp).
 * Its objects are unique. Two threads for each CPU push, pop and grow, in signal handlers too,
 * drain and resize each other's slabs, and leave and enter the registration meanwhile. In the
 * end exactly the objects of the beginning are there, none is lost and none is there twice.
 *
 * And R2, R3 and R7 in v2, with both modes in one process: threads with per-CPU counters of
 * their own neither disturb that nor are they disturbed.
 */
#include "harness.hpp"
#include "observe.hpp"
#include "percpu.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "slab.hpp"
#include "storm.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <sched.h>

using namespace selftest;
using slab::Client;
using slab::Counts;
using slab::Fence;
using slab::Header;
using slab::Outcome;
using slab::Slabs;

namespace {

/*
 * Of all threads. On unpatched 6.19.11 an object is there twice after 57 to 4862 of them, in the
 * middle after 150 to 1370. Counted in 300 runs: three variants, each 25 times in guests with 1
 * and with 4 CPUs, on x86_64 and arm64.
 */
constexpr unsigned int all_steps = 32000;

/* What is seen with the first signal takes that part of them, or until all has happened. */
constexpr unsigned int pointers_divisor = 8;

/* Of each worker, at most: so many times its steps, if something has not happened by then. */
constexpr unsigned int max_extension = 100;

constexpr unsigned int max_workers = 64;
constexpr unsigned int objects_each = 24;
constexpr unsigned int max_objects = max_workers * objects_each;
constexpr unsigned int capacity_each = 20;
constexpr unsigned int max_step = 4;		/* of capacity, at once */
constexpr std::uint32_t max_spins = 10000;	/* some microseconds natively */
constexpr std::uint32_t max_delay_us = 50;

constexpr unsigned int max_neighbours = 8;
constexpr std::uint64_t neighbour_spins = 5000;
constexpr unsigned int neighbour_additions = 1000;

/* What a slab holds instead of an address. */
constexpr std::uint64_t object_key = 0x0b1ec70000000000;

std::uint64_t item_of(unsigned int id) { return object_key | id; }
unsigned int class_of(unsigned int id) { return id % slab::classes; }

/* Objects that a thread or its signal handler has. */
class Stock {
public:
	unsigned int count() const { return count_; }
	unsigned int at(unsigned int i) const { return ids_[i]; }
	void put(unsigned int id) { ids_[count_++] = static_cast<std::uint16_t>(id); }
	unsigned int take(unsigned int i)
	{
		unsigned int id = ids_[i];

		ids_[i] = ids_[--count_];
		return id;
	}

private:
	unsigned int count_ = 0;
	std::uint16_t ids_[max_objects];
};

/* The thread, or its signal handler, which is somebody else as far as objects go. */
struct Actor {
	Stock stock;
	Counts counts;
	Random random;
};

Slabs slabs;

struct Worker {
	Client client{ slabs };
	Actor thread, handler;
	BurstTimer timer;

	/* Read by the handler. */
	volatile bool stays_out;

	std::atomic<std::uint64_t> steps;
	std::uint64_t fences, drains, leaves, resizes, looks, moves;
	/* Valid pointers after events that leave none, and headers that cannot be. */
	std::uint64_t valid_in_handler, valid_outside, inconsistent;
	int error;
};

Worker workers[max_workers];
thread_local Worker *self_worker;

struct {
	unsigned int workers, objects, steps_each;
	int capacity, pinned_to;	/* -1: not pinned */
	bool resize;

	std::atomic<unsigned int> started, running;
	/* Which of events[] somebody has seen: a bit for each. */
	std::atomic<unsigned int> seen;
	/* Where an object is: held by somebody, or in a slab. */
	std::atomic<bool> held[max_objects];
	std::atomic<unsigned int> twice, foreign;
	std::atomic<std::uint64_t> damage_at;
	std::atomic<bool> damaged;
	/* Of the neighbours in v2, if there are any. */
	std::atomic<bool> wants_abort;
} stress;

void damage(std::atomic<unsigned int> &kind)
{
	std::uint64_t steps = 0;

	kind++;
	if (stress.damaged.exchange(true))
		return;
	for (unsigned int i = 0; i < stress.workers; i++)
		steps += workers[i].steps;
	stress.damage_at = steps;
}

/* Takes over what came out of a slab, unless somebody has it already. */
void receive(Stock &stock, unsigned int cls, std::uint64_t item)
{
	auto id = static_cast<unsigned int>(item & ~object_key);

	if (item != item_of(id) || id >= stress.objects || class_of(id) != cls)
		damage(stress.foreign);
	else if (stress.held[id].exchange(true))
		damage(stress.twice);
	else
		stock.put(id);
}

/* ---- What threads and signal handlers do ---- */

Outcome push(Worker &w, Actor &actor)
{
	if (!actor.stock.count())
		return Outcome::refused;

	unsigned int id = actor.stock.take(actor.random.below(actor.stock.count()));

	stress.held[id] = false;

	Outcome outcome = w.client.push(class_of(id), item_of(id), actor.counts);

	if (outcome != Outcome::done) {
		stress.held[id] = true;
		actor.stock.put(id);
	}
	return outcome;
}

Outcome pop(Worker &w, Actor &actor)
{
	unsigned int cls = actor.random.below(slab::classes);
	std::uint64_t item = 0;
	Outcome outcome = w.client.pop(cls, &item, actor.counts);

	if (outcome == Outcome::done)
		receive(actor.stock, cls, item);
	return outcome;
}

template <typename Pause>
Outcome grow(Worker &w, Actor &actor, Pause &&pause)
{
	auto amount = static_cast<int>(1 + actor.random.below(max_step));

	if (!slabs.reserve(amount))
		return Outcome::refused;

	Outcome outcome = w.client.grow(actor.random.below(slab::classes),
					static_cast<unsigned int>(amount), actor.counts, pause);

	if (outcome != Outcome::done)
		slabs.give_back(amount);
	return outcome;
}

/*
 * Leaves the cached pointer as it was found, which is invalid. Otherwise the main line, which may
 * be about to store what it has derived from a header, would take the handler's for its own.
 */
void on_alarm(int, siginfo_t *, void *)
{
	Worker &w = *self_worker;
	Actor &me = w.handler;
	const bool cached = w.client.cached();
	const int saved_errno = errno;

	w.timer.hit();
	if (!w.client.registered()) {
		if (w.stays_out) {
			w.valid_outside += cached;
			errno = saved_errno;
			return;
		}
		if (w.client.register_thread() || !w.client.registered())
			w.error = EINVAL;
	} else {
		w.valid_in_handler += cached;
	}
	/* Bare, as left by an interrupted Client::cache(): there is nothing behind it. */
	if (!w.client.has_bare_tag()) {
		switch (me.random.below(8)) {
		case 0:
			grow(w, me, [] {});
			break;
		case 1: case 2: case 3:
			push(w, me);
			break;
		default:
			pop(w, me);
			break;
		}
		if (!cached)
			w.client.uncache();
	}
	errno = saved_errno;
}

/* ---- What only threads do ---- */

/* Gives others the chance that takes a preemption or an interrupt otherwise. */
void pause_a_moment(Random &random)
{
	if (random.one_in(2))
		sched_yield();
	else
		cpu_relax();
}

void leave(Worker &w, bool stay_out)
{
	w.stays_out = stay_out;
	if (int err = w.client.unregister_thread())
		w.error = err;
	w.leaves++;
	/* What is left in cpu_id_start is a CPU number. Going on with another one would crash. */
	if (w.client.cached() && !w.client.registered()) {
		w.valid_outside++;
		w.client.uncache();
	}
}

void enter(Worker &w)
{
	w.stays_out = false;
	if (int err = w.client.register_thread())
		w.error = err;
	if (!w.client.registered())
		w.error = EINVAL;
}

/* Until then, a signal handler may be the one that registers. */
void reregister(Worker &w)
{
	leave(w, false);
	enter(w);
}

int random_cpu(Random &random)
{
	if (stress.pinned_to >= 0)
		return stress.pinned_to;
	return cpu_at(static_cast<int>(random.below(static_cast<unsigned int>(nr_cpus()))));
}

/* While a CPU is stopped. Those on other CPUs come by themselves. */
void let_others_in(Worker &w)
{
	if (w.thread.random.one_in(stress.pinned_to >= 0 || nr_cpus() == 1 ? 4 : 64))
		sched_yield();
}

/* Calls body(cpu) while a CPU is stopped. Membarrier does not reach the pointer of its caller. */
template <typename Body>
void operate(Worker &w, Body &&body)
{
	Random &random = w.thread.random;
	int cpu = random_cpu(random);
	int err = slabs.begin(cpu, random.one_in(2) ? Fence::one_cpu : Fence::all_cpus);

	if (err == EBUSY) {
		sched_yield();
		return;
	}
	if (err) {
		w.error = err;
		return;
	}
	w.fences++;
	w.client.uncache();
	let_others_in(w);
	body(cpu);
	slabs.end(cpu);
}

void take_in(Worker &w, unsigned int cls, std::uint64_t item)
{
	receive(w.thread.stock, cls, item);
	let_others_in(w);
}

void drain(Worker &w)
{
	bool outside = w.thread.random.one_in(2);

	if (outside)
		leave(w, true);
	operate(w, [&](int cpu) {
		slabs.drain(cpu, [&](unsigned int cls, std::uint64_t item) {
			take_in(w, cls, item);
		});
		w.drains++;
	});
	if (outside)
		enter(w);
}

void shrink_other(Worker &w)
{
	operate(w, [&](int cpu) {
		slabs.shrink(cpu, w.thread.random.below(slab::classes),
			     1 + w.thread.random.below(max_step),
			     [&](unsigned int cls, std::uint64_t item) { take_in(w, cls, item); });
	});
}

void grow_other(Worker &w)
{
	unsigned int amount = 1 + w.thread.random.below(max_step);
	bool used = false;

	if (!slabs.reserve(static_cast<int>(amount)))
		return;
	operate(w, [&](int cpu) {
		used = slabs.grow(cpu, w.thread.random.below(slab::classes), amount);
	});
	if (!used)
		slabs.give_back(static_cast<int>(amount));
}

void resize(Worker &w)
{
	int err = slabs.begin_all();

	if (err == EBUSY) {
		sched_yield();
		return;
	}
	if (err) {
		w.error = err;
		return;
	}
	w.fences++;
	w.client.uncache();
	for (int i = 0; i < nr_cpus(); i++)
		slabs.drain(cpu_at(i), [&](unsigned int cls, std::uint64_t item) {
			take_in(w, cls, item);
		});
	slabs.change_layout();
	w.resizes++;
	slabs.end_all();
}

/* Others may have moved the thread by then, or be on that CPU. */
void move(Worker &w)
{
	if (int err = pin(random_cpu(w.thread.random)))
		w.error = err;
	w.moves++;
}

void look(Worker &w)
{
	Header header;

	if (!w.client.look(w.thread.random.below(slab::classes), &header))
		return;
	w.looks++;
	w.inconsistent += !header.consistent();
}

void extra_step(Worker &w, std::uint32_t dice)
{
	if (dice < 970)
		look(w);
	else if (dice < 975)
		move(w);
	else if (dice < 980)
		drain(w);
	else if (dice < 983)
		shrink_other(w);
	else if (dice < 986)
		grow_other(w);
	else if (dice < 999 || !stress.resize)
		reregister(w);
	else
		resize(w);
}

/* True if it was one that counts: one that has found a slab to use. */
bool step(Worker &w)
{
	const std::uint32_t dice = w.thread.random.below(1000);
	Outcome outcome;

	if (!w.timer.armed() && w.thread.random.one_in(64))
		w.timer.arm(1 + w.thread.random.below(max_delay_us));
	/* Long sections, when something is about to hit them. */
	w.client.set_spins(w.timer.armed() ? w.thread.random.below(max_spins) : 0);
	if (dice < 430)
		outcome = push(w, w.thread);
	else if (dice < 860)
		outcome = pop(w, w.thread);
	else if (dice < 950)
		outcome = grow(w, w.thread, [&] { pause_a_moment(w.thread.random); });
	else
		return extra_step(w, dice), false;
	if (outcome == Outcome::unavailable)
		w.client.wait();
	return outcome != Outcome::unavailable;
}

/* It proves something only if all of this has happened. */
struct Event {
	const char *name;
	bool (*happened)(const Worker &w);
};

constexpr Event events[] = {
	{ "push by a thread", [](const Worker &w) { return w.thread.counts.pushes > 0; } },
	{ "pop by a thread", [](const Worker &w) { return w.thread.counts.pops > 0; } },
	{ "grow by a thread", [](const Worker &w) { return w.thread.counts.grows > 0; } },
	{ "outdated header", [](const Worker &w) { return w.thread.counts.outdated > 0; } },
	{ "abort", [](const Worker &w) { return w.thread.counts.aborts > 0; } },
	{ "invalid pointer", [](const Worker &w) { return w.thread.counts.invalid > 0; } },
	{ "stopped CPU", [](const Worker &w) { return w.thread.counts.stopped > 0; } },
	{ "push by a handler", [](const Worker &w) { return w.handler.counts.pushes > 0; } },
	{ "pop by a handler", [](const Worker &w) { return w.handler.counts.pops > 0; } },
	{ "signal", [](const Worker &w) { return w.timer.hits() > 0; } },
	{ "drain", [](const Worker &w) { return w.drains > 0; } },
	{ "unregistration", [](const Worker &w) { return w.leaves > 0; } },
	{ "look at a header", [](const Worker &w) { return w.looks > 0; } },
	{ "move to a CPU", [](const Worker &w) { return w.moves > 0; } },
	{ "fence", [](const Worker &w) { return w.fences > 0; } },
	{ "resize", [](const Worker &w) { return !stress.resize || w.resizes > 0; } },
	{ "abort of a neighbour", [](const Worker &) { return !stress.wants_abort; } },
};

constexpr unsigned int all_events = (1u << std::size(events)) - 1;

bool all_seen(const Worker &w)
{
	unsigned int seen = stress.seen;

	for (unsigned int i = 0; i < std::size(events); i++)
		if (!(seen & 1u << i) && events[i].happened(w))
			seen |= 1u << i;
	return (stress.seen |= seen) == all_events;
}

/* How long things take, and so what coincides, is the machine's business. */
bool done(const Worker &w)
{
	const std::uint64_t steps = w.steps.load(std::memory_order_relaxed);

	if (steps < stress.steps_each)
		return false;
	return all_seen(w) || steps >= std::uint64_t{ max_extension } * stress.steps_each;
}

void work(Worker &w)
{
	self_worker = &w;
	if (stress.pinned_to >= 0)
		w.error = pin(stress.pinned_to);
	if (!w.error)
		w.error = w.client.register_thread();
	if (!w.error)
		w.error = w.timer.start(SIGALRM);
	stress.started++;
	while (stress.started < stress.workers)
		sched_yield();

	while (!w.error && !stress.damaged && !done(w)) {
		if (step(w))
			w.steps.store(w.steps.load(std::memory_order_relaxed) + 1,
				      std::memory_order_relaxed);
	}
	w.timer.stop();
	if (w.client.registered())
		leave(w, true);
	stress.running--;
}

/* ---- Before and after ---- */

struct Settings {
	bool one_cpu, resize;
	unsigned int steps;
};

void prepare(const Settings &settings)
{
	stress.workers = std::min(2 * static_cast<unsigned int>(nr_cpus()), max_workers);
	stress.running = stress.workers;
	stress.objects = stress.workers * objects_each;
	stress.steps_each = times_if_deep(settings.steps) / stress.workers;
	stress.capacity = static_cast<int>(stress.workers * capacity_each);
	stress.pinned_to = settings.one_cpu ? last_cpu() : -1;
	stress.resize = settings.resize;

	ASSERT_EQ(slabs.map(stress.capacity), 0);
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	ASSERT_EQ(handle_signal(SIGALRM, on_alarm), 0);
	for (unsigned int i = 0; i < stress.workers; i++) {
		workers[i].thread.random = Random(2 * i);
		workers[i].handler.random = Random(2 * i + 1);
	}
	for (unsigned int id = 0; id < stress.objects; id++) {
		Worker &w = workers[id % stress.workers];

		stress.held[id] = true;
		(id / stress.workers % 4 ? w.thread : w.handler).stock.put(id);
	}
}

/* Each object once, wherever it is. */
void count_objects(unsigned int *lost, unsigned int *twice)
{
	static unsigned int seen[max_objects];
	static Stock rest;

	for (unsigned int i = 0; i < stress.workers; i++)
		for (const Stock *stock : { &workers[i].thread.stock, &workers[i].handler.stock })
			for (unsigned int n = 0; n < stock->count(); n++)
				seen[stock->at(n)]++;
	for (int i = 0; i < nr_cpus(); i++)
		slabs.drain(cpu_at(i), [](unsigned int cls, std::uint64_t item) {
			receive(rest, cls, item);
		});
	for (unsigned int n = 0; n < rest.count(); n++)
		seen[rest.at(n)]++;

	for (unsigned int id = 0; id < stress.objects; id++) {
		*lost += seen[id] == 0;
		*twice += seen[id] > 1;
	}
}

/* What has to be right. The objects are what counts; why they are lost is easier to see alone. */
enum class Judged { objects, pointers };

void judge(Judged judged)
{
	std::uint64_t steps = 0, signals = 0, fences = 0, drains = 0, leaves = 0, resizes = 0;
	std::uint64_t valid_in_handler = 0, valid_outside = 0, inconsistent = 0;
	unsigned int lost = 0, twice = 0;
	Counts threads = {}, handlers = {};
	const int capacity = slabs.capacity() + slabs.spare();

	for (unsigned int i = 0; i < stress.workers; i++) {
		const Worker &w = workers[i];

		EXPECT_EQ(w.error, 0);
		EXPECT_TRUE(w.client.line_intact());
		threads.add(w.thread.counts);
		handlers.add(w.handler.counts);
		signals += w.timer.hits();
		steps += w.steps;
		fences += w.fences;
		drains += w.drains;
		leaves += w.leaves;
		resizes += w.resizes;
		valid_in_handler += w.valid_in_handler;
		valid_outside += w.valid_outside;
		inconsistent += w.inconsistent;
	}
	count_objects(&lost, &twice);
	inconsistent += slabs.inconsistent();

	note("%u threads, %llu steps, %llu signals, %llu fences, %llu drains, %llu leaves, "
	     "%llu resizes", stress.workers, (unsigned long long)steps,
	     (unsigned long long)signals, (unsigned long long)fences, (unsigned long long)drains,
	     (unsigned long long)leaves, (unsigned long long)resizes);
	for (const Counts *c : { &threads, &handlers })
		note("%s: %llu pushes, %llu pops, %llu grows (%llu outdated), %llu aborts, "
		     "%llu times invalid, %llu times stopped",
		     c == &threads ? "threads" : "signal handlers", (unsigned long long)c->pushes,
		     (unsigned long long)c->pops, (unsigned long long)c->grows,
		     (unsigned long long)c->outdated, (unsigned long long)c->aborts,
		     (unsigned long long)c->invalid, (unsigned long long)c->stopped);
	if (stress.damaged)
		note("first damage after %llu steps",
		     (unsigned long long)stress.damage_at.load());

	if (judged == Judged::pointers) {
		EXPECT_GT(signals, 0);
		EXPECT_GT(leaves, 0);
		EXPECT_EQ(valid_in_handler, 0);
		EXPECT_EQ(valid_outside, 0);
		return;
	}
	EXPECT_EQ(lost, 0);
	EXPECT_EQ(twice + stress.twice, 0);
	EXPECT_EQ(stress.foreign.load(), 0);
	EXPECT_EQ(inconsistent, 0);
	EXPECT_EQ(slabs.intrusions(), 0);
	EXPECT_EQ(capacity, stress.capacity);
	if (stress.damaged)
		return;

	for (unsigned int i = 0; i < std::size(events); i++)
		if (!(stress.seen & 1u << i))
			note("never: %s", events[i].name);
	EXPECT_EQ(stress.seen.load(), all_events);
}

void run_workers()
{
	Thread threads[max_workers];

	for (unsigned int i = 0; i < stress.workers; i++)
		ASSERT_EQ(threads[i].start([i](Thread::Stop) { work(workers[i]); }), 0);
	for (Thread &thread : threads)
		thread.join();
}

} /* namespace */

/* ---- Alone ---- */

FIXTURE(slab_client) { RseqDebug debug; };

FIXTURE_VARIANT(slab_client) { Settings settings; bool debug; };
FIXTURE_VARIANT_ADD(slab_client, all_cpus) { { false, false, all_steps }, false };
FIXTURE_VARIANT_ADD(slab_client, one_cpu) { { true, false, all_steps }, false };
FIXTURE_VARIANT_ADD(slab_client, resize) { { false, true, all_steps }, false };
/* With rseq_debug=1, which checks the ID fields of others. */
FIXTURE_VARIANT_ADD(slab_client, debug) { { false, true, all_steps }, true };

FIXTURE_SETUP(slab_client)
{
	if (const char *why = variant->debug ? self->debug.set(true) : nullptr)
		SKIP("%s", why);
}

namespace {

void push_and_pop(const Settings &settings, Judged judged)
{
	ASSERT_NO_FAILURE(prepare(settings));
	STEP("pushing and popping in all threads");
	run_workers();
	STEP("counting");
	judge(judged);
}

} /* namespace */

TEST_F_TIMEOUT(slab_client, keeps_every_object, times_if_deep(default_deadline_s))
{
	/* Somebody has to be left who turns it off again. */
	if (variant->debug)
		EXPECT_SURVIVAL(push_and_pop(variant->settings, Judged::objects));
	else
		push_and_pop(variant->settings, Judged::objects);
}

/* In signal handlers, and outside of the registration. */
TEST_F_TIMEOUT(slab_client, finds_no_valid_pointer, times_if_deep(default_deadline_s))
{
	Settings settings = variant->settings;

	settings.steps /= pointers_divisor;
	if (variant->debug)
		EXPECT_SURVIVAL(push_and_pop(settings, Judged::pointers));
	else
		push_and_pop(settings, Judged::pointers);
}

/* ---- With v2 threads in the same process ---- */

namespace {

struct Neighbour {
	Rseq rseq;
	percpu::User user;
	std::uint64_t additions;
};

Neighbour neighbours[max_neighbours];
percpu::Counter<percpu::One> counter;

void add_while_they_work(Neighbour &n, Mode mode)
{
	const std::uint32_t cpu = static_cast<std::uint32_t>(cpu_at(0));

	if (!n.rseq.open(mode))
		return;
	n.user.area = n.rseq.area.get();
	n.user.spins = neighbour_spins;
	while (stress.running || n.additions < neighbour_additions) {
		counter.add(n.user, 1);
		if (n.user.aborts)
			stress.wants_abort = false;
		if (++n.additions % 8 == 0)
			cpu_relax();
	}
	/* It still gets what v2 promises. */
	EXPECT_EQ(pin(cpu_at(0)), 0);
	EXPECT_EQ(n.rseq.area.cpu_id_start(), cpu);
	EXPECT_EQ(n.rseq.area.cpu_id(), cpu);
	EXPECT_EQ(n.rseq.area.word(tail_offset), 0);
	EXPECT_TRUE(n.rseq.area.canaries_intact());
	EXPECT_EQ(n.rseq.registration.close(), 0);
}

} /* namespace */

FIXTURE(slab_neighbour) {};

FIXTURE_VARIANT(slab_neighbour) { Mode mode; };
FIXTURE_VARIANT_ADD(slab_neighbour, v2_size) { .mode = Mode::v2_size };
FIXTURE_VARIANT_ADD(slab_neighbour, v2_flag) { .mode = Mode::v2_flag };

TEST_F_TIMEOUT(slab_neighbour, neither_disturbs_the_other, times_if_deep(default_deadline_s))
{
	const Request request = request_for(variant->mode);
	const unsigned int count = std::min(static_cast<unsigned int>(nr_cpus()), max_neighbours);
	std::uint64_t additions = 0, aborts = 0;

	if (!request.available())
		SKIP("%s", request.missing);
	counter.init();
	ASSERT_NO_FAILURE(prepare({ false, false, all_steps / 2 }));
	stress.wants_abort = true;
	STEP("adding to counters in v2 while others push and pop in v1");
	{
		Thread threads[max_neighbours];

		for (unsigned int i = 0; i < count; i++)
			ASSERT_EQ(threads[i].start([i, mode = variant->mode](Thread::Stop) {
				add_while_they_work(neighbours[i], mode);
			}), 0);
		run_workers();
	}
	STEP("counting");
	judge(Judged::objects);
	for (unsigned int i = 0; i < count; i++) {
		additions += neighbours[i].additions;
		aborts += neighbours[i].user.aborts;
		EXPECT_GT(neighbours[i].additions, 0);
	}
	note("%u threads in v2: %llu additions, %llu aborts", count,
	     (unsigned long long)additions, (unsigned long long)aborts);
	EXPECT_EQ(counter.rest(), additions);
}
