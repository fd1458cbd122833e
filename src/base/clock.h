/* Time, in microseconds. */
#ifndef TALLYD_BASE_CLOCK_H
#define TALLYD_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* For durations: never steps. */
static inline uint64_t clock_monotonic_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

/* The monotonic time SECONDS from now. */
static inline uint64_t clock_after_us(double seconds)
{
	return clock_monotonic_us() + (uint64_t)(seconds * 1e6);
}

/* For records and people: since 1970, UTC. */
static inline uint64_t clock_real_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

#endif
