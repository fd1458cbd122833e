#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "../../shm/holds.h"
#include "../../shm/ids.h"
#include "../../shm/lock.h"
#include "../../shm/region.h"
#include "../../shm/table.h"
#include "coverage.h"
#include "disk.h"
#include "snapshot_format.h"

struct writer {
	struct region *region;
	int directory;
	int fd;
	uint64_t offset;
	uint64_t chain; /* the checksum of the block before */
	struct snapshot snapshot;
	struct coverage coverage;
	void *copy;      /* of what one lock guards */
	uint64_t id_run; /* slots of ids that one lock guards */
	union {
		struct snapshot_block block;
		unsigned char bytes[sizeof(struct snapshot_block) + SNAPSHOT_BLOCK_MAX];
	} * out;
};

static int put_block(struct writer *writer, enum snapshot_block_type type, uint32_t length)
{
	struct snapshot_block *block = &writer->out->block;
	size_t size = sizeof *block + length;

	block->length = length;
	block->type = type;
	block->checksum = XXH3_64bits_withSeed(writer->out->bytes + sizeof block->checksum,
	                                       size - sizeof block->checksum, writer->chain);
	writer->chain = block->checksum;
	if (disk_write(writer->fd, block, size, writer->offset) != 0)
		return -1;
	writer->offset += size;
	return 0;
}

static void *body(struct writer *writer)
{
	return writer->out->bytes + sizeof(struct snapshot_block);
}

/* Writes what is in the body when it would not take MORE bytes; *LENGTH is how much it has. */
static enum snapshot_status make_room(struct writer *writer, enum snapshot_block_type type,
                                      uint32_t *length, uint32_t more)
{
	if (*length + more <= SNAPSHOT_BLOCK_MAX)
		return SNAPSHOT_OK;
	if (put_block(writer, type, *length) != 0)
		return SNAPSHOT_IO;
	*length = 0;
	return SNAPSHOT_OK;
}

static enum snapshot_status put_rest(struct writer *writer, enum snapshot_block_type type,
                                     uint32_t length)
{
	return length == 0 || put_block(writer, type, length) == 0 ? SNAPSHOT_OK : SNAPSHOT_IO;
}

/* ---- which part of a table a lock guards */

static uint32_t lock_of(const struct region *region, enum coverage_table table, uint64_t hash)
{
	struct key key = {.high = hash};

	switch (table) {
	case COVERAGE_ACCOUNTS:
		return table_stripe(region, hash);
	case COVERAGE_IDS:
		return ids_lock(region, &key);
	default:
		return holds_lock(region, &key);
	}
}

/* The least hash that LOCK, or one after it, guards: locks follow the hashes' order. */
static uint64_t first_of(const struct region *region, enum coverage_table table, uint32_t lock)
{
	uint64_t low = 0;
	uint64_t high = UINT64_MAX;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (lock_of(region, table, middle) >= lock)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* What LOCK guards was copied when its newest effect was that of the record at NEWEST. */
static enum snapshot_status cover(struct writer *writer, enum coverage_table table, uint32_t lock,
                                  uint64_t newest)
{
	struct coverage_part part = {.newest = newest, .table = table};

	if (newest > writer->snapshot.newest)
		writer->snapshot.newest = newest;
	if (newest < writer->snapshot.start)
		return SNAPSHOT_OK;
	part.first = first_of(writer->region, table, lock);
	part.last = lock == lock_of(writer->region, table, UINT64_MAX)
	                ? UINT64_MAX
	                : first_of(writer->region, table, lock + 1) - 1;
	return coverage_add(&writer->coverage, &part) == 0 ? SNAPSHOT_OK : SNAPSHOT_IO;
}

/*
 * The order matters: what the seal covers lies before the tail, and whatever was committed
 * before the tail was read is seen in the table, because its stripes are locked until then.
 */
static bool read_start(struct writer *writer)
{
	struct region *region = writer->region;
	struct snapshot *snapshot = &writer->snapshot;

	if (!lock_acquire(region, 0))
		return false;
	snapshot->seal_to = region_seal(region)->to;
	snapshot->seal_hash = region_seal(region)->hash;
	lock_release(region, 0);
	if (!lock_acquire(region, lock_ring(region)))
		return false;
	snapshot->start = atomic_load(&region_marks(region)->tail);
	lock_release(region, lock_ring(region));
	return true;
}

static int put_header(struct writer *writer)
{
	struct snapshot *snapshot = &writer->snapshot;
	struct snapshot_header *header = body(writer);
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	snapshot->taken_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	*header = (struct snapshot_header){.magic = SNAPSHOT_MAGIC,
	                                   .version = SNAPSHOT_VERSION,
	                                   .start = snapshot->start,
	                                   .seal_to = snapshot->seal_to,
	                                   .seal_hash = snapshot->seal_hash,
	                                   .taken_us = snapshot->taken_us};
	return put_block(writer, SNAPSHOT_HEADER, sizeof *header);
}

/* ---- accounts */

/* The name of SLOT, one of the stripe's that were copied, into NAME. */
static void copy_name(const struct account_slot *copy, const struct account_slot *slot, char *name)
{
	uint32_t here = slot->name_length;

	if (here > TABLE_NAME_INLINE) {
		here = TABLE_NAME_INLINE;
		memcpy(name + here, copy[slot->rest - 1].name, slot->name_length - here);
	}
	memcpy(name, slot->name, here);
}

static uint32_t put_account(const struct account_slot *copy, const struct account_slot *slot,
                            unsigned char *target)
{
	struct snapshot_account *account = (struct snapshot_account *)(void *)target;
	uint32_t size = snapshot_account_size(slot->name_length);

	memset(target + size - 8, 0, 8);
	account->lsn = slot->lsn;
	account->balance = slot->balance;
	account->held = slot->held;
	account->floor = slot->floor;
	account->ceiling = slot->ceiling;
	account->version = slot->version;
	account->created_us = slot->created_us;
	account->updated_us = slot->updated_us;
	account->frozen = slot->frozen;
	account->name_length = slot->name_length;
	copy_name(copy, slot, account->name);
	return size;
}

static bool copy_stripe(struct writer *writer, uint32_t stripe)
{
	uint32_t slots = table_stripe_slots(writer->region);

	if (!lock_acquire(writer->region, stripe))
		return false;
	memcpy(writer->copy, table_slot(writer->region, stripe, 0),
	       slots * sizeof(struct account_slot));
	lock_release(writer->region, stripe);
	return true;
}

static enum snapshot_status put_stripe(struct writer *writer, uint32_t stripe)
{
	const struct account_slot *copy = writer->copy;
	enum snapshot_status status = SNAPSHOT_OK;
	uint64_t newest = 0;
	uint32_t length = 0;

	if (!copy_stripe(writer, stripe))
		return SNAPSHOT_POISONED;
	for (uint32_t i = 0; i < table_stripe_slots(writer->region); i++) {
		/* Those of deleted accounts count: that they are gone is an effect. */
		if (copy[i].lsn > newest)
			newest = copy[i].lsn;
		if (!table_is_account(&copy[i]))
			continue;
		status = make_room(writer, SNAPSHOT_ACCOUNTS, &length,
		                   snapshot_account_size(copy[i].name_length));
		if (status != SNAPSHOT_OK)
			return status;
		length += put_account(copy, &copy[i], (unsigned char *)body(writer) + length);
		writer->snapshot.accounts++;
	}
	status = put_rest(writer, SNAPSHOT_ACCOUNTS, length);
	return status == SNAPSHOT_OK ? cover(writer, COVERAGE_ACCOUNTS, stripe, newest) : status;
}

static enum snapshot_status put_accounts(struct writer *writer)
{
	enum snapshot_status status = SNAPSHOT_OK;

	for (uint32_t i = 0; i < region_stripes(writer->region) && status == SNAPSHOT_OK; i++)
		status = put_stripe(writer, i);
	return status;
}

/* ---- ids */

/* How many slots one lock guards: the first run is as long as any. */
static uint64_t id_run(const struct region *region)
{
	uint32_t lock = ids_slot_lock(region, 0);
	uint64_t run = IDS_BUCKET;

	while (run < ids_slots(region) && ids_slot_lock(region, run) == lock)
		run += IDS_BUCKET;
	return run;
}

/* Copies the ids from FIRST on that one lock guards; their number in *COUNT. */
static bool copy_ids(struct writer *writer, uint64_t first, uint64_t *count)
{
	const struct region *region = writer->region;
	uint32_t lock = ids_slot_lock(region, first);
	struct id_slot *copy = writer->copy;
	uint64_t left = ids_slots(region) - first;

	*count = left < writer->id_run ? left : writer->id_run;
	if (!lock_acquire(writer->region, lock))
		return false;
	for (uint64_t i = 0; i < *count; i += IDS_BUCKET)
		memcpy(copy + i, ids_slot(region, first + i), IDS_BUCKET * sizeof *copy);
	lock_release(writer->region, lock);
	return true;
}

static enum snapshot_status put_id_run(struct writer *writer, uint64_t first, uint64_t *count)
{
	const struct id_slot *copy = writer->copy;
	enum snapshot_status status = SNAPSHOT_OK;
	uint64_t newest = 0;
	uint32_t length = 0;

	if (!copy_ids(writer, first, count))
		return SNAPSHOT_POISONED;
	for (uint64_t i = 0; i < *count; i++) {
		if (copy[i].lsn > newest)
			newest = copy[i].lsn;
		if (copy[i].lsn == 0)
			continue;
		struct snapshot_id id = {.lsn = copy[i].lsn,
		                         .key_low = copy[i].key.low,
		                         .key_high = copy[i].key.high,
		                         .time_us = copy[i].time_us};
		status = make_room(writer, SNAPSHOT_IDS, &length, sizeof id);
		if (status != SNAPSHOT_OK)
			return status;
		memcpy((unsigned char *)body(writer) + length, &id, sizeof id);
		length += (uint32_t)sizeof id;
		writer->snapshot.ids++;
	}
	status = put_rest(writer, SNAPSHOT_IDS, length);
	return status == SNAPSHOT_OK
	           ? cover(writer, COVERAGE_IDS, ids_slot_lock(writer->region, first), newest)
	           : status;
}

static enum snapshot_status put_ids(struct writer *writer)
{
	enum snapshot_status status = SNAPSHOT_OK;
	uint64_t count;

	for (uint64_t i = 0; i < ids_slots(writer->region) && status == SNAPSHOT_OK; i += count)
		status = put_id_run(writer, i, &count);
	/* After the copies: whatever made room before has been noted. */
	writer->snapshot.ids_lost_us = atomic_load(&region_marks(writer->region)->ids_lost_us);
	return status;
}

/* ---- holds */

static uint32_t put_hold(const struct hold_slot *slot, unsigned char *target)
{
	struct snapshot_hold *hold = (struct snapshot_hold *)(void *)target;
	uint32_t size = snapshot_hold_size(slot->id_length, slot->account_length);

	memset(target + size - 8, 0, 8);
	hold->lsn = slot->lsn;
	hold->amount = slot->amount;
	hold->captured = slot->captured;
	hold->expires_us = slot->expires_us;
	hold->placed_us = slot->placed_us;
	hold->settled_us = slot->settled_us;
	hold->to_hash = slot->to_hash;
	hold->state = slot->state;
	hold->id_length = slot->id_length;
	hold->account_length = slot->account_length;
	memcpy(hold->text, slot->id, slot->id_length);
	memcpy(hold->text + slot->id_length, slot->account, slot->account_length);
	return size;
}

static bool copy_holds(struct writer *writer, uint64_t first)
{
	const struct hold_slot *slot = holds_slot(writer->region, first);
	uint32_t lock = holds_slot_lock(writer->region, slot);

	if (!lock_acquire(writer->region, lock))
		return false;
	memcpy(writer->copy, slot, HOLDS_BUCKET * sizeof *slot);
	lock_release(writer->region, lock);
	return true;
}

static enum snapshot_status put_bucket(struct writer *writer, uint64_t first)
{
	const struct hold_slot *copy = writer->copy;
	enum snapshot_status status = SNAPSHOT_OK;
	uint64_t newest = 0;
	uint32_t length = 0;

	if (!copy_holds(writer, first))
		return SNAPSHOT_POISONED;
	for (uint32_t i = 0; i < HOLDS_BUCKET; i++) {
		if (copy[i].lsn > newest)
			newest = copy[i].lsn;
		if (copy[i].lsn == 0)
			continue;
		status = make_room(writer, SNAPSHOT_HOLDS, &length,
		                   snapshot_hold_size(copy[i].id_length, copy[i].account_length));
		if (status != SNAPSHOT_OK)
			return status;
		length += put_hold(&copy[i], (unsigned char *)body(writer) + length);
		writer->snapshot.holds++;
	}
	status = put_rest(writer, SNAPSHOT_HOLDS, length);
	return status == SNAPSHOT_OK
	           ? cover(writer, COVERAGE_HOLDS,
	                   holds_slot_lock(writer->region, holds_slot(writer->region, first)),
	                   newest)
	           : status;
}

static enum snapshot_status put_holds(struct writer *writer)
{
	enum snapshot_status status = SNAPSHOT_OK;

	for (uint64_t i = 0; i < holds_slots(writer->region) && status == SNAPSHOT_OK;
	     i += HOLDS_BUCKET)
		status = put_bucket(writer, i);
	return status;
}

/* ---- the whole */

static enum snapshot_status put_coverage(struct writer *writer)
{
	const struct coverage_part *part = writer->coverage.part;
	enum snapshot_status status;
	uint32_t length = 0;

	for (size_t i = 0; i < writer->coverage.count; i++) {
		status = make_room(writer, SNAPSHOT_COVERAGE, &length, sizeof *part);
		if (status != SNAPSHOT_OK)
			return status;
		memcpy((unsigned char *)body(writer) + length, &part[i], sizeof *part);
		length += (uint32_t)sizeof *part;
	}
	return put_rest(writer, SNAPSHOT_COVERAGE, length);
}

static enum snapshot_status put_trailer(struct writer *writer)
{
	struct snapshot_trailer *trailer = body(writer);

	*trailer = (struct snapshot_trailer){.accounts = writer->snapshot.accounts,
	                                     .ids = writer->snapshot.ids,
	                                     .holds = writer->snapshot.holds,
	                                     .parts = writer->coverage.count,
	                                     .newest = writer->snapshot.newest,
	                                     .ids_lost_us = writer->snapshot.ids_lost_us};
	return put_block(writer, SNAPSHOT_TRAILER, sizeof *trailer) == 0 &&
	               disk_fsync(writer->fd) == 0
	           ? SNAPSHOT_OK
	           : SNAPSHOT_IO;
}

static enum snapshot_status put_all(struct writer *writer)
{
	static enum snapshot_status (*const part[])(struct writer *) = {
	    put_accounts, put_ids, put_holds, put_coverage, put_trailer};
	enum snapshot_status status = SNAPSHOT_OK;

	if (!read_start(writer))
		return SNAPSHOT_POISONED;
	if (put_header(writer) != 0)
		return SNAPSHOT_IO;
	for (size_t i = 0; i < sizeof part / sizeof *part && status == SNAPSHOT_OK; i++)
		status = part[i](writer);
	return status;
}

/* Two stay; a failure to remove a third is not one of the snapshot. */
static void prune(int directory, const char *path)
{
	uint64_t start = UINT64_MAX;
	char name[SNAPSHOT_NAME_SIZE];

	for (int kept = 0; snapshot_find(path, start, &start) == SNAPSHOT_OK; kept++) {
		if (kept < SNAPSHOTS_KEPT)
			continue;
		snprintf(name, sizeof name, SNAPSHOT_NAME, start);
		unlinkat(directory, name, 0);
	}
}

static enum snapshot_status publish(struct writer *writer, const char *path)
{
	char name[SNAPSHOT_NAME_SIZE];

	snprintf(name, sizeof name, SNAPSHOT_NAME, writer->snapshot.start);
	if (disk_publish(writer->directory, SNAPSHOT_TEMPORARY, name) != 0)
		return SNAPSHOT_IO;
	prune(writer->directory, path);
	return SNAPSHOT_OK;
}

/*
 * What must be durable first: the newest effect, and everything before the start, marks and
 * seals too.  Were the journal to end before the start, new records would come to stand there,
 * and replay would take them for ones that the snapshot holds.
 */
static uint64_t relies_on(const struct snapshot *snapshot)
{
	uint64_t last = snapshot->start - 1;

	return snapshot->newest > last ? snapshot->newest : last;
}

static enum snapshot_status write_file(struct writer *writer, const char *path,
                                       bool (*durable_past)(struct region *, uint64_t))
{
	enum snapshot_status status;

	writer->fd = disk_create(writer->directory, SNAPSHOT_TEMPORARY);
	if (writer->fd < 0)
		return SNAPSHOT_IO;
	status = put_all(writer);
	if (disk_close(writer->fd) != 0 && status == SNAPSHOT_OK)
		status = SNAPSHOT_IO;
	if (status == SNAPSHOT_OK && !durable_past(writer->region, relies_on(&writer->snapshot))) {
		errno = ECANCELED;
		status = SNAPSHOT_IO;
	}
	if (status == SNAPSHOT_OK)
		return publish(writer, path);
	int error = errno;
	unlinkat(writer->directory, SNAPSHOT_TEMPORARY, 0);
	errno = error;
	return status;
}

/* Bytes of the most that one lock guards. */
static size_t copy_size(const struct writer *writer)
{
	size_t size = table_stripe_slots(writer->region) * sizeof(struct account_slot);
	size_t ids = (size_t)writer->id_run * sizeof(struct id_slot);
	size_t holds = HOLDS_BUCKET * sizeof(struct hold_slot);

	size = size > ids ? size : ids;
	return size > holds ? size : holds;
}

enum snapshot_status snapshot_write(struct region *region, const char *path, uint64_t key,
                                    bool (*durable_past)(struct region *region, uint64_t lsn),
                                    struct snapshot *snapshot)
{
	struct writer writer = {.region = region, .directory = -1, .fd = -1, .chain = key};
	enum snapshot_status status = SNAPSHOT_IO;

	writer.id_run = id_run(region);
	writer.copy = malloc(copy_size(&writer));
	writer.out = malloc(sizeof *writer.out);
	if (writer.copy != NULL && writer.out != NULL)
		writer.directory = disk_directory(path);
	if (writer.directory >= 0) {
		status = write_file(&writer, path, durable_past);
		int error = errno;
		close(writer.directory);
		errno = error;
	}
	coverage_free(&writer.coverage);
	free(writer.copy);
	free(writer.out);
	*snapshot = writer.snapshot;
	return status;
}
