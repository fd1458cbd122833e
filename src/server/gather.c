#include "gather.h"

#include "array.h"
#include "cors.h"
#include "group.h"
#include "note.h"

#define EVENT_ROOM (HANDLER_ROOM + CORS_ROOM) /* bytes of the answer to one event */

bool gather_takes(struct connection *connection, const struct route *route, const struct call *call,
                  bool more)
{
	const struct route_method *method = route_method(route, call->request->method);

	return method && method->events && !call->denied &&
	       (more || connection->worker->group->count > 0) && !array_is_given(call) &&
	       !cors_is_foreign(call);
}

/* Room for the answers so far and ROOM more. */
static enum connection_room reserve(struct connection *connection, const struct call *call,
                                    size_t room, size_t length, struct text *out)
{
	struct group *group = connection->worker->group;
	size_t own = call->request->head_length + call->body_length;

	/* As many as seem to follow, so that the block is not changed with every one. */
	if (!connection->out) {
		size_t events = length / own < GROUP_MAX ? length / own : GROUP_MAX;
		if (connection_room(connection, events * room, out) == CONNECTION_ROOM)
			return CONNECTION_ROOM;
	}
	return connection_room(connection, group->room + room, out);
}

static void answer_unread_event(struct connection *connection, const struct call *call, size_t room,
                                size_t length, double began, const struct answer *answer)
{
	struct text out;

	gather_answer(connection);
	/* It was reserved. */
	if (connection_room(connection, room, &out) != CONNECTION_ROOM)
		return;
	text_bytes(&out, answer->out.bytes, answer->out.length);
	note_answer(connection, ENDPOINT_EVENT, call->bytes, length, began, answer, "an operation");
	connection_answers(connection, &out, answer->lsn, 1, began);
}

enum connection_room gather(struct connection *connection, const struct call *call, size_t room,
                            size_t length, double began)
{
	struct group *group = connection->worker->group;
	struct group_member *member = &group->members[group->count];
	char memory[EVENT_ROOM];
	struct answer answer = {0};
	struct text out;
	enum connection_room reserved = reserve(connection, call, room, length, &out);

	if (reserved != CONNECTION_ROOM)
		return reserved;
	text_init(&answer.out, memory, sizeof(memory));
	if (!event_read(call, &answer, &group->requests[group->count], member->key)) {
		answer_unread_event(connection, call, room, length, began, &answer);
		return CONNECTION_ROOM;
	}
	member->frame = call->frame;
	member->bytes = call->bytes;
	member->length = length;
	member->began = began;
	group->room += room;
	if (++group->count == GROUP_MAX)
		gather_answer(connection);
	return CONNECTION_ROOM;
}

static void answer_member(struct connection *connection, const struct group *group, size_t index,
                          struct answer *answer)
{
	const struct group_member *member = &group->members[index];
	struct worker *worker = connection->worker;
	struct call call = {.ledger = worker->server->ledger, .frame = member->frame};

	operation_answer(&call, answer, &group->requests[index], &group->results[index]);
	note_whole(connection, ENDPOINT_EVENT, member->bytes, member->length, member->began,
	           answer);
}

/* The answers OUT to GROUP.  Its first request may have begun in an earlier read than the rest. */
static void queue_group(struct connection *connection, const struct group *group,
                        const struct text *out, uint64_t lsn)
{
	static const struct text nothing;
	uint32_t count = (uint32_t)group->count;
	double began = group->members[count - 1].began;

	if (group->members[0].began < began) {
		connection_answers(connection, out, lsn, 1, group->members[0].began);
		connection_answers(connection, &nothing, lsn, count - 1, began);
	} else {
		connection_answers(connection, out, lsn, count, began);
	}
}

void gather_answer(struct connection *connection)
{
	struct group *group = connection->worker->group;
	struct text out;
	uint64_t lsn = 0;

	if (group->count == 0)
		return;
	/* It was reserved. */
	if (connection_room(connection, group->room, &out) == CONNECTION_ROOM &&
	    group_apply(connection->worker, group, false) > 0) {
		for (size_t i = 0; i < group->count; i++) {
			struct answer answer = {0};
			text_init(&answer.out, out.bytes + out.length, out.capacity - out.length);
			answer_member(connection, group, i, &answer);
			out.length += answer.out.length;
			lsn = answer.lsn > lsn ? answer.lsn : lsn;
		}
		queue_group(connection, group, &out, lsn);
	}
	group->count = group->room = 0;
}
