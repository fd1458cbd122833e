#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "../../shm/region.h"
#include "disk.h"

#define SEGMENT_MAGIC     UINT64_C(0x316a64796c6c6174) /* "tallydj1" */
#define SEGMENT_VERSION   2
#define SEGMENT_TEMPORARY "segment.tmp"

struct head {
	uint64_t magic;
	uint32_t version;
	uint32_t head_size;
	uint64_t base;
	uint64_t size;
	uint64_t key;
	uint64_t created_us;
	unsigned char zero[SEGMENT_HEAD - 56];
	uint64_t checksum; /* XXH3 of all before it */
};
_Static_assert(sizeof(struct head) == SEGMENT_HEAD, "the head fills its block");

void segment_name(char name[SEGMENT_NAME_SIZE], uint64_t base)
{
	snprintf(name, SEGMENT_NAME_SIZE, "%016" PRIx64 ".journal", base);
}

bool segment_parse(const char *name, uint64_t *base)
{
	char again[SEGMENT_NAME_SIZE];
	char *end;

	*base = strtoull(name, &end, 16);
	segment_name(again, *base);
	return strcmp(again, name) == 0;
}

static void make_head(struct head *head, const struct segment *segment, uint64_t now_us)
{
	memset(head, 0, sizeof *head);
	head->magic = SEGMENT_MAGIC;
	head->version = SEGMENT_VERSION;
	head->head_size = SEGMENT_HEAD;
	head->base = segment->base;
	head->size = segment->size;
	head->key = segment->key;
	head->created_us = now_us;
	head->checksum = XXH3_64bits(head, offsetof(struct head, checksum));
}

/*
 * Real zeros, not a hole: overwriting them later needs no metadata.  Blocks that are only reserved
 * need some with each fdatasync, but are written once instead of twice.
 */
static int fill(int fd, const struct segment *segment, bool filled, uint64_t now_us)
{
	struct head head;
	int reserved = disk_allocate(fd, segment->size);

	make_head(&head, segment, now_us);
	if (reserved < 0 ||
	    ((filled || reserved != 0) &&
	     disk_zero(fd, SEGMENT_HEAD, segment->size - SEGMENT_HEAD) != 0) ||
	    disk_write(fd, &head, sizeof head, 0) != 0)
		return -1;
	return disk_fsync(fd);
}

int segment_create(int directory, const struct segment *segment, bool filled, uint64_t now_us)
{
	char name[SEGMENT_NAME_SIZE];
	int fd = disk_create(directory, SEGMENT_TEMPORARY);
	int failed;

	if (fd < 0)
		return -1;
	segment_name(name, segment->base);
	failed = fill(fd, segment, filled, now_us);
	if (disk_close(fd) != 0)
		failed = -1;
	if (failed == 0)
		failed = disk_publish(directory, SEGMENT_TEMPORARY, name);
	if (failed != 0) {
		int error = errno;
		unlinkat(directory, SEGMENT_TEMPORARY, 0);
		errno = error;
	}
	return failed;
}

static const char *judge(const struct head *head, uint64_t base, uint64_t file_size)
{
	if (head->magic != SEGMENT_MAGIC)
		return "it is not a journal segment";
	if (head->checksum != XXH3_64bits(head, offsetof(struct head, checksum)))
		return "its head is damaged";
	if (head->version != SEGMENT_VERSION || head->head_size != SEGMENT_HEAD)
		return "it was written by another version of tallyd";
	if (head->base != base)
		return "its head names another position than its file name";
	if (head->size < SEGMENT_SIZE_MIN || head->size > SEGMENT_SIZE_MAX ||
	    head->size % SEGMENT_HEAD != 0)
		return "its head has an impossible size";
	if (head->size != file_size)
		return "the file has been cut short or has grown";
	return NULL;
}

static const char *examine(int fd, uint64_t base, struct segment *segment)
{
	struct stat status;
	struct head head;
	ssize_t got = disk_read(fd, &head, sizeof head, 0);

	if (got < 0 || fstat(fd, &status) != 0)
		return "it cannot be read";
	errno = 0;
	if (got < (ssize_t)sizeof head)
		return "the file has been cut short or has grown";
	*segment = (struct segment){.base = head.base, .size = head.size, .key = head.key};
	return judge(&head, base, (uint64_t)status.st_size);
}

int segment_open(int directory, uint64_t base, int flags, struct segment *segment, const char **why)
{
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, base);
	int fd = disk_open(directory, name, flags | O_NOFOLLOW);
	*why = fd < 0 ? "it cannot be opened" : examine(fd, base, segment);
	if (*why != NULL && fd >= 0) {
		int error = errno;
		close(fd);
		errno = error;
		fd = -1;
	}
	return fd;
}

int segment_sweep(int directory)
{
	if (unlinkat(directory, SEGMENT_TEMPORARY, 0) == 0 || errno == ENOENT)
		return 0;
	return -1;
}
