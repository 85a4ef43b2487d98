/* SPDX-License-Identifier: GPL-2.0 */
#include "paths.h"

.macro function name
	.text
	.balign	16
	.globl	\name
	.type	\name, %function
\name:
.endm

.macro descriptor name, start, end, abort
	.section .data.rel.ro.rseq_cs, "aw"
	.balign	32
	.globl	\name
	.type	\name, %object
\name:
	.long	0, 0
	.quad	\start, \end - \start, \abort
	.size	\name, . - \name
	.text
.endm

function spin
	str	x2, [x0, #RSEQ_CS_OFFSET]
spin_start:
	subs	x1, x1, #1
	b.ne	spin_start
spin_end:
	mov	x0, x1
	ret
	.inst	BENCH_SIGNATURE
spin_abort:
	mov	x0, x1
	ret

elsewhere_start:
	nop
elsewhere_end:

descriptor spin_cs, spin_start, spin_end, spin_abort
descriptor elsewhere_cs, elsewhere_start, elsewhere_end, spin_abort

function mark_begin
	ret
function mark_end
	ret
function mark_case
	ret

	.section .note.GNU-stack, "", %progbits
