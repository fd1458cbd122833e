#include "seat.h"

#include <math.h>

#include "../base/clock.h"

void seat_reset(struct seat *seat, double backoff)
{
	*seat = (struct seat){.slot = -1, .delay = backoff};
}

void seat_vacate(struct seat *seat, double backoff, uint64_t born_us)
{
	double lived = (double)(clock_monotonic_us() - born_us) / 1e6;

	if (lived >= SEAT_HEALTHY_S)
		seat->delay = backoff;
	seat->slot = -1;
	seat->mourned = true;
	seat->due_us = clock_after_us(seat->delay);
	seat->delay = fmin(seat->delay * 2, SEAT_BACKOFF_MAX);
}

void seat_postpone(struct seat *seat)
{
	seat->due_us = clock_after_us(SEAT_RETRY_S);
}

bool seat_due(const struct seat *seat)
{
	return seat->slot < 0 && clock_monotonic_us() >= seat->due_us;
}

struct seat *seat_find(struct seat *seats, size_t count, int slot)
{
	for (size_t i = 0; i < count; i++)
		if (seats[i].slot == slot)
			return &seats[i];
	return NULL;
}
