#include "audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "audit_book.h"
#include "seal.h"

#define PLACE_SIZE  320
#define AUDIT_TRIES 20       /* where files went away while they were read */
#define PAUSE_NS    50000000 /* before another one */

struct auditor {
	const struct audit_limits *limits;
	struct store *store;
	struct audit *audit;
	struct audit_book book;
	struct seal *seal;   /* NULL: nothing is known of the chain yet */
	uint64_t chain_from; /* records before it are not part of it */
	uint32_t epoch;
	uint64_t durable;
	char *error;
};

static enum store_status differs(const struct auditor *auditor, uint64_t lsn, const char *why)
{
	char place[PLACE_SIZE];

	auditor->audit->bad = lsn;
	store_locate(auditor->store, lsn, place, sizeof place);
	snprintf(auditor->error, STORE_ERROR_SIZE, "%s: %s", place, why);
	return STORE_CORRUPT;
}

static enum store_status failed(const struct auditor *auditor, const char *what)
{
	int cause = errno;

	snprintf(auditor->error, STORE_ERROR_SIZE, "%s: %s", what, strerror(cause));
	errno = cause;
	return STORE_IO;
}

/* ---- the chain of seals */

/* Without its beginning the chain can be followed from the first link that ends in what is kept. */
static enum store_status find_chain(struct auditor *auditor, struct seal_link *link)
{
	struct store_reader *reader = store_replay(auditor->store, auditor->audit->first);
	const struct record_head *record;
	enum store_status status;

	if (reader == NULL)
		return failed(auditor, "reading the journal");
	*link = (struct seal_link){0};
	while ((status = store_next(reader, &record)) == STORE_OK && link->to == 0) {
		const struct record_seal *body = record_body(record);
		if (record->type == RECORD_SEAL && body->to >= auditor->audit->first)
			*link = (struct seal_link){
			    .from = body->to, .to = body->to, .hash = body->hash};
	}
	if (status == STORE_IO)
		failed(auditor, "reading the journal");
	store_reader_close(reader);
	return status == STORE_IO ? STORE_IO : STORE_OK;
}

static enum store_status begin_chain(struct auditor *auditor)
{
	struct seal_link link = {.to = auditor->audit->first, .hash = store_key(auditor->store)};

	if (auditor->audit->pruned) {
		enum store_status status = find_chain(auditor, &link);
		if (status != STORE_OK || link.to == 0)
			return status;
	}
	auditor->chain_from = link.to;
	auditor->seal = seal_open(link.to, link.hash);
	return auditor->seal != NULL ? STORE_OK : failed(auditor, "seals");
}

static const char *check_seal(const struct auditor *auditor, const struct record_head *record)
{
	const struct record_seal *body = record_body(record);
	struct seal_link link = {.from = body->from, .to = body->to, .hash = body->hash};

	if (auditor->seal == NULL || link.to < auditor->chain_from)
		return NULL;
	return seal_knows(auditor->seal, &link) ? NULL
	                                        : "the journal before this seal is not what was "
	                                          "sealed";
}

static void follow_chain(struct auditor *auditor, const struct record_head *record)
{
	if (auditor->seal != NULL && record->lsn >= auditor->chain_from)
		seal_add(auditor->seal, record, record->length, record->lsn + record->length);
}

/* ---- records */

static const char *check_run(struct auditor *auditor, const struct record_head *record)
{
	bool first = auditor->audit->records == 0;
	const char *why = NULL;

	if (!first && record->type != RECORD_START && record->epoch != auditor->epoch)
		why = "its epoch is not that of its run";
	else if (record->durable < auditor->durable)
		why = "its durable mark is less than that of a record before it";
	auditor->epoch = record->epoch;
	auditor->durable = record->durable;
	return why;
}

static const char *take(struct auditor *auditor, const struct record_head *record)
{
	struct audit *audit = auditor->audit;
	const char *why = check_run(auditor, record);

	audit->records++;
	if (why == NULL && record->type == RECORD_SEAL) {
		audit->seals++;
		why = check_seal(auditor, record);
	}
	follow_chain(auditor, record);
	if (why != NULL || record->type < RECORD_EVENT)
		return why;
	if (record->outcome == OUTCOME_ACCEPTED)
		audit->operations++;
	else
		audit->refusals++;
	return audit_enter(&auditor->book, record);
}

static enum store_status read_all(struct auditor *auditor, struct store_reader *reader)
{
	const struct record_head *record;
	enum store_status status = STORE_OK;

	while ((auditor->limits->end == 0 || store_reader_at(reader) < auditor->limits->end) &&
	       (status = store_next(reader, &record)) == STORE_OK) {
		const char *why = take(auditor, record);
		if (why == audit_no_memory) {
			errno = ENOMEM;
			return failed(auditor, "reading the journal");
		}
		if (why != NULL)
			return differs(auditor, record->lsn, why);
	}
	auditor->audit->end = store_reader_at(reader);
	return status == STORE_IO ? failed(auditor, "reading the journal") : STORE_OK;
}

/* What no sound record follows is the end, unless there is proof that more was durable. */
static enum store_status check_end(const struct auditor *auditor)
{
	char why[160];
	uint64_t witness = 0;
	enum store_status status;

	if (auditor->limits->running || auditor->limits->end != 0)
		return STORE_OK;
	status = store_torn(auditor->store, auditor->audit->end, &witness);
	if (status == STORE_IO)
		return failed(auditor, "reading the journal");
	if (status == STORE_OK)
		return STORE_OK;
	snprintf(why, sizeof why,
	         "no sound record here, but the one at position %" PRIu64
	         " proves that this was durable",
	         witness);
	return differs(auditor, auditor->audit->end, why);
}

static enum store_status check_records(struct auditor *auditor)
{
	struct store_reader *reader = store_replay(auditor->store, auditor->audit->first);
	enum store_status status;

	if (reader == NULL)
		return failed(auditor, "reading the journal");
	status = read_all(auditor, reader);
	store_reader_close(reader);
	return status == STORE_OK ? check_end(auditor) : status;
}

static enum store_status check(struct auditor *auditor)
{
	struct audit *audit = auditor->audit;
	struct audit_book *book = &auditor->book;
	enum store_status status;

	audit->first = store_first(auditor->store);
	audit->end = audit->first;
	audit->pruned = audit->first != SEGMENT_HEAD;
	if (store_empty(auditor->store))
		return STORE_OK;
	/* Of a journal with its beginning nothing is unknown. */
	audit_book_open(book, store_key(auditor->store), audit->pruned ? audit->first : 0);
	book->max_ids = auditor->limits->max_ids;
	book->window_us = auditor->limits->window_us;
	status = begin_chain(auditor);
	if (status == STORE_OK)
		status = check_records(auditor);
	audit->accounts = book->accounts.count;
	audit->holds = book->holds.count;
	audit->ids = book->ids;
	int cause = errno;
	seal_close(auditor->seal);
	audit_book_close(book);
	errno = cause;
	return status;
}

enum store_status audit_store(struct store *store, const struct audit_limits *limits,
                              struct audit *audit, char *error)
{
	struct auditor auditor = {.limits = limits, .store = store, .audit = audit, .error = error};

	*audit = (struct audit){0};
	return check(&auditor);
}

/* *MOVED: what went wrong may be that segments came or went meanwhile. */
static enum store_status try_journal(const char *path, const struct audit_limits *limits,
                                     struct audit *audit, char *error, bool *moved)
{
	enum store_status status;
	struct store *store = store_inspect(path, &status, error);

	*audit = (struct audit){0};
	*moved = store == NULL && (status == STORE_CORRUPT || errno == ENOENT);
	if (store == NULL)
		return status;
	status = audit_store(store, limits, audit, error);
	int cause = errno;
	*moved = status == STORE_IO && cause == ENOENT;
	store_close(store);
	errno = cause;
	return status;
}

enum store_status audit_journal(const char *path, const struct audit_limits *limits,
                                struct audit *audit, char *error)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	enum store_status status;
	bool moved;

	/* Segments are removed and made while their directory is being read. */
	for (int i = 0; (status = try_journal(path, limits, audit, error, &moved)) != STORE_OK;
	     i++) {
		if (!limits->running || !moved || i + 1 == AUDIT_TRIES)
			return status;
		nanosleep(&pause, NULL);
	}
	return STORE_OK;
}
