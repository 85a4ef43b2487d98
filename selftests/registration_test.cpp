// SPDX-License-Identifier: GPL-2.0
/*
 * R1: what rseq(2) accepts, which mode that is, and with which error it refuses the rest.
 *
 * The expected result of every call is computed here from the rules: the order of the errors is
 * unknown flag, not registered or other values, other signature, already registered, length and
 * alignment, address. Which mode a registration got is judged by what the kernel does with the
 * area: v2 sets the word at 28 to 0, v1 rewrites poisoned IDs before a signal handler runs.
 * R8: of an area where the memory ends, nothing beyond is needed.
 */
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"

#include <cerrno>
#include <cstring>
#include <linux/prctl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr unsigned char untouched = 0xa5;
/* A kernel that gets a grid wrong gets many rows wrong. */
constexpr unsigned int max_wrong = 6;

/* Bit 1 belongs to the time slice extension; where that is not known it is not either. */
#ifdef PR_RSEQ_SLICE_EXTENSION
constexpr int unused_flag_1 = 1 << 3;
#else
constexpr int unused_flag_1 = 1 << 1;
#endif

bool is_known(int flags)
{
	return flags == 0 || flags == flag_v2;
}

/* Everything that a registration promises. Leaves the thread unregistered. */
void expect_service(Area &area, std::uint32_t length, int flags, std::uint32_t signature,
		    Service wanted)
{
	const Location here = location();

	memset(area.get(), untouched, area.length());
	area.set_word(tail_offset, stale_tail);
	ASSERT_EQ(sys_rseq(area.get(), length, flags, signature), 0);
	EXPECT_EQ(area.cpu_id_start(), here.cpu);
	EXPECT_EQ(area.cpu_id(), here.cpu);
	EXPECT_EQ(area.node_id(), here.node);
	EXPECT_EQ(area.rseq_cs(), 0);
	EXPECT_EQ(area.word(tail_offset), wanted == Service::v2 ? 0 : stale_tail);
	EXPECT_EQ(observe_service(area), wanted);
	EXPECT_EQ(sys_rseq(area.get(), length, RSEQ_FLAG_UNREGISTER, signature), 0);
	EXPECT_TRUE(area.canaries_intact());
}

/* Refused, nothing written, and the thread is not registered. */
void expect_refusal(const Area &area, std::uint32_t length, int flags, int wanted)
{
	const auto *bytes = reinterpret_cast<const volatile unsigned char *>(area.get());
	std::uint32_t intact = 0;

	memset(area.get(), untouched, area.length());
	EXPECT_EQ(sys_rseq(area.get(), length, flags, SECTION_SIGNATURE), wanted);
	while (intact < area.length() && bytes[intact] == untouched)
		intact++;
	EXPECT_EQ(intact, area.length());
	EXPECT_TRUE(area.canaries_intact());
	EXPECT_EQ(sys_rseq(area.get(), length, RSEQ_FLAG_UNREGISTER, SECTION_SIGNATURE), EINVAL);
}

/* The page below the first address that the kernel does not give to anybody, or nullptr. */
unsigned char *map_last_page(std::size_t size)
{
	/* 2^n is where user space ends, for the n of some configuration; x86 leaves one page out. */
	for (unsigned int bits : { 56, 52, 48, 47, 42, 39 }) {
		for (unsigned int pages : { 1, 2 }) {
			void *wanted = reinterpret_cast<void *>((1UL << bits) - pages * size);
			void *page = mmap(wanted, size, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

			if (page == wanted)
				return static_cast<unsigned char *>(page);
			if (page != MAP_FAILED)
				munmap(page, size);
			/* Somebody is there already: the stack, for example. */
			else if (errno == EEXIST)
				return nullptr;
		}
	}
	return nullptr;
}

} /* namespace */

/* ---- Length, alignment and the flag, of a thread that is not registered ---- */

FIXTURE(registration_grid) { RseqDebug debug; };

FIXTURE_SETUP(registration_grid)
{
	ASSERT_EQ(pin(last_cpu()), 0);
	ASSERT_EQ(self->debug.set(false), nullptr);
}

TEST_F(registration_grid, length_and_alignment)
{
	const auto feature_size = static_cast<std::uint32_t>(getauxval(AT_RSEQ_FEATURE_SIZE));
	const auto feature_align = static_cast<std::uint32_t>(getauxval(AT_RSEQ_ALIGN));
	const std::uint32_t lengths[] = {
		0, 1, 4, 20, 28, 31, v1_length, 33, 40, 48, 63, 64, 65, 96, 128, 256, 1024,
		feature_size - 1, feature_size, feature_size + 1,
	};
	unsigned int rows = 0, accepted[2] = {}, wrong = 0;

	for (std::uint32_t length : lengths) {
		for (std::uint32_t align = 1; align <= 128; align *= 2) {
			for (int flags : { 0, flag_v2 }) {
				Context context("length %u, aligned to %u, flags %d", length,
						align, flags);
				bool original = length == v1_length && align >= v1_length;
				bool extended = length > v1_length && length >= feature_size &&
						align >= feature_align;
				bool v2 = extended || flags;
				unsigned int before = failures();
				Area area;

				ASSERT_EQ(area.map(length, align), 0);
				if (original || extended)
					expect_service(area, length, flags, SECTION_SIGNATURE,
						       v2 ? Service::v2 : Service::v1);
				else
					expect_refusal(area, length, flags, EINVAL);
				if (original || extended)
					accepted[v2]++;
				rows++;
				if (failures() != before && ++wrong == max_wrong)
					return note("no more after %u wrong rows", wrong);
			}
		}
	}
	note("%u rows: %u v1, %u v2", rows, accepted[0], accepted[1]);
	EXPECT_GT(accepted[0], 0);
	EXPECT_GT(accepted[1], 0);
}

/* A length is 32 bits, and none of them may be lost: the lower ones look like the original size. */
TEST_F(registration_grid, long_areas)
{
	const auto feature_size = static_cast<std::uint32_t>(getauxval(AT_RSEQ_FEATURE_SIZE));
	const auto feature_align = static_cast<std::uint32_t>(getauxval(AT_RSEQ_ALIGN));
	Area area;

	if (feature_size <= v1_length)
		SKIP("feature size is %u", feature_size);
	ASSERT_EQ(area.map(feature_size, feature_align), 0);
	/* Where the rest of it would be is user space, too, and nobody touches it. */
	for (std::uint32_t length : { 0x120U, 0x10020U, 0x1000020U, 0x7fffffffU }) {
		Context context("length 0x%x", length);

		expect_service(area, length, 0, SECTION_SIGNATURE, Service::v2);
	}
}

/* Every bit and every pair of bits; refused flags come before every other reason. */
TEST_F(registration_grid, flags)
{
	unsigned int rows = 0, wrong = 0;
	Area area;

	ASSERT_EQ(area.map(v1_length, v1_length), 0);
	for (unsigned int pair = 0; pair < 32 * 32; pair++) {
		unsigned int bits = 1U << pair / 32 | 1U << pair % 32;
		int flags = static_cast<int>(bits);

		if (bits & 1U << 1 && unused_flag_1 != 1 << 1)
			continue;
		for (struct rseq *address : { area.get(), static_cast<struct rseq *>(nullptr) }) {
			for (std::uint32_t length : { v1_length, 0U }) {
				Context context("flags 0x%x, address %s, length %u", bits,
						address ? "valid" : "NULL", length);
				unsigned int before = failures();
				int wanted = EINVAL;

				if (is_known(flags) && length)
					wanted = address ? 0 : EFAULT;

				int err = sys_rseq(address, length, flags, SECTION_SIGNATURE);

				EXPECT_EQ(err, wanted);
				if (!err)
					EXPECT_EQ(sys_rseq(address, length, RSEQ_FLAG_UNREGISTER,
							   SECTION_SIGNATURE), 0);
				rows++;
				if (failures() != before && ++wrong == max_wrong)
					return note("no more after %u wrong rows", wrong);
			}
		}
	}
	note("%u rows", rows);
}

/* ---- For each way to ask for a mode ---- */

FIXTURE(registration) {
	RseqDebug debug;
	Area area, other;
	Request request;

	int call(Area &where, std::uint32_t length, int flags, std::uint32_t signature)
	{
		return sys_rseq(where.get(), length, flags, signature);
	}
	int open(std::uint32_t signature = SECTION_SIGNATURE)
	{
		return call(area, request.length, request.flags, signature);
	}
	int close(std::uint32_t signature = SECTION_SIGNATURE)
	{
		return call(area, request.length, RSEQ_FLAG_UNREGISTER, signature);
	}
};

FIXTURE_MODES(registration);

FIXTURE_SETUP(registration)
{
	self->request = request_for(variant->mode);
	if (!self->request.available())
		SKIP("%s", self->request.missing);
	ASSERT_EQ(self->debug.set(false), nullptr);
	ASSERT_EQ(pin(last_cpu()), 0);
	ASSERT_EQ(self->area.map(self->request.length, self->request.align), 0);
	ASSERT_EQ(self->other.map(self->request.length, self->request.align), 0);
}

TEST_F(registration, gets_its_mode)
{
	expect_service(self->area, self->request.length, self->request.flags, SECTION_SIGNATURE,
		       service_of(variant->mode));
}

namespace {

/* Whose turn it is of two threads that wait for each other, on one CPU or on two. */
class Turn {
public:
	void pass()
	{
		__atomic_add_fetch(&turn_, 1, __ATOMIC_RELEASE);
		futex_wake(&turn_);
	}
	void wait_for(std::uint32_t turn) const
	{
		for (std::uint32_t seen; (seen = __atomic_load_n(&turn_, __ATOMIC_ACQUIRE)) != turn;)
			futex_wait(&turn_, seen);
	}

private:
	std::uint32_t turn_ = 0;
};

} /* namespace */

/* The mode is that of one registration: threads of a process that differ, at the same time. */
TEST_F(registration, threads_may_differ)
{
	unsigned int others = 0;

	for (Mode mode : { Mode::v1, Mode::v2_size, Mode::v2_flag }) {
		const Request request = request_for(mode);

		if (!request.available())
			continue;

		Context context("a thread in %s", mode_name(mode));
		Registration registration;
		Thread thread;
		Area area;
		Turn turn;

		ASSERT_EQ(area.map(request.length, request.align), 0);
		/* Another thread may change the mm_cid of this one, so it comes first. */
		ASSERT_EQ(thread.start([&](Thread::Stop) {
			turn.wait_for(1);
			EXPECT_EQ(registration.open(area, request), 0);
			EXPECT_EQ(observe_service(area), service_of(mode));
			turn.pass();
			turn.wait_for(3);
			EXPECT_EQ(observe_service(area), service_of(mode));
			EXPECT_EQ(registration.close(), 0);
			turn.pass();
		}), 0);
		EXPECT_EQ(self->open(), 0);
		turn.pass();
		turn.wait_for(2);
		EXPECT_EQ(observe_service(self->area), service_of(variant->mode));
		turn.pass();
		turn.wait_for(4);
		EXPECT_EQ(observe_service(self->area), service_of(variant->mode));
		EXPECT_EQ(self->close(), 0);
		others += is_v2(mode) != is_v2(variant->mode);
	}
	/* v1 is always there. */
	if (is_v2(variant->mode))
		EXPECT_GT(others, 0);
}

/* Where the area ends is where the memory ends, as in glibc's threads (R8). */
TEST_F(registration, at_the_end_of_the_memory)
{
	Area area;

	ASSERT_EQ(area.map(self->request.length, self->request.align, Area::Place::at_end), 0);
	expect_service(area, self->request.length, self->request.flags, SECTION_SIGNATURE,
		       service_of(variant->mode));
}

/* Behind the area is the kernel's part of the address space, or nothing. */
TEST_F(registration, at_the_end_of_user_space)
{
	const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
	unsigned char *page = map_last_page(size);

	if (!page)
		SKIP("no page at the end of user space");

	const std::uint32_t align = self->request.align;
	const std::uint32_t room = (self->request.length + align - 1) / align * align;
	auto *area = reinterpret_cast<struct rseq *>(page + size - room);
	const volatile std::uint32_t *cpu_id = &area->cpu_id;

	note("area at %p", static_cast<void *>(area));
	ASSERT_EQ(sys_rseq(area, self->request.length, self->request.flags, SECTION_SIGNATURE), 0);
	EXPECT_EQ(*cpu_id, location().cpu);
	EXPECT_EQ(sys_rseq(area, self->request.length, RSEQ_FLAG_UNREGISTER, SECTION_SIGNATURE),
		  0);
	EXPECT_EQ(*cpu_id, static_cast<std::uint32_t>(RSEQ_CPU_ID_UNINITIALIZED));
}

TEST_F(registration, any_signature)
{
	for (std::uint32_t signature : { 0U, 1U, 0x80000000U, 0xffffffffU }) {
		Context context("signature 0x%08x", signature);

		ASSERT_EQ(self->open(signature), 0);
		EXPECT_EQ(self->close(~signature), EPERM);
		EXPECT_EQ(self->close(signature), 0);
	}
}

/* Whatever is asked for: one registration at a time, and only its own values end it. */
TEST_F(registration, already_registered)
{
	const int flag_list[] = {
		0, flag_v2, RSEQ_FLAG_UNREGISTER, RSEQ_FLAG_UNREGISTER | flag_v2,
		RSEQ_FLAG_UNREGISTER | unused_flag_1, unused_flag_1, 1 << 3, 1 << 30, -1,
	};
	const std::uint32_t length = self->request.length;
	const std::uint32_t lengths[] = { length, length + 32, v1_length - 1, 0 };
	struct rseq *const registered = self->area.get();
	struct rseq *const addresses[] = { registered, self->other.get(), nullptr };
	unsigned int rows = 0, ended = 0, wrong = 0;

	ASSERT_EQ(self->open(), 0);
	for (int flags : flag_list) {
		for (struct rseq *address : addresses) {
			const char *which = address == registered ? "same" : address ? "other" :
										       "NULL";

			for (std::uint32_t other_length : lengths) {
				for (std::uint32_t flip : { 0U, 1U, 0xffffffffU }) {
					Context context("flags 0x%x, address %s, length %u, "
							"signature ^ 0x%x", flags, which,
							other_length, flip);
					unsigned int before = failures();
					int wanted;

					if (!is_known(flags) && flags != RSEQ_FLAG_UNREGISTER)
						wanted = EINVAL;
					else if (address != registered || other_length != length)
						wanted = EINVAL;
					else if (flip)
						wanted = EPERM;
					else
						wanted = flags == RSEQ_FLAG_UNREGISTER ? 0 : EBUSY;

					int err = sys_rseq(address, other_length, flags,
							   SECTION_SIGNATURE ^ flip);

					EXPECT_EQ(err, wanted);
					rows++;
					/* What it asked for is not what it gets. */
					if (err == EBUSY)
						EXPECT_EQ(observe_service(self->area),
							  service_of(variant->mode));
					if (!err) {
						ended++;
						ASSERT_EQ(self->open(), 0);
					}
					if (failures() != before && ++wrong == max_wrong)
						return note("no more after %u wrong rows", wrong);
				}
			}
		}
	}
	note("%u rows", rows);
	EXPECT_EQ(ended, 1);
	/* All of that has left the registration and its mode alone. */
	EXPECT_EQ(observe_service(self->area), service_of(variant->mode));
	EXPECT_TRUE(self->area.canaries_intact());
	EXPECT_TRUE(self->other.canaries_intact());
	EXPECT_EQ(self->close(), 0);
}

/* CRIU, TCMalloc and DynamoRIO know nothing of the flag when they unregister. */
TEST_F(registration, flag_unregister_alone_ends_it)
{
	ASSERT_EQ(self->open(), 0);
	EXPECT_EQ(self->call(self->area, self->request.length, RSEQ_FLAG_UNREGISTER | flag_v2,
			     SECTION_SIGNATURE), EINVAL);
	EXPECT_EQ(self->open(), EBUSY);
	EXPECT_EQ(self->call(self->area, self->request.length, 1, SECTION_SIGNATURE), 0);
	EXPECT_EQ(self->close(), EINVAL);
	EXPECT_EQ(self->open(), 0);
	EXPECT_EQ(self->close(), 0);
}

/* ---- Addresses that cannot be written ---- */

namespace {

using Self = registration_data;
using Params = registration_variant;

void expect_fault(Self *self, std::uint64_t address)
{
	Context context("address 0x%016llx", static_cast<unsigned long long>(address));
	auto *area = reinterpret_cast<void *>(address);
	const std::uint32_t length = self->request.length;
	const int flags = self->request.flags;

	EXPECT_EQ(sys_rseq(area, length, flags, SECTION_SIGNATURE), EFAULT);
	/* Length, alignment and flags come first. */
	EXPECT_EQ(sys_rseq(area, 0, flags, SECTION_SIGNATURE), EINVAL);
	EXPECT_EQ(sys_rseq(reinterpret_cast<void *>(address + 1), length, flags,
			   SECTION_SIGNATURE), EINVAL);
	EXPECT_EQ(sys_rseq(area, length, flags | 1 << 3, SECTION_SIGNATURE), EINVAL);
	EXPECT_EQ(sys_rseq(area, length, RSEQ_FLAG_UNREGISTER, SECTION_SIGNATURE), EINVAL);
}

/* After all of that the thread is like one that never tried. */
void expect_unharmed(Self *self, const Params *variant)
{
	expect_service(self->area, self->request.length, self->request.flags, SECTION_SIGNATURE,
		       service_of(variant->mode));
}

} /* namespace */

TEST_F(registration, hostile_addresses)
{
	const auto own = reinterpret_cast<std::uintptr_t>(self->area.get());
	const std::uint64_t addresses[] = {
		0,				/* nothing is mapped there */
		0x40,
		own | 0x5a00000000000000,	/* a tagged pointer, without asking for tags */
		own | 0x8000000000000000,
		0x0000800000000000,		/* not canonical, or above user space */
		0x00007fffffffffc0,
		0x0001000000000000,
		0x00ffffffffffffc0,
		0x7fffffffffffffc0,
		0xffff000000000000,		/* the kernel's */
		0xffff800000000000,
		0xffff888000000000,
		0xffffffff81000000,
		0xffffffffffffffc0,		/* with a length of 64 it would wrap */
	};

	for (std::uint64_t address : addresses)
		expect_fault(self, address);
	expect_unharmed(self, variant);
}

TEST_F(registration, unwritable_memory)
{
	const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
	auto *map = static_cast<char *>(mmap(nullptr, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
					     -1, 0));

	ASSERT_NE(map, MAP_FAILED);
	expect_fault(self, reinterpret_cast<std::uintptr_t>(map));
	ASSERT_EQ(mprotect(map, page, PROT_NONE), 0);
	expect_fault(self, reinterpret_cast<std::uintptr_t>(map));
	ASSERT_EQ(munmap(map, page), 0);
	expect_fault(self, reinterpret_cast<std::uintptr_t>(map));
	expect_unharmed(self, variant);
}
