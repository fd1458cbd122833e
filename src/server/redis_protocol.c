/*
 * The way of one command: read, done or put into its group or its transaction, answered.
 */
#include "redis_protocol.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "group.h"
#include "note.h"
#include "redis/redis.h"

#define INCREMENT_ROOM REDIS_ERROR_MAX /* bytes of the answer to an increment */
#define LINE_MAX       160             /* bytes of a command for the access log */
#define LOGGED_KEY_MAX 100             /* bytes of its first key there */

static struct redis_session *session_of(struct connection *connection)
{
	return (struct redis_session *)connection->state;
}

static void opened(struct connection *connection)
{
	static uint32_t count;
	struct redis_session *session = session_of(connection);

	*session = (struct redis_session){.protocol = 2};
	session->id = (uint64_t)getpid() << 32 | ++count;
}

/* --- the group of increments --- */

/* What a command was, for the access log: its name and its first key. */
static size_t write_line(char line[LINE_MAX], const struct redis_command *command,
                         const struct resp_command *given)
{
	struct text text;

	text_init(&text, line, LINE_MAX);
	text_string(&text, command ? command->name : "unknown command");
	if (command && command->first == 1 && given->count > 1) {
		text_literal(&text, " ");
		redis_show(&text, given->argument[1], LOGGED_KEY_MAX);
	}
	return text.length;
}

static void count_member(struct connection *connection, const struct group *group, size_t index,
                         unsigned status)
{
	const struct request *request = &group->requests[index];
	struct answer answer = {.status = status, .lsn = group->results[index].lsn};
	struct resp_command given;
	const struct redis_command *command = redis_find((struct words){"incrby", 6});
	char line[LINE_MAX];
	size_t length = 0;

	if (connection->worker->access_log) {
		given.count = 2;
		given.argument[1] = request->leg[0].account;
		length = write_line(line, command, &given);
	}
	note_whole(connection, ENDPOINT_REDIS, line, length, group->members[index].began, &answer);
}

/* The answer to member INDEX behind OUT. */
static void answer_member(struct connection *connection, const struct group *group, size_t index,
                          struct text *out)
{
	const struct result *result = &group->results[index];
	unsigned status = 200;

	if (result->outcome == OUTCOME_ACCEPTED) {
		resp_integer(out, result->leg[0].balance);
	} else {
		status = reason_of(result->outcome)->status;
		redis_refused(out, result);
	}
	count_member(connection, group, index, status);
}

/* The answers to the first COUNT members of the group. */
static void answer_members(struct connection *connection, size_t count, struct text *out)
{
	const struct group *group = connection->worker->group;
	uint64_t lsn = 0;

	for (size_t i = 0; i < count; i++) {
		const struct result *result = &group->results[i];
		answer_member(connection, group, i, out);
		if (result_verdict(result) != VERDICT_REJECTED && result->lsn > lsn)
			lsn = result->lsn;
	}
	if (count > 0)
		connection_answers(connection, out, lsn, (uint32_t)count,
		                   group->members[count - 1].began);
}

/* The first COUNT members have been answered: the others are the group. */
static void drop_members(struct group *group, size_t count)
{
	group->count -= count;
	memmove(group->requests, group->requests + count,
	        group->count * sizeof(group->requests[0]));
	memmove(group->members, group->members + count, group->count * sizeof(group->members[0]));
}

/*
 * Applies what has been gathered, and answers it in order.  Due before anything else is answered.
 * Where the queue is full and the client may wait, it is false, and what was not answered is to be
 * read again, from session->rewind on.
 */
static bool answer_group(struct connection *connection)
{
	struct redis_session *session = session_of(connection);
	struct worker *worker = connection->worker;
	struct group *group = worker->group;
	struct text out;
	bool all = true;

	/* Room for all was reserved. */
	if (group->count > 0 && connection_room(connection, group->room, &out) == CONNECTION_ROOM) {
		size_t done = group_apply(worker, group, true);
		if (!worker_stops(worker))
			answer_members(connection, done, &out);
		drop_members(group, done);
		all = group->count == 0 || worker_stops(worker);
	}
	if (!all && redis_has_to_wait(connection)) {
		connection_pause(connection, REDIS_WAIT);
		session->rewinds = true;
		session->rewind = (uint32_t)group->members[0].length;
		session->began = group->members[0].began;
	} else if (!all) {
		/* It is others who fill it. */
		if (connection_room(connection, group->room, &out) == CONNECTION_ROOM &&
		    group_apply(worker, group, false) > 0)
			answer_members(connection, group->count, &out);
		all = true;
	}
	group->count = group->room = 0;
	return all;
}

/* Room for the answers to the group so far and one more. */
static enum connection_room reserve(struct connection *connection)
{
	const struct group *group = connection->worker->group;
	struct text out;

	if (!connection->out &&
	    connection_room(connection, GROUP_MAX * INCREMENT_ROOM, &out) == CONNECTION_ROOM)
		return CONNECTION_ROOM;
	return connection_room(connection, group->room + INCREMENT_ROOM, &out);
}

/*
 * Does the command join the group?  An increment by nothing makes its account in Redis, as no event
 * does: it goes through a plan.  And words that go with the command cannot wait for the group.
 */
static bool joins(struct redis_call *call, struct request *request)
{
	char memory[REDIS_ERROR_MAX];
	struct answer answer = {0};

	if (!(call->command->flags & REDIS_COUNTS) || call->given->quoted ||
	    transaction_is_open(call->session))
		return false;
	text_init(&answer.out, memory, sizeof(memory));
	return increment_read(call, request, &answer) && request->leg[0].amount != 0 &&
	       json_account_name_valid(request->leg[0].account.bytes,
	                               request->leg[0].account.length);
}

/* --- one command --- */

enum step { STEP_NEXT, STEP_WAIT, STEP_END };

static enum step refuse(struct connection *connection, const char *reason, enum refusal class)
{
	struct redis_session *session = session_of(connection);
	struct answer answer = {.status = 400, .refusal = class};
	char memory[REDIS_ERROR_MAX], message[REDIS_ERROR_MAX];

	if (!answer_group(connection))
		return STEP_WAIT;
	snprintf(message, sizeof(message), "ERR %s", reason);
	text_init(&answer.out, memory, sizeof(memory));
	resp_error(&answer.out, message);
	if (class == REFUSAL_MALFORMED)
		counter_add(connection->worker->server->counters, COUNTER_REQUESTS_MALFORMED, 1);
	note_answer(connection, ENDPOINT_REDIS, "", 0, session->began, &answer, reason);
	connection_last_words(connection, memory, answer.out.length, 1, session->began);
	return STEP_END;
}

static enum step refuse_busy(struct connection *connection)
{
	return refuse(connection, "busy: too much is being sent at once; nothing was applied",
	              REFUSAL_BUSY);
}

static void exhausted(struct connection *connection)
{
	refuse_busy(connection);
}

static void timed_out(struct connection *connection)
{
	/* The connection has noted the time-out itself. */
	refuse(connection, "Protocol error: the command came too slowly", REFUSAL_NONE);
}

/* In Redis' own words: clients know them, and why has been noted already. */
static void refused(struct connection *connection, const char *reason)
{
	(void)reason;
	session_of(connection)->began = connection->worker->now;
	refuse(connection, "max number of clients reached", REFUSAL_NONE);
}

static void answer_unknown(struct redis_call *call, struct answer *answer)
{
	char message[REDIS_ERROR_MAX];
	struct text text;

	text_init(&text, message, sizeof(message) - 1);
	text_literal(&text, "ERR unknown command '");
	redis_show(&text, redis_word(call, 0), 128);
	text_literal(&text, "', with args beginning with: ");
	size_t start = text.length;
	for (unsigned i = 1; i < call->given->count && text.length - start < 128; i++) {
		size_t left = 128 - (text.length - start);
		text_literal(&text, "'");
		redis_show(&text, redis_word(call, i), left);
		text_literal(&text, "' ");
	}
	message[text.length] = '\0';
	transaction_break(call->session);
	redis_error(answer, message);
}

static bool has_arity(const struct redis_call *call)
{
	int count = (int)call->given->count, arity = call->command->arity;

	return arity >= 0 ? count == arity : count >= -arity;
}

/* As Redis does: an EXEC that is wrong itself ends the transaction. */
static void answer_arity(struct redis_call *call, struct answer *answer)
{
	if (call->command->handle == redis_exec) {
		transaction_drop(call);
		redis_error(answer, "EXECABORT Transaction discarded because of: wrong number of "
		                    "arguments for 'exec' command");
		return;
	}
	transaction_break(call->session);
	redis_error_arity(answer, call->command->name);
}

/* Works on accounts until nobody comes between. */
static void carry_out(struct redis_call *call, struct answer *answer)
{
	struct worker *worker = call->connection->worker;
	size_t start = answer->out.length;
	struct result result;
	bool changed = false;

	for (unsigned tries = 0; tries < PLAN_TRIES; tries++) {
		answer->out.length = start;
		answer->status = 200;
		plan_begin(call->plan, worker->server->ledger);
		call->command->handle(call, answer);
		if (call->plan->poisoned) {
			answer->poisoned = true;
			return;
		}
		answer->lsn = call->plan->lsn;
		if (answer->status >= 400)
			return;
		plan_apply(call->plan, worker_time_us(worker), &result, &changed);
		if (result.outcome != OUTCOME_VERSION_MISMATCH)
			break;
	}
	if (result.outcome != OUTCOME_ACCEPTED)
		answer->out.length = start;
	if (result.outcome != OUTCOME_ACCEPTED || changed)
		redis_planned(call, answer, &result);
}

/* Before anything is looked at.  True: answered. */
static bool is_denied(struct redis_call *call, struct answer *answer)
{
	const char *message = redis_denies(call);

	if (!message)
		return false;
	transaction_break(call->session);
	answer->refusal =
	    strncmp(message, "NOAUTH", 6) == 0 ? REFUSAL_UNAUTHORIZED : REFUSAL_FORBIDDEN;
	redis_error(answer, message);
	return true;
}

static void run(struct redis_call *call, struct answer *answer)
{
	answer->status = 200;
	if (call->command == NULL) {
		answer_unknown(call, answer);
	} else if (!has_arity(call)) {
		answer_arity(call, answer);
	} else if (is_denied(call, answer)) {
		return;
	} else if (transaction_is_open(call->session) && !(call->command->flags & REDIS_AT_ONCE)) {
		transaction_queue(call, answer);
	} else if (call->command->flags & REDIS_PLANS) {
		carry_out(call, answer);
	} else {
		plan_begin(call->plan, call->connection->worker->server->ledger);
		call->command->handle(call, answer);
	}
}

/* No answer leaves, or not yet. */
static bool is_put_off(struct redis_call *call, const struct answer *answer)
{
	struct redis_session *session = call->session;

	if (answer->poisoned) {
		worker_stop(call->connection->worker, WORKER_POISONED);
		return true;
	}
	/* There was no room in the queue: nothing was done, and it is read again. */
	if (call->later) {
		connection_pause(call->connection, REDIS_WAIT);
		return true;
	}
	if (answer->pause_ms == 0)
		return false;
	session->resumed = true;
	session->cursor = answer->cursor;
	session->lsn = answer->lsn;
	connection_pause(call->connection, answer->pause_ms / 1000.0);
	return true;
}

static enum step answer_alone(struct redis_call *call)
{
	struct connection *connection = call->connection;
	struct redis_session *session = call->session;
	size_t room = call->command ? redis_room(call->command, call->given) : REDIS_ANSWER_ROOM;
	struct answer answer = {.lsn = session->lsn};
	char line[LINE_MAX];

	if (!answer_group(connection))
		return STEP_WAIT;
	switch (connection_room(connection, room, &answer.out)) {
	case CONNECTION_ROOM_LATER:
		return STEP_WAIT;
	case CONNECTION_ROOM_NOTHING:
		return refuse_busy(connection);
	case CONNECTION_ROOM:
		break;
	}
	run(call, &answer);
	if (is_put_off(call, &answer))
		return STEP_WAIT;
	size_t length =
	    connection->worker->access_log ? write_line(line, call->command, call->given) : 0;
	note_answer(connection, ENDPOINT_REDIS, line, length, session->began, &answer, "a command");
	connection_answers(connection, &answer.out, answer.lsn, 1, session->began);
	return call->quit ? STEP_END : STEP_NEXT;
}

/* AT: where its command begins. */
static enum step join(struct connection *connection, const struct request *request, size_t at)
{
	struct group *group = connection->worker->group;

	switch (reserve(connection)) {
	case CONNECTION_ROOM_LATER:
		return STEP_WAIT;
	case CONNECTION_ROOM_NOTHING:
		return refuse_busy(connection);
	case CONNECTION_ROOM:
		break;
	}
	group->requests[group->count] = *request;
	group->members[group->count].began = session_of(connection)->began;
	group->members[group->count].length = at;
	group->room += INCREMENT_ROOM;
	if (++group->count == GROUP_MAX && !answer_group(connection))
		return STEP_WAIT;
	return STEP_NEXT;
}

/*
 * A browser can be made to send a request of HTTP here, whose body would be taken for commands (as
 * a line each): what it begins with is no command, and ends the connection.
 */
static bool is_http(struct words name)
{
	return redis_is(name, "POST") || redis_is(name, "HOST:");
}

static enum step serve(struct connection *connection, const struct resp_command *given, size_t at)
{
	struct redis_session *session = session_of(connection);
	struct plan plan;
	struct request request;
	struct redis_call call = {.connection = connection,
	                          .session = session,
	                          .command = redis_find(given->argument[0]),
	                          .given = given,
	                          .plan = &plan};

	if (!call.command && is_http(given->argument[0]))
		return refuse(connection, "Protocol error: this is no listener of HTTP",
		              REFUSAL_MALFORMED);
	if (call.command && has_arity(&call) && !redis_denies(&call) && joins(&call, &request))
		return join(connection, &request, at);
	enum step step = answer_alone(&call);
	if (step == STEP_END && call.quit)
		connection_close(connection, true);
	return step;
}

static void begin_next(struct redis_session *session)
{
	session->began = 0;
	session->cursor = session->lsn = 0;
	session->resumed = false;
	session->waits_since = 0;
}

/* More of a command is to come. */
static void wait_for_more(struct connection *connection)
{
	connection_expect(connection, session_of(connection)->began +
	                                  connection->worker->settings->header_timeout);
}

/* One command, or what is there of it, at *AT, which then is behind it.  False: no more just now.
 */
static bool take_one(struct connection *connection, const char *bytes, size_t length, size_t *at)
{
	struct redis_session *session = session_of(connection);
	struct resp_command given;
	char reason[RESP_REASON_MAX];
	enum step step = STEP_NEXT;

	if (session->began <= 0)
		session->began = connection->worker->now;
	switch (resp_read(bytes + *at, length - *at, &given, reason)) {
	case RESP_MORE:
		wait_for_more(connection);
		return false;
	case RESP_REFUSED:
		given.length = length - *at;
		step = refuse(connection, reason, REFUSAL_MALFORMED);
		break;
	case RESP_DONE:
		connection_expect_nothing(connection);
		session->pipelined |= *at + given.length < length;
		if (given.count > 0)
			step = serve(connection, &given, *at);
		break;
	}
	if (step == STEP_WAIT)
		return false;
	*at = step == STEP_END ? length : *at + given.length;
	begin_next(session);
	return step == STEP_NEXT;
}

static size_t arrived(struct connection *connection, char *bytes, size_t *length)
{
	struct redis_session *session = session_of(connection);
	size_t at = 0;

	session->rewinds = false;
	while (at < *length && connection_may_go_on(connection))
		if (!take_one(connection, bytes, *length, &at))
			break;
	if (!session->rewinds)
		answer_group(connection);
	if (session->rewinds)
		at = session->rewind;
	session->pipelined = at < *length;
	if (!session->rewinds && at > 0 && at == *length)
		connection_part(connection, !transaction_is_open(session));
	return at;
}

static void closed(struct connection *connection)
{
	struct redis_call call = {.connection = connection, .session = session_of(connection)};

	transaction_drop(&call);
}

const struct protocol redis_protocol = {
    .name = "redis",
    .state_size = sizeof(struct redis_session),
    .opened = opened,
    .arrived = arrived,
    .timed_out = timed_out,
    .exhausted = exhausted,
    .refused = refused,
    .closed = closed,
};
