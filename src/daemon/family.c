#include "family.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../../shm/counter.h"
#include "../../shm/room.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../base/pass.h"
#include "../ledger/history.h"
#include "../ledger/ledger.h"
#include "../ledger/prune.h"
#include "../server/server.h"
#include "confine.h"
#include "journal.h"
#include "snapshotter.h"

#define ERROR_SIZE 512

static const struct child nobody = {.ready_fd = -1, .handover_fd = -1};

static void child_forget_paths(struct child *child)
{
	free(child->access_log);
	free(child->chat_history);
	child->access_log = child->chat_history = NULL;
}

int family_open(struct family *family)
{
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		family->child[i] = nobody;
		family->wake_fds[i] = -1;
	}
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		family->wake_fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (family->wake_fds[i] < 0)
			return -1;
	}
	return 0;
}

void family_close(struct family *family)
{
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++)
		if (family->wake_fds[i] >= 0)
			close(family->wake_fds[i]);
}

static void on_alarm(uint32_t lock, unsigned seconds)
{
	log_warning("waiting for lock %u for %u s: is its owner stopped?", lock, seconds);
}

/*
 * The master's handlers are not the child's.  What a child is told by signal stays blocked until
 * its role has handlers for it, so that nothing sent right after the fork is lost or kills.
 */
static void reset_signals(void)
{
	static const int caught[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGQUIT, SIGCHLD};
	static const int orders[] = {SIGTERM, SIGQUIT, SIGWINCH, SIGUSR1};
	sigset_t blocked;

	for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
		signal(caught[i], SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* a terminal's ^C is the master's to act on */
	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
		sigaddset(&blocked, orders[i]);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
}

/* Dies with the master; the check covers a master that died before the request. */
static bool tie_to_parent(pid_t master)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == master;
}

/*
 * SCHED_BATCH: a child that wakes does not push aside who is running, so that on a busy machine
 * more waits for it when its turn comes, and one wake-up and one group commit serve it all
 * (measured: up to a quarter more).  An idle processor runs it at once all the same. Where it is
 * not permitted, nothing is lost but that.
 */
static void prefer_throughput(void)
{
	const struct sched_param parameters = {.sched_priority = 0};

	if (sched_setscheduler(0, SCHED_BATCH, &parameters) != 0)
		log_debug("SCHED_BATCH is not to be had: %s", strerror(errno));
}

static void close_end(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* The master's ends of what leads to the other children. */
static void leave_siblings(const struct family *family)
{
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		close_end(family->child[i].ready_fd);
		close_end(family->child[i].handover_fd);
	}
}

/* Who cannot become what it is to be must not go on as what it is. */
static void be_sure(int result, const char *error)
{
	if (result == 0)
		return;
	log_error("%s", error);
	_exit(EXIT_FAILURE);
}

static void become(const struct family *family, const struct child *child, const char *title,
                   pid_t master)
{
	char error[ERROR_SIZE];
	char name[32];

	family_name(child, name, sizeof name);
	log_set_role(name);
	prctl(PR_SET_NAME, title);
	reset_signals();
	prefer_throughput();
	leave_siblings(family);
	be_sure(privileges_drop(family->privileges, error, sizeof error), error);
	if (!tie_to_parent(master))
		_exit(EXIT_FAILURE);
	region_on_alarm(family->region, on_alarm);
}

/* Forks CHILD into SLOT.  In the child, 0 is returned. */
static pid_t give_birth(struct family *family, uint32_t slot, const struct child *child,
                        const char *title)
{
	pid_t master = getpid();
	struct region_settings *settings = region_settings(family->region);
	sigset_t all;
	sigset_t before;

	if (atomic_load(&settings->processes) <= slot)
		atomic_store(&settings->processes, slot + 1);
	/* No signal may reach the child while it still has the master's handlers. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0) {
		become(family, child, title, master);
		return 0;
	}
	int error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid > 0) {
		family->child[slot] = *child;
		family->child[slot].pid = pid;
		family->child[slot].born_us = clock_monotonic_us();
	}
	errno = error;
	return pid;
}

static int free_worker_slot(const struct family *family)
{
	for (uint32_t i = FAMILY_WORKER_SLOT; i < REGION_PROCESSES_MAX; i++)
		if (family->child[i].role == ROLE_NONE)
			return (int)i;
	errno = EAGAIN;
	return -1;
}

static void settings_from(struct server_settings *settings, const struct config *config,
                          const struct family *family, bool trial)
{
	*settings = (struct server_settings){
	    .max_connections = config->max_connections,
	    .max_connections_per_ip = config->max_connections_per_ip,
	    .buffer_memory = config->buffer_memory,
	    .max_body = config->max_body,
	    .header_timeout = config->header_timeout,
	    .body_timeout = config->body_timeout,
	    .body_rate = config->body_rate,
	    .idle_timeout = config->idle_timeout,
	    .write_timeout = config->write_timeout,
	    .drain_timeout = config->drain_timeout,
	    .feed_heartbeat = config->feed_heartbeat,
	    .diagnostics = config->diagnostics,
	    .sync_always = config->sync == CONFIG_SYNC_ALWAYS,
	    .tokens = config->tokens,
	    .version = PACKAGE_VERSION,
	    .workers = config_workers(config),
	    .started_us = family->started_us,
	    .access_log = config->access_log[0] != '\0' ? config->access_log : NULL,
	    .access_log_required = trial,
	    .chat_history = config->chat_history[0] != '\0' ? config->chat_history : NULL,
	    .chat_history_required = trial,
	    .access_log_json = config->log_format == LOG_FORMAT_JSON,
	};
	/* The configuration was checked with the same function. */
	cors_read(config->cors_origin, &settings->cors_origins);
}

/* The counters of all who may be workers beside SLOT's owner.  Their number. */
static size_t find_peers(struct region *region, uint32_t slot, const struct counters **peers)
{
	uint32_t slots = region_geometry(region)->processes;
	size_t count = 0;

	for (uint32_t i = FAMILY_WORKER_SLOT; i < slots; i++)
		if (i != slot)
			peers[count++] = counter_set(region, i);
	return count;
}

static struct confine confine_of(const struct config *config, enum confine_role role, int handover)
{
	return (struct confine){.role = role,
	                        .seccomp = config->seccomp,
	                        .landlock = config->landlock,
	                        .journal = -1,
	                        .snapshots = -1,
	                        .handover = handover,
	                        .syslog = log_system_socket()};
}

static bool confine_worker(void *confined)
{
	char error[ERROR_SIZE];

	if (confine(confined, error, sizeof error) == 0)
		return true;
	log_error("%s", error);
	return false;
}

/* The child's ends. */
struct ends {
	int ready;
	int handover;
};

static int serve(const struct family *family, uint32_t slot, const struct config *config,
                 const struct listen_set *listeners, bool trial, const struct ends *ends)
{
	struct server_listener listener[CONFIG_LISTENERS_MAX];
	const struct counters *peers[REGION_PROCESSES_MAX];
	const struct counters *sets[REGION_PROCESSES_MAX];
	struct server_settings settings;
	struct journal_reader *history = history_open(family->region, family->instance->journal);
	struct ledger *ledger;
	struct room *room;

	if (history == NULL) {
		log_error("%s: cannot be read: %s", family->instance->journal, strerror(errno));
		return EXIT_FAILURE;
	}
	ledger = ledger_open(family->region, slot, history);
	if (ledger == NULL)
		return region_poisoned(family->region) ? 70 : EXIT_FAILURE;
	/* The set has the listeners in the order of the configuration. */
	room = room_open(family->region, slot);
	if (room == NULL)
		return EXIT_FAILURE;
	for (size_t i = 0; i < listeners->count; i++)
		listener[i] =
		    (struct server_listener){.fd = listeners->sockets[i].fd,
		                             .protocol = listeners->sockets[i].protocol,
		                             .anonymous = listeners->sockets[i].anonymous,
		                             .served = &listeners->sockets[i].served,
		                             .address = listeners->sockets[i].bound,
		                             .proxy_from = config->listeners[i].proxy_from};
	settings_from(&settings, config, family, trial);
	struct confine confined = confine_of(config, CONFINE_WORKER, ends->handover);
	confined.journal = history_directory(history);
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++)
		sets[i] = counter_set(family->region, i);
	const struct server server = {.settings = &settings,
	                              .listeners = listener,
	                              .listener_count = listeners->count,
	                              .ledger = ledger,
	                              .history = history,
	                              .room = room,
	                              .counters = counter_set(family->region, slot),
	                              .clients = family->region,
	                              .peers = peers,
	                              .peer_count = find_peers(family->region, slot, peers),
	                              .sets = sets,
	                              .set_count = REGION_PROCESSES_MAX,
	                              .wake_fd = family->wake_fds[slot],
	                              .wake_fds = family->wake_fds,
	                              .wake_count = REGION_PROCESSES_MAX,
	                              .ready_fd = ends->ready,
	                              .handover_fd = ends->handover,
	                              .confine = confine_worker,
	                              .confined = &confined};
	return server_run(&server);
}

/* Pipes and pairs between the master (in CHILD) and the child (in ENDS).  0, or -1 with errno. */
static int tie(struct child *child, struct ends *ends, bool ready)
{
	int pipe[2] = {-1, -1};
	int pair[2];

	if (ready && pipe2(pipe, O_CLOEXEC | O_NONBLOCK) != 0)
		return -1;
	if (pass_pair(pair) != 0) {
		int error = errno;
		close_end(pipe[0]);
		close_end(pipe[1]);
		errno = error;
		return -1;
	}
	child->ready_fd = pipe[0];
	child->handover_fd = pair[0];
	*ends = (struct ends){.ready = pipe[1], .handover = pair[1]};
	return 0;
}

/* After the fork, in the master: the child's ends, and its own where there is no child.  Keeps
 * errno. */
static void untie(struct child *child, const struct ends *ends, bool born)
{
	int error = errno;

	close_end(ends->ready);
	close_end(ends->handover);
	if (!born) {
		close_end(child->ready_fd);
		close_end(child->handover_fd);
		child_forget_paths(child);
	}
	errno = error;
}

int family_worker(struct family *family, unsigned number, const struct config *config,
                  const struct listen_set *listeners, bool trial)
{
	struct child child = {.role = ROLE_WORKER, .number = number};
	struct ends ends;
	int slot = free_worker_slot(family);

	if (slot < 0 || tie(&child, &ends, true) != 0)
		return -1;
	if (config->access_log[0] != '\0')
		child.access_log = strdup(config->access_log);
	if (config->chat_history[0] != '\0')
		child.chat_history = strdup(config->chat_history);
	pid_t pid = give_birth(family, (uint32_t)slot, &child, "tallyd-worker");
	if (pid == 0) {
		close(child.ready_fd);
		close(child.handover_fd);
		listen_keep(listeners);
		_exit(serve(family, (uint32_t)slot, config, listeners, trial, &ends));
	}
	untie(&child, &ends, pid > 0);
	return pid < 0 ? -1 : slot;
}

int family_journal(struct family *family, const struct config *config)
{
	struct child child = {.role = ROLE_JOURNAL};
	struct ends ends;

	if (tie(&child, &ends, false) != 0)
		return -1;
	const struct confine confined = confine_of(config, CONFINE_JOURNAL, ends.handover);
	const struct journal_settings settings = {.path = family->instance->journal,
	                                          .segment_size = config->journal_segment,
	                                          .wake_fds = family->wake_fds,
	                                          .handover_fd = ends.handover,
	                                          .confine = &confined};
	pid_t pid = give_birth(family, FAMILY_JOURNAL_SLOT, &child, "tallyd-journal");
	if (pid == 0) {
		close(child.handover_fd);
		listen_keep(NULL);
		_exit(journal_run(family->region, FAMILY_JOURNAL_SLOT, &settings));
	}
	untie(&child, &ends, pid > 0);
	return pid < 0 ? -1 : FAMILY_JOURNAL_SLOT;
}

int family_snapshot(struct family *family, const struct config *config)
{
	const struct child child = {.role = ROLE_SNAPSHOT, .ready_fd = -1, .handover_fd = -1};
	const struct confine confined = confine_of(config, CONFINE_SNAPSHOTTER, -1);
	const struct snapshotter_settings settings = {
	    .snapshots = family->instance->snapshots,
	    .journal = family->instance->journal,
	    .keep = {.bytes = config->journal_keep.bytes, .us = config->journal_keep.us},
	    .confine = &confined};
	pid_t pid = give_birth(family, FAMILY_SNAPSHOT_SLOT, &child, "tallyd-snap");

	if (pid == 0) {
		listen_keep(NULL);
		_exit(snapshotter_run(family->region, FAMILY_SNAPSHOT_SLOT, &settings));
	}
	return pid < 0 ? -1 : FAMILY_SNAPSHOT_SLOT;
}

void family_signal(const struct family *family, enum role role, int signal)
{
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		const struct child *child = &family->child[i];
		if (child->role != ROLE_NONE && (role == ROLE_NONE || child->role == role))
			kill(child->pid, signal);
	}
}

unsigned family_count(const struct family *family, enum role role)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		const struct child *child = &family->child[i];
		if (child->role != ROLE_NONE && (role == ROLE_NONE || child->role == role))
			count++;
	}
	return count;
}

int family_find(const struct family *family, pid_t pid)
{
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++)
		if (family->child[i].role != ROLE_NONE && family->child[i].pid == pid)
			return (int)i;
	return -1;
}

/* Whoever of the workers is awake first tells of the clients that the dead one had in the room. */
static void wake_workers(const struct family *family)
{
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		if (family->child[i].role != ROLE_WORKER)
			continue;
		/* It can only fail where it is not needed: the count is at its end. */
		ssize_t ignored = write(family->wake_fds[i], &(uint64_t){1}, sizeof(uint64_t));
		(void)ignored;
	}
}

void family_forget(struct family *family, uint32_t slot)
{
	struct child *child = &family->child[slot];
	bool worker = child->role == ROLE_WORKER;

	close_end(child->ready_fd);
	close_end(child->handover_fd);
	child_forget_paths(child);
	*child = nobody;
	region_reset_slot(family->region, slot);
	if (worker)
		wake_workers(family);
}

static enum region_member_state state_of(const struct child *child, bool draining)
{
	if (child->leaving || (draining && child->role == ROLE_WORKER))
		return MEMBER_LEAVING;
	return child->role == ROLE_WORKER && !child->ready ? MEMBER_STARTING : MEMBER_SERVING;
}

static void put(_Atomic uint32_t *place, uint32_t value)
{
	atomic_store_explicit(place, value, memory_order_relaxed);
}

void family_tell(const struct family *family, bool draining)
{
	static const enum region_member_role role[] = {[ROLE_NONE] = MEMBER_NONE,
	                                               [ROLE_WORKER] = MEMBER_WORKER,
	                                               [ROLE_JOURNAL] = MEMBER_JOURNAL_WRITER,
	                                               [ROLE_SNAPSHOT] = MEMBER_SNAPSHOTTER};
	struct region_roster *roster = region_roster(family->region);

	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		const struct child *child = &family->child[i];
		struct region_member *member = &roster->member[i];
		put(&member->role, role[child->role]);
		put(&member->number, child->number);
		put(&member->state, state_of(child, draining));
		put(&member->pid, child->role != ROLE_NONE ? (uint32_t)child->pid : 0);
	}
}

void family_name(const struct child *child, char *text, size_t size)
{
	switch (child->role) {
	case ROLE_WORKER:
		snprintf(text, size, "worker %u", child->number);
		break;
	case ROLE_JOURNAL:
		snprintf(text, size, "journal writer");
		break;
	case ROLE_SNAPSHOT:
		snprintf(text, size, "snapshotter");
		break;
	case ROLE_NONE:
		snprintf(text, size, "nobody");
		break;
	}
}
