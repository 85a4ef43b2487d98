// SPDX-License-Identifier: GPL-2.0
/*
 * R14: who is in v1, and who was killed for what. Counters in debugfs rseq/stats, and a
 * tracepoint at registration, read in a trace instance of its own.
 */
#include "files.hpp"
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr long registrations = 500;
/* What other programs of a system may register meanwhile; nothing in a guest. */
constexpr long noise = 50;
constexpr long kills = 4;

} /* namespace */

/*
 * Debug mode is off unless somebody asked for it, and every test puts back what it found. On by
 * itself it would hide how v2 is outside of it.
 */
TEST(debug_mode_is_as_booted)
{
	char words[2048] = "";
	bool wanted = false;

	if (access("/sys/kernel/debug/rseq/debug", R_OK))
		SKIP("no rseq/debug in debugfs");
	ASSERT_EQ(read_file("/proc/cmdline", words, sizeof(words)), 0);
	for (char *save, *word = strtok_r(words, " \n", &save); word;
	     word = strtok_r(nullptr, " \n", &save))
		wanted |= !strcmp(word, "rseq_debug=1");
	EXPECT_EQ(rseq_debug_enabled(), wanted);
}

/* ---- Counters ---- */

FIXTURE(stats) {
	RseqDebug debug;
	Rseq rseq;
	Request request;
	RseqStats before, after;

	long increase(const char *name) const { return after.value(name) - before.value(name); }
	/* Not there means that nothing can be found out: a failure, not a skip. */
	void expect_counters()
	{
		for (const char *name : { "regv1", "regv2", "badids", "badsys" }) {
			Context context("counter %s", name);

			EXPECT_GE(before.value(name), 0);
		}
	}
};

FIXTURE_MODES(stats);

FIXTURE_SETUP(stats)
{
	const char *missing = self->before.load();

	if (missing)
		SKIP("%s", missing);
	self->request = request_for(variant->mode);
	if (!self->request.available())
		SKIP("%s", self->request.missing);
	/* Debug mode kills for a system call in a section in v1, too. */
	ASSERT_EQ(self->debug.set(false), nullptr);
	ASSERT_EQ(pin(last_cpu()), 0);
}

TEST_F(stats, counts_registrations)
{
	const char *own = is_v2(variant->mode) ? "regv2" : "regv1";
	const char *other = is_v2(variant->mode) ? "regv1" : "regv2";
	Area &area = self->rseq.area;

	ASSERT_NO_FAILURE(self->expect_counters());
	ASSERT_EQ(area.map(self->request.length, self->request.align), 0);
	for (long i = 0; i < registrations; i++) {
		Registration registration;

		ASSERT_EQ(registration.open(area, self->request), 0);
	}
	ASSERT_EQ(self->after.load(), nullptr);
	note("%s +%ld, %s +%ld", own, self->increase(own), other, self->increase(other));
	EXPECT_GE(self->increase(own), registrations);
	EXPECT_LT(self->increase(own), registrations + noise);
	EXPECT_LT(self->increase(other), noise);
	EXPECT_LT(self->increase("badids"), noise);
	EXPECT_LT(self->increase("badsys"), noise);
}

TEST_F(stats, refused_registrations_do_not_count)
{
	Area &area = self->rseq.area;

	ASSERT_NO_FAILURE(self->expect_counters());
	if (!self->rseq.open(variant->mode))
		return;
	for (long i = 0; i < registrations; i++) {
		ASSERT_EQ(sys_rseq(area.get(), self->request.length, self->request.flags,
				   SECTION_SIGNATURE), EBUSY);
		ASSERT_EQ(sys_rseq(area.get(), 0, self->request.flags, SECTION_SIGNATURE), EINVAL);
	}
	ASSERT_EQ(self->after.load(), nullptr);
	EXPECT_LT(self->increase("regv1"), noise);
	EXPECT_LT(self->increase("regv2"), noise);
}

namespace {

using Self = stats_data;
using Params = stats_variant;

/* The children do body(), which kills or does no harm; counter has to tell. */
template <typename Body>
void expect_kills(Self *self, const Params *variant, bool dies, const char *counter,
		  const char *other, Body &&body)
{
	ASSERT_NO_FAILURE(self->expect_counters());
	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	if (!self->rseq.open(variant->mode))
		return;
	ASSERT_EQ(self->before.load(), nullptr);
	for (long i = 0; i < kills; i++) {
		if (dies)
			EXPECT_DEATH(SIGSEGV, body());
		else
			EXPECT_SURVIVAL(body());
	}
	ASSERT_EQ(self->after.load(), nullptr);
	EXPECT_EQ(self->increase(counter), dies ? kills : 0);
	EXPECT_EQ(self->increase(other), 0);
}

cpu_set_t only(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return set;
}

} /* namespace */

/* R4: the twin in v1 does the same, lives, and is not counted. */
TEST_F(stats, changed_ids_are_counted)
{
	Area &area = self->rseq.area;

	expect_kills(self, variant, is_v2(variant->mode), "badids", "badsys", [&] {
		Ids wrong = area.ids();

		wrong.cpu_id_start ^= 0x80000000;
		area.set_ids(wrong);
		pin(cpu_at(0));
	});
}

/* R5, without debug mode: the IDs change during the system call. */
TEST_F(stats, system_call_in_section_is_counted)
{
	const cpu_set_t target = only(cpu_at(0));

	expect_kills(self, variant, is_v2(variant->mode), "badsys", "badids", [&] {
		int aborted;

		/* Aborted by an interrupt before the call, it is still here. */
		do {
			aborted = system_call(self->rseq.area.get(), __NR_sched_setaffinity, 0,
					      sizeof(target), reinterpret_cast<long>(&target));
		} while (aborted && location().cpu != static_cast<std::uint32_t>(cpu_at(0)));
	});
}

/* ---- Debug mode has checks of its own ---- */

namespace {

void enable_debug(Self *self)
{
	if (const char *missing = self->debug.set(true))
		SKIP("%s", missing);
}

} /* namespace */

TEST_F(stats, debug_mode_counts_changed_ids)
{
	ASSERT_NO_FAILURE(enable_debug(self));
	expect_kills(self, variant, is_v2(variant->mode), "badids", "badsys", [&] {
		self->rseq.area.set_ids(impossible_ids);
		own_tid();
	});
}

TEST_F(stats, debug_mode_counts_changed_ids_at_signal)
{
	static volatile unsigned int hits, hits_changed;
	static volatile bool changed;
	constexpr long timer_us = 1000;
	constexpr unsigned int max_rounds = 50;

	ASSERT_NO_FAILURE(enable_debug(self));
	ASSERT_EQ(handle_signal(SIGALRM, [](int, siginfo_t *, void *) {
		hits = hits + 1;
		hits_changed = hits_changed + changed;
	}), 0);
	expect_kills(self, variant, is_v2(variant->mode), "badids", "badsys", [&] {
		/* Until the timer was slower than the store. */
		for (unsigned int i = 0; i < max_rounds && !hits_changed; i++) {
			const unsigned int before = hits;

			arm_timer(timer_us);
			if (hits == before) {
				self->rseq.area.set_ids(impossible_ids);
				changed = true;
			}
			spin_until([&] { return hits != before; });
			changed = false;
		}
		EXPECT_EQ(hits_changed, 1);
	});
}

/* The twin of v2 dies as well. */
TEST_F(stats, debug_mode_counts_system_call_in_section)
{
	ASSERT_NO_FAILURE(enable_debug(self));
	expect_kills(self, variant, true, "badsys", "badids", [&] {
		/* Aborted by an interrupt before the call, there was none. */
		while (system_call(self->rseq.area.get(), __NR_getppid, 0, 0, 0))
			;
	});
}

/* ---- The tracepoint ---- */

namespace {

/* A ring buffer of its own: what others trace is neither seen nor disturbed. */
class TraceInstance {
public:
	TraceInstance() = default;
	~TraceInstance()
	{
		if (!path_[0])
			return;
		EXPECT_EQ(write("events/enable", "0"), 0);
		EXPECT_EQ(rmdir(path_), 0);
	}
	TraceInstance(const TraceInstance &) = delete;
	TraceInstance &operator=(const TraceInstance &) = delete;

	/* Why there is none, or nullptr. */
	const char *create()
	{
		const char *roots[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };

		for (const char *root : roots) {
			char path[sizeof(path_)];

			snprintf(path, sizeof(path), "%s/events/rseq", root);
			if (access(path, F_OK))
				continue;
			snprintf(path, sizeof(path), "%s/instances/rseq_test.%d", root, getpid());
			if (mkdir(path, 0700))
				return strerror(errno);
			memcpy(path_, path, sizeof(path_));
			return nullptr;
		}
		return "no rseq events in tracefs";
	}

	int write(const char *file, const char *text) const
	{
		char path[sizeof(path_) + 64];

		snprintf(path, sizeof(path), "%s/%s", path_, file);
		return write_file(path, text);
	}

	/* The lines of the event that begin with that, and the last one of them. */
	unsigned int find(const char *event, const char *start, char *last, std::size_t size) const
	{
		static char text[64 * 1024];
		char path[sizeof(path_) + 64];
		unsigned int found = 0;

		snprintf(path, sizeof(path), "%s/trace", path_);
		EXPECT_EQ(read_file(path, text, sizeof(text)), 0);
		for (char *save, *line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(nullptr, "\n", &save)) {
			const char *at = line[0] == '#' ? nullptr : strstr(line, event);

			if (!at || strncmp(at += strlen(event), start, strlen(start)))
				continue;
			snprintf(last, size, "%s", at);
			found++;
		}
		return found;
	}

private:
	char path_[96] = "";
};

} /* namespace */

FIXTURE(trace) {
	Area area;
	Request request;
	TraceInstance instance;
};

FIXTURE_MODES(trace);

FIXTURE_SETUP(trace)
{
	const char *missing = self->instance.create();

	if (missing)
		SKIP("%s", missing);
	self->request = request_for(variant->mode);
	if (!self->request.available())
		SKIP("%s", self->request.missing);
	ASSERT_EQ(self->area.map(self->request.length, self->request.align), 0);
}

TEST_F(trace, registration_is_traced)
{
	const Request &request = self->request;
	char start[32], wanted[128], line[128] = "";
	Process child;

	Shared<pid_t> tid;

	ASSERT_EQ(self->instance.write("events/rseq/rseq_register/enable", "1"), 0);
	ASSERT_EQ(child.start([&] {
		Thread thread;

		/* Not the first of its process: what is registered is a thread. */
		EXPECT_EQ(thread.start([&](Thread::Stop) {
			Registration registration;

			*tid = own_tid();
			/* What is refused, and the end, are not registrations. */
			sys_rseq(self->area.get(), 0, request.flags, SECTION_SIGNATURE);
			EXPECT_EQ(registration.open(self->area, request), 0);
			EXPECT_EQ(sys_rseq(self->area.get(), request.length, request.flags,
					   SECTION_SIGNATURE), EBUSY);
			EXPECT_EQ(registration.close(), 0);
		}), 0);
	}), 0);
	EXPECT_EQ(child.wait(), 0);

	const pid_t pid = *tid;

	EXPECT_NE(pid, child.pid());
	snprintf(start, sizeof(start), "pid=%d ", pid);
	snprintf(wanted, sizeof(wanted), "pid=%d len=%u flags=0x%x mode=%s", pid, request.length,
		 static_cast<unsigned int>(request.flags), is_v2(variant->mode) ? "v2" : "v1");
	EXPECT_EQ(self->instance.find("rseq_register: ", start, line, sizeof(line)), 1);
	EXPECT_STREQ(line, wanted);
}
