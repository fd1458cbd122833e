#include "http_protocol.h"

#include <string.h>

#include "../wire/reason.h"
#include "array.h"
#include "auth.h"
#include "connection.h"
#include "cors.h"
#include "feed.h"
#include "gather.h"
#include "heads.h"
#include "note.h"
#include "routes.h"
#include "stream.h"

/* What is kept of a connection between two reads. */
struct http_state {
	struct http_request request; /* as far as it has been read */
	struct stream stream;        /* if its answer has begun before its end */
	struct reply_frame frame;    /* once its head was read: of route_frame */
	struct feed *feed;           /* what is being answered, to the connection's end */
	double began;                /* when its first byte came; 0: it has not */
	double body_by;   /* when a body without bytes must be complete; 0: no body yet */
	uint64_t cursor;  /* the handler's, while it pauses */
	uint64_t lsn;     /* what the answer depends on by what the handler has seen before that */
	uint8_t endpoint; /* an enum endpoint, once its head was read */
	bool looked_up;   /* among worker->heads */
	bool understood;  /* the head was read; it is kept there or was found there */
	bool continued;   /* "100 Continue" has been sent */
	bool resumed;     /* the handler's pause is over */
};

_Static_assert(sizeof(struct http_state) <= CONNECTION_STATE_MAX, "it lives in the connection");
_Static_assert(REPLY_SHAPE_MAX + CORS_ROOM <= CONNECTION_LAST_MAX, "a refusal is one shape");

enum step {
	STEP_NEXT,   /* the request was answered, or gathered, and its bytes are consumed */
	STEP_STREAM, /* its answer has begun, its head is consumed */
	STEP_FEED,   /* its answer has begun; nothing is answered after it */
	STEP_WAIT,   /* nothing more can be done now */
};

static struct http_state *state_of(struct connection *connection)
{
	return (struct http_state *)connection->state;
}

static void begin_request(struct http_state *state)
{
	http_request_init(&state->request);
	state->frame = (struct reply_frame){0};
	state->endpoint = ENDPOINT_OTHER;
	state->began = state->body_by = 0;
	state->cursor = state->lsn = 0;
	state->looked_up = state->understood = false;
	state->continued = state->resumed = false;
}

static void opened(struct connection *connection)
{
	begin_request(state_of(connection));
}

/* --- answers that end the connection --- */

struct refused {
	unsigned status;
	const char *reason;
	const char *detail;
	enum refusal class;
	unsigned retry_after;  /* seconds; 0: it would not help */
	const char *challenge; /* NULL: none */
};

static void refuse(struct connection *connection, const char *bytes, size_t length,
                   const struct refused *refused)
{
	char memory[CONNECTION_LAST_MAX];
	struct answer answer = {.status = refused->status,
	                        .reason = reason_find(refused->reason),
	                        .refusal = refused->class};
	struct reply_frame frame = state_of(connection)->frame;
	const struct reply_field fields[] = {{"WWW-Authenticate", refused->challenge},
	                                     {NULL, NULL}};

	frame.date = worker_date(connection->worker);
	frame.connection = REPLY_CLOSE;
	frame.head = state_of(connection)->request.method == HTTP_HEAD;
	gather_answer(connection);
	text_init(&answer.out, memory, sizeof(memory));
	if (refused->retry_after)
		reply_rejected(&answer.out, &frame, refused->status, refused->reason,
		               refused->detail, refused->retry_after);
	else
		reply_error(&answer.out, &frame, refused->status, refused->reason, refused->detail,
		            refused->challenge ? fields : NULL);
	note_answer(connection, state_of(connection)->endpoint, bytes, length,
	            state_of(connection)->began, &answer, refused->reason);
	connection_last_words(connection, memory, answer.out.length, 1,
	                      state_of(connection)->began);
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

/* Before its body has come. */
static enum step refuse_denied(struct connection *connection, const struct call *call,
                               size_t length)
{
	const struct denial *denial = call->denied;

	refuse(connection, call->bytes, length,
	       &(struct refused){.status = denial->status,
	                         .reason = denial->reason,
	                         .detail = denial->detail,
	                         .class = denial->class,
	                         .challenge = denial->challenge});
	return STEP_WAIT;
}

/* What is asked of many events together, and cannot be. */
static enum step refuse_stream(struct connection *connection, const char *bytes, size_t length,
                               const char *word, const char *detail)
{
	const struct reason *reason = reason_find(word);

	refuse(connection, bytes, length,
	       &(struct refused){.status = reason->status,
	                         .reason = reason->word,
	                         .detail = detail ? detail : reason->detail,
	                         .class = REFUSAL_INVALID});
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
	struct stream *stream = &state_of(connection)->stream;

	if (stream->source != STREAM_NONE)
		stream_break(connection, stream, "busy", "Too much is being sent at once.");
	else
		refuse_busy(connection, "", 0);
}

static void timed_out(struct connection *connection)
{
	struct stream *stream = &state_of(connection)->stream;
	bool body = state_of(connection)->body_by > 0;

	if (stream->source != STREAM_NONE) {
		stream_time_out(connection, stream);
		return;
	}
	/* The connection has noted the time-out itself. */
	refuse(connection, "", 0,
	       &(struct refused){.status = 408,
	                         .reason = body ? "body_timeout" : "header_timeout",
	                         .detail = body ? "The body came too slowly."
	                                        : "The request's header came too slowly.",
	                         .class = REFUSAL_NONE});
}

static void refused(struct connection *connection, const char *word)
{
	const struct reason *reason = reason_find(word);

	opened(connection);
	state_of(connection)->began = connection->worker->now;
	/* Why has been noted already. */
	refuse(connection, "", 0,
	       &(struct refused){.status = reason->status,
	                         .reason = reason->word,
	                         .detail = reason->detail,
	                         .class = REFUSAL_NONE,
	                         .retry_after = 1});
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
	gather_answer(connection);
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

/* What follows from a head that was parsed now: who answers, and how. */
static const struct head *understand(struct connection *connection, const char *bytes)
{
	struct worker *worker = connection->worker;
	struct http_state *state = state_of(connection);
	struct head *head = &worker->heads->other;
	struct call call = {
	    .settings = worker->settings, .request = &state->request, .bytes = bytes};

	head->request = state->request;
	head->route = route_find(bytes + head->request.path.at, head->request.path.length,
	                         worker->settings->diagnostics, &head->segment);
	const struct route_method *method = route_method(head->route, head->request.method);
	head->endpoint = method ? method->endpoint : ENDPOINT_OTHER;
	head->token = NULL;
	head->credentials = CREDENTIALS_NONE;
	if (worker->tokens)
		head->credentials =
		    auth_identify(worker->tokens, &head->request, bytes, &head->token);
	route_frame(&call);
	head->frame = call.frame;
	if (!state->understood)
		heads_keep(worker->heads, bytes, head);
	state->understood = true;
	return head;
}

/* The head is read into the connection's state, and what follows from it into *HEAD. */
static enum http_progress read_head(struct connection *connection, const char *bytes, size_t length,
                                    const struct head **head)
{
	struct http_state *state = state_of(connection);

	*head = state->looked_up ? NULL : heads_find(connection->worker->heads, bytes, length);
	state->looked_up = true;
	if (*head) {
		state->request = (*head)->request;
		state->frame = (*head)->frame;
		state->endpoint = (uint8_t)(*head)->endpoint;
		state->understood = true;
		return HTTP_DONE;
	}
	enum http_progress progress = http_parse_head(&state->request, bytes, length);
	if (progress == HTTP_DONE) {
		*head = understand(connection, bytes);
		state->frame = (*head)->frame;
		state->endpoint = (uint8_t)(*head)->endpoint;
	}
	return progress;
}

/* Who has sent HEAD speaks now: what others have asked for before him is done first. */
static void listen_to(struct connection *connection, const struct head *head)
{
	const struct token *token = connection->guarded ? head->token : NULL;

	if (token == connection->token)
		return;
	gather_answer(connection);
	connection->token = token;
}

/* LENGTH bytes have arrived from the first of the request with HEAD on. */
static struct call prepare(struct connection *connection, const struct head *head, char *bytes,
                           size_t length)
{
	struct worker *worker = connection->worker;
	const struct http_state *state = state_of(connection);
	const struct http_request *request = &state->request;
	struct call call = {.settings = worker->settings,
	                    .ledger = worker->server->ledger,
	                    .history = worker->server->history,
	                    .tail = feeds_tail(worker->feeds),
	                    .feed = feeds_plan(worker->feeds),
	                    .server = worker->server,
	                    .request = request,
	                    .bytes = bytes,
	                    .segment = head->segment,
	                    .body = bytes + request->head_length,
	                    .body_length = length - request->head_length,
	                    .frame = head->frame,
	                    .now_us = worker_time_us(worker),
	                    .cursor = state->cursor,
	                    .token = connection->token,
	                    .credentials = (uint8_t)head->credentials,
	                    .guarded = connection->guarded,
	                    .draining = worker->phase != PHASE_SERVING,
	                    .resumed = state->resumed};

	call.frame.date = worker_date(worker);
	if (!request->keep_alive)
		call.frame.connection = REPLY_CLOSE;
	else if (request->minor == 0)
		call.frame.connection = REPLY_KEEP_ALIVE;
	call.denied = auth_denies(&call, route_method(head->route, request->method));
	return call;
}

/* The body has arrived, and MORE bytes behind it. */
static void prepare_body(struct call *call, bool more)
{
	call->body_length = (size_t)call->request->body_length;
	/* What the client has sent ahead is served before a drain ends the connection. */
	if (call->draining && !more)
		call->frame.connection = REPLY_CLOSE;
}

/* The same for lines.  What arrives behind a body only later is not served any more. */
static void prepare_lines(struct call *call)
{
	if (call->draining && !http_body_is_followed(call->request, call->body, call->body_length))
		call->frame.connection = REPLY_CLOSE;
}

/* Is the body to be answered line by line while it comes? */
static bool is_stream(const struct route *route, const struct call *call)
{
	const struct route_method *method = route_method(route, call->request->method);

	return method && method->events && !call->denied && stream_is_lines(call) &&
	       !cors_is_foreign(call);
}

static enum step begin_stream(struct connection *connection, enum stream_source source,
                              const struct call *call)
{
	struct http_state *state = state_of(connection);

	const char *detail = condition_unsupported(call, false, false);
	const char *word = detail                   ? "unsupported_condition"
	                   : source == STREAM_LINES ? array_lines_refusal(call)
	                                            : NULL;
	if (word)
		return refuse_stream(connection, call->bytes, call->request->head_length, word,
		                     detail);
	gather_answer(connection);
	switch (stream_begin(connection, &state->stream, source, call, state->began)) {
	case CONNECTION_ROOM_LATER:
		return STEP_WAIT;
	case CONNECTION_ROOM_NOTHING:
		return refuse_busy(connection, call->bytes, call->request->head_length);
	case CONNECTION_ROOM:
		break;
	}
	return STEP_STREAM;
}

static enum step begin_feed(struct connection *connection, const struct call *call, size_t length)
{
	struct http_state *state = state_of(connection);

	switch (feed_begin(connection, call, state->began, &state->feed)) {
	case CONNECTION_ROOM_LATER:
		return STEP_WAIT;
	case CONNECTION_ROOM_NOTHING:
		return refuse_busy(connection, call->bytes, length);
	case CONNECTION_ROOM:
		break;
	}
	return STEP_FEED;
}

/* The answer OUT has its place: what does it mean for the connection? */
static enum step end_request(struct connection *connection, const struct call *call, bool more)
{
	if (call->frame.connection == REPLY_CLOSE) {
		gather_answer(connection);
		connection_close(connection, call->request->keep_alive || more);
	}
	return STEP_NEXT;
}

/* The one event in CALL joins those before it. */
static enum step join(struct connection *connection, const struct call *call, size_t room,
                      size_t length)
{
	switch (gather(connection, call, room, length, state_of(connection)->began)) {
	case CONNECTION_ROOM_LATER:
		return STEP_WAIT;
	case CONNECTION_ROOM_NOTHING:
		return refuse_busy(connection, call->bytes, length);
	case CONNECTION_ROOM:
		break;
	}
	return STEP_NEXT;
}

/* The handler wants no answer to leave, or not yet. */
static bool is_put_off(struct connection *connection, const struct answer *answer)
{
	struct http_state *state = state_of(connection);

	if (answer->poisoned) {
		worker_stop(connection->worker, WORKER_POISONED);
		return true;
	}
	if (answer->pause_ms == 0)
		return false;
	state->resumed = true;
	state->cursor = answer->cursor;
	state->lsn = answer->lsn;
	connection_pause(connection, answer->pause_ms / 1000.0);
	return true;
}

/* The one request in CALL is answered, or put off. */
static enum step answer_alone(struct connection *connection, const struct route *route,
                              const struct call *call, size_t room, size_t length)
{
	struct answer answer = {.lsn = state_of(connection)->lsn};

	gather_answer(connection);
	switch (connection_room(connection, room, &answer.out)) {
	case CONNECTION_ROOM_LATER:
		return STEP_WAIT;
	case CONNECTION_ROOM_NOTHING:
		return refuse_busy(connection, call->bytes, length);
	case CONNECTION_ROOM:
		break;
	}
	route_answer(route, call, &answer);
	if (answer.elements)
		return begin_stream(connection, STREAM_ARRAY, call);
	if (answer.feed)
		return begin_feed(connection, call, length);
	if (is_put_off(connection, &answer))
		return STEP_WAIT;
	note_answer(connection, state_of(connection)->endpoint, call->bytes, length,
	            state_of(connection)->began, &answer, "an operation");
	connection_answers(connection, &answer.out, answer.lsn, 1, state_of(connection)->began);
	return STEP_NEXT;
}

/*
 * One request, from its bytes to its answer's place in the queue: BYTES[0..*LENGTH) begin
 * with it, as far as it has arrived.
 */
static enum step serve(struct connection *connection, char *bytes, size_t *length)
{
	struct http_request *request = &state_of(connection)->request;
	const struct head *head;

	switch (read_head(connection, bytes, *length, &head)) {
	case HTTP_MORE:
		return wait_for_head(connection);
	case HTTP_REFUSED:
		return refuse_malformed(connection, bytes, *length);
	case HTTP_DONE:
		break;
	}
	if (request->method == HTTP_UNKNOWN_METHOD)
		return refuse_method(connection, bytes, *length);

	listen_to(connection, head);
	struct call call = prepare(connection, head, bytes, *length);
	const struct route *route = head->route;
	if (is_stream(route, &call)) {
		prepare_lines(&call);
		return begin_stream(connection, STREAM_LINES, &call);
	}

	switch (http_parse_body(request, bytes, length, call.settings->max_body)) {
	case HTTP_MORE:
		return call.denied ? refuse_denied(connection, &call, *length)
		                   : wait_for_body(connection, *length);
	case HTTP_REFUSED:
		return refuse_malformed(connection, bytes, *length);
	case HTTP_DONE:
		break;
	}
	connection_expect_nothing(connection);

	bool more = *length > request->head_length + request->body_length;
	prepare_body(&call, more);
	size_t room = route_room(route, &call);
	enum step step = gather_takes(connection, route, &call, more)
	                     ? join(connection, &call, room, *length)
	                     : answer_alone(connection, route, &call, room, *length);
	return step == STEP_NEXT ? end_request(connection, &call, more) : step;
}

/* Serves the stream that is under way.  Returns how many bytes it consumed. */
static size_t serve_stream(struct connection *connection, char *bytes, size_t *length)
{
	struct http_state *state = state_of(connection);
	size_t consumed = stream_serve(connection, &state->stream, &state->request, bytes, length);

	if (state->stream.source == STREAM_NONE)
		begin_request(state);
	return consumed;
}

/* Serves one request that has not been begun.  Returns how many bytes it consumed, 0: wait. */
static size_t serve_next(struct connection *connection, char *bytes, size_t *length)
{
	struct http_state *state = state_of(connection);
	size_t consumed = 0;

	if (state->began <= 0)
		state->began = connection->worker->now;
	switch (serve(connection, bytes, length)) {
	case STEP_WAIT:
		break;
	case STEP_STREAM:
		consumed = state->request.head_length;
		break;
	case STEP_FEED:
		consumed = *length;
		break;
	case STEP_NEXT:
		consumed = state->request.head_length + (size_t)state->request.body_length;
		begin_request(state);
		break;
	}
	return consumed;
}

static size_t arrived(struct connection *connection, char *bytes, size_t *length)
{
	const struct http_state *state = state_of(connection);
	const struct stream *stream = &state->stream;
	size_t at = 0;

	/* What a client says while it is fed is of no account. */
	if (state->feed) {
		feed_arrived(state->feed);
		return *length;
	}
	while ((at < *length || stream->source != STREAM_NONE) &&
	       connection_may_go_on(connection)) {
		bool streams = stream->source != STREAM_NONE;
		size_t left = *length - at;
		size_t consumed = streams ? serve_stream(connection, bytes + at, &left)
		                          : serve_next(connection, bytes + at, &left);
		*length = at + left;
		at += consumed;
		if (streams ? stream->source != STREAM_NONE : consumed == 0)
			break;
	}
	gather_answer(connection);
	return at;
}

static void closed(struct connection *connection)
{
	struct feed *feed = state_of(connection)->feed;

	if (feed)
		feed_gone(feed);
}

const struct protocol http_protocol = {
    .name = "http",
    .state_size = sizeof(struct http_state),
    .opened = opened,
    .arrived = arrived,
    .timed_out = timed_out,
    .exhausted = exhausted,
    .refused = refused,
    .closed = closed,
};
