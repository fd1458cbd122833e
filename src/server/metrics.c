#include "metrics.h"

#include <stdbool.h>
#include <stdio.h>

#include "../ledger/event.h"
#include "../wire/endpoint.h"
#include "../wire/exposition.h"
#include "../wire/reason.h"

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

#define BUCKETS_MAX 48

_Static_assert(COUNTER_CONNECTIONS_CLOSING - COUNTER_CONNECTIONS_IDLE == 6, "seven states");
_Static_assert(COUNTER_REFUSED_ADDRESSES - COUNTER_REFUSED_NOT_PROXY == 3, "four reasons");
_Static_assert(ENDPOINTS <= COUNTER_ENDPOINTS, "each endpoint has its row");

struct page {
	struct text *out;
	const struct metrics *metrics;
	struct counters total; /* of all sets */
};

/* --- samples --- */

static void family(struct page *page, const char *name, const char *kind, const char *help)
{
	exposition_family(page->out, name, kind, help);
}

static void plain(struct page *page, const char *name, uint64_t value)
{
	exposition_sample(page->out, name, NULL, value, EXPOSITION_COUNT);
}

static void gauge(struct page *page, const char *name, const char *help, uint64_t value)
{
	family(page, name, "gauge", help);
	plain(page, name, value);
}

static void counter(struct page *page, const char *name, const char *help, uint64_t value)
{
	family(page, name, "counter", help);
	plain(page, name, value);
}

static void seconds(struct page *page, const char *name, const char *help, uint64_t us)
{
	family(page, name, "gauge", help);
	exposition_sample(page->out, name, NULL, us, EXPOSITION_SECONDS);
}

static void labelled(struct page *page, const char *name, const char *label, const char *value,
                     uint64_t count)
{
	const struct exposition_label labels[] = {{label, value}, {NULL, NULL}};

	exposition_sample(page->out, name, labels, count, EXPOSITION_COUNT);
}

static uint64_t since(const struct page *page, uint64_t then_us)
{
	return page->metrics->now_us > then_us ? page->metrics->now_us - then_us : 0;
}

/* --- events --- */

static const char EVENTS[] = "tallyd_events_total";

static void event(struct page *page, const char *outcome, const char *reason, uint64_t count)
{
	const struct exposition_label labels[] = {
	    {"outcome", outcome}, {"reason", reason}, {NULL, NULL}};

	exposition_sample(page->out, EVENTS, labels, count, EXPOSITION_COUNT);
}

/* Of what the ledger decides, which outcome is it?  NULL: that of none. */
static const char *ledger_outcome(const struct reason *reason)
{
	for (enum outcome i = OUTCOME_OVERFLOW; i <= OUTCOME_READ_FAILED; i++)
		if (reason_of(i) == reason)
			return outcome_is_decided(i) || i == OUTCOME_ID_REUSED ? "refused"
			                                                       : "rejected";
	return NULL;
}

/* Those of the ledger are always told, so that a rate is known before the first; others once. */
static void write_events(struct page *page)
{
	const struct counters *total = &page->total;
	const struct reason *reason;

	family(page, EVENTS, "counter",
	       "Operations by what became of them, and the reason of those that were not applied.");
	event(page, "accepted", "", counter_load(total, COUNTER_EVENTS_ACCEPTED));
	event(page, "replayed", "", counter_load(total, COUNTER_EVENTS_REPLAYED));
	for (size_t i = 0; (reason = reason_at(i)); i++) {
		const char *outcome = ledger_outcome(reason);
		if (outcome || total->events[i])
			event(page, outcome ? outcome : "invalid", reason->word, total->events[i]);
	}
	if (total->events[COUNTER_REASONS - 1])
		event(page, "invalid", "other", total->events[COUNTER_REASONS - 1]);
}

/* --- requests --- */

static const char REQUESTS[] = "tallyd_requests_total";

static void request(struct page *page, const struct endpoint_name *name, const char *status,
                    uint64_t count)
{
	const struct exposition_label labels[] = {
	    {"method", name->method}, {"endpoint", name->path}, {"status", status}, {NULL, NULL}};

	exposition_sample(page->out, REQUESTS, labels, count, EXPOSITION_COUNT);
}

static void write_requests(struct page *page)
{
	unsigned rows = 0;
	uint64_t more = 0;
	char status[8];

	family(page, REQUESTS, "counter", "Answered requests by endpoint and status.");
	for (unsigned at = 0; at < COUNTER_ENDPOINTS * COUNTER_STATUSES; at++) {
		unsigned row = at / COUNTER_STATUSES, column = at % COUNTER_STATUSES;
		uint64_t count = page->total.requests[row][column];
		if (count == 0)
			continue;
		if (rows++ >= METRICS_REQUESTS_MAX - 1) {
			more += count;
			continue;
		}
		snprintf(status, sizeof(status), "%u", endpoint_status(column));
		request(page, endpoint_name((enum endpoint)row), status, count);
	}
	if (more)
		request(page, &(struct endpoint_name){"more", "more"}, "0", more);
}

static void write_errors(struct page *page)
{
	static const char name[] = "tallyd_request_errors_total";
	const struct reason *reason;

	family(page, name, "counter", "Errors that are no operation's result, by reason.");
	for (size_t i = 0; (reason = reason_at(i)); i++)
		if (page->total.errors[i])
			labelled(page, name, "reason", reason->word, page->total.errors[i]);
	if (page->total.errors[COUNTER_REASONS - 1])
		labelled(page, name, "reason", "other", page->total.errors[COUNTER_REASONS - 1]);
}

/* --- histograms --- */

struct shown {
	const char *name;
	const char *help;
	enum measure measure;
	uint64_t first, last; /* bounds of buckets: powers of two */
	unsigned step;        /* every so manyth bucket is shown */
	enum exposition_unit unit;
};

static const struct shown shown[] = {
    {"tallyd_request_seconds", "From a request's first byte until its answer, durable, may leave.",
     MEASURE_REQUEST, 64, UINT64_C(1) << 24, HISTOGRAM_STEPS / 2, EXPOSITION_SECONDS},
    {"tallyd_stream_seconds",
     "The same of requests that are answered while they come, until the last answer is written.",
     MEASURE_STREAM, 1024, UINT64_C(1) << 32, HISTOGRAM_STEPS, EXPOSITION_SECONDS},
    {"tallyd_fdatasync_seconds", "One fdatasync of the journal.", MEASURE_FDATASYNC, 16,
     UINT64_C(1) << 23, HISTOGRAM_STEPS / 2, EXPOSITION_SECONDS},
    {"tallyd_group_commit_events", "Events that one group commit made durable together.",
     MEASURE_GROUP, 1, 65536, HISTOGRAM_STEPS, EXPOSITION_COUNT},
};

static void write_histogram(struct page *page, const struct shown *which)
{
	const struct histogram *histogram = &page->total.measured[which->measure];
	struct exposition_bucket buckets[BUCKETS_MAX];
	unsigned first = histogram_place(which->first), last = histogram_place(which->last);
	size_t shown_now = 0;
	uint64_t count = 0;

	for (unsigned i = 0; i <= last; i++) {
		uint64_t bound = histogram_bound(i);
		count += histogram->bucket[i];
		/* Small values have fewer buckets to a doubling. */
		bool wanted = bound < HISTOGRAM_STEPS ? (bound & (bound - 1)) == 0
		                                      : (last - i) % which->step == 0;
		if (i >= first && wanted && shown_now < BUCKETS_MAX)
			buckets[shown_now++] = (struct exposition_bucket){bound, count};
	}
	family(page, which->name, "histogram", which->help);
	exposition_histogram(page->out, which->name, buckets, shown_now, histogram_count(histogram),
	                     histogram->sum, which->unit);
}

static void write_histograms(struct page *page)
{
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		write_histogram(page, &shown[i]);
}

/* --- single counters --- */

static const struct {
	enum counter counter;
	const char *name;
	const char *help;
} singles[] = {
    {COUNTER_ANSWERS_LOST, "tallyd_answers_lost_total",
     "Answers that never left: their connection, or their worker, ended first."},
    {COUNTER_CONNECTIONS_ACCEPTED, "tallyd_connections_accepted_total", "Connections accepted."},
    {COUNTER_CONNECTIONS_TIMED_OUT, "tallyd_connections_timed_out_total",
     "Connections whose client was too slow."},
    {COUNTER_CONNECTIONS_STRANGE, "tallyd_connections_turned_away_total",
     "Connections of users whom a listener on a Unix socket does not serve."},
    {COUNTER_ACCEPT_PAUSES, "tallyd_accept_pauses_total",
     "Times that a worker stopped accepting, at max_connections or out of descriptors."},
    {COUNTER_ACCEPT_YIELDS, "tallyd_accept_yields_total",
     "Connections that were left to a worker with fewer."},
    {COUNTER_LOCK_RECOVERIES, "tallyd_lock_recoveries_total",
     "Locks whose owner had died, and what it was doing was finished or undone."},
    {COUNTER_LOCK_ALARMS, "tallyd_lock_alarms_total", "Seconds that a lock was waited for."},
    {COUNTER_FEED_SLICES, "tallyd_feed_slices_total",
     "Turns of a worker's loop in which feeds were given something."},
    {COUNTER_FEED_BLOCKS, "tallyd_feed_blocks_total",
     "How many blocks of events feeds were given, all together."},
    {COUNTER_ECHO_BYTES, "tallyd_echo_bytes_total", "Bytes sent back by the echo protocol."},
    {COUNTER_CHAT_LINES, "tallyd_chat_lines_total", "Lines that were said in the chat."},
    {COUNTER_CHAT_DROPPED, "tallyd_chat_dropped_total",
     "Clients of the chat that were dropped because they did not take its lines."},
    {COUNTER_JOURNAL_BYTES, "tallyd_journal_written_bytes_total", "Bytes of journal written."},
};

static void write_singles(struct page *page)
{
	for (size_t i = 0; i < sizeof(singles) / sizeof(singles[0]); i++)
		counter(page, singles[i].name, singles[i].help,
		        counter_load(&page->total, singles[i].counter));
}

static void write_refused(struct page *page)
{
	static const char name[] = "tallyd_connections_refused_total";
	static const char *const reasons[] = {"not_a_proxy", "no_proxy_header",
	                                      "too_many_connections", "addresses_full"};

	family(page, name, "counter", "Connections that were not served, by reason.");
	for (unsigned i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		labelled(page, name, "reason", reasons[i],
		         counter_load(&page->total, COUNTER_REFUSED_NOT_PROXY + i));
}

static void write_chat(struct page *page)
{
	gauge(page, "tallyd_chat_members", "Clients that are in the chat.",
	      counter_load(&page->total, COUNTER_CHAT_MEMBERS));
}

static void write_waiting(struct page *page)
{
	const struct counters *total = &page->total;
	uint64_t done = histogram_count(&total->measured[MEASURE_REQUEST]) +
	                histogram_count(&total->measured[MEASURE_STREAM]) +
	                counter_load(total, COUNTER_ANSWERS_LOST);

	gauge(page, "tallyd_answers_waiting", "Answers that wait for the journal.",
	      counter_requests(total) - done);
}

/* --- processes --- */

/* Gauges of those who live; counters, which must not fall, of those who ever did. */
static void write_of_slots(struct page *page, const char *name, enum counter which)
{
	const struct metrics *metrics = page->metrics;
	char slot[24];

	for (size_t i = 0; i < metrics->slots; i++) {
		snprintf(slot, sizeof(slot), "%zu", i);
		if (counter_load(metrics->sets[i], COUNTER_PID) ||
		    (which == COUNTER_REQUESTS && counter_load(metrics->sets[i], which)))
			labelled(page, name, "slot", slot, counter_load(metrics->sets[i], which));
	}
}

static void write_connections(struct page *page)
{
	static const char name[] = "tallyd_connections";
	static const char *const states[] = {"idle",    "reading", "serving", "streaming",
	                                     "waiting", "writing", "closing"};
	const struct metrics *metrics = page->metrics;
	char slot[24];

	family(page, name, "gauge", "Open connections by worker and by what they are doing.");
	for (size_t i = 0; i < metrics->slots; i++) {
		if (!counter_load(metrics->sets[i], COUNTER_PID))
			continue;
		snprintf(slot, sizeof(slot), "%zu", i);
		for (unsigned state = 0; state < sizeof(states) / sizeof(states[0]); state++) {
			const struct exposition_label labels[] = {
			    {"slot", slot}, {"state", states[state]}, {NULL, NULL}};
			exposition_sample(
			    page->out, name, labels,
			    counter_load(metrics->sets[i], COUNTER_CONNECTIONS_IDLE + state),
			    EXPOSITION_COUNT);
		}
	}
}

static void write_workers(struct page *page)
{
	write_connections(page);
	family(page, "tallyd_worker_pid", "gauge", "Process of the worker in a slot.");
	write_of_slots(page, "tallyd_worker_pid", COUNTER_PID);
	family(page, "tallyd_worker_addresses", "gauge",
	       "Different addresses that a worker's connections come from.");
	write_of_slots(page, "tallyd_worker_addresses", COUNTER_CLIENT_ADDRESSES);
	gauge(page, "tallyd_worker_addresses_limit", "The setting max_addresses.",
	      page->metrics->facts->max_addresses);
	family(page, "tallyd_worker_accepting", "gauge", "1 while a worker takes connections.");
	write_of_slots(page, "tallyd_worker_accepting", COUNTER_ACCEPTING);
	family(page, "tallyd_worker_requests_total", "counter",
	       "Requests answered by whoever had a worker's slot.");
	write_of_slots(page, "tallyd_worker_requests_total", COUNTER_REQUESTS);
}

/* --- facts --- */

static void limited(struct page *page, const char *name, const char *help, const char *limit_name,
                    const char *limit_help, const struct fact_use *use)
{
	gauge(page, name, help, use->used);
	gauge(page, limit_name, limit_help, use->limit);
}

static void write_tables(struct page *page)
{
	const struct facts *facts = page->metrics->facts;

	limited(page, "tallyd_accounts", "Accounts.", "tallyd_accounts_limit",
	        "The setting max_accounts.", &facts->accounts);
	limited(page, "tallyd_account_slots", "Places of the account table that are taken.",
	        "tallyd_account_slots_limit", "Places of the account table.",
	        &facts->account_slots);
	limited(page, "tallyd_ids", "Ids that are remembered.", "tallyd_ids_limit",
	        "The setting max_ids.", &facts->ids);
	limited(page, "tallyd_holds", "Open holds.", "tallyd_holds_limit", "The setting max_holds.",
	        &facts->holds);
	seconds(page, "tallyd_id_window_seconds", "The setting id_window.", facts->id_window_us);
	seconds(page, "tallyd_ids_kept_seconds", "How long every id is really remembered.",
	        facts->ids_kept_us);
	counter(page, "tallyd_ids_forgotten_total",
	        "Ids that made room for others while younger than id_window.",
	        facts->ids_forgotten);
}

static void write_ring(struct page *page)
{
	const struct facts *facts = page->metrics->facts;

	limited(page, "tallyd_ring_bytes", "Bytes of records whose answers may not leave yet.",
	        "tallyd_ring_bytes_limit", "Bytes that the ring takes; then events are rejected.",
	        &facts->ring);
	limited(page, "tallyd_queue_events", "Events whose answers may not leave yet.",
	        "tallyd_queue_events_limit", "The setting queue_events.", &facts->queue);
	gauge(page, "tallyd_drain_events_per_second", "How fast the queue is written, while it is.",
	      facts->drain_rate);
}

static void write_journal(struct page *page)
{
	const struct facts *facts = page->metrics->facts;

	gauge(page, "tallyd_journal_bytes", "Bytes on the disk of all segments.",
	      facts->journal_bytes);
	gauge(page, "tallyd_journal_segments", "Segments of the journal.", facts->journal_segments);
	gauge(page, "tallyd_journal_first_lsn", "First position that is kept.",
	      facts->journal_first);
	gauge(page, "tallyd_journal_durable_lsn", "Position up to which the journal is durable.",
	      facts->durable);
	gauge(page, "tallyd_journal_tail_lsn", "Position of the next record.", facts->tail);
	seconds(page, "tallyd_journal_look_age_seconds",
	        "How old the bytes, the segments and the first position are.",
	        since(page, facts->journal_looked_us));
	gauge(page, "tallyd_disk_full", "1 while no further segment can be made.",
	      facts->disk_full != 0);
	gauge(page, "tallyd_journal_failed", "1 once the journal's disk has failed.",
	      facts->failed != 0);
}

static void write_snapshots(struct page *page)
{
	const struct facts *facts = page->metrics->facts;

	family(page, "tallyd_snapshots_total", "counter", "Snapshots by what became of them.");
	labelled(page, "tallyd_snapshots_total", "result", "written", facts->snapshots);
	labelled(page, "tallyd_snapshots_total", "result", "failed", facts->snapshots_failed);
	family(page, "tallyd_snapshot_age_seconds", "gauge",
	       "Age of the newest snapshot; nothing while there is none.");
	if (facts->snapshot_us)
		exposition_sample(page->out, "tallyd_snapshot_age_seconds", NULL,
		                  since(page, facts->snapshot_us), EXPOSITION_SECONDS);
	gauge(page, "tallyd_snapshot_lsn",
	      "Where a start with the newest snapshot begins to replay.", facts->snapshot_lsn);
}

static void write_life(struct page *page)
{
	const struct facts *facts = page->metrics->facts;

	family(page, "tallyd_respawns_total", "counter", "Processes that died and were replaced.");
	labelled(page, "tallyd_respawns_total", "role", "worker", facts->respawns_worker);
	labelled(page, "tallyd_respawns_total", "role", "journal", facts->respawns_journal);
	counter(page, "tallyd_rebuilds_total",
	        "Times that the shared memory was made anew because it was inconsistent.",
	        facts->rebuilds);
	family(page, "tallyd_reloads_total", "counter", "Reloads by what became of them.");
	labelled(page, "tallyd_reloads_total", "result", "done", facts->reloads);
	labelled(page, "tallyd_reloads_total", "result", "failed", facts->reloads_failed);
	seconds(page, "tallyd_uptime_seconds", "Since the daemon started.",
	        since(page, facts->started_us));
	seconds(page, "process_start_time_seconds", "When the daemon started, since 1970.",
	        facts->started_us);
}

static void write_build(struct page *page)
{
	static const char name[] = "tallyd_build_info";
	const struct exposition_label labels[] = {
	    {"version", page->metrics->version}, {"compiler", COMPILER}, {NULL, NULL}};

	family(page, name, "gauge", "1, with the version and the compiler that built it.");
	exposition_sample(page->out, name, labels, 1, EXPOSITION_COUNT);
}

size_t metrics_size(size_t slots)
{
	return METRICS_FIXED +
	       (slots < METRICS_SLOTS_MAX ? slots : METRICS_SLOTS_MAX) * METRICS_PER_SLOT;
}

void metrics_write(struct text *out, const struct metrics *metrics)
{
	/* Not on the stack: where a sanitizer keeps that elsewhere, it does not keep it aligned. */
	static struct page page;

	page = (struct page){.out = out, .metrics = metrics};
	for (size_t i = 0; i < metrics->slots; i++)
		counter_total(metrics->sets[i], &page.total);
	write_events(&page);
	write_requests(&page);
	write_errors(&page);
	write_histograms(&page);
	write_waiting(&page);
	write_singles(&page);
	write_refused(&page);
	write_chat(&page);
	write_ring(&page);
	write_tables(&page);
	write_journal(&page);
	write_snapshots(&page);
	write_workers(&page);
	write_life(&page);
	write_build(&page);
}
