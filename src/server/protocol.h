/*
 * What a connection asks of the protocol that its listener speaks.  A protocol keeps
 * its state of a connection in connection->state, cleared before `opened`.
 */
#ifndef TALLYD_SERVER_PROTOCOL_H
#define TALLYD_SERVER_PROTOCOL_H

#include <stddef.h>

struct connection;

struct protocol {
	const char *name;  /* as in struct server_listener */
	size_t state_size; /* at most CONNECTION_STATE_MAX */

	void (*opened)(struct connection *connection);

	/*
	 * BYTES[0..*LENGTH) have arrived and were not consumed.  Serves what is complete, as long
	 * as connection_may_go_on, and returns how many bytes it consumed from the start.  May
	 * change the bytes and shrink *LENGTH.  What is left is handed in again with what follows.
	 * *LENGTH may be 0 while connection_stream is on.
	 */
	size_t (*arrived)(struct connection *connection, char *bytes, size_t *length);

	/* The deadline given to connection_expect has passed: say so and close. */
	void (*timed_out)(struct connection *connection);

	/* There is no memory to keep what has arrived of a request: say so and close. */
	void (*exhausted)(struct connection *connection);

	/*
	 * Called instead of `opened`: the client is not to be served for REASON (wire/reason.h).
	 * Says so, if the protocol can; the connection then closes at once.  NULL: nothing is said.
	 */
	void (*refused)(struct connection *connection, const char *reason);

	/* The connection is about to be gone: give back what its state owns.  NULL: nothing. */
	void (*closed)(struct connection *connection);
};

/* The protocol called NAME, or NULL. */
const struct protocol *protocol_find(const char *name);

#endif
