/*
 * A worker's life: serve listeners until told to drain.  This is what the
 * daemon starts in each forked worker; everything else under server/ is private.
 */
#ifndef TALLYD_SERVER_SERVER_H
#define TALLYD_SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cors.h"

struct ledger;
struct journal_reader; /* src/ledger/history.h */
struct tokens;         /* src/wire/token.h */
struct served;         /* served.h */
struct room;           /* shm/room.h */
struct counters;       /* shm/counter.h: this process's set */
struct region;

/* One bound, listening, non-blocking socket, inherited and shared with all workers. */
struct server_listener {
	int fd;
	const char *protocol;        /* of protocol.c: "http" */
	const char *address;         /* for the log */
	bool anonymous;              /* nobody is asked for a token, though there are some */
	const struct served *served; /* of a Unix socket; NULL: everybody */
	const char
	    *proxy_from; /* who begins with a PROXY header (networks.h); NULL or "": nobody */
};

struct server_settings {
	uint32_t max_connections;        /* per worker; the listeners pause there */
	uint32_t max_connections_per_ip; /* of a client, over all workers; 0: no limit */
	uint32_t buffer_memory; /* bytes of connection buffers per worker, a power of two */
	uint32_t max_body;      /* bytes */
	double header_timeout; /* seconds from the first byte of a request to its last field line */
	double body_timeout;   /* seconds a body may take besides its bytes at body_rate */
	uint32_t body_rate;    /* bytes per second that a body must keep up, 0: no rule */
	double idle_timeout;   /* seconds between requests */
	double write_timeout;  /* seconds without progress while answers wait for the client */
	double drain_timeout;  /* seconds; then connections are cut */
	double feed_heartbeat; /* seconds without an event after which a feed says that it lives */
	struct cors_origins cors_origins;
	struct tokens *tokens; /* who may speak, until it is told more; NULL: nobody is asked */
	bool diagnostics;      /* GET /fast, GET /sleep */
	bool sync_always;      /* nothing is answered before it is durable; else the disk lags */
	const char *version;
	uint32_t workers;           /* configured, for GET / */
	uint64_t started_us;        /* of the daemon, microseconds since 1970 */
	const char *access_log;     /* path or NULL */
	bool access_log_json;       /* its lines are JSON */
	bool access_log_required;   /* without it do not start; otherwise say so and go on */
	const char *chat_history;   /* path or NULL */
	bool chat_history_required; /* likewise */
};

/* What is handed over. */
#define SERVER_LOG          'L'
#define SERVER_ACCESS_LOG   'A'
#define SERVER_CHAT_HISTORY 'C'
#define SERVER_TOKENS       'T' /* struct tokens, as a reload has read them */

struct server {
	const struct server_settings *settings;
	const struct server_listener *listeners;
	size_t listener_count;
	struct ledger *ledger;
	struct journal_reader *history; /* NULL: statements cannot be had */
	struct room *room;              /* NULL: no listener can speak chat */
	struct counters *counters;
	struct region
	    *clients; /* whose tables count each client's (shm/clients.h); NULL: none do */
	const struct counters *const *peers; /* the sets of all other slots, peer_count of them */
	size_t peer_count;
	const struct counters *const *sets; /* the sets of all slots, by slot, set_count of them */
	size_t set_count;
	int wake_fd;         /* eventfd that the journal writer writes when answers may leave */
	const int *wake_fds; /* those of all slots, by slot, wake_count of them, to wake others */
	size_t wake_count;
	int ready_fd;    /* one byte is written here once the loop serves; then closed; -1: none */
	int handover_fd; /* where files come that others have opened (base/pass.h); -1: none */
	/* NULL, or called when all is open and nothing is served: false, and it is not (logged). */
	bool (*confine)(void *confined);
	void *confined;
};

/*
 * Runs the loop.  Returns the exit status of the worker: 0 drained, 70 the region is
 * poisoned, 71 the journal failed, 1 anything else (logged).
 * Signals: SIGTERM drains and closes idle connections at once (the daemon stops);
 * SIGWINCH drains gently (a reload replaced this worker: idle connections live until
 * their next answer, which says Connection: close, or until drain_timeout);
 * SIGQUIT drains at once.
 */
int server_run(const struct server *server);

#endif
