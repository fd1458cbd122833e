/* The region: its shape, locks, ring, operations and counters; and the ledger on it. */
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/statvfs.h>

#include "../shm/lock.h"
#include "../shm/repair.h"
#include "../src/ledger/seal.h"
#include "region-fixture.h"

#define START       UINT64_C(4096)
#define LOCK_ROUNDS 2000

static struct region *region;  /* of the test that runs */
static _Atomic uint64_t *word; /* shared with children */

static struct region_marks *marks(void)
{
	return region_marks(region);
}

/* A region with STRIPES stripes, its journal begun. */
static void begin(uint64_t stripes)
{
	struct region_geometry geometry = fixture_geometry(stripes * 64);

	region = fixture_begun(&geometry, START);
	region_enter(region, 0);
	atomic_store(&word[0], 0);
}

static void end(void)
{
	region_close(region);
}

/* ---- the region */

static void refuses(struct region_geometry geometry, const char *what)
{
	errno = 0;
	ok(region_size(&geometry) == 0 && fixture_region(&geometry) == NULL && errno == EINVAL,
	   "refused: %s", what);
}

#define REFUSES(field, value)                                                                      \
	do {                                                                                       \
		struct region_geometry wrong = fixture_geometry(64);                               \
		wrong.field = (value);                                                             \
		refuses(wrong, #field " = " #value);                                               \
	} while (0)

static void test_geometry(void)
{
	struct region_geometry geometry = fixture_geometry(64);

	REFUSES(max_accounts, 0);
	REFUSES(max_accounts, 1000000001);
	REFUSES(max_ids, 0);
	REFUSES(max_ids, REGION_IDS_MIN - 1);
	REFUSES(max_ids, 1000000001);
	REFUSES(max_holds, 0);
	REFUSES(max_holds, REGION_HOLDS_MIN - 1);
	REFUSES(max_holds, 100000001);
	REFUSES(ring_size, REGION_RING_MIN / 2);
	REFUSES(ring_size, REGION_RING_MIN + 4096);
	REFUSES(ring_size, UINT64_C(1) << 33);
	REFUSES(segment_size, REGION_RING_MIN / 2);
	REFUSES(segment_size, REGION_RING_MIN + 8);
	REFUSES(processes, 0);
	REFUSES(processes, REGION_PROCESSES_MAX + 1);
	geometry.processes = REGION_PROCESSES_MAX;
	region = fixture_region(&geometry);
	ok(region != NULL && region->size == region_size(&geometry),
	   "the largest number of processes fits, in the size foretold");
	region_close(region);
}

static void test_no_space(void)
{
	struct region_geometry geometry = fixture_geometry(1000000000);
	const char *name = fixture_name();
	struct statvfs fs;

	if (statvfs("/dev/shm", &fs) != 0 || fs.f_blocks == 0 ||
	    fs.f_blocks * fs.f_frsize > region_size(&geometry)) {
		skip(2, "/dev/shm has no limit below %ju bytes", (uintmax_t)region_size(&geometry));
		return;
	}
	ok(region_create(name, &geometry) == NULL && errno == ENOSPC, "no room: ENOSPC");
	ok(region_unlink(name) != 0 && errno == ENOENT, "... and nothing is left behind");
}

static int write_through(void *argument)
{
	struct region *seen = argument;

	signal(SIGSEGV, SIG_DFL);
	seen->header->marks.events = 1;
	return 0;
}

static void test_inspect(void)
{
	struct region_geometry geometry = fixture_geometry(64);
	const char *name = fixture_name();

	region = region_create(name, &geometry);
	struct region *seen = region_inspect(name);
	ok(seen != NULL && region_geometry(seen)->epoch == geometry.epoch, "inspected");
	atomic_store(&region_marks(region)->events, 5);
	cmp_ok((intmax_t)region_marks(seen)->events, "==", 5, "it is the same memory");
	cmp_ok(fixture_run(write_through, seen), "==", -SIGSEGV, "a write through it faults");
	region_close(seen);
	region->header->version++;
	ok(region_inspect(name) == NULL && errno == EINVAL, "another version is refused");
	region->header->version--;
	region->header->magic++;
	ok(region_inspect(name) == NULL && errno == EINVAL, "another magic is refused");
	region->header->magic--;
	region->header->size++;
	ok(region_inspect(name) == NULL && errno == EINVAL, "another size is refused");
	region_unlink(name);
	ok(region_inspect(name) == NULL && errno == ENOENT, "a region that is not there");
	region_close(region);
}

static void test_replaces_stale(void)
{
	struct region_geometry geometry = fixture_geometry(64);
	const char *name = fixture_name();
	struct region *stale = region_create(name, &geometry);

	atomic_store(&region_marks(stale)->events, 9);
	region = region_create(name, &geometry);
	ok(region != NULL && region_marks(region)->events == 0, "a stale region is replaced");
	region_unlink(name);
	region_close(stale);
	end();
}

/* ---- locks */

/* Dies with the lock of the stripe that the argument points to. */
static int die_holding(void *argument)
{
	region_enter(region, 1);
	lock_acquire(region, *(uint32_t *)argument);
	kill(getpid(), SIGKILL);
	return 0;
}

static int acquires(void *argument)
{
	region_enter(region, 2);
	return lock_acquire(region, *(uint32_t *)argument) ? 0 : 1;
}

static void test_owner_dead(void)
{
	uint32_t stripe = 1;

	begin(3);
	cmp_ok(fixture_run(die_holding, &stripe), "==", -SIGKILL, "a process dies with a lock");
	ok(lock_acquire(region, stripe), "the lock is repaired");
	cmp_ok((intmax_t)counter_sum(region, COUNTER_LOCK_RECOVERIES), "==", 1, "... and counted");
	lock_release(region, stripe);
	ok(lock_acquire(region, stripe), "then it is a lock like any other");
	lock_release(region, stripe);
	cmp_ok((intmax_t)counter_sum(region, COUNTER_LOCK_RECOVERIES), "==", 1, "... counted once");
	ok(!region_poisoned(region), "the region is sound");
	end();
}

/* Holds the lock until somebody was alarmed. */
static int hold_until_alarm(void *argument)
{
	region_enter(region, 1);
	lock_acquire(region, *(uint32_t *)argument);
	atomic_store(&word[0], 1);
	bool alarmed = fixture_reaches(&counter_set(region, 0)->value[COUNTER_LOCK_ALARMS], 1);
	lock_release(region, *(uint32_t *)argument);
	return alarmed ? 0 : 1;
}

static uint32_t alarm_lock;
static unsigned alarm_seconds, alarm_calls;

static void on_alarm(uint32_t lock, unsigned seconds)
{
	alarm_lock = lock;
	alarm_seconds = seconds;
	alarm_calls++;
}

static void test_alarm(void)
{
	uint32_t stripe = 2;

	begin(3);
	region_on_alarm(region, on_alarm);
	pid_t pid = fixture_fork(hold_until_alarm, &stripe);
	fixture_reaches(&word[0], 1);
	uint64_t before = clock_monotonic_us();
	ok(lock_acquire(region, stripe), "a lock held for over a second is waited for");
	ok(clock_monotonic_us() - before >= 1000000, "... not stolen");
	lock_release(region, stripe);
	cmp_ok(fixture_wait(pid), "==", 0, "the alarm was counted");
	ok(alarm_calls >= 1 && alarm_lock == stripe && alarm_seconds == alarm_calls,
	   "... and called, once for each second");
	end();
}

/* Dies committed, with an area that makes no sense. */
static int die_inconsistent(void *argument)
{
	uint32_t stripe = *(uint32_t *)argument;
	struct operation_area *area = &region->processes[1].area;

	region_enter(region, 1);
	operation_lock(region, &stripe, 1);
	operation_stage(region, table_slot(region, stripe, 0), stripe, sizeof(struct account_slot),
	                0);
	area->new_tail = marks()->tail + 64;
	area->check = repair_check(area) + 1;
	atomic_store(&area->commit, marks()->tail);
	kill(getpid(), SIGKILL);
	return 0;
}

static void test_poison(void)
{
	uint32_t stripe = 0, other = 1, ring;
	struct account_view view;

	begin(2);
	ring = lock_ring(region);
	struct ledger *ledger = ledger_open(region, 0, NULL);
	fixture_run(die_inconsistent, &stripe);
	cmp_ok(fixture_run(acquires, &stripe), "==", 1, "an inconsistent repair fails");
	ok(region_poisoned(region), "... and poisons the region");
	ok(!lock_acquire(region, stripe), "its lock is not acquired any more");
	ok(!lock_acquire(region, other) && !lock_acquire(region, other), "nor another stripe's");
	ok(!lock_acquire(region, ring), "nor the ring's");
	cmp_ok(fixture_run(acquires, &other), "==", 1, "nor by another process");
	ok(!operation_lock(region, &other, 1), "no operation begins");
	cmp_ok(fixture_post(ledger, "x", 1).outcome, "==", OUTCOME_POISONED, "a post is refused");
	cmp_ok(ledger_read(ledger, "x", 1, &view), "==", OUTCOME_POISONED, "a read is refused");
	cmp_ok(ledger_mark(ledger, 1), "==", OUTCOME_POISONED, "a mark is refused");
	ledger_close(ledger);
	ok((ledger = ledger_open(region, 1, NULL)) == NULL && errno == ENOTRECOVERABLE,
	   "the slot of the dead cannot be adopted");
	end();
}

/* What may be wrong with a committed area, although its check says that it was meant so. */
enum nonsense {
	NOT_NONSENSE,
	TOO_MANY_LOCKS,
	TOO_MANY_IMAGES,
	TOO_LONG_A_GROUP,
	AN_EMPTY_GROUP,
	AN_IMAGE_OF_NOTHING,
	TOO_LONG_AN_IMAGE,
	AN_UNEVEN_IMAGE,
	A_CELL_IN_THE_HEADER,
	A_CELL_BETWEEN_SLOTS,
	A_CELL_BEYOND_THE_SLOTS,
	TWO_IMAGES_OF_A_CELL,
	ANOTHER_CELLS_LOCK,
	A_LOCK_NOT_NAMED,
	A_RECORD_BEYOND_THE_GROUP,
	A_RECORD_BETWEEN_WORDS,
	HALF_AN_ID,
	AN_ID_IN_THE_TAGS,
	AN_ID_BEYOND,
	A_HOLD_BETWEEN_SLOTS,
	A_HOLD_BEYOND,
	TOO_LONG_A_SEAL,
	ANOTHER_LOCK_OF_THE_SEAL,
	NONSENSES
};

static const char *const nonsense_names[NONSENSES] = {
    "nothing",
    "too many locks",
    "too many images",
    "a group that is too long",
    "an empty group",
    "an image of nothing but the LSN",
    "an image longer than its cell",
    "an image that ends between words",
    "a cell in the header",
    "a cell between slots",
    "a cell beyond the slots",
    "two images of one cell",
    "a cell that another lock covers",
    "a lock that is not held",
    "a record beyond the group",
    "a record between words",
    "half an id",
    "an id among the tags",
    "an id beyond the last",
    "a hold between slots",
    "a hold beyond the last",
    "an image longer than the seal",
    "the seal under another stripe",
};

static void spoil(struct operation_area *area, enum nonsense nonsense)
{
	const struct shape *shape = &region->header->shape;
	struct image *account = &area->image[0], *id = &area->image[1], *seal = &area->image[3];

	switch (nonsense) {
	case NOT_NONSENSE:
	case NONSENSES:
		break;
	case TOO_MANY_LOCKS:
		area->locks = OPERATION_LOCKS_MAX + 1;
		break;
	case TOO_MANY_IMAGES:
		area->images = OPERATION_IMAGES_MAX + 1;
		break;
	case TOO_LONG_A_GROUP:
		area->new_tail = marks()->tail + OPERATION_BYTES_MAX + 8;
		break;
	case AN_EMPTY_GROUP:
		area->new_tail = marks()->tail;
		break;
	case AN_IMAGE_OF_NOTHING:
		account->length = 8;
		break;
	case TOO_LONG_AN_IMAGE:
		account->length = sizeof(struct account_slot) + 8;
		break;
	case AN_UNEVEN_IMAGE:
		account->length = 20;
		break;
	case A_CELL_IN_THE_HEADER:
		area->cell[0] = 64;
		break;
	case A_CELL_BETWEEN_SLOTS:
		area->cell[0] += 64;
		break;
	case A_CELL_BEYOND_THE_SLOTS:
		area->cell[0] =
		    shape->slots_at + region_slots(region) * sizeof(struct account_slot);
		break;
	case TWO_IMAGES_OF_A_CELL:
		area->cell[4] = area->cell[0];
		break;
	case ANOTHER_CELLS_LOCK:
		area->cell[0] += table_stripe_slots(region) * sizeof(struct account_slot);
		break;
	case A_LOCK_NOT_NAMED:
		area->lock[0] = area->lock[1]; /* the first stripe's */
		break;
	case A_RECORD_BEYOND_THE_GROUP:
		id->record = 96;
		break;
	case A_RECORD_BETWEEN_WORDS:
		id->record = 4;
		break;
	case HALF_AN_ID:
		id->length = 16;
		break;
	case AN_ID_IN_THE_TAGS:
		area->cell[1] = shape->ids_at;
		break;
	case AN_ID_BEYOND:
		area->cell[1] += shape->id_buckets * sizeof(struct id_bucket);
		break;
	case A_HOLD_BETWEEN_SLOTS:
		area->cell[2] += 64;
		break;
	case A_HOLD_BEYOND:
		area->cell[2] += shape->hold_slots * sizeof(struct hold_slot);
		break;
	case TOO_LONG_A_SEAL:
		seal->length = sizeof(struct region_seal) + 8;
		break;
	case ANOTHER_LOCK_OF_THE_SEAL:
		seal->lock = 1;
		break;
	}
}

/* Dies committed, with an image of each kind of cell, and with what *ARGUMENT says wrong. */
static int die_with_nonsense(void *argument)
{
	struct operation_area *area = &region->processes[1].area;
	struct key any = {0};
	const uint32_t locks[] = {0, 1, ids_lock(region, &any), holds_lock(region, &any)};

	region_enter(region, 1);
	operation_lock(region, locks, 4);
	operation_stage(region, table_slot(region, 0, 0), 0, 32, 0);
	operation_stage(region, ids_slot(region, 0), locks[2], sizeof(struct id_slot), 48);
	operation_stage(region, holds_slot(region, 0), locks[3], sizeof(struct hold_slot), 48);
	operation_stage(region, region_seal(region), 0, sizeof(struct region_seal), 48);
	operation_stage(region, table_slot(region, 1, 0), 1, 32, 0);
	area->new_tail = marks()->tail + 96;
	spoil(area, *(enum nonsense *)argument);
	if (area->locks <= OPERATION_LOCKS_MAX && area->images <= OPERATION_IMAGES_MAX)
		area->check = repair_check(area);
	atomic_store(&area->commit, marks()->tail);
	kill(getpid(), SIGKILL);
	return 0;
}

static void test_nonsense(void)
{
	uint32_t stripe = 1;

	for (enum nonsense nonsense = 0; nonsense < NONSENSES; nonsense++) {
		begin(2);
		fixture_run(die_with_nonsense, &nonsense);
		int refused = fixture_run(acquires, &stripe);
		ok(refused == (nonsense != NOT_NONSENSE) &&
		       region_poisoned(region) == (nonsense != NOT_NONSENSE),
		   "an area with %s: %s", nonsense_names[nonsense],
		   nonsense == NOT_NONSENSE ? "repaired" : "poison");
		end();
	}
}

/* ---- the ring */

static enum ring_status place(size_t length, enum ring_priority priority, uint64_t *lsn)
{
	lock_acquire(region, lock_ring(region));
	enum ring_status status = ring_place(region, length, priority, lsn);
	lock_release(region, lock_ring(region));
	return status;
}

static void test_segment_end(void)
{
	begin(1);
	uint64_t first = region->header->segment_end;
	cmp_ok((intmax_t)ring_segment_end(region, START), "==", (intmax_t)first,
	       "the first segment");
	cmp_ok((intmax_t)ring_segment_end(region, first), "==", (intmax_t)first,
	       "an end belongs to the segment that it ends");
	cmp_ok((intmax_t)ring_segment_end(region, first + 1),
	       "==", (intmax_t)(first + FIXTURE_SEGMENT), "the next segment");
	cmp_ok((intmax_t)ring_segment_end(region, first + FIXTURE_SEGMENT),
	       "==", (intmax_t)(first + FIXTURE_SEGMENT), "its end");
	cmp_ok((intmax_t)ring_segment_end(region, first + FIXTURE_SEGMENT + 1),
	       "==", (intmax_t)(first + 2 * FIXTURE_SEGMENT), "and the one after it");
	end();
}

/* Fills RECORDS with LENGTH bytes of records, none longer than WHOLE; returns LENGTH. */
static size_t make_group(unsigned char *records, size_t length, size_t whole)
{
	for (size_t at = 0; at < length;) {
		size_t next = length - at < whole ? length - at : whole;
		if (length - at != next && length - at - next < JOURNAL_RECORD_MIN)
			next -= JOURNAL_RECORD_MIN;
		region->codec.pad(records + at, next);
		at += next;
	}
	return length;
}

/* Are there sound records from FROM to TO, and nothing else?  Counts them. */
static bool sound(uint64_t from, uint64_t to, unsigned *count)
{
	_Alignas(8) unsigned char bytes[JOURNAL_RECORD_MAX];

	for (*count = 0; from < to; ++*count) {
		size_t have = to - from < sizeof bytes ? (size_t)(to - from) : sizeof bytes;
		ring_read(region, from, bytes, have);
		size_t length = record_check(bytes, have, from, FIXTURE_KEY);
		if (length == 0)
			return false;
		from += length;
	}
	return from == to;
}

static bool zero(uint64_t from, uint64_t to)
{
	unsigned char byte;

	for (; from < to; from++) {
		ring_read(region, from, &byte, 1);
		if (byte != 0)
			return false;
	}
	return true;
}

/* Commits a group of LENGTH bytes with LEFT bytes free in the segment; the group's LSN. */
static uint64_t commit_with_left(size_t length, uint64_t left)
{
	static _Alignas(8) unsigned char records[OPERATION_BYTES_MAX];
	uint64_t lsn = 0;

	atomic_store(&marks()->released, marks()->tail);
	region->header->segment_end = marks()->tail + left;
	memset(region->ring, 0xee, region_geometry(region)->ring_size);
	operation_lock(region, NULL, 0);
	make_group(records, length, 400);
	if (operation_commit(region, records, length, 1, RING_CLIENT, &lsn) != RING_OK)
		lsn = 0;
	operation_unlock(region);
	return lsn;
}

/* Every gap that a group may leave: fillers as few as can be, and never an end that none fills. */
static void test_segments(void)
{
	unsigned records, good = 0, checked = 0;
	uint64_t tail;

	begin(1);
	record_install(region);
	tail = marks()->tail;
	cmp_ok((intmax_t)commit_with_left(OPERATION_BYTES_MAX, OPERATION_BYTES_MAX),
	       "==", (intmax_t)tail, "a group that just fits ends a segment");
	for (uint64_t left = 0; left < OPERATION_BYTES_MAX; left += 8) {
		tail = marks()->tail;
		size_t length = left + 8 < JOURNAL_RECORD_MIN ? JOURNAL_RECORD_MIN : left + 8;
		uint64_t lsn = commit_with_left(length, left), begun = tail + left + SEGMENT_HEAD;
		bool gap =
		    left < JOURNAL_RECORD_MIN
		        ? zero(tail, tail + left)
		        : sound(tail, tail + left, &records) &&
		              records == (left + JOURNAL_RECORD_MAX - 1) / JOURNAL_RECORD_MAX;
		bool group = lsn == begun && sound(begun, begun + length, &records) &&
		             marks()->tail == begun + length;
		checked++;
		good += gap && group;
		if (!(gap && group) && good + 3 > checked)
			diag("%ju bytes left: %s", (uintmax_t)left,
			     gap ? "the group is wrong" : "the gap is");
	}
	cmp_ok(good, "==", checked, "each gap up to %d bytes is filled, and the group follows",
	       OPERATION_BYTES_MAX - 8);
	end();
}

/* The largest group behind the largest gap, again and again, in the smallest ring. */
static void test_largest_groups(void)
{
	unsigned taken = 0;

	begin(1);
	record_install(region);
	for (int round = 0; round < 20; round++)
		taken += commit_with_left(OPERATION_BYTES_MAX, OPERATION_BYTES_MAX - 8) != 0;
	cmp_ok(taken, "==", 20, "there is always room for it when all is released");
	end();
}

static void test_ring_wraps(void)
{
	_Alignas(8) unsigned char bytes[JOURNAL_RECORD_MAX];
	struct ledger *ledger;
	unsigned posts = 0, sound = 0, wrapped = 0;

	begin(1);
	ledger = ledger_open(region, 0, NULL);
	while (marks()->tail < 5 * REGION_RING_MIN) {
		struct result result = fixture_post(ledger, "wrap", 1);
		size_t length = (size_t)(marks()->tail - result.lsn);
		struct iovec piece[2];
		ring_read(region, result.lsn, bytes, length);
		posts++;
		sound += record_check(bytes, length, result.lsn, FIXTURE_KEY) == length;
		wrapped += ring_pieces(region, result.lsn, result.lsn + length, piece) == 2;
		atomic_store(&marks()->released, marks()->tail);
	}
	cmp_ok(sound, "==", posts, "each record is sound, round after round");
	ok(wrapped > 0, "... also those across the end of the ring (%u of %u)", wrapped, posts);
	ledger_close(ledger);
	end();
}

static void test_ring_full(void)
{
	uint64_t lsn, tail;
	struct ledger *ledger;
	struct account_view before, after;

	begin(1);
	ledger = ledger_open(region, 0, NULL);
	while (fixture_post(ledger, "full", 1).outcome == OUTCOME_ACCEPTED)
		;
	tail = marks()->tail;
	uint64_t used = tail - START;
	ok(used <= REGION_RING_MIN - RING_RESERVE && used > REGION_RING_MIN - RING_RESERVE - 256,
	   "clients fill the ring but for its reserve");
	cmp_ok(ledger_health(ledger), "==", OUTCOME_QUEUE_FULL, "ledger_health says so");
	ledger_read(ledger, "full", 4, &before);
	cmp_ok(fixture_post(ledger, "full", 1).outcome, "==", OUTCOME_QUEUE_FULL, "queue full");
	cmp_ok(fixture_post(ledger, "other", 1).outcome, "==", OUTCOME_QUEUE_FULL,
	       "... for a new account too");
	ledger_read(ledger, "full", 4, &after);
	ok(before.balance == after.balance && before.version == after.version &&
	       before.lsn == after.lsn && marks()->tail == tail &&
	       ledger_read(ledger, "other", 5, &after) == OUTCOME_UNKNOWN_ACCOUNT,
	   "and nothing is changed by it");
	cmp_ok(place(RING_RESERVE, RING_INTERNAL, &lsn), "==", RING_OK, "the reserve is there");
	cmp_ok(place(RING_RESERVE + 256, RING_INTERNAL, &lsn), "==", RING_FULL, "... and no more");
	cmp_ok(ledger_mark(ledger, 1), "==", OUTCOME_ACCEPTED, "the journal writer's own fit");
	atomic_store(&marks()->released, marks()->tail);
	cmp_ok(fixture_post(ledger, "full", 1).outcome, "==", OUTCOME_ACCEPTED,
	       "released, it takes events again");
	ledger_close(ledger);
	end();
}

static void test_queue_events(void)
{
	struct ledger *ledger;

	begin(1);
	ledger = ledger_open(region, 0, NULL);
	atomic_store(&region_settings(region)->queue_events, 3);
	for (int i = 0; i < 3; i++)
		cmp_ok(fixture_post(ledger, "q", 1).outcome, "==", OUTCOME_ACCEPTED, "event %d", i);
	cmp_ok(fixture_post(ledger, "q", 1).outcome, "==", OUTCOME_QUEUE_FULL, "the fourth waits");
	cmp_ok(ledger_health(ledger), "==", OUTCOME_QUEUE_FULL, "ledger_health says so");
	cmp_ok((intmax_t)ledger_pending(ledger), "==", 3, "three are pending");
	cmp_ok(ledger_mark(ledger, 1), "==", OUTCOME_ACCEPTED, "marks are no events");
	atomic_store(&marks()->drain_rate, 2);
	cmp_ok(ledger_retry_after(ledger), "==", 2, "three at two a second: retry after 2 s");
	atomic_store(&marks()->drain_rate, 0);
	cmp_ok(ledger_retry_after(ledger), "==", 1, "an unknown rate: 1 s");
	atomic_store(&marks()->released_events, 1);
	cmp_ok(fixture_post(ledger, "q", 1).outcome, "==", OUTCOME_ACCEPTED,
	       "one released, one fits");
	atomic_store(&marks()->events, 1000000);
	atomic_store(&marks()->drain_rate, 1);
	cmp_ok(ledger_retry_after(ledger), "==", 60, "never more than a minute");
	ledger_close(ledger);
	end();
}

static void test_disk(void)
{
	struct ledger *ledger;
	uint64_t lsn;

	begin(1);
	ledger = ledger_open(region, 0, NULL);
	atomic_store(&marks()->space, marks()->tail + SPACE_RESERVE + 120);
	cmp_ok(fixture_post(ledger, "d", 1).outcome, "==", OUTCOME_ACCEPTED, "the last that fits");
	cmp_ok(fixture_post(ledger, "d", 1).outcome, "==", OUTCOME_QUEUE_FULL,
	       "no journal is preallocated yet: the queue is full");
	atomic_store(&marks()->disk_full, 1);
	cmp_ok(fixture_post(ledger, "d", 1).outcome, "==", OUTCOME_DISK_FULL,
	       "none can be: the disk is full");
	cmp_ok(ledger_health(ledger), "==", OUTCOME_DISK_FULL, "ledger_health says so");
	cmp_ok(ledger_mark(ledger, 1), "==", OUTCOME_ACCEPTED,
	       "the journal writer has its reserve");
	cmp_ok(place(SPACE_RESERVE + 100, RING_INTERNAL, &lsn), "==", RING_NO_SPACE,
	       "... which ends too");
	atomic_store(&marks()->space, FIXTURE_SPACE);
	atomic_store(&marks()->disk_full, 0);
	cmp_ok(fixture_post(ledger, "d", 1).outcome, "==", OUTCOME_ACCEPTED, "it heals");
	atomic_store(&marks()->failed, EIO);
	cmp_ok(fixture_post(ledger, "d", 1).outcome, "==", OUTCOME_JOURNAL_FAILED,
	       "journal failed");
	cmp_ok(ledger_mark(ledger, 1), "==", OUTCOME_JOURNAL_FAILED, "... for the writer too");
	cmp_ok(ledger_health(ledger), "==", OUTCOME_JOURNAL_FAILED, "ledger_health says so");
	ledger_close(ledger);
	end();
}

/* ---- operations */

static bool held(uint32_t number)
{
	pthread_mutex_t *mutex = &region->locks[number].mutex;

	if (pthread_mutex_trylock(mutex) == EBUSY)
		return true;
	pthread_mutex_unlock(mutex);
	return false;
}

static int sees_held(void *argument)
{
	const uint32_t *lock = argument;

	for (uint32_t i = 0; i < 8; i++)
		if (held(i) != (i == lock[0] || i == lock[1] || i == lock[2]))
			return 1;
	return 0;
}

static void test_lock_list(void)
{
	static const uint32_t wanted[] = {5, 1, 3, 1, 5, 5};
	uint32_t expected[] = {1, 3, 5}, none[] = {99, 99, 99};
	const struct operation_area *area;

	begin(8);
	area = &region->processes[0].area;
	ok(operation_lock(region, wanted, 6), "locked with repeats, in any order");
	ok(area->locks == 3 && memcmp(area->lock, expected, sizeof expected) == 0,
	   "each once, ascending");
	cmp_ok(fixture_run(sees_held, expected), "==", 0, "these are held, no others");
	operation_unlock(region);
	cmp_ok(fixture_run(sees_held, none), "==", 0, "unlocked");
	end();
}

/* As many stripes and cells as one operation may have, changed by three records. */
static void test_most_cells(void)
{
	static _Alignas(8) unsigned char records[3 * JOURNAL_RECORD_MIN];
	uint32_t stripes[OPERATION_LOCKS_MAX];
	uint64_t lsn;
	unsigned good = 0;

	begin(OPERATION_LOCKS_MAX);
	record_install(region);
	for (uint32_t i = 0; i < OPERATION_LOCKS_MAX; i++)
		stripes[i] = OPERATION_LOCKS_MAX - 1 - i;
	ok(operation_lock(region, stripes, OPERATION_LOCKS_MAX), "the most stripes");
	for (uint32_t i = 0; i < OPERATION_IMAGES_MAX; i++) {
		struct account_slot *cell = table_slot(region, i / 2, i % 2);
		struct account_slot *after =
		    operation_stage(region, cell, i / 2, sizeof *cell, i % 3 * JOURNAL_RECORD_MIN);
		after->balance = i + 1;
		good += cell->balance == 0 &&
		        operation_images_left(region) == OPERATION_IMAGES_MAX - 1 - i;
	}
	cmp_ok(good, "==", OPERATION_IMAGES_MAX, "nothing shared has changed yet");
	ok(operation_stage(region, table_slot(region, 30, 0), 30, 8, 0) == NULL &&
	       operation_images_left(region) == 0,
	   "one cell more is refused");
	for (size_t i = 0; i < 3; i++)
		record_plain(records + i * JOURNAL_RECORD_MIN, RECORD_MARK, NULL, 0, i);
	cmp_ok(operation_commit(region, records, sizeof records, 3, RING_CLIENT, &lsn),
	       "==", RING_OK, "committed");
	for (uint32_t i = 0; i < OPERATION_IMAGES_MAX; i++) {
		const struct account_slot *cell = table_slot(region, i / 2, i % 2);
		good += cell->balance == i + 1 && cell->lsn == lsn + i % 3 * JOURNAL_RECORD_MIN;
	}
	operation_unlock(region);
	cmp_ok(good, "==", 2 * OPERATION_IMAGES_MAX, "every cell has its image and its LSN");
	cmp_ok((intmax_t)marks()->events, "==", 3, "three events are counted");
	end();
}

/* The overlay: what later members of a group see. */
static void test_staging(void)
{
	static _Alignas(8) unsigned char records[2 * JOURNAL_RECORD_MIN];
	uint32_t stripe = 0, record = 99;
	uint64_t lsn;
	void *seen;

	begin(1);
	record_install(region);
	struct account_slot *cell = table_slot(region, 0, 3), *other = table_slot(region, 0, 4);
	*cell = (struct account_slot){
	    .hash = 5, .balance = 10, .frozen = 1, .name_length = 1, .name = "a"};
	operation_lock(region, &stripe, 1);
	ok(operation_staged(region, cell, NULL) == NULL, "nothing is staged yet");
	struct account_slot *after = operation_stage(region, cell, 0, 40, 0);
	after->balance = 11;
	ok(operation_staged(region, cell, &record) == after && record == 0, "one cell is");
	cell->frozen = 2; /* as nobody may: to see what is copied when */
	ok(operation_stage(region, cell, 0, sizeof *cell, JOURNAL_RECORD_MIN) == after &&
	       after->balance == 11 && after->frozen == 2 && after->name[0] == 'a',
	   "staged again, longer, it keeps its image, and gets the rest");
	ok(operation_stage(region, cell, 0, 16, JOURNAL_RECORD_MIN) == after &&
	       region->processes[0].area.image[0].length == sizeof *cell,
	   "... which a shorter one does not take away");
	ok(operation_staged(region, cell, &record) == after && record == JOURNAL_RECORD_MIN,
	   "the newer record changed it");
	((struct account_slot *)operation_stage(region, other, 0, sizeof *other, 0))->balance = 7;
	ok(operation_image(region, 0, &seen) == after && seen == cell &&
	       operation_image(region, 1, &seen) != NULL && seen == other &&
	       operation_image(region, 2, &seen) == NULL,
	   "one by one");
	record_plain(records, RECORD_MARK, NULL, 0, 1);
	record_plain(records + JOURNAL_RECORD_MIN, RECORD_MARK, NULL, 0, 1);
	operation_commit(region, records, sizeof records, 2, RING_CLIENT, &lsn);
	operation_unlock(region);
	ok(cell->balance == 11 && cell->lsn == lsn + JOURNAL_RECORD_MIN && other->balance == 7 &&
	       other->lsn == lsn,
	   "committed, each with the LSN of the record that changed it last");
	operation_lock(region, &stripe, 1);
	ok(operation_staged(region, cell, NULL) == NULL, "then nothing is staged");
	operation_unlock(region);
	end();
}

/* Only the bytes that may change are copied. */
static void test_short_image(void)
{
	_Alignas(8) unsigned char bytes[JOURNAL_RECORD_MIN];
	uint32_t stripe = 0;
	uint64_t lsn;

	begin(1);
	record_install(region);
	struct account_slot *cell = table_slot(region, 0, 0);
	operation_lock(region, &stripe, 1);
	struct account_slot *after = operation_stage(region, cell, 0, 32, 0);
	after->balance = 1;
	after->held = 2; /* at 24 */
	after->floor = 3;
	record_plain(bytes, RECORD_MARK, NULL, 0, 1);
	operation_commit(region, bytes, sizeof bytes, 1, RING_CLIENT, &lsn);
	operation_unlock(region);
	ok(cell->balance == 1 && cell->held == 2 && cell->floor == 0,
	   "LENGTH says how much of a cell may change");
	end();
}

static int lock_often(void *argument)
{
	uint32_t forth[] = {0, 1, 2}, back[] = {2, 1, 0};
	uint32_t slot = *(uint32_t *)argument;

	region_enter(region, slot);
	for (unsigned i = 0; i < LOCK_ROUNDS; i++) {
		if (!operation_lock(region, slot == 0 ? forth : back, 3))
			return 1;
		operation_unlock(region);
	}
	return 0;
}

static void test_no_deadlock(void)
{
	uint32_t slot[] = {0, 1};

	begin(3);
	pid_t one = fixture_fork(lock_often, &slot[0]), two = fixture_fork(lock_often, &slot[1]);
	int first = fixture_wait(one), second = fixture_wait(two);
	ok(first == 0 && second == 0, "two who lock the same in opposite order never wait forever");
	end();
}

/* Dies committed, with two stripes and the ring, and with nothing done yet. */
static int die_committed(void *argument)
{
	static const uint32_t stripes[] = {0, 1};
	struct operation_area *area = &region->processes[1].area;

	(void)argument;
	region_enter(region, 1);
	operation_lock(region, stripes, 2);
	for (uint32_t i = 0; i < 2; i++) {
		struct account_slot *after =
		    operation_stage(region, table_slot(region, i, 0), i, sizeof *after, 0);
		after->balance = 42 + i;
	}
	lock_acquire(region, lock_ring(region));
	area->new_tail = marks()->tail + 64;
	area->new_events = marks()->events + 1;
	area->check = repair_check(area);
	atomic_store(&area->commit, marks()->tail);
	kill(getpid(), SIGKILL);
	return 0;
}

static int adopt(void *argument)
{
	(void)argument;
	region_enter(region, 1);
	return operation_adopt(region) ? 0 : 1;
}

/* Waits until somebody sleeps for lock NUMBER (glibc's lock word says so).  False: nobody did. */
static bool somebody_waits(uint32_t number)
{
	const int *state = &region->locks[number].mutex.__data.__lock;
	uint64_t until = clock_monotonic_us() + (uint64_t)fixture_deadline() * 1000000;

	while (((uint32_t)__atomic_load_n(state, __ATOMIC_SEQ_CST) & FUTEX_WAITERS) == 0) {
		if (clock_monotonic_us() > until)
			return false;
		sched_yield();
	}
	return true;
}

static void test_adopt(void)
{
	begin(2);
	uint64_t tail = marks()->tail;
	fixture_run(die_committed, NULL);
	lock_acquire(region, 1); /* repairs it, and stays */
	cmp_ok(table_slot(region, 1, 0)->balance, "==", 43, "the image is applied");
	ok(marks()->tail == tail + 64 && marks()->events == 1, "the tail and the count have moved");
	cmp_ok(table_slot(region, 0, 0)->balance, "==", 0, "the other stripe waits for its owner");
	pid_t pid = fixture_fork(adopt, NULL);
	ok(somebody_waits(1), "an adopter waits while a stripe is held");
	cmp_ok(table_slot(region, 0, 0)->balance, "==", 42, "... having repaired the one before");
	/* Else somebody could repair that one from the area while it is written anew. */
	ok(held(0), "... and holding it until the area is free");
	ok(region->processes[1].area.commit != 0, "which it is not yet");
	lock_release(region, 1);
	cmp_ok(fixture_wait(pid), "==", 0, "then it adopts");
	cmp_ok((intmax_t)region->processes[1].area.commit, "==", 0, "and the area is free");
	end();
}

/* ---- counters */

static void test_counters(void)
{
	begin(1);
	for (uint32_t slot = 0; slot < 4; slot++)
		counter_add(counter_set(region, slot), COUNTER_REQUESTS, slot + 1);
	counter_add(counter_set(region, 3), COUNTER_REQUESTS, 10);
	cmp_ok((intmax_t)counter_sum(region, COUNTER_REQUESTS), "==", 20,
	       "counters sum over slots");
	counter_store(counter_set(region, 1), COUNTER_CONNECTIONS_OPEN, 5);
	counter_store(counter_set(region, 2), COUNTER_CONNECTIONS_OPEN, 6);
	region_reset_slot(region, 1);
	cmp_ok((intmax_t)counter_sum(region, COUNTER_CONNECTIONS_OPEN), "==", 6,
	       "a slot's gauge goes with its owner");
	cmp_ok((intmax_t)counter_sum(region, COUNTER_REQUESTS), "==", 20, "... its counters stay");
	end();
}

/* ---- the ledger */

static void test_post_and_read(void)
{
	struct ledger *ledger;
	struct account_view view;
	struct result first, second, other;

	begin(1);
	ledger = ledger_open(region, 0, NULL);
	cmp_ok(ledger_read(ledger, "alice", 5, &view), "==", OUTCOME_UNKNOWN_ACCOUNT, "unknown");
	first = fixture_post(ledger, "alice", 100);
	other = fixture_post(ledger, "bob", 1);
	second = fixture_post(ledger, "alice", -5);
	ok(first.outcome == OUTCOME_ACCEPTED && first.leg[0].balance == 100 &&
	       first.leg[0].version == 1,
	   "the first event makes the account");
	ok(second.outcome == OUTCOME_ACCEPTED && second.leg[0].balance == 95 &&
	       second.leg[0].version == 2,
	   "the second changes it");
	ok(first.lsn < other.lsn && other.lsn < second.lsn && second.lsn < marks()->tail,
	   "LSNs ascend");
	cmp_ok(ledger_read(ledger, "alice", 5, &view), "==", OUTCOME_ACCEPTED, "it is read");
	ok(view.balance == 95 && view.held == 0 && view.version == 2 && view.lsn == second.lsn &&
	       view.created_us == 1000 && view.updated_us == 1000,
	   "... as it is");
	cmp_ok((intmax_t)ledger_pending(ledger), "==", 3, "three events wait for the disk");
	cmp_ok((intmax_t)ledger_released(ledger), "==", (intmax_t)START, "none is released");
	cmp_ok(ledger_health(ledger), "==", OUTCOME_ACCEPTED, "healthy");
	ledger_close(ledger);
	end();
}

static void test_overflow(void)
{
	static const int64_t edge[] = {INT64_MAX, INT64_MIN};
	struct ledger *ledger;
	struct account_view view;

	begin(1);
	ledger = ledger_open(region, 0, NULL);
	for (int i = 0; i < 2; i++) {
		const char *name = i == 0 ? "high" : "low";
		int64_t step = i == 0 ? 1 : -1;
		struct result at = fixture_post(ledger, name, edge[i]);
		uint64_t tail = marks()->tail;
		ok(at.outcome == OUTCOME_ACCEPTED && at.leg[0].balance == edge[i], "%s: the edge",
		   name);
		struct result over = fixture_post(ledger, name, step);
		ok(over.outcome == OUTCOME_OVERFLOW && over.lsn == at.lsn,
		   "one beyond it overflows, and relies on the last record");
		ledger_read(ledger, name, (uint32_t)strlen(name), &view);
		ok(view.balance == edge[i] && view.version == 1 && marks()->tail == tail,
		   "nothing is applied or written");
		cmp_ok(fixture_post(ledger, name, -step).outcome, "==", OUTCOME_ACCEPTED,
		       "back from the edge");
	}
	ledger_close(ledger);
	end();
}

static void test_names(void)
{
	struct ledger *ledger;
	char name[ACCOUNT_NAME_MAX + 1];
	struct account_view view;

	begin(1);
	ledger = ledger_open(region, 0, NULL);
	memset(name, 'x', ACCOUNT_NAME_MAX);
	name[ACCOUNT_NAME_MAX] = '\0';
	cmp_ok(fixture_post(ledger, name, 7).outcome, "==", OUTCOME_ACCEPTED,
	       "a name of 100 bytes");
	cmp_ok(fixture_post(ledger, "x", 8).outcome, "==", OUTCOME_ACCEPTED, "a name of 1 byte");
	cmp_ok(fixture_post(ledger, name + 1, 9).outcome, "==", OUTCOME_ACCEPTED, "one of 99");
	ledger_read(ledger, name, ACCOUNT_NAME_MAX, &view);
	cmp_ok(view.balance, "==", 7, "the longest keeps its own");
	ledger_read(ledger, "x", 1, &view);
	cmp_ok(view.balance, "==", 8, "the shortest its own");
	ledger_close(ledger);
	end();
}

static void test_plain_records(void)
{
	const struct seal_link link = {.from = 1, .to = 2, .hash = 3};
	struct ledger *ledger;

	begin(1);
	ledger = ledger_open(region, 0, NULL);
	uint64_t tail = marks()->tail;
	cmp_ok(ledger_seal(ledger, &link, 1), "==", OUTCOME_ACCEPTED, "a seal");
	ok(region_seal(region)->lsn == tail && region_seal(region)->to == 2 &&
	       region_seal(region)->hash == 3,
	   "is remembered");
	cmp_ok(ledger_stop(ledger, 1), "==", OUTCOME_ACCEPTED, "a stop");
	cmp_ok((intmax_t)ledger_pending(ledger), "==", 0, "are no events");
	ledger_close(ledger);
	end();
}

int main(void)
{
	plan(NO_PLAN);
	word = fixture_shared(sizeof *word);
	test_geometry();
	test_no_space();
	test_inspect();
	test_replaces_stale();
	test_owner_dead();
	test_alarm();
	test_poison();
	test_nonsense();
	test_segment_end();
	test_segments();
	test_largest_groups();
	test_ring_wraps();
	test_ring_full();
	test_queue_events();
	test_disk();
	test_lock_list();
	test_most_cells();
	test_staging();
	test_short_image();
	test_no_deadlock();
	test_adopt();
	test_counters();
	test_post_and_read();
	test_overflow();
	test_names();
	test_plain_records();
	return done_testing();
}
