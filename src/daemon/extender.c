#include "extender.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../ledger/store.h"

#define RETRY_SECONDS 1

/*
 * Bytes per second of journal above which segments are not filled ahead.  Measured: at 110 MB/s
 * (events pipelined over HTTP) filling still pays, at 280 MB/s (NDJSON) it costs a third.
 */
#define FILL_RATE_MAX 200000000

struct extender {
	struct store *store;
	struct region *region;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t position; /* the writer's, under the lock */
	bool stop;

	/* The thread's own. */
	bool complained;
	uint64_t extended_us; /* when it was last due, monotonic; 0: not yet */
};

/* Less than a whole segment ahead? */
static bool due(const struct extender *extender)
{
	uint64_t space = atomic_load(&region_marks(extender->region)->space);

	return extender->position + region_geometry(extender->region)->segment_size > space;
}

/* Has the journal taken a segment's bytes faster than they can be written twice? */
static bool hurried(struct extender *extender)
{
	uint64_t size = region_geometry(extender->region)->segment_size;
	uint64_t now = clock_monotonic_us();
	uint64_t took = now - extender->extended_us;
	bool first = extender->extended_us == 0;

	extender->extended_us = now;
	return !first && size > took * (FILL_RATE_MAX / 1000000);
}

static void extend(struct extender *extender)
{
	struct region_marks *marks = region_marks(extender->region);
	int result = hurried(extender) ? store_extend_unfilled(extender->store)
	                               : store_extend(extender->store);

	if (result == 0) {
		atomic_store(&marks->space, store_space(extender->store));
		atomic_store(&marks->disk_full, 0);
		if (extender->complained)
			log_notice("the journal has room again");
		extender->complained = false;
		return;
	}
	atomic_store(&marks->disk_full, (uint32_t)errno);
	if (!extender->complained)
		log_error("cannot make the next journal segment: %s; updates are refused once the "
		          "last one is full. Make room: it is tried again every second",
		          strerror(errno));
	extender->complained = true;
}

/* Waits for work, or after a failure for a second. */
static void wait(struct extender *extender)
{
	struct timespec until;

	if (!extender->complained) {
		pthread_cond_wait(&extender->changed, &extender->lock);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += RETRY_SECONDS;
	while (!extender->stop && pthread_cond_clockwait(&extender->changed, &extender->lock,
	                                                 CLOCK_MONOTONIC, &until) == 0)
		;
}

static void *run(void *argument)
{
	struct extender *extender = argument;

	pthread_mutex_lock(&extender->lock);
	while (!extender->stop) {
		if (due(extender)) {
			pthread_mutex_unlock(&extender->lock);
			extend(extender);
			pthread_mutex_lock(&extender->lock);
			if (!extender->complained)
				continue;
		}
		if (!extender->stop)
			wait(extender);
	}
	pthread_mutex_unlock(&extender->lock);
	return NULL;
}

struct extender *extender_start(struct store *store, struct region *region, uint64_t position)
{
	struct extender *extender = calloc(1, sizeof *extender);
	sigset_t all;
	sigset_t before;

	if (extender == NULL)
		return NULL;
	extender->store = store;
	extender->region = region;
	extender->position = position;
	pthread_mutex_init(&extender->lock, NULL);
	pthread_cond_init(&extender->changed, NULL);
	sigfillset(&all); /* signals are the writer's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&extender->thread, NULL, run, extender);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0)
		return extender;
	free(extender);
	errno = error;
	return NULL;
}

void extender_advance(struct extender *extender, uint64_t position)
{
	pthread_mutex_lock(&extender->lock);
	extender->position = position;
	if (due(extender))
		pthread_cond_signal(&extender->changed);
	pthread_mutex_unlock(&extender->lock);
}

void extender_stop(struct extender *extender)
{
	if (extender == NULL)
		return;
	pthread_mutex_lock(&extender->lock);
	extender->stop = true;
	pthread_cond_broadcast(&extender->changed);
	pthread_mutex_unlock(&extender->lock);
	pthread_join(extender->thread, NULL);
	pthread_mutex_destroy(&extender->lock);
	pthread_cond_destroy(&extender->changed);
	free(extender);
}
