#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "connection.h"
#include "http_protocol.h"
#include "routes.h"

/* What is kept of a connection between two reads. */
struct http_state {
	struct http_request request; /* as far as it has been read */
	double began;                /* when its first byte came; 0: it has not */
	double body_by; /* when a body without bytes must be complete; 0: no body yet */
	bool continued; /* "100 Continue" has been sent */
	bool resumed;   /* the handler's pause is over */
};

_Static_assert(sizeof(struct http_state) <= CONNECTION_STATE_MAX, "it lives in the connection");
_Static_assert(REPLY_SHAPE_MAX <= CONNECTION_LAST_MAX, "a refusal is one shape");

enum step {
	STEP_NEXT, /* the request was answered and its bytes are consumed */
	STEP_WAIT, /* nothing more can be done now */
};

static struct http_state *state_of(struct connection *connection)
{
	return (struct http_state *)connection->state;
}

static void begin_request(struct http_state *state)
{
	http_request_init(&state->request);
	state->began = state->body_by = 0;
	state->continued = state->resumed = false;
}

static void opened(struct connection *connection)
{
	begin_request(state_of(connection));
}

/* --- what is written down about an answer --- */

static const char *peer_name(const struct peer *peer, char name[INET6_ADDRSTRLEN])
{
	if (peer->family != AF_INET && peer->family != AF_INET6)
		return "unix";
	return inet_ntop(peer->family, peer->address, name, INET6_ADDRSTRLEN);
}

/* The bytes of an answer's body: what follows its first empty line. */
static size_t body_bytes(const struct text *out)
{
	const char *end = memmem(out->bytes, out->length, "\r\n\r\n", 4);
	return end ? out->length - (size_t)(end + 4 - out->bytes) : 0;
}

static void log_access(struct connection *connection, const char *bytes, size_t length,
                       const struct answer *answer)
{
	struct worker *worker = connection->worker;
	char peer[INET6_ADDRSTRLEN];
	while (length && (*bytes == '\r' || *bytes == '\n')) {
		bytes++;
		length--;
	}
	const char *end = memchr(bytes, '\r', length);
	struct access_entry entry = {.peer = peer_name(&connection->peer, peer),
	                             .request = bytes,
	                             .request_length = end ? (size_t)(end - bytes) : length,
	                             .status = answer->status,
	                             .bytes = body_bytes(&answer->out),
	                             .lsn = answer->lsn,
	                             .started = state_of(connection)->began};
	access_log_add(worker->access_log, &entry, worker_time_us(worker) / 1000000, worker->now);
}

static void count_event(struct worker *worker, enum verdict verdict)
{
	static const enum counter counters[] = {[VERDICT_ACCEPTED] = COUNTER_EVENTS_ACCEPTED,
	                                        [VERDICT_REFUSED] = COUNTER_EVENTS_REFUSED,
	                                        [VERDICT_REJECTED] = COUNTER_EVENTS_REJECTED,
	                                        [VERDICT_INVALID] = COUNTER_EVENTS_INVALID};
	if (verdict == VERDICT_NEUTRAL)
		return;
	worker->posted |= verdict == VERDICT_ACCEPTED;
	counter_add(worker->server->counters, counters[verdict], 1);
}

static void note_answer(struct connection *connection, const char *bytes, size_t length,
                        const struct answer *answer, const char *detail)
{
	struct worker *worker = connection->worker;
	counter_add(worker->server->counters, COUNTER_REQUESTS, 1);
	count_event(worker, answer->verdict);
	refusal_note(&worker->refusals, answer->refusal, worker->now, detail);
	if (worker->access_log)
		log_access(connection, bytes, length, answer);
}

/* --- answers that end the connection --- */

struct refused {
	unsigned status;
	const char *reason;
	const char *detail;
	enum refusal class;
	unsigned retry_after; /* seconds; 0: it would not help */
};

static void refuse(struct connection *connection, const char *bytes, size_t length,
                   const struct refused *refused)
{
	char memory[CONNECTION_LAST_MAX];
	struct answer answer = {.status = refused->status, .refusal = refused->class};
	struct reply_frame frame = {.date = worker_date(connection->worker),
	                            .connection = REPLY_CLOSE,
	                            .head = state_of(connection)->request.method == HTTP_HEAD};

	text_init(&answer.out, memory, sizeof(memory));
	if (refused->retry_after)
		reply_rejected(&answer.out, &frame, refused->status, refused->reason,
		               refused->detail, refused->retry_after);
	else
		reply_error(&answer.out, &frame, refused->status, refused->reason, refused->detail,
		            NULL);
	note_answer(connection, bytes, length, &answer, refused->reason);
	connection_last_words(connection, memory, answer.out.length);
}

static enum step refuse_malformed(struct connection *connection, const char *bytes, size_t length)
{
	const struct http_request *request = &state_of(connection)->request;
	counter_add(connection->worker->server->counters, COUNTER_REQUESTS_MALFORMED, 1);
	refuse(connection, bytes, length,
	       &(struct refused){.status = request->status,
	                         .reason = request->reason,
	                         .detail = request->detail,
	                         .class = REFUSAL_MALFORMED});
	return STEP_WAIT;
}

static enum step refuse_method(struct connection *connection, const char *bytes, size_t length)
{
	refuse(connection, bytes, length,
	       &(struct refused){.status = 501,
	                         .reason = "unknown_method",
	                         .detail = "This server does not implement the method.",
	                         .class = REFUSAL_MALFORMED});
	return STEP_WAIT;
}

static enum step refuse_busy(struct connection *connection, const char *bytes, size_t length)
{
	refuse(connection, bytes, length,
	       &(struct refused){.status = 503,
	                         .reason = "busy",
	                         .detail = "Too much is being sent at once; nothing was applied.",
	                         .class = REFUSAL_BUSY,
	                         .retry_after = 1});
	return STEP_WAIT;
}

static void exhausted(struct connection *connection)
{
	refuse_busy(connection, "", 0);
}

static void timed_out(struct connection *connection)
{
	bool body = state_of(connection)->body_by > 0;
	/* The connection has noted the time-out itself. */
	refuse(connection, "", 0,
	       &(struct refused){.status = 408,
	                         .reason = body ? "body_timeout" : "header_timeout",
	                         .detail = body ? "The body came too slowly."
	                                        : "The request's header came too slowly.",
	                         .class = REFUSAL_NONE});
}

/* --- the way of one request --- */

static enum step wait_for_head(struct connection *connection)
{
	connection_expect(connection, state_of(connection)->began +
	                                  connection->worker->settings->header_timeout);
	return STEP_WAIT;
}

/* The client waits for a word before it sends the body (RFC 9110 10.1.1). */
static void say_continue(struct connection *connection, size_t arrived)
{
	struct http_state *state = state_of(connection);
	struct text out;
	if (!state->request.expect_continue || state->continued)
		return;
	state->continued = arrived > state->request.head_length;
	if (state->continued || connection_room(connection, 64, &out) != CONNECTION_ROOM)
		return;
	reply_continue(&out);
	connection_answer(connection, &out, 0);
	state->continued = true;
}

static enum step wait_for_body(struct connection *connection, size_t arrived)
{
	const struct server_settings *settings = connection->worker->settings;
	struct http_state *state = state_of(connection);
	if (state->body_by <= 0)
		state->body_by = connection->worker->now + settings->body_timeout;
	double earned =
	    settings->body_rate ? (double)state->request.body_length / settings->body_rate : 0;
	connection_expect(connection, state->body_by + earned);
	say_continue(connection, arrived);
	return STEP_WAIT;
}

static void answer_allow(const struct call *call, struct answer *answer, const char *allow)
{
	struct reply_field fields[] = {{"Allow", allow}, {NULL, NULL}};
	struct reply reply = {.status = 204, .fields = fields};
	answer->status = 204;
	reply_write(&answer->out, &call->frame, &reply);
}

/*
 * A browser sends what any page asks it to, to any address that it can reach, loopback included,
 * and says in Origin whose page it was (RFC 6454 7).  Only a page of ours may change anything.
 */
static bool is_foreign(const struct call *call)
{
	const struct http_request *request = call->request;
	struct http_span origin = request->field[HTTP_ORIGIN];
	struct http_span host = request->field[HTTP_HOST];
	const char *value = call->bytes + origin.at;

	if (origin.length == 0 || request->method == HTTP_GET || request->method == HTTP_HEAD)
		return false;
	const char *authority = memmem(value, origin.length, "://", 3);
	if (!authority || (request->repeated & (1u << HTTP_ORIGIN)))
		return true;
	authority += 3;
	size_t length = origin.length - (size_t)(authority - value);
	return length != host.length || strncasecmp(authority, call->bytes + host.at, length) != 0;
}

static void dispatch(const struct route *route, const struct call *call, struct answer *answer)
{
	enum http_method method = call->request->method;
	const char *path = call->bytes + call->request->path.at;

	if (method == HTTP_OPTIONS && call->request->path.length == 1 && *path == '*') {
		answer_allow(call, answer, "GET, HEAD, POST, OPTIONS");
	} else if (!route) {
		answer_error(call, answer, 404, "not_found", "There is nothing at this path.",
		             NULL);
	} else if (method == HTTP_OPTIONS) {
		answer_allow(call, answer, route->allow);
	} else if (!route_allows(route, method)) {
		struct reply_field fields[] = {{"Allow", route->allow}, {NULL, NULL}};
		answer_error(call, answer, 405, "method_not_allowed",
		             "The field Allow names the methods of this path.", fields);
	} else if (is_foreign(call)) {
		answer_error(call, answer, 403, "foreign_origin",
		             "A page of another origin may not change anything here.", NULL);
	} else {
		route->handle(call, answer);
	}
}

/* MORE: bytes that have arrived behind this request. */
static struct call prepare(struct connection *connection, char *bytes, size_t more)
{
	struct worker *worker = connection->worker;
	const struct http_request *request = &state_of(connection)->request;
	bool draining = worker->phase != PHASE_SERVING;
	struct call call = {.settings = worker->settings,
	                    .ledger = worker->server->ledger,
	                    .request = request,
	                    .bytes = bytes,
	                    .body = bytes + request->head_length,
	                    .body_length = (size_t)request->body_length,
	                    .now_us = worker_time_us(worker),
	                    .draining = draining,
	                    .resumed = state_of(connection)->resumed};
	call.frame =
	    (struct reply_frame){.date = worker_date(worker), .head = request->method == HTTP_HEAD};
	/* What the client has sent ahead is served before a drain ends the connection. */
	if (!request->keep_alive || (draining && more == 0))
		call.frame.connection = REPLY_CLOSE;
	else if (request->minor == 0)
		call.frame.connection = REPLY_KEEP_ALIVE;
	return call;
}

/* The handler wants no answer to leave, or not yet. */
static bool is_put_off(struct connection *connection, const struct answer *answer)
{
	if (answer->poisoned) {
		worker_stop(connection->worker, WORKER_POISONED);
		return true;
	}
	if (answer->pause_ms == 0)
		return false;
	state_of(connection)->resumed = true;
	connection_pause(connection, answer->pause_ms / 1000.0);
	return true;
}

/*
 * One request, from its bytes to its answer's place in the queue: BYTES[0..*LENGTH) begin
 * with it, as far as it has arrived.
 */
static enum step serve(struct connection *connection, char *bytes, size_t *length)
{
	const struct server_settings *settings = connection->worker->settings;
	struct http_request *request = &state_of(connection)->request;
	struct answer answer = {0};
	struct call call;
	struct http_span segment;

	switch (http_parse_head(request, bytes, *length)) {
	case HTTP_MORE:
		return wait_for_head(connection);
	case HTTP_REFUSED:
		return refuse_malformed(connection, bytes, *length);
	case HTTP_DONE:
		break;
	}
	if (request->method == HTTP_UNKNOWN_METHOD)
		return refuse_method(connection, bytes, *length);
	switch (http_parse_body(request, bytes, length, settings->max_body)) {
	case HTTP_MORE:
		return wait_for_body(connection, *length);
	case HTTP_REFUSED:
		return refuse_malformed(connection, bytes, *length);
	case HTTP_DONE:
		break;
	}
	connection_expect_nothing(connection);

	size_t end = request->head_length + (size_t)request->body_length;
	const struct route *route = route_find(bytes + request->path.at, request->path.length,
	                                       settings->diagnostics, &segment);
	size_t room = HANDLER_ROOM + (route && route->returns_body ? request->body_length : 0);
	switch (connection_room(connection, room, &answer.out)) {
	case CONNECTION_ROOM_LATER:
		return STEP_WAIT;
	case CONNECTION_ROOM_NOTHING:
		return refuse_busy(connection, bytes, *length);
	case CONNECTION_ROOM:
		break;
	}
	call = prepare(connection, bytes, *length - end);
	call.segment = segment;
	dispatch(route, &call, &answer);
	if (is_put_off(connection, &answer))
		return STEP_WAIT;

	connection_answer(connection, &answer.out, answer.lsn);
	note_answer(connection, bytes, *length, &answer, "an event");
	if (call.frame.connection == REPLY_CLOSE)
		connection_close(connection, request->keep_alive || *length > end);
	return STEP_NEXT;
}

static size_t arrived(struct connection *connection, char *bytes, size_t *length)
{
	struct http_state *state = state_of(connection);
	size_t at = 0;

	while (at < *length && connection_may_go_on(connection)) {
		size_t left = *length - at;
		if (state->began <= 0)
			state->began = connection->worker->now;
		enum step step = serve(connection, bytes + at, &left);
		*length = at + left;
		if (step == STEP_WAIT)
			break;
		at += state->request.head_length + (size_t)state->request.body_length;
		begin_request(state);
	}
	return at;
}

const struct protocol http_protocol = {
    .name = "http",
    .state_size = sizeof(struct http_state),
    .opened = opened,
    .arrived = arrived,
    .timed_out = timed_out,
    .exhausted = exhausted,
};
