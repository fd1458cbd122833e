#include "stream.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "../wire/token.h"
#include "auth.h"
#include "drain.h"
#include "group.h"
#include "note.h"

#define MEDIA_TYPE   "application/x-ndjson"
#define REQUEST_LINE "POST /events HTTP/1.1"

#define DRAINING "draining", "The service is stopping here; what follows was not applied."

#define LINE_ROOM  REPLY_EVENT_MAX /* bytes of one answer and what separates it from the next */
#define FRAME_ROOM (REPLY_CHUNK_FRAME + REPLY_STREAM_END)
#define PASS_ROOM                                                                                  \
	(FRAME_ROOM + (GROUP_MAX + 1) * LINE_ROOM) /* a group, and a line that is none             \
	                                            */
#define END_ROOM       (FRAME_ROOM + LINE_ROOM)
#define PASS_BEST      98304 /* bytes of room for the answers to a whole read */
#define ANSWER_TO_LINE 4     /* about so many times longer than an event is its answer */

_Static_assert(PASS_ROOM < CONNECTION_OUT_MAX && PASS_BEST < CONNECTION_OUT_MAX, "there is a way");
_Static_assert(STREAM_HEAD_ROOM >= HANDLER_ROOM + CORS_ROOM + FRAME_ROOM, "so does the head");
_Static_assert(LINE_ROOM >= REPLY_SHAPE_MAX + 2, "errors fit as well");
_Static_assert(CONNECTION_LAST_MAX >= REPLY_SHAPE_MAX + FRAME_ROOM + 4, "and as last words");

/* One call of stream_serve. */
struct pass {
	struct connection *connection;
	struct stream *stream;
	char *bytes;
	size_t at;  /* bytes[0..at) are done with */
	size_t end; /* bytes[0..end) are body */
	bool whole; /* the body ends there */
	bool open;  /* `out` is ready, a chunk has begun */
	struct text out;
	size_t chunk;
	uint64_t lsn; /* that the chunk depends on */
};

bool stream_is_lines(const struct call *call)
{
	struct http_span type = call->request->field[HTTP_CONTENT_TYPE];
	const char *value = call->bytes + type.at;
	size_t length = sizeof(MEDIA_TYPE) - 1;

	if (type.length < length || strncasecmp(value, MEDIA_TYPE, length) != 0)
		return false;
	return type.length == length || strchr("; \t", value[length]) != NULL;
}

/* --- what is written --- */

static size_t open_chunk(const struct stream *stream, struct text *out)
{
	return stream->chunked ? reply_chunk_begin(out) : out->length;
}

static void close_chunk(struct stream *stream, struct text *out, size_t chunk)
{
	size_t frame = stream->chunked ? REPLY_CHUNK_FRAME : 0;

	if (stream->chunked)
		reply_chunk_end(out, chunk);
	if (out->length > chunk)
		stream->bytes += out->length - chunk - frame;
}

/* Room for a group, in the chunk that is open or in a new one. */
static bool has_room(struct pass *pass)
{
	struct connection *connection = pass->connection;
	size_t wanted = PASS_ROOM;

	if (!connection->out)
		wanted += (pass->end - pass->at) * ANSWER_TO_LINE;
	if (wanted > PASS_BEST)
		wanted = PASS_BEST;
	switch (connection_room(connection, wanted, &pass->out)) {
	case CONNECTION_ROOM:
		pass->chunk = open_chunk(pass->stream, &pass->out);
		pass->open = true;
		return true;
	case CONNECTION_ROOM_LATER:
		return false;
	case CONNECTION_ROOM_NOTHING:
		break;
	}
	stream_break(connection, pass->stream, "busy", "Too much is being sent at once.");
	return false;
}

static void send_chunk(struct pass *pass)
{
	if (!pass->open)
		return;
	pass->open = false;
	close_chunk(pass->stream, &pass->out, pass->chunk);
	if (pass->out.length)
		connection_answer(pass->connection, &pass->out, pass->lsn);
	if (pass->stream->lsn < pass->lsn)
		pass->stream->lsn = pass->lsn;
}

static bool ready(struct pass *pass)
{
	if (pass->open && pass->out.capacity - pass->out.length < PASS_ROOM)
		send_chunk(pass);
	return pass->open || has_room(pass);
}

static void begin_element(struct stream *stream, struct text *out)
{
	if (stream->source == STREAM_ARRAY && stream->answered)
		text_literal(out, ",");
	stream->answered = true;
}

static void end_element(const struct stream *stream, struct text *out)
{
	if (stream->source == STREAM_LINES)
		text_literal(out, "\n");
}

static void write_error(struct stream *stream, struct text *out, const char *reason,
                        const char *detail)
{
	begin_element(stream, out);
	reply_error_object(out, reason, detail);
	end_element(stream, out);
}

static void write_result(struct pass *pass, const struct request *request,
                         const struct result *result)
{
	begin_element(pass->stream, &pass->out);
	reply_result_object(&pass->out, request, result);
	end_element(pass->stream, &pass->out);
	if (result->lsn > pass->lsn && result_verdict(result) != VERDICT_REJECTED)
		pass->lsn = result->lsn;
}

/* --- what is read --- */

enum found {
	FOUND_NONE, /* no line has ended */
	FOUND_EMPTY,
	FOUND_LINE,
	FOUND_LONG, /* over GROUP_LINE_MAX, perhaps not to its end */
};

struct line {
	const char *bytes;
	size_t length; /* without CR and LF */
	size_t next;   /* where what follows begins */
	bool ends;
};

static enum found find_line(const struct pass *pass, size_t from, struct line *line)
{
	const char *bytes = pass->bytes + from;
	size_t left = pass->end - from;
	const char *feed = left ? memchr(bytes, '\n', left) : NULL;
	size_t length = feed ? (size_t)(feed - bytes) : left;

	*line = (struct line){.bytes = bytes, .ends = feed || pass->whole};
	line->next = from + length + (feed ? 1 : 0);
	if (!line->ends)
		return length > GROUP_LINE_MAX + 1 ? FOUND_LONG : FOUND_NONE;
	if (length && bytes[length - 1] == '\r')
		length--;
	line->length = length;
	if (length > GROUP_LINE_MAX)
		return FOUND_LONG;
	if (length)
		return FOUND_LINE;
	return left ? FOUND_EMPTY : FOUND_NONE;
}

/* Drops the rest of a line that was too long. */
static void skip_line(struct pass *pass)
{
	const char *bytes = pass->bytes + pass->at;
	size_t left = pass->end - pass->at;
	const char *feed = left ? memchr(bytes, '\n', left) : NULL;

	if (!pass->stream->skipping)
		return;
	pass->stream->skipping = !feed;
	pass->at += feed ? (size_t)(feed - bytes) + 1 : left;
}

/*
 * Reads LINE into the next place of GROUP: from a copy, because the reader changes what it reads,
 * and a line that the queue has no room for is read again.
 */
static bool read_line(struct group *group, const struct token *token, enum found found,
                      const struct line *line, struct json_error *error)
{
	char *copy = group->text + group->text_length;

	if (found == FOUND_LONG) {
		*error = (struct json_error){.reason = "line_too_long",
		                             .detail = "An event takes more than 4096 bytes."};
		return false;
	}
	memcpy(copy, line->bytes, line->length);
	struct request *request = &group->requests[group->count];
	if (!json_read_event(copy, line->length, request, error))
		return false;
	if (!auth_covers(token, request)) {
		*error = (struct json_error){.reason = "forbidden",
		                             .detail = "The token does not permit this."};
		return false;
	}
	group->text_length += line->length;
	return true;
}

/* --- a group of lines --- */

static void note_invalid(struct pass *pass, const struct json_error *error)
{
	struct worker *worker = pass->connection->worker;

	note_verdicts(worker, VERDICT_INVALID, 1);
	note_reason(worker, VERDICT_INVALID, reason_find(error->reason));
	refusal_note(&worker->refusals, REFUSAL_INVALID, worker->now, error->reason);
}

/*
 * Answers lines up to one that cannot be read, that one included.  False if there was none, or no
 * more can be done now.
 */
static bool serve_group(struct pass *pass)
{
	struct group *group = pass->connection->worker->group;
	size_t ends[GROUP_MAX];
	size_t at = pass->at;
	struct json_error error;
	struct line line;
	enum found found;
	bool bad = false;

	group->count = group->text_length = 0;
	while (group->count < GROUP_MAX && !bad &&
	       (found = find_line(pass, at, &line)) != FOUND_NONE) {
		if (found != FOUND_EMPTY) {
			bad = !read_line(group, pass->connection->token, found, &line, &error);
			ends[group->count] = line.next;
			group->count += !bad;
		}
		at = line.next;
	}

	size_t count = group->count;
	size_t done = count ? group_apply(pass->connection->worker, group,
	                                  pass->stream->source == STREAM_LINES)
	                    : 0;
	group->count = 0;
	if (worker_stops(pass->connection->worker))
		return false;
	for (size_t i = 0; i < done; i++)
		write_result(pass, &group->requests[i], &group->results[i]);
	if (done < count) {
		pass->at = done ? ends[done - 1] : pass->at;
		connection_pause(pass->connection, STREAM_WAIT);
		return false;
	}
	if (bad) {
		write_error(pass->stream, &pass->out, error.reason, error.detail);
		note_invalid(pass, &error);
		pass->stream->skipping = !line.ends;
	}
	bool moved = at > pass->at;
	pass->at = at;
	return moved;
}

/* --- the end --- */

/* REASON: what broke it, NULL: nothing did. */
static void note_end(struct connection *connection, struct stream *stream, const char *reason)
{
	if (reason)
		note_reason(connection->worker, VERDICT_NEUTRAL, reason_find(reason));
	note_request(connection, &(struct note){.endpoint = ENDPOINT_EVENT,
	                                        .request = REQUEST_LINE,
	                                        .length = sizeof(REQUEST_LINE) - 1,
	                                        .began = stream->began,
	                                        .status = 200,
	                                        .bytes = (size_t)stream->bytes,
	                                        .lsn = stream->lsn});
	stream->source = STREAM_NONE;
	connection_stream(connection, false);
}

/* REASON: what is wrong, NULL: nothing is. */
static void write_end(struct stream *stream, struct text *out, const char *reason,
                      const char *detail)
{
	size_t chunk = open_chunk(stream, out);

	if (reason)
		write_error(stream, out, reason, detail);
	if (stream->source == STREAM_ARRAY)
		text_literal(out, "]");
	close_chunk(stream, out, chunk);
	if (stream->chunked)
		reply_stream_end(out);
}

static void finish(struct pass *pass, const char *reason, const char *detail)
{
	struct connection *connection = pass->connection;
	struct stream *stream = pass->stream;

	switch (connection_room(connection, END_ROOM, &pass->out)) {
	case CONNECTION_ROOM:
		break;
	case CONNECTION_ROOM_LATER:
		return;
	case CONNECTION_ROOM_NOTHING:
		stream_break(connection, stream, reason ? reason : "busy",
		             detail ? detail : "Too much is being sent at once.");
		return;
	}
	write_end(stream, &pass->out, reason, detail);
	connection_answer(connection, &pass->out, 0);
	note_end(connection, stream, reason);
	connection_expect_nothing(connection);
	/* A drain ends it after an answer that says so, or once nothing is left to be answered. */
	if (reason || stream->closes)
		connection_close(connection, true);
}

void stream_time_out(struct connection *connection, struct stream *stream)
{
	if (connection->worker->phase == PHASE_SERVING)
		stream_break(connection, stream, "body_timeout", "Nothing more came.");
	else
		stream_break(connection, stream, DRAINING);
}

void stream_break(struct connection *connection, struct stream *stream, const char *reason,
                  const char *detail)
{
	char memory[CONNECTION_LAST_MAX];
	struct text out;

	text_init(&out, memory, sizeof(memory));
	write_end(stream, &out, reason, detail);
	note_end(connection, stream, reason);
	connection_last_words(connection, memory, out.length, 0, 0);
}

/* Nothing that has arrived is left to be answered: what now? */
static void conclude(struct pass *pass, enum http_progress progress,
                     const struct http_request *request)
{
	struct worker *worker = pass->connection->worker;

	if (progress == HTTP_DONE) {
		finish(pass, NULL, NULL);
	} else if (progress == HTTP_REFUSED) {
		counter_add(worker->server->counters, COUNTER_REQUESTS_MALFORMED, 1);
		finish(pass, request->reason, request->detail);
	} else if (pass->connection->ended) {
		finish(pass, "incomplete_body", "The body ended before its framing said so.");
	} else if (worker->now >= drain_last_moment(worker)) {
		finish(pass, DRAINING);
	} else {
		connection_expect(
		    pass->connection,
		    fmin(worker->now + worker->settings->idle_timeout, drain_last_moment(worker)));
	}
}

/* --- the way of a stream --- */

/* Nothing keeps CONNECTION from going on, and it will not be called again by itself. */
static bool stands_ready(const struct connection *connection)
{
	return !connection->closing && !connection->blocked && !connection->paused &&
	       !connection->queued && !worker_stops(connection->worker);
}

enum connection_room stream_begin(struct connection *connection, struct stream *stream,
                                  enum stream_source source, const struct call *call, double began)
{
	const struct http_request *request = call->request;
	struct reply_frame frame = call->frame;
	struct text out;
	enum connection_room room = connection_room(connection, STREAM_HEAD_ROOM, &out);

	if (room != CONNECTION_ROOM)
		return room;
	if (source == STREAM_LINES && request->expect_continue && call->body_length == 0)
		reply_continue(&out);
	if (request->minor == 0)
		frame.connection = REPLY_CLOSE;
	*stream = (struct stream){.source = (uint8_t)source,
	                          .began = began,
	                          .chunked = request->minor > 0,
	                          .closes = frame.connection == REPLY_CLOSE};
	reply_stream_head(&out, &frame, source == STREAM_LINES ? MEDIA_TYPE : REPLY_JSON,
	                  stream->chunked);
	if (source == STREAM_ARRAY) {
		size_t chunk = open_chunk(stream, &out);
		text_literal(&out, "[");
		close_chunk(stream, &out, chunk);
		stream->decoded = (uint32_t)call->body_length;
	}
	connection_answer(connection, &out, 0);
	connection_stream(connection, true);
	connection_expect_nothing(connection);
	return CONNECTION_ROOM;
}

static enum http_progress decode(struct stream *stream, struct http_request *request, char *bytes,
                                 size_t *length)
{
	size_t decoded = stream->decoded;

	if (stream->source == STREAM_ARRAY)
		return HTTP_DONE;
	enum http_progress progress = http_body_next(request, bytes, length, &decoded);
	stream->decoded = (uint32_t)decoded;
	return progress;
}

size_t stream_serve(struct connection *connection, struct stream *stream,
                    struct http_request *request, char *bytes, size_t *length)
{
	enum http_progress progress = decode(stream, request, bytes, length);
	struct pass pass = {.connection = connection,
	                    .stream = stream,
	                    .bytes = bytes,
	                    .end = stream->decoded,
	                    .whole = progress == HTTP_DONE};
	struct line line;

	bool over = connection_lacks_token(connection); /* a stream can outlive its token */

	skip_line(&pass);
	while (!over && pass.at < pass.end && connection_may_go_on(connection) && ready(&pass) &&
	       serve_group(&pass))
		skip_line(&pass);
	send_chunk(&pass);
	stream->decoded -= (uint32_t)pass.at;
	if (over && stream->source != STREAM_NONE)
		finish(&pass, "unauthorized", "The token is not valid any more.");
	else if (stream->source != STREAM_NONE && stands_ready(connection) &&
	         find_line(&pass, pass.at, &line) == FOUND_NONE)
		conclude(&pass, progress, request);
	return pass.at;
}
