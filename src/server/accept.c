#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../base/log.h"
#include "accept.h"
#include "connection.h"
#include "door.h"
#include "note.h"
#include "served.h"
#include "share.h"
#include "slab.h"

struct listening {
	ev_io io;
	struct acceptor *acceptor;
	struct door door;
};

struct acceptor {
	struct worker *worker;
	ev_timer retry;
	ev_timer yield; /* running: the next connection is left to another worker */
	bool paused;
	bool finished;
	size_t count;
	struct listening listening[];
};

enum taken {
	TAKEN_ONE,
	TAKEN_NONE, /* nobody waits */
	TAKEN_STOP, /* the listeners were paused */
};

static void start_all(struct acceptor *acceptor)
{
	for (size_t i = 0; i < acceptor->count; i++)
		ev_io_start(acceptor->worker->loop, &acceptor->listening[i].io);
}

static void stop_all(struct acceptor *acceptor)
{
	for (size_t i = 0; i < acceptor->count; i++)
		ev_io_stop(acceptor->worker->loop, &acceptor->listening[i].io);
	ev_timer_stop(acceptor->worker->loop, &acceptor->retry);
	ev_timer_stop(acceptor->worker->loop, &acceptor->yield);
}

/*
 * A full place is freed by a connection that closes.  Descriptors and the system's memory can
 * also be freed by others, so then a timer tries again.
 */
static void pause_all(struct acceptor *acceptor, const char *detail, bool retry)
{
	struct worker *worker = acceptor->worker;
	stop_all(acceptor);
	acceptor->paused = true;
	counter_store(worker->server->counters, COUNTER_ACCEPTING, 0);
	if (retry)
		ev_timer_again(worker->loop, &acceptor->retry);
	counter_add(worker->server->counters, COUNTER_ACCEPT_PAUSES, 1);
	refusal_note(&worker->refusals, REFUSAL_PAUSED, worker->now, detail);
}

void acceptor_resume(struct acceptor *acceptor)
{
	if (!acceptor || !acceptor->paused || acceptor->finished)
		return;
	acceptor->paused = false;
	counter_store(acceptor->worker->server->counters, COUNTER_ACCEPTING, 1);
	ev_timer_stop(acceptor->worker->loop, &acceptor->retry);
	start_all(acceptor);
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	acceptor_resume(timer->data);
}

static enum taken accept_failed(struct acceptor *acceptor)
{
	switch (errno) {
	case EAGAIN:
		return TAKEN_NONE;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		pause_all(acceptor, strerror(errno), true);
		return TAKEN_STOP;
	default:
		/* The error of one connection that is gone already (accept(2), "Error handling").
		 */
		return TAKEN_ONE;
	}
}

/* Who has connected is not served here, and is told nothing. */
static void turn_away_user(struct worker *worker, int fd)
{
	struct ucred peer = {0};
	char detail[64];

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t){sizeof(peer)});
	snprintf(detail, sizeof(detail), "user %ju, group %ju", (uintmax_t)peer.uid,
	         (uintmax_t)peer.gid);
	counter_add(worker->server->counters, COUNTER_CONNECTIONS_STRANGE, 1);
	refusal_note(&worker->refusals, REFUSAL_STRANGER, worker->now, detail);
}

/* Somebody who is no proxy has come where only proxies may. */
static void turn_away(struct worker *worker, const struct peer *peer)
{
	char name[NOTE_PEER_MAX];
	counter_add(worker->server->counters, COUNTER_REFUSED_NOT_PROXY, 1);
	refusal_note(&worker->refusals, REFUSAL_NOT_PROXY, worker->now, note_peer(peer, name));
}

/* FD, of PEER, comes in by DOOR, or is closed. */
static void let_in(struct worker *worker, const struct door *door, int fd, const struct peer *peer)
{
	const struct protocol *first = door_protocol(door, peer);
	if (door->served && !served_admits(door->served, fd)) {
		turn_away_user(worker, fd);
	} else if (!first) {
		turn_away(worker, peer);
	} else {
		if (door->tcp)
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
		if (connection_open(worker, fd, door, first, peer))
			return;
	}
	close(fd);
}

static enum taken take_one(struct listening *listening)
{
	struct worker *worker = listening->acceptor->worker;
	if (slab_used(worker->slab) >= worker->settings->max_connections) {
		pause_all(listening->acceptor, "max_connections are open", false);
		return TAKEN_STOP;
	}
	struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
	socklen_t length = sizeof(address);
	int fd = accept4(listening->io.fd, (struct sockaddr *)&address, &length,
	                 SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return accept_failed(listening->acceptor);
	const struct peer peer = peer_of((struct sockaddr *)&address);
	let_in(worker, &listening->door, fd, &peer);
	return TAKEN_ONE;
}

static void take(struct listening *listening, unsigned most)
{
	for (unsigned i = 0; i < most; i++) {
		if (take_one(listening) != TAKEN_ONE)
			return;
	}
}

/* The listeners are left to the others for a moment: they have been woken, too. */
static void yield(struct acceptor *acceptor)
{
	struct worker *worker = acceptor->worker;
	stop_all(acceptor);
	counter_add(worker->server->counters, COUNTER_ACCEPT_YIELDS, 1);
	ev_timer_set(&acceptor->yield, ACCEPT_YIELD, 0);
	ev_timer_start(worker->loop, &acceptor->yield);
}

/* Who still waits has been left waiting by those who have fewer: they are stuck, or busy. */
static void on_yielded(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct acceptor *acceptor = timer->data;
	(void)loop;
	(void)events;
	start_all(acceptor);
	for (size_t i = 0; i < acceptor->count && !acceptor->paused; i++)
		take(&acceptor->listening[i], ACCEPT_BATCH);
}

static void on_acceptable(struct ev_loop *loop, ev_io *io, int events)
{
	struct listening *listening = io->data;
	struct acceptor *acceptor = listening->acceptor;
	const struct server *server = acceptor->worker->server;
	(void)loop;
	(void)events;
	for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
		if (share_exceeds(slab_used(acceptor->worker->slab), server->peers,
		                  server->peer_count)) {
			yield(acceptor);
			return;
		}
		if (take_one(listening) != TAKEN_ONE)
			return;
	}
}

static bool prepare(struct listening *listening, const struct server_listener *source)
{
	if (!door_prepare(&listening->door, source))
		return false;
	ev_io_init(&listening->io, on_acceptable, source->fd, EV_READ);
	listening->io.data = listening;
	return true;
}

struct acceptor *acceptor_new(struct worker *worker)
{
	size_t count = worker->server->listener_count;
	struct acceptor *acceptor =
	    calloc(1, sizeof(*acceptor) + count * sizeof(acceptor->listening[0]));
	if (!acceptor) {
		log_error("cannot prepare %zu listeners: %m", count);
		return NULL;
	}
	acceptor->worker = worker;
	acceptor->count = count;
	ev_timer_init(&acceptor->retry, on_retry, 0, ACCEPT_RETRY);
	ev_init(&acceptor->yield, on_yielded);
	acceptor->retry.data = acceptor->yield.data = acceptor;
	for (size_t i = 0; i < count; i++) {
		acceptor->listening[i].acceptor = acceptor;
		if (!prepare(&acceptor->listening[i], &worker->server->listeners[i])) {
			free(acceptor);
			return NULL;
		}
	}
	return acceptor;
}

void acceptor_free(struct acceptor *acceptor)
{
	free(acceptor);
}

void acceptor_start(struct acceptor *acceptor)
{
	start_all(acceptor);
	counter_store(acceptor->worker->server->counters, COUNTER_ACCEPTING, 1);
}

void acceptor_finish(struct acceptor *acceptor, bool backlog)
{
	if (acceptor->finished)
		return;
	stop_all(acceptor);
	acceptor->finished = true;
	for (size_t i = 0; i < acceptor->count; i++) {
		struct listening *listening = &acceptor->listening[i];
		if (backlog)
			take(listening, ACCEPT_BACKLOG);
		ev_io_stop(acceptor->worker->loop, &listening->io);
		close(listening->io.fd);
	}
	ev_timer_stop(acceptor->worker->loop, &acceptor->retry);
	counter_store(acceptor->worker->server->counters, COUNTER_ACCEPTING, 0);
}
