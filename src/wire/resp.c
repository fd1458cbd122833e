#include "resp.h"

#include <stdio.h>
#include <string.h>

/* --- commands --- */

#define COUNT_DIGITS_MAX 20 /* of a length or a number of arguments */

static enum resp_progress refuse(char *reason, const char *why)
{
	snprintf(reason, RESP_REASON_MAX, "%s", why);
	return RESP_REFUSED;
}

bool resp_integer_of(const char *text, size_t length, int64_t *number)
{
	bool negative = length > 0 && text[0] == '-';
	int64_t value = 0;

	text += negative;
	length -= negative;
	if (length == 0 || length >= TEXT_DECIMAL_MAX ||
	    (text[0] == '0' && (length > 1 || negative)))
		return false;
	for (size_t i = 0; i < length; i++) {
		int digit = text[i] - '0';
		if (digit < 0 || digit > 9 || __builtin_mul_overflow(value, 10, &value))
			return false;
		if (negative ? __builtin_sub_overflow(value, digit, &value)
		             : __builtin_add_overflow(value, digit, &value))
			return false;
	}
	*number = value;
	return true;
}

/*
 * The line at *AT of BYTES, without its CRLF, which *AT then is behind; its length in *LENGTH.
 * NULL: it has not ended.
 */
static const char *take_line(const char *bytes, size_t length, size_t *at, size_t *line_length)
{
	const char *line = bytes + *at;
	const char *end = memchr(line, '\r', length - *at);

	if (end == NULL || (size_t)(end - bytes) + 2 > length)
		return NULL;
	*line_length = (size_t)(end - line);
	*at = (size_t)(end - bytes) + 2;
	return line;
}

/* A number that is to come in a line of its own, and has not yet: is it too long already? */
static enum resp_progress await_number(size_t waiting, char *reason, const char *too_long)
{
	return waiting > COUNT_DIGITS_MAX + 2 ? refuse(reason, too_long) : RESP_MORE;
}

/* The bulk string at *AT. */
static enum resp_progress take_bulk(const char *bytes, size_t length, size_t *at,
                                    struct words *words, char *reason)
{
	size_t start = *at, digits;
	int64_t size;

	if (start == length)
		return RESP_MORE;
	if (bytes[start] != '$') {
		char why[] = "Protocol error: expected '$', got 'x'";
		unsigned char got = (unsigned char)bytes[start];
		why[sizeof(why) - 3] = got >= ' ' && got <= '~' ? (char)got : '?';
		return refuse(reason, why);
	}
	const char *line = take_line(bytes, length, at, &digits);
	if (line == NULL)
		return await_number(length - start, reason,
		                    "Protocol error: too big bulk count string");
	if (!resp_integer_of(line + 1, digits - 1, &size) || size < 0 || size > RESP_COMMAND_MAX)
		return refuse(reason, "Protocol error: invalid bulk length");
	if (length - *at < (size_t)size + 2)
		return RESP_MORE;
	*words = (struct words){bytes + *at, (uint32_t)size};
	*at += (size_t)size + 2;
	if (memcmp(bytes + *at - 2, "\r\n", 2) != 0)
		return refuse(reason, "Protocol error: a bulk string does not end where it should");
	return RESP_DONE;
}

static enum resp_progress read_array(const char *bytes, size_t length, struct resp_command *command,
                                     char *reason)
{
	size_t at = 0, digits;
	int64_t count;
	const char *line = take_line(bytes, length, &at, &digits);

	if (line == NULL)
		return await_number(length, reason, "Protocol error: too big mbulk count string");
	if (!resp_integer_of(line + 1, digits - 1, &count) || count > RESP_ARGUMENTS_MAX)
		return refuse(reason, "Protocol error: invalid multibulk length");
	command->count = 0;
	command->quoted = false;
	for (int64_t i = 0; i < count; i++) {
		enum resp_progress progress =
		    take_bulk(bytes, length, &at, &command->argument[i], reason);
		if (progress == RESP_REFUSED)
			return progress;
		if (at > RESP_COMMAND_MAX || (progress == RESP_MORE && length >= RESP_COMMAND_MAX))
			return refuse(reason, "Protocol error: the command is too long");
		if (progress == RESP_MORE)
			return progress;
		command->count++;
	}
	command->length = at;
	return RESP_DONE;
}

/* --- lines of words, as a person types them --- */

static bool is_space(char byte)
{
	return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static int hexadecimal(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit = (char)(digit | 0x20);
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* What stands for one byte behind a '\' in double quotes, at *AT, which is then behind it. */
static char escaped(const char *at[], const char *end)
{
	static const char *const from = "nrtba", *const to = "\n\r\t\b\a";
	const char *here = *at;
	const char *found;

	if (*here == 'x' && end - here > 2 && hexadecimal(here[1]) >= 0 &&
	    hexadecimal(here[2]) >= 0) {
		*at += 3;
		return (char)(hexadecimal(here[1]) << 4 | hexadecimal(here[2]));
	}
	*at += 1;
	found = strchr(from, *here);
	return *here != '\0' && found != NULL ? to[found - from] : *here;
}

/* Unquotes from *AT, behind QUOTE, to *TO.  False: it does not end, or something sticks to its end.
 */
static bool unquote(const char *at[], const char *end, char quote, char *to[])
{
	while (*at < end && **at != quote) {
		if (**at == '\\' && quote == '"' && *at + 1 < end) {
			*at += 1;
			*(*to)++ = escaped(at, end);
		} else if (**at == '\\' && quote == '\'' && *at + 1 < end && (*at)[1] == '\'') {
			*at += 2;
			*(*to)++ = '\'';
		} else {
			*(*to)++ = *(*at)++;
		}
	}
	if (*at == end)
		return false;
	*at += 1;
	return *at == end || is_space(**at);
}

/* The word at *AT, unquoted in place if it has quotes. */
static bool take_word(const char *at[], const char *end, struct words *word)
{
	char *to = (char *)*at; /* within command->line, if anything is changed */

	word->bytes = to;
	while (*at < end && !is_space(**at)) {
		if (**at == '"' || **at == '\'') {
			char quote = *(*at)++;
			if (!unquote(at, end, quote, &to))
				return false;
		} else {
			if (to != *at)
				*to = **at;
			to++;
			*at += 1;
		}
	}
	word->length = (uint32_t)(to - word->bytes);
	return true;
}

static bool has_quotes(const char *line, size_t length)
{
	return memchr(line, '"', length) != NULL || memchr(line, '\'', length) != NULL;
}

static enum resp_progress read_line(const char *bytes, size_t length, struct resp_command *command,
                                    char *reason)
{
	const char *newline =
	    memchr(bytes, '\n', length < RESP_INLINE_MAX ? length : RESP_INLINE_MAX);
	const char *at = bytes;

	if (newline == NULL)
		return length < RESP_INLINE_MAX
		           ? RESP_MORE
		           : refuse(reason, "Protocol error: too big inline request");
	command->count = 0;
	command->length = (size_t)(newline - bytes) + 1;
	command->quoted = has_quotes(bytes, command->length);
	if (command->quoted) {
		memcpy(command->line, bytes, command->length);
		at = command->line;
		newline = command->line + command->length - 1;
	}
	for (;;) {
		while (at < newline && is_space(*at))
			at++;
		if (at == newline)
			return RESP_DONE;
		if (command->count == RESP_ARGUMENTS_MAX)
			return refuse(reason, "Protocol error: too big inline request");
		if (!take_word(&at, newline, &command->argument[command->count++]))
			return refuse(reason, "Protocol error: unbalanced quotes in request");
	}
}

enum resp_progress resp_read(const char *bytes, size_t length, struct resp_command *command,
                             char *reason)
{
	if (length == 0)
		return RESP_MORE;
	return bytes[0] == '*' ? read_array(bytes, length, command, reason)
	                       : read_line(bytes, length, command, reason);
}

/* --- replies --- */

static void begin(struct text *out, char type, int64_t number)
{
	text_bytes(out, &type, 1);
	text_signed(out, number);
	text_literal(out, "\r\n");
}

void resp_simple(struct text *out, const char *string)
{
	text_literal(out, "+");
	text_string(out, string);
	text_literal(out, "\r\n");
}

void resp_error(struct text *out, const char *message)
{
	text_literal(out, "-");
	text_string(out, message);
	text_literal(out, "\r\n");
}

void resp_integer(struct text *out, int64_t number)
{
	begin(out, ':', number);
}

void resp_bulk(struct text *out, const char *bytes, size_t length)
{
	begin(out, '$', (int64_t)length);
	if (length > 0)
		text_bytes(out, bytes, length);
	text_literal(out, "\r\n");
}

void resp_string(struct text *out, const char *string)
{
	resp_bulk(out, string, strlen(string));
}

void resp_number(struct text *out, int64_t number)
{
	char bytes[TEXT_DECIMAL_MAX];
	struct text digits;

	text_init(&digits, bytes, sizeof(bytes));
	text_signed(&digits, number);
	resp_bulk(out, bytes, digits.length);
}

void resp_array(struct text *out, size_t count)
{
	begin(out, '*', (int64_t)count);
}

void resp_map(struct text *out, size_t count, unsigned protocol)
{
	begin(out, protocol == 3 ? '%' : '*', (int64_t)(protocol == 3 ? count : 2 * count));
}

void resp_null(struct text *out, unsigned protocol)
{
	text_string(out, protocol == 3 ? "_\r\n" : "$-1\r\n");
}

void resp_null_array(struct text *out, unsigned protocol)
{
	text_string(out, protocol == 3 ? "_\r\n" : "*-1\r\n");
}
