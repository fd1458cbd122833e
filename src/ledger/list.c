/* Reading accounts: one, or one after the other. */
#include <string.h>

#include "../../shm/lock.h"
#include "ledger_private.h"

#define LIST_STRIPES 64  /* that one call looks through */
#define LIST_BATCH   128 /* accounts that one call takes out of one stripe */

static void view(const struct account_slot *slot, struct account_view *view)
{
	view->balance = slot->balance;
	view->held = slot->held;
	view->attributes = (struct attributes){
	    .floor = slot->floor, .ceiling = slot->ceiling, .frozen = (enum frozen)slot->frozen};
	view->version = slot->version;
	view->lsn = slot->lsn;
	view->created_us = slot->created_us;
	view->updated_us = slot->updated_us;
}

enum outcome ledger_read(struct ledger *ledger, const char *name, uint32_t length,
                         struct account_view *account)
{
	uint64_t hash = ledger_hash(ledger, name, length);
	uint32_t stripe = table_stripe(ledger->region, hash);

	account->lsn = 0;
	if (!lock_acquire(ledger->region, stripe))
		return OUTCOME_POISONED;
	const struct account_slot *slot = table_find(ledger->region, stripe, hash, name, length);
	if (slot != NULL)
		view(slot, account);
	else
		account->lsn = ledger_newest(ledger);
	lock_release(ledger->region, stripe);
	return slot != NULL ? OUTCOME_ACCEPTED : OUTCOME_UNKNOWN_ACCOUNT;
}

/* ---- Listing: by hash, so stripe by stripe */

/* The accounts of a stripe that come next, in order. */
struct batch {
	size_t max;
	size_t count;
	bool more;         /* there were others behind them */
	uint64_t left_out; /* the least hash of those */
	struct {
		uint64_t hash;
		const struct account_slot *slot;
	} entry[LIST_BATCH];
};

static void leave_out(struct batch *batch, uint64_t hash)
{
	if (!batch->more || hash < batch->left_out)
		batch->left_out = hash;
	batch->more = true;
}

static void insert(struct batch *batch, const struct account_slot *slot)
{
	size_t at = batch->count;

	if (at < batch->max) {
		batch->count++;
	} else if (slot->hash < batch->entry[at - 1].hash) {
		leave_out(batch, batch->entry[--at].hash);
	} else {
		leave_out(batch, slot->hash);
		return;
	}
	for (; at > 0 && batch->entry[at - 1].hash > slot->hash; at--)
		batch->entry[at] = batch->entry[at - 1];
	batch->entry[at].hash = slot->hash;
	batch->entry[at].slot = slot;
}

/* How many go before the first that is left out: its hash's others are left for it. */
static size_t count_before(const struct batch *batch)
{
	size_t count = batch->count;

	while (batch->more && count > 0 && batch->entry[count - 1].hash == batch->left_out)
		count--;
	return count;
}

/* Where a listing stands. */
struct listing {
	struct words prefix;
	uint64_t from; /* the least hash that comes next */
	bool done;
	bool given; /* something, to this page */
};

static bool wanted(const struct ledger *ledger, uint32_t stripe, const struct account_slot *slot,
                   const struct listing *listing)
{
	const struct words *prefix = &listing->prefix;
	char name[TABLE_NAME_MAX];

	if (!table_is_account(slot) || slot->name_length < prefix->length ||
	    slot->hash < listing->from)
		return false;
	if (prefix->length <= TABLE_NAME_INLINE)
		return prefix->length == 0 ||
		       memcmp(slot->name, prefix->bytes, prefix->length) == 0;
	table_name(ledger->region, stripe, slot, name);
	return memcmp(name, prefix->bytes, prefix->length) == 0;
}

/* The last hash that belongs to STRIPE: hashes ascend with their stripes. */
static uint64_t last_hash(const struct ledger *ledger, uint32_t stripe)
{
	uint64_t low = 0;
	uint64_t high = UINT64_MAX;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2 + 1;
		if (table_stripe(ledger->region, middle) <= stripe)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* It goes on behind HASH, if there is anything. */
static void go_behind(struct listing *listing, uint64_t hash)
{
	listing->done = hash == UINT64_MAX;
	listing->from = hash + 1;
}

/*
 * Moves on behind what BATCH gives; how many that are.  A page does not end between accounts of one
 * hash, which could not be told apart by the cursor, unless they alone are too many for it.
 */
static size_t move_on(const struct ledger *ledger, struct listing *listing,
                      const struct batch *batch, uint32_t stripe)
{
	size_t count = count_before(batch);

	if (!batch->more) {
		go_behind(listing, last_hash(ledger, stripe));
	} else if (count > 0 || listing->given) {
		listing->from = batch->left_out;
	} else {
		count = batch->count;
		go_behind(listing, batch->left_out);
	}
	return count;
}

/*
 * With STRIPE locked.  What is not there counts as well: an answer that shows that an account is
 * gone depends on its deletion.
 */
static size_t list_stripe(struct ledger *ledger, uint32_t stripe, struct listing *listing,
                          struct account_view *views, size_t max, uint64_t *lsn)
{
	uint32_t slots = table_stripe_slots(ledger->region);
	struct batch batch = {.max = max < LIST_BATCH ? max : LIST_BATCH};

	for (uint32_t i = 0; i < slots; i++) {
		const struct account_slot *slot = table_slot(ledger->region, stripe, i);
		if (slot->lsn > *lsn)
			*lsn = slot->lsn;
		if (wanted(ledger, stripe, slot, listing))
			insert(&batch, slot);
	}
	size_t count = move_on(ledger, listing, &batch, stripe);
	for (size_t i = 0; i < count; i++) {
		const struct account_slot *slot = batch.entry[i].slot;
		view(slot, &views[i]);
		views[i].name_length = table_name(ledger->region, stripe, slot, views[i].name);
	}
	return count;
}

static enum outcome list_some(struct ledger *ledger, struct listing *listing,
                              struct account_view *views, size_t max, size_t *count, uint64_t *lsn)
{
	uint64_t before;

	*count = 0;
	for (unsigned left = LIST_STRIPES; left > 0 && *count < max && !listing->done; left--) {
		uint32_t stripe = table_stripe(ledger->region, listing->from);
		before = listing->from;
		if (!lock_acquire(ledger->region, stripe))
			return OUTCOME_POISONED;
		*count += list_stripe(ledger, stripe, listing, views + *count, max - *count, lsn);
		lock_release(ledger->region, stripe);
		listing->given |= *count > 0;
		if (listing->from == before)
			break;
	}
	return OUTCOME_ACCEPTED;
}

enum outcome ledger_list(struct ledger *ledger, struct words prefix, struct list_cursor *cursor,
                         struct account_view *views, size_t max, size_t *count, uint64_t *lsn)
{
	struct listing listing = {.prefix = prefix, .done = cursor->done, .given = cursor->given};

	if (cursor->begun)
		listing.from = cursor_open(&ledger->account_cursors, cursor->sealed);
	enum outcome outcome = list_some(ledger, &listing, views, max, count, lsn);
	cursor->begun = true;
	cursor->sealed = cursor_seal(&ledger->account_cursors, listing.from);
	cursor->done = listing.done;
	cursor->given = listing.given;
	return outcome;
}
