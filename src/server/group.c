#include "group.h"

#include "note.h"

static size_t first_unqueued(const struct group *group)
{
	size_t i = 0;
	while (i < group->count && group->results[i].outcome != OUTCOME_QUEUE_FULL)
		i++;
	return i;
}

/*
 * There was no room for the group, or for its end.  There may be for some of its members, and each
 * has a right to be asked: who comes alone would be.
 */
static void apply_singly(struct worker *worker, struct group *group, size_t first, bool wait)
{
	struct ledger *ledger = worker->server->ledger;

	for (size_t i = first; i < group->count; i++) {
		struct result *result = &group->results[i];
		ledger_apply(ledger, &group->requests[i], worker_time_us(worker), result);
		if (result->outcome == OUTCOME_POISONED ||
		    (wait && result->outcome == OUTCOME_QUEUE_FULL))
			return;
	}
}

/* Counts the first COUNT results.  False if the region is poisoned. */
static bool note_results(struct worker *worker, const struct group *group, size_t count)
{
	uint64_t verdicts[VERDICTS] = {0};

	for (size_t i = 0; i < count; i++) {
		const struct result *result = &group->results[i];
		if (result->outcome == OUTCOME_POISONED)
			return false;
		verdicts[result_verdict(result)]++;
		if (result->outcome == OUTCOME_ACCEPTED)
			continue;
		note_reason(worker, result_verdict(result), reason_of(result->outcome));
		refusal_note(&worker->refusals, outcome_refusal(result->outcome), worker->now,
		             "an event");
	}
	for (enum verdict verdict = 0; verdict < VERDICTS; verdict++)
		note_verdicts(worker, verdict, verdicts[verdict]);
	worker->posted |= verdicts[VERDICT_ACCEPTED] || verdicts[VERDICT_REFUSED];
	return true;
}

size_t group_apply(struct worker *worker, struct group *group, bool wait)
{
	size_t done = group->count;

	ledger_apply_group(worker->server->ledger, group->requests, group->count,
	                   worker_time_us(worker), group->results);
	size_t full = first_unqueued(group);
	if (full < group->count) {
		apply_singly(worker, group, full, wait);
		done = wait ? first_unqueued(group) : group->count;
	}
	if (!note_results(worker, group, done)) {
		worker_stop(worker, WORKER_POISONED);
		return 0;
	}
	return done;
}
