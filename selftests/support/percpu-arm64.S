/* SPDX-License-Identifier: GPL-2.0 */
#include "percpu-sections.h"

/* Arguments: x0 = struct rseq, w1 = CPU, x2, x3, x4, x5. */

.macro percpu_enter name
section_function \name
	section_enter \name
	ldr	w9, [x0, #RSEQ_CPU_ID_OFFSET]
	cmp	w9, w1
	b.ne	2f
.endm

.macro percpu_spin count
1:	subs	\count, \count, #1
	b.hs	1b
.endm

.macro percpu_end name
2:	mov	w0, #PERCPU_MOVED
	ret
3:	mov	w0, #PERCPU_REFUSED
	ret
section_end \name
.endm

.macro define_percpu_add name
	percpu_enter \name
	ldr	x10, [x2]
	ldr	x11, [x10]
	percpu_spin x4
	add	x11, x11, x3
	str	x11, [x10]
	section_leave \name
	percpu_end \name
.endm

.macro define_percpu_replace name
	percpu_enter \name
	ldr	x10, [x2]
	cmp	x10, x3
	b.ne	3f
	percpu_spin x5
	str	x4, [x2]
	section_leave \name
	percpu_end \name
.endm

.macro define_percpu_unlink name
	percpu_enter \name
	ldr	x10, [x2]
	cbz	x10, 3f
	ldr	x11, [x10, #PERCPU_NEXT]
	percpu_spin x4
	str	x10, [x3]
	str	x11, [x2]
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
