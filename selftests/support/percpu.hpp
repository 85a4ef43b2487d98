/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Per-CPU data as a library would build it on a registration that is not its own: counters,
 * lists and spin locks, once for each set of critical sections.
 */
#ifndef SELFTEST_PERCPU_HPP
#define SELFTEST_PERCPU_HPP

#include "percpu-sections.h"
#include "sched.hpp"

#include <cstddef>
#include <cstdint>

namespace selftest::percpu {

/* What a library consists of here: its sections. */
struct One {
	static constexpr auto add = one_add;
	static constexpr auto replace = one_replace;
	static constexpr auto unlink = one_unlink;
};

struct Two {
	static constexpr auto add = two_add;
	static constexpr auto replace = two_replace;
	static constexpr auto unlink = two_unlink;
};

/* A thread that uses libraries, or a signal handler of one: both have the same area. */
struct User {
	struct rseq *area = nullptr;
	std::uint64_t spins = 0;
	std::uint64_t commits = 0, aborts = 0, moves = 0;

	/* Calls attempt(cpu), a section, until nothing comes in between. False if it refuses. */
	template <typename Attempt>
	bool run(Attempt &&attempt)
	{
		for (;;) {
			std::uint32_t cpu = __atomic_load_n(&area->cpu_id_start, __ATOMIC_RELAXED);

			/* What happens between the two is for the section to find out. */
			if (commits % 2)
				spin();
			switch (attempt(cpu)) {
			case 0:
				commits++;
				return true;
			case PERCPU_MOVED:
				moves++;
				break;
			case PERCPU_REFUSED:
				return false;
			default:
				aborts++;
				break;
			}
		}
	}

private:
	/* Not cpu_relax(), where emulated CPUs that take turns would be interrupted. */
	void spin() const
	{
		for (std::uint64_t i = 0; i < spins; i++)
			asm volatile("" ::: "memory");
	}
};

template <typename T>
class PerCpu {
public:
	T &operator[](std::uint32_t cpu) { return slots_[cpu % CPU_SETSIZE].value; }

private:
	struct alignas(64) Slot {
		T value;
	} slots_[CPU_SETSIZE];
};

/* Where a section adds is decided inside of it, so that others can take what was added. */
template <typename Library>
class Counter {
public:
	void init()
	{
		for (int i = 0; i < nr_cpus(); i++)
			slots_[cpu_at(i)].active = &slots_[cpu_at(i)].banks[0];
	}

	void add(User &user, std::uint64_t value)
	{
		user.run([&](std::uint32_t cpu) {
			return Library::add(user.area, cpu, &slots_[cpu].active, value, user.spins);
		});
	}

	/*
	 * For one thread at a time, on any CPU: the count of that CPU since last time. Nobody
	 * adds to the old bank after the membarrier. Returns its errno.
	 */
	int take(int cpu, unsigned int flags, std::uint64_t *count)
	{
		Slot &slot = slots_[cpu];
		std::uint64_t *old = slot.active;
		int err;

		__atomic_store_n(&slot.active, &slot.banks[old == slot.banks], __ATOMIC_RELEASE);
		err = sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, flags, cpu);
		*count = __atomic_load_n(old, __ATOMIC_ACQUIRE);
		/*
		 * Whoever the membarrier has missed is given time to show up. Once is enough where
		 * emulated CPUs take turns, and elsewhere it takes a while.
		 */
		cpu_relax();
		for (int i = 0; i < 5000; i++)
			(void)__atomic_load_n(old, __ATOMIC_ACQUIRE);
		__atomic_store_n(old, 0, __ATOMIC_RELAXED);
		return err;
	}

	/* When nobody uses it any more. */
	std::uint64_t rest()
	{
		std::uint64_t sum = 0;

		for (int i = 0; i < nr_cpus(); i++)
			sum += slots_[cpu_at(i)].banks[0] + slots_[cpu_at(i)].banks[1];
		return sum;
	}

private:
	struct Slot {
		std::uint64_t *active;
		std::uint64_t banks[2];
	};

	PerCpu<Slot> slots_ = {};
};

struct Node {
	std::uint64_t next = 0;

	std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(this); }
};

static_assert(offsetof(Node, next) == PERCPU_NEXT);

template <typename Library>
class List {
public:
	void push(User &user, Node &node)
	{
		while (!user.run([&](std::uint32_t cpu) {
			node.next = __atomic_load_n(&heads_[cpu], __ATOMIC_RELAXED);
			return Library::replace(user.area, cpu, &heads_[cpu], node.next,
						node.address(), user.spins);
		}))
			;
	}

	Node *pop(User &user)
	{
		std::uint64_t node;

		return user.run([&](std::uint32_t cpu) {
			return Library::unlink(user.area, cpu, &heads_[cpu], &node, user.spins);
		}) ? reinterpret_cast<Node *>(node) : nullptr;
	}

	/* When nobody uses it any more. */
	Node *first(int cpu) { return reinterpret_cast<Node *>(heads_[cpu]); }

private:
	PerCpu<std::uint64_t> heads_ = {};
};

/* Taken on its own CPU, and released from wherever the holder is by then. */
template <typename Library>
class Lock {
public:
	/* The CPU whose lock it is; -1: somebody has it. */
	int try_lock(User &user)
	{
		std::uint32_t taken = 0;

		if (!user.run([&](std::uint32_t cpu) {
			taken = cpu;
			return Library::replace(user.area, cpu, &words_[cpu], 0, 1, user.spins);
		}))
			return -1;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		return static_cast<int>(taken);
	}

	void unlock(int cpu) { __atomic_store_n(&words_[cpu], 0, __ATOMIC_RELEASE); }

private:
	PerCpu<std::uint64_t> words_ = {};
};

} /* namespace selftest::percpu */

#endif
