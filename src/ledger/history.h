/*
 * The journal as a worker reads it: single records by their LSN, and an account's history as a
 * walk from its newest record back.  Recent records come from the ring, older ones from the store.
 * Costs nothing on the write path.
 */
#ifndef TALLYD_LEDGER_HISTORY_H
#define TALLYD_LEDGER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event.h"

struct region;
struct journal_reader;
struct record_head; /* record.h */

enum history_status {
	HISTORY_OK,
	HISTORY_END,    /* the account's history begins here */
	HISTORY_PRUNED, /* the record is no longer kept */
	HISTORY_LATER,  /* not in memory: it has been asked for, try again in a few milliseconds */
	HISTORY_IO,     /* errno, or a record that is not sound (EUCLEAN) */
};

/*
 * A reader of the journal in the directory PATH for REGION.  Keeps a bounded number of
 * descriptors, read-only.  NULL with errno.
 */
struct journal_reader *history_open(struct region *region, const char *path);
void history_close(struct journal_reader *reader);

/* May reads wait for the disk?  If not (the default), they say HISTORY_LATER instead. */
void history_may_wait(struct journal_reader *reader, bool wait);

/*
 * The record at LSN, where one begins, below the tail; borrowed until the next call.  Checked as
 * record_check does.
 */
enum history_status history_record(struct journal_reader *reader, uint64_t lsn,
                                   const struct record_head **record);

/* What RECORD says, as ledger_apply said it (but for `replayed`): the answer is a function of it.
 */
void history_result(const struct record_head *record, struct result *result);

/*
 * One step of a statement of NAME: the entry of the record at *LSN into *ENTRY (its words borrow
 * until the next call), and in *LSN the account's record before it, 0: none.  HISTORY_END if *LSN
 * is 0.
 */
enum history_status history_step(struct journal_reader *reader, const char *name, uint32_t length,
                                 uint64_t *lsn, struct entry *entry);

/* The first LSN that is kept. */
uint64_t history_first(struct journal_reader *reader);

/*
 * For who reads forward (tail.h).  The position of the record that begins at LSN or, if no record
 * can begin there because the segment ends, of the first one of the next segment.
 */
uint64_t history_next(const struct journal_reader *reader, uint64_t lsn);

/*
 * Copies up to LENGTH bytes of journal from LSN on, not beyond the tail, out of the ring into
 * BYTES: how many, 0 if the ring no longer has them.  They are to be checked.
 */
size_t history_ring(struct journal_reader *reader, uint64_t lsn, void *bytes, size_t length);

/*
 * The same from the files, not beyond the end of LSN's segment: up to *LENGTH bytes, and at least
 * JOURNAL_RECORD_MAX if there are as many.  HISTORY_OK and their number in *LENGTH, or PRUNED,
 * LATER, or IO with errno.
 */
enum history_status history_file(struct journal_reader *reader, uint64_t lsn, void *bytes,
                                 size_t *length);

/* The descriptor of the journal's directory, through which segments are opened; the reader's. */
int history_directory(const struct journal_reader *reader);

/* What READER reads. */
struct region *history_region(struct journal_reader *reader);

#endif
