/* SPDX-License-Identifier: GPL-2.0 */
#include "slab-sections.h"

/* Arguments: %rdi = struct rseq, %rsi, %rdx, %rcx = spins. */

.macro plain_function name
	.text
	.balign	16
	.globl	\name
	.type	\name, %function
\name:
.endm

/* Where sections go that have nothing to commit. */
.macro slab_exits
2:	movl	$SLAB_UNCACHED, %eax
	ret
3:	movl	$SLAB_REFUSED, %eax
	ret
.endm

.macro load_slab_pointer
	movq	SLAB_POINTER_OFFSET(%rdi), %r8
	btrq	$SLAB_TAG_BIT, %r8
	jnc	2f
.endm

.macro slab_spin
1:	subq	$1, %rcx
	jnc	1b
.endm

.macro define_slab_push name
section_function \name
	section_enter \name
	load_slab_pointer
	movzwl	SLAB_CURRENT(%r8, %rsi), %r10d
	movzwl	SLAB_END(%r8, %rsi), %eax
	cmpl	%eax, %r10d
	jae	3f
	movq	%rdx, (%r8, %r10, 8)
	addl	$1, %r10d
	slab_spin
	movw	%r10w, SLAB_CURRENT(%r8, %rsi)
	section_leave \name
	slab_exits
section_end \name
.endm

.macro define_slab_pop name
section_function \name
	section_enter \name
	load_slab_pointer
	movzwl	SLAB_CURRENT(%r8, %rsi), %r10d
	movzwl	SLAB_BEGIN(%r8, %rsi), %eax
	cmpl	%eax, %r10d
	jbe	3f
	subl	$1, %r10d
	movq	(%r8, %r10, 8), %r9
	movq	%r9, (%rdx)
	slab_spin
	movw	%r10w, SLAB_CURRENT(%r8, %rsi)
	section_leave \name
	slab_exits
section_end \name
.endm

.macro define_slab_store name
section_function \name
	section_enter \name
	load_slab_pointer
	slab_spin
	movq	%rdx, (%rsi)
	section_leave \name
	slab_exits
section_end \name
.endm

define_slab_push slab_push
define_slab_pop slab_pop
define_slab_store slab_store

plain_function slab_get_pointer
	movq	SLAB_POINTER_OFFSET(%rdi), %rax
	ret
	.size	slab_get_pointer, . - slab_get_pointer

plain_function slab_set_pointer
	movq	%rsi, SLAB_POINTER_OFFSET(%rdi)
	ret
	.size	slab_set_pointer, . - slab_set_pointer

	.section .note.GNU-stack, "", %progbits
