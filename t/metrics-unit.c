/*
 * Histograms: each value has one bucket, whose bounds hold it and lie close.  What queues of
 * answers know of them.  The exposition's bytes.  The page of metrics at its fullest: it fits the
 * room that is reserved for it, nothing is cut, and no request is missing in it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/ledger/facts.h"
#include "../src/server/metrics.h"
#include "../src/server/queue.h"
#include "../src/wire/endpoint.h"
#include "../src/wire/exposition.h"
#include "../src/wire/reason.h"
#include "../shm/region.h"
#include "tap/tap.h"

/* --- histograms --- */

static bool fits(uint64_t value)
{
	unsigned place = histogram_place(value);
	if (place >= HISTOGRAM_BUCKETS)
		return false;
	bool last = place == HISTOGRAM_BUCKETS - 1;
	return (place == 0 || value > histogram_bound(place - 1)) &&
	       (last || value <= histogram_bound(place));
}

static void every_value_has_its_bucket(void)
{
	bool good = true, close_by = true, doublings = true;

	for (uint64_t value = 0; value < 100000; value++)
		good = good && fits(value);
	for (unsigned bit = 0; bit < 64; bit++)
		for (int off = -1; off <= 1; off++)
			good = good && fits((UINT64_C(1) << bit) + (uint64_t)off);
	ok(good && fits(UINT64_MAX), "each value has a bucket whose bounds hold it");
	for (unsigned i = 1; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t low = histogram_bound(i - 1), high = histogram_bound(i);
		close_by = close_by && low < high && (high - low) * HISTOGRAM_STEPS <= high + 3;
	}
	ok(close_by, "bounds ascend, and are a quarter apart");
	for (unsigned bit = 0; bit < 32; bit++) {
		uint64_t value = UINT64_C(1) << bit;
		doublings = doublings && histogram_bound(histogram_place(value)) == value;
	}
	ok(doublings, "every power of two is a bound");
}

static void counts_and_sums(void)
{
	static struct counters set, total;

	counter_measure(&set, MEASURE_REQUEST, 100, 3);
	counter_measure(&set, MEASURE_REQUEST, 0, 1);
	counter_measure(&set, MEASURE_STREAM, UINT64_MAX / 2, 1);
	counter_add(&set, COUNTER_EVENTS_ACCEPTED, 4);
	counter_bump(&set.requests[ENDPOINT_EVENT][endpoint_column(200)], 7);
	counter_store(&set, COUNTER_CONNECTIONS_OPEN, 5);
	counter_store(&set, COUNTER_CONNECTIONS_IDLE, 5);
	counter_total(&set, &total);
	counter_total(&set, &total);
	cmp_ok((intmax_t)histogram_count(&total.measured[MEASURE_REQUEST]), "==", 8,
	       "a total has the values of each set");
	cmp_ok((intmax_t)total.measured[MEASURE_REQUEST].sum, "==", 600, "and their sum");
	cmp_ok((intmax_t)counter_requests(&total), "==", 14, "and requests");
	cmp_ok((intmax_t)counter_load(&total, COUNTER_EVENTS_ACCEPTED), "==", 8, "and counters");
	counter_bury(&set);
	cmp_ok((intmax_t)counter_load(&set, COUNTER_ANSWERS_LOST), "==", 2,
	       "what the dead had answered and not let go is lost");
	cmp_ok((intmax_t)counter_load(&set, COUNTER_CONNECTIONS_IDLE), "==", 0,
	       "it has no connections");
	counter_bury(&set);
	cmp_ok((intmax_t)counter_load(&set, COUNTER_ANSWERS_LOST), "==", 2, "and is buried once");
}

/* --- answers in queues --- */

static _Alignas(struct queue) char block[sizeof(struct queue) + 4096];

static bool add(struct queue *queue, uint64_t lsn, uint32_t count, double began)
{
	return queue_add(queue, 1, lsn, (struct queue_answers){count, began});
}

static void queues_know_their_answers(void)
{
	struct queue *queue = queue_init(block, sizeof(block));
	struct queue_answers answers;

	ok(add(queue, 0, 1, 1), "what depends on nothing may leave at once");
	ok(!add(queue, 10, 2, 1.5), "the rest waits");
	ok(!add(queue, 0, 1, 2), "and what comes behind it, too");
	ok(!add(queue, 0, 0, 0), "a piece of an answer is none");
	cmp_ok((intmax_t)queue_waiting(queue), "==", 3, "so many answers wait");
	ok(!queue_release(queue, 10, &answers), "not below their record");
	ok(queue_release(queue, 11, &answers) && answers.count == 2 && answers.began == 1.5,
	   "those that began together leave together");
	ok(queue_release(queue, 11, &answers) && answers.count == 1 && answers.began == 2,
	   "one that began later keeps its time");
	ok(!queue_release(queue, 11, &answers), "no more");
	cmp_ok((intmax_t)queue_ready(queue), "==", 4, "all bytes may leave");

	queue = queue_init(block, sizeof(block));
	for (uint32_t i = 0; i < 3 * QUEUE_MARKS; i++)
		add(queue, i + 1, 1, i + 1);
	uint32_t count = 0, marks = 0;
	while (queue_release(queue, UINT64_MAX, &answers)) {
		count += answers.count;
		marks++;
	}
	cmp_ok(count, "==", 3 * QUEUE_MARKS, "none is forgotten where there are too many times");
	cmp_ok(marks, "==", QUEUE_MARKS, "... which is so");
	ok(answers.began == QUEUE_MARKS, "and then the earliest counts");
}

/* --- statuses --- */

static void statuses_have_columns(void)
{
	bool good = true;
	unsigned columns = 0;

	for (unsigned status = 0; status < 1000; status++) {
		unsigned column = endpoint_column(status);
		good = good && column < COUNTER_STATUSES;
		good = good && (column == 0 || endpoint_status(column) == status);
		columns += column != 0;
	}
	ok(good, "a column is its status's");
	cmp_ok(columns, "==", 30, "so many have one");
	good = true;
	for (size_t i = 0; reason_at(i); i++)
		good = good && endpoint_column(reason_at(i)->status) != 0 &&
		       reason_place(reason_at(i)) == i && i < COUNTER_REASONS - 1;
	ok(good, "every reason has its place and a column for its status");
}

/* --- bytes --- */

static void writes_the_format(void)
{
	static const struct exposition_label labels[] = {
	    {"a", "x\"y\\z\n"}, {"b", ""}, {NULL, NULL}};
	static const struct exposition_bucket buckets[] = {{1, 2}, {1500000, 3}};
	static const char wanted[] = "# HELP m Some help.\n"
	                             "# TYPE m histogram\n"
	                             "m{a=\"x\\\"y\\\\z\\n\",b=\"\"} 18446744073709551615\n"
	                             "m 1.5\n"
	                             "m 0.000001\n"
	                             "m 2\n"
	                             "m_bucket{le=\"0.000001\"} 2\n"
	                             "m_bucket{le=\"1.5\"} 3\n"
	                             "m_bucket{le=\"+Inf\"} 4\n"
	                             "m_sum 10.02\n"
	                             "m_count 4\n";
	char bytes[1024];
	struct text text;

	text_init(&text, bytes, sizeof(bytes));
	exposition_family(&text, "m", "histogram", "Some help.");
	exposition_sample(&text, "m", labels, UINT64_MAX, EXPOSITION_COUNT);
	exposition_sample(&text, "m", NULL, 1500000, EXPOSITION_SECONDS);
	exposition_sample(&text, "m", NULL, 1, EXPOSITION_SECONDS);
	exposition_sample(&text, "m", NULL, 2000000, EXPOSITION_SECONDS);
	exposition_histogram(&text, "m", buckets, 2, 4, 10020000, EXPOSITION_SECONDS);
	bytes[text.length] = '\0';
	ok(!text.full && strcmp(bytes, wanted) == 0, "families, labels, seconds and histograms");
	if (strcmp(bytes, wanted) != 0)
		diag("%s", bytes);
}

/* --- the page at its fullest --- */

static char page[METRICS_PAGE_MAX + 1];

static struct text write_page(struct counters *set, size_t slots, size_t capacity)
{
	static const struct counters *sets[METRICS_SLOTS_MAX];
	static struct facts facts;
	struct text text;

	memset(&facts, 0xff, sizeof(facts));
	facts.poisoned = true;
	for (size_t i = 0; i < METRICS_SLOTS_MAX; i++)
		sets[i] = set;
	text_init(&text, page, capacity);
	metrics_write(&text, &(struct metrics){.facts = &facts,
	                                       .sets = sets,
	                                       .slots = slots,
	                                       .version = "255.255.255-with-some-suffix",
	                                       .now_us = UINT64_MAX});
	page[text.length] = '\0';
	return text;
}

/* What all samples of tallyd_requests_total add up to. */
static uint64_t requests_in_page(void)
{
	uint64_t sum = 0;

	for (const char *at = page; (at = strstr(at, "\ntallyd_requests_total{"));) {
		at = strchr(at, '}') + 2;
		sum += strtoull(at, NULL, 10);
	}
	return sum;
}

static void the_page_is_bounded(void)
{
	static struct counters set;
	bool fit = true;

	cmp_ok(METRICS_SLOTS_MAX, "==", REGION_PROCESSES_MAX, "it tells of all process slots");
	memset(&set, 0xff, sizeof(set));
	for (size_t slots = 1; slots <= METRICS_SLOTS_MAX; slots += 53)
		fit = fit && !write_page(&set, slots, metrics_size(slots)).full;
	ok(fit, "whatever is counted, the page fits the room that is reserved for it");
	struct text text = write_page(&set, METRICS_SLOTS_MAX, METRICS_PAGE_MAX);
	ok(!text.full, "the largest, too");
	diag("the largest page has %zu bytes of %d", text.length, METRICS_PAGE_MAX);

	memset(&set, 0, sizeof(set));
	for (unsigned row = 0; row < COUNTER_ENDPOINTS; row++)
		for (unsigned column = 0; column < COUNTER_STATUSES; column++)
			set.requests[row][column] = row + column + 1;
	write_page(&set, 1, METRICS_PAGE_MAX);
	cmp_ok((intmax_t)requests_in_page(), "==", (intmax_t)counter_requests(&set),
	       "where there are too many rows the rest is told in one");
	ok(strstr(page, "{method=\"more\"") != NULL, "... which is so");
}

int main(void)
{
	plan(NO_PLAN);
	every_value_has_its_bucket();
	counts_and_sums();
	queues_know_their_answers();
	statuses_have_columns();
	writes_the_format();
	the_page_is_bounded();
	return done_testing();
}
