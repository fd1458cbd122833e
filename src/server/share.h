/*
 * Is a worker's share of the open connections larger than that of its peers?  Pure: reads counters.
 */
#ifndef TALLYD_SERVER_SHARE_H
#define TALLYD_SERVER_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct counters;

/*
 * Should a worker with OWN open connections leave the next one to one of its PEERS (COUNT counter
 * sets of other process slots, those that are not accepting included)?  True if one of those that
 * are accepting (COUNTER_ACCEPTING) has fewer, by more than one and an eighth of its own.
 */
bool share_exceeds(uint64_t own, const struct counters *const *peers, size_t count);

#endif
