/*
 * Changing a record of a journal so that nothing but its content tells: with a right checksum.
 */
#ifndef TALLYD_T_JOURNAL_CHANGE_H
#define TALLYD_T_JOURNAL_CHANGE_H

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "../src/ledger/record.h"
#include "../src/ledger/store.h"

/* Changes the record that it is given, and returns true; or leaves it as it is. */
typedef bool change_record(struct record_head *record, unsigned which);

/*
 * Applies CHANGE to the records of the journal in PATH, one after the other, until it takes one,
 * which is written back in place.  Its LSN, or 0: it took none, or something failed (said on
 * stderr).
 */
static inline uint64_t journal_change(const char *path, change_record *change, unsigned which)
{
	static union {
		struct record_head head;
		unsigned char bytes[JOURNAL_RECORD_MAX];
	} copy;
	char error[STORE_ERROR_SIZE];
	char place[STORE_ERROR_SIZE];
	enum store_status status;
	struct store *store = store_inspect(path, &status, error);
	const struct record_head *record;
	uint64_t lsn = 0;

	if (store == NULL) {
		fprintf(stderr, "%s\n", error);
		return 0;
	}
	struct store_reader *reader = store_replay(store, store_first(store));
	while (lsn == 0 && reader != NULL && store_next(reader, &record) == STORE_OK) {
		memcpy(copy.bytes, record, record->length);
		if (change(&copy.head, which))
			lsn = record->lsn;
	}
	store_reader_close(reader);
	if (lsn != 0) {
		copy.head.checksum =
		    XXH3_64bits_withSeed(copy.bytes + sizeof(uint64_t),
		                         copy.head.length - sizeof(uint64_t), store_key(store));
		store_locate(store, lsn, place, sizeof place);
		char *comma = strrchr(place, ',');
		*comma = '\0';
		int fd = open(place, O_WRONLY | O_CLOEXEC);
		off_t offset = (off_t)strtoull(comma + strlen(", offset "), NULL, 10);
		if (fd < 0 ||
		    pwrite(fd, copy.bytes, copy.head.length, offset) != (ssize_t)copy.head.length) {
			perror(place);
			lsn = 0;
		}
		if (fd >= 0)
			close(fd);
	}
	store_close(store);
	return lsn;
}

#endif
