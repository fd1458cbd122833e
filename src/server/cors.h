/*
 * Pages of other origins (the CORS protocol: Fetch, 3.2): which of them may use this service, and
 * what a browser is told that asks first.
 */
#ifndef TALLYD_SERVER_CORS_H
#define TALLYD_SERVER_CORS_H

#include <stdbool.h>
#include <stddef.h>

#define CORS_ORIGINS_MAX 16
#define CORS_ORIGIN_MAX  255 /* bytes: a scheme, a host name, a port */
#define CORS_ROOM        512 /* bytes that the fields for a permitted origin add to any answer */

struct call;
struct answer;

/* The value of cors_origin, tallyd.conf(5). */
struct cors_origins {
	unsigned count; /* 0: pages of other origins may only read what a browser lets them */
	bool any;       /* "*" */
	char origin[CORS_ORIGINS_MAX][CORS_ORIGIN_MAX + 1];
};

/*
 * Reads TEXT, "" or "*" or origins with spaces between them (RFC 6454 6.2: scheme, host, perhaps a
 * port, in lower case, without a slash behind them), into *ORIGINS.  NULL; or what is wrong, as the
 * end of a sentence that begins with TEXT.
 */
const char *cors_read(const char *text, struct cors_origins *origins);

/*
 * What Access-Control-Allow-Origin says in the answer to CALL: "*", or the request's Origin if it
 * is one of those permitted; NULL: nothing.  Borrowed from the settings.
 */
const char *cors_allows(const struct call *call);

/*
 * A browser sends what any page asks it to, to any address that it can reach, loopback included,
 * and says in Origin whose page it was (RFC 6454 7).  Would CALL change something for a page that
 * is neither ours nor permitted?
 */
bool cors_is_foreign(const struct call *call);

/* Is CALL, an OPTIONS, a preflight of a page that may go on (Fetch, 3.2.2)? */
bool cors_is_preflight(const struct call *call);

/* Answers it: ALLOW are the methods of the path. */
void cors_preflight(const struct call *call, struct answer *answer, const char *allow);

#endif
