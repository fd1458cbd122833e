#include "cursor.h"

#include <string.h>
#include <xxhash.h>

#define ALPHA 8 /* the paper's names of the two rotations */
#define BETA  3

static uint32_t left(uint32_t word, unsigned bits)
{
	return word << bits | word >> (32 - bits);
}

static uint32_t right(uint32_t word, unsigned bits)
{
	return word >> bits | word << (32 - bits);
}

void cursor_key_expand(struct cursor_key *key, const uint32_t word[CURSOR_KEY_WORDS])
{
	uint32_t next[CURSOR_KEY_WORDS - 1] = {word[1], word[2], word[3]};
	uint32_t round = word[0];

	for (uint32_t i = 0; i < CURSOR_ROUNDS; i++) {
		uint32_t *mixed = &next[i % (CURSOR_KEY_WORDS - 1)];
		key->round[i] = round;
		*mixed = (right(*mixed, ALPHA) + round) ^ i;
		round = left(round, BETA) ^ *mixed;
	}
}

void cursor_key_make(struct cursor_key *key, uint64_t journal_key, const char *purpose)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(purpose, strlen(purpose), journal_key);
	const uint32_t word[CURSOR_KEY_WORDS] = {(uint32_t)hash.low64, (uint32_t)(hash.low64 >> 32),
	                                         (uint32_t)hash.high64,
	                                         (uint32_t)(hash.high64 >> 32)};

	cursor_key_expand(key, word);
}

uint64_t cursor_seal(const struct cursor_key *key, uint64_t position)
{
	uint32_t x = (uint32_t)(position >> 32);
	uint32_t y = (uint32_t)position;

	for (unsigned i = 0; i < CURSOR_ROUNDS; i++) {
		x = (right(x, ALPHA) + y) ^ key->round[i];
		y = left(y, BETA) ^ x;
	}
	return (uint64_t)x << 32 | y;
}

uint64_t cursor_open(const struct cursor_key *key, uint64_t cursor)
{
	uint32_t x = (uint32_t)(cursor >> 32);
	uint32_t y = (uint32_t)cursor;

	for (unsigned i = CURSOR_ROUNDS; i-- > 0;) {
		y = right(y ^ x, BETA);
		x = left((x ^ key->round[i]) - y, ALPHA);
	}
	return (uint64_t)x << 32 | y;
}
