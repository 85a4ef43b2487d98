/* SPDX-License-Identifier: GPL-2.0 */
/*
 * 32-bit programs, as the bytes of their ELF files, so that nobody needs a compiler for them:
 *
 * compat_auxv, executed with one argument and an empty environment, writes COMPAT_AUXV_SIZE bytes
 * to stdout that begin with its auxiliary vector, and exits with 0.
 *
 * compat_section registers rseq, sets its IDs, and enters a critical section that it does not leave
 * by itself. Aborted it writes the first COMPAT_AREA_SIZE bytes of its area to stdout, and exits
 * with 0; but if it was to make a system call inside and has not done so, it enters once more.
 * Where rseq(2) fails it exits with the errno. What to do, the area and the descriptor are in its
 * bytes, at compat_section_order and so on: a copy can have others.
 */
#ifndef SELFTEST_COMPAT_H
#define SELFTEST_COMPAT_H

#define COMPAT_AUXV_SIZE	512
#define COMPAT_AREA_SIZE	32
#define COMPAT_AREA_ALIGN	64

/* struct compat_order */
#define ORDER_LENGTH		0
#define ORDER_FLAGS		4
#define ORDER_RSEQ_CS_HIGH	8
#define ORDER_SYSTEM_CALL	12
#define ORDER_CPU_ID_START	16
#define ORDER_CPU_ID		20
#define ORDER_NODE_ID		24
#define ORDER_MM_CID		28
#define ORDER_SIZE		32

/* struct rseq */
#define AREA_CPU_ID_START	0
#define AREA_CPU_ID		4
#define AREA_RSEQ_CS		8
#define AREA_RSEQ_CS_HIGH	12
#define AREA_NODE_ID		20
#define AREA_MM_CID		24

#define COMPAT_SIGNATURE	0x53053053

#ifdef __ASSEMBLER__

/* On the stack of the new program: argc, argv[0], and the ends of argv and envp. */
#define COMPAT_AUXV_OFFSET	16

#define COMPAT_BASE		0x10000

/* Where it will be in the memory of the program. */
#define COMPAT_ADDRESS(name, label)	(COMPAT_BASE + label - name)

/* The file header, and one segment that has the whole file. The code follows. */
.macro compat_header name machine flags
	.section .rodata
	.balign	COMPAT_AREA_ALIGN
	.globl	\name, \name\()_end
	.type	\name, %object
\name:
	.byte	0x7f, 'E', 'L', 'F', 1, 1, 1, 0
	.zero	8
	.short	2, \machine		/* ET_EXEC */
	.long	1, COMPAT_ADDRESS(\name, \name\()_code)
	.long	52, 0, \flags		/* program headers, no sections */
	.short	52, 32, 1, 40, 0, 0
	.long	1, 0, COMPAT_BASE, COMPAT_BASE
	.long	\name\()_end - \name, \name\()_end - \name
	.long	7, 0x1000		/* PF_R | PF_W | PF_X */
\name\()_code:
.endm

.macro compat_end name
\name\()_end:
	.size	\name, . - \name
.endm

/* What compat_section has besides code, which has start, post_commit and abort. */
.macro compat_section_data
	.globl	compat_section_order, compat_section_descriptor, compat_section_area
	.balign	4
compat_section_order:
	.zero	ORDER_SIZE
	.balign	32
compat_section_descriptor:
	.long	0, 0
	.quad	COMPAT_ADDRESS(compat_section, compat_section_start)
	.quad	compat_section_post_commit - compat_section_start
	.quad	COMPAT_ADDRESS(compat_section, compat_section_abort)
	.balign	COMPAT_AREA_ALIGN
compat_section_area:
	.zero	2 * COMPAT_AREA_ALIGN
.endm

#else

#include <linux/types.h>

struct compat_order {
	__u32 length;		/* of the registration; bytes */
	__u32 flags;
	__u32 rseq_cs_high;	/* the upper half of rseq_cs in the section */
	__u32 system_call;	/* one inside of the section, or none if 0 */
	__u32 cpu_id_start, cpu_id, node_id, mm_cid;	/* what the area has before the section */
};

#ifdef __cplusplus
extern "C" {
#endif

extern const char compat_auxv[], compat_auxv_end[];
extern const char compat_section[], compat_section_end[];
extern const char compat_section_order[], compat_section_descriptor[], compat_section_area[];

#ifdef __cplusplus
}
#endif

#endif /* !__ASSEMBLER__ */

#endif
