/*
 * The event that nearly everybody sends, read in one pass: each byte is looked at once, for its
 * grammar and its meaning together.  It knows only what it is sure of and leaves the rest, every
 * refusal included, to the general reader.
 */
#include "json_parts.h"
#include "utf8.h"

/* As many digits as any int64 has. */
#define DIGITS_MAX 18

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the first byte of eight is taken for the lowest of a word"
#endif

struct flat {
	const char *at;
	const char *end;
};

enum seen { SEEN_ACCOUNT = 1, SEEN_AMOUNT = 2, SEEN_ID = 4, SEEN_NOTE = 8 };

static inline void skip_space(struct flat *flat)
{
	while (flat->at < flat->end && (unsigned char)*flat->at <= ' ' &&
	       (*flat->at == ' ' || *flat->at == '\n' || *flat->at == '\r' || *flat->at == '\t'))
		flat->at++;
}

static inline bool take(struct flat *flat, char byte)
{
	if (flat->at == flat->end || *flat->at != byte)
		return false;
	flat->at++;
	return true;
}

/* A byte with its top bit set in the result for each of WORD's that is no plain character of a
 * string; of those only the lowest is exact. */
static inline uint64_t unusual_bytes(uint64_t word)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t quote = word ^ ones * '"';
	uint64_t escape = word ^ ones * '\\';
	uint64_t delete = word ^ ones * 0x7f;

	return (((word - ones * ' ') & ~word) | ((quote - ones) & ~quote) |
	        ((escape - ones) & ~escape) | ((delete - ones) & ~delete) | word) &
	       ones * 0x80;
}

/* How many bytes the character at AT takes; 0 if it is an escape, a control character or broken. */
static inline size_t plain_length(const char *at, size_t left)
{
	unsigned char byte = (unsigned char)*at;

	if (byte < 0x80)
		return byte >= ' ' && byte != '\\' && byte != 0x7f ? 1 : 0;
	if (byte == 0xc2 && left > 1 && (unsigned char)at[1] < 0xa0)
		return 0;
	return utf8_length((const unsigned char *)at, left);
}

/* Behind the opening quote: what a name may hold, without escapes, up to the closing one. */
static inline bool take_string(struct flat *flat, struct words *words)
{
	const char *at = flat->at;
	const char *end = flat->end;

	for (; end - at >= 8; at += 8) {
		uint64_t word;
		uint64_t unusual;

		memcpy(&word, at, sizeof(word));
		unusual = unusual_bytes(word);
		if (unusual != 0) {
			at += __builtin_ctzll(unusual) / 8;
			break;
		}
	}
	while (at < end && *at != '"') {
		size_t taken = plain_length(at, (size_t)(end - at));

		if (taken == 0)
			return false;
		at += taken;
	}
	if (at == end)
		return false;
	*words = (struct words){.bytes = flat->at, .length = (uint32_t)(at - flat->at)};
	flat->at = at + 1;
	return true;
}

/* An integer, bare or in quotes. */
static inline bool take_integer(struct flat *flat, int64_t *value)
{
	bool quoted = take(flat, '"');
	bool negative = take(flat, '-');
	const char *first = flat->at;
	int64_t number = 0;

	while (flat->at < flat->end && *flat->at >= '0' && *flat->at <= '9' &&
	       flat->at - first < DIGITS_MAX)
		number = number * 10 + (*flat->at++ - '0');
	if (flat->at == first || (*first == '0' && flat->at - first > 1))
		return false;
	*value = negative ? -number : number;
	/* More digits, a fraction or an exponent are in the way of what must come next. */
	return !quoted || take(flat, '"');
}

static inline bool take_words(struct flat *flat, struct words *words, size_t max)
{
	return take(flat, '"') && take_string(flat, words) && words->length <= max;
}

/* Behind the opening quote: is it KEY, with the closing one?  A constant's length is known. */
#define take_key(flat, key) take_bytes(flat, key "\"", sizeof(key))

static inline bool take_bytes(struct flat *flat, const char *bytes, size_t length)
{
	if ((size_t)(flat->end - flat->at) < length || memcmp(flat->at, bytes, length) != 0)
		return false;
	flat->at += length;
	return true;
}

static inline unsigned take_any_key(struct flat *flat)
{
	if (take_key(flat, "account") || take_key(flat, "user"))
		return SEEN_ACCOUNT;
	if (take_key(flat, "amount"))
		return SEEN_AMOUNT;
	if (take_key(flat, "id"))
		return SEEN_ID;
	return take_key(flat, "note") ? SEEN_NOTE : 0;
}

static inline bool take_value(struct flat *flat, unsigned key, struct request *request)
{
	switch (key) {
	case SEEN_ACCOUNT:
		return take_words(flat, &request->leg[0].account, ACCOUNT_NAME_MAX) &&
		       request->leg[0].account.length > 0;
	case SEEN_AMOUNT:
		return take_integer(flat, &request->leg[0].amount);
	case SEEN_ID:
		return take_words(flat, &request->id, ID_MAX) &&
		       json_id_valid(request->id.bytes, request->id.length);
	case SEEN_NOTE:
		return take_words(flat, &request->note, NOTE_MAX);
	}
	return false;
}

bool json_flat_event(const char *text, size_t length, struct request *request)
{
	struct flat flat = {.at = text, .end = text + length};
	unsigned seen = 0;

	json_request_begin(request, REQUEST_EVENT);
	request->legs = 1;
	if (length > JSON_LENGTH_MAX)
		return false;
	skip_space(&flat);
	if (!take(&flat, '{'))
		return false;
	do {
		skip_space(&flat);
		if (!take(&flat, '"'))
			return false;
		unsigned key = take_any_key(&flat);

		if (key == 0 || (seen & key) != 0)
			return false;
		seen |= key;
		skip_space(&flat);
		if (!take(&flat, ':'))
			return false;
		skip_space(&flat);
		if (!take_value(&flat, key, request))
			return false;
		skip_space(&flat);
	} while (take(&flat, ','));
	if (!take(&flat, '}'))
		return false;
	skip_space(&flat);
	return flat.at == flat.end && (seen & SEEN_ACCOUNT) && (seen & SEEN_AMOUNT);
}
