#include "tail.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "../../shm/region.h"
#include "change.h"
#include "history.h"
#include "record.h"

struct window {
	uint64_t from;   /* LSN of its first byte */
	uint64_t length; /* 0: it is empty */
	uint64_t used;   /* by the reader's clock */
};

struct tail {
	struct journal_reader *history;
	struct region *region;
	uint64_t key;   /* of the journal */
	uint64_t clock; /* counts uses of windows */
	unsigned last;  /* the window that was used last */
	struct window window[TAIL_WINDOWS];
	_Alignas(8) unsigned char bytes[TAIL_WINDOWS][TAIL_WINDOW];
};

_Static_assert(TAIL_WINDOW >= 2 * JOURNAL_RECORD_MAX,
               "a window holds a record, wherever it begins");

struct tail *tail_open(struct journal_reader *history)
{
	struct tail *tail = calloc(1, sizeof *tail);

	if (tail == NULL)
		return NULL;
	tail->history = history;
	tail->region = history_region(history);
	tail->key = region_geometry(tail->region)->journal_key;
	return tail;
}

void tail_close(struct tail *tail)
{
	free(tail);
}

uint64_t tail_durable(const struct tail *tail)
{
	const struct region_marks *marks = region_marks(tail->region);

	return atomic_load_explicit(&marks->durable, memory_order_acquire);
}

uint64_t tail_first(struct tail *tail)
{
	return history_first(tail->history);
}

/* ---- windows */

/* The record at LSN, if WINDOW has all of it. */
static const struct record_head *in_window(const struct tail *tail, unsigned index, uint64_t lsn)
{
	const struct window *window = &tail->window[index];

	if (lsn < window->from || lsn - window->from >= window->length)
		return NULL;
	size_t offset = (size_t)(lsn - window->from);
	const struct record_head *record = (const void *)(tail->bytes[index] + offset);
	return record_check(record, (size_t)window->length - offset, lsn, tail->key) != 0 ? record
	                                                                                  : NULL;
}

static const struct record_head *find(struct tail *tail, uint64_t lsn)
{
	const struct record_head *record = in_window(tail, tail->last, lsn);

	for (unsigned i = 0; record == NULL && i < TAIL_WINDOWS; i++) {
		record = in_window(tail, i, lsn);
		if (record != NULL)
			tail->last = i;
	}
	if (record != NULL)
		tail->window[tail->last].used = ++tail->clock;
	return record;
}

/* Where bytes from LSN on go: behind those that end there, or in the place of the oldest window. */
static unsigned place(struct tail *tail, uint64_t lsn)
{
	unsigned oldest = 0;

	for (unsigned i = 0; i < TAIL_WINDOWS; i++) {
		const struct window *window = &tail->window[i];
		if (window->length != 0 && window->from + window->length == lsn &&
		    TAIL_WINDOW - window->length >= JOURNAL_RECORD_MAX)
			return i;
		if (window->used < tail->window[oldest].used)
			oldest = i;
	}
	tail->window[oldest] = (struct window){.from = lsn};
	return oldest;
}

static enum tail_status status_of(enum history_status status)
{
	switch (status) {
	case HISTORY_OK:
		return TAIL_NOTHING;
	case HISTORY_PRUNED:
		return TAIL_PRUNED;
	case HISTORY_LATER:
		return TAIL_LATER;
	case HISTORY_END:
	case HISTORY_IO:
		break;
	}
	return TAIL_IO;
}

/* The record at LSN into a window, with what follows it: up to LENGTH bytes, a record's end. */
static enum tail_status fill(struct tail *tail, uint64_t lsn, size_t length,
                             const struct record_head **record)
{
	unsigned index = place(tail, lsn);
	struct window *window = &tail->window[index];
	uint64_t had = window->length;
	unsigned char *bytes = tail->bytes[index] + had;

	if (length > TAIL_WINDOW - had)
		length = (size_t)(TAIL_WINDOW - had);
	tail->last = index;
	window->used = ++tail->clock;
	window->length = had + history_ring(tail->history, lsn, bytes, length);
	if ((*record = in_window(tail, index, lsn)) != NULL)
		return TAIL_NOTHING;
	/* The ring has it no more, or lost it while it was copied. */
	enum history_status status = history_file(tail->history, lsn, bytes, &length);
	window->length = status == HISTORY_OK ? had + length : had;
	if (status != HISTORY_OK)
		return status_of(status);
	if ((*record = in_window(tail, index, lsn)) != NULL)
		return TAIL_NOTHING;
	window->length = had;
	errno = EUCLEAN;
	return TAIL_IO;
}

enum tail_status tail_next(struct tail *tail, uint64_t *position, uint64_t end,
                           struct change *change)
{
	uint64_t at = history_next(tail->history, *position);
	const struct record_head *record;

	if (at >= end)
		return TAIL_END;
	record = find(tail, at);
	if (record == NULL) {
		size_t length = end - at < TAIL_WINDOW ? (size_t)(end - at) : TAIL_WINDOW;
		enum tail_status status = fill(tail, at, length, &record);
		if (status != TAIL_NOTHING)
			return status;
	}
	*position = at + record->length;
	if (!record_has_effect(record))
		return TAIL_NOTHING;
	change_tell(record, change);
	return TAIL_CHANGE;
}

/* ---- where to begin */

/* Does a sound record begin at LSN, below the journal's end?  In *BEHIND where it ends. */
static enum tail_status look(struct tail *tail, uint64_t lsn, uint64_t *behind)
{
	const struct record_head *record;
	enum history_status status = history_record(tail->history, lsn, &record);

	if (status == HISTORY_IO && errno == EUCLEAN)
		return TAIL_NOWHERE;
	if (status == HISTORY_OK)
		*behind = lsn + record->length;
	return status_of(status);
}

enum tail_status tail_seek(struct tail *tail, uint64_t after, uint64_t *position)
{
	const struct region_marks *marks = region_marks(tail->region);
	uint64_t first = history_first(tail->history);
	uint64_t end = atomic_load_explicit(&marks->tail, memory_order_acquire);
	uint64_t behind;

	*position = after == 0 ? first : after + 1;
	if (after == 0)
		return TAIL_NOTHING;
	if (after >= end || (after % 8 != 0 && after % 8 != 7))
		return TAIL_NOWHERE;
	if (after < first - SEGMENT_HEAD)
		return *position == first - SEGMENT_HEAD ? TAIL_NOTHING : TAIL_PRUNED;
	if (after % 8 == 0)
		return look(tail, after, position);
	uint64_t next = history_next(tail->history, *position);
	return next >= end ? *position == end ? TAIL_NOTHING : TAIL_NOWHERE
	                   : look(tail, next, &behind);
}
