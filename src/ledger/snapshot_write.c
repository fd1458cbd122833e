#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "../../shm/lock.h"
#include "../../shm/region.h"
#include "../../shm/table.h"
#include "disk.h"
#include "snapshot_format.h"

struct writer {
	struct region *region;
	int directory;
	int fd;
	uint64_t offset;
	uint64_t chain; /* the checksum of the block before */
	struct snapshot snapshot;
	struct account_slot *copy; /* one stripe */
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

static uint32_t put_account(unsigned char *target, const struct account_slot *slot)
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
	account->flags = slot->flags;
	account->name_length = slot->name_length;
	memcpy(account->name, slot->name, slot->name_length);
	return size;
}

static bool copy_stripe(struct writer *writer, uint32_t stripe)
{
	uint32_t slots = table_stripe_slots(writer->region);

	if (!lock_acquire(writer->region, stripe))
		return false;
	memcpy(writer->copy, table_slot(writer->region, stripe, 0), slots * sizeof *writer->copy);
	lock_release(writer->region, stripe);
	return true;
}

static enum snapshot_status put_stripe(struct writer *writer, uint32_t stripe)
{
	uint32_t length = 0;

	if (!copy_stripe(writer, stripe))
		return SNAPSHOT_POISONED;
	for (uint32_t i = 0; i < table_stripe_slots(writer->region); i++) {
		const struct account_slot *slot = &writer->copy[i];
		if (slot->name_length == 0)
			continue;
		length += put_account((unsigned char *)body(writer) + length, slot);
		writer->snapshot.accounts++;
		if (slot->lsn > writer->snapshot.newest)
			writer->snapshot.newest = slot->lsn;
	}
	if (length != 0 && put_block(writer, SNAPSHOT_ACCOUNTS, length) != 0)
		return SNAPSHOT_IO;
	return SNAPSHOT_OK;
}

static enum snapshot_status put_all(struct writer *writer)
{
	enum snapshot_status status = SNAPSHOT_OK;
	struct snapshot_trailer *trailer = body(writer);

	if (!read_start(writer))
		return SNAPSHOT_POISONED;
	if (put_header(writer) != 0)
		return SNAPSHOT_IO;
	for (uint32_t i = 0; i < region_stripes(writer->region) && status == SNAPSHOT_OK; i++)
		status = put_stripe(writer, i);
	if (status != SNAPSHOT_OK)
		return status;
	*trailer = (struct snapshot_trailer){.accounts = writer->snapshot.accounts,
	                                     .newest = writer->snapshot.newest};
	if (put_block(writer, SNAPSHOT_TRAILER, sizeof *trailer) != 0 ||
	    disk_fsync(writer->fd) != 0)
		return SNAPSHOT_IO;
	return SNAPSHOT_OK;
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

enum snapshot_status snapshot_write(struct region *region, const char *path, uint64_t key,
                                    bool (*durable_past)(struct region *region, uint64_t lsn),
                                    struct snapshot *snapshot)
{
	struct writer writer = {.region = region, .directory = -1, .fd = -1, .chain = key};
	enum snapshot_status status = SNAPSHOT_IO;

	writer.copy = malloc(table_stripe_slots(region) * sizeof *writer.copy);
	writer.out = malloc(sizeof *writer.out);
	if (writer.copy != NULL && writer.out != NULL &&
	    (mkdir(path, 0700) == 0 || errno == EEXIST))
		writer.directory = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
	if (writer.directory >= 0) {
		status = write_file(&writer, path, durable_past);
		int error = errno;
		close(writer.directory);
		errno = error;
	}
	free(writer.copy);
	free(writer.out);
	*snapshot = writer.snapshot;
	return status;
}
