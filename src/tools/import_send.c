/* Lines on their way: in blocks, one behind the other, and what became of them. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../wire/reply.h"
#include "http/answer.h"
#include "import_parts.h"

uint64_t import_tag(uint32_t block, enum step step, size_t index)
{
	return (uint64_t)block << 56 | (uint64_t)step << 48 | index;
}

_Static_assert(ANSWER_KEEP >= REPLY_HOLD_MAX, "a hold is kept whole, so that it is recognised");

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

void import_settle(struct import *import, const struct block *block, const struct item *item)
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

void import_note(struct item *item, const struct flow_answer *answer)
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
		import_take_deferred(import, index, answer);
		return;
	}
	struct block *block = import->block[number];
	struct item *item = &block->item[index];
	block->pending--;
	if (step == STEP_LOOK) {
		same_hold(import, item, block, answer);
		return;
	}
	if (block->type == IMPORT_ACCOUNT) {
		import_take_account(import, block, item, step, answer);
		return;
	}
	import_note(item, answer);
	item->reused = step == STEP_HOLD && strcmp(answer->reason, "id_reused") == 0;
	if (block->type == IMPORT_EVENT)
		import_settle(import, block, item);
}

void import_tick(void *context)
{
	struct import *import = context;

	tally_draw(&import->tally);
}

/* ---- sending blocks */

struct burst *import_room(struct import *import, struct burst *burst, size_t length)
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
		burst = import_room(import, burst, length);
		if (burst == NULL)
			return;
		burst->unsafe |= block->unsafe;
		block->pending++;
		burst_line(burst, import_tag(number, STEP_CREATE, i), text, length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
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
		if ((step == STEP_LOOK ? !item->reused : item->failed) ||
		    !import_line_read(block->text + item->at, item->length, &line, &error))
			continue;
		size_t length =
		    import_write_hold(&line, import_wall_us(), body, path, &expired, &error);
		if (length == 0)
			continue;
		burst = import_room(import, burst, length);
		if (burst == NULL)
			return false;
		block->pending++;
		if (step == STEP_LOOK)
			burst_request(burst, import_tag(number, step, i), "GET", path, 0, "", 0);
		else
			burst_request(burst, import_tag(number, step, i), "POST", "/holds", 0, body,
			              length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
	return flow_drain(import->flow);
}

static void refuse_shunned(struct import *import, struct block *block)
{
	struct import_line line;
	struct json_error error;

	for (uint32_t i = 0; i < block->count; i++) {
		struct item *item = &block->item[i];
		if (!import_line_read(block->text + item->at, item->length, &line, &error) ||
		    !import_is_shunned(import, import_get(&line, "account")))
			continue;
		snprintf(item->reason, sizeof item->reason, "account_refused");
		item->failed = true;
	}
}

static bool send_holds(struct import *import, uint32_t number)
{
	struct block *block = import->block[number];

	refuse_shunned(import, block);
	if (!send_holds_step(import, number, STEP_HOLD) ||
	    !send_holds_step(import, number, STEP_LOOK))
		return false;
	for (uint32_t i = 0; i < block->count; i++)
		import_settle(import, block, &block->item[i]);
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
		import_send_accounts(import, import->filling);
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
