/*
 * What the next owner of a lock does when the last one died.  Called with the lock held,
 * before it is marked consistent.
 */
#ifndef TALLYD_SHM_REPAIR_H
#define TALLYD_SHM_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

struct operation_area;
struct region;
struct region_marks;

/* Finishes lock NUMBER's share of a dead process's operation.  False: inconsistent, poison. */
bool repair_lock(struct region *region, uint32_t number);

/* The check value over AREA's counts, locks, cells and images. */
uint64_t repair_check(const struct operation_area *area);

/* Stores into MARKS what is counted up to AREA's new tail.  The ring lock is held. */
void repair_counts(struct region_marks *marks, const struct operation_area *area);

/*
 * Copies AREA's image INDEX into its cell, unless that is newer already.  LSN is the operation's:
 * the cell's will be that of the record that changed it.
 */
void repair_apply(struct region *region, const struct operation_area *area, uint32_t index,
                  uint64_t lsn);

#endif
