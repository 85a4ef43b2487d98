// SPDX-License-Identifier: GPL-2.0
/*
 * R13: PTRACE_GET_RSEQ_CONFIGURATION. CRIU up to 4.2 refuses a dump unless the size is 24 and
 * flags is 0; the last word, which it ignores, tells a newer one how to restore the mode.
 */
#include "harness.hpp"
#include "observe.hpp"
#include "rseq.hpp"
#include "sched.hpp"
#include "tracee.hpp"

#include <algorithm>
#include <csignal>
#include <cstring>

using namespace selftest;

namespace {

constexpr long configuration_size = 24;
constexpr unsigned char untouched = 0xa5;

} /* namespace */

FIXTURE(ptrace) {
	RseqDebug debug;
	Rseq rseq;
	Request request;
	Tracee child;
	Shared<RseqConfiguration> configuration;

	/* Of the child, which has stopped; the result is in *configuration. */
	void read_configuration()
	{
		RseqConfiguration read;
		long size = 0;

		memset(&read, untouched, sizeof(read));
		ASSERT_EQ(child.rseq_configuration(&read, sizeof(read), &size), 0);
		EXPECT_EQ(size, configuration_size);
		*configuration = read;
	}
};

FIXTURE_MODES(ptrace);

FIXTURE_SETUP(ptrace)
{
	self->request = request_for(variant->mode);
	ASSERT_EQ(pin(last_cpu()), 0);
}

namespace {

using Self = ptrace_data;
using Params = ptrace_variant;

void expect_configuration(Self *self, const Params *variant)
{
	ASSERT_NO_FAILURE(self->read_configuration());

	const RseqConfiguration &read = *self->configuration;

	EXPECT_EQ(read.pointer, reinterpret_cast<std::uintptr_t>(self->rseq.area.get()));
	EXPECT_EQ(read.size, self->request.length);
	EXPECT_EQ(read.signature, SECTION_SIGNATURE);
	EXPECT_EQ(read.flags, 0);
	EXPECT_EQ(read.reg_flags, variant->mode == Mode::v2_flag ? flag_v2 : 0);
}

} /* namespace */

TEST_F(ptrace, tells_the_registration)
{
	if (!self->rseq.open(variant->mode))
		return;
	ASSERT_EQ(self->child.start([] { Tracee::stop(); }), 0);
	ASSERT_TRUE(self->child.wait_for_stop(SIGSTOP));
	expect_configuration(self, variant);
	ASSERT_EQ(self->child.resume(), 0);
	EXPECT_EQ(self->child.wait(), 0);
}

/* As a checkpoint is restored: what was read is passed to rseq(2), and gives the same mode. */
TEST_F(ptrace, restores_the_mode)
{
	RseqConfiguration first;
	Area &area = self->rseq.area;

	ASSERT_EQ(self->debug.set(false), nullptr);
	if (!self->rseq.open(variant->mode))
		return;
	ASSERT_EQ(self->child.start([&] {
		const RseqConfiguration &told = *self->configuration;

		Tracee::stop();
		EXPECT_EQ(self->rseq.registration.close(), 0);
		area.set_word(tail_offset, stale_tail);
		EXPECT_EQ(sys_rseq(reinterpret_cast<void *>(told.pointer), told.size,
				   static_cast<int>(told.reg_flags), told.signature), 0);
		EXPECT_EQ(area.word(tail_offset), is_v2(variant->mode) ? 0 : stale_tail);
		Tracee::stop();
		/* Detached by now: a tracer would get the signal instead. */
		EXPECT_EQ(observe_service(area), service_of(variant->mode));
	}), 0);

	ASSERT_TRUE(self->child.wait_for_stop(SIGSTOP));
	ASSERT_NO_FAILURE(expect_configuration(self, variant));
	first = *self->configuration;
	ASSERT_EQ(self->child.resume(), 0);

	ASSERT_TRUE(self->child.wait_for_stop(SIGSTOP));
	ASSERT_NO_FAILURE(expect_configuration(self, variant));
	EXPECT_TRUE(*self->configuration == first);
	ASSERT_EQ(self->child.detach(), 0);
	EXPECT_EQ(self->child.wait(), 0);
}

TEST_F(ptrace, all_zero_when_unregistered)
{
	const RseqConfiguration zero = {};

	if (!self->rseq.open(variant->mode))
		return;
	ASSERT_EQ(self->child.start([&] {
		EXPECT_EQ(self->rseq.registration.close(), 0);
		Tracee::stop();
	}), 0);
	ASSERT_TRUE(self->child.wait_for_stop(SIGSTOP));
	ASSERT_NO_FAILURE(self->read_configuration());
	EXPECT_TRUE(*self->configuration == zero);
	ASSERT_EQ(self->child.resume(), 0);
	EXPECT_EQ(self->child.wait(), 0);
}

/* No more than asked for is written, and the size returned is what there is. */
TEST_F(ptrace, size_is_respected)
{
	if (!self->rseq.open(variant->mode))
		return;
	ASSERT_EQ(self->child.start([] { Tracee::stop(); }), 0);
	ASSERT_TRUE(self->child.wait_for_stop(SIGSTOP));
	ASSERT_NO_FAILURE(self->read_configuration());
	for (std::size_t asked : { 0, 8, 16, 20, 24, 32, 64 }) {
		Context context("%zu bytes", asked);
		const std::size_t written = std::min<std::size_t>(asked, configuration_size);
		unsigned char expected[64], data[64];
		long size = 0;

		memset(expected, untouched, sizeof(expected));
		memcpy(expected, &*self->configuration, written);
		memset(data, untouched, sizeof(data));
		EXPECT_EQ(self->child.rseq_configuration(data, asked, &size), 0);
		EXPECT_EQ(size, configuration_size);
		EXPECT_EQ(memcmp(data, expected, sizeof(data)), 0);
	}
}

/* The flag changes nothing where the length is enough, so it is not told either. */
FIXTURE(ptrace_redundant_flag) {
	Area area;
	Registration registration;
	Tracee child;
};

TEST_F(ptrace_redundant_flag, is_not_told)
{
	Request request = request_for(Mode::v2_size);
	const Request flag = request_for(Mode::v2_flag);
	RseqConfiguration read = {};
	long size = 0;

	if (!request.available() || !flag.available())
		SKIP("%s", request.available() ? flag.missing : request.missing);
	request.flags = flag.flags;
	ASSERT_EQ(self->area.map(request.length, request.align), 0);
	ASSERT_EQ(self->registration.open(self->area, request), 0);
	ASSERT_EQ(self->child.start([] { Tracee::stop(); }), 0);
	ASSERT_TRUE(self->child.wait_for_stop(SIGSTOP));
	ASSERT_EQ(self->child.rseq_configuration(&read, sizeof(read), &size), 0);
	EXPECT_EQ(read.size, request.length);
	EXPECT_EQ(read.flags, 0);
	EXPECT_EQ(read.reg_flags, 0);
}
