#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "segment.h"
#include "store_private.h"

static int compare(const void *left, const void *right)
{
	uint64_t a = ((const struct segment *)left)->base;
	uint64_t b = ((const struct segment *)right)->base;

	return (a > b) - (a < b);
}

static int add(struct store *store, const struct segment *segment)
{
	if (store->count == store->capacity) {
		size_t capacity = store->capacity == 0 ? 64 : store->capacity * 2;
		struct segment *more =
		    reallocarray(store->segment, capacity, sizeof *store->segment);
		if (more == NULL)
			return -1;
		store->segment = more;
		store->capacity = capacity;
	}
	store->segment[store->count++] = *segment;
	return 0;
}

static enum store_status complain(const struct store *store, char *error, uint64_t base,
                                  const char *why)
{
	char name[SEGMENT_NAME_SIZE];
	int cause = errno;

	segment_name(name, base);
	snprintf(error, STORE_ERROR_SIZE, "%s/%s: %s%s%s", store->path, name, why,
	         cause != 0 ? ": " : "; see tallyctl journal repair",
	         cause != 0 ? strerror(cause) : "");
	errno = cause;
	return cause != 0 ? STORE_IO : STORE_CORRUPT;
}

static enum store_status inspect(struct store *store, uint64_t base, char *error)
{
	struct segment segment;
	const char *why;
	int fd = segment_open(store->directory, base, O_RDONLY, &segment, &why);

	/* The oldest are removed while others read the directory: see forget_removed. */
	if (fd < 0 && errno == ENOENT)
		return STORE_OK;
	if (fd < 0)
		return complain(store, error, base, why);
	close(fd);
	if (add(store, &segment) == 0)
		return STORE_OK;
	return complain(store, error, base, "out of memory");
}

static enum store_status list(struct store *store, char *error)
{
	enum store_status status = STORE_OK;
	struct dirent *entry;
	uint64_t base;
	int fd = disk_open(store->directory, ".", O_RDONLY | O_DIRECTORY);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);

	if (directory == NULL) {
		snprintf(error, STORE_ERROR_SIZE, "%s: cannot be read: %s", store->path,
		         strerror(errno));
		if (fd >= 0)
			close(fd);
		return STORE_IO;
	}
	while (status == STORE_OK && (errno = 0, entry = readdir(directory)) != NULL)
		if (segment_parse(entry->d_name, &base))
			status = inspect(store, base, error);
	int cause = errno;
	/* A list that was cut short must not pass for a whole one. */
	if (status == STORE_OK && cause != 0) {
		snprintf(error, STORE_ERROR_SIZE, "%s: cannot be read: %s", store->path,
		         strerror(cause));
		status = STORE_IO;
	}
	closedir(directory);
	errno = cause;
	return status;
}

static bool precedes(const struct segment *last, const struct segment *next)
{
	return next->base == last->base + last->size;
}

/* Opened, not looked for: who is confined may open what it reads, and no more. */
static bool is_removed(const struct store *store, const struct segment *segment)
{
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, segment->base);
	int fd = disk_open(store->directory, name, O_RDONLY | O_NOFOLLOW);
	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == ENOENT;
}

/*
 * While the directory is read the oldest may be removed, always the first of all: one that was seen
 * in time, and one behind it that was not any more.  Where what stands before a gap is gone by now,
 * so was all before it, and the journal begins behind the gap.  Else the gap is damage.
 */
static void forget_removed(struct store *store)
{
	size_t first = store->count;

	while (first > 1 && precedes(&store->segment[first - 2], &store->segment[first - 1]))
		first--;
	if (first <= 1 || !is_removed(store, &store->segment[first - 2]))
		return;
	store->count -= --first;
	memmove(store->segment, store->segment + first, store->count * sizeof *store->segment);
}

static enum store_status check_sequence(const struct store *store, char *error)
{
	errno = 0;
	for (size_t i = 1; i < store->count; i++) {
		const struct segment *last = &store->segment[i - 1];
		const struct segment *next = &store->segment[i];
		if (!precedes(last, next))
			return complain(store, error, next->base,
			                "the segment before this one is missing");
		if (next->key != last->key)
			return complain(store, error, next->base, "it belongs to another journal");
	}
	return STORE_OK;
}

static int open_directory(struct store *store, char *error)
{
	store->directory = store->inspected
	                       ? disk_open(AT_FDCWD, store->path, O_RDONLY | O_DIRECTORY)
	                       : disk_directory(store->path);
	if (store->directory >= 0)
		return 0;
	snprintf(error, STORE_ERROR_SIZE, "%s: cannot be opened: %s", store->path, strerror(errno));
	return -1;
}

static enum store_status load(struct store *store, char *error)
{
	enum store_status status;

	if (open_directory(store, error) != 0)
		return STORE_IO;
	status = list(store, error);
	if (status != STORE_OK)
		return status;
	if (store->count > 1)
		qsort(store->segment, store->count, sizeof *store->segment, compare);
	forget_removed(store);
	status = check_sequence(store, error);
	if (status != STORE_OK)
		return status;
	if (store->count > 0) {
		store->key = store->segment[0].key;
	} else if (getrandom(&store->key, sizeof store->key, 0) != sizeof store->key) {
		snprintf(error, STORE_ERROR_SIZE, "getrandom: %s", strerror(errno));
		return STORE_IO;
	}
	return STORE_OK;
}

static struct store *make(const char *path, bool inspect)
{
	struct store *store = calloc(1, sizeof *store);

	if (store == NULL || (store->path = strdup(path)) == NULL) {
		free(store);
		return NULL;
	}
	store->inspected = inspect;
	store->directory = -1;
	store->current = -1;
	pthread_mutex_init(&store->lock, NULL);
	return store;
}

static struct store *open_store(const char *path, bool inspect, enum store_status *status,
                                char *error)
{
	struct store *store = make(path, inspect);

	*status = STORE_IO;
	if (store == NULL) {
		snprintf(error, STORE_ERROR_SIZE, "%s: out of memory", path);
		return NULL;
	}
	*status = load(store, error);
	if (*status == STORE_OK)
		return store;
	int cause = errno;
	store_close(store);
	errno = cause;
	return NULL;
}

struct store *store_open(const char *path, enum store_status *status, char *error)
{
	return open_store(path, false, status, error);
}

struct store *store_inspect(const char *path, enum store_status *status, char *error)
{
	return open_store(path, true, status, error);
}

struct store *store_of(const char *path, const struct segment *segments, size_t count)
{
	struct store *store = make(path, true);

	if (store == NULL)
		return NULL;
	store->directory = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
	for (size_t i = 0; store->directory >= 0 && i < count; i++)
		if (add(store, &segments[i]) != 0)
			break;
	if (store->directory >= 0 && store->count == count) {
		store->key = count != 0 ? segments[0].key : 0;
		return store;
	}
	int cause = errno;
	store_close(store);
	errno = cause;
	return NULL;
}

void store_close(struct store *store)
{
	if (store == NULL)
		return;
	if (store->current >= 0)
		close(store->current);
	if (store->directory >= 0)
		close(store->directory);
	pthread_mutex_destroy(&store->lock);
	free(store->segment);
	free(store->path);
	free(store);
}

int store_directory(const struct store *store)
{
	return store->directory;
}

bool store_empty(const struct store *store)
{
	return store->count == 0;
}

uint64_t store_key(const struct store *store)
{
	return store->key;
}

uint64_t store_first(const struct store *store)
{
	return (store->count == 0 ? 0 : store->segment[0].base) + SEGMENT_HEAD;
}

uint64_t store_space(const struct store *store)
{
	if (store->count == 0)
		return 0;
	const struct segment *last = &store->segment[store->count - 1];
	return last->base + last->size;
}

int store_open_segment(const struct store *store, const struct segment *segment, int flags)
{
	struct segment opened;
	const char *why;

	int fd = segment_open(store->directory, segment->base, flags, &opened, &why);
	if (fd < 0 && errno == 0)
		errno = EUCLEAN;
	return fd;
}

bool store_find(const struct store *store, uint64_t lsn, struct segment *found)
{
	size_t low = 0;
	size_t high = store->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct segment *segment = &store->segment[middle];
		if (lsn < segment->base) {
			high = middle;
		} else if (lsn >= segment->base + segment->size) {
			low = middle + 1;
		} else {
			*found = *segment;
			return true;
		}
	}
	return false;
}

uint64_t store_segment_end(const struct store *store, uint64_t lsn)
{
	struct segment segment;

	/* An end belongs to the segment that it ends. */
	if (!store_find(store, lsn == 0 ? 0 : lsn - 1, &segment))
		return store_space(store);
	return segment.base + segment.size;
}

uint64_t store_segment_first(const struct store *store, uint64_t lsn)
{
	struct segment segment;

	if (lsn < store_first(store))
		return store_first(store);
	if (store_find(store, lsn, &segment))
		return segment.base + SEGMENT_HEAD;
	return store->count == 0 ? SEGMENT_HEAD
	                         : store->segment[store->count - 1].base + SEGMENT_HEAD;
}

void store_locate(const struct store *store, uint64_t lsn, char *text, size_t size)
{
	struct segment segment;
	char name[SEGMENT_NAME_SIZE];

	if (!store_find(store, lsn, &segment)) {
		snprintf(text, size, "%s, position %" PRIu64, store->path, lsn);
		return;
	}
	segment_name(name, segment.base);
	snprintf(text, size, "%s/%s, offset %" PRIu64, store->path, name, lsn - segment.base);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int store_claim(struct store *store, uint64_t segment_size)
{
	store->segment_size = segment_size;
	/* Who named the last segment may have been killed before its name was durable. */
	if (segment_sweep(store->directory) != 0 || disk_fsync(store->directory) != 0)
		return -1;
	return store->count == 0 ? store_extend(store) : 0;
}

static int extend(struct store *store, bool filled)
{
	struct segment segment = {
	    .base = store_space(store), .size = store->segment_size, .key = store->key};

	if (segment_create(store->directory, &segment, filled, now_us()) != 0)
		return -1;
	pthread_mutex_lock(&store->lock);
	int result = add(store, &segment);
	pthread_mutex_unlock(&store->lock);
	return result;
}

int store_extend(struct store *store)
{
	return extend(store, true);
}

int store_extend_unfilled(struct store *store)
{
	return extend(store, false);
}

/* Makes the segment that holds LSN the current one; the one before is synced for good. */
static int turn_to(struct store *store, uint64_t lsn)
{
	struct segment segment;
	const char *why;

	if (store->current >= 0) {
		if (lsn >= store->open.base && lsn < store->open.base + store->open.size)
			return 0;
		if (store_sync(store) != 0 || disk_close(store->current) != 0)
			return -1;
		store->current = -1;
	}
	pthread_mutex_lock(&store->lock);
	bool found = store_find(store, lsn, &segment);
	pthread_mutex_unlock(&store->lock);
	if (!found) {
		errno = ENXIO;
		return -1;
	}
	store->current = segment_open(store->directory, segment.base, O_RDWR, &store->open, &why);
	if (store->current >= 0)
		return 0;
	if (errno == 0)
		errno = EUCLEAN;
	return -1;
}

/* Takes LENGTH bytes off the front of SOURCE into TARGET; both have at most two pieces. */
static int split(struct iovec *source, int *count, size_t length, struct iovec *target)
{
	int pieces = 0;

	while (length > 0 && *count > 0) {
		size_t part = source->iov_len < length ? source->iov_len : length;
		target[pieces++] = (struct iovec){source->iov_base, part};
		source->iov_base = (char *)source->iov_base + part;
		source->iov_len -= part;
		length -= part;
		if (source->iov_len == 0 && --*count > 0)
			source[0] = source[1];
	}
	return pieces;
}

int store_append(struct store *store, uint64_t lsn, const struct iovec *piece, int count)
{
	struct iovec left[2] = {piece[0], count > 1 ? piece[1] : (struct iovec){NULL, 0}};
	struct iovec part[2];
	size_t total = left[0].iov_len + left[1].iov_len;

	while (total > 0) {
		if (turn_to(store, lsn) != 0)
			return -1;
		uint64_t offset = lsn - store->open.base;
		if (offset < SEGMENT_HEAD) {
			/* The ring has a gap where the file has its head. */
			size_t gap = (size_t)(SEGMENT_HEAD - offset);
			split(left, &count, gap, part);
			total -= gap;
			lsn += gap;
			continue;
		}
		size_t room = (size_t)(store->open.size - offset);
		size_t length = total < room ? total : room;
		int pieces = split(left, &count, length, part);
		if (disk_write_pieces(store->current, part, pieces, offset) != 0)
			return -1;
		lsn += length;
		total -= length;
	}
	return 0;
}

int store_sync(struct store *store)
{
	return store->current < 0 ? 0 : disk_fdatasync(store->current);
}
