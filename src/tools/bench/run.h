/* A run: the load of OPTIONS on one server. */
#ifndef TALLYD_BENCH_RUN_H
#define TALLYD_BENCH_RUN_H

#include "book.h"
#include "options.h"
#include "result.h"
#include "../http/target.h"

enum run_end {
	RUN_DONE,
	RUN_FAILED,  /* it could not begin */
	RUN_LIMITED, /* nor will it, unless it is asked for less or the system allows more */
};

/*
 * Opens all connections to TARGET, then applies the load, and waits for the last answers.  What is
 * found goes into *RESULT (of result_new), and into BOOK if that is not NULL.  SIGINT and SIGTERM
 * end it early, a second one at once.  Unless it is RUN_DONE, why is on standard error.
 */
enum run_end run_load(const struct options *options, const struct target *target, struct book *book,
                      struct result *result);

#endif
