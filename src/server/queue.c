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

static void merge(struct queue_answers *into, const struct queue_answers *answers)
{
	if (answers->count && (into->count == 0 || answers->began < into->began))
		into->began = answers->began;
	into->count += answers->count;
}

/* May what depends on LSN, and ANSWERS in it, be told by the mark LAST? */
static bool belongs(const struct queue_mark *last, uint64_t lsn,
                    const struct queue_answers *answers)
{
	/*
	 * Bytes leave in order, so a weaker dependence is covered by the one before; and requests
	 * come in order, so none has begun before the last one: it began together with it.
	 */
	return lsn <= last->lsn && (answers->count == 0 || last->answers.count == 0 ||
	                            answers->began <= last->answers.began);
}

bool queue_add(struct queue *queue, size_t length, uint64_t lsn, struct queue_answers answers)
{
	assert(length <= queue_room(queue));
	queue->length += (uint32_t)length;
	if (queue->count == 0 && lsn == 0) {
		queue->ready = queue->length;
		return true;
	}
	if (queue->count > 0) {
		struct queue_mark *last =
		    &queue->marks[(queue->first + queue->count - 1) % QUEUE_MARKS];
		if (belongs(last, lsn, &answers) || queue->count == QUEUE_MARKS) {
			last->end = queue->length;
			if (last->lsn < lsn)
				last->lsn = lsn;
			merge(&last->answers, &answers);
			return false;
		}
		if (lsn < last->lsn)
			lsn = last->lsn;
	}
	queue->marks[(queue->first + queue->count) % QUEUE_MARKS] =
	    (struct queue_mark){.lsn = lsn, .end = queue->length, .answers = answers};
	queue->count++;
	return false;
}

bool queue_release(struct queue *queue, uint64_t released, struct queue_answers *answers)
{
	const struct queue_mark *first = &queue->marks[queue->first];

	if (queue->count == 0 || first->lsn >= released)
		return false;
	*answers = first->answers;
	queue->ready = first->end;
	queue->first = (queue->first + 1) % QUEUE_MARKS;
	queue->count--;
	return true;
}

uint32_t queue_waiting(const struct queue *queue)
{
	uint32_t waiting = 0;

	for (uint32_t i = 0; i < queue->count; i++)
		waiting += queue->marks[(queue->first + i) % QUEUE_MARKS].answers.count;
	return waiting;
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
