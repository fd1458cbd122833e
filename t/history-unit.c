/*
 * The journal as a worker reads it: every record, from the ring and from the files, statements,
 * what was pruned, and reads that do not wait for the disk.
 */
#include <poll.h>
#include <time.h>
#include <xxhash.h>

#include "journal-traffic.h"

static const struct sizes small = {.segment_size = FIXTURE_SEGMENT,
                                   .ring_size = 65536,
                                   .max_accounts = 64,
                                   .max_ids = 1000,
                                   .max_holds = 200};

/* Reads the whole of the journal again, record by record, through HISTORY. */
static size_t read_all(struct run *run, struct journal_reader *history, uint64_t from,
                       size_t *wrong)
{
	struct store_reader *reader = store_replay(run->store, from);
	const struct record_head *record;
	const struct record_head *again;
	size_t count = 0;

	must(reader != NULL, "store_replay");
	for (; store_next(reader, &record) == STORE_OK; count++)
		*wrong += history_record(history, record->lsn, &again) != HISTORY_OK ||
		          again->length != record->length ||
		          memcmp(again, record, record->length) != 0;
	store_reader_close(reader);
	return count;
}

static void test_records(void)
{
	struct place place;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 51};
	const struct record_head *record;
	size_t wrong = 0;
	size_t ring = 0;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	/* What is not written yet is only in the ring. */
	uint64_t at = run.position;
	for (int i = 0; i < 60; i++)
		traffic_step(&traffic);
	for (uint64_t tail = atomic_load(&run.marks->tail); at < tail; ring++) {
		if (history_record(run.history, at, &record) != HISTORY_OK)
			break;
		at += record->length;
	}
	cmp_ok((intmax_t)at, "==", (intmax_t)atomic_load(&run.marks->tail),
	       "%zu records that are in the ring alone", ring);
	run_commit(&run);
	while (run.position < 12 * small.segment_size)
		traffic_run(&traffic, 100);
	size_t count = read_all(&run, run.history, SEGMENT_HEAD, &wrong);
	ok(wrong == 0 && count > 3000, "%zu records of many segments, as they are in the files",
	   count);
	/* A reader that was opened late, before which most segments were made. */
	run_leave(&run);
	struct sizes larger = small;
	larger.segment_size = 2 * small.segment_size;
	must(run_start(&run, &place, &larger), "run_start");
	while (run.position < 22 * small.segment_size)
		traffic_run(&traffic, 100);
	count = read_all(&run, run.history, SEGMENT_HEAD, &wrong);
	ok(wrong == 0 && count > 6000, "and of segments of two sizes: %zu", count);
	run_leave(&run);
	place_remove(&place);
}

static size_t count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t count = 0;

	must(directory != NULL, "/proc/self/fd");
	while (readdir(directory) != NULL)
		count++;
	closedir(directory);
	return count;
}

static void remove_segment(const struct place *place, uint64_t base)
{
	char path[FIXTURE_PATH + 64];

	snprintf(path, sizeof path, "%s/%016" PRIx64 ".journal", place->journal, base);
	must(unlink(path) == 0, path);
}

/* The first record of each segment. */
static enum history_status read_first(struct journal_reader *history, uint64_t segment)
{
	const struct record_head *record;

	return history_record(history, segment * small.segment_size + SEGMENT_HEAD, &record);
}

static void test_files(void)
{
	struct place place;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 52};
	const struct record_head *record;
	struct image_file file;
	bool all = true;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	while (run.position < 20 * small.segment_size)
		traffic_run(&traffic, 100);
	size_t before = count_descriptors();
	for (uint64_t i = 0; i < 20; i++)
		all &= read_first(run.history, i) == HISTORY_OK;
	ok(all && count_descriptors() > before && count_descriptors() <= before + 8,
	   "records of 20 segments, with at most 8 descriptors");
	cmp_ok((intmax_t)history_first(run.history), "==", SEGMENT_HEAD, "the first that is kept");
	/* The newest of those that were read is open still, the oldest is not. */
	remove_segment(&place, 0);
	remove_segment(&place, small.segment_size);
	ok(read_first(run.history, 0) == HISTORY_PRUNED, "a segment that is gone");
	cmp_ok((intmax_t)history_first(run.history),
	       "==", (intmax_t)(2 * small.segment_size + SEGMENT_HEAD),
	       "the first that is kept then");
	ok(read_first(run.history, 1) == HISTORY_PRUNED && read_first(run.history, 2) == HISTORY_OK,
	   "before it nothing is, it is");
	size_t open_now = count_descriptors();
	remove_segment(&place, 2 * small.segment_size);
	ok(read_first(run.history, 2) == HISTORY_PRUNED && count_descriptors() < open_now,
	   "one that is removed while it is open is let go");
	for (uint64_t i = 3; i < 19; i++)
		remove_segment(&place, i * small.segment_size);
	cmp_ok((intmax_t)history_first(run.history),
	       "==", (intmax_t)(19 * small.segment_size + SEGMENT_HEAD),
	       "so are those that were made after the reader");
	/* Positions that are none, and a record that is damaged. */
	uint64_t lsn = 19 * small.segment_size + SEGMENT_HEAD;
	must(history_record(run.history, lsn, &record) == HISTORY_OK, "history_record");
	ok(history_record(run.history, lsn + 1, &record) == HISTORY_IO && errno == EUCLEAN,
	   "between words there is no record");
	ok(history_record(run.history, lsn + 8, &record) == HISTORY_IO && errno == EUCLEAN,
	   "nor within one");
	snprintf(file.path, sizeof file.path, "%s/%016" PRIx64 ".journal", place.journal,
	         lsn - SEGMENT_HEAD);
	file_read(&file);
	file_put_byte(&file, SEGMENT_HEAD + 40, (unsigned char)~file.bytes[SEGMENT_HEAD + 40]);
	enum history_status damaged = history_record(run.history, lsn, &record);
	ok(damaged == HISTORY_IO && errno == EUCLEAN, "a damaged one is not sound");
	free(file.bytes);
	run_leave(&run);
	place_remove(&place);
}

/* ---- statements */

struct walk {
	size_t steps;
	bool follows;
	bool sums;
	enum history_status ended;
};

/* Walks the whole statement of SLOT's account. */
static struct walk walk(struct run *run, const struct account_slot *slot)
{
	struct walk walk = {.follows = true, .sums = true};
	char name[ACCOUNT_NAME_MAX];
	uint32_t length =
	    table_name(run->region, table_stripe(run->region, slot->hash), slot, name);
	uint64_t version = slot->version;
	int64_t balance = slot->balance;
	uint64_t lsn = slot->lsn;
	struct entry entry;

	while (true) {
		uint64_t at = lsn;
		walk.ended = history_step(run->history, name, length, &lsn, &entry);
		if (walk.ended != HISTORY_OK)
			return walk;
		walk.follows &= entry.lsn == at && lsn < at && entry.version == version;
		walk.sums &= entry.balance == balance;
		balance -= entry.amount;
		version--;
		walk.sums &= lsn != 0 || balance == 0;
		walk.steps++;
	}
}

static void test_statements(void)
{
	struct place place;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 53};
	size_t steps = 0;
	bool right = true;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	while (run.position < 4 * small.segment_size)
		traffic_run(&traffic, 100);
	for (uint64_t i = 0; i < region_slots(run.region); i++) {
		const struct account_slot *slot = &run.region->slots[i];
		if (!is_account(slot))
			continue;
		struct walk came = walk(&run, slot);
		right &= came.follows && came.sums && came.ended == HISTORY_END &&
		         came.steps == slot->version;
		steps += came.steps;
	}
	ok(right && steps > 1000, "statements of %zu entries add up, from the last to the first",
	   steps);
	remove_segment(&place, 0);
	size_t pruned = 0;
	for (uint64_t i = 0; i < region_slots(run.region); i++) {
		if (!is_account(&run.region->slots[i]))
			continue;
		struct walk came = walk(&run, &run.region->slots[i]);
		right &=
		    came.follows && (came.ended == HISTORY_PRUNED || came.ended == HISTORY_END);
		pruned += came.ended == HISTORY_PRUNED;
	}
	ok(right && pruned > 0, "%zu of them end where the journal was pruned", pruned);
	uint64_t none = 0;
	struct entry entry;
	ok(history_step(run.history, "a", 1, &none, &entry) == HISTORY_END, "none at all");
	uint64_t lsn = run_post(&run, "b", 1, 5).lsn;
	ok(history_step(run.history, "c", 1, &lsn, &entry) == HISTORY_IO && errno == EUCLEAN,
	   "another's record is no entry");
	run_leave(&run);
	place_remove(&place);
}

static bool same_words(struct words words, const char *text)
{
	return words.length == strlen(text) &&
	       (words.length == 0 || memcmp(words.bytes, text, words.length) == 0);
}

static struct entry newest(struct run *run, const char *name)
{
	struct account_view view;
	struct entry entry = {0};

	must(ledger_read(run->ledger, name, (uint32_t)strlen(name), &view) == OUTCOME_ACCEPTED,
	     "ledger_read");
	must(history_step(run->history, name, (uint32_t)strlen(name), &view.lsn, &entry) ==
	         HISTORY_OK,
	     "history_step");
	return entry;
}

static struct request ask(enum request_kind kind, const char *account, int64_t amount,
                          const char *id, const char *hold)
{
	struct request request = {.kind = kind,
	                          .ttl = 1,
	                          .id = words_of(id),
	                          .hold = words_of(hold),
	                          .note = words_of("a note"),
	                          .attributes = {.floor = FLOOR_NONE, .ceiling = CEILING_NONE}};

	request.legs = account[0] != '\0' ? 1 : 0;
	request.leg[0] = (struct leg){.account = words_of(account), .amount = amount};
	return request;
}

static void test_entries(void)
{
	struct place place;
	struct run run;
	struct entry entry;
	struct request request;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	request = ask(REQUEST_CREATE, "alice", 0, "made", "");
	run_apply(&run, &request, OUTCOME_ACCEPTED);
	entry = newest(&run, "alice");
	ok(entry.kind == REQUEST_CREATE && entry.amount == 0 && entry.version == 1 &&
	       same_words(entry.id, "made") && same_words(entry.note, "a note") &&
	       entry.time_us == run.now_us,
	   "a creation");
	request = ask(REQUEST_EVENT, "alice", 100, "", "");
	run_apply(&run, &request, OUTCOME_ACCEPTED);
	entry = newest(&run, "alice");
	ok(entry.kind == REQUEST_EVENT && entry.amount == 100 && entry.balance == 100 &&
	       entry.version == 2 && entry.id.length == 0 && entry.counterparty.length == 0 &&
	       entry.hold.length == 0,
	   "an event");
	request = ask(REQUEST_TRANSFER, "alice", -30, "t", "");
	request.legs = 2;
	request.leg[1] = (struct leg){.account = words_of("bob"), .amount = 30};
	run_apply(&run, &request, OUTCOME_ACCEPTED);
	entry = newest(&run, "alice");
	ok(entry.kind == REQUEST_TRANSFER && entry.amount == -30 && entry.legs == 2 &&
	       same_words(entry.counterparty, "bob"),
	   "a transfer, as who paid sees it");
	entry = newest(&run, "bob");
	ok(entry.amount == 30 && entry.balance == 30 && same_words(entry.counterparty, "alice"),
	   "and who received it");
	request = ask(REQUEST_HOLD, "alice", 20, "", "made-for-it");
	run_apply(&run, &request, OUTCOME_ACCEPTED);
	entry = newest(&run, "alice");
	ok(entry.kind == REQUEST_HOLD && entry.amount == 0 && entry.held == 20 &&
	       entry.id.length == 0 && same_words(entry.hold, "made-for-it"),
	   "a hold, with an id that was made");
	request = ask(REQUEST_HOLD, "alice", 5, "mine", "");
	run_apply(&run, &request, OUTCOME_ACCEPTED);
	entry = newest(&run, "alice");
	ok(same_words(entry.id, "mine") && same_words(entry.hold, "mine") && entry.held == 25,
	   "a hold with the client's");
	request = ask(REQUEST_CAPTURE, "bob", 0, "", "made-for-it");
	run_apply(&run, &request, OUTCOME_ACCEPTED);
	entry = newest(&run, "alice");
	ok(entry.kind == REQUEST_CAPTURE && entry.amount == -20 && entry.held == 5 &&
	       same_words(entry.hold, "made-for-it") && same_words(entry.counterparty, "bob"),
	   "a capture for another");
	run.now_us += 5000000;
	ledger_expire(run.ledger, run.now_us, 10);
	entry = newest(&run, "alice");
	ok(entry.kind == REQUEST_RELEASE && entry.expired && entry.held == 0 &&
	       same_words(entry.hold, "mine") && entry.note.length == 0,
	   "an expiry");
	run_leave(&run);
	place_remove(&place);
}

/* ---- what is not in memory */

/* Drops the journal's files from the page cache. */
static void forget_files(const struct place *place)
{
	DIR *directory = opendir(place->journal);
	struct dirent *entry;

	must(directory != NULL, place->journal);
	while ((entry = readdir(directory)) != NULL) {
		int fd = openat(dirfd(directory), entry->d_name, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || entry->d_name[0] == '.') {
			if (fd >= 0)
				close(fd);
			continue;
		}
		fsync(fd);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	closedir(directory);
}

static void test_later(void)
{
	struct place place;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 54};
	const struct record_head *record;
	enum history_status status;
	size_t later = 0;
	int tries = 0;

	/* A directory on a disk, if there is one. */
	setenv("TMPDIR", access("/var/tmp", W_OK) == 0 ? "/var/tmp" : "/tmp", 0);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	while (run.position < 6 * small.segment_size)
		traffic_run(&traffic, 200);
	forget_files(&place);
	for (uint64_t i = 0; i < 4; i++) {
		while ((status = read_first(run.history, i)) == HISTORY_LATER && tries++ < 10000) {
			later++;
			poll(NULL, 0, 1);
		}
		if (status != HISTORY_OK)
			break;
	}
	ok(status == HISTORY_OK,
	   "records that are not in memory come later (%zu times asked again)", later);
	forget_files(&place);
	history_may_wait(run.history, true);
	ok(history_record(run.history, 2 * small.segment_size + SEGMENT_HEAD, &record) ==
	       HISTORY_OK,
	   "or at once, to who may wait");
	run_leave(&run);
	place_remove(&place);
}

/* Up to MAX positions of records in SEGMENT, ascending.  Returns how many. */
static size_t positions_in(struct journal_reader *history, uint64_t segment, uint64_t *lsn,
                           size_t max)
{
	const struct record_head *record;
	uint64_t at = segment * small.segment_size + SEGMENT_HEAD;
	size_t count = 0;

	while (count < max && at + JOURNAL_RECORD_MIN <= (segment + 1) * small.segment_size &&
	       history_record(history, at, &record) == HISTORY_OK) {
		lsn[count++] = at;
		at += record->length;
	}
	return count;
}

/* Walking back through a segment that is not in memory waits for it once, not for each page. */
static void test_backwards(void)
{
	static uint64_t lsn[2000];
	const struct record_head *record;
	struct place place;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 55};
	bool all = true;
	size_t pauses = 0;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	while (run.position < 6 * small.segment_size)
		traffic_run(&traffic, 200);
	size_t count = positions_in(run.history, 1, lsn, sizeof lsn / sizeof *lsn);
	must(count > 100, "a segment full of records");
	forget_files(&place);
	for (size_t i = count; i-- > 0;) {
		enum history_status status = history_record(run.history, lsn[i], &record);
		int tries = 0;
		pauses += status == HISTORY_LATER;
		while (status == HISTORY_LATER && tries++ < 10000) {
			poll(NULL, 0, 5);
			status = history_record(run.history, lsn[i], &record);
		}
		all &= status == HISTORY_OK && record->lsn == lsn[i];
	}
	ok(all && pauses <= 4, "%zu records backwards, with %zu pauses", count, pauses);
	run_leave(&run);
	place_remove(&place);
}

/* ---- answers */

static bool same_result(const struct result *a, const struct result *b)
{
	bool same = a->outcome == b->outcome && a->created == b->created && a->legs == b->legs &&
	            a->refused == b->refused && a->lsn == b->lsn && a->time_us == b->time_us &&
	            a->available == b->available && a->required == b->required &&
	            a->limit == b->limit && a->hold_state == b->hold_state &&
	            a->hold_amount == b->hold_amount && a->hold_captured == b->hold_captured &&
	            a->hold_settled_lsn == b->hold_settled_lsn &&
	            a->hold_expires_us == b->hold_expires_us &&
	            a->attributes.floor == b->attributes.floor &&
	            a->attributes.ceiling == b->attributes.ceiling &&
	            a->attributes.frozen == b->attributes.frozen &&
	            a->account_length == b->account_length &&
	            memcmp(a->account, b->account, a->account_length) == 0;

	for (unsigned i = 0; same && i < a->legs; i++)
		same = a->leg[i].amount == b->leg[i].amount &&
		       a->leg[i].balance == b->leg[i].balance && a->leg[i].held == b->leg[i].held &&
		       a->leg[i].version == b->leg[i].version;
	return same;
}

/* What the ledger answered, its record says. */
static void test_results(void)
{
	struct place place;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 55, .ids = 100000};
	struct traffic_words words;
	struct request request;
	struct result result;
	struct result again;
	const struct record_head *record;
	size_t count[OUTCOME_ID_REUSED + 1] = {0};
	size_t wrong = 0;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	for (int i = 0; i < 3000; i++) {
		traffic_request(&traffic, (enum request_kind)(i % (REQUEST_RELEASE + 1)), &request,
		                &words);
		run_extend(&run);
		uint64_t tail = atomic_load(&run.marks->tail);
		ledger_apply(run.ledger, &request, ++run.now_us, &result);
		/* Answers that have a record of their own. */
		if (!result.replayed && atomic_load(&run.marks->tail) != tail &&
		    result.lsn >= tail && result.outcome <= OUTCOME_ID_REUSED) {
			must(history_record(run.history, result.lsn, &record) == HISTORY_OK,
			     "history_record");
			history_result(record, &again);
			count[result.outcome]++;
			if (!same_result(&result, &again) && wrong++ < 5)
				diag("a request of kind %d: outcome %d", (int)request.kind,
				     (int)result.outcome);
		}
		if (i % 50 == 0)
			run_commit(&run);
	}
	ok(wrong == 0 && count[OUTCOME_ACCEPTED] > 500 && count[OUTCOME_UNKNOWN_HOLD] > 10 &&
	       count[OUTCOME_INSUFFICIENT_FUNDS] > 0 && count[OUTCOME_ACCOUNT_EXISTS] > 0 &&
	       count[OUTCOME_VERSION_MISMATCH] > 0 && count[OUTCOME_HOLD_SETTLED] > 0,
	   "%zu answers and %zu refusals are what their records say", count[OUTCOME_ACCEPTED],
	   count[OUTCOME_INSUFFICIENT_FUNDS] + count[OUTCOME_UNKNOWN_HOLD]);
	run_leave(&run);
	place_remove(&place);
}

int main(void)
{
	plan(NO_PLAN);
	test_records();
	test_files();
	test_statements();
	test_entries();
	test_results();
	test_later();
	test_backwards();
	return done_testing();
}
