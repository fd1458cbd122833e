/* The two things that tallybench does, and what they are made of. */
#ifndef TALLYD_BENCH_BENCH_H
#define TALLYD_BENCH_BENCH_H

#include "options.h"
#include "result.h"
#include "../http/target.h"

/* Exit statuses. */
#define BENCH_GOOD  0
#define BENCH_WRONG 1 /* something failed, or the verification is wrong */
#define BENCH_USAGE 2 /* the arguments, or this machine, do not permit it */

/*
 * One run on TARGET, with the verification if OPTIONS ask for it.  Returns the result, which the
 * caller frees, or NULL: why is on standard error, and in *STATUS.
 */
struct result *bench_once(const struct options *options, const struct target *target, int *status);

/* Finds URL or says why not, in *STATUS as well. */
bool bench_find(const struct options *options, const char *url, struct target *target, int *status);

/* tallybench compare; the exit status. */
int bench_compare(const struct options *options);

#endif
