// SPDX-License-Identifier: GPL-2.0
/*
 * R4: user space changes cpu_id_start, cpu_id, node_id or mm_cid.
 *
 *   v1: tolerated, also with rseq_debug=1; the next event writes the right values.
 *   v2: SIGSEGV when the kernel has to update the IDs, not before, and not if the right value is
 *       back by then; with rseq_debug=1 at the next event, though no ID changes.
 *
 * Everything happens in forked children, which keep a count of how far they came: dying is not
 * enough, it has to be at that event. The twin of each child writes the right value instead. Only
 * the children of *handler* cases handle SIGSEGV.
 */
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"

#include <csignal>
#include <cstddef>
#include <sys/mman.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int max_rounds = 50;
constexpr long timer_us = 1000;
/* Where nothing has to happen before it. */
constexpr long soon_us = 50;

/* How far a child came. */
enum Step : std::uint32_t {
	started, changed, same_cpu_passed, in_handler, event_passed, in_handler_with_wrong_id,
};

struct Progress {
	volatile std::uint32_t step;
	volatile pid_t tid;
};

struct {
	volatile bool changed;		/* by the time of the signal */
	volatile unsigned int hits;
	volatile unsigned int hits_changed;
	Progress *progress;		/* of a child that must not get here */

	/* SIGSEGV, and what it found. */
	const Area *area;
	volatile unsigned int segv_hits;
	std::uint32_t cpu_id_start, cpu_id;
} handler_state;

void count_hit(int, siginfo_t *, void *)
{
	handler_state.hits = handler_state.hits + 1;
	if (!handler_state.changed)
		return;
	handler_state.hits_changed = handler_state.hits_changed + 1;
	if (handler_state.progress)
		handler_state.progress->step = in_handler;
}

void look_at_ids(int, siginfo_t *, void *)
{
	handler_state.segv_hits = handler_state.segv_hits + 1;
	handler_state.cpu_id_start = handler_state.area->cpu_id_start();
	handler_state.cpu_id = handler_state.area->cpu_id();
}

struct Field {
	const char *name;
	std::size_t offset;
};

constexpr Field fields[] = {
	{ "cpu_id_start", offsetof(struct rseq, cpu_id_start) },
	{ "cpu_id", offsetof(struct rseq, cpu_id) },
	{ "node_id", offsetof(struct rseq, node_id) },
	{ "mm_cid", offsetof(struct rseq, mm_cid) },
};

} /* namespace */

FIXTURE(id_tamper) {
	Rseq rseq;
	RseqDebug debug;
	Agent rival;		/* on the same CPU */
	Agent mover;		/* on the other one, moves the child there */
	Shared<Progress> progress;
	int cpu = last_cpu();
	int other = cpu_at(0);

	/* What the child writes to the field. */
	Field field = fields[0];
	std::uint32_t value = 0;
	bool restore = false;

	bool has_rival = false;

	void reach(Step step) { progress->step = step; }
	std::uint32_t stored() const { return rseq.area.word(field.offset); }
	void store(std::uint32_t word) { rseq.area.set_word(field.offset, word); }
};

FIXTURE_MODES(id_tamper);

FIXTURE_SETUP(id_tamper)
{
	ASSERT_EQ(pin(self->cpu), 0);
}

namespace {

using Self = id_tamper_data;
using Params = id_tamper_variant;

/* Children that are to die of something else do without the rival. */
enum class Rival { yes, no };

void open(Self *self, const Params *variant, bool debug, Rival rival = Rival::yes)
{
	const char *missing = self->debug.set(debug);

	if (missing) {
		skip_case("%s", missing);
		return;
	}
	ASSERT_EQ(handle_signal(SIGUSR1, count_hit), 0);
	ASSERT_EQ(handle_signal(SIGALRM, count_hit), 0);
	if (rival == Rival::yes)
		ASSERT_EQ(self->rival.start_visitor(self->cpu), 0);
	self->has_rival = rival == Rival::yes;
	if (self->rseq.open(variant->mode))
		EXPECT_EQ(self->rseq.area.cpu_id(), self->cpu);
}

/* Calls body(field, value, restored) for each field: a few wrong values, and one put right again. */
template <typename Body>
void for_each_value(Self *self, Body &&body)
{
	const auto next_cpu = static_cast<std::uint32_t>(self->other);

	for (const Field &field : fields) {
		self->field = field;

		const std::uint32_t right = self->stored();
		const std::uint32_t values[] = {
			right + 1, right ^ 0x80000000, 0xffffffff, 0xfffffffe, 0x7fffffff,
			/* What the kernel would write next is not what it has written last. */
			right != next_cpu ? next_cpu : right ^ 0x10000,
		};

		for (std::uint32_t value : values)
			body(field, value, false);
		body(field, right + 1, true);
	}
}

/*
 * The child, called for each field and value, is expected to reach the last step, or to die after
 * the one that is named. Its twin is the same with the right value back in place. Where nobody is
 * to die, one process does it all: forking is what takes long.
 */
template <typename Child>
void for_each_change(Self *self, bool dies, Step last_of_dead, Child &&child)
{
	unsigned int changes = 0;
	auto live = [&] {
		/* The last one may have ended elsewhere, and has had its signals. */
		EXPECT_EQ(pin(self->cpu), 0);
		handler_state.changed = false;
		handler_state.hits_changed = 0;
		self->reach(started);
		child();
		EXPECT_EQ(self->progress->step, event_passed);
	};
	auto start = [&](const Field &field, std::uint32_t value, bool restore) {
		self->field = field;
		self->value = value;
		self->restore = restore;
	};

	if (dies) {
		for_each_value(self, [&](const Field &field, std::uint32_t value, bool restore) {
			Context context("0x%x written to %s%s", value, field.name,
					restore ? ", but restored" : "");

			changes++;
			start(field, value, restore);
			if (restore) {
				EXPECT_SURVIVAL({ live(); });
				return;
			}
			self->reach(started);
			EXPECT_DEATH(SIGSEGV, { child(); });
			EXPECT_EQ(self->progress->step, last_of_dead);
		});
		note("%u changes, each in a process", changes);
		return;
	}
	EXPECT_SURVIVAL({
		for_each_value(self, [&](const Field &field, std::uint32_t value, bool restore) {
			Context context("0x%x written to %s%s", value, field.name,
					restore ? ", but restored" : "");

			start(field, value, restore);
			live();
		});
	});
}

void expect_right_ids(const Self *self, int cpu)
{
	expect_ids_of(self->rseq.area, cpu);
}

/* ---- Without debug mode: all that counts is the update of the IDs ---- */

/* Preempted, asleep, and with a signal from outside and one from a system call. */
void pass_same_cpu_events(Self *self)
{
	unsigned int hits = handler_state.hits;

	self->rival.wait_for_progress();
	self->rival.sleep(self->rival.request());
	send_signal(getpid(), own_tid(), SIGUSR1);
	arm_timer(soon_us);
	spin_until([&] { return handler_state.hits == hits + 2; });
}

template <typename Migrate>
void change_and_migrate(Self *self, Migrate &&migrate)
{
	/* In the new process, what is going to change the IDs does it now. */
	self->rival.wait_for_progress();

	const std::uint32_t right = self->stored();
	const std::uint32_t value = self->value == right ? ~right : self->value;

	self->store(value);
	self->reach(changed);
	pass_same_cpu_events(self);
	self->reach(same_cpu_passed);
	/* v1 has overwritten it. */
	self->store(self->restore ? right : value);
	migrate();
	self->reach(event_passed);
	expect_right_ids(self, self->other);
}

} /* namespace */

TEST_F(id_tamper, dies_at_migration_in_v2)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant, false));
	STEP("children that migrate by themselves");
	for_each_change(self, is_v2(variant->mode), same_cpu_passed, [&] {
		change_and_migrate(self, [&] { pin(self->other); });
	});
}

namespace {

/* Moves a child that is in user space, on request. */
void start_mover(Self *self)
{
	auto move = [progress = &*self->progress, cpu = self->other](std::uint32_t) {
		pin(cpu, progress->tid);
	};

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(self->mover.start_visitor(self->other, move), 0);
}

} /* namespace */

TEST_F(id_tamper, dies_when_moved_in_v2)
{
	ASSERT_NO_FAILURE(start_mover(self));
	ASSERT_NO_FAILURE(open(self, variant, false));
	STEP("children that are moved by another process");
	for_each_change(self, is_v2(variant->mode), same_cpu_passed, [&] {
		self->progress->tid = own_tid();
		change_and_migrate(self, [&] { self->mover.wait(self->mover.request()); });
	});
}

/*
 * Another reason for an update: of three threads the first one ends, and the third one, which is
 * registered, gets a lower mm_cid. It never leaves its CPU.
 */
TEST_F(id_tamper, dies_when_mm_cid_changes_in_v2)
{
	/* The limit is a quarter above the number of threads, and not above that of CPUs. */
	if (nr_cpus() < 3)
		SKIP("needs three CPUs");
	if (!request_for(variant->mode).available())
		SKIP("%s", request_for(variant->mode).missing);
	ASSERT_EQ(self->debug.set(false), nullptr);
	ASSERT_EQ(self->rival.start_visitor(self->cpu), 0);

	auto compact = [&](bool restore) {
		const Area &area = self->rseq.area;
		Bystander first;
		Thread third;

		ASSERT_EQ(pin_after_all(self->cpu), 0);
		ASSERT_EQ(first.start(), 0);
		ASSERT_EQ(third.start([&, restore](Thread::Stop) {
			if (!self->rseq.open(variant->mode))
				return;

			const std::uint32_t before = area.mm_cid(), right = self->stored();

			EXPECT_EQ(before, 2);
			self->reach(changed);
			self->store(~right);
			/* Nothing to be updated yet. */
			self->rival.wait_for_progress();
			self->reach(same_cpu_passed);
			if (restore)
				self->store(right);
			first.end();
			for (unsigned int i = 0; i < max_rounds && area.mm_cid() != 1; i++)
				self->rival.sleep(self->rival.request());
			self->reach(event_passed);
			EXPECT_EQ(area.mm_cid(), 1);
			expect_right_ids(self, self->cpu);
			EXPECT_EQ(self->rseq.registration.close(), 0);
		}), 0);
		third.join();
	};

	STEP("children that get a lower mm_cid");
	for (const Field &field : fields) {
		Context context("%s written", field.name);

		self->field = field;
		self->reach(started);
		if (is_v2(variant->mode)) {
			EXPECT_DEATH(SIGSEGV, { compact(false); });
			EXPECT_EQ(self->progress->step, same_cpu_passed);
		} else {
			EXPECT_SURVIVAL({ compact(false); });
			EXPECT_EQ(self->progress->step, event_passed);
		}
		self->reach(started);
		EXPECT_SURVIVAL({ compact(true); });
		EXPECT_EQ(self->progress->step, event_passed);
	}
}

/* SIGSEGV can be handled. The handler, and what follows, must not run with the IDs from before. */
TEST_F(id_tamper, handler_finds_the_new_ids)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant, false));
	ASSERT_EQ(handle_signal(SIGSEGV, look_at_ids), 0);
	handler_state.area = &self->rseq.area;
	for (const Field &field : fields) {
		Context context("%s written", field.name);

		EXPECT_SURVIVAL({
			pass_same_cpu_events(self);
			self->rseq.area.set_word(field.offset,
						 ~self->rseq.area.word(field.offset));
			pin(self->other);
			EXPECT_EQ(handler_state.segv_hits, is_v2(variant->mode));
			if (is_v2(variant->mode)) {
				EXPECT_EQ(handler_state.cpu_id_start, self->other);
				EXPECT_EQ(handler_state.cpu_id, self->other);
			}
			expect_right_ids(self, self->other);
			/* And that was that. */
			pin(self->cpu);
			EXPECT_EQ(handler_state.segv_hits, is_v2(variant->mode));
			expect_right_ids(self, self->cpu);
		});
	}
}

namespace {

/* The area is on a page of its own. */
int protect_area(Self *self, int protection)
{
	const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
	const auto start = reinterpret_cast<std::uintptr_t>(self->rseq.area.get());

	return mprotect(reinterpret_cast<void *>(start & ~(size - 1)), size, protection);
}

/*
 * A child that has changed an ID and protects its area before event() handles SIGSEGV if the area
 * can be written. If not, nobody could put the right IDs there for the handler: it does not run.
 */
template <typename Event>
void expect_handler_only_with_ids(Self *self, const Params *variant, Event &&event)
{
	static Self *child_self;
	const bool v2 = is_v2(variant->mode);

	child_self = self;
	ASSERT_EQ(handle_signal(SIGSEGV, [](int, siginfo_t *, void *) {
		child_self->reach(child_self->stored() == child_self->value ?
				  in_handler_with_wrong_id : in_handler);
	}), 0);
	for (const Field &field : fields) {
		Context context("%s written", field.name);
		auto child = [&](int protection) {
			unsigned int round = 0;

			/* Debug mode finds it before the area is protected, if there is an event: again. */
			do {
				EXPECT_EQ(protect_area(self, PROT_READ | PROT_WRITE), 0);
				self->field = field;
				self->value = ~self->stored();
				self->reach(changed);
				self->store(self->value);
				EXPECT_EQ(protect_area(self, protection), 0);
				event();
			} while (protection == PROT_READ && self->progress->step == in_handler &&
				 round++ < max_rounds);
		};

		self->reach(started);
		EXPECT_SURVIVAL({ child(PROT_READ | PROT_WRITE); });
		EXPECT_EQ(self->progress->step, v2 ? in_handler : changed);
		self->reach(started);
		EXPECT_DEATH(SIGSEGV, { child(PROT_READ); });
		/* In v1 there may be one, which is doomed when it returns. */
		if (v2)
			EXPECT_EQ(self->progress->step, changed);
	}
}

} /* namespace */

TEST_F(id_tamper, no_handler_without_ids)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant, false, Rival::no));
	expect_handler_only_with_ids(self, variant, [&] { pin(self->other); });
}

/* ---- Debug mode: the next event, whatever it is ---- */

namespace {

/*
 * Nothing else may enter the kernel between the store and the event: on return from a system
 * call, debug mode looks as well.
 */
template <typename Event>
void change_and_wait(Self *self, int cpu, Event &&event)
{
	if (self->has_rival)
		self->rival.wait_for_progress();

	const std::uint32_t right = self->stored();
	const std::uint32_t value = self->value == right ? ~right : self->value;

	/* The step first: after the store, any event will do. */
	event([&] {
		self->reach(changed);
		self->store(self->restore ? right : value);
	});
	self->reach(event_passed);
	/* Who lives has changed nothing, or what it has changed is gone. */
	expect_right_ids(self, cpu);
}

} /* namespace */

TEST_F(id_tamper, debug_mode_dies_when_preempted_in_v2)
{
	ASSERT_NO_FAILURE(open(self, variant, true));
	STEP("children that are preempted");
	for_each_change(self, is_v2(variant->mode), changed, [&] {
		change_and_wait(self, self->cpu, [&](auto &&change) {
			change();
			self->rival.wait_for_progress();
		});
	});
}

/* The handler, and what follows, must not run with what user space wrote either. */
TEST_F(id_tamper, debug_mode_handler_finds_the_right_ids)
{
	ASSERT_NO_FAILURE(open(self, variant, true));
	ASSERT_EQ(handle_signal(SIGSEGV, look_at_ids), 0);
	handler_state.area = &self->rseq.area;
	for (const Field &field : fields) {
		Context context("%s written", field.name);

		EXPECT_SURVIVAL({
			const std::uint32_t wrong = ~self->rseq.area.word(field.offset);

			STEP("returning from a system call");
			self->rseq.area.set_word(field.offset, wrong);
			own_tid();
			EXPECT_EQ(handler_state.segv_hits, is_v2(variant->mode));
			if (is_v2(variant->mode)) {
				EXPECT_EQ(handler_state.cpu_id_start, self->cpu);
				EXPECT_EQ(handler_state.cpu_id, self->cpu);
				expect_right_ids(self, self->cpu);
			}
			STEP("preempted");
			self->rseq.area.set_word(field.offset, wrong);
			self->rival.wait_for_progress();
			EXPECT_EQ(handler_state.segv_hits, 2 * is_v2(variant->mode));
			expect_right_ids(self, self->cpu);
		});
	}
}

TEST_F(id_tamper, debug_mode_dies_at_signal_in_v2)
{
	ASSERT_NO_FAILURE(open(self, variant, true, Rival::no));
	STEP("children that get a signal");
	/*
	 * Returning from the handler is a system call: who dies there has died too late. So would
	 * a child whose handler blocks SIGSEGV.
	 */
	handler_state.progress = &*self->progress;
	ASSERT_EQ(handle_signal(SIGALRM, count_hit, SA_NODEFER), 0);
	for_each_change(self, is_v2(variant->mode), changed, [&] {
		change_and_wait(self, self->cpu, [&](auto &&change) {
			unsigned int round = 0;

			/* Until the timer was slower than the store. */
			while (!handler_state.hits_changed && round++ < max_rounds) {
				unsigned int hits = handler_state.hits;

				arm_timer(timer_us);
				if (handler_state.hits == hits) {
					change();
					handler_state.changed = true;
				}
				spin_until([&] { return handler_state.hits != hits; });
			}
			EXPECT_LE(round, max_rounds);
		});
	});
}

TEST_F(id_tamper, debug_mode_dies_after_sleep_in_v2)
{
	ASSERT_NO_FAILURE(open(self, variant, true));
	STEP("children that sleep");
	for_each_change(self, is_v2(variant->mode), changed, [&] {
		change_and_wait(self, self->cpu, [&](auto &&change) {
			change();
			self->rival.sleep(self->rival.request());
		});
	});
}

/* The thread that calls membarrier belongs to the child: it is the memory that is registered. */
TEST_F(id_tamper, debug_mode_dies_at_membarrier_in_v2)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	ASSERT_NO_FAILURE(open(self, variant, true, Rival::no));
	STEP("children that are hit by membarrier");
	for_each_change(self, is_v2(variant->mode), changed, [&] {
		Agent barrier;

		ASSERT_EQ(barrier.start_thread(self->other, [](std::uint32_t) {
			EXPECT_EQ(sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ), 0);
		}), 0);
		change_and_wait(self, self->cpu, [&](auto &&change) {
			change();
			barrier.wait(barrier.request());
		});
	});
}

TEST_F(id_tamper, debug_mode_dies_at_migration_in_v2)
{
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_NO_FAILURE(open(self, variant, true));
	STEP("children that migrate");
	for_each_change(self, is_v2(variant->mode), changed, [&] {
		change_and_wait(self, self->other, [&](auto &&change) {
			change();
			pin(self->other);
		});
	});
}

TEST_F(id_tamper, debug_mode_dies_when_moved_in_v2)
{
	ASSERT_NO_FAILURE(start_mover(self));
	ASSERT_NO_FAILURE(open(self, variant, true, Rival::no));
	STEP("children that are moved by another process");
	for_each_change(self, is_v2(variant->mode), changed, [&] {
		self->progress->tid = own_tid();
		change_and_wait(self, self->other, [&](auto &&change) {
			change();
			self->mover.wait(self->mover.request());
		});
	});
}

/* Return from the system call that protects the area is enough. v1 needs an event. */
TEST_F(id_tamper, debug_mode_no_handler_without_ids)
{
	ASSERT_NO_FAILURE(open(self, variant, true, Rival::no));
	expect_handler_only_with_ids(self, variant, [&] {
		if (!is_v2(variant->mode))
			send_signal(getpid(), own_tid(), SIGUSR1);
	});
}
