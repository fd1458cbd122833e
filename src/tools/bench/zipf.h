/*
 * Zipf's distribution over a bounded number of ranks, exactly: rejection-inversion (Hörmann and
 * Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions",
 * 1996).  No table; a draw takes little more than one try on average, whatever the exponent.
 */
#ifndef TALLYD_BENCH_ZIPF_H
#define TALLYD_BENCH_ZIPF_H

#include <stdint.h>

#include "random.h"

#define ZIPF_EXPONENT_MAX 20.0

struct zipf {
	double exponent;
	double ranks;
	double area_first, area_last; /* where the inverted area begins and ends */
	double always;                /* a point so near its rank is taken without a look */
};

/* Ranks 1 to RANKS (> 0), rank k with a weight of k^-EXPONENT, 0 < EXPONENT <=
 * ZIPF_EXPONENT_MAX. */
void zipf_init(struct zipf *zipf, uint32_t ranks, double exponent);

/* A rank, less 1: 0 is the most frequent. */
uint32_t zipf_draw(const struct zipf *zipf, struct random *random);

#endif
