/* Lines on their way: in blocks, one behind the other, and what became of them. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../wire/reply.h"
#include "http/answer.h"
#include "import_parts.h"

_Static_assert(ANSWER_KEEP >= REPLY_HOLD_MAX, "a hold is kept whole, so that it is recognised");

#define DEFERRED_MAX 1000000 /* accounts with holds and limits that they break */

enum step { STEP_CREATE, STEP_BALANCE, STEP_LIMITS, STEP_HOLD, STEP_LOOK };

/* An operation's tag: its block, or DEFERRED_TAG, its step and its line there. */
#define DEFERRED_TAG 255u

static uint64_t tag_of(uint32_t block, enum step step, size_t index)
{
	return (uint64_t)block << 56 | (uint64_t)step << 48 | index;
}

/* ---- what became of lines */

void import_reject(struct import *import, const char *line, size_t length)
{
	if (import->rejects == NULL)
		return;
	if (fwrite(line, 1, length, import->rejects) != length ||
	    putc('\n', import->rejects) == EOF || fflush(import->rejects) != 0) {
		char text[256];
		snprintf(text, sizeof text, "%.150s: %s", import->rejects_name, strerror(errno));
		import_give_up(import, COMMAND_FAILED, text);
	}
}

static void settle_item(struct import *import, const struct block *block, const struct item *item)
{
	if (item->failed) {
		tally_refuse(&import->tally, item->number, item->reason, "rejected");
		import_reject(import, block->text + item->at, item->length);
	} else if (item->unknown) {
		import->tally.unknown++;
	} else if (item->fresh) {
		import->tally.accepted++;
	} else {
		import->tally.duplicate++;
	}
}

static void note_answer(struct item *item, const struct flow_answer *answer)
{
	if (answer->verdict == FLOW_ACCEPTED)
		item->fresh = true;
	if (answer->verdict == FLOW_UNKNOWN)
		item->unknown = true;
	if (answer->verdict == FLOW_REJECTED) {
		item->failed = true;
		memcpy(item->reason, answer->reason, sizeof item->reason);
	}
}

static void take_deferred(struct import *import, size_t index, const struct flow_answer *answer)
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

/* ANSWER to a look at a hold whose id is taken: is it the one that was to be placed? */
static void same_hold(struct import *import, struct item *item, const struct block *block,
                      const struct flow_answer *answer)
{
	static const char hold[] = "{\"hold\":";
	const char *line = block->text + item->at;
	struct import_line want, got;
	struct json_error error;
	static const char *const keys[] = {"account", "amount"};

	if (answer->verdict != FLOW_SHOWN)
		return;
	if (answer->length < sizeof hold || memcmp(answer->document, hold, sizeof hold - 1) != 0) {
		flow_disown(import->flow, answer->status);
		return;
	}
	if (!import_line_read(line, item->length, &want, &error) ||
	    !import_line_read(answer->document, answer->length, &got, &error))
		return;
	for (size_t i = 0; i < 2; i++) {
		struct slice a = import_get(&want, keys[i]), b = import_get(&got, keys[i]);
		if (a.length != b.length || memcmp(a.bytes, b.bytes, a.length) != 0)
			return;
	}
	item->failed = false;
}

void import_take(void *context, uint64_t tag, const struct flow_answer *answer)
{
	struct import *import = context;
	uint32_t number = (uint32_t)(tag >> 56);
	enum step step = (enum step)(tag >> 48 & 0xff);
	size_t index = tag & ((UINT64_C(1) << 48) - 1);

	if (number == DEFERRED_TAG) {
		take_deferred(import, index, answer);
		return;
	}
	struct block *block = import->block[number];
	struct item *item = &block->item[index];
	block->pending--;
	if (step == STEP_LOOK) {
		same_hold(import, item, block, answer);
		return;
	}
	note_answer(item, answer);
	item->reused = step == STEP_HOLD && strcmp(answer->reason, "id_reused") == 0;
	if (block->type == IMPORT_EVENT)
		settle_item(import, block, item);
}

void import_tick(void *context)
{
	struct import *import = context;

	tally_draw(&import->tally);
}

/* ---- sending blocks */

/* A burst with room, the one before it sent; NULL: the flow has ended. */
static struct burst *room_for(struct import *import, struct burst *burst, size_t length)
{
	if (burst != NULL && burst_has_room(burst, length))
		return burst;
	if (burst != NULL)
		flow_send(import->flow, burst);
	return flow_begin(import->flow);
}

static void send_events(struct import *import, uint32_t number)
{
	struct block *block = import->block[number];
	char body[IMPORT_LINE_MAX + ID_MAX + 16];
	struct burst *burst = NULL;
	struct import_line line;
	struct json_error error;

	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		const char *text = block->text + item->at;
		size_t length = item->length;
		if (!import_line_read(text, length, &line, &error))
			continue;
		if (import->batch != NULL && import_get(&line, "id").length == 0) {
			length = import_write_event(&line, import->batch, item->number, body);
			text = body;
		}
		burst = room_for(import, burst, length);
		if (burst == NULL)
			return;
		burst->unsafe |= block->unsafe;
		block->pending++;
		burst_line(burst, tag_of(number, STEP_CREATE, i), text, length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
}

/* What STEP sends of an account; 0: nothing. */
static size_t write_step(const struct import *import, const struct import_line *line,
                         const struct import_account *account, enum step step, char *body)
{
	if (step == STEP_CREATE)
		return import_write_create(line, account, &import->origin, body);
	if (step == STEP_BALANCE)
		return account->balance != 0 ? import_write_balance(account, &import->origin, body)
		                             : 0;
	return account->opened && !account->held
	           ? import_write_limits(line, account, &import->origin, body)
	           : 0;
}

static void add_step(struct burst *burst, uint64_t tag, enum step step,
                     const struct import_account *account, const char *body, size_t length)
{
	char path[IMPORT_PATH_MAX];

	if (step == STEP_CREATE) {
		burst_request(burst, tag, "POST", "/accounts", body, length);
	} else if (step == STEP_BALANCE) {
		burst_line(burst, tag, body, length);
	} else {
		import_write_account_path(account, path);
		burst_request(burst, tag, "PUT", path, body, length);
	}
}

/* One step of all accounts of the block for which the steps before went well. */
static bool send_step(struct import *import, uint32_t number, enum step step)
{
	struct block *block = import->block[number];
	struct burst *burst = NULL;
	struct import_line line;
	struct import_account account;
	struct json_error error;
	char body[IMPORT_BODY_MAX];

	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		if (item->failed ||
		    !import_line_read(block->text + item->at, item->length, &line, &error) ||
		    !import_read_account(&line, &account, &error))
			continue;
		size_t length = write_step(import, &line, &account, step, body);
		if (length == 0)
			continue;
		burst = room_for(import, burst, length);
		if (burst == NULL)
			return false;
		block->pending++;
		add_step(burst, tag_of(number, step, i), step, &account, body, length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
	return flow_drain(import->flow);
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

static bool send_accounts(struct import *import, uint32_t number)
{
	struct block *block = import->block[number];
	struct import_line line;
	struct import_account account;
	struct json_error error;

	for (enum step step = STEP_CREATE; step <= STEP_LIMITS; step++)
		if (!send_step(import, number, step))
			return false;
	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		bool last = !item->failed &&
		            import_line_read(block->text + item->at, item->length, &line, &error) &&
		            import_read_account(&line, &account, &error) && account.opened &&
		            account.held;
		if (!last)
			settle_item(import, block, item);
		else if (!defer(import, block, item))
			return false;
	}
	return true;
}

uint64_t import_wall_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Places the holds of the block, or looks at those whose ids are taken. */
static bool send_holds_step(struct import *import, uint32_t number, enum step step)
{
	struct block *block = import->block[number];
	struct burst *burst = NULL;
	struct import_line line;
	struct json_error error;
	char body[IMPORT_BODY_MAX], path[IMPORT_PATH_MAX];
	bool expired;

	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		if ((step == STEP_LOOK && !item->reused) ||
		    !import_line_read(block->text + item->at, item->length, &line, &error))
			continue;
		size_t length =
		    import_write_hold(&line, import_wall_us(), body, path, &expired, &error);
		if (length == 0)
			continue;
		burst = room_for(import, burst, length);
		if (burst == NULL)
			return false;
		block->pending++;
		if (step == STEP_LOOK)
			burst_request(burst, tag_of(number, step, i), "GET", path, "", 0);
		else
			burst_request(burst, tag_of(number, step, i), "POST", "/holds", body,
			              length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
	return flow_drain(import->flow);
}

static bool send_holds(struct import *import, uint32_t number)
{
	const struct block *block = import->block[number];

	if (!send_holds_step(import, number, STEP_HOLD) ||
	    !send_holds_step(import, number, STEP_LOOK))
		return false;
	for (uint32_t i = 0; i < block->count; i++)
		settle_item(import, block, &block->item[i]);
	return true;
}

/* A block without lines under way: bursts are fewer than blocks, so there is one soon. */
static void next_block(struct import *import)
{
	import->filling = (import->filling + 1) % (FLOW_DEPTH + 1);
	struct block *block = import->block[import->filling];
	if (block->pending > 0)
		flow_drain(import->flow);
	block->count = block->used = block->pending = 0;
	block->unsafe = false;
}

void import_send_block(struct import *import)
{
	struct block *block = import->block[import->filling];

	if (block->count == 0)
		return;
	if (block->type == IMPORT_EVENT)
		send_events(import, import->filling);
	else if (block->type == IMPORT_ACCOUNT)
		send_accounts(import, import->filling);
	else
		send_holds(import, import->filling);
	import_flow_broke(import);
	next_block(import);
}

void import_add(struct import *import, enum import_type type, bool unsafe)
{
	struct block *block = import->block[import->filling];

	if (block->count > 0 &&
	    (block->type != type || block->unsafe != unsafe || block->count == BLOCK_LINES ||
	     block->used + import->line_length > BLOCK_TEXT_MAX)) {
		import_send_block(import);
		block = import->block[import->filling];
	}
	block->type = type;
	block->unsafe = unsafe;
	block->item[block->count++] = (struct item){.number = import->tally.lines,
	                                            .at = block->used,
	                                            .length = (uint32_t)import->line_length};
	memcpy(block->text + block->used, import->line, import->line_length);
	block->used += (uint32_t)import->line_length;
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
		burst = room_for(import, burst, length);
		if (burst == NULL)
			break;
		add_step(burst, tag_of(DEFERRED_TAG, STEP_LIMITS, i), STEP_LIMITS, &account, body,
		         length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
	flow_drain(import->flow);
	import_flow_broke(import);
	for (size_t i = 0; i < import->deferred_count; i++)
		free(import->deferred[i].line);
	import->deferred_count = 0;
}
