#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "../../shm/holds.h"
#include "../../shm/region.h"
#include "../../shm/table.h"
#include "coverage.h"
#include "disk.h"
#include "event.h"
#include "replay.h"
#include "snapshot.h"
#include "snapshot_format.h"

struct loader {
	int fd;
	uint64_t offset;
	uint64_t chain;
	struct snapshot snapshot;
	struct region *region;     /* NULL while verifying */
	struct coverage *coverage; /* likewise */
	struct coverage_part part; /* the last one seen */
	uint64_t parts;
	union {
		struct snapshot_block block;
		unsigned char bytes[sizeof(struct snapshot_block) + SNAPSHOT_BLOCK_MAX];
	} * in;
};

static bool parse_name(const char *name, uint64_t *start)
{
	char again[SNAPSHOT_NAME_SIZE];
	char *end;

	*start = strtoull(name, &end, 16);
	snprintf(again, sizeof again, SNAPSHOT_NAME, *start);
	return strcmp(again, name) == 0;
}

enum snapshot_status snapshot_find(const char *path, uint64_t before, uint64_t *start)
{
	enum snapshot_status status = SNAPSHOT_NONE;
	int fd = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	uint64_t found;
	uint64_t best = 0;

	if (directory == NULL) {
		int cause = errno;
		if (fd >= 0)
			close(fd);
		errno = cause;
		return cause == ENOENT ? SNAPSHOT_NONE : SNAPSHOT_IO;
	}
	while (errno = 0, (entry = readdir(directory)) != NULL) {
		if (!parse_name(entry->d_name, &found) || found >= before)
			continue;
		if (status == SNAPSHOT_NONE || found > best)
			best = found;
		status = SNAPSHOT_OK;
	}
	/* A list that was cut short must not pass for a whole one. */
	int cause = errno;
	closedir(directory);
	errno = cause;
	if (cause != 0)
		return SNAPSHOT_IO;
	if (status == SNAPSHOT_OK)
		*start = best;
	return status;
}

static const void *body(const struct loader *loader)
{
	return loader->in->bytes + sizeof(struct snapshot_block);
}

/* The next block into loader->in: its head and its checksum are sound on SNAPSHOT_OK. */
static enum snapshot_status next_block(struct loader *loader)
{
	struct snapshot_block *block = &loader->in->block;
	ssize_t got = disk_read(loader->fd, block, sizeof *block, loader->offset);

	if (got < 0)
		return SNAPSHOT_IO;
	if (got < (ssize_t)sizeof *block || block->length > SNAPSHOT_BLOCK_MAX ||
	    block->length % 8 != 0)
		return SNAPSHOT_BAD;
	size_t size = sizeof *block + block->length;
	got = disk_read(loader->fd, block + 1, block->length, loader->offset + sizeof *block);
	if (got < 0)
		return SNAPSHOT_IO;
	if (got < (ssize_t)block->length ||
	    XXH3_64bits_withSeed(loader->in->bytes + sizeof block->checksum,
	                         size - sizeof block->checksum, loader->chain) != block->checksum)
		return SNAPSHOT_BAD;
	loader->chain = block->checksum;
	loader->offset += size;
	return SNAPSHOT_OK;
}

static enum snapshot_status read_header(struct loader *loader, uint64_t start)
{
	const struct snapshot_header *header = body(loader);
	enum snapshot_status status = next_block(loader);

	if (status != SNAPSHOT_OK)
		return status;
	if (loader->in->block.type != SNAPSHOT_HEADER ||
	    loader->in->block.length != sizeof *header || header->magic != SNAPSHOT_MAGIC ||
	    header->version != SNAPSHOT_VERSION || header->start != start)
		return SNAPSHOT_BAD;
	loader->snapshot = (struct snapshot){.start = header->start,
	                                     .seal_to = header->seal_to,
	                                     .seal_hash = header->seal_hash,
	                                     .taken_us = header->taken_us};
	return SNAPSHOT_OK;
}

static enum snapshot_status too_many(struct loader *loader, const char *why)
{
	loader->snapshot.full = why;
	return SNAPSHOT_FULL;
}

static void note_lsn(struct loader *loader, uint64_t lsn)
{
	if (lsn > loader->snapshot.newest)
		loader->snapshot.newest = lsn;
}

/* ---- accounts */

static enum snapshot_status insert_account(struct loader *loader,
                                           const struct snapshot_account *account)
{
	struct region *region = loader->region;
	uint64_t hash = XXH3_64bits_withSeed(account->name, account->name_length,
	                                     region_geometry(region)->hash_seed);
	const struct account_slot slot = {.lsn = account->lsn,
	                                  .balance = account->balance,
	                                  .held = account->held,
	                                  .floor = account->floor,
	                                  .ceiling = account->ceiling,
	                                  .version = account->version,
	                                  .created_us = account->created_us,
	                                  .updated_us = account->updated_us,
	                                  .frozen = (uint8_t)account->frozen};

	if (table_find(region, table_stripe(region, hash), hash, account->name,
	               account->name_length) != NULL)
		return SNAPSHOT_BAD;
	if (replay_put_account(region, &slot, account->name, account->name_length))
		return SNAPSHOT_OK;
	return too_many(loader, replay_table_full);
}

static bool account_sound(const struct snapshot_account *account, size_t left)
{
	return left >= snapshot_account_size(1) && account->name_length != 0 &&
	       account->name_length <= ACCOUNT_NAME_MAX &&
	       left >= snapshot_account_size(account->name_length) && account->lsn != 0 &&
	       account->version != 0 && account->held >= 0 && account->floor <= account->ceiling &&
	       account->frozen <= FROZEN_ALL;
}

static enum snapshot_status read_accounts(struct loader *loader)
{
	const unsigned char *at = (const unsigned char *)body(loader);
	const unsigned char *end = at + loader->in->block.length;
	enum snapshot_status status = SNAPSHOT_OK;

	while (at < end && status == SNAPSHOT_OK) {
		const struct snapshot_account *account = (const void *)at;
		if (!account_sound(account, (size_t)(end - at)))
			return SNAPSHOT_BAD;
		loader->snapshot.accounts++;
		note_lsn(loader, account->lsn);
		if (loader->region != NULL)
			status = insert_account(loader, account);
		at += snapshot_account_size(account->name_length);
	}
	return status;
}

/* ---- ids */

static void insert_id(struct loader *loader, const struct snapshot_id *id)
{
	struct key key = {.low = id->key_low, .high = id->key_high};

	if (!replay_put_id(loader->region, &key, id->lsn, id->time_us))
		loader->snapshot.ids_left_out++;
}

static enum snapshot_status read_ids(struct loader *loader)
{
	const struct snapshot_id *id = body(loader);
	size_t count = loader->in->block.length / sizeof *id;

	if (loader->in->block.length % sizeof *id != 0)
		return SNAPSHOT_BAD;
	for (size_t i = 0; i < count; i++) {
		if (id[i].lsn == 0)
			return SNAPSHOT_BAD;
		note_lsn(loader, id[i].lsn);
		if (loader->region != NULL)
			insert_id(loader, &id[i]);
	}
	loader->snapshot.ids += count;
	return SNAPSHOT_OK;
}

/* ---- holds */

static enum snapshot_status insert_hold(struct loader *loader, const struct snapshot_hold *hold)
{
	struct hold_slot slot = {.lsn = hold->lsn,
	                         .amount = hold->amount,
	                         .captured = hold->captured,
	                         .expires_us = hold->expires_us,
	                         .placed_us = hold->placed_us,
	                         .settled_us = hold->settled_us,
	                         .to_hash = hold->to_hash,
	                         .state = hold->state,
	                         .id_length = hold->id_length,
	                         .account_length = hold->account_length};
	struct key key =
	    record_key(region_geometry(loader->region)->journal_key, hold->text, hold->id_length);

	const struct hold_slot *same = holds_find(loader->region, &key);
	/* An id may have been used again when its settled hold was forgotten, never while it was
	 * open. */
	if (same != NULL && same->state == HOLD_OPEN && hold->state == HOLD_OPEN)
		return SNAPSHOT_BAD;
	if (same != NULL && same->lsn >= hold->lsn)
		return SNAPSHOT_OK;
	memcpy(slot.id, hold->text, hold->id_length);
	memcpy(slot.account, hold->text + hold->id_length, hold->account_length);
	/* Settled ones that do not fit are forgotten, as they are when holds are placed. */
	if (replay_put_hold(loader->region, &slot) || hold->state != HOLD_OPEN)
		return SNAPSHOT_OK;
	return too_many(loader, replay_holds_full);
}

static bool hold_sound(const struct snapshot_hold *hold, size_t left)
{
	return left >= snapshot_hold_size(1, 1) && hold->id_length != 0 &&
	       hold->id_length <= ID_MAX && hold->account_length != 0 &&
	       hold->account_length <= ACCOUNT_NAME_MAX &&
	       left >= snapshot_hold_size(hold->id_length, hold->account_length) &&
	       hold->lsn != 0 && hold->amount > 0 && hold->captured >= 0 &&
	       hold->state >= HOLD_OPEN && hold->state <= HOLD_EXPIRED;
}

static enum snapshot_status read_holds(struct loader *loader)
{
	const unsigned char *at = (const unsigned char *)body(loader);
	const unsigned char *end = at + loader->in->block.length;
	enum snapshot_status status = SNAPSHOT_OK;

	while (at < end && status == SNAPSHOT_OK) {
		const struct snapshot_hold *hold = (const void *)at;
		if (!hold_sound(hold, (size_t)(end - at)))
			return SNAPSHOT_BAD;
		loader->snapshot.holds++;
		note_lsn(loader, hold->lsn);
		if (loader->region != NULL)
			status = insert_hold(loader, hold);
		at += snapshot_hold_size(hold->id_length, hold->account_length);
	}
	return status;
}

/* ---- coverage */

static enum snapshot_status read_coverage(struct loader *loader)
{
	const struct coverage_part *part = body(loader);
	size_t count = loader->in->block.length / sizeof *part;

	if (loader->in->block.length % sizeof *part != 0)
		return SNAPSHOT_BAD;
	for (size_t i = 0; i < count; i++) {
		if (part[i].table < COVERAGE_ACCOUNTS || part[i].table > COVERAGE_HOLDS ||
		    part[i].zero != 0 || part[i].first > part[i].last ||
		    part[i].table < loader->part.table ||
		    (part[i].table == loader->part.table && part[i].first <= loader->part.last))
			return SNAPSHOT_BAD;
		loader->part = part[i];
		loader->parts++;
		note_lsn(loader, part[i].newest);
		if (loader->coverage != NULL && coverage_add(loader->coverage, &part[i]) != 0)
			return SNAPSHOT_IO;
	}
	return SNAPSHOT_OK;
}

/* ---- the whole */

/* The trailer must agree, and the file must end with it. */
static enum snapshot_status read_trailer(struct loader *loader)
{
	const struct snapshot_trailer *trailer = body(loader);
	char more;

	if (loader->in->block.length != sizeof *trailer ||
	    trailer->accounts != loader->snapshot.accounts ||
	    trailer->ids != loader->snapshot.ids || trailer->holds != loader->snapshot.holds ||
	    trailer->parts != loader->parts || trailer->newest < loader->snapshot.newest)
		return SNAPSHOT_BAD;
	loader->snapshot.newest = trailer->newest;
	loader->snapshot.ids_lost_us = trailer->ids_lost_us;
	if (loader->region != NULL)
		replay_lose_id(loader->region, trailer->ids_lost_us);
	ssize_t got = disk_read(loader->fd, &more, 1, loader->offset);
	if (got < 0)
		return SNAPSHOT_IO;
	return got == 0 ? SNAPSHOT_OK : SNAPSHOT_BAD;
}

static enum snapshot_status read_part(struct loader *loader)
{
	switch (loader->in->block.type) {
	case SNAPSHOT_ACCOUNTS:
		return read_accounts(loader);
	case SNAPSHOT_IDS:
		return read_ids(loader);
	case SNAPSHOT_HOLDS:
		return read_holds(loader);
	case SNAPSHOT_COVERAGE:
		return read_coverage(loader);
	default:
		return SNAPSHOT_BAD;
	}
}

static enum snapshot_status pass(struct loader *loader, uint64_t start, uint64_t key)
{
	enum snapshot_status status;

	loader->offset = 0;
	loader->chain = key;
	loader->part = (struct coverage_part){0};
	loader->parts = 0;
	status = read_header(loader, start);
	while (status == SNAPSHOT_OK) {
		status = next_block(loader);
		if (status != SNAPSHOT_OK)
			break;
		if (loader->in->block.type == SNAPSHOT_TRAILER)
			return read_trailer(loader);
		status = read_part(loader);
	}
	return status;
}

/* That it contradicts itself shows only here: an older one must find the tables empty then. */
static enum snapshot_status fill(struct loader *loader, uint64_t start, uint64_t key)
{
	enum snapshot_status status = pass(loader, start, key);

	if (status == SNAPSHOT_BAD) {
		region_empty(loader->region);
		coverage_free(loader->coverage);
	}
	return status;
}

enum snapshot_status snapshot_load(struct region *region, const char *path, uint64_t start,
                                   uint64_t key, struct snapshot *snapshot,
                                   struct coverage *coverage)
{
	struct loader loader = {.fd = -1};
	enum snapshot_status status = SNAPSHOT_IO;
	char name[SNAPSHOT_NAME_SIZE];
	int directory = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);

	snprintf(name, sizeof name, SNAPSHOT_NAME, start);
	if (directory >= 0)
		loader.fd = disk_open(directory, name, O_RDONLY | O_NOFOLLOW);
	loader.in = malloc(sizeof *loader.in);
	if (loader.fd >= 0 && loader.in != NULL) {
		status = pass(&loader, start, key);
		loader.region = region;
		loader.coverage = coverage;
		if (status == SNAPSHOT_OK)
			status = fill(&loader, start, key);
		*snapshot = loader.snapshot;
	}
	int error = errno;
	free(loader.in);
	if (loader.fd >= 0)
		close(loader.fd);
	if (directory >= 0)
		close(directory);
	errno = error;
	return status;
}

enum snapshot_status snapshot_peek(const char *path, uint64_t start, uint64_t key,
                                   struct snapshot *snapshot)
{
	struct loader loader = {.fd = -1, .chain = key};
	enum snapshot_status status = SNAPSHOT_IO;
	char name[SNAPSHOT_NAME_SIZE];
	int directory = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);

	snprintf(name, sizeof name, SNAPSHOT_NAME, start);
	if (directory >= 0)
		loader.fd = disk_open(directory, name, O_RDONLY | O_NOFOLLOW);
	loader.in = malloc(sizeof *loader.in);
	if (loader.fd >= 0 && loader.in != NULL)
		status = read_header(&loader, start);
	*snapshot = loader.snapshot;
	int error = errno;
	free(loader.in);
	if (loader.fd >= 0)
		close(loader.fd);
	if (directory >= 0)
		close(directory);
	errno = error;
	return status;
}
