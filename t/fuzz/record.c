/*
 * A journal record: the first byte of the input says what of the rest is put right before
 * record_check sees it, so that mutations get past the checksum.  What it takes must be all there,
 * and be just what the writer of records would write.
 */
#include "fuzz.h"

#include <xxhash.h>

#include "../../src/ledger/history.h"
#include "../record-cases.h"

#define KEY UINT64_C(0x6b6579)
#define LSN (UINT64_C(1) << 20)

/* Lengths that the fuzzer is told of: as many marks for each of them. */
enum mark { MARK_NAME = 0, MARK_ID = 256, MARK_HOLD = 512, MARK_TYPE = 768 };

enum fix { FIX_LENGTH = 1, FIX_LSN = 2, FIX_CHECKSUM = 4, FIX_ALL = 7 };

static void fix(unsigned char *record, size_t size, unsigned what)
{
	struct record_head *head = (void *)record;

	if (size < sizeof *head)
		return;
	if (what & FIX_LENGTH)
		head->length = (uint32_t)size;
	if (what & FIX_LSN)
		head->lsn = LSN;
	if ((what & FIX_CHECKSUM) && head->length >= sizeof *head && head->length <= size)
		head->checksum = XXH3_64bits_withSeed(record + sizeof head->checksum,
		                                      head->length - sizeof head->checksum, KEY);
}

/* SIZE bytes at PART must lie in the record. */
static void check_within(const struct record_head *head, const void *part, size_t size,
                         const char *what)
{
	const unsigned char *begin = (const unsigned char *)head;
	const unsigned char *at = part;

	FUZZ_HOLDS(at >= begin + sizeof *head && at <= begin + head->length &&
	               size <= (size_t)(begin + head->length - at),
	           "%s lies outside of the record", what);
}

static void check_words(const struct record_head *head, struct words words, size_t most,
                        const char *what)
{
	FUZZ_HOLDS(words.length <= most, "%s of %u bytes", what, words.length);
	if (words.length > 0)
		check_within(head, words.bytes, words.length, what);
}

static void write_legs(const struct record_head *head, struct record_writer *writer)
{
	const struct record_leg *leg = NULL;
	unsigned legs = 0;

	while ((leg = record_next_leg(head, leg)) != NULL) {
		const struct record_birth *birth = record_leg_birth(head, leg);
		struct words name = {.bytes = leg->name, .length = leg->name_length};

		legs++;
		fuzz_mark(MARK_NAME + leg->name_length);
		check_within(head, leg, record_leg_size(leg->name_length), "a leg");
		FUZZ_HOLDS(name.length >= 1, "a leg without a name");
		check_words(head, name, ACCOUNT_NAME_MAX, "a name");
		if (birth != NULL) {
			check_within(head, birth, sizeof *birth, "a birth");
			FUZZ_HOLDS(birth->floor <= birth->ceiling, "a floor above its ceiling");
		}
		record_add_leg(writer, &name, leg, birth);
	}
	FUZZ_HOLDS(legs == head->legs && legs <= LEGS_MAX, "%u legs, not %u", legs, head->legs);
}

static void write_body(const struct record_head *head, struct record_writer *writer)
{
	const void *body = record_body(head);
	size_t size = 0;

	if (body == NULL)
		return;
	if (head->outcome != OUTCOME_ACCEPTED) {
		size = sizeof(struct record_refusal);
	} else if (head->type == RECORD_CREATE || head->type == RECORD_REPLACE) {
		size = sizeof(struct record_attributes);
	} else if (head->type == RECORD_HOLD) {
		size = sizeof(struct record_hold);
	} else {
		const struct record_settled *settled = body;
		struct words hold = {.bytes = settled->hold, .length = settled->hold_length};
		check_within(head, body, RECORD_SETTLED_FIXED, "what was settled");
		check_words(head, hold, ID_MAX, "a hold's id");
		fuzz_mark(MARK_HOLD + hold.length);
		record_add_settled(writer, settled, &hold);
		return;
	}
	check_within(head, body, size, "the body");
	record_add_body(writer, body, size);
}

/* Writes again what the parts of HEAD say; it must come out the same. */
static void write_again(const struct record_head *head)
{
	_Alignas(8) static unsigned char buffer[JOURNAL_RECORD_MAX];
	struct record_writer writer;
	struct words id = record_id(head);
	struct words note = record_note(head);
	uint64_t fingerprint = 0;

	check_words(head, id, ID_MAX, "an id");
	check_words(head, note, NOTE_MAX, "a note");
	fuzz_mark(MARK_ID + id.length);
	fuzz_mark(MARK_TYPE + head->type % 16u * 16 + head->outcome % 16u);
	record_begin(&writer, buffer, head->type, head->outcome, head->flags, head->time_us);
	write_legs(head, &writer);
	write_body(head, &writer);
	FUZZ_HOLDS(record_fingerprint(head, &fingerprint) ==
	               ((head->flags & RECORD_REMEMBERED) != 0),
	           "a fingerprint, or none");
	FUZZ_HOLDS(record_end(&writer, fingerprint, &id, &note) == head->length,
	           "written again it has another length");
	record_stamp(buffer, head->length, head->lsn, head->durable, head->epoch, KEY);
	FUZZ_HOLDS(memcmp(buffer, head, head->length) == 0, "written again it is another record");
}

static void judge_operation(const struct record_head *head)
{
	struct result result;
	enum request_kind kind = record_kind(head);

	write_again(head);
	check_words(head, record_hold_id(head), ID_MAX, "a hold's id");
	FUZZ_HOLDS(kind >= REQUEST_EVENT && kind <= REQUEST_RELEASE, "kind %d", (int)kind);
	history_result(head, &result);
	FUZZ_HOLDS(result.outcome == (enum outcome)head->outcome && result.legs <= LEGS_MAX,
	           "its result is another one");
}

static void judge(const uint8_t *bytes, size_t length)
{
	if (length == 0)
		return;
	size_t size = length - 1;
	unsigned char *record = fuzz_copy(bytes + 1, size);

	fix(record, size, bytes[0]);
	const struct record_head *head = (const void *)record;
	size_t taken = record_check(record, size, LSN, KEY);
	if (taken != 0) {
		FUZZ_HOLDS(taken <= size && taken >= JOURNAL_RECORD_MIN && taken % 8 == 0 &&
		               taken == head->length && head->lsn == LSN && head->durable <= LSN,
		           "a record of %zu bytes", taken);
		/* One byte less is not enough of it. */
		FUZZ_HOLDS(record_check(record, taken - 1, LSN, KEY) == 0, "half a record");
		if (head->type >= RECORD_EVENT)
			judge_operation(head);
	}
	free(record);
}

static void take_record(fuzz_take *take, unsigned char *input, size_t length)
{
	input[0] = FIX_ALL;
	take(input, 1 + length);
}

static void seeds(fuzz_take *take)
{
	static const uint32_t names[] = {1, 7, ACCOUNT_NAME_MAX};
	static const struct record_seal seal = {.from = 4096, .to = 8192, .hash = 7};
	_Alignas(8) static unsigned char record[JOURNAL_RECORD_MAX];
	static unsigned char input[1 + JOURNAL_RECORD_MAX];

	for (size_t i = 0; i < RECORD_CASES; i++) {
		for (size_t j = 0; j < sizeof names / sizeof *names; j++) {
			size_t size = case_make(&record_cases[i], record, names[j], names[j], 5);
			memcpy(input + 1, record, size);
			take_record(take, input, size);
		}
	}
	for (int type = RECORD_PAD; type <= RECORD_SEAL; type++) {
		size_t size = record_plain(record, (enum record_type)type, &seal,
		                           type == RECORD_SEAL ? sizeof seal : 0, CASE_TIME);
		memcpy(input + 1, record, size);
		take_record(take, input, size);
	}
}

const struct fuzz_target fuzz_record = {
    .name = "record", .length_max = 1 + JOURNAL_RECORD_MAX, .judge = judge, .seeds = seeds};
