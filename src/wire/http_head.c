/*
 * The head of a request: request line and fields (RFC 9112 2 to 6).
 */
#include "http_parts.h"

#include <string.h>

#define VERSION_LENGTH 8 /* "HTTP/1.1" */

/* Fields that frame the message or steer the connection; they follow those of http.h. */
enum framing_field {
	CONNECTION = HTTP_KNOWN_FIELDS,
	CONTENT_LENGTH,
	EXPECT,
	TRANSFER_ENCODING,
	OTHER_FIELD,
};

struct known_field {
	const char *name;
	int field;
};

#define FIELD_NAME_MAX    30 /* bytes of the longest name in the table */
#define NAMES_OF_A_LENGTH 4  /* the last entry is empty: it ends the row */

/* By length of the name, so that most other fields are told apart without a comparison. */
static const struct known_field known_fields[FIELD_NAME_MAX + 1][NAMES_OF_A_LENGTH] = {
    [4] = {{"host", HTTP_HOST}},
    [6] = {{"accept", HTTP_ACCEPT}, {"expect", EXPECT}, {"origin", HTTP_ORIGIN}},
    [7] = {{"referer", HTTP_REFERER}},
    [8] = {{"if-match", HTTP_IF_MATCH}},
    [10] = {{"connection", CONNECTION}, {"user-agent", HTTP_USER_AGENT}},
    [12] = {{"content-type", HTTP_CONTENT_TYPE}},
    [13] = {{"authorization", HTTP_AUTHORIZATION},
            {"if-none-match", HTTP_IF_NONE_MATCH},
            {"last-event-id", HTTP_LAST_EVENT_ID}},
    [14] = {{"content-length", CONTENT_LENGTH}},
    [15] = {{"idempotency-key", HTTP_IDEMPOTENCY_KEY}},
    [17] = {{"transfer-encoding", TRANSFER_ENCODING}},
    [29] = {{"access-control-request-method", HTTP_ACCESS_CONTROL_REQUEST_METHOD}},
    [30] = {{"access-control-request-headers", HTTP_ACCESS_CONTROL_REQUEST_HEADERS}},
};

void http_request_init(struct http_request *request)
{
	memset(request, 0, sizeof(*request));
}

/* Methods are case-sensitive (RFC 9110 9.1). */
static enum http_method method_of(const char *name, size_t length)
{
	static const struct {
		const char *name;
		size_t length;
		enum http_method method;
	} methods[] = {
	    {"POST", 4, HTTP_POST},       {"GET", 3, HTTP_GET},     {"PUT", 3, HTTP_PUT},
	    {"HEAD", 4, HTTP_HEAD},       {"PATCH", 5, HTTP_PATCH}, {"DELETE", 6, HTTP_DELETE},
	    {"OPTIONS", 7, HTTP_OPTIONS},
	};

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (length == methods[i].length && memcmp(name, methods[i].name, length) == 0)
			return methods[i].method;
	}
	return HTTP_UNKNOWN_METHOD;
}

static enum http_progress read_version(struct http_request *request, const char *version,
                                       size_t length)
{
	if (length != VERSION_LENGTH || memcmp(version, "HTTP/", 5) != 0 ||
	    !http_is(version[5], HTTP_DIGIT) || version[6] != '.' ||
	    !http_is(version[7], HTTP_DIGIT))
		return http_refuse(request, 400, "bad_version",
		                   "The request line does not end in HTTP/1.0 or HTTP/1.1.");
	if (version[5] != '1' || version[7] > '1')
		return http_refuse(request, 505, "bad_version",
		                   "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
	request->minor = (uint8_t)(version[7] - '0');
	return HTTP_DONE;
}

static enum http_progress refuse_method(struct http_request *request)
{
	return http_refuse(request, 501, "unknown_method",
	                   "The method's name is longer than any that is known.");
}

static enum http_progress refuse_request_line(struct http_request *request)
{
	return http_refuse(request, 400, "bad_request_line",
	                   "The request line is not a method, a target and a version with one "
	                   "space between them.");
}

/* RFC 9112 3. */
static enum http_progress take_request_line(struct http_request *request, const char *buffer,
                                            size_t length)
{
	const char *line = buffer + request->line;
	size_t method = http_span_of(line, length, HTTP_TOKEN);

	if (method > HTTP_METHOD_MAX)
		return refuse_method(request);
	if (method == 0 || method == length || line[method] != ' ')
		return refuse_request_line(request);
	const char *target = line + method + 1;
	const char *space = memchr(target, ' ', length - method - 1);

	if (space == NULL || space == target)
		return refuse_request_line(request);
	const char *version = space + 1;

	if (read_version(request, version, (size_t)(line + length - version)) == HTTP_REFUSED)
		return HTTP_REFUSED;
	request->method = method_of(line, method);
	request->method_name = (struct http_span){request->line, (uint32_t)method};
	return http_target_read(request, buffer, (size_t)(target - buffer),
	                        (size_t)(space - target));
}

static int field_of(const char *name, size_t length)
{
	if (length > FIELD_NAME_MAX)
		return OTHER_FIELD;
	for (const struct known_field *known = known_fields[length]; known->name != NULL; known++) {
		if (http_equals(name, length, known->name))
			return known->field;
	}
	return OTHER_FIELD;
}

static enum http_progress refuse_both(struct http_request *request)
{
	return http_refuse(request, 400, "ambiguous_length",
	                   "Content-Length and Transfer-Encoding were both given.");
}

/* RFC 9112 6.2 and 6.3: stricter than it, any repetition is refused. */
static enum http_progress take_content_length(struct http_request *request, const char *value,
                                              size_t length)
{
	if (request->seen & HTTP_SEEN_CODING)
		return refuse_both(request);
	if (request->seen & HTTP_SEEN_LENGTH)
		return http_refuse(request, 400, "ambiguous_length",
		                   "Content-Length was given more than once.");
	if (length == 0 || length > HTTP_LENGTH_DIGITS_MAX ||
	    http_span_of(value, length, HTTP_DIGIT) != length)
		return http_refuse(request, 400, "bad_content_length",
		                   "Content-Length is not 1 to 18 decimal digits.");
	request->seen |= HTTP_SEEN_LENGTH;
	request->has_length = true;
	for (size_t i = 0; i < length; i++)
		request->content_length = request->content_length * 10 + (uint64_t)(value[i] - '0');
	return HTTP_DONE;
}

/* RFC 9112 6.1. */
static enum http_progress take_transfer_encoding(struct http_request *request, const char *value,
                                                 size_t length)
{
	if (request->minor == 0)
		return http_refuse(request, 400, "bad_transfer_encoding",
		                   "HTTP/1.0 has no Transfer-Encoding.");
	if (request->seen & HTTP_SEEN_LENGTH)
		return refuse_both(request);
	if (request->seen & HTTP_SEEN_CODING)
		return http_refuse(request, 400, "bad_transfer_encoding",
		                   "Transfer-Encoding was given more than once.");
	if (length != strlen("chunked") || !http_equals(value, length, "chunked"))
		return http_refuse(request, 501, "unknown_transfer_encoding",
		                   "The one transfer coding known here is chunked.");
	request->seen |= HTTP_SEEN_CODING;
	request->chunked = true;
	return HTTP_DONE;
}

/* RFC 9112 3.2: exactly one; it may be empty only where the target names no authority. */
static enum http_progress take_host(struct http_request *request, const char *value, size_t length)
{
	if (request->seen & HTTP_SEEN_HOST)
		return http_refuse(request, 400, "repeated_host", "Host was given more than once.");
	if (length == 0 ? (request->seen & HTTP_SEEN_AUTHORITY) != 0
	                : !http_host_valid(value, length))
		return http_refuse(request, 400, "bad_host", "Host is not host [ \":\" port ].");
	request->seen |= HTTP_SEEN_HOST;
	return HTTP_DONE;
}

static enum http_progress take_connection(struct http_request *request, const char *value,
                                          size_t length)
{
	if (http_list_has(value, length, "close"))
		request->seen |= HTTP_SEEN_CLOSE;
	else if (http_list_has(value, length, "keep-alive"))
		request->seen |= HTTP_SEEN_KEEP_ALIVE;
	return HTTP_DONE;
}

static enum http_progress take_expect(struct http_request *request, const char *value,
                                      size_t length)
{
	if (length != strlen("100-continue") || !http_equals(value, length, "100-continue"))
		return http_refuse(request, 417, "unknown_expectation",
		                   "The one expectation known here is 100-continue.");
	request->seen |= HTTP_SEEN_EXPECT;
	return HTTP_DONE;
}

static void keep(struct http_request *request, int field, size_t at, size_t length)
{
	if (request->field[field].at != 0)
		request->repeated |= UINT32_C(1) << field;
	else
		request->field[field] = (struct http_span){(uint32_t)at, (uint32_t)length};
}

static enum http_progress take_field(struct http_request *request, const char *buffer,
                                     size_t length)
{
	const char *line = buffer + request->line;
	struct http_field_parts parts;

	if (request->fields++ == HTTP_FIELDS_MAX)
		return http_refuse(request, 431, "too_many_fields",
		                   "The request has more than 64 fields.");
	if (http_field_split(request, line, length, &parts) == HTTP_REFUSED)
		return HTTP_REFUSED;
	const char *value = line + parts.value;
	int field = field_of(line, parts.name_length);

	switch (field) {
	case OTHER_FIELD:
		return HTTP_DONE;
	case CONTENT_LENGTH:
		return take_content_length(request, value, parts.value_length);
	case TRANSFER_ENCODING:
		return take_transfer_encoding(request, value, parts.value_length);
	case CONNECTION:
		return take_connection(request, value, parts.value_length);
	case EXPECT:
		return take_expect(request, value, parts.value_length);
	case HTTP_HOST:
		if (take_host(request, value, parts.value_length) == HTTP_REFUSED)
			return HTTP_REFUSED;
		if (request->seen & HTTP_SEEN_AUTHORITY)
			return HTTP_DONE;
		break;
	}
	keep(request, field, request->line + parts.value, parts.value_length);
	return HTTP_DONE;
}

static void begin_body(struct http_request *request)
{
	request->body_length = 0;
	request->chunk_left = 0;
	request->dropped = 0;
	request->fields = 0;
	request->scanned = 0;
	request->state = request->chunked ? HTTP_STATE_CHUNK_SIZE : HTTP_STATE_LENGTH;
}

/* The empty line is there: what only the whole head can tell. */
static enum http_progress finish_head(struct http_request *request)
{
	bool body = request->chunked || request->content_length > 0;
	bool asked = (request->seen & HTTP_SEEN_KEEP_ALIVE) != 0;

	if (request->minor == 1 && !(request->seen & HTTP_SEEN_HOST))
		return http_refuse(request, 400, "missing_host",
		                   "An HTTP/1.1 request has a Host field.");
	request->keep_alive = !(request->seen & HTTP_SEEN_CLOSE) && (request->minor == 1 || asked);
	request->expect_continue =
	    request->minor == 1 && body && (request->seen & HTTP_SEEN_EXPECT);
	request->head_length = request->line + 2;
	begin_body(request);
	return HTTP_DONE;
}

static enum http_progress take_line(struct http_request *request, const char *buffer, size_t length)
{
	if (request->state == HTTP_STATE_FIELDS)
		return length == 0 ? finish_head(request) : take_field(request, buffer, length);
	if (length > 0) {
		request->state = HTTP_STATE_FIELDS;
		request->fields_at = request->line + (uint32_t)length + 2;
		return take_request_line(request, buffer, length);
	}
	/* The lines before were empty as well: two bytes each. */
	if (request->line == 2 * HTTP_LEADING_CRLF_MAX)
		return http_refuse(request, 400, "bad_request_line",
		                   "More than two empty lines before the request line.");
	return HTTP_DONE;
}

/* How many bytes the current line may have, without its CRLF. */
static size_t line_limit(const struct http_request *request)
{
	size_t used = request->line - request->fields_at + 2;

	if (request->state == HTTP_STATE_REQUEST_LINE)
		return HTTP_REQUEST_LINE_MAX;
	return used < HTTP_HEAD_MAX ? HTTP_HEAD_MAX - used : 0;
}

static enum http_progress refuse_long(struct http_request *request, const char *buffer)
{
	if (request->state == HTTP_STATE_FIELDS)
		return http_refuse(request, 431, "fields_too_large",
		                   "The request's fields take more than 16 KiB.");
	if (http_span_of(buffer + request->line, HTTP_METHOD_MAX + 1, HTTP_TOKEN) > HTTP_METHOD_MAX)
		return refuse_method(request);
	return http_refuse(request, 414, "request_line_too_long",
	                   "The request line takes more than 8 KiB.");
}

/* Reads one line, if it is there. */
static enum http_progress next_line(struct http_request *request, const char *buffer, size_t length)
{
	const char *line = buffer + request->line;
	size_t size;

	switch (http_line_find(line, length - request->line, line_limit(request), &request->scanned,
	                       &size)) {
	case HTTP_LINE_MORE:
		return HTTP_MORE;
	case HTTP_LINE_LONG:
		return refuse_long(request, buffer);
	case HTTP_LINE_BARE:
		return http_refuse_bare(request);
	case HTTP_LINE_WHOLE:
		break;
	}
	/* An LF in the line makes it two lines, whatever else is wrong with them. */
	if (take_line(request, buffer, size) == HTTP_REFUSED)
		return memchr(line, '\n', size) != NULL ? http_refuse_bare(request) : HTTP_REFUSED;
	request->line += (uint32_t)size + 2;
	request->scanned = 0;
	return HTTP_DONE;
}

enum http_progress http_parse_head(struct http_request *request, const char *buffer, size_t length)
{
	while (request->state <= HTTP_STATE_FIELDS) {
		enum http_progress progress = next_line(request, buffer, length);

		if (progress != HTTP_DONE)
			return progress;
	}
	return request->state == HTTP_STATE_REFUSED ? HTTP_REFUSED : HTTP_DONE;
}

bool http_head_again(struct http_request *request, const struct http_request *last,
                     const char *head, const char *buffer, size_t length)
{
	if (last->head_length == 0 || length < last->head_length ||
	    memcmp(head, buffer, last->head_length) != 0)
		return false;
	*request = *last;
	begin_body(request);
	return true;
}
