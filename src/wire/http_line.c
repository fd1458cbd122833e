/*
 * Lines of an HTTP message: where one ends, and a field line taken apart.
 */
#include "http_parts.h"

#include <string.h>

#define ALPHA (HTTP_TOKEN | HTTP_TARGET | HTTP_VALUE | HTTP_REGNAME)
#define MARK  (HTTP_TOKEN | HTTP_TARGET | HTTP_VALUE | HTTP_REGNAME)

/* What is not named here is a control byte: of no class. */
const uint8_t http_class[256] = {
    ['\t'] = HTTP_VALUE,
    [' '] = HTTP_VALUE,
    ['!'] = MARK,
    ['"'] = HTTP_VALUE,
    ['#'] = HTTP_TOKEN | HTTP_VALUE,
    ['$'] = MARK,
    ['%'] = HTTP_TOKEN | HTTP_VALUE,
    ['&'] = MARK,
    ['\''] = MARK,
    ['('] = HTTP_TARGET | HTTP_VALUE | HTTP_REGNAME,
    [')'] = HTTP_TARGET | HTTP_VALUE | HTTP_REGNAME,
    ['*'] = MARK,
    ['+'] = MARK,
    [','] = HTTP_TARGET | HTTP_VALUE | HTTP_REGNAME,
    ['-'] = MARK,
    ['.'] = MARK,
    ['/'] = HTTP_TARGET | HTTP_VALUE,
    ['0' ... '9'] = ALPHA | HTTP_HEX | HTTP_DIGIT,
    [':'] = HTTP_TARGET | HTTP_VALUE,
    [';'] = HTTP_TARGET | HTTP_VALUE | HTTP_REGNAME,
    ['<'] = HTTP_VALUE,
    ['='] = HTTP_TARGET | HTTP_VALUE | HTTP_REGNAME,
    ['>'] = HTTP_VALUE,
    ['?'] = HTTP_VALUE,
    ['@'] = HTTP_TARGET | HTTP_VALUE,
    ['A' ... 'F'] = ALPHA | HTTP_HEX,
    ['G' ... 'Z'] = ALPHA,
    ['['] = HTTP_TARGET | HTTP_VALUE,
    ['\\'] = HTTP_VALUE,
    [']'] = HTTP_TARGET | HTTP_VALUE,
    ['^'] = HTTP_TOKEN | HTTP_VALUE,
    ['_'] = MARK,
    ['`'] = HTTP_TOKEN | HTTP_VALUE,
    ['a' ... 'f'] = ALPHA | HTTP_HEX,
    ['g' ... 'z'] = ALPHA,
    ['{'] = HTTP_VALUE,
    ['|'] = HTTP_TOKEN | HTTP_VALUE,
    ['}'] = HTTP_VALUE,
    ['~'] = MARK,
    [0x80 ... 0xff] = HTTP_VALUE,
};

static char fold(char byte)
{
	return byte >= 'A' && byte <= 'Z' ? (char)(byte | 0x20) : byte;
}

bool http_equals(const char *text, size_t length, const char *word)
{
	for (size_t i = 0; i < length; i++) {
		if (fold(text[i]) != fold(word[i]))
			return false;
	}
	return true;
}

enum http_progress http_refuse(struct http_request *request, uint16_t status, const char *reason,
                               const char *detail)
{
	request->status = status;
	request->reason = reason;
	request->detail = detail;
	request->state = HTTP_STATE_REFUSED;
	return HTTP_REFUSED;
}

enum http_progress http_refuse_bare(struct http_request *request)
{
	return http_refuse(request, 400, "bare_line_end",
	                   "A line ends with CR LF; a CR or an LF alone is refused.");
}

static bool holds_lf(const char *line, size_t from, size_t to)
{
	return memchr(line + from, '\n', to - from) != NULL;
}

enum http_line http_line_find(const char *line, size_t available, size_t limit, uint32_t *scanned,
                              size_t *length)
{
	size_t from = *scanned;
	size_t window = available <= limit ? available : limit + 1;
	const char *cr = memchr(line + from, '\r', window - from);
	size_t at = cr == NULL ? window : (size_t)(cr - line);

	if (cr != NULL && at + 1 < available) {
		*length = at;
		return line[at + 1] == '\n' ? HTTP_LINE_WHOLE : HTTP_LINE_BARE;
	}
	if (holds_lf(line, from, at))
		return HTTP_LINE_BARE;
	*scanned = (uint32_t)at;
	return cr == NULL && window > limit ? HTTP_LINE_LONG : HTTP_LINE_MORE;
}

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t';
}

static enum http_progress refuse_name(struct http_request *request, char first, char after)
{
	if (is_blank(first))
		return http_refuse(
		    request, 400, "folded_field",
		    "A field line begins with whitespace; folded lines are refused.");
	if (is_blank(after))
		return http_refuse(request, 400, "bad_field",
		                   "There is whitespace between a field's name and its colon.");
	return http_refuse(request, 400, "bad_field", "A field line is not a token and a colon.");
}

/* Eight bytes at once: is one of them below 0x20, or DEL?  HTAB counts, so ask again then. */
static bool suspicious(const char *bytes)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	const uint64_t tops = ones * 0x80;
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	uint64_t del = word ^ (ones * 0x7f);

	return ((((word - ones * 0x20) & ~word) | ((del - ones) & ~del)) & tops) != 0;
}

static bool value_valid(const char *value, size_t length)
{
	size_t i = 0;

	for (; length - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
		if (suspicious(value + i) &&
		    http_span_of(value + i, sizeof(uint64_t), HTTP_VALUE) != sizeof(uint64_t))
			return false;
	}
	return http_span_of(value + i, length - i, HTTP_VALUE) == length - i;
}

enum http_progress http_field_split(struct http_request *request, const char *line, size_t length,
                                    struct http_field_parts *parts)
{
	size_t name = http_span_of(line, length, HTTP_TOKEN);

	if (name == 0 || name == length || line[name] != ':')
		return refuse_name(request, line[0], name < length ? line[name] : '\0');
	size_t from = name + 1;
	size_t to = length;

	if (!value_valid(line + from, to - from))
		return http_refuse(request, 400, "bad_field",
		                   "A field's value holds a control byte.");
	while (from < to && is_blank(line[from]))
		from++;
	while (from < to && is_blank(line[to - 1]))
		to--;
	*parts = (struct http_field_parts){name, from, to - from};
	return HTTP_DONE;
}
