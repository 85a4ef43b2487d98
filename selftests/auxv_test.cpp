// SPDX-License-Identifier: GPL-2.0
/*
 * R1.2, R1.3: what the auxiliary vector tells about rseq. A library finds there how much to
 * register, and which flag to pass, so that it needs no newer header for a newer kernel.
 */
#include "compat.hpp"
#include "files.hpp"
#include "harness.hpp"
#include "rseq.hpp"
#include "tracee.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <elf.h>
#include <sys/auxv.h>
#include <unistd.h>

using namespace selftest;

namespace {

constexpr std::size_t max_entries = 64;

struct Vector {
	Elf64_auxv_t entries[max_entries];
	std::size_t count;	/* without AT_NULL */

	/* How many, and the index of the last one. */
	unsigned int find(std::uint64_t type, std::size_t *index) const
	{
		unsigned int found = 0;

		for (std::size_t i = 0; i < count; i++) {
			if (entries[i].a_type != type)
				continue;
			*index = i;
			found++;
		}
		return found;
	}
};

/* The whole vector as the kernel keeps it, with all that follows AT_NULL. */
void load(const char *path, Vector *vector)
{
	static char data[(max_entries + 1) * sizeof(Elf64_auxv_t) + 1];
	std::size_t size = 0;

	ASSERT_EQ(read_file(path, data, sizeof(data), &size), 0);
	ASSERT_GT(size, 0);
	ASSERT_LT(size, sizeof(vector->entries));
	ASSERT_EQ(size % sizeof(vector->entries[0]), 0);
	std::copy_n(data, size, reinterpret_cast<char *>(vector->entries));
	while (vector->count < size / sizeof(vector->entries[0]) &&
	       vector->entries[vector->count].a_type != AT_NULL)
		vector->count++;
	/* A vector that is too small for its entries loses this one. */
	EXPECT_LT(vector->count, size / sizeof(vector->entries[0]));
}

void expect_entries(const Vector &vector)
{
	const struct {
		std::uint64_t type;
		const char *name;
	} wanted[] = {
		{ AT_RSEQ_FEATURE_SIZE, "AT_RSEQ_FEATURE_SIZE" },
		{ AT_RSEQ_ALIGN, "AT_RSEQ_ALIGN" },
		{ AT_RSEQ_V2, "AT_RSEQ_V2" },
	};

	for (const auto &entry : wanted) {
		Context context("%s", entry.name);
		std::size_t index = 0;

		ASSERT_EQ(vector.find(entry.type, &index), 1);
		EXPECT_EQ(vector.entries[index].a_un.a_val, getauxval(entry.type));
	}
}

} /* namespace */

FIXTURE(auxv) { };

/* A libc writes flags |= getauxval(AT_RSEQ_V2). */
TEST_F(auxv, entry_is_the_flag)
{
	EXPECT_EQ(AT_RSEQ_V2, 38);
	EXPECT_EQ(getauxval(AT_RSEQ_V2), static_cast<unsigned long>(flag_v2));
}

/* Or a libc that registers the feature size would register the original size, and get v1. */
TEST_F(auxv, feature_size_selects_v2)
{
	EXPECT_GT(getauxval(AT_RSEQ_FEATURE_SIZE), v1_length);
}

TEST_F(auxv, alignment_fits_the_feature_size)
{
	unsigned long align = getauxval(AT_RSEQ_ALIGN);

	EXPECT_GE(align, v1_length);
	EXPECT_GE(align, getauxval(AT_RSEQ_FEATURE_SIZE));
	EXPECT_EQ(align & (align - 1), 0);
}

TEST_F(auxv, entries_once_and_in_order)
{
	static Vector vector;
	std::size_t align = 0, v2 = 0;

	ASSERT_NO_FAILURE(load("/proc/self/auxv", &vector));
	ASSERT_NO_FAILURE(expect_entries(vector));
	vector.find(AT_RSEQ_ALIGN, &align);
	vector.find(AT_RSEQ_V2, &v2);
	EXPECT_EQ(v2, align + 1);
}

/* glibc looks entries up in an array: a type beyond it, or one that is taken, is of no use. */
TEST_F(auxv, number_is_free)
{
	static Vector vector;
	std::size_t index = 0;

	ASSERT_NO_FAILURE(load("/proc/self/auxv", &vector));
	for (std::size_t i = 0; i < vector.count; i++) {
		Context context("type %llu",
				static_cast<unsigned long long>(vector.entries[i].a_type));

		EXPECT_EQ(vector.find(vector.entries[i].a_type, &index), 1);
	}
	EXPECT_LE(AT_RSEQ_V2, AT_MINSIGSTKSZ);
}

/* The kernel's own copy for a program that was executed, and that libc has not seen yet. */
TEST_F(auxv, same_after_exec)
{
	char path[40], name[] = "auxv_test", list[] = "-l";
	char *argv[] = { name, list, nullptr };
	static Vector vector;
	Tracee child;

	ASSERT_EQ(child.start([&] { exec_self(argv); }), 0);
	ASSERT_TRUE(child.wait_for_stop(SIGTRAP));
	snprintf(path, sizeof(path), "/proc/%d/auxv", child.pid());
	ASSERT_NO_FAILURE(load(path, &vector));
	expect_entries(vector);
}

/* ---- A 32-bit program: its vector is written by the same code, but compiled once more ---- */

namespace {

void load_of_compat_program(Vector *vector)
{
	Compat program(compat_auxv, compat_auxv_end);
	Elf32_auxv_t entries[COMPAT_AUXV_SIZE / sizeof(Elf32_auxv_t)];

	ASSERT_NO_FAILURE(program.run());
	ASSERT_EQ(program.status(), 0);
	ASSERT_EQ(program.size(), sizeof(entries));
	memcpy(entries, program.output(), sizeof(entries));
	for (const Elf32_auxv_t &entry : entries) {
		if (entry.a_type == AT_NULL)
			break;
		vector->entries[vector->count].a_type = entry.a_type;
		vector->entries[vector->count++].a_un.a_val = entry.a_un.a_val;
	}
	ASSERT_GT(vector->count, 0);
	ASSERT_LT(vector->count, sizeof(entries) / sizeof(entries[0]));
}

} /* namespace */

TEST_F(auxv, same_in_32_bit_program)
{
	static Vector vector;
	std::size_t align = 0, v2 = 0;

	ASSERT_NO_FAILURE(load_of_compat_program(&vector));
	note("%zu entries", vector.count);
	ASSERT_NO_FAILURE(expect_entries(vector));
	vector.find(AT_RSEQ_ALIGN, &align);
	vector.find(AT_RSEQ_V2, &v2);
	EXPECT_EQ(v2, align + 1);
}
