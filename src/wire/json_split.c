/*
 * The elements of an array, found by counting brackets: only after the grammar check may one be so
 * simple about it.
 */
#include "json_parts.h"

static bool is_space(char byte)
{
	return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* The offset behind the string that begins at AT. */
static size_t skip_string(const char *text, size_t at)
{
	at++;
	while (text[at] != '"')
		at += text[at] == '\\' ? 2 : 1;
	return at + 1;
}

/* The offset behind the value that begins at AT: a comma, a bracket or white space. */
static size_t skip_value(const char *text, size_t at)
{
	size_t depth = 0;

	do {
		switch (text[at]) {
		case '"':
			at = skip_string(text, at);
			break;
		case '{':
		case '[':
			depth++;
			at++;
			break;
		case '}':
		case ']':
			depth--;
			at++;
			break;
		default:
			at++;
		}
	} while (depth > 0);
	/* What is left of a number or a word. */
	while (text[at] != ',' && text[at] != ']' && !is_space(text[at]))
		at++;
	return at;
}

bool json_split_array(const char *text, size_t length, struct json_item *items, size_t max,
                      size_t *count, struct json_error *error)
{
	size_t at = 0;

	*count = 0;
	if (length > JSON_LENGTH_MAX)
		return json_refuse(error, "invalid_json", 0,
		                   "the document is longer than 2147483647 bytes");
	if (!json_check(text, length, error))
		return false;
	while (is_space(text[at]))
		at++;
	if (text[at] != '[')
		return json_refuse(error, "not_an_array", at,
		                   "several events are an array: [{\"account\":..},..]");
	at++;
	for (;;) {
		while (is_space(text[at]) || text[at] == ',')
			at++;
		if (text[at] == ']')
			return true;
		if (*count == max)
			return json_refuse(error, "too_many_events", at,
			                   "the array holds more elements than are taken at once");
		size_t end = skip_value(text, at);

		items[(*count)++] = (struct json_item){(uint32_t)at, (uint32_t)(end - at)};
		at = end;
	}
}
