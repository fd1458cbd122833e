/*
 * Numbers as people read them.  Each writes into TEXT, of the size that is named, and returns it.
 */
#ifndef TALLYD_TOOLS_WORDS_H
#define TALLYD_TOOLS_WORDS_H

#include <stdint.h>

#define WORDS_SIZE      32
#define WORDS_TIME_SIZE 40

/* "1 234 567" */
const char *words_count(uint64_t count, char text[WORDS_SIZE]);

/* "-1 234 567" */
const char *words_signed(int64_t number, char text[WORDS_SIZE]);

/* At most six characters for what is below 10^18: "950", "12.4k", "3.02M". */
const char *words_short(double number, char text[WORDS_SIZE]);

/* "64.0 MiB" */
const char *words_bytes(uint64_t bytes, char text[WORDS_SIZE]);

/* Of microseconds, with two units at most: "113 us", "2.40 ms", "12.4 s", "5 min 3 s", "3 d 4 h".
 */
const char *words_span(uint64_t us, char text[WORDS_SIZE]);

/* Of microseconds since 1970: "2026-11-27 17:00:00" of the local time;
 * "2026-11-27T17:00:00.000000Z". */
const char *words_time(uint64_t us, char text[WORDS_TIME_SIZE]);
const char *words_time_exact(uint64_t us, char text[WORDS_TIME_SIZE]);

#endif
