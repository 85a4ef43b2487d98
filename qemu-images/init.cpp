// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of a guest: run the programs of /tests/plan one after the other, write what they say and
 * how they end as KTAP to the virtio-serial port "results", and power off.
 *
 *	/tests/plan	<name> <deadline in seconds> [option...] <absolute path> [argument...]
 *			one program a line; empty lines and lines that begin with # do not count
 *
 *	NAME=value	an option: this is in the environment of the program
 *	plain		an option: what the program prints is not KTAP, its exit status says all
 *
 * There is no shell here and no word of the kernel command line has a meaning here.
 *
 * What a program prints appears two columns further right than the program's own result line, so
 * nothing that it prints can pass for a line of this file. On stdout a line is kept as it is, be it
 * right or wrong: judging is the host's job. Only what cannot be shown as one line of KTAP is
 * marked, in a way that no KTAP parser can take for a result:
 *
 *	[bytes] ...		has bytes that are not printable ASCII, shown as \xNN
 *	[overlong] ...		a piece of a line of more than line_limit bytes
 *	[no newline] ...	the last line of a program that exited has no newline
 *	# cut off: ...		the same where the program was killed: it could not help it
 *	# stderr: ...		every line of stderr that is not a diagnostic already
 *	# stdout: ...		every line of stdout of a plain program
 *
 * A diagnostic ("# ...") stays one, whatever its bytes are.
 *
 * What goes wrong in here is fatal: one line on the console, power off, no "# done", which the host
 * judges as a broken run.
 */
#include <cerrno>
#include <charconv>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

using std::string_view;

namespace {

constexpr size_t line_limit = 4096;		/* longer lines are broken into marked pieces */
constexpr size_t output_limit = 16 << 20;	/* of one program; keeps the host's disk */
constexpr size_t plan_limit = 256 << 10;
constexpr size_t max_programs = 1024;
constexpr size_t max_args = 32;
constexpr size_t max_variables = 8;
constexpr int64_t grace_ms = 3000;		/* for children killed but not waited for */
constexpr int64_t patience_ms = 10000;		/* for what the kernel owes: a port, a death */

constexpr char results_port[] = "results";
constexpr char plan_path[] = "/tests/plan";

/* ---- the end ---- */

[[noreturn]] void power_off()
{
	/* stderr is the console; what was written there must leave the UART first. */
	tcdrain(STDERR_FILENO);
	/* QEMU runs with -no-reboot. Not every machine here can switch itself off. */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

[[noreturn, gnu::format(printf, 1, 2)]] void fatal(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	dprintf(STDERR_FILENO, "init: fatal: %s\n", text);
	power_off();
}

[[noreturn]] void fatal_errno(const char *what, const char *object)
{
	fatal("%s %s: %s", what, object, strerror(errno));
}

int64_t now_ms()
{
	timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t))
		fatal_errno("read", "CLOCK_MONOTONIC");
	return int64_t(t.tv_sec) * 1000 + t.tv_nsec / 1000000;
}

void sleep_ms(int64_t ms)
{
	timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, nullptr);
}

/* Whole file into buf, terminated; fatal where it does not fit. False: no such file or process. */
bool read_file(const char *path, char *buf, size_t size, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		if (errno == ENOENT || errno == ESRCH)
			return false;
		fatal_errno("open", path);
	}
	*len = 0;
	for (;;) {
		ssize_t n = read(fd, buf + *len, size - *len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ESRCH) {
			close(fd);
			return false;
		}
		if (n < 0)
			fatal_errno("read", path);
		if (!n)
			break;
		*len += n;
		if (*len == size)
			fatal("%s has more than %zu bytes", path, size - 1);
	}
	close(fd);
	buf[*len] = '\0';
	return true;
}

/* ---- results ---- */

class Results {
public:
	void open_port();
	void put(string_view s);
	[[gnu::format(printf, 2, 3)]] void print(const char *format, ...);
	void flush();
	void finish();

private:
	int fd = -1;
	size_t used = 0;
	char buf[32 << 10];
};

Results results;

/* The port has no fixed number, and the driver learns its name from the device after init began. */
void Results::open_port()
{
	const int64_t end = now_ms() + patience_ms;

	while (fd < 0) {
		DIR *dir = opendir("/sys/class/virtio-ports");

		if (dir) {
			while (dirent *entry = readdir(dir)) {
				char path[512], name[256];
				size_t len;

				if (entry->d_name[0] == '.')
					continue;
				snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name",
					 entry->d_name);
				if (!read_file(path, name, sizeof(name), &len))
					continue;
				if (len && name[len - 1] == '\n')
					len--;
				if (string_view(name, len) != results_port)
					continue;
				snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
				fd = open(path, O_WRONLY | O_CLOEXEC);
				if (fd < 0)
					fatal_errno("open", path);
			}
			closedir(dir);
		}
		if (fd < 0 && now_ms() > end)
			fatal("no virtio-serial port is named %s", results_port);
		if (fd < 0)
			sleep_ms(5);
	}
}

void Results::put(string_view s)
{
	while (!s.empty()) {
		const size_t n = s.size() < sizeof(buf) - used ? s.size() : sizeof(buf) - used;

		memcpy(buf + used, s.data(), n);
		used += n;
		s.remove_prefix(n);
		if (used == sizeof(buf))
			flush();
	}
}

void Results::print(const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	const int len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (len < 0 || size_t(len) >= sizeof(text))
		fatal("a line of the results does not fit");
	put(string_view(text, len));
}

void Results::flush()
{
	size_t done = 0;

	while (done < used) {
		const ssize_t n = write(fd, buf + done, used - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			fatal_errno("write", "results");
		done += n;
	}
	used = 0;
}

/* Closing the port asks the device for an acknowledgement, which comes after the data. */
void Results::finish()
{
	flush();
	if (close(fd))
		fatal_errno("close", "results");
}

/* Printable ASCII and tabs as they are; false if anything had to be escaped. */
bool put_escaped(string_view s, bool dry_run = false)
{
	bool clean = true;
	size_t plain = 0;

	for (size_t i = 0; i < s.size(); i++) {
		const unsigned char c = s[i];

		if ((c >= 0x20 && c < 0x7f) || c == '\t')
			continue;
		clean = false;
		if (dry_run)
			return false;
		results.put(s.substr(plain, i - plain));
		results.print("\\x%02x", c);
		plain = i + 1;
	}
	if (!dry_run)
		results.put(s.substr(plain));
	return clean;
}

/* ---- what a program prints ---- */

class Stream {
public:
	enum class Kind { ktap, log, plain };

	void start(int pipe_fd, Kind what);
	size_t read_some();
	void end(bool killed);

	int fd = -1;

private:
	enum class Piece { whole, part, unterminated, cut_off };

	void emit(Piece piece);

	Kind kind;
	bool continued;			/* a piece of this line is out already ... */
	bool diagnostic;		/* ... and it was a diagnostic */
	size_t len;
	char line[line_limit];
};

Stream out, err;

void Stream::start(int pipe_fd, Kind what)
{
	fd = pipe_fd;
	kind = what;
	continued = false;
	len = 0;
}

void Stream::emit(Piece piece)
{
	const string_view text(line, len);

	if (!continued) {
		const size_t first = text.find_first_not_of(" \t");

		/* Of what is not KTAP, some may look like it: totals, for example. */
		diagnostic = kind != Kind::plain && first != text.npos && text[first] == '#';
	}
	results.put("  ");
	if (diagnostic) {
		if (continued)
			results.put("# [overlong] ");
	} else if (kind != Kind::ktap) {
		results.put(kind == Kind::log ? "# stderr: " : "# stdout: ");
	} else if (piece == Piece::cut_off) {
		results.put("# cut off: ");
	} else if (continued || piece == Piece::part) {
		results.put("[overlong] ");
	} else if (piece == Piece::unterminated) {
		results.put("[no newline] ");
	} else if (!put_escaped(text, true)) {
		results.put("[bytes] ");
	}
	put_escaped(text);
	results.put("\n");
	continued = piece == Piece::part;
	len = 0;
}

/* How many bytes came; closes the pipe at its end. The pipe does not block. */
size_t Stream::read_some()
{
	static char chunk[64 << 10];
	const ssize_t n = read(fd, chunk, sizeof(chunk));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		fatal_errno("read", "the output of a program");
	if (!n) {
		close(fd);
		fd = -1;
		return 0;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (chunk[i] == '\n') {
			emit(Piece::whole);
			continue;
		}
		if (len == sizeof(line))
			emit(Piece::part);
		line[len++] = chunk[i];
	}
	return n;
}

void Stream::end(bool killed)
{
	if (len || continued)
		emit(killed ? Piece::cut_off : Piece::unterminated);
}

/* ---- processes ---- */

int sigchld_fd;

/* Reaps whatever has died; true if `leader` is among it. */
bool reap(pid_t leader, int *status)
{
	signalfd_siginfo info;
	bool found = false;

	while (read(sigchld_fd, &info, sizeof(info)) > 0)
		;
	for (;;) {
		int s;
		const pid_t pid = waitpid(-1, &s, WNOHANG);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0)
			return found;
		if (pid == leader) {
			*status = s;
			found = true;
		}
	}
}

/* Calls f(pid, comm) for each living process but init and the kernel's threads; how many. */
template <typename F> unsigned int for_each_process(F f)
{
	constexpr unsigned long pf_kthread = 0x00200000;	/* a flag in /proc/PID/stat */
	unsigned int count = 0;
	DIR *dir = opendir("/proc");

	if (!dir)
		fatal_errno("open", "/proc");
	while (dirent *entry = readdir(dir)) {
		char path[64], stat[1024];
		const char *end = entry->d_name + strlen(entry->d_name);
		unsigned long flags;
		size_t len;
		pid_t pid;
		char state;

		if (std::from_chars(entry->d_name, end, pid).ptr != end || pid == 1)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		if (!read_file(path, stat, sizeof(stat), &len))
			continue;
		char *comm = strchr(stat, '('), *comm_end = strrchr(stat, ')');

		if (!comm || !comm_end || sscanf(comm_end + 1, " %c %*d %*d %*d %*d %*d %lu",
						 &state, &flags) != 2)
			fatal("%s cannot be understood", path);
		if ((flags & pf_kthread) || state == 'Z' || state == 'X')
			continue;
		count++;
		f(pid, string_view(comm + 1, comm_end - comm - 1));
	}
	closedir(dir);
	return count;
}

/* ---- running a program ---- */

struct Program {
	char *name;
	char *variables[max_variables];	/* NAME=value */
	size_t n_variables;
	char *argv[max_args + 2];	/* path, arguments, null pointer */
	int deadline;
	bool plain;
};

Program programs[max_programs];
size_t n_programs;
unsigned int n_leftover;

/* Waits until something happens, or `until`, and takes in output and deaths. Bytes of output. */
size_t take_in(int64_t until, pid_t leader, bool *ended, int *status)
{
	pollfd fds[] = { { sigchld_fd, POLLIN, 0 }, { out.fd, POLLIN, 0 }, { err.fd, POLLIN, 0 } };
	const int64_t wait = until - now_ms();
	size_t bytes = 0;

	results.flush();
	if (poll(fds, 3, wait > 0 ? int(wait) : 0) < 0 && errno != EINTR)
		fatal_errno("poll", "the output of a program");
	/* The deaths first: what a program has printed before it died is then read below. */
	if (reap(leader, status))
		*ended = true;
	if (out.fd >= 0)
		bytes += out.read_some();
	if (err.fd >= 0)
		bytes += err.read_some();
	return bytes;
}

/*
 * Nobody but init may be alive between two programs: a leftover disturbs what comes next, and holds
 * the pipes open. Children that were killed may still be on their way out, so there is some grace.
 */
void clear_out(const Program &program)
{
	const int64_t start = now_ms();
	bool named = false, ended;
	int status;

	while (for_each_process([](pid_t, string_view) {})) {
		const int64_t age = now_ms() - start;

		if (age > grace_ms + patience_ms)
			fatal("a process that %s left behind does not die", program.name);
		if (age > grace_ms) {
			n_leftover += for_each_process([&](pid_t pid, string_view comm) {
				kill(pid, SIGKILL);
				if (named)
					return;
				results.print("# guest.no_leftover_process: %s left process %d (",
					      program.name, pid);
				put_escaped(comm);
				results.put(") behind\n");
			});
			named = true;
		}
		take_in(now_ms() + 10, -1, &ended, &status);
	}
	while (out.fd >= 0 || err.fd >= 0) {
		if (now_ms() - start > grace_ms + 2 * patience_ms)
			fatal("the output of %s has no end", program.name);
		take_in(now_ms() + 10, -1, &ended, &status);
	}
	reap(-1, &status);
}

/* Of NAME=value */
string_view variable_name(string_view variable)
{
	return variable.substr(0, variable.find('='));
}

bool sets(const Program &program, string_view name)
{
	for (size_t i = 0; i < program.n_variables; i++)
		if (variable_name(program.variables[i]) == name)
			return true;
	return false;
}

/* The environment of a program: what the plan says, and what it does not replace of the rest. */
char *const *environment_of(const Program &program)
{
	static char defaults[][32] = { "PATH=/tests:/bin", "HOME=/tmp", "LC_ALL=C", "TERM=dumb" };
	static char *environment[max_variables + std::size(defaults) + 1];
	size_t n = 0;

	for (size_t i = 0; i < program.n_variables; i++)
		environment[n++] = program.variables[i];
	for (char *variable : defaults)
		if (!sets(program, variable_name(variable)))
			environment[n++] = variable;
	environment[n] = nullptr;
	return environment;
}

[[noreturn]] void exec_program(const Program &program, int in, int to_out, int to_err, int report)
{
	const rlimit no_core = { 0, 0 };
	sigset_t none;

	sigemptyset(&none);
	if (!setpgid(0, 0) && dup2(in, 0) == 0 && dup2(to_out, 1) == 1 && dup2(to_err, 2) == 2 &&
	    !chdir("/tmp") && !setrlimit(RLIMIT_CORE, &no_core) &&
	    !sigprocmask(SIG_SETMASK, &none, nullptr))
		execve(program.argv[0], program.argv, environment_of(program));

	const int error = errno;

	_exit(write(report, &error, sizeof(error)) == sizeof(error) ? 127 : 126);
}

void run(const Program &program, size_t number)
{
	const int64_t start = now_ms(), deadline = start + int64_t(program.deadline) * 1000;
	int out_pipe[2], err_pipe[2], report[2], status = 0, exec_error = 0;
	bool ended = false, late = false, flooded = false;
	size_t bytes = 0;

	results.print("# running %s\n", program.name);
	results.flush();

	const int in = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (in < 0)
		fatal_errno("open", "/dev/null");
	if (pipe2(out_pipe, O_CLOEXEC) || pipe2(err_pipe, O_CLOEXEC) || pipe2(report, O_CLOEXEC))
		fatal_errno("create pipes for", program.name);

	const pid_t pid = fork();

	if (pid < 0)
		fatal_errno("fork for", program.name);
	if (!pid)
		exec_program(program, in, out_pipe[1], err_pipe[1], report[1]);
	close(in);
	close(out_pipe[1]);
	close(err_pipe[1]);
	close(report[1]);
	/* The end of this pipe says that the program runs, and in a group of its own. */
	if (read(report[0], &exec_error, sizeof(exec_error)) < 0)
		fatal_errno("start", program.name);
	close(report[0]);
	if (fcntl(out_pipe[0], F_SETFL, O_NONBLOCK) || fcntl(err_pipe[0], F_SETFL, O_NONBLOCK))
		fatal_errno("prepare the output of", program.name);
	out.start(out_pipe[0], program.plain ? Stream::Kind::plain : Stream::Kind::ktap);
	err.start(err_pipe[0], Stream::Kind::log);

	while (!ended) {
		bytes += take_in(deadline, pid, &ended, &status);
		if (ended)
			break;
		flooded = bytes > output_limit;
		late = !flooded && now_ms() >= deadline;
		if (flooded || late)
			break;
	}
	if (!ended) {
		const int64_t end = now_ms() + patience_ms;

		/* The group is empty of the program itself if that has moved to another one. */
		if (kill(pid, SIGKILL) || (kill(-pid, SIGKILL) && errno != ESRCH))
			fatal_errno("kill", program.name);
		while (!ended) {
			if (now_ms() > end)
				fatal("%s does not die", program.name);
			take_in(now_ms() + 10, pid, &ended, &status);
		}
	}
	clear_out(program);

	const bool killed = late || flooded || WIFSIGNALED(status);

	out.end(killed);
	err.end(killed);
	results.print("# %s took %lld ms\n", program.name, (long long)(now_ms() - start));

	const int code = WEXITSTATUS(status);

	if (exec_error)
		results.print("not ok %zu %s # cannot run: %s\n", number, program.name,
			      strerror(exec_error));
	else if (late)
		results.print("not ok %zu %s # deadline of %d s passed\n", number, program.name,
			      program.deadline);
	else if (flooded)
		results.print("not ok %zu %s # more than %zu MiB of output\n", number, program.name,
			      output_limit >> 20);
	else if (WIFSIGNALED(status))
		results.print("not ok %zu %s # killed by signal %d\n", number, program.name,
			      WTERMSIG(status));
	else if (code == 4)
		results.print("ok %zu %s # SKIP all cases skipped\n", number, program.name);
	else if (code)
		results.print("not ok %zu %s # exit %d\n", number, program.name, code);
	else
		results.print("ok %zu %s\n", number, program.name);
	results.flush();
}

/* ---- post-checks ---- */

bool no_taint()
{
	char text[64];
	size_t len;

	if (!read_file("/proc/sys/kernel/tainted", text, sizeof(text), &len))
		fatal("no /proc/sys/kernel/tainted");
	if (string_view(text, len) == "0\n")
		return true;
	text[strcspn(text, "\n")] = '\0';
	results.print("# guest.no_taint: /proc/sys/kernel/tainted is %s\n", text);
	return false;
}

bool no_leftover_process()
{
	n_leftover += for_each_process([](pid_t pid, string_view comm) {
		results.print("# guest.no_leftover_process: process %d (", pid);
		put_escaped(comm);
		results.put(") is alive\n");
	});
	return !n_leftover;
}

struct PostCheck {
	const char *name;
	bool (*passes)();
};

constexpr PostCheck post_checks[] = {
	{ "guest.no_taint", no_taint },
	{ "guest.no_leftover_process", no_leftover_process },
};

/* ---- the plan ---- */

char *next_word(char **rest)
{
	char *word;

	while ((word = strsep(rest, " \t")))
		if (*word)
			return word;
	return nullptr;
}

/* True if the word is an option, which stands before the path. */
bool add_option(Program &p, char *word, unsigned int line)
{
	constexpr char variable_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					  "0123456789_";
	const string_view text(word);

	if (text == "plain") {
		if (p.plain)
			fatal("%s:%u: plain is there twice", plan_path, line);
		p.plain = true;
		return true;
	}
	if (text[0] == '/' || text.find('=') == text.npos)
		return false;

	const string_view name = variable_name(text);

	if (name.empty() || (name[0] >= '0' && name[0] <= '9') ||
	    name.find_first_not_of(variable_chars) != name.npos)
		fatal("%s:%u: %s does not set a variable", plan_path, line, word);
	if (sets(p, name))
		fatal("%s:%u: %.*s is set twice", plan_path, line, int(name.size()), name.data());
	if (p.n_variables == max_variables)
		fatal("%s:%u: more than %zu variables", plan_path, line, max_variables);
	p.variables[p.n_variables++] = word;
	return true;
}

void add_program(char *text, unsigned int line)
{
	constexpr char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-";
	constexpr size_t name_limit = 200;

	if (n_programs == max_programs)
		fatal("%s: more than %zu programs", plan_path, max_programs);

	Program &p = programs[n_programs];
	size_t args = 0;

	p.name = next_word(&text);
	char *deadline = next_word(&text);

	while (char *word = next_word(&text)) {
		if (!args && add_option(p, word, line))
			continue;
		if (args == max_args + 1)
			fatal("%s:%u: more than %zu arguments", plan_path, line, max_args);
		p.argv[args++] = word;
	}
	p.argv[args] = nullptr;
	if (!args)
		fatal("%s:%u: not <name> <deadline> [option...] <path> [argument...]", plan_path, line);
	if (strlen(p.name) > name_limit || p.name[strspn(p.name, name_chars)] ||
	    !strncmp(p.name, "guest.", 6))
		fatal("%s:%u: not a name for a program", plan_path, line);
	for (size_t i = 0; i < n_programs; i++)
		if (!strcmp(programs[i].name, p.name))
			fatal("%s:%u: %s is there twice", plan_path, line, p.name);

	const char *end = deadline + strlen(deadline);

	if (std::from_chars(deadline, end, p.deadline).ptr != end || p.deadline < 1 ||
	    p.deadline > 86400)
		fatal("%s:%u: %s is not a number of seconds", plan_path, line, deadline);
	if (p.argv[0][0] != '/' || access(p.argv[0], X_OK))
		fatal("%s:%u: %s is not the path of a program", plan_path, line, p.argv[0]);
	n_programs++;
}

void read_plan()
{
	static char plan[plan_limit];
	char *rest = plan;
	unsigned int number = 0;
	size_t len;

	if (!read_file(plan_path, plan, sizeof(plan), &len))
		fatal("no %s", plan_path);
	if (strlen(plan) != len)
		fatal("%s has NUL bytes", plan_path);
	while (char *line = strsep(&rest, "\n")) {
		const char first = line[strspn(line, " \t")];

		number++;
		if (first && first != '#')
			add_program(line, number);
	}
	if (!n_programs)
		fatal("%s names no program", plan_path);
}

/* ---- the beginning ---- */

void mount_at(const char *type, const char *where, unsigned long flags, const char *data = "")
{
	if (mkdir(where, 0755) && errno != EEXIST)
		fatal_errno("mkdir", where);
	if (mount(type, where, type, flags, data))
		fatal_errno("mount", where);
}

void set_up()
{
	constexpr unsigned long plain = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	sigset_t sigchld;

	umask(0022);
	mount_at("proc", "/proc", plain);
	mount_at("sysfs", "/sys", plain);
	mount_at("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
	mount_at("debugfs", "/sys/kernel/debug", plain);
	mount_at("tracefs", "/sys/kernel/tracing", plain);
	mount_at("cgroup2", "/sys/fs/cgroup", plain);
	mount_at("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");

	sigemptyset(&sigchld);
	sigaddset(&sigchld, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &sigchld, nullptr))
		fatal_errno("block", "SIGCHLD");
	sigchld_fd = signalfd(-1, &sigchld, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sigchld_fd < 0)
		fatal_errno("watch", "SIGCHLD");
}

} /* namespace */

int main()
{
	if (getpid() != 1) {
		fprintf(stderr, "init: this is PID 1 of a guest\n");
		return 3;
	}
	/* The kernel has complained already if there is no console to complain on. */
	if (fcntl(STDERR_FILENO, F_GETFD) < 0)
		power_off();
	set_up();
	read_plan();
	results.open_port();

	size_t number = 1;

	results.print("KTAP version 1\n1..%zu\n", n_programs + std::size(post_checks));
	for (size_t i = 0; i < n_programs; i++)
		run(programs[i], number++);
	for (const PostCheck &check : post_checks) {
		const bool passes = check.passes();

		results.print("%s %zu %s\n", passes ? "ok" : "not ok", number++, check.name);
	}
	results.put("# done\n");
	results.finish();
	power_off();
}
