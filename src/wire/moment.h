/*
 * Points in time as a client writes them (RFC 3339).
 */
#ifndef TALLYD_WIRE_MOMENT_H
#define TALLYD_WIRE_MOMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOMENT_LENGTH_MAX 48 /* bytes; more are refused */

/*
 * Reads TEXT[0..LENGTH), a date-time of RFC 3339 5.6 ("2026-11-20T20:13:42.918Z",
 * "2026-11-20T21:13:42+01:00"), into *US, microseconds since 1970 UTC; what is before is 0, digits
 * beyond microseconds are cut, and a leap second is the end of the one before it.  False: it is
 * none.
 */
bool moment_read(const char *text, size_t length, uint64_t *us);

#endif
