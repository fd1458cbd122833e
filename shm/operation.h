/*
 * One operation: it changes at most OPERATION_IMAGES_MAX cells and writes one record, or a group
 * of records side by side, all or nothing, whatever instruction its process dies at.
 *
 *   1. lock what covers the cells, ascending  operation_lock
 *   2. stage the after-images                 operation_stage
 *   3. lock the ring, place the records       operation_commit
 *   4. COMMIT: one release store of the first record's LSN into the area
 *   5. advance the tail, unlock the ring, copy the images into the cells,
 *      clear the area                         ... operation_commit returns
 *   6. unlock                                 operation_unlock
 *
 * Why this is atomic.  Before 4 nothing shared has changed: the images are in the area,
 * the records' bytes lie beyond the tail.  After 4 the area is frozen until it is cleared,
 * and it says everything that remains to be done.  The process still holds every lock that
 * guards what is not done yet: the ring's until the tail has moved, each cell's until
 * after the area is cleared.  So whoever could see the difference must first acquire one
 * of these locks, gets EOWNERDEAD, and finishes that lock's share (repair.c).  Shares are
 * idempotent: the tail only grows, a cell is copied only while its LSN is below the one that
 * its image will give it, and the cell's LSN is stored last.  A share finished late cannot undo
 * newer work for the same reason.  An area stops counting, by its owner or by the next owner of
 * its slot (operation_adopt), only while all locks that it names are held at once: so nobody
 * repairs from an area that is being written anew.
 *
 * Why a group is, too.  One store at 4 commits all of its records: they lie side by side from that
 * LSN on, the tail passes over all of them with one store, and all images are in the one area.
 * Nobody sees a part of it: a reader of the ring sees none before the tail has moved and all
 * after it; a reader of a cell holds that cell's lock, which the operation held from before it
 * looked until every image was copied.  (What a power cut leaves of a group is another matter:
 * its records are decided one by one, each follows those before it, and any first part of
 * them is a sound journal.)
 *
 * Why the guard holds although an operation has several LSNs.  Each image carries the offset of
 * the last record that changed its cell, so the cell's LSN will be commit + offset: it lies in the
 * records' own bytes, commit .. new_tail, which no other operation ever has.  Older
 * operations' LSNs are below commit, newer ones' at or above new_tail, and a cell has but one
 * image: operation_stage gives back the one that is there already, and repair refuses an area where
 * two images share a cell.  So "below commit + offset" means exactly: not copied yet.
 *
 * What stands beside a cell and is made from it (the tag and coarse time of an id: ids.c; two of a
 * hold's hints: holds.c) is written with the copy, before the cell's LSN, and so is part of its
 * share.
 */
#ifndef TALLYD_SHM_OPERATION_H
#define TALLYD_SHM_OPERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "region.h"
#include "ring.h"

#define OPERATION_LOCKS_MAX  40    /* locks of one operation, but the ring's */
#define OPERATION_IMAGES_MAX 52    /* cells of one operation */
#define OPERATION_CELL_MAX   320   /* bytes of a cell, its LSN included */
#define OPERATION_BYTES_MAX  16384 /* of all records of one operation */

struct region;

/*
 * Makes this process's area (region_enter) usable: finishes what its last owner left.  False if
 * the region is poisoned.
 */
bool operation_adopt(struct region *region);

/*
 * Acquires the COUNT locks LOCKS: stripes, those of ids and of holds (any order, repeats allowed;
 * at most OPERATION_LOCKS_MAX different ones).  False: poisoned, none is held.
 */
bool operation_lock(struct region *region, const uint32_t *locks, uint32_t count);

/*
 * Stages CELL (an account's, id's or hold's slot, or the seal, of which the first LENGTH bytes may
 * change, a multiple of eight; the first eight are its LSN; an id's slot as a whole), covered by
 * LOCK, which is held.  Returns the after-image, for the caller to change; its first eight bytes
 * are ignored.  RECORD is the offset, among the records to be committed, of the one that changes
 * the cell: its LSN will be the cell's.  A cell that is staged already keeps its image, and RECORD
 * becomes the newer one; LENGTH may then be greater than before, never beyond the cell's size.
 * NULL if OPERATION_IMAGES_MAX other cells are staged: ask operation_images_left before.
 */
void *operation_stage(struct region *region, void *cell, uint32_t lock, size_t length,
                      uint32_t record);

/*
 * The after-image of CELL, or NULL if it is not staged; in *RECORD (may be NULL) the offset of the
 * record that changed it last.
 */
void *operation_staged(const struct region *region, const void *cell, uint32_t *record);

/* How many more images, and the staged ones one by one (INDEX from 0; NULL: no more), by CELL. */
uint32_t operation_images_left(const struct region *region);
void *operation_image(const struct region *region, uint32_t index, void **cell);

/*
 * The staged images change what is in use by CHANGE: told with the commit, exactly as the tail is,
 * and not at all if nothing is committed.
 */
void operation_count(struct region *region, enum region_use use, int64_t change);

/*
 * Commits the staged images and RECORDS (LENGTH bytes in all, a multiple of eight, at most
 * OPERATION_BYTES_MAX, side by side in one segment; stamped in place), counting EVENTS client
 * events.  On RING_OK the operation has happened, *LSN is the first record's; on anything else
 * nothing has.  The locks stay held.
 */
enum ring_status operation_commit(struct region *region, void *records, size_t length,
                                  uint32_t events, enum ring_priority priority, uint64_t *lsn);

/* Releases the locks. */
void operation_unlock(struct region *region);

#endif
