/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A client of rseq in the shape of TCMalloc's per-CPU caches, which v1 exists for.
 *
 * Each CPU has a slab: for each size class a header (begin, current, end) and a stack of items.
 * A thread caches the address of its CPU's slab in the eight bytes that end in the middle of
 * cpu_id_start, and its most significant bit says that it is valid. The kernel, which writes a
 * CPU number there, invalidates it: that is all that protects
 *
 *   - push and pop, which do not compare CPU numbers,
 *   - grow, which reads a header outside of a critical section and replaces it inside,
 *   - who works on another CPU's slab: stop it (nobody caches a stopped slab), fence (nobody has
 *     it cached any more), and it is one's own.
 *
 * So the pointer has to become invalid at each event that would abort a section, whether or not
 * the thread is in one.
 */
#ifndef SELFTEST_SLAB_HPP
#define SELFTEST_SLAB_HPP

#include "slab-sections.h"
#include "sched.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace selftest::slab {

constexpr unsigned int classes = 4;
constexpr std::uint64_t tag = 1ULL << SLAB_TAG_BIT;

/* Indices of items, from the start of the slab. Replaced as a whole, or only current. */
struct Header {
	std::uint16_t begin, current, end, unused;

	bool consistent() const { return begin <= current && current <= end; }
	bool operator==(const Header &) const = default;
};

static_assert(sizeof(Header) == sizeof(std::uint64_t));
static_assert(offsetof(Header, begin) == SLAB_BEGIN);
static_assert(offsetof(Header, current) == SLAB_CURRENT);
static_assert(offsetof(Header, end) == SLAB_END);

enum class Fence { one_cpu, all_cpus };

/* ---- The slabs of all CPUs ---- */

class Slabs {
public:
	/* What pops find in slabs that are not in use. */
	static constexpr std::uint64_t dead_item = 0xdeaddeaddeaddead;

	Slabs() = default;
	Slabs(const Slabs &) = delete;
	Slabs &operator=(const Slabs &) = delete;

	/* capacity: the sum of what all CPUs and classes may cache. An errno. */
	int map(int capacity);

	/* Base address and shift in one word. */
	std::uint64_t layout() const { return layout_.load(std::memory_order_acquire); }
	static std::uintptr_t slab(std::uint64_t layout, std::uint32_t cpu)
	{
		return (layout & ~layout_shift) +
		       (std::uintptr_t{ cpu } << (layout & layout_shift));
	}

	bool stopped(std::uint32_t cpu) const
	{
		return __atomic_load_n(&cpus_[cpu % CPU_SETSIZE].stopped, __ATOMIC_ACQUIRE);
	}
	/* Sleeps until that CPU is in service, or a signal comes. */
	void wait(std::uint32_t cpu) const { futex_wait(&cpus_[cpu % CPU_SETSIZE].stopped, 1); }

	/* Capacity that no slab has. */
	bool reserve(int amount);
	void give_back(int amount) { spare_ += amount; }
	int spare() const { return spare_; }
	/* The most that a class of a CPU can get, and where that is. */
	static unsigned int room(std::uint64_t layout);
	static unsigned int begin_of(std::uint64_t layout, unsigned int cls);
	static unsigned int end_of(std::uint64_t layout, unsigned int cls);

	/*
	 * One operator for each CPU: begin() stops the CPU and leaves its slab to the caller, end()
	 * puts it into service again. begin() does not wait: EBUSY if there is another operator,
	 * or membarrier's errno.
	 */
	int begin(int cpu, Fence fence);
	void end(int cpu);
	/* All that the harness knows of, or none of them. */
	int begin_all();
	void end_all();

	/* For an operator. take(class, item) gets every item that has to leave. */
	template <typename Take>
	void drain(int cpu, Take &&take)
	{
		for (unsigned int c = 0; c < classes; c++)
			shrink(cpu, c, ~0u, take);
	}

	template <typename Take>
	void shrink(int cpu, unsigned int cls, unsigned int amount, Take &&take)
	{
		const std::uint64_t now = layout();
		Header old = header(now, cpu, cls), next = old;

		if (!old.consistent() || old.end > end_of(now, cls)) {
			inconsistent_++;
			return;
		}
		if (amount > unsigned{ old.end } - old.begin)
			amount = old.end - old.begin;
		next.end = static_cast<std::uint16_t>(old.end - amount);
		for (unsigned int i = next.end; i < old.current; i++)
			take(cls, *item(now, cpu, i));
		watch(now, cpu, cls, old);
		if (next.current > next.end)
			next.current = next.end;
		set_header(now, cpu, cls, next);
		give_back(static_cast<int>(amount));
	}

	/* The caller has reserved the amount. False if the slab has no room for it. */
	bool grow(int cpu, unsigned int cls, unsigned int amount);

	/* For the operator of all CPUs, who has drained them: the next layout, empty. */
	void change_layout();

	Header header(std::uint64_t layout, int cpu, unsigned int cls) const;
	/* Headers that no order of correct operations leaves behind. */
	unsigned int inconsistent() const { return inconsistent_; }
	/* How often somebody has used a slab that was its operator's. */
	unsigned int intrusions() const { return intrusions_; }
	/* What all slabs have, when nobody uses them any more. */
	int capacity() const;

private:
	static constexpr std::uint64_t layout_shift = 63;

	void stop(int cpu) { __atomic_store_n(&cpus_[cpu].stopped, 1, __ATOMIC_SEQ_CST); }

	static std::uint64_t *item(std::uint64_t layout, int cpu, unsigned int index)
	{
		return reinterpret_cast<std::uint64_t *>(
				slab(layout, static_cast<std::uint32_t>(cpu))) + index;
	}
	static void set_header(std::uint64_t layout, int cpu, unsigned int cls, Header header);
	/* Gives whoever does not keep to the rules time to break them, and looks. */
	void watch(std::uint64_t layout, int cpu, unsigned int cls, Header expected);
	/* Empty and without capacity, or dead. */
	void reset(std::uint64_t layout, int cpu, bool alive);

	std::uint64_t layouts_[2] = {};
	std::atomic<std::uint64_t> layout_ = 0;
	std::atomic<int> spare_ = 0;
	std::atomic<unsigned int> inconsistent_ = 0, intrusions_ = 0;

	struct alignas(64) Cpu {
		std::uint32_t stopped;
		std::atomic<bool> busy;
	} cpus_[CPU_SETSIZE] = {};
};

/* ---- A thread ---- */

/* What happened to a thread, or to its signal handler. */
struct Counts {
	std::uint64_t pushes, pops, grows;
	std::uint64_t aborts;		/* sections that the kernel has aborted */
	std::uint64_t invalid;		/* found the cached pointer invalid */
	std::uint64_t outdated;		/* grows that came too late: invalid meanwhile */
	std::uint64_t stopped;		/* could not cache the slab of a stopped CPU */

	void add(const Counts &other);
};

enum class Outcome { done, refused, unavailable };

class Client {
public:
	explicit Client(Slabs &slabs);
	Client(const Client &) = delete;
	Client &operator=(const Client &) = delete;

	/* May be called by the thread and by its signal handlers. An errno. */
	int register_thread();
	int unregister_thread();
	bool registered() const { return static_cast<std::int32_t>(cpu_id()) >= 0; }
	std::uint32_t cpu_id() const
	{
		return __atomic_load_n(&line_.area.cpu_id, __ATOMIC_RELAXED);
	}

	bool cached() const { return slab_get_pointer(&line_.area) & tag; }
	/* The first step to a valid pointer, which leads to nowhere yet. */
	bool has_bare_tag() const { return slab_get_pointer(&line_.area) == tag; }
	void uncache() { slab_set_pointer(&line_.area, 0); }

	/* How long the sections spin, so that what is to hit them does. */
	void set_spins(std::uint32_t spins) { spins_ = spins; }

	/* After "unavailable". */
	void wait() const { slabs_.wait(cpu_id()); }

	/* unavailable: the CPU is stopped, or the thread not registered. */
	Outcome push(unsigned int cls, std::uint64_t item, Counts &counts);
	Outcome pop(unsigned int cls, std::uint64_t *item, Counts &counts);

	/* pause() is called at the point where grow holds what it has read. */
	template <typename Pause>
	Outcome grow(unsigned int cls, unsigned int amount, Counts &counts, Pause &&pause)
	{
		std::uint64_t *address = find_header(cls, counts);

		if (!address)
			return Outcome::unavailable;

		std::uint64_t seen = __atomic_load_n(address, __ATOMIC_RELAXED);

		pause();
		return replace_header(cls, address, seen, amount, counts);
	}

	/* A look at a header without any protection. False if no slab is cached. */
	bool look(unsigned int cls, Header *header) const;

	/* Nobody but this object has written to the bytes of the cache line that are not rseq's. */
	bool line_intact() const;

private:
	/* The original 32 bytes. */
	struct Area {
		std::uint32_t cpu_id_start, cpu_id;
		std::uint64_t rseq_cs;
		std::uint32_t flags, node_id, mm_cid;
		std::uint32_t own_ids;		/* not the kernel's in v1 */
	};

	/* The cached pointer is pointer_low and cpu_id_start. */
	struct alignas(64) Line {
		std::uint32_t before[7];
		std::uint32_t pointer_low;
		Area area;
		std::uint32_t behind[16];
	};

	static_assert(sizeof(Area) == 32 && offsetof(Line, area) == 32);
	static_assert(offsetof(Line, area) + SLAB_POINTER_OFFSET == offsetof(Line, pointer_low));

	static constexpr std::uint32_t canary = 0xc5c5c5c5;
	static constexpr std::uint32_t own_ids = 0xffff5a17;

	bool cache(Counts &counts);
	std::uint64_t *find_header(unsigned int cls, Counts &counts);
	Outcome replace_header(unsigned int cls, std::uint64_t *address, std::uint64_t seen,
			       unsigned int amount, Counts &counts);

	template <typename Section>
	Outcome run(Counts &counts, Section &&section);

	Slabs &slabs_;
	volatile std::uint32_t spins_ = 0;
	Line line_;
};

} /* namespace selftest::slab */

#endif
