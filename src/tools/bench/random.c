#include "random.h"

/* The state is filled by splitmix64, which never makes it all zero. */
void random_seed(struct random *random, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t mixed = seed += UINT64_C(0x9e3779b97f4a7c15);
		mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
		mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
		random->state[i] = mixed ^ mixed >> 31;
	}
}

static uint64_t rotate(uint64_t value, int by)
{
	return value << by | value >> (64 - by);
}

uint64_t random_next(struct random *random)
{
	uint64_t *s = random->state;
	uint64_t result = rotate(s[1] * 5, 7) * 9;
	uint64_t shifted = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= shifted;
	s[3] = rotate(s[3], 45);
	return result;
}

/* A product of 32 bits and BOUND, whose upper half is the result; the few lower halves that would
 * favour some results are drawn again. */
uint32_t random_below(struct random *random, uint32_t bound)
{
	uint32_t unfair = -bound % bound;

	for (;;) {
		uint64_t product = (random_next(random) >> 32) * bound;
		if ((uint32_t)product >= unfair)
			return (uint32_t)(product >> 32);
	}
}

double random_unit(struct random *random)
{
	return (double)(random_next(random) >> 11) * 0x1p-53;
}
