/*
 * Patterns as Redis has them (KEYS, SCAN MATCH): '*', '?', '[a-z]', '[^a-z]', '\' before what
 * stands for itself; bytes, not characters.
 */
#ifndef TALLYD_SERVER_REDIS_GLOB_H
#define TALLYD_SERVER_REDIS_GLOB_H

#include <stdbool.h>

#include "../../ledger/event.h"

#define GLOB_MAX 256 /* bytes of a pattern that is compared with many names */

/* Does PATTERN match all of TEXT?  Takes at most the product of their lengths in steps. */
bool glob_matches(struct words pattern, struct words text);

/* The bytes that whatever PATTERN matches begins with. */
struct words glob_prefix(struct words pattern);

#endif
