/*
 * An audit of the journal: everything that a record says is computed again from the records before
 * it, without the ledger's own code.  Reads the files only, and takes no lock.
 */
#ifndef TALLYD_LEDGER_AUDIT_H
#define TALLYD_LEDGER_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "store.h"

/* What the journal was written with, and by. */
struct audit_limits {
	uint64_t max_ids;   /* so many of the newest ids cannot have been forgotten */
	uint64_t window_us; /* for so long */
	bool running;       /* a daemon may be writing: the journal's end is left alone */
	uint64_t end;       /* nothing from here on is looked at; 0: all is */
};

struct audit {
	uint64_t records;    /* of every type */
	uint64_t operations; /* accepted */
	uint64_t refusals;
	uint64_t accounts; /* that are there at the end */
	uint64_t holds;    /* open at the end */
	uint64_t ids;      /* records with a client's id */
	uint64_t seals;
	uint64_t first; /* position where reading began */
	uint64_t end;   /* and where it ended */
	uint64_t bad; /* STORE_CORRUPT: the position of the first difference; 0: a file is wrong */
	bool pruned;  /* the journal's beginning is gone: what follows was taken as it stands */
};

/*
 * Checks the journal in the directory PATH.  STORE_OK: *AUDIT counts what was found right.
 * STORE_CORRUPT: ERROR (STORE_ERROR_SIZE bytes) names the first difference, its file and offset.
 * STORE_IO: what could not be read, or that memory ran out; errno.  Beside a daemon that removes
 * segments meanwhile all is begun anew, a bounded number of times.
 */
enum store_status audit_journal(const char *path, const struct audit_limits *limits,
                                struct audit *audit, char *error);

/* The same of a store that is open. */
enum store_status audit_store(struct store *store, const struct audit_limits *limits,
                              struct audit *audit, char *error);

#endif
