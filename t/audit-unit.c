/*
 * The audit of a journal: what the ledger wrote is found right, and each kind of lie is found, with
 * its place.
 */
#include <sys/wait.h>

#include "journal-change.h"

#include "../src/ledger/audit.h"
#include "../src/ledger/map.h"
#include "journal-traffic.h"

static const struct sizes small = {.segment_size = FIXTURE_SEGMENT,
                                   .ring_size = 65536,
                                   .max_accounts = 64,
                                   .max_ids = 1000,
                                   .max_holds = 200};

static const struct audit_limits limits = {.max_ids = 1000, .window_us = UINT64_C(86400000000)};

static char error[STORE_ERROR_SIZE];
static struct audit audit;

static enum store_status check(const struct place *place)
{
	error[0] = '\0';
	return audit_journal(place->journal, &limits, &audit, error);
}

/* A journal of STEPS steps; what the run knows of it at its end into *RUN, which is left open. */
static void make(struct place *place, struct run *run, struct traffic *traffic, size_t steps)
{
	*traffic = (struct traffic){.run = run, .random = 41};
	place_make(place);
	must(run_start(run, place, &small), "run_start");
	traffic_run(traffic, steps);
	run_mark(run);
}

static void test_sound(void)
{
	struct place place;
	struct run run;
	struct traffic traffic;
	uint64_t open = 0;

	make(&place, &run, &traffic, 1500);
	enum store_status status = check(&place);
	ok(status == STORE_OK, "a journal of %" PRIu64 " records is sound", audit.records);
	if (error[0] != '\0')
		diag("%s", error);
	for (uint64_t i = 0; i < holds_slots(run.region); i++)
		open += holds_slot(run.region, i)->state == HOLD_OPEN;
	ok(audit.accounts == count_accounts(run.region) && audit.holds == open && open > 0,
	   "it counts %" PRIu64 " accounts and %" PRIu64 " open holds", audit.accounts, open);
	ok(audit.ids == count_ids(run.region) && audit.ids > 100, "and %" PRIu64 " ids", audit.ids);
	ok(audit.operations > 500 && audit.refusals > 20 && !audit.pruned &&
	       audit.first == SEGMENT_HEAD && audit.end == run.position,
	   "from the first byte to the last");
	ok(run.position > 2 * small.segment_size, "over several segments");
	/* A second run, and one that was torn. */
	run_leave(&run);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, 100);
	run_leave(&run);
	ok(check(&place) == STORE_OK, "a second run goes on, and ends uncleanly");
	char path[FIXTURE_PATH + 64];
	for (uint64_t base = 0; base < 2 * small.segment_size; base += small.segment_size) {
		snprintf(path, sizeof path, "%s/%016" PRIx64 ".journal", place.journal, base);
		must(unlink(path) == 0, path);
	}
	ok(check(&place) == STORE_OK && audit.pruned &&
	       audit.first == 2 * small.segment_size + SEGMENT_HEAD,
	   "without its beginning it is taken as it stands");
	if (error[0] != '\0')
		diag("%s", error);
	place_remove(&place);
}

static struct record_leg *leg_of(struct record_head *record)
{
	return (struct record_leg *)(uintptr_t)record_next_leg(record, NULL);
}

enum lie {
	AMOUNT,
	BALANCE,
	HELD,
	VERSIONS,
	PREVIOUS,
	BIRTH,
	CREATION,
	EXISTS,
	KNOWN,
	UNKNOWN,
	SETTLED_AMOUNT,
	SETTLED_HOLD,
	SETTLED_ACCOUNT,
	PLACED_AMOUNT,
	EARLY,
	ID,
	FLOOR,
	CEILING,
	FROZEN,
	EPOCH,
	DURABLE,
	LIES
};

static const char *const told[LIES] = {
    [AMOUNT] = "the balance does not follow",
    [BALANCE] = "the balance does not follow",
    [HELD] = "what is held does not follow",
    [VERSIONS] = "the account's version does not follow",
    [PREVIOUS] = "does not continue the account's chain",
    [BIRTH] = "an account that is there already",
    [CREATION] = "the account's record before it is missing",
    [EXISTS] = "it knows no account where there is one",
    [KNOWN] = "it tells the account otherwise than it stood",
    [UNKNOWN] = "it knows an account that there is not",
    [SETTLED_AMOUNT] = "what is held does not follow",
    [SETTLED_HOLD] = "it settles a hold that is not open",
    [SETTLED_ACCOUNT] = "it settles a hold otherwise than it was placed",
    [PLACED_AMOUNT] = "what is held does not follow",
    [EARLY] = "its hold expires before its time",
    [ID] = "its id stands for an earlier record",
    [FLOOR] = "the balance falls below its floor",
    [CEILING] = "the balance rises above its ceiling",
    [FROZEN] = "its account is frozen",
    [EPOCH] = "its epoch is not that of its run",
    [DURABLE] = "its durable mark is less",
};

static bool is_event(const struct record_head *record)
{
	return record->type == RECORD_EVENT && record_has_effect(record);
}

static bool settles(const struct record_head *record)
{
	return record->type >= RECORD_CAPTURE && record_has_effect(record);
}

/* The first record that can tell the lie is made to. */
static bool lie(struct record_head *record, unsigned which)
{
	struct record_leg *leg = record->legs != 0 ? leg_of(record) : NULL;
	bool follows = is_event(record) && leg->previous != 0;
	void *body = record->type >= RECORD_EVENT ? (void *)(uintptr_t)record_body(record) : NULL;
	struct record_settled *settled = settles(record) ? body : NULL;

	switch (which) {
	case AMOUNT:
		return follows && (leg->amount += leg->amount == -1 ? 2 : 1);
	case BALANCE:
		return follows && (leg->balance++, true);
	case HELD:
		return follows && (leg->held++, true);
	case VERSIONS:
		return follows && (leg->version++, true);
	case PREVIOUS:
		return follows && (leg->previous += 8, true);
	case EXISTS:
		return record->outcome != OUTCOME_ACCEPTED && leg != NULL && leg->version != 0 &&
		       (leg->version = leg->previous = 0, leg->balance = leg->held = 0, true);
	case KNOWN:
		return record->outcome != OUTCOME_ACCEPTED && leg != NULL && leg->version != 0 &&
		       (leg->balance++, true);
	case UNKNOWN:
		return record->outcome == OUTCOME_UNKNOWN_ACCOUNT &&
		       (leg->version = 1, leg->previous = SEGMENT_HEAD, true);
	case SETTLED_AMOUNT:
		return settled != NULL && (settled->amount++, true);
	case SETTLED_HOLD:
		return settled != NULL && (settled->hold[0]++, true);
	case SETTLED_ACCOUNT:
		return settled != NULL && (settled->expires_us++, true);
	case PLACED_AMOUNT:
		return record->type == RECORD_HOLD && record->outcome == OUTCOME_ACCEPTED &&
		       ((struct record_hold *)body)->amount > 1 &&
		       (((struct record_hold *)body)->amount--, true);
	case EARLY:
		return record->type == RECORD_EXPIRE && (record->time_us = 1, true);
	case EPOCH:
		return follows && (record->epoch++, true);
	case DURABLE:
		return follows && record->lsn > 8000 && (record->durable = 0, true);
	default:
		return false;
	}
}

static void expect(const struct place *place, uint64_t lsn, const char *words, const char *what)
{
	char offset[64];
	enum store_status status = check(place);

	snprintf(offset, sizeof offset, ".journal, offset %" PRIu64 ": ", lsn % small.segment_size);
	ok(lsn != 0 && status == STORE_CORRUPT && strstr(error, words) != NULL &&
	       strstr(error, offset) != NULL,
	   "%s", what);
	if (status != STORE_CORRUPT || strstr(error, words) == NULL ||
	    strstr(error, offset) == NULL)
		diag("status %d at %" PRIu64 ": %s", (int)status, lsn, error);
}

static void test_lies(void)
{
	struct place place;
	struct run run;
	struct traffic traffic;

	for (unsigned which = 0; which < LIES; which++) {
		if (which == BIRTH || which == CREATION || (which >= ID && which <= FROZEN))
			continue;
		make(&place, &run, &traffic, 150);
		run_leave(&run);
		uint64_t lsn = journal_change(place.journal, lie, which);
		expect(&place, lsn, told[which], told[which]);
		place_remove(&place);
	}
}

/* ---- lies of which the record itself must be made: the ledger would not write them */

static void append(struct run *run, const struct record_writer *writer, size_t length)
{
	uint64_t lsn;

	run_extend(run);
	must(operation_lock(run->region, NULL, 0), "operation_lock");
	must(operation_commit(run->region, writer->head, length, 1, RING_CLIENT, &lsn) == RING_OK,
	     "operation_commit");
	operation_unlock(run->region);
	run_commit(run);
}

static void forge(struct run *run, enum record_type type, const char *name, int64_t amount,
                  int64_t balance, uint64_t version, uint64_t previous, const char *id)
{
	static union {
		struct record_head head;
		unsigned char bytes[JOURNAL_RECORD_MAX];
	} buffer;
	const struct record_leg leg = {
	    .amount = amount, .balance = balance, .version = version, .previous = previous};
	const struct record_birth birth = {.floor = FLOOR_NONE, .ceiling = CEILING_NONE};
	const struct words account = words_of(name);
	const struct words words = words_of(id != NULL ? id : "");
	struct record_writer writer;

	record_begin(&writer, buffer.bytes, type, OUTCOME_ACCEPTED,
	             id != NULL ? RECORD_REMEMBERED : 0, ++run->now_us);
	record_add_leg(&writer, &account, &leg, previous == 0 ? &birth : NULL);
	append(run, &writer, record_end(&writer, 0, &words, NULL));
}

static void test_forged(void)
{
	const struct words account = words_of("alice");
	static const struct attributes attributes[] = {
	    {.floor = 0, .ceiling = 10, .frozen = FROZEN_NONE},
	    {.floor = 0, .ceiling = 10, .frozen = FROZEN_NONE},
	    {.floor = FLOOR_NONE, .ceiling = CEILING_NONE, .frozen = FROZEN_DEBITS}};

	for (unsigned which = 0; which < LIES; which++) {
		if (which != BIRTH && which != CREATION && (which < ID || which > FROZEN))
			continue;
		struct place place;
		struct run run;
		place_make(&place);
		must(run_start(&run, &place, &small), "run_start");
		struct request request = {.kind = REQUEST_CREATE,
		                          .legs = 1,
		                          .leg = {{.account = account}},
		                          .id = words_of("first"),
		                          .attributes = {.floor = -5, .ceiling = 900}};
		if (which >= FLOOR && which <= FROZEN)
			request.attributes = attributes[which - FLOOR];
		uint64_t last = run_apply(&run, &request, OUTCOME_ACCEPTED).lsn;
		run_commit(&run);
		uint64_t lsn = run.position;
		if (which == BIRTH)
			forge(&run, RECORD_EVENT, "alice", 5, 5, 1, 0, NULL);
		else if (which == CREATION)
			forge(&run, RECORD_EVENT, "bob", 5, 5, 2, last, NULL);
		else if (which == ID)
			forge(&run, RECORD_EVENT, "alice", 5, 5, 2, last, "first");
		else if (which == CEILING)
			forge(&run, RECORD_EVENT, "alice", 11, 11, 2, last, NULL);
		else
			forge(&run, RECORD_EVENT, "alice", -1, -1, 2, last, NULL);
		run_leave(&run);
		expect(&place, lsn, told[which], told[which]);
		place_remove(&place);
	}
}

/* Ids may come again once they may have been forgotten. */
static void test_forgotten(void)
{
	struct audit_limits few = limits;
	struct place place;
	struct run run;
	uint64_t last = 0;
	char id[32];

	error[0] = '\0';
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	run_commit(&run);
	for (uint64_t i = 0; i < 300; i++) {
		snprintf(id, sizeof id, "id-%" PRIu64, i % 100);
		uint64_t lsn = run.position;
		forge(&run, RECORD_EVENT, "bob", 1, (int64_t)i + 1, i + 1, last, id);
		last = lsn;
	}
	run_leave(&run);
	few.max_ids = 99 * 2;
	ok(audit_journal(place.journal, &few, &audit, error) == STORE_OK,
	   "ids that come again after 100 others, where 99 are surely remembered");
	if (error[0] != '\0')
		diag("%s", error);
	few.max_ids = 100 * 2;
	ok(audit_journal(place.journal, &few, &audit, error) == STORE_CORRUPT &&
	       strstr(error, told[ID]) != NULL,
	   "and where 100 are");
	few.window_us = 100;
	ok(audit_journal(place.journal, &few, &audit, error) == STORE_OK,
	   "likewise by their age: of 100 microseconds");
	few.window_us = 101;
	ok(audit_journal(place.journal, &few, &audit, error) == STORE_CORRUPT, "and 101");
	place_remove(&place);
}

static void test_ends(void)
{
	struct audit_limits running = limits;
	struct place place;
	struct run run;
	struct traffic traffic;
	struct image_file file;

	make(&place, &run, &traffic, 100);
	uint64_t end = run.position;
	run_leave(&run);
	snprintf(file.path, sizeof file.path, "%s/%016x.journal", place.journal, 0);
	file_read(&file);
	file_put_byte(&file, end - JOURNAL_RECORD_MIN + 20, 0xff);
	ok(check(&place) == STORE_OK && audit.end == end - JOURNAL_RECORD_MIN,
	   "a torn end is the end");
	file_put_byte(&file, 8192, (unsigned char)(file.bytes[8192] ^ 1));
	ok(check(&place) == STORE_CORRUPT && strstr(error, "proves that this was durable") != NULL,
	   "damage is not");
	running.running = true;
	ok(audit_journal(place.journal, &running, &audit, error) == STORE_OK,
	   "where a daemon writes, the end is where it has come to");
	free(file.bytes);
	place_remove(&place);
	ok(check(&place) == STORE_IO && errno == ENOENT && access(place.journal, F_OK) != 0,
	   "a journal that is not there is not made");
	ok(mkdir(place.root, 0700) == 0 && mkdir(place.journal, 0700) == 0 &&
	       check(&place) == STORE_OK && audit.records == 0,
	   "an empty one is sound");
	place_remove(&place);
}

/* ---- a journal whose oldest segments go meanwhile */

#define PRUNED_ROUNDS 10
#define PRUNED_US     300 /* between two removals */

static void segment_in(char path[FIXTURE_PATH + 64], const char *directory, uint64_t base)
{
	snprintf(path, FIXTURE_PATH + 64, "%s/%016" PRIx64 ".journal", directory, base);
}

/* Each segment of FROM has a name in TO as well. */
static void link_all(const char *from, const char *to, uint64_t space)
{
	char old[FIXTURE_PATH + 64];
	char new[FIXTURE_PATH + 64];

	for (uint64_t base = 0; base < space; base += FIXTURE_SEGMENT) {
		segment_in(old, from, base);
		segment_in(new, to, base);
		must(link(old, new) == 0 || errno == EEXIST, "link");
	}
}

/* The newest two stay. */
__attribute__((noreturn)) static void prune_all(const struct place *place, uint64_t space)
{
	char path[FIXTURE_PATH + 64];

	for (uint64_t base = 0; base + 2 * FIXTURE_SEGMENT < space; base += FIXTURE_SEGMENT) {
		segment_in(path, place->journal, base);
		unlink(path);
		usleep(PRUNED_US);
	}
	_exit(0);
}

static void test_pruning(void)
{
	struct audit_limits running = limits;
	struct place place;
	struct run run;
	struct traffic traffic;
	unsigned checked = 0;
	unsigned wrong = 0;

	make(&place, &run, &traffic, 6000);
	uint64_t space = store_space(run.store);
	running.running = true;
	must(mkdir(place.snapshots, 0700) == 0, "mkdir");
	link_all(place.journal, place.snapshots, space);
	for (int i = 0; i < PRUNED_ROUNDS; i++) {
		link_all(place.snapshots, place.journal, space);
		pid_t process = fork();
		must(process >= 0, "fork");
		if (process == 0)
			prune_all(&place, space);
		while (waitpid(process, NULL, WNOHANG) == 0) {
			checked++;
			if (audit_journal(place.journal, &running, &audit, error) != STORE_OK &&
			    wrong++ == 0)
				diag("%s", error);
		}
	}
	cmp_ok(wrong, "==", 0, "checked %u times while the oldest segments go: sound", checked);
	run_leave(&run);
	place_remove(&place);
}

/* ---- seals */

static const struct sizes roomy = {.segment_size = UINT64_C(1) << 20,
                                   .ring_size = 1 << 22,
                                   .max_accounts = 64,
                                   .max_ids = 64,
                                   .max_holds = 64};

static bool change_time(struct record_head *record, unsigned which)
{
	return record->type == RECORD_EVENT && record->lsn > which && (record->time_us++, true);
}

static void test_seals(void)
{
	struct place place;
	struct run run;
	char path[FIXTURE_PATH + 64];

	place_make(&place);
	must(run_start(&run, &place, &roomy), "run_start");
	while (run.position < 4 * UINT64_C(4194304)) {
		for (int i = 0; i < 5000; i++)
			run_post(&run, "a", 1, 1);
		run_commit(&run);
	}
	run_mark(&run);
	run_leave(&run);
	enum store_status status = check(&place);
	ok(status == STORE_OK && audit.seals >= 3, "%" PRIu64 " seals are right", audit.seals);
	snprintf(path, sizeof path, "%s/%016x.journal", place.journal, 0);
	must(unlink(path) == 0, path);
	ok(check(&place) == STORE_OK && audit.seals >= 3 && audit.pruned,
	   "and where the beginning is gone");
	if (error[0] != '\0')
		diag("%s", error);
	must(journal_change(place.journal, change_time, 6 << 20) != 0, "journal_change");
	ok(check(&place) == STORE_CORRUPT && strstr(error, "not what was sealed") != NULL,
	   "a time changed is noticed by a seal");
	place_remove(&place);
}

/* ---- the map of its books */

struct item {
	struct key key;
	uint64_t value;
};

static void test_map(void)
{
	enum { KEYS = 3000 };
	struct map map = {.size = sizeof(struct item)};
	uint64_t random = 77;
	bool there[KEYS] = {false};
	bool right = true;
	size_t count = 0;

	for (int i = 0; i < 100000; i++) {
		uint64_t draw = random_next(&random) % KEYS;
		/* Keys that crowd: few homes. */
		struct key key = {.low = draw % 40, .high = draw + 1};
		struct item *item = map_find(&map, &key);
		right &= (item != NULL) == there[draw] && (item == NULL || item->value == draw * 3);
		if (item != NULL) {
			map_remove(&map, &key);
			count--;
		} else {
			item = map_add(&map, &key);
			must(item != NULL, "map_add");
			right &= item->value == 0;
			item->value = draw * 3;
			count++;
		}
		there[draw] = !there[draw];
		right &= map.count == count;
	}
	ok(right, "entries are found after any order of additions and removals");
	map_free(&map);
	ok(map_find(&map, &(struct key){.low = 1}) == NULL, "an empty map has none");
}

int main(void)
{
	plan(NO_PLAN);
	test_map();
	test_sound();
	test_lies();
	test_forged();
	test_forgotten();
	test_ends();
	test_pruning();
	test_seals();
	return done_testing();
}
