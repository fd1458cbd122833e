/*
 * Robust process-shared mutexes.  Stripes of accounts are numbered from 0; then come the ids'
 * locks, the buckets of holds, and the ring's as the last.  Order: ascending.  An acquired lock is
 * repaired: if its last owner died, its operation has been finished or undone before this returns.
 */
#ifndef TALLYD_SHM_LOCK_H
#define TALLYD_SHM_LOCK_H

#include <stdbool.h>
#include <stdint.h>

struct lock;
struct region;

/* Initialises a lock in fresh memory.  0, or an error number of pthread_mutex_init(3). */
int lock_init(struct lock *lock);

/*
 * Acquires lock NUMBER, waiting as long as it takes; every second of waiting is an alarm,
 * never a theft.  False if the region is poisoned: the lock is not held then.
 */
bool lock_acquire(struct region *region, uint32_t number);
void lock_release(struct region *region, uint32_t number);

/*
 * The way to LOCK alone, called NUMBER in alarms: 0 or EOWNERDEAD, and it is held, by the meaning
 * of pthread_mutex_lock(3); or another error.  For a lock that guards nothing of the ledger.
 */
int lock_wait(struct region *region, struct lock *lock, uint32_t number);

/* The number of the ring's lock. */
uint32_t lock_ring(const struct region *region);

#endif
