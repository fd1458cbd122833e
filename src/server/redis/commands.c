/*
 * The table of commands, and what their files share.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "redis.h"

#define PLAN     (REDIS_PLANS | REDIS_QUEUES)
#define OVERSEES (REDIS_READS | REDIS_WHOLE)
#define COUNT    (REDIS_WRITES | PLAN | REDIS_COUNTS)

static const struct redis_command commands[] = {
    {"ping", redis_ping, -1, REDIS_QUEUES, 0, 0, 0},
    {"echo", redis_echo, 2, REDIS_QUEUES, 0, 0, 0},
    {"hello", redis_hello, -1, REDIS_SECRET | REDIS_OPEN, 0, 0, 0},
    {"auth", redis_auth, -2, REDIS_SECRET | REDIS_OPEN, 0, 0, 0},
    {"select", redis_select, 2, REDIS_QUEUES, 0, 0, 0},
    {"quit", redis_quit, -1, REDIS_AT_ONCE | REDIS_OPEN, 0, 0, 0},
    {"client", redis_client, -2, 0, 0, 0, 0},
    {"command", redis_commands, -1, 0, 0, 0, 0},
    {"info", redis_info, -1, OVERSEES, 0, 0, 0},
    {"config", redis_config, -2, OVERSEES, 0, 0, 0},

    {"get", redis_get, 2, PLAN, 1, 1, 1},
    {"mget", redis_mget, -2, PLAN, 1, -1, 1},
    {"set", redis_set, -3, REDIS_WRITES | PLAN, 1, 1, 1},
    {"getset", redis_getset, 3, REDIS_WRITES | PLAN, 1, 1, 1},
    {"exists", redis_exists, -2, PLAN, 1, -1, 1},
    {"ttl", redis_ttl, 2, PLAN, 1, 1, 1},
    {"type", redis_type, 2, PLAN, 1, 1, 1},
    {"incr", redis_increment, 2, COUNT, 1, 1, 1},
    {"decr", redis_increment, 2, COUNT, 1, 1, 1},
    {"incrby", redis_increment, 3, COUNT, 1, 1, 1},
    {"decrby", redis_increment, 3, COUNT, 1, 1, 1},
    {"del", redis_del, -2, REDIS_WRITES | REDIS_GOVERNS, 1, -1, 1},
    {"dbsize", redis_dbsize, 1, REDIS_QUEUES | OVERSEES, 0, 0, 0},
    {"scan", redis_scan, -2, REDIS_READS, 0, 0, 0},

    {"multi", redis_multi, 1, REDIS_AT_ONCE, 0, 0, 0},
    {"exec", redis_exec, 1, REDIS_AT_ONCE, 0, 0, 0},
    {"discard", redis_discard, 1, REDIS_AT_ONCE, 0, 0, 0},
    {"watch", redis_watch, -2, REDIS_AT_ONCE, 1, -1, 1},
    {"unwatch", redis_unwatch, 1, REDIS_QUEUES, 0, 0, 0},

    {"tally.event", tally_event, -3, REDIS_WRITES, 1, 1, 1},
    {"tally.transfer", tally_transfer, -4, REDIS_WRITES, 1, 2, 1},
    {"tally.hold", tally_hold, -4, REDIS_WRITES, 1, 1, 1},
    {"tally.capture", tally_capture, -2, REDIS_WRITES, 0, 0, 0},
    {"tally.release", tally_release, -2, REDIS_WRITES, 0, 0, 0},
    {"tally.statement", tally_statement, -2, 0, 1, 1, 1},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

const struct redis_command *redis_at(size_t index)
{
	return index < COMMANDS ? &commands[index] : NULL;
}

const struct redis_command *redis_find(struct words name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		const char *known = commands[i].name;
		/* Most are told apart by their first letter, in either case. */
		if (name.length == 0 || (name.bytes[0] | 0x20) != known[0])
			continue;
		if (strlen(known) == name.length &&
		    strncasecmp(known, name.bytes, name.length) == 0)
			return &commands[i];
	}
	return NULL;
}

size_t redis_room(const struct redis_command *command, const struct resp_command *given)
{
	redis_handler *handle = command->handle;

	if (handle == redis_mget)
		return REDIS_ANSWER_ROOM + given->count * RESP_NUMBER_MAX;
	if (handle == redis_echo || handle == redis_ping)
		return REDIS_ANSWER_ROOM + (given->count > 1 ? given->argument[1].length : 0);
	if (handle == redis_scan)
		return REDIS_ANSWER_ROOM + REDIS_SCAN_MAX * (ACCOUNT_NAME_MAX + RESP_FRAME_MAX);
	if (handle == redis_info)
		return REDIS_ANSWER_ROOM + REDIS_INFO_MAX;
	if (handle == redis_commands || handle == tally_statement || handle == redis_exec)
		return 65536;
	if (handle == redis_config)
		return 8192;
	return REDIS_ANSWER_ROOM;
}

struct words redis_word(const struct redis_call *call, unsigned index)
{
	return call->given->argument[index];
}

bool redis_is(struct words word, const char *option)
{
	return strlen(option) == word.length && strncasecmp(word.bytes, option, word.length) == 0;
}

void redis_show(struct text *out, struct words word, size_t max)
{
	for (size_t i = 0; i < word.length && i < max && word.bytes[i] != '\0'; i++) {
		char byte = word.bytes[i];
		text_bytes(out, byte == '\r' || byte == '\n' ? " " : &byte, 1);
	}
}

/* --- errors --- */

void redis_error(struct answer *answer, const char *message)
{
	answer->status = 400;
	resp_error(&answer->out, message);
}

void redis_error_arity(struct answer *answer, const char *command)
{
	char message[REDIS_ERROR_MAX];

	snprintf(message, sizeof(message), "ERR wrong number of arguments for '%s' command",
	         command);
	redis_error(answer, message);
}

void redis_error_integer(struct answer *answer)
{
	redis_error(answer, "ERR value is not an integer or out of range");
}

void redis_error_syntax(struct answer *answer)
{
	redis_error(answer, "ERR syntax error");
}

void redis_invalid(struct answer *answer, const char *word, const char *detail)
{
	const struct reason *reason = reason_find(word);
	char message[REDIS_ERROR_MAX];

	snprintf(message, sizeof(message), "ERR %s: %s", word,
	         detail                     ? detail
	         : reason && reason->detail ? reason->detail
	                                    : "");
	answer->reason = reason;
	answer->verdict = VERDICT_INVALID;
	answer->refusal = REFUSAL_INVALID;
	redis_error(answer, message);
}

/* The code that clients of Redis know for what OUTCOME means to them; NULL: none. */
static const char *known_code(enum outcome outcome)
{
	switch (outcome) {
	case OUTCOME_QUEUE_FULL:
		return "TRYAGAIN";
	case OUTCOME_TABLE_FULL:
	case OUTCOME_HOLDS_FULL:
		return "OOM";
	case OUTCOME_DISK_FULL:
	case OUTCOME_JOURNAL_FAILED:
		return "MISCONF";
	case OUTCOME_READ_FAILED:
		return "ERR";
	default:
		return NULL;
	}
}

void redis_refused(struct text *out, const struct result *result)
{
	const struct reason *reason = reason_of(result->outcome);
	const char *code = known_code(result->outcome);
	char message[REDIS_ERROR_MAX], word[REDIS_WORD_MAX];
	size_t i;

	if (result->outcome == OUTCOME_OVERFLOW) {
		resp_error(out, "ERR increment or decrement would overflow");
		return;
	}
	for (i = 0; i < sizeof(word) - 1 && reason->word[i]; i++)
		word[i] =
		    (char)(reason->word[i] >= 'a' && reason->word[i] <= 'z' ? reason->word[i] - 32
		                                                            : reason->word[i]);
	word[i] = '\0';
	if (code)
		snprintf(message, sizeof(message), "%s %s: %s", code, reason->word, reason->detail);
	else if (result->outcome == OUTCOME_INSUFFICIENT_FUNDS)
		snprintf(message, sizeof(message), "%s %s (available %lld, required %lld)", word,
		         reason->detail, (long long)result->available, (long long)result->required);
	else
		snprintf(message, sizeof(message), "%s %s", word, reason->detail);
	resp_error(out, message);
}

bool redis_has_to_wait(struct connection *connection)
{
	struct redis_session *session = (struct redis_session *)connection->state;
	double now = connection->worker->now;
	bool answers = connection->out != NULL && queue_unsent(connection->out) > 0;

	if (!answers && !session->pipelined)
		return false;
	if (session->waits_since <= 0)
		session->waits_since = now;
	return now - session->waits_since < REDIS_WAIT_MAX;
}

void redis_decided(struct redis_call *call, struct answer *answer, const struct result *result)
{
	if (result->outcome == OUTCOME_POISONED) {
		answer->poisoned = true;
		return;
	}
	if (result->outcome == OUTCOME_QUEUE_FULL && redis_has_to_wait(call->connection)) {
		call->later = true;
		return;
	}
	answer->verdict = result_verdict(result);
	answer->posted |= answer->verdict == VERDICT_ACCEPTED || answer->verdict == VERDICT_REFUSED;
	if (answer->verdict != VERDICT_REJECTED && result->lsn > answer->lsn)
		answer->lsn = result->lsn;
	answer->refusal = outcome_refusal(result->outcome);
	answer->reason = reason_of(result->outcome);
	if (result->outcome == OUTCOME_ACCEPTED)
		return;
	answer->status = answer->reason->status;
	redis_refused(&answer->out, result);
}

void redis_planned(struct redis_call *call, struct answer *answer, const struct result *result)
{
	if (result->outcome == OUTCOME_VERSION_MISMATCH)
		redis_error(answer, "TRYAGAIN others were always faster; nothing was applied");
	else
		redis_decided(call, answer, result);
}
