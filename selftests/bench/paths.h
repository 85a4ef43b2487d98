/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What cost.cpp needs in assembly: the signature, a loop of two instructions a turn, which is also
 * a critical section, and the marks by which an instruction counter outside of the guest knows when
 * to count (begin, end), and between which two something is measured (case).
 */
#ifndef BENCH_PATHS_H
#define BENCH_PATHS_H

/* The four bytes before an abort handler: an undefined instruction on each architecture. */
#if defined(__x86_64__)
#define BENCH_SIGNATURE	0x53053053
#elif defined(__aarch64__)
#define BENCH_SIGNATURE	0xd428bc00
#else
#error "no paths for this architecture"
#endif

#define RSEQ_CS_OFFSET	8

#ifndef __ASSEMBLER__

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rseq_cs_descriptor {
	uint32_t version, flags;
	uint64_t start_ip, post_commit_offset, abort_ip;
};

/* The loop of spin(), and a section nobody is ever in. */
extern const struct rseq_cs_descriptor spin_cs, elsewhere_cs;

/*
 * Stores cs to rseq_cs of the area, then turns so many times. Returns how many turns are left: not 0
 * if the section was aborted. A turn is two instructions.
 */
uint64_t spin(void *area, uint64_t turns, const struct rseq_cs_descriptor *cs);

/* They return at once. Their addresses are what a counter looks for. */
void mark_begin(void);
void mark_end(void);
void mark_case(void);

#ifdef __cplusplus
}
#endif

#endif /* !__ASSEMBLER__ */

#endif
