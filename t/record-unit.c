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
#include "../src/ledger/history.h"
#include "journal-fixture.h"
#include "record-cases.h"

#define LSN   UINT64_C(8192)
#define KEY   UINT64_C(0x1122334455667788)
#define EPOCH 7

static uint64_t random_state = 1;

static size_t make(const struct record_case *it, void *buffer, uint32_t name_length)
{
	size_t length = case_make(it, buffer, name_length, 9, 14);

	record_stamp(buffer, length, LSN, LSN - 64, EPOCH, KEY);
	return length;
}

static size_t make_event(void *buffer, uint32_t name_length)
{
	return make(case_of(RECORD_EVENT, OUTCOME_ACCEPTED), buffer, name_length);
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

static void stamp_again(void *record, size_t length)
{
	struct record_head *head = record;

	head->checksum = XXH3_64bits_withSeed((const char *)record + sizeof(uint64_t),
	                                      length - sizeof(uint64_t), KEY);
}

/* Makes the checksum right again after a change: what remains to be refused is the content. */
static size_t check_restamped(void *record, size_t length)
{
	stamp_again(record, length);
	return check_copy(record, length, ((struct record_head *)record)->lsn, KEY);
}

/* Does everything that reads a sound record stay within its bytes?  Sanitizers see what does not.
 */
static bool reads_within(const void *bytes, size_t length)
{
	unsigned char *block = malloc(length);
	const struct record_head *head = (const void *)block;
	const struct record_leg *leg = NULL;
	struct result result;
	uint64_t sum = 0;
	uint64_t print;

	must(block != NULL, "malloc");
	memcpy(block, bytes, length);
	while ((leg = record_next_leg(head, leg)) != NULL) {
		const struct record_birth *birth = record_leg_birth(head, leg);
		for (unsigned i = 0; i < leg->name_length; i++)
			sum += (unsigned char)leg->name[i];
		sum += birth != NULL ? (uint64_t)birth->ceiling : 0;
	}
	if (record_fingerprint(head, &print))
		sum += print;
	struct words words[] = {record_id(head), record_note(head)};
	for (size_t i = 0; i < 2; i++)
		for (uint32_t at = 0; at < words[i].length; at++)
			sum += (unsigned char)words[i].bytes[at];
	bool within = words[0].length + words[1].length <= length;
	if (head->type >= RECORD_EVENT) {
		history_result(head, &result);
		within &= result.legs <= LEGS_MAX && result.account_length <= ACCOUNT_NAME_MAX;
	}
	free(block);
	return within && sum != UINT64_MAX;
}

static void test_cases(void)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];

	for (size_t i = 0; i < RECORD_CASES; i++) {
		bool sound = true;
		for (uint32_t name = 1; name <= ACCOUNT_NAME_MAX; name++) {
			memset(record, 0xee, sizeof record); /* paddings must be written */
			size_t length = make(&record_cases[i], record, name);
			sound &= length % 8 == 0 &&
			         check_copy(record, length, LSN, KEY) == length &&
			         record_check(record, sizeof record, LSN, KEY) == length &&
			         reads_within(record, length);
			for (size_t cut = 0; cut < length; cut += name % 8 == 1 ? 1 : length)
				sound &= check_copy(record, cut, LSN, KEY) == 0;
		}
		ok(sound, "%s is sound, whatever its names' length; not if it is cut",
		   record_cases[i].what);
	}
}

static void test_lengths_of_texts(void)
{
	const struct record_case *it = &record_cases[3];
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	const struct record_head *head = (const void *)record;
	bool right = true;

	for (uint32_t id = 1; id <= ID_MAX; id++) {
		for (uint32_t note = 0; note <= NOTE_MAX; note += note < 20 ? 1 : 59) {
			memset(record, 0xee, sizeof record);
			size_t length = case_make(it, record, 5, id, note);
			record_stamp(record, length, LSN, LSN, EPOCH, KEY);
			struct words a = record_id(head);
			struct words b = record_note(head);
			right &= check_copy(record, length, LSN, KEY) == length && a.length == id &&
			         b.length == note && a.bytes[0] == 'i' && a.bytes[id - 1] == 'i' &&
			         (note == 0 ? b.bytes == NULL
			                    : b.bytes[0] == 'n' && b.bytes[note - 1] == 'n');
		}
	}
	ok(right, "ids of 1 to %d bytes and notes up to %d are read back", ID_MAX, NOTE_MAX);
	size_t longest = 0;
	for (size_t i = 0; i < RECORD_CASES; i++) {
		size_t length =
		    case_make(&record_cases[i], record, ACCOUNT_NAME_MAX, ID_MAX, NOTE_MAX);
		longest = length > longest ? length : longest;
	}
	ok(longest > 2700 && longest <= JOURNAL_RECORD_MAX, "the longest has %zu bytes", longest);
}

/* What was written is read back. */
static void test_parts(void)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	const struct record_head *head = (const void *)record;
	const struct record_leg *leg = NULL;
	bool right = true;
	uint64_t print = 0;

	make(&record_cases[8], record, 3);
	for (unsigned i = 0; i < LEGS_MAX; i++) {
		leg = record_next_leg(head, leg);
		const struct record_birth *birth = leg == NULL ? NULL : record_leg_birth(head, leg);
		right &= leg != NULL && leg->amount == (int64_t)i - 3 &&
		         leg->name[0] == 'a' + (int)i && leg->name_length == 3 + i;
		right &= i + 1 < LEGS_MAX
		             ? birth == NULL && leg->previous == CASE_PREVIOUS + 8 * i
		             : birth != NULL && birth->floor == -1 && birth->ceiling == 1000;
	}
	ok(right && record_next_leg(head, leg) == NULL, "%d legs, one after the other", LEGS_MAX);
	ok(record_body(head) == NULL, "no body");
	ok(record_fingerprint(head, &print) && print == CASE_PRINT, "the fingerprint");
	ok(head->lsn == LSN && head->durable == LSN - 64 && head->epoch == EPOCH &&
	       head->time_us == CASE_TIME && head->type == RECORD_TRANSACTION &&
	       head->outcome == 0 && head->legs == LEGS_MAX && head->id_length == 9 &&
	       head->note_length == 14,
	   "the head");
	size_t length = make(case_of(RECORD_CREATE, OUTCOME_ACCEPTED), record, 5);
	const struct record_attributes *attributes = record_body(head);
	ok(attributes->floor == -100 && attributes->ceiling == CEILING_NONE &&
	       attributes->frozen == FROZEN_DEBITS && !record_fingerprint(head, &print) &&
	       record_id(head).length == 0,
	   "attributes, without an id");
	cmp_ok((intmax_t)check_copy(record, length, LSN + 8, KEY), "==", 0, "not elsewhere");
	cmp_ok((intmax_t)check_copy(record, length, LSN, KEY + 1), "==", 0,
	       "not of another journal");
	make(case_of(RECORD_HOLD, OUTCOME_ACCEPTED), record, 5);
	const struct record_hold *hold = record_body(head);
	ok(hold->amount == 40 && hold->expires_us == CASE_TIME + 1000000 &&
	       record_id(head).length == 9,
	   "a hold, with an id");
	make(&record_cases[18], record, 5);
	const struct record_settled *settled = record_body(head);
	ok(settled->amount == 25 && settled->captured == 30 && settled->hold_length == 6 &&
	       memcmp(settled->hold, "hold-1", 6) == 0 && record_hold_id(head).length == 6 &&
	       record_hold_id(head).bytes == settled->hold,
	   "a settled hold, behind a leg that makes its account");
	make(case_of(RECORD_CAPTURE, OUTCOME_HOLD_SETTLED), record, 5);
	const struct record_refusal *refusal = record_body(head);
	ok(refusal->state == HOLD_EXPIRED && refusal->leg == 1 && refusal->required == 5,
	   "a refusal");
	ok(record_hold_id(head).length == 0, "which does not say of which hold");
}

static void test_bits(void)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	size_t taken = 0;
	size_t tried = 0;
	size_t sound = 0;
	bool within = true;

	for (size_t i = 0; i < RECORD_CASES; i++) {
		size_t length = make(&record_cases[i], record, 1 + (uint32_t)i);
		for (size_t bit = 0; bit < length * 8; bit++, tried++) {
			unsigned char mask = (unsigned char)(1u << bit % 8);
			record[bit / 8] ^= mask;
			taken += check_copy(record, length, LSN, KEY) != 0;
			taken += record_check(record, sizeof record, LSN, KEY) != 0;
			/* With a right checksum it may be sound, but never unsafe. */
			size_t again = bit >= 64 ? check_restamped(record, length) : 0;
			sound += again != 0;
			if (again != 0)
				within &= reads_within(record, again);
			record[bit / 8] ^= mask;
			stamp_again(record, length);
		}
	}
	ok(taken == 0, "each of %zu flipped bits is refused", tried);
	ok(within && sound > 0 && sound < tried,
	   "with a right checksum over them, %zu are sound and read within their bytes", sound);
}

static void test_plain(void)
{
	static const enum record_type types[] = {RECORD_START, RECORD_MARK, RECORD_STOP};
	const struct record_seal seal = {.from = 4096, .to = 8000, .hash = 99};
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	struct record_head *head = (void *)record;

	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		size_t length = record_plain(record, types[i], NULL, 0, 5);
		record_stamp(record, length, LSN, LSN, EPOCH, KEY);
		cmp_ok((intmax_t)check_copy(record, length, LSN, KEY), "==", JOURNAL_RECORD_MIN,
		       "type %d is a head alone", (int)types[i]);
		ok(!record_has_effect(head), "without effect");
		head->flags = RECORD_REMEMBERED;
		cmp_ok((intmax_t)check_restamped(record, length), "==", 0, "and without flags");
		head->flags = 0;
		head->outcome = OUTCOME_OVERFLOW;
		cmp_ok((intmax_t)check_restamped(record, length), "==", 0, "never refused");
		length = record_plain(record, types[i], &seal, 8, 5);
		record_stamp(record, length, LSN, LSN, EPOCH, KEY);
		cmp_ok((intmax_t)check_copy(record, length, LSN, KEY), "==", 0, "and nothing more");
	}
	size_t length = record_plain(record, RECORD_SEAL, &seal, sizeof seal, 5);
	record_stamp(record, length, LSN, LSN, EPOCH, KEY);
	cmp_ok((intmax_t)check_copy(record, length, LSN, KEY), "==", (intmax_t)length, "a seal");
	ok(memcmp(record_body(head), &seal, sizeof seal) == 0, "is read back");
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
	size_t length = make_event(record, 5);

	ok(check_restamped(record, length) == length, "restamped, it is as sound as before");
#define REFUSED(change, what)                                                                      \
	length = make_event(record, 5);                                                            \
	change;                                                                                    \
	ok(check_restamped(record, length) == 0, what)
	REFUSED(head->flags = 8, "a flag that there is not");
	REFUSED(head->flags = RECORD_REMEMBERED, "a remembered one without an id");
	REFUSED(head->flags = RECORD_UNCHANGED, "an unchanged one without an id");
	REFUSED(head->flags = RECORD_CREATED, "an event that says that it created");
	REFUSED(head->outcome = OUTCOME_OVERFLOW, "a refusal without an id");
	REFUSED(head->outcome = OUTCOME_QUEUE_FULL, "an outcome that is never recorded");
	REFUSED(head->durable = head->lsn + 8, "a durable mark beyond the record itself");
	REFUSED(head->legs = 0, "an event without a leg");
	REFUSED(head->legs = 2, "an event with two legs");
	REFUSED(head->legs = LEGS_MAX + 1, "more legs than there may be");
	REFUSED(head->id_length = 8, "an id that is not there");
	REFUSED(head->id_length = ID_MAX + 1, "too long an id");
	REFUSED(head->note_length = 8, "a note that is not there");
	REFUSED(head->note_length = NOTE_MAX + 1, "too long a note");
	REFUSED(leg->name_length = 0, "an empty name");
	REFUSED(leg->name_length = 4, "a shorter name, so a padding that is not zero");
	REFUSED(leg->name_length = ACCOUNT_NAME_MAX, "a name longer than the record");
	REFUSED(leg->name_length = ACCOUNT_NAME_MAX + 1, "a name longer than names may be");
	REFUSED(leg->amount = 0, "an event of nothing");
	REFUSED(leg->held = -1, "less than nothing held");
	REFUSED(leg->version = 0, "no version");
	REFUSED(leg->version = 1, "a first version with a record before it");
	REFUSED(leg->previous = 0, "no record before it, and a later version");
	REFUSED(leg->previous = LSN, "itself before itself");
	REFUSED(leg->previous = RECORD_RELATIVE, "a reference that was not resolved");
	REFUSED(record[length - 1] = 1, "a padding that is not zero");
#undef REFUSED
	for (unsigned type = 0; type <= UINT8_MAX; type++) {
		length = make_event(record, 5);
		head->type = (uint8_t)type;
		size_t got = check_restamped(record, length);
		if ((got != 0) != (type == RECORD_EVENT || type == RECORD_TRANSACTION))
			fail("type %u", type);
	}
	pass("no other type but a transaction of one leg has an event's body");
}

/* One wrong thing in a record of IT. */
#define REFUSED(it, change, what)                                                                  \
	do {                                                                                       \
		length = make(it, record, 5);                                                      \
		leg = (void *)(head + 1);                                                          \
		second = (void *)(uintptr_t)record_next_leg(head, leg);                            \
		body = (void *)(uintptr_t)record_body(head);                                       \
		change;                                                                            \
		ok(check_restamped(record, length) == 0, what);                                    \
	} while (0)

static void test_legs_of_types(void)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	struct record_head *head = (void *)record;
	struct record_leg *leg;
	struct record_leg *second;
	void *body;
	size_t length;
	const struct record_case *it = case_of(RECORD_TRANSFER, OUTCOME_ACCEPTED);

	(void)body;
	REFUSED(it, leg->amount = 30, "a transfer whose first leg gains");
	REFUSED(it, leg->amount = -31, "a transfer that does not sum to zero");
	REFUSED(it, (leg->amount = INT64_MIN, second->amount = INT64_MIN), "the least int64");
	REFUSED(it, memset(second->name, 'a', second->name_length--), "padding");
	REFUSED(&record_cases[8],
	        (second->name_length = leg->name_length, memset(second->name, 0, 8),
	         memset(second->name, 'a', 5)),
	        "an account twice");
	REFUSED(&record_cases[4], leg->amount = 1, "an unchanged one with an amount");
	REFUSED(&record_cases[4], leg->version = 0, "an unchanged one of nobody");
	REFUSED(&record_cases[4], leg->previous = 0, "an unchanged one of no history");
	it = case_of(RECORD_CREATE, OUTCOME_ACCEPTED);
	REFUSED(it, leg->balance = 1, "a creation with a balance");
	REFUSED(it, leg->amount = 1, "a creation with an amount");
	REFUSED(it, (leg->previous = 4096, leg->version = 2), "a creation of what was there");
	REFUSED(it, head->flags = 0, "a creation that does not say so");
	it = case_of(RECORD_REPLACE, OUTCOME_ACCEPTED);
	REFUSED(it, head->flags |= RECORD_CREATED, "a replacement that says that it created");
	it = case_of(RECORD_DELETE, OUTCOME_ACCEPTED);
	REFUSED(it, leg->balance = 1, "a deletion with a balance");
	REFUSED(it, leg->held = 1, "a deletion with something held");
	it = case_of(RECORD_HOLD, OUTCOME_ACCEPTED);
	REFUSED(it, leg->amount = -40, "a hold that changes the balance");
	REFUSED(it, leg->held = 39, "a hold of more than is held then");
	REFUSED(it, (leg->previous = 0, leg->version = 1), "a hold that makes its account");
	REFUSED(it, head->flags = 0, "a hold that is not new");
	it = case_of(RECORD_EVENT, OUTCOME_UNKNOWN_ACCOUNT);
	REFUSED(it, leg->balance = 1, "a balance of nobody");
	REFUSED(it, leg->held = 1, "something that nobody holds");
	REFUSED(it, leg->previous = 4096, "a history of nobody");
}

static void test_bodies(void)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	struct record_head *head = (void *)record;
	struct record_leg *leg;
	struct record_leg *second;
	void *body;
	size_t length;
	const struct record_case *it = case_of(RECORD_CREATE, OUTCOME_ACCEPTED);

#define ATTRIBUTES ((struct record_attributes *)body)
#define SETTLED    ((struct record_settled *)body)
#define REFUSAL    ((struct record_refusal *)body)
	REFUSED(it, ATTRIBUTES->frozen = 3, "frozen as nothing is");
	REFUSED(it, ATTRIBUTES->zero = 1, "a zero that is not");
	REFUSED(it, ATTRIBUTES->ceiling = -101, "a floor above the ceiling");
	it = case_of(RECORD_HOLD, OUTCOME_ACCEPTED);
	REFUSED(it, ((struct record_hold *)body)->amount = 0, "a hold of nothing");
	it = case_of(RECORD_CAPTURE, OUTCOME_ACCEPTED);
	REFUSED(it, SETTLED->amount = 0, "the settlement of nothing");
	REFUSED(it, SETTLED->captured = 29, "another amount captured than the leg says");
	REFUSED(it, (SETTLED->captured = -1, leg->amount = 1), "less than nothing captured");
	REFUSED(it, SETTLED->hold_length = 0, "a hold without an id");
	REFUSED(it, SETTLED->hold_length = 5, "a padding that is not zero");
	REFUSED(it, SETTLED->hold_length = ID_MAX, "an id longer than the record");
	REFUSED(it, SETTLED->hold_length = UINT8_MAX, "an id longer than ids may be");
	REFUSED(it, (leg->previous = 0, leg->version = 1), "an account that is made to pay");
	REFUSED(&record_cases[17], second->amount = 31, "more received than captured");
	it = case_of(RECORD_RELEASE, OUTCOME_ACCEPTED);
	REFUSED(it, SETTLED->captured = 1, "a release that captures");
	it = case_of(RECORD_EXPIRE, OUTCOME_ACCEPTED);
	REFUSED(it, head->flags = RECORD_REMEMBERED, "an expiry with an id");
	it = case_of(RECORD_EVENT, OUTCOME_INSUFFICIENT_FUNDS);
	REFUSED(it, REFUSAL->leg = 1, "the refusal of a leg that there is not");
	REFUSED(it, REFUSAL->state = HOLD_EXPIRED, "a state of no hold");
	REFUSED(it, head->flags |= RECORD_UNCHANGED, "a refusal marked as unchanged");
	REFUSED(it, head->flags = 0, "a refusal that is not remembered");
	it = case_of(RECORD_CAPTURE, OUTCOME_HOLD_SETTLED);
	REFUSED(it, REFUSAL->state = HOLD_OPEN, "a settled hold that is open");
	REFUSED(it, REFUSAL->state = HOLD_EXPIRED + 1, "a state that there is not");
	(void)leg;
	(void)second;
	length = make(&record_cases[1], record, 5);
	struct record_birth *birth =
	    (void *)(uintptr_t)record_leg_birth(head, record_next_leg(head, NULL));
	birth->floor = birth->ceiling + 1;
	ok(check_restamped(record, length) == 0, "a floor above the ceiling at birth");
}

static void test_lengths(void)
{
	static const uint32_t lengths[] = {
	    0, 1, 8, 40, 47, 49, 4097, 4104, 8192, UINT32_MAX, 0x80000000, UINT32_MAX - 7};
	_Alignas(8) unsigned char record[2 * JOURNAL_RECORD_MAX];
	struct record_head *head = (void *)record;
	bool refused = true;

	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		size_t length = make_event(record, 5);
		head->length = lengths[i];
		stamp_again(record, length);
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
	bool within = true;

	for (size_t i = 0; i < rounds; i++) {
		size_t available = (size_t)(random_next(&random_state) % 400);
		for (size_t at = 0; at < sizeof record && at < available + 8; at += 8) {
			uint64_t word = random_next(&random_state);
			memcpy(record + at, &word, sizeof word);
		}
		uint64_t draw = random_next(&random_state);
		head->lsn = LSN;
		head->durable = draw & 1 ? 0 : head->durable;
		head->flags = (uint16_t)(draw >> 48 & 7);
		head->outcome = draw & 2 ? 0 : (uint8_t)(draw >> 52 & 15);
		head->legs = (uint8_t)(draw >> 8 & 3);
		head->id_length = (uint8_t)(draw >> 16 & 15);
		head->note_length = (uint16_t)(draw >> 24 & 15);
		head->type = (uint8_t)(draw >> 32 & 31);
		head->length = (uint32_t)(draw >> 40 & 511) & ~7u;
		if (draw & 8 && head->length >= sizeof *head && head->length <= available)
			stamp_again(record, head->length);
		size_t result = check_copy(record, available, LSN, KEY);
		if (result != 0)
			within &= result <= available && reads_within(record, result);
	}
	ok(within, "%zu random records: nothing beyond the bytes that are there", rounds);
}

/* A record of random kind of which a few random words were changed, with a right checksum. */
static void test_mutants(void)
{
	size_t rounds = setting("TALLYD_TEST_FUZZ", 200000);
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	bool within = true;
	size_t sound = 0;

	for (size_t i = 0; i < rounds; i++) {
		uint64_t draw = random_next(&random_state);
		size_t length = make(&record_cases[draw % RECORD_CASES], record,
		                     1 + (uint32_t)(draw >> 8) % 40);
		for (unsigned n = 0; n < (draw >> 40 & 3) + 1; n++) {
			uint64_t change = random_next(&random_state);
			size_t at = 8 + change % (length - 8);
			if (at < 16 || at > 24) /* not the length and not the LSN */
				record[at] = (unsigned char)(change >> 32 & (change >> 40));
		}
		((struct record_head *)(void *)record)->lsn = LSN;
		((struct record_head *)(void *)record)->length = (uint32_t)length;
		size_t result = check_restamped(record, length);
		sound += result != 0;
		if (result != 0)
			within &= result == length && reads_within(record, result);
	}
	ok(within && sound > 0, "%zu records changed at random, %zu of them sound: likewise",
	   rounds, sound);
}

/* Several records side by side, stamped together: each has its place and refers to the others. */
static void test_groups(void)
{
	_Alignas(8) unsigned char records[RECORD_GROUP_MAX];
	size_t lengths[GROUP_MAX];
	size_t total = 0;
	bool right = true;

	for (unsigned i = 0; i < GROUP_MAX; i++) {
		lengths[i] =
		    case_make(&record_cases[i == 3 ? 21 : 0], records + total, 5 + i, 4, 4);
		struct record_head *head = (void *)(records + total);
		struct record_leg *leg = (void *)(head + 1);
		if (i > 0)
			leg->previous = RECORD_RELATIVE | (total - lengths[i - 1]);
		total += lengths[i];
	}
	record_stamp(records, total, LSN, LSN - 8, EPOCH, KEY);
	size_t at = 0;
	for (unsigned i = 0; i < GROUP_MAX; i++) {
		const struct record_head *head = (const void *)(records + at);
		const struct record_leg *leg = record_next_leg(head, NULL);
		right &= record_check(head, total - at, LSN + at, KEY) == lengths[i] &&
		         head->durable == LSN - 8 && head->epoch == EPOCH &&
		         leg->previous == (i == 0 ? CASE_PREVIOUS : LSN + at - lengths[i - 1]);
		at += lengths[i];
	}
	ok(right, "a group of %d records", GROUP_MAX);
}

static void test_keys(void)
{
	struct key a = record_key(KEY, "order-17", 8);
	struct key b = record_key(KEY, "order-18", 8);
	struct key c = record_key(KEY + 1, "order-17", 8);

	ok(a.low != b.low && a.high != b.high && a.low != c.low && a.high != c.high,
	   "ids and journals have different keys");
	ok(record_hash_seed(KEY) != record_hash_seed(KEY + 1) && record_hash_seed(KEY) != KEY,
	   "and hashes of names other seeds");
}

int main(void)
{
	plan(NO_PLAN);
	test_cases();
	test_lengths_of_texts();
	test_parts();
	test_bits();
	test_plain();
	test_pads();
	test_content();
	test_legs_of_types();
	test_bodies();
	test_lengths();
	test_random();
	test_mutants();
	test_groups();
	test_keys();
	return done_testing();
}
