/*
 * HTTP/1.1 requests, read strictly (RFC 9110, RFC 9112).  Pure functions over
 * a buffer: no sockets, no allocation, no time.
 *
 * The caller keeps one buffer per connection whose first byte is the first
 * byte of the request.  Positions are offsets, so the buffer may move between
 * calls.  Calls are incremental: each looks only at what the last one had not
 * finished with, so feeding a request byte by byte costs time linear in its
 * length, and a violation is reported as soon as the line that holds it ends
 * (or as soon as a limit is passed).
 */
#ifndef TALLYD_WIRE_HTTP_H
#define TALLYD_WIRE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_REQUEST_LINE_MAX  8192  /* bytes, without CRLF; more is 414 */
#define HTTP_HEAD_MAX          16384 /* bytes of all field lines; more is 431 */
#define HTTP_FIELDS_MAX        64    /* field lines; more is 431 */
#define HTTP_LEADING_CRLF_MAX  2     /* empty lines skipped before a request line (RFC 9112 2.2) */
#define HTTP_METHOD_MAX        32    /* bytes of a method's name; more is 501 */
#define HTTP_CHUNK_LINE_MAX    256 /* bytes of a chunk-size line with its extensions; more is 400 */
#define HTTP_CHUNK_DIGITS_MAX  16  /* hexadecimal digits of a chunk's size; more is 400 */
#define HTTP_EXTENSIONS_MAX    4096 /* bytes of all chunk extensions of one body; more is 400 */
#define HTTP_LENGTH_DIGITS_MAX 18   /* digits of a Content-Length; more is 400 */

enum http_method {
	HTTP_UNKNOWN_METHOD, /* a valid token that we do not implement: 501 */
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_PUT,
	HTTP_DELETE,
	HTTP_OPTIONS,
	HTTP_PATCH,
};

/* The fields that somebody above reads; all others are checked and dropped. */
enum http_field {
	HTTP_ACCEPT,
	HTTP_ACCESS_CONTROL_REQUEST_HEADERS,
	HTTP_ACCESS_CONTROL_REQUEST_METHOD,
	HTTP_AUTHORIZATION,
	HTTP_CONTENT_TYPE,
	HTTP_HOST,
	HTTP_IDEMPOTENCY_KEY,
	HTTP_IF_MATCH,
	HTTP_IF_NONE_MATCH,
	HTTP_LAST_EVENT_ID,
	HTTP_ORIGIN,
	HTTP_REFERER,
	HTTP_USER_AGENT,
	HTTP_KNOWN_FIELDS,
};

/* Bytes AT .. AT+LENGTH of the request's buffer; length 0 with at 0: absent. */
struct http_span {
	uint32_t at;
	uint32_t length;
};

enum http_progress {
	HTTP_MORE,    /* the buffer ends before the part does */
	HTTP_DONE,    /* the part is complete */
	HTTP_REFUSED, /* status and reason are set; answer and close */
};

struct http_request {
	/* results, valid after HTTP_DONE of http_parse_head */
	enum http_method method;
	uint8_t minor;           /* 0 or 1 of HTTP/1.x */
	bool keep_alive;         /* RFC 9112 9.3 */
	bool expect_continue;    /* RFC 9110 10.1.1; never in HTTP/1.0 nor without a body */
	bool chunked;            /* RFC 9112 7.1 */
	bool has_length;         /* Content-Length was given */
	uint64_t content_length; /* 0 if none */
	struct http_span method_name;
	struct http_span path; /* raw, still percent-encoded; of an absolute-form
	                          target its path; "*" for OPTIONS *; the authority of CONNECT,
	                          whose method is unknown */
	struct http_span
	    query; /* raw, after '?', without it; length 0 with another at: "?" alone */
	struct http_span field[HTTP_KNOWN_FIELDS]; /* without surrounding whitespace; the
	                              first line's value if a field is repeated (see .repeated).
	                              HTTP_HOST is the target's authority if it has one */
	uint32_t repeated;    /* bit (1 << enum http_field): the field came more than once */
	uint32_t head_length; /* bytes up to and with the empty line: the body's offset */

	/* result of http_parse_body, growing while it says HTTP_MORE */
	uint64_t body_length; /* decoded bytes, at head_length */

	/* set with HTTP_REFUSED; both are string constants, never NULL then */
	uint16_t status;    /* 400, 413, 414, 417, 431, 501, 505 */
	const char *reason; /* stable word, e.g. "bad_request_line" */
	const char *detail; /* one sentence for a person */

	/* the parser's own */
	uint32_t scanned;   /* bytes searched for the end of the current line */
	uint32_t line;      /* offset of the current line of the head */
	uint32_t fields_at; /* offset of the first field line */
	uint32_t dropped;   /* bytes of chunk extensions, then of trailer fields */
	uint16_t fields;    /* lines so far, of the head, then of the trailer */
	uint8_t state;
	uint8_t seen; /* bits: Host, Content-Length, Transfer-Encoding, ... */
	uint64_t chunk_left;
};

/* Makes REQUEST ready for the first byte of a request. */
void http_request_init(struct http_request *request);

/*
 * Reads the request line and the fields from BUFFER[0..LENGTH).  HTTP_DONE once
 * the empty line is there, and again if called again.  Limits are those above.
 * An unknown method of up to HTTP_METHOD_MAX bytes is not refused here (the caller
 * answers 501 after framing is known); everything that leaves the framing in doubt is.
 * Reasons: bad_request_line, bad_target, bad_version (400 or 505), unknown_method,
 * request_line_too_long, bare_line_end, bad_field, folded_field, too_many_fields,
 * fields_too_large, bad_host, missing_host, repeated_host, bad_content_length,
 * ambiguous_length, bad_transfer_encoding, unknown_transfer_encoding,
 * unknown_expectation.
 */
enum http_progress http_parse_head(struct http_request *request, const char *buffer, size_t length);

/*
 * A client that keeps its connection sends the same head again and again.  LAST is a request that
 * http_parse_head has read, whose body may have been read since, and HEAD its first byte, where its
 * head still stands.  If BUFFER[0..LENGTH) begins with the same bytes, *REQUEST becomes what
 * http_parse_head would make of it, which looks at nothing else: true.  Else false, and *REQUEST is
 * unchanged.
 */
bool http_head_again(struct http_request *request, const struct http_request *last,
                     const char *head, const char *buffer, size_t length);

/*
 * After http_parse_head: takes the body.  Chunked coding is removed in place:
 * on return BUFFER is head, decoded body, then what has not been looked at yet,
 * and *LENGTH has shrunk accordingly.  HTTP_DONE once the body is complete (at
 * once if there is none): the next request begins at head_length + body_length.
 * A body over BODY_MAX bytes is refused with 413 (body_too_large), by its
 * Content-Length or its chunk's size before any of that is read.  Chunk extensions and
 * trailer fields are checked and dropped; the trailer's limits are those of the head.
 * *LENGTH is at least head_length + body_length, and what was there before is unchanged.
 * Further reasons: bad_chunk, and for the trailer those of fields.
 */
enum http_progress http_parse_body(struct http_request *request, char *buffer, size_t *length,
                                   uint64_t body_max);

/*
 * After http_parse_head, instead of http_parse_body: a body of any length that is never held
 * whole.  BYTES[0..*DECODED) is what earlier calls decoded and the caller still holds, 0 at first;
 * behind it, up to *LENGTH, is what has arrived since (raw).  Decodes all of that in place:
 * *DECODED grows, *LENGTH shrinks by the framing that was taken out.  The caller takes as many
 * decoded bytes from the front as it likes between calls, and moves BYTES as it likes. HTTP_MORE:
 * what is behind *DECODED is the unfinished beginning of a line of framing, at most HTTP_HEAD_MAX
 * bytes.  HTTP_DONE: the body is complete, what is behind *DECODED is the next request.
 * HTTP_REFUSED: what is behind *DECODED cannot be read; what is before was good. As strict as
 * http_parse_body, but without its limits on the whole: chunk extensions may take
 * HTTP_EXTENSIONS_MAX bytes more than the data.  request->body_length counts what was decoded.
 */
enum http_progress http_body_next(struct http_request *request, char *bytes, size_t *length,
                                  size_t *decoded);

/*
 * Has the whole body of REQUEST arrived, of which nothing was read yet, and something behind it?
 * BYTES[0..LENGTH) are what has arrived behind the head; they are only looked at.
 */
bool http_body_is_followed(const struct http_request *request, char *bytes, size_t length);

/*
 * Percent-decodes SOURCE[0..LENGTH) into TARGET (CAPACITY bytes; may equal SOURCE;
 * not NUL-terminated).  Returns the decoded length, or -1 on a bad escape, a NUL,
 * or if it does not fit.  '+' stays '+': paths, not forms (RFC 3986 2.1).
 */
long http_percent_decode(char *target, size_t capacity, const char *source, size_t length);

/*
 * Finds the parameter NAME in QUERY ("a=1&b=2", raw) and decodes its value into
 * TARGET.  Returns its length, -1 if it is absent, -2 if it is malformed, too
 * long, or given twice.  Its name may be percent-encoded as well; without '=' its
 * value is empty.
 */
long http_query(const char *query, size_t length, const char *name, char *target, size_t capacity);

/* Does the comma-separated list VALUE[0..LENGTH) hold TOKEN, ignoring ASCII case (RFC 9110 5.6.1)?
 */
bool http_list_has(const char *value, size_t length, const char *token);

/* An entity tag (RFC 9110 8.8.3): what is between its quotes, borrowed from the field's value. */
struct http_etag {
	const char *tag;
	size_t length;
	bool weak;
};

#define HTTP_ETAGS_MAX 16 /* entity tags of one field; more are malformed */

enum http_etags {
	HTTP_ETAGS_MALFORMED,
	HTTP_ETAGS_ANY, /* "*" */
	HTTP_ETAGS_LIST,
};

/*
 * Reads the value of If-Match or If-None-Match (RFC 9110 13.1.1 and 13.1.2): "*", or a list of one
 * to HTTP_ETAGS_MAX entity tags into TAGS, their number in *COUNT.  Empty elements are skipped
 * (5.6.1.2).  If-Match compares strongly: a weak tag matches nothing; If-None-Match weakly.
 */
enum http_etags http_etag_list(const char *value, size_t length,
                               struct http_etag tags[HTTP_ETAGS_MAX], size_t *count);

/* Is TAG one that this service makes: a version, in decimal without leading zeros?  Sets *VERSION.
 * Its weakness is not looked at. */
bool http_etag_version(const struct http_etag *tag, uint64_t *version);

/*
 * Does If-None-Match (VALUE) name VERSION, compared weakly?  "*" does.  A malformed value names
 * nothing: the answer is then what it is without the field.
 */
bool http_etag_names(const char *value, size_t length, uint64_t version);

/*
 * The value of an Idempotency-Key, bare or a quoted string (RFC 8941 3.3.3, without parameters),
 * into TARGET (CAPACITY bytes; may equal VALUE; not NUL-terminated).  Returns its length, at least
 * 1, or -1 if it is malformed, empty or does not fit.  Its characters are '!' to '~', and in
 * quotes space.
 */
long http_idempotency_key(char *target, size_t capacity, const char *value, size_t length);

/*
 * The weight that Accept (VALUE) gives to the media type TYPE ("application/problem+json") by its
 * name, in thousandths: 1 to 1000; 0 if it is not named, or with "q=0" (RFC 9110 12.5.1).  Ranges
 * such as "*" name nothing: they mean the answer that is given anyway.
 */
unsigned http_accepts(const char *value, size_t length, const char *type);

#endif
