/*
 * The journal's readers: recovery, history, the tail, the survey and the audit.  The input is a
 * byte of flags and the bytes of one or two segments, which the harness puts right as the flags
 * say, so that mutations get past checksums, positions and chains.  Recovery starts or refuses; it
 * refuses with a place and touches nothing; and where it starts it does so again, with the same.
 */
#include "journal-image.h"

#include "../../src/ledger/audit.h"
#include "../../src/ledger/cursor.h"
#include "../../src/ledger/survey.h"
#include "../../src/ledger/tail.h"

static struct tables tables;

/* ---- what recovery makes of it */

static void check_untouched(void)
{
	struct image_file file;

	for (size_t i = 0; i < SEGMENTS; i++) {
		if (i > 0 && image.size[i] == 0)
			continue;
		path_of(i, file.path);
		file_read(&file);
		FUZZ_HOLDS(file.size == image.size[i] &&
		               memcmp(file.bytes, image.bytes[i], file.size) == 0,
		           "a journal that was refused has changed");
		free(file.bytes);
	}
}

static enum store_status recover_once(struct recovery *recovery, char *error)
{
	enum store_status status;
	struct store *store = store_open(place.journal, &status, error);

	memset(recovery, 0, sizeof *recovery);
	if (store == NULL)
		return status;
	tables_fresh(&tables);
	tables_set_key(&tables, store_key(store));
	must(store_claim(store, tables_sizes.segment_size) == 0, "store_claim");
	status = recover(store, place.snapshots, tables.region, recovery, error);
	FUZZ_HOLDS(status != STORE_OK || recovery->start <= store_space(store),
	           "the journal goes on behind its end");
	store_close(store);
	return status;
}

static void check_refusal(enum store_status status, const char *error)
{
	FUZZ_HOLDS(status == STORE_CORRUPT, "status %d: %s", (int)status, error);
	FUZZ_HOLDS(memchr(error, '\0', STORE_ERROR_SIZE) != NULL &&
	               strncmp(error, place.journal, strlen(place.journal)) == 0 &&
	               strstr(error, ".journal") != NULL && strstr(error, ": ") != NULL,
	           "the refusal does not name a file: %s", error);
}

/* An account's statement: from its newest record back to the one that made it. */
static void check_statement(struct journal_reader *history, const struct account_slot *slot)
{
	struct region *region = tables.region;
	char name[ACCOUNT_NAME_MAX];
	uint32_t length = table_name(region, table_stripe(region, slot->hash), slot, name);
	uint64_t lsn = slot->lsn;
	uint64_t version = slot->version;
	int64_t balance = slot->balance;
	struct entry entry;

	while (version > 0) {
		uint64_t before = lsn;
		FUZZ_HOLDS(history_step(history, name, length, &lsn, &entry) == HISTORY_OK,
		           "version %" PRIu64 " of an account is not in its statement", version);
		FUZZ_HOLDS(entry.version == version && entry.balance == balance && lsn < before,
		           "the statement has another version %" PRIu64, version);
		balance -= entry.amount;
		version--;
	}
	FUZZ_HOLDS(lsn == 0 && balance == 0, "the statement goes on behind its beginning");
	FUZZ_HOLDS(history_step(history, name, length, &lsn, &entry) == HISTORY_END,
	           "and does not end");
}

static void check_tail(struct journal_reader *history, const struct recovery *recovery)
{
	struct tail *tail = tail_open(history);
	struct change change;
	enum tail_status status;
	uint64_t position = 0;
	uint64_t records = 0;

	must(tail != NULL, "tail_open");
	FUZZ_HOLDS(tail_seek(tail, 0, &position) == TAIL_NOTHING, "the tail has no beginning");
	while ((status = tail_next(tail, &position, tail_durable(tail), &change)) == TAIL_CHANGE ||
	       status == TAIL_NOTHING) {
		records++;
		FUZZ_HOLDS(records <= recovery->records, "the tail goes on");
		FUZZ_HOLDS(status == TAIL_NOTHING || (change.legs >= 1 && change.legs <= LEGS_MAX),
		           "a change of %u legs", change.legs);
	}
	FUZZ_HOLDS(status == TAIL_END && records == recovery->records,
	           "the tail has %" PRIu64 " of %" PRIu64 " records, status %d", records,
	           recovery->records, (int)status);
	tail_close(tail);
}

/* What workers read of what was recovered. */
static void check_readers(const struct recovery *recovery)
{
	struct region *region = tables.region;
	struct journal_reader *history = history_open(region, place.journal);

	must(history != NULL, "history_open");
	history_may_wait(history, true);
	for (uint64_t i = 0; i < region_slots(region); i++)
		if (is_account(&region->slots[i]))
			check_statement(history, &region->slots[i]);
	check_tail(history, recovery);
	history_close(history);
}

/* A cursor means the position that it was made of. */
static void check_cursor(uint64_t position)
{
	struct cursor_key key;

	cursor_key_make(&key, position, "fuzz");
	FUZZ_HOLDS(cursor_open(&key, cursor_seal(&key, position)) == position &&
	               cursor_seal(&key, cursor_open(&key, position)) == position,
	           "a cursor means another position");
}

static void check_survey(void)
{
	struct survey survey;

	must(survey_journal(place.journal, &survey) == 0, "survey_journal");
	FUZZ_HOLDS(survey.segments == 1u + (image.size[1] != 0) && survey.first == SEGMENT_HEAD,
	           "%" PRIu64 " segments", survey.segments);
}

/* It says that all is right, or what is not. */
static enum store_status audit(void)
{
	const struct audit_limits limits = {.max_ids = 400, .window_us = 1000000};
	struct audit audit;
	char error[STORE_ERROR_SIZE] = "";
	enum store_status status = audit_journal(place.journal, &limits, &audit, error);

	if (status != STORE_OK)
		check_refusal(status, error);
	return status;
}

/* The end of a record in the first segment, drawn from those before END. */
static uint64_t draw_end(uint64_t end, uint64_t random)
{
	uint64_t ends[SEGMENT / JOURNAL_RECORD_MIN];
	size_t count = 0;

	for (size_t at = SEGMENT_HEAD; at + JOURNAL_RECORD_MIN <= SEGMENT && at < end;) {
		const struct record_head *record = (const void *)(image.bytes[0] + at);
		at += record->length;
		ends[count++] = at;
	}
	return count == 0 ? SEGMENT_HEAD : ends[random % count];
}

/* No record behind START proves that something there was durable. */
static void check_durable(uint64_t start)
{
	for (size_t i = 0; i < SEGMENTS; i++) {
		uint64_t key;

		memcpy(&key, image.bytes[i] + KEY_AT, sizeof key);
		for (size_t at = SEGMENT_HEAD; at + JOURNAL_RECORD_MIN <= image.size[i]; at += 8) {
			const struct record_head *record = (const void *)(image.bytes[i] + at);
			uint64_t lsn = i * SEGMENT + at;

			if (record->lsn != lsn || lsn < start || record->durable <= start)
				continue;
			FUZZ_HOLDS(record_check(record, image.size[i] - at, lsn, key) == 0,
			           "what was durable up to %" PRIu64 " ends at %" PRIu64,
			           record->durable, start);
		}
	}
}

static bool at_once(struct region *region, uint64_t lsn)
{
	(void)region;
	(void)lsn;
	return true;
}

/* The snapshot at START, damaged in one bit, is passed over. */
static void check_damaged(const struct recovery *whole, uint64_t digest, uint64_t start,
                          uint64_t random)
{
	struct image_file file;
	struct recovery recovery;
	char error[STORE_ERROR_SIZE] = "";

	snprintf(file.path, sizeof file.path, "%s/%016" PRIx64 ".snapshot", place.snapshots, start);
	file_read(&file);
	size_t at = random / 8 % file.size;
	file_put_byte(&file, at, file.bytes[at] ^ (unsigned char)(1u << random % 8));
	free(file.bytes);
	FUZZ_HOLDS(recover_once(&recovery, error) == STORE_OK && recovery.snapshots_refused == 1 &&
	               recovery.snapshot.start == 0 && recovery.start == whole->start &&
	               digest_of(tables.region) == digest,
	           "a damaged snapshot was not passed over: %s", error);
}

/*
 * A snapshot that has all before one record's end, and effects up to another's, as one has that is
 * taken beside traffic.  With what follows it gives what all of the journal gave.
 */
static void check_snapshot(const struct recovery *whole, uint64_t digest, uint64_t random)
{
	uint64_t newest = draw_end(whole->start, fuzz_next(&random));
	uint64_t start = draw_end(newest, fuzz_next(&random));
	struct recovery recovery;
	struct snapshot snapshot;
	char error[STORE_ERROR_SIZE] = "";

	put_files(newest);
	FUZZ_HOLDS(recover_once(&recovery, error) == STORE_OK && recovery.start == newest,
	           "its beginning is not recovered: %s", error);
	region_begin(tables.region, start, SEGMENT, SEGMENT);
	must(snapshot_write(tables.region, place.snapshots,
	                    region_geometry(tables.region)->journal_key, at_once,
	                    &snapshot) == SNAPSHOT_OK,
	     "snapshot_write");
	put_files(UINT64_MAX);
	FUZZ_HOLDS(recover_once(&recovery, error) == STORE_OK, "with a snapshot: %s", error);
	FUZZ_HOLDS(recovery.snapshot.start == start && recovery.snapshots_refused == 0,
	           "the snapshot was passed over");
	FUZZ_HOLDS(recovery.start == whole->start && recovery.epoch == whole->epoch &&
	               recovery.clean == whole->clean && digest_of(tables.region) == digest,
	           "a snapshot and what follows give something else");
	check_damaged(whole, digest, start, fuzz_next(&random));
	directory_remove(place.snapshots);
}

static void judge(const uint8_t *bytes, size_t length)
{
	struct recovery first, second;
	char error[STORE_ERROR_SIZE] = "";

	begin();
	if (!lay(bytes, length))
		return;
	put_files(UINT64_MAX);
	check_survey();
	check_cursor(fuzz_hash(bytes, length));
	enum store_status audited = audit();
	check_untouched();
	enum store_status status = recover_once(&first, error);
	if (status != STORE_OK) {
		check_refusal(status, error);
		check_untouched();
		FUZZ_HOLDS(audited != STORE_OK || strstr(error, "is full: raise") != NULL,
		           "the audit finds nothing, recovery this: %s", error);
		return;
	}
	uint64_t digest = digest_of(tables.region);
	tables_check_accounts(tables.region);
	tables_check_holds(tables.region);
	check_durable(first.start);
	check_readers(&first);
	FUZZ_HOLDS(recover_once(&second, error) == STORE_OK, "not recovered again: %s", error);
	FUZZ_HOLDS(second.start == first.start && second.records == first.records &&
	               second.clean == first.clean && second.epoch == first.epoch &&
	               second.cut == 0 && digest_of(tables.region) == digest,
	           "recovered again it is another journal");
	if (image.flags & SNAPSHOT)
		check_snapshot(&first, digest, fuzz_hash(bytes, length));
}

/* ---- seeds, and mutations that keep records whole */

/* The records before END, with the file's head, of a file of SIZE bytes, where FLAGS leave that. */
static void take_file(fuzz_take *take, const struct image_file *file, size_t end, unsigned flags,
                      uint32_t size)
{
	static unsigned char input[LENGTH_MAX];
	size_t at = 0;

	input[at++] = (unsigned char)flags;
	if (!(flags & FIX_HEAD)) {
		memcpy(input + at, file->bytes, RAW_HEAD);
		memcpy(input + at + RAW_HEAD, &size, sizeof size);
		at += RAW_HEAD + sizeof size;
	}
	if (end - SEGMENT_HEAD > sizeof input - at)
		return;
	memcpy(input + at, file->bytes + SEGMENT_HEAD, end - SEGMENT_HEAD);
	take(input, at + end - SEGMENT_HEAD);
}

/* A seal behind the other records, of what little there is; its length. */
static size_t add_seal(unsigned char *at)
{
	const struct record_seal seal = {
	    .from = SEGMENT_HEAD, .to = SEGMENT_HEAD, .hash = TABLES_KEY};

	return record_plain(at, RECORD_SEAL, &seal, sizeof seal, UINT64_C(1700000000000000));
}

/* A run of STEPS steps from RANDOM on, as inputs with every share of what is put right. */
static void take_run(fuzz_take *take, size_t steps, uint64_t random)
{
	static const unsigned char flags[] = {
	    FIX_ALL,  FIX_ALL | IN_TWO,   FIX_ALL & ~FIX_HEAD, (FIX_ALL & ~FIX_HEAD) | IN_TWO,
	    FIX_HEAD, FIX_ALL | SNAPSHOT,
	};
	struct place made;
	struct run run;
	struct traffic traffic = {.run = &run, .random = random};
	struct image_file file;

	/* What comes after the first steps is drawn. */
	traffic.steps = random % 2 == 0 ? 0 : 22;
	place_make(&made);
	tables_run(&run, &made);
	traffic_run(&traffic, steps);
	if (random % 3 == 0)
		run_mark(&run);
	snprintf(file.path, sizeof file.path, "%s/%016x.journal", made.journal, 0);
	file_read(&file);
	size_t end = (size_t)run.position;
	if (random % 4 == 1)
		end += add_seal(file.bytes + end);
	for (size_t i = 0; i < sizeof flags; i++)
		take_file(take, &file, end, flags[i], SEGMENT);
	take_file(take, &file, end, flags[2], SEGMENT - 1);
	free(file.bytes);
	run_leave(&run);
	place_remove(&made);
}

static void seeds(fuzz_take *take)
{
	for (uint64_t i = 0; i < 12; i++)
		take_run(take, 1 + (size_t)i * 3, i);
}

/* Where the records begin in an input. */
static size_t records_at(const uint8_t *bytes)
{
	return (bytes[0] & FIX_HEAD) ? 1 : 1 + RAW_HEAD + sizeof(uint32_t);
}

/* The begin of a record of BYTES, drawn; *SIZE is its length, 0 if there is none. */
static size_t draw_record(const uint8_t *bytes, size_t length, uint64_t *random, size_t *size)
{
	size_t at = records_at(bytes);
	size_t begin[LENGTH_MAX / JOURNAL_RECORD_MIN + 1];
	size_t count = 0;
	struct record_head record;

	while (at < length && length - at >= sizeof record) {
		memcpy(&record, bytes + at, sizeof record);
		if (!is_record(&record, length - at))
			break;
		begin[count++] = at;
		at += record.length;
	}
	*size = 0;
	if (count == 0)
		return 0;
	at = begin[fuzz_next(random) % count];
	memcpy(&record, bytes + at, sizeof record);
	*size = record.length;
	return at;
}

static size_t mutate(uint8_t *bytes, size_t length, size_t room, uint64_t random)
{
	uint8_t copy[JOURNAL_RECORD_MAX];
	size_t size, other_size;
	size_t at = length > 8 ? draw_record(bytes, length, &random, &size) : 0;
	size_t other = at != 0 ? draw_record(bytes, length, &random, &other_size) : 0;

	if (at == 0)
		return 0;
	switch (fuzz_next(&random) % 8) {
	case 0: /* it goes */
		memmove(bytes + at, bytes + at + size, length - at - size);
		return length - size;
	case 1: /* it comes once more, before another */
		if (size > room - length)
			return 0;
		memcpy(copy, bytes + at, size);
		memmove(bytes + other + size, bytes + other, length - other);
		memcpy(bytes + other, copy, size);
		return length + size;
	case 2: /* everything behind it goes */
		return at + size;
	case 3: /* what is put right */
		bytes[0] ^= (uint8_t)(1u << fuzz_next(&random) % 6);
		return length;
	default:
		fuzz_change_word(bytes, length, at, size, &random);
		return length;
	}
}

const struct fuzz_target fuzz_journal = {
    .name = "journal", .length_max = LENGTH_MAX, .judge = judge, .seeds = seeds, .mutate = mutate};
