// SPDX-License-Identifier: GPL-2.0
#include "storm.hpp"
#include "sched.hpp"

#include <cerrno>
#include <csignal>
#include <ctime>
#include <sys/syscall.h>
#include <unistd.h>

namespace selftest {

int BurstTimer::start(int sig)
{
	sigevent event = {};

	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = sig;
	event._sigev_un._tid = own_tid();
	return syscall(__NR_timer_create, CLOCK_MONOTONIC, &event, &id_) ? errno : 0;
}

void BurstTimer::stop()
{
	if (id_ >= 0)
		syscall(__NR_timer_delete, id_);
	id_ = -1;
}

int BurstTimer::set(long value_ns, long interval_ns)
{
	const itimerspec time = { { 0, interval_ns }, { 0, value_ns } };

	return syscall(__NR_timer_settime, id_, 0, &time, nullptr) ? errno : 0;
}

void BurstTimer::arm(std::uint32_t delay_us)
{
	left_ = burst;
	set(delay_us * 1000L, 1000);
}

void BurstTimer::hit()
{
	const std::uint32_t left = left_;
	const int saved_errno = errno;

	hits_ = hits_ + 1;
	left_ = left ? left - 1 : 0;
	/* Also with nothing left: a burst may end while arm() is starting the next one. */
	if (left <= 1)
		set(0, 0);
	errno = saved_errno;
}

} /* namespace selftest */
