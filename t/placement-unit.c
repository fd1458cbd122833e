/*
 * Holds that were placed in the slot of a settled one, and those that were not after all: a full
 * queue refused them, or their process died just before the commit.  And what a snapshot and a
 * restart make of settled holds.
 */
#include <sys/wait.h>

#include "../src/ledger/snapshot.h"
#include "ledger-world.h"

#define SECOND_US UINT64_C(1000000)
#define SETTLED   260 /* four more than there is room for */
#define OLDEST    4

static const struct sizes small = {.segment_size = 1 << 20,
                                   .ring_size = 1 << 18,
                                   .max_accounts = 100,
                                   .max_ids = 64,
                                   .max_holds = 64};

/* A hold that is known by its name only, so that the table of ids cannot help. */
static struct request place_of(const char *hold)
{
	struct request request = hold_of("alice", 5, 60, hold);

	request.hold = request.id;
	request.id = (struct words){0};
	return request;
}

static const char *name_of(unsigned i)
{
	static char name[32];

	snprintf(name, sizeof name, "hold-%u", i);
	return name;
}

/* A world with all slots full of settled holds, one settled each second, an hour ago. */
static void begin(struct world *world)
{
	world_open(world, &small);
	world->run.now_us -= 3600 * SECOND_US;
	must_accept(world, event_of("alice", 1000));
	for (unsigned i = 0; i < SETTLED; i++) {
		must_accept(world, place_of(name_of(i)));
		must_accept(world, release_of(name_of(i)));
		world->run.now_us += SECOND_US;
	}
	if (count_holds(world->run.region) != HOLDS_BUCKET)
		BAIL_OUT("the table has room for more");
}

static bool at_once(struct region *region, uint64_t lsn)
{
	(void)region;
	(void)lsn;
	return true;
}

static void snapshot(struct world *world)
{
	struct snapshot taken;

	run_mark(&world->run);
	if (snapshot_write(world->run.region, world->place.snapshots, store_key(world->run.store),
	                   at_once, &taken) != SNAPSHOT_OK)
		BAIL_OUT("no snapshot");
}

/* Which of the settled holds are there: from FIRST on all, before it none? */
static bool has_from(struct world *world, unsigned first)
{
	for (unsigned i = 0; i < SETTLED; i++) {
		enum hold_state wanted = i >= first ? HOLD_RELEASED : (enum hold_state)0;
		if (world_hold(world, name_of(i)).state != wanted) {
			diag("%s: state %d", name_of(i), (int)world_hold(world, name_of(i)).state);
			return false;
		}
	}
	return true;
}

static void world_restart_strictly(struct world *world, const char *what)
{
	struct run again;

	run_commit(&world->run);
	ok(run_start(&again, &world->place, &world->sizes) &&
	       again.recovery.snapshots_refused == 0 && table_same(world->run.region, again.region),
	   "%s: a restart finds the same %s", what, again.error);
	if (again.region != NULL)
		run_leave(&again);
}

/* "late" was to be placed, which did not happen. */
static void judge(struct world *world, const char *what)
{
	struct hold_view before = world_hold(world, name_of(OLDEST));
	struct request request = release_of(name_of(OLDEST));
	struct result result = world_apply(world, &request);

	ok(has_from(world, OLDEST), "%s: all that was settled is found", what);
	ok(result.outcome == OUTCOME_ACCEPTED && result.replayed && result.lsn == before.lsn,
	   "%s: and answered as it was", what);
	request = place_of(name_of(OLDEST));
	result = world_apply(world, &request);
	ok(result.outcome == OUTCOME_FORGOTTEN, "%s: it is not placed a second time", what);
	ok(world_hold(world, "late").state == 0 && count_holds(world->run.region) == HOLDS_BUCKET,
	   "%s: nothing else is there", what);
	snapshot(world);
	world_restart_strictly(world, what);
}

static void test_refused(void)
{
	struct world world;
	struct request request = place_of("late");
	unsigned full = 0;

	begin(&world);
	atomic_store(&region_settings(world.run.region)->queue_events, 0);
	for (unsigned i = 0; i < 300; i++) {
		char name[32];
		snprintf(name, sizeof name, "refused-%u", i);
		request = place_of(name);
		full += world_apply(&world, &request).outcome == OUTCOME_QUEUE_FULL;
	}
	atomic_store(&region_settings(world.run.region)->queue_events, UINT64_MAX);
	cmp_ok(full, "==", 300, "holds that the queue has no room for");
	judge(&world, "refused");
	world_close(&world);
}

static void die(void *records, size_t length, uint64_t lsn, uint64_t durable,
                const struct region *region)
{
	(void)records, (void)length, (void)lsn, (void)durable, (void)region;
	raise(SIGKILL);
}

/* Another process, killed with all written but the commit. */
static void die_placing(struct world *world)
{
	const struct ring_codec codec = {.stamp = die, .pad = world->run.region->codec.pad};
	const struct request request = place_of("late");
	struct result result;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		region_enter(world->run.region, 1);
		ring_set_codec(world->run.region, &codec);
		ledger_apply(world->run.ledger, &request, ++world->run.now_us, &result);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
		BAIL_OUT("nobody died");
}

static void test_died(void)
{
	struct world world;

	begin(&world);
	for (unsigned i = 0; i < 3; i++)
		die_placing(&world);
	judge(&world, "died");
	must_accept(&world, place_of("late"));
	ok(world_hold(&world, "late").state == HOLD_OPEN && has_from(&world, OLDEST + 1),
	   "the next one takes the place of the first that was settled");
	world_close(&world);
}

/* After a restart, too. */
static void test_restarted(void)
{
	for (int with_snapshot = 0; with_snapshot < 2; with_snapshot++) {
		struct world world;
		begin(&world);
		if (with_snapshot)
			snapshot(&world);
		world_restart(&world);
		for (unsigned i = 0; i < 20; i++) {
			char name[32];
			snprintf(name, sizeof name, "late-%u", i);
			must_accept(&world, place_of(name));
		}
		ok(has_from(&world, OLDEST + 20),
		   "after a restart%s those that were settled first make room",
		   with_snapshot ? " from a snapshot" : "");
		world_close(&world);
	}
}

/* ---- a hold that stands in a snapshot twice */

/* Writes the hold ID, as it was read, into the last slot of REGION. */
static struct hold_slot *repeat(struct region *region, const char *id, uint64_t lsn)
{
	struct key key = record_key(region_geometry(region)->journal_key, id, strlen(id));
	struct hold_slot *slot = holds_slot(region, holds_slots(region) - 1);

	*slot = *holds_find(region, &key);
	slot->lsn = lsn;
	return slot;
}

static void open_with_one(struct world *world)
{
	world_open(world, &small);
	must_accept(world, event_of("alice", 1000));
	must_accept(world, place_of("open"));
	must_accept(world, place_of("settled"));
	must_accept(world, release_of("settled"));
}

static void test_twice_settled(void)
{
	for (int newer = 0; newer < 2; newer++) {
		struct world world;
		open_with_one(&world);
		uint64_t lsn = world_hold(&world, "settled").lsn;
		struct hold_slot *slot =
		    repeat(world.run.region, "settled", newer ? lsn + 8 : lsn - 8);
		slot->amount = 77;
		run_mark(&world.run);
		snapshot(&world);
		run_commit(&world.run);
		run_leave(&world.run);
		bool started = run_start(&world.run, &world.place, &world.sizes);
		ok(started && world.run.recovery.snapshot.start != 0 &&
		       world.run.recovery.snapshots_refused == 0,
		   "a snapshot with a settled hold and %s one of its id is used",
		   newer ? "a newer" : "an older");
		if (!started)
			BAIL_OUT("%s", world.run.error);
		ok(world_hold(&world, "settled").amount == (newer ? 77 : 5) &&
		       count_holds(world.run.region) == 2,
		   "the newer one counts");
		world_close(&world);
	}
}

static void test_twice_open(void)
{
	struct world world;

	open_with_one(&world);
	snapshot(&world);
	must_accept(&world, event_of("bob", 1));
	struct hold_slot *slot =
	    repeat(world.run.region, "open", world_hold(&world, "settled").lsn + 8);
	snapshot(&world);
	run_commit(&world.run);
	*slot = (struct hold_slot){0};
	struct run again;
	ok(run_start(&again, &world.place, &world.sizes) && again.recovery.snapshots_refused == 1 &&
	       again.recovery.snapshot.start != 0,
	   "a snapshot with a hold that is open twice is passed over %s", again.error);
	ok(again.region != NULL && table_same(world.run.region, again.region),
	   "from the one before it everything is there, once");
	run_leave(&again);
	world_close(&world);
}

int main(void)
{
	plan(NO_PLAN);
	test_refused();
	test_died();
	test_restarted();
	test_twice_settled();
	test_twice_open();
	cmp_ok(world_unlocked, "==", 0, "whatever was changed was locked");
	return done_testing();
}
