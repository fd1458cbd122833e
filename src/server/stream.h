/*
 * Many events in one request, answered one by one while they come: lines (application/x-ndjson) of
 * a body of any length, or the elements of an array that was read whole.  Holds no more than a line
 * and the answers that the client has not taken; what it cannot take now, it does not read.
 */
#ifndef TALLYD_SERVER_STREAM_H
#define TALLYD_SERVER_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "connection.h"
#include "handlers.h"

#define STREAM_HEAD_ROOM (HANDLER_ROOM + 1024) /* bytes that the beginning of an answer takes */
#define STREAM_WAIT      0.002 /* seconds between two looks at a journal queue that is full */

enum stream_source {
	STREAM_NONE,
	STREAM_LINES, /* each answer ends with LF */
	STREAM_ARRAY, /* the answers are an array */
};

/* What is kept of a stream between two reads. */
struct stream {
	uint64_t lsn;      /* that the answers so far depend on */
	uint64_t bytes;    /* of the answer's body */
	double began;      /* when the request's first byte came, monotonic seconds */
	uint32_t decoded;  /* bytes of body at the front of what has arrived */
	uint8_t source;    /* enum stream_source */
	bool skipping : 1; /* the line that has begun is too long */
	bool answered : 1; /* there has been an element before */
	bool chunked : 1;  /* the answer: HTTP/1.1 */
	bool closes : 1;   /* its head said so */
};

/* Is CALL's body lines? */
bool stream_is_lines(const struct call *call);

/*
 * Begins the answer to CALL: to lines, of whose body call->body_length raw bytes have arrived; or
 * to an array, whose body array_answer has made lines of.  CONNECTION_ROOM: STREAM has begun, and
 * what follows the head is its.  Else as connection_room says.
 */
enum connection_room stream_begin(struct connection *connection, struct stream *stream,
                                  enum stream_source source, const struct call *call, double began);

/*
 * Serves one slice of STREAM: BYTES[0..*LENGTH) are of the body that REQUEST (its head) began, as
 * far as they have arrived and were not consumed.  Returns how many are consumed.  If the stream is
 * over, its source is STREAM_NONE, and the connection closes or what is left is the next request.
 */
size_t stream_serve(struct connection *connection, struct stream *stream,
                    struct http_request *request, char *bytes, size_t *length);

/* Ends STREAM at once, with a last line that says why, and closes. */
void stream_break(struct connection *connection, struct stream *stream, const char *reason,
                  const char *detail);

/* The same when nothing more came in time. */
void stream_time_out(struct connection *connection, struct stream *stream);

#endif
