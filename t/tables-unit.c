/* The tables of the region: accounts, ids and holds, each up to its brim. */
#include "../shm/lock.h"
#include "region-fixture.h"

#define START UINT64_C(4096)

static struct region *region; /* of the test that runs */

static struct region_marks *marks(void)
{
	return region_marks(region);
}

/* A region with STRIPES stripes, its journal begun. */
static void begin_at(uint64_t stripes, uint64_t start)
{
	struct region_geometry geometry = fixture_geometry(stripes * 64);

	region = fixture_begun(&geometry, start);
	region_enter(region, 0);
}

static void begin(uint64_t stripes)
{
	begin_at(stripes, START);
}

static void end(void)
{
	region_close(region);
}

/* ---- accounts */

static uint64_t hash_of(const char *name)
{
	return fixture_hash(region, name, strlen(name));
}

/* Writes NAME into SLOT, and what does not fit into REST. */
static void write_name(struct account_slot *slot, struct account_slot *rest, const char *name)
{
	uint32_t stripe = fixture_stripe(region, name), length = (uint32_t)strlen(name);
	uint32_t here = length < TABLE_NAME_INLINE ? length : TABLE_NAME_INLINE;

	*slot =
	    (struct account_slot){.lsn = 1, .hash = hash_of(name), .name_length = (uint8_t)length};
	memcpy(slot->name, name, here);
	if (rest == NULL)
		return;
	slot->rest = (uint16_t)(table_index(region, stripe, rest) + 1);
	*rest = (struct account_slot){.lsn = 1, .name_length = TABLE_REST};
	memcpy(rest->name, name + here, length - here);
}

/* Puts NAME into the table, if its stripe has room. */
static bool put(const char *name)
{
	uint32_t stripe = fixture_stripe(region, name);
	struct account_slot *slot = table_vacancy(region, stripe, hash_of(name)), *rest = NULL;

	if (slot == NULL)
		return false;
	if (strlen(name) > TABLE_NAME_INLINE) {
		const uint8_t was = slot->name_length;
		slot->name_length = 1; /* taken, while the other one is looked for */
		rest = table_vacancy(region, stripe, hash_of(name));
		slot->name_length = was;
		if (rest == NULL)
			return false;
	}
	write_name(slot, rest, name);
	return true;
}

static struct account_slot *find(const char *name)
{
	return table_find(region, fixture_stripe(region, name), hash_of(name), name,
	                  (uint32_t)strlen(name));
}

static bool has(const char *name)
{
	const struct account_slot *slot = find(name);
	char found[TABLE_NAME_MAX];

	return slot != NULL &&
	       table_name(region, fixture_stripe(region, name), slot, found) == strlen(name) &&
	       memcmp(found, name, strlen(name)) == 0;
}

static void test_brim(void)
{
	enum { STRIPES = 3, NAMES = 3000 };
	unsigned taken[STRIPES] = {0}, refused[STRIPES] = {0}, total = 0, found = 0;
	static bool in[NAMES];
	char name[16];

	begin(STRIPES);
	const uint32_t slots = table_stripe_slots(region);
	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof name, "n%u", i);
		in[i] = put(name);
		(in[i] ? taken : refused)[fixture_stripe(region, name)]++;
		total += in[i];
	}
	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof name, "n%u", i);
		found += has(name) == in[i];
	}
	for (unsigned i = 0; i < STRIPES; i++)
		ok(taken[i] == slots && refused[i] > 0, "stripe %u takes %u, then refuses", i,
		   slots);
	cmp_ok(total, "==", (intmax_t)region_slots(region), "each slot is used");
	cmp_ok(found, "==", NAMES, "what was taken is found, the rest is not");

	struct ledger *ledger = ledger_open(region, 0, NULL);
	uint64_t tail = marks()->tail;
	struct result result = fixture_post(ledger, "one too many", 1);
	ok(result.outcome == OUTCOME_TABLE_FULL && marks()->tail == tail,
	   "a post to one more is refused, and leaves no record");
	ledger_close(ledger);
	end();
}

/* A hash for which the probe of stripe 0 begins at its last slot. */
static void test_wrap_around(void)
{
	struct account_slot *slot;
	const uint64_t hash = UINT32_MAX;

	begin(2);
	slot = table_vacancy(region, 0, hash);
	ok(slot == table_slot(region, 0, table_stripe_slots(region) - 1),
	   "a probe of the last slot");
	*slot = (struct account_slot){.lsn = 1, .hash = hash, .name_length = 1, .name = "a"};
	slot = table_vacancy(region, 0, hash);
	ok(table_find(region, 0, hash, "b", 1) == NULL && slot == table_slot(region, 0, 0),
	   "... goes on at the first, not in the next stripe");
	*slot = (struct account_slot){.lsn = 1, .hash = hash, .name_length = 1, .name = "b"};
	ok(table_find(region, 0, hash, "b", 1) == slot, "... and is found there");
	end();
}

/* What was deleted is free, but a probe goes on beyond it. */
static void test_deleted(void)
{
	const uint64_t hash = 0;

	begin(2);
	struct account_slot *first = table_slot(region, 0, 0), *second = table_slot(region, 0, 1);
	*first = (struct account_slot){.lsn = 1, .hash = hash, .name_length = 1, .name = "a"};
	*second = (struct account_slot){.lsn = 2, .hash = hash, .name_length = 1, .name = "b"};
	first->name_length = TABLE_FREED;
	ok(table_find(region, 0, hash, "a", 1) == NULL, "what was deleted is not found");
	ok(table_find(region, 0, hash, "b", 1) == second, "what lies beyond it is");
	ok(table_vacancy(region, 0, hash) == first, "and its slot is the next to be taken");
	end();
}

/* The slot of stripe 0 becomes an account with the hash of HOME, or with none it is freed. */
static void set(uint32_t at, int64_t home)
{
	const uint64_t step = (UINT64_C(1) << 32) / table_stripe_slots(region) + 1;
	char name = (char)(at % 26 + 'a');

	*table_slot(region, 0, at) =
	    home < 0 ? (struct account_slot){.lsn = 1, .name_length = TABLE_FREED}
	             : (struct account_slot){.lsn = 1,
	                                     .hash = (uint64_t)home * step,
	                                     .version = at,
	                                     .name_length = 1,
	                                     .name = {name}};
}

static unsigned vacant(void)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < table_stripe_slots(region); i++)
		count += table_slot(region, 0, i)->name_length == 0;
	return count;
}

/* Freed slots that no probe needs are vacant again once a vain probe has passed over them. */
static void test_heals(void)
{
	begin(1);
	const uint32_t slots = table_stripe_slots(region);
	for (uint32_t i = 0; i < slots; i++)
		set(i, -1);
	ok(table_find(region, 0, 0, "?", 1) == NULL && vacant() == slots,
	   "a stripe of freed slots alone is vacant after one look-up");

	for (uint32_t i = 0; i < TABLE_HEAL - 1; i++)
		set(i, -1);
	ok(table_find(region, 0, 0, "?", 1) == NULL && vacant() == slots - TABLE_HEAL + 1,
	   "fewer than TABLE_HEAL on a probe are left as they are");

	for (uint32_t i = 0; i < 20; i++)
		set(i, -1);
	set(8, 3);
	table_find(region, 0, 0, "?", 1);
	unsigned kept = 0;
	for (uint32_t i = 3; i < 8; i++)
		kept += table_slot(region, 0, i)->name_length == TABLE_FREED;
	ok(kept == 5 && vacant() == slots - 6, "what is on an account's probe is kept, no more");

	for (uint32_t i = 0; i < slots; i++)
		set(i, -1);
	set(2, slots - 3);
	table_find(region, 0, 0, "?", 1);
	kept = 0;
	for (uint32_t i = slots - 3; i != 2; i = (i + 1) % slots)
		kept += table_slot(region, 0, i)->name_length == TABLE_FREED;
	ok(kept == 5 && vacant() == slots - 6, "... also around the end of a full stripe");
	end();
}

/*
 * Accounts come and go at random, so many that there is nearly no room and so few that there is
 * much: each one is always found where it is, a name that is not there never, and in the end, when
 * all are gone, so is every trace of them.
 */
static void test_coming_and_going(void)
{
	enum { NAMES = 400, ROUNDS = 40000 };
	static struct account_slot *where[NAMES];
	unsigned wrong = 0, healed = 0, before, seed = 17;
	char name[TABLE_NAME_MAX + 1];

	begin(1);
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned i = (unsigned)rand_r(&seed) % NAMES;
		bool leave = round / 1000 % 2 ? rand_r(&seed) % 32 != 0 : rand_r(&seed) % 32 == 0;
		snprintf(name, sizeof name, i % 8 == 0 ? "%060u" : "n%u", i);
		before = vacant();
		wrong += find(name) != where[i];
		healed += vacant() > before;
		if (where[i] == NULL && !leave && put(name)) {
			where[i] = find(name);
			wrong += where[i] == NULL;
		} else if (where[i] != NULL && leave) {
			if (where[i]->rest != 0)
				table_slot(region, 0, where[i]->rest - 1u)->name_length =
				    TABLE_FREED;
			where[i]->rest = 0;
			where[i]->name_length = TABLE_FREED;
			where[i] = NULL;
		}
	}
	cmp_ok(wrong, "==", 0, "each is found where it is, through %u rounds", ROUNDS);
	ok(healed > 20, "with %u look-ups that healed", healed);
	for (uint32_t at = 0; at < table_stripe_slots(region); at++)
		set(at, -1);
	find("nobody");
	cmp_ok(vacant(), "==", table_stripe_slots(region), "and when all are gone nothing is left");
	end();
}

/* Names of every length, the same but for their last byte. */
static void test_long_names(void)
{
	char name[TABLE_NAME_MAX + 1] = "";
	unsigned found = 0, other = 0, used = 0;

	begin(4);
	for (uint32_t length = 1; length <= TABLE_NAME_MAX; length++) {
		name[length - 1] = 'x';
		if (!put(name))
			break;
	}
	memset(name, 0, sizeof name);
	for (uint32_t length = 1; length <= TABLE_NAME_MAX; length++) {
		name[length - 1] = 'x';
		found += has(name);
		name[length - 1] = 'y';
		/* The same hash: the bytes must tell. */
		const struct account_slot *slot;
		name[length - 1] = 'x';
		slot = find(name);
		name[length - 1] = 'y';
		other += slot != NULL && table_find(region, fixture_stripe(region, name),
		                                    slot->hash, name, length) == NULL;
		name[length - 1] = 'x';
	}
	cmp_ok(found, "==", TABLE_NAME_MAX, "a name of each length from 1 to %d is found",
	       TABLE_NAME_MAX);
	cmp_ok(other, "==", TABLE_NAME_MAX, "... and not one that ends otherwise");
	for (uint32_t stripe = 0; stripe < region_stripes(region); stripe++)
		for (uint32_t i = 0; i < table_stripe_slots(region); i++)
			used += table_slot(region, stripe, i)->name_length != 0;
	cmp_ok(used, "==", 2 * TABLE_NAME_MAX - TABLE_NAME_INLINE,
	       "those over %d bytes take two slots", TABLE_NAME_INLINE);
	end();
}

/* One free slot is too few for a long name, and enough for a short one. */
static void test_last_slot(void)
{
	char name[TABLE_NAME_MAX];
	char longer[TABLE_NAME_MAX + 1];
	uint32_t left;

	begin(1);
	left = table_stripe_slots(region);
	for (unsigned i = 0; left > 1; i++) {
		snprintf(name, sizeof name, "n%u", i);
		left -= put(name);
	}
	memset(longer, 'l', TABLE_NAME_MAX);
	longer[TABLE_NAME_MAX] = '\0';
	ok(!put(longer) && !has(longer), "one slot is not enough for a long name");
	struct ledger *ledger = ledger_open(region, 0, NULL);
	uint64_t tail = marks()->tail;
	cmp_ok(fixture_post(ledger, longer, 1).outcome, "==", OUTCOME_TABLE_FULL,
	       "... so a post to it is refused");
	cmp_ok((intmax_t)marks()->tail, "==", (intmax_t)tail, "... and leaves no record");
	cmp_ok(fixture_post(ledger, "short", 1).outcome, "==", OUTCOME_ACCEPTED,
	       "one to a short name takes it");
	ledger_close(ledger);
	end();
}

/* A slot that an operation has staged is not free for its next account. */
static void test_vacancy_staged(void)
{
	uint32_t stripe = 0;

	begin(1);
	operation_lock(region, &stripe, 1);
	struct account_slot *first = table_vacancy(region, 0, 0);
	struct account_slot *after = operation_stage(region, first, 0, sizeof *first, 0);
	after->name_length = 1;
	struct account_slot *second = table_vacancy(region, 0, 0);
	ok(second == first + 1, "what is staged is passed over");
	operation_unlock(region);
	operation_lock(region, &stripe, 1);
	ok(table_vacancy(region, 0, 0) == first, "... as long as the operation lasts");
	operation_unlock(region);
	end();
}

/* The shape must have room for max_accounts names, however they fall. */
static void test_max_accounts(void)
{
	static const uint64_t sizes[] = {1, 63, 64, 65, 1000, 20000, 200000};
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

/* What an account takes of the region, its share of free slots and locks included. */
static void test_memory(void)
{
	static const uint64_t sizes[] = {200000, 1000000, 10000000};
	struct region_geometry least = fixture_geometry(1);

	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		struct region_geometry geometry = fixture_geometry(sizes[s]);
		uint64_t bytes = region_size(&geometry) - region_size(&least);
		ok(bytes <= sizes[s] * 192, "%ju accounts take %ju bytes each", (uintmax_t)sizes[s],
		   (uintmax_t)(bytes / sizes[s]));
	}
}

/* ---- ids */

/* The Nth key of the bucket of ids, and of holds, in which KEY 0 falls. */
static struct key key(uint64_t n)
{
	return (struct key){.low = n * UINT64_C(0x9e3779b97f4a7c15), .high = n};
}

/* A key anywhere. */
static struct key any_key(uint64_t n)
{
	return (struct key){.low = XXH3_64bits_withSeed(&n, sizeof n, 1),
	                    .high = XXH3_64bits_withSeed(&n, sizeof n, 2)};
}

/* Puts KEY with LSN and TIME, over another one if need be; which slot that was. */
static struct id_slot *remember(struct key of, uint64_t lsn, uint64_t time_us)
{
	struct id_slot *slot = ids_vacancy(region, &of);

	ids_put(region, slot, &of, lsn, time_us);
	return slot;
}

/* Ids whose records stand in the journal from BASE on, while a clock goes backwards. */
static void test_ids_from(uint64_t base)
{
	const uint64_t unit = UINT64_C(1) << PLACE_SHIFT, late = 999;
	unsigned found = 0, empty = 0;

	begin(1);
	for (uint64_t n = 0; n < IDS_BUCKET; n++)
		empty += ids_find(region, &(struct key){n, n}) == NULL;
	cmp_ok(empty, "==", IDS_BUCKET, "nothing is found where nothing is");
	for (uint64_t n = 0; n < IDS_BUCKET; n++) {
		uint64_t turn = (n + 40) % IDS_BUCKET;
		remember(key(n), base + turn * unit, late - turn);
	}
	for (uint64_t n = 0; n < IDS_BUCKET; n++) {
		struct key wanted = key(n);
		const struct id_slot *slot = ids_find(region, &wanted);
		found += slot != NULL && slot->lsn == base + (n + 40) % IDS_BUCKET * unit;
	}
	cmp_ok(found, "==", IDS_BUCKET, "a bucket takes %d ids, and finds each", IDS_BUCKET);
	struct key oldest = key(IDS_BUCKET - 40), next = key(IDS_BUCKET - 39), more = key(99);
	struct id_slot *slot = remember(more, base + late * unit, 1);
	ok(ids_find(region, &oldest) == NULL && ids_find(region, &more) == slot,
	   "one more, and the oldest is forgotten");
	uint32_t lock = ids_lock(region, &next);
	operation_lock(region, &lock, 1);
	operation_stage(region, ids_find(region, &next), lock, sizeof *slot, 0);
	slot = ids_vacancy(region, &oldest);
	ok(slot != NULL && slot->lsn == base + 2 * unit, "what is staged is not, but the next");
	operation_unlock(region);
	ok(ids_vacancy(region, &oldest) == ids_find(region, &next), "afterwards it is");
	end();
}

static void test_ids(void)
{
	test_ids_from(8192);
	/* Places come round among them. */
	test_ids_from((UINT64_C(1) << (32 + PLACE_SHIFT)) - (UINT64_C(20) << PLACE_SHIFT));
}

/* Who tries again soon must find his id, however many come at a time. */
static void test_ids_crowd(void)
{
	const uint64_t kept = IDS_BUCKET - (1u << PLACE_SHIFT) / JOURNAL_RECORD_MIN - 1;
	unsigned lost = 0;

	begin(1);
	for (uint64_t n = 0; n < 20 * IDS_BUCKET; n++) {
		remember(key(n), 8192 + n * JOURNAL_RECORD_MIN, 1);
		for (uint64_t i = n < kept ? 0 : n - kept; i <= n; i++) {
			struct key wanted = key(i);
			lost += ids_find(region, &wanted) == NULL;
		}
	}
	cmp_ok(lost, "==", 0, "of many within a moment the last %ju are kept", (uintmax_t)kept);
	end();
}

/* The most cells of an operation staged in one bucket: there is still room. */
static void test_ids_all_staged(void)
{
	struct key first = key(0);
	uint32_t lock;
	unsigned distinct = 0;

	begin(1);
	lock = ids_lock(region, &first);
	operation_lock(region, &lock, 1);
	while (operation_images_left(region) > 0) {
		uint32_t before = operation_images_left(region);
		operation_stage(region, ids_vacancy(region, &first), lock, sizeof(struct id_slot),
		                0);
		distinct += operation_images_left(region) == before - 1;
	}
	cmp_ok(distinct, "==", OPERATION_IMAGES_MAX, "a bucket gives %d slots to one operation",
	       OPERATION_IMAGES_MAX);
	struct id_slot *slot = ids_vacancy(region, &first);
	ok(slot != NULL && operation_staged(region, slot, NULL) == NULL, "and has one more");
	operation_unlock(region);
	end();
}

/* Commits an id, as the ledger does, and finds it by its tag. */
static void test_ids_commit(void)
{
	_Alignas(8) unsigned char bytes[JOURNAL_RECORD_MIN];
	struct key first = key(0), second = key(1);
	uint32_t lock;
	uint64_t lsn;

	begin(1);
	record_install(region);
	lock = ids_lock(region, &first);
	for (int round = 0; round < 2; round++) {
		struct key *put_key = round == 0 ? &first : &second;
		struct id_slot *slot =
		    round == 0 ? ids_vacancy(region, &first) : ids_find(region, &first);
		operation_lock(region, &lock, 1);
		struct id_slot *after = operation_stage(region, slot, lock, sizeof *slot, 0);
		after->key = *put_key;
		after->time_us = 5;
		ok(ids_find(region, put_key) == NULL, "not found before the commit");
		size_t length = record_plain(bytes, RECORD_MARK, NULL, 0, 1);
		operation_commit(region, bytes, length, 1, RING_CLIENT, &lsn);
		operation_unlock(region);
		ok(ids_find(region, put_key) == slot && slot->lsn == lsn, "found after it");
	}
	ok(ids_find(region, &first) == NULL, "what stood there before is forgotten");
	end();
}

static void test_ids_spread(void)
{
	const uint64_t wanted = 100000;
	struct region_geometry geometry = fixture_geometry(64);
	uint64_t found = 0, locks_right = 0, used = 0;

	geometry.max_ids = wanted;
	region = fixture_region(&geometry);
	ok(region->header->shape.id_locks <= 1024 && region->header->shape.id_locks > 512,
	   "%u locks of ids", region->header->shape.id_locks);
	for (uint64_t n = 0; n < wanted; n++)
		remember(any_key(n), 1 + n, n << 20);
	for (uint64_t n = 0; n < wanted; n++) {
		struct key of = any_key(n);
		const struct id_slot *slot = ids_find(region, &of);
		found += slot != NULL && slot->lsn == 1 + n;
	}
	ok(found >= wanted - wanted / 1000, "of max_ids ids %ju are kept", (uintmax_t)found);
	for (uint64_t i = 0; i < ids_slots(region); i++) {
		const struct id_slot *slot = ids_slot(region, i);
		used += slot->lsn != 0;
		locks_right +=
		    slot->lsn != 0 && ids_slot_lock(region, i) == ids_lock(region, &slot->key);
	}
	cmp_ok((intmax_t)used, "==", (intmax_t)found, "a walk sees each once");
	cmp_ok((intmax_t)locks_right, "==", (intmax_t)used, "... under its lock");
	cmp_ok((intmax_t)ids_slot_lock(region, 0), "==", region_stripes(region),
	       "the ids' locks come after the accounts'");
	end();
}

/* ---- holds */

static const uint64_t tick = 250000;

static uint64_t from_base(uint64_t ticks)
{
	return region->header->base_us + ticks * tick;
}

/* Puts an open hold of account OWNER there; NULL: no room. */
static struct hold_slot *place_hold(struct key of, uint64_t owner, uint64_t expires_us)
{
	struct hold_slot *slot = holds_vacancy(region, &of);
	const struct hold_slot hold = {
	    .lsn = 1, .key = of, .state = HOLD_SLOT_OPEN, .expires_us = expires_us};

	if (slot != NULL)
		holds_put(region, slot, &hold, owner);
	return slot;
}

/* By the record that stands TURN places into the journal, while a clock goes backwards. */
static void settle(struct hold_slot *slot, uint64_t turn)
{
	struct hold_slot hold = *slot;

	hold.lsn = turn << PLACE_SHIFT;
	hold.state = HOLD_SLOT_OPEN + 1;
	hold.settled_us = from_base(1000000 - turn);
	holds_put(region, slot, &hold, 0);
}

static void test_holds(void)
{
	unsigned found = 0;
	struct key none = key(HOLDS_BUCKET), first = key(0), second = key(1), third = key(2);

	begin(1);
	ok(holds_find(region, &first) == NULL, "nothing is found where nothing is");
	for (uint64_t n = 0; n < HOLDS_BUCKET; n++)
		found += place_hold(key(n), n, from_base(n)) != NULL;
	cmp_ok(found, "==", HOLDS_BUCKET, "a bucket takes %d holds", HOLDS_BUCKET);
	ok(place_hold(none, 1, 1) == NULL && holds_find(region, &none) == NULL,
	   "one more is refused while all are open");
	for (uint64_t n = 0; n < HOLDS_BUCKET; n++) {
		struct key wanted = key(n);
		const struct hold_slot *slot = holds_find(region, &wanted);
		found += slot != NULL && slot->key.low == wanted.low;
	}
	cmp_ok(found, "==", 2 * HOLDS_BUCKET, "each is found");
	settle(holds_find(region, &second), 20);
	settle(holds_find(region, &first), 10);
	settle(holds_find(region, &third), 30);
	struct hold_slot *before = holds_find(region, &first);
	uint32_t lock = holds_lock(region, &none);
	operation_lock(region, &lock, 1);
	operation_stage(region, before, lock, sizeof *before, 0);
	ok(holds_vacancy(region, &none) == holds_find(region, &second),
	   "a settled one that is staged keeps its place");
	operation_unlock(region);
	ok(place_hold(none, 1, 1) == before && holds_find(region, &first) == NULL,
	   "else the first settled gives it up");
	ok(holds_find(region, &second) != NULL && holds_find(region, &third) != NULL,
	   "... only that one");
	end();
}

/* Stages an open hold of account 7 for OF in the slot that is vacant for it, as the ledger does. */
static struct hold_slot *stage_hold(const struct key *of)
{
	struct hold_slot *slot = holds_vacancy(region, of);
	uint32_t lock = holds_lock(region, of);

	operation_lock(region, &lock, 1);
	struct hold_slot *after = operation_stage(region, slot, lock, sizeof *slot, 0);
	*after =
	    (struct hold_slot){.key = *of, .state = HOLD_SLOT_OPEN, .expires_us = from_base(1)};
	holds_hint(region, slot, UINT64_C(7) << 40, after->expires_us);
	return slot;
}

static enum ring_status commit(void)
{
	_Alignas(8) unsigned char bytes[JOURNAL_RECORD_MIN];
	size_t length = record_plain(bytes, RECORD_MARK, NULL, 0, 1);
	uint64_t lsn;

	record_install(region);
	return operation_commit(region, bytes, length, 1, RING_CLIENT, &lsn);
}

/* A process died after the hint and before the commit, where nothing was. */
static void test_hold_hint_left(void)
{
	struct key dead = key(0), other = key(1);
	struct hold_slot *slot, *late;
	uint64_t at = 0;
	unsigned taken = 0;

	begin(1);
	slot = stage_hold(&dead);
	operation_unlock(region);
	ok(holds_find(region, &dead) == NULL, "a hint without its hold: there is none");
	ok(holds_next_over(region, from_base(9), &at, &late) && late == slot && late->lsn == 0,
	   "who follows it sees that");
	holds_forget_time(region, slot);
	at = 0;
	ok(!holds_next_over(region, from_base(9), &at, &late), "and may forget it");
	ok(holds_vacancy(region, &other) == slot, "the slot counts as never used");
	for (uint64_t n = 1; place_hold(key(n), n, from_base(n)) != NULL; n++)
		taken++;
	cmp_ok(taken, "==", HOLDS_BUCKET, "it is used like any other");
	ok(holds_find(region, &other) != NULL, "... found too");
	end();
}

/* The same where settled holds fill the bucket; and one that the queue had no room for. */
static void test_hold_uncommitted(void)
{
	struct key first = key(0), second = key(1), more = key(HOLDS_BUCKET);
	struct hold_slot *old, *found;

	begin_at(1, UINT64_C(20) * HOLDS_BUCKET << PLACE_SHIFT);
	for (uint64_t n = 0; n < HOLDS_BUCKET; n++)
		settle(place_hold(key(n), n, from_base(n)), 10 * (1 + n));
	old = holds_find(region, &first);
	for (int dead = 0; dead < 2; dead++) {
		const char *what = dead ? "died" : "was refused";
		uint64_t at = 0;
		atomic_store(&region_settings(region)->queue_events, 0);
		ok(stage_hold(&more) == old, "the slot of the first settled");
		if (!dead && commit() == RING_FULL)
			holds_unhint(region, old);
		operation_unlock(region);
		ok(holds_find(region, &first) == old && holds_find(region, &more) == NULL,
		   "one %s before the commit: what stood there is found", what);
		ok(holds_vacancy(region, &more) == old, "... and the next to make room");
		ok(holds_next_over(region, UINT64_MAX, &at, &found) == dead,
		   "... no time is left to be looked at by one that lives");
	}
	atomic_store(&region_settings(region)->queue_events, UINT64_MAX);
	stage_hold(&more);
	ok(commit() == RING_OK, "now it is committed");
	operation_unlock(region);
	ok(holds_find(region, &more) == old && holds_find(region, &first) == NULL,
	   "it is found, what stood there is not");
	found = holds_vacancy(region, &first);
	ok(found == holds_find(region, &second), "and the next to make room is another");
	end();
}

/* A settlement changes a part of the slot only; when it was counts from its commit on. */
static void test_hold_settled(void)
{
	struct key first = key(0), more = key(HOLDS_BUCKET);
	const size_t length = offsetof(struct hold_slot, id);
	uint32_t lock;

	begin(1);
	for (uint64_t n = 0; n < HOLDS_BUCKET; n++)
		place_hold(key(n), n, from_base(n));
	struct hold_slot *slot = holds_find(region, &first);
	lock = holds_lock(region, &first);
	for (int dead = 1; dead >= 0; dead--) {
		operation_lock(region, &lock, 1);
		struct hold_slot *after = operation_stage(region, slot, lock, length, 0);
		after->state = HOLD_SLOT_OPEN + 1;
		after->settled_us = from_base(5);
		ok(dead || commit() == RING_OK, "a settlement");
		operation_unlock(region);
		ok(holds_vacancy(region, &more) == (dead ? NULL : slot), "%s",
		   dead ? "it was not committed: no room" : "committed: there is room");
		ok(holds_find(region, &first) == slot, "the hold is found");
	}
	end();
}

static void test_holds_next(void)
{
	enum { HOLDS = 900, OWNERS = 7 };
	struct region_geometry geometry = fixture_geometry(64);
	unsigned of[OWNERS] = {0}, over = 0, early = 0, placed = 0;
	struct hold_slot *slot;
	uint64_t at, last = 0;

	geometry.max_holds = HOLDS;
	region = fixture_region(&geometry);
	for (uint64_t n = 0; n < HOLDS; n++)
		placed += place_hold(any_key(n), (n % OWNERS) << 40, from_base(n) - 1) != NULL;
	cmp_ok(placed, "==", HOLDS, "max_holds holds are open at once");
	for (uint64_t owner = 0; owner < OWNERS; owner++)
		for (at = 0; holds_next_of(region, owner << 40, &at, &slot);)
			of[owner] += (uint64_t)(slot - region->holds) == at - 1;
	for (unsigned owner = 0; owner < OWNERS; owner++)
		cmp_ok(of[owner], "==", HOLDS / OWNERS + (owner < HOLDS % OWNERS),
		       "each hold of owner %u is seen once", owner);
	for (at = 0; holds_next_over(region, from_base(300), &at, &slot);) {
		over++;
		early += slot->expires_us > from_base(300);
	}
	cmp_ok(over, "==", 301, "those whose time is over are seen, each once");
	cmp_ok(early, "==", 0, "... and none whose is not");
	at = 0;
	holds_next_over(region, UINT64_MAX, &at, &slot);
	settle(slot, 1);
	for (at = 0; holds_next_over(region, UINT64_MAX, &at, &slot);)
		last++;
	cmp_ok((intmax_t)last, "==", HOLDS - 1, "a settled one is not looked at any more");
	for (uint64_t i = 0; i < holds_slots(region); i++) {
		slot = holds_slot(region, i);
		over += slot->lsn != 0 &&
		        holds_slot_lock(region, slot) == holds_lock(region, &slot->key);
	}
	cmp_ok(over, "==", 301 + HOLDS, "a walk sees each under its lock");
	cmp_ok((intmax_t)holds_slot_lock(region, region->holds),
	       "==", region_stripes(region) + region->header->shape.id_locks,
	       "the holds' locks come after the ids'");
	cmp_ok(holds_slot_lock(region, holds_slot(region, holds_slots(region) - 1)),
	       "==", lock_ring(region) - 1, "... and before the ring's");
	end();
}

/* The first settled gives up its slot, also where places come round, of which a hold has half. */
static void test_hold_ages(void)
{
	const uint64_t about = (UINT64_C(1) << 31) - 3;
	const unsigned turn[] = {4, 1, 0, 2, 5, 6};
	const unsigned oldest[] = {2, 1, 3, 0, 4, 5};
	unsigned right = 0;

	begin(1);
	for (uint64_t n = 0; n < HOLDS_BUCKET; n++)
		place_hold(key(n), n, from_base(n));
	for (uint64_t n = 0; n < 6; n++) {
		struct key of = key(n);
		settle(holds_find(region, &of), about + turn[n]);
	}
	for (uint64_t n = 0; n < 6; n++) {
		struct key of = key(oldest[n]), more = key(HOLDS_BUCKET + n);
		struct hold_slot *slot = holds_find(region, &of);
		right += slot != NULL && place_hold(more, n, from_base(n)) == slot;
	}
	cmp_ok(right, "==", 6, "they make room in the order of their settlement");
	end();
}

/* The hints count 2^32 ticks, half of them ahead; what lies beyond is looked at when they end. */
static void test_hold_far(void)
{
	const uint64_t half = UINT64_C(0x80000000), last = UINT32_MAX - 2;
	struct hold_slot *slot;
	uint64_t at = 0;

	begin(1);
	uint64_t made = from_base(half), now = clock_real_us();
	ok(made <= now && now - made < 600 * UINT64_C(1000000), "half of the ticks are past");
	place_hold(key(0), 1, from_base(last));
	place_hold(key(1), 1, from_base(last + 1));
	place_hold(key(2), 1, from_base(last + half));
	ok(!holds_next_over(region, from_base(last) - 1, &at, &slot), "17 years ahead: not yet");
	at = 0;
	ok(holds_next_over(region, from_base(last), &at, &slot) &&
	       slot->expires_us == from_base(last) &&
	       !holds_next_over(region, from_base(last), &at, &slot),
	   "then that one");
	unsigned count = 0;
	for (at = 0; holds_next_over(region, from_base(last + 2), &at, &slot);)
		count++;
	cmp_ok(count, "==", 3, "beyond the last tick all are looked at");
	end();
}

/* Times before the hints begin, and after they end. */
static void test_hold_times(void)
{
	struct hold_slot *slot;
	uint64_t at = 0;

	begin(1);
	place_hold(key(0), 1, 1000);
	ok(holds_next_over(region, from_base(0), &at, &slot), "over before the hints' time began");
	at = 0;
	ok(holds_next_over(region, 1, &at, &slot), "looked at, though the clock was set back");
	holds_forget_time(region, slot);
	place_hold(key(1), 1, UINT64_MAX);
	at = 0;
	ok(!holds_next_over(region, from_base(1000), &at, &slot), "far away");
	at = 0;
	ok(holds_next_over(region, UINT64_MAX, &at, &slot), "but not for ever");
	place_hold(key(2), 1, from_base(8) - 1);
	at = 0;
	ok(!holds_next_over(region, from_base(8) - tick - 1, &at, &slot), "a tick before");
	at = 0;
	ok(holds_next_over(region, from_base(8), &at, &slot), "within a tick after");
	end();
}

int main(void)
{
	plan(NO_PLAN);
	test_brim();
	test_wrap_around();
	test_deleted();
	test_heals();
	test_coming_and_going();
	test_long_names();
	test_last_slot();
	test_vacancy_staged();
	test_max_accounts();
	test_memory();
	test_ids();
	test_ids_crowd();
	test_ids_all_staged();
	test_ids_commit();
	test_ids_spread();
	test_holds();
	test_hold_hint_left();
	test_hold_uncommitted();
	test_hold_settled();
	test_holds_next();
	test_hold_times();
	test_hold_ages();
	test_hold_far();
	return done_testing();
}
