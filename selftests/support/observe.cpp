// SPDX-License-Identifier: GPL-2.0
#include "observe.hpp"
#include "sched.hpp"

#include <csignal>
#include <unistd.h>

namespace selftest {

namespace {

struct {
	const Area *area;
	volatile bool arrived;
	Ids seen;
} handler_state;

void look_at_ids(int, siginfo_t *, void *)
{
	handler_state.seen = handler_state.area->ids();
	handler_state.arrived = true;
}

} /* namespace */

void expect_ids_of(const Area &area, int cpu)
{
	/* Before a system call could put them right. */
	const Ids ids = area.ids();
	const Location here = location();

	EXPECT_EQ(here.cpu, cpu);
	EXPECT_EQ(ids.cpu_id_start, cpu);
	EXPECT_EQ(ids.cpu_id, cpu);
	EXPECT_EQ(ids.node_id, here.node);
	EXPECT_LT(ids.mm_cid, sysconf(_SC_NPROCESSORS_CONF));
	EXPECT_TRUE(area.canaries_intact());
}

void expect_ids_of_current(const Area &area)
{
	/* Moved in between, the kernel has written others. The first ones were not judged then. */
	for (;;) {
		const Ids ids = area.ids();
		const Location here = location();

		if (area.ids() != ids)
			continue;
		EXPECT_EQ(ids.cpu_id_start, here.cpu);
		EXPECT_EQ(ids.cpu_id, here.cpu);
		EXPECT_EQ(ids.node_id, here.node);
		EXPECT_LT(ids.mm_cid, sysconf(_SC_NPROCESSORS_CONF));
		EXPECT_TRUE(area.canaries_intact());
		return;
	}
}

Service observe_service(Area &area)
{
	const Ids poison = impossible_ids;
	const Location here = location();
	const Ids right = area.ids();

	EXPECT_EQ(handle_signal(SIGUSR2, look_at_ids), 0);
	handler_state.area = &area;
	handler_state.arrived = false;

	area.set_ids(poison);
	send_signal(getpid(), own_tid(), SIGUSR2);
	if (handler_state.seen == poison)
		area.set_ids(right);

	EXPECT_TRUE(handler_state.arrived);
	if (handler_state.seen == poison)
		return Service::v2;

	/* mm_cid may be another one than before. */
	const Ids written = { here.cpu, here.cpu, here.node, handler_state.seen.mm_cid };

	return handler_state.seen == written && written.mm_cid != poison.mm_cid ? Service::v1 :
										  Service::neither;
}

} /* namespace selftest */
