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
#include "facts.h"

struct ledger;
struct region;
struct journal_reader; /* history.h */

/*
 * Opens the ledger in REGION for the process that owns process slot SLOT, and
 * finishes or undoes what the slot's last owner left half done.  HISTORY reads the journal for the
 * answers that are remembered (NULL: an id that was seen before is OUTCOME_READ_FAILED); it is
 * borrowed.  Returns a handle (one allocation, freed by ledger_close), or NULL with errno set:
 * ENOMEM, or ENOTRECOVERABLE if the region is poisoned.
 */
struct ledger *ledger_open(struct region *region, uint32_t slot, struct journal_reader *history);
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
 * Applies REQUEST atomically and writes what happened to *RESULT.  NOW_US is the time to record,
 * microseconds since 1970.  On anything but OUTCOME_ACCEPTED no account and no hold has changed
 * (a refusal that is remembered with its id is a record of its own); result->lsn still names the
 * record that a decided refusal relied on (0: none).
 *
 * Same id, same request: the result of the first time, with `replayed`.  Same id, another
 * request: OUTCOME_ID_REUSED.  "The same" is decided by a fingerprint of all that the request
 * means, not of how it was written.  Two copies at the same moment: one is applied, both get its
 * result.  To read that of an old id may wait for the disk; never for a write.
 *
 * An amount of zero asks and changes nothing: neither ceiling, floor nor frozen matters, and the
 * account must be there.  In a transaction that changes something, each leg is a change.  A capture
 * for the benefit of the hold's own account is OUTCOME_SAME_ACCOUNT.
 */
void ledger_apply(struct ledger *ledger, const struct request *request, uint64_t now_us,
                  struct result *result);

/*
 * Applies COUNT requests of REQUEST_EVENT in order, each decided by itself, up to GROUP_MAX with
 * one commit: their answers are released together.  A torn write may keep the first records of a
 * group and lose the rest; then none of them was acknowledged.  Results as of ledger_apply.  If a
 * group cannot be committed, all of it is refused for that reason, but for answers that are
 * remembered.
 * (A group ends before an id that an earlier member has: that one is answered from its record.)
 */
void ledger_apply_group(struct ledger *ledger, const struct request *requests, size_t count,
                        uint64_t now_us, struct result *results);

/*
 * Reads the account NAME of LENGTH bytes into *VIEW (but for its name).  OUTCOME_ACCEPTED, or
 * OUTCOME_UNKNOWN_ACCOUNT, or OUTCOME_POISONED.  view->lsn is always set: that there is no such
 * account depends on a record, too, if it was deleted.
 */
enum outcome ledger_read(struct ledger *ledger, const char *name, uint32_t length,
                         struct account_view *view);

/* What is relied on by somebody who saw that something is not there: all records there are. */
uint64_t ledger_newest(const struct ledger *ledger);

/* Likewise the hold ID.  OUTCOME_ACCEPTED, OUTCOME_UNKNOWN_HOLD or OUTCOME_POISONED. */
enum outcome ledger_read_hold(struct ledger *ledger, const char *id, uint32_t length,
                              struct hold_view *view);

/*
 * The open holds of the account NAME, from *CURSOR (0: from the beginning) on: up to MAX into
 * VIEWS, their number in *COUNT, and in *CURSOR where to go on, 0: there are no more.  A cursor
 * tells a client nothing (cursor.h).  A hold that is open throughout a listing appears exactly once
 * in it. *LSN is raised to that of the newest record that the answer depends on, settlements of
 * holds that are not returned included.  OUTCOME_ACCEPTED, UNKNOWN_ACCOUNT or POISONED.
 */
enum outcome ledger_list_holds(struct ledger *ledger, const char *name, uint32_t length,
                               uint64_t *cursor, struct hold_view *views, size_t max, size_t *count,
                               uint64_t *lsn);

/*
 * Where a listing of accounts stands.  All zero begins one.  A client who is to go on gets
 * `sealed`, which tells him nothing (cursor.h); with that and `begun` alone the next page begins.
 */
struct list_cursor {
	uint64_t sealed;
	bool begun;
	bool done;  /* there are no more */
	bool given; /* the page has accounts already */
};

/*
 * Accounts whose names begin with PREFIX, in an order that depends on nothing but the names and
 * the journal's key (so that a cursor outlives a restart): up to MAX into VIEWS, their number in
 * *COUNT.  Looks at a bounded part of the table, so it may return fewer, or none, before
 * cursor->done.  An account that exists throughout a listing appears exactly once in it (provided
 * that no page is smaller than the number of names that share all 64 bits of their hash).  *LSN is
 * raised to that of the newest record that the answer depends on, deletions included.
 */
enum outcome ledger_list(struct ledger *ledger, struct words prefix, struct list_cursor *cursor,
                         struct account_view *views, size_t max, size_t *count, uint64_t *lsn);

/*
 * Releases holds whose time is over, up to MAX of them: each is a record.  Called by every worker
 * a few times a second; whoever comes first does the work.  Returns how many were released.
 */
size_t ledger_expire(struct ledger *ledger, uint64_t now_us, size_t max);
#define LEDGER_EXPIRE_EVERY_MS 200

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
 * ledger_apply, not once per event: it costs a system call only if the writer
 * sleeps.
 */
void ledger_kick(struct ledger *ledger);

/* Events accepted but not yet released, all processes together. */
uint64_t ledger_pending(const struct ledger *ledger);

/* Whole seconds until the ring should have drained at the rate just measured: 1 to 60. */
unsigned ledger_retry_after(const struct ledger *ledger);

/*
 * How long ids are really remembered, in microseconds: at NOW_US (since 1970), every id that is
 * younger than this is there.  id_window, or less while an id younger than that had to make room,
 * in this run or in an earlier one; it grows again as time goes on.  0: even one of this moment was
 * lost.
 */
uint64_t ledger_ids_kept(struct region *region, uint64_t now_us);

/* The same, and in *FORGOTTEN how many made room while younger than id_window, since the start. */
uint64_t ledger_id_window(const struct ledger *ledger, uint64_t now_us, uint64_t *forgotten);

/* The facts of LEDGER's region at NOW_US (since 1970). */
void ledger_facts(const struct ledger *ledger, uint64_t now_us, struct facts *facts);

/*
 * What an update would be answered just now, without trying one:
 * OUTCOME_ACCEPTED, QUEUE_FULL, DISK_FULL, JOURNAL_FAILED or POISONED.
 */
enum outcome ledger_health(const struct ledger *ledger);

#endif
