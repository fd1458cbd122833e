/* The region: its shape, table, locks, ring, operations and counters; and the ledger on it. */
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

/* ---- the table */

/* Puts NAME into the table, if its stripe has room. */
static bool put(const char *name)
{
	uint32_t length = (uint32_t)strlen(name);
	uint64_t hash = fixture_hash(region, name, length);
	struct account_slot *slot;

	table_find(region, table_stripe(region, hash), hash, name, length, &slot);
	if (slot == NULL)
		return false;
	slot->lsn = 1;
	slot->hash = hash;
	slot->name_length = (uint8_t)length;
	memcpy(slot->name, name, length);
	return true;
}

static bool has(const char *name)
{
	uint32_t length = (uint32_t)strlen(name);
	uint64_t hash = fixture_hash(region, name, length);
	const struct account_slot *slot =
	    table_find(region, table_stripe(region, hash), hash, name, length, NULL);

	return slot != NULL && memcmp(slot->name, name, length) == 0;
}

static void test_brim(void)
{
	enum { STRIPES = 3 };
	unsigned taken[STRIPES] = {0}, refused[STRIPES] = {0}, total = 0, found = 0;
	static bool in[100000];
	char name[16];

	begin(STRIPES);
	const uint32_t slots = table_stripe_slots(region);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof name, "n%u", i);
		in[i] = put(name);
		(in[i] ? taken : refused)[fixture_stripe(region, name)]++;
		total += in[i];
	}
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof name, "n%u", i);
		found += has(name) == in[i];
	}
	for (unsigned i = 0; i < STRIPES; i++)
		ok(taken[i] == slots && refused[i] > 0, "stripe %u takes %u, then refuses", i,
		   slots);
	cmp_ok(total, "==", (intmax_t)region_slots(region), "each slot is used");
	cmp_ok(found, "==", 3000, "what was taken is found, the rest is not");

	struct ledger *ledger = ledger_open(region, 0);
	uint64_t tail = marks()->tail;
	struct result result = fixture_post(ledger, "one too many", 1);
	ok(result.outcome == OUTCOME_TABLE_FULL && marks()->tail == tail,
	   "a post to one more is refused, and leaves no record");
	cmp_ok(fixture_post(ledger, "n0", 1).outcome, "==", OUTCOME_ACCEPTED,
	       "one to an account that is there is not");
	ledger_close(ledger);
	end();
}

/* A hash for which the probe of stripe 0 begins at its last slot. */
static void test_wrap_around(void)
{
	struct account_slot *slot;
	const uint64_t hash = UINT32_MAX;

	begin(2);
	table_find(region, 0, hash, "a", 1, &slot);
	ok(slot == table_slot(region, 0, table_stripe_slots(region) - 1),
	   "a probe of the last slot");
	*slot = (struct account_slot){.lsn = 1, .hash = hash, .name_length = 1, .name = "a"};
	ok(table_find(region, 0, hash, "b", 1, &slot) == NULL && slot == table_slot(region, 0, 0),
	   "... goes on at the first, not in the next stripe");
	*slot = (struct account_slot){.lsn = 1, .hash = hash, .name_length = 1, .name = "b"};
	ok(table_find(region, 0, hash, "b", 1, NULL) == slot, "... and is found there");
	end();
}

/* The shape must have room for max_accounts names, however they fall. */
static void test_max_accounts(void)
{
	static const uint64_t sizes[] = {1, 63, 64, 65, 1000, 20000, 100000};
	char name[32];

	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		struct region_geometry geometry = fixture_geometry(sizes[s]);
		uint64_t taken = 0;
		geometry.hash_seed += s;
		region = fixture_region(&geometry);
		if (region == NULL) {
			skip(1, "/dev/shm is too small for %ju accounts", (uintmax_t)sizes[s]);
			continue;
		}
		while (taken < sizes[s]) {
			snprintf(name, sizeof name, "user-%ju", (uintmax_t)taken);
			if (!put(name))
				break;
			taken++;
		}
		cmp_ok((intmax_t)taken, "==", (intmax_t)sizes[s], "max_accounts = %ju is reached",
		       (uintmax_t)sizes[s]);
		end();
	}
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
	operation_stage(region, table_slot(region, stripe, 0), stripe, sizeof(struct account_slot));
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
	struct ledger *ledger = ledger_open(region, 0);
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
	ok((ledger = ledger_open(region, 1)) == NULL && errno == ENOTRECOVERABLE,
	   "the slot of the dead cannot be adopted");
	end();
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

/* Places a post with LEFT bytes free in the segment; LSN of its record. */
static uint64_t post_with_left(uint64_t left)
{
	struct ledger *ledger = ledger_open(region, 0);

	atomic_store(&marks()->released, marks()->tail);
	region->header->segment_end = marks()->tail + left;
	memset(region->ring, 0xee, region_geometry(region)->ring_size);
	uint64_t lsn = fixture_post(ledger, "a", 1).lsn;
	ledger_close(ledger);
	return lsn;
}

static void test_segments(void)
{
	const uint64_t length = sizeof(struct record_head) + record_leg_size(1);
	_Alignas(8) unsigned char bytes[JOURNAL_RECORD_MAX];
	uint64_t tail, zero[5] = {0};

	begin(1);
	tail = marks()->tail;
	cmp_ok((intmax_t)post_with_left(length), "==", (intmax_t)tail,
	       "a record that just fits ends a segment");
	for (uint64_t left = 0; left < length; left += 8) {
		tail = marks()->tail;
		uint64_t lsn = post_with_left(left);
		ring_read(region, tail, bytes, left);
		bool good = left < JOURNAL_RECORD_MIN
		                ? memcmp(bytes, zero, left) == 0
		                : record_check(bytes, left, tail, FIXTURE_KEY) == left &&
		                      ((struct record_head *)(void *)bytes)->type == RECORD_PAD;
		ok(good && lsn == tail + left + SEGMENT_HEAD,
		   "%ju bytes left: %s, and a new segment", (uintmax_t)left,
		   left < JOURNAL_RECORD_MIN ? "zero" : "a filler");
		ring_read(region, lsn, bytes, length);
		cmp_ok((intmax_t)record_check(bytes, length, lsn, FIXTURE_KEY),
		       "==", (intmax_t)length, "... that begins with the record");
	}
	end();
}

static void test_ring_wraps(void)
{
	_Alignas(8) unsigned char bytes[JOURNAL_RECORD_MAX];
	struct ledger *ledger;
	unsigned posts = 0, sound = 0, wrapped = 0;

	begin(1);
	ledger = ledger_open(region, 0);
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
	ledger = ledger_open(region, 0);
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
	ok(memcmp(&before, &after, sizeof before) == 0 && marks()->tail == tail &&
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
	ledger = ledger_open(region, 0);
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
	ledger = ledger_open(region, 0);
	atomic_store(&marks()->space, marks()->tail + SPACE_RESERVE + 100);
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

/* As many stripes and cells as one operation may have. */
static void test_most_cells(void)
{
	uint32_t stripes[OPERATION_LOCKS_MAX];
	struct record_head record;
	uint64_t lsn;
	unsigned good = 0;

	begin(OPERATION_LOCKS_MAX);
	record_install(region);
	for (uint32_t i = 0; i < OPERATION_LOCKS_MAX; i++)
		stripes[i] = OPERATION_LOCKS_MAX - 1 - i;
	ok(operation_lock(region, stripes, OPERATION_LOCKS_MAX), "the most stripes");
	for (uint32_t i = 0; i < OPERATION_LOCKS_MAX; i++) {
		struct account_slot *cell = table_slot(region, i / 2, i % 2);
		struct account_slot *after = operation_stage(region, cell, i / 2, sizeof *cell);
		after->balance = i + 1;
		good += cell->balance == 0;
	}
	cmp_ok(good, "==", OPERATION_LOCKS_MAX, "nothing shared has changed yet");
	size_t length = record_plain(&record, RECORD_MARK, NULL, 0, 1);
	cmp_ok(operation_commit(region, &record, length, 1, RING_CLIENT, &lsn), "==", RING_OK,
	       "committed");
	for (uint32_t i = 0; i < OPERATION_LOCKS_MAX; i++) {
		const struct account_slot *cell = table_slot(region, i / 2, i % 2);
		good += cell->balance == i + 1 && cell->lsn == lsn;
	}
	operation_unlock(region);
	cmp_ok(good, "==", 2 * OPERATION_LOCKS_MAX, "every cell has its image and the LSN");
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
		    operation_stage(region, table_slot(region, i, 0), i, sizeof *after);
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
	ledger = ledger_open(region, 0);
	cmp_ok(ledger_read(ledger, "alice", 5, &view), "==", OUTCOME_UNKNOWN_ACCOUNT, "unknown");
	first = fixture_post(ledger, "alice", 100);
	other = fixture_post(ledger, "bob", 1);
	second = fixture_post(ledger, "alice", -5);
	ok(first.outcome == OUTCOME_ACCEPTED && first.balance == 100 && first.version == 1,
	   "the first event makes the account");
	ok(second.outcome == OUTCOME_ACCEPTED && second.balance == 95 && second.version == 2,
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
	ledger = ledger_open(region, 0);
	for (int i = 0; i < 2; i++) {
		const char *name = i == 0 ? "high" : "low";
		int64_t step = i == 0 ? 1 : -1;
		struct result at = fixture_post(ledger, name, edge[i]);
		uint64_t tail = marks()->tail;
		ok(at.outcome == OUTCOME_ACCEPTED && at.balance == edge[i], "%s: the edge", name);
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
	ledger = ledger_open(region, 0);
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
	ledger = ledger_open(region, 0);
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
	test_brim();
	test_wrap_around();
	test_max_accounts();
	test_owner_dead();
	test_alarm();
	test_poison();
	test_segment_end();
	test_segments();
	test_ring_wraps();
	test_ring_full();
	test_queue_events();
	test_disk();
	test_lock_list();
	test_most_cells();
	test_no_deadlock();
	test_adopt();
	test_counters();
	test_post_and_read();
	test_overflow();
	test_names();
	test_plain_records();
	return done_testing();
}
