// SPDX-License-Identifier: GPL-2.0
/*
 * R9: the time slice extension (7.0 and later) comes with the length. A registration of more than
 * 32 bytes gets it through prctl() and loses it with the registration; v1, and v2 with 32 bytes, do
 * not: prctl() is refused with EOPNOTSUPP, and a request in the word at offset 28 has no effect.
 *
 * A request is granted when an interrupt is about to switch the thread out. A rival on its CPU sees
 * to that, some rounds may be needed: an interrupt may have more to do, which denies it, and the time
 * that is granted may be over before the thread runs again.
 */
#include "files.hpp"
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What headers before 7.0 do not have. */
#ifndef PR_RSEQ_SLICE_EXTENSION
#define PR_RSEQ_SLICE_EXTENSION		79
#define PR_RSEQ_SLICE_EXTENSION_GET	1
#define PR_RSEQ_SLICE_EXTENSION_SET	2
#define PR_RSEQ_SLICE_EXT_ENABLE	1
#endif
#ifndef __NR_rseq_slice_yield
#define __NR_rseq_slice_yield		471
#endif

using namespace selftest;

namespace {

constexpr int flag_default_on = 1 << 1;		/* RSEQ_FLAG_SLICE_EXT_DEFAULT_ON */

/* In the flags of the area. */
constexpr std::uint32_t available = 1 << 4;	/* RSEQ_CS_FLAG_SLICE_EXT_AVAILABLE */
constexpr std::uint32_t enabled = 1 << 5;	/* RSEQ_CS_FLAG_SLICE_EXT_ENABLED */

/* struct rseq_slice_ctrl: two bytes, as a little endian word. */
constexpr std::size_t word_offset = 28;
constexpr std::uint32_t requested = 0x0001;
constexpr std::uint32_t granted = 0x0100;

constexpr unsigned int max_rounds = 300;
constexpr unsigned int nr_preemptions = 50;
constexpr unsigned int nr_grants = 50;
constexpr unsigned int wanted_switches = 6;
constexpr unsigned int max_revoked = 40;
constexpr unsigned int max_revoking_rounds = 2000;

/* 0 or an errno. */
int slice_prctl(unsigned long operation, unsigned long arg, unsigned long arg4 = 0,
		unsigned long arg5 = 0)
{
	return prctl(PR_RSEQ_SLICE_EXTENSION, operation, arg, arg4, arg5) < 0 ? errno : 0;
}

int set(bool on)
{
	return slice_prctl(PR_RSEQ_SLICE_EXTENSION_SET, on ? PR_RSEQ_SLICE_EXT_ENABLE : 0);
}

/* What is enabled, or -1. */
int get()
{
	return prctl(PR_RSEQ_SLICE_EXTENSION, PR_RSEQ_SLICE_EXTENSION_GET, 0, 0, 0);
}

/* 1 if the thread gave back the rest of what it was granted, 0 if there was none. */
long yield_slice()
{
	return syscall(__NR_rseq_slice_yield);
}

/* The longest time that can be granted, for a CPU that is emulated. */
class SliceTime {
public:
	SliceTime() = default;
	~SliceTime()
	{
		if (before_[0])
			EXPECT_EQ(write_file(path, before_), 0);
	}
	SliceTime(const SliceTime &) = delete;
	SliceTime &operator=(const SliceTime &) = delete;

	/* Why not, or nullptr. */
	const char *extend()
	{
		int err = read_file(path, before_, sizeof(before_));

		if (!err)
			err = write_file(path, "50000");
		return err ? strerror(err) : nullptr;
	}

private:
	static constexpr const char *path = "/sys/kernel/debug/rseq/slice_ext_nsec";

	char before_[16] = "";
};

} /* namespace */

FIXTURE(slice_extension) {
	RseqDebug debug;
	Rseq rseq;
	Agent rival;		/* on the same CPU */
	SliceTime time;
	RseqStats before, after;
	int cpu = last_cpu();
	bool built_in = false;
	int refusal = 0;	/* what prctl() has to answer to the mode */

	std::uint32_t word() const { return rseq.area.word(word_offset); }
	void set_word(std::uint32_t value) { rseq.area.set_word(word_offset, value); }
	long increase(const char *name) const { return after.value(name) - before.value(name); }
};

FIXTURE_MODES(slice_extension);

FIXTURE_SETUP(slice_extension)
{
	/* Also on a kernel where nothing but the answer is there. */
	if (get() < 0 && errno == EINVAL)
		SKIP("kernel has no PR_RSEQ_SLICE_EXTENSION");
	self->built_in = get() >= 0;
	self->refusal = self->built_in && variant->mode == Mode::v2_size ? 0 : EOPNOTSUPP;
	ASSERT_EQ(self->debug.set(false), nullptr);
	ASSERT_EQ(pin(self->cpu), 0);
}

namespace {

using Self = slice_extension_data;
using Params = slice_extension_variant;

/* Registered, and everything is there to get a time slice extension and to see it. */
void prepare(Self *self, const Params *variant)
{
	if (!self->built_in)
		SKIP("CONFIG_RSEQ_SLICE_EXTENSION is not set");

	const char *missing = self->time.extend();

	if (!missing)
		missing = self->before.load();
	if (missing)
		SKIP("rseq/ in debugfs: %s", missing);
	ASSERT_GE(self->before.value("sgrant"), 0);
	ASSERT_EQ(self->rival.start_rival(self->cpu), 0);
	if (!self->rseq.open(variant->mode))
		return;
	ASSERT_EQ(self->before.load(), nullptr);
}

void prepare_enabled(Self *self, const Params *variant)
{
	if (variant->mode != Mode::v2_size)
		SKIP("not available in %s", mode_name(variant->mode));
	ASSERT_NO_FAILURE(prepare(self, variant));
	ASSERT_EQ(set(true), 0);
}

/* No system call in here. True if the thread has an extension when it returns. */
bool wait_for_grant(Self *self)
{
	for (unsigned int i = 0; i < max_rounds; i++) {
		self->set_word(requested);
		spin_until([&] { return self->word() != requested; });
		if (self->word() == granted)
			return true;
	}
	return false;
}

void expect_no_grant(Self *self, const Params *variant)
{
	Switches switched = switches();

	for (unsigned int i = 0; i < nr_preemptions; i++) {
		self->set_word(requested);
		self->rival.wait_for_progress();
		/* Not the kernel's word in v1, and a request that came too late in v2. */
		EXPECT_EQ(self->word(), is_v2(variant->mode) ? 0 : requested);
	}
	switched = switches() - switched;
	EXPECT_GE(switched.involuntary, nr_preemptions);
	EXPECT_EQ(yield_slice(), 0);
	ASSERT_EQ(self->after.load(), nullptr);
	EXPECT_EQ(self->increase("sgrant"), 0);
}

} /* namespace */

/* ---- Who gets it ---- */

/* The number of an error that only the kernel knows has no name. */
TEST_F(slice_extension, prctl_answers)
{
	if (!self->rseq.open(variant->mode))
		return;

	Area &area = self->rseq.area;
	const bool gets_it = !self->refusal;

	EXPECT_EQ(area.flags(), gets_it ? available : 0);
	EXPECT_EQ(set(true), self->refusal);
	EXPECT_EQ(get(), self->built_in ? gets_it : -1);
	EXPECT_EQ(area.flags(), gets_it ? available | enabled : 0);
	EXPECT_EQ(set(true), self->refusal);
	EXPECT_EQ(set(false), self->refusal);
	EXPECT_EQ(get(), self->built_in ? 0 : -1);
	EXPECT_EQ(area.flags(), gets_it ? available : 0);
	if (!self->built_in) {
		EXPECT_EQ(slice_prctl(PR_RSEQ_SLICE_EXTENSION_GET, 0), EOPNOTSUPP);
		return;
	}
	EXPECT_EQ(slice_prctl(PR_RSEQ_SLICE_EXTENSION_GET, 1), EINVAL);
	EXPECT_EQ(slice_prctl(PR_RSEQ_SLICE_EXTENSION_GET, 0, 1), EINVAL);
	EXPECT_EQ(slice_prctl(PR_RSEQ_SLICE_EXTENSION_GET, 0, 0, 1), EINVAL);
	EXPECT_EQ(slice_prctl(PR_RSEQ_SLICE_EXTENSION_SET, PR_RSEQ_SLICE_EXT_ENABLE << 1), EINVAL);
	EXPECT_EQ(slice_prctl(PR_RSEQ_SLICE_EXTENSION_SET, 0, 1), EINVAL);
	EXPECT_EQ(slice_prctl(0, 0), EINVAL);
	EXPECT_EQ(slice_prctl(3, 0), EINVAL);
	EXPECT_EQ(get(), 0);
}

TEST_F(slice_extension, unregistered)
{
	const int wanted = self->built_in ? ENXIO : EOPNOTSUPP;

	EXPECT_EQ(set(true), wanted);
	EXPECT_EQ(set(false), wanted);
	EXPECT_EQ(get(), self->built_in ? 0 : -1);
	if (self->built_in)
		EXPECT_EQ(yield_slice(), 0);
}

/* RSEQ_FLAG_SLICE_EXT_DEFAULT_ON is accepted by all, and has an effect where there is one. */
TEST_F(slice_extension, on_by_default)
{
	Request request = request_for(variant->mode);
	Area &area = self->rseq.area;

	if (!request.available())
		SKIP("%s", request.missing);
	request.flags |= flag_default_on;
	ASSERT_EQ(area.map(request.length, request.align), 0);
	ASSERT_EQ(self->rseq.registration.open(area, request), 0);
	EXPECT_EQ(area.flags(), self->refusal ? 0 : available | enabled);
	EXPECT_EQ(get(), !self->built_in ? -1 : !self->refusal);
	EXPECT_EQ(set(true), self->refusal);
	EXPECT_EQ(sys_rseq(area.get(), request.length, RSEQ_FLAG_UNREGISTER | flag_default_on,
			   SECTION_SIGNATURE), EINVAL);
	ASSERT_EQ(self->rseq.registration.close(), 0);

	/* Nothing of it is left for the next one. */
	ASSERT_EQ(self->rseq.registration.open(area, request_for(variant->mode)), 0);
	EXPECT_EQ(area.flags(), self->refusal ? 0 : available);
	EXPECT_EQ(get(), self->built_in ? 0 : -1);
}

TEST_F(slice_extension, word_is_clear_after_registration)
{
	const Request request = request_for(variant->mode);
	const std::uint32_t stale[] = { requested, granted, requested | granted, 0xffff0000 };

	if (!request.available())
		SKIP("%s", request.missing);
	for (std::uint32_t value : stale) {
		Context context("0x%08x before the registration", value);
		Rseq rseq;

		ASSERT_EQ(rseq.area.map(request.length, request.align), 0);
		rseq.area.set_word(word_offset, value);
		ASSERT_EQ(rseq.registration.open(rseq.area, request), 0);
		EXPECT_EQ(rseq.area.word(word_offset), is_v2(variant->mode) ? 0 : value);
	}
}

/* ---- What it does ---- */

TEST_F(slice_extension, is_granted_and_given_back)
{
	long yielded = 0, rounds = 0;

	ASSERT_NO_FAILURE(prepare_enabled(self, variant));
	while (!yielded && rounds++ < max_rounds && wait_for_grant(self)) {
		yielded = yield_slice();
		EXPECT_EQ(self->word(), 0);
	}
	EXPECT_EQ(yielded, 1);
	EXPECT_EQ(yield_slice(), 0);
	ASSERT_EQ(self->after.load(), nullptr);
	note("%ld rounds: %ld granted, %ld yielded, %ld aborted, %ld expired", rounds,
	     self->increase("sgrant"), self->increase("syield"), self->increase("sabort"),
	     self->increase("sexpir"));
	EXPECT_GE(self->increase("sgrant"), 1);
	EXPECT_GE(self->increase("syield"), 1);
	EXPECT_EQ(self->rseq.area.cpu_id(), self->cpu);
	EXPECT_TRUE(self->rseq.area.canaries_intact());
}

/* Any system call ends it, and lets the scheduler choose, which may choose the same thread again. */
TEST_F(slice_extension, ends_with_any_system_call)
{
	long aborted = 0, switched = 0;

	ASSERT_NO_FAILURE(prepare_enabled(self, variant));
	for (unsigned int i = 0; i < max_rounds && !(aborted && switched); i++) {
		ASSERT_TRUE(wait_for_grant(self));

		std::uint64_t seen = self->rival.progress();

		syscall(__NR_getppid);
		EXPECT_EQ(self->word(), 0);
		switched += self->rival.progress() != seen;
		EXPECT_EQ(yield_slice(), 0);
		ASSERT_EQ(self->after.load(), nullptr);
		aborted = self->increase("sabort");
	}
	EXPECT_GT(aborted, 0);
	EXPECT_GT(switched, 0);
}

/* Who does not give it back loses it. */
TEST_F(slice_extension, ends_in_time)
{
	long switched = 0;

	ASSERT_NO_FAILURE(prepare_enabled(self, variant));
	for (unsigned int i = 0; i < max_rounds && !switched; i++) {
		ASSERT_TRUE(wait_for_grant(self));

		std::uint64_t seen = self->rival.progress();

		spin_until([&] { return self->word() != granted; });
		EXPECT_EQ(self->word(), 0);
		switched += self->rival.progress() != seen;
		EXPECT_EQ(yield_slice(), 0);
	}
	EXPECT_GT(switched, 0);
	ASSERT_EQ(self->after.load(), nullptr);
	EXPECT_GE(self->increase("sexpir") + self->increase("srevok"), 1);
}

/*
 * membarrier takes it away, and the switch that was put off is due. Not at the next tick: rounds in
 * which the time was over as well do not count. On a host with other work that is most of them. The
 * scheduler may choose the same thread again, and a tick can come together with the revocation.
 */
TEST_F_TIMEOUT(slice_extension, ends_with_membarrier, 120)
{
	unsigned int rounds = 0, revoked = 0, switched = 0;
	Agent barrier;

	if (nr_cpus() < 2)
		SKIP("needs two CPUs");
	ASSERT_EQ(sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ), 0);
	ASSERT_EQ(barrier.start_thread(cpu_at(0), [](std::uint32_t) {
		EXPECT_EQ(sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ), 0);
	}), 0);
	ASSERT_NO_FAILURE(prepare_enabled(self, variant));
	for (; rounds < max_revoking_rounds && revoked < max_revoked && switched < wanted_switches;
	     rounds++) {
		ASSERT_EQ(self->before.load(), nullptr);
		ASSERT_TRUE(wait_for_grant(self));

		std::uint64_t seen = self->rival.progress();
		std::uint32_t ticket = barrier.request();

		spin_until([&] { return self->word() != granted; });

		const bool ran = self->rival.progress() != seen;

		barrier.wait(ticket);
		ASSERT_EQ(self->after.load(), nullptr);
		if (self->increase("sexpir"))
			continue;
		revoked++;
		switched += ran;
	}
	note("%u rounds, %u revoked, the rival ran in %u", rounds, revoked, switched);
	EXPECT_EQ(switched, wanted_switches);
}

/* In v2 by size as long as nobody has asked for it, in the others never. */
TEST_F(slice_extension, not_granted_unless_enabled)
{
	ASSERT_NO_FAILURE(prepare(self, variant));
	expect_no_grant(self, variant);
}

TEST_F(slice_extension, not_granted_after_refusal)
{
	ASSERT_NO_FAILURE(prepare(self, variant));
	EXPECT_EQ(set(true), self->refusal);
	EXPECT_EQ(set(false), self->refusal);
	expect_no_grant(self, variant);
}

/* ---- How long it lasts ---- */

TEST_F(slice_extension, ends_with_the_registration)
{
	if (!self->built_in)
		SKIP("CONFIG_RSEQ_SLICE_EXTENSION is not set");
	if (!self->rseq.open(variant->mode))
		return;
	EXPECT_EQ(set(true), self->refusal);
	ASSERT_EQ(self->rseq.registration.close(), 0);
	EXPECT_EQ(get(), 0);
	EXPECT_EQ(set(true), ENXIO);

	/* The next one has to ask again, and may be one that does not get it. */
	for (Mode mode : { Mode::v1, Mode::v2_flag, variant->mode }) {
		Context context("then %s", mode_name(mode));
		Rseq rseq;

		if (!request_for(mode).available())
			continue;
		if (!rseq.open(mode))
			return;
		EXPECT_EQ(get(), 0);
		EXPECT_EQ(set(true), mode == Mode::v2_size ? 0 : EOPNOTSUPP);
		EXPECT_EQ(get(), mode == Mode::v2_size);
	}
	EXPECT_EQ(get(), 0);
}

TEST_F(slice_extension, fork_keeps_it)
{
	ASSERT_NO_FAILURE(prepare_enabled(self, variant));
	EXPECT_SURVIVAL({
		EXPECT_EQ(get(), 1);
		EXPECT_TRUE(wait_for_grant(self));
		EXPECT_EQ(set(false), 0);
		EXPECT_EQ(self->rseq.area.flags(), available);
	});
	/* The parent has its own. */
	EXPECT_EQ(get(), 1);
	EXPECT_EQ(self->rseq.area.flags(), available | enabled);
	EXPECT_TRUE(wait_for_grant(self));
}

TEST_F(slice_extension, threads_start_without)
{
	std::atomic<int> answers[2] = { -1, -1 };
	Thread thread;

	ASSERT_NO_FAILURE(prepare_enabled(self, variant));
	ASSERT_EQ(thread.start([&answers](Thread::Stop) {
		answers[0] = get();
		answers[1] = set(true);
	}), 0);
	thread.join();
	EXPECT_EQ(answers[0].load(), 0);
	EXPECT_EQ(answers[1].load(), ENXIO);
	EXPECT_EQ(get(), 1);
}

/* What the executed program runs. */
TEST_F_HIDDEN(slice_extension, nothing_left_after_exec, 20)
{
	EXPECT_EQ(get(), 0);
	EXPECT_EQ(set(true), ENXIO);
	if (!self->rseq.open(variant->mode))
		return;
	EXPECT_EQ(get(), 0);
}

TEST_F(slice_extension, exec_clears)
{
	char name[] = "slice_extension_test", option[] = "-r";
	char target[] = "slice_extension.v2_size.nothing_left_after_exec";
	char *argv[] = { name, option, target, nullptr };

	ASSERT_NO_FAILURE(prepare_enabled(self, variant));
	EXPECT_SURVIVAL({
		EXPECT_EQ(get(), 1);
		/* Its results are not results of this program. */
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
		EXPECT_TRUE(wait_for_grant(self));
		exec_self(argv);
		_exit(1);
	});
}

TEST_F(slice_extension, exit_within_it)
{
	ASSERT_NO_FAILURE(prepare_enabled(self, variant));
	for (unsigned int i = 0; i < 10; i++)
		EXPECT_SURVIVAL({ EXPECT_TRUE(wait_for_grant(self)); });
}

/* ---- Who changes what is the kernel's ---- */

TEST_F(slice_extension, changed_flags_kill)
{
	if (self->refusal)
		SKIP("not available");
	if (!self->rseq.open(variant->mode))
		return;

	Area &area = self->rseq.area;
	constexpr std::size_t flags_offset = offsetof(struct rseq, flags);

	EXPECT_DEATH(SIGSEGV, {
		area.set_word(flags_offset, 0);
		set(true);
	});
	EXPECT_SURVIVAL({
		area.set_word(flags_offset, available);
		EXPECT_EQ(set(true), 0);
	});
}

TEST_F(slice_extension, changed_grant_kills_in_debug_mode)
{
	ASSERT_NO_FAILURE(prepare_enabled(self, variant));

	/* May be too late: then nothing looks at the word any more. */
	auto change_grant = [&](unsigned int times) {
		for (unsigned int i = 0; i < times; i++) {
			EXPECT_TRUE(wait_for_grant(self));
			self->set_word(0xffff0000);
			syscall(__NR_getppid);
		}
	};

	EXPECT_SURVIVAL(change_grant(nr_grants));
	ASSERT_EQ(self->debug.set(true), nullptr);
	EXPECT_DEATH(SIGSEGV, change_grant(max_rounds));
	EXPECT_SURVIVAL({
		for (unsigned int i = 0; i < nr_grants; i++) {
			EXPECT_TRUE(wait_for_grant(self));
			syscall(__NR_getppid);
		}
	});
}
