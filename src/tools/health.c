#include "health.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "json_out.h"
#include "words.h"

#define NEARLY 90 /* percent of a limit, which is far below 2^64 / 100 */

__attribute__((format(printf, 4, 5))) static void add(struct health *health, bool fatal,
                                                      const char *reason, const char *format, ...)
{
	va_list arguments;

	if (health->problems == HEALTH_PROBLEMS_MAX)
		return;
	struct health_problem *problem = &health->problem[health->problems++];
	problem->fatal = fatal;
	problem->reason = reason;
	va_start(arguments, format);
	vsnprintf(problem->text, sizeof problem->text, format, arguments);
	va_end(arguments);
	if (fatal)
		health->takes_updates = false;
}

static void judge_phase(const struct look *look, struct health *health)
{
	if (look_stopped(&look->master))
		add(health, false, "master_stopped",
		    "the master (process %" PRIu32 ") is stopped: nobody who dies is replaced",
		    look->master.pid);
	if (look->phase == REGION_STARTING)
		add(health, true, "starting", "it is starting: it does not serve yet");
	else if (look->phase != REGION_SERVING)
		add(health, true, "draining", "it is stopping: it takes no new connections");
}

static void judge_journal(const struct look *look, struct health *health)
{
	const struct facts *facts = &look->facts;
	const struct look_member *writer = look_first(look, MEMBER_JOURNAL_WRITER);

	if (facts->poisoned)
		add(health, true, "poisoned",
		    "the shared memory is inconsistent: it is to be made anew from disk");
	if (facts->failed != 0)
		add(health, true, "journal_failed", "the journal failed: %s",
		    strerror((int)facts->failed));
	if (facts->disk_full != 0 &&
	    facts->tail + JOURNAL_RECORD_MAX + SPACE_RESERVE > facts->space)
		add(health, true, "disk_full", "the next journal segment cannot be made: %s",
		    strerror((int)facts->disk_full));
	else if (facts->disk_full != 0)
		add(health, false, "disk_filling",
		    "the next journal segment cannot be made: %s; the last one has room yet",
		    strerror((int)facts->disk_full));
	if (writer == NULL && look->phase != REGION_STARTING)
		add(health, true, "no_journal_writer",
		    "there is no journal writer just now: answers wait for the next one");
	else if (writer != NULL && look_stopped(writer))
		add(health, true, "journal_writer_stopped",
		    "the journal writer (process %" PRIu32 ") is stopped: answers wait for it",
		    writer->pid);
}

/* As ledger_health: what an update would be answered. */
static void judge_queue(const struct look *look, struct health *health)
{
	const struct facts *facts = &look->facts;
	char text[WORDS_SIZE];

	if (facts->ring.used + JOURNAL_RECORD_MAX > facts->ring.limit)
		add(health, true, "queue_full", "the ring is full: the disk does not keep up");
	else if (facts->queue.used >= facts->queue.limit)
		add(health, true, "queue_full",
		    "%s events wait, as many as queue_events allows: the disk does not keep up",
		    words_count(facts->queue.used, text));
}

static size_t count_stopped(const struct look *look)
{
	size_t count = 0;

	for (size_t i = 0; i < look->members; i++)
		count += look->member[i].role == MEMBER_WORKER && look_stopped(&look->member[i]);
	return count;
}

static void judge_workers(const struct look *look, struct health *health)
{
	size_t serving = look_count(look, MEMBER_WORKER, MEMBER_SERVING);
	size_t stopped = count_stopped(look);

	if (look->phase != REGION_SERVING)
		return;
	if (serving == 0)
		add(health, true, "no_workers", "no worker serves");
	else if (stopped >= serving)
		add(health, true, "workers_stopped", "all workers are stopped");
	else if (stopped > 0)
		add(health, false, "workers_stopped", "%zu of %zu workers are stopped", stopped,
		    serving);
	if (serving > 0 && serving < look->workers)
		add(health, false, "workers_missing", "%zu of %" PRIu32 " workers serve", serving,
		    look->workers);
}

static void judge_lock(const struct look *look, const struct look_lock *lock, struct health *health)
{
	const struct look_member *member = look_member_of(look, lock->holder);
	bool ring = strcmp(lock->guards, "ring") == 0;
	char name[32];

	if (lock->dead)
		add(health, false, "lock_orphaned",
		    "lock %" PRIu32
		    " (%s) was left by one who died: the next who needs it repairs it",
		    lock->lock, lock->guards);
	else
		add(health, ring, "lock_held",
		    "lock %" PRIu32 " (%s) is held by %s (process %" PRIu32
		    "%s): who needs it waits",
		    lock->lock, lock->guards,
		    member != NULL ? look_name(member, name, sizeof name) : "a stranger",
		    lock->holder, member != NULL && look_stopped(member) ? ", stopped" : "");
}

static void judge_locks(const struct look *look, struct health *health)
{
	size_t listed = look->locks < LOOK_LOCKS_MAX ? look->locks : LOOK_LOCKS_MAX;

	for (size_t i = 0; i < listed; i++)
		judge_lock(look, &look->lock[i], health);
	if (look->locks > listed)
		add(health, false, "lock_held", "and %zu more locks", look->locks - listed);
}

static void judge_table(const char *what, const char *key, const struct fact_use *use,
                        const char *reason, struct health *health)
{
	char used[WORDS_SIZE], limit[WORDS_SIZE];

	if (use->limit == 0 || use->used * 100 < use->limit * NEARLY)
		return;
	add(health, false, reason, "%s of %s %s are there: raise %s and restart",
	    words_count(use->used, used), words_count(use->limit, limit), what, key);
}

static void judge_tables(const struct look *look, struct health *health)
{
	const struct facts *facts = &look->facts;
	char text[WORDS_SIZE];

	judge_table("accounts", "max_accounts", &facts->accounts, "accounts_nearly_full", health);
	judge_table("open holds", "max_holds", &facts->holds, "holds_nearly_full", health);
	/* Ids are always as many as there is room for: what counts is how long they are kept. */
	if (facts->ids_kept_us < facts->id_window_us)
		add(health, false, "ids_forgotten",
		    "ids are kept for %s only: raise max_ids and restart, or shorten id_window",
		    words_span(facts->ids_kept_us, text));
}

/* A stable sort by what is fatal. */
static void sort(struct health *health)
{
	for (size_t i = 1; i < health->problems; i++)
		for (size_t at = i;
		     at > 0 && health->problem[at].fatal && !health->problem[at - 1].fatal; at--) {
			struct health_problem other = health->problem[at];
			health->problem[at] = health->problem[at - 1];
			health->problem[at - 1] = other;
		}
}

void health_judge(const struct look *look, struct health *health)
{
	health->takes_updates = true;
	health->problems = 0;
	judge_phase(look, health);
	judge_journal(look, health);
	judge_queue(look, health);
	judge_workers(look, health);
	judge_locks(look, health);
	judge_tables(look, health);
	sort(health);
}

void health_tell_json(struct json_out *out, const struct health *health)
{
	json_out_flag(out, "takes_updates", health->takes_updates);
	json_out_open(out, "problems", '[');
	for (size_t i = 0; i < health->problems; i++) {
		json_out_open(out, NULL, '{');
		json_out_text(out, "reason", health->problem[i].reason);
		json_out_text(out, "detail", health->problem[i].text);
		json_out_flag(out, "fatal", health->problem[i].fatal);
		json_out_close(out, '}');
	}
	json_out_close(out, ']');
}
