#include "view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../../shm/ids.h"
#include "../../shm/region.h"
#include "coverage.h"
#include "record.h"
#include "replay.h"

#define PAUSE_NS   50000000 /* before another try */
#define RUN_MAX    32       /* records looked ahead */
#define PLACE_SIZE 320

struct viewer {
	struct view *view;
	struct store *store;
	const char *snapshots;
	struct coverage coverage;
	const char *full; /* the table that was too small (a constant) */
	char *error;
};

struct region *view_region(uint64_t key, uint64_t accounts, uint64_t ids, uint64_t holds)
{
	const struct region_geometry geometry = {.max_accounts = accounts,
	                                         .max_ids = ids,
	                                         .max_holds = holds,
	                                         .ring_size = REGION_RING_MIN,
	                                         .segment_size = REGION_RING_MIN,
	                                         .processes = 1,
	                                         .hash_seed = record_hash_seed(key),
	                                         .journal_key = key};

	return region_create_private(&geometry);
}

static enum store_status failed(const struct viewer *viewer, const char *what)
{
	int cause = errno;

	snprintf(viewer->error, STORE_ERROR_SIZE, "%s: %s", what, strerror(cause));
	errno = cause;
	return STORE_IO;
}

static enum store_status damaged(const struct viewer *viewer, uint64_t lsn, const char *why)
{
	char place[PLACE_SIZE];

	store_locate(viewer->store, lsn, place, sizeof place);
	snprintf(viewer->error, STORE_ERROR_SIZE, "%s: %s; see tallyctl journal repair", place,
	         why);
	return STORE_CORRUPT;
}

static enum store_status load_snapshot(struct viewer *viewer)
{
	struct view *view = viewer->view;
	enum snapshot_status status;
	uint64_t start = UINT64_MAX;

	while ((status = snapshot_find(viewer->snapshots, start, &start)) == SNAPSHOT_OK) {
		status = snapshot_load(view->region, viewer->snapshots, start, view->key,
		                       &view->snapshot, &viewer->coverage);
		if (status == SNAPSHOT_OK)
			return STORE_OK;
		if (status == SNAPSHOT_FULL) {
			viewer->full = view->snapshot.full;
			return STORE_CORRUPT;
		}
		view->snapshot = (struct snapshot){0};
		if (status == SNAPSHOT_IO)
			return failed(viewer, viewer->snapshots);
	}
	return status == SNAPSHOT_NONE ? STORE_OK : failed(viewer, viewer->snapshots);
}

static enum store_status apply(struct viewer *viewer, const struct record_head *record)
{
	struct view *view = viewer->view;
	const char *why = replay_apply(
	    view->region, record, record->lsn <= view->snapshot.newest ? &viewer->coverage : NULL);

	view->records++;
	view->newest = record->lsn;
	if (record->time_us != 0)
		view->time_us = record->time_us;
	if (why == NULL)
		return STORE_OK;
	if (why == replay_table_full || why == replay_holds_full)
		viewer->full = why;
	return damaged(viewer, record->lsn, why);
}

static enum store_status apply_run(struct viewer *viewer, const struct record_head *const *record,
                                   size_t count)
{
	enum store_status status = STORE_OK;

	for (size_t i = 0; i < count; i++)
		replay_prefetch(viewer->view->region, record[i]);
	for (size_t i = 0; i < count && status == STORE_OK; i++)
		status = apply(viewer, record[i]);
	return status;
}

static enum store_status apply_all(struct viewer *viewer, struct store_reader *reader)
{
	const struct record_head *run[RUN_MAX];
	enum store_status status;
	size_t count;

	while ((status = store_next_run(reader, run, RUN_MAX, &count)) == STORE_OK &&
	       (status = apply_run(viewer, run, count)) == STORE_OK)
		;
	viewer->view->lsn = store_reader_at(reader);
	return status == STORE_IO ? failed(viewer, "reading the journal") : status;
}

/* From the snapshot's start: the seals before it are not what is asked here. */
static enum store_status replay(struct viewer *viewer)
{
	const struct snapshot *snapshot = &viewer->view->snapshot;
	uint64_t from = snapshot->start != 0 ? snapshot->start : SEGMENT_HEAD;
	struct store_reader *reader = store_replay(viewer->store, from);
	enum store_status status = STORE_OK;
	uint64_t witness = 0;
	char why[160];

	while (reader != NULL && status == STORE_OK) {
		status = apply_all(viewer, reader);
		store_reader_close(reader);
		reader = NULL;
		if (status == STORE_END)
			status = store_go_on(viewer->store, viewer->view->lsn, &reader, &witness);
		else
			return status;
	}
	if (status == STORE_END)
		return STORE_OK;
	if (status != STORE_CORRUPT)
		return failed(viewer, "reading the journal");
	snprintf(why, sizeof why,
	         "damaged: no sound record here, but the one at position %" PRIu64
	         " proves that this was durable",
	         witness);
	return damaged(viewer, viewer->view->lsn, why);
}

static enum store_status check_reach(struct viewer *viewer)
{
	const struct snapshot *snapshot = &viewer->view->snapshot;
	uint64_t from = snapshot->start != 0 ? snapshot->start : SEGMENT_HEAD;
	uint64_t first = store_first(viewer->store);

	if (store_empty(viewer->store) && snapshot->start != 0)
		return damaged(viewer, from, "there are snapshots but no journal");
	if (!store_empty(viewer->store) && from < first)
		return damaged(viewer, first,
		               "the journal's beginning is gone and no good snapshot replaces it");
	return STORE_OK;
}

static enum store_status check_end(struct viewer *viewer)
{
	const struct view *view = viewer->view;

	if (view->snapshot.start != 0 &&
	    (view->lsn <= view->snapshot.newest || view->lsn < view->snapshot.start))
		return damaged(viewer, view->lsn,
		               "the journal ends before what the snapshot holds");
	return STORE_OK;
}

static enum store_status build(struct viewer *viewer, uint64_t accounts, uint64_t ids,
                               uint64_t holds)
{
	struct view *view = viewer->view;
	enum store_status status;

	*view = (struct view){.key = store_key(viewer->store)};
	view->region = view_region(view->key, accounts, ids, holds);
	if (view->region == NULL)
		return failed(viewer, "memory for the tables");
	status = load_snapshot(viewer);
	if (status == STORE_OK)
		status = check_reach(viewer);
	view->time_us = view->snapshot.taken_us;
	if (status == STORE_OK)
		status = replay(viewer);
	if (status == STORE_OK)
		status = check_end(viewer);
	int cause = errno;
	coverage_free(&viewer->coverage);
	if (status != STORE_OK)
		view_close(view);
	errno = cause;
	return status;
}

/*
 * Ids make room for others in their own bucket only: while a quarter of all places is taken, no
 * bucket has ever been full.
 */
static bool has_all_ids(const struct view *view)
{
	return ids_count(view->region) <= ids_slots(view->region) / 4;
}

/* How much there is shows only in the reading. */
static enum store_status build_large_enough(struct viewer *viewer, bool all_ids)
{
	uint64_t accounts = VIEW_ACCOUNTS;
	uint64_t ids = all_ids ? VIEW_IDS : REGION_IDS_MIN;
	uint64_t holds = VIEW_HOLDS;
	enum store_status status;
	bool again;

	do {
		viewer->full = NULL;
		status = build(viewer, accounts, ids, holds);
		again = viewer->full != NULL;
		if (viewer->full == replay_table_full)
			accounts *= VIEW_GROWTH;
		else if (viewer->full != NULL)
			holds *= VIEW_GROWTH;
		if (status == STORE_OK && all_ids && !has_all_ids(viewer->view)) {
			again = true;
			ids *= VIEW_GROWTH;
			view_close(viewer->view);
		}
	} while (again);
	return status;
}

static enum store_status try_open(struct view *view, const char *journal, const char *snapshots,
                                  bool ids, char *error)
{
	struct viewer viewer = {.view = view, .snapshots = snapshots, .error = error};
	enum store_status status;

	viewer.store = store_inspect(journal, &status, error);
	if (viewer.store == NULL)
		return status;
	status = build_large_enough(&viewer, ids);
	int cause = errno;
	store_close(viewer.store);
	errno = cause;
	return status;
}

enum store_status view_open(struct view *view, const char *journal, const char *snapshots,
                            bool running, bool ids, char *error)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	enum store_status status;

	/* Segments and snapshots are removed and made while their directory is being read. */
	for (int i = 0; (status = try_open(view, journal, snapshots, ids, error)) != STORE_OK;
	     i++) {
		bool moved = status == STORE_CORRUPT || errno == ENOENT;
		if (!running || !moved || i + 1 == VIEW_TRIES)
			return status;
		nanosleep(&pause, NULL);
	}
	return STORE_OK;
}

void view_close(struct view *view)
{
	if (view->region != NULL)
		region_close(view->region);
	view->region = NULL;
}
