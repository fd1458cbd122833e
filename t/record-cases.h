/*
 * One record of every type, accepted and refused, with and without what may be left out.
 */
#ifndef TALLYD_T_RECORD_CASES_H
#define TALLYD_T_RECORD_CASES_H

#include <stdlib.h>
#include <string.h>

#include "../src/ledger/record.h"

#define CASE_TIME     UINT64_C(1700000000123456)
#define CASE_PREVIOUS UINT64_C(4096)
#define CASE_PRINT    UINT64_C(0xfedcba9876543210)

struct record_case {
	const char *what;
	enum record_type type;
	enum outcome outcome;
	uint16_t flags;
	uint8_t legs;
	bool birth; /* the last leg makes its account */
	bool note;
	enum hold_state state; /* of HOLD_SETTLED */
};

static const struct record_case record_cases[] = {
    {"an event", RECORD_EVENT, OUTCOME_ACCEPTED, 0, 1, false, false, 0},
    {"an event that makes its account", RECORD_EVENT, OUTCOME_ACCEPTED, 0, 1, true, false, 0},
    {"an event with id and note", RECORD_EVENT, OUTCOME_ACCEPTED, RECORD_REMEMBERED, 1, false, true,
     0},
    {"an event with all", RECORD_EVENT, OUTCOME_ACCEPTED, RECORD_REMEMBERED, 1, true, true, 0},
    {"an event that only asked", RECORD_EVENT, OUTCOME_ACCEPTED,
     RECORD_REMEMBERED | RECORD_UNCHANGED, 1, false, false, 0},
    {"a transfer", RECORD_TRANSFER, OUTCOME_ACCEPTED, 0, 2, false, false, 0},
    {"a transfer to a new account", RECORD_TRANSFER, OUTCOME_ACCEPTED, RECORD_REMEMBERED, 2, true,
     true, 0},
    {"a transaction of one leg", RECORD_TRANSACTION, OUTCOME_ACCEPTED, 0, 1, false, false, 0},
    {"a transaction of as many as there may be", RECORD_TRANSACTION, OUTCOME_ACCEPTED,
     RECORD_REMEMBERED, LEGS_MAX, true, true, 0},
    {"a transaction that only asked", RECORD_TRANSACTION, OUTCOME_ACCEPTED,
     RECORD_REMEMBERED | RECORD_UNCHANGED, 3, false, false, 0},
    {"a creation", RECORD_CREATE, OUTCOME_ACCEPTED, RECORD_CREATED, 1, true, false, 0},
    {"a replacement", RECORD_REPLACE, OUTCOME_ACCEPTED, RECORD_REMEMBERED, 1, false, true, 0},
    {"a replacement that creates", RECORD_REPLACE, OUTCOME_ACCEPTED, RECORD_CREATED, 1, true, false,
     0},
    {"a deletion", RECORD_DELETE, OUTCOME_ACCEPTED, 0, 1, false, true, 0},
    {"a hold with an id that was made", RECORD_HOLD, OUTCOME_ACCEPTED, RECORD_CREATED, 1, false,
     false, 0},
    {"a hold with the client's id", RECORD_HOLD, OUTCOME_ACCEPTED,
     RECORD_CREATED | RECORD_REMEMBERED, 1, false, true, 0},
    {"a capture", RECORD_CAPTURE, OUTCOME_ACCEPTED, 0, 1, false, false, 0},
    {"a capture for another", RECORD_CAPTURE, OUTCOME_ACCEPTED, RECORD_REMEMBERED, 2, false, true,
     0},
    {"a capture for a new one", RECORD_CAPTURE, OUTCOME_ACCEPTED, 0, 2, true, false, 0},
    {"a release", RECORD_RELEASE, OUTCOME_ACCEPTED, RECORD_REMEMBERED, 1, false, false, 0},
    {"an expiry", RECORD_EXPIRE, OUTCOME_ACCEPTED, 0, 1, false, false, 0},
    {"an event refused", RECORD_EVENT, OUTCOME_INSUFFICIENT_FUNDS, RECORD_REMEMBERED, 1, false,
     true, 0},
    {"an event on nobody refused", RECORD_EVENT, OUTCOME_UNKNOWN_ACCOUNT, RECORD_REMEMBERED, 1,
     true, false, 0},
    {"a transaction refused", RECORD_TRANSACTION, OUTCOME_CEILING_EXCEEDED, RECORD_REMEMBERED,
     LEGS_MAX, false, true, 0},
    {"a transfer refused", RECORD_TRANSFER, OUTCOME_ACCOUNT_FROZEN, RECORD_REMEMBERED, 2, true,
     false, 0},
    {"a creation refused", RECORD_CREATE, OUTCOME_ACCOUNT_EXISTS, RECORD_REMEMBERED, 1, false,
     false, 0},
    {"a deletion refused", RECORD_DELETE, OUTCOME_ACCOUNT_IN_USE, RECORD_REMEMBERED, 1, false,
     false, 0},
    {"a replacement refused", RECORD_REPLACE, OUTCOME_VERSION_MISMATCH, RECORD_REMEMBERED, 1, false,
     false, 0},
    {"a hold refused", RECORD_HOLD, OUTCOME_INSUFFICIENT_FUNDS, RECORD_REMEMBERED, 1, false, false,
     0},
    {"a capture of no hold", RECORD_CAPTURE, OUTCOME_UNKNOWN_HOLD, RECORD_REMEMBERED, 0, false,
     false, 0},
    {"a capture of a settled hold", RECORD_CAPTURE, OUTCOME_HOLD_SETTLED, RECORD_REMEMBERED, 2,
     false, true, HOLD_EXPIRED},
    {"a release of a settled hold", RECORD_RELEASE, OUTCOME_HOLD_SETTLED, RECORD_REMEMBERED, 1,
     false, false, HOLD_CAPTURED},
};
#define RECORD_CASES (sizeof record_cases / sizeof *record_cases)

static inline int64_t case_amount(const struct record_case *it, unsigned leg)
{
	if (it->outcome != OUTCOME_ACCEPTED)
		return 7;
	if ((it->flags & RECORD_UNCHANGED) != 0)
		return 0;
	switch (it->type) {
	case RECORD_TRANSFER:
	case RECORD_CAPTURE:
		return leg == 0 ? -30 : 30;
	case RECORD_EVENT:
		return -5;
	case RECORD_TRANSACTION:
		return (int64_t)leg - 3;
	default:
		return 0;
	}
}

static inline void case_leg(const struct record_case *it, unsigned index, struct record_leg *leg)
{
	bool accepted = it->outcome == OUTCOME_ACCEPTED;

	*leg = (struct record_leg){.amount = case_amount(it, index),
	                           .balance = 95,
	                           .held = 40,
	                           .version = 8,
	                           .previous = CASE_PREVIOUS + 8 * index};
	if (it->birth && index + 1u == it->legs) {
		leg->held = 0;
		leg->balance = accepted ? leg->amount : 0;
		leg->version = accepted ? 1 : 0;
		leg->previous = 0;
	}
	if (accepted && it->type == RECORD_DELETE)
		leg->balance = leg->held = 0;
}

static inline void case_body(const struct record_case *it, struct record_writer *writer)
{
	const struct record_attributes attributes = {
	    .floor = -100, .ceiling = CEILING_NONE, .frozen = FROZEN_DEBITS};
	const struct record_hold hold = {.amount = 40, .expires_us = CASE_TIME + 1000000};
	const struct record_settled settled = {.amount = 25,
	                                       .captured = it->type == RECORD_CAPTURE ? 30 : 0,
	                                       .expires_us = CASE_TIME + 7};
	const struct words id = {.bytes = "hold-1", .length = 6};
	struct record_refusal refusal = {
	    .available = 3, .required = 5, .limit = 9, .leg = it->legs > 1 ? it->legs - 1u : 0};

	if (it->outcome == OUTCOME_HOLD_SETTLED) {
		refusal.state = (uint32_t)it->state;
		refusal.when_us = CASE_TIME + 7;
	}
	if (it->outcome != OUTCOME_ACCEPTED)
		record_add_body(writer, &refusal, sizeof refusal);
	else if (it->type == RECORD_CREATE || it->type == RECORD_REPLACE)
		record_add_body(writer, &attributes, sizeof attributes);
	else if (it->type == RECORD_HOLD)
		record_add_body(writer, &hold, sizeof hold);
	else if (it->type >= RECORD_CAPTURE)
		record_add_settled(writer, &settled, &id);
}

/* The names of legs begin with different letters and have NAME_LENGTH bytes, or one more each. */
static inline void case_legs(const struct record_case *it, struct record_writer *writer,
                             uint32_t name_length)
{
	const struct record_birth birth = {.floor = -1, .ceiling = 1000};
	bool bears = it->birth && it->outcome == OUTCOME_ACCEPTED && it->type != RECORD_CREATE &&
	             it->type != RECORD_REPLACE;
	char name[ACCOUNT_NAME_MAX];

	for (unsigned i = 0; i < it->legs; i++) {
		struct record_leg leg;
		case_leg(it, i, &leg);
		memset(name, 'a' + (int)i, sizeof name);
		struct words words = {.bytes = name, .length = name_length + i};
		if (words.length > ACCOUNT_NAME_MAX)
			words.length = ACCOUNT_NAME_MAX;
		record_add_leg(writer, &words, &leg, bears && i + 1u == it->legs ? &birth : NULL);
	}
}

/* Writes the record IT into BUFFER (JOURNAL_RECORD_MAX bytes), unstamped.  Returns its length. */
static inline size_t case_make(const struct record_case *it, void *buffer, uint32_t name_length,
                               uint32_t id_length, uint32_t note_length)
{
	bool has_id = (it->flags & RECORD_REMEMBERED) != 0 ||
	              (it->type == RECORD_HOLD && it->outcome == OUTCOME_ACCEPTED);
	struct words id = {.bytes = buffer, .length = has_id ? id_length : 0};
	struct words note = {.bytes = buffer, .length = it->note ? note_length : 0};
	char ids[ID_MAX];
	char notes[NOTE_MAX];
	struct record_writer writer;

	memset(ids, 'i', sizeof ids);
	memset(notes, 'n', sizeof notes);
	id.bytes = ids;
	note.bytes = notes;
	record_begin(&writer, buffer, it->type, it->outcome, it->flags, CASE_TIME);
	case_legs(it, &writer, name_length);
	case_body(it, &writer);
	return record_end(&writer, CASE_PRINT, &id, &note);
}

static inline const struct record_case *case_of(enum record_type type, enum outcome outcome)
{
	for (size_t i = 0; i < RECORD_CASES; i++)
		if (record_cases[i].type == type && record_cases[i].outcome == outcome)
			return &record_cases[i];
	abort();
}

#endif
