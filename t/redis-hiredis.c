/* hiredis against a server of Redis' protocol: HOST PORT.  Says what it was told, a line each. */
#include <hiredis/hiredis.h>

#include <stdio.h>
#include <stdlib.h>

static void show(const redisReply *reply)
{
	if (reply == NULL) {
		printf("none");
		return;
	}
	switch (reply->type) {
	case REDIS_REPLY_INTEGER:
		printf("int(%lld)", reply->integer);
		break;
	case REDIS_REPLY_NIL:
		printf("nil");
		break;
	case REDIS_REPLY_ARRAY:
		printf("[");
		for (size_t i = 0; i < reply->elements; i++) {
			printf("%s", i ? " " : "");
			show(reply->element[i]);
		}
		printf("]");
		break;
	default:
		printf("%s", reply->str);
	}
}

static void ask(redisContext *context, const char *command)
{
	redisReply *reply = redisCommand(context, command);

	show(reply);
	printf("\n");
	if (reply)
		freeReplyObject(reply);
}

int main(int argc, char **argv)
{
	static const char *const pipelined[] = {"MULTI", "DECRBY hi:a 2", "INCRBY hi:b 2",
	                                        "GET hi:a", "EXEC"};
	redisContext *context = argc > 2 ? redisConnect(argv[1], atoi(argv[2])) : NULL;
	void *reply;

	if (context == NULL || context->err)
		return 1;
	ask(context, "PING");
	ask(context, "SET hi:a 40");
	ask(context, "INCRBY hi:a 2");
	ask(context, "MGET hi:a hi:none");
	ask(context, "INCRBY hi:a x");
	for (size_t i = 0; i < sizeof(pipelined) / sizeof(pipelined[0]); i++)
		redisAppendCommand(context, pipelined[i]);
	for (size_t i = 0; i < sizeof(pipelined) / sizeof(pipelined[0]); i++) {
		if (redisGetReply(context, &reply) != REDIS_OK)
			return 1;
		show(reply);
		printf("\n");
		freeReplyObject(reply);
	}
	ask(context, "DEL hi:a hi:b");
	redisFree(context);
	return 0;
}
