/*
 * Death at every instruction.  A process is killed after each instruction of an operation on the
 * region that changes anything there, and after every few of the others, whose deaths leave the
 * same behind; then another one must find that all of it happened or nothing, and go on.  The same
 * again with the one who repairs, killed in the repair.  After every death
 *
 *   - nobody hangs: a neighbour reads and posts to every account within a deadline; in one case of
 *     WAITER_EVERY it waits for the victim's lock already when that is killed;
 *   - it happened if and only if it had committed, with all its accounts;
 *   - nothing is read whose record is not in the ring;
 *   - the slot of the dead is adopted and used again;
 *   - the ring's records are sound, each follows the one before it, and replayed they are exactly
 *     the tables, the seal and the count of events (death-model.h).
 *
 * TALLYD_DEATH_STRIDE=N takes every Nth instruction of those that change nothing: 1 takes all.
 */
#include <linux/futex.h>

#include "../src/ledger/seal.h"
#include "death-model.h"
#include "death-neighbour.h"
#include "death-step.h"

#define STRIPES          4
#define NEW_ACCOUNT      5 /* the one that does not exist yet */
#define LONG_ACCOUNT     8 /* neither, and its name takes two slots */
#define EMPTY_ACCOUNT    3 /* so does this one's; its balance is zero */
#define HELD_ACCOUNT     2 /* of which a hold reserves some */
#define LONE_ACCOUNT     6 /* in a stripe that no victim touches */
#define LONE_STRIPE      3
#define VICTIM_POST      5
#define VICTIM_HOLD      3
#define REPAIRER_POST    7
#define WAITER_EVERY     5
#define FAILURES_MAX     3 /* per line of the test */
#define POINTS_MAX       160
#define DESERTED         24
#define STRIDE           3
#define SANITIZED_STRIDE 61 /* an operation takes many more instructions then */
#define OTHER_STRIDE     31 /* of repairs after deaths that are not the typical ones */
#define POINTS_EVERY     4  /* of those deaths: so many are passed over where time is short */

struct scenario {
	const char *name;
	void (*operation)(uint32_t slot);
	bool idle;              /* it changes nothing */
	uint32_t wrap_after;    /* bytes from its record to the end of the ring, 0: far */
	uint32_t segment_after; /* likewise of the segment */
	bool full;              /* queue_events allows none */
	bool crowded;           /* all holds are open but HOLD_OLD, which is settled */
	bool deserted;          /* of DESERTED accounts on one probe all but one were deleted */
	uint32_t stride;        /* times that of the test; 0: 1 */
	uint32_t repair_stride; /* its repair is stepped too, in steps of so many; 0: not */
};

/* All that a neighbour sees, at one moment. */
struct state {
	struct account_view view[ACCOUNTS]; /* version 0: there is none */
	struct seen seen;
};

/* An operation to be killed, from one state of the region. */
struct run {
	void (*operation)(uint32_t slot);
	uint32_t slot;
	const unsigned char *image; /* the region at its beginning */
	struct step_path path;
	bool *changes; /* by steps done: the last of them changed the region; NULL: not known */
	const struct scenario *scenario;
	bool victim_happened; /* for repairs: before it began */
	uint32_t account;     /* to which it posts REPAIRER_POST; ACCOUNTS: to none */
	uint64_t tail;        /* of what had happened before it */
};

static struct region *region;
static struct ledger *ledger;
static struct neighbour neighbour;
static struct model model;
static char name[ACCOUNTS][ACCOUNT_NAME_MAX];
static struct state base, done; /* before and after an operation that nobody kills */
static uint64_t start;
static unsigned stride;
static unsigned deaths, waiters;
static const struct words no_words;
static const struct words id = {.bytes = "order-17", .length = 8};
static const struct words hold[HOLDS] = {{.bytes = "hold-of-the-victim", .length = 18},
                                         {.bytes = "hold-from-before", .length = 16}};

/* ---- the operations */

static void post(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[0], VICTIM_POST);
}

static void create(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[NEW_ACCOUNT], VICTIM_POST);
}

static void overflow(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[0], INT64_MAX);
}

static void seal(uint32_t slot)
{
	static const struct seal_link link = {.from = 8192, .to = 16384, .hash = 99};

	region_enter(region, slot);
	ledger_seal(ledger, &link, 1000);
}

static void mark(uint32_t slot)
{
	region_enter(region, slot);
	ledger_mark(ledger, 1000);
}

static void look_at(uint32_t account)
{
	struct account_view view;

	ledger_read(ledger, name[account], (uint32_t)strlen(name[account]), &view);
}

static void read_first(uint32_t slot)
{
	region_enter(region, slot);
	look_at(0);
}

/* A name that is not there, and at whose place a deserted stripe's probe begins. */
static char nobody[ACCOUNT_NAME_MAX];

static void read_nobody(uint32_t slot)
{
	struct account_view view;

	region_enter(region, slot);
	ledger_read(ledger, nobody, (uint32_t)strlen(nobody), &view);
}

static void read_last(uint32_t slot)
{
	region_enter(region, slot);
	look_at(4);
}

static void repair_by_post(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[0], REPAIRER_POST);
}

static void repair_ring_by_post(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[LONE_ACCOUNT], REPAIRER_POST);
}

static void adopt(uint32_t slot)
{
	region_enter(region, slot);
	operation_adopt(region);
}

/* The locks of the id and the hold of a group. */
static uint32_t id_lock(void)
{
	return ids_lock(region, &neighbour.id);
}

static uint32_t hold_lock(void)
{
	return holds_lock(region, &neighbour.hold[HOLD_NEW]);
}

static void look_for_id(uint32_t slot)
{
	region_enter(region, slot);
	if (lock_acquire(region, id_lock()))
		lock_release(region, id_lock());
}

static void look_for_hold(uint32_t slot)
{
	region_enter(region, slot);
	if (lock_acquire(region, hold_lock()))
		lock_release(region, hold_lock());
}

/* The records of an operation, side by side. */
static struct {
	_Alignas(8) unsigned char bytes[2 * JOURNAL_RECORD_MAX];
	uint32_t length;
	struct record_writer writer; /* of the next */
} records;

static void begin_record(enum record_type type, uint16_t flags)
{
	record_begin(&records.writer, records.bytes + records.length, type, OUTCOME_ACCEPTED, flags,
	             1000);
}

static void end_record(const struct words *name_of)
{
	records.length += (uint32_t)record_end(&records.writer, 42, name_of, &no_words);
}

static void *stage(void *cell, uint32_t lock, size_t length)
{
	return operation_stage(region, cell, lock, length, records.length);
}

/* Stages a new account I. */
static struct account_slot *stage_new(uint32_t i, uint64_t hash, uint32_t stripe)
{
	uint32_t length = (uint32_t)strlen(name[i]);
	uint32_t here = length < TABLE_NAME_INLINE ? length : TABLE_NAME_INLINE;
	struct account_slot *after =
	    stage(table_vacancy(region, stripe, hash), stripe, sizeof *after);

	*after = (struct account_slot){.hash = hash,
	                               .floor = FLOOR_NONE,
	                               .ceiling = CEILING_NONE,
	                               .created_us = 1000,
	                               .name_length = (uint8_t)length};
	memcpy(after->name, name[i], here);
	operation_count(region, USE_ACCOUNTS, 1);
	operation_count(region, USE_ACCOUNT_SLOTS, here == length ? 1 : 2);
	if (here == length)
		return after;
	struct account_slot *cell = table_vacancy(region, stripe, hash);
	struct account_slot *rest = stage(cell, stripe, sizeof *rest);
	*rest = (struct account_slot){.name_length = TABLE_REST};
	memcpy(rest->name, name[i] + here, length - here);
	after->rest = (uint16_t)(table_index(region, stripe, cell) + 1);
	return after;
}

/* Stages account I plus AMOUNT, and HELD more of it reserved, and adds its leg to the record. */
static void add_leg(uint32_t i, int64_t amount, int64_t held)
{
	struct words words = {.bytes = name[i], .length = (uint32_t)strlen(name[i])};
	struct record_birth birth = {.floor = FLOOR_NONE, .ceiling = CEILING_NONE};
	uint64_t hash = fixture_hash(region, words.bytes, words.length), previous = 0;
	uint32_t stripe = table_stripe(region, hash), earlier;
	struct account_slot *after;
	struct account_slot *found = table_find(region, stripe, hash, words.bytes, words.length);

	if (found != NULL && operation_staged(region, found, &earlier) != NULL)
		previous = RECORD_RELATIVE | earlier;
	else if (found != NULL)
		previous = found->lsn;
	after = found != NULL ? stage(found, stripe, offsetof(struct account_slot, rest))
	                      : stage_new(i, hash, stripe);
	after->balance += amount;
	after->held += held;
	after->version++;
	after->updated_us = 1000;
	struct record_leg leg = {.amount = amount,
	                         .balance = after->balance,
	                         .held = after->held,
	                         .version = after->version,
	                         .previous = previous};
	record_add_leg(&records.writer, &words, &leg, found == NULL ? &birth : NULL);
}

/* Five accounts in three stripes, one of them new. */
static void many(uint32_t slot)
{
	static const uint32_t account[] = {0, 1, 2, 4, NEW_ACCOUNT};
	static const uint32_t stripe[] = {2, 0, 1, 0, 2};
	uint64_t lsn;

	region_enter(region, slot);
	if (!operation_lock(region, stripe, 5))
		return;
	records.length = 0;
	begin_record(RECORD_TRANSACTION, 0);
	for (uint32_t i = 0; i < 5; i++)
		add_leg(account[i], VICTIM_POST, 0);
	end_record(&no_words);
	operation_commit(region, records.bytes, records.length, 1, RING_CLIENT, &lsn);
	operation_unlock(region);
}

/* An event that is remembered by its id. */
static void add_remembered(void)
{
	struct id_slot *slot = stage(ids_vacancy(region, &neighbour.id), id_lock(), sizeof *slot);

	operation_count(region, USE_IDS, 1);
	slot->key = neighbour.id;
	slot->time_us = 1000;
	begin_record(RECORD_EVENT, RECORD_REMEMBERED);
	add_leg(0, VICTIM_POST, 0);
	end_record(&id);
}

/* A hold of the same account. */
static void add_hold(void)
{
	struct record_hold body = {.amount = VICTIM_HOLD, .expires_us = 2000};
	struct hold_slot *cell = holds_vacancy(region, &neighbour.hold[HOLD_NEW]);
	struct hold_slot *slot = stage(cell, hold_lock(), sizeof *slot);

	operation_count(region, USE_HOLDS, 1);
	holds_hint(region, cell, fixture_hash(region, name[0], strlen(name[0])), body.expires_us);
	*slot = (struct hold_slot){.key = neighbour.hold[HOLD_NEW],
	                           .amount = body.amount,
	                           .expires_us = body.expires_us,
	                           .placed_us = 1000,
	                           .state = HOLD_SLOT_OPEN,
	                           .id_length = (uint8_t)hold[HOLD_NEW].length,
	                           .account_length = (uint8_t)strlen(name[0])};
	memcpy(slot->id, hold[HOLD_NEW].bytes, hold[HOLD_NEW].length);
	memcpy(slot->account, name[0], strlen(name[0]));
	begin_record(RECORD_HOLD, RECORD_CREATED);
	add_leg(0, 0, VICTIM_HOLD);
	record_add_body(&records.writer, &body, sizeof body);
	end_record(&hold[HOLD_NEW]);
}

/* Three records at once: two of account 0, and one that makes an account with a long name. */
static void group(uint32_t slot)
{
	const uint32_t locks[] = {0, fixture_stripe(region, name[LONG_ACCOUNT]), id_lock(),
	                          hold_lock()};
	uint64_t lsn;

	region_enter(region, slot);
	if (!operation_lock(region, locks, 4))
		return;
	records.length = 0;
	add_remembered();
	add_hold();
	begin_record(RECORD_EVENT, 0);
	add_leg(LONG_ACCOUNT, VICTIM_POST, 0);
	end_record(&no_words);
	operation_commit(region, records.bytes, records.length, 3, RING_CLIENT, &lsn);
	operation_unlock(region);
}

static void create_long(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[LONG_ACCOUNT], VICTIM_POST);
}

/* ---- the ledger's own */

static struct leg leg(uint32_t account, int64_t amount)
{
	return (struct leg){
	    .account = {.bytes = name[account], .length = (uint32_t)strlen(name[account])},
	    .amount = amount};
}

static struct result apply(uint32_t slot, const struct request *request)
{
	struct result result;

	region_enter(region, slot);
	ledger_apply(ledger, request, 1000, &result);
	return result;
}

static void transfer(uint32_t slot)
{
	apply(slot,
	      &(struct request){
	          .kind = REQUEST_TRANSFER, .legs = 2, .id = id, .leg = {leg(0, -5), leg(4, 5)}});
}

static void events(uint32_t slot)
{
	struct request request[] = {
	    {.kind = REQUEST_EVENT, .legs = 1, .id = id, .leg = {leg(0, 5)}},
	    {.kind = REQUEST_EVENT, .legs = 1, .leg = {leg(LONG_ACCOUNT, 5)}},
	    {.kind = REQUEST_EVENT, .legs = 1, .leg = {leg(0, 7)}}};
	struct result result[3];

	region_enter(region, slot);
	ledger_apply_group(ledger, request, 3, 1000, result);
}

/* Refused, and remembered. */
static void create_again(uint32_t slot)
{
	apply(slot,
	      &(struct request){.kind = REQUEST_CREATE, .legs = 1, .id = id, .leg = {leg(0, 0)}});
}

static void replace(uint32_t slot)
{
	apply(slot, &(struct request){.kind = REQUEST_REPLACE,
	                              .legs = 1,
	                              .attributes = {.floor = -9, .ceiling = INT64_MAX},
	                              .leg = {leg(0, 0)}});
}

static void delete (uint32_t slot)
{
	apply(slot,
	      &(struct request){
	          .kind = REQUEST_DELETE, .legs = 1, .id = id, .leg = {leg(EMPTY_ACCOUNT, 0)}});
}

static void place(uint32_t slot)
{
	apply(slot, &(struct request){.kind = REQUEST_HOLD,
	                              .legs = 1,
	                              .ttl = 60,
	                              .hold = hold[HOLD_NEW],
	                              .leg = {leg(0, VICTIM_HOLD)}});
}

static void capture(uint32_t slot)
{
	apply(slot, &(struct request){.kind = REQUEST_CAPTURE,
	                              .legs = 1,
	                              .id = id,
	                              .has_capture = true,
	                              .capture = VICTIM_HOLD - 1,
	                              .hold = hold[HOLD_OLD],
	                              .leg = {leg(4, 0)}});
}

static void release(uint32_t slot)
{
	apply(slot, &(struct request){.kind = REQUEST_RELEASE, .hold = hold[HOLD_OLD]});
}

static void expire(uint32_t slot)
{
	region_enter(region, slot);
	ledger_expire(ledger, 3600 * UINT64_C(1000000), 10);
}

static const struct scenario scenarios[] = {
    {.name = "a post", .operation = post, .repair_stride = 1},
    {.name = "a post to a new account", .operation = create},
    {.name = "a post to a new account with a long name", .operation = create_long},
    {.name = "a post across the ring's end", .operation = post, .wrap_after = 56, .stride = 3},
    {.name = "a post after a filler", .operation = post, .segment_after = 56, .stride = 3},
    {.name = "a post after a filler across the ring's end",
     .operation = post,
     .wrap_after = 24,
     .segment_after = 56,
     .stride = 3},
    {.name = "a post after a segment's unused end",
     .operation = post,
     .segment_after = 40,
     .stride = 3},
    {.name = "five accounts in three stripes", .operation = many, .repair_stride = 7},
    {.name = "a group of three records", .operation = group, .repair_stride = 13},
    {.name = "a group after a filler across the ring's end",
     .operation = group,
     .wrap_after = 24,
     .segment_after = 56,
     .stride = 3},
    {.name = "three events at once", .operation = events, .stride = 3},
    {.name = "a transfer", .operation = transfer, .stride = 3},
    {.name = "a refusal that is remembered", .operation = create_again, .stride = 3},
    {.name = "a replacement", .operation = replace, .stride = 3},
    {.name = "a deletion", .operation = delete, .stride = 3},
    {.name = "a hold", .operation = place, .stride = 3},
    {.name = "a capture", .operation = capture, .stride = 3, .repair_stride = 31},
    {.name = "a release", .operation = release, .stride = 3},
    {.name = "an expiry", .operation = expire, .stride = 3},
    {.name = "a post refused for overflow", .operation = overflow, .idle = true},
    {.name = "a post refused for a full queue", .operation = post, .full = true, .idle = true},
    {.name = "a seal", .operation = seal, .idle = true},
    {.name = "a mark", .operation = mark, .idle = true},
    {.name = "a read", .operation = read_first, .idle = true},
    {.name = "a read that heals a deserted stripe",
     .operation = read_nobody,
     .deserted = true,
     .idle = true},
    {.name = "a hold in the place of a settled one",
     .operation = place,
     .crowded = true,
     .stride = 7,
     .repair_stride = 97},
    {.name = "a hold refused there for a full queue",
     .operation = place,
     .crowded = true,
     .full = true,
     .idle = true,
     .stride = 7},
};

/* ---- the region at the beginning of a scenario */

static void name_accounts(void)
{
	static const uint32_t stripe[ACCOUNTS] = {0, 0, 1, 1, 2, 2, 3, 3, 1};

	for (uint32_t i = 0; i < ACCOUNTS; i++) {
		char prefix[TABLE_NAME_INLINE + 16];
		snprintf(prefix, sizeof prefix, "account-%u-%s", i,
		         i == LONG_ACCOUNT || i == EMPTY_ACCOUNT
		             ? "with-a-name-that-takes-more-than-one-slot-alone-"
		             : "");
		fixture_name_in(region, stripe[i], prefix, name[i]);
	}
}

/* Makes the region, its journal begun at FROM, and two posts to each account but the new ones. */
static void begin_at(uint64_t from)
{
	struct region_geometry geometry = fixture_geometry(STRIPES * 64);

	start = from;
	region = fixture_begun(&geometry, from);
	if (region_stripes(region) != STRIPES)
		BAIL_OUT("the table has %u stripes", region_stripes(region));
	name_accounts();
	ledger = ledger_open(region, SLOT_BASE, NULL);
	for (uint32_t i = 0; i < 2 * ACCOUNTS; i++)
		if (i % ACCOUNTS != NEW_ACCOUNT && i % ACCOUNTS != LONG_ACCOUNT)
			fixture_post(ledger, name[i % ACCOUNTS],
			             i == EMPTY_ACCOUNT + ACCOUNTS ? -10 - EMPTY_ACCOUNT
			                                           : 10 + (int64_t)i);
	struct result result =
	    apply(SLOT_BASE, &(struct request){.kind = REQUEST_HOLD,
	                                       .legs = 1,
	                                       .ttl = 60,
	                                       .hold = hold[HOLD_OLD],
	                                       .leg = {leg(HELD_ACCOUNT, VICTIM_HOLD)}});
	if (result.outcome != OUTCOME_ACCEPTED)
		BAIL_OUT("no hold is to be had");
}

/* Fills the bucket. */
static void crowd(void)
{
	release(SLOT_BASE);
	for (unsigned i = 0; i < HOLDS_BUCKET - 1; i++) {
		char text[16];
		int length = snprintf(text, sizeof text, "crowd-%u", i);
		struct result result =
		    apply(SLOT_BASE,
		          &(struct request){.kind = REQUEST_HOLD,
		                            .legs = 1,
		                            .ttl = 60,
		                            .hold = {.bytes = text, .length = (uint32_t)length},
		                            .leg = {leg(LONE_ACCOUNT, 1)}});
		if (result.outcome != OUTCOME_ACCEPTED)
			BAIL_OUT("a bucket takes only %u holds", i + 1);
	}
}

/* The N-th name whose probe begins in the middle of the stripe of account 0. */
static void name_deserted(unsigned n, char *out)
{
	const uint32_t slots = table_stripe_slots(region);
	char prefix[32];

	do {
		snprintf(prefix, sizeof prefix, "deserted-%u", n);
		fixture_name_in(region, 0, prefix, out);
		n += DESERTED + 1;
	} while (layout_scale(fixture_hash(region, out, strlen(out)) & UINT32_MAX, slots) !=
	         slots / 2);
}

/* One account stays, with freed slots on its probe and beyond it. */
static void desert(void)
{
	static char name_of[DESERTED][ACCOUNT_NAME_MAX];

	for (unsigned i = 0; i < DESERTED; i++) {
		name_deserted(i, name_of[i]);
		fixture_post(ledger, name_of[i], 1);
		fixture_post(ledger, name_of[i], -1);
	}
	name_deserted(DESERTED, nobody);
	for (unsigned i = 0; i < DESERTED; i++) {
		struct words words = {.bytes = name_of[i], .length = (uint32_t)strlen(name_of[i])};
		struct result result = {.outcome = OUTCOME_ACCEPTED};
		if (i != DESERTED / 2)
			result = apply(SLOT_BASE, &(struct request){.kind = REQUEST_DELETE,
			                                            .legs = 1,
			                                            .leg = {{.account = words}}});
		if (result.outcome != OUTCOME_ACCEPTED)
			BAIL_OUT("%s cannot be deleted", name_of[i]);
	}
}

static void end(void)
{
	ledger_close(ledger);
	region_close(region);
}

static uint64_t tail_now(void)
{
	return atomic_load(&region->header->marks.tail);
}

static unsigned char *image_now(void)
{
	unsigned char *image = malloc(region->size);

	if (image == NULL)
		BAIL_OUT("out of memory");
	memcpy(image, region->base, region->size);
	return image;
}

/* What a neighbour would see now. */
static struct state state_now(void)
{
	struct state state = {0};

	for (uint32_t i = 0; i < ACCOUNTS; i++)
		if (ledger_read(ledger, name[i], (uint32_t)strlen(name[i]), &state.view[i]) !=
		    OUTCOME_ACCEPTED)
			state.view[i] = (struct account_view){0};
	neighbour_look(&neighbour, false);
	state.seen = neighbour.report->seen;
	return state;
}

static int live_through(void *scenario)
{
	((const struct scenario *)scenario)->operation(SLOT_VICTIM);
	return 0;
}

/* What comes of SCENARIO if nobody dies. */
static void rehearse(const struct scenario *scenario)
{
	unsigned char *image = image_now();
	struct scenario copy = *scenario;

	base = state_now();
	if (fixture_run(live_through, &copy) != 0)
		BAIL_OUT("%s cannot be done", scenario->name);
	done = state_now();
	if ((memcmp(&base, &done, sizeof base) == 0) != scenario->idle)
		fail("%s changes what it should not, or not what it should", scenario->name);
	memcpy(region->base, image, region->size);
	free(image);
}

static void begin(const struct scenario *scenario)
{
	struct region_geometry geometry = fixture_geometry(STRIPES * 64);
	uint64_t from = SEGMENT_HEAD;

	begin_at(from);
	if (scenario->wrap_after != 0) {
		from += 2 * geometry.ring_size - tail_now() - scenario->wrap_after;
		end();
		begin_at(from);
	}
	if (scenario->crowded)
		crowd();
	if (scenario->deserted)
		desert();
	if (scenario->segment_after != 0)
		region->header->segment_end = tail_now() + scenario->segment_after;
	if (scenario->full)
		atomic_store(&region_settings(region)->queue_events, 0);
	model.region = fixture_region(&geometry);
	neighbour.region = region;
	neighbour.name = name;
	neighbour.id = record_key(geometry.journal_key, id.bytes, id.length);
	for (unsigned i = 0; i < HOLDS; i++)
		neighbour.hold[i] = record_key(geometry.journal_key, hold[i].bytes, hold[i].length);
	rehearse(scenario);
	neighbour_start(&neighbour);
}

static void finish(void)
{
	neighbour_stop(&neighbour);
	region_close(model.region);
	end();
}

/* ---- one death */

static uint32_t lock_word(uint32_t number)
{
	/* glibc's: the owner's thread id, and whether somebody waits. */
	return (uint32_t)__atomic_load_n(&region->locks[number].mutex.__data.__lock,
	                                 __ATOMIC_SEQ_CST);
}

static bool holds(pid_t pid, uint32_t number)
{
	return (lock_word(number) & FUTEX_TID_MASK) == (uint32_t)pid;
}

/*
 * Which lock that PID holds the neighbour is to be sent into, by ORDER: the ring's, if the way to
 * it is free; else by TURN the id's, the hold's, or the first stripe.
 */
static uint32_t choose_lock(pid_t pid, unsigned turn, struct order *order)
{
	uint32_t number = 0;

	if (holds(pid, lock_ring(region)) && !holds(pid, LONE_STRIPE)) {
		*order = (struct order){.act = POST_FIRST, .account = LONE_ACCOUNT};
		return lock_ring(region);
	}
	*order = (struct order){.act = turn % 3 == 0 ? ID_FIRST : HOLD_FIRST};
	if (turn % 3 == 0 && holds(pid, id_lock()))
		return id_lock();
	if (turn % 3 == 1 && holds(pid, hold_lock()))
		return hold_lock();
	while (number < STRIPES && !holds(pid, number))
		number++;
	*order = (struct order){.act = READ_FIRST, .account = number * 2}; /* two to a stripe */
	return number;
}

/* Sends the neighbour into a lock that PID holds, if there is one, and waits until it sleeps there.
 */
static bool send_waiter(pid_t pid, unsigned turn, struct order *order)
{
	uint64_t until = clock_monotonic_us() + (uint64_t)fixture_deadline() * 1000000;
	uint32_t number = choose_lock(pid, turn, order);

	if (!holds(pid, number))
		return false;
	neighbour_order(&neighbour, order);
	while ((lock_word(number) & FUTEX_WAITERS) == 0) {
		if (clock_monotonic_us() > until)
			BAIL_OUT("the neighbour does not wait for lock %u", number);
		sched_yield();
	}
	waiters++;
	return true;
}

/* Has the operation of SLOT's owner, now stopped or dead, happened?  TAIL was the tail before it.
 */
static bool happened(uint32_t slot, uint64_t tail)
{
	return atomic_load(&region->processes[slot].area.commit) != 0 || tail_now() > tail;
}

/* What account I must be when first read. */
static const char *judge_view(const struct run *run, const struct order *order, bool victim,
                              bool repairer, uint32_t i)
{
	const struct account_view *view = &neighbour.report->view[i];
	struct account_view expected = victim ? done.view[i] : base.view[i];

	if (repairer && run->account == i) {
		expected.balance += REPAIRER_POST;
		expected.version++;
	}
	if (order->act == POST_FIRST && order->account == i) {
		expected.balance += NEIGHBOUR_POST;
		expected.version++;
	}
	if (neighbour.report->known[i] != (expected.version != 0))
		return expected.version != 0 ? "an account is lost"
		                             : "an account came from nowhere";
	if (expected.version != 0 &&
	    (view->balance != expected.balance || view->version != expected.version ||
	     view->held != expected.held))
		return "an account is neither before nor after, or not what was committed";
	return NULL;
}

static const char *judge(const struct run *run, const struct order *order, bool victim,
                         bool repairer)
{
	if (neighbour.report->why[0] != '\0')
		return neighbour.report->why;
	if (region_poisoned(region))
		return "the region is poisoned";
	for (uint32_t i = 0; i < ACCOUNTS; i++) {
		const char *why = judge_view(run, order, victim, repairer, i);
		if (why != NULL)
			return why;
	}
	if (memcmp(&neighbour.report->seen, victim ? &done.seen : &base.seen, sizeof base.seen) !=
	    0)
		return "an id or a hold is neither before nor after, or not what was committed";
	for (uint32_t slot = 0; slot < SLOT_BASE; slot++)
		if (atomic_load(&region->processes[slot].area.commit) != 0)
			return "an operation area is not clear";
	if (!model_agrees(&model, region, start))
		return model.why;
	if ((model.marks != 0) != (victim && run->scenario->operation == mark) ||
	    (model.seal.lsn != 0) != (victim && run->scenario->operation == seal))
		return "a committed record is lost, or another one was written";
	return NULL;
}

static struct order usual_order(uint32_t n)
{
	return (struct order){.act = (enum first_act)(n % FIRST_ACTS),
	                      .account = n / FIRST_ACTS % ACCOUNTS};
}

/* Kills RUN's operation after N instructions.  NULL, or what is wrong then. */
static const char *death(struct run *run, uint32_t n)
{
	struct order order = usual_order(n);
	bool victim = run->victim_happened, repairer = false;

	memcpy(region->base, run->image, region->size);
	pid_t pid = step_start(run->operation, run->slot);
	if (!step_to(pid, &run->path, n)) {
		step_kill(pid);
		return "it went another way than the first time";
	}
	if (run->slot == SLOT_VICTIM && run->operation != adopt)
		victim = happened(SLOT_VICTIM, run->tail);
	else
		repairer = run->account < ACCOUNTS && happened(SLOT_REPAIRER, run->tail);
	bool waits = n % WAITER_EVERY == 0 && send_waiter(pid, n / WAITER_EVERY, &order);
	/* A queue that was full is none any more: the neighbour posts. */
	atomic_store(&region_settings(region)->queue_events, UINT64_MAX);
	step_kill(pid);
	if (!waits) {
		order = usual_order(n);
		neighbour_order(&neighbour, &order);
	}
	deaths++;
	neighbour_answer(&neighbour);
	return judge(run, &order, victim, repairer);
}

/*
 * Kills it where the region changes and at every STEPth instruction from FIRST on; the number of
 * failures, at most FAILURES_MAX.
 */
static unsigned deaths_of(struct run *run, uint32_t first, uint32_t step, const char *what)
{
	unsigned failures = 0;

	for (uint32_t n = 0; n <= run->path.steps && failures < FAILURES_MAX; n++) {
		bool turn = n >= first && (n - first) % step == 0;
		if (!turn && (run->changes == NULL || !run->changes[n]))
			continue;
		const char *why = death(run, n);
		if (why == NULL)
			continue;
		failures++;
		diag("%s, killed after %u of %u instructions: %s", what, n, run->path.steps, why);
	}
	return failures;
}

/* ---- where the state changes */

static bool *differs; /* of the run that is being recorded */

/* Whatever another process could see by which one death differs from another. */
static void note_difference(uint32_t n)
{
	static uint64_t last;

	/* The long paths of a sanitizer's code would take too long to look at. */
	if (FIXTURE_SANITIZED)
		return;
	uint64_t now = XXH3_64bits(region->base, region->size);
	differs[n] = n > 0 && now != last;
	last = now;
}

static uint32_t changes[POINTS_MAX];
static uint32_t change_count;

/* Everything by which the repairs after a death could differ. */
static uint64_t digest(void)
{
	const struct region_marks *marks = &region->header->marks;
	const struct shape *shape = &region->header->shape;
	uint64_t parts[] = {
	    XXH3_64bits(region->base + shape->slots_at, shape->processes_at - shape->slots_at),
	    atomic_load(&marks->events), atomic_load(&marks->tail),
	    atomic_load(&region->processes[SLOT_VICTIM].area.commit), 0};

	for (uint32_t i = 0; i <= lock_ring(region); i++)
		parts[4] = parts[4] << 1 | ((lock_word(i) & FUTEX_TID_MASK) != 0);
	return XXH3_64bits(parts, sizeof parts);
}

static void note_change(uint32_t n)
{
	static uint64_t last;
	uint64_t now = digest();

	note_difference(n);
	if (n == 0)
		change_count = 0;
	else if (now != last && change_count < POINTS_MAX)
		changes[change_count++] = n;
	last = now;
}

static void record(struct run *run, void (*look)(uint32_t n))
{
	if (look != NULL) {
		run->changes = calloc(STEP_PATH_MAX + 1, sizeof *run->changes);
		if (run->changes == NULL)
			BAIL_OUT("out of memory");
		differs = run->changes;
	}
	step_record(&run->path, run->operation, run->slot, look);
}

static void forget(struct run *run)
{
	step_free(&run->path);
	free(run->changes);
	run->changes = NULL;
}

/* ---- repairs */

/* What is left by a victim killed after STEP instructions. */
struct point {
	uint32_t step;
	unsigned char *image;
	bool happened;
	bool committed; /* its area counts */
	bool ring;      /* which locks it died with */
	bool first;
	bool last;
	bool id;
	bool hold;
	bool typical;
	uint64_t tail;
};

static struct point leave(struct run *run, uint32_t step)
{
	struct point point = {.step = step};

	memcpy(region->base, run->image, region->size);
	pid_t pid = step_start(run->operation, run->slot);
	if (!step_to(pid, &run->path, step))
		BAIL_OUT("%s went another way than the first time", run->scenario->name);
	point.happened = happened(SLOT_VICTIM, run->tail);
	point.committed = atomic_load(&region->processes[SLOT_VICTIM].area.commit) != 0;
	point.ring = holds(pid, lock_ring(region));
	point.first = holds(pid, 0);
	point.last = holds(pid, 2);
	point.id = holds(pid, id_lock());
	point.hold = holds(pid, hold_lock());
	point.tail = point.happened ? region->processes[SLOT_VICTIM].area.new_tail : run->tail;
	step_kill(pid);
	point.image = image_now();
	return point;
}

/* Kills those who repair by OPERATION after the death at POINT. */
static unsigned repairs_by(const struct scenario *scenario, const struct point *point,
                           void (*operation)(uint32_t slot), uint32_t slot, uint32_t account)
{
	struct run run = {.operation = operation,
	                  .slot = slot,
	                  .image = point->image,
	                  .scenario = scenario,
	                  .victim_happened = point->happened,
	                  .account = account,
	                  .tail = point->tail};
	uint32_t step = stride * scenario->repair_stride * (point->typical ? 1 : OTHER_STRIDE);
	char what[96];

	memcpy(region->base, point->image, region->size);
	record(&run, point->typical ? note_difference : NULL);
	snprintf(what, sizeof what, "%s, left after %u; its repair", scenario->name, point->step);
	unsigned failures = deaths_of(&run, point->typical ? 0 : point->step % step, step, what);
	forget(&run);
	return failures;
}

/* After a typical death each way to repair it is taken, after another one of them, by TURN. */
static unsigned repairs_at(const struct scenario *scenario, const struct point *point,
                           unsigned turn)
{
	const struct {
		bool suits;
		void (*operation)(uint32_t slot);
		uint32_t slot, account;
	} ways[] = {
	    {point->first, read_first, SLOT_REPAIRER, ACCOUNTS},
	    {point->committed, adopt, SLOT_VICTIM, ACCOUNTS},
	    {point->ring, repair_ring_by_post, SLOT_REPAIRER, LONE_ACCOUNT},
	    {point->last, read_last, SLOT_REPAIRER, ACCOUNTS},
	    {point->id, look_for_id, SLOT_REPAIRER, ACCOUNTS},
	    {point->hold, look_for_hold, SLOT_REPAIRER, ACCOUNTS},
	    {point->first && !point->typical, repair_by_post, SLOT_REPAIRER, 0},
	};
	const unsigned count = sizeof ways / sizeof *ways;
	unsigned failures = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned way = (turn + i) % count;
		if (!ways[way].suits)
			continue;
		failures += repairs_by(scenario, point, ways[way].operation, ways[way].slot,
		                       ways[way].account);
		if (!point->typical)
			break;
	}
	return failures;
}

/*
 * The deaths just before and just after every change of state.  Two are typical, and repaired with
 * a death at every instruction: just committed, and in the middle of copying the images.
 */
static unsigned repairs_of(struct run *run)
{
	unsigned failures = 0, committed = 0, copying = 0;
	uint32_t last = UINT32_MAX;
	uint32_t every = run->scenario->repair_stride == 1 ? 1 : POINTS_EVERY;

	/* The recording of each path is what takes longest where the paths are long. */
	if (FIXTURE_SANITIZED)
		every *= POINTS_EVERY;

	for (uint32_t i = 0; i < 2 * change_count && failures < FAILURES_MAX; i++) {
		uint32_t step = changes[i / 2] - 1 + i % 2;
		if (step == last)
			continue;
		last = step;
		struct point point = leave(run, step);
		if (point.committed && point.ring)
			point.typical = committed++ == 0;
		else if (point.committed)
			point.typical = copying++ == 2;
		if (point.typical || i % every == 0)
			failures += repairs_at(run->scenario, &point, i);
		free(point.image);
	}
	return failures;
}

/* ---- all of it */

static void play(const struct scenario *scenario)
{
	begin(scenario);
	unsigned char *image = image_now();
	struct run run = {.operation = scenario->operation,
	                  .slot = SLOT_VICTIM,
	                  .image = image,
	                  .scenario = scenario,
	                  .account = ACCOUNTS,
	                  .tail = tail_now()};
	uint64_t began = clock_monotonic_us();

	record(&run, note_change);
	deaths = waiters = 0;
	unsigned failures = deaths_of(
	    &run, 0, stride * (scenario->stride != 0 ? scenario->stride : 1), scenario->name);
	ok(failures == 0, "%s: killed at %u of %u instructions, %u times with a waiter (%.1f s)",
	   scenario->name, deaths, run.path.steps + 1, waiters,
	   (double)(clock_monotonic_us() - began) / 1e6);
	if (scenario->repair_stride != 0) {
		began = clock_monotonic_us();
		deaths = waiters = 0;
		failures = repairs_of(&run);
		ok(failures == 0, "... and its repairs: %u deaths, %u times with a waiter (%.1f s)",
		   deaths, waiters, (double)(clock_monotonic_us() - began) / 1e6);
	}
	forget(&run);
	free(image);
	finish();
}

/* A tracer and a tracee that take turns are fastest on one processor. */
static void pin(void)
{
	cpu_set_t set;
	int here = sched_getcpu();

	CPU_ZERO(&set);
	CPU_SET(here < 0 ? 0 : (size_t)here, &set);
	sched_setaffinity(0, sizeof set, &set);
}

int main(void)
{
	/* Symbols bound late would send the first call of each function another way. */
	if (getenv("LD_BIND_NOW") == NULL && setenv("LD_BIND_NOW", "1", 1) == 0)
		execl("/proc/self/exe", "death-unit", (char *)NULL);
	if (!step_allowed())
		plan(SKIP_ALL, "ptrace(2) is not allowed here: %s", strerror(errno));
	plan(NO_PLAN);
	stride =
	    fixture_number("TALLYD_DEATH_STRIDE", FIXTURE_SANITIZED ? SANITIZED_STRIDE : STRIDE);
	neighbour.report = fixture_shared(sizeof *neighbour.report);
	pin();
	for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
		play(&scenarios[i]);
	return done_testing();
}
