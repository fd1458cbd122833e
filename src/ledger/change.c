#include "change.h"

static void tell_hold(const struct record_head *record, struct change *change)
{
	change->hold = record_hold_id(record);
	if (record->type == RECORD_HOLD) {
		const struct record_hold *hold = record_body(record);
		change->reserved = hold->amount;
		change->expires_us = hold->expires_us;
	} else {
		const struct record_settled *settled = record_body(record);
		change->reserved = settled->amount;
	}
}

static void tell_attributes(const struct record_head *record, struct change *change)
{
	const struct record_attributes *body = record_body(record);

	change->attributes = (struct attributes){
	    .floor = body->floor, .ceiling = body->ceiling, .frozen = (enum frozen)body->frozen};
}

void change_tell(const struct record_head *record, struct change *change)
{
	const struct record_leg *leg = NULL;

	change->lsn = record->lsn;
	change->time_us = record->time_us;
	change->kind = record_kind(record);
	change->expired = record->type == RECORD_EXPIRE;
	change->id =
	    (record->flags & RECORD_REMEMBERED) != 0 ? record_id(record) : (struct words){0};
	change->note = record_note(record);
	change->hold = (struct words){0};
	if (record->type >= RECORD_HOLD)
		tell_hold(record, change);
	if (record->type == RECORD_CREATE || record->type == RECORD_REPLACE)
		tell_attributes(record, change);
	change->legs = 0;
	while ((leg = record_next_leg(record, leg)) != NULL)
		change->leg[change->legs++] =
		    (struct change_leg){.account = {leg->name, leg->name_length},
		                        .amount = leg->amount,
		                        .balance = leg->balance,
		                        .held = leg->held,
		                        .version = leg->version};
}
