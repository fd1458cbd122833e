#include "reload.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../../shm/counter.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "life.h"
#include "revoke.h"

#define MESSAGE_SIZE 1024

static void report_restart_only(const char *key)
{
	log_warning("reload: %s changes only with a restart, it stays as it was", key);
}

static void report_failure(const struct reload *reload, const char *why)
{
	life_reloaded(reload->engine->region, false);
	log_error("reload failed: %s; everything stays as it was", why);
}

/* New workers must inherit the log that they are to write to: it changes before they are forked. */
static int switch_log(const struct config *from, const struct config *to)
{
	if (strcmp(from->log, to->log) != 0 && log_open(to->log) != 0)
		return -1;
	log_set_level(to->log_level);
	log_set_format(to->log_format);
	return 0;
}

static void switch_log_back(const struct config *from, const struct config *to)
{
	if (switch_log(from, to) != 0)
		log_error("cannot go back to the log %s: %s; tallyd goes on logging here", to->log,
		          strerror(errno));
}

/* Each finishes what it has, an idle connection with its next answer; with TOKENS, if any. */
static void retire(const struct service *service, struct family *family,
                   const struct tokens *tokens)
{
	for (uint32_t i = 0; i < service->workers; i++) {
		if (service->worker[i].slot < 0)
			continue;
		struct child *child = &family->child[service->worker[i].slot];
		if (child->role != ROLE_WORKER)
			continue; /* killed with all others, and buried */
		child->leaving = true;
		child->kill_us = clock_after_us(service->config->drain_timeout + FAMILY_GRACE_S);
	}
	/* First, and to those that an earlier reload has retired, too. */
	if (tokens != NULL)
		revoke_tokens(tokens, family);
	for (uint32_t i = 0; i < service->workers; i++)
		if (service->worker[i].slot >= 0 &&
		    family->child[service->worker[i].slot].role == ROLE_WORKER)
			kill(family->child[service->worker[i].slot].pid, SIGWINCH);
}

/* ---- Preparing ---- */

/* NULL with the reason in ERROR. */
static struct listen_set *open_listeners(const struct reload *reload, const struct config *config,
                                         char *error, size_t size)
{
	struct listen_set *present = reload->service->listeners;
	struct listen_set *listeners = listen_open(config, present, 0, error, size);

	if (listeners != NULL &&
	    listen_own(listeners, reload->family->privileges, error, size) != 0) {
		listen_abandon(present, listeners);
		return NULL;
	}
	return listeners;
}

/* All but the workers: what NEXT's configuration asks of the system.  0, or -1 with ERROR. */
static int acquire(const struct reload *reload, struct service *next, char *error, size_t size)
{
	const struct config *present = reload->service->config;

	if (config_keep(next->config, present) != 0) {
		snprintf(error, size, "out of memory");
		return -1;
	}
	if (switch_log(present, next->config) != 0) {
		snprintf(error, size, "log: %s cannot be opened: %s", next->config->log,
		         strerror(errno));
		return -1;
	}
	next->listeners = open_listeners(reload, next->config, error, size);
	if (next->listeners != NULL)
		return 0;
	switch_log_back(next->config, present);
	return -1;
}

static int prepare(struct reload *reload, char *error, size_t size)
{
	struct service *next = &reload->next;

	*next = (struct service){.config = config_load(reload->config_file, error, size)};
	if (next->config == NULL)
		return -1;
	if (config_load_tokens(next->config, error, size) != 0) {
		config_free(next->config);
		return -1;
	}
	config_restart_only(reload->service->config, next->config, report_restart_only);
	if (acquire(reload, next, error, size) != 0) {
		config_free(next->config);
		return -1;
	}
	next->workers = config_workers(next->config);
	for (uint32_t i = 0; i < CONFIG_WORKERS_MAX; i++)
		seat_reset(&next->worker[i], next->config->respawn_backoff);
	return 0;
}

static bool fork_workers(struct service *next, struct family *family)
{
	for (uint32_t i = 0; i < next->workers; i++) {
		next->worker[i].slot =
		    family_worker(family, i + 1, next->config, next->listeners, true);
		if (next->worker[i].slot < 0)
			return false;
	}
	return true;
}

void reload_begin(struct reload *reload)
{
	char error[MESSAGE_SIZE];

	log_notice("reloading %s", reload->config_file);
	if (prepare(reload, error, sizeof error) != 0) {
		report_failure(reload, error);
		return;
	}
	reload->active = true;
	reload->deadline_us = clock_after_us(RELOAD_READY_S);
	if (!fork_workers(&reload->next, reload->family))
		reload_abort(reload, errno == EAGAIN
		                         ? "no process is left for the new workers: too many old "
		                           "ones still drain; try again later"
		                         : strerror(errno));
}

/* ---- Deciding ---- */

void reload_abort(struct reload *reload, const char *why)
{
	if (!reload->active)
		return;
	switch_log_back(reload->next.config, reload->service->config);
	report_failure(reload, why);
	retire(&reload->next, reload->family, reload->service->config->tokens);
	listen_abandon(reload->service->listeners, reload->next.listeners);
	config_free(reload->next.config);
	reload->active = false;
}

static bool is_confined_alike(const struct config *before, const struct config *now)
{
	return before->seccomp == now->seccomp && before->landlock == now->landlock;
}

/*
 * The journal writer has the log, and may do, what it was forked with: where that has changed,
 * another takes its place.
 */
static void renew_journal(const struct config *before, const struct config *now,
                          struct family *family)
{
	struct child *child = &family->child[FAMILY_JOURNAL_SLOT];

	if (child->role != ROLE_JOURNAL ||
	    (strcmp(before->log, now->log) == 0 && before->log_level == now->log_level &&
	     before->log_format == now->log_format && is_confined_alike(before, now)))
		return;
	child->leaving = true;
	kill(child->pid, SIGWINCH);
}

static void commit(struct reload *reload)
{
	struct service *service = reload->service;
	struct service *next = &reload->next;

	retire(service, reload->family, next->config->tokens);
	listen_commit(service->listeners, next->listeners);
	engine_configure(reload->engine, next->config);
	life_reloaded(reload->engine->region, true);
	if (!is_confined_alike(service->config, next->config))
		confine_report(next->config->seccomp, next->config->landlock);
	renew_journal(service->config, next->config, reload->family);
	config_free(service->config);
	*service = *next;
	reload->active = false;
	reload->handing_over = true;
	reload->deadline_us = clock_after_us(RELOAD_HAND_S);
}

/* Does a worker that is to leave still take connections? */
static bool is_old_accepting(const struct family *family)
{
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		const struct child *child = &family->child[i];
		if (child->role == ROLE_WORKER && child->leaving &&
		    counter_load(counter_set(family->region, i), COUNTER_ACCEPTING) != 0)
			return true;
	}
	return false;
}

/* Who reads that it is done may rely on it: the next connection is served as he wanted. */
static void hand_over(struct reload *reload)
{
	if (is_old_accepting(reload->family) && clock_monotonic_us() < reload->deadline_us)
		return;
	reload->handing_over = false;
	log_notice("reloaded: %u workers", reload->service->workers);
}

void reload_progress(struct reload *reload)
{
	const struct service *next = &reload->next;
	uint32_t ready = 0;

	if (reload->handing_over)
		hand_over(reload);
	if (!reload->active)
		return;
	for (uint32_t i = 0; i < next->workers; i++) {
		if (next->worker[i].slot < 0) {
			reload_abort(reload, "a new worker died before it was ready");
			return;
		}
		ready += reload->family->child[next->worker[i].slot].ready ? 1 : 0;
	}
	if (ready == next->workers) {
		commit(reload);
		hand_over(reload);
	} else if (clock_monotonic_us() > reload->deadline_us)
		reload_abort(reload, "the new workers do not become ready");
}

struct seat *reload_seat(struct reload *reload, int slot)
{
	return reload->active ? seat_find(reload->next.worker, reload->next.workers, slot) : NULL;
}
