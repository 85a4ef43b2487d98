/* SPDX-License-Identifier: GPL-2.0 */
#include "percpu-sections.h"

/* Arguments: %rdi = struct rseq, %esi = CPU, %rdx, %rcx, %r8, %r9. */

.macro percpu_enter name
section_function \name
	section_enter \name
	cmpl	%esi, RSEQ_CPU_ID_OFFSET(%rdi)
	jne	2f
.endm

.macro percpu_spin count
1:	subq	$1, \count
	jnc	1b
.endm

.macro percpu_end name
2:	movl	$PERCPU_MOVED, %eax
	ret
3:	movl	$PERCPU_REFUSED, %eax
	ret
section_end \name
.endm

.macro define_percpu_add name
	percpu_enter \name
	movq	(%rdx), %r10
	movq	(%r10), %r11
	percpu_spin %r8
	addq	%rcx, %r11
	movq	%r11, (%r10)
	section_leave \name
	percpu_end \name
.endm

.macro define_percpu_replace name
	percpu_enter \name
	cmpq	%rcx, (%rdx)
	jne	3f
	percpu_spin %r9
	movq	%r8, (%rdx)
	section_leave \name
	percpu_end \name
.endm

.macro define_percpu_unlink name
	percpu_enter \name
	movq	(%rdx), %r10
	testq	%r10, %r10
	jz	3f
	movq	PERCPU_NEXT(%r10), %r11
	percpu_spin %r8
	movq	%r10, (%rcx)
	movq	%r11, (%rdx)
	section_leave \name
	percpu_end \name
.endm

define_percpu_add one_add
define_percpu_replace one_replace
define_percpu_unlink one_unlink

define_percpu_add two_add
define_percpu_replace two_replace
define_percpu_unlink two_unlink

	.section .note.GNU-stack, "", %progbits
