/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Running the 32-bit programs of compat.h.
 */
#ifndef SELFTEST_COMPAT_HPP
#define SELFTEST_COMPAT_HPP

#include "compat.h"

#include <cstddef>
#include <sys/types.h>

namespace selftest {

/* A copy of one of them, and what became of it. */
class Compat {
public:
	Compat(const char *begin, const char *end);	/* of at most 1 KiB, or run() fails */

	/* At a label of its own: more bytes than are in it fail. */
	void set(const char *label, std::size_t offset, const void *data, std::size_t size);

	/*
	 * To its end, on the CPUs of the caller. SKIP where the kernel does not execute 32-bit
	 * programs.
	 */
	void run();

	int status() const { return status_; }		/* of waitpid() */
	const char *output() const { return output_; }
	std::size_t size() const { return size_; }	/* of the output; bytes */

private:
	const char *begin_;
	std::size_t image_size_;
	char image_[1024];

	int status_ = -1;
	char output_[COMPAT_AUXV_SIZE];
	std::size_t size_ = 0;
};

} /* namespace selftest */

#endif
