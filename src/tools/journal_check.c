/* tallyctl journal check */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "../ledger/audit.h"
#include "../ledger/facts.h"
#include "command.h"
#include "configuration.h"
#include "json_out.h"
#include "place.h"

#define MAX_IDS   100000 /* the configuration's own */
#define ID_WINDOW 86400  /* seconds, likewise */
#define SECOND    UINT64_C(1000000)
#define IDS_LIMIT 1000000000
#define WINDOW_S  (30 * 86400)

static const struct command_option options[] = {
    {'i', "max-ids", "COUNT", "max_ids of the daemon (default: its own, or 100000)"},
    {'w', "id-window", "SECONDS", "id_window of it (default: its own, or 86400)"},
    {0},
};

/* The daemon's own limits, while it runs and may be looked at. */
static bool ask_daemon(const struct session *session, struct audit_limits *limits)
{
	char error[COMMAND_MESSAGE_SIZE];
	struct facts facts;
	int status;
	struct region *region = place_region(session->data, &status, error);

	if (region == NULL)
		return false;
	facts_read(region, clock_real_us(), &facts);
	region_close(region);
	limits->max_ids = facts.ids.limit;
	limits->window_us = facts.id_window_us;
	return true;
}

/* With others than the daemon's, a sound journal would seem to take an id twice. */
static int find_limits(const struct session *session, struct audit_limits *limits)
{
	const char *file = place_configuration(session);
	char error[CONFIGURATION_ERROR_SIZE];

	*limits = (struct audit_limits){.max_ids = MAX_IDS, .window_us = ID_WINDOW * SECOND};
	if (place_daemon(session->data) != 0 && ask_daemon(session, limits))
		return COMMAND_DONE;
	if (file == NULL ||
	    configuration_ids(file, &limits->max_ids, &limits->window_us, error) == 0)
		return COMMAND_DONE;
	return command_fail(session, COMMAND_USAGE, "%s", error);
}

static int read_options(const struct session *session, struct audit_limits *limits)
{
	int status = find_limits(session, limits);
	uint64_t window_s = 0;

	if (status == COMMAND_DONE)
		status = command_number(session, 'i', 1, IDS_LIMIT, &limits->max_ids);
	if (status == COMMAND_DONE)
		status = command_number(session, 'w', 1, WINDOW_S, &window_s);
	if (window_s != 0)
		limits->window_us = window_s * SECOND;
	return status;
}

static void report_json(const char *path, const struct audit *audit)
{
	struct json_out out = {.stream = stdout};

	json_out_open(&out, NULL, '{');
	json_out_text(&out, "status", "sound");
	json_out_text(&out, "journal", path);
	json_out_count(&out, "from", audit->first);
	json_out_count(&out, "to", audit->end);
	json_out_flag(&out, "pruned", audit->pruned);
	json_out_count(&out, "records", audit->records);
	json_out_count(&out, "operations", audit->operations);
	json_out_count(&out, "refusals", audit->refusals);
	json_out_count(&out, "ids", audit->ids);
	json_out_count(&out, "seals", audit->seals);
	json_out_count(&out, "accounts", audit->accounts);
	json_out_count(&out, "open_holds", audit->holds);
	json_out_close(&out, '}');
	json_out_end(&out);
}

static void report(const char *path, const struct audit *audit)
{
	printf("%s: sound from position %" PRIu64 " to %" PRIu64 "%s: %" PRIu64 " records, %" PRIu64
	       " operations, %" PRIu64 " refusals, %" PRIu64 " ids, %" PRIu64 " seals; %" PRIu64
	       " accounts, %" PRIu64 " open holds\n",
	       path, audit->first, audit->end, audit->pruned ? " (the beginning is not kept)" : "",
	       audit->records, audit->operations, audit->refusals, audit->ids, audit->seals,
	       audit->accounts, audit->holds);
}

static int check(const struct session *session, int operands, char **operand)
{
	char error[STORE_ERROR_SIZE] = "";
	struct audit_limits limits;
	struct audit audit;
	char path[PLACE_PATH_MAX];
	int status = read_options(session, &limits);

	(void)operands;
	(void)operand;
	if (status == COMMAND_DONE)
		status = place_below(session, "journal", path);
	if (status != COMMAND_DONE)
		return status;
	long pid = place_daemon(session->data);
	limits.running = pid != 0;
	if (pid != 0)
		fprintf(stderr,
		        "tallyctl: process %ld is writing this journal: its newest records are not "
		        "looked at\n",
		        pid);
	enum store_status read = audit_journal(path, &limits, &audit, error);
	if (read == STORE_IO && errno == EACCES)
		return command_fail(session, COMMAND_DENIED, "%s", error);
	if (read != STORE_OK)
		return command_fail(session, COMMAND_FAILED, "%s", error);
	if (session->json)
		report_json(path, &audit);
	else
		report(path, &audit);
	return COMMAND_DONE;
}

const struct command command_journal_check = {
    .word = {"journal", "check"},
    .operands = "",
    .summary = "compute again what every record of the journal says",
    .options = options,
    .run = check,
};
