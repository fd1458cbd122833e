/*
 * The files of a journal that the input of the target "journal" stands for: a byte of flags, then
 * the bytes of one or two segments, of which is put right what the flags say.
 */
#ifndef TALLYD_T_FUZZ_JOURNAL_IMAGE_H
#define TALLYD_T_FUZZ_JOURNAL_IMAGE_H

#include "tables.h"

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
	static bool begun;

	if (begun)
		return;
	begun = true;
	place_make(&place);
	atexit(remove_place);
	must(mkdir(place.journal, 0700) == 0, "mkdir");
	int directory = open(place.journal, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(directory >= 0, "open");
	for (size_t i = 0; i < SEGMENTS; i++)
		make_head(directory, i);
	close(directory);
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

#endif
