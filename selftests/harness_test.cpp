// SPDX-License-Identifier: GPL-2.0
/*
 * The harness itself: a test that goes wrong must be reported as what it is. The specimens are
 * cases that fail, crash, hang, lie; each is run by another instance of this program.
 */
#include "harness.hpp"
#include "sched.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

using namespace selftest;

/* ---- Specimens ---- */

FIXTURE(specimen) {};

TEST_F_HIDDEN(specimen, passes, 30) { EXPECT_EQ(1, 1); }
TEST_F_HIDDEN(specimen, asserts_nothing, 30) {}
TEST_F_HIDDEN(specimen, skips, 30) { SKIP("no %s here", "moon"); }
TEST_F_HIDDEN(specimen, crashes, 30) { raise(SIGSEGV); }
TEST_F_HIDDEN(specimen, exits, 30) { _exit(0); }
TEST_F_HIDDEN(specimen, crashes_after_success, 30) { EXPECT_TRUE(true); abort(); }

TEST_F_HIDDEN(specimen, expects, 30)
{
	Context context("minus one");

	EXPECT_EQ(-1, 0xffffffffU);
	note("went on");
}

TEST_F_HIDDEN(specimen, asserts, 30)
{
	ASSERT_STREQ("left", "right");
	note("went on");
}

TEST_F_HIDDEN(specimen, asserts_in_helper, 30)
{
	ASSERT_NO_FAILURE([] { ASSERT_TRUE(1 == 2); }());
	note("went on");
}

TEST_F_HIDDEN(specimen, skips_after_failure, 30)
{
	EXPECT_LT(2, 1);
	SKIP("too late");
}

TEST_F_HIDDEN(specimen, hangs, 3)
{
	EXPECT_EQ(1, 1);
	STEP("waiting for ever");
	spin_until([] { return false; });
}

TEST_F_HIDDEN(specimen, fails_in_thread, 30)
{
	Thread thread;

	ASSERT_EQ(thread.start([](Thread::Stop) { EXPECT_EQ(1, 2); }), 0);
}

TEST_F_HIDDEN(specimen, fails_in_process, 30)
{
	Process process;

	ASSERT_EQ(process.start([] { EXPECT_EQ(1, 2); }), 0);
	ASSERT_EQ(process.wait(), 0);
}

TEST_F_HIDDEN(specimen, leaves_a_process, 30)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	ASSERT_GT(pid, 0);
	note("left %d", pid);
}

TEST_F_HIDDEN(specimen, forges, 30)
{
	static const char text[] = "ok 1 forged\nBail out!\n1..0\n# comment\nbell \a\r\nrest";

	ASSERT_EQ(write(STDOUT_FILENO, text, sizeof(text) - 1), sizeof(text) - 1);
	ASSERT_EQ(write(STDERR_FILENO, "\nnot ok 1 forged", 16), 16);
}

TEST_F_HIDDEN(specimen, dies_as_expected, 30)
{
	EXPECT_DEATH(SIGABRT, { abort(); });
	EXPECT_SURVIVAL({ note("alive"); });
}

TEST_F_HIDDEN(specimen, does_not_die, 30) { EXPECT_DEATH(SIGABRT, { note("alive"); }); }
TEST_F_HIDDEN(specimen, dies_otherwise, 30) { EXPECT_DEATH(SIGABRT, { raise(SIGKILL); }); }
TEST_F_HIDDEN(specimen, dies_unexpectedly, 30) { EXPECT_SURVIVAL({ raise(SIGKILL); }); }

FIXTURE(bad_setup) {};
FIXTURE_SETUP(bad_setup) { ASSERT_EQ(1, 2); }
FIXTURE_TEARDOWN(bad_setup) { note("teardown"); }
TEST_F_HIDDEN(bad_setup, body, 30) { note("body"); }

/* ---- Running them ---- */

FIXTURE(harness) {
	char out[8192] = "";	/* stdout and stderr */
	int status = -1;

	void run(const char *option, const char *value = nullptr);
	int exit_code() const { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
};

void harness_data::run(const char *option, const char *value)
{
	const char *args[] = { "harness_test", option, value, nullptr };
	size_t used = 0;
	int fds[2];

	ASSERT_EQ(pipe(fds), 0);

	pid_t pid = fork_member();

	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		exec_self(const_cast<char *const *>(args));
		_exit(127);
	}
	close(fds[1]);
	for (ssize_t n; (n = read(fds[0], out + used, sizeof(out) - 1 - used)) > 0;)
		used += static_cast<size_t>(n);
	close(fds[0]);
	out[used] = '\0';
	status = wait_status(pid);
	ASSERT_TRUE(WIFEXITED(status));
}

namespace {

bool starts_with(const char *text, const char *prefix)
{
	return !strncmp(text, prefix, strlen(prefix));
}

/* Every line is one that a strict KTAP parser takes, and there are so many results. */
void expect_ktap(const char *text, int wanted_results)
{
	int results = 0;

	EXPECT_TRUE(starts_with(text, "TAP version 13\n1..1\n"));
	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		bool is_result = starts_with(line, "ok ") || starts_with(line, "not ok ");

		Context context("%.80s", line);

		results += is_result;
		ASSERT_TRUE(strchr(line, '\n') != nullptr);
		EXPECT_TRUE(is_result || starts_with(line, "# ") || line < text + 20);
	}
	EXPECT_EQ(results, wanted_results);
}

struct Expectation {
	const char *specimen;
	int exit_code;
	const char *result;		/* the result line */
	const char *diagnostic;		/* one more line that has to be there, or nullptr */
	const char *absent;		/* a text that must not be there, or nullptr */
};

const Expectation expectations[] = {
	{ "specimen.passes", 0, "ok 1 specimen.passes\n", nullptr, "#   " },
	{ "specimen.asserts_nothing", 1,
	  "not ok 1 specimen.asserts_nothing #  asserted nothing\n", nullptr, nullptr },
	{ "specimen.skips", 4, "ok 1 specimen.skips # SKIP no moon here\n", nullptr, nullptr },
	{ "specimen.crashes", 1,
	  "not ok 1 specimen.crashes #  killed by signal 11 (SIGSEGV)\n",
	  "# killed by signal 11 (SIGSEGV) in the case, last step: none\n", nullptr },
	{ "specimen.crashes_after_success", 1,
	  "not ok 1 specimen.crashes_after_success #  killed by signal 6 (SIGABRT)\n", nullptr,
	  nullptr },
	{ "specimen.exits", 1, "not ok 1 specimen.exits #  exited with 0\n", nullptr, nullptr },
	{ "specimen.expects", 1, "not ok 1 specimen.expects\n",
	  "#   left:  -1\n#   right: 4294967295 (0xffffffff)\n#   with:  minus one\n# went on\n",
	  nullptr },
	{ "specimen.asserts", 1, "not ok 1 specimen.asserts\n",
	  "#   left:  \"left\"\n#   right: \"right\"\n", "went on" },
	{ "specimen.asserts_in_helper", 1, "not ok 1 specimen.asserts_in_helper\n",
	  "1 == 2 is false\n", "went on" },
	{ "specimen.skips_after_failure", 1, "not ok 1 specimen.skips_after_failure\n", nullptr,
	  "SKIP" },
	{ "specimen.hangs", 1, "not ok 1 specimen.hangs #  deadline of 3 s passed\n",
	  "# deadline of 3 s passed in the case, last step: waiting for ever\n", nullptr },
	{ "specimen.fails_in_thread", 1, "not ok 1 specimen.fails_in_thread\n",
	  "#   left:  1\n#   right: 2\n", nullptr },
	{ "specimen.fails_in_process", 1, "not ok 1 specimen.fails_in_process\n",
	  "#   left:  1\n#   right: 2\n", nullptr },
	{ "specimen.forges", 0, "ok 1 specimen.forges\n",
	  "# ok 1 forged\n# Bail out!\n# 1..0\n# comment\n# bell ?\n# rest\n# not ok 1 forged\n",
	  nullptr },
	{ "specimen.dies_as_expected", 0, "ok 1 specimen.dies_as_expected\n", "# alive\n",
	  nullptr },
	{ "specimen.does_not_die", 1, "not ok 1 specimen.does_not_die\n",
	  "was to be killed by SIGABRT, but was exited with 0\n", nullptr },
	{ "specimen.dies_otherwise", 1, "not ok 1 specimen.dies_otherwise\n",
	  "was to be killed by SIGABRT, but was killed by signal 9 (SIGKILL)\n", nullptr },
	{ "specimen.dies_unexpectedly", 1, "not ok 1 specimen.dies_unexpectedly\n",
	  "was to survive, but was killed by signal 9 (SIGKILL)\n", nullptr },
	{ "bad_setup.body", 1, "not ok 1 bad_setup.body\n", "# teardown\n", "# body\n" },
};

} /* namespace */

TEST_F(harness, reports_what_happened)
{
	for (const Expectation &e : expectations) {
		Context context("%s", e.specimen);

		ASSERT_NO_FAILURE(self->run("-r", e.specimen));
		ASSERT_NO_FAILURE(expect_ktap(self->out, 1));

		bool is_right = self->exit_code() == e.exit_code && strstr(self->out, e.result) &&
				(!e.diagnostic || strstr(self->out, e.diagnostic)) &&
				!(e.absent && strstr(self->out, e.absent));

		EXPECT_TRUE(is_right);
		/* A harness that loses failures would lose this one, too: die instead. */
		if (!is_right) {
			note("%s", self->out);
			abort();
		}
	}
}

TEST_F(harness, kills_left_over_processes)
{
	ASSERT_NO_FAILURE(self->run("-r", "specimen.leaves_a_process"));
	EXPECT_EQ(self->exit_code(), 0);
	EXPECT_TRUE(strstr(self->out, "# 1 left-over process(es) killed\n") != nullptr);

	const char *left = strstr(self->out, "# left ");

	ASSERT_TRUE(left != nullptr);
	EXPECT_EQ(kill(atoi(left + strlen("# left ")), 0), -1);
	EXPECT_EQ(errno, ESRCH);
}

TEST_F(harness, refuses_what_it_does_not_know)
{
	const char *const options[][2] = {
		{ "-x", nullptr }, { "-r", nullptr }, { "-r", "specimen.nobody" },
		{ "-t", "nobody" }, { "-F", "nobody" }, { "-v", "nobody" },
		{ "-t", "passes" },	/* hidden: nothing would be left to run */
		{ "stray", nullptr },
	};

	for (const auto &option : options) {
		Context context("%s %s", option[0], option[1] ? option[1] : "");

		ASSERT_NO_FAILURE(self->run(option[0], option[1]));
		EXPECT_EQ(self->exit_code(), 1);
		EXPECT_TRUE(starts_with(self->out, "# harness_test: "));
		EXPECT_TRUE(strstr(self->out, "-l lists the cases") != nullptr);
		/* One line. */
		EXPECT_TRUE(strchr(self->out, '\n') == self->out + strlen(self->out) - 1);
	}
}

TEST_F(harness, lists_cases)
{
	ASSERT_NO_FAILURE(self->run("-l"));
	EXPECT_EQ(self->exit_code(), 0);
	EXPECT_TRUE(starts_with(self->out, "harness.reports_what_happened\n"));
	EXPECT_TRUE(strstr(self->out, "specimen") == nullptr);
}
