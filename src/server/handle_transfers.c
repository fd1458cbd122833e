/* POST /transfers and POST /transactions: several accounts, all or nothing. */
#include "handlers.h"

typedef bool reader(char *text, size_t length, struct request *request, struct json_error *error);

static void handle(const struct call *call, struct answer *answer, reader *read)
{
	struct request request;
	char key[ID_MAX];
	struct json_error error;

	if (!operation_is_json(call, answer))
		return;
	if (!read(call->body, call->body_length, &request, &error)) {
		answer_unreadable(call, answer, &error);
		return;
	}
	if (operation_conditions(call, answer, &request, key, false))
		operation_apply(call, answer, &request);
}

void handle_transfer(const struct call *call, struct answer *answer)
{
	handle(call, answer, json_read_transfer);
}

void handle_transaction(const struct call *call, struct answer *answer)
{
	handle(call, answer, json_read_transaction);
}
