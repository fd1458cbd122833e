#include "seal.h"

#include <stdlib.h>
#include <xxhash.h>

struct seal {
	XXH3_state_t *state;
	uint64_t length; /* added since the last boundary */
	uint64_t count;  /* boundaries so far */
	struct seal_link known[SEALS_KNOWN];
};

static void turn(struct seal *seal, const struct seal_link *link)
{
	seal->known[seal->count++ % SEALS_KNOWN] = *link;
	seal->length = 0;
	XXH3_64bits_reset_withSeed(seal->state, link->hash);
}

struct seal *seal_open(uint64_t from, uint64_t hash)
{
	struct seal *seal = calloc(1, sizeof *seal);

	if (seal == NULL || (seal->state = XXH3_createState()) == NULL) {
		free(seal);
		return NULL;
	}
	turn(seal, &(struct seal_link){.from = from, .to = from, .hash = hash});
	return seal;
}

void seal_close(struct seal *seal)
{
	if (seal == NULL)
		return;
	XXH3_freeState(seal->state);
	free(seal);
}

uint64_t seal_left(const struct seal *seal)
{
	return SEAL_EVERY - seal->length;
}

void seal_part(struct seal *seal, const void *bytes, size_t length)
{
	XXH3_64bits_update(seal->state, bytes, length);
	seal->length += length;
}

bool seal_add(struct seal *seal, const void *records, size_t length, uint64_t end)
{
	seal_part(seal, records, length);
	if (seal->length < SEAL_EVERY)
		return false;
	struct seal_link link = {
	    .from = seal_last(seal).to, .to = end, .hash = XXH3_64bits_digest(seal->state)};
	turn(seal, &link);
	return true;
}

struct seal_link seal_last(const struct seal *seal)
{
	return seal->known[(seal->count - 1) % SEALS_KNOWN];
}

bool seal_knows(const struct seal *seal, const struct seal_link *link)
{
	uint64_t oldest = seal->count > SEALS_KNOWN ? seal->count - SEALS_KNOWN : 0;

	for (uint64_t i = seal->count; i-- > oldest;) {
		const struct seal_link *known = &seal->known[i % SEALS_KNOWN];
		if (known->to == link->to)
			return known->hash == link->hash;
	}
	return false;
}
