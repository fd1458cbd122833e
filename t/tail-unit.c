/*
 * The journal read forward: every record that changed something and is durable, from the ring and
 * from the files, by many readers at once, from any position that is one.
 */
#include "journal-traffic.h"

#include "../src/ledger/tail.h"

static const struct sizes small = {.segment_size = FIXTURE_SEGMENT,
                                   .ring_size = 65536,
                                   .max_accounts = 64,
                                   .max_ids = 1000,
                                   .max_holds = 200};

/* One run with a reader. */
struct subject {
	struct place place;
	struct run run;
	struct traffic traffic;
	struct tail *tail;
};

static void begin_run(struct subject *subject, const struct sizes *sizes)
{
	must(run_start(&subject->run, &subject->place, sizes), "run_start");
	subject->traffic.run = &subject->run;
	subject->tail = tail_open(subject->run.history);
	must(subject->tail != NULL, "tail_open");
}

static void leave_run(struct subject *subject)
{
	tail_close(subject->tail);
	run_leave(&subject->run);
}

static void begin(struct subject *subject, uint64_t random)
{
	*subject = (struct subject){.traffic = {.random = random}};
	place_make(&subject->place);
	begin_run(subject, &small);
}

static void end(struct subject *subject)
{
	leave_run(subject);
	place_remove(&subject->place);
}

static void grow(struct subject *subject, uint64_t to)
{
	while (subject->run.position < to)
		traffic_run(&subject->traffic, 100);
	run_commit(&subject->run);
}

/* The next change at or after *POSITION that is durable; END as of tail_next. */
static enum tail_status next_change(struct subject *subject, uint64_t *position,
                                    struct change *change)
{
	enum tail_status status;

	do
		status = tail_next(subject->tail, position, tail_durable(subject->tail), change);
	while (status == TAIL_NOTHING);
	return status;
}

static bool same_leg(const struct record_leg *leg, const struct change_leg *told)
{
	return told->account.length == leg->name_length &&
	       memcmp(told->account.bytes, leg->name, leg->name_length) == 0 &&
	       told->amount == leg->amount && told->balance == leg->balance &&
	       told->held == leg->held && told->version == leg->version;
}

static bool same_change(const struct record_head *record, const struct change *change)
{
	const struct record_leg *leg = NULL;
	bool same = change->lsn == record->lsn && change->time_us == record->time_us &&
	            change->legs == record->legs;

	for (unsigned i = 0; same && i < change->legs; i++) {
		leg = record_next_leg(record, leg);
		same &= same_leg(leg, &change->leg[i]);
	}
	return same;
}

/*
 * Reads the journal from FROM with the daemon's own reader, and what changed something once more:
 * how many were wrong or missing; in *COUNT how many there are.
 */
static size_t compare_all(struct subject *subject, uint64_t from, size_t *count)
{
	struct store_reader *reader = store_replay(subject->run.store, from);
	const struct record_head *record;
	struct change change;
	size_t wrong = 0;

	must(reader != NULL, "store_replay");
	*count = 0;
	while (store_next(reader, &record) == STORE_OK) {
		if (!record_has_effect(record))
			continue;
		(*count)++;
		wrong += next_change(subject, &from, &change) != TAIL_CHANGE ||
		         !same_change(record, &change);
	}
	store_reader_close(reader);
	return wrong + (next_change(subject, &from, &change) != TAIL_END);
}

static void test_everything(void)
{
	struct subject subject;
	struct sizes larger = small;
	uint64_t position;
	size_t count;

	begin(&subject, 61);
	grow(&subject, 12 * small.segment_size);
	ok(tail_seek(subject.tail, 0, &position) == TAIL_NOTHING && position == SEGMENT_HEAD,
	   "after 0: from the beginning");
	size_t wrong = compare_all(&subject, position, &count);
	ok(wrong == 0 && count > 2000, "%zu changes of many segments, each as its record says",
	   count);
	leave_run(&subject);
	larger.segment_size = 2 * small.segment_size;
	begin_run(&subject, &larger);
	grow(&subject, 22 * small.segment_size);
	wrong = compare_all(&subject, SEGMENT_HEAD, &count);
	ok(wrong == 0 && count > 4000, "and of segments of two sizes, of two runs: %zu", count);
	end(&subject);
}

static void test_durable(void)
{
	struct subject subject;
	struct change change;
	uint64_t position;

	begin(&subject, 62);
	run_commit(&subject.run);
	position = tail_durable(subject.tail);
	uint64_t first = run_post(&subject.run, "alice", 5, 7).lsn;
	uint64_t second = run_post(&subject.run, "alice", 5, 8).lsn;
	ok(next_change(&subject, &position, &change) == TAIL_END, "in the ring: not yet");
	run_write(&subject.run, second);
	ok(next_change(&subject, &position, &change) == TAIL_END, "written: not yet");
	must(store_sync(subject.run.store) == 0, "store_sync");
	atomic_store(&subject.run.marks->durable, second);
	ok(next_change(&subject, &position, &change) == TAIL_CHANGE && change.lsn == first &&
	       change.leg[0].balance == 7,
	   "durable: now");
	ok(next_change(&subject, &position, &change) == TAIL_END && position == second,
	   "but not the one behind it");
	run_commit(&subject.run);
	ok(next_change(&subject, &position, &change) == TAIL_CHANGE && change.lsn == second,
	   "which has its turn");
	end(&subject);
}

/* Calls of read(2) and its like that this process has made. */
static uint64_t reads_made(void)
{
	char text[512] = "";
	FILE *file = fopen("/proc/self/io", "r");
	unsigned long long reads = 0;

	must(file != NULL && fread(text, 1, sizeof text - 1, file) > 0, "/proc/self/io");
	fclose(file);
	must(sscanf(strstr(text, "syscr:"), "syscr: %llu", &reads) == 1, "syscr");
	return reads;
}

#define READERS 50

/* All of them side by side, some a little behind.  How many changes they got. */
static size_t read_together(struct subject *subject, uint64_t from, size_t *wrong)
{
	uint64_t position[READERS];
	struct change change;
	size_t count = 0;
	bool more = true;

	for (int i = 0; i < READERS; i++)
		position[i] = from;
	while (more) {
		more = false;
		for (int i = 0; i < READERS; i++) {
			/* In blocks, as feeds do. */
			for (int j = 0; j < 20 + i % 3; j++) {
				uint64_t before = position[i];
				if (next_change(subject, &position[i], &change) != TAIL_CHANGE)
					break;
				*wrong += change.lsn < before;
				count++;
				more = true;
			}
		}
	}
	return count;
}

static void test_together(void)
{
	struct subject subject;
	struct change change;
	size_t wrong = 0;
	size_t alone = 0;

	begin(&subject, 63);
	grow(&subject, 12 * small.segment_size);
	uint64_t from = SEGMENT_HEAD;
	while (next_change(&subject, &from, &change) == TAIL_CHANGE)
		alone++;
	uint64_t before = reads_made();
	size_t count = read_together(&subject, SEGMENT_HEAD, &wrong);
	uint64_t reads = reads_made() - before;
	uint64_t windows = subject.run.position / TAIL_WINDOW + 1;
	ok(wrong == 0 && count == READERS * alone, "%d readers get all of it: %zu changes", READERS,
	   count);
	/* Windows overlap where one ends within a record, and where a segment ends. */
	ok(reads > 0 && reads < 5 * windows, "with %ju reads of the files for %ju windows",
	   (uintmax_t)reads, (uintmax_t)windows);
	end(&subject);
}

/* At the tail, event by event: what was read of a window stays, and no file is needed. */
static void test_follow(void)
{
	struct subject subject;
	struct change change;
	bool right = true;

	begin(&subject, 64);
	run_commit(&subject.run);
	uint64_t position = tail_durable(subject.tail);
	uint64_t behind = position;
	uint64_t before = reads_made();
	for (int i = 0; i < 300; i++) {
		uint64_t lsn = run_post(&subject.run, "alice", 5, 1).lsn;
		run_commit(&subject.run);
		right &=
		    next_change(&subject, &position, &change) == TAIL_CHANGE && change.lsn == lsn;
		right &= next_change(&subject, &position, &change) == TAIL_END;
	}
	uint64_t reads = reads_made() - before;
	ok(right, "each event as soon as it is durable");
	cmp_ok((intmax_t)reads, "<", 10, "from the ring");
	for (int i = 0; i < 300; i++)
		right &= next_change(&subject, &behind, &change) == TAIL_CHANGE;
	ok(right && reads_made() - before < 10, "and who comes later finds them there");
	/* One that waits while the ring is overwritten several times goes on where it was. */
	uint64_t lsn = run_post(&subject.run, "alice", 5, 1).lsn;
	grow(&subject, subject.run.position + 5 * small.ring_size);
	ok(next_change(&subject, &behind, &change) == TAIL_CHANGE && change.lsn == lsn,
	   "who was overtaken goes on from the files");
	size_t count;
	ok(compare_all(&subject, behind, &count) == 0 && count > 500, "and misses nothing");
	end(&subject);
}

static void remove_segment(const struct place *place, uint64_t base)
{
	char path[FIXTURE_PATH + 64];

	snprintf(path, sizeof path, "%s/%016" PRIx64 ".journal", place->journal, base);
	must(unlink(path) == 0, path);
}

static void test_seek(void)
{
	struct subject subject;
	const struct record_head *record;
	struct change change;
	uint64_t position;
	size_t wrong = 0;
	size_t count = 0;

	begin(&subject, 65);
	grow(&subject, 3 * small.segment_size);
	struct store_reader *reader = store_replay(subject.run.store, SEGMENT_HEAD);
	must(reader != NULL, "store_replay");
	for (uint64_t last = SEGMENT_HEAD; store_next(reader, &record) == STORE_OK; count++) {
		uint64_t lsn = record->lsn;
		wrong += tail_seek(subject.tail, lsn, &position) != TAIL_NOTHING ||
		         position != lsn + record->length;
		wrong +=
		    tail_seek(subject.tail, lsn - 1, &position) != TAIL_NOTHING || position != lsn;
		wrong += tail_seek(subject.tail, last - 1, &position) != TAIL_NOTHING;
		last = lsn + record->length;
		for (uint64_t inside = lsn + 8; inside < last; inside += 8) {
			/* Where no record can begin any more the next segment is what follows. */
			bool last_bytes =
			    small.segment_size - inside % small.segment_size < JOURNAL_RECORD_MIN;
			wrong += tail_seek(subject.tail, inside, &position) != TAIL_NOWHERE ||
			         (!last_bytes &&
			          tail_seek(subject.tail, inside - 1, &position) != TAIL_NOWHERE);
		}
		for (uint64_t odd = lsn + 1; odd < lsn + 7; odd++)
			wrong += tail_seek(subject.tail, odd, &position) != TAIL_NOWHERE;
	}
	store_reader_close(reader);
	ok(wrong == 0 && count > 500, "behind each of %zu records, before it, and not within",
	   count);
	uint64_t tail = atomic_load(&subject.run.marks->tail);
	ok(tail_seek(subject.tail, tail - 1, &position) == TAIL_NOTHING && position == tail &&
	       next_change(&subject, &position, &change) == TAIL_END,
	   "the journal's end is a position");
	ok(tail_seek(subject.tail, tail, &position) == TAIL_NOWHERE &&
	       tail_seek(subject.tail, tail + 7, &position) == TAIL_NOWHERE &&
	       tail_seek(subject.tail, UINT64_MAX, &position) == TAIL_NOWHERE &&
	       tail_seek(subject.tail, UINT64_MAX - 7, &position) == TAIL_NOWHERE &&
	       tail_seek(subject.tail, 7, &position) == TAIL_NOWHERE,
	   "beyond it there is none");
	uint64_t early = run_post(&subject.run, "a", 1, 1).lsn;
	ok(tail_seek(subject.tail, early, &position) == TAIL_NOTHING,
	   "the LSN of an answer is one before it is durable");
	run_commit(&subject.run);
	end(&subject);
}

static void test_pruned(void)
{
	struct subject subject;
	struct change change;
	uint64_t position = SEGMENT_HEAD;
	uint64_t before;

	begin(&subject, 66);
	grow(&subject, 6 * small.segment_size);
	must(next_change(&subject, &position, &change) == TAIL_CHANGE, "a change");
	for (uint64_t i = 0; i < 3; i++)
		remove_segment(&subject.place, i * small.segment_size);
	/* What it has read already it may give out; then it says so. */
	enum tail_status status;
	do {
		before = position;
		status = next_change(&subject, &position, &change);
	} while (status == TAIL_CHANGE);
	ok(status == TAIL_PRUNED && position >= before && position < 3 * small.segment_size,
	   "a reader that fell behind is told");
	uint64_t first = 3 * small.segment_size + SEGMENT_HEAD;
	cmp_ok((intmax_t)tail_first(subject.tail), "==", (intmax_t)first, "what is left");
	ok(tail_seek(subject.tail, SEGMENT_HEAD, &position) == TAIL_PRUNED &&
	       tail_seek(subject.tail, first - SEGMENT_HEAD - 9, &position) == TAIL_PRUNED,
	   "nobody begins before that");
	ok(tail_seek(subject.tail, 0, &position) == TAIL_NOTHING && position == first &&
	       tail_seek(subject.tail, first - 1, &position) == TAIL_NOTHING && position == first,
	   "but there");
	ok(tail_seek(subject.tail, first - SEGMENT_HEAD - 1, &position) == TAIL_NOTHING &&
	       next_change(&subject, &position, &change) == TAIL_CHANGE && change.lsn >= first,
	   "and at the end of what was removed, where nothing is missing");
	end(&subject);
}

static void test_damage(void)
{
	struct subject subject;
	struct change change;
	struct image_file file;
	uint64_t position = SEGMENT_HEAD;

	begin(&subject, 67);
	grow(&subject, 4 * small.segment_size);
	snprintf(file.path, sizeof file.path, "%s/%016" PRIx64 ".journal", subject.place.journal,
	         small.segment_size);
	file_read(&file);
	file_put_byte(&file, SEGMENT_HEAD + 50, (unsigned char)~file.bytes[SEGMENT_HEAD + 50]);
	enum tail_status status;
	while ((status = next_change(&subject, &position, &change)) == TAIL_CHANGE)
		;
	ok(status == TAIL_IO && errno == EUCLEAN, "a damaged record is not passed over");
	free(file.bytes);
	end(&subject);
}

int main(void)
{
	plan(NO_PLAN);
	test_everything();
	test_durable();
	test_together();
	test_follow();
	test_seek();
	test_pruned();
	test_damage();
	return done_testing();
}
