/*
 * The table of refusals, by status.
 */
#include "reason.h"

#include <string.h>

static const struct reason reasons[] = {
    /* HTTP that cannot be read; the connection closes */
    {"ambiguous_length", 400, NULL},
    {"bad_chunk", 400, NULL},
    {"bad_content_length", 400, NULL},
    {"bad_field", 400, NULL},
    {"bad_host", 400, NULL},
    {"bad_request_line", 400, NULL},
    {"bad_target", 400, NULL},
    {"bad_transfer_encoding", 400, NULL},
    {"bad_version", 400, NULL},
    {"bare_line_end", 400, NULL},
    {"folded_field", 400, NULL},
    {"missing_host", 400, NULL},
    {"repeated_host", 400, NULL},
    {"incomplete_body", 400, "The body ended before its framing said so."},
    {"body_timeout", 408, "The body came too slowly."},
    {"header_timeout", 408, "The request's header came too slowly."},
    {"body_too_large", 413, "The body is larger than this service takes."},
    {"request_line_too_long", 414, NULL},
    {"unknown_expectation", 417, NULL},
    {"fields_too_large", 431, NULL},
    {"too_many_fields", 431, NULL},
    {"unknown_method", 501, NULL},
    {"unknown_transfer_encoding", 501, NULL},
    {"bad_version", 505, NULL},

    /* bodies that cannot be read */
    {"account_differs", 400, NULL},
    {"ambiguous_account", 400, NULL},
    {"duplicate_account", 400, NULL},
    {"duplicate_key", 400, NULL},
    {"invalid_account", 400, NULL},
    {"invalid_amount", 400, NULL},
    {"invalid_balanced", 400, NULL},
    {"invalid_ceiling", 400, NULL},
    {"invalid_floor", 400, NULL},
    {"invalid_frozen", 400, NULL},
    {"invalid_id", 400, NULL},
    {"invalid_json", 400, NULL},
    {"invalid_legs", 400, NULL},
    {"invalid_note", 400, NULL},
    {"invalid_ttl", 400, NULL},
    {"missing_account", 400, NULL},
    {"missing_amount", 400, NULL},
    {"missing_from", 400, NULL},
    {"missing_legs", 400, NULL},
    {"missing_to", 400, NULL},
    {"missing_ttl", 400, NULL},
    {"not_an_array", 400, NULL},
    {"not_an_object", 400, NULL},
    {"unknown_key", 400, NULL},
    {"line_too_long", 413, "A line is longer than this service takes; it was skipped."},
    {"too_many_events", 413, NULL},
    {"too_many_accounts", 422, "One transaction changes at most 16 accounts."},
    {"unsupported_media_type", 415,
     "An operation is sent as application/json, events also as application/x-ndjson."},

    /* fields and parameters that cannot be read */
    {"id_conflict", 400, "Idempotency-Key and the body's id are not the same."},
    {"invalid_after", 400,
     "The parameter after, or Last-Event-ID, is 0 or the LSN of a record of this journal."},
    {"invalid_at", 400,
     "The parameter at is a time as 2026-11-20T20:13:42Z, or an LSN, in decimal."},
    {"invalid_atomic", 400, "The parameter atomic is true or false."},
    {"invalid_before", 400, "The parameter before is an LSN, in decimal."},
    {"invalid_cursor", 400, "The parameter cursor is not one that this service gave."},
    {"invalid_follow", 400, "The parameter follow is true or false."},
    {"invalid_format", 400, "The parameter format is sse or ndjson."},
    {"invalid_hold", 400,
     "A hold's id is 1 to 128 bytes of printable ASCII without space, percent-encoded."},
    {"invalid_idempotency_key", 400,
     "Idempotency-Key is 1 to 128 bytes of printable ASCII without space, bare or in quotes."},
    {"invalid_if_match", 400, "If-Match is * or one entity tag: a version in quotes."},
    {"invalid_limit", 400, "The parameter limit is a number from 1 to 100."},
    {"invalid_ms", 400, "The parameter ms is a number of milliseconds from 0 to 60000."},
    {"invalid_prefix", 400, "The parameter prefix is up to 100 bytes, percent-encoded."},
    {"unsupported_atomic", 400, "Lines are answered while they come: only an array can be atomic."},
    {"unsupported_condition", 400,
     "If-Match is for a change of one account, If-None-Match for GET, Idempotency-Key for one "
     "operation."},

    /* requests that are not for this service, or not for this client */
    {"unauthorized", 401, "This needs a valid token: Authorization: Bearer TOKEN."},
    {"forbidden", 403, "The token does not permit this."},
    {"foreign_origin", 403, "A page of another origin may not change anything here."},
    {"not_found", 404, "There is nothing at this path."},
    {"method_not_allowed", 405, "The field Allow names the methods of this path."},

    /* decided by the ledger */
    {"insufficient_funds", 402, "What is available in the account does not cover this."},
    {"unknown_account", 404, "There is no account of this name."},
    {"unknown_hold", 404, "There is no hold with this id."},
    {"account_exists", 409, "There is an account of this name already."},
    {"account_not_empty", 409,
     "Only an account whose balance and held amount are zero, without open holds, is deleted."},
    {"hold_settled", 409, "The hold has been settled already."},
    {"id_forgotten", 409,
     "The id was used before, and what for is no longer known (see id_window, max_ids, "
     "journal_keep); nothing was applied."},
    {"pruned", 410, "The journal is no longer kept that far back."},
    {"version_mismatch", 412, "The account's version is not the one that If-Match names."},
    {"ceiling_exceeded", 422, "The balance would rise above the account's ceiling."},
    {"id_reused", 422, "The id was used before for another request; nothing was applied."},
    {"overflow", 422, "The balance would leave the range of int64; the event was not applied."},
    {"same_account", 422, "An account cannot be paid by itself."},
    {"unbalanced", 422, "The legs of a balanced transaction sum to zero."},
    {"account_frozen", 423, "The account is frozen."},

    /* not applied; trying again may help */
    {"no_randomness", 500, "No id could be made for the hold; it was not placed."},
    {"read_failed", 500, "The journal could not be read; nothing was applied."},
    {"addresses_full", 503,
     "There are too many clients at a time to count each one's connections."},
    {"busy", 503, "Too much is being sent at once; nothing was applied."},
    {"draining", 503, "The daemon is stopping."},
    {"journal_failed", 503, "The journal's disk has failed; the event was not applied."},
    {"queue_full", 503, "Too many events wait for the disk; the event was not applied."},
    {"too_many_connections", 503, "This address has as many connections as one may have."},
    {"disk_full", 507, "The journal's disk is full; the event was not applied."},
    {"holds_full", 507, "There is no room for another open hold; it was not placed."},
    {"table_full", 507, "There is no room for another account; the event was not applied."},
};

#define REASONS (sizeof(reasons) / sizeof(reasons[0]))

static const char *word_of(enum outcome outcome)
{
	switch (outcome) {
	case OUTCOME_ACCEPTED:
	case OUTCOME_POISONED:
		break;
	case OUTCOME_OVERFLOW:
		return "overflow";
	case OUTCOME_UNKNOWN_ACCOUNT:
		return "unknown_account";
	case OUTCOME_INSUFFICIENT_FUNDS:
		return "insufficient_funds";
	case OUTCOME_CEILING_EXCEEDED:
		return "ceiling_exceeded";
	case OUTCOME_ACCOUNT_FROZEN:
		return "account_frozen";
	case OUTCOME_ACCOUNT_EXISTS:
		return "account_exists";
	case OUTCOME_ACCOUNT_IN_USE:
		return "account_not_empty";
	case OUTCOME_VERSION_MISMATCH:
		return "version_mismatch";
	case OUTCOME_UNBALANCED:
		return "unbalanced";
	case OUTCOME_UNKNOWN_HOLD:
		return "unknown_hold";
	case OUTCOME_HOLD_SETTLED:
		return "hold_settled";
	case OUTCOME_SAME_ACCOUNT:
		return "same_account";
	case OUTCOME_QUEUE_FULL:
		return "queue_full";
	case OUTCOME_DISK_FULL:
		return "disk_full";
	case OUTCOME_TABLE_FULL:
		return "table_full";
	case OUTCOME_HOLDS_FULL:
		return "holds_full";
	case OUTCOME_JOURNAL_FAILED:
		return "journal_failed";
	case OUTCOME_ID_REUSED:
		return "id_reused";
	case OUTCOME_FORGOTTEN:
		return "id_forgotten";
	case OUTCOME_READ_FAILED:
		return "read_failed";
	}
	return NULL;
}

size_t reason_place(const struct reason *reason)
{
	return (size_t)(reason - reasons);
}

const struct reason *reason_at(size_t index)
{
	return index < REASONS ? &reasons[index] : NULL;
}

const struct reason *reason_find(const char *word)
{
	for (size_t i = 0; i < REASONS; i++) {
		if (strcmp(reasons[i].word, word) == 0)
			return &reasons[i];
	}
	return NULL;
}

const struct reason *reason_of(enum outcome outcome)
{
	/* What is refused is refused again and again: the table is searched once for each. */
	static const struct reason *found[OUTCOME_READ_FAILED + 1];
	const char *word = word_of(outcome);

	if (word == NULL)
		return NULL;
	if (found[outcome] == NULL)
		found[outcome] = reason_find(word);
	return found[outcome];
}
