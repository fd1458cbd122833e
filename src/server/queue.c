#include <assert.h>
#include <string.h>

#include "queue.h"

struct queue *queue_init(void *block, size_t size)
{
	assert(size > sizeof(struct queue) && size <= UINT32_MAX);
	struct queue *queue = block;
	memset(queue, 0, sizeof(*queue));
	queue->capacity = (uint32_t)(size - sizeof(*queue));
	return queue;
}

void queue_add(struct queue *queue, size_t length, uint64_t lsn)
{
	assert(length <= queue_room(queue));
	queue->length += (uint32_t)length;
	if (queue->count == 0 && lsn == 0) {
		queue->ready = queue->length;
		return;
	}
	if (queue->count > 0) {
		struct queue_mark *last =
		    &queue->marks[(queue->first + queue->count - 1) % QUEUE_MARKS];
		/* Bytes leave in order, so a weaker dependence is covered by the one before. */
		if (lsn <= last->lsn || queue->count == QUEUE_MARKS) {
			last->end = queue->length;
			if (last->lsn < lsn)
				last->lsn = lsn;
			return;
		}
	}
	queue->marks[(queue->first + queue->count) % QUEUE_MARKS] =
	    (struct queue_mark){.lsn = lsn, .end = queue->length};
	queue->count++;
}

void queue_release(struct queue *queue, uint64_t released)
{
	while (queue->count && queue->marks[queue->first].lsn < released) {
		queue->ready = queue->marks[queue->first].end;
		queue->first = (queue->first + 1) % QUEUE_MARKS;
		queue->count--;
	}
}

void queue_sent(struct queue *queue, size_t length)
{
	assert(length <= queue_ready(queue));
	queue->sent += (uint32_t)length;
}

void queue_move(struct queue *to, struct queue *from)
{
	uint32_t gone = from->sent;
	assert(from->length - gone <= to->capacity);
	memmove(to->bytes, from->bytes + gone, from->length - gone);
	uint32_t capacity = to->capacity;
	if (to != from)
		memcpy(to, from, sizeof(*to));
	to->capacity = capacity;
	to->length -= gone;
	to->ready -= gone;
	to->sent = 0;
	for (uint32_t i = 0; i < to->count; i++)
		to->marks[(to->first + i) % QUEUE_MARKS].end -= gone;
}
