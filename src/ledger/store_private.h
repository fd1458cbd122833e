/* Inside the store of files: what its sources share. */
#ifndef TALLYD_LEDGER_STORE_PRIVATE_H
#define TALLYD_LEDGER_STORE_PRIVATE_H

#include <pthread.h>

#include "segment.h"
#include "store.h"

struct store {
	char *path;
	int directory;
	bool inspected; /* for reading only */
	uint64_t key;
	uint64_t segment_size; /* of segments to be made */
	pthread_mutex_t lock;  /* of the list, between the writer and who extends */
	struct segment *segment;
	size_t count;
	size_t capacity;
	int current; /* the segment being written, or -1 */
	struct segment open;
};

/* The segment that holds position LSN. */
bool store_find(const struct store *store, uint64_t lsn, struct segment *found);

/*
 * SEGMENT's file, opened with FLAGS, to be closed by the caller; -1 with errno: EUCLEAN, its head
 * is not that of a segment.
 */
int store_open_segment(const struct store *store, const struct segment *segment, int flags);

#endif
