/* Random numbers that a seed determines: xoshiro256** (Blackman and Vigna, 2018).  Not for secrets.
 */
#ifndef TALLYD_BENCH_RANDOM_H
#define TALLYD_BENCH_RANDOM_H

#include <stdint.h>

struct random {
	uint64_t state[4];
};

/* Every SEED is good, 0 as well. */
void random_seed(struct random *random, uint64_t seed);

/* 64 random bits. */
uint64_t random_next(struct random *random);

/* 0 to BOUND - 1, each as likely; BOUND > 0. */
uint32_t random_below(struct random *random, uint32_t bound);

/* 0 <= x < 1, in steps of 2^-53. */
double random_unit(struct random *random);

#endif
