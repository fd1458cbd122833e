/*
 * A reload is a transaction: what is to serve is built whole beside what serves, configuration,
 * sockets and workers; once every new worker is ready it takes the other's place, and if anything
 * fails before that, it goes and nothing has changed.
 */
#ifndef TALLYD_DAEMON_RELOAD_H
#define TALLYD_DAEMON_RELOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "engine.h"
#include "family.h"
#include "listen.h"
#include "seat.h"

#define RELOAD_READY_S 30.0 /* for new workers to come up */
#define RELOAD_HAND_S  1.0  /* for the old ones to stop accepting, until it is said to be done */
#define RELOAD_LOOK_MS 5    /* between two looks whether they have */

/* What serves, and is replaced as one. */
struct service {
	struct config *config;
	struct listen_set *listeners;
	uint32_t workers;
	struct seat worker[CONFIG_WORKERS_MAX]; /* the first `workers` are filled */
};

/* The caller sets the first four, which stay its own, and leaves the rest zero. */
struct reload {
	const char *config_file;
	struct service *service; /* in force; the commit changes it */
	struct family *family;
	struct engine *engine;
	bool active;
	bool handing_over;    /* committed, but the old workers may still accept connections */
	struct service next;  /* if active: what shall be in force */
	uint64_t deadline_us; /* of either */
};

/*
 * Reads the configuration and forks the new workers.  Not while one is active.  A failure is
 * logged, and RELOAD not active then.
 */
void reload_begin(struct reload *reload);

/*
 * To be called after every event: commits once all new workers are ready, or aborts; and says so
 * once only these accept connections (while handing_over, every RELOAD_LOOK_MS).
 */
void reload_progress(struct reload *reload);

/* Gives up what was begun, because of WHY; nothing if RELOAD is not active. */
void reload_abort(struct reload *reload, const char *why);

/* The seat of the new worker in process slot SLOT, or NULL. */
struct seat *reload_seat(struct reload *reload, int slot);

#endif
