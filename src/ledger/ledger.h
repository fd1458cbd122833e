/*
 * The ledger: the operations on accounts.  One process, one handle.  Knows the
 * region and the record format, and neither sockets nor text.
 *
 * Nothing here waits for the disk.  Every answer carries the LSN that it
 * depends on; it may leave the process once ledger_released() > that LSN.
 */
#ifndef TALLYD_LEDGER_LEDGER_H
#define TALLYD_LEDGER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event.h"

struct ledger;
struct region;

/*
 * Opens the ledger in REGION for the process that owns process slot SLOT, and
 * finishes or undoes what the slot's last owner left half done.  Returns a
 * handle (one allocation, freed by ledger_close), or NULL with errno set:
 * ENOMEM, or ENOTRECOVERABLE if the region is poisoned.
 */
struct ledger *ledger_open(struct region *region, uint32_t slot);
void ledger_close(struct ledger *ledger);

/*
 * Writes the record that begins a run into a region fresh from recovery.  For the master before
 * its first fork: takes no lock.  False if the last segment has no room for it (disk full).
 */
bool ledger_begin(struct region *region, uint64_t now_us);

/*
 * Appends a record without effect on accounts: the journal writer's own.  The process has
 * entered its slot and adopted its area (ledger_open).  OUTCOME_ACCEPTED, QUEUE_FULL, DISK_FULL,
 * JOURNAL_FAILED or POISONED.
 */
enum outcome ledger_mark(struct ledger *ledger, uint64_t now_us);
enum outcome ledger_stop(struct ledger *ledger, uint64_t now_us);

struct seal_link;
/* The same for a seal, which is also remembered in the region. */
enum outcome ledger_seal(struct ledger *ledger, const struct seal_link *link, uint64_t now_us);

/*
 * Applies EVENT atomically, creating its account if need be, and writes what
 * happened to *RESULT.  NOW_US is the time to record, microseconds since 1970.
 * On anything but OUTCOME_ACCEPTED nothing has changed; on OUTCOME_OVERFLOW
 * result->lsn still names the record that the refusal relied on (0: none).
 */
void ledger_post(struct ledger *ledger, const struct event *event, uint64_t now_us,
                 struct result *result);

/*
 * Reads the account NAME of LENGTH bytes into *VIEW.  OUTCOME_ACCEPTED, or
 * OUTCOME_UNKNOWN_ACCOUNT, or OUTCOME_POISONED.
 */
enum outcome ledger_read(struct ledger *ledger, const char *name, uint32_t length,
                         struct account_view *view);

/* Answers depending on any LSN below this one may leave. */
uint64_t ledger_released(const struct ledger *ledger);

/*
 * Ask to be woken (one write to this slot's eventfd, and then no more until
 * asked again) when ledger_released() passes LSN.  Returns false when it has
 * passed already: then no wake-up will come.
 */
bool ledger_want(struct ledger *ledger, uint64_t lsn);

/*
 * Tell the journal writer that there is work.  Called once per loop turn after
 * ledger_post, not once per event: it costs a system call only if the writer
 * sleeps.
 */
void ledger_kick(struct ledger *ledger);

/* Events accepted but not yet released, all processes together. */
uint64_t ledger_pending(const struct ledger *ledger);

/* Whole seconds until the ring should have drained at the rate just measured: 1 to 60. */
unsigned ledger_retry_after(const struct ledger *ledger);

/*
 * What an update would be answered just now, without trying one:
 * OUTCOME_ACCEPTED, QUEUE_FULL, DISK_FULL or JOURNAL_FAILED.
 */
enum outcome ledger_health(const struct ledger *ledger);

#endif
