/*
 * Appending to a text: bytes, decimal numbers, JSON strings.
 */
#include "text.h"

/* "00" to "99": two digits a division. */
static const char digit_pairs[] = "0001020304050607080910111213141516171819"
                                  "2021222324252627282930313233343536373839"
                                  "4041424344454647484950515253545556575859"
                                  "6061626364656667686970717273747576777879"
                                  "8081828384858687888990919293949596979899";

void text_init(struct text *text, char *bytes, size_t capacity)
{
	*text = (struct text){.bytes = bytes, .capacity = capacity};
}

void text_cut(struct text *text, const char *bytes, size_t length)
{
	size_t room = text->capacity - text->length;

	if (length > room)
		length = room;
	if (length > 0)
		memcpy(text->bytes + text->length, bytes, length);
	/* Nothing may follow a piece that was cut, however short. */
	text->length = text->capacity;
	text->full = true;
}

void text_string(struct text *text, const char *string)
{
	text_bytes(text, string, strlen(string));
}

/* Writes VALUE so that it ends before END; returns where it begins. */
static char *decimal_before(char *end, uint64_t value)
{
	while (value >= 100) {
		end -= 2;
		memcpy(end, digit_pairs + 2 * (value % 100), 2);
		value /= 100;
	}
	if (value >= 10) {
		end -= 2;
		memcpy(end, digit_pairs + 2 * value, 2);
	} else {
		*--end = (char)('0' + value);
	}
	return end;
}

void text_unsigned(struct text *text, uint64_t value)
{
	char digits[TEXT_DECIMAL_MAX];
	char *end = digits + sizeof(digits);
	char *begin = decimal_before(end, value);

	text_bytes(text, begin, (size_t)(end - begin));
}

void text_signed(struct text *text, int64_t value)
{
	char digits[TEXT_DECIMAL_MAX];
	char *end = digits + sizeof(digits);
	/* Negated as unsigned: -INT64_MIN does not exist as int64. */
	uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	char *begin = decimal_before(end, magnitude);

	if (value < 0)
		*--begin = '-';
	text_bytes(text, begin, (size_t)(end - begin));
}

static bool needs_escape(unsigned char byte)
{
	return byte < 0x20 || byte == '"' || byte == '\\';
}

/* Appends the escape of BYTE, for which needs_escape holds. */
static void json_escape(struct text *text, unsigned char byte)
{
	static const char hex[] = "0123456789abcdef";
	static const char short_form[0x20] = {
	    ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
	char escape[6] = {'\\', (char)byte};
	size_t length = 2;

	if (byte < 0x20 && short_form[byte] != 0) {
		escape[1] = short_form[byte];
	} else if (byte < 0x20) {
		memcpy(escape, "\\u00", 4);
		escape[4] = hex[byte >> 4];
		escape[5] = hex[byte & 15];
		length = 6;
	}
	text_bytes(text, escape, length);
}

void text_json_string(struct text *text, const char *value, size_t length)
{
	size_t run = 0; /* where the bytes begin that are copied as they are */

	text_literal(text, "\"");
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)value[i];

		if (!needs_escape(byte))
			continue;
		if (i > run)
			text_bytes(text, value + run, i - run);
		json_escape(text, byte);
		run = i + 1;
	}
	if (length > run)
		text_bytes(text, value + run, length - run);
	text_literal(text, "\"");
}
