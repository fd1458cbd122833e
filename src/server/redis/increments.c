/*
 * INCR, DECR, INCRBY, DECRBY: events, which go to the ledger as the groups that they come in.
 */
#include "redis.h"

#include <string.h>

/* By how much, with the sign of what the command does. */
static bool read_amount(struct redis_call *call, struct answer *answer, int64_t *amount)
{
	const char *name = call->command->name;
	bool down = name[0] == 'd';

	*amount = 1;
	if (call->given->count > 2) {
		struct words word = redis_word(call, 2);
		if (!resp_integer_of(word.bytes, word.length, amount)) {
			redis_error_integer(answer);
			return false;
		}
	}
	if (down && __builtin_sub_overflow(0, *amount, amount)) {
		redis_error(answer, "ERR decrement would overflow");
		return false;
	}
	return true;
}

bool increment_read(struct redis_call *call, struct request *request, struct answer *answer)
{
	struct words name = redis_word(call, 1);
	int64_t amount;

	if (!read_amount(call, answer, &amount))
		return false;
	*request = (struct request){
	    .kind = REQUEST_EVENT, .legs = 1, .leg = {{.account = name, .amount = amount}}};
	return true;
}
