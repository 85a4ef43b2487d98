// SPDX-License-Identifier: GPL-2.0
#include "slab.hpp"
#include "rseq.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <sys/mman.h>
#include <unistd.h>

namespace selftest::slab {

namespace {

constexpr unsigned int shifts[] = { 11, 12 };
/* A header that has gone wrong cannot point out of the mapping. */
constexpr std::size_t slack = (1 << 16) * sizeof(std::uint64_t);

constexpr unsigned int dead_items = 3;

/* Some microseconds. */
constexpr unsigned int watch_loads = 2000;

} /* namespace */

/* ---- Slabs ---- */

int Slabs::map(int capacity)
{
	const auto cpus = static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_CONF));

	for (int i = 0; i < 2; i++) {
		void *map = mmap(nullptr, (cpus << shifts[i]) + slack, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (map == MAP_FAILED)
			return errno;
		layouts_[i] = reinterpret_cast<std::uintptr_t>(map) | shifts[i];
	}
	for (int i = 0; i < nr_cpus(); i++) {
		reset(layouts_[0], cpu_at(i), true);
		reset(layouts_[1], cpu_at(i), false);
	}
	layout_ = layouts_[0];
	spare_ = capacity;
	return 0;
}

unsigned int Slabs::room(std::uint64_t layout)
{
	unsigned int items = (1u << (layout & layout_shift)) / sizeof(std::uint64_t);

	return (items - classes) / classes;
}

unsigned int Slabs::begin_of(std::uint64_t layout, unsigned int cls)
{
	return classes + cls * room(layout);
}

unsigned int Slabs::end_of(std::uint64_t layout, unsigned int cls)
{
	return begin_of(layout, cls) + room(layout);
}

Header Slabs::header(std::uint64_t layout, int cpu, unsigned int cls) const
{
	return std::bit_cast<Header>(__atomic_load_n(item(layout, cpu, cls), __ATOMIC_RELAXED));
}

void Slabs::set_header(std::uint64_t layout, int cpu, unsigned int cls, Header header)
{
	__atomic_store_n(item(layout, cpu, cls), std::bit_cast<std::uint64_t>(header),
			 __ATOMIC_RELAXED);
}

void Slabs::watch(std::uint64_t layout, int cpu, unsigned int cls, Header expected)
{
	/* Where emulated CPUs take turns, this is another one's. */
	cpu_relax();
	for (unsigned int i = 0; i < watch_loads; i++) {
		if (header(layout, cpu, cls) != expected) {
			intrusions_++;
			return;
		}
	}
}

void Slabs::reset(std::uint64_t layout, int cpu, bool alive)
{
	for (unsigned int c = 0; c < classes; c++) {
		const auto begin = static_cast<std::uint16_t>(begin_of(layout, c));
		const unsigned int extra = alive ? 0 : dead_items;

		for (unsigned int i = begin; i < begin + extra; i++)
			__atomic_store_n(item(layout, cpu, i), dead_item, __ATOMIC_RELAXED);
		/* A dead slab has something to pop and room to push to, for who should not. */
		set_header(layout, cpu, c, {
			.begin = begin,
			.current = static_cast<std::uint16_t>(begin + extra),
			.end = static_cast<std::uint16_t>(begin + 2 * extra),
			.unused = 0,
		});
	}
}

bool Slabs::reserve(int amount)
{
	int spare = spare_;

	while (spare >= amount)
		if (spare_.compare_exchange_weak(spare, spare - amount))
			return true;
	return false;
}

int Slabs::begin(int cpu, Fence fence)
{
	unsigned int flags = fence == Fence::one_cpu ? MEMBARRIER_CMD_FLAG_CPU : 0;
	int err;

	if (cpus_[cpu].busy.exchange(true))
		return EBUSY;
	stop(cpu);
	err = sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, flags, cpu);
	if (err)
		end(cpu);
	return err;
}

void Slabs::end(int cpu)
{
	__atomic_store_n(&cpus_[cpu].stopped, 0, __ATOMIC_SEQ_CST);
	cpus_[cpu].busy = false;
	futex_wake(&cpus_[cpu].stopped);
}

int Slabs::begin_all()
{
	int err = 0;

	for (int i = 0; i < nr_cpus(); i++) {
		if (cpus_[cpu_at(i)].busy.exchange(true)) {
			while (i--)
				cpus_[cpu_at(i)].busy = false;
			return EBUSY;
		}
	}
	for (int i = 0; i < nr_cpus(); i++)
		stop(cpu_at(i));
	err = sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ);
	if (err)
		end_all();
	return err;
}

void Slabs::end_all()
{
	for (int i = 0; i < nr_cpus(); i++)
		end(cpu_at(i));
}

bool Slabs::grow(int cpu, unsigned int cls, unsigned int amount)
{
	const std::uint64_t now = layout();
	Header next = header(now, cpu, cls);

	if (!next.consistent() || next.end > end_of(now, cls)) {
		inconsistent_++;
		return false;
	}
	if (next.end + amount > end_of(now, cls))
		return false;
	next.end = static_cast<std::uint16_t>(next.end + amount);
	set_header(now, cpu, cls, next);
	return true;
}

void Slabs::change_layout()
{
	const std::uint64_t old = layout_, next = layouts_[old == layouts_[0]];

	for (int i = 0; i < nr_cpus(); i++)
		reset(next, cpu_at(i), true);
	layout_.store(next, std::memory_order_release);
	for (int i = 0; i < nr_cpus(); i++)
		reset(old, cpu_at(i), false);
}

int Slabs::capacity() const
{
	const std::uint64_t now = layout();
	int sum = 0;

	for (int i = 0; i < nr_cpus(); i++) {
		for (unsigned int c = 0; c < classes; c++) {
			Header h = header(now, cpu_at(i), c);

			sum += h.end - h.begin;
		}
	}
	return sum;
}

/* ---- Counts ---- */

void Counts::add(const Counts &other)
{
	pushes += other.pushes;
	pops += other.pops;
	grows += other.grows;
	aborts += other.aborts;
	invalid += other.invalid;
	outdated += other.outdated;
	stopped += other.stopped;
}

/* ---- Client ---- */

Client::Client(Slabs &slabs) : slabs_(slabs), line_()
{
	std::fill(std::begin(line_.before), std::end(line_.before), canary);
	std::fill(std::begin(line_.behind), std::end(line_.behind), canary);
	line_.area.cpu_id = static_cast<std::uint32_t>(RSEQ_CPU_ID_UNINITIALIZED);
	line_.area.own_ids = own_ids;
}

bool Client::line_intact() const
{
	auto intact = [](std::uint32_t word) { return word == canary; };

	return std::all_of(std::begin(line_.before), std::end(line_.before), intact) &&
	       std::all_of(std::begin(line_.behind), std::end(line_.behind), intact) &&
	       line_.area.own_ids == own_ids;
}

int Client::register_thread()
{
	if (registered())
		return 0;

	int err = sys_rseq(&line_.area, sizeof(line_.area), 0, SECTION_SIGNATURE);

	/* A signal handler was faster. */
	return err == EBUSY && registered() ? 0 : err;
}

int Client::unregister_thread()
{
	return sys_rseq(&line_.area, sizeof(line_.area), RSEQ_FLAG_UNREGISTER, SECTION_SIGNATURE);
}

/*
 * The tag alone first: whatever happens from here on takes it away, and then the address is not
 * stored. Whoever stops the CPU is seen, or his fence takes the tag away.
 */
bool Client::cache(Counts &counts)
{
	while (registered()) {
		slab_set_pointer(&line_.area, tag);

		std::uint32_t cpu = cpu_id();
		std::uint64_t layout = slabs_.layout();
		int result = slab_store(&line_.area, &line_.pointer_low,
					Slabs::slab(layout, cpu) | tag, spins_);

		if (result) {
			counts.aborts += result != SLAB_UNCACHED;
			continue;
		}
		if (slabs_.stopped(cpu)) {
			uncache();
			counts.stopped++;
			return false;
		}
		if (slabs_.layout() == layout)
			return true;
		uncache();
	}
	return false;
}

template <typename Section>
Outcome Client::run(Counts &counts, Section &&section)
{
	for (;;) {
		switch (section()) {
		case 0:
			return Outcome::done;
		case SLAB_REFUSED:
			return Outcome::refused;
		case SLAB_UNCACHED:
			counts.invalid++;
			if (!cache(counts))
				return Outcome::unavailable;
			break;
		default:
			counts.aborts++;
			break;
		}
	}
}

Outcome Client::push(unsigned int cls, std::uint64_t item, Counts &counts)
{
	Outcome outcome = run(counts, [&] {
		return slab_push(&line_.area, cls * sizeof(Header), item, spins_);
	});

	counts.pushes += outcome == Outcome::done;
	return outcome;
}

Outcome Client::pop(unsigned int cls, std::uint64_t *item, Counts &counts)
{
	Outcome outcome = run(counts, [&] {
		return slab_pop(&line_.area, cls * sizeof(Header), item, spins_);
	});

	counts.pops += outcome == Outcome::done;
	return outcome;
}

std::uint64_t *Client::find_header(unsigned int cls, Counts &counts)
{
	for (;;) {
		std::uint64_t pointer = slab_get_pointer(&line_.area);

		if (pointer & tag)
			return reinterpret_cast<std::uint64_t *>(pointer & ~tag) + cls;
		counts.invalid++;
		if (!cache(counts))
			return nullptr;
	}
}

Outcome Client::replace_header(unsigned int cls, std::uint64_t *address, std::uint64_t seen,
			       unsigned int amount, Counts &counts)
{
	Header header = std::bit_cast<Header>(seen);

	if (header.end + amount > Slabs::end_of(slabs_.layout(), cls))
		return Outcome::refused;
	header.end = static_cast<std::uint16_t>(header.end + amount);

	int result = slab_store(&line_.area, address, std::bit_cast<std::uint64_t>(header), spins_);

	if (!result) {
		counts.grows++;
		return Outcome::done;
	}
	counts.aborts += result != SLAB_UNCACHED;
	counts.outdated++;
	return Outcome::refused;
}

bool Client::look(unsigned int cls, Header *header) const
{
	std::uint64_t pointer = slab_get_pointer(&line_.area);

	if (!(pointer & tag))
		return false;

	auto *address = reinterpret_cast<std::uint64_t *>(pointer & ~tag) + cls;

	*header = std::bit_cast<Header>(__atomic_load_n(address, __ATOMIC_ACQUIRE));
	/* Valid all the time: it was this CPU's. */
	return slab_get_pointer(&line_.area) == pointer;
}

} /* namespace selftest::slab */
