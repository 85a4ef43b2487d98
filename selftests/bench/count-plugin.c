// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU (TCG, one thread for all CPUs) that counts how often each instruction of a guest is
 * executed between two marks of the program cost.
 *
 *	-plugin count-plugin.so,begin=ADDRESS,end=ADDRESS,case=ADDRESS,out=FILE
 *
 * The addresses are those of mark_begin, mark_end and mark_case in the guest's program. From begin to
 * end is a window. Windows with the same total of instructions are taken for one and the same way
 * through the kernel; of each case the most frequent one is written:
 *
 *	case NUMBER windows N share N total INSTRUCTIONS
 *	ADDRESS COUNT
 *	...
 *
 * Debian's QEMU has no header for plugins. What is declared here is the part of version 1 of that
 * interface that is used.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- QEMU's interface ---- */

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
enum { cb_no_regs = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
					   void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    void (*cb)(unsigned int cpu, void *data), int flags,
					    void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*cb)(uint64_t id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

/* ---- counters ---- */

struct counter {
	uint64_t address, count;
};

static struct counter **table;			/* open addressing, never more than half full */
static size_t table_size, table_used;

static struct counter **touched;		/* of the open window */
static size_t n_touched, max_touched;
static uint64_t total;
static bool in_case, open_window;

static uint64_t begin_at, end_at, case_at;
static FILE *out;

static void *must(void *memory)
{
	if (!memory) {
		fprintf(stderr, "count-plugin: no memory\n");
		abort();
	}
	return memory;
}

static struct counter **slot(uint64_t address)
{
	size_t i = (address * 0x9e3779b97f4a7c15ull) >> 20;

	while (table[i & (table_size - 1)] && table[i & (table_size - 1)]->address != address)
		i++;
	return &table[i & (table_size - 1)];
}

static struct counter *counter(uint64_t address)
{
	if (2 * table_used >= table_size) {
		struct counter **old = table;
		const size_t old_size = table_size;

		table_size = old_size ? 2 * old_size : 1 << 16;
		table = must(calloc(table_size, sizeof(*table)));
		for (size_t i = 0; i < old_size; i++)
			if (old[i])
				*slot(old[i]->address) = old[i];
		free(old);
	}

	struct counter **p = slot(address);

	if (!*p) {
		*p = must(calloc(1, sizeof(**p)));
		(*p)->address = address;
		table_used++;
	}
	return *p;
}

/* ---- windows, by their totals ---- */

struct way {
	uint64_t total;
	size_t windows, n;
	struct counter *counters;
};

static struct way *ways;
static size_t n_ways, n_windows, case_number;

static void end_case(void)
{
	const struct way *best = ways;

	for (size_t i = 0; i < n_ways; i++)
		if (ways[i].windows > best->windows)
			best = &ways[i];
	if (n_ways) {
		fprintf(out, "case %zu windows %zu share %zu total %" PRIu64 "\n", case_number,
			n_windows, best->windows, best->total);
		for (size_t i = 0; i < best->n; i++)
			fprintf(out, "%" PRIx64 " %" PRIu64 "\n", best->counters[i].address,
				best->counters[i].count);
	}
	for (size_t i = 0; i < n_ways; i++)
		free(ways[i].counters);
	n_ways = n_windows = 0;
}

static void end_window(void)
{
	struct way *way = NULL;

	if (!open_window)
		return;
	n_windows++;
	for (size_t i = 0; i < n_ways; i++)
		if (ways[i].total == total)
			way = &ways[i];
	if (way) {
		way->windows++;
	} else {
		ways = must(realloc(ways, (n_ways + 1) * sizeof(*ways)));
		way = &ways[n_ways++];
		way->total = total;
		way->windows = 1;
		way->n = n_touched;
		way->counters = must(calloc(n_touched + 1, sizeof(*way->counters)));
		for (size_t i = 0; i < n_touched; i++)
			way->counters[i] = *touched[i];
	}
	for (size_t i = 0; i < n_touched; i++)
		touched[i]->count = 0;
	n_touched = total = 0;
}

/* ---- what QEMU calls ---- */

static void on_instruction(unsigned int cpu, void *data)
{
	struct counter *c = data;

	(void)cpu;
	if (!open_window)
		return;
	if (!c->count++) {
		if (n_touched == max_touched) {
			max_touched = max_touched ? 2 * max_touched : 1 << 12;
			touched = must(realloc(touched, max_touched * sizeof(*touched)));
		}
		touched[n_touched++] = c;
	}
	total++;
}

static void on_begin(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	open_window = in_case;
}

static void on_end(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	end_window();
	open_window = false;
}

/* The first one begins a case and the next one ends it. */
static void on_case(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	if (in_case)
		end_case();
	else
		case_number++;
	in_case = !in_case;
}

static void on_translation(uint64_t id, struct qemu_plugin_tb *tb)
{
	const size_t n = qemu_plugin_tb_n_insns(tb);

	(void)id;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		const uint64_t address = qemu_plugin_insn_vaddr(insn);

		if (address == begin_at)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_begin, cb_no_regs, NULL);
		else if (address == end_at)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_end, cb_no_regs, NULL);
		else if (address == case_at)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_case, cb_no_regs, NULL);
		else
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_instruction, cb_no_regs,
							       counter(address));
	}
}

static void at_end(uint64_t id, void *data)
{
	(void)id;
	(void)data;
	if (fclose(out))
		perror("count-plugin");
}

EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "begin=", 6))
			begin_at = strtoull(argv[i] + 6, NULL, 0);
		else if (!strncmp(argv[i], "end=", 4))
			end_at = strtoull(argv[i] + 4, NULL, 0);
		else if (!strncmp(argv[i], "case=", 5))
			case_at = strtoull(argv[i] + 5, NULL, 0);
		else if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
	}
	if (!begin_at || !end_at || !case_at || !out) {
		fprintf(stderr, "count-plugin: begin=, end=, case= and a file to write are needed\n");
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	qemu_plugin_register_atexit_cb(id, at_end, NULL);
	return 0;
}
