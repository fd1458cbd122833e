/*
 * The endpoints.  A handler is a function from a request and the ledger to an answer
 * and the record that the answer depends on.  It knows no connection and never waits.
 */
#ifndef TALLYD_SERVER_HANDLERS_H
#define TALLYD_SERVER_HANDLERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../ledger/ledger.h"
#include "../wire/http.h"
#include "../wire/reply.h"
#include "refusal.h"
#include "server.h"

#define HANDLER_ROOM      1536  /* bytes that any handler writes, a returned body not counted */
#define HANDLER_SLEEP_MAX 60000 /* milliseconds */

_Static_assert(HANDLER_ROOM >= REPLY_SHAPE_MAX + 256, "any shape with our fields");

/* What a handler reads.  All borrowed. */
struct call {
	const struct server_settings *settings;
	struct ledger *ledger;
	const struct http_request *request;
	const char *bytes;        /* the request's first byte: the spans' origin */
	struct http_span segment; /* what the route's "*" stood for, raw */
	char *body;               /* may be changed */
	size_t body_length;       /* bytes */
	struct reply_frame frame;
	uint64_t now_us; /* microseconds since 1970 */
	bool draining;
	bool resumed; /* the pause that the handler asked for is over */
};

enum verdict {
	VERDICT_NEUTRAL,
	VERDICT_ACCEPTED, /* an event was applied */
	VERDICT_REFUSED,  /* an event was decided against */
	VERDICT_REJECTED, /* an event could not be taken */
	VERDICT_INVALID,  /* an event could not be read */
};

/* What a handler decides; starts cleared but for `out`. */
struct answer {
	struct text out; /* the whole answer goes here */
	unsigned status;
	uint64_t lsn;         /* of the record that the answer depends on, 0: none */
	enum verdict verdict; /* for the counters */
	enum refusal refusal; /* for the log */
	unsigned pause_ms;    /* nothing is answered yet: call again after this many milliseconds */
	bool poisoned;        /* the region is inconsistent: answer nothing, exit */
};

typedef void handler(const struct call *call, struct answer *answer);

handler handle_about;   /* GET / */
handler handle_health;  /* GET /healthz */
handler handle_event;   /* POST /events */
handler handle_account; /* GET /accounts/NAME */
handler handle_echo;    /* POST /echo */
handler handle_fast;    /* GET /fast */
handler handle_sleep;   /* GET /sleep?ms=N */

/* Answers any error, with its status noted in ANSWER; FIELDS as in struct reply. */
void answer_error(const struct call *call, struct answer *answer, unsigned status,
                  const char *reason, const char *detail, const struct reply_field *fields);

#endif
