/*
 * Events that wait one behind the other in a connection, each a request of its own: they are
 * applied as one group, and answered as they would be one by one.
 */
#ifndef TALLYD_SERVER_GATHER_H
#define TALLYD_SERVER_GATHER_H

#include <stdbool.h>
#include <stddef.h>

#include "connection.h"
#include "routes.h"

/* Is CALL an event that others may be applied with?  MORE: bytes have arrived behind it. */
bool gather_takes(struct connection *connection, const struct route *route, const struct call *call,
                  bool more);

/*
 * Takes the event in CALL, whose answer may take ROOM bytes, into the worker's group; one that
 * cannot be read is answered.  LENGTH bytes have arrived from its request's first on, which came at
 * BEGAN (monotonic seconds); they stay where they are until gather_answer.  CONNECTION_ROOM: it is
 * taken. Else as connection_room says, and it is not.
 */
enum connection_room gather(struct connection *connection, const struct call *call, size_t room,
                            size_t length, double began);

/* Applies what has been gathered, and answers it in order.  Due before anything else is answered.
 */
void gather_answer(struct connection *connection);

#endif
