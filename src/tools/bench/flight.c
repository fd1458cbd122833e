/* What is under way on a connection: requests in their order, and what their answers say. */
#include <stdio.h>

#include "engine.h"
#include "meaning.h"

static uint32_t operations_of(const struct slot *slot)
{
	return slot->operation.kind == KIND_EVENT ? slot->operation.count : 1;
}

bool flight_has_room(const struct client *client)
{
	const struct engine *engine = client->engine;

	/* An answer may come before its request is all sent: then the bytes outlive the place. */
	return client->connected && !client->closing && !client->broken &&
	       client->count < engine->options->depth &&
	       client->out_end + load_request_max(engine->options) <= engine->out_size;
}

/* ---- beginning */

static struct slot *next_slot(struct client *client)
{
	return &client->slot[(client->first + client->count) % client->engine->options->depth];
}

static void launch(struct client *client, struct slot *slot, uint64_t due, uint64_t now)
{
	struct engine *engine = client->engine;

	slot->due = due;
	slot->sent = now;
	slot->answered = 0;
	client->out_end +=
	    load_write(&engine->load, &slot->operation, client->out + client->out_end);
	client->count++;
	engine->outstanding++;
	engine->result->requests++;
}

void flight_begin(struct client *client, uint64_t now)
{
	struct engine *engine = client->engine;
	struct slot *slot = next_slot(client);
	uint64_t left = engine->limit - engine->begun;

	load_draw(&engine->load, &slot->operation, left < UINT32_MAX ? (uint32_t)left : UINT32_MAX);
	engine->begun += operations_of(slot);
	launch(client, slot, engine->interval > 0 ? pace_due(engine, engine->begun - 1) : now, now);
}

void flight_settle(struct client *client, uint64_t now)
{
	struct slot *slot = next_slot(client);
	const struct settlement *settlement = &client->settlement[client->settlement_first];

	slot->operation.kind = settlement->kind;
	slot->operation.count = 1;
	slot->operation.hold = settlement->hold;
	slot->operation.leg[0] = settlement->leg;
	client->settlement_first = (client->settlement_first + 1) % client->engine->options->depth;
	client->settlement_count--;
	client->engine->outstanding--;
	launch(client, slot, now, now);
}

/* ---- answers */

/* Each hold that is under way has its place in the ring, and leaves it before another is begun. */
static bool will_settle(struct client *client, const struct slot *slot)
{
	uint32_t depth = client->engine->options->depth;
	struct settlement *settlement =
	    &client->settlement[(client->settlement_first + client->settlement_count) % depth];

	settlement->kind = slot->operation.settle;
	settlement->leg = slot->operation.leg[0];
	settlement->hold = slot->operation.hold;
	if (settlement->hold.length == 0 &&
	    !meaning_hold(client->answer.kept, client->answer.kept_length, &settlement->hold))
		return false;
	client->settlement_count++;
	client->engine->outstanding++;
	return true;
}

static void accept_legs(struct engine *engine, const struct slot *slot, uint32_t from,
                        uint32_t legs)
{
	enum kind kind = (enum kind)slot->operation.kind;

	engine->result->kind[kind].accepted += kind == KIND_EVENT ? legs : 1;
	if (engine->book != NULL)
		book_accept(engine->book, kind, slot->operation.leg + from, legs);
}

static void land(struct client *client, const struct slot *slot, uint64_t now)
{
	struct engine *engine = client->engine;
	uint64_t latency = now - slot->due;

	histogram_record(&engine->result->latency, latency);
	histogram_record(&engine->result->kind[slot->operation.kind].latency, latency);
	if (engine->shows)
		histogram_record(&engine->window, latency);
	engine->last_answer = now;
	engine->outstanding--;
	client->proved = true;
	client->pause = 0;
	client->first = (client->first + 1) % engine->options->depth;
	client->count--;
	client->closing = client->answer.close;
}

static bool is_batch(const struct client *client, const struct slot *slot)
{
	return client->engine->options->batch > 1 && slot->operation.kind == KIND_EVENT;
}

static bool fail(const char **fault, const char *why)
{
	*fault = why;
	return false;
}

bool flight_line(struct client *client, const char **fault)
{
	struct slot *slot = &client->slot[client->first];
	struct words_of_reason reason;

	if (client->count == 0 || !is_batch(client, slot))
		return fail(fault, "lines that nobody asked for");
	if (client->answer.status != 200)
		return fail(fault, "lines with another status than 200");
	enum meaning meaning =
	    meaning_of_line(client->answer.kept, client->answer.kept_length, &reason);
	if (meaning == MEANING_NONE)
		return fail(fault, "a line that is no answer to an event");
	if (meaning == MEANING_REJECTED && meaning_ends_stream(&reason))
		return fail(fault, NULL);
	if (slot->answered == slot->operation.count)
		return fail(fault, "more lines than events");
	if (meaning == MEANING_ACCEPTED)
		accept_legs(client->engine, slot, slot->answered, 1);
	else
		result_reject(client->engine->result, KIND_EVENT, reason.name, reason.length, 1);
	slot->answered++;
	return true;
}

/* An answer that is one document. */
static bool take_document(struct client *client, const struct slot *slot, const char **fault)
{
	const struct answer *answer = &client->answer;
	enum kind kind = (enum kind)slot->operation.kind;
	struct words_of_reason reason;

	switch (meaning_of(kind, answer->status, answer->kept, answer->kept_length, &reason)) {
	case MEANING_REJECTED:
		result_reject(client->engine->result, kind, reason.name, reason.length,
		              operations_of(slot));
		return true;
	case MEANING_ACCEPTED:
		if (is_batch(client, slot))
			return fail(fault, "a document where lines should be");
		if (kind == KIND_HOLD && !will_settle(client, slot))
			return fail(fault, "a hold without a name");
		accept_legs(client->engine, slot, 0, slot->operation.count);
		return true;
	default:
		return fail(fault, "a document that is no answer to its request");
	}
}

bool flight_answer(struct client *client, uint64_t now, const char **fault)
{
	struct slot *slot = &client->slot[client->first];

	if (client->count == 0)
		return fail(fault, "an answer that nobody asked for");
	if (client->answer.lines) {
		if (slot->answered < slot->operation.count || !is_batch(client, slot))
			return fail(fault, "fewer lines than events");
	} else if (!take_document(client, slot, fault)) {
		return false;
	}
	land(client, slot, now);
	return true;
}

/* ---- no answers */

static void doubt(struct engine *engine, const struct slot *slot)
{
	enum kind kind = (enum kind)slot->operation.kind;
	uint32_t legs = slot->operation.count - slot->answered;

	engine->result->kind[kind].unknown += kind == KIND_EVENT ? legs : 1;
	if (engine->book != NULL)
		book_doubt(engine->book, kind, slot->operation.leg + slot->answered, legs);
}

void flight_doubt(struct client *client, enum loss loss, uint64_t now)
{
	struct engine *engine = client->engine;
	uint64_t patience = (uint64_t)(engine->options->timeout * 1e9);
	bool first = true;

	for (; client->count > 0; client->count--) {
		const struct slot *slot = &client->slot[client->first];
		doubt(engine, slot);
		if (loss == LOSS_LATE && now - slot->sent >= patience)
			engine->result->timeouts++;
		else if (loss != LOSS_FAULT || !first)
			engine->result->cut++;
		first = false;
		client->first = (client->first + 1) % engine->options->depth;
		engine->outstanding--;
	}
	if (loss == LOSS_FAULT) {
		if (engine->result->malformed++ == 0)
			snprintf(engine->result->fault, sizeof engine->result->fault, "%s",
			         client->answer.fault);
	}
}
