/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Critical sections. They are assembly, so that no compiler moves anything in or out of them;
 * every shape is one macro in sections-<arch>.S. For a section NAME there are
 *
 *	NAME()			the function that enters it: 0 committed, 1 aborted
 *	NAME_cs			its descriptor
 *	NAME_start		first instruction inside
 *	NAME_post_commit	first instruction after the commit
 *	NAME_abort		where the kernel sends an aborted thread
 *
 * A section never clears rseq_cs itself: what stands there afterwards is the kernel's doing.
 */
#ifndef SELFTEST_SECTIONS_H
#define SELFTEST_SECTIONS_H

/* The four bytes before an abort handler: an undefined instruction on each architecture. */
#if defined(__x86_64__)
#define SECTION_SIGNATURE	0x53053053
#elif defined(__aarch64__)
#define SECTION_SIGNATURE	0xd428bc00
#else
#error "no critical sections for this architecture"
#endif

/* As good as that one, but not what registrations ask for. */
#define WRONG_SIGNATURE		(SECTION_SIGNATURE ^ 0x20)

/* Offsets in struct rseq and in the structures below; rseq.cpp asserts them. */
#define RSEQ_CPU_ID_OFFSET	4
#define RSEQ_CS_OFFSET		8
#define LOADS_FIRST		0
#define LOADS_SECOND		8
#define LOADS_COMMITTED		16
#define GATE_ENTERED		0
#define GATE_OPEN		4
#define GATE_COMMITTED		8

#ifdef __ASSEMBLER__

/* Shared by the architectures: labels, descriptor, and an entry in the table of all sections. */

.macro section_function name
	.text
	.balign	16
	.globl	\name
	.type	\name, %function
\name:
	.cfi_startproc
.endm

.macro section_end name
	.cfi_endproc
	.size	\name, . - \name
	.globl	\name\()_start, \name\()_post_commit, \name\()_abort, \name\()_cs

	.section .data.rel.ro.rseq_cs, "aw"
	.balign	32
	.type	\name\()_cs, %object
\name\()_cs:
	.long	0, 0
	.quad	\name\()_start
	.quad	\name\()_post_commit - \name\()_start
	.quad	\name\()_abort
	.size	\name\()_cs, . - \name\()_cs

	.section .rodata.str, "a"
.L\name\()_name:
	.asciz	"\name"

	.section rseq_sections, "aw"
	.balign	8
	.quad	\name\()_cs
	.quad	.L\name\()_name
	.text
.endm

#if defined(__x86_64__)
#include "sections-x86_64.h"
#else
#include "sections-arm64.h"
#endif

#else

#include <stdint.h>
#include <linux/rseq.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DECLARE_SECTION(name)							\
	extern const struct rseq_cs name##_cs;					\
	extern const char name##_start[], name##_post_commit[], name##_abort[]

/* All sections that are linked in. */
struct section_entry {
	const struct rseq_cs *cs;
	const char *name;
};

extern const struct section_entry __start_rseq_sections[], __stop_rseq_sections[];

/*
 * double_load: load *x, spin, load *x again. The commit is one store of 1 to committed.
 * Undisturbed sections see one value twice.
 */
struct section_loads {
	uint64_t first;
	uint64_t second;
	uint32_t committed;
};

DECLARE_SECTION(double_load);
int double_load(struct rseq *area, const volatile uint64_t *x, uint64_t spins,
		struct section_loads *loads);

/*
 * gated: store ticket to entered, then spin until open holds ticket. The commit is one store of
 * ticket to committed. Whoever sees entered change finds the thread inside of the section.
 */
struct section_gate {
	uint32_t entered;
	uint32_t open;
	uint32_t committed;
};

DECLARE_SECTION(gated);
int gated(struct rseq *area, volatile struct section_gate *gate, uint32_t ticket);

/* system_call: what a section must not do. Nothing is committed, the result is dropped. */
DECLARE_SECTION(system_call);
int system_call(struct rseq *area, long number, long arg0, long arg1, long arg2);

/*
 * described: gated, but with the descriptor that the caller made up; described_cs is a correct one.
 * Abort handlers that look the same are below the section (described_low) and after a wrong
 * signature (described_unsigned .. described_unsigned_end, runs anywhere).
 */
DECLARE_SECTION(described);
extern const char described_low[], described_unsigned[], described_unsigned_end[];
int described(struct rseq *area, volatile struct section_gate *gate, uint32_t ticket,
	      const struct rseq_cs *cs);

#ifdef __cplusplus
}
#endif

#endif /* !__ASSEMBLER__ */

#endif
