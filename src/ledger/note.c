#include "ledger_private.h"

enum record_type note_type(const struct request *request)
{
	switch (request->kind) {
	case REQUEST_EVENT:
		return RECORD_EVENT;
	case REQUEST_TRANSFER:
		return RECORD_TRANSFER;
	case REQUEST_TRANSACTION:
		return RECORD_TRANSACTION;
	case REQUEST_CREATE:
		return RECORD_CREATE;
	case REQUEST_REPLACE:
		return RECORD_REPLACE;
	case REQUEST_DELETE:
		return RECORD_DELETE;
	case REQUEST_HOLD:
		return RECORD_HOLD;
	case REQUEST_CAPTURE:
		return RECORD_CAPTURE;
	case REQUEST_RELEASE:
		break;
	}
	return RECORD_RELEASE;
}

void note_begin(struct ledger *ledger, const struct work *work, struct record_writer *writer,
                enum record_type type, enum outcome outcome, uint16_t flags)
{
	if (work->request->id.length != 0)
		flags |= RECORD_REMEMBERED;
	record_begin(writer, ledger->records.bytes + ledger->length, type, outcome, flags,
	             ledger->now_us);
}

void note_end(struct ledger *ledger, struct work *work, struct record_writer *writer)
{
	const struct request *request = work->request;
	const struct words *id = &request->id;
	uint64_t fingerprint = 0;

	if (id->length != 0) {
		fingerprint = remember_fingerprint(ledger, request);
		remember(ledger, work, (uint32_t)ledger->length);
	} else if (request->kind == REQUEST_HOLD) {
		id = &request->hold;
	}
	work->result->lsn = RECORD_RELATIVE | ledger->length;
	ledger->length += record_end(writer, fingerprint, id, &request->note);
	ledger->events++;
}

void note_repeat(struct ledger *ledger, struct work *work, const struct record_head *record)
{
	const struct record_settled *body = record_body(record);
	const struct words hold = {.bytes = body->hold, .length = body->hold_length};
	const struct record_leg *leg = NULL;
	struct record_writer writer;

	note_begin(ledger, work, &writer, (enum record_type)record->type, OUTCOME_ACCEPTED,
	           RECORD_UNCHANGED);
	while ((leg = record_next_leg(record, leg)) != NULL) {
		const struct words name = {.bytes = leg->name, .length = leg->name_length};
		const struct record_leg again = {.amount = leg->amount,
		                                 .balance = leg->balance,
		                                 .held = leg->held,
		                                 .version = leg->version,
		                                 .previous = record->lsn};
		record_add_leg(&writer, &name, &again, NULL);
	}
	record_add_settled(&writer, body, &hold);
	work->result->time_us = ledger->now_us;
	note_end(ledger, work, &writer);
}

void note_refusal(struct ledger *ledger, struct work *work)
{
	const struct result *result = work->result;
	bool settled = result->outcome == OUTCOME_HOLD_SETTLED;
	struct record_refusal body = {
	    .available = settled ? (int64_t)result->hold_settled_lsn : result->available,
	    .required = settled ? result->hold_amount : result->required,
	    .limit = settled ? result->hold_captured : result->limit,
	    .when_us = settled ? result->hold_expires_us : 0,
	    .leg = result->refused,
	    .state = settled ? (uint32_t)result->hold_state : 0,
	};
	struct record_writer writer;

	if (work->request->id.length == 0)
		return;
	note_begin(ledger, work, &writer, note_type(work->request), result->outcome, 0);
	for (unsigned i = 0; i < work->parties; i++) {
		const struct leg_result *leg = &result->leg[i];
		const struct record_leg as_it_stood = {.amount = leg->amount,
		                                       .balance = leg->balance,
		                                       .held = leg->held,
		                                       .version = leg->version,
		                                       .previous = work->party[i]->newest};
		record_add_leg(&writer, &work->party[i]->name, &as_it_stood, NULL);
	}
	record_add_body(&writer, &body, sizeof body);
	note_end(ledger, work, &writer);
}
