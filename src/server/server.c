#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../base/log.h"
#include "../base/pass.h"
#include "../wire/token.h"
#include "accept.h"
#include "chat_protocol.h"
#include "connection.h"
#include "door.h"
#include "drain.h"
#include "feed.h"
#include "group.h"
#include "heads.h"
#include "release.h"
#include "server.h"
#include "slab.h"
#include "worker.h"

#define EXPIRE_EVERY (LEDGER_EXPIRE_EVERY_MS / 1e3) /* seconds */
#define EXPIRE_MAX   64                             /* holds that one turn of the loop releases */

void worker_stop(struct worker *worker, int status)
{
	if (worker_stops(worker))
		return;
	worker->exit_status = status;
	ev_break(worker->loop, EVBREAK_ALL);
}

const char *worker_date(struct worker *worker)
{
	uint64_t second = (uint64_t)ev_now(worker->loop);
	if (second != worker->date_second) {
		reply_date(worker->date, second);
		worker->date_second = second;
	}
	return worker->date;
}

/* --- the turns of the loop --- */

static void read_clock(struct worker *worker)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	worker->now = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void on_turn_begins(struct ev_loop *loop, ev_check *check, int events)
{
	struct worker *worker = check->data;
	(void)loop;
	(void)events;
	read_clock(worker);
	connection_serve_again(worker);
}

static void log_turn_ends(struct worker *worker)
{
	ev_timer *timer = &worker->access_log_timer;
	access_log_release(worker->access_log, ledger_released(worker->server->ledger),
	                   worker->now);
	if (ev_is_active(timer) || !access_log_pending(worker->access_log))
		return;
	ev_timer_set(timer, ACCESS_LOG_FLUSH, 0);
	ev_timer_start(worker->loop, timer);
}

static void on_turn_ends(struct ev_loop *loop, ev_prepare *prepare, int events)
{
	struct worker *worker = prepare->data;
	(void)loop;
	(void)events;
	if (worker_stops(worker))
		return;
	release_turn_ends(worker);
	feeds_turn_ends(worker);
	chats_turn_ends(worker);
	if (worker->access_log)
		log_turn_ends(worker);
}

static void on_unfinished(struct ev_loop *loop, ev_idle *idle, int events)
{
	(void)loop;
	(void)idle;
	(void)events;
}

static void on_access_log_due(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct worker *worker = timer->data;
	(void)loop;
	(void)events;
	access_log_flush(worker->access_log);
}

/* Holds whose time is over: a bounded number a turn, so that connections are served in between. */
static void on_expire_due(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct worker *worker = timer->data;
	size_t expired = ledger_expire(worker->server->ledger, worker_time_us(worker), EXPIRE_MAX);
	double pause = expired == EXPIRE_MAX ? 0 : EXPIRE_EVERY;
	(void)events;
	if (expired != 0)
		worker->posted = true;
	ev_timer_stop(loop, timer);
	ev_timer_set(timer, pause, 0);
	ev_timer_start(loop, timer);
}

/* --- files that others have opened --- */

/* Who has come while nobody was asked who he is, is asked from now on. */
static void guard_all(struct worker *worker)
{
	uint32_t cursor = 0;
	struct connection *connection;

	while ((connection = slab_next(worker->slab, &cursor)))
		connection->guarded = !connection->door->anonymous;
}

/* NOW are the tokens that there are now. */
static void know_tokens(struct worker *worker, const struct tokens *now)
{
	static struct tokens first; /* too large for a stack */

	if (worker->tokens) {
		tokens_renew(worker->tokens, now);
	} else {
		first = *now;
		worker->tokens = &first;
		guard_all(worker);
	}
	*worker->heads = (struct heads){0}; /* they say whose they are */
}

/* FD has the tokens that there are now; -1: it was lost, and none may outlive what it stood for. */
static void renew_tokens(struct worker *worker, int fd)
{
	static struct tokens now;

	if (fd < 0 || pread(fd, &now, sizeof(now), 0) != (ssize_t)sizeof(now) ||
	    now.count > TOKENS_MAX) {
		log_warning("the tokens that there are now cannot be read: %m; clients that are "
		            "still connected here have none any more");
		now.count = 0;
	}
	know_tokens(worker, &now);
	if (fd >= 0)
		close(fd);
}

static void adopt(struct worker *worker, char what, int fd)
{
	if (what == SERVER_TOKENS)
		renew_tokens(worker, fd);
	else if (what == SERVER_LOG && log_adopt(fd) < 0)
		log_warning("the log cannot be changed: %m; the old file stays in use");
	else if (what == SERVER_ACCESS_LOG && worker->access_log &&
	         access_log_adopt(worker->access_log, fd) < 0)
		log_warning("access log %s cannot be changed: %m; the old file stays in use",
		            worker->settings->access_log);
	else if (what == SERVER_CHAT_HISTORY)
		chats_adopt(worker, fd);
	else if (what != SERVER_LOG && !(what == SERVER_ACCESS_LOG && worker->access_log))
		close(fd);
}

/* False: the master is gone. */
static bool take_files(struct worker *worker)
{
	char what;
	int fd;

	while ((fd = pass_take(worker->server->handover_fd, &what)) >= 0 || errno == EBADMSG) {
		if (fd >= 0)
			adopt(worker, what, fd);
		else if (what == SERVER_TOKENS)
			renew_tokens(worker, -1);
		else /* no descriptor was left for it, as a rule */
			log_warning("a file that was handed over cannot be taken; what was there "
			            "before stays in use");
	}
	return errno == EAGAIN;
}

static void on_handover(struct ev_loop *loop, ev_io *io, int events)
{
	(void)events;
	if (!take_files(io->data))
		ev_io_stop(loop, io);
}

/* --- signals --- */

static void on_term(struct ev_loop *loop, ev_signal *signal, int events)
{
	(void)loop;
	(void)events;
	drain(signal->data, PHASE_DRAINING);
}

static void on_winch(struct ev_loop *loop, ev_signal *signal, int events)
{
	struct worker *worker = signal->data;
	(void)loop;
	(void)events;
	/* Whose token is gone has nothing more from now on. */
	if (worker->server->handover_fd >= 0)
		take_files(worker);
	drain(signal->data, PHASE_GENTLE);
}

static void on_quit(struct ev_loop *loop, ev_signal *signal, int events)
{
	(void)loop;
	(void)events;
	drain(signal->data, PHASE_QUITTING);
}

static void watch_handover(struct worker *worker)
{
	ev_io_init(&worker->handover, on_handover, worker->server->handover_fd, EV_READ);
	worker->handover.data = worker;
	if (worker->server->handover_fd >= 0)
		ev_io_start(worker->loop, &worker->handover);
}

static void watch_signal(struct worker *worker, ev_signal *watcher, int number,
                         void (*callback)(struct ev_loop *, ev_signal *, int))
{
	ev_signal_init(watcher, callback, number);
	watcher->data = worker;
	ev_signal_start(worker->loop, watcher);
	/* The master blocks signals around its fork. */
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void watch_signals(struct worker *worker)
{
	/* A terminal sends these to the whole process group: the master decides. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, SIG_IGN); /* files that are opened anew are handed over */
	watch_signal(worker, &worker->on_term, SIGTERM, on_term);
	watch_signal(worker, &worker->on_winch, SIGWINCH, on_winch);
	watch_signal(worker, &worker->on_quit, SIGQUIT, on_quit);
}

/* --- beginning and end --- */

static bool open_access_log(struct worker *worker)
{
	const char *path = worker->settings->access_log;
	if (!path)
		return true;
	worker->access_log = access_log_open(path, worker->settings->access_log_json);
	if (!worker->access_log)
		log_error("access log %s: %m; create its directory or change access_log", path);
	return worker->access_log != NULL || !worker->settings->access_log_required;
}

static bool worker_init(struct worker *worker)
{
	const struct server_settings *settings = worker->settings;
	worker->loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
	worker->slab = slab_new(settings->max_connections);
	worker->buffers = buffers_new(settings->buffer_memory);
	worker->scratch = malloc(WORKER_KEPT_MAX + WORKER_READ_MAX);
	worker->group = calloc(1, sizeof(*worker->group));
	worker->heads = calloc(1, sizeof(*worker->heads));
	worker->feeds = feeds_new(worker);
	if (!worker->loop || !worker->slab || !worker->buffers || !worker->scratch ||
	    !worker->group || !worker->heads || !worker->feeds) {
		log_error("cannot start with max_connections %u and buffer_memory %u: %m; both "
		          "must be above 0, and buffer_memory a power of two from %u to %u",
		          settings->max_connections, settings->buffer_memory, BUFFER_BLOCK_MIN,
		          BUFFER_MEMORY_MAX);
		return false;
	}
	worker->tokens = settings->tokens;
	read_clock(worker);
	counter_store(worker->server->counters, COUNTER_PID, (uint64_t)getpid());
	worker->acceptor = acceptor_new(worker);
	return worker->acceptor && open_access_log(worker) && chats_open(worker);
}

static void start_watchers(struct worker *worker)
{
	ev_check_init(&worker->turn_begins, on_turn_begins);
	ev_prepare_init(&worker->turn_ends, on_turn_ends);
	ev_idle_init(&worker->unfinished, on_unfinished);
	ev_init(&worker->access_log_timer, on_access_log_due);
	ev_init(&worker->drain_timer, NULL);
	/* At once: where workers live for moments only, holds still run out in time. */
	ev_timer_init(&worker->expire_timer, on_expire_due, 0, 0);
	worker->expire_timer.data = worker;
	worker->turn_begins.data = worker->turn_ends.data = worker->access_log_timer.data = worker;
	/* The clock must be read before anything else of a turn looks at it. */
	ev_set_priority(&worker->turn_begins, EV_MAXPRI);
	ev_check_start(worker->loop, &worker->turn_begins);
	ev_prepare_start(worker->loop, &worker->turn_ends);
	ev_timer_start(worker->loop, &worker->expire_timer);
	watch_signals(worker);
	watch_handover(worker);
	release_start(worker);
	acceptor_start(worker->acceptor);
}

static void report_ready(const struct worker *worker)
{
	int fd = worker->server->ready_fd;
	if (fd < 0)
		return;
	while (write(fd, "R", 1) < 0 && errno == EINTR)
		;
	close(fd);
}

static void worker_end(struct worker *worker)
{
	uint32_t cursor = 0;
	struct connection *connection;
	while (worker->slab && (connection = slab_next(worker->slab, &cursor)))
		connection_cut(connection);
	access_log_close(worker->access_log);
	chats_close(worker);
	acceptor_free(worker->acceptor);
	buffers_free(worker->buffers);
	slab_free(worker->slab);
	free(worker->scratch);
	free(worker->group);
	free(worker->heads);
	feeds_free(worker->feeds);
	if (worker->loop)
		ev_loop_destroy(worker->loop);
}

static int serve(struct worker *worker)
{
	report_ready(worker);
	ev_run(worker->loop, 0);
	return worker->exit_status;
}

int server_run(const struct server *server)
{
	struct worker worker = {
	    .server = server, .settings = server->settings, .exit_status = WORKER_RUNS};
	int status = 1;
	if (worker_init(&worker)) {
		start_watchers(&worker);
		status = server->confine == NULL || server->confine(server->confined)
		             ? serve(&worker)
		             : 1;
	}
	worker_end(&worker);
	return status;
}
