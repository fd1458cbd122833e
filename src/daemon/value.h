/*
 * Values as they stand in the configuration file: counts, sizes, times, yes
 * and no.  Each function reads the whole of TEXT or refuses it; no sign unless it
 * says so, no space, no locale.
 */
#ifndef TALLYD_DAEMON_VALUE_H
#define TALLYD_DAEMON_VALUE_H

#include <stdbool.h>
#include <stdint.h>

enum value_error {
	VALUE_OK,
	VALUE_BAD,  /* not written as such a value is */
	VALUE_HUGE, /* written well, more than the type holds */
};

/* Decimal digits: "4096". */
enum value_error value_count(const char *text, uint64_t *count);

/* The same, perhaps with '-' in front: "-500". */
enum value_error value_signed(const char *text, int64_t *number);

/* Octal digits: "0660". */
enum value_error value_octal(const char *text, uint64_t *bits);

/* Decimal digits and perhaps K, M, G or T (1024, 1024^2, ...), either case, into bytes: "64M". */
enum value_error value_size(const char *text, uint64_t *bytes);

/*
 * Decimal digits, perhaps with a point and one to six more, and perhaps ms, s, m, h
 * or d, into microseconds: "0.1", "500ms", "5m".  A number without a unit counts
 * in BARE_US microseconds.  What is finer than a microsecond is VALUE_BAD.
 */
enum value_error value_time(const char *text, uint64_t bare_us, uint64_t *us);

/* "true", "yes", "on"; "false", "no", "off"; lower case. */
enum value_error value_flag(const char *text, bool *flag);

#endif
