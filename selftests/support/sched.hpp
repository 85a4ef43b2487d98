/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Making scheduling happen, and proving that it did.
 */
#ifndef SELFTEST_SCHED_HPP
#define SELFTEST_SCHED_HPP

#include "harness.hpp"
#include "rseq.hpp"
#include "sections.h"

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <linux/membarrier.h>
#include <new>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <type_traits>
#include <utility>

namespace selftest {

/* ---- CPUs: those that the program was allowed to use when it started ---- */

void find_cpus();		/* called by main() */
int nr_cpus();
int cpu_at(int index);		/* 0 .. nr_cpus() - 1 */
int last_cpu();			/* the one that does the least of the system's work */
int pin(int cpu, pid_t tid = 0);	/* the calling thread, or that one; an errno */
int unpin();			/* the calling thread, to all of them; an errno */

struct Location {
	std::uint32_t cpu, node;
};

Location location();		/* by the system call, not by rseq */

/*
 * A guest that runs from an initramfs: nobody else suffers when a CPU goes offline or controllers
 * are turned on.
 */
bool system_is_throwaway();

/* ---- Context switches of the calling thread ---- */

struct Switches {
	long voluntary, involuntary;

	bool operator==(const Switches &) const = default;
	Switches operator-(const Switches &other) const
	{
		return { voluntary - other.voluntary, involuntary - other.involuntary };
	}
};

Switches switches();

/* The letter in /proc/TID/stat: 'R', 'S', 'T'. '?' if there is no such thread. */
char thread_state(pid_t tid);

/*
 * On that CPU, having been on all others: a process that was never allowed to run anywhere else
 * needs one mm_cid for all its threads. An errno.
 */
int pin_after_all(int cpu);

/* ---- Waiting ---- */

/* Lets QEMU run another CPU, too: without it a spinning vCPU can keep its host thread for long. */
inline void cpu_relax()
{
#if defined(__x86_64__)
	asm volatile("pause" ::: "memory");
#else
	asm volatile("yield" ::: "memory");
#endif
}

/* In user space, without a system call. The deadline of the case bounds it. */
template <typename Condition>
void spin_until(Condition &&condition)
{
	while (!condition())
		cpu_relax();
}

/* Both work across processes. */
int futex_wait(const std::uint32_t *word, std::uint32_t expected);	/* an errno */
void futex_wake(const std::uint32_t *word);				/* everybody */

int send_signal(pid_t tgid, pid_t tid, int sig);		/* an errno */
int own_tid();
int sys_membarrier(int command, unsigned int flags = 0, int cpu = 0);	/* an errno */

/*
 * A handler with SA_SIGINFO and every signal blocked while it runs, or none at all if the flags
 * have SA_NODEFER; an errno.
 */
int handle_signal(int sig, void (*handler)(int, siginfo_t *, void *), int flags = 0);
/* SIGALRM to this process after that time, once; an errno. */
int arm_timer(long microseconds);
/* Where the signal hit, from the third argument of a handler. */
std::uintptr_t interrupted_ip(const void *ucontext);

inline bool is_open(const section_gate *gate, std::uint32_t ticket)
{
	return __atomic_load_n(&gate->open, __ATOMIC_ACQUIRE) == ticket;
}

/* ---- Actors ---- */

/* An object that parent and children share. */
template <typename T>
class Shared {
public:
	Shared()
	{
		void *map = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (map != MAP_FAILED)
			object_ = new (map) T{};
	}
	~Shared()
	{
		if (object_)
			munmap(object_, sizeof(T));
	}
	Shared(const Shared &) = delete;
	Shared &operator=(const Shared &) = delete;

	T *operator->() const { return object_; }
	T &operator*() const { return *object_; }

private:
	T *object_ = nullptr;
};

/*
 * A forked process: its own mm, so that it does not touch the mm_cid of the thread under test.
 * It gives up the registration that it inherits. Killed at the end of the scope.
 */
class Process {
public:
	Process() = default;
	~Process() { kill(); }
	Process(const Process &) = delete;
	Process &operator=(const Process &) = delete;

	template <typename Body>
	int start(Body &&body)
	{
		pid_ = fork_member();
		if (pid_ == 0) {
			drop_inherited_registration();
			body();
			_exit(0);
		}
		return pid_ < 0 ? errno_now() : 0;
	}

	pid_t pid() const { return pid_; }
	int wait();		/* a status of waitpid() */
	void kill();

private:
	static int errno_now();

	pid_t pid_ = -1;
};

/*
 * A thread of the process. The callable is copied into the object and gets a flag that asks it
 * to end; leaving the scope asks and joins.
 */
class Thread {
public:
	using Stop = const std::atomic<bool> &;

	Thread() = default;
	~Thread() { join(); }
	Thread(const Thread &) = delete;
	Thread &operator=(const Thread &) = delete;

	template <typename Body>
	int start(Body body)
	{
		static_assert(sizeof(Body) <= sizeof(storage_), "capture less, or by reference");
		static_assert(std::is_trivially_destructible_v<Body>);
		new (storage_) Body(std::move(body));
		call_ = [](void *storage, Stop stop) { (*static_cast<Body *>(storage))(stop); };
		return create();
	}

	void join();

private:
	int create();
	static void *run(void *self);

	pthread_t thread_ = 0;
	bool started_ = false;
	std::atomic<bool> stop_ = false;
	void (*call_)(void *storage, Stop stop) = nullptr;
	alignas(std::max_align_t) unsigned char storage_[128];
};

/* A thread that does nothing but to be there: it has an mm_cid, until it ends. */
class Bystander {
public:
	Bystander() = default;
	~Bystander() { end(); }
	Bystander(const Bystander &) = delete;
	Bystander &operator=(const Bystander &) = delete;

	int start()			/* an errno */
	{
		return thread_.start([this](Thread::Stop) {
			while (!__atomic_load_n(&ended_, __ATOMIC_ACQUIRE))
				futex_wait(&ended_, 0);
		});
	}

	void end()
	{
		__atomic_store_n(&ended_, 1, __ATOMIC_RELEASE);
		futex_wake(&ended_);
		thread_.join();
	}

private:
	std::uint32_t ended_ = 0;
	Thread thread_;
};

/*
 * Somebody who spins on a CPU, counts progress and does a job for each ticket it sees, as a
 * process (which leaves the caller's mm alone) or as a thread (which membarrier reaches).
 *
 * On the CPU of a pinned caller it is a rival: where the caller sees progress move, it was
 * switched out. The tickets are the words of a gate, so that the critical section "gated" is a
 * request as well: the job is done while the caller is inside, and opens the gate.
 */
class Agent {
public:
	/* Return when it runs there; an errno. The job is called with the ticket. */
	template <typename Job>
	int start_process(int cpu, Job job)
	{
		State *state = &*shared_;
		int err = process_.start([=] { serve(*state, cpu, nullptr, job); });

		return err ? err : wait_for_start();
	}

	template <typename Job>
	int start_thread(int cpu, Job job)
	{
		State *state = &*shared_;
		int err = thread_.start([=](Thread::Stop stop) { serve(*state, cpu, &stop, job); });

		return err ? err : wait_for_start();
	}

	/* Without jobs, just to compete for the CPU. */
	int start_rival(int cpu) { return start_process(cpu, [](std::uint32_t) {}); }

	/*
	 * A rival that does not wait for its turn: it takes the CPU from whoever has it for a
	 * moment, again and again. Preemptions do not cost a time slice each, but rounds that must
	 * not be preempted are not for it. Just a rival if that is not permitted.
	 */
	template <typename Job>
	int start_visitor(int cpu, Job job)
	{
		shared_->pause_us = visit_us;
		return start_process(cpu, job);
	}

	int start_visitor(int cpu) { return start_visitor(cpu, [](std::uint32_t) {}); }

	std::uint64_t progress() const { return shared_->progress.load(std::memory_order_relaxed); }
	/* The same for sections to load. */
	const volatile std::uint64_t *counter() const
	{
		return reinterpret_cast<const volatile std::uint64_t *>(&shared_->progress);
	}

	/* Spins until the agent has run again. */
	void wait_for_progress() const
	{
		std::uint64_t seen = progress();

		spin_until([&] { return progress() != seen; });
	}

	section_gate *gate() const { return &shared_->gate; }
	std::uint32_t next_ticket() const { return gate()->entered + 1; }

	/* Plain accesses to memory, no system call. */
	std::uint32_t request()
	{
		std::uint32_t ticket = next_ticket();

		__atomic_store_n(&gate()->entered, ticket, __ATOMIC_RELEASE);
		return ticket;
	}
	bool done(std::uint32_t ticket) const
	{
		return __atomic_load_n(&shared_->served, __ATOMIC_ACQUIRE) == ticket;
	}
	void wait(std::uint32_t ticket) const
	{
		spin_until([&] { return done(ticket); });
	}

	/* As wait(), but switched out by its own choice. */
	void sleep(std::uint32_t ticket) const;

private:
	/* Much longer than a visit takes, also if that is emulated, and shorter than a time slice. */
	static constexpr long visit_us = 1000;

	struct State {
		long pause_us;		/* of a visitor */
		std::atomic<std::uint64_t> progress;
		std::atomic<int> error;
		section_gate gate;
		std::uint32_t served;	/* the gate may be opened by others, and before */
	};

	template <typename Job>
	static void serve(State &state, int cpu, const std::atomic<bool> *stop, Job job)
	{
		if (!begin(state, cpu))
			return;
		while (!stop || !stop->load(std::memory_order_relaxed)) {
			std::uint32_t ticket = entered(state);

			/* The only writer. */
			state.progress.store(state.progress.load(std::memory_order_relaxed) + 1,
					     std::memory_order_relaxed);
			if (ticket == state.served) {
				idle(state);
				continue;
			}
			job(ticket);
			finish(state, ticket);
		}
	}

	static std::uint32_t entered(const State &state)
	{
		return __atomic_load_n(&state.gate.entered, __ATOMIC_ACQUIRE);
	}

	static void idle(const State &state)
	{
		if (state.pause_us)
			pause(state);
		else
			cpu_relax();
	}

	static void pause(const State &state);
	static bool begin(State &state, int cpu);
	static void finish(State &state, std::uint32_t ticket);
	int wait_for_start() const;

	Shared<State> shared_;
	Process process_;
	Thread thread_;
};

} /* namespace selftest */

#endif
