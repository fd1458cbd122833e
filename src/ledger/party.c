#include <string.h>
#include <xxhash.h>

#include "ledger_private.h"

/* An account's name stays as it is: an image of what is before it will do. */
#define SLOT_CHANGING ((offsetof(struct account_slot, name) + 7) & ~(size_t)7)

uint64_t ledger_hash(const struct ledger *ledger, const char *name, uint32_t length)
{
	return XXH3_64bits_withSeed(name, length, ledger->seed);
}

/* An account that takes part already, in the work of an earlier member of the group. */
static struct party *known(struct ledger *ledger, uint64_t hash, const struct words *name)
{
	for (unsigned i = 0; i < ledger->parties; i++) {
		struct party *party = &ledger->party[i];
		if (party->hash == hash && party->name.length == name->length &&
		    memcmp(party->name.bytes, name->bytes, name->length) == 0)
			return party;
	}
	return NULL;
}

void party_enlist(struct ledger *ledger, struct work *work, struct words name, int64_t amount)
{
	uint64_t hash = ledger_hash(ledger, name.bytes, name.length);
	struct party *party = known(ledger, hash, &name);

	if (party == NULL) {
		party = &ledger->party[ledger->parties++];
		party->name = name;
		party->hash = hash;
		party->stripe = table_stripe(ledger->region, hash);
		party->looked = false;
		table_prefetch(ledger->region, hash);
		ledger->lock[ledger->locks++] = party->stripe;
	}
	work->party[work->parties] = party;
	work->amount[work->parties] = amount;
	work->parties++;
}

void party_look(struct ledger *ledger, struct party *party)
{
	if (party->looked)
		return;
	party->looked = true;
	party->cell = table_find(ledger->region, party->stripe, party->hash, party->name.bytes,
	                         party->name.length);
	party->exists = party->cell != NULL;
	party->now = party->exists ? party->cell : &ledger->newborn;
	party->newest = party->exists ? party->cell->lsn : 0;
}

void party_show(struct work *work)
{
	struct result *result = work->result;

	result->legs = (uint8_t)work->parties;
	for (unsigned i = 0; i < work->parties; i++) {
		const struct account_slot *now = work->party[i]->now;
		result->leg[i] = (struct leg_result){.amount = work->amount[i],
		                                     .balance = now->balance,
		                                     .held = now->held,
		                                     .version = now->version};
	}
}

uint64_t party_relied(const struct ledger *ledger, const struct work *work)
{
	uint64_t newest = 0;

	for (unsigned i = 0; i < work->parties; i++) {
		const struct party *party = work->party[i];
		uint64_t lsn = party->exists ? party->newest : ledger_newest(ledger);
		if (lsn > newest)
			newest = lsn;
	}
	return newest;
}

/* A free slot for the rest of a long name, other than FIRST. */
static struct account_slot *rest_vacancy(const struct ledger *ledger, uint32_t stripe,
                                         const struct account_slot *first)
{
	uint32_t slots = table_stripe_slots(ledger->region);
	uint32_t at = table_index(ledger->region, stripe, first);

	for (uint32_t left = slots - 1; left > 0; left--) {
		at = at + 1 == slots ? 0 : at + 1;
		struct account_slot *slot = table_slot(ledger->region, stripe, at);
		if (table_is_free(slot) && operation_staged(ledger->region, slot, NULL) == NULL)
			return slot;
	}
	return NULL;
}

static void stage_rest(struct ledger *ledger, const struct party *party, struct account_slot *rest,
                       struct account_slot *after)
{
	struct account_slot *image = operation_stage(ledger->region, rest, party->stripe,
	                                             sizeof *rest, (uint32_t)ledger->length);

	image->name_length = TABLE_REST;
	memcpy(image->name, party->name.bytes + TABLE_NAME_INLINE,
	       party->name.length - TABLE_NAME_INLINE);
	after->rest = (uint16_t)(1 + table_index(ledger->region, party->stripe, rest));
	operation_count(ledger->region, USE_ACCOUNT_SLOTS, 1);
}

static struct account_slot *create(struct ledger *ledger, struct party *party)
{
	bool is_long = party->name.length > TABLE_NAME_INLINE;
	struct account_slot *cell = table_vacancy(ledger->region, party->stripe, party->hash);
	struct account_slot *rest = NULL;

	/* Both are found before one is staged: what was staged would be committed. */
	if (cell == NULL || (is_long && (rest = rest_vacancy(ledger, party->stripe, cell)) == NULL))
		return NULL;
	struct account_slot *after = operation_stage(ledger->region, cell, party->stripe,
	                                             sizeof *cell, (uint32_t)ledger->length);
	*after = ledger->newborn;
	after->hash = party->hash;
	after->created_us = ledger->now_us;
	after->name_length = (uint8_t)party->name.length;
	memcpy(after->name, party->name.bytes, is_long ? TABLE_NAME_INLINE : party->name.length);
	if (is_long)
		stage_rest(ledger, party, rest, after);
	operation_count(ledger->region, USE_ACCOUNTS, 1);
	operation_count(ledger->region, USE_ACCOUNT_SLOTS, 1);
	party->cell = cell;
	party->exists = true;
	return after;
}

struct account_slot *party_stage(struct ledger *ledger, struct party *party)
{
	if (!party->exists)
		return create(ledger, party);
	return operation_stage(ledger->region, party->cell, party->stripe, SLOT_CHANGING,
	                       (uint32_t)ledger->length);
}

void party_change(struct ledger *ledger, struct party *party, struct account_slot *after,
                  int64_t amount, int64_t held, struct record_leg *leg)
{
	after->balance += amount;
	after->held += held;
	after->version++;
	after->updated_us = ledger->now_us;
	leg->amount = amount;
	leg->balance = after->balance;
	leg->held = after->held;
	leg->version = after->version;
	leg->previous = party->newest;
	party->now = after;
	party->newest = RECORD_RELATIVE | ledger->length;
}

void party_free(struct ledger *ledger, struct party *party, struct account_slot *after)
{
	if (after->rest != 0) {
		struct account_slot *rest =
		    table_slot(ledger->region, party->stripe, after->rest - 1u);
		struct account_slot *image = operation_stage(
		    ledger->region, rest, party->stripe, SLOT_CHANGING, (uint32_t)ledger->length);
		image->name_length = TABLE_FREED;
		operation_count(ledger->region, USE_ACCOUNT_SLOTS, -1);
	}
	operation_count(ledger->region, USE_ACCOUNTS, -1);
	operation_count(ledger->region, USE_ACCOUNT_SLOTS, -1);
	after->rest = 0;
	after->name_length = TABLE_FREED;
}
