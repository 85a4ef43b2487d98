// SPDX-License-Identifier: GPL-2.0
#include "compat.hpp"
#include "harness.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <linux/rseq.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace selftest {

namespace {

constexpr int cannot_execute = 126;

static_assert(sizeof(struct compat_order) == ORDER_SIZE);
static_assert(offsetof(struct compat_order, length) == ORDER_LENGTH);
static_assert(offsetof(struct compat_order, flags) == ORDER_FLAGS);
static_assert(offsetof(struct compat_order, rseq_cs_high) == ORDER_RSEQ_CS_HIGH);
static_assert(offsetof(struct compat_order, system_call) == ORDER_SYSTEM_CALL);
static_assert(offsetof(struct compat_order, cpu_id_start) == ORDER_CPU_ID_START);
static_assert(offsetof(struct compat_order, cpu_id) == ORDER_CPU_ID);
static_assert(offsetof(struct compat_order, node_id) == ORDER_NODE_ID);
static_assert(offsetof(struct compat_order, mm_cid) == ORDER_MM_CID);
static_assert(offsetof(struct rseq, cpu_id_start) == AREA_CPU_ID_START);
static_assert(offsetof(struct rseq, cpu_id) == AREA_CPU_ID);
static_assert(offsetof(struct rseq, rseq_cs) == AREA_RSEQ_CS);
static_assert(offsetof(struct rseq, rseq_cs) + sizeof(__u32) == AREA_RSEQ_CS_HIGH);
static_assert(offsetof(struct rseq, node_id) == AREA_NODE_ID);
static_assert(offsetof(struct rseq, mm_cid) == AREA_MM_CID);

} /* namespace */

Compat::Compat(const char *begin, const char *end)
	: begin_(begin), image_size_(static_cast<std::size_t>(end - begin))
{
	memcpy(image_, begin, std::min(image_size_, sizeof(image_)));
}

void Compat::set(const char *label, std::size_t offset, const void *data, std::size_t size)
{
	const std::size_t at = static_cast<std::size_t>(label - begin_) + offset;

	ASSERT_LE(at + size, std::min(image_size_, sizeof(image_)));
	memcpy(image_ + at, data, size);
}

void Compat::run()
{
	/* The strings are above the vector: there are enough bytes for compat_auxv to write. */
	char name[COMPAT_AUXV_SIZE + 1] = {}, *argv[] = { name, nullptr }, *envp[] = { nullptr };
	int file = memfd_create("compat", 0), pipe_fds[2];

	memset(name, 'x', COMPAT_AUXV_SIZE);
	ASSERT_GE(file, 0);
	ASSERT_LE(image_size_, sizeof(image_));
	ASSERT_EQ(write(file, image_, image_size_), image_size_);
	ASSERT_EQ(pipe(pipe_fds), 0);

	pid_t pid = fork_member();

	if (pid == 0) {
		dup2(pipe_fds[1], STDOUT_FILENO);
		fexecve(file, argv, envp);
		_exit(errno == ENOEXEC ? cannot_execute : 1);
	}
	close(file);
	close(pipe_fds[1]);

	ssize_t got = read(pipe_fds[0], output_, sizeof(output_));

	status_ = wait_status(pid);
	close(pipe_fds[0]);
	ASSERT_GE(got, 0);
	size_ = static_cast<std::size_t>(got);
	if (WIFEXITED(status_) && WEXITSTATUS(status_) == cannot_execute)
		SKIP("the kernel does not execute 32-bit programs");
}

} /* namespace selftest */
