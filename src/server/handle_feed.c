/*
 * GET /feed: reads what is asked for; feed.c answers it.
 */
#include <string.h>

#include "../wire/token.h"
#include "feed.h"
#include "parameters.h"

#define WORD_MAX 8 /* bytes of the values of format and follow */

static bool refuse(const struct call *call, struct answer *answer, const char *word)
{
	answer_reason(call, answer, word);
	return false;
}

static long query(const struct call *call, const char *name, char *target, size_t capacity)
{
	struct http_span span = call->request->query;

	return http_query(call->bytes + span.at, span.length, name, target, capacity);
}

/*
 * The parameter NAME, which is WORDS[0] or WORDS[1]: which in *VALUE, unchanged if there is none.
 * False: it is neither.
 */
static bool read_choice(const struct call *call, const char *name, const char *const words[2],
                        bool *value)
{
	char text[WORD_MAX];
	long length = query(call, name, text, sizeof(text));

	if (length == -1)
		return true;
	for (int i = 0; length >= 0 && i < 2; i++) {
		if ((size_t)length != strlen(words[i]) ||
		    memcmp(text, words[i], (size_t)length) != 0)
			continue;
		*value = i == 1;
		return true;
	}
	return false;
}

/* Lines only for who likes them better: Server-Sent Events are what a feed is by itself. */
static bool likes_lines(const struct call *call)
{
	struct http_span accept = call->request->field[HTTP_ACCEPT];
	const char *value = call->bytes + accept.at;

	return accept.length != 0 && http_accepts(value, accept.length, FEED_LINES_TYPE) >
	                                 http_accepts(value, accept.length, FEED_EVENTS_TYPE);
}

/* After which LSN: Last-Event-ID, which a browser sends with the path of its first request. */
static bool read_after(const struct call *call, uint64_t *after, bool *given)
{
	struct http_span last = call->request->field[HTTP_LAST_EVENT_ID];
	char digits[TEXT_DECIMAL_MAX];
	long length;

	*given = true;
	if (last.length != 0)
		return parameter_number(call->bytes + last.at, last.length, after);
	length = query(call, "after", digits, sizeof(digits));
	*given = length != -1;
	return !*given || (length > 0 && parameter_number(digits, (size_t)length, after));
}

static bool read_prefix(const struct call *call, struct answer *answer, struct feed_plan *plan)
{
	long length = query(call, "account", plan->prefix, sizeof(plan->prefix));

	struct words prefix = {plan->prefix, length > 0 ? (uint32_t)length : 0};
	if (length >= -1) {
		/* Of what the token does not cover there is nothing, as of what nobody has made. */
		plan->nothing = !token_narrows(call->token, prefix, &prefix);
		memmove(plan->prefix, prefix.bytes, prefix.length);
		plan->prefix_length = prefix.length;
		return true;
	}
	answer_error(call, answer, 400, "invalid_prefix",
	             "The parameter account is up to 100 bytes of a name's beginning, "
	             "percent-encoded.",
	             NULL);
	return false;
}

/* Where AFTER leads to.  False: answered, or put off while the disk is asked. */
static bool seek(const struct call *call, struct answer *answer, uint64_t after)
{
	switch (tail_seek(call->tail, after, &call->feed->position)) {
	case TAIL_CHANGE:
	case TAIL_NOTHING:
	case TAIL_END:
		return true;
	case TAIL_NOWHERE:
		return refuse(call, answer, "invalid_after");
	case TAIL_PRUNED:
		answer->status = 410;
		reply_pruned(&answer->out, &call->frame, tail_first(call->tail));
		return false;
	case TAIL_LATER:
		answer->pause_ms = FEED_FETCH_MS;
		return false;
	case TAIL_IO:
		break;
	}
	answer->refusal = REFUSAL_READ_FAILED;
	return refuse(call, answer, "read_failed");
}

static bool read_request(const struct call *call, struct answer *answer)
{
	static const char *const formats[2] = {"ndjson", "sse"};
	static const char *const follow[2] = {"true", "false"};
	struct feed_plan *plan = call->feed;
	bool given, ends = false;
	uint64_t after = 0;

	plan->events = !likes_lines(call);
	if (!read_choice(call, "format", formats, &plan->events))
		return refuse(call, answer, "invalid_format");
	if (!read_choice(call, "follow", follow, &ends))
		return refuse(call, answer, "invalid_follow");
	if (!read_after(call, &after, &given))
		return refuse(call, answer, "invalid_after");
	if (!read_prefix(call, answer, plan))
		return false;
	if (!call->tail) {
		answer->refusal = REFUSAL_READ_FAILED;
		return refuse(call, answer, "read_failed");
	}
	plan->position = tail_durable(call->tail);
	plan->end = ends ? plan->position : FEED_FOLLOWS;
	/* From now on; but what ends now has to begin somewhere else. */
	return (!given && !ends) || seek(call, answer, after);
}

void handle_feed(const struct call *call, struct answer *answer)
{
	if (!read_request(call, answer))
		return;
	answer->feed = !call->frame.head;
	if (answer->feed)
		return;
	answer->status = 200;
	reply_live_head(&answer->out, &call->frame,
	                call->feed->events ? FEED_EVENTS_TYPE : FEED_LINES_TYPE,
	                call->request->minor > 0);
}
