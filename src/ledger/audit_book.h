/* The books of an audit: accounts, holds and ids as the records so far make them. */
#ifndef TALLYD_LEDGER_AUDIT_BOOK_H
#define TALLYD_LEDGER_AUDIT_BOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "map.h"
#include "record.h"

struct audit_book {
	uint64_t journal_key;
	uint64_t
	    first; /* position of the first record that is kept: what lies before it is unknown */
	uint64_t max_ids; /* see struct audit_limits */
	uint64_t window_us;
	uint64_t ids; /* met so far */
	struct map accounts;
	struct map holds; /* open ones */
	struct map young; /* the newest ids: up to max_ids */
	struct map old;   /* the max_ids before them */
};

void audit_book_open(struct audit_book *book, uint64_t journal_key, uint64_t first);
void audit_book_close(struct audit_book *book);

/*
 * Enters RECORD, an operation.  NULL, or what is wrong with it (a constant); audit_no_memory says
 * nothing about the record.
 */
const char *audit_enter(struct audit_book *book, const struct record_head *record);
extern const char audit_no_memory[];

#endif
