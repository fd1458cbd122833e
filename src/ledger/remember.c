/*
 * What ids stand for.  The id table knows the record; the record holds the id itself and the
 * fingerprint of the request, and makes the answer.
 */
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "history.h"
#include "ledger_private.h"

#define CLOCKS_APART 1000000 /* microseconds: workers look at theirs at different moments */

/* What a request means besides words. */
struct meaning {
	uint8_t kind, balanced, has_capture, legs;
	uint8_t match, frozen, empties, summed;
	uint32_t ttl;
	uint32_t note_length;
	uint64_t version;
	int64_t capture;
	int64_t floor;
	int64_t ceiling;
};
_Static_assert(sizeof(struct meaning) == 48, "no padding, whose bytes nobody has set");

#define MEANING_MAX                                                                                \
	(sizeof(struct meaning) + LEGS_MAX * (sizeof(int64_t) + 1 + ACCOUNT_NAME_MAX) + NOTE_MAX + \
	 ID_MAX)

static unsigned char *add(unsigned char *at, const void *bytes, size_t length)
{
	if (length != 0)
		memcpy(at, bytes, length);
	return at + length;
}

/* Many events as one: MEANING, then each of them by what came before it. */
static uint64_t fingerprint_of_events(const struct ledger *ledger, const struct request *request,
                                      const struct meaning *meaning)
{
	unsigned char bytes[sizeof(int64_t) + ACCOUNT_NAME_MAX];
	uint64_t sum = XXH3_64bits_withSeed(meaning, sizeof *meaning, ledger->key);

	for (uint32_t i = 0; i < request->event_count; i++) {
		const struct leg *event = &request->events[i];
		unsigned char *at = add(bytes, &event->amount, sizeof event->amount);
		at = add(at, event->account.bytes, event->account.length);
		sum = XXH3_64bits_withSeed(bytes, (size_t)(at - bytes), sum);
	}
	return XXH3_64bits_withSeed(request->note.bytes, request->note.length, sum);
}

uint64_t remember_fingerprint(const struct ledger *ledger, const struct request *request)
{
	unsigned char bytes[MEANING_MAX];
	unsigned char *at = bytes;
	unsigned legs = ledger_legs(request);
	bool settles = request->kind == REQUEST_CAPTURE || request->kind == REQUEST_RELEASE;
	const struct meaning meaning = {.kind = (uint8_t)request->kind,
	                                .balanced = request->balanced,
	                                .has_capture = request->has_capture,
	                                .legs = (uint8_t)legs,
	                                .match = (uint8_t)request->match,
	                                .frozen = (uint8_t)request->attributes.frozen,
	                                .empties = request->empties,
	                                .summed = request->events != NULL,
	                                .ttl = request->ttl,
	                                .note_length = request->note.length,
	                                .version = request->version,
	                                .capture = request->capture,
	                                .floor = request->attributes.floor,
	                                .ceiling = request->attributes.ceiling};

	if (request->events != NULL)
		return fingerprint_of_events(ledger, request, &meaning);
	at = add(at, &meaning, sizeof meaning);
	for (unsigned i = 0; i < legs; i++) {
		const struct leg *leg = &request->leg[i];
		at = add(at, &leg->amount, sizeof leg->amount);
		*at++ = (unsigned char)leg->account.length;
		at = add(at, leg->account.bytes, leg->account.length);
	}
	at = add(at, request->note.bytes, request->note.length);
	if (settles)
		at = add(at, request->hold.bytes, request->hold.length);
	return XXH3_64bits_withSeed(bytes, (size_t)(at - bytes), ledger->key);
}

void remember_prefetch(struct ledger *ledger, struct work *work)
{
	work->vacancy = ids_vacancy(ledger->region, &work->id);
	__builtin_prefetch(work->vacancy, 1);
}

/*
 * The time of the newest id that is lost, when one of TIME_US goes at NOW_US, and LOST was it so
 * far. What a clock that was ahead has dated is lost by now: else nothing would count as kept until
 * then.
 */
static uint64_t newest_lost(uint64_t lost, uint64_t time_us, uint64_t now_us)
{
	if (lost > now_us + CLOCKS_APART)
		lost = now_us;
	if (time_us > now_us)
		time_us = now_us;
	return lost > time_us ? lost : time_us;
}

/*
 * The id of SLOT makes room.  That is noted before the commit, lest who dies right after it leave
 * it unsaid; if nothing is committed it was the next to go anyhow.
 */
static void make_room(struct ledger *ledger, const struct id_slot *slot)
{
	uint64_t window =
	    atomic_load_explicit(&ledger->settings->id_window_us, memory_order_relaxed);
	uint64_t lost = atomic_load_explicit(&ledger->marks->ids_lost_us, memory_order_relaxed);
	uint64_t after;

	if (ledger->now_us < slot->time_us || ledger->now_us - slot->time_us < window)
		ledger->forgotten++;
	do
		after = newest_lost(lost, slot->time_us, ledger->now_us);
	while (after != lost &&
	       !atomic_compare_exchange_weak(&ledger->marks->ids_lost_us, &lost, after));
}

void remember(struct ledger *ledger, const struct work *work, uint32_t offset)
{
	struct id_slot *slot = work->vacancy;

	/* An earlier member of the group may have taken it. */
	if (operation_staged(ledger->region, slot, NULL) != NULL)
		slot = ids_vacancy(ledger->region, &work->id);
	if (slot->lsn != 0)
		make_room(ledger, slot);
	else
		operation_count(ledger->region, USE_IDS, 1);
	struct id_slot *after = operation_stage(
	    ledger->region, slot, ids_lock(ledger->region, &work->id), sizeof *slot, offset);
	after->key = work->id;
	after->time_us = ledger->now_us;
}

void remember_forgotten(struct ledger *ledger)
{
	atomic_fetch_add(&ledger->marks->ids_forgotten, ledger->forgotten);
}

/*
 * The record at LSN into *RECORD.  What is asked for again is nearly always in the ring or in the
 * page cache; where it is not, this waits for the disk to read a page.
 */
static enum outcome read_record(struct ledger *ledger, uint64_t lsn,
                                const struct record_head **record)
{
	if (ledger->history == NULL) {
		errno = ENOENT;
		return OUTCOME_READ_FAILED;
	}
	history_may_wait(ledger->history, true);
	enum history_status status = history_record(ledger->history, lsn, record);
	history_may_wait(ledger->history, false);
	switch (status) {
	case HISTORY_OK:
		return OUTCOME_ACCEPTED;
	case HISTORY_PRUNED:
		return OUTCOME_FORGOTTEN;
	case HISTORY_END:
	case HISTORY_LATER:
	case HISTORY_IO:
		break;
	}
	return OUTCOME_READ_FAILED;
}

static bool same(const struct ledger *ledger, const struct record_head *record,
                 const struct request *request)
{
	struct words id = record_id(record);
	uint64_t fingerprint;

	return id.length == request->id.length &&
	       memcmp(id.bytes, request->id.bytes, id.length) == 0 &&
	       record_fingerprint(record, &fingerprint) &&
	       fingerprint == remember_fingerprint(ledger, request);
}

/* What was answered then is not for who asks now: it is said as of a hold that nobody made. */
static void forget_hold(const struct ledger *ledger, struct result *result)
{
	ledger_clear(result);
	result->account_length = 0;
	result->outcome = OUTCOME_UNKNOWN_HOLD;
	result->lsn = ledger_newest(ledger);
}

void remember_answer(struct ledger *ledger, struct work *work)
{
	const struct record_head *record;
	struct result *result = work->result;

	ledger_clear(result);
	result->outcome = read_record(ledger, work->known, &record);
	if (result->outcome != OUTCOME_ACCEPTED)
		return;
	bool replays = same(ledger, record, work->request);
	if (replays) {
		history_result(record, result);
		result->replayed = true;
	} else {
		result->outcome = OUTCOME_ID_REUSED;
	}
	/* Either way somebody learns of this record: it must be durable first. */
	result->lsn = work->known;
	if (replays && !ledger_is_within(work->request, result->account, result->account_length))
		forget_hold(ledger, result);
}

/*
 * The id of who asked again stands for the answer as well: the hold may be gone when he asks once
 * more.
 */
static void remember_repeat(struct ledger *ledger, struct work *work,
                            const struct record_head *record)
{
	ledger->lock[0] = ids_lock(ledger->region, &work->id);
	ledger->locks = 1;
	if (!work_lock(ledger))
		return;
	if (!work_look_for_id(ledger, work)) {
		note_repeat(ledger, work, record);
		work_commit(ledger);
	}
	operation_unlock(ledger->region);
	if (work->known != 0)
		remember_answer(ledger, work);
}

void remember_settlement(struct ledger *ledger, struct work *work)
{
	const struct record_head *record;
	struct result *result = work->result;

	ledger_clear(result);
	result->outcome = read_record(ledger, work->again, &record);
	if (result->outcome != OUTCOME_ACCEPTED)
		return;
	history_result(record, result);
	result->replayed = true;
	if (work->request->id.length != 0)
		remember_repeat(ledger, work, record);
}
