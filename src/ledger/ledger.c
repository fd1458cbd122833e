#include "ledger.h"

#include <errno.h>
#include <stdlib.h>

#include "../../shm/wake.h"
#include "ledger_private.h"
#include "seal.h"

#define RETRY_AFTER_MAX 60 /* seconds */

struct ledger *ledger_open(struct region *region, uint32_t slot, struct journal_reader *history)
{
	struct ledger *ledger = calloc(1, sizeof *ledger);

	if (ledger == NULL)
		return NULL;
	ledger->region = region;
	ledger->marks = region_marks(region);
	ledger->settings = region_settings(region);
	ledger->history = history;
	ledger->seed = region_geometry(region)->hash_seed;
	ledger->key = region_geometry(region)->journal_key;
	cursor_key_make(&ledger->account_cursors, ledger->key, "tallyd cursors of accounts");
	cursor_key_make(&ledger->hold_cursors, ledger->key, "tallyd cursors of holds");
	region_enter(region, slot);
	record_install(region);
	if (operation_adopt(region))
		return ledger;
	free(ledger);
	errno = ENOTRECOVERABLE;
	return NULL;
}

void ledger_close(struct ledger *ledger)
{
	free(ledger);
}

enum outcome ledger_outcome(enum ring_status status)
{
	switch (status) {
	case RING_OK:
		return OUTCOME_ACCEPTED;
	case RING_FULL:
		return OUTCOME_QUEUE_FULL;
	case RING_NO_SPACE:
		return OUTCOME_DISK_FULL;
	case RING_FAILED:
		return OUTCOME_JOURNAL_FAILED;
	case RING_POISONED:
		break;
	}
	return OUTCOME_POISONED;
}

bool ledger_begin(struct region *region, uint64_t now_us)
{
	struct region_marks *marks = region_marks(region);
	struct record_head record;
	uint64_t lsn;

	record_install(region);
	size_t length = record_plain(&record, RECORD_START, NULL, 0, now_us);
	if (ring_place(region, length, RING_INTERNAL, &lsn) != RING_OK)
		return false;
	record_stamp(&record, length, lsn, atomic_load(&marks->durable),
	             region_geometry(region)->epoch, region_geometry(region)->journal_key);
	ring_write(region, lsn, &record, length, atomic_load(&marks->durable));
	atomic_store(&marks->tail, lsn + length);
	return true;
}

static enum outcome commit_plain(struct ledger *ledger, enum record_type type, const void *body,
                                 size_t body_length, uint64_t now_us)
{
	uint64_t lsn;
	size_t length = record_plain(ledger->records.bytes, type, body, body_length, now_us);

	return ledger_outcome(operation_commit(ledger->region, ledger->records.bytes, length, 0,
	                                       RING_INTERNAL, &lsn));
}

static enum outcome plain(struct ledger *ledger, enum record_type type, uint64_t now_us)
{
	enum outcome outcome;

	if (!operation_lock(ledger->region, NULL, 0))
		return OUTCOME_POISONED;
	outcome = commit_plain(ledger, type, NULL, 0, now_us);
	operation_unlock(ledger->region);
	return outcome;
}

enum outcome ledger_mark(struct ledger *ledger, uint64_t now_us)
{
	return plain(ledger, RECORD_MARK, now_us);
}

enum outcome ledger_stop(struct ledger *ledger, uint64_t now_us)
{
	return plain(ledger, RECORD_STOP, now_us);
}

enum outcome ledger_seal(struct ledger *ledger, const struct seal_link *link, uint64_t now_us)
{
	static const uint32_t stripe = 0; /* guards the seal (shm/region.h) */
	struct record_seal body = {.from = link->from, .to = link->to, .hash = link->hash};
	struct region_seal *cell = region_seal(ledger->region);
	enum outcome outcome;

	if (!operation_lock(ledger->region, &stripe, 1))
		return OUTCOME_POISONED;
	struct region_seal *after = operation_stage(ledger->region, cell, stripe, sizeof *cell, 0);
	after->to = link->to;
	after->hash = link->hash;
	outcome = commit_plain(ledger, RECORD_SEAL, &body, sizeof body, now_us);
	operation_unlock(ledger->region);
	return outcome;
}

uint64_t ledger_released(const struct ledger *ledger)
{
	return atomic_load_explicit(&ledger->marks->released, memory_order_acquire);
}

bool ledger_want(struct ledger *ledger, uint64_t lsn)
{
	return wake_want(ledger->region, lsn);
}

void ledger_kick(struct ledger *ledger)
{
	wake_writer(ledger->region);
}

uint64_t ledger_pending(const struct ledger *ledger)
{
	/* Read in this order the difference is never negative. */
	uint64_t released = atomic_load(&ledger->marks->released_events);

	return atomic_load(&ledger->marks->events) - released;
}

unsigned ledger_retry_after(const struct ledger *ledger)
{
	uint64_t rate = atomic_load(&ledger->marks->drain_rate);
	uint64_t pending = ledger_pending(ledger);

	if (rate == 0)
		return 1;
	uint64_t seconds = pending / rate + 1;
	return seconds > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : (unsigned)seconds;
}

uint64_t ledger_ids_kept(struct region *region, uint64_t now_us)
{
	uint64_t window = atomic_load(&region_settings(region)->id_window_us);
	uint64_t lost = atomic_load(&region_marks(region)->ids_lost_us);
	uint64_t kept = now_us > lost ? now_us - lost : 0;

	return lost != 0 && kept < window ? kept : window;
}

uint64_t ledger_id_window(const struct ledger *ledger, uint64_t now_us, uint64_t *forgotten)
{
	*forgotten = atomic_load(&ledger->marks->ids_forgotten);
	return ledger_ids_kept(ledger->region, now_us);
}

void ledger_facts(const struct ledger *ledger, uint64_t now_us, struct facts *facts)
{
	facts_read(ledger->region, now_us, facts);
}

enum outcome ledger_health(const struct ledger *ledger)
{
	const struct region_marks *marks = ledger->marks;
	const struct region_settings *settings = region_settings(ledger->region);
	uint64_t tail = atomic_load(&marks->tail);
	uint64_t room = atomic_load(&marks->released) + region_geometry(ledger->region)->ring_size -
	                RING_RESERVE;

	if (atomic_load(&marks->failed) != 0)
		return OUTCOME_JOURNAL_FAILED;
	if (region_poisoned(ledger->region))
		return OUTCOME_POISONED;
	if (tail + JOURNAL_RECORD_MAX + SPACE_RESERVE > atomic_load(&marks->space) &&
	    atomic_load(&marks->disk_full) != 0)
		return OUTCOME_DISK_FULL;
	if (tail + JOURNAL_RECORD_MAX > room ||
	    ledger_pending(ledger) >= atomic_load(&settings->queue_events))
		return OUTCOME_QUEUE_FULL;
	return OUTCOME_ACCEPTED;
}
