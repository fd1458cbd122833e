/*
 * Ids for holds whose client gave none.
 */
#ifndef TALLYD_SERVER_HOLD_ID_H
#define TALLYD_SERVER_HOLD_ID_H

#include <stdbool.h>

#define HOLD_ID_LENGTH 32 /* hexadecimal digits */

/*
 * Writes 128 bits from getrandom(2) into ID, as HOLD_ID_LENGTH digits, not NUL-terminated.  Random
 * bytes are fetched for many ids at a time, by each process for itself: not to be called before a
 * fork.  False with errno.
 */
bool hold_id_make(char id[HOLD_ID_LENGTH]);

#endif
