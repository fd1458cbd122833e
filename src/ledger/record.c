#include "record.h"

#include <string.h>
#include <xxhash.h>

#include "../../shm/ring.h"

_Static_assert(sizeof(struct record_birth) % 8 == 0 && sizeof(struct record_attributes) % 8 == 0 &&
                   sizeof(struct record_hold) % 8 == 0 && sizeof(struct record_refusal) % 8 == 0 &&
                   sizeof(struct record_seal) % 8 == 0,
               "the parts of a record are padded already");
_Static_assert(sizeof(struct record_head) +
                       LEGS_MAX * (((RECORD_LEG_FIXED + ACCOUNT_NAME_MAX + 7) & ~(size_t)7) +
                                   sizeof(struct record_birth)) +
                       RECORD_SETTLED_FIXED + ID_MAX + 8 + 8 + ID_MAX + NOTE_MAX <=
                   JOURNAL_RECORD_MAX,
               "whatever passes the limits of event.h fits into a record");

static size_t round_up(size_t length)
{
	return (length + 7) & ~(size_t)7;
}

static bool is_operation(unsigned type)
{
	return type >= RECORD_EVENT && type <= RECORD_EXPIRE;
}

bool record_has_effect(const struct record_head *head)
{
	return is_operation(head->type) && head->outcome == OUTCOME_ACCEPTED &&
	       (head->flags & RECORD_UNCHANGED) == 0;
}

struct key record_key(uint64_t key, const char *id, size_t length)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(id, length, key);

	return (struct key){.low = hash.low64, .high = hash.high64};
}

uint64_t record_hash_seed(uint64_t key)
{
	static const char purpose[] = "tallyd account names";

	return XXH3_64bits_withSeed(purpose, sizeof purpose - 1, key);
}

/* ---- writing */

void record_begin(struct record_writer *writer, void *buffer, enum record_type type,
                  enum outcome outcome, uint16_t flags, uint64_t time_us)
{
	writer->head = buffer;
	writer->at = (unsigned char *)buffer + sizeof *writer->head;
	*writer->head = (struct record_head){
	    .type = (uint8_t)type, .outcome = (uint8_t)outcome, .time_us = time_us, .flags = flags};
}

void record_add_leg(struct record_writer *writer, const struct words *account,
                    const struct record_leg *leg, const struct record_birth *birth)
{
	unsigned char *at = writer->at;
	size_t size = record_leg_size(account->length);

	memset(at + size - 8, 0, 8); /* the padding; what is not padding is written over */
	memcpy(at, leg, RECORD_LEG_FIXED - 1);
	at[RECORD_LEG_FIXED - 1] = (unsigned char)account->length;
	memcpy(at + RECORD_LEG_FIXED, account->bytes, account->length);
	at += size;
	if (birth != NULL) {
		memcpy(at, birth, sizeof *birth);
		at += sizeof *birth;
	}
	writer->at = at;
	writer->head->legs++;
}

void record_add_body(struct record_writer *writer, const void *body, size_t length)
{
	memcpy(writer->at, body, length);
	writer->at += length;
}

void record_add_settled(struct record_writer *writer, const struct record_settled *body,
                        const struct words *hold)
{
	unsigned char *at = writer->at;
	size_t size = round_up(RECORD_SETTLED_FIXED + hold->length);

	memset(at + size - 8, 0, 8);
	memcpy(at, body, RECORD_SETTLED_FIXED - 1);
	at[RECORD_SETTLED_FIXED - 1] = (unsigned char)hold->length;
	memcpy(at + RECORD_SETTLED_FIXED, hold->bytes, hold->length);
	writer->at = at + size;
}

static void add_texts(struct record_writer *writer, const struct words *id,
                      const struct words *note)
{
	size_t size = round_up((size_t)id->length + note->length);

	if (size == 0)
		return;
	memset(writer->at + size - 8, 0, 8);
	if (id->length != 0)
		memcpy(writer->at, id->bytes, id->length);
	if (note->length != 0)
		memcpy(writer->at + id->length, note->bytes, note->length);
	writer->at += size;
	writer->head->id_length = (uint8_t)id->length;
	writer->head->note_length = (uint16_t)note->length;
}

size_t record_end(struct record_writer *writer, uint64_t fingerprint, const struct words *id,
                  const struct words *note)
{
	static const struct words none;
	struct record_head *head = writer->head;

	if ((head->flags & RECORD_REMEMBERED) != 0)
		record_add_body(writer, &fingerprint, sizeof fingerprint);
	add_texts(writer, id != NULL ? id : &none, note != NULL ? note : &none);
	head->length = (uint32_t)(writer->at - (unsigned char *)head);
	return head->length;
}

size_t record_plain(void *buffer, enum record_type type, const void *body, size_t body_length,
                    uint64_t time_us)
{
	struct record_head *head = buffer;

	*head = (struct record_head){.length = (uint32_t)(sizeof *head + body_length),
	                             .type = (uint8_t)type,
	                             .time_us = time_us};
	if (body_length != 0)
		memcpy(head + 1, body, body_length);
	return head->length;
}

static uint64_t checksum(const void *record, size_t length, uint64_t key)
{
	return XXH3_64bits_withSeed((const char *)record + sizeof(uint64_t),
	                            length - sizeof(uint64_t), key);
}

static void resolve(struct record_head *head, uint64_t group)
{
	const struct record_leg *leg = NULL;

	while ((leg = record_next_leg(head, leg)) != NULL) {
		uint64_t *previous = &((struct record_leg *)(uintptr_t)leg)->previous;
		if ((*previous & RECORD_RELATIVE) != 0)
			*previous = group + (*previous & ~RECORD_RELATIVE);
	}
}

void record_stamp(void *records, size_t length, uint64_t lsn, uint64_t durable, uint32_t epoch,
                  uint64_t key)
{
	unsigned char *at = records;

	for (size_t offset = 0; offset < length;) {
		struct record_head *head = (struct record_head *)(void *)(at + offset);
		resolve(head, lsn);
		head->lsn = lsn + offset;
		head->durable = durable;
		head->epoch = epoch;
		head->checksum = checksum(head, head->length, key);
		offset += head->length;
	}
}

static void stamp_for(void *records, size_t length, uint64_t lsn, uint64_t durable,
                      const struct region *region)
{
	const struct region_geometry *geometry = region_geometry(region);

	record_stamp(records, length, lsn, durable, geometry->epoch, geometry->journal_key);
}

static void make_pad(void *record, size_t length)
{
	memset(record, 0, length);
	record_plain(record, RECORD_PAD, NULL, 0, 0);
	((struct record_head *)record)->length = (uint32_t)length;
}

void record_install(struct region *region)
{
	static const struct ring_codec codec = {.stamp = stamp_for, .pad = make_pad};

	ring_set_codec(region, &codec);
}

/* ---- reading */

/* May legs of this record make their accounts by record_birth? */
static bool may_bear(const struct record_head *head)
{
	return record_has_effect(head) &&
	       (head->type <= RECORD_TRANSACTION || head->type == RECORD_CAPTURE);
}

static size_t leg_size(const struct record_head *head, const struct record_leg *leg)
{
	size_t size = record_leg_size(leg->name_length);

	return leg->previous == 0 && may_bear(head) ? size + sizeof(struct record_birth) : size;
}

const struct record_birth *record_leg_birth(const struct record_head *head,
                                            const struct record_leg *leg)
{
	if (leg->previous != 0 || !may_bear(head))
		return NULL;
	return (const void *)((const unsigned char *)leg + record_leg_size(leg->name_length));
}

const struct record_leg *record_next_leg(const struct record_head *head,
                                         const struct record_leg *leg)
{
	const unsigned char *at = (const unsigned char *)(head + 1);
	unsigned left = head->legs;

	/* Legs before this one are at lower addresses: count what is left by walking. */
	while (leg != NULL && left > 0 && at <= (const unsigned char *)leg) {
		at += leg_size(head, (const void *)at);
		left--;
	}
	return left == 0 ? NULL : (const void *)at;
}

static const unsigned char *after_legs(const struct record_head *head)
{
	const unsigned char *at = (const unsigned char *)(head + 1);

	for (unsigned i = 0; i < head->legs; i++)
		at += leg_size(head, (const void *)at);
	return at;
}

/* Bytes of the body at AT; what is read of it for that must be there. */
static size_t body_size(const struct record_head *head, const unsigned char *at)
{
	if (head->type == RECORD_SEAL)
		return sizeof(struct record_seal);
	if (head->outcome != OUTCOME_ACCEPTED)
		return sizeof(struct record_refusal);
	switch (head->type) {
	case RECORD_CREATE:
	case RECORD_REPLACE:
		return sizeof(struct record_attributes);
	case RECORD_HOLD:
		return sizeof(struct record_hold);
	case RECORD_CAPTURE:
	case RECORD_RELEASE:
	case RECORD_EXPIRE:
		return round_up(RECORD_SETTLED_FIXED + at[RECORD_SETTLED_FIXED - 1]);
	default:
		return 0;
	}
}

const void *record_body(const struct record_head *head)
{
	const unsigned char *at = after_legs(head);

	return body_size(head, at) != 0 ? at : NULL;
}

bool record_fingerprint(const struct record_head *head, uint64_t *fingerprint)
{
	const unsigned char *at = after_legs(head);

	if ((head->flags & RECORD_REMEMBERED) == 0)
		return false;
	memcpy(fingerprint, at + body_size(head, at), sizeof *fingerprint);
	return true;
}

/* The id and the note are the last of a record, so their place follows from its end. */
static const char *texts(const struct record_head *head)
{
	size_t size = round_up((size_t)head->id_length + head->note_length);

	return (const char *)head + head->length - size;
}

struct words record_id(const struct record_head *head)
{
	if (head->id_length == 0)
		return (struct words){0};
	return (struct words){.bytes = texts(head), .length = head->id_length};
}

struct words record_note(const struct record_head *head)
{
	if (head->note_length == 0)
		return (struct words){0};
	return (struct words){.bytes = texts(head) + head->id_length, .length = head->note_length};
}

enum request_kind record_kind(const struct record_head *head)
{
	return head->type == RECORD_EXPIRE
	           ? REQUEST_RELEASE
	           : (enum request_kind)(head->type - RECORD_EVENT + REQUEST_EVENT);
}

_Static_assert(RECORD_RELEASE - RECORD_EVENT == REQUEST_RELEASE - REQUEST_EVENT &&
                   RECORD_CREATE - RECORD_EVENT == REQUEST_CREATE - REQUEST_EVENT &&
                   RECORD_HOLD - RECORD_EVENT == REQUEST_HOLD - REQUEST_EVENT,
               "types of records and kinds of requests are in one order");

struct words record_hold_id(const struct record_head *head)
{
	if (head->type == RECORD_HOLD)
		return record_id(head);
	if (head->type < RECORD_CAPTURE || head->outcome != OUTCOME_ACCEPTED)
		return (struct words){0};
	const struct record_settled *body = record_body(head);
	return (struct words){.bytes = body->hold, .length = body->hold_length};
}

/* ---- checking */

static bool zero(const unsigned char *at, const unsigned char *end)
{
	while (at < end)
		if (*at++ != 0)
			return false;
	return true;
}

/* How many legs does an accepted operation have, at least and at most? */
static bool leg_count_sound(const struct record_head *head)
{
	static const struct {
		uint8_t least;
		uint8_t most;
	} legs[] = {
	    [RECORD_EVENT - RECORD_EVENT] = {1, 1},
	    [RECORD_TRANSFER - RECORD_EVENT] = {2, 2},
	    [RECORD_TRANSACTION - RECORD_EVENT] = {1, LEGS_MAX},
	    [RECORD_CREATE - RECORD_EVENT] = {1, 1},
	    [RECORD_REPLACE - RECORD_EVENT] = {1, 1},
	    [RECORD_DELETE - RECORD_EVENT] = {1, 1},
	    [RECORD_HOLD - RECORD_EVENT] = {1, 1},
	    [RECORD_CAPTURE - RECORD_EVENT] = {1, 2},
	    [RECORD_RELEASE - RECORD_EVENT] = {1, 1},
	    [RECORD_EXPIRE - RECORD_EVENT] = {1, 1},
	};
	unsigned index = head->type - RECORD_EVENT;

	/* A refusal may have been decided before any account was looked at. */
	return head->legs <= legs[index].most &&
	       (head->legs >= legs[index].least || head->outcome != OUTCOME_ACCEPTED);
}

static bool may_change_nothing(const struct record_head *head)
{
	return head->type == RECORD_EVENT || head->type == RECORD_TRANSACTION ||
	       head->type == RECORD_CAPTURE || head->type == RECORD_RELEASE;
}

static bool head_sound(const struct record_head *head)
{
	bool remembered = (head->flags & RECORD_REMEMBERED) != 0;
	bool accepted = head->outcome == OUTCOME_ACCEPTED;

	if ((head->flags & ~(RECORD_REMEMBERED | RECORD_UNCHANGED | RECORD_CREATED)) != 0)
		return false;
	if (!accepted && (!outcome_is_decided(head->outcome) || head->flags != RECORD_REMEMBERED))
		return false;
	if (head->type == RECORD_EXPIRE &&
	    (!accepted || head->flags != 0 || head->id_length != 0 || head->note_length != 0))
		return false;
	/* What changed nothing is written only for its id. */
	if ((head->flags & RECORD_UNCHANGED) != 0 && (!remembered || !may_change_nothing(head)))
		return false;
	if (accepted && (head->type == RECORD_CREATE || head->type == RECORD_HOLD)
	        ? (head->flags & RECORD_CREATED) == 0
	        : (head->flags & RECORD_CREATED) != 0 && head->type != RECORD_REPLACE)
		return false;
	/* An id is the client's, but for those made for holds; every hold has one. */
	if (accepted && head->type == RECORD_HOLD)
		return head->id_length != 0;
	return remembered == (head->id_length != 0);
}

/* An account that was only looked at. */
static bool looked_at_sound(const struct record_head *head, const struct record_leg *leg)
{
	if (leg->previous >= head->lsn)
		return false;
	if (leg->version == 0)
		return head->outcome != OUTCOME_ACCEPTED && leg->balance == 0 && leg->held == 0 &&
		       leg->previous == 0;
	/* A capture that is only repeated says by how much the first one changed the balance. */
	return leg->held >= 0 && leg->previous != 0 &&
	       (head->outcome != OUTCOME_ACCEPTED || leg->amount == 0 ||
	        head->type == RECORD_CAPTURE);
}

static bool birth_sound(const struct record_head *head, const struct record_leg *leg)
{
	const struct record_birth *birth = record_leg_birth(head, leg);

	return birth == NULL || birth->floor <= birth->ceiling;
}

/* An account that was changed: what can be told without knowing it. */
static bool changed_sound(const struct record_head *head, const struct record_leg *leg,
                          unsigned index)
{
	bool makes = leg->previous == 0;

	if (leg->previous >= head->lsn || leg->version == 0 || makes != (leg->version == 1) ||
	    leg->held < 0 || (makes && leg->held != 0) || !birth_sound(head, leg))
		return false;
	switch (head->type) {
	case RECORD_EVENT:
		return leg->amount != 0;
	case RECORD_TRANSFER:
		return index == 0 ? leg->amount < 0 : leg->amount > 0;
	case RECORD_TRANSACTION:
		return true;
	case RECORD_CREATE:
		return makes && leg->amount == 0 && leg->balance == 0;
	case RECORD_REPLACE:
		return makes == ((head->flags & RECORD_CREATED) != 0) && leg->amount == 0 &&
		       (!makes || leg->balance == 0);
	case RECORD_DELETE:
		return !makes && leg->balance == 0 && leg->held == 0;
	case RECORD_CAPTURE:
		return index == 0 ? !makes : leg->amount >= 0;
	default:
		return !makes && leg->amount == 0;
	}
}

static bool same_name(const struct record_leg *left, const struct record_leg *right)
{
	return left->name_length == right->name_length &&
	       memcmp(left->name, right->name, left->name_length) == 0;
}

/* Each account once: a record changes an account in one step. */
static bool is_new(const struct record_head *head, const struct record_leg *leg)
{
	const unsigned char *at = (const unsigned char *)(head + 1);

	while (at < (const unsigned char *)leg) {
		if (same_name((const void *)at, leg))
			return false;
		at += leg_size(head, (const void *)at);
	}
	return true;
}

/* Are the legs there, and right?  In *AT where they end. */
static bool legs_sound(const struct record_head *head, const unsigned char **at)
{
	const unsigned char *end = (const unsigned char *)head + head->length;
	bool effect = record_has_effect(head);

	for (unsigned i = 0; i < head->legs; i++) {
		const struct record_leg *leg = (const void *)*at;
		if ((size_t)(end - *at) < record_leg_size(1) || leg->name_length == 0 ||
		    leg->name_length > ACCOUNT_NAME_MAX)
			return false;
		size_t size = leg_size(head, leg);
		if ((size_t)(end - *at) < size ||
		    !zero(*at + RECORD_LEG_FIXED + leg->name_length,
		          *at + record_leg_size(leg->name_length)) ||
		    !(effect ? changed_sound(head, leg, i) && is_new(head, leg)
		             : looked_at_sound(head, leg)))
			return false;
		*at += size;
	}
	return true;
}

static bool refusal_sound(const struct record_head *head, const struct record_refusal *refusal)
{
	bool settled = head->outcome == OUTCOME_HOLD_SETTLED;

	return refusal->leg < (head->legs != 0 ? head->legs : 1u) &&
	       (settled ? refusal->state > HOLD_OPEN && refusal->state <= HOLD_EXPIRED
	                : refusal->state == 0 && refusal->when_us == 0);
}

static bool attributes_sound(const struct record_attributes *attributes)
{
	return attributes->floor <= attributes->ceiling && attributes->frozen <= FROZEN_ALL &&
	       attributes->zero == 0;
}

static const struct record_leg *first_leg(const struct record_head *head)
{
	return (const void *)(head + 1);
}

static bool settled_sound(const struct record_head *head, const struct record_settled *settled,
                          size_t size)
{
	const struct record_leg *from = first_leg(head);
	const struct record_leg *to = record_next_leg(head, from);
	const unsigned char *bytes = (const void *)settled;

	if (settled->hold_length == 0 || settled->hold_length > ID_MAX || settled->amount <= 0 ||
	    !zero(bytes + RECORD_SETTLED_FIXED + settled->hold_length, bytes + size))
		return false;
	if (head->type != RECORD_CAPTURE)
		return settled->captured == 0;
	return settled->captured >= 0 && from->amount == -settled->captured &&
	       (to == NULL || to->amount == settled->captured);
}

/* The body, of which SIZE bytes are there. */
static bool body_sound(const struct record_head *head, const unsigned char *body, size_t size)
{
	if (head->outcome != OUTCOME_ACCEPTED)
		return refusal_sound(head, (const void *)body);
	switch (head->type) {
	case RECORD_TRANSFER: {
		const struct record_leg *from = first_leg(head);
		return from->amount != INT64_MIN &&
		       record_next_leg(head, from)->amount == -from->amount;
	}
	case RECORD_CREATE:
	case RECORD_REPLACE:
		return attributes_sound((const void *)body);
	case RECORD_HOLD: {
		const struct record_hold *hold = (const void *)body;
		return hold->amount > 0 && hold->amount <= first_leg(head)->held;
	}
	case RECORD_CAPTURE:
	case RECORD_RELEASE:
	case RECORD_EXPIRE:
		return settled_sound(head, (const void *)body, size);
	default:
		return true;
	}
}

/* Do the parts fill the record exactly, each of them right, with zero between them? */
static bool operation_sound(const struct record_head *head)
{
	const unsigned char *at = (const unsigned char *)(head + 1);
	const unsigned char *end = (const unsigned char *)head + head->length;

	if (!leg_count_sound(head) || !head_sound(head) || !legs_sound(head, &at))
		return false;
	/* A settled hold's length lies in the part that is always there. */
	if (head->type >= RECORD_CAPTURE && (size_t)(end - at) < round_up(RECORD_SETTLED_FIXED))
		return false;
	size_t size = body_size(head, at);
	if ((size_t)(end - at) < size || !body_sound(head, at, size))
		return false;
	at += size;
	size = (head->flags & RECORD_REMEMBERED) != 0 ? sizeof(uint64_t) : 0;
	if ((size_t)(end - at) < size)
		return false;
	at += size;
	size = (size_t)head->id_length + head->note_length;
	return (size_t)(end - at) == round_up(size) && zero(at + size, end);
}

static bool type_sound(const struct record_head *head)
{
	size_t body = head->length - sizeof *head;

	if (is_operation(head->type))
		return operation_sound(head);
	if (head->legs != 0 || head->id_length != 0 || head->note_length != 0 || head->flags != 0 ||
	    head->outcome != 0)
		return false;
	switch (head->type) {
	case RECORD_PAD:
		return zero((const unsigned char *)(head + 1),
		            (const unsigned char *)(head + 1) + body);
	case RECORD_START:
	case RECORD_MARK:
	case RECORD_STOP:
		return body == 0;
	case RECORD_SEAL:
		return body == sizeof(struct record_seal);
	default:
		return false;
	}
}

size_t record_check(const void *record, size_t available, uint64_t lsn, uint64_t key)
{
	const struct record_head *head = record;

	if (available < sizeof *head || head->lsn != lsn || head->length < sizeof *head ||
	    head->length > JOURNAL_RECORD_MAX || head->length % 8 != 0 ||
	    head->length > available || head->checksum != checksum(record, head->length, key))
		return 0;
	if (head->id_length > ID_MAX || head->note_length > NOTE_MAX || head->durable > lsn ||
	    !type_sound(head))
		return 0;
	return head->length;
}
