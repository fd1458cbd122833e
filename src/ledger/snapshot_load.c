#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "../../shm/region.h"
#include "../../shm/table.h"
#include "disk.h"
#include "event.h"
#include "snapshot.h"
#include "snapshot_format.h"

struct loader {
	int fd;
	uint64_t offset;
	uint64_t chain;
	struct snapshot snapshot;
	struct region *region; /* NULL while verifying */
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

static enum snapshot_status insert(struct region *region, const struct snapshot_account *account)
{
	uint64_t hash = XXH3_64bits_withSeed(account->name, account->name_length,
	                                     region_geometry(region)->hash_seed);
	struct account_slot *vacancy = NULL;

	if (table_find(region, table_stripe(region, hash), hash, account->name,
	               account->name_length, &vacancy) != NULL) {
		/* Its checksums are right, so this is no damage that an older one would mend. */
		errno = EUCLEAN;
		return SNAPSHOT_IO;
	}
	if (vacancy == NULL)
		return SNAPSHOT_FULL;
	*vacancy = (struct account_slot){.lsn = account->lsn,
	                                 .hash = hash,
	                                 .balance = account->balance,
	                                 .held = account->held,
	                                 .floor = account->floor,
	                                 .ceiling = account->ceiling,
	                                 .version = account->version,
	                                 .created_us = account->created_us,
	                                 .updated_us = account->updated_us,
	                                 .flags = account->flags,
	                                 .name_length = account->name_length};
	memcpy(vacancy->name, account->name, account->name_length);
	return SNAPSHOT_OK;
}

static enum snapshot_status read_accounts(struct loader *loader)
{
	const unsigned char *at = (const unsigned char *)body(loader);
	const unsigned char *end = at + loader->in->block.length;
	enum snapshot_status status = SNAPSHOT_OK;

	while (at < end && status == SNAPSHOT_OK) {
		const struct snapshot_account *account = (const void *)at;
		if ((size_t)(end - at) < snapshot_account_size(1) || account->name_length == 0 ||
		    account->name_length > ACCOUNT_NAME_MAX ||
		    (size_t)(end - at) < snapshot_account_size(account->name_length))
			return SNAPSHOT_BAD;
		loader->snapshot.accounts++;
		if (account->lsn > loader->snapshot.newest)
			loader->snapshot.newest = account->lsn;
		if (loader->region != NULL)
			status = insert(loader->region, account);
		at += snapshot_account_size(account->name_length);
	}
	return status;
}

/* The trailer must agree, and the file must end with it. */
static enum snapshot_status read_trailer(struct loader *loader)
{
	const struct snapshot_trailer *trailer = body(loader);
	char more;

	if (loader->in->block.length != sizeof *trailer ||
	    trailer->accounts != loader->snapshot.accounts ||
	    trailer->newest != loader->snapshot.newest)
		return SNAPSHOT_BAD;
	ssize_t got = disk_read(loader->fd, &more, 1, loader->offset);
	if (got < 0)
		return SNAPSHOT_IO;
	return got == 0 ? SNAPSHOT_OK : SNAPSHOT_BAD;
}

static enum snapshot_status pass(struct loader *loader, uint64_t start, uint64_t key,
                                 struct region *region)
{
	enum snapshot_status status;

	loader->offset = 0;
	loader->chain = key;
	loader->region = region;
	status = read_header(loader, start);
	while (status == SNAPSHOT_OK) {
		status = next_block(loader);
		if (status != SNAPSHOT_OK)
			break;
		if (loader->in->block.type == SNAPSHOT_TRAILER)
			return read_trailer(loader);
		status = loader->in->block.type == SNAPSHOT_ACCOUNTS ? read_accounts(loader)
		                                                     : SNAPSHOT_BAD;
	}
	return status;
}

/* What was sound a moment ago and is not now: no older one goes into a table half filled. */
static enum snapshot_status fill(struct loader *loader, uint64_t start, uint64_t key,
                                 struct region *region)
{
	enum snapshot_status status = pass(loader, start, key, region);

	if (status != SNAPSHOT_BAD)
		return status;
	errno = EIO;
	return SNAPSHOT_IO;
}

enum snapshot_status snapshot_load(struct region *region, const char *path, uint64_t start,
                                   uint64_t key, struct snapshot *snapshot)
{
	struct loader loader = {.fd = -1};
	enum snapshot_status status = SNAPSHOT_IO;
	char name[SNAPSHOT_NAME_SIZE];
	int directory = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);

	snprintf(name, sizeof name, SNAPSHOT_NAME, start);
	if (directory >= 0)
		loader.fd = disk_open(directory, name, O_RDONLY);
	loader.in = malloc(sizeof *loader.in);
	if (loader.fd >= 0 && loader.in != NULL) {
		status = pass(&loader, start, key, NULL);
		if (status == SNAPSHOT_OK)
			status = fill(&loader, start, key, region);
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
