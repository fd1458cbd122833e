#include "page.h"

#include <string.h>

void page_begin(const struct answer *answer, struct text *body)
{
	const struct text *out = &answer->out;

	text_init(body, out->bytes + out->length + PAGE_HEAD_MAX,
	          out->capacity - out->length - PAGE_HEAD_MAX);
}

bool page_has_room(const struct text *body, size_t entry_max)
{
	return body->capacity - body->length >= entry_max + PAGE_TAIL_MAX;
}

void page_end(const struct call *call, struct answer *answer, const struct text *body)
{
	struct text *out = &answer->out;
	struct reply reply = {
	    .status = 200, .content_type = REPLY_JSON, .body_length = body->length};

	answer->status = 200;
	reply_head(out, &call->frame, &reply);
	if (!call->frame.head) {
		memmove(out->bytes + out->length, body->bytes, body->length);
		out->length += body->length;
	}
	out->full |= body->full;
}
