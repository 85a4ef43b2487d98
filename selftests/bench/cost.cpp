// SPDX-License-Identifier: GPL-2.0
/*
 * How many instructions a path through the kernel takes, by registration, in a guest whose clock
 * counts instructions (QEMU's -icount shift=0).
 *
 *	cost [-n SAMPLES] [-p PATH[,PATH...]] [-r REGISTRATION[,...]] [-l]
 *
 *	-n	how often each path is taken (default 101); at most 5000. Work (many units each
 *		time): a tenth of it
 *	-p	only these paths;  -l lists all
 *	-r	only these registrations: none, v1, v2_size, v2_flag
 *
 * For each path and registration a process of its own takes the path again and again and reads the
 * clock before and after. What is reported is the most frequent difference, less what reading the
 * clock takes: a timer tick or another housekeeping of the kernel makes some samples larger. The
 * line has how many samples have that value, the extremes and the sum, and how many of each event
 * happened while the samples were taken: context switches, page faults, signals, what rseq/stats
 * says. A path whose event did not happen as often as it should is an error.
 *
 * Nothing is printed before everything is measured: output is interrupts.
 *
 * Exit: 0 measured, 1 something went wrong (a line "# error: ..." says what).
 */
#include "paths.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <linux/membarrier.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE	27
#endif
#ifndef AT_RSEQ_V2
#define AT_RSEQ_V2		38
#endif

namespace {

constexpr int max_samples = 5000;
constexpr uint64_t turns = 40000;	/* of spin(): 80 us, in which a timer goes off after 20 */
constexpr long timer_ns = 20000;
constexpr int priority = 10;		/* of the thread that is measured, SCHED_FIFO */

int samples = 101;

/* ---- what everybody needs ---- */

/* What a child found out, on memory that the parent sees. */
struct Report {
	char error[200];
	char line[1500];
};

Report *report;

[[noreturn, gnu::format(printf, 1, 2)]] void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!report->error[0])
		vsnprintf(report->error, sizeof(report->error), format, args);
	va_end(args);
	_exit(1);
}

void need(bool ok, const char *what)
{
	if (!ok)
		fail("%s: %s", what, strerror(errno));
}

void must_be(long is, long expected, const char *what)
{
	if (is != expected)
		fail("%s: %ld instead of %ld", what, is, expected);
}

/*
 * Events of which now and then there is one more, because the kernel has other things to do too.
 * That sample has another value then, and the most frequent value is what counts.
 */
void must_be_about(long is, long expected, long samples, const char *what)
{
	if (is < expected || is > expected + samples / 10)
		fail("%s: %ld instead of %ld", what, is, expected);
}

/* The clock: one tick is one instruction. */
inline uint64_t now()
{
#if defined(__x86_64__)
	uint32_t low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return uint64_t(high) << 32 | low;
#else
	uint64_t value;

	asm volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(value) : : "memory");
	return value;
#endif
}

inline long call0(long number)
{
#if defined(__x86_64__)
	long result;

	asm volatile("syscall" : "=a"(result) : "0"(number) : "rcx", "r11", "memory");
	return result;
#else
	register long x8 asm("x8") = number;
	register long x0 asm("x0");

	asm volatile("svc #0" : "=r"(x0) : "r"(x8) : "memory");
	return x0;
#endif
}

inline long call3(long number, long a, long b, long c)
{
#if defined(__x86_64__)
	long result;

	asm volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c)
		     : "rcx", "r11", "memory");
	return result;
#else
	register long x8 asm("x8") = number;
	register long x0 asm("x0") = a;
	register long x1 asm("x1") = b;
	register long x2 asm("x2") = c;

	asm volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
#endif
}

inline void relax()
{
#if defined(__x86_64__)
	asm volatile("pause" : : : "memory");
#else
	asm volatile("yield" : : : "memory");
#endif
}

int pin(int cpu, pid_t tid = 0)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(tid, sizeof(set), &set);
}

int nr_cpus()
{
	return int(sysconf(_SC_NPROCESSORS_ONLN));
}

/* Round robin without a clock: whoever yields is the last, whoever is woken and higher runs. */
void become_fifo(int prio)
{
	sched_param param = {};

	param.sched_priority = prio;
	need(!sched_setscheduler(0, SCHED_FIFO, &param), "SCHED_FIFO");
}

size_t read_file(const char *path, char *text, size_t size)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;

	while (fd >= 0 && used < size - 1) {
		const ssize_t n = read(fd, text + used, size - 1 - used);

		if (n <= 0)
			break;
		used += size_t(n);
	}
	if (fd >= 0)
		close(fd);
	text[used] = '\0';
	return used;
}

template <typename T> T *shared(size_t count = 1)
{
	void *map = mmap(nullptr, sizeof(T) * count, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	need(map != MAP_FAILED, "mmap");
	return static_cast<T *>(map);
}

/* ---- registrations ---- */

enum Mode { none, v1, v2_size, v2_flag, nr_modes };

constexpr const char *mode_names[nr_modes] = { "none", "v1", "v2_size", "v2_flag" };

struct alignas(64) Area {
	char bytes[128];
};

struct Request {
	uint32_t length;
	int flags;
	bool exists;
};

Request request_for(Mode mode)
{
	const auto size = uint32_t(getauxval(AT_RSEQ_FEATURE_SIZE));
	const auto flag = int(getauxval(AT_RSEQ_V2));

	switch (mode) {
	case v2_size:	return { size, 0, size > 32 };
	case v2_flag:	return { 32, flag, flag != 0 };
	default:	return { 32, 0, true };
	}
}

long do_register(Area *area, const Request &request)
{
	return syscall(SYS_rseq, area, request.length, request.flags, BENCH_SIGNATURE);
}

void enter(Area *area, Mode mode)
{
	memset(area, 0, sizeof(*area));
	if (mode != none)
		need(!do_register(area, request_for(mode)), "rseq");
}

Area own_area, other_area;		/* the second one for another thread */

inline void set_rseq_cs(Area *area, const rseq_cs_descriptor *cs)
{
	*reinterpret_cast<const rseq_cs_descriptor *volatile *>(area->bytes + RSEQ_CS_OFFSET) = cs;
}

/* ---- events, to prove that they happened ---- */

constexpr const char *stat_names[] = {
	"exit", "signal", "slowp", "fastp", "ids", "cs", "clear", "fixup",
};
constexpr size_t nr_stats = std::size(stat_names);

struct Events {
	long voluntary, involuntary, faults;
	bool have_stats;
	long stats[nr_stats];
};

Events events(int who = RUSAGE_THREAD)
{
	static char text[2048];
	Events e = {};
	rusage usage;

	if (read_file("/sys/kernel/debug/rseq/stats", text, sizeof(text))) {
		for (size_t i = 0; i < nr_stats; i++) {
			char name[16];
			const char *line = text;

			snprintf(name, sizeof(name), "%s:", stat_names[i]);
			while (line && strncmp(line, name, strlen(name))) {
				line = strchr(line, '\n');
				line += !!line;
			}
			if (!line)
				fail("no %s in rseq/stats", name);
			e.stats[i] = atol(line + strlen(name));
		}
		e.have_stats = true;
	}
	need(!getrusage(who, &usage), "getrusage");
	e.voluntary = usage.ru_nvcsw;
	e.involuntary = usage.ru_nivcsw;
	e.faults = usage.ru_minflt;
	return e;
}

/* ---- samples ---- */

uint64_t values[max_samples];

struct Summary {
	uint64_t value, least, low, high, most, sum;	/* low and high: 10 % and 90 % */
	int share;
};

/* The most frequent value if most samples have it, otherwise the one in the middle. */

Summary summarize()
{
	Summary s = {};
	int run = 0;

	std::sort(values, values + samples);
	s.least = values[0];
	s.low = values[samples / 10];
	s.high = values[samples - 1 - samples / 10];
	s.most = values[samples - 1];
	for (int i = 0; i < samples; i++) {
		s.sum += values[i];
		run = i && values[i] == values[i - 1] ? run + 1 : 1;
		if (run > s.share) {
			s.share = run;
			s.value = values[i];
		}
	}
	if (2 * s.share <= samples)
		s.value = values[samples / 2];
	return s;
}

/* Instructions from one look at the clock to the next. The marks are for who counts from outside. */
template <typename Body> inline uint64_t time_of(Body &&body)
{
	const uint64_t start = now();

	mark_begin();
	body();
	mark_end();
	return now() - start;
}

uint64_t overhead, spin_overhead;	/* of nothing, and of a spin() without its turns */

/* One sample: what body() does takes so many instructions. */
template <typename Body> inline uint64_t sample(Body &&body)
{
	return time_of(body) - overhead;
}

/* What happens to a spin() takes so many instructions; *left is not 0 if it was aborted. */
uint64_t spin_sample(const rseq_cs_descriptor *cs, uint64_t *left)
{
	return time_of([&] { *left = spin(&own_area, turns, cs); }) - 2 * (turns - *left) -
	       spin_overhead;
}

/* Before each path: the memory is there, the code is there, and the clock is known. */
void calibrate()
{
	constexpr int n = 64, few = 10;

	memset(values, 0, sizeof(values));
	overhead = spin_overhead = ~0ull;
	for (int i = 0; i < n; i++) {
		overhead = std::min(overhead, time_of([] {}));
		spin_overhead = std::min(spin_overhead,
					 time_of([] { spin(&own_area, few, nullptr); }) - 2 * few);
	}
}

/*
 * Before a sample: lets everybody else run who wants to, so that nobody is waiting in the queue
 * while the sample is taken. The scheduler does a little more where somebody is.
 */
void let_others_run()
{
	const timespec time = { 0, 200000 };

	nanosleep(&time, nullptr);
}

struct Path {
	const char *name;
	int cpus;		/* that it needs */
	int units;		/* of what it does, in one sample */
	void (*take)(const Path &path, Mode mode);
	const char *what;
	bool work = false;	/* few samples of many units each; with one CPU only */
};

struct Extra {
	const char *name;
	long value;
};

void report_samples(const Path &path, Mode mode, const Events &before, const Events &after,
		    Extra extra = { nullptr, 0 })
{
	const Summary s = summarize();
	const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
	char *p = report->line, *const end = p + sizeof(report->line);

	p += snprintf(p, size_t(end - p),
		      "{\"path\":\"%s\",\"registration\":\"%s\",\"value\":%llu,\"share\":%d,"
		      "\"samples\":%d,\"least\":%llu,\"low\":%llu,\"high\":%llu,\"most\":%llu,"
		      "\"sum\":%llu,\"units\":%d,", path.name, mode_names[mode], number(s.value),
		      s.share, samples, number(s.least), number(s.low), number(s.high),
		      number(s.most), number(s.sum), path.units);
	p += snprintf(p, size_t(end - p),
		      "\"events\":{\"voluntary\":%ld,\"involuntary\":%ld,\"faults\":%ld",
		      after.voluntary - before.voluntary, after.involuntary - before.involuntary,
		      after.faults - before.faults);
	if (extra.name)
		p += snprintf(p, size_t(end - p), ",\"%s\":%ld", extra.name, extra.value);
	for (size_t i = 0; after.have_stats && i < nr_stats; i++)
		p += snprintf(p, size_t(end - p), ",\"rseq_%s\":%ld", stat_names[i],
			      after.stats[i] - before.stats[i]);
	snprintf(p, size_t(end - p), "}}");
}

/* ---- the paths ---- */

constexpr int warm_up = 20;
constexpr int warm_up_work = 2;

/* How often take_samples() calls its body between its two looks at events(). */
int times_taken(const Path &path)
{
	return path.work ? samples : 2 * samples;
}

/*
 * Takes the samples, which body() returns, and reports them. Returns what happened meanwhile. The
 * counter is one of the caller's own events.
 */
template <typename Body>
Events take_samples(const Path &path, Mode mode, Body &&body, const char *counter_name = nullptr,
		    const long *counter = nullptr)
{
	Events e[2];
	long counted[2] = {};

	for (int i = 0; i < (path.work ? warm_up_work : warm_up); i++)
		body();

	/* Once, for the page faults of their own. */
	let_others_run();
	events();
	counted[0] = counter ? *counter : 0;
	e[0] = events();
	for (int i = 0; i < samples; i++) {
		if (!path.work) {
			/* What comes first after that is a bit different. */
			let_others_run();
			body();
		}
		values[i] = body();
	}
	e[1] = events();
	counted[1] = counter ? *counter : 0;

	report_samples(path, mode, e[0], e[1], { counter_name, counted[1] - counted[0] });
	return { e[1].voluntary - e[0].voluntary, e[1].involuntary - e[0].involuntary,
		 e[1].faults - e[0].faults, false, {} };
}

void take_null_call(const Path &path, Mode mode)
{
	enter(&own_area, mode);

	const Events e = take_samples(path, mode, [] {
		return sample([] { call0(SYS_getppid); });
	});

	must_be_about(e.involuntary, 0, times_taken(path), "involuntary switches");
}

void take_fault(const Path &path, Mode mode)
{
	const long page = sysconf(_SC_PAGESIZE);
	auto *p = static_cast<volatile char *>(mmap(nullptr, size_t(page), PROT_READ | PROT_WRITE,
						    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	need(p != MAP_FAILED, "mmap");
	enter(&own_area, mode);

	const Events e = take_samples(path, mode, [&] {
		need(!madvise(const_cast<char *>(p), size_t(page), MADV_DONTNEED), "madvise");
		return sample([&] { (void)*p; });
	});

	must_be(e.faults, times_taken(path), "page faults");
	must_be_about(e.involuntary, 0, times_taken(path), "involuntary switches");
}

/* ---- timers ---- */

void arm(int fd)
{
	const itimerspec when = { {}, { 0, timer_ns } };

	need(!timerfd_settime(fd, 0, &when, nullptr), "timerfd_settime");
}

/* Nobody waits for the timer: the interrupt comes and goes. */
void take_interrupt(const Path &path, Mode mode)
{
	const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	long interrupts = 0;

	need(fd >= 0, "timerfd_create");
	enter(&own_area, mode);

	const Events e = take_samples(path, mode, [&] {
		uint64_t left, expired;

		arm(fd);

		const uint64_t value = spin_sample(nullptr, &left);

		must_be(read(fd, &expired, sizeof(expired)), sizeof(expired), "read of timerfd");
		interrupts += long(expired);
		return value;
	}, "interrupts", &interrupts);

	must_be(interrupts, times_taken(path) + warm_up, "interrupts");
	must_be_about(e.involuntary, 0, times_taken(path), "involuntary switches");
}

/*
 * An unregistered process of a higher priority waits for the timer that interrupts the one that is
 * measured, and waits again: two switches, of which one comes back to the registered process.
 */
void take_preemption(const Path &path, Mode mode, const rseq_cs_descriptor *cs)
{
	const int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	struct Waiter {
		std::atomic<int> ready;
		std::atomic<long> expirations;
	};
	auto *state = shared<Waiter>();
	long aborts = 0;

	need(fd >= 0, "timerfd_create");

	const pid_t waiter = fork();

	need(waiter >= 0, "fork");
	if (!waiter) {
		become_fifo(priority + 1);
		state->ready = 1;
		for (;;) {
			uint64_t expired;

			if (read(fd, &expired, sizeof(expired)) != sizeof(expired))
				fail("read of timerfd: %s", strerror(errno));
			state->expirations += long(expired);
		}
	}
	/* It has the higher priority: it sleeps before anybody sees that it is ready. */
	while (!state->ready)
		let_others_run();
	enter(&own_area, mode);

	const Events e = take_samples(path, mode, [&] {
		uint64_t left;

		arm(fd);

		const uint64_t value = spin_sample(cs, &left);

		aborts += left != 0;
		return value;
	}, "aborts", &aborts);

	must_be(state->expirations, times_taken(path) + warm_up, "expirations");
	must_be_about(e.involuntary, times_taken(path), times_taken(path), "preemptions");
	kill(waiter, SIGKILL);
	waitpid(waiter, nullptr, 0);
}

void take_preempt_null(const Path &path, Mode mode) { take_preemption(path, mode, nullptr); }
void take_preempt_stale(const Path &path, Mode mode) { take_preemption(path, mode, &elsewhere_cs); }
void take_preempt_active(const Path &path, Mode mode) { take_preemption(path, mode, &spin_cs); }

/* ---- switches by choice ---- */

struct Pair {
	std::atomic<int> ready, stop;
};

template <bool stale> inline void yield(Area *area)
{
	if (stale)
		set_rseq_cs(area, &elsewhere_cs);
	call0(SYS_sched_yield);
}

template <bool stale> void measure_yields(const Path &path, Mode mode, Pair *pair)
{
	while (!pair->ready)
		sched_yield();

	const Events e = take_samples(path, mode, [] {
		return sample([] { yield<stale>(&own_area); });
	});

	pair->stop = 1;
	must_be(e.involuntary, times_taken(path), "yields that switched");
}

template <bool stale> void yield_until_stopped(Area *area, Pair *pair)
{
	pair->ready = 1;
	while (!pair->stop)
		yield<stale>(area);
}

/* Two processes on one CPU yield to each other, both registered. */
template <bool stale> void take_yield(const Path &path, Mode mode)
{
	auto *pair = shared<Pair>();
	const pid_t other = fork();

	need(other >= 0, "fork");
	if (!other) {
		enter(&own_area, mode);
		yield_until_stopped<stale>(&own_area, pair);
		_exit(0);
	}
	enter(&own_area, mode);
	measure_yields<stale>(path, mode, pair);
	waitpid(other, nullptr, 0);
}

/* The same with two threads. */
Pair thread_pair;
Mode thread_mode;

void take_yield_threads(const Path &path, Mode mode)
{
	pthread_t other;

	thread_mode = mode;
	need(!pthread_create(&other, nullptr, [](void *) -> void * {
		enter(&other_area, thread_mode);
		yield_until_stopped<false>(&other_area, &thread_pair);
		return nullptr;
	}, nullptr), "pthread_create");
	enter(&own_area, mode);
	measure_yields<false>(path, mode, &thread_pair);
	pthread_join(other, nullptr);
}

/*
 * A registered process of a higher priority that reads from a pipe again and again. A write of
 * somebody unregistered includes that the reader wakes, returns, reads and sleeps.
 */
struct Reader {
	std::atomic<int> ready;
	std::atomic<long> slept;
};

struct Pipe {
	Reader *reader;
	pid_t pid;
	int fd;

	/* stale: it leaves a section each time before it sleeps. */
	template <bool stale = false> void start(Mode mode);
	void send(char byte) const { call3(SYS_write, fd, long(&byte), 1); }
	/* How often the reader has slept; asking makes it sleep once more. */
	long slept() const
	{
		send(1);
		return reader->slept;
	}
	void end() const
	{
		kill(pid, SIGKILL);
		waitpid(pid, nullptr, 0);
	}
};

template <bool stale> void Pipe::start(Mode mode)
{
	int fds[2];

	reader = shared<Reader>();
	need(!pipe(fds), "pipe");
	fd = fds[1];
	pid = fork();
	need(pid >= 0, "fork");
	if (pid) {
		while (!reader->ready)
			usleep(1000);
		return;
	}
	enter(&own_area, mode);
	become_fifo(priority + 1);
	reader->ready = 1;
	for (char byte = 0;;) {
		if (stale)
			set_rseq_cs(&own_area, &elsewhere_cs);
		call3(SYS_read, fds[0], long(&byte), 1);
		if (byte) {
			rusage usage;

			getrusage(RUSAGE_THREAD, &usage);
			reader->slept = usage.ru_nvcsw;
		}
	}
}

void take_sleep(const Path &path, Mode mode)
{
	Pipe pipe;

	pipe.start(mode);

	const long slept = pipe.slept();

	take_samples(path, mode, [&] { return sample([&] { pipe.send(0); }); });
	must_be(pipe.slept() - slept, times_taken(path) + warm_up + 1, "sleeps of the reader");
	pipe.end();
}

/* ---- signals ---- */

volatile long handled;

void handler(int)
{
	handled = handled + 1;
}

void take_signal(const Path &path, Mode mode)
{
	const long pid = getpid();

	signal(SIGUSR1, handler);
	enter(&own_area, mode);
	take_samples(path, mode, [&] {
		return sample([&] { call3(SYS_tgkill, pid, pid, SIGUSR1); });
	});
	must_be(handled, times_taken(path) + warm_up, "signals");
}

/* The signal of a timer that goes off in user space. */
void take_interrupt_signal(const Path &path, Mode mode, const rseq_cs_descriptor *cs)
{
	sigevent event = {};
	timer_t timer;
	long aborts = 0;

	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = SIGUSR1;
	signal(SIGUSR1, handler);
	need(!timer_create(CLOCK_MONOTONIC, &event, &timer), "timer_create");
	enter(&own_area, mode);

	const Events e = take_samples(path, mode, [&] {
		const itimerspec when = { {}, { 0, timer_ns } };
		uint64_t left;

		need(!timer_settime(timer, 0, &when, nullptr), "timer_settime");

		const uint64_t value = spin_sample(cs, &left);

		aborts += left != 0;
		return value;
	}, "aborts", &aborts);

	must_be(handled, times_taken(path) + warm_up, "signals");
	must_be_about(e.involuntary, 0, times_taken(path), "involuntary switches");
}

void take_irq_signal_null(const Path &path, Mode mode)
{
	take_interrupt_signal(path, mode, nullptr);
}

void take_irq_signal_stale(const Path &path, Mode mode)
{
	take_interrupt_signal(path, mode, &elsewhere_cs);
}

void take_irq_signal_active(const Path &path, Mode mode)
{
	take_interrupt_signal(path, mode, &spin_cs);
}

/* ---- life and death ---- */

void take_fork(const Path &path, Mode mode)
{
	enter(&own_area, mode);
	take_samples(path, mode, [] {
		return sample([] {
			const pid_t pid = fork();

			if (!pid)
				_exit(0);
			waitpid(pid, nullptr, 0);
		});
	});
}

void take_exec(const Path &path, Mode mode)
{
	static char name[] = "/tests/nothing";
	static char *argv[] = { name, nullptr }, *envp[] = { nullptr };

	need(!access(name, X_OK), name);
	enter(&own_area, mode);
	take_samples(path, mode, [] {
		int status = -1;
		const uint64_t value = sample([&] {
			const pid_t pid = fork();

			if (!pid) {
				execve(name, argv, envp);
				_exit(1);
			}
			waitpid(pid, &status, 0);
		});

		must_be(status, 0, name);
		return value;
	});
}

void take_registration(const Path &path, Mode mode)
{
	const Request request = request_for(mode);

	memset(&own_area, 0, sizeof(own_area));
	take_samples(path, mode, [&] {
		long failed = 0;
		const uint64_t value = sample([&] {
			failed |= do_register(&own_area, request);
			failed |= syscall(SYS_rseq, &own_area, request.length,
					  RSEQ_FLAG_UNREGISTER, BENCH_SIGNATURE);
		});

		must_be(failed, 0, "rseq");
		return value;
	});
}

/* ---- two CPUs ---- */

/*
 * As above, but the reader was on the other CPU before. Both go there between two samples; what is
 * counted happens on one CPU, while the other one idles. Somebody else who sleeps and wakes before
 * each sample makes the state of the CPU the same each time.
 */
template <bool stale> void take_migration(const Path &path, Mode mode)
{
	Pipe pipe, others[2];

	for (int cpu : { 0, 1 }) {
		others[cpu].start(none);
		need(!pin(cpu, others[cpu].pid), "sched_setaffinity");
	}
	pipe.start<stale>(mode);

	const long slept = pipe.slept();

	take_samples(path, mode, [&] {
		uint64_t value = 0;

		for (const int cpu : { 0, 1 }) {
			need(!pin(cpu) && !pin(cpu, pipe.pid), "sched_setaffinity");
			let_others_run();
			others[cpu].send(0);
			value = sample([&] { pipe.send(0); });
		}
		return value;
	});
	must_be(pipe.slept() - slept, 2 * (times_taken(path) + warm_up) + 1,
		"sleeps of the reader");
	for (const Pipe &other : others)
		other.end();
	pipe.end();
}

struct Target {
	std::atomic<int> ready, stop;
} target;

/* The calling thread is the target: nobody else is disturbed. */
void take_membarrier_self(const Path &path, Mode mode)
{
	pthread_t other;

	/* With one thread in the process the kernel has nothing to do. */
	need(!pthread_create(&other, nullptr, [](void *) -> void * {
		for (;;)
			pause();
	}, nullptr), "pthread_create");
	usleep(1000);
	need(!syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0),
	     "membarrier");
	enter(&own_area, mode);
	take_samples(path, mode, [] {
		long failed = 0;
		const uint64_t value = sample([&] {
			failed = call3(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ,
				       MEMBARRIER_CMD_FLAG_CPU, 1);
		});

		must_be(failed, 0, "membarrier");
		return value;
	});
}

/* A registered thread spins on the other CPU; the one that calls is not registered. */
template <bool one> void take_membarrier(const Path &path, Mode mode)
{
	pthread_t other;

	thread_mode = mode;
	need(!pthread_create(&other, nullptr, [](void *) -> void * {
		pin(0);
		enter(&other_area, thread_mode);
		target.ready = 1;
		while (!target.stop.load(std::memory_order_relaxed))
			relax();
		return nullptr;
	}, nullptr), "pthread_create");
	need(!syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0),
	     "membarrier");
	while (!target.ready)
		relax();
	take_samples(path, mode, [] {
		long failed = 0;
		const uint64_t value = sample([&] {
			failed = call3(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ,
				       one ? MEMBARRIER_CMD_FLAG_CPU : 0, 0);
		});

		must_be(failed, 0, "membarrier");
		return value;
	});
	target.stop = 1;
	pthread_join(other, nullptr);
}

/* ---- work ---- */

constexpr int nr_pairs = 4, nr_messages = 250, message_size = 100, nr_calls = 6 * 330;

struct Worker {
	int in, out;		/* -1: does not read, does not write */
	bool asks;
	Area area;
	pthread_t thread;
} workers[2 * nr_pairs];

void *work(void *data)
{
	auto *self = static_cast<Worker *>(data);
	char message[message_size] = {};

	enter(&self->area, thread_mode);
	for (int i = 0; i < nr_messages; i++) {
		if (self->asks)
			need(write(self->out, message, message_size) == message_size, "write");
		if (self->in >= 0)
			need(read(self->in, message, message_size) == message_size, "read");
		if (!self->asks && self->out >= 0)
			need(write(self->out, message, message_size) == message_size, "write");
	}
	return nullptr;
}

/*
 * Pairs of threads on one CPU, scheduled as everybody, send each other messages through pipes.
 * Either one only writes and the other one only reads, and the pipe takes a page (what hackbench
 * does), or each message is answered.
 */
template <bool answered> void take_messages(const Path &path, Mode mode)
{
	sched_param param = {};

	need(!sched_setscheduler(0, SCHED_OTHER, &param), "SCHED_OTHER");
	thread_mode = mode;
	for (int i = 0; i < nr_pairs; i++) {
		int there[2], back[2] = { -1, -1 };

		need(!pipe(there), "pipe");
		if (answered)
			need(!pipe(back), "pipe");
		else
			need(fcntl(there[1], F_SETPIPE_SZ, 4096) >= 0, "F_SETPIPE_SZ");
		workers[2 * i].in = back[0];
		workers[2 * i].out = there[1];
		workers[2 * i].asks = true;
		workers[2 * i + 1].in = there[0];
		workers[2 * i + 1].out = back[1];
	}
	take_samples(path, mode, [] {
		return sample([] {
			for (Worker &worker : workers)
				need(!pthread_create(&worker.thread, nullptr, work, &worker),
				     "pthread_create");
			for (Worker &worker : workers)
				pthread_join(worker.thread, nullptr);
		});
	});
}

/* Six system calls that do not sleep. */
void take_calls(const Path &path, Mode mode)
{
	const int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	static char data[4096];
	static struct stat info;

	need(zero >= 0 && null >= 0, "/dev/zero, /dev/null");
	enter(&own_area, mode);
	take_samples(path, mode, [&] {
		return sample([&] {
			for (int i = 0; i < nr_calls / 6; i++) {
				call0(SYS_getppid);
				call3(SYS_read, zero, long(data), 64);
				call3(SYS_write, null, long(data), 64);
				call3(SYS_lseek, zero, 0, SEEK_SET);
				call3(SYS_fstat, zero, long(&info), 0);
				call3(SYS_fcntl, zero, F_GETFD, 0);
			}
		});
	});
}

/* ---- the list ---- */

constexpr Path paths[] = {
	{ "null_call", 1, 1, take_null_call, "a system call that does nothing" },
	{ "fault", 1, 1, take_fault, "a page fault that maps the zero page" },
	{ "interrupt", 1, 1, take_interrupt, "a timer interrupt without reschedule" },
	{ "sleep", 1, 1, take_sleep, "a system call that sleeps and is woken, and what wakes it" },
	{ "yield", 1, 2, take_yield<false>, "two processes yield to each other, rseq_cs NULL" },
	{ "yield_stale", 1, 2, take_yield<true>, "the same with a stale rseq_cs" },
	{ "yield_threads", 1, 2, take_yield_threads, "two threads yield to each other" },
	{ "preempt_null", 1, 1, take_preempt_null, "preempted in user space, rseq_cs NULL" },
	{ "preempt_stale", 1, 1, take_preempt_stale, "the same with a stale rseq_cs" },
	{ "preempt_active", 1, 1, take_preempt_active, "the same in a critical section" },
	{ "signal", 1, 1, take_signal, "a signal to itself: delivery and return" },
	{ "irq_signal", 1, 1, take_irq_signal_null, "a timer's signal in user space" },
	{ "irq_signal_stale", 1, 1, take_irq_signal_stale, "the same with a stale rseq_cs" },
	{ "irq_signal_active", 1, 1, take_irq_signal_active, "the same in a critical section" },
	{ "fork", 1, 1, take_fork, "fork, exit, wait" },
	{ "exec", 1, 1, take_exec, "fork, exec, exit, wait" },
	{ "registration", 1, 1, take_registration, "rseq(2) to register and to unregister" },
	{ "migration", 2, 1, take_migration<false>, "as sleep, and the sleeper wakes on another CPU" },
	{ "migration_stale", 2, 1, take_migration<true>, "the same with a stale rseq_cs" },
	{ "membarrier_self", 2, 1, take_membarrier_self, "membarrier RSEQ for the caller's CPU" },
	{ "membarrier_cpu", 2, 1, take_membarrier<true>,
	  "membarrier RSEQ for a CPU with a target" },
	{ "membarrier_all", 2, 1, take_membarrier<false>, "membarrier RSEQ for all, one target" },
	{ "hackbench", 1, nr_pairs * nr_messages, take_messages<false>,
	  "a message from thread to thread through a pipe", true },
	{ "requests", 1, nr_pairs * nr_messages, take_messages<true>,
	  "a message and its answer, from thread to thread", true },
	{ "calls", 1, nr_calls, take_calls, "one of six system calls that do not sleep", true },
};

/* Is the word in a comma separated list? No list has every word. */
bool listed(const char *list, const char *word)
{
	const size_t length = strlen(word);

	if (!list)
		return true;
	for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") == length && !strncmp(p, word, length))
			return true;
	return false;
}

void write_file(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0) {
		printf("# error: %s: %s\n", path, strerror(errno));
		exit(1);
	}
	close(fd);
}

/*
 * Looking for a process takes a few instructions more from PID 64 on, and again from 4096 on. Nobody
 * who is measured is on either side of such a border by accident.
 */
void leave_small_pids()
{
	pid_t pid;

	do {
		pid = fork();
		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, nullptr, 0) != pid) {
			printf("# error: fork: %s\n", strerror(errno));
			exit(1);
		}
	} while (pid < 100);
}

/* The same addresses each time, and the registration is ours and not libc's. */
void settle(char **argv)
{
	if (getenv("COST_SETTLED"))
		return;
	personality(ADDR_NO_RANDOMIZE);
	setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
	setenv("COST_SETTLED", "1", 1);
	execv("/proc/self/exe", argv);
	printf("# error: cannot execute itself: %s\n", strerror(errno));
	exit(1);
}

bool possible(const Path &path, Mode mode, int cpus)
{
	if (path.cpus > cpus || (path.work && cpus > 1) || !request_for(mode).exists)
		return false;
	return mode != none || path.take != take_registration;
}

/* In a child, which fills in the report. */
void measure(const Path &path, Mode mode, int cpus)
{
	const pid_t pid = fork();
	char reason[sizeof(report->error)];
	int status = -1;

	if (!pid) {
		need(!pin(std::min(cpus, 2) - 1), "sched_setaffinity");
		become_fifo(priority);
		calibrate();
		if (path.work)
			samples = std::max(samples / 10, 1);
		mark_case();
		path.take(path, mode);
		mark_case();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (!status && report->line[0])
		return;
	if (!report->error[0])
		snprintf(report->error, sizeof(report->error), "status %#x", status);
	strcpy(reason, report->error);
	snprintf(report->error, sizeof(report->error), "%s, %s: %.150s", path.name,
		 mode_names[mode], reason);
}

} /* namespace */

int main(int argc, char **argv)
{
	const char *only_paths = nullptr, *only_modes = nullptr;
	bool list = false, bad = false;
	int option;

	while ((option = getopt(argc, argv, "n:p:r:l")) != -1) {
		switch (option) {
		case 'n': samples = atoi(optarg); break;
		case 'p': only_paths = optarg; break;
		case 'r': only_modes = optarg; break;
		case 'l': list = true; break;
		default: return 1;
		}
	}
	if (list) {
		for (const Path &path : paths)
			printf("%s\t%s\n", path.name, path.what);
		return 0;
	}
	if (samples < 1 || samples > max_samples) {
		printf("# error: not 1 to %d samples\n", max_samples);
		return 1;
	}
	settle(argv);
	write_file("/proc/sys/kernel/sched_rt_runtime_us", "-1");

	leave_small_pids();

	const int cpus = nr_cpus();
	size_t n_reports = 0;
	void *map = mmap(nullptr, sizeof(Report) * std::size(paths) * nr_modes,
			 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	auto *reports = static_cast<Report *>(map);

	if (map == MAP_FAILED) {
		printf("# error: mmap: %s\n", strerror(errno));
		return 1;
	}
	for (const Path &path : paths) {
		for (int mode = none; mode < nr_modes; mode++) {
			if (!listed(only_paths, path.name) ||
			    !listed(only_modes, mode_names[mode]) ||
			    !possible(path, Mode(mode), cpus))
				continue;
			report = &reports[n_reports++];
			measure(path, Mode(mode), cpus);
		}
	}
	for (const Path &path : paths)
		printf("# path %s %d %s\n", path.name, path.units, path.what);
	for (size_t i = 0; i < n_reports; i++) {
		if (reports[i].error[0]) {
			printf("# error: %s\n", reports[i].error);
			bad = true;
		} else {
			printf("# cost %s\n", reports[i].line);
		}
	}
	if (!n_reports)
		printf("# error: nothing was measured\n");
	return bad || !n_reports;
}
