/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Both ends of every critical section. The first argument of a section is its struct rseq; only
 * caller-saved registers are used.
 */
#ifndef SELFTEST_SECTIONS_X86_64_H
#define SELFTEST_SECTIONS_X86_64_H

.macro section_enter name
	leaq	\name\()_cs(%rip), %rax
	movq	%rax, RSEQ_CS_OFFSET(%rdi)
\name\()_start:
.endm

.macro abort_handler label, signature=SECTION_SIGNATURE
	/* ud1 with the signature as its displacement, so that disassemblers stay in step. */
	.byte	0x0f, 0xb9, 0x3d
	.long	\signature
\label:
	movl	$1, %eax
	ret
.endm

.macro section_leave name
\name\()_post_commit:
	xorl	%eax, %eax
	ret
	abort_handler \name\()_abort
.endm

#endif
