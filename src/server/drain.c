#include <math.h>

#include "../base/log.h"
#include "accept.h"
#include "connection.h"
#include "drain.h"
#include "slab.h"

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct worker *worker = timer->data;
	(void)loop;
	(void)events;
	if (worker_stops(worker))
		return;
	if (worker->phase < PHASE_QUITTING)
		log_warning("drain: %u connections were cut at drain_timeout",
		            slab_used(worker->slab));
	worker_stop(worker, 0);
}

static void set_deadline(struct worker *worker)
{
	double seconds = worker->settings->drain_timeout;
	if (worker->phase == PHASE_QUITTING)
		seconds = fmin(seconds, DRAIN_QUIT_TIME);
	ev_timer_stop(worker->loop, &worker->drain_timer);
	ev_timer_init(&worker->drain_timer, on_deadline, seconds, 0);
	worker->drain_timer.data = worker;
	worker->drain_by = worker->now + seconds;
	ev_timer_start(worker->loop, &worker->drain_timer);
}

static void drain_connections(struct worker *worker)
{
	uint32_t cursor = 0;
	struct connection *connection;
	while ((connection = slab_next(worker->slab, &cursor)) && !worker_stops(worker))
		connection_drain(connection);
}

double drain_last_moment(const struct worker *worker)
{
	if (worker->phase == PHASE_SERVING)
		return INFINITY;
	if (worker->phase > PHASE_GENTLE)
		return 0;
	return worker->drain_by - fmin(1, worker->settings->drain_timeout / 4);
}

void drain(struct worker *worker, enum phase phase)
{
	if (worker_stops(worker))
		return;
	if (phase == PHASE_DRAINING && worker->phase == PHASE_DRAINING) {
		log_notice("drain: %u connections were cut on a second signal",
		           slab_used(worker->slab));
		worker_stop(worker, 0);
		return;
	}
	if (phase <= worker->phase)
		return;
	worker->phase = phase;
	set_deadline(worker);
	/* Nobody else may be there to serve it, nor, of a listener that a reload removed, after
	 * one. */
	acceptor_finish(worker->acceptor, phase != PHASE_QUITTING);
	drain_connections(worker);
	if (slab_used(worker->slab) == 0)
		worker_stop(worker, 0);
}
