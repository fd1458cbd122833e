#include "walk.h"

#include "../wire/token.h"

/* Takes from ENTRY what TOKEN does not cover, as from the feed. */
static void confine(const struct token *token, struct entry *entry)
{
	if (token_covers(token, entry->counterparty) || entry->counterparty.length == 0)
		return;
	entry->counterparty = (struct words){0};
	if (!entry->holds)
		entry->hold = (struct words){0};
}

static enum walk pause_walk(struct answer *answer, unsigned ms, uint64_t cursor)
{
	answer->pause_ms = ms;
	answer->cursor = cursor;
	return WALK_LATER;
}

enum walk walk_step(const struct call *call, struct answer *answer, struct words name,
                    uint64_t resume, uint64_t *lsn, struct entry *entry)
{
	uint64_t at = *lsn;
	enum history_status status = HISTORY_IO;

	if (call->history)
		status = history_step(call->history, name.bytes, name.length, &at, entry);
	switch (status) {
	case HISTORY_OK:
		*lsn = at;
		confine(call->token, entry);
		return WALK_FOUND;
	case HISTORY_END:
		return WALK_END;
	case HISTORY_PRUNED:
		return WALK_PRUNED;
	case HISTORY_LATER:
		return pause_walk(answer, WALK_FETCH_MS, resume);
	case HISTORY_IO:
		break;
	}
	answer->refusal = REFUSAL_READ_FAILED;
	answer_reason(call, answer, "read_failed");
	return WALK_FAILED;
}

enum walk walk_back(const struct call *call, struct answer *answer, struct words name,
                    const struct walk_goal *goal, uint64_t *lsn, struct entry *entry)
{
	uint64_t at = call->resumed && call->cursor ? call->cursor : *lsn;

	for (int i = 0; i < WALK_SLICE; i++) {
		uint64_t before = at;
		enum walk walk = walk_step(call, answer, name, at, &before, entry);
		*lsn = at;
		if (walk != WALK_FOUND)
			return walk;
		if (at < goal->below && entry->time_us <= goal->time_us)
			return WALK_FOUND;
		at = before;
	}
	/* 0 would begin anew. */
	if (at == 0)
		return WALK_END;
	return pause_walk(answer, WALK_REST_MS, at);
}
