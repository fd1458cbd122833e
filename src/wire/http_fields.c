/*
 * The values of single fields, taken apart: entity tags (RFC 9110 8.8.3), Idempotency-Key, and
 * what Accept says of a media type (RFC 9110 12.5.1).
 */
#include "http_parts.h"

#include <string.h>

/* Thousandths of a weight: three digits behind the point at most. */
#define WEIGHT_WHOLE 1000

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t';
}

static size_t blanks(const char *text, size_t length)
{
	size_t n = 0;

	while (n < length && is_blank(text[n]))
		n++;
	return n;
}

/* etagc: %x21 / %x23-7E / obs-text (RFC 9110 8.8.3). */
static bool is_etag_byte(char byte)
{
	unsigned char code = (unsigned char)byte;

	return code == 0x21 || (code >= 0x23 && code != 0x7f);
}

/* Reads the entity tag that TEXT begins with into *TAG; returns the bytes it takes, 0: none. */
static size_t read_etag(const char *text, size_t length, struct http_etag *tag)
{
	size_t at = 0;
	size_t from;

	tag->weak = length >= 2 && text[0] == 'W' && text[1] == '/';
	at += tag->weak ? 2 : 0;
	if (at == length || text[at++] != '"')
		return 0;
	from = at;
	while (at < length && is_etag_byte(text[at]))
		at++;
	if (at == length || text[at] != '"')
		return 0;
	tag->tag = text + from;
	tag->length = at - from;
	return at + 1;
}

enum http_etags http_etag_list(const char *value, size_t length,
                               struct http_etag tags[HTTP_ETAGS_MAX], size_t *count)
{
	bool separated = true;

	*count = 0;
	if (length == 1 && value[0] == '*')
		return HTTP_ETAGS_ANY;
	for (size_t at = blanks(value, length); at < length;
	     at += blanks(value + at, length - at)) {
		if (value[at] == ',') {
			separated = true;
			at++;
			continue;
		}
		if (!separated || *count == HTTP_ETAGS_MAX)
			return HTTP_ETAGS_MALFORMED;
		size_t taken = read_etag(value + at, length - at, &tags[*count]);

		if (taken == 0)
			return HTTP_ETAGS_MALFORMED;
		separated = false;
		(*count)++;
		at += taken;
	}
	return *count > 0 ? HTTP_ETAGS_LIST : HTTP_ETAGS_MALFORMED;
}

bool http_etag_version(const struct http_etag *tag, uint64_t *version)
{
	uint64_t value = 0;

	if (tag->length == 0 || (tag->tag[0] == '0' && tag->length > 1))
		return false;
	for (size_t i = 0; i < tag->length; i++) {
		if (!http_is(tag->tag[i], HTTP_DIGIT) ||
		    __builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(tag->tag[i] - '0'), &value))
			return false;
	}
	*version = value;
	return true;
}

bool http_etag_names(const char *value, size_t length, uint64_t version)
{
	struct http_etag tags[HTTP_ETAGS_MAX];
	size_t count;
	uint64_t named;

	switch (http_etag_list(value, length, tags, &count)) {
	case HTTP_ETAGS_MALFORMED:
		return false;
	case HTTP_ETAGS_ANY:
		return true;
	case HTTP_ETAGS_LIST:
		break;
	}
	for (size_t i = 0; i < count; i++) {
		if (http_etag_version(&tags[i], &named) && named == version)
			return true;
	}
	return false;
}

/* Behind the opening quote: the string up to the closing one, which must end VALUE. */
static long unquote(char *target, size_t capacity, const char *value, size_t length)
{
	size_t written = 0;

	for (size_t i = 0; i < length; i++) {
		char byte = value[i];

		if (byte == '"')
			return i + 1 == length && written > 0 ? (long)written : -1;
		if (byte == '\\' && (++i == length || ((byte = value[i]) != '"' && byte != '\\')))
			return -1;
		if (byte < ' ' || byte > '~' || written == capacity)
			return -1;
		target[written++] = byte;
	}
	return -1;
}

long http_idempotency_key(char *target, size_t capacity, const char *value, size_t length)
{
	if (length > 0 && value[0] == '"')
		return unquote(target, capacity, value + 1, length - 1);
	if (length == 0 || length > capacity)
		return -1;
	for (size_t i = 0; i < length; i++) {
		if (value[i] < '!' || value[i] > '~')
			return -1;
	}
	memmove(target, value, length);
	return (long)length;
}

/* The end of the element of a list that begins at AT: a comma outside of quotes, or LENGTH. */
static size_t element_end(const char *value, size_t at, size_t length)
{
	bool quoted = false;

	for (; at < length && (quoted || value[at] != ','); at++) {
		if (quoted && value[at] == '\\' && at + 1 < length)
			at++;
		else if (value[at] == '"')
			quoted = !quoted;
	}
	return at;
}

/* qvalue of RFC 9110 12.4.2 in thousandths; 0 if it is none. */
static unsigned weight_of(const char *text, size_t length)
{
	unsigned weight;
	unsigned digit = WEIGHT_WHOLE / 10;

	if (length == 0 || length > 5 || (text[0] != '0' && text[0] != '1') ||
	    (length > 1 && text[1] != '.'))
		return 0;
	weight = text[0] == '1' ? WEIGHT_WHOLE : 0;
	for (size_t i = 2; i < length; i++, digit /= 10) {
		if (!http_is(text[i], HTTP_DIGIT))
			return 0;
		weight += digit * (unsigned)(text[i] - '0');
	}
	return weight <= WEIGHT_WHOLE ? weight : 0;
}

/* The weight that PARAMETERS (";charset=utf-8; q=0.5") end with; without one, the whole. */
static unsigned weight_in(const char *parameters, size_t length)
{
	for (size_t at = 0; at < length;) {
		const char *next = memchr(parameters + at + 1, ';', length - at - 1);
		size_t end = next == NULL ? length : (size_t)(next - parameters);
		size_t from = at + 1;
		size_t to = end;

		from += blanks(parameters + from, to - from);
		while (to > from && is_blank(parameters[to - 1]))
			to--;
		if (to - from >= 2 && (parameters[from] | 0x20) == 'q' &&
		    parameters[from + 1] == '=')
			return weight_of(parameters + from + 2, to - from - 2);
		at = end;
	}
	return WEIGHT_WHOLE;
}

unsigned http_accepts(const char *value, size_t length, const char *type)
{
	size_t wanted = strlen(type);

	for (size_t at = 0; at < length; at++) {
		size_t end = element_end(value, at, length);
		size_t from = at + blanks(value + at, end - at);
		const char *semicolon = memchr(value + from, ';', end - from);
		size_t name = semicolon == NULL ? end : (size_t)(semicolon - value);
		size_t to = name;

		while (to > from && is_blank(value[to - 1]))
			to--;
		if (to - from == wanted && http_equals(value + from, wanted, type))
			return weight_in(value + name, end - name);
		at = end;
	}
	return 0;
}
