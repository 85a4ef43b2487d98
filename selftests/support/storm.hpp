/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disturbances by the thousand, for tests that count what survives them.
 */
#ifndef SELFTEST_STORM_HPP
#define SELFTEST_STORM_HPP

#include <cstdint>

namespace selftest {

/* Repeatable, and without a state that a signal handler could find half done. */
class Random {
public:
	explicit constexpr Random(std::uint64_t seed = 1) : state_(seed * 2 + 1) {}

	std::uint32_t next()
	{
		state_ = state_ * 6364136223846793005 + 1442695040888963407;
		return static_cast<std::uint32_t>(state_ >> 33);
	}
	std::uint32_t below(std::uint32_t limit) { return next() % limit; }
	bool one_in(std::uint32_t n) { return below(n) == 0; }

private:
	std::uint64_t state_;
};

/*
 * A timer of the calling thread with an interval of 1 us. The next signal may be pending before
 * a handler returns, under emulation it always is, and the thread would get nowhere: so the timer
 * stops after a burst, until the thread arms it again.
 */
class BurstTimer {
public:
	BurstTimer() = default;
	~BurstTimer() { stop(); }
	BurstTimer(const BurstTimer &) = delete;
	BurstTimer &operator=(const BurstTimer &) = delete;

	/* The handler of that signal has to call hit(). An errno. */
	int start(int sig);
	void stop();

	/* The first signal comes that much later: anywhere in what the thread does next. */
	void arm(std::uint32_t delay_us);
	void hit();
	/* More signals of this burst are to come. */
	bool armed() const { return left_; }
	std::uint32_t hits() const { return hits_; }

private:
	static constexpr std::uint32_t burst = 3;

	int set(long value_ns, long interval_ns);

	int id_ = -1;
	volatile std::uint32_t left_ = 0;
	volatile std::uint32_t hits_ = 0;
};

} /* namespace selftest */

#endif
