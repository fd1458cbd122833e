/*
 * The memory of all connections of one worker: one arena, mapped at start and cut by
 * halves (Knuth, TAOCP 1, 2.5, the buddy system).  Taking and giving back never asks the
 * system for memory, and what the arena does not have is refused, so that connections can
 * never use more than was configured.  Pages that were never taken cost nothing.
 */
#ifndef TALLYD_SERVER_BUFFER_H
#define TALLYD_SERVER_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#define BUFFER_BLOCK_MIN  2048u      /* bytes of the smallest block */
#define BUFFER_MEMORY_MAX (1u << 31) /* bytes of the largest arena */

struct buffers;

/*
 * Maps an arena of MEMORY bytes: a power of two from BUFFER_BLOCK_MIN to BUFFER_MEMORY_MAX.
 * The caller owns it and ends it with buffers_free.  NULL with errno: EINVAL (size) or ENOMEM.
 */
struct buffers *buffers_new(size_t memory);
void buffers_free(struct buffers *buffers); /* NULL is fine; all blocks die with it */

/*
 * Takes a block of at least SIZE bytes (1 or more), aligned to BUFFER_BLOCK_MIN and not
 * cleared, and writes its true size to *CAPACITY.  NULL if the arena has none; errno is kept.
 */
void *buffer_take(struct buffers *buffers, size_t size, size_t *capacity);

/* Gives BLOCK, which buffer_take returned, back.  NULL is fine. */
void buffer_give(struct buffers *buffers, void *block);

/* Bytes of blocks taken and not given back. */
size_t buffers_used(const struct buffers *buffers);

#endif
