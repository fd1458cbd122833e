/*
 * Listings: what a cursor tells (nothing), which records a page depends on, and names of the same
 * hash.
 */
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "../shm/lock.h"
#include "../src/ledger/cursor.h"
#include "ledger-world.h"

#define SECOND_US  UINT64_C(1000000)
#define DEADLINE_S 10

static const struct sizes small = {.segment_size = 1 << 20,
                                   .ring_size = 1 << 18,
                                   .max_accounts = 500,
                                   .max_ids = 64,
                                   .max_holds = 64};

/* ---- the cipher */

/* Speck64/128's test vector, appendix C of the paper. */
static void test_vector(void)
{
	static const uint32_t word[CURSOR_KEY_WORDS] = {0x03020100, 0x0b0a0908, 0x13121110,
	                                                0x1b1a1918};
	const uint64_t plain = UINT64_C(0x3b7265747475432d);
	const uint64_t cipher = UINT64_C(0x8c6fa548454e028b);
	struct cursor_key key;

	cursor_key_expand(&key, word);
	ok(cursor_seal(&key, plain) == cipher, "the paper's vector");
	ok(cursor_open(&key, cipher) == plain, "and back");
}

static void test_keys(void)
{
	struct cursor_key key, same, other_purpose, other_journal;
	unsigned right = 0, apart = 0;

	cursor_key_make(&key, 7, "one");
	cursor_key_make(&same, 7, "one");
	cursor_key_make(&other_purpose, 7, "two");
	cursor_key_make(&other_journal, 8, "one");
	for (uint64_t i = 0; i < 1000; i++) {
		uint64_t at = i * UINT64_C(0x9e3779b97f4a7c15), sealed = cursor_seal(&key, at);
		right += cursor_open(&key, sealed) == at && cursor_seal(&same, at) == sealed;
		apart += cursor_seal(&other_purpose, at) != sealed &&
		         cursor_seal(&other_journal, at) != sealed;
	}
	cmp_ok(right, "==", 1000, "what is sealed can be opened, in every run");
	cmp_ok(apart, "==", 1000, "other purposes and other journals have other cursors");
}

/* ---- what a client sees */

static uint64_t hash_of(const struct world *world, const char *name, uint32_t length)
{
	return XXH3_64bits_withSeed(name, length, region_geometry(world->run.region)->hash_seed);
}

static void begin(struct world *world)
{
	world_open(world, &small);
	world->run.now_us -= 3600 * SECOND_US;
	for (unsigned i = 0; i < 100; i++) {
		char name[32];
		snprintf(name, sizeof name, "list-%u", i);
		must_accept(world, event_of(name, 100));
	}
}

/* The next page after *CURSOR, of which a client knows only so much; nothing is left: done. */
static size_t page(struct world *world, struct list_cursor *cursor, struct account_view *views,
                   size_t max)
{
	size_t total = 0;

	cursor->given = false;
	while (total < max && !cursor->done) {
		size_t count;
		uint64_t lsn = 0;
		if (ledger_list(world->run.ledger, words_of("list-"), cursor, views + total,
		                max - total, &count, &lsn) != OUTCOME_ACCEPTED)
			BAIL_OUT("no listing");
		total += count;
		if (count == 0 && total > 0)
			break;
	}
	return total;
}

/* Cursors ascended with the hashes, and were those: the seed could be had from a few of them. */
static void test_secret(void)
{
	struct list_cursor cursor = {0};
	struct account_view views[2];
	struct world world;
	uint64_t hash = 0, before = 0;
	unsigned pages = 0, tells = 0, ascends = 0, near = 0;

	begin(&world);
	while (page(&world, &cursor, views, 1) == 1 && !cursor.done) {
		hash = hash_of(&world, views[0].name, views[0].name_length);
		tells += cursor.sealed >> 32 == hash >> 32;
		near += cursor.sealed - hash < UINT32_MAX;
		ascends += cursor.sealed > before;
		before = cursor.sealed;
		pages++;
	}
	ok(pages >= 99, "pages of one");
	cmp_ok(tells + near, "==", 0, "no cursor is a hash, or near it");
	ok(ascends > pages / 5 && ascends < pages * 4 / 5, "nor do they ascend: %u of %u do",
	   ascends, pages);
	world_close(&world);
}

static void test_secret_holds(void)
{
	struct hold_view view;
	struct world world;
	uint64_t cursor = 0, lsn = 0;
	unsigned pages = 0, small_ones = 0;
	size_t count;

	begin(&world);
	for (unsigned i = 0; i < 50; i++) {
		char hold[32];
		snprintf(hold, sizeof hold, "hold-%u", i);
		must_accept(&world, hold_of("list-1", 1, 60, hold));
	}
	do {
		ledger_list_holds(world.run.ledger, "list-1", 6, &cursor, &view, 1, &count, &lsn);
		pages += (unsigned)count;
		small_ones += cursor != 0 && cursor < UINT32_MAX;
	} while (cursor != 0);
	cmp_ok(pages, "==", 50, "each hold once");
	cmp_ok(small_ones, "==", 0, "no cursor is the index of a slot");
	world_close(&world);
}

/* ---- names of one hash */

/* Gives MANY accounts of STRIPE the same hash. */
static void make_ties(struct world *world, uint32_t stripe, unsigned many)
{
	struct account_slot *first = NULL;

	for (uint32_t i = 0; i < table_stripe_slots(world->run.region) && many > 0; i++) {
		struct account_slot *slot = table_slot(world->run.region, stripe, i);
		if (!is_account(slot))
			continue;
		if (first == NULL)
			first = slot;
		slot->hash = first->hash;
		many--;
	}
	if (many > 0)
		BAIL_OUT("a stripe has too few accounts");
}

static void test_ties(void)
{
	struct world world;
	struct account_view views[100];

	begin(&world);
	for (uint32_t stripe = 0; stripe < region_stripes(world.run.region); stripe++)
		make_ties(&world, stripe, 2 + stripe % 2);
	for (size_t max = 3; max <= 100; max++) {
		struct list_cursor cursor = {0};
		unsigned seen[100] = {0}, pages = 0, wrong = 0;
		while (!cursor.done && pages++ < 1000) {
			size_t count = page(&world, &cursor, views, max);
			for (size_t i = 0; i < count; i++) {
				views[i].name[views[i].name_length] = '\0';
				seen[strtoul(views[i].name + 5, NULL, 10) % 100]++;
			}
		}
		for (unsigned i = 0; i < 100; i++)
			wrong += seen[i] != 1;
		if (wrong != 0 || max == 100)
			cmp_ok(wrong, "==", 0, "pages of %zu: each is listed once", max);
	}
	/* A page that is too small for them all goes on none the less. */
	struct list_cursor cursor = {0};
	unsigned pages = 0;
	while (!cursor.done && pages < 1000)
		pages += page(&world, &cursor, views, 1) == 1;
	ok(pages < 101 && pages > 80, "pages of one end");
	world_close(&world);
}

/* ---- what a page depends on */

static void test_deleted(void)
{
	struct list_cursor cursor = {0};
	struct account_view views[10];
	struct world world;
	uint64_t lsn = 0;
	size_t count;

	begin(&world);
	must_accept(&world, account_of(REQUEST_CREATE, "gone", 0, 100, FROZEN_NONE));
	const struct request request = delete_of("gone");
	struct result result = world_apply(&world, &request);
	while (!cursor.done)
		ledger_list(world.run.ledger, words_of("go"), &cursor, views, 10, &count, &lsn);
	cmp_ok((intmax_t)lsn, "==", (intmax_t)result.lsn,
	       "that an account is not listed depends on its deletion");
	world_close(&world);
}

static struct hold_slot *slot_of(struct world *world, const char *id)
{
	struct key key = record_key(store_key(world->run.store), id, strlen(id));

	return holds_find(world->run.region, &key);
}

static uint64_t list_holds(struct world *world)
{
	struct hold_view views[10];
	uint64_t cursor = 0, lsn = 0;
	size_t count;

	if (ledger_list_holds(world->run.ledger, "list-1", 6, &cursor, views, 10, &count, &lsn) !=
	    OUTCOME_ACCEPTED)
		BAIL_OUT("no listing");
	ok(count == 1 && memcmp(views[0].id, "first", 5) == 0, "the open one is listed");
	return lsn;
}

static bool somebody_waits(struct region *region, uint32_t lock)
{
	uint64_t until = clock_monotonic_us() + DEADLINE_S * SECOND_US;

	/* glibc's lock word says whether somebody waits. */
	while (
	    ((unsigned)__atomic_load_n(&region->locks[lock].mutex.__data.__lock, __ATOMIC_SEQ_CST) &
	     FUTEX_WAITERS) == 0) {
		if (clock_monotonic_us() > until)
			return false;
		sched_yield();
	}
	return true;
}

/*
 * Holds the lock of the holds until the listing, which has read the account, waits for it; then
 * the hold is settled by the record at LSN, and its slot given to another account's.
 */
static int settle_meanwhile(struct world *world, _Atomic uint32_t *ready, uint64_t lsn)
{
	struct region *region = world->run.region;
	struct hold_slot *slot = slot_of(world, "second");
	uint32_t lock = holds_slot_lock(region, slot);
	uint64_t hash = hash_of(world, "list-1", 6);
	struct account_slot *account =
	    table_find(region, table_stripe(region, hash), hash, "list-1", 6);
	const struct hold_slot other = {.lsn = lsn + 8,
	                                .state = HOLD_OPEN,
	                                .account_length = 6,
	                                .account = "list-2",
	                                .expires_us = UINT64_MAX};

	region_enter(region, 1);
	if (!lock_acquire(region, lock))
		return 2;
	atomic_store(ready, 1);
	if (!somebody_waits(region, lock))
		return 3;
	account->lsn = lsn;
	holds_put(region, slot, &other, hash_of(world, "list-2", 6));
	lock_release(region, lock);
	return 0;
}

static void test_settled(void)
{
	_Atomic uint32_t *ready =
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct world world;
	int status;

	begin(&world);
	must_accept(&world, hold_of("list-1", 1, 60, "first"));
	must_accept(&world, hold_of("list-1", 1, 60, "second"));
	struct hold_slot *slot = slot_of(&world, "second");
	uint64_t lsn = slot->lsn + 4096;
	const struct hold_slot before = *slot;
	slot->state = HOLD_RELEASED;
	slot->lsn = lsn;
	cmp_ok((intmax_t)list_holds(&world), "==", (intmax_t)lsn,
	       "that a hold is not listed depends on its settlement");
	*slot = before;
	must(ready != MAP_FAILED, "mmap");
	pid_t pid = fork();
	if (pid == 0)
		_exit(settle_meanwhile(&world, ready, lsn));
	while (atomic_load(ready) == 0 && waitpid(pid, &status, WNOHANG) == 0)
		sched_yield();
	cmp_ok((intmax_t)list_holds(&world), "==", (intmax_t)lsn,
	       "also if another one is in its place by then");
	ok(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
	   "which was put there while the listing waited");
	munmap(ready, 4096);
	world_close(&world);
}

int main(void)
{
	plan(NO_PLAN);
	test_vector();
	test_keys();
	test_secret();
	test_secret_holds();
	test_ties();
	test_deleted();
	test_settled();
	return done_testing();
}
