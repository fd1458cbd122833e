/*
 * What journal_keep removes, by times that are made up: days of the journal's segments, and of a
 * clock that was wrong for a while.
 */
#include "../src/ledger/prune.h"
#include "../src/ledger/snapshot.h"
#include "journal-fixture.h"

#define SEGMENT  (UINT64_C(1) << 20)
#define SEGMENTS 12
#define OLD      8 /* of them, which recovery needs no more: two seals lie behind them */
#define DAY_US   (UINT64_C(86400) * 1000000)
#define DAY_ZERO UINT64_C(20000) /* day 0, in days since 1970 */
#define KEPT     10              /* days */

static const struct sizes shape = {
    .segment_size = SEGMENT, .ring_size = UINT64_C(1) << 22, .max_accounts = 64};

static uint64_t time_of(int day)
{
	return (DAY_ZERO + (uint64_t)day) * DAY_US;
}

static bool at_once(struct region *region, uint64_t lsn)
{
	return atomic_load(&region_marks(region)->durable) > lsn;
}

static void take_snapshot(struct run *run, const struct place *place)
{
	struct snapshot snapshot;

	run_mark(run);
	must(snapshot_write(run->region, place->snapshots, store_key(run->store), at_once,
	                    &snapshot) == SNAPSHOT_OK,
	     "snapshot_write");
	must(snapshot.seal_to >= OLD * SEGMENT, "enough of it is sealed");
}

static void post_large(struct run *run)
{
	char name[LEGS_MAX][ACCOUNT_NAME_MAX];
	struct request request = {.kind = REQUEST_TRANSACTION, .legs = LEGS_MAX};

	for (unsigned i = 0; i < LEGS_MAX; i++) {
		snprintf(name[i], sizeof name[i], "%050u", i);
		request.leg[i] = (struct leg){.account = words_of(name[i]), .amount = 1};
	}
	run_apply(run, &request, OUTCOME_ACCEPTED);
}

/* A journal whose segment I was begun on DAY[I], with two snapshots at its end. */
static void write_journal(const struct place *place, const int *day)
{
	struct run run;
	uint64_t tail;

	must(run_start(&run, place, &shape), "run_start");
	while ((tail = atomic_load(&run.marks->tail)) < (SEGMENTS - 1) * SEGMENT + SEGMENT / 2) {
		/* What does not fit any more is the next one's first. */
		run.now_us = time_of(day[(tail + JOURNAL_RECORD_MAX) / SEGMENT]);
		post_large(&run);
		run_commit(&run);
	}
	take_snapshot(&run, place);
	post_large(&run);
	take_snapshot(&run, place);
	run_leave(&run);
}

/* On day NOW, REMOVED segments go, for what follows them is KEPT days old. */
static void expect(const int *day, int now, unsigned removed, const char *what)
{
	const struct retention retention = {.us = KEPT * DAY_US};
	const struct prune_limits limits = {.tail = (SEGMENTS - 1) * SEGMENT + SEGMENT / 2,
	                                    .now_us = time_of(now) + DAY_US / 2,
	                                    .rehearse = true};
	struct pruning done;
	struct place place;

	place_make(&place);
	write_journal(&place, day);
	must(prune_journal(place.journal, place.snapshots, &retention, &limits, &done) == 0,
	     "prune_journal");
	cmp_ok((intmax_t)done.segments, "==", (intmax_t)removed, "%s", what);
	place_remove(&place);
}

int main(void)
{
	static const int right[SEGMENTS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
	static const int ahead[SEGMENTS] = {0, 1, 900, 900, 4, 5, 6, 7, 8, 9, 10, 11};
	static const int first[SEGMENTS] = {900, 901, 902, 3, 4, 5, 6, 7, 8, 9, 10, 11};
	static const int last[SEGMENTS] = {0, 1, 2, 3, 4, 5, 900, 900, 900, 900, 900, 900};
	static const int behind[SEGMENTS] = {0, 1, 2, 3, -900, 5, 6, 7, 8, 9, 10, 11};

	plan(NO_PLAN);
	expect(right, 11, 1, "what was written for more than ten days goes");
	expect(right, 15, 5, "... each day more");
	expect(right, 90, OLD, "... up to what is needed");
	expect(ahead, 11, 1, "the clock was ahead for a while: what was written before goes");
	expect(ahead, 13, 1, "... what has a wrong time not too early");
	expect(ahead, 14, 4, "... but when what follows it is old enough");
	expect(ahead, 15, 5, "... and then each day more");
	expect(first, 15, 5, "ahead from the beginning on: the same");
	expect(last, 15, 5, "ahead to the end: what was written before goes");
	expect(last, 90, 5, "... and no more, for nothing says how old it is");
	expect(behind, 11, 1, "a clock that was behind for a while takes nothing that is young");
	return done_testing();
}
