/* A run: the load of OPTIONS on one server. */
#ifndef TALLYD_BENCH_RUN_H
#define TALLYD_BENCH_RUN_H

#include <stdbool.h>

#include "book.h"
#include "options.h"
#include "result.h"
#include "target.h"

/*
 * Opens all connections to TARGET, then applies the load, and waits for the last answers.  What is
 * found goes into *RESULT (of result_new), and into BOOK if that is not NULL.  SIGINT and SIGTERM
 * end it early, a second one at once.  False if it could not begin: why is on standard error.
 */
bool run_load(const struct options *options, const struct target *target, struct book *book,
              struct result *result);

#endif
