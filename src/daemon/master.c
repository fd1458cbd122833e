#include "master.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../base/clock.h"
#include "../base/log.h"
#include "daemonize.h"
#include "engine.h"
#include "family.h"
#include "journal.h"

#define MESSAGE_SIZE          1024
#define BACKOFF_MAX           10.0 /* seconds, of respawns */
#define HEALTHY_S             10.0 /* alive for so long: the backoff starts again */
#define READY_PATIENCE_S      30.0 /* for new workers to come up */
#define KILL_GRACE_S          5.0  /* beyond drain_timeout */
#define SNAPSHOT_RETRY_S      10.0
#define CLOSING_S             60.0 /* for the journal writer to finish, its successors included */
#define TICK_MS               1000
#define WORKER_JOURNAL_FAILED 71
#define CHILD_POISONED        70

enum phase {
	PHASE_STARTING,
	PHASE_RUNNING,
	PHASE_DRAINING, /* the workers finish */
	PHASE_CLOSING,  /* the journal writer finishes */
	PHASE_DONE,
};

/* A place that must be filled: the journal writer's, and one per worker. */
struct seat {
	int slot; /* of who sits there, -1: nobody */
	uint64_t due_us;
	double delay; /* seconds, before the next respawn */
};

struct reload {
	bool active;
	bool again; /* another HUP came meanwhile */
	struct config *config;
	struct listen_set *listeners;
	struct seat worker[CONFIG_WORKERS_MAX];
	uint64_t deadline_us;
};

struct master {
	enum phase phase;
	int status;
	struct config *config;
	const char *config_file;
	struct listen_set *listeners;
	struct engine engine;
	struct family family;
	struct seat journal;
	struct seat worker[CONFIG_WORKERS_MAX];
	uint32_t workers;
	struct reload reload;
	uint64_t closing_us;      /* when the journal writer's time to finish is over */
	uint64_t snapshot_at;     /* position of the last snapshot */
	uint64_t snapshot_asked;  /* of the one being written */
	uint64_t snapshot_due_us; /* not before */
};

static volatile sig_atomic_t stop_signals;
static volatile sig_atomic_t quit_signal;
static volatile sig_atomic_t reload_signal;
static volatile sig_atomic_t reopen_signal;

static void on_signal(int number)
{
	switch (number) {
	case SIGTERM:
	case SIGINT:
		stop_signals = stop_signals + 1;
		break;
	case SIGQUIT:
		quit_signal = 1;
		break;
	case SIGHUP:
		reload_signal = 1;
		break;
	case SIGUSR1:
		reopen_signal = 1;
		break;
	default:
		break; /* SIGCHLD only ends the wait */
	}
}

/* All of them stay blocked but while the loop waits. */
static void catch_signals(sigset_t *waiting)
{
	static const int caught[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGCHLD};
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t blocked;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) {
		sigaction(caught[i], &action, NULL);
		sigaddset(&blocked, caught[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, waiting);
	for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
		sigdelset(waiting, caught[i]);
}

static uint64_t after(double seconds)
{
	return clock_monotonic_us() + (uint64_t)(seconds * 1e6);
}

static void finish(struct master *master, int status)
{
	master->phase = PHASE_DONE;
	master->status = status;
}

/* Kills whoever is left, and waits until nobody is. */
static void kill_all(struct master *master)
{
	family_signal(&master->family, ROLE_NONE, SIGKILL);
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		const struct child *child = &master->family.child[i];
		if (child->role == ROLE_NONE)
			continue;
		while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
			;
		family_forget(&master->family, i);
	}
}

/* ---- Seats ---- */

static void seat_reset(const struct master *master, struct seat *seat)
{
	*seat = (struct seat){.slot = -1, .delay = master->config->respawn_backoff};
}

static void seat_vacate(const struct master *master, struct seat *seat, uint64_t born_us)
{
	double lived = (double)(clock_monotonic_us() - born_us) / 1e6;

	if (lived >= HEALTHY_S)
		seat->delay = master->config->respawn_backoff;
	seat->slot = -1;
	seat->due_us = after(seat->delay);
	seat->delay = fmin(seat->delay * 2, BACKOFF_MAX);
}

static void fork_failed(struct seat *seat, const char *who)
{
	log_error("cannot start a %s: %s; trying again", who, strerror(errno));
	seat->due_us = after(BACKOFF_MAX / 10);
}

static void fill_journal(struct master *master)
{
	struct seat *seat = &master->journal;

	if (seat->slot >= 0 || clock_monotonic_us() < seat->due_us)
		return;
	seat->slot = family_journal(&master->family, master->config);
	if (seat->slot < 0)
		fork_failed(seat, "journal writer");
	else if (master->phase == PHASE_CLOSING)
		kill(master->family.child[seat->slot].pid, SIGTERM);
}

static void fill_workers(struct master *master)
{
	if (master->phase > PHASE_RUNNING)
		return;
	for (uint32_t i = 0; i < master->workers; i++) {
		struct seat *seat = &master->worker[i];
		if (seat->slot >= 0 || clock_monotonic_us() < seat->due_us)
			continue;
		seat->slot = family_worker(&master->family, i + 1, master->config,
		                           master->listeners, master->phase == PHASE_STARTING);
		if (seat->slot < 0)
			fork_failed(seat, "worker");
	}
}

/* ---- Reload ---- */

static void report_restart_only(const char *key)
{
	log_warning("reload: %s changes only with a restart, it stays as it was", key);
}

/* Lets these workers finish what they have, idle connections until their next answer. */
static void retire(struct master *master, int slot, double drain_timeout)
{
	struct child *child = &master->family.child[slot];

	child->leaving = true;
	child->fresh = false;
	child->kill_us = after(drain_timeout + KILL_GRACE_S);
	kill(child->pid, SIGWINCH);
}

/* New workers must inherit the log that they are to write to: it changes before they are forked. */
static int switch_log(const struct config *from, const struct config *to)
{
	if (strcmp(from->log, to->log) != 0 && log_open(to->log) != 0)
		return -1;
	log_set_level(to->log_level);
	return 0;
}

static void switch_log_back(const struct config *from, const struct config *to)
{
	if (switch_log(from, to) != 0)
		log_error("cannot go back to the log %s: %s; tallyd goes on logging here", to->log,
		          strerror(errno));
}

static void reload_abort(struct master *master, const char *why)
{
	struct reload *reload = &master->reload;

	switch_log_back(reload->config, master->config);
	log_error("reload failed: %s; everything stays as it was", why);
	for (uint32_t i = 0; i < CONFIG_WORKERS_MAX; i++)
		if (reload->worker[i].slot >= 0)
			retire(master, reload->worker[i].slot, reload->config->drain_timeout);
	listen_abandon(master->listeners, reload->listeners);
	config_free(reload->config);
	reload->active = false;
}

static bool reload_fork(struct master *master)
{
	struct reload *reload = &master->reload;

	for (uint32_t i = 0; i < config_workers(reload->config); i++) {
		struct seat *seat = &reload->worker[i];
		seat->slot =
		    family_worker(&master->family, i + 1, reload->config, reload->listeners, true);
		if (seat->slot < 0)
			return false;
		master->family.child[seat->slot].fresh = true;
	}
	return true;
}

static void reload_begin(struct master *master)
{
	struct reload *reload = &master->reload;
	char error[MESSAGE_SIZE];

	log_notice("reloading %s", master->config_file);
	reload->listeners = NULL;
	reload->config = config_load(master->config_file, error, sizeof error);
	if (reload->config == NULL) {
		log_error("reload failed: %s; everything stays as it was", error);
		return;
	}
	config_restart_only(master->config, reload->config, report_restart_only);
	if (config_keep(reload->config, master->config) != 0) {
		snprintf(error, sizeof error, "out of memory");
	} else if (switch_log(master->config, reload->config) != 0) {
		snprintf(error, sizeof error, "log: %s cannot be opened: %s", reload->config->log,
		         strerror(errno));
	} else {
		reload->listeners =
		    listen_open(reload->config, master->listeners, error, sizeof error);
		if (reload->listeners != NULL &&
		    listen_own(reload->listeners, master->family.privileges, error, sizeof error) !=
		        0) {
			listen_abandon(master->listeners, reload->listeners);
			reload->listeners = NULL;
		}
		if (reload->listeners == NULL)
			switch_log_back(reload->config, master->config);
	}
	if (reload->listeners == NULL) {
		log_error("reload failed: %s; everything stays as it was", error);
		config_free(reload->config);
		return;
	}
	for (uint32_t i = 0; i < CONFIG_WORKERS_MAX; i++)
		seat_reset(master, &reload->worker[i]);
	reload->active = true;
	reload->deadline_us = after(READY_PATIENCE_S);
	if (!reload_fork(master))
		reload_abort(master, errno == EAGAIN
		                         ? "no process is left for the new workers: too many old "
		                           "ones still drain; try again later"
		                         : strerror(errno));
}

/* The journal writer's log is the one that it was forked with: another takes its place. */
static void renew_journal(struct master *master, const struct config *config)
{
	const struct config *before = master->config;
	struct child *child;

	if (master->journal.slot < 0 ||
	    (strcmp(before->log, config->log) == 0 && before->log_level == config->log_level))
		return;
	child = &master->family.child[master->journal.slot];
	child->leaving = true;
	kill(child->pid, SIGWINCH);
}

static void reload_commit(struct master *master)
{
	struct reload *reload = &master->reload;

	for (uint32_t i = 0; i < master->workers; i++)
		if (master->worker[i].slot >= 0)
			retire(master, master->worker[i].slot, master->config->drain_timeout);
	memcpy(master->worker, reload->worker, sizeof master->worker);
	master->workers = config_workers(reload->config);
	for (uint32_t i = 0; i < master->workers; i++)
		master->family.child[master->worker[i].slot].fresh = false;
	listen_commit(master->listeners, reload->listeners);
	master->listeners = reload->listeners;
	engine_configure(&master->engine, reload->config);
	renew_journal(master, reload->config);
	config_free(master->config);
	master->config = reload->config;
	reload->active = false;
	log_notice("reloaded: %u workers", master->workers);
}

static void reload_progress(struct master *master)
{
	struct reload *reload = &master->reload;
	unsigned ready = 0;

	if (!reload->active)
		return;
	for (uint32_t i = 0; i < config_workers(reload->config); i++) {
		if (reload->worker[i].slot < 0) {
			reload_abort(master, "a new worker died before it was ready");
			return;
		}
		ready += master->family.child[reload->worker[i].slot].ready ? 1 : 0;
	}
	if (ready == config_workers(reload->config))
		reload_commit(master);
	else if (clock_monotonic_us() > reload->deadline_us)
		reload_abort(master, "the new workers do not become ready");
}

/* ---- Stopping ---- */

static void begin_drain(struct master *master, int signal, double patience)
{
	log_notice("%s: draining", signal == SIGQUIT ? "quit" : "stop");
	if (master->reload.active)
		reload_abort(master, "tallyd is stopping");
	master->phase = PHASE_DRAINING;
	family_signal(&master->family, ROLE_SNAPSHOT, SIGKILL);
	family_signal(&master->family, ROLE_WORKER, signal);
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++)
		if (master->family.child[i].role == ROLE_WORKER)
			master->family.child[i].kill_us = after(patience + KILL_GRACE_S);
	listen_close(master->listeners);
	master->listeners = NULL;
}

static void drain_progress(struct master *master)
{
	if (master->phase == PHASE_CLOSING && clock_monotonic_us() > master->closing_us) {
		log_error("the journal writer does not finish; what was answered is safe");
		finish(master, MASTER_EXIT_FAILED);
	}
	if (master->phase != PHASE_DRAINING || family_count(&master->family, ROLE_WORKER) != 0)
		return;
	master->phase = PHASE_CLOSING;
	master->closing_us = after(CLOSING_S);
	family_signal(&master->family, ROLE_JOURNAL, SIGTERM);
}

static void kill_overdue(struct master *master)
{
	uint64_t now = clock_monotonic_us();

	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		struct child *child = &master->family.child[i];
		if (child->role == ROLE_NONE || child->kill_us == 0 || now < child->kill_us)
			continue;
		log_warning("worker %u (process %ld) does not drain: killed", child->number,
		            (long)child->pid);
		kill(child->pid, SIGKILL);
		child->kill_us = 0;
	}
}

/* ---- Signals ---- */

static void act_on_stop(struct master *master)
{
	if (quit_signal) {
		quit_signal = 0;
		if (master->phase <= PHASE_RUNNING)
			begin_drain(master, SIGQUIT, 0);
		else
			family_signal(&master->family, ROLE_WORKER, SIGQUIT);
	}
	while (stop_signals > 0) {
		stop_signals = stop_signals - 1;
		if (master->phase <= PHASE_RUNNING)
			begin_drain(master, SIGTERM, master->config->drain_timeout);
		else /* not another SIGTERM, which a pending one would swallow */
			family_signal(&master->family, ROLE_WORKER, SIGQUIT);
	}
}

static void act_on_signals(struct master *master)
{
	act_on_stop(master);
	if (reopen_signal) {
		reopen_signal = 0;
		if (log_reopen() != 0)
			log_error("cannot reopen the log: %s", strerror(errno));
		family_signal(&master->family, ROLE_WORKER, SIGUSR1);
		family_signal(&master->family, ROLE_JOURNAL, SIGUSR1);
	}
	/* Not before the first workers serve: a HUP during the start waits for them. */
	if (reload_signal && master->phase == PHASE_RUNNING && !master->reload.active) {
		reload_signal = 0;
		reload_begin(master);
	}
}

/* ---- Deaths ---- */

static struct seat *seat_of(struct master *master, int slot)
{
	if (master->journal.slot == slot)
		return &master->journal;
	for (uint32_t i = 0; i < CONFIG_WORKERS_MAX; i++) {
		if (master->worker[i].slot == slot)
			return &master->worker[i];
		if (master->reload.active && master->reload.worker[i].slot == slot)
			return &master->reload.worker[i];
	}
	return NULL;
}

static void log_death(const struct master *master, const struct child *child, int status)
{
	bool expected =
	    child->leaving || master->phase > PHASE_RUNNING || child->role == ROLE_SNAPSHOT;
	char name[32];

	family_name(child, name, sizeof name);
	if (WIFSIGNALED(status))
		log_warning("%s (process %ld) was killed by signal %d", name, (long)child->pid,
		            WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0 || !expected)
		log_warning("%s (process %ld) exited with status %d", name, (long)child->pid,
		            WEXITSTATUS(status));
	else
		log_debug("%s (process %ld) is done", name, (long)child->pid);
}

static void snapshot_ended(struct master *master, bool good)
{
	if (good)
		master->snapshot_at = master->snapshot_asked;
	else
		master->snapshot_due_us = after(SNAPSHOT_RETRY_S);
}

static void journal_ended(struct master *master, const struct child *child, int status)
{
	/* Whatever it died of after it had said so: no other may try what failed once more. */
	bool failed = atomic_load(&region_marks(master->engine.region)->failed) != 0;

	if (failed || (WIFEXITED(status) && WEXITSTATUS(status) == JOURNAL_EXIT_FAILED))
		finish(master, MASTER_EXIT_FAILED);
	else if (master->phase == PHASE_CLOSING && !child->leaving && WIFEXITED(status) &&
	         WEXITSTATUS(status) == 0)
		finish(master, EXIT_SUCCESS);
}

/* A worker that cannot even start the first time will not the second. */
static void worker_ended(struct master *master, const struct child *child, int status)
{
	if (master->phase == PHASE_STARTING && !child->ready && WIFEXITED(status) &&
	    WEXITSTATUS(status) != CHILD_POISONED && WEXITSTATUS(status) != WORKER_JOURNAL_FAILED) {
		daemonize_failed(MASTER_EXIT_FAILED, "the workers do not start: see the log");
		finish(master, MASTER_EXIT_FAILED);
	}
}

static void bury(struct master *master, int slot, int status)
{
	struct child child = master->family.child[slot];
	struct seat *seat = seat_of(master, slot);

	log_death(master, &child, status);
	family_forget(&master->family, (uint32_t)slot);
	if (seat != NULL && child.leaving)
		seat_reset(master, seat);
	else if (seat != NULL)
		seat_vacate(master, seat, child.born_us);
	if (child.role == ROLE_SNAPSHOT)
		snapshot_ended(master, WIFEXITED(status) && WEXITSTATUS(status) == 0);
	else if (child.role == ROLE_JOURNAL)
		journal_ended(master, &child, status);
	else
		worker_ended(master, &child, status);
}

static void reap(struct master *master)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		int slot = family_find(&master->family, pid);
		if (slot >= 0)
			bury(master, slot, status);
	}
}

/* ---- Poison ---- */

/* Nobody can trust the region: everything stops and is made anew from what is durable. */
static void rebuild(struct master *master)
{
	char error[MESSAGE_SIZE];

	log_error("the region is inconsistent: stopping all workers and rebuilding it from disk");
	kill_all(master);
	if (master->reload.active) {
		for (uint32_t i = 0; i < CONFIG_WORKERS_MAX; i++)
			master->reload.worker[i].slot = -1;
		reload_abort(master, "the region was inconsistent");
	}
	engine_destroy(&master->engine, master->family.instance);
	if (master->phase > PHASE_RUNNING) {
		finish(master, MASTER_EXIT_FAILED);
		return;
	}
	int status = engine_build(&master->engine, master->config, master->family.instance, error,
	                          sizeof error);
	if (status != 0) {
		log_error("%s", error);
		finish(master, status);
		return;
	}
	master->family.region = master->engine.region;
	seat_reset(master, &master->journal);
	for (uint32_t i = 0; i < master->workers; i++)
		seat_reset(master, &master->worker[i]);
}

/* ---- Snapshots ---- */

static void snapshot_if_due(struct master *master)
{
	uint64_t tail = atomic_load(&region_marks(master->engine.region)->tail);

	if (master->phase != PHASE_RUNNING || master->config->snapshot_every == 0 ||
	    tail - master->snapshot_at < master->config->snapshot_every ||
	    clock_monotonic_us() < master->snapshot_due_us ||
	    family_count(&master->family, ROLE_SNAPSHOT) != 0)
		return;
	master->snapshot_asked = tail;
	if (family_snapshot(&master->family) < 0) {
		log_error("cannot start a snapshotter: %s; trying again", strerror(errno));
		master->snapshot_due_us = after(SNAPSHOT_RETRY_S);
	}
}

/* ---- The loop ---- */

static void note_ready(struct master *master, struct child *child)
{
	char byte;
	ssize_t got = read(child->ready_fd, &byte, 1);

	if (got == 1)
		child->ready = true;
	else if (got < 0 && errno == EAGAIN)
		return;
	close(child->ready_fd);
	child->ready_fd = -1;
	if (master->phase != PHASE_STARTING)
		return;
	for (uint32_t i = 0; i < master->workers; i++)
		if (master->worker[i].slot < 0 ||
		    !master->family.child[master->worker[i].slot].ready)
			return;
	master->phase = PHASE_RUNNING;
	log_notice("serving with %u workers", master->workers);
	daemonize_ready();
}

/* Milliseconds until something is due by time. */
static int patience(const struct master *master)
{
	uint64_t now = clock_monotonic_us();
	uint64_t due = now + TICK_MS * 1000;

	if (master->journal.slot < 0 && master->journal.due_us < due)
		due = master->journal.due_us;
	for (uint32_t i = 0; i < master->workers; i++)
		if (master->worker[i].slot < 0 && master->worker[i].due_us < due)
			due = master->worker[i].due_us;
	return due <= now ? 0 : (int)((due - now) / 1000 + 1);
}

static void wait_for_news(struct master *master, const sigset_t *waiting)
{
	struct pollfd polled[REGION_PROCESSES_MAX];
	struct child *owner[REGION_PROCESSES_MAX];
	nfds_t count = 0;
	int ms = patience(master);
	const struct timespec timeout = {.tv_sec = ms / 1000,
	                                 .tv_nsec = (long)(ms % 1000) * 1000000};

	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		struct child *child = &master->family.child[i];
		if (child->role == ROLE_NONE || child->ready_fd < 0)
			continue;
		owner[count] = child;
		polled[count++] = (struct pollfd){.fd = child->ready_fd, .events = POLLIN};
	}
	if (ppoll(polled, count, &timeout, waiting) <= 0)
		return;
	for (nfds_t i = 0; i < count; i++)
		if (polled[i].revents != 0)
			note_ready(master, owner[i]);
}

static void loop(struct master *master, const sigset_t *waiting)
{
	while (master->phase != PHASE_DONE) {
		act_on_signals(master);
		reap(master);
		if (master->phase == PHASE_DONE)
			break;
		if (region_poisoned(master->engine.region)) {
			rebuild(master);
			continue;
		}
		fill_journal(master);
		fill_workers(master);
		reload_progress(master);
		drain_progress(master);
		kill_overdue(master);
		snapshot_if_due(master);
		wait_for_news(master, waiting);
	}
}

static int start(struct master *master)
{
	char error[MESSAGE_SIZE];
	int status;

	status = engine_build(&master->engine, master->config, master->family.instance, error,
	                      sizeof error);
	if (status == 0 && family_open(&master->family) != 0) {
		snprintf(error, sizeof error, "cannot make the workers' eventfds: %s",
		         strerror(errno));
		status = MASTER_EXIT_FAILED;
	}
	if (status != 0) {
		log_error("%s", error);
		daemonize_failed(status, error);
		return status;
	}
	master->family.region = master->engine.region;
	master->snapshot_at = master->engine.snapshot_start;
	master->workers = config_workers(master->config);
	seat_reset(master, &master->journal);
	for (uint32_t i = 0; i < CONFIG_WORKERS_MAX; i++)
		seat_reset(master, &master->worker[i]);
	return 0;
}

int master_run(struct config *config, const char *config_file, struct listen_set *listeners,
               const struct instance *instance, const struct privileges *privileges)
{
	static struct master master; /* large, and one */
	sigset_t waiting;

	master.config = config;
	master.config_file = config_file;
	master.listeners = listeners;
	master.family.instance = instance;
	master.family.privileges = privileges;
	master.family.started_us = clock_real_us();
	catch_signals(&waiting);
	master.status = start(&master);
	if (master.status == 0)
		loop(&master, &waiting);
	kill_all(&master);
	if (master.status == MASTER_EXIT_FAILED)
		daemonize_failed(MASTER_EXIT_FAILED, "tallyd failed: see the log");
	engine_destroy(&master.engine, instance);
	family_close(&master.family);
	listen_close(master.listeners);
	config_free(master.config);
	log_notice("stopped with status %d", master.status);
	return master.status;
}
