/*
 * The journal's readers: recovery, history, the tail, the survey and the audit.  The input is a
 * byte of flags and the bytes of one or two segments, which the harness puts right as the flags
 * say, so that mutations get past checksums, positions and chains.  Recovery starts or refuses; it
 * refuses with a place and touches nothing; and where it starts it does so again, with the same.
 */
#include "tables.h"

#include "../../src/ledger/audit.h"
#include "../../src/ledger/cursor.h"
#include "../../src/ledger/survey.h"
#include "../../src/ledger/tail.h"

#define LENGTH_MAX  8192
#define SEGMENTS    2
#define SEGMENT     ((size_t)FIXTURE_SEGMENT)
#define RAW_HEAD    56 /* bytes of a segment's head that mean something */
#define KNOWN_MAX   64 /* accounts whose chain is put right */
#define KEY_AT      32 /* where the head has the journal's key */
#define CHECKSUM_AT (SEGMENT_HEAD - sizeof(uint64_t))

enum fix {
	FIX_CHECKSUM = 1,
	FIX_LSN = 2,   /* and durable marks that are beyond it */
	FIX_HEAD = 4,  /* the input is records only; else RAW_HEAD bytes and 4 of size come first */
	FIX_CHAIN = 8, /* a leg follows the account's record before it */
	IN_TWO = 16,   /* the second half lies in a second segment */
	SNAPSHOT =
	    32, /* a snapshot is taken somewhere in it, and all is recovered with that, too */
	FIX_ALL = FIX_CHECKSUM | FIX_LSN | FIX_HEAD | FIX_CHAIN,
};

struct known {
	char name[ACCOUNT_NAME_MAX];
	uint8_t length;
	uint64_t lsn;
	uint64_t version;
	int64_t balance;
	int64_t held;
};

/* The input as files. */
struct files {
	_Alignas(8) unsigned char bytes[SEGMENTS][SEGMENT];
	size_t size[SEGMENTS]; /* of the files; 0: there is none */
	unsigned flags;
	struct known known[KNOWN_MAX];
	size_t knowns;
};

static struct files image;
static struct place place;
static unsigned char head[SEGMENTS][SEGMENT_HEAD]; /* of sound segments */
static struct tables tables;

/* ---- a directory, and the heads of its segments */

static void remove_place(void)
{
	place_remove(&place);
}

static void make_head(int directory, size_t index)
{
	struct segment segment = {.base = index * SEGMENT, .size = SEGMENT, .key = TABLES_KEY};
	struct image_file file;
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, segment.base);
	snprintf(file.path, sizeof file.path, "%s/%s", place.journal, name);
	must(segment_create(directory, &segment, false, 1) == 0, "segment_create");
	file_read(&file);
	memcpy(head[index], file.bytes, SEGMENT_HEAD);
	free(file.bytes);
}

static void begin(void)
{
	if (tables.region != NULL)
		return;
	place_make(&place);
	atexit(remove_place);
	must(mkdir(place.journal, 0700) == 0, "mkdir");
	int directory = open(place.journal, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(directory >= 0, "open");
	for (size_t i = 0; i < SEGMENTS; i++)
		make_head(directory, i);
	close(directory);
	tables_fresh(&tables);
}

/* ---- putting it right */

static struct known *find_known(const struct record_leg *leg)
{
	for (size_t i = 0; i < image.knowns; i++)
		if (image.known[i].length == leg->name_length &&
		    memcmp(image.known[i].name, leg->name, leg->name_length) == 0)
			return &image.known[i];
	return NULL;
}

static bool may_bear(const struct record_head *record)
{
	return record->type <= RECORD_TRANSACTION || record->type == RECORD_CAPTURE;
}

/* Where the leg after LEG begins; NULL if LEG is not whole. */
static unsigned char *after_leg(const struct record_head *record, unsigned char *at)
{
	const struct record_leg *leg = (const void *)at;
	const unsigned char *end = (const unsigned char *)record + record->length;

	if ((size_t)(end - at) < record_leg_size(1) || leg->name_length == 0 ||
	    leg->name_length > ACCOUNT_NAME_MAX)
		return NULL;
	size_t size = record_leg_size(leg->name_length);

	if (leg->previous == 0 && may_bear(record))
		size += sizeof(struct record_birth);
	return (size_t)(end - at) < size ? NULL : at + size;
}

/* By how much `held` of the first leg's account changes; AT is behind the legs. */
static int64_t held_change(const struct record_head *record, const unsigned char *at)
{
	const unsigned char *end = (const unsigned char *)record + record->length;
	int64_t amount = 0;

	if (record->type < RECORD_HOLD || (size_t)(end - at) < sizeof amount)
		return 0;
	memcpy(&amount, at, sizeof amount);
	return record->type == RECORD_HOLD ? amount : (int64_t)(0 - (uint64_t)amount);
}

static void follow(struct record_leg *leg, const struct known *before, int64_t held)
{
	leg->previous = before->lsn;
	leg->version = before->version + 1;
	leg->balance = (int64_t)((uint64_t)before->balance + (uint64_t)leg->amount);
	leg->held = (int64_t)((uint64_t)before->held + (uint64_t)held);
}

static void remember(const struct record_head *record, const struct record_leg *leg,
                     struct known *known)
{
	if (known == NULL && image.knowns < KNOWN_MAX)
		known = &image.known[image.knowns++];
	if (known == NULL)
		return;
	*known = (struct known){.length = leg->name_length,
	                        .lsn = record->lsn,
	                        .version = leg->version,
	                        .balance = leg->balance,
	                        .held = leg->held};
	memcpy(known->name, leg->name, leg->name_length);
	if (record->type == RECORD_DELETE)
		known->length = 0;
}

static void fix_chain(struct record_head *record)
{
	unsigned char *at = (unsigned char *)(record + 1);
	unsigned char *legs_end = at;

	if (!record_has_effect(record) || record->legs > LEGS_MAX)
		return;
	for (unsigned i = 0; i < record->legs; i++) {
		legs_end = after_leg(record, legs_end);
		if (legs_end == NULL)
			return;
	}
	for (unsigned i = 0; i < record->legs; i++) {
		struct record_leg *leg = (void *)at;
		struct known *known = find_known(leg);
		at = after_leg(record, at);
		if (known != NULL && leg->previous != 0)
			follow(leg, known, i == 0 ? held_change(record, legs_end) : 0);
		remember(record, leg, known);
	}
}

static bool is_record(const struct record_head *record, size_t left)
{
	return left >= sizeof *record && record->length >= sizeof *record &&
	       record->length <= JOURNAL_RECORD_MAX && record->length % 8 == 0 &&
	       record->length <= left;
}

static void fix_record(struct record_head *record, uint64_t lsn, uint64_t key)
{
	if (image.flags & FIX_LSN) {
		record->lsn = lsn;
		if (record->durable > lsn)
			record->durable = lsn;
	}
	if (image.flags & FIX_CHAIN)
		fix_chain(record);
	if (image.flags & FIX_CHECKSUM)
		record->checksum =
		    XXH3_64bits_withSeed((const unsigned char *)record + sizeof record->checksum,
		                         record->length - sizeof record->checksum, key);
}

static void fix_segment(size_t index)
{
	unsigned char *bytes = image.bytes[index];
	uint64_t key;

	memcpy(&key, bytes + KEY_AT, sizeof key);
	for (size_t at = SEGMENT_HEAD; at < SEGMENT;) {
		struct record_head *record = (void *)(bytes + at);
		if (!is_record(record, SEGMENT - at))
			return;
		fix_record(record, index * SEGMENT + at, key);
		at += record->length;
	}
}

/*
 * Fills the first segment from AT on, as a writer does when the next record does not fit; what is
 * left is zero, where it is too little for a record.
 */
static void pad(size_t at)
{
	size_t end = at % 16 == 0 ? SEGMENT : SEGMENT - (JOURNAL_RECORD_MIN - 8);

	while (at < end && end - at >= JOURNAL_RECORD_MIN) {
		size_t left = end - at;
		uint32_t size = (uint32_t)(left < JOURNAL_RECORD_MAX ? left : JOURNAL_RECORD_MAX);
		struct record_head *record = (void *)(image.bytes[0] + at);

		*record = (struct record_head){.type = RECORD_PAD, .length = size};
		at += size;
	}
}

/* The first end of a record in BYTES at or behind the middle. */
static size_t middle_of(const uint8_t *bytes, size_t length)
{
	size_t at = 0;
	struct record_head record;

	while (at < length / 2 && length - at >= sizeof record) {
		memcpy(&record, bytes + at, sizeof record);
		if (!is_record(&record, length - at))
			break;
		at += record.length;
	}
	return at;
}

static void lay_records(const uint8_t *bytes, size_t length)
{
	size_t first = (image.flags & IN_TWO) ? middle_of(bytes, length) : length;

	memcpy(image.bytes[0] + SEGMENT_HEAD, bytes, first);
	if (!(image.flags & IN_TWO))
		return;
	pad(SEGMENT_HEAD + first);
	memcpy(image.bytes[1] + SEGMENT_HEAD, bytes + first, length - first);
	memcpy(image.bytes[1], head[1], SEGMENT_HEAD);
	image.size[1] = SEGMENT;
}

/* A segment's head from the input, and the size of its file. */
static bool lay_head(const uint8_t *bytes, size_t length)
{
	uint32_t size;
	uint64_t checksum;

	if (length < RAW_HEAD + sizeof size)
		return false;
	memcpy(image.bytes[0], bytes, RAW_HEAD);
	memcpy(&size, bytes + RAW_HEAD, sizeof size);
	image.size[0] = size <= SEGMENT ? size : SEGMENT;
	if (image.flags & FIX_CHECKSUM) {
		checksum = XXH3_64bits(image.bytes[0], CHECKSUM_AT);
		memcpy(image.bytes[0] + CHECKSUM_AT, &checksum, sizeof checksum);
	}
	return true;
}

static bool lay(const uint8_t *bytes, size_t length)
{
	if (length == 0)
		return false;
	memset(&image, 0, sizeof image);
	image.flags = *bytes++;
	length--;
	image.size[0] = SEGMENT;
	if (image.flags & FIX_HEAD) {
		memcpy(image.bytes[0], head[0], SEGMENT_HEAD);
	} else {
		if (!lay_head(bytes, length))
			return false;
		bytes += RAW_HEAD + sizeof(uint32_t);
		length -= RAW_HEAD + sizeof(uint32_t);
	}
	lay_records(bytes, length);
	for (size_t i = 0; i < SEGMENTS; i++)
		fix_segment(i);
	return true;
}

/* ---- on the disk and back */

static void path_of(size_t index, char path[FIXTURE_PATH + 64])
{
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, index * SEGMENT);
	snprintf(path, FIXTURE_PATH + 64, "%s/%s", place.journal, name);
}

/* The files, with zeros from position END on. */
static void put_files(uint64_t end)
{
	char path[FIXTURE_PATH + 64];

	for (size_t i = 0; i < SEGMENTS; i++) {
		uint64_t base = i * SEGMENT;
		size_t size = image.size[i];

		path_of(i, path);
		unlink(path);
		if (i > 0 && size == 0)
			continue;
		if (end < base + size)
			size = end > base + SEGMENT_HEAD ? (size_t)(end - base) : SEGMENT_HEAD;
		int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		must(fd >= 0 && pwrite(fd, image.bytes[i], size, 0) == (ssize_t)size &&
		         ftruncate(fd, (off_t)image.size[i]) == 0,
		     path);
		close(fd);
	}
}

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

/* ---- what recovery makes of it */

static uint64_t digest_account(struct region *region, const struct account_slot *slot)
{
	struct account_slot copy = *slot;
	char name[ACCOUNT_NAME_MAX] = {0};

	copy.rest = 0; /* another slot may hold the rest of the name */
	memset(copy.name, 0, sizeof copy.name);
	uint32_t length = table_name(region, table_stripe(region, slot->hash), slot, name);
	FUZZ_HOLDS(length >= 1 && length <= ACCOUNT_NAME_MAX, "a name of %u bytes", length);
	FUZZ_HOLDS(slot->held >= 0 && slot->version >= 1 && slot->floor <= slot->ceiling &&
	               slot->frozen <= FROZEN_ALL,
	           "an account that cannot be");
	return XXH3_64bits_withSeed(name, sizeof name, XXH3_64bits(&copy, sizeof copy));
}

/* Of all that the tables hold, wherever it stands. */
static uint64_t digest_of(struct region *region)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < region_slots(region); i++)
		if (is_account(&region->slots[i]))
			sum += digest_account(region, &region->slots[i]);
	for (uint64_t i = 0; i < ids_slots(region); i++)
		if (ids_slot(region, i)->lsn != 0)
			sum += XXH3_64bits(ids_slot(region, i), sizeof(struct id_slot));
	for (uint64_t i = 0; i < holds_slots(region); i++)
		if (holds_slot(region, i)->lsn != 0)
			sum += XXH3_64bits(holds_slot(region, i), sizeof(struct hold_slot));
	return sum;
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
