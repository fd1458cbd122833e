#include "record.h"

#include <string.h>
#include <xxhash.h>

#include "../../shm/ring.h"

static size_t round_up(size_t length)
{
	return (length + 7) & ~(size_t)7;
}

size_t record_event(void *buffer, const char *name, uint32_t name_length,
                    const struct record_leg *leg, uint64_t time_us)
{
	struct record_head *head = buffer;
	unsigned char *at = (unsigned char *)buffer + sizeof *head;
	size_t size = record_leg_size(name_length);

	*head = (struct record_head){.length = (uint32_t)(sizeof *head + size),
	                             .type = RECORD_EVENT,
	                             .legs = 1,
	                             .time_us = time_us};
	memset(at + size - 8, 0, 8); /* the padding; what is not padding is written over */
	memcpy(at, leg, RECORD_LEG_FIXED - 1);
	at[RECORD_LEG_FIXED - 1] = (unsigned char)name_length;
	memcpy(at + RECORD_LEG_FIXED, name, name_length);
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

void record_stamp(void *record, size_t length, uint64_t lsn, uint64_t durable, uint32_t epoch,
                  uint64_t key)
{
	struct record_head *head = record;

	head->lsn = lsn;
	head->durable = durable;
	head->epoch = epoch;
	head->checksum = checksum(record, length, key);
}

static void stamp_for(void *record, size_t length, uint64_t lsn, uint64_t durable,
                      const struct region *region)
{
	const struct region_geometry *geometry = region_geometry(region);

	record_stamp(record, length, lsn, durable, geometry->epoch, geometry->journal_key);
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

static bool zero(const unsigned char *at, const unsigned char *end)
{
	while (at < end)
		if (*at++ != 0)
			return false;
	return true;
}

/* Do the legs, the id and the note fill the record exactly, with zero between them? */
static bool body_sound(const struct record_head *head)
{
	const unsigned char *at = (const unsigned char *)(head + 1);
	const unsigned char *end = (const unsigned char *)head + head->length;

	for (unsigned i = 0; i < head->legs; i++) {
		if ((size_t)(end - at) < record_leg_size(1))
			return false;
		const struct record_leg *leg = (const void *)at;
		size_t size = record_leg_size(leg->name_length);
		if (leg->name_length == 0 || leg->name_length > ACCOUNT_NAME_MAX ||
		    (size_t)(end - at) < size ||
		    !zero(at + RECORD_LEG_FIXED + leg->name_length, at + size))
			return false;
		at += size;
	}
	size_t text = (size_t)head->id_length + head->note_length;
	return (size_t)(end - at) == round_up(text) && zero(at + text, end);
}

static bool type_sound(const struct record_head *head)
{
	size_t body = head->length - sizeof *head;

	switch (head->type) {
	case RECORD_PAD:
		return head->legs == 0 && zero((const unsigned char *)(head + 1),
		                               (const unsigned char *)(head + 1) + body);
	case RECORD_START:
	case RECORD_MARK:
	case RECORD_STOP:
		return head->legs == 0 && body == 0;
	case RECORD_SEAL:
		return head->legs == 0 && body == sizeof(struct record_seal);
	case RECORD_EVENT:
		return head->legs == 1 && body_sound(head);
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
	if (head->legs > RECORD_LEGS_MAX || head->id_length > RECORD_ID_MAX ||
	    head->note_length > RECORD_NOTE_MAX || head->reserved != 0 || head->durable > lsn ||
	    !type_sound(head))
		return 0;
	return head->length;
}

const struct record_leg *record_next_leg(const struct record_head *head,
                                         const struct record_leg *leg)
{
	const unsigned char *first = (const unsigned char *)(head + 1);
	const unsigned char *at = first;
	unsigned left = head->legs;

	if (leg != NULL) {
		/* Legs before this one are at lower addresses: count what is left by walking. */
		while (left > 0 && at <= (const unsigned char *)leg) {
			at += record_leg_size(
			    ((const struct record_leg *)(const void *)at)->name_length);
			left--;
		}
	}
	return left == 0 ? NULL : (const struct record_leg *)(const void *)at;
}
