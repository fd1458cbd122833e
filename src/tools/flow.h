/*
 * Operations on their way to a daemon, over one HTTP connection: in their order, many at a time,
 * each answered or said to be lost.  A connection that breaks, and a daemon that cannot just now,
 * are tried again with the very same operations, whose ids make that safe.
 */
#ifndef TALLYD_TOOLS_FLOW_H
#define TALLYD_TOOLS_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/target.h"

#define FLOW_DEPTH        4                     /* bursts under way at a time */
#define FLOW_OPERATIONS   1000                  /* of a burst */
#define FLOW_TEXT_MAX     (768 * 1024)          /* bytes of a burst's requests */
#define FLOW_REQUEST_MAX  2048                  /* bytes of a request that flow_request writes */
#define FLOW_TOKEN_MAX    256                   /* bytes of a token */
#define FLOW_FIELDS_SIZE  (FLOW_TOKEN_MAX + 32) /* of what each request says of who sends it */
#define FLOW_PAUSE_LEAST  10000                 /* us before the first new attempt, then doubled */
#define FLOW_PAUSE_MOST   1000000               /* us */
#define FLOW_REASON_SIZE  48                    /* of a reason, with its NUL */
#define FLOW_CONNECT_WAIT 1.0 /* seconds that a connection may take to come about */

/* What is sent together.  Filled by flow_add_line, all of them lines, or by flow_request. */
struct burst {
	bool lines;  /* the body of a POST /events, else whole requests */
	bool unsafe; /* there is an operation without an id: it is sent once */
	bool looks;  /* they are GETs */
	uint32_t count;
	uint32_t answered;
	uint64_t tag[FLOW_OPERATIONS]; /* the caller's own word on each */
	uint32_t at[FLOW_OPERATIONS + 1];
	char *text;

	/* the flow's own */
	bool begun;  /* was sent, at least in part */
	bool resent; /* more than once */
	uint64_t mark;
	const char *fields; /* Authorization, or "" */
	char head[TARGET_HOST_MAX + FLOW_FIELDS_SIZE + 256];
	size_t head_length, sent;
	uint32_t from; /* the first that is sent this time */
};

enum flow_verdict {
	FLOW_ACCEPTED,
	FLOW_DUPLICATE, /* accepted, but before this flow or before in it */
	FLOW_SHOWN, /* a GET's, with 2xx: whether it is what was looked for is the caller's to see
	             */
	FLOW_REJECTED,
	FLOW_UNKNOWN, /* sent once, and the answer is lost */
};

struct flow_answer {
	enum flow_verdict verdict;
	uint16_t status;
	char reason[FLOW_REASON_SIZE]; /* FLOW_REJECTED */
	const char *document;          /* the first bytes of it, or of the line */
	size_t length;
};

struct flow_calls {
	/* What became of the operation tagged TAG. */
	void (*take)(void *context, uint64_t tag, const struct flow_answer *answer);
	/* Some time has passed. */
	void (*tick)(void *context);
	void *context;
};

struct flow;

/*
 * Connects to TARGET, which must stay, with TOKEN ("": none; up to FLOW_TOKEN_MAX bytes), and
 * learns how far its journal is.  PATIENCE: for how many microseconds nothing may be answered. NULL
 * with errno.
 */
struct flow *flow_open(const struct target *target, const char *token, uint64_t patience,
                       const struct flow_calls *calls);

/* An empty burst to fill, waited for; NULL: patience has run out, or see flow_error. */
struct burst *flow_begin(struct flow *flow);

/* Sends it, in its turn.  An empty one is nothing. */
void flow_send(struct flow *flow, struct burst *burst);

/* Waits until all is answered.  False: as flow_begin. */
bool flow_drain(struct flow *flow);

/* What ended the flow: "" if nothing did; *LATE: it was its patience. */
const char *flow_error(const struct flow *flow, bool *late);

/* What answered with STATUS is no tallyd: ends the flow. */
void flow_disown(struct flow *flow, unsigned status);

/*
 * The answer to a GET of PATH, over a connection of its own, into TEXT (SIZE bytes): all of it, its
 * head too, with a NUL behind it.  False: there is none, it is no 200, or is longer.
 */
bool flow_fetch(const struct flow *flow, const char *path, char *text, size_t size);

/* How often it was connected again. */
uint64_t flow_reconnects(const struct flow *flow);

void flow_close(struct flow *flow);

/* Is there room for one more, of LENGTH bytes? */
bool burst_has_room(const struct burst *burst, size_t length);

/* Adds an event as a line, without its end. */
void burst_line(struct burst *burst, uint64_t tag, const char *line, size_t length);

/*
 * Adds a request with a body of JSON; "" with METHOD GET.  It is only for VERSION of the account,
 * or any if that is 0.
 */
void burst_request(struct burst *burst, uint64_t tag, const char *method, const char *path,
                   uint64_t version, const char *body, size_t length);

#endif
