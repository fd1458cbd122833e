/*
 * Where the journal lives, seen through its verbs: claim, append, replay, tail.  Files are
 * the store that is always there; nothing above these verbs may assume one.
 */
#ifndef TALLYD_LEDGER_STORE_H
#define TALLYD_LEDGER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "record.h"

#define STORE_ERROR_SIZE 512 /* bytes for a message: what, why, what to do */

struct store;
struct store_reader;

enum store_status {
	STORE_OK,
	STORE_END,     /* no sound record follows */
	STORE_CORRUPT, /* what is there cannot be what was written */
	STORE_IO,      /* a system call failed: errno */
};

/*
 * Opens the journal in the directory PATH (made if it is not there) and checks that its segments
 * are whole and follow one another.  NULL on failure, with *STATUS and a message in ERROR
 * (STORE_ERROR_SIZE bytes).  Closed with store_close.
 */
struct store *store_open(const char *path, enum store_status *status, char *error);
void store_close(struct store *store);

/* The same for reading only: nothing is made, and a directory that is not there is STORE_IO. */
struct store *store_inspect(const char *path, enum store_status *status, char *error);

/*
 * A store for reading only over COUNT segments of the directory PATH, which the caller has found
 * whole and to follow one another: what is left of a damaged journal.  NULL with errno.
 */
struct segment;
struct store *store_of(const char *path, const struct segment *segments, size_t count);

/*
 * The descriptor of the directory through which its files are reached, the store's: for who
 * confines himself to it.
 */
int store_directory(const struct store *store);

/* No segment yet? */
bool store_empty(const struct store *store);

/* The journal's key; random for an empty store, which keeps it when it is claimed. */
uint64_t store_key(const struct store *store);

/* The position of the first record that is kept, and the end of the last segment. */
uint64_t store_first(const struct store *store);
uint64_t store_space(const struct store *store);

/* The end of the segment that holds LSN. */
uint64_t store_segment_end(const struct store *store, uint64_t lsn);

/*
 * The first record of the segment that holds LSN: a place to begin reading, for who looks for a
 * record near a position that is perhaps none.  What lies outside is taken to the nearest one.
 */
uint64_t store_segment_first(const struct store *store, uint64_t lsn);

/*
 * claim: become the one writer, with segments of SEGMENT_SIZE bytes from now on.  The
 * caller holds the data directory's lock, which is what fences a store of files.  Makes the first
 * segment if there is none.  0, or -1 with errno.
 */
int store_claim(struct store *store, uint64_t segment_size);

/*
 * append: writes the COUNT pieces, the journal's bytes from LSN on, into the page cache.
 * They end where a record ends and may cross segments (their heads are skipped).
 * 0, or -1 with errno: the store must not be used again.
 */
int store_append(struct store *store, uint64_t lsn, const struct iovec *piece, int count);

/* Makes durable what was appended.  0, or -1 with errno: the store must not be used again. */
int store_sync(struct store *store);

/*
 * Makes one more segment, so that store_space grows.  May be called from another thread
 * than append and sync, one at a time.  0, or -1 with errno (ENOSPC: try again later).
 */
int store_extend(struct store *store);

/*
 * The same, but its blocks are only reserved, not filled ahead: for a journal that grows so fast
 * that writing everything twice would cost more than the metadata that this puts into each sync.
 */
int store_extend_unfilled(struct store *store);

/*
 * replay: reads records one after the other from position FROM, where one begins.
 * NULL with errno.
 */
struct store_reader *store_replay(const struct store *store, uint64_t from);

/*
 * The next record, borrowed until the next call.  STORE_OK; STORE_END where no sound
 * record follows (store_reader_at tells where); STORE_IO with errno.
 */
enum store_status store_next(struct store_reader *reader, const struct record_head **record);

/*
 * The same for a run of records, at least one and at most LIMIT, all borrowed until the next call:
 * whoever has several to apply can fetch the memory for one while working on another.
 */
enum store_status store_next_run(struct store_reader *reader, const struct record_head **records,
                                 size_t limit, size_t *count);

/* tail: the position behind the last record given. */
uint64_t store_reader_at(const struct store_reader *reader);
void store_reader_close(struct store_reader *reader);

/*
 * After STORE_END at position AT: is what follows a torn write, or damage?  It is damage if
 * any sound record behind it carries a durable mark beyond AT.  STORE_OK: torn.
 * STORE_CORRUPT: *WITNESS is that record's position.  STORE_IO with errno.
 */
enum store_status store_torn(const struct store *store, uint64_t at, uint64_t *witness);

/*
 * The same verdict beside a writer that may have gone on since the reader gave STORE_END at AT.
 * STORE_OK: it has, *NEXT is a reader that goes on there; STORE_END: that is the end, as far as it
 * is written; else as above.
 */
enum store_status store_go_on(const struct store *store, uint64_t at, struct store_reader **next,
                              uint64_t *witness);

/*
 * Writes the bytes FROM .. TO once more, as they are read, and makes them durable: what a run that
 * died had written but not synced, or not with success, may be in the page cache only.
 * 0, or -1 with errno: the store must not be used again.
 */
int store_settle(const struct store *store, uint64_t from, uint64_t to);

/*
 * Zeroes everything from AT on and makes that durable; *CUT is how many bytes were not zero.  In a
 * store that was claimed, segments ahead that were made with another size are removed, so that
 * all that follow have the one that is in force.  0, or -1 with errno.
 */
int store_cut(struct store *store, uint64_t at, uint64_t *cut);

/*
 * Sees to it that all from AT on, where nothing is but zeros, has its blocks: where the journal was
 * copied sparsely they are holes, and only a write would find the disk full.  Segments ahead for
 * which there is no room are removed.  0, or -1 with errno: ENOSPC, not even the one that AT is in.
 */
int store_reserve(struct store *store, uint64_t at);

/* The file and the offset in it that hold LSN, for messages. */
void store_locate(const struct store *store, uint64_t lsn, char *text, size_t size);

#endif
