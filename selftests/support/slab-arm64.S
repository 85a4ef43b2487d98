/* SPDX-License-Identifier: GPL-2.0 */
#include "slab-sections.h"

/* Arguments: x0 = struct rseq, x1, x2, x3 = spins. */

.macro plain_function name
	.text
	.balign	16
	.globl	\name
	.type	\name, %function
\name:
.endm

/* Where sections go that have nothing to commit. */
.macro slab_exits
2:	mov	w0, #SLAB_UNCACHED
	ret
3:	mov	w0, #SLAB_REFUSED
	ret
.endm

.macro load_slab_pointer
	ldur	x8, [x0, #SLAB_POINTER_OFFSET]
	tbz	x8, #SLAB_TAG_BIT, 2f
	and	x8, x8, #((1 << SLAB_TAG_BIT) - 1)
.endm

.macro slab_spin
1:	subs	x3, x3, #1
	b.hs	1b
.endm

.macro define_slab_push name
section_function \name
	section_enter \name
	load_slab_pointer
	add	x9, x8, x1
	ldrh	w10, [x9, #SLAB_CURRENT]
	ldrh	w11, [x9, #SLAB_END]
	cmp	w10, w11
	b.hs	3f
	str	x2, [x8, x10, lsl #3]
	add	w10, w10, #1
	slab_spin
	strh	w10, [x9, #SLAB_CURRENT]
	section_leave \name
	slab_exits
section_end \name
.endm

.macro define_slab_pop name
section_function \name
	section_enter \name
	load_slab_pointer
	add	x9, x8, x1
	ldrh	w10, [x9, #SLAB_CURRENT]
	ldrh	w11, [x9, #SLAB_BEGIN]
	cmp	w10, w11
	b.ls	3f
	sub	w10, w10, #1
	ldr	x12, [x8, x10, lsl #3]
	str	x12, [x2]
	slab_spin
	strh	w10, [x9, #SLAB_CURRENT]
	section_leave \name
	slab_exits
section_end \name
.endm

.macro define_slab_store name
section_function \name
	section_enter \name
	load_slab_pointer
	slab_spin
	str	x2, [x1]
	section_leave \name
	slab_exits
section_end \name
.endm

define_slab_push slab_push
define_slab_pop slab_pop
define_slab_store slab_store

plain_function slab_get_pointer
	ldur	x0, [x0, #SLAB_POINTER_OFFSET]
	ret
	.size	slab_get_pointer, . - slab_get_pointer

plain_function slab_set_pointer
	stur	x1, [x0, #SLAB_POINTER_OFFSET]
	ret
	.size	slab_set_pointer, . - slab_set_pointer

	.section .note.GNU-stack, "", %progbits
