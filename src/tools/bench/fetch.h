/* Reads the balances of all accounts, for --verify. */
#ifndef TALLYD_BENCH_FETCH_H
#define TALLYD_BENCH_FETCH_H

#include <stdbool.h>

#include "book.h"
#include "options.h"
#include "../http/target.h"

#define FETCH_AHEAD 64 /* requests under way */

enum fetch_when { FETCH_BEFORE, FETCH_AFTER };

/*
 * Fills in before or after of all sheets of BOOK.  A connection that ends is made again.  False if
 * an account could not be read within options->timeout: why is on standard error.
 */
bool fetch_balances(const struct options *options, const struct target *target, struct book *book,
                    enum fetch_when when);

#endif
