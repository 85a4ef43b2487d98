/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Critical sections of a TCMalloc-shaped client, see slab.hpp. Besides 0 (committed) and 1
 * (aborted) they return one of the SLAB_ values, with nothing changed. Other than the sections of
 * sections.h they do not look at cpu_id: that the cached pointer is valid says everything. All of
 * them spin a while before the commit.
 */
#ifndef SELFTEST_SLAB_SECTIONS_H
#define SELFTEST_SLAB_SECTIONS_H

#include "sections.h"

#define SLAB_UNCACHED		2	/* the cached pointer is not valid */
#define SLAB_REFUSED		3	/* full, or empty */

/* The cached pointer, as seen from struct rseq: its upper half is cpu_id_start. */
#define SLAB_POINTER_OFFSET	-4
/* Set while the pointer is valid: bit 31 of cpu_id_start. */
#define SLAB_TAG_BIT		63

/* Offsets in slab::Header. */
#define SLAB_BEGIN		0
#define SLAB_CURRENT		2
#define SLAB_END		4

#ifndef __ASSEMBLER__

#ifdef __cplusplus
extern "C" {
#endif

/* Not sections: the unaligned pointer with one access. */
uint64_t slab_get_pointer(const void *area);
void slab_set_pointer(void *area, uint64_t value);

/*
 * slab_push, slab_pop: the header is that many bytes behind the cached pointer. The item is
 * stored or loaded first, the commit is the store of the header's "current".
 */
DECLARE_SECTION(slab_push);
int slab_push(void *area, uint64_t header, uint64_t item, uint64_t spins);
DECLARE_SECTION(slab_pop);
int slab_pop(void *area, uint64_t header, uint64_t *item, uint64_t spins);

/* slab_store: store value if the cached pointer is valid, whatever it is. Grows and caches. */
DECLARE_SECTION(slab_store);
int slab_store(void *area, volatile void *address, uint64_t value, uint64_t spins);

#ifdef __cplusplus
}
#endif

#endif /* !__ASSEMBLER__ */

#endif
