#include "rates.h"

static uint64_t load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

/* Sets of processes are not read at one moment: what seems to go back has not moved. */
static uint64_t gain(uint64_t before, uint64_t after)
{
	return after > before ? after - before : 0;
}

static uint64_t gained(const struct look *before, const struct look *after, enum counter counter)
{
	return gain(counter_load(&before->total, counter), counter_load(&after->total, counter));
}

struct measured {
	uint64_t sum;
	uint64_t count;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

static void measure(const struct look *before, const struct look *after, enum measure measure,
                    struct measured *measured)
{
	const struct histogram *from = &before->total.measured[measure];
	const struct histogram *to = &after->total.measured[measure];

	measured->sum = gain(load(&from->sum), load(&to->sum));
	measured->count = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		measured->bucket[i] = gain(load(&from->bucket[i]), load(&to->bucket[i]));
		measured->count += measured->bucket[i];
	}
}

static double mean(const struct measured *measured)
{
	return measured->count == 0 ? 0 : (double)measured->sum / (double)measured->count;
}

/* The bound below which PERCENT of 100 of the values lie, 0: there is none. */
static uint64_t percentile(const struct measured *measured, unsigned percent)
{
	uint64_t wanted = measured->count * percent / 100;
	uint64_t seen = 0;
	unsigned i = 0;

	if (measured->count == 0)
		return 0;
	while (i + 1 < HISTOGRAM_BUCKETS && (seen += measured->bucket[i]) <= wanted)
		i++;
	return histogram_bound(i);
}

static void rate_counters(const struct look *before, const struct look *after, struct rates *rates)
{
	double seconds = rates->seconds;

	rates->accepted = (double)gained(before, after, COUNTER_EVENTS_ACCEPTED) / seconds;
	rates->refused = (double)gained(before, after, COUNTER_EVENTS_REFUSED) / seconds;
	rates->rejected = (double)gained(before, after, COUNTER_EVENTS_REJECTED) / seconds;
	rates->invalid = (double)gained(before, after, COUNTER_EVENTS_INVALID) / seconds;
	rates->replayed = (double)gained(before, after, COUNTER_EVENTS_REPLAYED) / seconds;
	rates->requests = (double)gained(before, after, COUNTER_REQUESTS) / seconds;
	rates->bytes = (double)gained(before, after, COUNTER_JOURNAL_BYTES) / seconds;
	rates->recoveries = gained(before, after, COUNTER_LOCK_RECOVERIES);
	rates->alarms = gained(before, after, COUNTER_LOCK_ALARMS);
}

static void rate_measures(const struct look *before, const struct look *after, struct rates *rates)
{
	struct measured measured;

	measure(before, after, MEASURE_GROUP, &measured);
	rates->commits = (double)measured.count / rates->seconds;
	rates->events_per_commit = mean(&measured);
	measure(before, after, MEASURE_FDATASYNC, &measured);
	rates->syncs = (double)measured.count / rates->seconds;
	rates->sync_mean_us = mean(&measured);
	rates->sync_p99_us = percentile(&measured, 99);
	measure(before, after, MEASURE_REQUEST, &measured);
	rates->latency_p50_us = percentile(&measured, 50);
	rates->latency_p99_us = percentile(&measured, 99);
}

bool rates_between(const struct look *before, const struct look *after, struct rates *rates)
{
	*rates = (struct rates){0};
	if (before->epoch != after->epoch || before->master.pid != after->master.pid ||
	    before->taken_us >= after->taken_us)
		return false;
	rates->seconds = (double)(after->taken_us - before->taken_us) / 1e6;
	rate_counters(before, after, rates);
	rate_measures(before, after, rates);
	return true;
}

struct member_rates rates_of_member(const struct look *before, const struct look *after,
                                    const struct look_member *member)
{
	const struct look_member *then = look_member_of(before, member->pid);
	double seconds = (double)(after->taken_us - before->taken_us) / 1e6;

	if (then == NULL || then->slot != member->slot || before->epoch != after->epoch ||
	    seconds <= 0)
		return (struct member_rates){0};
	return (struct member_rates){
	    .cpu = (double)gain(then->cpu_us, member->cpu_us) / 1e6 / seconds,
	    .requests = (double)gain(then->requests, member->requests) / seconds,
	    .events = (double)gain(then->events, member->events) / seconds,
	};
}
