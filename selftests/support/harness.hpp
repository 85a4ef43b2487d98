/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Test harness: kselftest's words in C++, every case in a process of its own.
 *
 *	FIXTURE(door) { int fd = -1; };
 *	FIXTURE_VARIANT(door) { bool locked; };
 *	FIXTURE_VARIANT_ADD(door, open) { .locked = false };
 *	FIXTURE_SETUP(door) { ASSERT_EQ(unlock(&self->fd, variant->locked), 0); }
 *	TEST_F(door, opens) { EXPECT_EQ(push(self->fd), 0); }
 *
 * FIXTURE_VARIANT, FIXTURE_SETUP and FIXTURE_TEARDOWN may be left out. A failed ASSERT_ and a SKIP
 * return from the function they stand in, so destructors run; call helpers that assert through
 * ASSERT_NO_FAILURE(). EXPECT_ goes on. All of them may be used in threads and child processes
 * of a case, not in signal handlers (they format and write).
 *
 * Nothing here allocates, throws or needs RTTI, and nothing but a failure, a note or a skip
 * enters the kernel: what the test sees is what the test did.
 */
#ifndef SELFTEST_HARNESS_HPP
#define SELFTEST_HARNESS_HPP

#include <cstdint>
#include <sys/types.h>
#include <type_traits>
#include <unistd.h>

namespace selftest {

constexpr unsigned int default_deadline_s = 60;

/*
 * RSEQ_TEST_DEEP=1 in the environment: cases that count on chance do that many times as much, and
 * have as many times as long: TEST_F_TIMEOUT(storm, survives, times_if_deep(20)).
 */
constexpr unsigned int deep_factor = 90;
bool deep();
inline unsigned int times_if_deep(unsigned int count)
{
	return deep() ? count * deep_factor : count;
}

/* ---- What the macros register: lists in the order of definition, no heap ---- */

using Erased = void (*)(void *self, const void *variant);

struct Case;
struct Variant;

struct Fixture {
	explicit Fixture(const char *name);

	const char *name;
	Erased setup = nullptr;
	Erased teardown = nullptr;
	Variant *variants = nullptr;
	Case *cases = nullptr;
	Fixture *next = nullptr;
};

struct Variant {
	Variant(Fixture &fixture, const char *name, const void *params);

	const char *name;
	const void *params;
	Variant *next = nullptr;
};

struct Case {
	using Entry = void (*)(const Case &c, const void *variant);

	Case(Fixture &fixture, const char *name, Entry entry, unsigned int deadline_s, bool hidden);

	Fixture &fixture;
	const char *name;
	Entry entry;
	unsigned int deadline_s;
	bool hidden;		/* only -r runs it: something that the harness is tested with */
	Case *next = nullptr;
};

struct Hook {
	Hook(Erased &slot, Erased hook) { slot = hook; }
};

/* Setup, body and teardown of one case, in its child process. */
void run_phases(const Case &c, void *self, const void *variant, Erased body);

extern Fixture global_fixture;

/* ---- Checks ---- */

enum class Op { eq, ne, lt, le, gt, ge };

struct Site {
	const char *file;
	int line;
	const char *left;
	const char *right;
};

/* Any scalar, so that one function can compare and print them all. */
struct Value {
	enum class Kind { sint, uint, boolean, pointer } kind;
	std::uint64_t bits;
};

template <typename T>
Value to_value(T value)
{
	if constexpr (std::is_null_pointer_v<T>)
		return { Value::Kind::pointer, 0 };
	else if constexpr (std::is_pointer_v<T>)
		return { Value::Kind::pointer, reinterpret_cast<std::uintptr_t>(value) };
	else if constexpr (std::is_same_v<T, bool>)
		return { Value::Kind::boolean, value };
	else if constexpr (std::is_enum_v<T>)
		return to_value(static_cast<std::underlying_type_t<T>>(value));
	else if constexpr (std::is_signed_v<T>)
		return { Value::Kind::sint, static_cast<std::uint64_t>(std::int64_t{ value }) };
	else
		return { Value::Kind::uint, value };
}

/* By mathematical value: -1 is not 0xffffffff. */
bool check_values(const Site &site, Op op, Value left, Value right);
bool check_truth(const Site &site, bool value, bool wanted);
bool check_strings(const Site &site, bool equal, const char *left, const char *right);
void skip_case(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
unsigned int failures();
bool skipped();

/* One "# " line each; debug() only with -d. */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Where the case is; printed if it dies or outlives its deadline. A plain store. */
void set_step(const char *literal);

/* Printed with every failure while it is in scope: Context c("poison 0x%08x", poison); */
class Context {
public:
	explicit Context(const char *fmt, ...) __attribute__((format(printf, 2, 3)));
	~Context();
	Context(const Context &) = delete;
	Context &operator=(const Context &) = delete;

	const Context *outer() const { return outer_; }
	const char *text() const { return text_; }

private:
	const Context *outer_;
	char text_[128];
};

/* ---- Children that are expected to die, and their twins that must not ---- */

pid_t fork_member();		/* fork(); the child dies with the thread that forked */
int wait_status(pid_t pid);	/* a status of waitpid(), -1 if there is none */
void exec_self(char *const argv[]);	/* this program; returns only if that fails */
bool check_death(const Site &site, int sig, int status);
bool check_survival(const Site &site, int status);

template <typename Body>
int status_of(Body &&body)
{
	pid_t pid = fork_member();

	if (pid == 0) {
		unsigned int before = failures();

		body();
		_exit(failures() != before);
	}
	return wait_status(pid);
}

} /* namespace selftest */

/* ---- Fixtures and cases ---- */

#define FIXTURE(fixture)							\
	struct fixture##_variant;						\
	static selftest::Fixture fixture##_fixture{ #fixture };			\
	struct fixture##_data

#define FIXTURE_VARIANT(fixture) struct fixture##_variant

#define FIXTURE_VARIANT_ADD(fixture, variant_name)				\
	extern const fixture##_variant fixture##_##variant_name##_params;	\
	static selftest::Variant fixture##_##variant_name##_variant{		\
		fixture##_fixture, #variant_name, &fixture##_##variant_name##_params };	\
	const fixture##_variant fixture##_##variant_name##_params =

#define FIXTURE_SETUP(fixture) SELFTEST_HOOK_(fixture, setup)
#define FIXTURE_TEARDOWN(fixture) SELFTEST_HOOK_(fixture, teardown)

#define TEST_F(fixture, name) TEST_F_TIMEOUT(fixture, name, selftest::default_deadline_s)

#define TEST_F_TIMEOUT(fixture, name, seconds)					\
	SELFTEST_CASE_(fixture##_fixture, fixture##_data, fixture##_variant,	\
		       fixture##_##name, name, seconds, false)

/* A case without a fixture is called global.name, as in kselftest_harness.h. */
#define TEST(name) TEST_TIMEOUT(name, selftest::default_deadline_s)

#define TEST_TIMEOUT(name, seconds)						\
	SELFTEST_CASE_(selftest::global_fixture, selftest::NoData, void,	\
		       global_##name, name, seconds, false)

/* Neither listed nor run unless -r names it. */
#define TEST_F_HIDDEN(fixture, name, seconds)					\
	SELFTEST_CASE_(fixture##_fixture, fixture##_data, fixture##_variant,	\
		       fixture##_##name, name, seconds, true)

#define SELFTEST_HOOK_(fixture, what)						\
	static void fixture##_##what(fixture##_data *self,			\
				     const fixture##_variant *variant);		\
	static const selftest::Hook fixture##_##what##_hook{			\
		fixture##_fixture.what, [](void *self, const void *variant) {	\
			fixture##_##what(static_cast<fixture##_data *>(self),	\
				static_cast<const fixture##_variant *>(variant)); } };	\
	static void fixture##_##what([[maybe_unused]] fixture##_data *self,	\
				     [[maybe_unused]] const fixture##_variant *variant)

#define SELFTEST_CASE_(registry, data, params, symbol, name, seconds, hidden)	\
	static void symbol##_body(data *self, const params *variant);		\
	static selftest::Case symbol##_case{ registry, #name,			\
		[](const selftest::Case &c, const void *variant) {		\
			data self{};						\
			selftest::run_phases(c, &self, variant,			\
				[](void *s, const void *v) {			\
					symbol##_body(static_cast<data *>(s),	\
						static_cast<const params *>(v)); }); },	\
		seconds, hidden };						\
	static void symbol##_body([[maybe_unused]] data *self,			\
				  [[maybe_unused]] const params *variant)

namespace selftest {
struct NoData {};
} /* namespace selftest */

/* ---- Assertions ---- */

#define SELFTEST_SITE_(left, right) (selftest::Site{ __FILE__, __LINE__, left, right })

#define SELFTEST_COMPARE_(op, left, right)					\
	selftest::check_values(SELFTEST_SITE_(#left, #right), selftest::Op::op,	\
			       selftest::to_value(left), selftest::to_value(right))

#define SELFTEST_ASSERT_(check) do { if (!(check)) return; } while (0)
#define SELFTEST_EXPECT_(check) ((void)(check))

#define ASSERT_EQ(left, right) SELFTEST_ASSERT_(SELFTEST_COMPARE_(eq, left, right))
#define ASSERT_NE(left, right) SELFTEST_ASSERT_(SELFTEST_COMPARE_(ne, left, right))
#define ASSERT_LT(left, right) SELFTEST_ASSERT_(SELFTEST_COMPARE_(lt, left, right))
#define ASSERT_LE(left, right) SELFTEST_ASSERT_(SELFTEST_COMPARE_(le, left, right))
#define ASSERT_GT(left, right) SELFTEST_ASSERT_(SELFTEST_COMPARE_(gt, left, right))
#define ASSERT_GE(left, right) SELFTEST_ASSERT_(SELFTEST_COMPARE_(ge, left, right))
#define EXPECT_EQ(left, right) SELFTEST_EXPECT_(SELFTEST_COMPARE_(eq, left, right))
#define EXPECT_NE(left, right) SELFTEST_EXPECT_(SELFTEST_COMPARE_(ne, left, right))
#define EXPECT_LT(left, right) SELFTEST_EXPECT_(SELFTEST_COMPARE_(lt, left, right))
#define EXPECT_LE(left, right) SELFTEST_EXPECT_(SELFTEST_COMPARE_(le, left, right))
#define EXPECT_GT(left, right) SELFTEST_EXPECT_(SELFTEST_COMPARE_(gt, left, right))
#define EXPECT_GE(left, right) SELFTEST_EXPECT_(SELFTEST_COMPARE_(ge, left, right))

#define SELFTEST_TRUTH_(value, wanted)						\
	selftest::check_truth(SELFTEST_SITE_(#value, nullptr), static_cast<bool>(value), wanted)

#define ASSERT_TRUE(value) SELFTEST_ASSERT_(SELFTEST_TRUTH_(value, true))
#define ASSERT_FALSE(value) SELFTEST_ASSERT_(SELFTEST_TRUTH_(value, false))
#define EXPECT_TRUE(value) SELFTEST_EXPECT_(SELFTEST_TRUTH_(value, true))
#define EXPECT_FALSE(value) SELFTEST_EXPECT_(SELFTEST_TRUTH_(value, false))

#define SELFTEST_STRINGS_(equal, left, right)					\
	selftest::check_strings(SELFTEST_SITE_(#left, #right), equal, left, right)

#define ASSERT_STREQ(left, right) SELFTEST_ASSERT_(SELFTEST_STRINGS_(true, left, right))
#define ASSERT_STRNE(left, right) SELFTEST_ASSERT_(SELFTEST_STRINGS_(false, left, right))
#define EXPECT_STREQ(left, right) SELFTEST_EXPECT_(SELFTEST_STRINGS_(true, left, right))
#define EXPECT_STRNE(left, right) SELFTEST_EXPECT_(SELFTEST_STRINGS_(false, left, right))

/* The statement, usually a helper with assertions: leave if one failed, or if it has skipped. */
#define ASSERT_NO_FAILURE(...)							\
	do {									\
		unsigned int selftest_before_ = selftest::failures();		\
		__VA_ARGS__;							\
		if (selftest::failures() != selftest_before_ || selftest::skipped())	\
			return;							\
	} while (0)

/*
 * EXPECT_DEATH(SIGSEGV, { ... }) runs the block in a forked child that must be killed by that
 * signal; EXPECT_SURVIVAL({ ... }) is the twin: exit 0, nothing failed in it. The child is a copy
 * of the calling thread alone, with its rseq registration.
 */
#define EXPECT_DEATH(sig, ...)							\
	SELFTEST_EXPECT_(selftest::check_death(SELFTEST_SITE_(#__VA_ARGS__, #sig), sig,	\
					       selftest::status_of([&] { __VA_ARGS__; })))
#define EXPECT_SURVIVAL(...)							\
	SELFTEST_EXPECT_(selftest::check_survival(SELFTEST_SITE_(#__VA_ARGS__, nullptr),	\
						  selftest::status_of([&] { __VA_ARGS__; })))

#define SKIP(...) do { selftest::skip_case(__VA_ARGS__); return; } while (0)
#define STEP(literal) selftest::set_step("" literal)

#endif
