/*
 * tallyctl journal prune: removes the oldest part of the journal now, by the rules that the daemon
 * has for it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "../ledger/facts.h"
#include "../ledger/prune.h"
#include "../ledger/store.h"
#include "command.h"
#include "json_out.h"
#include "place.h"
#include "words.h"

#define DAYS_MAX 36500
#define DAY_US   UINT64_C(86400000000)
#define WINDOW_S (30 * 86400) /* seconds, the longest id_window */

enum { KEEP_BYTES = 256, KEEP_DAYS, BEFORE_LSN };

static const struct command_option options[] = {
    {BEFORE_LSN, "before-lsn", "LSN", "keep the records from this position on"},
    {KEEP_BYTES, "keep-bytes", "COUNT", "keep the journal's last so many bytes"},
    {KEEP_DAYS, "keep-days", "COUNT", "keep what is younger than so many days"},
    {'n', "dry-run", NULL, "only say what would be removed"},
    {'w', "id-window", "SECONDS",
     "id_window of a daemon that does not run (default: the longest there can be)"},
    {0},
};

static const char *const kept_because[] = {
    [PRUNE_KEPT_LAST] = "it is the only one",
    [PRUNE_KEPT_RECOVERY] = "a start reads it: see tallyctl snapshot",
    [PRUNE_KEPT_IDS] = "ids of its records may still be asked for (id_window)",
    [PRUNE_KEPT_RETENTION] = "it is to be kept",
};

static const char *const kept_words[] = {
    [PRUNE_KEPT_LAST] = "last",
    [PRUNE_KEPT_RECOVERY] = "recovery",
    [PRUNE_KEPT_IDS] = "ids",
    [PRUNE_KEPT_RETENTION] = "retention",
};

static int read_retention(const struct session *session, struct retention *retention)
{
	uint64_t days = 0;
	int status = command_number(session, KEEP_BYTES, 1, UINT64_MAX >> 1, &retention->bytes);

	if (status == COMMAND_DONE)
		status = command_number(session, KEEP_DAYS, 1, DAYS_MAX, &days);
	if (status == COMMAND_DONE)
		status = command_number(session, BEFORE_LSN, 1, UINT64_MAX >> 1, &retention->from);
	retention->us = days * DAY_US;
	int ways = (retention->bytes != 0) + (days != 0) + (retention->from != 0);
	if (status == COMMAND_DONE && ways == 0)
		return command_misused(
		    session, "what is to be kept: --keep-bytes, --keep-days or --before-lsn?");
	if (status == COMMAND_DONE && ways > 1)
		return command_misused(
		    session, "--keep-bytes, --keep-days or --before-lsn: only one of them");
	return status;
}

/* Beside a daemon its own limits count, and where its journal ends. */
static int limits_of_daemon(const struct session *session, struct prune_limits *limits)
{
	char error[COMMAND_MESSAGE_SIZE];
	struct facts facts;
	int status;
	struct region *region = place_region(session->data, &status, error);

	if (region == NULL)
		return command_fail(session, status, "%s", error);
	facts_read(region, clock_real_us(), &facts);
	region_close(region);
	limits->tail = facts.durable;
	limits->window_us = facts.id_window_us;
	return COMMAND_DONE;
}

/* Where a journal ends that nobody writes; one that is damaged is not made shorter. */
static int limits_of_files(const struct session *session, const char *journal,
                           struct prune_limits *limits)
{
	char error[STORE_ERROR_SIZE] = "";
	const struct record_head *record;
	/* Who does not say keeps what any configuration would. */
	uint64_t window_s = WINDOW_S, witness = 0;
	enum store_status status;
	int result = command_number(session, 'w', 1, WINDOW_S, &window_s);

	if (result != COMMAND_DONE)
		return result;
	limits->window_us = window_s * UINT64_C(1000000);
	struct store *store = store_inspect(journal, &status, error);
	if (store == NULL)
		return command_fail(session, errno == EACCES ? COMMAND_DENIED : COMMAND_FAILED,
		                    "%s", error);
	struct store_reader *reader = store_replay(store, store_first(store));
	status = reader != NULL ? STORE_OK : STORE_IO;
	while (status == STORE_OK)
		status = store_next(reader, &record);
	if (status == STORE_END) {
		limits->tail = store_reader_at(reader);
		status = store_torn(store, limits->tail, &witness);
	}
	if (status == STORE_CORRUPT)
		store_locate(store, limits->tail, error, sizeof error);
	int cause = errno;
	if (reader != NULL)
		store_reader_close(reader);
	store_close(store);
	if (status == STORE_CORRUPT)
		return command_fail(session, COMMAND_FAILED,
		                    "%s: the journal is damaged: see tallyctl journal repair; "
		                    "nothing was removed",
		                    error);
	if (status != STORE_OK)
		return command_fail(session, COMMAND_FAILED, "%s: %s", journal, strerror(cause));
	return COMMAND_DONE;
}

static void report(const struct session *session, const char *journal, const struct pruning *done,
                   bool rehearsed)
{
	struct json_out out = {.stream = stdout};
	char bytes[WORDS_SIZE];

	if (session->json) {
		json_out_open(&out, NULL, '{');
		json_out_text(&out, "status", rehearsed ? "rehearsed" : "done");
		json_out_text(&out, "journal", journal);
		json_out_count(&out, "segments", done->segments);
		json_out_count(&out, "bytes", done->bytes);
		json_out_count(&out, "first", done->first);
		json_out_text(&out, "kept_for", kept_words[done->kept]);
		json_out_close(&out, '}');
		json_out_end(&out);
		return;
	}
	printf("%s: %" PRIu64 " segments of %s %s removed; it begins at position %" PRIu64
	       "%s: the first segment stays because %s\n",
	       journal, done->segments, words_bytes(done->bytes, bytes),
	       rehearsed ? "would be" : "were", done->first, rehearsed ? " then" : " now",
	       kept_because[done->kept]);
}

static int run(const struct session *session, int operands, char **operand)
{
	struct prune_limits limits = {.now_us = clock_real_us(),
	                              .rehearse = command_has(session, 'n')};
	struct retention retention = {0};
	struct pruning done;
	char journal[PLACE_PATH_MAX], snapshots[PLACE_PATH_MAX];
	int status = read_retention(session, &retention);

	(void)operands;
	(void)operand;
	if (status == COMMAND_DONE)
		status = place_below(session, "journal", journal);
	if (status == COMMAND_DONE)
		status = place_below(session, "snapshots", snapshots);
	if (status == COMMAND_DONE)
		status = place_daemon(session->data) != 0
		             ? limits_of_daemon(session, &limits)
		             : limits_of_files(session, journal, &limits);
	if (status != COMMAND_DONE)
		return status;
	if (prune_journal(journal, snapshots, &retention, &limits, &done) != 0)
		return command_fail(
		    session, errno == EACCES || errno == EPERM ? COMMAND_DENIED : COMMAND_FAILED,
		    "%s: %s, after %" PRIu64 " segments were removed", journal, strerror(errno),
		    done.segments);
	report(session, journal, &done, limits.rehearse);
	return COMMAND_DONE;
}

const struct command command_journal_prune = {
    .word = {"journal", "prune"},
    .operands = "",
    .summary = "remove the oldest part of the journal that nothing needs",
    .options = options,
    .run = run,
};
