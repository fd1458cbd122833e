/*
 * What requests are counted by: which endpoint was asked, and the status of the answer.  The rows
 * and columns of struct counters (shm/counter.h).
 */
#ifndef TALLYD_WIRE_ENDPOINT_H
#define TALLYD_WIRE_ENDPOINT_H

#include <stddef.h>

enum endpoint {
	ENDPOINT_OTHER, /* nothing that is there, a method that is not, or what could not be read */
	ENDPOINT_ABOUT,
	ENDPOINT_HEALTH,
	ENDPOINT_METRICS,
	ENDPOINT_FEED,
	ENDPOINT_EVENT,
	ENDPOINT_TRANSFER,
	ENDPOINT_TRANSACTION,
	ENDPOINT_ACCOUNT,
	ENDPOINT_REPLACE,
	ENDPOINT_DELETE,
	ENDPOINT_ACCOUNTS,
	ENDPOINT_CREATE,
	ENDPOINT_STATEMENT,
	ENDPOINT_ACCOUNT_HOLDS,
	ENDPOINT_PLACE,
	ENDPOINT_HOLD,
	ENDPOINT_CAPTURE,
	ENDPOINT_RELEASE,
	ENDPOINT_ECHO,
	ENDPOINT_FAST,
	ENDPOINT_SLEEP,
	ENDPOINT_REDIS, /* a command of Redis' protocol */
	ENDPOINTS
};

struct endpoint_name {
	const char *method; /* "other" of ENDPOINT_OTHER: neither needs to be escaped anywhere */
	const char *path;   /* with names in capitals for what varies */
};

const struct endpoint_name *endpoint_name(enum endpoint endpoint);

/* The column of STATUS; 0 for one that this service does not give. */
unsigned endpoint_column(unsigned status);

/* The status of COLUMN, 0 if it has none. */
unsigned endpoint_status(unsigned column);

#endif
