// SPDX-License-Identifier: GPL-2.0
/*
 * R2 and R3 for page faults: user space was interrupted, not in a system call.
 *
 *   A fault that sleeps is an event: a section is aborted in every mode, v1 rewrites the IDs.
 *   So is one that ends in a signal.
 *   A fault that does neither is none, and the section goes on.
 *
 * What sleeps is an access to memory that another process provides (userfaultfd), and only when the
 * thread sleeps: there is no system call around it that could be what was counted as a voluntary
 * switch, and no access that must be lucky to be late.
 */
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "sections.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned int wanted_rounds = 10;
constexpr unsigned int max_rounds = 400;

std::uintptr_t address(const void *label)
{
	return reinterpret_cast<std::uintptr_t>(label);
}

struct {
	const Area *area;
	void *page;
	std::size_t size;
	volatile unsigned int hits;
	std::uintptr_t ip;
	std::uint64_t rseq_cs;
	Ids seen;
} handler_state;

void make_accessible(int, siginfo_t *, void *ucontext)
{
	handler_state.seen = handler_state.area->ids();
	handler_state.ip = interrupted_ip(ucontext);
	handler_state.rseq_cs = handler_state.area->rseq_cs();
	handler_state.hits = handler_state.hits + 1;
	if (mprotect(handler_state.page, handler_state.size, PROT_READ | PROT_WRITE))
		_exit(1);
}

std::size_t page_size()
{
	return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

} /* namespace */

FIXTURE(page_fault) {
	RseqDebug debug;
	Rseq rseq;
	Agent provider;
	int cpu = last_cpu();
	int faults = -1;	/* from userfaultfd() */
	char *memory = nullptr;
	std::size_t size = 0;

	const volatile std::uint64_t *first_word() const
	{
		return reinterpret_cast<volatile std::uint64_t *>(memory);
	}
};

FIXTURE_MODES(page_fault);

FIXTURE_SETUP(page_fault)
{
	ASSERT_EQ(self->debug.set(false), nullptr);
	ASSERT_EQ(pin(self->cpu), 0);
}

FIXTURE_TEARDOWN(page_fault)
{
	if (self->memory)
		EXPECT_EQ(munmap(self->memory, self->size), 0);
	if (self->faults >= 0)
		EXPECT_EQ(close(self->faults), 0);
}

namespace {

using Self = page_fault_data;
using Params = page_fault_variant;

void map(Self *self, std::size_t size, int protection)
{
	void *map = mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(map, MAP_FAILED);
	self->memory = static_cast<char *>(map);
	self->size = size;
}

/* The job: take one fault, see the thread asleep, provide the page. */
void start_provider(Self *self)
{
	struct uffdio_api api = {};
	struct uffdio_register range = {};

	self->faults = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
	if (self->faults < 0 && errno == ENOSYS)
		SKIP("kernel has no userfaultfd");
	ASSERT_GE(self->faults, 0);
	api.api = UFFD_API;
	ASSERT_EQ(ioctl(self->faults, UFFDIO_API, &api), 0);
	ASSERT_NO_FAILURE(map(self, page_size(), PROT_READ | PROT_WRITE));
	range.range.start = address(self->memory);
	range.range.len = self->size;
	range.mode = UFFDIO_REGISTER_MODE_MISSING;
	ASSERT_EQ(ioctl(self->faults, UFFDIO_REGISTER, &range), 0);
	ASSERT_EQ(self->provider.start_process(
		cpu_at(0), [fd = self->faults, tid = own_tid(), page = range.range](std::uint32_t) {
		struct uffd_msg message = {};
		struct uffdio_zeropage zeros = { page, 0, 0 };

		if (read(fd, &message, sizeof(message)) != sizeof(message) ||
		    message.event != UFFD_EVENT_PAGEFAULT)
			_exit(1);
		while (thread_state(tid) != 'S')
			sched_yield();
		if (ioctl(fd, UFFDIO_ZEROPAGE, &zeros))
			_exit(1);
	}), 0);
}

/*
 * Calls access() over and over with the page away, and check() after those that slept, once and in
 * nothing but the fault.
 */
template <typename Access, typename Check>
void expect_sleeping_faults(Self *self, Access &&access, Check &&check)
{
	unsigned int slept = 0, rounds = 0;

	STEP("accessing a page that somebody else provides");
	while (slept < wanted_rounds && rounds++ < max_rounds) {
		ASSERT_EQ(madvise(self->memory, self->size, MADV_DONTNEED), 0);

		std::uint32_t ticket = self->provider.request();
		Switches before = switches();

		access();

		Switches during = switches() - before;

		/* A section that was aborted by something else has not got there. */
		(void)*self->first_word();
		self->provider.sleep(ticket);
		if (during != Switches{ 1, 0 })
			continue;
		slept++;
		check();
	}
	note("%u of %u accesses slept and were not preempted", slept, rounds);
	EXPECT_EQ(slept, wanted_rounds);
	EXPECT_TRUE(self->rseq.area.canaries_intact());
}

} /* namespace */

/* ---- The fault sleeps ---- */

TEST_F(page_fault, sleeping_inside_aborts)
{
	section_loads loads;
	int aborted = 0;

	ASSERT_NO_FAILURE(start_provider(self));
	if (!self->rseq.open(variant->mode))
		return;
	expect_sleeping_faults(self, [&] {
		loads = {};
		aborted = double_load(self->rseq.area.get(), self->first_word(), 0, &loads);
	}, [&] {
		EXPECT_EQ(aborted, 1);
		EXPECT_EQ(loads.committed, 0);
		EXPECT_EQ(self->rseq.area.rseq_cs(), 0);
	});
}

TEST_F(page_fault, sleeping_outside_clears)
{
	std::uint64_t left = 1;

	ASSERT_NO_FAILURE(start_provider(self));
	if (!self->rseq.open(variant->mode))
		return;
	expect_sleeping_faults(self, [&] {
		self->rseq.area.set_rseq_cs(&double_load_cs);
		(void)*self->first_word();
		left = self->rseq.area.rseq_cs();
	}, [&] { EXPECT_EQ(left, 0); });
}

TEST_F(page_fault, sleeping_rewrites_only_in_v1)
{
	const Ids poison = { 0x80000001, 0x80010002, 0x80020003, 0x80040004 };
	Area &area = self->rseq.area;
	Ids seen = {};

	ASSERT_NO_FAILURE(start_provider(self));
	if (!self->rseq.open(variant->mode))
		return;

	const Ids right = area.ids();

	expect_sleeping_faults(self, [&] {
		area.set_ids(poison);
		(void)*self->first_word();
		seen = area.ids();
		area.set_ids(right);
	}, [&] {
		const Ids &wanted = is_v2(variant->mode) ? poison : right;

		EXPECT_EQ(seen.cpu_id_start, wanted.cpu_id_start);
		EXPECT_EQ(seen.cpu_id, wanted.cpu_id);
		EXPECT_EQ(seen.node_id, wanted.node_id);
		if (is_v2(variant->mode))
			EXPECT_EQ(seen.mm_cid, wanted.mm_cid);
		else
			EXPECT_NE(seen.mm_cid, poison.mm_cid);
	});
}

/* ---- The fault ends in a signal ---- */

TEST_F(page_fault, signal_inside_aborts)
{
	const Ids poison = { 0x80000001, 0x80010002, 0x80020003, 0x80040004 };
	Area &area = self->rseq.area;

	ASSERT_NO_FAILURE(map(self, page_size(), PROT_NONE));
	ASSERT_EQ(handle_signal(SIGSEGV, make_accessible), 0);
	if (!self->rseq.open(variant->mode))
		return;

	const Ids right = area.ids();

	handler_state.area = &area;
	handler_state.page = self->memory;
	handler_state.size = self->size;
	STEP("accessing memory that is not accessible");
	for (unsigned int i = 0, clean = 0; clean < wanted_rounds; i++) {
		ASSERT_LT(i, max_rounds);
		ASSERT_EQ(mprotect(self->memory, self->size, PROT_NONE), 0);

		const unsigned int hits = handler_state.hits;
		section_loads loads = {};
		Switches before = switches();

		area.set_ids(poison);

		int aborted = double_load(area.get(), self->first_word(), 0, &loads);

		area.set_ids(right);
		/* Aborted by something else before the access. */
		if (handler_state.hits == hits)
			continue;
		ASSERT_EQ(handler_state.hits, hits + 1);
		ASSERT_EQ(handler_state.ip, address(double_load_abort));
		ASSERT_EQ(handler_state.rseq_cs, 0);
		ASSERT_EQ(aborted, 1);
		ASSERT_EQ(loads.committed, 0);
		if (switches() != before)
			continue;
		clean++;
		ASSERT_EQ(handler_state.seen.cpu_id_start,
			  is_v2(variant->mode) ? poison.cpu_id_start : right.cpu_id_start);
		ASSERT_EQ(handler_state.seen.node_id,
			  is_v2(variant->mode) ? poison.node_id : right.node_id);
	}
}

/* ---- The twin: memory that is just not there yet ---- */

TEST_F(page_fault, plain_fault_commits)
{
	unsigned int undisturbed = 0, commits = 0;

	ASSERT_NO_FAILURE(map(self, max_rounds * page_size(), PROT_READ | PROT_WRITE));
	if (!self->rseq.open(variant->mode))
		return;
	for (unsigned int i = 0; i < max_rounds; i++) {
		auto *x = reinterpret_cast<std::uint64_t *>(self->memory + i * page_size());
		section_loads loads = {};
		Switches before = switches();
		int aborted = double_load(self->rseq.area.get(), x, 0, &loads);

		if (switches() != before)
			continue;
		undisturbed++;
		commits += !aborted;
	}
	note("%u of %u undisturbed sections committed", commits, undisturbed);
	/* As for the other twin, cs_abort.*.undisturbed_commits. */
	EXPECT_GT(undisturbed, 0);
	EXPECT_GT(commits, undisturbed / 2);
}
