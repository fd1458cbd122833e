#include "journal.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "../../shm/counter.h"
#include "../../shm/lock.h"
#include "../../shm/region.h"
#include "../../shm/ring.h"
#include "../../shm/wake.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../base/pass.h"
#include "../ledger/ledger.h"
#include "../ledger/record.h"
#include "../ledger/seal.h"
#include "../ledger/store.h"
#include "confine.h"
#include "extender.h"

#define IDLE_MS        20  /* without a record before an idle journal is marked */
#define SLEEP_MS       200 /* longest sleep: a signal may come just before it */
#define RATE_WINDOW_US 200000

struct journal {
	struct region *region;
	struct region_marks *marks;
	struct region_settings *live;
	struct counters *counters;
	struct ledger *ledger;
	struct store *store;
	struct extender *extender;
	struct seal *seal;
	const struct journal_settings *settings;
	uint64_t position;  /* written up to here */
	uint64_t events;    /* client events up to here */
	bool marked;        /* nothing came after the last mark */
	bool stopped;       /* the stop record is in the ring */
	uint64_t active_us; /* when the last record was written */
	uint64_t synced_us;
	uint64_t window_us; /* drain rate: since when, and how many */
	uint64_t window_events;
};

static volatile sig_atomic_t stop_asked;
static volatile sig_atomic_t leave_asked;
static volatile sig_atomic_t reopen_asked;

static void on_signal(int number)
{
	if (number == SIGUSR1)
		reopen_asked = 1;
	else if (number == SIGWINCH)
		leave_asked = 1;
	else
		stop_asked = 1;
}

static void catch_signals(void)
{
	static const int orders[] = {SIGTERM, SIGQUIT, SIGWINCH, SIGUSR1};
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t unblocked;

	sigemptyset(&unblocked);
	for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
		sigaction(orders[i], &action, NULL);
		sigaddset(&unblocked, orders[i]);
	}
	sigprocmask(SIG_UNBLOCK, &unblocked, NULL);
}

/* A run of records without a gap, not yet hashed: FROM .. TO. */
static void hash_run(struct journal *journal, uint64_t from, uint64_t to)
{
	struct iovec piece[2];

	if (from == to)
		return;
	int pieces = ring_pieces(journal->region, from, to, piece);
	if (pieces == 2)
		seal_part(journal->seal, piece[0].iov_base, piece[0].iov_len);
	seal_add(journal->seal, piece[pieces - 1].iov_base, piece[pieces - 1].iov_len, to);
}

/* Where the next record stands, if not at AT: unused ends and heads of segments lie between. */
static uint64_t next_record(const struct region *region, uint64_t at)
{
	uint64_t end = ring_segment_end(region, at);

	return end - at < JOURNAL_RECORD_MIN ? end + SEGMENT_HEAD : at;
}

/* Counts and hashes the records up to TO, hopping from head to head. */
static void walk(struct journal *journal, uint64_t to)
{
	uint64_t at = journal->position;
	uint64_t run = at;
	struct record_head head;

	while (at < to) {
		uint64_t next = next_record(journal->region, at);
		if (next != at) {
			hash_run(journal, run, at);
			run = at = next;
			continue;
		}
		ring_read(journal->region, at, &head, offsetof(struct record_head, lsn));
		at += head.length;
		if (record_counts(head.type))
			journal->events++;
		journal->marked = head.type == RECORD_MARK || head.type == RECORD_START ||
		                  head.type == RECORD_STOP;
		if (at - run >= seal_left(journal->seal)) {
			hash_run(journal, run, at);
			run = at;
		}
	}
	hash_run(journal, run, at);
}

static void wake_waiting(struct journal *journal, uint64_t released)
{
	static const uint64_t one = 1;
	uint32_t processes = atomic_load(&journal->live->processes);

	for (uint32_t i = 0; i < processes; i++)
		if (wake_due(journal->region, i, released) &&
		    write(journal->settings->wake_fds[i], &one, sizeof one) < 0 && errno != EAGAIN)
			log_error("cannot wake process slot %u: %s", i, strerror(errno));
}

/* Says that the journal has failed, to the workers and in the log. */
static int fail(struct journal *journal, const char *what)
{
	/* What is not as it must be comes without one: no call has failed. */
	int cause = errno != 0 ? errno : EUCLEAN;

	atomic_store(&journal->marks->failed, (uint32_t)cause);
	wake_waiting(journal, UINT64_MAX);
	log_error("%s: %s failed: %s; no more updates are taken, tallyd stops. Check the disk, "
	          "then start it again: what was answered is safe",
	          journal->settings->path, what, strerror(cause));
	return JOURNAL_EXIT_FAILED;
}

static void measure_rate(struct journal *journal, uint64_t now)
{
	uint64_t elapsed = now - journal->window_us;

	if (elapsed < RATE_WINDOW_US)
		return;
	uint64_t rate = (journal->events - journal->window_events) * 1000000 / elapsed;
	uint64_t before = atomic_load(&journal->marks->drain_rate);
	atomic_store(&journal->marks->drain_rate, before == 0 ? rate : (before + rate) / 2);
	journal->window_us = now;
	journal->window_events = journal->events;
}

static void release(struct journal *journal)
{
	atomic_store(&journal->marks->released_events, journal->events);
	atomic_store(&journal->marks->released, journal->position);
	wake_waiting(journal, journal->position);
}

static int sync_now(struct journal *journal)
{
	uint64_t before = clock_monotonic_us();

	if (store_sync(journal->store) != 0)
		return fail(journal, "fdatasync");
	journal->synced_us = clock_monotonic_us();
	counter_measure(journal->counters, MEASURE_FDATASYNC, journal->synced_us - before, 1);
	atomic_store(&journal->marks->durable, journal->position);
	return 0;
}

static bool sync_each_time(const struct journal *journal)
{
	return atomic_load(&journal->live->sync_interval_ms) == 0;
}

/* With an interval: when what is written must be synced.  UINT64_MAX: it is already. */
static uint64_t sync_due_us(const struct journal *journal)
{
	uint32_t interval = atomic_load(&journal->live->sync_interval_ms);

	if (atomic_load(&journal->marks->durable) >= journal->position)
		return UINT64_MAX;
	return journal->synced_us + (uint64_t)interval * 1000;
}

/* One group commit: everything up to TAIL. */
static int commit(struct journal *journal, uint64_t tail)
{
	struct iovec piece[2];
	uint64_t events = journal->events;
	int status;

	int pieces = ring_pieces(journal->region, journal->position, tail, piece);
	if (store_append(journal->store, journal->position, piece, pieces) != 0)
		return fail(journal, "writing");
	walk(journal, tail);
	counter_add(journal->counters, COUNTER_JOURNAL_BYTES, tail - journal->position);
	journal->position = tail;
	atomic_store(&journal->marks->written, tail);
	if (sync_each_time(journal) && (status = sync_now(journal)) != 0)
		return status;
	release(journal);
	if (journal->events != events)
		counter_measure(journal->counters, MEASURE_GROUP, journal->events - events, 1);
	journal->active_us = clock_monotonic_us();
	measure_rate(journal, journal->active_us);
	extender_advance(journal->extender, journal->position);
	/* Under load there may be no idle turn that would see to it in time. */
	return sync_due_us(journal) <= journal->active_us ? sync_now(journal) : 0;
}

/* A seal that finds no room waits for the next commit. */
static int seal_if_due(struct journal *journal)
{
	struct seal_link link = seal_last(journal->seal);

	if (link.from == link.to || link.to <= region_seal(journal->region)->to)
		return 0;
	return ledger_seal(journal->ledger, &link, clock_real_us()) == OUTCOME_POISONED
	           ? JOURNAL_EXIT_POISONED
	           : 0;
}

static void delay(const struct journal *journal)
{
	uint32_t ms = atomic_load(&journal->live->journal_delay_ms);
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	while (ms != 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

/* Nothing is in the ring.  What is due by time? */
static int idle(struct journal *journal)
{
	uint64_t now = clock_monotonic_us();
	uint64_t quiet = now - journal->active_us;
	uint64_t due = sync_due_us(journal);
	uint32_t sleep_ms = SLEEP_MS;

	if (due != UINT64_MAX) {
		if (now >= due)
			return sync_now(journal);
		sleep_ms = (uint32_t)((due - now) / 1000 + 1);
	} else if (!journal->marked && quiet >= IDLE_MS * 1000) {
		return ledger_mark(journal->ledger, clock_real_us()) == OUTCOME_POISONED
		           ? JOURNAL_EXIT_POISONED
		           : (journal->marked = true, 0);
	}
	if (!journal->marked && sleep_ms > IDLE_MS)
		sleep_ms = IDLE_MS;
	wake_writer_sleep(journal->region, journal->position,
	                  sleep_ms < SLEEP_MS ? sleep_ms : SLEEP_MS);
	now = clock_monotonic_us();
	if (now - journal->window_us > RATE_WINDOW_US) {
		/* An idle second says nothing about how fast a queue would drain. */
		journal->window_us = now;
		journal->window_events = journal->events;
	}
	return 0;
}

/* Everything written is durable and closed by a stop record, if it fits. */
static int finish(struct journal *journal, bool *finished)
{
	if (!journal->stopped) {
		journal->stopped = true;
		return ledger_stop(journal->ledger, clock_real_us()) == OUTCOME_POISONED
		           ? JOURNAL_EXIT_POISONED
		           : 0;
	}
	*finished = true;
	return atomic_load(&journal->marks->durable) < journal->position ? sync_now(journal) : 0;
}

static void adopt_log(const struct journal *journal)
{
	char what;
	int fd;

	while ((fd = pass_take(journal->settings->handover_fd, &what)) >= 0 || errno == EBADMSG)
		if (fd < 0 || log_adopt(fd) != 0)
			log_warning("the log cannot be changed: %s; the old file stays in use",
			            strerror(errno));
}

static int turn(struct journal *journal, bool *finished)
{
	uint64_t tail = atomic_load(&journal->marks->tail);
	int status;

	if (reopen_asked) {
		reopen_asked = 0;
		adopt_log(journal);
	}
	if (tail == journal->position)
		return stop_asked ? finish(journal, finished) : idle(journal);
	delay(journal);
	/* What arrived meanwhile goes with it. */
	status = commit(journal, atomic_load(&journal->marks->tail));
	return status != 0 ? status : seal_if_due(journal);
}

/* Rebuilds the hash of what was written since the last seal, by reading it back. */
static int resume_seal(struct journal *journal)
{
	const struct region_seal *last = region_seal(journal->region);
	uint64_t from = last->to != 0 ? last->to : store_first(journal->store);
	struct store_reader *reader = store_replay(journal->store, from);
	const struct record_head *record;
	enum store_status status = STORE_OK;

	journal->seal = seal_open(from, last->to != 0 ? last->hash : store_key(journal->store));
	if (reader == NULL || journal->seal == NULL)
		return -1;
	while (store_reader_at(reader) < journal->position &&
	       (status = store_next(reader, &record)) == STORE_OK)
		seal_add(journal->seal, record, record->length, record->lsn + record->length);
	uint64_t reached = store_reader_at(reader);
	store_reader_close(reader);
	if (status == STORE_IO)
		return -1;
	if (reached < journal->position) {
		errno = EUCLEAN;
		return -1;
	}
	return 0;
}

/* The client events among the records FROM .. TO of the ring. */
static uint64_t count_events(const struct region *region, uint64_t from, uint64_t to)
{
	uint64_t events = 0;
	struct record_head head;

	for (uint64_t at = from; at < to; at += head.length) {
		at = next_record(region, at);
		if (at >= to)
			break;
		ring_read(region, at, &head, offsetof(struct record_head, lsn));
		events += record_counts(head.type) ? 1 : 0;
	}
	return events;
}

/*
 * Goes on where the last writer had come: from the durable mark, or, with sync interval, from
 * what is in the page cache, which the ring may have given up.  It may have died between any two
 * marks: the events are counted anew from the tail's, which belong together.
 */
static bool resume_position(struct journal *journal)
{
	struct region_marks *marks = journal->marks;
	uint64_t released = atomic_load(&marks->released);
	uint64_t durable = atomic_load(&marks->durable);

	if (!lock_acquire(journal->region, lock_ring(journal->region)))
		return false;
	uint64_t tail = atomic_load(&marks->tail);
	uint64_t events = atomic_load(&marks->events);
	lock_release(journal->region, lock_ring(journal->region));
	journal->position = released > durable ? released : durable;
	journal->events = events - count_events(journal->region, journal->position, tail);
	journal->active_us = journal->synced_us = journal->window_us = clock_monotonic_us();
	journal->window_events = journal->events;
	return true;
}

/* What the last writer left in the page cache is not durable for being written. */
static int settle(struct journal *journal)
{
	uint64_t durable = atomic_load(&journal->marks->durable);

	if (durable >= journal->position)
		return 0;
	if (store_settle(journal->store, durable, journal->position) != 0)
		return -1;
	atomic_store(&journal->marks->durable, journal->position);
	return 0;
}

/* Files before the thread that makes some is there, system calls when no more threads are made. */
static int go_to_work(struct journal *journal)
{
	struct confine confined = *journal->settings->confine;
	char error[STORE_ERROR_SIZE];

	confined.journal = store_directory(journal->store);
	if (confine_files(&confined, error, sizeof error) != 0) {
		log_error("%s", error);
		return 1;
	}
	journal->extender = extender_start(journal->store, journal->region, journal->position);
	if (journal->extender == NULL)
		return fail(journal, "starting a thread");
	if (confine_calls(&confined, error, sizeof error) != 0) {
		log_error("%s", error);
		return 1;
	}
	return 0;
}

static int start(struct journal *journal, uint32_t slot)
{
	char error[STORE_ERROR_SIZE];
	enum store_status status;

	journal->ledger = ledger_open(journal->region, slot, NULL);
	if (journal->ledger == NULL)
		return region_poisoned(journal->region) ? JOURNAL_EXIT_POISONED : 1;
	journal->store = store_open(journal->settings->path, &status, error);
	if (journal->store == NULL) {
		log_error("%s", error);
		return fail(journal, "opening");
	}
	if (store_claim(journal->store, journal->settings->segment_size) != 0)
		return fail(journal, "claiming");
	if (!resume_position(journal))
		return JOURNAL_EXIT_POISONED;
	if (settle(journal) != 0)
		return fail(journal, "making the last writer's records durable");
	if (resume_seal(journal) != 0)
		return fail(journal, "reading back");
	int result = go_to_work(journal);
	/* What was durable before the last writer could say so. */
	if (result == 0)
		release(journal);
	return result;
}

int journal_run(struct region *region, uint32_t slot, const struct journal_settings *settings)
{
	struct journal journal = {.region = region,
	                          .marks = region_marks(region),
	                          .live = region_settings(region),
	                          .counters = counter_set(region, slot),
	                          .settings = settings};
	bool finished = false;
	int status;

	catch_signals();
	status = start(&journal, slot);
	while (status == 0 && !finished) {
		/*
		 * As good as dead, and as quick: the successor goes on from the marks, while a
		 * segment that is being made could take seconds to wait for.
		 */
		if (leave_asked && !stop_asked)
			return 0;
		status = turn(&journal, &finished);
	}
	if (status == JOURNAL_EXIT_POISONED)
		log_error("the region is inconsistent: leaving it to the master");
	extender_stop(journal.extender);
	seal_close(journal.seal);
	store_close(journal.store);
	ledger_close(journal.ledger);
	return status;
}
