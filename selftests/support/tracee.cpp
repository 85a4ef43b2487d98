// SPDX-License-Identifier: GPL-2.0
#include "tracee.hpp"

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <linux/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace selftest {

static_assert(sizeof(RseqConfiguration) == sizeof(ptrace_rseq_configuration));
static_assert(offsetof(RseqConfiguration, size) ==
	      offsetof(ptrace_rseq_configuration, rseq_abi_size));
static_assert(offsetof(RseqConfiguration, signature) ==
	      offsetof(ptrace_rseq_configuration, signature));
static_assert(offsetof(RseqConfiguration, flags) == offsetof(ptrace_rseq_configuration, flags));

namespace {

/* Not the library's wrapper: its header and the kernel's do not go together. */
long sys_ptrace(long request, pid_t pid, unsigned long addr, void *data)
{
	return syscall(__NR_ptrace, request, pid, addr, data);
}

} /* namespace */

int Tracee::errno_now()
{
	return errno;
}

void Tracee::trace_me()
{
	if (sys_ptrace(PTRACE_TRACEME, 0, 0, nullptr))
		EXPECT_EQ(errno, 0);
}

void Tracee::stop()
{
	raise(SIGSTOP);
}

bool Tracee::wait_for_stop(int sig)
{
	int status;

	if (pid_ < 0 || waitpid(pid_, &status, 0) != pid_)
		return false;
	if (WIFSTOPPED(status))
		return WSTOPSIG(status) == sig;
	pid_ = -1;
	return false;
}

int Tracee::resume()
{
	return sys_ptrace(PTRACE_CONT, pid_, 0, nullptr) ? errno : 0;
}

int Tracee::detach()
{
	return sys_ptrace(PTRACE_DETACH, pid_, 0, nullptr) ? errno : 0;
}

int Tracee::rseq_configuration(void *data, std::size_t size, long *result) const
{
	*result = sys_ptrace(PTRACE_GET_RSEQ_CONFIGURATION, pid_, size, data);
	return *result < 0 ? errno : 0;
}

int Tracee::wait()
{
	int status = wait_status(pid_);

	pid_ = -1;
	return status;
}

void Tracee::kill()
{
	if (pid_ < 0)
		return;
	::kill(pid_, SIGKILL);
	wait();
}

} /* namespace selftest */
