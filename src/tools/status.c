/* tallyctl status: is it running, and is it well? */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "command.h"
#include "health.h"
#include "json_out.h"
#include "look.h"
#include "place.h"
#include "words.h"

#define LABEL "%-15s "

struct status {
	const char *data;
	long master;
	struct region_recovery recovery;
	struct look look;
	struct health health;
};

/* ---- For people ---- */

static void tell_master(const struct status *status)
{
	const struct look *look = &status->look;
	uint64_t started = look->facts.started_us;
	char since[WORDS_TIME_SIZE], span[WORDS_SIZE];

	printf("tallyd %s on %s: %s\n", look->version, status->data,
	       status->health.takes_updates ? "takes updates" : "TAKES NO UPDATES");
	for (size_t i = 0; i < status->health.problems; i++)
		printf("  %s %s\n", status->health.problem[i].fatal ? "!!" : "! ",
		       status->health.problem[i].text);
	printf(LABEL "process %ld, since %s (%s)\n", "master", status->master,
	       words_time(started, since),
	       words_span(look->real_us > started ? look->real_us - started : 0, span));
}

static void tell_member(const struct look_member *member)
{
	char name[32], connections[WORDS_SIZE], requests[WORDS_SIZE];

	printf(LABEL "process %" PRIu32 ", %s", look_name(member, name, sizeof name), member->pid,
	       look_state(member));
	if (member->role == MEMBER_WORKER)
		printf("; connections %s, requests %s%s",
		       words_count(member->connections, connections),
		       words_count(member->requests, requests),
		       member->accepting || member->state != MEMBER_SERVING ? ""
		                                                            : "; not accepting");
	putchar('\n');
}

static void tell_household(const struct status *status)
{
	const struct look *look = &status->look;
	const struct facts *facts = &look->facts;
	char workers[WORDS_SIZE], writers[WORDS_SIZE], rebuilds[WORDS_SIZE];

	printf(LABEL "%zu of %" PRIu32 " serve\n", "workers",
	       look_count(look, MEMBER_WORKER, MEMBER_SERVING), look->workers);
	for (size_t i = 0; i < look->members; i++)
		tell_member(&look->member[i]);
	printf(LABEL "workers %s, journal writers %s; all made anew from disk %s\n", "replaced",
	       words_count(facts->respawns_worker, workers),
	       words_count(facts->respawns_journal, writers),
	       words_count(facts->rebuilds, rebuilds));
}

static unsigned percent(const struct fact_use *use)
{
	return use->limit == 0 ? 0 : (unsigned)((double)use->used * 100 / (double)use->limit);
}

static void tell_use(const char *what, const struct fact_use *use)
{
	char used[WORDS_SIZE], limit[WORDS_SIZE];

	printf(LABEL "%s of %s (%u %%)\n", what, words_count(use->used, used),
	       words_count(use->limit, limit), percent(use));
}

static void tell_tables(const struct status *status)
{
	const struct facts *facts = &status->look.facts;
	char kept[WORDS_SIZE], window[WORDS_SIZE];

	tell_use("accounts", &facts->accounts);
	tell_use("ids", &facts->ids);
	printf(LABEL "kept for %s of %s\n", "", words_span(facts->ids_kept_us, kept),
	       words_span(facts->id_window_us, window));
	tell_use("open holds", &facts->holds);
}

static void tell_queue(const struct status *status)
{
	const struct facts *facts = &status->look.facts;
	char used[WORDS_SIZE], limit[WORDS_SIZE], rate[WORDS_SIZE];

	printf(LABEL "%s of %s (%u %%)\n", "ring", words_bytes(facts->ring.used, used),
	       words_bytes(facts->ring.limit, limit), percent(&facts->ring));
	tell_use("queue", &facts->queue);
	printf(LABEL "%s events/s when it was busy last\n", "drain rate",
	       words_short((double)facts->drain_rate, rate));
}

static void tell_journal(const struct status *status)
{
	const struct facts *facts = &status->look.facts;
	char bytes[WORDS_SIZE], segments[WORDS_SIZE], interval[WORDS_SIZE];

	printf(LABEL "tail %" PRIu64 ", written %" PRIu64 ", durable %" PRIu64 "\n", "positions",
	       facts->tail, facts->written, facts->durable);
	printf(LABEL "%s, segments %s, from position %" PRIu64 "; sync %s%s\n", "journal",
	       words_bytes(facts->journal_bytes, bytes),
	       words_count(facts->journal_segments, segments), facts->journal_first,
	       status->look.sync_interval_ms == 0 ? "always" : "interval ",
	       status->look.sync_interval_ms == 0
	           ? ""
	           : words_span((uint64_t)status->look.sync_interval_ms * 1000, interval));
}

static void tell_snapshots(const struct status *status)
{
	const struct facts *facts = &status->look.facts;
	char age[WORDS_SIZE], written[WORDS_SIZE], failed[WORDS_SIZE], behind[WORDS_SIZE];
	uint64_t now = status->look.real_us;

	if (facts->snapshot_us == 0)
		printf(LABEL "none", "snapshot");
	else
		printf(LABEL "position %" PRIu64 ", %s old, %s of journal since", "snapshot",
		       facts->snapshot_lsn,
		       words_span(now > facts->snapshot_us ? now - facts->snapshot_us : 0, age),
		       words_bytes(facts->tail - facts->snapshot_lsn, behind));
	printf("; written since the start %s, failed %s\n", words_count(facts->snapshots, written),
	       words_count(facts->snapshots_failed, failed));
}

static void tell_recovery(const struct status *status)
{
	const struct region_recovery *recovery = &status->recovery;
	char took[WORDS_SIZE], records[WORDS_SIZE], count[WORDS_SIZE];

	printf(LABEL "%s, %s records replayed", "recovery", words_span(recovery->took_us, took),
	       words_count(recovery->records, records));
	if (recovery->unclean != 0)
		printf("; the run before had ended uncleanly");
	if (recovery->snapshots_refused != 0)
		printf("; %s damaged snapshots passed over",
		       words_count(recovery->snapshots_refused, count));
	if (recovery->ids_left_out != 0)
		printf("; %s ids left out: max_ids was too small",
		       words_count(recovery->ids_left_out, count));
	putchar('\n');
}

static void tell_counts(const struct status *status)
{
	const struct counters *total = &status->look.total;
	char text[4][WORDS_SIZE];

	printf(LABEL "%s accepted, %s refused, %s rejected, %s unreadable\n", "events",
	       words_count(counter_load(total, COUNTER_EVENTS_ACCEPTED), text[0]),
	       words_count(counter_load(total, COUNTER_EVENTS_REFUSED), text[1]),
	       words_count(counter_load(total, COUNTER_EVENTS_REJECTED), text[2]),
	       words_count(counter_load(total, COUNTER_EVENTS_INVALID), text[3]));
	printf(LABEL "%s repaired, %s seconds waited for\n", "locks",
	       words_count(counter_load(total, COUNTER_LOCK_RECOVERIES), text[0]),
	       words_count(counter_load(total, COUNTER_LOCK_ALARMS), text[1]));
}

static void tell(const struct status *status)
{
	tell_master(status);
	tell_household(status);
	tell_counts(status);
	tell_queue(status);
	tell_tables(status);
	tell_journal(status);
	tell_snapshots(status);
	tell_recovery(status);
}

/* ---- For programs ---- */

static void json_use(struct json_out *out, const char *name, const struct fact_use *use)
{
	json_out_open(out, name, '{');
	json_out_count(out, "used", use->used);
	json_out_count(out, "limit", use->limit);
	json_out_close(out, '}');
}

static void json_member(struct json_out *out, const char *name, const struct look_member *member)
{
	json_out_open(out, name, '{');
	if (member->role == MEMBER_WORKER)
		json_out_count(out, "number", member->number);
	json_out_count(out, "pid", member->pid);
	json_out_text(out, "state", look_state(member));
	json_out_real(out, "cpu_seconds", (double)member->cpu_us / 1e6);
	if (member->role == MEMBER_WORKER) {
		json_out_flag(out, "accepting", member->accepting);
		json_out_count(out, "connections", member->connections);
		json_out_count(out, "connections_waiting", member->waiting);
		json_out_count(out, "requests", member->requests);
		json_out_count(out, "events_accepted", member->events);
	}
	json_out_close(out, '}');
}

static void json_household(struct json_out *out, const struct look *look)
{
	const struct look_member *writer = look_first(look, MEMBER_JOURNAL_WRITER);
	const struct facts *facts = &look->facts;

	json_out_count(out, "workers_wanted", look->workers);
	json_out_open(out, "workers", '[');
	for (size_t i = 0; i < look->members; i++)
		if (look->member[i].role == MEMBER_WORKER)
			json_member(out, NULL, &look->member[i]);
	json_out_close(out, ']');
	if (writer != NULL)
		json_member(out, "journal_writer", writer);
	else
		json_out_null(out, "journal_writer");
	json_out_open(out, "replaced", '{');
	json_out_count(out, "workers", facts->respawns_worker);
	json_out_count(out, "journal_writers", facts->respawns_journal);
	json_out_count(out, "regions", facts->rebuilds);
	json_out_close(out, '}');
}

static void json_counts(struct json_out *out, const struct counters *total)
{
	json_out_open(out, "events", '{');
	json_out_count(out, "accepted", counter_load(total, COUNTER_EVENTS_ACCEPTED));
	json_out_count(out, "refused", counter_load(total, COUNTER_EVENTS_REFUSED));
	json_out_count(out, "rejected", counter_load(total, COUNTER_EVENTS_REJECTED));
	json_out_count(out, "invalid", counter_load(total, COUNTER_EVENTS_INVALID));
	json_out_close(out, '}');
	json_out_open(out, "locks", '{');
	json_out_count(out, "repaired", counter_load(total, COUNTER_LOCK_RECOVERIES));
	json_out_count(out, "alarms", counter_load(total, COUNTER_LOCK_ALARMS));
	json_out_close(out, '}');
}

static void json_journal(struct json_out *out, const struct look *look)
{
	const struct facts *facts = &look->facts;

	json_out_open(out, "positions", '{');
	json_out_count(out, "tail", facts->tail);
	json_out_count(out, "written", facts->written);
	json_out_count(out, "durable", facts->durable);
	json_out_close(out, '}');
	json_out_open(out, "journal", '{');
	json_out_count(out, "first", facts->journal_first);
	json_out_count(out, "segments", facts->journal_segments);
	json_out_count(out, "bytes", facts->journal_bytes);
	json_out_count(out, "sync_interval_ms", look->sync_interval_ms);
	json_out_close(out, '}');
	json_out_open(out, "snapshot", '{');
	json_out_count(out, "lsn", facts->snapshot_lsn);
	json_out_time(out, "taken", facts->snapshot_us);
	json_out_count(out, "written", facts->snapshots);
	json_out_count(out, "failed", facts->snapshots_failed);
	json_out_close(out, '}');
}

static void json_recovery(struct json_out *out, const struct region_recovery *recovery)
{
	json_out_open(out, "recovery", '{');
	json_out_real(out, "seconds", (double)recovery->took_us / 1e6);
	json_out_count(out, "records", recovery->records);
	json_out_count(out, "snapshot", recovery->snapshot);
	json_out_flag(out, "clean", recovery->unclean == 0);
	json_out_count(out, "snapshots_refused", recovery->snapshots_refused);
	json_out_count(out, "ids_left_out", recovery->ids_left_out);
	json_out_close(out, '}');
}

static void tell_json(const struct status *status)
{
	const struct look *look = &status->look;
	const struct facts *facts = &look->facts;
	struct json_out out = {.stream = stdout};

	json_out_open(&out, NULL, '{');
	json_out_text(&out, "status", "running");
	json_out_text(&out, "version", look->version);
	json_out_text(&out, "data", status->data);
	json_out_count(&out, "pid", (uint64_t)status->master);
	json_out_time(&out, "started", facts->started_us);
	health_tell_json(&out, &status->health);
	json_household(&out, look);
	json_counts(&out, &look->total);
	json_use(&out, "ring", &facts->ring);
	json_use(&out, "queue", &facts->queue);
	json_out_count(&out, "drain_rate", facts->drain_rate);
	json_use(&out, "accounts", &facts->accounts);
	json_use(&out, "ids", &facts->ids);
	json_out_real(&out, "id_window_seconds", (double)facts->id_window_us / 1e6);
	json_out_real(&out, "ids_kept_seconds", (double)facts->ids_kept_us / 1e6);
	json_use(&out, "holds", &facts->holds);
	json_journal(&out, look);
	json_recovery(&out, &status->recovery);
	json_out_close(&out, '}');
	json_out_end(&out);
}

/* ---- The command ---- */

static int show(const struct session *session, int operands, char **operand)
{
	static struct status status; /* large, and one */
	char error[COMMAND_MESSAGE_SIZE];
	int result = place_running(session, &status.master);

	(void)operands;
	(void)operand;
	if (result != COMMAND_DONE)
		return result;
	struct region *region = place_region(session->data, &result, error);
	if (region == NULL)
		return command_fail(session, result, "process %ld runs, but %s", status.master,
		                    error);
	status.data = session->data;
	look_take(region, status.master, &status.look);
	look_at_locks(region, &status.look);
	health_judge(&status.look, &status.health);
	status.recovery = *region_recovery(region);
	region_close(region);
	if (session->json)
		tell_json(&status);
	else
		tell(&status);
	return status.health.takes_updates ? COMMAND_DONE : COMMAND_UNWELL;
}

const struct command command_status = {
    .word = {"status"},
    .operands = "",
    .summary = "tell whether the daemon runs, and whether it is well",
    .run = show,
};
