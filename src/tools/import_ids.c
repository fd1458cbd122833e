/*
 * Does the daemon remember the ids of this input for long enough?  An event that comes again is
 * known by its id alone.  The daemon remembers max_ids of them, those of all its clients together:
 * of more lines than that the first are forgotten while the last come, and a repetition applies
 * them a second time.  That is refused where it can be seen beforehand, and said where it is seen
 * later.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "import_parts.h"

#define METRICS_MAX (512 * 1024) /* bytes of an answer */
#define IDS_LEAST   64           /* that any daemon remembers */

struct ids {
	uint64_t limit;     /* that are remembered; 0: not known */
	uint64_t forgotten; /* that made room for others, since the daemon's start */
	double kept;        /* seconds for which every one is remembered */
};

/* The value of the metric NAME, which has no labels. */
static bool find_metric(const char *text, const char *name, double *value)
{
	const size_t length = strlen(name);

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, length) == 0 && line[length] == ' ') {
			*value = strtod(line + length, NULL);
			return true;
		}
	}
	return false;
}

static struct ids look_up(const struct import *import)
{
	struct ids ids = {0};
	double limit, forgotten;
	char *text = malloc(METRICS_MAX);

	if (text != NULL && flow_fetch(import->flow, "/metrics", text, METRICS_MAX) &&
	    find_metric(text, "tallyd_ids_limit", &limit) &&
	    find_metric(text, "tallyd_ids_forgotten_total", &forgotten) &&
	    find_metric(text, "tallyd_ids_kept_seconds", &ids.kept)) {
		ids.limit = (uint64_t)limit;
		ids.forgotten = (uint64_t)forgotten;
	}
	free(text);
	return ids;
}

int import_check_ids(struct import *import)
{
	if (import->once || (import->counted && import->ahead == 0))
		return COMMAND_DONE;
	struct ids ids = look_up(import);
	import->ids_limit = ids.limit;
	import->ids_forgotten = ids.forgotten;
	if (ids.limit == 0 && (!import->counted || import->ahead > IDS_LEAST))
		fputs("tallyctl: how many ids the daemon remembers cannot be seen: if there are "
		      "more lines than that, do not repeat this import\n",
		      stderr);
	if (ids.limit == 0 || import->ahead <= ids.limit)
		return COMMAND_DONE;
	return command_fail(
	    import->session, COMMAND_USAGE,
	    "%" PRIu64 " lines are known by their ids, and the daemon remembers only %" PRIu64
	    ", its other clients' among them: repeated, lines would count twice; raise max_ids, or "
	    "import it in parts, each until it is through before the next; --once imports it all "
	    "the same, and it must not be repeated, not even if it breaks off",
	    import->ahead, ids.limit);
}

void import_count_id(struct import *import)
{
	if (import->named == 0)
		import->ids_began = tally_seconds(&import->tally);
	if (++import->named != import->ids_limit + 1 || import->ids_limit == 0)
		return;
	tally_wipe(&import->tally);
	fprintf(stderr,
	        "tallyctl: line %" PRIu64 ": these are more lines than the daemon remembers ids "
	        "(%" PRIu64 "): do not repeat this import\n",
	        import->tally.lines, import->ids_limit);
}

/*
 * Every id that was forgotten is at least as old as what is kept: if that is longer than this run
 * has taken, none of its own is among them.  What it found there already may be.
 */
void import_check_ids_again(struct import *import)
{
	if (import->once || import->named == 0 || import->ids_limit == 0 ||
	    import->status == COMMAND_TIMED_OUT)
		return;
	struct ids ids = look_up(import);
	if (ids.limit == 0)
		return;
	if (ids.kept <= tally_seconds(&import->tally) - import->ids_began)
		import_give_up(import, COMMAND_FAILED,
		               "the daemon has forgotten ids of these lines already: do not import "
		               "them again, they would count twice");
	else if (import->tally.duplicate > 0 && import->tally.accepted > 0 &&
	         ids.forgotten > import->ids_forgotten)
		fputs("tallyctl: meanwhile the daemon has forgotten ids, perhaps of these lines: "
		      "do not import them again\n",
		      stderr);
}
