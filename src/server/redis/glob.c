#include "glob.h"

#include <stddef.h>

/* A place in a pattern. */
struct place {
	const char *at;
	const char *end;
};

/* Is BYTE in the class at PLACE, behind its '['?  PLACE is then behind the class. */
static bool in_class(struct place *place, char byte)
{
	bool inverted = place->at < place->end && *place->at == '^';
	bool found = false;

	place->at += inverted;
	while (place->at < place->end && *place->at != ']') {
		char first = *place->at++;
		/* As in Redis, what is escaped begins no range. */
		bool escaped = first == '\\' && place->at < place->end;
		if (escaped)
			first = *place->at++;
		char last = first;
		if (!escaped && place->end - place->at >= 2 && place->at[0] == '-') {
			last = place->at[1];
			place->at += 2;
		}
		if (first > last) {
			char between = first;
			first = last;
			last = between;
		}
		found |= byte >= first && byte <= last;
	}
	if (place->at < place->end)
		place->at++;
	return found != inverted;
}

/* Does what stands at PLACE, which is no '*', match BYTE?  PLACE is then behind it. */
static bool matches_one(struct place *place, char byte)
{
	char wanted = *place->at++;

	switch (wanted) {
	case '?':
		return true;
	case '[':
		return in_class(place, byte);
	case '\\':
		if (place->at < place->end)
			wanted = *place->at++;
		break;
	default:
		break;
	}
	return wanted == byte;
}

bool glob_matches(struct words pattern, struct words text)
{
	struct place place = {pattern.bytes, pattern.bytes + pattern.length};
	const char *at = text.bytes, *end = text.bytes + text.length;
	const char *star = NULL, *star_at = NULL;

	/* Only the last '*' need ever take more: an earlier one has done its part. */
	while (at < end) {
		if (place.at < place.end && *place.at == '*') {
			star = ++place.at;
			star_at = at;
		} else if (place.at < place.end && matches_one(&place, *at)) {
			at++;
		} else if (star != NULL) {
			place.at = star;
			at = ++star_at;
		} else {
			return false;
		}
	}
	while (place.at < place.end && *place.at == '*')
		place.at++;
	return place.at == place.end;
}

struct words glob_prefix(struct words pattern)
{
	uint32_t length = 0;

	while (length < pattern.length && length < ACCOUNT_NAME_MAX) {
		char byte = pattern.bytes[length];
		if (byte == '*' || byte == '?' || byte == '[' || byte == '\\')
			break;
		length++;
	}
	return (struct words){pattern.bytes, length};
}
