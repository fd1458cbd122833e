/*
 * The body of a request: by its length, or chunked (RFC 9112 6 and 7.1).
 */
#include "http_parts.h"

#include <string.h>

/* Chunks are undone in place: what was decoded ends at WRITE, what is still raw begins at READ. */
struct chunks {
	char *buffer;
	size_t write;
	size_t read;
	size_t end;
	uint64_t body_max;
	bool endless; /* what came before is forgotten, its extensions as well */
	bool looks;   /* nothing is moved */
};

static enum http_progress refuse_chunk(struct http_request *request, const char *detail)
{
	return http_refuse(request, 400, "bad_chunk", detail);
}

static enum http_progress refuse_large(struct http_request *request)
{
	return http_refuse(request, 413, "body_too_large",
	                   "The body is larger than this service takes.");
}

static enum http_progress take_length(struct http_request *request, size_t length,
                                      uint64_t body_max)
{
	uint64_t here = length - request->head_length;

	if (request->content_length > body_max)
		return refuse_large(request);
	if (here < request->content_length) {
		request->body_length = here;
		return HTTP_MORE;
	}
	request->body_length = request->content_length;
	request->state = HTTP_STATE_DONE;
	return HTTP_DONE;
}

/*
 * The length of the quoted string that TEXT begins with, quotes included; 0 if there is none
 * (RFC 9110 5.6.4).
 */
static size_t quoted_length(const char *text, size_t length)
{
	if (length == 0 || text[0] != '"')
		return 0;
	for (size_t i = 1; i < length; i++) {
		if (text[i] == '"')
			return i + 1;
		if (text[i] == '\\')
			i++;
		if (i == length || !http_is(text[i], HTTP_VALUE))
			return 0;
	}
	return 0;
}

/* *( ";" token [ "=" ( token / quoted-string ) ] ), and no whitespace: RFC 9112 7.1.1. */
static bool extensions_valid(const char *text, size_t length)
{
	for (size_t i = 0; i < length;) {
		if (text[i++] != ';')
			return false;
		size_t name = http_span_of(text + i, length - i, HTTP_TOKEN);

		i += name;
		if (name == 0)
			return false;
		if (i == length || text[i] != '=')
			continue;
		i++;
		size_t value = http_span_of(text + i, length - i, HTTP_TOKEN);

		if (value == 0)
			value = quoted_length(text + i, length - i);
		i += value;
		if (value == 0)
			return false;
	}
	return true;
}

/* LINE is a chunk's size and its extensions. */
static enum http_progress take_size(struct http_request *request, const char *line, size_t length,
                                    const struct chunks *chunks)
{
	size_t digits = http_span_of(line, length, HTTP_HEX);
	uint64_t size = 0;

	if (digits == 0 || digits > HTTP_CHUNK_DIGITS_MAX)
		return refuse_chunk(request, "A chunk's size is not 1 to 16 hexadecimal digits.");
	if (!extensions_valid(line + digits, length - digits))
		return refuse_chunk(request, "A chunk's size is followed by what is no extension.");
	request->dropped += (uint32_t)(length - digits);
	if (request->dropped > HTTP_EXTENSIONS_MAX)
		return refuse_chunk(request, "The body has more than 4 KiB of chunk extensions.");
	for (size_t i = 0; i < digits; i++)
		size = size << 4 | http_hex(line[i]);
	if (request->body_length > chunks->body_max ||
	    size > chunks->body_max - request->body_length)
		return refuse_large(request);
	/* Data pays for extensions: else a body without an end could have none after a while. */
	if (chunks->endless)
		request->dropped = size < request->dropped ? request->dropped - (uint32_t)size : 0;
	request->chunk_left = size;
	request->state = size > 0 ? HTTP_STATE_CHUNK_DATA : HTTP_STATE_TRAILER;
	if (size == 0)
		request->dropped = 0;
	return HTTP_DONE;
}

static enum http_progress size_step(struct http_request *request, struct chunks *chunks)
{
	const char *line = chunks->buffer + chunks->read;
	size_t length;

	switch (http_line_find(line, chunks->end - chunks->read, HTTP_CHUNK_LINE_MAX,
	                       &request->scanned, &length)) {
	case HTTP_LINE_MORE:
		return HTTP_MORE;
	case HTTP_LINE_LONG:
		return refuse_chunk(request, "A chunk's size and extensions exceed 256 bytes.");
	case HTTP_LINE_BARE:
		return http_refuse_bare(request);
	case HTTP_LINE_WHOLE:
		break;
	}
	if (take_size(request, line, length, chunks) == HTTP_REFUSED)
		return memchr(line, '\n', length) != NULL ? http_refuse_bare(request)
		                                          : HTTP_REFUSED;
	request->scanned = 0;
	chunks->read += length + 2;
	return HTTP_DONE;
}

static enum http_progress data_step(struct http_request *request, struct chunks *chunks)
{
	size_t here = chunks->end - chunks->read;
	size_t taken = request->chunk_left < here ? (size_t)request->chunk_left : here;

	if (!chunks->looks)
		memmove(chunks->buffer + chunks->write, chunks->buffer + chunks->read, taken);
	chunks->write += taken;
	chunks->read += taken;
	request->body_length += taken;
	request->chunk_left -= taken;
	if (request->chunk_left > 0)
		return HTTP_MORE;
	request->state = HTTP_STATE_CHUNK_END;
	return HTTP_DONE;
}

static enum http_progress end_step(struct http_request *request, struct chunks *chunks)
{
	const char *end = chunks->buffer + chunks->read;
	size_t here = chunks->end - chunks->read;

	if ((here > 0 && end[0] != '\r') || (here > 1 && end[1] != '\n'))
		return refuse_chunk(request, "A chunk's data is not followed by CR LF.");
	if (here < 2)
		return HTTP_MORE;
	chunks->read += 2;
	request->state = HTTP_STATE_CHUNK_SIZE;
	return HTTP_DONE;
}

static enum http_progress take_trailer(struct http_request *request, const char *line,
                                       size_t length)
{
	struct http_field_parts ignored;

	if (length == 0) {
		request->state = HTTP_STATE_DONE;
		return HTTP_DONE;
	}
	if (request->fields++ == HTTP_FIELDS_MAX)
		return http_refuse(request, 431, "too_many_fields",
		                   "The request's trailer has more than 64 fields.");
	request->dropped += (uint32_t)length + 2;
	return http_field_split(request, line, length, &ignored);
}

static enum http_progress trailer_step(struct http_request *request, struct chunks *chunks)
{
	const char *line = chunks->buffer + chunks->read;
	size_t used = request->dropped + 2;
	size_t limit = used < HTTP_HEAD_MAX ? HTTP_HEAD_MAX - used : 0;
	size_t length;

	switch (
	    http_line_find(line, chunks->end - chunks->read, limit, &request->scanned, &length)) {
	case HTTP_LINE_MORE:
		return HTTP_MORE;
	case HTTP_LINE_LONG:
		return http_refuse(request, 431, "fields_too_large",
		                   "The request's trailer takes more than 16 KiB.");
	case HTTP_LINE_BARE:
		return http_refuse_bare(request);
	case HTTP_LINE_WHOLE:
		break;
	}
	if (take_trailer(request, line, length) == HTTP_REFUSED)
		return memchr(line, '\n', length) != NULL ? http_refuse_bare(request)
		                                          : HTTP_REFUSED;
	request->scanned = 0;
	chunks->read += length + 2;
	return HTTP_DONE;
}

static enum http_progress step(struct http_request *request, struct chunks *chunks)
{
	switch (request->state) {
	case HTTP_STATE_CHUNK_SIZE:
		return size_step(request, chunks);
	case HTTP_STATE_CHUNK_DATA:
		return data_step(request, chunks);
	case HTTP_STATE_CHUNK_END:
		return end_step(request, chunks);
	default:
		return trailer_step(request, chunks);
	}
}

/* Takes all that is there and closes the gap that the framing leaves. */
static enum http_progress take_chunks(struct http_request *request, struct chunks *chunks)
{
	enum http_progress progress = HTTP_DONE;

	while (progress == HTTP_DONE && request->state != HTTP_STATE_DONE)
		progress = step(request, chunks);
	if (chunks->read != chunks->write && !chunks->looks) {
		memmove(chunks->buffer + chunks->write, chunks->buffer + chunks->read,
		        chunks->end - chunks->read);
		chunks->end -= chunks->read - chunks->write;
	}
	return progress;
}

static enum http_progress take_body_chunks(struct http_request *request, char *buffer,
                                           size_t *length, uint64_t body_max)
{
	size_t start = request->head_length + (size_t)request->body_length;
	struct chunks chunks = {buffer, start, start, *length, body_max, false, false};
	enum http_progress progress = take_chunks(request, &chunks);

	*length = chunks.end;
	return progress;
}

enum http_progress http_parse_body(struct http_request *request, char *buffer, size_t *length,
                                   uint64_t body_max)
{
	switch (request->state) {
	case HTTP_STATE_REFUSED:
		return HTTP_REFUSED;
	case HTTP_STATE_DONE:
		return HTTP_DONE;
	case HTTP_STATE_LENGTH:
		return take_length(request, *length, body_max);
	default:
		return take_body_chunks(request, buffer, length, body_max);
	}
}

static enum http_progress next_of_length(struct http_request *request, size_t length,
                                         size_t *decoded)
{
	uint64_t left = request->content_length - request->body_length;
	size_t here = length - *decoded;
	size_t taken = left < here ? (size_t)left : here;

	*decoded += taken;
	request->body_length += taken;
	if (taken < left)
		return HTTP_MORE;
	request->state = HTTP_STATE_DONE;
	return HTTP_DONE;
}

enum http_progress http_body_next(struct http_request *request, char *bytes, size_t *length,
                                  size_t *decoded)
{
	struct chunks chunks = {bytes, *decoded, *decoded, *length, UINT64_MAX, true, false};
	enum http_progress progress;

	switch (request->state) {
	case HTTP_STATE_REFUSED:
		return HTTP_REFUSED;
	case HTTP_STATE_DONE:
		return HTTP_DONE;
	case HTTP_STATE_LENGTH:
		return next_of_length(request, *length, decoded);
	default:
		progress = take_chunks(request, &chunks);
		*decoded = chunks.write;
		*length = chunks.end;
		return progress;
	}
}

bool http_body_is_followed(const struct http_request *request, char *bytes, size_t length)
{
	struct http_request copy = *request;
	struct chunks chunks = {bytes, 0, 0, length, UINT64_MAX, true, true};

	if (copy.state == HTTP_STATE_DONE)
		return length > 0;
	if (copy.state == HTTP_STATE_LENGTH)
		return length > copy.content_length;
	return take_chunks(&copy, &chunks) == HTTP_DONE && chunks.read < length;
}
