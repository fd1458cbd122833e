/*
 * Small readers of what a parsed head holds: percent-encoding (RFC 3986 2.1), query
 * parameters, and lists (RFC 9110 5.6.1).
 */
#include "http_parts.h"

#include <string.h>

long http_percent_decode(char *target, size_t capacity, const char *source, size_t length)
{
	size_t written = 0;

	for (size_t i = 0; i < length; i++) {
		char byte = source[i];

		if (byte == '%') {
			if (!http_is_escape(source + i, length - i))
				return -1;
			byte = (char)(http_hex(source[i + 1]) << 4 | http_hex(source[i + 2]));
			i += 2;
		}
		if (byte == '\0' || written == capacity)
			return -1;
		target[written++] = byte;
	}
	return (long)written;
}

/* Is NAME what TEXT[0..LENGTH) means once its escapes are undone? */
static bool means(const char *text, size_t length, const char *name)
{
	for (size_t i = 0; i < length; name++) {
		char byte;
		size_t taken = text[i] == '%' && length - i >= 3 ? 3 : 1;

		if (http_percent_decode(&byte, 1, text + i, taken) != 1 || byte != *name)
			return false;
		i += taken;
	}
	return *name == '\0';
}

long http_query(const char *query, size_t length, const char *name, char *target, size_t capacity)
{
	long found = -1;

	for (size_t at = 0; at < length;) {
		const char *parameter = query + at;
		const char *end = memchr(parameter, '&', length - at);
		size_t size = end == NULL ? length - at : (size_t)(end - parameter);
		const char *equals = memchr(parameter, '=', size);
		size_t key = equals == NULL ? size : (size_t)(equals - parameter);
		size_t value = equals == NULL ? size : key + 1;

		at += size + 1;
		if (!means(parameter, key, name))
			continue;
		if (found != -1)
			return -2;
		found = http_percent_decode(target, capacity, parameter + value, size - value);
		if (found < 0)
			return -2;
	}
	return found;
}

bool http_list_has(const char *value, size_t length, const char *token)
{
	size_t wanted = strlen(token);

	for (size_t at = 0; at < length;) {
		const char *comma = memchr(value + at, ',', length - at);
		size_t from = at;
		size_t to = comma == NULL ? length : (size_t)(comma - value);

		at = to + 1;
		while (from < to && (value[from] == ' ' || value[from] == '\t'))
			from++;
		while (from < to && (value[to - 1] == ' ' || value[to - 1] == '\t'))
			to--;
		if (to - from == wanted && http_equals(value + from, wanted, token))
			return true;
	}
	return false;
}
