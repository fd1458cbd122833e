/* GET /metrics */
#include "../wire/exposition.h"
#include "handlers.h"
#include "metrics.h"

/* Never more than there are slots that a process may have. */
static size_t slots_of(const struct call *call, const struct facts *facts)
{
	size_t count = call->server->set_count;
	size_t slots = count < METRICS_SLOTS_MAX ? count : METRICS_SLOTS_MAX;

	return facts->processes < slots ? facts->processes : slots;
}

size_t metrics_room(const struct call *call)
{
	struct facts facts;

	ledger_facts(call->ledger, call->now_us, &facts);
	return metrics_size(slots_of(call, &facts));
}

void handle_metrics(const struct call *call, struct answer *answer)
{
	/* Where nothing was written there is no memory. */
	static char bytes[METRICS_PAGE_MAX];
	struct facts facts;
	struct text body;

	ledger_facts(call->ledger, call->now_us, &facts);
	const struct metrics metrics = {.facts = &facts,
	                                .sets = call->server->sets,
	                                .slots = slots_of(call, &facts),
	                                .version = call->settings->version,
	                                .now_us = call->now_us};
	text_init(&body, bytes, sizeof(bytes));
	metrics_write(&body, &metrics);
	struct reply reply = {.status = 200,
	                      .content_type = EXPOSITION_TYPE,
	                      .body = body.bytes,
	                      .body_length = body.length};
	/* A worker was born since there was room for its lines: then come again. */
	if (body.full || body.length > answer->out.capacity - answer->out.length - HANDLER_ROOM) {
		answer_reason(call, answer, "busy");
		return;
	}
	answer->status = 200;
	reply_write(&answer->out, &call->frame, &reply);
}
