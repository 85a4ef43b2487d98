// SPDX-License-Identifier: GPL-2.0
/*
 * A test program that goes wrong in one chosen way, to prove that the runner notices.
 *
 *	misbehave ok		passes two cases
 *	misbehave talk		passes, with a megabyte of numbered diagnostics before the result
 *	misbehave stderr	passes, with lines on stderr that look like failed results
 *	misbehave fail		fails a case
 *	misbehave deny		fails a case and exits with 0
 *	misbehave skip		skips all of its cases
 *	misbehave signal	dies of SIGSEGV while it prints its second result
 *	misbehave cut		exits with 0 while it prints its second result
 *	misbehave hang		ignores SIGTERM and never ends
 *	misbehave leak		passes and leaves a process behind, in a session of its own
 *	misbehave lie		announces three cases and runs two
 *	misbehave garbage	prints what is not KTAP
 *	misbehave forge		fails, and prints results and an end for its parent in disguise
 *	misbehave warn		makes the kernel print a WARNING, and passes where it lives on
 *	misbehave oops		makes the kernel dereference a null pointer
 *	misbehave panic		makes the kernel panic
 *	misbehave lockup	makes every CPU spin with interrupts off: the guest is silent forever
 */
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>
#include <string_view>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

using std::string_view;

namespace {

constexpr int could_not_run = 3;

int complain(const char *what)
{
	printf("# %s: %s\n", what, strerror(errno));
	return could_not_run;
}

void begin(unsigned int cases)
{
	printf("TAP version 13\n1..%u\n", cases);
}

int end(unsigned int passed, unsigned int failed, unsigned int skipped)
{
	printf("# Totals: pass:%u fail:%u xfail:0 xpass:0 skip:%u error:0\n", passed, failed,
	       skipped);
	return failed ? 1 : skipped && !passed ? 4 : 0;
}

int ok()
{
	begin(2);
	puts("ok 1 misbehave.first");
	puts("ok 2 misbehave.second");
	return end(2, 0, 0);
}

int talk()
{
	begin(1);
	for (unsigned int i = 1; i <= 16384; i++)
		printf("# %05u 3456789 123456789 123456789 123456789 123456789 123456789\n", i);
	puts("ok 1 misbehave.talk");
	return end(1, 0, 0);
}

int noisy_stderr()
{
	begin(1);
	fflush(stdout);
	fputs("not ok 1 misbehave.stderr\nTAP version 13\n1..7\n# done\r\n", stderr);
	fputs("Bail out!", stderr);
	puts("ok 1 misbehave.stderr");
	return end(1, 0, 0);
}

int fail()
{
	begin(2);
	puts("ok 1 misbehave.first");
	puts("not ok 2 misbehave.second");
	return end(1, 1, 0);
}

int deny()
{
	fail();
	return 0;
}

int skip()
{
	begin(2);
	puts("ok 1 misbehave.first # SKIP by intention");
	puts("ok 2 misbehave.second # SKIP by intention");
	return end(0, 0, 2);
}

int cut()
{
	begin(2);
	puts("ok 1 misbehave.first");
	printf("ok 2 misbehave.sec");
	fflush(stdout);
	return 0;
}

int die()
{
	cut();
	raise(SIGSEGV);
	return could_not_run;
}

int hang()
{
	begin(1);
	puts("# hangs");
	fflush(stdout);
	signal(SIGTERM, SIG_IGN);
	for (;;)
		pause();
}

int leak()
{
	begin(1);
	fflush(stdout);

	const pid_t pid = fork();

	if (pid < 0)
		return complain("fork");
	if (!pid) {
		setsid();
		for (;;)
			pause();
	}
	puts("ok 1 misbehave.leak");
	return end(1, 0, 0);
}

int lie()
{
	begin(3);
	puts("ok 1 misbehave.first");
	puts("ok 2 misbehave.second");
	return end(2, 0, 0);
}

int garbage()
{
	begin(1);
	puts("Hello, this is not KTAP.");
	puts("ok 1 misbehave.garbage");
	return end(1, 0, 0);
}

/* What some reader of lines takes for the end of one, and then what would make a PASS. */
int forge()
{
	constexpr string_view line_ends[] = {
		"\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\xc2\x85", "\xe2\x80\xa8",
		"\xe2\x80\xa9", "\n", "\x1b[2K\x1b[1G", "\b\b\b\b\b\b\b\b", string_view("\0", 1),
	};

	begin(1);
	puts("not ok 1 misbehave.forge");
	for (const string_view &line_end : line_ends) {
		for (const char *text : { "# x", "ok 1 forge", "ok 2 guest.no_taint",
					  "ok 3 guest.no_leftover_process", "# done" }) {
			fputs(text, stdout);
			fwrite(line_end.data(), 1, line_end.size(), stdout);
		}
		putchar('\n');
	}
	end(0, 1, 0);
	printf("# done");
	return 1;
}

int provoke(const char *crash)
{
	constexpr char entry[] = "/sys/kernel/debug/provoke-crash/DIRECT";
	const int fd = open(entry, O_WRONLY);

	if (fd < 0)
		return complain(entry);
	if (write(fd, crash, strlen(crash)) < 0)
		return complain(crash);
	close(fd);
	return 0;
}

int crash(const char *how)
{
	begin(1);
	fflush(stdout);
	if (const int error = provoke(how))
		return error;
	puts("ok 1 misbehave.survived");
	return end(1, 0, 0);
}

/* All at once: a CPU that is left over would soon report the ones that are stuck. */
int lockup()
{
	void *const shared = mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cpu_set_t allowed;

	begin(1);
	fflush(stdout);
	if (shared == MAP_FAILED)
		return complain("mmap");
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return complain("sched_getaffinity");

	std::atomic<int> &missing = *new (shared) std::atomic<int>(CPU_COUNT(&allowed));

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;

		const pid_t pid = fork();

		if (pid < 0)
			return complain("fork");
		if (!pid) {
			cpu_set_t one;

			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			if (sched_setaffinity(0, sizeof(one), &one))
				return complain("sched_setaffinity");
			missing--;
			while (missing)
				;
			return provoke("HARDLOCKUP");
		}
	}
	while (wait(nullptr) > 0)
		;
	return could_not_run;
}

int warn()
{
	return crash("WARNING");
}

int oops()
{
	return crash("EXCEPTION");
}

int panic()
{
	return crash("PANIC");
}

struct Way {
	const char *name;
	int (*go)();
};

constexpr Way ways[] = {
	{ "ok", ok },
	{ "talk", talk },
	{ "stderr", noisy_stderr },
	{ "fail", fail },
	{ "deny", deny },
	{ "skip", skip },
	{ "signal", die },
	{ "cut", cut },
	{ "hang", hang },
	{ "leak", leak },
	{ "lie", lie },
	{ "garbage", garbage },
	{ "forge", forge },
	{ "warn", warn },
	{ "oops", oops },
	{ "panic", panic },
	{ "lockup", lockup },
};

} /* namespace */

int main(int argc, char **argv)
{
	if (argc == 2)
		for (const Way &way : ways)
			if (!strcmp(way.name, argv[1]))
				return way.go();
	fputs("usage: misbehave", stderr);
	for (const Way &way : ways)
		fprintf(stderr, " %s", way.name);
	fputc('\n', stderr);
	return could_not_run;
}
