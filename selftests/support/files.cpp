// SPDX-License-Identifier: GPL-2.0
#include "files.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace selftest {

int read_file(const char *path, void *data, std::size_t size, std::size_t *used)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	auto *bytes = static_cast<char *>(data);
	std::size_t total = 0;
	ssize_t n = 0;

	if (fd < 0)
		return errno;
	while (total < size - 1 && (n = read(fd, bytes + total, size - 1 - total)) > 0)
		total += static_cast<std::size_t>(n);

	int err = n < 0 ? errno : 0;

	close(fd);
	bytes[total] = '\0';
	if (used)
		*used = total;
	return err;
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return errno;

	int err = write(fd, text, strlen(text)) < 0 ? errno : 0;

	close(fd);
	return err;
}

} /* namespace selftest */
