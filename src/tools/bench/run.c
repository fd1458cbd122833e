/* A run from its first connection to its last answer. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "limits.h"
#include "run.h"

#define SECOND 1e9 /* ns */

uint64_t engine_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- memory */

static void *take(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory == NULL) {
		perror("tallybench: memory");
		exit(EXIT_FAILURE);
	}
	return memory;
}

static bool has_holds(const struct options *options)
{
	return options->weight[MIX_CAPTURE] > 0 || options->weight[MIX_RELEASE] > 0;
}

static bool fits(const struct options *options)
{
	uint64_t each = load_request_max(options) + sizeof(struct slot) +
	                load_legs_max(options) * sizeof(struct posting);
	uint64_t all = (each * options->depth + ANSWER_HEAD_MAX) * options->connections;

	if (all <= MEMORY_MAX)
		return true;
	fprintf(stderr,
	        "tallybench: what may be under way would take %" PRIu64
	        " MiB: use fewer connections, a lower depth or smaller batches\n",
	        all >> 20);
	return false;
}

static void make_clients(struct engine *engine)
{
	const struct options *options = engine->options;
	size_t clients = options->connections, slots = clients * options->depth;
	uint32_t legs = load_legs_max(options);
	uint32_t sources = limits_sources(options, engine->target);
	struct settlement *settlements =
	    has_holds(options) ? take(slots, sizeof *settlements) : NULL;

	engine->out_size = options->depth * load_request_max(options);
	engine->memory[0] = take(clients, engine->out_size);
	engine->memory[1] = take(clients, ANSWER_HEAD_MAX);
	engine->memory[2] = (char *)settlements;
	engine->slots = take(slots, sizeof *engine->slots);
	engine->legs = take(slots * legs, sizeof *engine->legs);
	engine->client = take(clients, sizeof *engine->client);
	engine->touched = take(clients, sizeof(struct client *));
	for (size_t i = 0; i < slots; i++)
		engine->slots[i].operation.leg = engine->legs + i * legs;
	for (size_t i = 0; i < clients; i++) {
		struct client *client = &engine->client[i];
		client->engine = engine;
		client->fd = -1;
		client->source = sources > 0 ? 1 + (uint32_t)i % sources : 0;
		client->slot = engine->slots + i * options->depth;
		if (settlements != NULL)
			client->settlement = settlements + i * options->depth;
		client->out = engine->memory[0] + i * engine->out_size;
		client->carry = engine->memory[1] + i * ANSWER_HEAD_MAX;
	}
}

static void free_clients(struct engine *engine)
{
	for (size_t i = 0; i < sizeof engine->memory / sizeof *engine->memory; i++)
		free(engine->memory[i]);
	free(engine->slots);
	free(engine->legs);
	free(engine->client);
	free(engine->touched);
}

/* ---- phases */

static void begin_load(struct engine *engine, uint64_t now)
{
	const struct options *options = engine->options;

	engine->phase = PHASE_LOAD;
	engine->start = engine->last_answer = now;
	engine->interval = options->rate > 0 ? SECOND / options->rate : 0;
	engine->limit = options->operations > 0 ? options->operations : UINT64_MAX;
	engine->end = UINT64_MAX;
	if (options->duration > 0 && options->rate > 0)
		engine->limit = (uint64_t)ceil(options->rate * options->duration);
	if (options->duration > 0)
		engine->end = now + (uint64_t)(options->duration * SECOND);
	else if (options->rate > 0)
		engine->end = pace_due(engine, engine->limit);
	progress_start(engine, now);
	if (engine->interval > 0)
		pace_start(engine);
	else
		for (uint32_t i = 0; i < options->connections; i++)
			client_fill(&engine->client[i], now);
}

static void connect_more(struct engine *engine, uint64_t now)
{
	while (engine->next < engine->options->connections &&
	       engine->connecting < ENGINE_CONNECTING)
		client_connect(&engine->client[engine->next++], now);
}

void engine_connected(struct engine *engine, uint64_t now)
{
	if (engine->connected < engine->options->connections)
		connect_more(engine, now);
	else
		begin_load(engine, engine_now());
}

static void stop(struct engine *engine)
{
	if (engine->phase == PHASE_LOAD)
		pace_stop(engine);
	engine->phase = PHASE_OVER;
	ev_break(engine->loop, EVBREAK_ALL);
}

/* What is left has had its time. */
static void give_up(struct engine *engine, uint64_t now)
{
	stop(engine);
	if (engine->limit != UINT64_MAX && !engine->stopped)
		engine->result->unsent += engine->limit - engine->begun;
	for (uint32_t i = 0; i < engine->options->connections; i++) {
		struct client *client = &engine->client[i];
		client_lose(client, LOSS_LATE, now);
		engine->result->unsent += client->settlement_count;
	}
}

/* Until when the last answers may come. */
static uint64_t last_moment(const struct engine *engine)
{
	uint64_t patience = (uint64_t)(engine->options->timeout * SECOND);
	uint64_t end = engine->end != UINT64_MAX ? engine->end : engine->last_answer;

	return end + patience;
}

void engine_check(struct engine *engine, uint64_t now)
{
	if (engine->phase != PHASE_LOAD)
		return;
	if (engine->outstanding == 0 && !pace_goes_on(engine, now))
		stop(engine);
	else if (now > last_moment(engine))
		give_up(engine, now);
}

/* ---- by the clock */

static void look_after(struct client *client, uint64_t patience, uint64_t now)
{
	const struct slot *oldest = &client->slot[client->first];

	if (client->fd >= 0 && !client->connected && now - client->since > patience)
		client_lose(client, LOSS_LATE, now);
	else if (client->count > 0 && now - oldest->sent > patience)
		client_lose(client, LOSS_LATE, now);
	else if (client->fd < 0 && client->retry != 0 && now >= client->retry &&
	         client->engine->connecting < ENGINE_CONNECTING)
		client_connect(client, now);
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct engine *engine = timer->data;
	uint64_t now = engine_now();
	uint64_t patience = (uint64_t)(engine->options->timeout * SECOND);

	(void)loop;
	(void)events;
	if (engine->phase == PHASE_CONNECT && now - engine->start > patience) {
		stop(engine);
		return;
	}
	for (uint32_t i = 0; i < engine->options->connections; i++)
		look_after(&engine->client[i], patience, now);
	if (engine->phase == PHASE_CONNECT)
		connect_more(engine, now);
	else if (engine->interval > 0)
		pace_pump(engine, now);
	progress_show(engine, now);
	engine_check(engine, now);
}

static void on_signal(struct ev_loop *loop, ev_signal *signal, int events)
{
	struct engine *engine = signal->data;

	(void)events;
	ev_signal_stop(loop, &engine->interrupt);
	ev_signal_stop(loop, &engine->terminate);
	engine->stopped = true;
	if (engine->phase == PHASE_CONNECT)
		stop(engine);
	/* From now on there is an end to wait for. */
	engine->end = engine_now();
	engine_check(engine, engine->end);
}

static void start_watchers(struct engine *engine)
{
	ev_timer_init(&engine->tick, on_tick, ENGINE_TICK, ENGINE_TICK);
	ev_signal_init(&engine->interrupt, on_signal, SIGINT);
	ev_signal_init(&engine->terminate, on_signal, SIGTERM);
	engine->tick.data = engine->interrupt.data = engine->terminate.data = engine;
	ev_timer_start(engine->loop, &engine->tick);
	ev_signal_start(engine->loop, &engine->interrupt);
	ev_signal_start(engine->loop, &engine->terminate);
}

static void stop_watchers(struct engine *engine)
{
	ev_timer_stop(engine->loop, &engine->tick);
	ev_signal_stop(engine->loop, &engine->interrupt);
	ev_signal_stop(engine->loop, &engine->terminate);
}

/* ---- the run */

static bool has_begun(const struct engine *engine)
{
	if (engine->start != 0 && engine->limit != 0)
		return true;
	if (engine->stopped)
		fprintf(stderr, "tallybench: stopped before the load began\n");
	else
		fprintf(stderr,
		        "tallybench: %s: %u of %u connections could be opened within %g s: %s\n",
		        engine->target->url, engine->connected, engine->options->connections,
		        engine->options->timeout,
		        engine->last_error != 0 ? strerror(engine->last_error) : "no answer");
	if (engine->last_error == EADDRNOTAVAIL)
		fprintf(stderr, "tallybench: no port is free to connect from; use --sources\n");
	return false;
}

static bool loop(struct engine *engine)
{
	engine->start = engine_now();
	make_clients(engine);
	start_watchers(engine);
	connect_more(engine, engine->start);
	ev_run(engine->loop, 0);
	progress_clear(engine);
	stop_watchers(engine);
	engine->phase = PHASE_OVER;
	/* While it is known how many were open. */
	bool begun = has_begun(engine);
	for (uint32_t i = 0; i < engine->options->connections; i++)
		client_lose(&engine->client[i], LOSS_NONE, engine_now());
	engine->result->seconds = (double)(engine->last_answer - engine->start) / SECOND;
	free_clients(engine);
	return begun;
}

enum run_end run_load(const struct options *options, const struct target *target, struct book *book,
                      struct result *result)
{
	enum run_end end = RUN_FAILED;

	if (!fits(options) ||
	    !limits_raise_files(options->connections + ENGINE_FILES, ENGINE_FILES))
		return RUN_LIMITED;
	struct engine *engine = take(1, sizeof *engine);
	engine->options = options;
	engine->target = target;
	engine->book = book;
	engine->result = result;
	engine->loop = ev_loop_new(EVFLAG_AUTO);
	engine->pace_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (engine->loop == NULL || engine->pace_fd < 0) {
		fprintf(stderr, "tallybench: cannot make an event loop: %s\n", strerror(errno));
	} else {
		load_init(&engine->load, options, target);
		end = loop(engine) ? RUN_DONE : RUN_FAILED;
		load_free(&engine->load);
	}
	if (engine->pace_fd >= 0)
		close(engine->pace_fd);
	if (engine->loop != NULL)
		ev_loop_destroy(engine->loop);
	free(engine);
	return end;
}
