#include "copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../ledger/disk.h"
#include "../ledger/segment.h"
#include "../ledger/snapshot.h"
#include "../ledger/snapshot_format.h"
#include "../ledger/store.h"

#define TRIES    20       /* where files went away while they were looked for */
#define PAUSE_NS 50000000 /* before another one */

#define ASKED_EVERY 65536 /* records between two looks at whether to go on */

/* One segment that is open: it stays there, whoever removes it. */
struct open_segment {
	int fd;
	struct segment segment;
};

struct copier {
	struct copy *copy;
	char journal[PATH_MAX + 16], snapshots[PATH_MAX + 16]; /* from where */
	int from_journal, from_snapshots;                      /* descriptors of these */
	int to, to_journal, to_snapshots;                      /* and of where to */
	char copies[PATH_MAX + 16];                            /* the snapshots that were copied */
	uint64_t needed; /* the journal's part from here on is needed; 0: all of it */
	uint64_t all;    /* bytes to copy */
	size_t count;
	struct open_segment *open;
};

static int fail(struct copier *copier, const char *what)
{
	int cause = errno;

	snprintf(copier->copy->error, COPY_ERROR_SIZE, "%.400s: %s", what,
	         cause == ECANCELED ? "interrupted" : strerror(cause));
	errno = cause;
	return -1;
}

/* --- bytes --- */

static bool is_unable(int error)
{
	return error == EXDEV || error == EINVAL || error == ENOSYS || error == EOPNOTSUPP;
}

/* LENGTH bytes from OFFSET on, the slow way. */
static int copy_through(int from, int to, uint64_t offset, uint64_t length)
{
	static char buffer[1 << 18];

	while (length > 0) {
		ssize_t got = disk_read(from, buffer,
		                        length < sizeof buffer ? length : sizeof buffer, offset);
		if (got == 0)
			errno = EUCLEAN;
		if (got <= 0 || disk_write(to, buffer, (size_t)got, offset) != 0)
			return -1;
		offset += (uint64_t)got;
		length -= (uint64_t)got;
	}
	return 0;
}

/* The same; file systems that can share blocks do so. */
static int copy_range(int from, int to, uint64_t offset, uint64_t length)
{
	while (length > 0) {
		off_t in = (off_t)offset, out = (off_t)offset;
		ssize_t done = copy_file_range(from, &in, to, &out, length, 0);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && is_unable(errno))
			return copy_through(from, to, offset, length);
		if (done == 0)
			errno = EUCLEAN;
		if (done <= 0)
			return -1;
		offset += (uint64_t)done;
		length -= (uint64_t)done;
	}
	return 0;
}

static bool may_go_on(const struct copy *copy, uint64_t all)
{
	return copy->go_on == NULL || copy->go_on(copy->context, copy->bytes, all);
}

static int copy_bytes(struct copier *copier, int from, int to, uint64_t length)
{
	struct copy *copy = copier->copy;

	for (uint64_t at = 0; at < length;) {
		uint64_t piece = length - at < COPY_PIECE ? length - at : COPY_PIECE;
		if (!may_go_on(copy, copier->all)) {
			errno = ECANCELED;
			return -1;
		}
		if (copy_range(from, to, at, piece) != 0)
			return -1;
		at += piece;
		copy->bytes += piece;
	}
	return 0;
}

int copy_file(int from, int to, const char *name)
{
	struct stat status;
	int result = -1;
	int source = disk_open(from, name, O_RDONLY);
	int target = source < 0 ? -1 : disk_create(to, name);

	if (target >= 0 && fstat(source, &status) == 0)
		result = copy_range(source, target, 0, (uint64_t)status.st_size);
	if (result == 0)
		result = disk_fsync(target);
	int cause = errno;
	if (target >= 0)
		close(target);
	if (source >= 0)
		close(source);
	errno = cause;
	return result;
}

/* --- snapshots --- */

/* 1: it has just been replaced by a newer one. */
static int copy_snapshot(struct copier *copier, uint64_t start)
{
	char name[64];
	struct stat status;
	int result = -1;

	snprintf(name, sizeof name, SNAPSHOT_NAME, start);
	int from = disk_open(copier->from_snapshots, name, O_RDONLY);
	if (from < 0)
		return errno == ENOENT ? 1 : fail(copier, name);
	int to = disk_create(copier->to_snapshots, name);
	if (to >= 0 && fstat(from, &status) == 0) {
		copier->all += (uint64_t)status.st_size;
		result = copy_bytes(copier, from, to, (uint64_t)status.st_size);
	}
	if (result == 0)
		result = disk_fsync(to);
	if (result != 0)
		fail(copier, name);
	int cause = errno;
	if (to >= 0)
		close(to);
	close(from);
	errno = cause;
	return result;
}

/* All that are kept.  1: one went away. */
static int copy_snapshots(struct copier *copier)
{
	uint64_t start = UINT64_MAX;
	enum snapshot_status status = SNAPSHOT_NONE;

	while (copier->from_snapshots >= 0 &&
	       (status = snapshot_find(copier->snapshots, start, &start)) == SNAPSHOT_OK) {
		int result = copy_snapshot(copier, start);
		if (result != 0)
			return result;
	}
	return status == SNAPSHOT_IO ? fail(copier, copier->snapshots) : 0;
}

static void remove_all(int directory)
{
	int fd = dup(directory);
	DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	if (listing == NULL)
		return;
	rewinddir(listing);
	while ((entry = readdir(listing)) != NULL)
		unlinkat(directory, entry->d_name, 0);
	closedir(listing);
}

/* --- the journal --- */

/* Reads on beside a writer, until nothing more is written. */
static enum store_status read_to_end(struct copy *copy, const struct store *store,
                                     struct store_reader *reader, uint64_t *end)
{
	const struct record_head *record;
	enum store_status status = STORE_OK;
	uint64_t witness = 0;

	while (reader != NULL && status == STORE_OK) {
		unsigned count = 0;
		while ((status = store_next(reader, &record)) == STORE_OK)
			if (++count % ASKED_EVERY == 0 && !may_go_on(copy, 0))
				break;
		*end = store_reader_at(reader);
		store_reader_close(reader);
		reader = NULL;
		if (status == STORE_OK) {
			errno = ECANCELED;
			return STORE_IO;
		}
		if (status == STORE_END)
			status = store_go_on(store, *end, &reader, &witness);
	}
	return status;
}

/* A start reads the journal from the seal before its snapshot on. */
static uint64_t find_needed(const struct copier *copier, uint64_t key)
{
	struct snapshot snapshot;
	uint64_t start = UINT64_MAX;

	while (snapshot_find(copier->copies, start, &start) == SNAPSHOT_OK)
		if (snapshot_peek(copier->copies, start, key, &snapshot) == SNAPSHOT_OK)
			return snapshot.seal_to;
	return 0;
}

/* Where the journal ends now: copy->end.  1: files went away. */
static int find_end(struct copier *copier)
{
	struct copy *copy = copier->copy;
	enum store_status status;
	struct store *store = store_inspect(copier->journal, &status, copy->error);

	if (store == NULL)
		return status == STORE_IO && errno != ENOENT ? -1 : 1;
	/* From where a start reads: what is older may be pruned just now, and is read in the copy.
	 */
	uint64_t first = store_first(store);
	copy->end = first;
	copier->needed = find_needed(copier, store_key(store));
	if (store_empty(store))
		status = STORE_END;
	else if (copier->needed < first && first != SEGMENT_HEAD)
		status = STORE_CORRUPT;
	else
		status = read_to_end(
		    copy, store,
		    store_replay(store, copier->needed > first ? copier->needed : first),
		    &copy->end);
	if (status == STORE_CORRUPT) {
		char place[320];
		store_locate(store, copy->end, place, sizeof place);
		snprintf(
		    copy->error, COPY_ERROR_SIZE,
		    "%s: no sound record here, where there was one: see tallyctl journal check",
		    place);
		errno = 0;
	} else if (status == STORE_IO) {
		fail(copier, copier->journal);
	}
	int cause = errno;
	store_close(store);
	errno = cause;
	if (status == STORE_END)
		return 0;
	return status == STORE_IO && !(copy->running && cause == ENOENT) ? -1 : 1;
}

static int by_base(const void *left, const void *right)
{
	const struct open_segment *a = left, *b = right;

	return (a->segment.base > b->segment.base) - (a->segment.base < b->segment.base);
}

static void close_segments(struct copier *copier)
{
	for (size_t i = 0; i < copier->count; i++)
		close(copier->open[i].fd);
	free(copier->open);
	copier->open = NULL;
	copier->count = 0;
}

/* 0; 1: it went away; -1. */
static int open_one(struct copier *copier, uint64_t base)
{
	struct open_segment opened;
	const char *why = "";
	char name[SEGMENT_NAME_SIZE];

	opened.fd = segment_open(copier->from_journal, base, O_RDONLY, &opened.segment, &why);
	if (opened.fd < 0) {
		if (errno == ENOENT)
			return 1;
		segment_name(name, base);
		snprintf(copier->copy->error, COPY_ERROR_SIZE, "%.300s/%s: %s", copier->journal,
		         name, errno != 0 ? strerror(errno) : why);
		return -1;
	}
	void *more = realloc(copier->open, (copier->count + 1) * sizeof *copier->open);
	if (more == NULL) {
		close(opened.fd);
		errno = ENOMEM;
		return fail(copier, "memory");
	}
	copier->open = more;
	copier->open[copier->count++] = opened;
	return 0;
}

/* All segments that begin before the end.  One that goes away meanwhile is shown by a gap. */
static int open_segments(struct copier *copier)
{
	int fd = dup(copier->from_journal);
	DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	uint64_t base;
	int result = 0;

	if (listing == NULL) {
		if (fd >= 0)
			close(fd);
		return fail(copier, copier->journal);
	}
	rewinddir(listing);
	while (result >= 0 && (entry = readdir(listing)) != NULL)
		if (segment_parse(entry->d_name, &base) && base < copier->copy->end)
			result = open_one(copier, base);
	closedir(listing);
	if (result < 0)
		return -1;
	if (copier->count > 0)
		qsort(copier->open, copier->count, sizeof *copier->open, by_base);
	return 0;
}

/* Do the open segments follow one another, from what is needed to the end? */
static bool is_complete(const struct copier *copier)
{
	const struct open_segment *open = copier->open;
	size_t count = copier->count;

	if (count == 0)
		return copier->needed == 0 && copier->copy->end <= SEGMENT_HEAD;
	for (size_t i = 1; i < count; i++)
		if (open[i].segment.base != open[i - 1].segment.base + open[i - 1].segment.size)
			return false;
	const struct segment *last = &open[count - 1].segment;
	return copier->copy->end <= last->base + last->size &&
	       (copier->needed == 0 ? open[0].segment.base == 0
	                            : open[0].segment.base <= copier->needed);
}

/* What lies behind LENGTH reads as zero, and its blocks are there: a full disk must not hit a
 * record. */
static int reserve(int to, const struct segment *segment, uint64_t length)
{
	int result = disk_allocate(to, segment->size);

	return result > 0 ? disk_zero(to, length, segment->size - length) : result;
}

static int copy_segment(struct copier *copier, const struct open_segment *opened)
{
	const struct segment *segment = &opened->segment;
	uint64_t end = copier->copy->end;
	uint64_t length = end - segment->base < segment->size ? end - segment->base : segment->size;
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, segment->base);
	int to = disk_create(copier->to_journal, name);
	int result = to < 0 ? -1 : length == segment->size ? 0 : reserve(to, segment, length);
	if (result == 0)
		result = copy_bytes(copier, opened->fd, to, length);
	if (result == 0)
		result = disk_fsync(to);
	if (result != 0)
		fail(copier, name);
	int cause = errno;
	if (to >= 0)
		close(to);
	errno = cause;
	copier->copy->segments += result == 0;
	return result;
}

static int copy_journal(struct copier *copier)
{
	copier->all = copier->copy->bytes;
	for (size_t i = 0; i < copier->count; i++) {
		const struct segment *segment = &copier->open[i].segment;
		uint64_t length = copier->copy->end - segment->base;
		copier->all += length < segment->size ? length : segment->size;
	}
	for (size_t i = 0; i < copier->count; i++)
		if (copy_segment(copier, &copier->open[i]) != 0)
			return -1;
	return 0;
}

/* All of the copy is sound, also what a start would not read: statements need it. */
static int read_copy(struct copier *copier, const char *to)
{
	struct copy *copy = copier->copy;
	char path[PATH_MAX + 16], place[320];
	enum store_status status;
	uint64_t end = 0;

	snprintf(path, sizeof path, "%s/journal", to);
	struct store *store = store_inspect(path, &status, copy->error);
	if (store == NULL)
		return -1;
	if (!store_empty(store))
		status = read_to_end(copy, store, store_replay(store, store_first(store)), &end);
	bool good = store_empty(store) || (status == STORE_END && end == copy->end);
	if (!good && status == STORE_IO)
		fail(copier, path);
	else if (!good) {
		store_locate(store, end, place, sizeof place);
		snprintf(
		    copy->error, COPY_ERROR_SIZE,
		    "%s: no sound record here, where there was one: see tallyctl journal check",
		    place);
		errno = 0;
	}
	int cause = errno;
	store_close(store);
	errno = cause;
	return good ? 0 : -1;
}

/* --- all of it --- */

/* The snapshots, then the journal's end, then the files: so all that the snapshots need is there.
 */
static int collect(struct copier *copier)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	int result = 1;

	for (int i = 0; i < TRIES && result > 0; i++) {
		if (i > 0) {
			if (!copier->copy->running)
				break;
			nanosleep(&pause, NULL);
			remove_all(copier->to_snapshots);
			close_segments(copier);
			copier->copy->bytes = 0;
			copier->all = 0;
		}
		copier->copy->error[0] = '\0';
		result = copy_snapshots(copier);
		if (result == 0)
			result = find_end(copier);
		if (result == 0)
			result = open_segments(copier);
		if (result == 0 && !is_complete(copier))
			result = 1;
	}
	if (result > 0) {
		if (copier->copy->error[0] == '\0')
			snprintf(copier->copy->error, COPY_ERROR_SIZE,
			         "%.400s: segments are missing: see tallyctl journal check",
			         copier->journal);
		errno = 0;
	}
	return result == 0 ? 0 : -1;
}

static int sync_directories(struct copier *copier)
{
	if (disk_fsync(copier->to_journal) == 0 && disk_fsync(copier->to_snapshots) == 0 &&
	    disk_fsync(copier->to) == 0)
		return 0;
	return fail(copier, "the copy's directory");
}

static int make_directory(struct copier *copier, const char *name, const struct stat *owner)
{
	if (mkdirat(copier->to, name, 0700) != 0) {
		fail(copier, name);
		return -1;
	}
	int fd = disk_open(copier->to, name, O_RDONLY | O_DIRECTORY);
	/* It is its daemon's who will use it; who may not give it away keeps it. */
	if (fd >= 0 && fchown(fd, owner->st_uid, owner->st_gid) != 0 && errno != EPERM) {
		close(fd);
		fd = -1;
	}
	if (fd < 0)
		fail(copier, name);
	return fd;
}

/* As many descriptors as may be: one for each segment. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int open_directories(struct copier *copier, const char *from, const char *to)
{
	struct stat owner;

	snprintf(copier->journal, sizeof copier->journal, "%s/journal", from);
	snprintf(copier->snapshots, sizeof copier->snapshots, "%s/snapshots", from);
	snprintf(copier->copies, sizeof copier->copies, "%s/snapshots", to);
	copier->from_journal = disk_open(AT_FDCWD, copier->journal, O_RDONLY | O_DIRECTORY);
	if (copier->from_journal < 0 || fstat(copier->from_journal, &owner) != 0)
		return fail(copier, copier->journal);
	/* Before the first snapshot there is none. */
	copier->from_snapshots = disk_open(AT_FDCWD, copier->snapshots, O_RDONLY | O_DIRECTORY);
	if (copier->from_snapshots < 0 && errno != ENOENT)
		return fail(copier, copier->snapshots);
	copier->to = disk_open(AT_FDCWD, to, O_RDONLY | O_DIRECTORY);
	if (copier->to < 0)
		return fail(copier, to);
	copier->to_journal = make_directory(copier, "journal", &owner);
	copier->to_snapshots =
	    copier->to_journal < 0 ? -1 : make_directory(copier, "snapshots", &owner);
	return copier->to_snapshots < 0 ? -1 : 0;
}

int copy_data(struct copy *copy, const char *from, const char *to)
{
	struct copier copier = {.copy = copy,
	                        .from_journal = -1,
	                        .from_snapshots = -1,
	                        .to = -1,
	                        .to_journal = -1,
	                        .to_snapshots = -1};
	int *const all[] = {&copier.from_journal, &copier.from_snapshots, &copier.to,
	                    &copier.to_journal, &copier.to_snapshots};

	copy->end = copy->segments = copy->bytes = 0;
	copy->error[0] = '\0';
	raise_limit();
	int result = open_directories(&copier, from, to);
	if (result == 0)
		result = collect(&copier);
	if (result == 0)
		result = copy_journal(&copier);
	if (result == 0)
		result = sync_directories(&copier);
	if (result == 0)
		result = read_copy(&copier, to);
	int cause = errno;
	close_segments(&copier);
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if (*all[i] >= 0)
			close(*all[i]);
	errno = cause;
	return result;
}

int copy_remove(const char *to)
{
	static const char *const parts[] = {"journal", "snapshots"};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		if (snprintf(path, sizeof path, "%s/%s", to, parts[i]) >= (int)sizeof path)
			return -1;
		int fd = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
		if (fd < 0)
			continue;
		remove_all(fd);
		close(fd);
		rmdir(path);
	}
	return rmdir(to);
}
