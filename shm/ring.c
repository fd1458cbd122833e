#include "ring.h"

#include <string.h>

#include "layout.h"

void ring_set_codec(struct region *region, const struct ring_codec *codec)
{
	region->codec = *codec;
}

uint64_t ring_segment_end(const struct region *region, uint64_t lsn)
{
	uint64_t first = region->header->segment_end;
	uint64_t size = region->header->geometry.segment_size;

	if (lsn <= first)
		return first;
	return first + (lsn - first + size - 1) / size * size;
}

static enum ring_status room(const struct region *region, uint64_t end, enum ring_priority priority)
{
	const struct region_header *header = region->header;
	const struct region_marks *marks = &header->marks;
	uint64_t ring = header->geometry.ring_size;
	uint64_t space = atomic_load_explicit(&marks->space, memory_order_acquire);
	uint64_t released = atomic_load_explicit(&marks->released, memory_order_acquire);

	if (priority == RING_CLIENT) {
		ring -= RING_RESERVE;
		space -= space < SPACE_RESERVE ? space : SPACE_RESERVE;
	}
	if (end - released > ring)
		return RING_FULL;
	if (end > space)
		return atomic_load(&marks->disk_full) != 0 ? RING_NO_SPACE : RING_FULL;
	return RING_OK;
}

enum ring_status ring_place(struct region *region, size_t length, enum ring_priority priority,
                            uint64_t *lsn)
{
	const struct region_marks *marks = &region->header->marks;
	uint64_t tail = atomic_load_explicit(&marks->tail, memory_order_relaxed);
	uint64_t end = ring_segment_end(region, tail);
	uint64_t waiting = atomic_load_explicit(&marks->events, memory_order_relaxed) -
	                   atomic_load_explicit(&marks->released_events, memory_order_acquire);

	if (atomic_load_explicit(&marks->failed, memory_order_relaxed) != 0)
		return RING_FAILED;
	if (priority == RING_CLIENT &&
	    waiting >=
	        atomic_load_explicit(&region->header->settings.queue_events, memory_order_relaxed))
		return RING_FULL;
	*lsn = length <= end - tail ? tail : end + SEGMENT_HEAD;
	return room(region, *lsn + length, priority);
}

void ring_prefetch(const struct region *region, size_t length)
{
	uint64_t mask = region->header->geometry.ring_size - 1;
	uint64_t tail = atomic_load_explicit(&region->header->marks.tail, memory_order_relaxed);

	for (uint64_t at = tail; at < tail + length; at += CACHE_LINE)
		__builtin_prefetch(region->ring + (at & mask), 1);
}

int ring_pieces(const struct region *region, uint64_t from, uint64_t to, struct iovec piece[2])
{
	uint64_t size = region->header->geometry.ring_size;
	size_t at = (size_t)(from & (size - 1));
	size_t length = (size_t)(to - from);
	size_t first = length <= size - at ? length : (size_t)(size - at);

	piece[0].iov_base = region->ring + at;
	piece[0].iov_len = first;
	piece[1].iov_base = region->ring;
	piece[1].iov_len = length - first;
	return first == length ? 1 : 2;
}

static void copy_in(struct region *region, uint64_t lsn, const void *source, size_t length)
{
	struct iovec piece[2];
	int pieces = ring_pieces(region, lsn, lsn + length, piece);

	memcpy(piece[0].iov_base, source, piece[0].iov_len);
	if (pieces == 2)
		memcpy(piece[1].iov_base, (const char *)source + piece[0].iov_len,
		       piece[1].iov_len);
}

void ring_read(const struct region *region, uint64_t lsn, void *target, size_t length)
{
	struct iovec piece[2];
	int pieces = ring_pieces(region, lsn, lsn + length, piece);

	memcpy(target, piece[0].iov_base, piece[0].iov_len);
	if (pieces == 2)
		memcpy((char *)target + piece[0].iov_len, piece[1].iov_base, piece[1].iov_len);
}

void ring_zero(struct region *region, uint64_t lsn, size_t length)
{
	struct iovec piece[2];
	int pieces = ring_pieces(region, lsn, lsn + length, piece);

	memset(piece[0].iov_base, 0, piece[0].iov_len);
	if (pieces == 2)
		memset(piece[1].iov_base, 0, piece[1].iov_len);
}

/* The length of the next filler where LEFT bytes are left: what it leaves can be filled too. */
static size_t filler_length(size_t left)
{
	if (left <= JOURNAL_RECORD_MAX)
		return left;
	if (left - JOURNAL_RECORD_MAX < JOURNAL_RECORD_MIN)
		return JOURNAL_RECORD_MAX - JOURNAL_RECORD_MIN;
	return JOURNAL_RECORD_MAX;
}

/* Records that begin a segment: what they left free at the end of the last one is filled. */
static void fill_segment(struct region *region, uint64_t durable)
{
	_Alignas(8) unsigned char filler[JOURNAL_RECORD_MAX];
	uint64_t at = atomic_load_explicit(&region->header->marks.tail, memory_order_relaxed);
	size_t left = (size_t)(ring_segment_end(region, at) - at);

	while (left >= JOURNAL_RECORD_MIN) {
		size_t length = filler_length(left);
		region->codec.pad(filler, length);
		region->codec.stamp(filler, length, at, durable, region);
		copy_in(region, at, filler, length);
		at += length;
		left -= length;
	}
	ring_zero(region, at, left);
}

void ring_write(struct region *region, uint64_t lsn, const void *records, size_t length,
                uint64_t durable)
{
	if (lsn != atomic_load_explicit(&region->header->marks.tail, memory_order_relaxed))
		fill_segment(region, durable);
	copy_in(region, lsn, records, length);
}
