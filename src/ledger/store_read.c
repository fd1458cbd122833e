/* replay and tail of the store of files, and the verdict on what follows the tail. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"
#include "store_private.h"

#define READ_BUFFER 1048576 /* bytes; at least one record */

struct store_reader {
	const struct store *store;
	uint64_t at; /* LSN of the next record */
	int fd;      /* its segment, or -1 */
	struct segment open;
	uint64_t start; /* LSN of the buffer's first byte */
	size_t have;    /* bytes in the buffer */
	_Alignas(8) unsigned char buffer[READ_BUFFER];
};

struct store_reader *store_replay(const struct store *store, uint64_t from)
{
	struct store_reader *reader = malloc(sizeof *reader);

	if (reader == NULL)
		return NULL;
	reader->store = store;
	reader->at = from;
	reader->fd = -1;
	reader->have = 0;
	reader->start = 0;
	return reader;
}

void store_reader_close(struct store_reader *reader)
{
	if (reader == NULL)
		return;
	if (reader->fd >= 0)
		close(reader->fd);
	free(reader);
}

uint64_t store_reader_at(const struct store_reader *reader)
{
	return reader->at;
}

static enum store_status enter(struct store_reader *reader)
{
	struct segment segment;
	const char *why;

	if (reader->fd >= 0) {
		if (reader->at >= reader->open.base &&
		    reader->at < reader->open.base + reader->open.size)
			return STORE_OK;
		close(reader->fd);
		reader->fd = -1;
	}
	if (!store_find(reader->store, reader->at, &segment))
		return STORE_END;
	reader->fd =
	    segment_open(reader->store->directory, segment.base, O_RDONLY, &reader->open, &why);
	reader->have = 0;
	return reader->fd >= 0 ? STORE_OK : STORE_IO;
}

/* Has the buffer WANTED bytes at the position, or all up to the segment's end? */
static enum store_status buffered(struct store_reader *reader, size_t wanted, size_t *have)
{
	uint64_t end = reader->open.base + reader->open.size;
	uint64_t left = end - reader->at;

	if (wanted > left)
		wanted = (size_t)left;
	if (reader->have == 0 || reader->at < reader->start ||
	    reader->at + wanted > reader->start + reader->have) {
		size_t length = left < READ_BUFFER ? (size_t)left : READ_BUFFER;
		ssize_t got =
		    disk_read(reader->fd, reader->buffer, length, reader->at - reader->open.base);
		if (got < 0)
			return STORE_IO;
		if ((size_t)got < length) {
			errno = EUCLEAN; /* it had its full size when it was opened */
			return STORE_IO;
		}
		reader->start = reader->at;
		reader->have = (size_t)got;
	}
	*have = (size_t)(reader->start + reader->have - reader->at);
	return STORE_OK;
}

/* Zero is what equals itself one byte on, if it begins with zero: memcmp is fast. */
static bool all_zero(const unsigned char *bytes, size_t length)
{
	return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

/* What is left of a segment is too little for a record: go to the next one, if there is one. */
static bool skip_rest(struct store_reader *reader)
{
	uint64_t end = reader->open.base + reader->open.size;
	struct segment next;
	size_t have;

	if (buffered(reader, JOURNAL_RECORD_MIN, &have) != STORE_OK ||
	    !all_zero(reader->buffer + (reader->at - reader->start), (size_t)(end - reader->at)) ||
	    !store_find(reader->store, end, &next))
		return false;
	reader->at = end + SEGMENT_HEAD;
	return true;
}

static enum store_status skip_ends(struct store_reader *reader)
{
	enum store_status status;

	/* A position at a segment's very end means the next one's first record. */
	struct segment here;
	if (store_find(reader->store, reader->at, &here) && here.base == reader->at)
		reader->at += SEGMENT_HEAD;
	while ((status = enter(reader)) == STORE_OK &&
	       reader->open.base + reader->open.size - reader->at < JOURNAL_RECORD_MIN)
		if (!skip_rest(reader))
			return STORE_END;
	return status;
}

enum store_status store_next(struct store_reader *reader, const struct record_head **record)
{
	size_t have = 0;
	uint64_t before = reader->at;
	enum store_status status = skip_ends(reader);

	if (status == STORE_OK)
		status = buffered(reader, JOURNAL_RECORD_MAX, &have);
	if (status == STORE_OK) {
		const void *at = reader->buffer + (reader->at - reader->start);
		size_t length = record_check(at, have, reader->at, reader->store->key);
		if (length != 0) {
			*record = at;
			reader->at += length;
			return STORE_OK;
		}
		status = STORE_END;
	}
	/* Nothing was taken: the tail is where the last record ended. */
	reader->at = before;
	return status;
}

/* The next record, if the buffer holds all of it: nothing is read, so none before it is lost. */
static bool next_buffered(struct store_reader *reader, const struct record_head **record)
{
	uint64_t left = reader->open.base + reader->open.size - reader->at;
	size_t offset = (size_t)(reader->at - reader->start);
	size_t have = reader->have - offset;

	if (have < JOURNAL_RECORD_MIN || (have < JOURNAL_RECORD_MAX && have < left))
		return false;
	*record = (const void *)(reader->buffer + offset);
	size_t length = record_check(*record, have, reader->at, reader->store->key);
	reader->at += length;
	return length != 0;
}

enum store_status store_next_run(struct store_reader *reader, const struct record_head **records,
                                 size_t limit, size_t *count)
{
	enum store_status status = store_next(reader, &records[0]);

	*count = status == STORE_OK ? 1 : 0;
	while (*count > 0 && *count < limit && next_buffered(reader, &records[*count]))
		(*count)++;
	return status;
}

/* Is there a sound record in the buffer, from OFFSET on, whose durable mark is beyond AT? */
static bool find_witness(struct store_reader *reader, uint64_t at, uint64_t *witness)
{
	size_t offset = (size_t)(reader->at - reader->start);

	for (; offset + JOURNAL_RECORD_MIN <= reader->have; offset += 8) {
		const struct record_head *head = (const void *)(reader->buffer + offset);
		uint64_t lsn = reader->start + offset;
		if (head->lsn == lsn && head->durable > at &&
		    record_check(head, reader->have - offset, lsn, reader->store->key) != 0) {
			*witness = lsn;
			return true;
		}
	}
	return false;
}

static enum store_status search_segment(struct store_reader *reader, uint64_t at, uint64_t *witness)
{
	uint64_t end = reader->open.base + reader->open.size;
	size_t have;

	while (end - reader->at >= JOURNAL_RECORD_MIN) {
		reader->have = 0;
		if (buffered(reader, READ_BUFFER, &have) != STORE_OK)
			return STORE_IO;
		if (find_witness(reader, at, witness))
			return STORE_CORRUPT;
		if (reader->at + have >= end)
			break;
		/* Overlap, so that a record across two buffers is seen whole in one. */
		reader->at += have - JOURNAL_RECORD_MAX;
	}
	reader->at = end;
	return STORE_OK;
}

enum store_status store_torn(const struct store *store, uint64_t at, uint64_t *witness)
{
	struct store_reader *reader = store_replay(store, (at + 7) & ~UINT64_C(7));
	enum store_status status;
	struct segment here;

	if (reader == NULL)
		return STORE_IO;
	while ((status = enter(reader)) == STORE_OK) {
		if (store_find(store, reader->at, &here) && here.base == reader->at)
			reader->at += SEGMENT_HEAD;
		status = search_segment(reader, at, witness);
		if (status != STORE_OK)
			break;
	}
	int error = errno;
	store_reader_close(reader);
	errno = error;
	return status == STORE_END ? STORE_OK : status;
}

enum store_status store_go_on(const struct store *store, uint64_t at, struct store_reader **next,
                              uint64_t *witness)
{
	enum store_status status = store_torn(store, at, witness);
	const struct record_head *record;

	if (status != STORE_CORRUPT)
		return status == STORE_OK ? STORE_END : status;
	/* What a record proves durable was written before it: it is there now, or it is damaged. */
	*next = store_replay(store, at);
	if (*next == NULL)
		return STORE_IO;
	status = store_next(*next, &record);
	if (status == STORE_OK) {
		/* Not taken: the caller gets it again. */
		(*next)->at = at;
		return STORE_OK;
	}
	int error = errno;
	store_reader_close(*next);
	*next = NULL;
	errno = error;
	return status == STORE_END ? STORE_CORRUPT : status;
}

#define COPY_BLOCK 65536 /* bytes */

/* One block of a walk over part of a segment: LENGTH bytes at OFFSET were read. */
typedef int block_action(int fd, uint64_t offset, const unsigned char *bytes, size_t length,
                         uint64_t *count);

static int write_again(int fd, uint64_t offset, const unsigned char *bytes, size_t length,
                       uint64_t *count)
{
	*count += length;
	return disk_write(fd, bytes, length, offset);
}

/* Only what is not zero already is written: a clean start writes nothing. */
static int zero_block(int fd, uint64_t offset, const unsigned char *bytes, size_t length,
                      uint64_t *count)
{
	if (all_zero(bytes, length))
		return 0;
	for (size_t i = 0; i < length; i++)
		*count += bytes[i] != 0;
	return disk_zero(fd, offset, length);
}

static int walk_blocks(int fd, uint64_t from, uint64_t to, block_action *action, uint64_t *count)
{
	static unsigned char buffer[COPY_BLOCK];

	while (from < to) {
		size_t part = to - from < sizeof buffer ? (size_t)(to - from) : sizeof buffer;
		ssize_t got = disk_read(fd, buffer, part, from);
		if (got < 0)
			return -1;
		if ((size_t)got < part) {
			errno = EUCLEAN; /* it had its full size when it was opened */
			return -1;
		}
		if (action(fd, from, buffer, part, count) != 0)
			return -1;
		from += part;
	}
	return 0;
}

/* Does ACTION to what lies between FROM and TO (LSNs) in SEGMENT, and syncs it. */
static int walk_segment(const struct store *store, const struct segment *segment, uint64_t from,
                        uint64_t to, block_action *action, uint64_t *count)
{
	uint64_t first = segment->base + SEGMENT_HEAD;
	uint64_t end = segment->base + segment->size;
	int fd = store_open_segment(store, segment, O_RDWR);

	if (fd < 0)
		return -1;
	int result = walk_blocks(fd, (from > first ? from : first) - segment->base,
	                         (to < end ? to : end) - segment->base, action, count);
	if (result == 0)
		result = disk_fdatasync(fd);
	int error = errno;
	if (disk_close(fd) != 0 && result == 0)
		return -1;
	errno = error;
	return result;
}

int store_settle(const struct store *store, uint64_t from, uint64_t to)
{
	uint64_t count = 0;

	for (size_t i = 0; i < store->count; i++) {
		const struct segment *segment = &store->segment[i];
		if (segment->base >= to || segment->base + segment->size <= from)
			continue;
		if (walk_segment(store, segment, from, to, write_again, &count) != 0)
			return -1;
	}
	return 0;
}

/* Removes all but the first LEFT, from the last one back: there is no gap at any moment. */
static int drop_behind(struct store *store, size_t left)
{
	char name[SEGMENT_NAME_SIZE];

	while (store->count > left) {
		segment_name(name, store->segment[store->count - 1].base);
		if (unlinkat(store->directory, name, 0) != 0 || disk_fsync(store->directory) != 0)
			return -1;
		store->count--;
	}
	return 0;
}

static int drop_unfit(struct store *store, uint64_t at)
{
	size_t fit = 0;

	while (fit < store->count &&
	       (store->segment[fit].base < at || store->segment[fit].size == store->segment_size))
		fit++;
	return drop_behind(store, fit);
}

int store_cut(struct store *store, uint64_t at, uint64_t *cut)
{
	*cut = 0;
	for (size_t i = 0; i < store->count; i++) {
		const struct segment *segment = &store->segment[i];
		uint64_t end = segment->base + segment->size;
		if (at < end && walk_segment(store, segment, at, end, zero_block, cut) != 0)
			return -1;
	}
	return store->segment_size == 0 ? 0 : drop_unfit(store, at);
}

static int reserve_segment(const struct store *store, const struct segment *segment)
{
	int fd = store_open_segment(store, segment, O_RDWR);

	if (fd < 0)
		return -1;
	/* Where nothing can be reserved, segments are what they were. */
	int result = disk_allocate(fd, segment->size) < 0 ? -1 : 0;
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

int store_reserve(struct store *store, uint64_t at)
{
	for (size_t i = 0; i < store->count; i++) {
		const struct segment *segment = &store->segment[i];
		if (at >= segment->base + segment->size || reserve_segment(store, segment) == 0)
			continue;
		/* What is ahead can be made again, once there is room. */
		return errno == ENOSPC && segment->base >= at ? drop_behind(store, i) : -1;
	}
	return 0;
}
