/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Small files of procfs, debugfs and tracefs, without stdio.
 */
#ifndef SELFTEST_FILES_HPP
#define SELFTEST_FILES_HPP

#include <cstddef>

namespace selftest {

/* An errno. What does not fit is cut off; *used is without the zero byte that is appended. */
int read_file(const char *path, void *data, std::size_t size, std::size_t *used = nullptr);
int write_file(const char *path, const char *text);

} /* namespace selftest */

#endif
