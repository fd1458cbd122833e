/*
 * What the files of the HTTP parser share; nobody else includes it.
 */
#ifndef TALLYD_WIRE_HTTP_PARTS_H
#define TALLYD_WIRE_HTTP_PARTS_H

#include "http.h"

enum http_state {
	HTTP_STATE_REQUEST_LINE, /* 0: where http_request_init leaves it */
	HTTP_STATE_FIELDS,
	HTTP_STATE_LENGTH, /* the head is done; the body has a length, maybe 0 */
	HTTP_STATE_CHUNK_SIZE,
	HTTP_STATE_CHUNK_DATA,
	HTTP_STATE_CHUNK_END,
	HTTP_STATE_TRAILER,
	HTTP_STATE_DONE,
	HTTP_STATE_REFUSED,
};

enum http_seen {
	HTTP_SEEN_HOST = 1,
	HTTP_SEEN_LENGTH = 2,
	HTTP_SEEN_CODING = 4, /* Transfer-Encoding */
	HTTP_SEEN_CLOSE = 8,
	HTTP_SEEN_KEEP_ALIVE = 16,
	HTTP_SEEN_EXPECT = 32,
	HTTP_SEEN_AUTHORITY = 64, /* the target named the host; the Host field gives way */
};

/* Classes of bytes, bits of http_class[byte]. */
enum http_class_bit {
	HTTP_TOKEN = 1,   /* tchar, RFC 9110 5.6.2 */
	HTTP_TARGET = 2,  /* may stand in a target as it is; '%' and '?' need a look */
	HTTP_VALUE = 4,   /* HTAB, SP, VCHAR, obs-text: RFC 9110 5.5 */
	HTTP_REGNAME = 8, /* unreserved and sub-delims, RFC 3986 3.2.2 */
	HTTP_HEX = 16,
	HTTP_DIGIT = 32,
};

extern const uint8_t http_class[256];

static inline bool http_is(char byte, enum http_class_bit bit)
{
	return (http_class[(unsigned char)byte] & bit) != 0;
}

/* The value of a byte of class HTTP_HEX, 0 to 15. */
static inline unsigned http_hex(char byte)
{
	return http_is(byte, HTTP_DIGIT) ? (unsigned)byte - '0'
	                                 : ((unsigned)byte | 0x20) - 'a' + 10;
}

/* Is it '%' and two hexadecimal digits at TEXT, LEFT bytes being there?  RFC 3986 2.1. */
static inline bool http_is_escape(const char *text, size_t left)
{
	return left >= 3 && text[0] == '%' && http_is(text[1], HTTP_HEX) &&
	       http_is(text[2], HTTP_HEX);
}

/* The number of bytes of class BIT that TEXT[0..LENGTH) begins with. */
static inline size_t http_span_of(const char *text, size_t length, enum http_class_bit bit)
{
	size_t n = 0;

	while (n < length && http_is(text[n], bit))
		n++;
	return n;
}

/*
 * Does TEXT[0..LENGTH) equal WORD[0..LENGTH), ignoring the case of ASCII letters whatever the
 * locale?
 */
bool http_equals(const char *text, size_t length, const char *word);

/*
 * Ends the parsing of REQUEST with STATUS, a stable REASON and a sentence of DETAIL, both
 * string constants.  Returns HTTP_REFUSED.
 */
enum http_progress http_refuse(struct http_request *request, uint16_t status, const char *reason,
                               const char *detail);

/* Refuses a CR or LF that stands alone: 400.  RFC 9112 2.2 lets us be this strict. */
enum http_progress http_refuse_bare(struct http_request *request);

enum http_line {
	HTTP_LINE_MORE, /* its end is not there yet */
	HTTP_LINE_WHOLE,
	HTTP_LINE_LONG, /* it holds more than LIMIT bytes, ended or not */
	HTTP_LINE_BARE, /* a CR or LF stands alone */
};

/*
 * Searches LINE[0..AVAILABLE) for the CRLF after at most LIMIT bytes.  *SCANNED is how many
 * bytes earlier calls for the same line have searched, 0 at first; it is kept up to date.
 * On HTTP_LINE_WHOLE *LENGTH is the line's length without CRLF.  A line found whole may still
 * hold an LF: its bytes are for the reader to check.
 */
enum http_line http_line_find(const char *line, size_t available, size_t limit, uint32_t *scanned,
                              size_t *length);

/* A field line taken apart: offsets within the line. */
struct http_field_parts {
	size_t name_length;  /* the name begins the line */
	size_t value;        /* offset, leading whitespace skipped */
	size_t value_length; /* without trailing whitespace */
};

/*
 * Takes the field line LINE[0..LENGTH) apart, LENGTH over 0, and checks every byte
 * (RFC 9112 5).  HTTP_DONE, or HTTP_REFUSED with REQUEST's status set.
 */
enum http_progress http_field_split(struct http_request *request, const char *line, size_t length,
                                    struct http_field_parts *parts);

/*
 * Reads the request target at BUFFER[AT..AT+LENGTH), LENGTH over 0, with the method known:
 * sets path and query, and the Host field if the target names an authority (RFC 9112 3.2).
 * HTTP_DONE, or HTTP_REFUSED with the status set.
 */
enum http_progress http_target_read(struct http_request *request, const char *buffer, size_t at,
                                    size_t length);

/*
 * Is HOST[0..LENGTH) uri-host [ ":" port ] with a host that is not empty and a port of at most
 * 65535 (RFC 9110 7.2, RFC 3986 3.2)?  An IP literal must be an IPv6 address.
 */
bool http_host_valid(const char *host, size_t length);

#endif
