#include "recover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../shm/region.h"
#include "replay.h"
#include "seal.h"

#define REPAIR_HINT "; see tallyctl journal repair"
#define PLACE_SIZE  320
#define RUN_MAX     32 /* records looked ahead: about what a core fetches at once */

struct context {
	struct store *store;
	struct region *region;
	struct recovery *recovery;
	struct seal *seal;
	uint64_t from;            /* reading began here */
	uint64_t before;          /* snapshots that start here or later are passed over */
	uint64_t durable;         /* the greatest durable mark */
	struct coverage coverage; /* of the snapshot */
	char *error;
};

static enum store_status failed_io(struct context *context, const char *what)
{
	int cause = errno;

	snprintf(context->error, STORE_ERROR_SIZE, "%s: %s", what, strerror(cause));
	errno = cause;
	return STORE_IO;
}

static enum store_status failed_room(const struct context *context)
{
	int cause = errno;

	snprintf(context->error, STORE_ERROR_SIZE,
	         "the blocks that a sparse copy has left out at the journal's end cannot be "
	         "reserved: %s%s",
	         strerror(cause),
	         cause == ENOSPC ? "; make room on the disk of the data directory" : "");
	errno = cause;
	return STORE_IO;
}

static enum store_status corrupt(struct context *context, uint64_t lsn, const char *why)
{
	char place[PLACE_SIZE];

	store_locate(context->store, lsn, place, sizeof place);
	bool full = why == replay_table_full || why == replay_holds_full;
	context->recovery->full = full;
	context->recovery->bad = full ? 0 : lsn;
	snprintf(context->error, STORE_ERROR_SIZE, "%s: %s%s", place, why, full ? "" : REPAIR_HINT);
	return STORE_CORRUPT;
}

/* The same where no record is the matter: there is nothing up to which it would be good. */
static enum store_status unfit(struct context *context, uint64_t lsn, const char *why)
{
	enum store_status status = corrupt(context, lsn, why);

	context->recovery->bad = 0;
	return status;
}

/* Newest first; a damaged one is passed over, which costs only a longer replay. */
static enum store_status load_snapshot(struct context *context, const char *path)
{
	struct recovery *recovery = context->recovery;
	enum snapshot_status status;
	uint64_t start = context->before;

	while ((status = snapshot_find(path, start, &start)) == SNAPSHOT_OK) {
		status = snapshot_load(context->region, path, start, store_key(context->store),
		                       &recovery->snapshot, &context->coverage);
		if (status == SNAPSHOT_OK)
			return STORE_OK;
		if (status == SNAPSHOT_FULL) {
			snprintf(context->error, STORE_ERROR_SIZE, "%s: %s", path,
			         recovery->snapshot.full);
			recovery->full = true;
			return STORE_CORRUPT;
		}
		memset(&recovery->snapshot, 0, sizeof recovery->snapshot);
		if (status == SNAPSHOT_IO)
			return failed_io(context, path);
		recovery->snapshots_refused++;
	}
	return status == SNAPSHOT_NONE ? STORE_OK : failed_io(context, path);
}

/* Replay begins at the seal before the snapshot, so that the chain of seals can go on. */
static uint64_t first_position(const struct context *context)
{
	const struct snapshot *snapshot = &context->recovery->snapshot;

	return snapshot->seal_to != 0 ? snapshot->seal_to : SEGMENT_HEAD;
}

static enum store_status check_seal(struct context *context, const struct record_head *record)
{
	const struct record_seal *body = (const void *)(record + 1);
	struct seal_link link = {.from = body->from, .to = body->to, .hash = body->hash};
	struct region_seal *known = region_seal(context->region);

	/* Written late, it speaks of what lies before the seal at which reading began. */
	if (link.to < context->from)
		return STORE_OK;
	if (!seal_knows(context->seal, &link)) {
		corrupt(context, record->lsn,
		        "the journal before this seal is not what was sealed");
		context->recovery->bad = known->to != 0 ? known->to : context->from;
		return STORE_CORRUPT;
	}
	known->lsn = record->lsn;
	known->to = body->to;
	known->hash = body->hash;
	return STORE_OK;
}

static enum store_status take(struct context *context, const struct record_head *record)
{
	struct recovery *recovery = context->recovery;
	enum store_status status = STORE_OK;

	if (record->type == RECORD_SEAL)
		status = check_seal(context, record);
	if (status != STORE_OK)
		return status;
	seal_add(context->seal, record, record->length, record->lsn + record->length);
	if (record->durable > context->durable)
		context->durable = record->durable;
	recovery->clean = record->type == RECORD_STOP;
	recovery->epoch = record->epoch;
	if (record->lsn < recovery->snapshot.start)
		return STORE_OK;
	recovery->records++;
	const char *why =
	    replay_apply(context->region, record,
	                 record->lsn <= recovery->snapshot.newest ? &context->coverage : NULL);
	return why == NULL ? STORE_OK : corrupt(context, record->lsn, why);
}

/* The slots of a whole run are on their way from memory while its first records are applied. */
static enum store_status take_run(struct context *context, const struct record_head *const *record,
                                  size_t count)
{
	enum store_status status = STORE_OK;

	for (size_t i = 0; i < count; i++)
		replay_prefetch(context->region, record[i]);
	for (size_t i = 0; i < count && status == STORE_OK; i++)
		status = take(context, record[i]);
	return status;
}

static enum store_status read_all(struct context *context, uint64_t from)
{
	struct store_reader *reader = store_replay(context->store, from);
	const struct record_head *run[RUN_MAX];
	enum store_status status;
	size_t count;

	if (reader == NULL)
		return failed_io(context, "replay");
	while ((status = store_next_run(reader, run, RUN_MAX, &count)) == STORE_OK &&
	       (status = take_run(context, run, count)) == STORE_OK)
		;
	context->recovery->start = store_reader_at(reader);
	if (status == STORE_IO)
		failed_io(context, "reading the journal");
	store_reader_close(reader);
	return status == STORE_END ? STORE_OK : status;
}

/* Nothing on disk may be touched unless all of it has been understood. */
static enum store_status judge_tail(struct context *context)
{
	const struct recovery *recovery = context->recovery;
	uint64_t witness = 0;
	enum store_status status = store_torn(context->store, recovery->start, &witness);
	char why[160];

	if (status == STORE_IO)
		return failed_io(context, "reading the journal");
	if (status == STORE_CORRUPT) {
		snprintf(why, sizeof why,
		         "damaged: no sound record here, but the one at position %" PRIu64
		         " proves that this was durable",
		         witness);
		return corrupt(context, recovery->start, why);
	}
	if (recovery->snapshot.start != 0 && (recovery->start <= recovery->snapshot.newest ||
	                                      recovery->start < recovery->snapshot.start))
		return unfit(context, recovery->start,
		             "the journal ends before what the snapshot holds");
	return STORE_OK;
}

static enum store_status replay_from(struct context *context, uint64_t from)
{
	const struct snapshot *snapshot = &context->recovery->snapshot;
	struct region_seal *known = region_seal(context->region);
	enum store_status status;

	if (snapshot->seal_to != 0) {
		known->to = snapshot->seal_to;
		known->hash = snapshot->seal_hash;
	}
	context->from = context->durable = from;
	context->seal = seal_open(from, known->to != 0 ? known->hash : store_key(context->store));
	if (context->seal == NULL)
		return failed_io(context, "replay");
	status = read_all(context, from);
	if (status == STORE_OK)
		status = judge_tail(context);
	seal_close(context->seal);
	return status;
}

/* A journal that does not reach back to its beginning needs a snapshot that does the rest. */
static enum store_status check_start(struct context *context, uint64_t from)
{
	uint64_t first = store_first(context->store);

	if (from < first && context->recovery->snapshot.start != 0)
		return unfit(context, first,
		             "the journal begins after what the newest good snapshot needs of it");
	if (from < first)
		return unfit(context, first,
		             "the journal's beginning is gone and no good snapshot is there");
	if (from > store_space(context->store))
		return unfit(context, from, "the journal ends before the snapshot begins");
	return STORE_OK;
}

static enum store_status rebuild(struct context *context, const char *snapshots)
{
	enum store_status status = load_snapshot(context, snapshots);
	uint64_t from;

	if (status != STORE_OK)
		return status;
	from = first_position(context);
	status = check_start(context, from);
	return status == STORE_OK ? replay_from(context, from) : status;
}

static enum store_status read_only(struct context *context, const char *snapshots)
{
	memset(context->recovery, 0, sizeof *context->recovery);
	enum store_status status = rebuild(context, snapshots);
	int cause = errno;
	coverage_free(&context->coverage);
	errno = cause;
	return status;
}

enum store_status recover_rehearse(struct store *store, const char *snapshots, uint64_t before,
                                   struct region *region, struct recovery *recovery, char *error)
{
	struct context context = {.store = store,
	                          .region = region,
	                          .recovery = recovery,
	                          .before = before,
	                          .error = error};

	return read_only(&context, snapshots);
}

enum store_status recover(struct store *store, const char *snapshots, struct region *region,
                          struct recovery *recovery, char *error)
{
	struct context context = {.store = store,
	                          .region = region,
	                          .recovery = recovery,
	                          .before = UINT64_MAX,
	                          .error = error};
	enum store_status status = read_only(&context, snapshots);

	if (status != STORE_OK)
		return status;
	/* From here on all before the start counts as durable: what no mark vouches for is made so.
	 */
	if (store_settle(store, context.durable, recovery->start) != 0)
		return failed_io(&context, "making the journal's end durable");
	if (store_cut(store, recovery->start, &recovery->cut) != 0)
		return failed_io(&context, "cutting the torn tail");
	if (store_reserve(store, recovery->start) != 0)
		return failed_room(&context);
	region_begin(region, recovery->start, store_segment_end(store, recovery->start),
	             store_space(store));
	return STORE_OK;
}
