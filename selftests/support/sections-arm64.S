/* SPDX-License-Identifier: GPL-2.0 */
#include "sections.h"

/* Arguments: x0 = struct rseq, x1, x2, x3. Only caller-saved registers are used. */

.macro define_double_load name
section_function \name
	section_enter \name
	ldr	x10, [x1]
1:	subs	x2, x2, #1
	b.hs	1b
	ldr	x11, [x1]
	stp	x10, x11, [x3, #LOADS_FIRST]
	mov	w12, #1
	str	w12, [x3, #LOADS_COMMITTED]
	section_leave \name
section_end \name
.endm

.macro define_gated name
section_function \name
	section_enter \name
	str	w2, [x1, #GATE_ENTERED]
1:	yield
	ldr	w9, [x1, #GATE_OPEN]
	cmp	w9, w2
	b.ne	1b
	str	w2, [x1, #GATE_COMMITTED]
	section_leave \name
section_end \name
.endm

.macro define_system_call name
section_function \name
	section_enter \name
	mov	x8, x1
	mov	x0, x2
	mov	x1, x3
	mov	x2, x4
	svc	#0
	/* The call returns to an instruction that is still inside. */
	nop
	section_leave \name
section_end \name
.endm

.macro define_described name
	.text
	abort_handler \name\()_low
section_function \name
	str	x3, [x0, #RSEQ_CS_OFFSET]
\name\()_start:
	str	w2, [x1, #GATE_ENTERED]
1:	yield
	ldr	w9, [x1, #GATE_OPEN]
	cmp	w9, w2
	b.ne	1b
	str	w2, [x1, #GATE_COMMITTED]
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
