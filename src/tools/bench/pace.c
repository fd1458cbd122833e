/* When operations are due: in an open loop by the clock alone, whatever the server does. */
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine.h"

#define SECOND UINT64_C(1000000000)

uint64_t pace_due(const struct engine *engine, uint64_t last)
{
	return engine->start + (uint64_t)((double)last * engine->interval);
}

/* The last operation of the next request. */
static uint64_t next_last(const struct engine *engine)
{
	uint64_t last = engine->begun + engine->options->batch;

	return (last < engine->limit ? last : engine->limit) - 1;
}

bool pace_goes_on(const struct engine *engine, uint64_t now)
{
	return engine->phase == PHASE_LOAD && !engine->stopped && engine->begun < engine->limit &&
	       (engine->interval > 0 || now < engine->end);
}

bool pace_is_due(const struct engine *engine, uint64_t now)
{
	return pace_goes_on(engine, now) &&
	       (engine->interval == 0 || pace_due(engine, next_last(engine)) <= now);
}

/* ---- those that have room, in the order in which they came to have it */

void pace_offer(struct client *client)
{
	struct engine *engine = client->engine;

	if (client->waiting || !flight_has_room(client))
		return;
	client->waiting = true;
	client->behind = NULL;
	if (engine->room_last == NULL)
		engine->room_first = client;
	else
		engine->room_last->behind = client;
	engine->room_last = client;
}

/* One that has still room: some were lost since they came here. */
static struct client *take_room(struct engine *engine)
{
	while (engine->room_first != NULL) {
		struct client *client = engine->room_first;
		engine->room_first = client->behind;
		if (engine->room_first == NULL)
			engine->room_last = NULL;
		client->waiting = false;
		if (flight_has_room(client))
			return client;
	}
	return NULL;
}

/* libev counts in milliseconds, which at a low rate would be most of what is measured. */
static void set_timer(struct engine *engine, uint64_t when)
{
	struct itimerspec timer = {
	    .it_value = {.tv_sec = (time_t)(when / SECOND), .tv_nsec = (long)(when % SECOND)}};

	timerfd_settime(engine->pace_fd, TFD_TIMER_ABSTIME, &timer, NULL);
}

void pace_pump(struct engine *engine, uint64_t now)
{
	uint32_t touched = 0;
	struct client *client;

	while (pace_is_due(engine, now) && (client = take_room(engine)) != NULL) {
		if (client->out_at == client->out_end)
			engine->touched[touched++] = client;
		flight_begin(client, now);
		pace_offer(client);
	}
	while (touched > 0)
		client_flush(engine->touched[--touched]);
	if (pace_goes_on(engine, now) && engine->room_first != NULL)
		set_timer(engine, pace_due(engine, next_last(engine)));
}

static void on_timer(struct ev_loop *loop, ev_io *io, int events)
{
	struct engine *engine = io->data;
	uint64_t times;

	(void)loop;
	(void)events;
	if (read(engine->pace_fd, &times, sizeof times) < 0)
		return; /* set anew since it rang */
	pace_pump(engine, engine_now());
}

void pace_start(struct engine *engine)
{
	for (uint32_t i = 0; i < engine->options->connections; i++)
		pace_offer(&engine->client[i]);
	ev_io_init(&engine->pace, on_timer, engine->pace_fd, EV_READ);
	engine->pace.data = engine;
	ev_io_start(engine->loop, &engine->pace);
	pace_pump(engine, engine->start);
}

void pace_stop(struct engine *engine)
{
	if (engine->interval > 0)
		ev_io_stop(engine->loop, &engine->pace);
}
