/*
 * Who may do what, by the token that AUTH or HELLO has presented.  Errors are Redis' own.
 */
#include <stdio.h>
#include <string.h>

#include "../../wire/token.h"
#include "redis.h"

bool redis_presents(struct redis_call *call, struct words user, struct words text)
{
	struct connection *connection = call->connection;
	struct worker *worker = connection->worker;
	const struct token *token = tokens_of_text(worker->tokens, text.bytes, text.length);
	bool named =
	    user.length > 0 && !(user.length == 7 && memcmp(user.bytes, "default", 7) == 0);

	if (!token || token_is_over(token, worker_time_us(worker)))
		return false;
	if (named && (strlen(token->name) != user.length ||
	              memcmp(token->name, user.bytes, user.length) != 0))
		return false;
	connection->token = token;
	return true;
}

/* The scopes that COMMAND asks for, of which one is enough; 0: any token will do. */
static unsigned scopes_of(const struct redis_command *command)
{
	if (command->flags & REDIS_GOVERNS)
		return SCOPE_ADMIN;
	if (command->flags & REDIS_WRITES)
		return SCOPE_WRITE;
	return command->first > 0 || (command->flags & REDIS_READS) ? SCOPE_READ : 0;
}

static bool has_scope(const struct redis_call *call, const struct token *token)
{
	unsigned scopes = scopes_of(call->command);

	return (scopes == 0 || (token->scopes & scopes)) &&
	       (token->prefix_length == 0 || !(call->command->flags & REDIS_WHOLE));
}

static bool covers_keys(const struct redis_call *call, const struct token *token)
{
	const struct redis_command *command = call->command;
	int count = (int)call->given->count;
	int last = command->last < 0 ? count + command->last : command->last;

	for (int i = command->first; command->first > 0 && i <= last && i < count;
	     i += command->step)
		if (!token_covers(token, redis_word(call, (unsigned)i)))
			return false;
	return true;
}

const char *redis_denies(struct redis_call *call)
{
	static char message[REDIS_WORD_MAX + 64];
	const struct connection *connection = call->connection;
	const struct token *token = connection->token;

	if (!connection->guarded || (call->command->flags & REDIS_OPEN))
		return NULL;
	if (connection_lacks_token(connection))
		return "NOAUTH Authentication required.";
	if (!has_scope(call, token)) {
		snprintf(message, sizeof(message),
		         "NOPERM this user has no permissions to run the '%s' command",
		         call->command->name);
		return message;
	}
	return covers_keys(call, token) ? NULL : REDIS_KEYS_DENIED;
}
