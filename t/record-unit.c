/*
 * The record format: what is written is read back, and nothing else is taken for a record.  Every
 * buffer that is checked ends where the heap block ends, so that a sanitizer sees a byte too many.
 *
 * TALLYD_TEST_FUZZ=N: random records tried (default 200000).
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../src/ledger/record.h"
#include "journal-fixture.h"

#define LSN   UINT64_C(8192)
#define KEY   UINT64_C(0x1122334455667788)
#define EPOCH 7

static uint64_t random_state = 1;

static size_t make_event(void *buffer, uint32_t name_length, uint64_t key)
{
	char name[ACCOUNT_NAME_MAX];
	const struct record_leg leg = {
	    .amount = -5, .balance = 95, .held = 3, .version = 8, .previous = 4096};

	memset(name, 'n', sizeof name);
	size_t length = record_event(buffer, name, name_length, &leg, 1234567);
	record_stamp(buffer, length, LSN, LSN - 64, EPOCH, key);
	return length;
}

/* Checks a copy of LENGTH bytes, in a block of that size. */
static size_t check_copy(const void *record, size_t length, uint64_t lsn, uint64_t key)
{
	void *block = malloc(length != 0 ? length : 1);

	must(block != NULL, "malloc");
	memcpy(block, record, length);
	size_t result = record_check(block, length, lsn, key);
	free(block);
	return result;
}

/* Makes the checksum right again after a change: what remains to be refused is the content. */
static size_t check_restamped(void *record, size_t length)
{
	struct record_head *head = record;

	head->checksum = XXH3_64bits_withSeed((const char *)record + sizeof(uint64_t),
	                                      length - sizeof(uint64_t), KEY);
	return check_copy(record, length, head->lsn, KEY);
}

static void test_events(void)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	bool sound = true;
	bool legs = true;

	for (uint32_t name = 1; name <= ACCOUNT_NAME_MAX; name++) {
		memset(record, 0xee, sizeof record); /* paddings must be written */
		size_t length = make_event(record, name, KEY);
		const struct record_head *head = (const void *)record;
		const struct record_leg *leg = record_next_leg(head, NULL);
		sound &= length % 8 == 0 && check_copy(record, length, LSN, KEY) == length &&
		         record_check(record, sizeof record, LSN, KEY) == length;
		legs &= leg != NULL && leg->amount == -5 && leg->balance == 95 && leg->held == 3 &&
		        leg->version == 8 && leg->previous == 4096 && leg->name_length == name &&
		        leg->name[0] == 'n' && leg->name[name - 1] == 'n' &&
		        record_next_leg(head, leg) == NULL;
		for (size_t cut = 0; cut < length; cut++)
			sound &= check_copy(record, cut, LSN, KEY) == 0;
	}
	ok(sound, "events with names of 1 to %d bytes are sound, shortened by any number are not",
	   ACCOUNT_NAME_MAX);
	ok(legs, "their legs are read back");
	size_t length = make_event(record, 5, KEY);
	const struct record_head *head = (const void *)record;
	ok(head->lsn == LSN && head->durable == LSN - 64 && head->epoch == EPOCH &&
	       head->time_us == 1234567 && head->type == RECORD_EVENT && head->outcome == 0 &&
	       head->legs == 1 && head->id_length == 0 && head->note_length == 0,
	   "and so is the head");
	cmp_ok((intmax_t)check_copy(record, length, LSN + 8, KEY), "==", 0, "not elsewhere");
	cmp_ok((intmax_t)check_copy(record, length, LSN, KEY + 1), "==", 0,
	       "not of another journal");
}

static void test_bits(void)
{
	static const uint32_t names[] = {1, 7, 8, ACCOUNT_NAME_MAX};
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	size_t taken = 0;
	size_t tried = 0;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		size_t length = make_event(record, names[i], KEY);
		for (size_t bit = 0; bit < length * 8; bit++, tried++) {
			record[bit / 8] ^= (unsigned char)(1u << bit % 8);
			taken += check_copy(record, length, LSN, KEY) != 0;
			taken += record_check(record, sizeof record, LSN, KEY) != 0;
			record[bit / 8] ^= (unsigned char)(1u << bit % 8);
		}
	}
	ok(taken == 0, "each of %zu flipped bits is refused", tried);
}

static void test_plain(void)
{
	static const enum record_type types[] = {RECORD_START, RECORD_MARK, RECORD_STOP};
	const struct record_seal seal = {.from = 4096, .to = 8000, .hash = 99};
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];

	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		size_t length = record_plain(record, types[i], NULL, 0, 5);
		record_stamp(record, length, LSN, LSN, EPOCH, KEY);
		cmp_ok((intmax_t)check_copy(record, length, LSN, KEY), "==", JOURNAL_RECORD_MIN,
		       "type %d is a head alone", (int)types[i]);
		length = record_plain(record, types[i], &seal, 8, 5);
		record_stamp(record, length, LSN, LSN, EPOCH, KEY);
		cmp_ok((intmax_t)check_copy(record, length, LSN, KEY), "==", 0, "and nothing more");
	}
	size_t length = record_plain(record, RECORD_SEAL, &seal, sizeof seal, 5);
	record_stamp(record, length, LSN, LSN, EPOCH, KEY);
	cmp_ok((intmax_t)check_copy(record, length, LSN, KEY), "==", (intmax_t)length, "a seal");
	ok(memcmp(record + sizeof(struct record_head), &seal, sizeof seal) == 0, "is read back");
	length = record_plain(record, RECORD_SEAL, &seal, 16, 5);
	record_stamp(record, length, LSN, LSN, EPOCH, KEY);
	cmp_ok((intmax_t)check_copy(record, length, LSN, KEY), "==", 0, "not one of another size");
}

static void test_pads(void)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	struct record_head *head = (void *)record;
	bool sound = true;

	for (size_t length = JOURNAL_RECORD_MIN; length <= sizeof record; length += 8) {
		memset(record, 0, sizeof record);
		record_plain(record, RECORD_PAD, NULL, 0, 0);
		head->length = (uint32_t)length;
		record_stamp(record, length, LSN, LSN, EPOCH, KEY);
		sound &= check_copy(record, length, LSN, KEY) == length;
		if (length == JOURNAL_RECORD_MIN)
			continue;
		record[length - 1] = 1;
		sound &= check_restamped(record, length) == 0;
	}
	ok(sound, "fillers of every length, of zeros only");
}

/* All but the checksum, with a right checksum over it. */
static void test_content(void)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	struct record_head *head = (void *)record;
	struct record_leg *leg = (void *)(head + 1);
	size_t length = make_event(record, 5, KEY);

	ok(check_restamped(record, length) == length, "restamped, it is as sound as before");
#define REFUSED(change, what)                                                                      \
	length = make_event(record, 5, KEY);                                                       \
	change;                                                                                    \
	ok(check_restamped(record, length) == 0, what)
	REFUSED(head->reserved = 1, "reserved bytes that are not zero");
	REFUSED(head->durable = head->lsn + 8, "a durable mark beyond the record itself");
	REFUSED(head->legs = 0, "an event without a leg");
	REFUSED(head->legs = 2, "an event with two legs");
	REFUSED(head->legs = RECORD_LEGS_MAX + 1, "more legs than there may be");
	REFUSED(head->id_length = 8, "an id that is not there");
	REFUSED(head->id_length = RECORD_ID_MAX + 1, "too long an id");
	REFUSED(head->note_length = 8, "a note that is not there");
	REFUSED(head->note_length = RECORD_NOTE_MAX + 1, "too long a note");
	REFUSED(leg->name_length = 0, "an empty name");
	REFUSED(leg->name_length = 4, "a shorter name, so a padding that is not zero");
	REFUSED(leg->name_length = ACCOUNT_NAME_MAX, "a name longer than the record");
	REFUSED(leg->name_length = ACCOUNT_NAME_MAX + 1, "a name longer than names may be");
	REFUSED(record[length - 1] = 1, "a padding that is not zero");
	for (unsigned type = 0; type <= UINT8_MAX; type++) {
		length = make_event(record, 5, KEY);
		head->type = (uint8_t)type;
		if ((check_restamped(record, length) != 0) != (type == RECORD_EVENT))
			fail("type %u", type);
	}
	pass("no other type has an event's body");
}

static void test_lengths(void)
{
	static const uint32_t lengths[] = {
	    0, 1, 8, 40, 47, 49, 4097, 4104, 8192, UINT32_MAX, 0x80000000, UINT32_MAX - 7};
	_Alignas(8) unsigned char record[2 * JOURNAL_RECORD_MAX];
	struct record_head *head = (void *)record;
	bool refused = true;

	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		size_t length = make_event(record, 5, KEY);
		head->length = lengths[i];
		head->checksum = XXH3_64bits_withSeed(record + 8, length - 8, KEY);
		refused &= record_check(record, sizeof record, LSN, KEY) == 0;
		refused &= check_copy(record, length, LSN, KEY) == 0;
	}
	/* The longest that the bytes allow, and eight more: only the bound itself refuses it. */
	memset(record, 0, sizeof record);
	record_plain(record, RECORD_PAD, NULL, 0, 0);
	head->length = JOURNAL_RECORD_MAX + 8;
	record_stamp(record, JOURNAL_RECORD_MAX + 8, LSN, LSN, EPOCH, KEY);
	refused &= record_check(record, sizeof record, LSN, KEY) == 0;
	ok(refused, "lengths out of bounds are refused before they are used");
}

/* Random bytes with a right LSN, an odd length field and, half the time, a right checksum. */
static void test_random(void)
{
	size_t rounds = setting("TALLYD_TEST_FUZZ", 200000);
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	struct record_head *head = (void *)record;
	size_t taken = 0;

	for (size_t i = 0; i < rounds; i++) {
		size_t available = (size_t)(random_next(&random_state) % 400);
		for (size_t at = 0; at < sizeof record && at < available + 8; at += 8) {
			uint64_t word = random_next(&random_state);
			memcpy(record + at, &word, sizeof word);
		}
		uint64_t draw = random_next(&random_state);
		head->lsn = LSN;
		head->durable = draw & 1 ? 0 : head->durable;
		head->reserved = draw & 2 ? 0 : head->reserved;
		head->legs = (uint8_t)(draw >> 8 & 3);
		head->id_length = (uint8_t)(draw >> 16 & 15);
		head->note_length = (uint16_t)(draw >> 24 & 15);
		head->type = draw & 4 ? RECORD_EVENT : (uint8_t)(draw >> 32 & 31);
		head->length = (uint32_t)(draw >> 40 & 511) & ~7u;
		if (draw & 8 && head->length >= sizeof *head && head->length <= available)
			head->checksum = XXH3_64bits_withSeed(record + 8, head->length - 8, KEY);
		size_t result = check_copy(record, available, LSN, KEY);
		if (result == 0)
			continue;
		taken += result > available;
		const struct record_leg *leg = NULL;
		while ((leg = record_next_leg(head, leg)) != NULL)
			taken += (const unsigned char *)leg + record_leg_size(leg->name_length) >
			         record + result;
	}
	ok(taken == 0, "%zu random records: nothing beyond the bytes that are there", rounds);
}

/* Walking the legs of a record of several: made here, since no operation writes one yet. */
static void test_legs(void)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX] = {0};
	struct record_head *head = (void *)record;
	size_t at = sizeof *head;
	bool right = true;

	for (unsigned i = 0; i < RECORD_LEGS_MAX; i++) {
		struct record_leg *leg = (void *)(record + at);
		leg->amount = (int64_t)i;
		leg->name_length = (uint8_t)(1 + i * 6);
		at += record_leg_size(leg->name_length);
	}
	head->legs = RECORD_LEGS_MAX;
	head->length = (uint32_t)at;
	const struct record_leg *leg = NULL;
	for (unsigned i = 0; i < RECORD_LEGS_MAX; i++) {
		leg = record_next_leg(head, leg);
		right &= leg != NULL && leg->amount == (int64_t)i;
	}
	ok(right && record_next_leg(head, leg) == NULL, "%d legs, one after the other",
	   RECORD_LEGS_MAX);
}

int main(void)
{
	plan(NO_PLAN);
	test_events();
	test_bits();
	test_plain();
	test_pads();
	test_content();
	test_lengths();
	test_random();
	test_legs();
	return done_testing();
}
