/* One worker's clients: who has his turn when, and what wakes them. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../base/log.h"
#include "../../ledger/tail.h"
#include "../chat_protocol.h"
#include "../feed.h"
#include "../release.h"
#include "chat.h"
#include "history.h"

/* --- who is here --- */

static void count(const struct chats *chats, uint64_t change)
{
	counter_add(chats->worker->server->counters, COUNTER_CHAT_MEMBERS, change);
}

void chats_add(struct chats *chats, struct chat *chat)
{
	chat->next = NULL;
	chat->previous = chats->last;
	*(chats->last ? &chats->last->next : &chats->first) = chat;
	chats->last = chat;
	count(chats, 1);
}

void chats_remove(struct chats *chats, struct chat *chat)
{
	if (chats->turn == chat)
		chats->turn = chat->next;
	*(chat->previous ? &chat->previous->next : &chats->first) = chat->next;
	*(chat->next ? &chat->next->previous : &chats->last) = chat->previous;
	chats->watchers -= chat->watching;
	chat->watching = false;
	count(chats, UINT64_MAX);
}

bool chats_admit(struct chats *chats, double *wait)
{
	double now = chats->worker->now;

	chats->door_tokens =
	    fmin(CHAT_DOOR_BURST, chats->door_tokens + (now - chats->door_filled) * CHAT_DOOR_RATE);
	chats->door_filled = now;
	if (chats->door_tokens < 1) {
		/* When its turn may be: were all to ask at the next place, many would do nothing
		 * else. */
		chats->door_next =
		    fmin(fmax(chats->door_next, now) + 1 / CHAT_DOOR_RATE, now + CHAT_DOOR_WAIT);
		*wait = chats->door_next - now;
		return false;
	}
	chats->door_tokens--;
	return true;
}

/* --- deaths --- */

/* Who was served by processes that have died. */
static void sweep(struct chats *chats)
{
	uint32_t deaths = room_deaths(chats->room);

	if (deaths == chats->deaths)
		return;
	chats->deaths = deaths;
	if (room_sweep(chats->room, worker_time_us(chats->worker)) > 0)
		chats->spoke = true;
}

/* --- waking --- */

static void wake_others(struct chats *chats)
{
	const struct server *server = chats->worker->server;
	uint32_t slots = room_slots(chats->room);

	for (uint32_t i = 0; i < slots && i < server->wake_count; i++) {
		/* It can only fail where it is not needed: the count is at its end. */
		if (room_due(chats->room, i)) {
			ssize_t ignored = write(server->wake_fds[i], &(uint64_t){1}, 8);
			(void)ignored;
		}
	}
}

static void arm(struct chats *chats, double due)
{
	struct worker *worker = chats->worker;

	if (ev_is_active(&chats->timer) && chats->timer_due <= due)
		return;
	ev_timer_stop(worker->loop, &chats->timer);
	ev_timer_set(&chats->timer, fmax(due - worker->now, 0), 0);
	ev_timer_start(worker->loop, &chats->timer);
	chats->timer_due = due;
}

/* What is to be done is done at the end of the turn.  A wake-up that was lost is asked for again.
 */
static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	const struct chats *chats = timer->data;
	struct worker *worker = chats->worker;
	(void)loop;
	(void)events;

	if (chats->watchers > 0 && !worker->held.first)
		worker->wanted = 0;
}

/* --- rounds --- */

static double clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t durable(const struct chats *chats)
{
	return tail_durable(feeds_tail(chats->worker->feeds));
}

/* A drain that leaves its clients some time says good-bye before it cuts them. */
static bool is_leaving(const struct chats *chats)
{
	const struct worker *worker = chats->worker;

	return worker->phase != PHASE_SERVING && worker->now >= worker->drain_by - CHAT_LEAVE;
}

static bool has_news(const struct chats *chats)
{
	return chats->again || room_end(chats->room) != chats->seen ||
	       (chats->watchers > 0 && durable(chats) != chats->durable) || is_leaving(chats);
}

static void begin_round(struct chats *chats)
{
	chats->again = false;
	chats->seen = room_end(chats->room);
	if (chats->watchers > 0)
		chats->durable = durable(chats);
	chats->turn = chats->first;
	chats->round = true;
	chats->began = clock_now();
}

/* Each has his turn in the next turn of the loop, where `arrived` is called. */
static void go_on(struct chats *chats)
{
	for (unsigned i = 0; chats->turn && i < CHAT_SLICE; i++) {
		connection_poke(chats->turn->connection);
		chats->turn = chats->turn->next;
	}
}

/* All have had their turns: a rest of CHAT_SHARE - 1 times as long as that took. */
static void end_round(struct chats *chats)
{
	double now = clock_now();

	chats->round = false;
	double rest = (now - chats->began) * (CHAT_SHARE - 1);
	chats->rest_until = now + fmin(fmax(CHAT_REST, rest), CHAT_REST_MAX);
}

/*
 * A round has begun, or goes on: the loop does not sleep, for who is poked has his turn in the next
 * one.  Else there is nothing, or a rest.
 */
static void rounds(struct chats *chats)
{
	if (chats->turn) {
		go_on(chats);
		return;
	}
	if (chats->round)
		end_round(chats);
	if (!has_news(chats))
		return;
	if (chats->worker->now < chats->rest_until) {
		arm(chats, chats->rest_until);
		return;
	}
	begin_round(chats);
	go_on(chats);
}

/* Nothing is left to be given here: who writes something wakes us. */
static void ask(struct chats *chats)
{
	struct worker *worker = chats->worker;

	if (!room_want(chats->room, chats->seen, chats->deaths))
		arm(chats, worker->now);
	/* What is released need not be durable (sync interval): nobody wakes us for that. */
	if (chats->watchers > 0 && !release_ask(worker, chats->durable))
		arm(chats, worker->now + FEED_REST);
}

void chats_turn_ends(struct worker *worker)
{
	struct chats *chats = worker->chats;

	if (!chats)
		return;
	if (chats->history)
		chat_history_flush(chats->history);
	sweep(chats);
	if (chats->spoke) {
		chats->spoke = false;
		wake_others(chats);
	}
	if (!chats->first)
		return;
	rounds(chats);
	if (!chats->round && !has_news(chats))
		ask(chats);
	if (worker->phase != PHASE_SERVING && !is_leaving(chats))
		arm(chats, worker->drain_by - CHAT_LEAVE);
	arm(chats, worker->now + CHAT_LOOK);
}

/* --- beginning and end --- */

static bool is_spoken(const struct server *server)
{
	for (size_t i = 0; i < server->listener_count; i++)
		if (strcmp(server->listeners[i].protocol, chat_protocol.name) == 0)
			return true;
	return false;
}

/* Whoever is first in a region's life gives the room its past. */
static void remember(struct chats *chats)
{
	const char *path = chats->worker->settings->chat_history;
	struct room_line *lines = calloc(CHAT_GREETING, sizeof(*lines));
	size_t count = path && lines ? chat_history_read(path, lines, CHAT_GREETING) : 0;

	room_remember(chats->room, lines, count);
	free(lines);
}

static bool open_history(struct chats *chats)
{
	const struct server_settings *settings = chats->worker->settings;

	if (!settings->chat_history)
		return true;
	chats->history = chat_history_open(settings->chat_history);
	if (!chats->history)
		log_error("chat history %s: %m; create its directory or change chat_history",
		          settings->chat_history);
	return chats->history != NULL || !settings->chat_history_required;
}

bool chats_open(struct worker *worker)
{
	if (!is_spoken(worker->server))
		return true;
	struct chats *chats = calloc(1, sizeof(*chats));
	if (!chats || !worker->server->room) {
		log_error("there is no room for chat");
		free(chats);
		return false;
	}
	chats->worker = worker;
	chats->room = worker->server->room;
	chats->door_tokens = CHAT_DOOR_BURST;
	chats->door_filled = worker->now;
	/* Another number than there is, so that the first turn sweeps. */
	chats->deaths = room_deaths(chats->room) - 1;
	ev_timer_init(&chats->timer, on_timer, 0, 0);
	chats->timer.data = chats;
	worker->chats = chats;
	if (!open_history(chats))
		return false;
	remember(chats);
	return true;
}

void chats_close(struct worker *worker)
{
	struct chats *chats = worker->chats;

	if (!chats)
		return;
	/* What ends with us was said to those who are elsewhere. */
	if (chats->spoke)
		wake_others(chats);
	ev_timer_stop(worker->loop, &chats->timer);
	chat_history_close(chats->history);
	free(chats);
	worker->chats = NULL;
}

void chats_adopt(struct worker *worker, int fd)
{
	struct chats *chats = worker->chats;

	if (!chats || !chats->history)
		close(fd);
	else if (chat_history_adopt(chats->history, fd) < 0)
		log_warning("chat history %s cannot be changed: %m; the old file stays in use",
		            worker->settings->chat_history);
}
