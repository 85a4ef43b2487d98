/* SPDX-License-Identifier: GPL-2.0 */
#include "compat.h"

#define EM_386		3
#define NR_exit		1
#define NR_write	4
#define NR_getpid	20
#define NR_rseq		386

	.code32

	compat_header compat_auxv machine=EM_386 flags=0
	movl	$NR_write, %eax
	movl	$1, %ebx
	leal	COMPAT_AUXV_OFFSET(%esp), %ecx
	movl	$COMPAT_AUXV_SIZE, %edx
	int	$0x80
	movl	$NR_exit, %eax
	movl	$0, %ebx
	int	$0x80
	compat_end compat_auxv

#define ORDER(field)	COMPAT_ADDRESS(compat_section, compat_section_order) + ORDER_##field
#define AREA(field)	COMPAT_ADDRESS(compat_section, compat_section_area) + AREA_##field

#define set_area(field)			\
	movl	ORDER(field), %eax;	\
	movl	%eax, AREA(field)

	compat_header compat_section machine=EM_386 flags=0
	movl	$NR_rseq, %eax
	movl	$COMPAT_ADDRESS(compat_section, compat_section_area), %ebx
	movl	ORDER(LENGTH), %ecx
	movl	ORDER(FLAGS), %edx
	movl	$COMPAT_SIGNATURE, %esi
	int	$0x80
	testl	%eax, %eax
	jnz	2f

compat_section_enter:
	set_area(CPU_ID_START)
	set_area(CPU_ID)
	set_area(NODE_ID)
	set_area(MM_CID)
	set_area(RSEQ_CS_HIGH)
	movl	$COMPAT_ADDRESS(compat_section, compat_section_descriptor), AREA(RSEQ_CS)
compat_section_start:
	cmpl	$0, ORDER(SYSTEM_CALL)
	je	1f
	movl	$NR_getpid, %eax
	int	$0x80
	movl	$0, ORDER(SYSTEM_CALL)
1:	pause
	jmp	1b
compat_section_post_commit:
	.long	COMPAT_SIGNATURE
compat_section_abort:
	cmpl	$0, ORDER(SYSTEM_CALL)
	jne	compat_section_enter
	movl	$NR_write, %eax
	movl	$1, %ebx
	movl	$AREA(CPU_ID_START), %ecx
	movl	$COMPAT_AREA_SIZE, %edx
	int	$0x80
	movl	$0, %eax
2:	movl	%eax, %ebx
	negl	%ebx
	movl	$NR_exit, %eax
	int	$0x80
	compat_section_data
	compat_end compat_section

	.code64

	.section .note.GNU-stack, "", %progbits
