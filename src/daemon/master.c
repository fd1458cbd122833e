#include "master.h"

#include <errno.h>
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
#include "life.h"
#include "reload.h"
#include "reopen.h"
#include "seat.h"
#include "watch.h"

#define MESSAGE_SIZE          1024
#define SNAPSHOT_RETRY_S      10.0
#define TICK_MS               1000
#define WORKER_JOURNAL_FAILED 71
#define CHILD_POISONED        70

/* For the journal writer to finish, its successors included. */
#ifdef TALLYD_STUB_CLOSING
#define CLOSING_S 2.0 /* a test waits for its end */
#else
#define CLOSING_S 60.0
#endif

enum phase {
	PHASE_STARTING,
	PHASE_RUNNING,
	PHASE_DRAINING, /* the workers finish */
	PHASE_CLOSING,  /* the journal writer finishes */
	PHASE_DONE,
};

struct master {
	enum phase phase;
	int status;
	struct service service;
	struct engine engine;
	struct family family;
	struct seat journal;
	struct reload reload;
	struct watch watch;
	struct life life;
	uint64_t closing_us;      /* when the journal writer's time to finish is over */
	uint64_t snapshot_at;     /* position of the last snapshot */
	uint64_t snapshot_asked;  /* of the one being written */
	uint64_t snapshot_due_us; /* not before */
	uint64_t snapshot_us;     /* when the one being written was begun */
	bool snapshot_wanted;     /* somebody asked for one that is not begun yet */
};

static volatile sig_atomic_t stop_signals;
static volatile sig_atomic_t quit_signal;
static volatile sig_atomic_t reload_signal;
static volatile sig_atomic_t reopen_signal;
static volatile sig_atomic_t snapshot_signal;
static sigset_t waiting; /* what is blocked while the loop waits */

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
	case SIGUSR2:
		snapshot_signal = 1;
		break;
	default:
		break; /* SIGCHLD only ends the wait */
	}
}

/* All of them stay blocked but while the loop waits. */
void master_hold_signals(void)
{
	static const int caught[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t blocked;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) {
		sigaction(caught[i], &action, NULL);
		sigaddset(&blocked, caught[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, &waiting);
	for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
		sigdelset(&waiting, caught[i]);
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

static void fork_failed(struct seat *seat, const char *who)
{
	log_error("cannot start a %s: %s; trying again", who, strerror(errno));
	seat_postpone(seat);
}

/* SEAT is filled again. */
static void count_respawn(struct master *master, struct seat *seat, enum region_role role)
{
	if (seat->mourned)
		life_respawned(master->engine.region, role);
	seat->mourned = false;
}

static void fill_journal(struct master *master)
{
	struct seat *seat = &master->journal;

	if (!seat_due(seat))
		return;
	seat->slot = family_journal(&master->family, master->service.config);
	if (seat->slot < 0)
		fork_failed(seat, "journal writer");
	else
		count_respawn(master, seat, REGION_JOURNAL_WRITER);
	if (seat->slot >= 0 && master->phase == PHASE_CLOSING)
		kill(master->family.child[seat->slot].pid, SIGTERM);
}

static void fill_workers(struct master *master)
{
	struct service *service = &master->service;

	if (master->phase > PHASE_RUNNING)
		return;
	for (uint32_t i = 0; i < service->workers; i++) {
		struct seat *seat = &service->worker[i];
		if (!seat_due(seat))
			continue;
		seat->slot = family_worker(&master->family, i + 1, service->config,
		                           service->listeners, master->phase == PHASE_STARTING);
		if (seat->slot < 0)
			fork_failed(seat, "worker");
		else
			count_respawn(master, seat, REGION_WORKER);
	}
}

/* ---- Stopping ---- */

static void begin_drain(struct master *master, int signal, double patience)
{
	log_notice("%s: draining", signal == SIGQUIT ? "quit" : "stop");
	reload_abort(&master->reload, "tallyd is stopping");
	master->phase = PHASE_DRAINING;
	family_signal(&master->family, ROLE_SNAPSHOT, SIGKILL);
	family_signal(&master->family, ROLE_WORKER, signal);
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++)
		if (master->family.child[i].role == ROLE_WORKER)
			master->family.child[i].kill_us = clock_after_us(patience + FAMILY_GRACE_S);
	listen_close(master->service.listeners);
	master->service.listeners = NULL;
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
	master->closing_us = clock_after_us(CLOSING_S);
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
			begin_drain(master, SIGTERM, master->service.config->drain_timeout);
		else /* not another SIGTERM, which a pending one would swallow */
			family_signal(&master->family, ROLE_WORKER, SIGQUIT);
	}
}

static void act_on_signals(struct master *master)
{
	act_on_stop(master);
	if (reopen_signal) {
		reopen_signal = 0;
		reopen_logs(&master->family);
	}
	if (snapshot_signal) {
		snapshot_signal = 0;
		master->snapshot_wanted = true;
	}
	/* Not before the first workers serve: a HUP during the start waits for them. */
	if (reload_signal && master->phase == PHASE_RUNNING && !master->reload.active &&
	    !master->reload.handing_over) {
		reload_signal = 0;
		reload_begin(&master->reload);
	}
}

/* ---- Deaths ---- */

static struct seat *seat_of(struct master *master, int slot)
{
	struct seat *seat;

	if (master->journal.slot == slot)
		return &master->journal;
	seat = seat_find(master->service.worker, master->service.workers, slot);
	return seat != NULL ? seat : reload_seat(&master->reload, slot);
}

static void log_death(const struct master *master, const struct child *child, int status)
{
	bool expected =
	    child->leaving || master->phase > PHASE_RUNNING || child->role == ROLE_SNAPSHOT;
	char name[32];

	family_name(child, name, sizeof name);
	if (WIFSIGNALED(status))
		log_warning("%s (process %ld) was killed by signal %d%s", name, (long)child->pid,
		            WTERMSIG(status),
		            WTERMSIG(status) == SIGSYS
		                ? ": a system call that it may not make; the kernel's log has its "
		                  "number"
		                : "");
	else if (WEXITSTATUS(status) != 0 || !expected)
		log_warning("%s (process %ld) exited with status %d", name, (long)child->pid,
		            WEXITSTATUS(status));
	else
		log_debug("%s (process %ld) is done", name, (long)child->pid);
}

static void snapshot_ended(struct master *master, bool good)
{
	struct region_snapshots *told = region_snapshots(master->engine.region);
	uint64_t number = atomic_load(&told->begun);

	life_snapshot(&master->life, good);
	if (good) {
		atomic_store(&told->took_us, clock_monotonic_us() - master->snapshot_us);
		atomic_store(&told->good, number);
	}
	/* Last: who waits for the end looks at the others then. */
	atomic_store(&told->ended, number);
	if (good)
		master->snapshot_at = master->snapshot_asked;
	else
		master->snapshot_due_us = clock_after_us(SNAPSHOT_RETRY_S);
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
		seat_reset(seat, master->service.config->respawn_backoff);
	else if (seat != NULL)
		seat_vacate(seat, master->service.config->respawn_backoff, child.born_us);
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
	reload_abort(&master->reload, "the region was inconsistent");
	const struct life_kept kept = life_keep(&master->life);
	engine_destroy(&master->engine, master->family.instance);
	if (master->phase > PHASE_RUNNING) {
		finish(master, MASTER_EXIT_FAILED);
		return;
	}
	int status = engine_build(&master->engine, master->service.config, master->family.instance,
	                          error, sizeof error);
	if (status != 0) {
		log_error("%s", error);
		finish(master, status);
		return;
	}
	master->watch = (struct watch){0};
	master->family.region = master->engine.region;
	life_begin(&master->life, master->engine.region, master->family.instance,
	           master->family.started_us);
	life_go_on(&master->life, &kept);
	seat_reset(&master->journal, master->service.config->respawn_backoff);
	for (uint32_t i = 0; i < master->service.workers; i++)
		seat_reset(&master->service.worker[i], master->service.config->respawn_backoff);
}

/* ---- Snapshots ---- */

static bool snapshot_due(const struct master *master, uint64_t tail)
{
	uint64_t every = master->service.config->snapshot_every;

	return every != 0 && tail - master->snapshot_at >= every &&
	       clock_monotonic_us() >= master->snapshot_due_us;
}

/* One that was asked for begins after it was: what is being written already is not it. */
static void snapshot_if_due(struct master *master)
{
	uint64_t tail = atomic_load(&region_marks(master->engine.region)->tail);

	if (master->phase != PHASE_RUNNING ||
	    !(master->snapshot_wanted || snapshot_due(master, tail)) ||
	    family_count(&master->family, ROLE_SNAPSHOT) != 0)
		return;
	master->snapshot_wanted = false;
	master->snapshot_asked = tail;
	master->snapshot_us = clock_monotonic_us();
	atomic_fetch_add(&region_snapshots(master->engine.region)->begun, 1);
	if (family_snapshot(&master->family, master->service.config) < 0) {
		log_error("cannot start a snapshotter: %s; one that is due is tried again",
		          strerror(errno));
		snapshot_ended(master, false);
	}
}

/* ---- The loop ---- */

/* For those who look at the region from outside. */
static void tell_phase(struct master *master)
{
	static const enum region_phase told[] = {[PHASE_STARTING] = REGION_STARTING,
	                                         [PHASE_RUNNING] = REGION_SERVING,
	                                         [PHASE_DRAINING] = REGION_DRAINING,
	                                         [PHASE_CLOSING] = REGION_CLOSING,
	                                         [PHASE_DONE] = REGION_CLOSING};
	struct region_roster *roster = region_roster(master->engine.region);

	atomic_store(&roster->phase, told[master->phase]);
	atomic_store(&roster->workers, master->service.workers);
	family_tell(&master->family, master->phase > PHASE_RUNNING);
}

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
	for (uint32_t i = 0; i < master->service.workers; i++)
		if (master->service.worker[i].slot < 0 ||
		    !master->family.child[master->service.worker[i].slot].ready)
			return;
	master->phase = PHASE_RUNNING;
	log_notice("serving with %u workers", master->service.workers);
	daemonize_ready();
}

/* Milliseconds until something is due by time. */
static int patience(const struct master *master)
{
	uint64_t now = clock_monotonic_us();
	uint64_t due = now + TICK_MS * 1000;

	if (master->journal.slot < 0 && master->journal.due_us < due)
		due = master->journal.due_us;
	for (uint32_t i = 0; i < master->service.workers; i++)
		if (master->service.worker[i].slot < 0 && master->service.worker[i].due_us < due)
			due = master->service.worker[i].due_us;
	if (master->reload.handing_over && now + RELOAD_LOOK_MS * 1000 < due)
		due = now + RELOAD_LOOK_MS * 1000;
	return due <= now ? 0 : (int)((due - now) / 1000 + 1);
}

static void wait_for_news(struct master *master)
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
	if (ppoll(polled, count, &timeout, &waiting) <= 0)
		return;
	for (nfds_t i = 0; i < count; i++)
		if (polled[i].revents != 0)
			note_ready(master, owner[i]);
}

static void loop(struct master *master)
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
		reload_progress(&master->reload);
		drain_progress(master);
		kill_overdue(master);
		snapshot_if_due(master);
		watch_ids(&master->watch, master->engine.region);
		life_look(&master->life);
		tell_phase(master);
		wait_for_news(master);
	}
}

static int start(struct master *master)
{
	char error[MESSAGE_SIZE];
	int status;

	status = engine_build(&master->engine, master->service.config, master->family.instance,
	                      error, sizeof error);
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
	life_begin(&master->life, master->engine.region, master->family.instance,
	           master->family.started_us);
	seat_reset(&master->journal, master->service.config->respawn_backoff);
	for (uint32_t i = 0; i < CONFIG_WORKERS_MAX; i++)
		seat_reset(&master->service.worker[i], master->service.config->respawn_backoff);
	return 0;
}

int master_run(struct config *config, const char *config_file, struct listen_set *listeners,
               const struct instance *instance, const struct privileges *privileges)
{
	static struct master master; /* large, and one */

	master.service = (struct service){
	    .config = config, .listeners = listeners, .workers = config_workers(config)};
	master.reload = (struct reload){.config_file = config_file,
	                                .service = &master.service,
	                                .family = &master.family,
	                                .engine = &master.engine};
	master.family.instance = instance;
	master.family.privileges = privileges;
	master.family.started_us = clock_real_us();
	master.status = start(&master);
	if (master.status == 0)
		loop(&master);
	kill_all(&master);
	if (master.status == MASTER_EXIT_FAILED)
		daemonize_failed(MASTER_EXIT_FAILED, "tallyd failed: see the log");
	engine_destroy(&master.engine, instance);
	family_close(&master.family);
	listen_close(master.service.listeners);
	config_free(master.service.config);
	log_notice("stopped with status %d", master.status);
	return master.status;
}
