#include <math.h>
#include <string.h>

#include "histogram.h"

#define TOP               (UINT64_C(1) << HISTOGRAM_TOP_BITS)
#define TICKS_PER_HALVING 5
#define MILLISECOND       1e6

/* Values below 2 * HALF have a cell each.  Above, a value's leading HALF_BITS + 1 bits name it. */
static uint32_t cell_of(uint64_t value)
{
	if (value < 2 * HISTOGRAM_HALF)
		return (uint32_t)value;
	unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_HALF_BITS;
	return shift * HISTOGRAM_HALF + (uint32_t)(value >> shift);
}

/* The largest value of CELL. */
static uint64_t top_of(uint32_t cell)
{
	if (cell < 2 * HISTOGRAM_HALF)
		return cell;
	unsigned shift = cell / HISTOGRAM_HALF - 1;
	uint64_t leading = cell - shift * HISTOGRAM_HALF;
	return ((leading + 1) << shift) - 1;
}

void histogram_clear(struct histogram *histogram)
{
	memset(histogram, 0, sizeof *histogram);
	histogram->least = UINT64_MAX;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
	histogram->cell[cell_of(value < TOP ? value : TOP - 1)]++;
	histogram->count++;
	histogram->sum += (double)value;
	if (value < histogram->least)
		histogram->least = value;
	if (value > histogram->most)
		histogram->most = value;
}

void histogram_add(struct histogram *histogram, const struct histogram *other)
{
	for (uint32_t i = 0; i < HISTOGRAM_CELLS; i++)
		histogram->cell[i] += other->cell[i];
	histogram->count += other->count;
	histogram->sum += other->sum;
	if (other->least < histogram->least)
		histogram->least = other->least;
	if (other->most > histogram->most)
		histogram->most = other->most;
}

/* What CELL is shown as: the longest of all is known exactly. */
static uint64_t shown(const struct histogram *histogram, uint32_t cell)
{
	uint64_t top = top_of(cell);

	return top < histogram->most && top < TOP - 1 ? top : histogram->most;
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
	double wanted = ceil(percent / 100 * (double)histogram->count);
	uint64_t below = 0;

	if (histogram->count == 0)
		return 0;
	if (wanted < 1)
		wanted = 1;
	for (uint32_t i = 0; i < HISTOGRAM_CELLS; i++) {
		below += histogram->cell[i];
		if ((double)below >= wanted)
			return shown(histogram, i);
	}
	return histogram->most;
}

double histogram_mean(const struct histogram *histogram)
{
	return histogram->count == 0 ? 0 : histogram->sum / (double)histogram->count;
}

double histogram_deviation(const struct histogram *histogram)
{
	double mean = histogram_mean(histogram), sum = 0;

	if (histogram->count == 0)
		return 0;
	for (uint32_t i = 0; i < HISTOGRAM_CELLS; i++) {
		double distance = (double)shown(histogram, i) - mean;
		if (histogram->cell[i] != 0)
			sum += (double)histogram->cell[i] * distance * distance;
	}
	return sqrt(sum / (double)histogram->count);
}

static void plot_line(FILE *stream, uint64_t value, double percentile, uint64_t below)
{
	fprintf(stream, "%12.6f %2.12f %10llu ", (double)value / MILLISECOND, percentile,
	        (unsigned long long)below);
	if (percentile < 1)
		fprintf(stream, "%14.2f\n", 1 / (1 - percentile));
	else
		fprintf(stream, "%14s\n", "inf");
}

/* The next percentile (0 to 100) behind PERCENT to be shown: finer as 100 comes nearer. */
static double next_tick(double percent)
{
	double halvings = floor(log2(100 / (100 - percent))) + 1;

	return percent + 100 / (TICKS_PER_HALVING * exp2(halvings));
}

static void plot_lines(const struct histogram *histogram, FILE *stream)
{
	double tick = 0;
	uint64_t below = 0;

	for (uint32_t i = 0; i < HISTOGRAM_CELLS; i++) {
		below += histogram->cell[i];
		if (histogram->cell[i] == 0)
			continue;
		double reached = 100 * ((double)below / (double)histogram->count);
		while (tick <= reached && below < histogram->count) {
			plot_line(stream, shown(histogram, i), tick / 100, below);
			tick = next_tick(tick);
		}
		if (below == histogram->count) {
			plot_line(stream, histogram->most, 1, below);
			return;
		}
	}
}

void histogram_plot(const struct histogram *histogram, FILE *stream)
{
	fprintf(stream, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount",
	        "1/(1-Percentile)");
	if (histogram->count != 0)
		plot_lines(histogram, stream);
	fprintf(stream, "#[Mean    = %12.6f, StdDeviation   = %12.6f]\n",
	        histogram_mean(histogram) / MILLISECOND,
	        histogram_deviation(histogram) / MILLISECOND);
	fprintf(stream, "#[Max     = %12.6f, Total count    = %12llu]\n",
	        (double)histogram->most / MILLISECOND, (unsigned long long)histogram->count);
	fprintf(stream, "#[Buckets = %12d, SubBuckets     = %12u]\n",
	        HISTOGRAM_TOP_BITS - HISTOGRAM_HALF_BITS, 2 * HISTOGRAM_HALF);
}
