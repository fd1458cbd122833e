/*
 * max_connections_per_ip: no client has more connections than its share, over all workers and
 * listeners.  Who has no address, a Unix socket's peer or a client that its proxy does not name, is
 * not counted.
 */
#ifndef TALLYD_SERVER_ADMISSION_H
#define TALLYD_SERVER_ADMISSION_H

struct connection;

/*
 * Counts CONNECTION, whose client is now known.  NULL; or why it may not be served, a word of
 * wire/reason.h: that is counted and logged, and the connection is not counted among its client's.
 */
const char *admission_enter(struct connection *connection);

/* CONNECTION ends, whether it was counted or not. */
void admission_leave(struct connection *connection);

#endif
