/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Both ends of every critical section. The first argument of a section is its struct rseq; only
 * caller-saved registers are used.
 */
#ifndef SELFTEST_SECTIONS_ARM64_H
#define SELFTEST_SECTIONS_ARM64_H

.macro section_enter name
	adrp	x9, \name\()_cs
	add	x9, x9, :lo12:\name\()_cs
	str	x9, [x0, #RSEQ_CS_OFFSET]
\name\()_start:
.endm

.macro abort_handler label, signature=SECTION_SIGNATURE
	/* brk #0x45e0; .inst, since instructions are little endian on every arm64. */
	.inst	\signature
\label:
	mov	w0, #1
	ret
.endm

.macro section_leave name
\name\()_post_commit:
	mov	w0, #0
	ret
	abort_handler \name\()_abort
.endm

#endif
