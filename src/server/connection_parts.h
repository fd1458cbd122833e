/*
 * What the files of a connection share; nobody else includes it.  connection.c is its life,
 * connection_input.c what arrives, connection_output.c what leaves, connection_timer.c its
 * deadlines.
 */
#ifndef TALLYD_SERVER_CONNECTION_PARTS_H
#define TALLYD_SERVER_CONNECTION_PARTS_H

#include "connection.h"

/* --- connection_input.c --- */

/* Is served again in the next turn of the loop, though nothing arrives; or not any more. */
void connection_again(struct connection *connection);
void connection_not_again(struct connection *connection);

/* Forgets what has arrived and was not consumed. */
void connection_drop_input(struct connection *connection);

/* One read, if anything is to be read now.  False if the connection is broken. */
bool connection_receive(struct connection *connection);

/* The watcher of its socket. */
void connection_on_io(struct ev_loop *loop, ev_io *io, int events);

/* --- connection_output.c --- */

/* Sends what may leave, and waits for what may not.  False if the connection is broken. */
bool connection_flush(struct connection *connection);

/* Forgets what has not left, whose answers are counted as lost. */
void connection_drop_output(struct connection *connection);

/* --- connection_timer.c --- */

/* Is anything read from it now? */
bool connection_reads(const struct connection *connection);

/* Nothing has begun and nothing waits. */
bool connection_is_idle(const struct connection *connection);

/* Its idle time begins now. */
void connection_be_idle(struct connection *connection);

/* Sees to it that the timer fires no later than the next deadline. */
void connection_arm(struct connection *connection);

void connection_on_timer(struct ev_loop *loop, ev_timer *timer, int events);

#endif
