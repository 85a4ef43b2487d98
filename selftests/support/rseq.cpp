// SPDX-License-Identifier: GPL-2.0
#include "rseq.hpp"
#include "files.hpp"
#include "sched.hpp"
#include "sections.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace selftest {

static_assert(offsetof(struct rseq, cpu_id) == RSEQ_CPU_ID_OFFSET);
static_assert(offsetof(struct rseq, rseq_cs) == RSEQ_CS_OFFSET);
static_assert(offsetof(section_loads, first) == LOADS_FIRST);
static_assert(offsetof(section_loads, second) == LOADS_SECOND);
static_assert(offsetof(section_loads, committed) == LOADS_COMMITTED);
static_assert(offsetof(section_gate, entered) == GATE_ENTERED);
static_assert(offsetof(section_gate, open) == GATE_OPEN);
static_assert(offsetof(section_gate, committed) == GATE_COMMITTED);

namespace {

constexpr unsigned char canary = 0xc5;
constexpr const char *tunable = "glibc.pthread.rseq=0";
constexpr const char *stats_path = "/sys/kernel/debug/rseq/stats";
constexpr const char *debug_path = "/sys/kernel/debug/rseq/debug";

} /* namespace */

const char *mode_name(Mode mode)
{
	switch (mode) {
	case Mode::v1: return "v1";
	case Mode::v2_size: return "v2 by size";
	case Mode::v2_flag: return "v2 by flag";
	}
	return "?";
}

Request request_for(Mode mode)
{
	auto feature_size = static_cast<std::uint32_t>(getauxval(AT_RSEQ_FEATURE_SIZE));
	auto flag = static_cast<int>(getauxval(AT_RSEQ_V2));
	Request request = { .length = v1_length, .align = v1_length };

	switch (mode) {
	case Mode::v1:
		break;
	case Mode::v2_size:
		request.length = feature_size;
		request.align = static_cast<std::uint32_t>(getauxval(AT_RSEQ_ALIGN));
		if (feature_size <= v1_length)
			snprintf(request.missing, sizeof(request.missing),
				 "feature size is %u", feature_size);
		break;
	case Mode::v2_flag:
		request.flags = flag;
		if (!flag)
			snprintf(request.missing, sizeof(request.missing),
				 "kernel has no AT_RSEQ_V2");
		break;
	}
	return request;
}

/* ---- Area ---- */

int Area::map(std::uint32_t length, std::uint32_t align, Place place)
{
	auto page = static_cast<std::uint32_t>(sysconf(_SC_PAGESIZE));
	std::uint32_t room = (length + align - 1) / align * align;

	if (mapping_ || !align || (align & (align - 1)) || room > page / 4)
		return EINVAL;

	void *map = mmap(nullptr, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return errno;
	mapping_ = static_cast<unsigned char *>(map) + page;
	if (mprotect(mapping_, page, PROT_READ | PROT_WRITE))
		return errno;

	/* An odd multiple of align in the middle: nothing may depend on more. */
	unsigned char *start = mapping_ + (place == Place::middle ? page / 2 + align : page - room);

	memset(mapping_, canary, page);
	memset(start, 0, length);
	area_ = reinterpret_cast<struct rseq *>(start);
	length_ = length;
	return 0;
}

Area::~Area()
{
	auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));

	if (mapping_)
		munmap(mapping_ - page, 3 * page);
}

void Area::set_ids(const Ids &ids)
{
	__atomic_store_n(&area_->cpu_id_start, ids.cpu_id_start, __ATOMIC_RELAXED);
	__atomic_store_n(&area_->cpu_id, ids.cpu_id, __ATOMIC_RELAXED);
	__atomic_store_n(&area_->node_id, ids.node_id, __ATOMIC_RELAXED);
	__atomic_store_n(&area_->mm_cid, ids.mm_cid, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void Area::set_rseq_cs(const struct rseq_cs *cs)
{
	__atomic_store_n(&area_->rseq_cs, reinterpret_cast<std::uintptr_t>(cs), __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void Area::set_word(std::size_t offset, std::uint32_t value)
{
	__atomic_store_n(word_at(offset), value, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

bool Area::canaries_intact(long *offset) const
{
	auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
	auto *start = reinterpret_cast<unsigned char *>(area_);

	for (const volatile unsigned char *p = mapping_; p < mapping_ + page; p++) {
		if ((p >= start && p < start + length_) || *p == canary)
			continue;
		if (offset)
			*offset = p - start;
		return false;
	}
	return true;
}

/* ---- Registration ---- */

int sys_rseq(void *area, std::uint32_t length, int flags, std::uint32_t signature)
{
	return syscall(__NR_rseq, area, length, flags, signature) ? errno : 0;
}

namespace {

/* What a fork of this thread inherits. */
thread_local Registration *current_registration;

} /* namespace */

int Registration::open(const Area &area, const Request &request)
{
	if (area_)
		return EBUSY;

	int err = sys_rseq(area.get(), request.length, request.flags, SECTION_SIGNATURE);

	if (!err) {
		area_ = area.get();
		length_ = request.length;
		current_registration = this;
	}
	return err;
}

int Registration::close()
{
	if (!area_)
		return 0;

	int err = sys_rseq(area_, length_, RSEQ_FLAG_UNREGISTER, SECTION_SIGNATURE);

	if (!err) {
		area_ = nullptr;
		current_registration = nullptr;
	}
	return err;
}

void drop_inherited_registration()
{
	if (current_registration)
		EXPECT_EQ(current_registration->close(), 0);
}

Registration::~Registration()
{
	if (area_)
		EXPECT_EQ(close(), 0);
}

bool Rseq::open(Mode mode, Area::Place place)
{
	Request request = request_for(mode);
	unsigned int before = failures();
	int err;

	if (!request.available()) {
		skip_case("%s", request.missing);
		return false;
	}

	Context context("%s: rseq(area, %u, %d)", mode_name(mode), request.length, request.flags);

	EXPECT_EQ(area.map(request.length, request.align, place), 0);
	if (failures() != before)
		return false;
	err = registration.open(area, request);
	if (err == ENOSYS) {
		skip_case("kernel has no rseq(2)");
		return false;
	}
	EXPECT_EQ(err, 0);
	return err == 0;
}

/* ---- The system around it ---- */

bool rseq_debug_enabled()
{
	char text[8];

	return !read_file(debug_path, text, sizeof(text)) && text[0] == '1';
}

const char *RseqDebug::set(bool on)
{
	bool now = rseq_debug_enabled();

	if (now == on)
		return nullptr;

	int err = write_file(debug_path, on ? "1" : "0");

	if (err)
		return err == ENOENT ? "no rseq/debug in debugfs" : strerror(err);
	if (before_ < 0)
		before_ = now;
	return nullptr;
}

RseqDebug::~RseqDebug()
{
	if (before_ >= 0)
		EXPECT_EQ(write_file(debug_path, before_ ? "1" : "0"), 0);
}

const char *RseqStats::load()
{
	char text[2048];
	int err = read_file(stats_path, text, sizeof(text));

	count_ = 0;
	if (err)
		return err == ENOENT ? "no rseq/stats in debugfs" : strerror(err);

	for (char *save, *line = strtok_r(text, "\n", &save); line && count_ < max_counters;
	     line = strtok_r(nullptr, "\n", &save)) {
		Counter &counter = counters_[count_];

		if (sscanf(line, "%15[^:]: %ld", counter.name, &counter.value) == 2)
			count_++;
	}
	return count_ ? nullptr : "rseq/stats has no counters";
}

long RseqStats::value(const char *name) const
{
	for (int i = 0; i < count_; i++)
		if (!strcmp(counters_[i].name, name))
			return counters_[i].value;
	return -1;
}

void own_rseq(char **argv)
{
	alignas(v1_length) static unsigned char probe[v1_length];
	const char *old = getenv("GLIBC_TUNABLES");
	char value[1024];
	int err = sys_rseq(probe, v1_length, 0, SECTION_SIGNATURE);

	if (!err)
		err = sys_rseq(probe, v1_length, RSEQ_FLAG_UNREGISTER, SECTION_SIGNATURE);
	/* Without rseq(2) the cases say so themselves. */
	if (!err || err == ENOSYS)
		return;

	size_t old_size = old ? strlen(old) : 0, size = strlen(tunable);

	if (old_size >= size && !strcmp(old + old_size - size, tunable)) {
		fprintf(stderr, "# rseq(2) fails with %s: libc owns the registration in spite of "
			"GLIBC_TUNABLES=%s\n", strerrorname_np(err), old);
		exit(1);
	}
	if (old_size + size + 2 > sizeof(value)) {
		fprintf(stderr, "# GLIBC_TUNABLES is too long to append %s\n", tunable);
		exit(1);
	}
	snprintf(value, sizeof(value), "%s%s%s", old ? old : "", old_size ? ":" : "", tunable);
	setenv("GLIBC_TUNABLES", value, 1);

	exec_self(argv);
	fprintf(stderr, "# cannot execute %s again: %s\n", argv[0], strerror(errno));
	exit(1);
}

void describe_kernel()
{
	utsname name;

	if (uname(&name))
		return;
	printf("# Linux %s %s, %d CPU(s)\n", name.release, name.machine, nr_cpus());
	printf("# AT_RSEQ_FEATURE_SIZE %lu, AT_RSEQ_ALIGN %lu, AT_RSEQ_V2 %lu\n",
	       getauxval(AT_RSEQ_FEATURE_SIZE), getauxval(AT_RSEQ_ALIGN), getauxval(AT_RSEQ_V2));
}

} /* namespace selftest */
