#include "lock.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "layout.h"
#include "repair.h"

/* Tries before sleeping: a stripe is held for well under a microsecond. */
#define LOCK_SPINS 60

int lock_init(struct lock *lock)
{
	pthread_mutexattr_t attributes;
	int error = pthread_mutexattr_init(&attributes);

	if (error != 0)
		return error;
	error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (error == 0)
		error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (error == 0)
		error = pthread_mutex_init(&lock->mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return error;
}

uint32_t lock_ring(const struct region *region)
{
	return region->ring_lock;
}

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Sleeps for the lock, a second at a time, counting each second as an alarm. */
static int wait_for(struct region *region, pthread_mutex_t *mutex, uint32_t number)
{
	struct timespec until;
	unsigned seconds = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	for (;;) {
		until.tv_sec++;
		int error = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until);
		if (error != ETIMEDOUT)
			return error;
		if (region_poisoned(region))
			return ENOTRECOVERABLE;
		seconds++;
		counter_add(&region->processes[region->slot].counters, COUNTER_LOCK_ALARMS, 1);
		if (region->alarm != NULL)
			region->alarm(number, seconds);
	}
}

int lock_wait(struct region *region, struct lock *lock, uint32_t number)
{
	pthread_mutex_t *mutex = &lock->mutex;

	for (int spin = 0; spin < LOCK_SPINS; spin++) {
		int error = pthread_mutex_trylock(mutex);
		if (error != EBUSY)
			return error;
		pause_briefly();
	}
	return wait_for(region, mutex, number);
}

/* The lock of a dead owner: usable once repaired, else never again. */
static bool inherit(struct region *region, pthread_mutex_t *mutex, uint32_t number)
{
	if (repair_lock(region, number) && pthread_mutex_consistent(mutex) == 0)
		return true;
	/* Unlocked without being consistent, it stays unrecoverable: on purpose. */
	atomic_store(&region->header->poisoned, 1);
	pthread_mutex_unlock(mutex);
	return false;
}

bool lock_acquire(struct region *region, uint32_t number)
{
	pthread_mutex_t *mutex = &region->locks[number].mutex;

	/*
	 * Not left to the mutex: glibc's pthread_mutex_trylock(3) takes an unrecoverable one, says
	 * ENOTRECOVERABLE and does not give it back; the next who came would wait for ever.
	 */
	if (region_poisoned(region))
		return false;
	int error = lock_wait(region, &region->locks[number], number);
	if (error == EOWNERDEAD) {
		if (!inherit(region, mutex, number))
			return false;
	} else if (error != 0) {
		atomic_store(&region->header->poisoned, 1);
		return false;
	}
	/* What one stripe's repair found wrong may be wrong behind every other lock. */
	if (!region_poisoned(region))
		return true;
	pthread_mutex_unlock(mutex);
	return false;
}

void lock_release(struct region *region, uint32_t number)
{
	pthread_mutex_unlock(&region->locks[number].mutex);
}
