#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "buffer.h"

#define ORDERS 21 /* BUFFER_MEMORY_MAX is BUFFER_BLOCK_MIN shifted by ORDERS - 1 */

_Static_assert(BUFFER_MEMORY_MAX == BUFFER_BLOCK_MIN << (ORDERS - 1), "one order per doubling");

#define TAKEN 0x40u
#define FREE  0x80u

/*
 * What is known of a smallest block.  Kept beside the arena, because a link inside a free
 * block would touch its page.  All zero is the state of a block inside a larger one, so that a
 * fresh mapping needs no initialisation.
 */
struct note {
	uint32_t next; /* index + 1 of a free block's neighbours in its list; 0: none */
	uint32_t previous;
	uint32_t state; /* TAKEN or FREE with the order of the block that begins here, or 0 */
};

struct buffers {
	char *arena;
	struct note *notes;
	size_t memory;
	size_t used;
	uint32_t orders_free; /* bit n: lists[n] is not empty */
	uint32_t lists[ORDERS];
};

static void *map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	madvise(memory, size, MADV_DONTDUMP); /* what clients say is for no core dump */
	return memory;
}

static size_t notes_size(size_t memory)
{
	return memory / BUFFER_BLOCK_MIN * sizeof(struct note);
}

static void list_push(struct buffers *buffers, uint32_t index, unsigned order)
{
	struct note *note = &buffers->notes[index];
	note->state = FREE | order;
	note->previous = 0;
	note->next = buffers->lists[order];
	if (note->next)
		buffers->notes[note->next - 1].previous = index + 1;
	buffers->lists[order] = index + 1;
	buffers->orders_free |= 1u << order;
}

static void list_remove(struct buffers *buffers, uint32_t index, unsigned order)
{
	struct note *note = &buffers->notes[index];
	if (note->next)
		buffers->notes[note->next - 1].previous = note->previous;
	if (note->previous)
		buffers->notes[note->previous - 1].next = note->next;
	else
		buffers->lists[order] = note->next;
	if (!buffers->lists[order])
		buffers->orders_free &= ~(1u << order);
	note->state = 0;
}

struct buffers *buffers_new(size_t memory)
{
	if (memory < BUFFER_BLOCK_MIN || memory > BUFFER_MEMORY_MAX || (memory & (memory - 1))) {
		errno = EINVAL;
		return NULL;
	}
	struct buffers *buffers = calloc(1, sizeof(*buffers));
	if (!buffers)
		return NULL;
	buffers->memory = memory;
	buffers->arena = map(memory);
	buffers->notes = map(notes_size(memory));
	if (!buffers->arena || !buffers->notes) {
		buffers_free(buffers);
		errno = ENOMEM;
		return NULL;
	}
	list_push(buffers, 0, (unsigned)__builtin_ctzl(memory / BUFFER_BLOCK_MIN));
	return buffers;
}

void buffers_free(struct buffers *buffers)
{
	if (!buffers)
		return;
	if (buffers->arena)
		munmap(buffers->arena, buffers->memory);
	if (buffers->notes)
		munmap(buffers->notes, notes_size(buffers->memory));
	free(buffers);
}

/* The order of the smallest block that holds SIZE bytes; SIZE is at most BUFFER_MEMORY_MAX. */
static unsigned order_of(size_t size)
{
	size_t blocks = (size + BUFFER_BLOCK_MIN - 1) / BUFFER_BLOCK_MIN;
	return blocks <= 1 ? 0 : (unsigned)(64 - __builtin_clzll(blocks - 1));
}

void *buffer_take(struct buffers *buffers, size_t size, size_t *capacity)
{
	if (size > buffers->memory)
		return NULL;
	unsigned order = order_of(size);
	uint32_t fitting = buffers->orders_free >> order << order;
	if (!fitting)
		return NULL;

	unsigned found = (unsigned)__builtin_ctz(fitting);
	uint32_t index = buffers->lists[found] - 1;
	list_remove(buffers, index, found);
	while (found > order) {
		found--;
		list_push(buffers, index + (1u << found), found);
	}
	buffers->notes[index].state = TAKEN | order;
	*capacity = (size_t)BUFFER_BLOCK_MIN << order;
	buffers->used += *capacity;
	return buffers->arena + (size_t)index * BUFFER_BLOCK_MIN;
}

void buffer_give(struct buffers *buffers, void *block)
{
	if (!block)
		return;
	uint32_t index = (uint32_t)((size_t)((char *)block - buffers->arena) / BUFFER_BLOCK_MIN);
	assert(buffers->notes[index].state & TAKEN);
	unsigned order = buffers->notes[index].state & ~TAKEN;
	buffers->used -= (size_t)BUFFER_BLOCK_MIN << order;
	buffers->notes[index].state = 0;

	while ((size_t)BUFFER_BLOCK_MIN << order < buffers->memory) {
		uint32_t buddy = index ^ (1u << order);
		if (buffers->notes[buddy].state != (FREE | order))
			break;
		list_remove(buffers, buddy, order);
		index &= ~(1u << order);
		order++;
	}
	list_push(buffers, index, order);
}

size_t buffers_used(const struct buffers *buffers)
{
	return buffers->used;
}
