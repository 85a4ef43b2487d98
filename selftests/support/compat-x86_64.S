/* SPDX-License-Identifier: GPL-2.0 */
#include "compat.h"

	compat_header machine=3 flags=0		/* EM_386 */
	.code32
	movl	$4, %eax			/* write */
	movl	$1, %ebx
	leal	COMPAT_AUXV_OFFSET(%esp), %ecx
	movl	$COMPAT_AUXV_SIZE, %edx
	int	$0x80
	movl	$1, %eax			/* exit */
	movl	$0, %ebx
	int	$0x80
	.code64
	compat_end

	.section .note.GNU-stack, "", %progbits
