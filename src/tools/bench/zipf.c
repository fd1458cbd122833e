#include <math.h>

#include "zipf.h"

#define NEARLY_ZERO 1e-8 /* where a quotient is replaced by the beginning of its series */

/* (e^x - 1) / x */
static double growth(double x)
{
	return fabs(x) > NEARLY_ZERO ? expm1(x) / x : 1 + x / 2;
}

/* log(1 + x) / x */
static double decay(double x)
{
	return fabs(x) > NEARLY_ZERO ? log1p(x) / x : 1 - x / 2;
}

static double weight(const struct zipf *zipf, double x)
{
	return exp(-zipf->exponent * log(x));
}

/* The integral of weight from 1 to X: (X^(1-s) - 1) / (1-s), or log X where s is 1. */
static double area(const struct zipf *zipf, double x)
{
	double logarithm = log(x);

	return growth((1 - zipf->exponent) * logarithm) * logarithm;
}

static double area_inverse(const struct zipf *zipf, double y)
{
	double x = y * (1 - zipf->exponent);

	if (x < -1) /* by rounding only */
		x = -1;
	return exp(decay(x) * y);
}

void zipf_init(struct zipf *zipf, uint32_t ranks, double exponent)
{
	zipf->exponent = exponent;
	zipf->ranks = ranks;
	zipf->area_first = area(zipf, 1.5) - 1;
	zipf->area_last = area(zipf, ranks + 0.5);
	zipf->always = 2 - area_inverse(zipf, area(zipf, 2.5) - weight(zipf, 2));
}

/* A point of the area below weight, drawn uniformly, is the rank that it is nearest to, unless it
 * lies in what the area has more than that rank's weight. */
uint32_t zipf_draw(const struct zipf *zipf, struct random *random)
{
	for (;;) {
		double point =
		    zipf->area_last + random_unit(random) * (zipf->area_first - zipf->area_last);
		double x = area_inverse(zipf, point);
		double rank = floor(x + 0.5);
		if (!(rank >= 1)) /* not even a number, where the area ran out of digits */
			rank = 1;
		if (rank > zipf->ranks)
			rank = zipf->ranks;
		if (rank - x <= zipf->always ||
		    point >= area(zipf, rank + 0.5) - weight(zipf, rank))
			return (uint32_t)rank - 1;
	}
}
