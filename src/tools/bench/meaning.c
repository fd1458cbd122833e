#include <stdio.h>
#include <string.h>

#include "meaning.h"

#define ACCEPTED "{\"status\":\"accepted\""
#define ACCOUNT  "{\"account\":\""
#define ERROR    "{\"status\":\"error\""
#define REJECTED "{\"status\":\"rejected\""

static bool begins(const char *text, size_t length, const char *with)
{
	return length >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

/* The value of the member whose name and colon are KEY, a string of plain characters. */
static bool find_word(const char *text, size_t length, const char *key, const char **word,
                      size_t *word_length)
{
	const char *at = memmem(text, length, key, strlen(key));

	if (at == NULL)
		return false;
	at += strlen(key);
	const char *end = memchr(at, '"', (size_t)(text + length - at));
	if (end == NULL || end == at)
		return false;
	for (const char *c = at; c < end; c++)
		if (!(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z') &&
		    !(*c >= '0' && *c <= '9') && *c != '_' && *c != '-')
			return false;
	*word = at;
	*word_length = (size_t)(end - at);
	return true;
}

static bool find_reason(const char *text, size_t length, struct words_of_reason *reason)
{
	return find_word(text, length, "\"reason\":\"", &reason->name, &reason->length);
}

enum meaning meaning_of(enum kind kind, uint16_t status, const char *document, size_t length,
                        struct words_of_reason *reason)
{
	static char plain[sizeof "http_65535"];

	if (status >= 200 && status < 300) {
		const char *good = kind == KIND_READ ? ACCOUNT : ACCEPTED;
		return begins(document, length, good) ? MEANING_ACCEPTED : MEANING_NONE;
	}
	if (status < 400)
		return MEANING_NONE;
	if (find_reason(document, length, reason))
		return MEANING_REJECTED;
	/* Some other server's page. */
	reason->length = (size_t)snprintf(plain, sizeof plain, "http_%u", status);
	reason->name = plain;
	return MEANING_REJECTED;
}

enum meaning meaning_of_line(const char *line, size_t length, struct words_of_reason *reason)
{
	if (begins(line, length, ACCEPTED))
		return MEANING_ACCEPTED;
	if (!begins(line, length, ERROR) && !begins(line, length, REJECTED))
		return MEANING_NONE;
	return find_reason(line, length, reason) ? MEANING_REJECTED : MEANING_NONE;
}

bool meaning_hold(const char *document, size_t length, struct hold *hold)
{
	const char *name;
	size_t name_length;

	if (!find_word(document, length, "\"hold\":\"", &name, &name_length) ||
	    name_length > HOLD_NAME_MAX)
		return false;
	memcpy(hold->name, name, name_length);
	hold->length = (uint8_t)name_length;
	return true;
}

bool meaning_ends_stream(const struct words_of_reason *reason)
{
	static const char *const last[] = {"draining", "bad_chunk", "incomplete_body",
	                                   "body_timeout", "busy"};

	for (size_t i = 0; i < sizeof last / sizeof *last; i++)
		if (reason->length == strlen(last[i]) &&
		    memcmp(reason->name, last[i], reason->length) == 0)
			return true;
	return false;
}
