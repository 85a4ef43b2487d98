/* SPDX-License-Identifier: GPL-2.0 */
#include "compat.h"

/* Instructions of 32-bit ARM, which the assembler for arm64 does not know. */
	compat_header machine=40 flags=0x05000000	/* EM_ARM, version 5 of the EABI */
	.long	0xe3a07004			/* mov r7, #4		write */
	.long	0xe3a00001			/* mov r0, #1 */
	.long	0xe28d1000 | COMPAT_AUXV_OFFSET	/* add r1, sp, #... */
	.long	0xe3a02c00 | COMPAT_AUXV_SIZE >> 8	/* mov r2, #...	a multiple of 256 */
	.long	0xef000000			/* svc #0 */
	.long	0xe3a07001			/* mov r7, #1		exit */
	.long	0xe3a00000			/* mov r0, #0 */
	.long	0xef000000			/* svc #0 */
	compat_end

	.section .note.GNU-stack, "", %progbits
