/*
 * One operation: it changes at most OPERATION_LOCKS_MAX cells and writes one record, all
 * or nothing, whatever instruction its process dies at.
 *
 *   1. lock the stripes, ascending           operation_lock
 *   2. stage the after-images                operation_stage
 *   3. lock the ring, place the record       operation_commit
 *   4. COMMIT: one release store of the LSN into the area
 *   5. advance the tail, unlock the ring, copy the images into the cells,
 *      clear the area                        ... operation_commit returns
 *   6. unlock the stripes                    operation_unlock
 *
 * Why this is atomic.  Before 4 nothing shared has changed: the images are in the area,
 * the record's bytes lie beyond the tail.  After 4 the area is frozen until it is cleared,
 * and it says everything that remains to be done.  The process still holds every lock that
 * guards what is not done yet: the ring's until the tail has moved, each stripe's until
 * after the area is cleared.  So whoever could see the difference must first acquire one
 * of these locks, gets EOWNERDEAD, and finishes that lock's share (repair.c).  Shares are
 * idempotent: the tail only grows, a cell is copied only while its LSN is below the
 * operation's, and the cell's LSN is stored last.  A share finished late cannot undo newer
 * work for the same reason.  An area stops counting, by its owner or by the next owner of its
 * slot (operation_adopt), only while all stripes that it names are held at once: so nobody
 * repairs from an area that is being written anew.
 */
#ifndef TALLYD_SHM_OPERATION_H
#define TALLYD_SHM_OPERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ring.h"

#define OPERATION_LOCKS_MAX 20  /* stripes of one operation */
#define OPERATION_CELL_MAX  192 /* bytes of a cell, its LSN included */

struct region;

/*
 * Makes this process's area (region_enter) usable: finishes what its last owner left.  False if
 * the region is poisoned.
 */
bool operation_adopt(struct region *region);

/* Acquires the COUNT locks STRIPES (any order, repeats allowed).  False: poisoned, none is held. */
bool operation_lock(struct region *region, const uint32_t *stripes, uint32_t count);

/*
 * Stages CELL (a pointer into the region, of LENGTH bytes, first eight its LSN, guarded
 * by STRIPE).  Returns the after-image, equal to the cell now, for the caller to change; its
 * first eight bytes are ignored.  At most one image per cell.
 */
void *operation_stage(struct region *region, void *cell, uint32_t stripe, size_t length);

/*
 * Commits the staged images and RECORD (LENGTH bytes, a multiple of eight, at most
 * JOURNAL_RECORD_MAX; it is stamped in place), counting EVENTS client events.  On RING_OK
 * the operation has happened, *LSN is its record's; on anything else nothing has.  The
 * stripes stay locked.
 */
enum ring_status operation_commit(struct region *region, void *record, size_t length,
                                  uint32_t events, enum ring_priority priority, uint64_t *lsn);

/* Releases the stripes. */
void operation_unlock(struct region *region);

#endif
