/* SPDX-License-Identifier: GPL-2.0 */
/* Instructions of 32-bit ARM, which the assembler for arm64 does not know. */
#include "compat.h"

#define EM_ARM		40
#define EABI_5		0x05000000

	compat_header compat_auxv machine=EM_ARM flags=EABI_5
	.long	0xe3a07004			/* mov r7, #4		write */
	.long	0xe3a00001			/* mov r0, #1 */
	.long	0xe28d1000 | COMPAT_AUXV_OFFSET	/* add r1, sp, #... */
	.long	0xe3a02c00 | COMPAT_AUXV_SIZE >> 8	/* mov r2, #...	a multiple of 256 */
	.long	0xef000000			/* svc #0 */
	.long	0xe3a07001			/* mov r7, #1		exit */
	.long	0xe3a00000			/* mov r0, #0 */
	.long	0xef000000			/* svc #0 */
	compat_end compat_auxv

/* ldr rN, [pc, #...]: pc is two instructions ahead. */
.macro load_word register label
	.long	0xe59f0000 + (\register << 12) + (\label - . - 8)
.endm

#define set_area(field)							\
	.long	0xe5941000 | ORDER_##field;	/* ldr r1, [r4, #...] */	\
	.long	0xe5801000 | AREA_##field	/* str r1, [r0, #...] */

	compat_header compat_section machine=EM_ARM flags=EABI_5
	load_word 4 compat_section_order_address
	load_word 0 compat_section_area_address
	.long	0xe5941000 | ORDER_LENGTH	/* ldr r1, [r4, #...] */
	.long	0xe5942000 | ORDER_FLAGS	/* ldr r2, [r4, #...] */
	load_word 3 compat_section_signature
	.long	0xe300718e			/* movw r7, #398	rseq */
	.long	0xef000000			/* svc #0 */
	.long	0xe3500000			/* cmp r0, #0 */
	.long	0x12600000			/* rsbne r0, r0, #0 */
	.long	0x13a07001			/* movne r7, #1		exit */
	.long	0x1f000000			/* svcne #0 */

compat_section_enter:
	load_word 0 compat_section_area_address
	set_area(CPU_ID_START)
	set_area(CPU_ID)
	set_area(NODE_ID)
	set_area(MM_CID)
	set_area(RSEQ_CS_HIGH)
	load_word 2 compat_section_descriptor_address
	.long	0xe5802000 | AREA_RSEQ_CS	/* str r2, [r0, #...] */
compat_section_start:
	.long	0xe5941000 | ORDER_SYSTEM_CALL	/* ldr r1, [r4, #...] */
	.long	0xe3510000			/* cmp r1, #0 */
	.long	0x13a07014			/* movne r7, #20	getpid */
	.long	0x1f000000			/* svcne #0 */
	.long	0xe3a01000			/* mov r1, #0 */
	.long	0xe5841000 | ORDER_SYSTEM_CALL	/* str r1, [r4, #...] */
	.long	0xe320f001			/* yield */
	.long	0xeafffffd			/* b .-4 */
compat_section_post_commit:
compat_section_signature:
	.long	COMPAT_SIGNATURE
compat_section_abort:
	.long	0xe5941000 | ORDER_SYSTEM_CALL	/* ldr r1, [r4, #...] */
	.long	0xe3510000			/* cmp r1, #0 */
	.long	0x1a000000 + ((compat_section_enter - . - 8) >> 2 & 0xffffff)	/* bne */
	.long	0xe3a07004			/* mov r7, #4		write */
	.long	0xe3a00001			/* mov r0, #1 */
	load_word 1 compat_section_area_address
	.long	0xe3a02000 | COMPAT_AREA_SIZE	/* mov r2, #...	less than 256 */
	.long	0xef000000			/* svc #0 */
	.long	0xe3a07001			/* mov r7, #1		exit */
	.long	0xe3a00000			/* mov r0, #0 */
	.long	0xef000000			/* svc #0 */
compat_section_order_address:
	.long	COMPAT_ADDRESS(compat_section, compat_section_order)
compat_section_area_address:
	.long	COMPAT_ADDRESS(compat_section, compat_section_area)
compat_section_descriptor_address:
	.long	COMPAT_ADDRESS(compat_section, compat_section_descriptor)
	compat_section_data
	compat_end compat_section

	.section .note.GNU-stack, "", %progbits
