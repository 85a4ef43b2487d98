/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A child that stops where it wants to be looked at.
 */
#ifndef SELFTEST_TRACEE_HPP
#define SELFTEST_TRACEE_HPP

#include "harness.hpp"

#include <cstddef>
#include <cstdint>
#include <sys/types.h>

namespace selftest {

/* What PTRACE_GET_RSEQ_CONFIGURATION writes; the last word was padding before R13. */
struct RseqConfiguration {
	std::uint64_t pointer;
	std::uint32_t size, signature, flags, reg_flags;

	bool operator==(const RseqConfiguration &) const = default;
};

class Tracee {
public:
	Tracee() = default;
	~Tracee() { kill(); }
	Tracee(const Tracee &) = delete;
	Tracee &operator=(const Tracee &) = delete;

	/* With the registration of the thread that forks. An errno. */
	template <typename Body>
	int start(Body &&body)
	{
		pid_ = fork_member();
		if (pid_ == 0) {
			unsigned int before = failures();

			trace_me();
			body();
			_exit(failures() != before);
		}
		return pid_ < 0 ? errno_now() : 0;
	}

	/* Called by the child. */
	static void stop();

	pid_t pid() const { return pid_; }

	/* Stopped by that signal: stop() raises SIGSTOP, exec SIGTRAP. */
	bool wait_for_stop(int sig);
	/* Errnos, all of them. A signal that the child has stopped for is not delivered. */
	int resume();
	int step();		/* one instruction, and then SIGTRAP */
	int detach();
	/* Of the stopped child: where it is, and its memory. */
	int instruction_pointer(std::uintptr_t *ip) const;
	int read_memory(const volatile void *address, void *data, std::size_t size) const;
	int write_memory(volatile void *address, const void *data, std::size_t size) const;
	/* The return value of the request, which is not negative, goes to *result. */
	int rseq_configuration(void *data, std::size_t size, long *result) const;
	int wait();		/* a status of waitpid() */
	void kill();

private:
	static int errno_now();
	static void trace_me();
	int access_memory(int how, const volatile void *address, void *data,
			  std::size_t size) const;

	pid_t pid_ = -1;
};

} /* namespace selftest */

#endif
