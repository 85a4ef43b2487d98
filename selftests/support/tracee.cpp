// SPDX-License-Identifier: GPL-2.0
#include "tracee.hpp"

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <elf.h>
#include <fcntl.h>
#include <linux/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
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

int Tracee::step()
{
	return sys_ptrace(PTRACE_SINGLESTEP, pid_, 0, nullptr) ? errno : 0;
}

int Tracee::instruction_pointer(std::uintptr_t *ip) const
{
	user_regs_struct regs = {};
	iovec vector = { &regs, sizeof(regs) };

	if (sys_ptrace(PTRACE_GETREGSET, pid_, NT_PRSTATUS, &vector))
		return errno;
#if defined(__x86_64__)
	*ip = regs.rip;
#else
	*ip = regs.pc;
#endif
	return 0;
}

int Tracee::read_memory(const volatile void *address, void *data, std::size_t size) const
{
	return access_memory(O_RDONLY, address, data, size);
}

int Tracee::write_memory(volatile void *address, const void *data, std::size_t size) const
{
	return access_memory(O_WRONLY, address, const_cast<void *>(data), size);
}

int Tracee::access_memory(int how, const volatile void *address, void *data,
			  std::size_t size) const
{
	auto offset = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(address));
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid_);

	int fd = open(path, how | O_CLOEXEC);

	if (fd < 0)
		return errno;

	ssize_t done = how == O_RDONLY ? pread(fd, data, size, offset) :
					 pwrite(fd, data, size, offset);
	int err = done < 0 ? errno : 0;

	close(fd);
	return err || static_cast<std::size_t>(done) == size ? err : EIO;
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
