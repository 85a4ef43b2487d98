/* SPDX-License-Identifier: GPL-2.0 */
#include "sections.h"

/* Arguments: %rdi = struct rseq, %rsi, %rdx, %rcx. Only caller-saved registers are used. */

.macro define_double_load name
section_function \name
	section_enter \name
	movq	(%rsi), %r8
1:	subq	$1, %rdx
	jnc	1b
	movq	(%rsi), %r9
	movq	%r8, LOADS_FIRST(%rcx)
	movq	%r9, LOADS_SECOND(%rcx)
	movl	$1, LOADS_COMMITTED(%rcx)
	section_leave \name
section_end \name
.endm

.macro define_gated name
section_function \name
	section_enter \name
	movl	%edx, GATE_ENTERED(%rsi)
1:	pause
	cmpl	%edx, GATE_OPEN(%rsi)
	jne	1b
	movl	%edx, GATE_COMMITTED(%rsi)
	section_leave \name
section_end \name
.endm

.macro define_system_call name
section_function \name
	section_enter \name
	movq	%rsi, %rax
	movq	%rdx, %rdi
	movq	%rcx, %rsi
	movq	%r8, %rdx
	syscall
	/* The call returns to an instruction that is still inside. */
	nop
	section_leave \name
section_end \name
.endm

.macro define_described name
	.text
	abort_handler \name\()_low
section_function \name
	movq	%rcx, RSEQ_CS_OFFSET(%rdi)
\name\()_start:
	movl	%edx, GATE_ENTERED(%rsi)
1:	pause
	cmpl	%edx, GATE_OPEN(%rsi)
	jne	1b
	movl	%edx, GATE_COMMITTED(%rsi)
	section_leave \name
	abort_handler \name\()_unsigned, WRONG_SIGNATURE
\name\()_unsigned_end:
	.globl	\name\()_low, \name\()_unsigned, \name\()_unsigned_end
section_end \name
.endm

define_double_load double_load
define_gated gated
define_system_call system_call
define_described described

	.section .note.GNU-stack, "", %progbits
