/* POST /events, one at a time. */
#include "array.h"
#include "handlers.h"

bool event_read(const struct call *call, struct answer *answer, struct request *request, char *key)
{
	struct json_error error;

	if (!operation_is_json(call, answer))
		return false;
	if (!json_read_event(call->body, call->body_length, request, &error)) {
		answer_unreadable(call, answer, &error);
		return false;
	}
	return operation_conditions(call, answer, request, key, true);
}

void handle_event(const struct call *call, struct answer *answer)
{
	struct request request;
	char key[ID_MAX];

	if (array_is_given(call))
		array_answer(call, answer);
	else if (event_read(call, answer, &request, key))
		operation_apply(call, answer, &request);
}
