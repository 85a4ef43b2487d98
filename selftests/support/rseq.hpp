/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Registrations: the modes, memory to register, and the registration itself.
 */
#ifndef SELFTEST_RSEQ_HPP
#define SELFTEST_RSEQ_HPP

#include "harness.hpp"

#include <cstddef>
#include <cstdint>
#include <linux/auxvec.h>
#include <linux/rseq.h>

/* The one place for what headers older than the mode do not have. */
#ifndef AT_RSEQ_V2
#define AT_RSEQ_V2 38
#endif

namespace selftest {

/* RSEQ_FLAG_V2, by its value: it is an enumerator, so older headers cannot be asked. */
constexpr int flag_v2 = 1 << 2;

/* v2_size where the kernel knows more than 32 bytes, v2_flag where auxv offers the flag. */
enum class Mode { v1, v2_size, v2_flag };

constexpr bool is_v2(Mode mode) { return mode != Mode::v1; }
const char *mode_name(Mode mode);

constexpr std::uint32_t v1_length = 32;

/* What to pass to rseq(2) for a mode, or why the running kernel does not have it. */
struct Request {
	std::uint32_t length = 0;
	std::uint32_t align = 0;
	int flags = 0;
	char missing[80] = "";

	bool available() const { return !missing[0]; }
};

Request request_for(Mode mode);

struct Ids {
	std::uint32_t cpu_id_start, cpu_id, node_id, mm_cid;

	bool operator==(const Ids &) const = default;
};

/*
 * Memory for one struct rseq on a page of its own between two inaccessible ones, aligned to
 * what was asked for and to no more, with canaries in the rest of the page. at_end puts the end
 * of the area (rounded up to its alignment) where the page ends, as in glibc's threads.
 */
class Area {
public:
	enum class Place { middle, at_end };

	Area() = default;
	~Area();
	Area(const Area &) = delete;
	Area &operator=(const Area &) = delete;

	int map(std::uint32_t length, std::uint32_t align, Place place = Place::middle);

	struct rseq *get() const { return area_; }
	std::uint32_t length() const { return length_; }

	/* All of them single accesses that the compiler neither drops nor repeats. */
	std::uint32_t cpu_id_start() const { return load(&area_->cpu_id_start); }
	std::uint32_t cpu_id() const { return load(&area_->cpu_id); }
	std::uint32_t node_id() const { return load(&area_->node_id); }
	std::uint32_t mm_cid() const { return load(&area_->mm_cid); }
	std::uint32_t flags() const { return load(&area_->flags); }
	std::uint64_t rseq_cs() const { return load(&area_->rseq_cs); }
	Ids ids() const { return { cpu_id_start(), cpu_id(), node_id(), mm_cid() }; }

	void set_ids(const Ids &ids);
	void set_rseq_cs(const struct rseq_cs *cs);

	/* Any word of the area: 28 is the first one that v1 leaves to user space. */
	std::uint32_t word(std::size_t offset) const { return load(word_at(offset)); }
	void set_word(std::size_t offset, std::uint32_t value);

	/* The first byte around the area that somebody wrote to, as an offset from it. */
	bool canaries_intact(long *offset = nullptr) const;

private:
	template <typename T>
	static T load(const T *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
	std::uint32_t *word_at(std::size_t offset) const
	{
		return reinterpret_cast<std::uint32_t *>(reinterpret_cast<char *>(area_) + offset);
	}

	struct rseq *area_ = nullptr;
	unsigned char *mapping_ = nullptr;
	std::uint32_t length_ = 0;
};

/* The system call: 0 or an errno. */
int sys_rseq(void *area, std::uint32_t length, int flags, std::uint32_t signature);

/* One registration of the thread that opens it; the destructor closes it and fails if it cannot. */
class Registration {
public:
	Registration() = default;
	~Registration();
	Registration(const Registration &) = delete;
	Registration &operator=(const Registration &) = delete;

	[[nodiscard]] int open(const Area &area, const Request &request);
	[[nodiscard]] int close();
	bool is_open() const { return area_; }

private:
	struct rseq *area_ = nullptr;
	std::uint32_t length_ = 0;
};

/* In a forked child: it has its parent's registration of the thread that forked. */
void drop_inherited_registration();

/* The usual pair of a test. open() skips the case where the kernel lacks the mode. */
class Rseq {
public:
	Area area;
	Registration registration;

	/* True if registered. Otherwise the case was failed or skipped: return from it. */
	[[nodiscard]] bool open(Mode mode, Area::Place place = Area::Place::middle);
};

/* Is rseq_debug=1 in force? It kills v2 users that change an ID at the next event (R4). */
bool rseq_debug_enabled();

/*
 * The switch rseq/debug in debugfs, for as long as the object lives. It is one for the whole
 * system, so a test sets what it needs and leaves what it found.
 */
class RseqDebug {
public:
	RseqDebug() = default;
	~RseqDebug();
	RseqDebug(const RseqDebug &) = delete;
	RseqDebug &operator=(const RseqDebug &) = delete;

	/* Why it could not be set, or nullptr. Off is what a kernel without debugfs is set to. */
	const char *set(bool on);

private:
	int before_ = -1;
};

/* The counters in debugfs rseq/stats, by their names there. */
class RseqStats {
public:
	/* Why there are none, or nullptr. */
	const char *load();
	/* -1 if there is no such counter. */
	long value(const char *name) const;

private:
	static constexpr int max_counters = 32;
	struct Counter {
		char name[16];
		long value;
	} counters_[max_counters];
	int count_ = 0;
};

/*
 * Called by main(): libc must not own the registration of this program. Where it does, the
 * program executes itself once more with the tunable that turns it off.
 */
void own_rseq(char **argv);

/* A diagnostic line with what modes and tests depend on. */
void describe_kernel();

} /* namespace selftest */

/* A fixture's variants, one for each mode: self and variant->mode. */
#define FIXTURE_MODES(fixture)							\
	FIXTURE_VARIANT(fixture) { selftest::Mode mode; };			\
	FIXTURE_VARIANT_ADD(fixture, v1) { .mode = selftest::Mode::v1 };	\
	FIXTURE_VARIANT_ADD(fixture, v2_size) { .mode = selftest::Mode::v2_size };	\
	FIXTURE_VARIANT_ADD(fixture, v2_flag) { .mode = selftest::Mode::v2_flag }

#endif
