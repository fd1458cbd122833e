/*
 * The journal ring: records exactly as they go to disk.  The byte of LSN n stands at n
 * modulo the ring's size.  It is also the bounded queue: what does not fit is refused.
 */
#ifndef TALLYD_SHM_RING_H
#define TALLYD_SHM_RING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct region;

enum ring_status {
	RING_OK,
	RING_FULL,     /* the ring, or the number of events waiting */
	RING_NO_SPACE, /* no preallocated journal is left and the disk is full */
	RING_FAILED,   /* the journal failed */
	RING_POISONED,
};

/*
 * The record format belongs to the layer above; these two let the ring complete a group of records
 * once its place is known.  RECORDS has LENGTH bytes; DURABLE is the mark at the time.
 */
struct ring_codec {
	void (*stamp)(void *records, size_t length, uint64_t lsn, uint64_t durable,
	              const struct region *region);
	void (*pad)(void *record, size_t length); /* makes a filler, to be stamped */
};
void ring_set_codec(struct region *region, const struct ring_codec *codec);

/* Whose record it is: the journal writer's own may use what is reserved for them. */
enum ring_priority { RING_CLIENT, RING_INTERNAL };

/*
 * Where LENGTH bytes of records (at most OPERATION_BYTES_MAX, in one segment) would go, if they
 * fit: their LSN in *LSN.  The ring lock is held.  Changes nothing.
 */
enum ring_status ring_place(struct region *region, size_t length, enum ring_priority priority,
                            uint64_t *lsn);

/* Asks the processor to fetch the LENGTH bytes where records will probably go.  Needs no lock. */
void ring_prefetch(const struct region *region, size_t length);

/*
 * Copies the stamped RECORDS to their place LSN, with fillers before them if they begin a segment.
 */
void ring_write(struct region *region, uint64_t lsn, const void *records, size_t length,
                uint64_t durable);

/* The end of the segment in which position LSN lies; an end belongs to the segment it ends. */
uint64_t ring_segment_end(const struct region *region, uint64_t lsn);

/* The bytes FROM .. TO of the ring, as one or two pieces.  Returns their number. */
int ring_pieces(const struct region *region, uint64_t from, uint64_t to, struct iovec piece[2]);

/* Copies LENGTH bytes at LSN out of the ring. */
void ring_read(const struct region *region, uint64_t lsn, void *target, size_t length);

/* Fills LENGTH bytes at LSN with zero. */
void ring_zero(struct region *region, uint64_t lsn, size_t length);

#endif
