#include "ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../../shm/lock.h"
#include "../../shm/operation.h"
#include "../../shm/region.h"
#include "../../shm/table.h"
#include "../../shm/wake.h"
#include "record.h"
#include "seal.h"

#define RETRY_AFTER_MAX 60 /* seconds */

/* An account's name stays as it is: an image of what is before it will do. */
#define SLOT_CHANGING ((offsetof(struct account_slot, name) + 7) & ~(size_t)7)

struct ledger {
	struct region *region;
	struct region_marks *marks;
	uint64_t seed;
	union {
		struct record_head head; /* for its alignment */
		unsigned char bytes[JOURNAL_RECORD_MAX];
	} record;
};

_Static_assert(ACCOUNT_NAME_MAX == TABLE_NAME_MAX, "a valid name fits its slot");

struct ledger *ledger_open(struct region *region, uint32_t slot)
{
	struct ledger *ledger = calloc(1, sizeof *ledger);

	if (ledger == NULL)
		return NULL;
	ledger->region = region;
	ledger->marks = region_marks(region);
	ledger->seed = region_geometry(region)->hash_seed;
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

static uint64_t hash_name(const struct ledger *ledger, const char *name, uint32_t length)
{
	return XXH3_64bits_withSeed(name, length, ledger->seed);
}

static enum outcome outcome_of(enum ring_status status)
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
	size_t length = record_plain(ledger->record.bytes, type, body, body_length, now_us);

	return outcome_of(
	    operation_commit(ledger->region, ledger->record.bytes, length, 0, RING_INTERNAL, &lsn));
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
	struct region_seal *after = operation_stage(ledger->region, cell, stripe, sizeof *cell);
	after->to = link->to;
	after->hash = link->hash;
	outcome = commit_plain(ledger, RECORD_SEAL, &body, sizeof body, now_us);
	operation_unlock(ledger->region);
	return outcome;
}

/* The after-image of an account that the event brings into being. */
static void create(struct account_slot *after, const struct event *event, uint64_t hash,
                   uint64_t now_us)
{
	*after = (struct account_slot){.hash = hash,
	                               .floor = INT64_MIN,
	                               .ceiling = INT64_MAX,
	                               .created_us = now_us,
	                               .name_length = (uint8_t)event->account_length};
	memcpy(after->name, event->account, event->account_length);
}

/* Adds the event to the staged AFTER and commits both with the record of it. */
static void change(struct ledger *ledger, const struct event *event, uint64_t now_us,
                   struct account_slot *after, uint64_t previous, struct result *result)
{
	struct record_leg leg;

	if (__builtin_add_overflow(after->balance, event->amount, &after->balance)) {
		result->outcome = OUTCOME_OVERFLOW;
		result->lsn = previous;
		return;
	}
	after->version++;
	after->updated_us = now_us;
	leg = (struct record_leg){.amount = event->amount,
	                          .balance = after->balance,
	                          .held = after->held,
	                          .version = after->version,
	                          .previous = previous};
	size_t length =
	    record_event(ledger->record.bytes, event->account, event->account_length, &leg, now_us);
	result->outcome = outcome_of(operation_commit(ledger->region, ledger->record.bytes, length,
	                                              1, RING_CLIENT, &result->lsn));
	result->balance = leg.balance;
	result->version = leg.version;
}

/* With the stripe locked. */
static void post_locked(struct ledger *ledger, uint32_t stripe, uint64_t hash,
                        const struct event *event, uint64_t now_us, struct result *result)
{
	struct account_slot *free_slot = NULL;
	struct account_slot *slot = table_find(ledger->region, stripe, hash, event->account,
	                                       event->account_length, &free_slot);
	struct account_slot *cell = slot != NULL ? slot : free_slot;

	if (cell == NULL) {
		result->outcome = OUTCOME_TABLE_FULL;
		return;
	}
	struct account_slot *after = operation_stage(ledger->region, cell, stripe,
	                                             slot != NULL ? SLOT_CHANGING : sizeof *cell);
	if (slot == NULL)
		create(after, event, hash, now_us);
	change(ledger, event, now_us, after, slot != NULL ? slot->lsn : 0, result);
}

void ledger_post(struct ledger *ledger, const struct event *event, uint64_t now_us,
                 struct result *result)
{
	uint64_t hash = hash_name(ledger, event->account, event->account_length);
	uint32_t stripe = table_stripe(ledger->region, hash);

	*result = (struct result){.outcome = OUTCOME_POISONED};
	if (!operation_lock(ledger->region, &stripe, 1))
		return;
	post_locked(ledger, stripe, hash, event, now_us, result);
	operation_unlock(ledger->region);
}

enum outcome ledger_read(struct ledger *ledger, const char *name, uint32_t length,
                         struct account_view *view)
{
	uint64_t hash = hash_name(ledger, name, length);
	uint32_t stripe = table_stripe(ledger->region, hash);

	if (!lock_acquire(ledger->region, stripe))
		return OUTCOME_POISONED;
	const struct account_slot *slot =
	    table_find(ledger->region, stripe, hash, name, length, NULL);
	if (slot != NULL)
		*view = (struct account_view){.balance = slot->balance,
		                              .held = slot->held,
		                              .version = slot->version,
		                              .lsn = slot->lsn,
		                              .created_us = slot->created_us,
		                              .updated_us = slot->updated_us};
	lock_release(ledger->region, stripe);
	return slot != NULL ? OUTCOME_ACCEPTED : OUTCOME_UNKNOWN_ACCOUNT;
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
