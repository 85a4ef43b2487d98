// SPDX-License-Identifier: GPL-2.0
/*
 * The parent runs one case after the other in a forked child with a process group of its own,
 * and is the only one that writes to stdout: what a case and its children print comes through a
 * pipe and leaves as "# " lines, so that the stream stays KTAP whatever they do.
 */
#include "harness.hpp"
#include "rseq.hpp"
#include "sched.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kselftest.h>

namespace selftest {

namespace {

enum class Phase : unsigned int { starting, setup, body, teardown, done };

/* What a case tells the parent; in shared memory, since it may die at any point. */
struct Report {
	std::atomic<unsigned int> assertions;
	std::atomic<unsigned int> failures;
	std::atomic<Phase> phase;
	std::atomic<bool> asserted_nothing;
	std::atomic<bool> skipped;
	std::atomic<const char *> step;
	char reason[256];
};

Report *report;
bool debug_wanted;
Fixture *first_fixture;
thread_local const Context *innermost;

/* Reports of the children, in particular of those that are gone, in bounded pieces. */
constexpr size_t max_line = 400;
constexpr size_t max_output = 64 * 1024;
/* What SIGKILL may need to empty a process group; a process in D state must not hang the run. */
constexpr long reap_ms = 30000;

const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* A message is one write(), so that lines of several processes do not mix. */
class Message {
public:
	void add(const char *fmt, ...) __attribute__((format(printf, 2, 3)))
	{
		va_list args;

		va_start(args, fmt);
		vadd(fmt, args);
		va_end(args);
	}

	void vadd(const char *fmt, va_list args) __attribute__((format(printf, 2, 0)))
	{
		int n = vsnprintf(text_ + used_, sizeof(text_) - used_, fmt, args);

		if (n > 0)
			used_ += static_cast<size_t>(n);
		if (used_ > sizeof(text_) - 1)
			used_ = sizeof(text_) - 1;
	}

	void add_value(const char *label, Value value)
	{
		auto sint = static_cast<long long>(value.bits);
		auto uint = static_cast<unsigned long long>(value.bits);

		switch (value.kind) {
		case Value::Kind::sint:
			add("#   %s %lld\n", label, sint);
			break;
		case Value::Kind::uint:
			add("#   %s %llu (0x%llx)\n", label, uint, uint);
			break;
		case Value::Kind::boolean:
			add("#   %s %s\n", label, uint ? "true" : "false");
			break;
		case Value::Kind::pointer:
			add("#   %s 0x%llx\n", label, uint);
			break;
		}
	}

	~Message()
	{
		if (used_ && text_[used_ - 1] != '\n') {
			used_ -= used_ == sizeof(text_) - 1;
			text_[used_++] = '\n';
		}
		for (size_t done = 0; done < used_;) {
			ssize_t n = write(STDOUT_FILENO, text_ + done, used_ - done);

			if (n < 0 && errno != EINTR)
				break;
			done += n > 0 ? static_cast<size_t>(n) : 0;
		}
	}

private:
	size_t used_ = 0;
	char text_[2048];
};

void add_contexts(Message &message)
{
	for (const Context *c = innermost; c; c = c->outer())
		message.add("#   with:  %s\n", c->text());
}

void fail_at(Message &message, const Site &site)
{
	report->failures++;
	message.add("# %s:%d: failed: ", base_name(site.file), site.line);
}

const char *op_text(Op op)
{
	switch (op) {
	case Op::eq: return "==";
	case Op::ne: return "!=";
	case Op::lt: return "<";
	case Op::le: return "<=";
	case Op::gt: return ">";
	case Op::ge: return ">=";
	}
	return "?";
}

bool is_negative(Value v)
{
	return v.kind == Value::Kind::sint && static_cast<std::int64_t>(v.bits) < 0;
}

int order(Value left, Value right)
{
	bool left_negative = is_negative(left), right_negative = is_negative(right);

	if (left_negative != right_negative)
		return left_negative ? -1 : 1;
	return left.bits < right.bits ? -1 : left.bits > right.bits;
}

bool holds(Op op, int order)
{
	switch (op) {
	case Op::eq: return order == 0;
	case Op::ne: return order != 0;
	case Op::lt: return order < 0;
	case Op::le: return order <= 0;
	case Op::gt: return order > 0;
	case Op::ge: return order >= 0;
	}
	return false;
}

} /* namespace */

bool deep()
{
	static const char *const value = getenv("RSEQ_TEST_DEEP");

	return value && !strcmp(value, "1");
}

/* ---- Registration ---- */

Fixture::Fixture(const char *fixture_name) : name(fixture_name)
{
	Fixture **end = &first_fixture;

	while (*end)
		end = &(*end)->next;
	*end = this;
}

Variant::Variant(Fixture &fixture, const char *variant_name, const void *variant_params)
	: name(variant_name), params(variant_params)
{
	Variant **end = &fixture.variants;

	while (*end)
		end = &(*end)->next;
	*end = this;
}

Case::Case(Fixture &case_fixture, const char *case_name, Entry case_entry,
	   unsigned int case_deadline_s, bool case_hidden)
	: fixture(case_fixture), name(case_name), entry(case_entry),
	  deadline_s(case_deadline_s), hidden(case_hidden)
{
	Case **end = &fixture.cases;

	while (*end)
		end = &(*end)->next;
	*end = this;
}

/* Before the cases of every test program, which are registered into it. */
__attribute__((init_priority(200))) Fixture global_fixture{ "global" };

/* ---- Inside a case ---- */

bool check_values(const Site &site, Op op, Value left, Value right)
{
	report->assertions++;
	if (holds(op, order(left, right)))
		return true;

	Message message;

	fail_at(message, site);
	message.add("%s %s %s\n", site.left, op_text(op), site.right);
	message.add_value("left: ", left);
	message.add_value("right:", right);
	add_contexts(message);
	return false;
}

bool check_truth(const Site &site, bool value, bool wanted)
{
	report->assertions++;
	if (value == wanted)
		return true;

	Message message;

	fail_at(message, site);
	message.add("%s is %s\n", site.left, value ? "true" : "false");
	add_contexts(message);
	return false;
}

bool check_strings(const Site &site, bool equal, const char *left, const char *right)
{
	report->assertions++;
	if (left && right && (strcmp(left, right) == 0) == equal)
		return true;

	Message message;

	fail_at(message, site);
	message.add("%s %s %s\n", site.left, equal ? "==" : "!=", site.right);
	message.add("#   left:  \"%s\"\n", left ? left : "(null)");
	message.add("#   right: \"%s\"\n", right ? right : "(null)");
	add_contexts(message);
	return false;
}

void skip_case(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(report->reason, sizeof(report->reason), fmt, args);
	va_end(args);
	report->skipped = true;
}

unsigned int failures()
{
	return report->failures;
}

bool skipped()
{
	return report->skipped;
}

void note(const char *fmt, ...)
{
	Message message;
	va_list args;

	message.add("# ");
	va_start(args, fmt);
	message.vadd(fmt, args);
	va_end(args);
}

void debug(const char *fmt, ...)
{
	if (!debug_wanted)
		return;

	Message message;
	va_list args;

	message.add("# debug: ");
	va_start(args, fmt);
	message.vadd(fmt, args);
	va_end(args);
}

void set_step(const char *literal)
{
	report->step.store(literal, std::memory_order_relaxed);
}

Context::Context(const char *fmt, ...) : outer_(innermost)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(text_, sizeof(text_), fmt, args);
	va_end(args);
	innermost = this;
}

Context::~Context()
{
	innermost = outer_;
}

void run_phases(const Case &c, void *self, const void *variant, Erased body)
{
	const Fixture &fixture = c.fixture;

	report->phase = Phase::setup;
	if (fixture.setup)
		fixture.setup(self, variant);

	if (!report->skipped && !report->failures) {
		unsigned int before = report->assertions;

		report->phase = Phase::body;
		body(self, variant);
		/* What setup asserts says nothing about the rule under test. */
		report->asserted_nothing = report->assertions == before;
	}

	report->phase = Phase::teardown;
	if (fixture.teardown)
		fixture.teardown(self, variant);
}

/* ---- Children of a case ---- */

pid_t fork_member()
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(KSFT_FAIL);
	}
	return pid;
}

int wait_status(pid_t pid)
{
	int status;

	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

void exec_self(char *const argv[])
{
	execv("/proc/self/exe", argv);
	/* Without /proc, as long as nobody has changed the directory. */
	execv(reinterpret_cast<const char *>(getauxval(AT_EXECFN)), argv);
}

namespace {

const char *signal_name(int sig)
{
	const char *name = sigabbrev_np(sig);

	return name ? name : "?";
}

/* "killed by signal 11 (SIGSEGV)" and the like. */
void describe_status(char *text, size_t size, int status)
{
	if (status == -1)
		snprintf(text, size, "could not be forked or waited for");
	else if (WIFSIGNALED(status))
		snprintf(text, size, "killed by signal %d (SIG%s)", WTERMSIG(status),
			 signal_name(WTERMSIG(status)));
	else if (WIFEXITED(status))
		snprintf(text, size, "exited with %d", WEXITSTATUS(status));
	else
		snprintf(text, size, "ended with status 0x%x", static_cast<unsigned int>(status));
}

} /* namespace */

bool check_death(const Site &site, int sig, int status)
{
	char how[80];

	report->assertions++;
	if (status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == sig)
		return true;

	Message message;

	describe_status(how, sizeof(how), status);
	fail_at(message, site);
	message.add("%.200s was to be killed by %s, but was %s\n", site.left, site.right, how);
	add_contexts(message);
	return false;
}

bool check_survival(const Site &site, int status)
{
	char how[80];

	report->assertions++;
	if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;

	Message message;

	describe_status(how, sizeof(how), status);
	fail_at(message, site);
	message.add("%.200s was to survive, but was %s\n", site.left, how);
	add_contexts(message);
	return false;
}

/* ---- The parent ---- */

namespace {

/* Turns what a case prints into diagnostic lines, whatever it is. */
class Relay {
public:
	void feed(const char *data, size_t size)
	{
		for (size_t i = 0; i < size; i++)
			put(data[i]);
	}

	void finish()
	{
		if (used_)
			flush();
		if (dropped_)
			printf("# (%zu more bytes of output dropped)\n", dropped_);
		fflush(stdout);
	}

private:
	void put(char c)
	{
		if (c == '\n') {
			flush();
			return;
		}
		if (c == '\r')
			return;
		if (c != '\t' && (c < ' ' || c > '~'))
			c = '?';
		if (used_ == sizeof(line_))
			flush();
		line_[used_++] = c;
	}

	void flush()
	{
		bool marked = used_ >= 2 && line_[0] == '#' && line_[1] == ' ';

		if (total_ + used_ > max_output)
			dropped_ += used_;
		else
			printf("%s%.*s\n", marked ? "" : "# ", static_cast<int>(used_), line_);
		total_ += used_;
		used_ = 0;
	}

	char line_[max_line];
	size_t used_ = 0, total_ = 0, dropped_ = 0;
};

long now_ms()
{
	timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void child_ended(int)
{
	/* Only there to end ppoll(). */
}

/* SIGCHLD stays blocked except in ppoll(), so that no end of a child is missed. */
sigset_t parent_mask, case_mask;

void watch_children()
{
	struct sigaction action = {};
	sigset_t chld;

	action.sa_handler = child_ended;
	/* Who is stopped in a case would be preempted by this program before it sleeps. */
	action.sa_flags = SA_NOCLDSTOP;
	sigaction(SIGCHLD, &action, nullptr);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &case_mask);
	sigdelset(&case_mask, SIGCHLD);
	parent_mask = case_mask;
}

/* Copies what is there; false at the end of the output. Waits for at most timeout_ms. */
bool relay_some(int fd, Relay &relay, long timeout_ms)
{
	timespec timeout = { timeout_ms / 1000, (timeout_ms % 1000) * 1000000 };
	pollfd poll_fd = { fd, POLLIN, 0 };
	char data[4096];

	if (ppoll(&poll_fd, 1, &timeout, &parent_mask) <= 0)
		return true;

	ssize_t n = read(fd, data, sizeof(data));

	if (n > 0)
		relay.feed(data, static_cast<size_t>(n));
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/*
 * Kills what the case left in its group and waits for all of it, also for what was re-parented
 * to this process. False if something survives SIGKILL or has left the group.
 */
bool reap_leftovers(pid_t group, unsigned int *killed)
{
	long end = now_ms() + reap_ms;

	for (;;) {
		kill(-group, SIGKILL);

		pid_t pid = waitpid(-1, nullptr, WNOHANG);

		if (pid > 0)
			*killed += pid != group;
		else if (pid < 0 && errno == ECHILD)
			return true;
		else if (now_ms() > end)
			return false;
		else
			usleep(1000);
	}
}

[[noreturn]] void run_child(const Case &c, const Variant *variant, int output)
{
	rlimit no_core = {};
	int null = open("/dev/null", O_RDONLY);

	setpgid(0, 0);
	setrlimit(RLIMIT_CORE, &no_core);
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, &case_mask, nullptr);

	c.entry(c, variant ? variant->params : nullptr);

	/* After entry(): destructors may still fail, for example to unregister. */
	report->phase = Phase::done;
	_exit(KSFT_PASS);
}

const char *phase_text(Phase phase)
{
	switch (phase) {
	case Phase::starting: return "before setup";
	case Phase::setup: return "in setup";
	case Phase::body: return "in the case";
	case Phase::teardown: return "in teardown";
	case Phase::done: return "after the case";
	}
	return "?";
}

void print_name(char *text, size_t size, const Case &c, const Variant *variant)
{
	snprintf(text, size, "%s%s%s.%s", c.fixture.name, variant ? "." : "",
		 variant ? variant->name : "", c.name);
}

void report_result(const Case &c, const char *name, int status, bool late, bool reaped)
{
	char how[160];

	if (late) {
		snprintf(how, sizeof(how), "deadline of %u s passed", c.deadline_s);
	} else if (status == -1 || WIFSIGNALED(status) || report->phase != Phase::done) {
		describe_status(how, sizeof(how), status);
	} else if (!reaped) {
		snprintf(how, sizeof(how), "left processes behind that could not be killed");
	} else if (report->failures) {
		ksft_test_result_fail("%s\n", name);
		return;
	} else if (report->skipped) {
		ksft_test_result_code(KSFT_SKIP, name, "%s", report->reason);
		return;
	} else if (report->asserted_nothing) {
		snprintf(how, sizeof(how), "asserted nothing");
	} else {
		ksft_test_result_pass("%s\n", name);
		return;
	}

	const char *step = report->step;

	if (report->phase != Phase::done)
		ksft_print_msg("%s %s, last step: %s\n", how, phase_text(report->phase),
			       step ? step : "none");
	ksft_test_result_code(KSFT_FAIL, name, "%s", how);
}

void run_case(const Case &c, const Variant *variant, const char *name)
{
	int status = -1;
	Relay relay;
	int fds[2];

	memset(static_cast<void *>(report), 0, sizeof(*report));
	if (pipe2(fds, O_CLOEXEC))
		ksft_exit_fail_perror("pipe2");
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	fflush(stdout);

	long end = now_ms() + c.deadline_s * 1000L;
	pid_t pid = fork_member();

	if (pid == 0)
		run_child(c, variant, fds[1]);
	if (pid < 0)
		ksft_exit_fail_perror("fork");
	close(fds[1]);
	setpgid(pid, pid);

	bool open = true, late = false;

	for (;;) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			break;

		long left = end - now_ms();

		if (left <= 0) {
			late = true;
			break;
		}
		if (open)
			open = relay_some(fds[0], relay, left);
		else
			relay_some(-1, relay, left);
	}

	unsigned int killed = 0;
	bool reaped = reap_leftovers(pid, &killed);

	/* Everybody who could write is gone, unless reaped is false. */
	pollfd rest = { fds[0], POLLIN, 0 };

	while (open && poll(&rest, 1, 0) > 0)
		open = relay_some(fds[0], relay, 0);
	close(fds[0]);
	relay.finish();
	if (killed)
		ksft_print_msg("%u left-over process(es) killed\n", killed);
	report_result(c, name, status, late, reaped);
	fflush(stdout);
}

/* ---- Options: those of kselftest_harness.h, with its rule that the first match decides ---- */

constexpr const char *option_letters = ":hldt:T:f:F:v:V:r:";

bool is_named(const Case &c, const Variant *variant, const char *wanted)
{
	char name[256];

	print_name(name, sizeof(name), c, variant);
	return strcmp(name, wanted) == 0;
}

bool is_selected(int argc, char **argv, const Case &c, const Variant *variant)
{
	bool has_positive = false;
	int option;

	optind = 1;
	while ((option = getopt(argc, argv, option_letters)) != -1) {
		const char *value = nullptr;

		switch (option) {
		case 'r':
			if (is_named(c, variant, optarg))
				return true;
			has_positive = true;
			continue;
		case 't': case 'T':
			value = c.name;
			break;
		case 'f': case 'F':
			value = c.fixture.name;
			break;
		case 'v': case 'V':
			value = variant ? variant->name : "";
			break;
		default:
			continue;
		}

		bool positive = option >= 'a';

		has_positive |= positive;
		if (!c.hidden && strcmp(value, optarg) == 0)
			return positive;
	}
	return !has_positive && !c.hidden;
}

template <typename Visit>
void for_each_case(Visit &&visit)
{
	for (const Fixture *f = first_fixture; f; f = f->next) {
		const Variant *variant = f->variants;

		do {
			for (const Case *c = f->cases; c; c = c->next)
				visit(*c, variant);
			variant = variant ? variant->next : nullptr;
		} while (variant);
	}
}

[[noreturn]] void usage_error(const char *program, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

void usage_error(const char *program, const char *fmt, ...)
{
	char what[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	fprintf(stderr, "# %s: %s; -l lists the cases, -h explains the options\n",
		base_name(program), what);
	exit(KSFT_FAIL);
}

void print_help(const char *program)
{
	printf("Usage: %s [-h|-l|-d] [-t|-T|-v|-V|-f|-F|-r name]...\n"
	       "\t-h       print help\n"
	       "\t-l       list the cases that the other options select\n"
	       "\t-d       enable debug prints\n"
	       "\t-t name  include case       -T name  exclude case\n"
	       "\t-f name  include fixture    -F name  exclude fixture\n"
	       "\t-v name  include variant    -V name  exclude variant\n"
	       "\t-r name  run the case of that full name, fixture.variant.case\n"
	       "Filters can be given several times; the first that matches decides.\n"
	       "Exit status: %d pass, %d failed or could not run, %d all cases skipped.\n",
	       base_name(program), KSFT_PASS, KSFT_FAIL, KSFT_SKIP);
}

void check_option(const char *program, int option)
{
	bool found = false;

	if (option == '?')
		usage_error(program, "unknown option '-%c'", optopt);
	if (option == ':')
		usage_error(program, "option '-%c' needs a name", optopt);
	if (!strchr("rtTfFvV", option))
		return;

	for_each_case([&](const Case &c, const Variant *variant) {
		if (option == 'r')
			found |= is_named(c, variant, optarg);
		else if (option == 't' || option == 'T')
			found |= strcmp(c.name, optarg) == 0;
		else if (option == 'f' || option == 'F')
			found |= strcmp(c.fixture.name, optarg) == 0;
		else
			found |= variant && strcmp(variant->name, optarg) == 0;
	});
	if (!found)
		usage_error(program, "-%c: there is no '%.200s'", option, optarg);
}

} /* namespace */

int run_all(int argc, char **argv)
{
	bool list = false;
	unsigned int count = 0;
	int option;

	opterr = 0;
	while ((option = getopt(argc, argv, option_letters)) != -1) {
		check_option(argv[0], option);
		if (option == 'h') {
			print_help(argv[0]);
			return KSFT_PASS;
		}
		list |= option == 'l';
		debug_wanted |= option == 'd';
	}
	if (optind < argc)
		usage_error(argv[0], "unexpected argument '%.200s'", argv[optind]);

	for_each_case([&](const Case &c, const Variant *variant) {
		char name[256];

		if (!is_selected(argc, argv, c, variant))
			return;
		count++;
		print_name(name, sizeof(name), c, variant);
		if (list)
			printf("%s\n", name);
	});
	if (!count)
		usage_error(argv[0], "no case is left to run");
	if (list)
		return KSFT_PASS;

	find_cpus();
	own_rseq(argv);

	report = static_cast<Report *>(mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE,
					    MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	if (report == MAP_FAILED)
		ksft_exit_fail_perror("mmap");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	watch_children();

	ksft_print_header();
	ksft_set_plan(count);
	describe_kernel();
	for_each_case([&](const Case &c, const Variant *variant) {
		char name[256];

		if (!is_selected(argc, argv, c, variant))
			return;
		print_name(name, sizeof(name), c, variant);
		run_case(c, variant, name);
	});

	if (ksft_plan == ksft_cnt.ksft_xskip) {
		ksft_print_cnts();
		return KSFT_SKIP;
	}
	ksft_finished();
}

} /* namespace selftest */

int main(int argc, char **argv)
{
	return selftest::run_all(argc, argv);
}
