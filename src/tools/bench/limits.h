/* What the system must allow before many connections can be opened. */
#ifndef TALLYD_BENCH_LIMITS_H
#define TALLYD_BENCH_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"
#include "../http/target.h"

/*
 * Raises the limit on open files to FILES if need be.  False if it cannot be that high: what to do
 * about it is on standard error; SPARE of them are not connections.
 */
bool limits_raise_files(uint64_t files, uint64_t spare);

/*
 * How many source addresses of 127.0.0.x the connections of OPTIONS to TARGET take: 0 if the
 * system may choose, since its ephemeral ports suffice.
 */
uint32_t limits_sources(const struct options *options, const struct target *target);

#endif
