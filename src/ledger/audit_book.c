#include "audit_book.h"

#include <string.h>

const char audit_no_memory[] = "out of memory";

struct account {
	struct key key;
	int64_t balance;
	int64_t held;
	int64_t unexplained; /* of held: by holds that were placed before the first record kept */
	uint64_t version;
	uint64_t lsn;
	int64_t floor;
	int64_t ceiling;
	uint32_t frozen;
	bool known; /* the three above */
};

struct hold {
	struct key key;
	struct key account;
	int64_t amount;
	uint64_t expires_us;
};

struct id {
	struct key key;
	uint64_t time_us;
	uint64_t number; /* counts ids */
};

_Static_assert(sizeof(struct account) % 8 == 0 && sizeof(struct hold) % 8 == 0 &&
                   sizeof(struct id) % 8 == 0,
               "entries keep the map's alignment");

void audit_book_open(struct audit_book *book, uint64_t journal_key, uint64_t first)
{
	*book = (struct audit_book){.journal_key = journal_key,
	                            .first = first,
	                            .accounts = {.size = sizeof(struct account)},
	                            .holds = {.size = sizeof(struct hold)},
	                            .young = {.size = sizeof(struct id)},
	                            .old = {.size = sizeof(struct id)}};
}

void audit_book_close(struct audit_book *book)
{
	map_free(&book->accounts);
	map_free(&book->holds);
	map_free(&book->young);
	map_free(&book->old);
}

static struct key key_of(const struct audit_book *book, const char *text, size_t length)
{
	return record_key(book->journal_key, text, length);
}

/* ---- ids */

static struct id *find_id(const struct audit_book *book, const struct key *key)
{
	struct id *id = map_find(&book->young, key);

	return id != NULL ? id : map_find(&book->old, key);
}

static struct id *new_id(struct audit_book *book, const struct key *key)
{
	struct id *id = map_find(&book->young, key);

	if (id != NULL)
		return id;
	if (book->young.count >= book->max_ids) {
		map_free(&book->old);
		book->old = book->young;
		book->young = (struct map){.size = sizeof(struct id)};
	}
	return map_add(&book->young, key);
}

static const char *enter_id(struct audit_book *book, const struct record_head *record)
{
	struct words text = record_id(record);

	if ((record->flags & RECORD_REMEMBERED) == 0)
		return NULL;
	struct key key = key_of(book, text.bytes, text.length);
	const struct id *known = find_id(book, &key);
	book->ids++;
	if (known != NULL) {
		uint64_t age =
		    record->time_us > known->time_us ? record->time_us - known->time_us : 0;
		/* The table's buckets fill unevenly: of half as many it forgets none. */
		if (age < book->window_us && book->ids - known->number <= book->max_ids / 2)
			return "its id stands for an earlier record";
	}
	struct id *id = new_id(book, &key);
	if (id == NULL)
		return audit_no_memory;
	id->time_us = record->time_us;
	id->number = book->ids;
	return NULL;
}

/* ---- accounts */

/* By how much what is held of the account in leg INDEX changes. */
static int64_t held_change(const struct record_head *record, unsigned index)
{
	const void *body = record_body(record);

	if (index != 0 || record->type < RECORD_HOLD)
		return 0;
	if (record->type == RECORD_HOLD)
		return ((const struct record_hold *)body)->amount;
	return -((const struct record_settled *)body)->amount;
}

static bool free_to(const struct account *account, __int128 balance, __int128 held)
{
	return balance - held >= account->floor;
}

static const char *check_debit(const struct account *account, __int128 balance, __int128 held)
{
	if (account->frozen != FROZEN_NONE)
		return "its account is frozen";
	return free_to(account, balance, held) ? NULL : "the balance falls below its floor";
}

static const char *check_credit(const struct account *account, __int128 balance)
{
	if (account->frozen == FROZEN_ALL)
		return "its account is frozen";
	return balance <= account->ceiling ? NULL : "the balance rises above its ceiling";
}

static const char *check_capture(const struct account *account, const struct record_leg *leg,
                                 const struct record_settled *body)
{
	if (account->frozen == FROZEN_ALL)
		return "its account is frozen";
	if (body->captured <= body->amount)
		return NULL;
	return check_debit(account, leg->balance, leg->held);
}

/* Did the account's attributes allow it? */
static const char *check_rules(const struct account *account, const struct record_head *record,
                               const struct record_leg *leg, unsigned index)
{
	if (!account->known)
		return NULL;
	switch (record->type) {
	case RECORD_HOLD:
		return check_debit(account, leg->balance, leg->held);
	case RECORD_CAPTURE:
		if (index == 0)
			return check_capture(account, leg, record_body(record));
		break;
	case RECORD_EVENT:
	case RECORD_TRANSFER:
	case RECORD_TRANSACTION:
	case RECORD_DELETE:
		break;
	default:
		return NULL;
	}
	if (leg->amount < 0)
		return check_debit(account, leg->balance, leg->held);
	return leg->amount > 0 ? check_credit(account, leg->balance) : NULL;
}

static const char *check_sums(const struct account *account, const struct record_leg *leg,
                              int64_t change)
{
	if (leg->version != account->version + 1)
		return "the account's version does not follow";
	if ((__int128)account->balance + leg->amount != leg->balance)
		return "the balance does not follow from the amount";
	if ((__int128)account->held + change != leg->held)
		return "what is held does not follow from the hold";
	return NULL;
}

/* An account that the record makes. */
static void bear(struct account *account, const struct record_head *record,
                 const struct record_leg *leg)
{
	const struct record_birth *birth = record_leg_birth(record, leg);

	account->floor = birth != NULL ? birth->floor : FLOOR_NONE;
	account->ceiling = birth != NULL ? birth->ceiling : CEILING_NONE;
	account->known = true;
}

/* One of which earlier records are gone: it is taken as it must have been. */
static const char *presume(struct account *account, const struct record_leg *leg, int64_t change)
{
	__int128 balance = (__int128)leg->balance - leg->amount;
	__int128 held = (__int128)leg->held - change;

	if (balance < INT64_MIN || balance > INT64_MAX)
		return "the balance does not follow from the amount";
	if (held < 0 || held > INT64_MAX)
		return "what is held does not follow from the hold";
	account->balance = (int64_t)balance;
	account->held = account->unexplained = (int64_t)held;
	account->version = leg->version - 1;
	account->lsn = leg->previous;
	return NULL;
}

static const char *meet(struct audit_book *book, const struct record_head *record,
                        const struct record_leg *leg, const struct key *key, int64_t change)
{
	if (leg->previous != 0 && leg->previous >= book->first)
		return "the account's record before it is missing";
	struct account *account = map_add(&book->accounts, key);
	if (account == NULL)
		return audit_no_memory;
	if (leg->previous != 0)
		return presume(account, leg, change);
	bear(account, record, leg);
	return NULL;
}

static void take_attributes(struct account *account, const struct record_head *record)
{
	const struct record_attributes *body = record_body(record);

	if (record->type != RECORD_CREATE && record->type != RECORD_REPLACE)
		return;
	account->floor = body->floor;
	account->ceiling = body->ceiling;
	account->frozen = body->frozen;
	account->known = true;
}

static const char *enter_leg(struct audit_book *book, const struct record_head *record,
                             const struct record_leg *leg, unsigned index)
{
	struct key key = key_of(book, leg->name, leg->name_length);
	struct account *account = map_find(&book->accounts, &key);
	int64_t change = held_change(record, index);
	const char *why = NULL;

	if (account == NULL)
		why = meet(book, record, leg, &key, change);
	else if (leg->previous == 0)
		why = "it makes an account that is there already";
	else if (leg->previous != account->lsn)
		why = "it does not continue the account's chain of records";
	account = map_find(&book->accounts, &key);
	if (why == NULL)
		why = check_sums(account, leg, change);
	if (why == NULL)
		why = check_rules(account, record, leg, index);
	if (why != NULL)
		return why;
	account->balance = leg->balance;
	account->held = leg->held;
	account->version = leg->version;
	account->lsn = record->lsn;
	take_attributes(account, record);
	if (record->type == RECORD_DELETE)
		map_remove(&book->accounts, &key);
	return NULL;
}

/* A leg that only tells how its account stood. */
static const char *compare_leg(const struct audit_book *book, const struct record_leg *leg)
{
	struct key key = key_of(book, leg->name, leg->name_length);
	const struct account *account = map_find(&book->accounts, &key);

	if (leg->version == 0)
		return account == NULL ? NULL : "it knows no account where there is one";
	if (account == NULL)
		return leg->previous < book->first ? NULL : "it knows an account that there is not";
	return account->balance == leg->balance && account->held == leg->held &&
	               account->version == leg->version && account->lsn == leg->previous
	           ? NULL
	           : "it tells the account otherwise than it stood";
}

/* ---- holds */

static const char *enter_placed(struct audit_book *book, const struct record_head *record)
{
	const struct record_hold *body = record_body(record);
	const struct record_leg *leg = record_next_leg(record, NULL);
	struct words id = record_id(record);
	struct key key = key_of(book, id.bytes, id.length);

	if (map_find(&book->holds, &key) != NULL)
		return "it places a hold that is open already";
	struct hold *hold = map_add(&book->holds, &key);
	if (hold == NULL)
		return audit_no_memory;
	hold->account = key_of(book, leg->name, leg->name_length);
	hold->amount = body->amount;
	hold->expires_us = body->expires_us;
	return NULL;
}

/* A hold from before the first record that is kept: only its account's held speaks for it. */
static const char *settle_unknown(struct audit_book *book, const struct key *owner, int64_t amount)
{
	struct account *account = map_find(&book->accounts, owner);

	if (account == NULL || account->unexplained < amount)
		return "it settles a hold that is not open";
	account->unexplained -= amount;
	return NULL;
}

static const char *enter_settled(struct audit_book *book, const struct record_head *record)
{
	const struct record_settled *body = record_body(record);
	const struct record_leg *leg = record_next_leg(record, NULL);
	struct key key = key_of(book, body->hold, body->hold_length);
	struct key owner = key_of(book, leg->name, leg->name_length);
	const struct hold *hold = map_find(&book->holds, &key);

	if (hold == NULL)
		return settle_unknown(book, &owner, body->amount);
	if (hold->amount != body->amount || hold->expires_us != body->expires_us ||
	    hold->account.low != owner.low || hold->account.high != owner.high)
		return "it settles a hold otherwise than it was placed";
	if (record->type == RECORD_EXPIRE && record->time_us < body->expires_us)
		return "its hold expires before its time";
	map_remove(&book->holds, &key);
	return NULL;
}

static const char *enter_hold(struct audit_book *book, const struct record_head *record)
{
	if (record->type < RECORD_HOLD)
		return NULL;
	return record->type == RECORD_HOLD ? enter_placed(book, record)
	                                   : enter_settled(book, record);
}

const char *audit_enter(struct audit_book *book, const struct record_head *record)
{
	bool effect = record_has_effect(record);
	const struct record_leg *leg = NULL;
	const char *why = enter_id(book, record);

	/* A settlement told again shows its accounts as they were then. */
	if (!effect && record->outcome == OUTCOME_ACCEPTED && record->type >= RECORD_CAPTURE)
		return why;
	for (unsigned i = 0; why == NULL && (leg = record_next_leg(record, leg)) != NULL; i++)
		why = effect ? enter_leg(book, record, leg, i) : compare_leg(book, leg);
	return why == NULL && effect ? enter_hold(book, record) : why;
}
