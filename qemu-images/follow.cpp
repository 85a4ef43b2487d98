// SPDX-License-Identifier: GPL-2.0
/*
 * Whether the rseq area that glibc registers follows the thread from CPU to CPU: what a kernel in
 * the middle of a series has to do at least. Prints KTAP, one case for each CPU that it may use.
 *
 * Exit: 0 passed, 1 a case failed, 3 could not run.
 */
#include <cstdint>
#include <cstdio>

#include <sched.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

int main()
{
	auto *area = reinterpret_cast<volatile struct rseq *>(
		static_cast<char *>(__builtin_thread_pointer()) + __rseq_offset);
	unsigned int number = 0, failed = 0;
	cpu_set_t all;

	if (!__rseq_size || sched_getaffinity(0, sizeof(all), &all)) {
		puts("# glibc has not registered rseq, or the affinity cannot be read");
		return 3;
	}
	printf("TAP version 13\n1..%d\n", CPU_COUNT(&all));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		unsigned int now = ~0U;
		cpu_set_t one;

		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		/* The system call: glibc's function would ask the area. */
		const bool moved = !sched_setaffinity(0, sizeof(one), &one) &&
				   !syscall(SYS_getcpu, &now, nullptr, nullptr) &&
				   now == static_cast<unsigned int>(cpu);
		const std::uint32_t start = area->cpu_id_start, id = area->cpu_id;
		const bool good = moved && start == now && id == now;

		if (!good)
			printf("# on CPU %u of %d, cpu_id_start %u, cpu_id %u\n", now, cpu, start, id);
		printf("%sok %u follow.cpu%d\n", good ? "" : "not ", ++number, cpu);
		failed += !good;
	}
	printf("# Totals: pass:%u fail:%u xfail:0 xpass:0 skip:0 error:0\n", number - failed, failed);
	return failed ? 1 : 0;
}
