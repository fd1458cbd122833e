#include "mend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../shm/region.h"
#include "../ledger/change.h"
#include "../ledger/disk.h"
#include "../ledger/recover.h"
#include "../ledger/snapshot.h"
#include "../ledger/store.h"
#include "../ledger/view.h"
#include "../wire/reply.h"
#include "json_out.h"

#define OBJECT_MAX 16384

static int fail(struct mend *mend, const char *what)
{
	int cause = errno;

	snprintf(mend->why, sizeof mend->why, "%.800s: %s", what, strerror(cause));
	errno = cause;
	return -1;
}

/* --- what is there --- */

static int by_base(const void *left, const void *right)
{
	const struct mend_segment *a = left, *b = right;

	return (a->base > b->base) - (a->base < b->base);
}

/* Says what is wrong, once: the first thing counts. */
static void blame(struct mend *mend, uint64_t base, const char *why)
{
	char name[SEGMENT_NAME_SIZE];

	if (mend->why[0] != '\0')
		return;
	segment_name(name, base);
	snprintf(mend->why, sizeof mend->why, "%.800s/%s: %s", mend->journal, name, why);
}

static int add(struct mend *mend, int directory, uint64_t base)
{
	struct mend_segment found = {.base = base};
	const char *why = NULL;
	void *more = reallocarray(mend->segment, mend->count + 1, sizeof *mend->segment);

	if (more == NULL)
		return fail(mend, "memory");
	mend->segment = more;
	int fd = segment_open(directory, base, O_RDONLY, &found.segment, &why);
	if (fd < 0 && errno != 0)
		return fail(mend, mend->journal);
	if (fd >= 0)
		close(fd);
	found.whole = fd >= 0;
	mend->segment[mend->count++] = found;
	return 0;
}

static int list(struct mend *mend)
{
	int fd = disk_open(AT_FDCWD, mend->journal, O_RDONLY | O_DIRECTORY);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	uint64_t base;
	int result = 0;

	if (listing == NULL) {
		if (fd >= 0)
			close(fd);
		return fail(mend, mend->journal);
	}
	while (result == 0 && (entry = readdir(listing)) != NULL)
		if (segment_parse(entry->d_name, &base))
			result = add(mend, fd, base);
	closedir(listing);
	if (result == 0 && mend->count > 1)
		qsort(mend->segment, mend->count, sizeof *mend->segment, by_base);
	return result;
}

/* Does segment INDEX go on where the one before it ends? */
static bool follows(const struct mend *mend, size_t index)
{
	const struct mend_segment *last = &mend->segment[index - 1];
	const struct mend_segment *next = &mend->segment[index];

	return last->whole && next->whole && last->segment.key == next->segment.key &&
	       next->base == last->base + last->segment.size;
}

static void judge_segments(struct mend *mend)
{
	for (size_t i = 0; i < mend->count; i++) {
		const struct mend_segment *segment = &mend->segment[i];
		if (!segment->whole)
			blame(mend, segment->base, "it is damaged: its head, or its size");
		else if (i > 0 && mend->segment[i - 1].whole && !follows(mend, i))
			blame(mend, segment->base,
			      mend->segment[i - 1].segment.key != segment->segment.key
			          ? "it belongs to another journal"
			          : "the segment before this one is missing");
	}
}

/* --- what can be started from --- */

/* Segments FIRST to LAST, one after the other without a gap. */
struct run {
	size_t first, last;
};

/* The run that ends with segment LAST. */
static struct run run_to(const struct mend *mend, size_t last)
{
	struct run run = {.first = last, .last = last};

	while (run.first > 0 && follows(mend, run.first))
		run.first--;
	return run;
}

static struct store *store_of_run(const struct mend *mend, const struct run *run)
{
	size_t count = run->last - run->first + 1;
	struct segment *segments = calloc(count, sizeof *segments);
	struct store *store = NULL;

	if (segments == NULL)
		return NULL;
	for (size_t i = 0; i < count; i++)
		segments[i] = mend->segment[run->first + i].segment;
	store = store_of(mend->journal, segments, count);
	free(segments);
	return store;
}

/* What a start would come to, with tables that are large enough. */
static enum store_status rehearse(const struct mend *mend, struct store *store, uint64_t before,
                                  struct recovery *recovery, char *error)
{
	uint64_t accounts = VIEW_ACCOUNTS, holds = VIEW_HOLDS;
	enum store_status status = STORE_IO;

	do {
		struct region *region =
		    view_region(store_key(store), accounts, REGION_IDS_MIN, holds);
		if (region == NULL)
			return STORE_IO;
		status = recover_rehearse(store, mend->snapshots, before, region, recovery, error);
		int cause = errno;
		region_close(region);
		errno = cause;
		accounts *= VIEW_GROWTH;
		holds *= VIEW_GROWTH;
	} while (status == STORE_CORRUPT && recovery->full);
	return status;
}

/* Can a start go up to position AT of STORE, which is sound before that? */
static bool reaches(const struct store *store, const struct recovery *recovery, uint64_t at)
{
	const struct snapshot *snapshot = &recovery->snapshot;

	if (snapshot->start == 0)
		return store_first(store) == SEGMENT_HEAD;
	return snapshot->newest < at && snapshot->start <= at;
}

/* Everything that knows of something from the end on has to go. */
static int choose_snapshots(struct mend *mend, uint64_t before)
{
	uint64_t start = UINT64_MAX;
	enum snapshot_status status;

	while ((status = snapshot_find(mend->snapshots, start, &start)) == SNAPSHOT_OK &&
	       start >= before) {
		void *more =
		    reallocarray(mend->snapshot, mend->snapshot_count + 1, sizeof *mend->snapshot);
		if (more == NULL)
			return fail(mend, "memory");
		mend->snapshot = more;
		mend->snapshot[mend->snapshot_count++] = start;
	}
	return status == SNAPSHOT_IO ? fail(mend, mend->snapshots) : 0;
}

static int choose(struct mend *mend, const struct run *run, uint64_t before, uint64_t end, bool cut)
{
	mend->key = mend->segment[run->first].segment.key;
	mend->first = mend->segment[run->first].base + SEGMENT_HEAD;
	mend->end = end;
	mend->cut = cut;
	for (size_t i = run->first; i <= run->last; i++)
		mend->segment[i].stays = !cut || mend->segment[i].base < end;
	return choose_snapshots(mend, before);
}

/*
 * Tries RUN with the newest snapshot, then with older ones.  1: it can be started from, and *mend
 * says how; 0: it cannot; -1: errno.
 */
static int try_run(struct mend *mend, const struct run *run)
{
	uint64_t before = UINT64_MAX;
	char error[STORE_ERROR_SIZE] = "";
	struct recovery recovery;
	struct store *store = store_of_run(mend, run);
	int result = 0;

	if (store == NULL)
		return fail(mend, mend->journal);
	for (;;) {
		enum store_status status = rehearse(mend, store, before, &recovery, error);
		if (status == STORE_IO) {
			result = fail(mend, mend->journal);
			break;
		}
		if (status == STORE_CORRUPT && mend->why[0] == '\0')
			snprintf(mend->why, sizeof mend->why, "%s", error);
		bool good = status == STORE_OK;
		uint64_t end = good ? recovery.start : recovery.bad;
		if (good || (end != 0 && reaches(store, &recovery, end))) {
			result = choose(mend, run, before, end, !good) == 0 ? 1 : -1;
			break;
		}
		if (recovery.snapshot.start == 0)
			break;
		before = recovery.snapshot.start;
	}
	int cause = errno;
	store_close(store);
	errno = cause;
	return result;
}

/* The latest part of the journal that a start can go on from loses least. */
static int find_run(struct mend *mend)
{
	for (size_t last = mend->count; last > 0;) {
		if (!mend->segment[last - 1].whole) {
			last--;
			continue;
		}
		struct run run = run_to(mend, last - 1);
		int result = try_run(mend, &run);
		if (result != 0)
			return result;
		last = run.first;
	}
	return 0;
}

static bool all_stay(const struct mend *mend)
{
	for (size_t i = 0; i < mend->count; i++)
		if (!mend->segment[i].stays)
			return false;
	return true;
}

int mend_look(struct mend *mend, const char *journal, const char *snapshots)
{
	*mend = (struct mend){.journal = journal, .snapshots = snapshots};
	if (list(mend) != 0)
		return -1;
	judge_segments(mend);
	int found = find_run(mend);
	if (found < 0)
		return -1;
	mend->hopeless = found == 0;
	if (found == 0 && mend->why[0] == '\0')
		snprintf(mend->why, sizeof mend->why, "%.800s: there is no journal", journal);
	mend->sound = found > 0 && !mend->cut && mend->snapshot_count == 0 && all_stay(mend);
	return 0;
}

void mend_free(struct mend *mend)
{
	free(mend->segment);
	free(mend->snapshot);
	mend->segment = NULL;
	mend->snapshot = NULL;
}

/* --- what is undone --- */

struct teller {
	const struct mend *mend;
	FILE *events, *records;
	uint64_t count, lines;
};

/* What a leg did, as an event of its own; its id is that of the operation, if that was an event. */
static void tell_leg(struct teller *teller, const struct change *change, unsigned index)
{
	const struct change_leg *leg = &change->leg[index];
	struct json_out out = {.stream = teller->events};
	char id[80];

	if (leg->amount == 0)
		return;
	/* With its time: what comes after a repair has the positions of what was undone. */
	snprintf(id, sizeof id, "repair:%" PRIu64 ":%" PRIu64 ":%u", change->lsn, change->time_us,
	         index);
	json_out_open(&out, NULL, '{');
	json_out_bytes(&out, "account", leg->account.bytes, leg->account.length);
	json_out_signed(&out, "amount", leg->amount);
	if (change->legs == 1 && change->kind == REQUEST_EVENT && change->id.length > 0)
		json_out_bytes(&out, "id", change->id.bytes, change->id.length);
	else
		json_out_text(&out, "id", id);
	if (change->note.length > 0)
		json_out_bytes(&out, "note", change->note.bytes, change->note.length);
	json_out_close(&out, '}');
	json_out_end(&out);
	teller->lines++;
}

static void tell(struct teller *teller, const struct record_head *record)
{
	static char bytes[OBJECT_MAX];
	struct change change;
	struct text object;

	if (!record_has_effect(record))
		return;
	change_tell(record, &change);
	text_init(&object, bytes, sizeof bytes);
	reply_change_object(&object, &change);
	fwrite(object.bytes, 1, object.length, teller->records);
	fputc('\n', teller->records);
	for (unsigned i = 0; i < change.legs; i++)
		tell_leg(teller, &change, i);
	teller->count++;
}

/*
 * Every sound record in BYTES, which stand at position BASE of the journal, from the end on:
 * whatever damage lies between them.
 */
static void search(struct teller *teller, const unsigned char *bytes, uint64_t size, uint64_t base)
{
	const struct mend *mend = teller->mend;
	uint64_t at = mend->end > base + SEGMENT_HEAD ? mend->end - base : SEGMENT_HEAD;

	while (at + sizeof(struct record_head) <= size) {
		const struct record_head *record = (const void *)(bytes + at);
		uint64_t length = record_check(record, (size_t)(size - at), base + at, mend->key);
		if (length != 0)
			tell(teller, record);
		at += length != 0 ? length : 8;
	}
}

static int search_segment(struct teller *teller, int directory, uint64_t base)
{
	char name[SEGMENT_NAME_SIZE];
	struct stat status;

	segment_name(name, base);
	int fd = disk_open(directory, name, O_RDONLY);
	if (fd < 0 || fstat(fd, &status) != 0)
		return -1;
	uint64_t size = (uint64_t)status.st_size;
	void *bytes = size > SEGMENT_HEAD ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
	close(fd);
	if (bytes == MAP_FAILED)
		return -1;
	if (bytes != NULL) {
		search(teller, bytes, size, base);
		munmap(bytes, size);
	}
	return 0;
}

int mend_tell(const struct mend *mend, FILE *events, FILE *records, uint64_t *count,
              uint64_t *lines)
{
	struct teller teller = {.mend = mend, .events = events, .records = records};
	int directory = disk_open(AT_FDCWD, mend->journal, O_RDONLY | O_DIRECTORY);
	int result = directory < 0 ? -1 : 0;

	/* What lies before the part that stays was done, and its effects are in a snapshot. */
	for (size_t i = 0; i < mend->count && result == 0; i++) {
		const struct mend_segment *segment = &mend->segment[i];
		bool undone = segment->stays ? mend->cut : segment->base >= mend->first;
		if (undone)
			result = search_segment(&teller, directory, segment->base);
	}
	if (directory >= 0)
		close(directory);
	*count = teller.count;
	*lines = teller.lines;
	return result;
}
