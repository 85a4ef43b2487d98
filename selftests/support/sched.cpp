// SPDX-License-Identifier: GPL-2.0
#include "sched.hpp"
#include "files.hpp"

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <linux/futex.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

namespace selftest {

namespace {

int cpu_list[CPU_SETSIZE];
int cpu_count;

} /* namespace */

void find_cpus()
{
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	sched_getaffinity(0, sizeof(allowed), &allowed);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			cpu_list[cpu_count++] = cpu;
}

int nr_cpus()
{
	return cpu_count;
}

int cpu_at(int index)
{
	return index >= 0 && index < cpu_count ? cpu_list[index] : -1;
}

int last_cpu()
{
	return cpu_at(cpu_count - 1);
}

int pin(int cpu, pid_t tid)
{
	cpu_set_t set;

	if (cpu < 0)
		return EINVAL;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(tid, sizeof(set), &set) ? errno : 0;
}

int unpin()
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < cpu_count; i++)
		CPU_SET(cpu_list[i], &set);
	return sched_setaffinity(0, sizeof(set), &set) ? errno : 0;
}

int pin_after_all(int cpu)
{
	for (int i = 0; i < cpu_count; i++)
		if (int err = pin(cpu_list[i]))
			return err;
	return pin(cpu);
}

Location location()
{
	Location here = {};

	syscall(__NR_getcpu, &here.cpu, &here.node, nullptr);
	return here;
}

bool system_is_throwaway()
{
	struct statfs root;

	return !statfs("/", &root) &&
	       (root.f_type == RAMFS_MAGIC || root.f_type == TMPFS_MAGIC);
}

Switches switches()
{
	rusage usage = {};

	getrusage(RUSAGE_THREAD, &usage);
	return { usage.ru_nvcsw, usage.ru_nivcsw };
}

char thread_state(pid_t tid)
{
	char path[32], stat[512];

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	if (read_file(path, stat, sizeof(stat)))
		return '?';

	/* Behind the name, which may be anything. */
	const char *end = strrchr(stat, ')');

	return end && end[1] == ' ' ? end[2] : '?';
}

int futex_wait(const std::uint32_t *word, std::uint32_t expected)
{
	return syscall(__NR_futex, word, FUTEX_WAIT, expected, nullptr, nullptr, 0) ? errno : 0;
}

void futex_wake(const std::uint32_t *word)
{
	syscall(__NR_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

int send_signal(pid_t tgid, pid_t tid, int sig)
{
	return syscall(__NR_tgkill, tgid, tid, sig) ? errno : 0;
}

int own_tid()
{
	return static_cast<int>(syscall(__NR_gettid));
}

int sys_membarrier(int command, unsigned int flags, int cpu)
{
	return syscall(__NR_membarrier, command, flags, cpu) < 0 ? errno : 0;
}

int handle_signal(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = {};

	action.sa_sigaction = handler;
	action.sa_flags = SA_SIGINFO | flags;
	if (flags & SA_NODEFER)
		sigemptyset(&action.sa_mask);
	else
		sigfillset(&action.sa_mask);
	return sigaction(sig, &action, nullptr) ? errno : 0;
}

int arm_timer(long microseconds)
{
	itimerval timer = {};

	timer.it_value.tv_sec = microseconds / 1000000;
	timer.it_value.tv_usec = microseconds % 1000000;
	return setitimer(ITIMER_REAL, &timer, nullptr) ? errno : 0;
}

std::uintptr_t interrupted_ip(const void *ucontext)
{
	const auto *context = static_cast<const ucontext_t *>(ucontext);

#if defined(__x86_64__)
	return static_cast<std::uintptr_t>(context->uc_mcontext.gregs[REG_RIP]);
#else
	return context->uc_mcontext.pc;
#endif
}

/* ---- Actors ---- */

int Process::errno_now()
{
	return errno;
}

int Process::wait()
{
	int status = wait_status(pid_);

	pid_ = -1;
	return status;
}

void Process::kill()
{
	if (pid_ < 0)
		return;
	::kill(pid_, SIGKILL);
	wait();
}

int Thread::create()
{
	int err = pthread_create(&thread_, nullptr, run, this);

	started_ = !err;
	return err;
}

void *Thread::run(void *self)
{
	auto *thread = static_cast<Thread *>(self);

	thread->call_(thread->storage_, thread->stop_);
	return nullptr;
}

void Thread::join()
{
	if (!started_)
		return;
	stop_ = true;
	pthread_join(thread_, nullptr);
	started_ = false;
}

void Agent::sleep(std::uint32_t ticket) const
{
	const std::uint32_t *served = &shared_->served;

	for (std::uint32_t seen; (seen = __atomic_load_n(served, __ATOMIC_ACQUIRE)) != ticket;)
		futex_wait(served, seen);
}

void Agent::pause(const State &state)
{
	const timespec time = { 0, state.pause_us * 1000 };

	nanosleep(&time, nullptr);
}

bool Agent::begin(State &state, int cpu)
{
	const sched_param before_everybody = { 1 };
	int err = pin(cpu);

	if (state.pause_us && sched_setscheduler(0, SCHED_FIFO, &before_everybody))
		state.pause_us = 0;
	state.error = err;
	if (err)
		state.progress = 1;
	return !err;
}

void Agent::finish(State &state, std::uint32_t ticket)
{
	__atomic_store_n(&state.gate.open, ticket, __ATOMIC_RELEASE);
	__atomic_store_n(&state.served, ticket, __ATOMIC_RELEASE);
	futex_wake(&state.served);
}

int Agent::wait_for_start() const
{
	spin_until([&] { return progress() != 0; });
	return shared_->error;
}

} /* namespace selftest */
