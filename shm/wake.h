/*
 * Waking across processes without process-shared condition variables, which a killed
 * waiter wedges: a raw futex for the journal writer, a word per process for the rest (their
 * eventfds are the daemon's business).
 */
#ifndef TALLYD_SHM_WAKE_H
#define TALLYD_SHM_WAKE_H

#include <stdbool.h>
#include <stdint.h>

struct region;

/* Wakes the journal writer if it sleeps.  A system call only then. */
void wake_writer(struct region *region);

/*
 * The journal writer sleeps until wake_writer, a signal, or TIMEOUT_MS; at once back if the
 * tail is no longer SEEN_TAIL.
 */
void wake_writer_sleep(struct region *region, uint64_t seen_tail, uint32_t timeout_ms);

/* This process wants to know when RELEASED passes LSN.  False: it has, no wake-up will come. */
bool wake_want(struct region *region, uint64_t lsn);

/* The journal writer: does process SLOT wait for an LSN below RELEASED?  Takes its wish back. */
bool wake_due(struct region *region, uint32_t slot, uint64_t released);

#endif
