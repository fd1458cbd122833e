/*
 * tallyctl journal cat: what the journal says, operation by operation, read from its files.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../../shm/region.h"
#include "../ledger/change.h"
#include "../ledger/facts.h"
#include "../ledger/segment.h"
#include "../ledger/store.h"
#include "../wire/reply.h"
#include "command.h"
#include "interrupt.h"
#include "place.h"
#include "words.h"

#define OBJECT_MAX                                                                                 \
	16384 /* bytes of one operation as JSON: each account's name may need two a byte */
#define POLL_NS      50000000
#define LOOKED_EVERY 10 /* polls between two looks for new segments */
#define OPENED_TRIES 5  /* where segments go away while they are looked for */
#define STREAM_SIZE  (1 << 18)

enum { UNTIL = 256 };

static const struct command_option options[] = {
    {'a', "account", "PREFIX", "only what concerns accounts whose names begin so"},
    {'f', "follow", NULL, "go on with what becomes durable, until interrupted"},
    {'n', "count", "COUNT", "so many operations, then end"},
    {'s', "after", "LSN", "only what came after this position"},
    {UNTIL, "until", "LSN", "and not after this one"},
    {0},
};

struct cat {
	const struct session *session;
	char path[PLACE_PATH_MAX];
	const char *prefix;
	uint64_t after, until, count;
	bool follow;
	struct store *store;
	struct store_reader *reader;
	uint64_t at;   /* the position that is read next */
	uint64_t end;  /* what is not durable is not told */
	uint64_t tail; /* where a daemon that runs is; 0: not known */
	bool placed;   /* `after` was seen to be a place in this journal */
	bool nowhere;  /* or not to be one */
};

/* --- one operation --- */

static bool begins(struct words name, const char *prefix)
{
	size_t length = strlen(prefix);

	return name.length >= length && memcmp(name.bytes, prefix, length) == 0;
}

static bool is_wanted(const struct cat *cat, const struct change *change)
{
	if (cat->prefix == NULL)
		return true;
	for (unsigned i = 0; i < change->legs; i++)
		if (begins(change->leg[i].account, cat->prefix))
			return true;
	return false;
}

static void write_json(const struct change *change)
{
	static char bytes[OBJECT_MAX];
	struct text object;

	text_init(&object, bytes, sizeof bytes);
	reply_change_object(&object, change);
	fwrite(object.bytes, 1, object.length, stdout);
	putchar('\n');
}

static void write_words(const char *label, struct words words)
{
	if (words.length > 0)
		printf("  %s %.*s", label, (int)words.length, words.bytes);
}

/* Names are valid UTF-8 without control characters: they may go to a terminal as they are. */
static void write_line(const struct change *change)
{
	char time[WORDS_TIME_SIZE];

	for (unsigned i = 0; i < change->legs; i++) {
		const struct change_leg *leg = &change->leg[i];
		if (i == 0)
			printf("%s %12" PRIu64 " %-11s", words_time_exact(change->time_us, time),
			       change->lsn, reply_type(change->kind, change->expired));
		else
			printf("%27s %12s %-11s", "", "", "");
		printf(" %+12" PRId64 " %14" PRId64 "  %.*s", leg->amount, leg->balance,
		       (int)leg->account.length, leg->account.bytes);
		if (leg->held != 0)
			printf("  held %" PRId64, leg->held);
		if (i == 0) {
			write_words("id", change->id);
			write_words("hold", change->hold);
			write_words("note", change->note);
		}
		putchar('\n');
	}
}

/* False: that was the last one that is wanted. */
static bool tell(struct cat *cat, const struct record_head *record)
{
	struct change change;

	bool last = cat->until != 0 && record->lsn >= cat->until;

	if (cat->until != 0 && record->lsn > cat->until)
		return false;
	if (record->lsn <= cat->after || !record_has_effect(record))
		return !last;
	change_tell(record, &change);
	if (!is_wanted(cat, &change))
		return !last;
	if (cat->session->json)
		write_json(&change);
	else
		write_line(&change);
	return !last && (cat->count == 0 || --cat->count > 0);
}

/* --- reading --- */

static int fail(const struct cat *cat, enum store_status status, const char *error)
{
	char place[320];

	if (status == STORE_IO)
		return command_fail(cat->session, errno == EACCES ? COMMAND_DENIED : COMMAND_FAILED,
		                    "%s", error != NULL ? error : strerror(errno));
	if (error != NULL)
		return command_fail(cat->session, COMMAND_FAILED, "%s", error);
	store_locate(cat->store, cat->at, place, sizeof place);
	return command_fail(cat->session, COMMAND_FAILED,
	                    "%s: no sound record here, but later ones prove that there was one; "
	                    "see tallyctl journal repair",
	                    place);
}

static void close_files(struct cat *cat)
{
	if (cat->reader != NULL)
		store_reader_close(cat->reader);
	if (cat->store != NULL)
		store_close(cat->store);
	cat->reader = NULL;
	cat->store = NULL;
}

/* Opens the journal as it is now, to go on at cat->at; 0 there: where what is wanted begins. */
static int open_files(struct cat *cat)
{
	const struct timespec pause = {.tv_nsec = POLL_NS};
	char error[STORE_ERROR_SIZE] = "";
	enum store_status status;

	close_files(cat);
	for (int i = 0; i < OPENED_TRIES && cat->store == NULL; i++) {
		if (i > 0)
			nanosleep(&pause, NULL);
		cat->store = store_inspect(cat->path, &status, error);
	}
	if (cat->store == NULL)
		return fail(cat, status, error);
	uint64_t first = store_first(cat->store);
	if (cat->at == 0)
		cat->placed = cat->after == 0 || cat->after + 1 == first ||
		              cat->after + 1 + SEGMENT_HEAD == first;
	if (cat->at == 0 && !cat->placed && cat->after + SEGMENT_HEAD < first)
		return command_fail(cat->session, COMMAND_FAILED,
		                    "%s: what came after position %" PRIu64
		                    " is not kept: the journal begins at %" PRIu64,
		                    cat->path, cat->after, first);
	if (cat->at == 0)
		cat->at = cat->after > first ? store_segment_first(cat->store, cat->after) : first;
	if (cat->at < first)
		return command_fail(cat->session, COMMAND_FAILED,
		                    "%s: what came after position %" PRIu64
		                    " was removed while it was read",
		                    cat->path, cat->at);
	cat->reader = store_replay(cat->store, cat->at);
	return cat->reader != NULL ? COMMAND_DONE : fail(cat, STORE_IO, NULL);
}

/* Of a daemon that runs: what is durable.  Who may not look there is told what is written. */
static void find_end(struct cat *cat)
{
	char error[COMMAND_MESSAGE_SIZE];
	int status;
	struct region *region = place_daemon(cat->session->data) != 0
	                            ? place_region(cat->session->data, &status, error)
	                            : NULL;

	cat->end = UINT64_MAX;
	cat->tail = 0;
	if (region == NULL)
		return;
	cat->tail = atomic_load(&region_marks(region)->tail);
	cat->end = atomic_load(&region_marks(region)->durable);
	region_close(region);
}

/*
 * What GET /feed takes is taken here: the LSN of a record, or the one before a place where one
 * begins or ends.  Looks at RECORD, which was read at FROM; NULL: the journal ends there.  False:
 * `after` is nowhere.
 */
static bool place(struct cat *cat, uint64_t from, const struct record_head *record)
{
	uint64_t after = cat->after;

	if (cat->placed)
		return true;
	cat->placed = after + 1 == from ||
	              (record != NULL && (after == record->lsn || after + 1 == record->lsn));
	/* What was answered may not be durable yet (sync = interval), and comes. */
	bool comes = record != NULL ? record->lsn < after : after < cat->tail;
	cat->nowhere = !cat->placed && !comes;
	return !cat->nowhere;
}

static int fail_nowhere(const struct cat *cat)
{
	if (cat->after >= cat->at)
		return command_fail(cat->session, COMMAND_FAILED,
		                    "%s: there is no record at position %" PRIu64
		                    ": the journal ends at %" PRIu64,
		                    cat->path, cat->after, cat->at);
	return command_fail(cat->session, COMMAND_FAILED,
	                    "%s: no record begins at position %" PRIu64, cat->path, cat->after);
}

/* Tells what is there.  STORE_OK: that was all that is wanted; STORE_END: all that is there. */
static enum store_status read_some(struct cat *cat)
{
	const struct record_head *record;
	enum store_status status = STORE_OK;
	uint64_t witness;

	while (status == STORE_OK) {
		while (cat->at < cat->end && !interrupted() &&
		       (status = store_next(cat->reader, &record)) == STORE_OK) {
			uint64_t from = cat->at;
			cat->at = store_reader_at(cat->reader);
			if (!place(cat, from, record) || !tell(cat, record))
				return STORE_OK;
		}
		if (cat->at >= cat->end || interrupted())
			return STORE_END;
		if (status != STORE_END)
			return status;
		store_reader_close(cat->reader);
		cat->reader = NULL;
		status = store_go_on(cat->store, cat->at, &cat->reader, &witness);
	}
	if (status == STORE_END && cat->reader == NULL)
		cat->reader = store_replay(cat->store, cat->at);
	return status == STORE_END && cat->reader == NULL ? STORE_IO : status;
}

static int follow(struct cat *cat)
{
	const struct timespec pause = {.tv_nsec = POLL_NS};
	int status = COMMAND_DONE;

	for (unsigned i = 1; status == COMMAND_DONE && !interrupted() && !ferror(stdout); i++) {
		fflush(stdout);
		nanosleep(&pause, NULL);
		if (i % LOOKED_EVERY == 0)
			status = open_files(cat);
		find_end(cat);
		enum store_status read = status == COMMAND_DONE ? read_some(cat) : STORE_END;
		if (read == STORE_OK)
			break;
		if (read != STORE_END)
			status = fail(cat, read, NULL);
	}
	return status;
}

static int cat_all(struct cat *cat)
{
	int status = open_files(cat);

	if (status != COMMAND_DONE)
		return status;
	find_end(cat);
	enum store_status read = read_some(cat);
	if (read == STORE_END && !interrupted())
		place(cat, cat->at, NULL);
	if (read == STORE_END && cat->follow && !cat->nowhere)
		status = follow(cat);
	else if (read != STORE_OK && read != STORE_END)
		status = fail(cat, read, NULL);
	else if (interrupted())
		status = command_fail(cat->session, COMMAND_FAILED, "interrupted");
	if (cat->nowhere)
		status = fail_nowhere(cat);
	if (fflush(stdout) != 0 || ferror(stdout))
		return errno == EPIPE
		           ? COMMAND_DONE
		           : command_fail(cat->session, COMMAND_FAILED,
		                          "standard output: cannot write: %s", strerror(errno));
	return status;
}

static int run(const struct session *session, int operands, char **operand)
{
	struct cat cat = {.session = session,
	                  .prefix = command_value(session, 'a'),
	                  .follow = command_has(session, 'f')};
	int status = command_number(session, 's', 0, UINT64_MAX >> 1, &cat.after);

	(void)operands;
	(void)operand;
	if (status == COMMAND_DONE)
		status = command_number(session, UNTIL, 1, UINT64_MAX >> 1, &cat.until);
	if (status == COMMAND_DONE)
		status = command_number(session, 'n', 1, UINT64_MAX >> 1, &cat.count);
	if (status == COMMAND_DONE)
		status = place_below(session, "journal", cat.path);
	if (status != COMMAND_DONE)
		return status;
	interrupt_catch();
	setvbuf(stdout, NULL, _IOFBF, STREAM_SIZE);
	status = cat_all(&cat);
	close_files(&cat);
	return status;
}

const struct command command_journal_cat = {
    .word = {"journal", "cat"},
    .operands = "",
    .summary = "show what the journal says, operation by operation",
    .options = options,
    .run = run,
};
