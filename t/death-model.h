/*
 * What the ring's records say the table must be: they are replayed, strictly, into a second
 * region, and the two compared.  A record of several accounts is this test's own (the ledger writes
 * none yet), so its soundness is judged here.
 */
#ifndef TALLYD_T_DEATH_MODEL_H
#define TALLYD_T_DEATH_MODEL_H

#include "../shm/ring.h"
#include "../src/ledger/replay.h"
#include "region-fixture.h"

struct model {
	struct region *region; /* of the same geometry */
	struct region_seal seal;
	uint64_t events;
	uint64_t marks;
	char why[160];
};

static inline bool model_fails(struct model *model, uint64_t lsn, const char *why)
{
	snprintf(model->why, sizeof model->why, "at LSN %llu: %s", (unsigned long long)lsn, why);
	return false;
}

/* As record_check, for a record of several legs. */
static inline size_t model_check_many(const void *record, size_t available, uint64_t lsn)
{
	const struct record_head *head = record;

	if (available < sizeof *head || head->lsn != lsn || head->type != RECORD_EVENT ||
	    head->legs < 2 || head->legs > RECORD_LEGS_MAX || head->length > available ||
	    head->checksum != XXH3_64bits_withSeed((const char *)record + sizeof head->checksum,
	                                           head->length - sizeof head->checksum,
	                                           FIXTURE_KEY))
		return 0;
	return head->length;
}

/* Applies the record at LSN, of which the tail allows AVAILABLE bytes.  Its length, or 0. */
static inline size_t model_apply(struct model *model, const struct region *region, uint64_t lsn,
                                 size_t available)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	const struct record_head *head = (const void *)record;
	const char *why;

	if (available > sizeof record)
		available = sizeof record;
	ring_read(region, lsn, record, available);
	size_t length = record_check(record, available, lsn, FIXTURE_KEY);
	if (length == 0)
		length = model_check_many(record, available, lsn);
	if (length == 0)
		return 0;
	if (head->type == RECORD_EVENT)
		model->events++;
	if (head->type == RECORD_MARK)
		model->marks++;
	if (head->type == RECORD_SEAL) {
		const struct record_seal *body = (const void *)(head + 1);
		model->seal = (struct region_seal){.lsn = lsn, .to = body->to, .hash = body->hash};
	}
	why = replay_apply(model->region, head);
	return why == NULL ? length : (model_fails(model, lsn, why), (size_t)0);
}

static inline bool model_zero(const struct region *region, uint64_t from, uint64_t to)
{
	unsigned char byte;

	for (; from < to; from++) {
		ring_read(region, from, &byte, 1);
		if (byte != 0)
			return false;
	}
	return true;
}

/* Replays REGION's records from START to the tail. */
static inline bool model_replay(struct model *model, const struct region *region, uint64_t start)
{
	uint64_t tail = atomic_load(&region->header->marks.tail);
	uint64_t at = start;

	while (at < tail) {
		uint64_t end = ring_segment_end(region, at);
		if (end - at < JOURNAL_RECORD_MIN) {
			if (!model_zero(region, at, end))
				return model_fails(model, at,
				                   "the unused end of a segment is not zero");
			at = end + SEGMENT_HEAD;
			continue;
		}
		size_t length = model_apply(model, region, at, (size_t)(tail - at));
		if (length == 0)
			return model->why[0] == '\0' ? model_fails(model, at, "no sound record")
			                             : false;
		at += length;
	}
	return at == tail ? true : model_fails(model, at, "the last record ends beyond the tail");
}

/* Is REGION's table, seal and count of events what its records from START say? */
static inline bool model_agrees(struct model *model, const struct region *region, uint64_t start)
{
	struct region *copy = model->region;
	size_t size = region_slots(region) * sizeof *region->slots;

	memset(copy->slots, 0, size);
	model->seal = (struct region_seal){0};
	model->events = 0;
	model->marks = 0;
	model->why[0] = '\0';
	if (!model_replay(model, region, start))
		return false;
	if (model->events != atomic_load(&region->header->marks.events))
		return model_fails(model, start, "the count of events is not that of the records");
	if (memcmp(region->seal, &model->seal, sizeof model->seal) != 0)
		return model_fails(model, start, "the seal is not that of the records");
	if (memcmp(region->slots, copy->slots, size) == 0)
		return true;
	return model_fails(model, start, "the table is not what the records say");
}

#endif
