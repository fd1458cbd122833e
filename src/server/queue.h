/*
 * The answers of one connection on their way out: bytes in order, and marks that say up to
 * where they depend on which record of the journal.  Lives at the start of a block of
 * memory that somebody else owns.  Pure: no sockets, no ledger.
 */
#ifndef TALLYD_SERVER_QUEUE_H
#define TALLYD_SERVER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_MARKS                                                                                \
	16 /* one more answer is merged with the one before it: both wait for the later */

/* Whole answers that end somewhere.  Of several that are merged, `began` is the earliest. */
struct queue_answers {
	uint32_t count;
	double began; /* when the first byte of their requests came, monotonic seconds */
};

struct queue_mark {
	uint64_t lsn; /* the bytes from the mark before up to END depend on this record */
	uint32_t end;
	struct queue_answers answers; /* that end there, or before */
};

struct queue {
	uint32_t capacity; /* of bytes[] */
	uint32_t length;
	uint32_t ready; /* bytes[0..ready) may leave */
	uint32_t sent;  /* bytes[0..sent) have left */
	uint32_t first; /* of marks, a ring */
	uint32_t count;
	struct queue_mark marks[QUEUE_MARKS];
	char bytes[];
};

/* Makes a BLOCK of SIZE bytes (more than sizeof(struct queue), below 4 GiB) an empty queue. */
struct queue *queue_init(void *block, size_t size);

/* Where the next answer goes, and how many bytes of it fit. */
static inline char *queue_end(struct queue *queue)
{
	return queue->bytes + queue->length;
}

static inline size_t queue_room(const struct queue *queue)
{
	return queue->capacity - queue->length;
}

/* Bytes that have not left yet, whether they may or not. */
static inline size_t queue_unsent(const struct queue *queue)
{
	return queue->length - queue->sent;
}

/* Bytes that may leave now; they begin at bytes[sent]. */
static inline size_t queue_ready(const struct queue *queue)
{
	return queue->ready - queue->sent;
}

/* The first record that bytes here still wait for, or 0. */
static inline uint64_t queue_waits_for(const struct queue *queue)
{
	return queue->count ? queue->marks[queue->first].lsn : 0;
}

/*
 * Takes the LENGTH bytes (at most queue_room) that the caller has written at queue_end, with which
 * ANSWERS end, as depending on the record LSN, 0: on none.  True: they may leave already.
 */
bool queue_add(struct queue *queue, size_t length, uint64_t lsn, struct queue_answers answers);

/*
 * Lets go the first part of what waits, if it depends only on records below RELEASED: with *ANSWERS
 * in it.  False: nothing more is let go.
 */
bool queue_release(struct queue *queue, uint64_t released, struct queue_answers *answers);

/* How many whole answers wait here. */
uint32_t queue_waiting(const struct queue *queue);

/* LENGTH bytes (at most queue_ready) have left. */
void queue_sent(struct queue *queue, size_t length);

/* Moves what has not left to TO, an empty queue with room for it; TO may be FROM. */
void queue_move(struct queue *to, struct queue *from);

#endif
