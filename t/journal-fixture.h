/*
 * A journal without a daemon, for the tests of what is on disk: a directory, a region, a ledger,
 * and a writer that drains the ring into the store as the journal writer does.
 *
 * A failure of the fixture itself (a full disk, say) stops the whole run: it proves nothing.
 */
#ifndef TALLYD_T_JOURNAL_FIXTURE_H
#define TALLYD_T_JOURNAL_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "../shm/layout.h"
#include "../src/ledger/history.h"
#include "../src/ledger/ledger.h"
#include "../src/ledger/recover.h"
#include "../src/ledger/seal.h"
#include "tap/tap.h"

#define FIXTURE_PATH    160
#define FIXTURE_SEGMENT UINT64_C(65536)

#if defined(__SANITIZE_ADDRESS__)
#define FIXTURE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIXTURE_SANITIZED 1
#endif
#endif
#ifndef FIXTURE_SANITIZED
#define FIXTURE_SANITIZED 0
#endif

/* Where it all lies. */
struct place {
	char root[FIXTURE_PATH - 32];
	char journal[FIXTURE_PATH];
	char snapshots[FIXTURE_PATH];
};

/* What a run is made with. */
struct sizes {
	uint64_t segment_size;
	uint64_t ring_size;
	uint64_t max_accounts;
	uint64_t max_ids;   /* 0: FIXTURE_IDS */
	uint64_t max_holds; /* 0: FIXTURE_HOLDS */
};
#define FIXTURE_IDS   1000
#define FIXTURE_HOLDS 200

/* A run of the daemon's core, from recovery to whenever the test leaves it. */
struct run {
	struct store *store;
	struct region *region;
	struct region_marks *marks;
	struct journal_reader *history;
	struct ledger *ledger;
	struct seal *seal;
	uint64_t position; /* written up to here */
	uint64_t now_us;
	enum store_status status; /* of its start */
	struct recovery recovery;
	char error[STORE_ERROR_SIZE];
};

static inline void must(bool condition, const char *what)
{
	if (!condition)
		BAIL_OUT("%s: %s", what, strerror(errno));
}

/* A new directory, on /dev/shm for its speed if TMPDIR does not say otherwise. */
static inline void place_make(struct place *place)
{
	const char *parent = getenv("TMPDIR");

	if (parent == NULL)
		parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(place->root, sizeof place->root, "%.100s/tallyd-t-XXXXXX", parent);
	must(mkdtemp(place->root) != NULL, "mkdtemp");
	snprintf(place->journal, sizeof place->journal, "%s/journal", place->root);
	snprintf(place->snapshots, sizeof place->snapshots, "%s/snapshots", place->root);
}

static inline void directory_remove(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;

	if (directory == NULL)
		return;
	while ((entry = readdir(directory)) != NULL)
		unlinkat(dirfd(directory), entry->d_name, 0);
	closedir(directory);
	rmdir(path);
}

static inline void place_remove(const struct place *place)
{
	directory_remove(place->journal);
	directory_remove(place->snapshots);
	rmdir(place->root);
}

/* A region of the least size, without a name: it goes with its last process. */
static inline struct region *region_make(const struct sizes *shape, uint64_t key)
{
	static uint32_t epoch;
	struct region_geometry geometry = {
	    .max_accounts = shape->max_accounts,
	    .max_ids = shape->max_ids != 0 ? shape->max_ids : FIXTURE_IDS,
	    .max_holds = shape->max_holds != 0 ? shape->max_holds : FIXTURE_HOLDS,
	    .ring_size = shape->ring_size,
	    .segment_size = shape->segment_size,
	    .processes = 8,
	    .hash_seed = record_hash_seed(key),
	    .journal_key = key,
	    .epoch = ++epoch};
	char name[64];

	snprintf(name, sizeof name, "/tallyd-t-%ld", (long)getpid());
	struct region *region = region_create(name, &geometry);
	must(region != NULL, "region_create");
	region_unlink(name);
	return region;
}

/* Recovers what is in PLACE and begins a run: false if it was refused (run->status, run->error). */
static inline bool run_start(struct run *run, const struct place *place, const struct sizes *shape)
{
	memset(run, 0, sizeof *run);
	run->now_us = UINT64_C(1700000000000000);
	run->store = store_open(place->journal, &run->status, run->error);
	if (run->store == NULL)
		return false;
	must(store_claim(run->store, shape->segment_size) == 0, "store_claim");
	run->region = region_make(shape, store_key(run->store));
	run->marks = region_marks(run->region);
	run->status =
	    recover(run->store, place->snapshots, run->region, &run->recovery, run->error);
	if (run->status != STORE_OK)
		return false;
	const struct region_seal *last = region_seal(run->region);
	run->position = atomic_load(&run->marks->tail);
	/* A chain of its own is right only from the journal's beginning, or from a seal. */
	run->seal = seal_open(last->to != 0 ? last->to : store_first(run->store),
	                      last->to != 0 ? last->hash : store_key(run->store));
	must(run->seal != NULL, "seal_open");
	struct store_reader *reader = store_replay(run->store, seal_last(run->seal).to);
	const struct record_head *record;
	must(reader != NULL, "store_replay");
	while (store_reader_at(reader) < run->position && store_next(reader, &record) == STORE_OK)
		seal_add(run->seal, record, record->length, record->lsn + record->length);
	store_reader_close(reader);
	if (!ledger_begin(run->region, run->now_us)) {
		must(store_extend(run->store) == 0, "store_extend");
		region_begin(run->region, run->position,
		             store_segment_end(run->store, run->position), store_space(run->store));
		must(ledger_begin(run->region, run->now_us), "ledger_begin");
	}
	run->history = history_open(run->region, place->journal);
	must(run->history != NULL, "history_open");
	run->ledger = ledger_open(run->region, 0, run->history);
	must(run->ledger != NULL, "ledger_open");
	return true;
}

/* The process is gone, whatever it was doing. */
static inline void run_leave(struct run *run)
{
	ledger_close(run->ledger);
	history_close(run->history);
	seal_close(run->seal);
	region_close(run->region);
	store_close(run->store);
	memset(run, 0, sizeof *run);
}

/* Makes a segment ahead when one is due. */
static inline void run_extend(struct run *run)
{
	uint64_t size = region_geometry(run->region)->segment_size;

	while (atomic_load(&run->marks->tail) + size > store_space(run->store)) {
		must(store_extend(run->store) == 0, "store_extend");
		atomic_store(&run->marks->space, store_space(run->store));
	}
}

/* Applies REQUEST; its outcome must be WANTED. */
static inline struct result run_apply(struct run *run, const struct request *request,
                                      enum outcome wanted)
{
	struct result result;

	run_extend(run);
	ledger_apply(run->ledger, request, ++run->now_us, &result);
	if (result.outcome != wanted)
		BAIL_OUT("a request of kind %d: outcome %d, not %d", (int)request->kind,
		         (int)result.outcome, (int)wanted);
	return result;
}

static inline struct words words_of(const char *text)
{
	return (struct words){.bytes = text, .length = (uint32_t)strlen(text)};
}

/* Posts one event; it must be accepted. */
static inline struct result run_post(struct run *run, const char *account, uint32_t length,
                                     int64_t amount)
{
	const struct request request = {
	    .kind = REQUEST_EVENT,
	    .legs = 1,
	    .leg = {{.account = {.bytes = account, .length = length}, .amount = amount}}};

	return run_apply(run, &request, OUTCOME_ACCEPTED);
}

/* Adds the records up to TO to the chain of seals. */
static inline void run_hash(struct run *run, uint64_t to)
{
	unsigned char record[JOURNAL_RECORD_MAX];
	struct record_head head;
	uint64_t at = run->position;

	while (at < to) {
		uint64_t end = ring_segment_end(run->region, at);
		if (end - at < JOURNAL_RECORD_MIN) {
			at = end + SEGMENT_HEAD;
			continue;
		}
		ring_read(run->region, at, &head, sizeof head);
		ring_read(run->region, at, record, head.length);
		at += head.length;
		seal_add(run->seal, record, head.length, at);
	}
}

/* Writes the ring up to TO, an end of a record, into the page cache; releases it. */
static inline void run_write(struct run *run, uint64_t to)
{
	struct iovec piece[2];

	if (to == run->position)
		return;
	int pieces = ring_pieces(run->region, run->position, to, piece);
	must(store_append(run->store, run->position, piece, pieces) == 0, "store_append");
	run_hash(run, to);
	run->position = to;
	atomic_store(&run->marks->written, to);
	atomic_store(&run->marks->released, to);
	atomic_store(&run->marks->released_events, atomic_load(&run->marks->events));
}

/* One group commit of everything up to TO; a seal, if one is due, is then in the ring. */
static inline void run_commit_to(struct run *run, uint64_t to)
{
	run_write(run, to);
	must(store_sync(run->store) == 0, "store_sync");
	atomic_store(&run->marks->durable, to);
	struct seal_link link = seal_last(run->seal);
	if (link.from != link.to && link.to > region_seal(run->region)->to)
		must(ledger_seal(run->ledger, &link, ++run->now_us) == OUTCOME_ACCEPTED,
		     "ledger_seal");
}

static inline void run_commit(struct run *run)
{
	run_commit_to(run, atomic_load(&run->marks->tail));
}

/* What an idle journal writer does: a mark that says that all before it is durable. */
static inline void run_mark(struct run *run)
{
	must(ledger_mark(run->ledger, ++run->now_us) == OUTCOME_ACCEPTED, "ledger_mark");
	run_commit(run);
}

/* The account that stands in SLOT of FROM, in REGION, or NULL. */
static inline const struct account_slot *
same_account(struct region *from, const struct account_slot *slot, struct region *region)
{
	uint32_t stripe = table_stripe(from, slot->hash);
	uint64_t hash = slot->hash;
	char name[ACCOUNT_NAME_MAX];
	uint32_t length = table_name(from, stripe, slot, name);

	return table_find(region, table_stripe(region, hash), hash, name, length);
}

static inline bool is_account(const struct account_slot *slot)
{
	return table_is_account(slot);
}

static inline uint64_t count_accounts(struct region *region)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < region_slots(region); i++)
		count += is_account(&region->slots[i]);
	return count;
}

static inline bool accounts_same(struct region *left, struct region *right)
{
	for (uint64_t i = 0; i < region_slots(left); i++) {
		const struct account_slot *a = &left->slots[i];
		if (!is_account(a))
			continue;
		const struct account_slot *b = same_account(left, a, right);
		if (b == NULL || a->balance != b->balance || a->version != b->version ||
		    a->held != b->held || a->lsn != b->lsn || a->created_us != b->created_us ||
		    a->updated_us != b->updated_us || a->floor != b->floor ||
		    a->ceiling != b->ceiling || a->frozen != b->frozen)
			return false;
	}
	return count_accounts(left) == count_accounts(right);
}

static inline uint64_t count_ids(struct region *region)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < ids_slots(region); i++)
		count += ids_slot(region, i)->lsn != 0;
	return count;
}

static inline bool ids_same(struct region *left, struct region *right)
{
	for (uint64_t i = 0; i < ids_slots(left); i++) {
		const struct id_slot *a = ids_slot(left, i);
		const struct id_slot *b = a->lsn != 0 ? ids_find(right, &a->key) : a;
		if (b == NULL || a->lsn != b->lsn || a->time_us != b->time_us)
			return false;
	}
	return count_ids(left) == count_ids(right);
}

static inline uint64_t count_holds(struct region *region)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < holds_slots(region); i++)
		count += holds_slot(region, i)->lsn != 0;
	return count;
}

static inline bool holds_same(struct region *left, struct region *right)
{
	for (uint64_t i = 0; i < holds_slots(left); i++) {
		const struct hold_slot *a = holds_slot(left, i);
		const struct hold_slot *b = a->lsn != 0 ? holds_find(right, &a->key) : a;
		if (b == NULL || memcmp(a, b, sizeof *a) != 0)
			return false;
	}
	return count_holds(left) == count_holds(right);
}

/* Are LEFT's and RIGHT's tables the same, in everything that recovery promises? */
static inline bool table_same(struct region *left, struct region *right)
{
	return accounts_same(left, right) && ids_same(left, right) && holds_same(left, right);
}

static inline uint64_t digest_account(struct region *region, const struct account_slot *slot)
{
	struct account_slot copy = *slot;
	char name[ACCOUNT_NAME_MAX] = {0};

	copy.rest = 0; /* another slot may hold the rest of the name */
	memset(copy.name, 0, sizeof copy.name);
	table_name(region, table_stripe(region, slot->hash), slot, name);
	return XXH3_64bits_withSeed(name, sizeof name, XXH3_64bits(&copy, sizeof copy));
}

/* Of all that the tables hold, wherever it stands. */
static inline uint64_t digest_of(struct region *region)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < region_slots(region); i++)
		if (is_account(&region->slots[i]))
			sum += digest_account(region, &region->slots[i]);
	for (uint64_t i = 0; i < ids_slots(region); i++)
		if (ids_slot(region, i)->lsn != 0)
			sum += XXH3_64bits(ids_slot(region, i), sizeof(struct id_slot));
	for (uint64_t i = 0; i < holds_slots(region); i++)
		if (holds_slot(region, i)->lsn != 0)
			sum += XXH3_64bits(holds_slot(region, i), sizeof(struct hold_slot));
	return sum;
}

/* A file in memory. */
struct image_file {
	char path[FIXTURE_PATH + 64];
	unsigned char *bytes;
	size_t size;
};

static inline void file_read(struct image_file *file)
{
	struct stat status;
	int fd = open(file->path, O_RDONLY | O_CLOEXEC);

	must(fd >= 0 && fstat(fd, &status) == 0, file->path);
	file->size = (size_t)status.st_size;
	file->bytes = malloc(file->size);
	must(file->bytes != NULL && read(fd, file->bytes, file->size) == (ssize_t)file->size,
	     file->path);
	close(fd);
}

/* Writes LENGTH of the file's bytes at OFFSET to where it was read from, or made. */
static inline void file_write(const struct image_file *file, size_t offset, size_t length)
{
	int fd = open(file->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	must(fd >= 0 && pwrite(fd, file->bytes + offset, length, (off_t)offset) == (ssize_t)length,
	     file->path);
	close(fd);
}

static inline void file_put_byte(const struct image_file *file, size_t offset, unsigned char byte)
{
	int fd = open(file->path, O_WRONLY | O_CLOEXEC);

	must(fd >= 0 && pwrite(fd, &byte, 1, (off_t)offset) == 1, file->path);
	close(fd);
}

/* A number from the environment, or DEFAULT_VALUE. */
static inline size_t setting(const char *name, size_t default_value)
{
	const char *text = getenv(name);

	return text != NULL && atol(text) > 0 ? (size_t)atol(text) : default_value;
}

/* Steele and Vigna's splitmix64: the same numbers at every run. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

#endif
