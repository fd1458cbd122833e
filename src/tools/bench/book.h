/*
 * The book of a run with --verify: what each account was, what the answers say has become of it,
 * and what it is.  Where no answer came, the book knows between which two values the truth must
 * lie.
 */
#ifndef TALLYD_BENCH_BOOK_H
#define TALLYD_BENCH_BOOK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "operation.h"
#include "options.h"

#define BOOK_SHOWN 10 /* wrong accounts that are listed one by one */

/* What a server says of an account; of one that is not there, 0 and 0. */
struct balance {
	int64_t balance;
	uint64_t version;
};

struct sheet {
	struct balance before, after;
	int64_t accepted;  /* the sum of what was accepted */
	int64_t low, high; /* sums of unknown debits (0 or less) and credits */
	uint64_t changes;  /* operations that were accepted */
	uint64_t perhaps;  /* and those of which nothing is known */
};

struct book {
	const char *prefix; /* borrowed */
	uint32_t accounts;
	struct sheet *sheet;
	int64_t accepted, low, high; /* of all accounts together; an operation is one */
	uint64_t operations, perhaps;
};

struct book_verdict {
	bool good;
	uint32_t wrong; /* accounts whose balance or version is not what it must be */
	bool sum_good;
	int64_t least, most, sum; /* by how much all balances together must and did change */
};

/* An empty book for OPTIONS; ends the process if there is no memory. */
void book_init(struct book *book, const struct options *options);
void book_free(struct book *book);

/* LEGS of an accepted KIND; of KIND_EVENT each is an operation of its own. */
void book_accept(struct book *book, enum kind kind, const struct posting *leg, uint32_t legs);

/* The same for what may have happened or not. */
void book_doubt(struct book *book, enum kind kind, const struct posting *leg, uint32_t legs);

/* Compares what was with what is; writes up to BOOK_SHOWN wrong accounts to STREAM. */
struct book_verdict book_check(const struct book *book, FILE *stream);

#endif
