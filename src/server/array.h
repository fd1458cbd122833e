/*
 * POST /events with a JSON array of events: each by itself, or with ?atomic=true all of them as one
 * transaction.
 */
#ifndef TALLYD_SERVER_ARRAY_H
#define TALLYD_SERVER_ARRAY_H

#include <stdbool.h>
#include <stddef.h>

#include "handlers.h"

#define ARRAY_EVENTS_MAX 1000

/* Does CALL's body begin as an array does? */
bool array_is_given(const struct call *call);

/*
 * Answers the array in CALL's body, if it is atomic or cannot be read.  Else answers nothing: sets
 * answer->elements, and the body is lines now, an event in each, for stream_begin.
 */
void array_answer(const struct call *call, struct answer *answer);

/*
 * What is wrong with ?atomic= where CALL's body is lines, which are answered before the last is
 * known: a reason's word, or NULL.
 */
const char *array_lines_refusal(const struct call *call);

/* Bytes that the answer may take beyond HANDLER_ROOM. */
size_t array_room(const struct call *call);

#endif
