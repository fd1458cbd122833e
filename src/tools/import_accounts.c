/*
 * The accounts of an export: each is made, given its balance, and then perhaps limits that the
 * balance would not have been given under.
 *
 * That each of this happens once, however often the import is killed and repeated, does not rest on
 * ids, which the daemon forgets when others need their room; it rests on versions.  An account that
 * is made has version 1, and every change lifts its version, so that within its life an operation
 * that is only for version V is applied at most once.  The balance is only for version 1, the
 * limits only for the version that the balance leaves.  What remains is to know that the account is
 * the one that this import has made, and not another of that name.  If it was made just now, it is.
 * If not (the id of that was known, or the account exists), its statement is asked, which has the
 * changes of the present life with their ids, and is kept apart from the table of ids:
 *
 *   version 2 is our balance: it is ours, and has it;
 *   version 1 is our creation, and there is no other: it is ours, and has no balance yet;
 *   anything else, or what the journal has no longer: it is not ours as far as can be shown,
 *   and stays as it is, and the line is refused.
 *
 * A refusal for the version is doubted the same way: the operation itself may have lifted it.  An
 * account that has its holds before its limits has no version that is known beforehand; its limits
 * are sent unless its statement has them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../wire/reply.h"
#include "http/answer.h"
#include "import_parts.h"

#define DEFERRED_MAX 1000000 /* accounts with holds and limits that they break */
#define LOOKED_MAX   1000    /* changes of an account that are looked at */

/* Of a statement of one change: the name, the change, the link with the name in a path. */
#define STATEMENT_MAX (2 * ACCOUNT_NAME_MAX + REPLY_ENTRY_MAX + 3 * ACCOUNT_NAME_MAX + 128)

_Static_assert(ANSWER_KEEP >= STATEMENT_MAX, "it is kept whole");

/* ---- is it ours? */

/* The line of ITEM is refused unless looks at the account's statement show that STEP is done. */
static void doubt(struct item *item, enum step step, const struct flow_answer *answer)
{
	const char *reason = answer->verdict == FLOW_REJECTED ? answer->reason : "account_exists";

	snprintf(item->reason, sizeof item->reason, "%s", reason);
	item->failed = item->looks = true;
	item->doubted = step;
	item->before = 0;
	item->looked = 0;
}

/* The statement was read as far as it decides: PROVEN, or the line stays refused. */
static void decide(struct item *item, bool proven)
{
	item->looks = false;
	item->failed = !proven;
}

/* What the change ENTRY of the account shows. */
static void judge_entry(const struct import *import, struct item *item,
                        const struct import_account *account, const struct import_line *entry)
{
	struct slice id = import_get(entry, "id");
	int64_t version, lsn;

	if (!import_number(import_get(entry, "version"), &version) ||
	    !import_number(import_get(entry, "lsn"), &lsn)) {
		decide(item, false);
		return;
	}
	if (item->before == 0)
		item->newest = (uint64_t)version;
	item->before = (uint64_t)lsn;
	item->looked++;
	item->limited |= import_is_id(id, &import->origin, IMPORT_LIMITS, account);
	item->balanced |=
	    version == 2 && import_is_id(id, &import->origin, IMPORT_BALANCE, account);
	bool ours = version == 1 && import_is_id(id, &import->origin, IMPORT_CREATE, account);
	bool ready = ours && (item->newest == 1 || account->balance == 0);
	if (item->doubted == STEP_LIMITS && (item->limited || version == 1))
		decide(item, item->limited);
	else if (item->doubted == STEP_BALANCE && (item->balanced || version == 1))
		decide(item, item->balanced);
	else if (item->balanced || version == 1)
		decide(item, item->balanced || ready);
	else if (item->looked == LOOKED_MAX)
		decide(item, false);
}

static void judge_statement(struct import *import, const struct block *block, struct item *item,
                            const struct flow_answer *answer)
{
	static const char begins[] = "{\"account\":";
	struct import_account account;
	struct import_line line, page, entry;
	struct json_error error;

	if (answer->verdict != FLOW_SHOWN) {
		memcpy(item->reason, answer->reason, sizeof item->reason);
		decide(item, false);
		return;
	}
	if (answer->length < sizeof begins ||
	    memcmp(answer->document, begins, sizeof begins - 1) != 0) {
		flow_disown(import->flow, answer->status);
		return;
	}
	bool good = import_line_read(block->text + item->at, item->length, &line, &error) &&
	            import_read_account(&line, &account, &error) &&
	            import_members_read(answer->document, answer->length, &page, &error);
	struct slice events = good ? import_get(&page, "events") : (struct slice){0};
	/* An array of one; of none, if the journal has no more. */
	if (events.length > 2 && events.bytes[0] == '[' &&
	    import_members_read(events.bytes + 1, events.length - 2, &entry, &error))
		judge_entry(import, item, &account, &entry);
	else
		decide(item, false);
}

static bool has_more(const struct block *block, const struct item *item)
{
	struct import_line line;
	struct import_account account;
	struct json_error error;

	return import_line_read(block->text + item->at, item->length, &line, &error) &&
	       import_read_account(&line, &account, &error) &&
	       (account.balance != 0 || account.opened);
}

void import_take_account(struct import *import, const struct block *block, struct item *item,
                         enum step step, const struct flow_answer *answer)
{
	bool refused = answer->verdict == FLOW_REJECTED;

	if (step == STEP_STATEMENT) {
		judge_statement(import, block, item, answer);
		return;
	}
	import_note(item, answer);
	if (step == STEP_CREATE && ((refused && strcmp(answer->reason, "account_exists") == 0) ||
	                            (answer->verdict == FLOW_DUPLICATE && has_more(block, item))))
		doubt(item, step, answer);
	if (step != STEP_CREATE && refused && strcmp(answer->reason, "version_mismatch") == 0)
		doubt(item, step, answer);
}

/* ---- steps */

static bool is_next(const struct item *item, const struct import_account *account, enum step step)
{
	switch (step) {
	case STEP_CREATE:
		return true;
	case STEP_STATEMENT:
		return item->looks;
	case STEP_BALANCE:
		return !item->failed && account->balance != 0 && !item->balanced;
	default:
		return !item->failed && account->opened && !account->held && !item->limited;
	}
}

/* The body of STEP; "" of one that only looks. */
static size_t write_step(const struct import *import, const struct import_line *line,
                         const struct import_account *account, enum step step, char *body)
{
	switch (step) {
	case STEP_CREATE:
		return import_write_create(line, account, &import->origin, body);
	case STEP_STATEMENT:
		return 0;
	case STEP_BALANCE:
		return import_write_balance(account, &import->origin, body);
	default:
		return import_write_limits(line, account, &import->origin, body);
	}
}

/* The version that the limits are only for; 0, any, if holds come before them. */
static uint64_t before_limits(const struct import_account *account)
{
	if (account->held)
		return 0;
	return account->balance != 0 ? 2 : 1;
}

static void add_step(struct burst *burst, uint64_t tag, enum step step,
                     const struct import_account *account, uint64_t before, const char *body,
                     size_t length)
{
	char path[IMPORT_PATH_MAX];

	if (step == STEP_CREATE) {
		burst_request(burst, tag, "POST", "/accounts", 0, body, length);
	} else if (step == STEP_BALANCE) {
		burst_request(burst, tag, "POST", "/events", 1, body, length);
	} else if (step == STEP_LIMITS) {
		import_write_account_path(account, path);
		burst_request(burst, tag, "PUT", path, before_limits(account), body, length);
	} else {
		import_write_statement_path(account, before, path);
		burst_request(burst, tag, "GET", path, 0, "", 0);
	}
}

/* One step of all accounts of the block whose turn it is; *COUNT is how many those are. */
static bool send_step(struct import *import, uint32_t number, enum step step, uint32_t *count)
{
	struct block *block = import->block[number];
	struct burst *burst = NULL;
	struct import_line line;
	struct import_account account;
	struct json_error error;
	char body[IMPORT_BODY_MAX];

	*count = 0;
	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		if (!import_line_read(block->text + item->at, item->length, &line, &error) ||
		    !import_read_account(&line, &account, &error) || !is_next(item, &account, step))
			continue;
		size_t length = write_step(import, &line, &account, step, body);
		burst = import_room(import, burst, length);
		if (burst == NULL)
			return false;
		block->pending++;
		*count += 1;
		add_step(burst, import_tag(number, step, i), step, &account, item->before, body,
		         length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
	return flow_drain(import->flow);
}

/* A step, and then looks at those that are doubted, a change of each at a time. */
static bool do_step(struct import *import, uint32_t number, enum step step)
{
	uint32_t count;

	if (!send_step(import, number, step, &count))
		return false;
	do
		if (!send_step(import, number, STEP_STATEMENT, &count))
			return false;
	while (count > 0);
	return true;
}

/* ---- limits that come last */

void import_take_deferred(struct import *import, size_t index, const struct flow_answer *answer)
{
	struct deferred *deferred = &import->deferred[index];

	import->tally.open--;
	if (answer->verdict == FLOW_REJECTED) {
		tally_refuse(&import->tally, deferred->number, answer->reason,
		             "its limits are rejected");
		import_reject(import, deferred->line, strlen(deferred->line));
	} else if (answer->verdict == FLOW_ACCEPTED || deferred->fresh)
		import->tally.accepted++;
	else
		import->tally.duplicate++;
}

static bool defer(struct import *import, const struct block *block, const struct item *item)
{
	if (import->deferred_count == DEFERRED_MAX)
		return import_give_up(import, COMMAND_FAILED,
		                      "too many accounts with holds break their limits"),
		       false;
	if (import->deferred_count == import->deferred_room) {
		size_t room = import->deferred_room == 0 ? 64 : 2 * import->deferred_room;
		struct deferred *all = realloc(import->deferred, room * sizeof *all);
		if (all == NULL)
			return import_give_up(import, COMMAND_FAILED, strerror(errno)), false;
		import->deferred = all;
		import->deferred_room = room;
	}
	char *line = strndup(block->text + item->at, item->length);
	if (line == NULL)
		return import_give_up(import, COMMAND_FAILED, strerror(errno)), false;
	import->deferred[import->deferred_count++] =
	    (struct deferred){.number = item->number, .fresh = item->fresh, .line = line};
	import->tally.open++;
	return true;
}

/* The limits of accounts that had to have their holds first. */
void import_send_deferred(struct import *import)
{
	struct burst *burst = NULL;
	struct import_line line;
	struct import_account account;
	struct json_error error;
	char body[IMPORT_BODY_MAX];

	for (size_t i = 0; i < import->deferred_count; i++) {
		const char *text = import->deferred[i].line;
		if (!import_line_read(text, strlen(text), &line, &error) ||
		    !import_read_account(&line, &account, &error))
			continue;
		size_t length = import_write_limits(&line, &account, &import->origin, body);
		burst = import_room(import, burst, length);
		if (burst == NULL)
			break;
		add_step(burst, import_tag(DEFERRED_TAG, STEP_LIMITS, i), STEP_LIMITS, &account, 0,
		         body, length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
	flow_drain(import->flow);
	import_flow_broke(import);
	for (size_t i = 0; i < import->deferred_count; i++)
		free(import->deferred[i].line);
	import->deferred_count = 0;
}

/* ---- the whole */

bool import_send_accounts(struct import *import, uint32_t number)
{
	struct block *block = import->block[number];
	struct import_line line;
	struct import_account account;
	struct json_error error;

	if (!do_step(import, number, STEP_CREATE) || !do_step(import, number, STEP_BALANCE) ||
	    !do_step(import, number, STEP_LIMITS))
		return false;
	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		bool good = import_line_read(block->text + item->at, item->length, &line, &error) &&
		            import_read_account(&line, &account, &error);
		bool last =
		    good && !item->failed && !item->limited && account.opened && account.held;
		if (good && item->failed && !import_shun(import, account.name))
			return false;
		if (!last)
			import_settle(import, block, item);
		else if (!defer(import, block, item))
			return false;
	}
	return true;
}
