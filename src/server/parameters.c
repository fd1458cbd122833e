#include "parameters.h"

#include <string.h>

#include "../wire/moment.h"
#include "auth.h"

#define DIGITS_MAX     20
#define CURSOR_VERSION 'a' /* so that cursors of another make can be told apart */

static bool refuse(const struct call *call, struct answer *answer, const char *word)
{
	answer_reason(call, answer, word);
	return false;
}

/* The query parameter NAME, as http_query. */
static long query(const struct call *call, const char *name, char *target, size_t capacity)
{
	struct http_span span = call->request->query;

	return http_query(call->bytes + span.at, span.length, name, target, capacity);
}

static long segment(const struct call *call, char *target, size_t capacity)
{
	const char *raw = call->bytes + call->request->path.at + call->segment.at;

	return http_percent_decode(target, capacity, raw, call->segment.length);
}

bool parameter_account(const struct call *call, struct answer *answer, char *bytes,
                       struct words *name)
{
	long length = segment(call, bytes, ACCOUNT_NAME_MAX);

	if (length >= 0 && json_account_name_valid(bytes, (size_t)length)) {
		*name = (struct words){bytes, (uint32_t)length};
		return auth_permits_account(call, answer, *name);
	}
	answer_error(call, answer, 400, "invalid_account",
	             "A name is 1 to 100 bytes of UTF-8 without control characters, "
	             "percent-encoded.",
	             NULL);
	return false;
}

bool parameter_hold(const struct call *call, struct answer *answer, char *bytes, struct words *id)
{
	long length = segment(call, bytes, ID_MAX);

	if (length < 0 || !json_id_valid(bytes, (size_t)length))
		return refuse(call, answer, "invalid_hold");
	*id = (struct words){bytes, (uint32_t)length};
	return true;
}

bool parameter_number(const char *text, size_t length, uint64_t *number)
{
	*number = 0;
	for (size_t i = 0; i < length; i++)
		if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(*number, 10, number) ||
		    __builtin_add_overflow(*number, (uint64_t)(text[i] - '0'), number))
			return false;
	return length > 0;
}

bool parameter_limit(const struct call *call, struct answer *answer, unsigned *limit)
{
	char digits[DIGITS_MAX];
	uint64_t number;
	long length = query(call, "limit", digits, sizeof(digits));

	if (length == -1)
		return true;
	if (length < 0 || !parameter_number(digits, (size_t)length, &number) || number < 1 ||
	    number > PARAMETER_LIMIT_MAX)
		return refuse(call, answer, "invalid_limit");
	*limit = (unsigned)number;
	return true;
}

bool parameter_before(const struct call *call, struct answer *answer, uint64_t *before)
{
	char digits[DIGITS_MAX];
	long length = query(call, "before", digits, sizeof(digits));

	*before = 0;
	if (length == -1)
		return true;
	if (length < 0 || !parameter_number(digits, (size_t)length, before) || *before == 0)
		return refuse(call, answer, "invalid_before");
	return true;
}

bool parameter_prefix(const struct call *call, struct answer *answer, char *bytes,
                      struct words *prefix)
{
	long length = query(call, "prefix", bytes, ACCOUNT_NAME_MAX);

	*prefix = (struct words){0};
	if (length == -1)
		return true;
	if (length < 0)
		return refuse(call, answer, "invalid_prefix");
	*prefix = (struct words){bytes, (uint32_t)length};
	return true;
}

void parameter_cursor_text(struct text *out, uint64_t position)
{
	char bytes[PARAMETER_CURSOR_LENGTH] = {CURSOR_VERSION};

	for (int i = 1; i < PARAMETER_CURSOR_LENGTH; i++)
		bytes[i] = "0123456789abcdef"[position >> (64 - 4 * i) & 15];
	text_bytes(out, bytes, sizeof(bytes));
}

bool parameter_cursor(const struct call *call, struct answer *answer, uint64_t *position,
                      bool *begun)
{
	char bytes[PARAMETER_CURSOR_LENGTH];
	long length = query(call, "cursor", bytes, sizeof(bytes));

	*position = 0;
	*begun = length != -1;
	if (!*begun)
		return true;
	if (length != PARAMETER_CURSOR_LENGTH || bytes[0] != CURSOR_VERSION)
		return refuse(call, answer, "invalid_cursor");
	for (int i = 1; i < PARAMETER_CURSOR_LENGTH; i++) {
		const char *digit = memchr("0123456789abcdef", bytes[i], 16);
		if (!digit)
			return refuse(call, answer, "invalid_cursor");
		*position = *position << 4 | (uint64_t)(digit - "0123456789abcdef");
	}
	return true;
}

bool parameter_at(const struct call *call, struct answer *answer, struct moment *moment)
{
	char text[MOMENT_LENGTH_MAX];
	long length = query(call, "at", text, sizeof(text));

	*moment = (struct moment){.given = length != -1};
	if (!moment->given)
		return true;
	if (length > 0 && parameter_number(text, (size_t)length, &moment->value))
		return true;
	moment->is_time = true;
	if (length > 0 && moment_read(text, (size_t)length, &moment->value))
		return true;
	return refuse(call, answer, "invalid_at");
}

void parameter_encode(struct text *out, struct words name)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	                            "0123456789-._~";
	for (uint32_t i = 0; i < name.length; i++) {
		unsigned char byte = (unsigned char)name.bytes[i];
		char escape[3] = {'%', "0123456789ABCDEF"[byte >> 4],
		                  "0123456789ABCDEF"[byte & 15]};
		if (memchr(plain, byte, sizeof(plain) - 1))
			text_bytes(out, name.bytes + i, 1);
		else
			text_bytes(out, escape, sizeof(escape));
	}
}
