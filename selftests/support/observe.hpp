/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The mode of a registration, judged by what the kernel does and not by what it says.
 */
#ifndef SELFTEST_OBSERVE_HPP
#define SELFTEST_OBSERVE_HPP

#include "rseq.hpp"

namespace selftest {

enum class Service { v1, v2, neither };

constexpr Service service_of(Mode mode)
{
	return is_v2(mode) ? Service::v2 : Service::v1;
}

/* Above every CPU and node number and mm_cid, and different in every field. */
constexpr Ids impossible_ids = { 0x80000001, 0x80010002, 0x80020003, 0x80040004 };

/* The area has the IDs of that CPU, where the thread is now. */
void expect_ids_of(const Area &area, int cpu);
/* The same, of the CPU where the thread is, from which it may be moved at any time. */
void expect_ids_of_current(const Area &area);

/* For the word at offset 28 before a registration: v2 sets it to 0, v1 leaves it alone (R7). */
constexpr std::size_t tail_offset = 28;
constexpr std::uint32_t stale_tail = 0x5ca1ab1e;

/*
 * As what the registered area of the calling thread is served (R2): poison in the ID fields is
 * gone when a signal that the thread sends to itself arrives (v1), or it is still there (v2).
 * Neither answer depends on what else happens to the thread meanwhile, provided that it is
 * pinned and that its mm_cid is settled. Puts the right values back. Uses SIGUSR2.
 *
 * With rseq_debug=1 a v2 thread dies of it.
 */
Service observe_service(Area &area);

} /* namespace selftest */

#endif
