/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A 32-bit program, as the bytes of its ELF file, so that nobody needs a compiler for it:
 * executed with one argument and an empty environment, it writes COMPAT_AUXV_SIZE bytes to
 * stdout that begin with its auxiliary vector, and exits with 0.
 */
#ifndef SELFTEST_COMPAT_H
#define SELFTEST_COMPAT_H

#define COMPAT_AUXV_SIZE	512

#ifdef __ASSEMBLER__

/* On the stack of the new program: argc, argv[0], and the ends of argv and envp. */
#define COMPAT_AUXV_OFFSET	16

#define COMPAT_BASE		0x10000

/* The file header, and one segment that has the whole file. The code follows. */
.macro compat_header machine flags
	.section .rodata
	.balign	16
	.globl	compat_program, compat_program_end
	.type	compat_program, %object
compat_program:
	.byte	0x7f, 'E', 'L', 'F', 1, 1, 1, 0
	.zero	8
	.short	2, \machine		/* ET_EXEC */
	.long	1, COMPAT_BASE + compat_code - compat_program
	.long	52, 0, \flags		/* program headers, no sections */
	.short	52, 32, 1, 40, 0, 0
	.long	1, 0, COMPAT_BASE, COMPAT_BASE
	.long	compat_program_end - compat_program, compat_program_end - compat_program
	.long	5, 0x1000		/* PF_R | PF_X */
compat_code:
.endm

.macro compat_end
compat_program_end:
	.size	compat_program, . - compat_program
.endm

#else

#ifdef __cplusplus
extern "C" {
#endif

extern const char compat_program[], compat_program_end[];

#ifdef __cplusplus
}
#endif

#endif /* !__ASSEMBLER__ */

#endif
