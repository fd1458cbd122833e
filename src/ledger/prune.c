#include "prune.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "../../shm/region.h"
#include "disk.h"
#include "record.h"
#include "snapshot.h"
#include "store_private.h"

/*
 * The first position that recovery may read: its replay begins at the seal before a snapshot, and
 * the newest snapshot may turn out to be damaged.  0: at the beginning.
 */
static int find_needed(const char *path, uint64_t key, uint64_t *needed)
{
	struct snapshot snapshot;
	uint64_t start = UINT64_MAX;

	*needed = 0;
	for (int i = 0; i < SNAPSHOTS_KEPT; i++) {
		enum snapshot_status status = snapshot_find(path, start, &start);
		if (status == SNAPSHOT_OK)
			status = snapshot_peek(path, start, key, &snapshot);
		if (status == SNAPSHOT_IO)
			return -1;
		/* One that cannot be used leaves recovery to what is older. */
		if (status != SNAPSHOT_OK)
			return 0;
	}
	*needed = snapshot.seal_to;
	return 0;
}

/* When the first record of SEGMENT was written; UINT64_MAX: it has none yet. */
static int first_time(const struct store *store, const struct segment *segment, uint64_t *time_us)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	int fd = store_open_segment(store, segment, O_RDONLY);

	*time_us = UINT64_MAX;
	if (fd < 0)
		return -1;
	ssize_t got = disk_read(fd, record, sizeof record, SEGMENT_HEAD);
	int error = errno;
	close(fd);
	errno = error;
	if (got < 0)
		return -1;
	const struct record_head *head = (const void *)record;
	if (record_check(record, (size_t)got, segment->base + SEGMENT_HEAD, store->key) != 0 &&
	    head->time_us != 0)
		*time_us = head->time_us;
	return 0;
}

/* What is known of a segment's age. */
struct age {
	size_t index;     /* of the segment whose time it is, ... */
	uint64_t time_us; /* and which is as good for all before it.  UINT64_MAX: unknown */
};

/*
 * Segment INDEX was begun at AGE's time or earlier.  A time that has not come yet is that of a
 * clock that was wrong: it says nothing, but what follows was written later, under a right one.
 * Only times that cannot be are passed over: one that may be might be right, and what is wanted
 * would be gone.
 */
static int find_age(const struct store *store, size_t index, uint64_t now_us, struct age *age)
{
	if (age->index >= index)
		return 0;
	for (age->index = index; age->index < store->count; age->index++) {
		const struct segment *segment = &store->segment[age->index];
		if (first_time(store, segment, &age->time_us) != 0)
			return -1;
		if (age->time_us <= now_us)
			return 0;
	}
	age->time_us = UINT64_MAX;
	return 0;
}

static uint64_t before(uint64_t now, uint64_t span)
{
	return now > span ? now - span : 0;
}

/* Segment INDEX has a successor, whose first record is younger than all of its own. */
static int is_wanted(const struct store *store, size_t index, const struct retention *retention,
                     const struct prune_limits *limits, struct age *age, bool *wanted,
                     enum prune_kept *kept)
{
	const struct segment *next = &store->segment[index + 1];

	*kept = PRUNE_KEPT_RETENTION;
	*wanted = true;
	if (retention->bytes != 0 && limits->tail - next->base < retention->bytes)
		return 0;
	if (retention->from != 0 && next->base > retention->from)
		return 0;
	if (find_age(store, index + 1, limits->now_us, age) != 0)
		return -1;
	if (retention->us != 0 && age->time_us > before(limits->now_us, retention->us))
		return 0;
	*kept = PRUNE_KEPT_IDS;
	*wanted = age->time_us > before(limits->now_us, limits->window_us);
	return 0;
}

static int remove_segment(const struct store *store, const struct segment *segment, bool rehearse,
                          struct pruning *done)
{
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, segment->base);
	if (!rehearse &&
	    (unlinkat(store->directory, name, 0) != 0 || disk_fsync(store->directory) != 0))
		return -1;
	done->segments++;
	done->bytes += segment->size;
	done->first = segment->base + segment->size + SEGMENT_HEAD;
	return 0;
}

static int prune(const struct store *store, uint64_t needed, const struct retention *retention,
                 const struct prune_limits *limits, struct pruning *done)
{
	struct age age = {0};

	for (size_t i = 0; i + 1 < store->count; i++) {
		const struct segment *segment = &store->segment[i];
		uint64_t end = segment->base + segment->size;
		bool wanted;
		done->kept = PRUNE_KEPT_RECOVERY;
		if (end > needed || end > limits->tail)
			return 0;
		if (is_wanted(store, i, retention, limits, &age, &wanted, &done->kept) != 0)
			return -1;
		if (wanted)
			return 0;
		if (remove_segment(store, segment, limits->rehearse, done) != 0)
			return -1;
	}
	done->kept = PRUNE_KEPT_LAST;
	return 0;
}

int prune_journal(const char *journal, const char *snapshots, const struct retention *retention,
                  const struct prune_limits *limits, struct pruning *done)
{
	char error[STORE_ERROR_SIZE];
	enum store_status status;
	uint64_t needed;

	*done = (struct pruning){0};
	if (retention->bytes == 0 && retention->us == 0 && retention->from == 0)
		return 0;
	struct store *store = store_open(journal, &status, error);
	if (store == NULL) {
		if (status == STORE_CORRUPT)
			errno = EUCLEAN;
		return -1;
	}
	done->first = store_first(store);
	int result = find_needed(snapshots, store_key(store), &needed);
	if (result == 0)
		result = prune(store, needed, retention, limits, done);
	int cause = errno;
	store_close(store);
	errno = cause;
	return result;
}
