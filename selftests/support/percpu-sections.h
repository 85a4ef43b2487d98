/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Critical sections on per-CPU data, see percpu.hpp. All of them do nothing unless cpu_id is the
 * CPU that the caller has chosen the data for, and spin a while before the commit, so that what
 * is to happen inside does. Besides 0 (committed) and 1 (aborted) they return a PERCPU_ value,
 * with nothing changed.
 *
 * Two libraries have a copy of each: one_add and two_add, ...
 */
#ifndef SELFTEST_PERCPU_SECTIONS_H
#define SELFTEST_PERCPU_SECTIONS_H

#include "sections.h"

#define PERCPU_MOVED		2	/* the thread is on another CPU */
#define PERCPU_REFUSED		3	/* not what was expected, or empty */

/* Offset in percpu::Node. */
#define PERCPU_NEXT		0

#ifndef __ASSEMBLER__

#ifdef __cplusplus
extern "C" {
#endif

/* One library's sections. */
#define DECLARE_PERCPU_SECTIONS(library)					\
	/* Adds to the word that *active points to, which is loaded inside. */	\
	DECLARE_SECTION(library##_add);						\
	int library##_add(struct rseq *area, uint32_t cpu, uint64_t *const *active,	\
			  uint64_t value, uint64_t spins);			\
	/* *word = value if it is what the caller expects. */			\
	DECLARE_SECTION(library##_replace);					\
	int library##_replace(struct rseq *area, uint32_t cpu, uint64_t *word,	\
			      uint64_t expected, uint64_t value, uint64_t spins);	\
	/* Unlinks the first node of the list. */				\
	DECLARE_SECTION(library##_unlink);					\
	int library##_unlink(struct rseq *area, uint32_t cpu, uint64_t *head,	\
			     uint64_t *node, uint64_t spins)

DECLARE_PERCPU_SECTIONS(one);
DECLARE_PERCPU_SECTIONS(two);

#ifdef __cplusplus
}
#endif

#endif /* !__ASSEMBLER__ */

#endif
