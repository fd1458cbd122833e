/*
 * The endpoints.  A handler is a function from a request and the ledger to an answer
 * and the record that the answer depends on.  It knows no connection and never waits.
 */
#ifndef TALLYD_SERVER_HANDLERS_H
#define TALLYD_SERVER_HANDLERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../ledger/history.h"
#include "../ledger/ledger.h"
#include "../ledger/tail.h"
#include "../wire/http.h"
#include "../wire/json.h"
#include "../wire/reply.h"
#include "../wire/reason.h"
#include "refusal.h"
#include "server.h"

#define HANDLER_ROOM 1536 /* bytes of any answer but those whose route says more */
#define HANDLER_OPERATION_ROOM                                                                     \
	3072 /* bytes of the answer to an operation on up to two accounts and a hold */
#define HANDLER_PAGE_ROOM 31744 /* bytes of a page of a list: with its queue, a block of 32 KiB */
#define HANDLER_SLEEP_MAX 60000 /* milliseconds */

_Static_assert(HANDLER_ROOM >= REPLY_SHAPE_MAX + 256, "any shape with our fields");
_Static_assert(HANDLER_ROOM >= REPLY_EVENT_MAX, "the answer to an event");

struct feed_plan;
struct denial;
struct token;

/* What a handler reads.  All borrowed. */
struct call {
	const struct server_settings *settings;
	struct ledger *ledger;
	struct journal_reader *history; /* NULL: the journal cannot be read here */
	struct tail *tail;              /* NULL: likewise */
	struct feed_plan *feed;         /* with answer->feed: filled in */
	const struct server *server;    /* whose counters can be told */
	const struct http_request *request;
	const char *bytes;        /* the request's first byte: the spans' origin */
	struct http_span segment; /* what the route's "*" stood for, raw */
	char *body;               /* may be changed, unless the handler asks for a pause */
	size_t body_length;       /* bytes */
	struct reply_frame frame;
	uint64_t now_us; /* microseconds since 1970 */
	uint64_t cursor; /* resumed: what answer->cursor was when the handler asked for the pause */
	const struct token *token;   /* who speaks; NULL: everything is permitted */
	const struct denial *denied; /* why it is to be refused; NULL: it is not */
	uint8_t credentials;         /* enum credentials */
	bool guarded;                /* who speaks must say who he is */
	bool draining;
	bool resumed; /* the pause that the handler asked for is over */
};

/* Of operations: what was decided. */
enum verdict {
	VERDICT_NEUTRAL,
	VERDICT_ACCEPTED, /* applied */
	VERDICT_REFUSED,  /* decided against */
	VERDICT_REJECTED, /* could not be taken */
	VERDICT_INVALID,  /* could not be read */
	VERDICT_REPLAYED, /* decided earlier: the answer of then */
	VERDICTS,
};

/* What a handler decides; starts cleared but for `out`, and `lsn` after a pause. */
struct answer {
	struct text out; /* the whole answer goes here */
	unsigned status;
	uint64_t lsn; /* of the record that the answer depends on, 0: none; kept over a pause */
	enum verdict verdict;        /* for the counters */
	const struct reason *reason; /* likewise, of an error; NULL: none, or not in the table */
	enum refusal refusal;        /* for the log */
	unsigned pause_ms; /* nothing is answered yet: call again after this many milliseconds */
	uint64_t cursor;   /* with a pause: handed back as call->cursor */
	bool posted;       /* a record may have been written: ledger_kick is due */
	bool elements; /* nothing is answered: the body's lines are to be, as a stream (array.h) */
	bool feed;     /* nothing is answered: call->feed says what is to be (feed.h) */
	bool poisoned; /* the region is inconsistent: answer nothing, exit */
};

typedef void handler(const struct call *call, struct answer *answer);

handler handle_about; /* GET /, for a browser the console */
/* Is CALL, a GET /, answered by the console? */
bool about_is_page(const struct call *call);

handler handle_health;  /* GET /healthz */
handler handle_metrics; /* GET /metrics */
handler handle_echo;    /* POST /echo */
handler handle_fast;    /* GET /fast */
handler handle_sleep;   /* GET /sleep?ms=N */

handler handle_event;       /* POST /events */
handler handle_transfer;    /* POST /transfers */
handler handle_transaction; /* POST /transactions */

handler handle_account;  /* GET /accounts/NAME, and ?at= */
handler handle_accounts; /* GET /accounts?prefix=&limit=&cursor= */
handler handle_create;   /* POST /accounts */
handler handle_replace;  /* PUT /accounts/NAME */
handler handle_delete;   /* DELETE /accounts/NAME */

handler handle_statement; /* GET /accounts/NAME/events?limit=&before= */

handler handle_feed; /* GET /feed?after=&account=&format=&follow= */

handler handle_hold;          /* GET /holds/ID */
handler handle_account_holds; /* GET /accounts/NAME/holds?limit=&cursor= */
handler handle_place;         /* POST /holds */
handler handle_capture;       /* POST /holds/ID/capture */
handler handle_release;       /* POST /holds/ID/release */

/* Bytes of a page of GET /metrics, at most. */
size_t metrics_room(const struct call *call);

/* --- what handlers share --- */

/* For the counters, and for the log; of any outcome but POISONED. */
enum verdict result_verdict(const struct result *result);
enum refusal outcome_refusal(enum outcome outcome);

/* Answers any error, with its status noted in ANSWER; FIELDS as in struct reply. */
void answer_error(const struct call *call, struct answer *answer, unsigned status,
                  const char *reason, const char *detail, const struct reply_field *fields);

/* The same for a reason of the table (reason.h) that has a detail of its own. */
void answer_reason(const struct call *call, struct answer *answer, const char *word);

/* The same for what ERROR says of a body: 400. */
void answer_unreadable(const struct call *call, struct answer *answer,
                       const struct json_error *error);

/* 200 with the LENGTH bytes of JSON at BODY. */
void answer_json(const struct call *call, struct answer *answer, const char *body, size_t length);

/* OUTCOME of a read that is no success: unknown_account, unknown_hold, or poisoned. */
void answer_unread(const struct call *call, struct answer *answer, enum outcome outcome);

/*
 * Is CALL's body said to be JSON, or nothing that would contradict it?  False: 415 is answered.
 */
bool operation_is_json(const struct call *call, struct answer *answer);

/*
 * What to say of the first field of CALL that asks for what cannot be had: If-Match, if not
 * ONE_ACCOUNT is changed, If-None-Match, and Idempotency-Key, if there is not ONE_OPERATION.  NULL:
 * there is none.  The reason is unsupported_condition.
 */
const char *condition_unsupported(const struct call *call, bool one_account, bool one_operation);

/*
 * After its body was read: may it be done?  Takes If-Match (if ONE_ACCOUNT is changed; else it is
 * refused) and Idempotency-Key into REQUEST, whose id then lies in KEY (ID_MAX bytes).  False:
 * answered.
 */
bool operation_conditions(const struct call *call, struct answer *answer, struct request *request,
                          char *key, bool one_account);

/* The answer to REQUEST, of which the ledger made RESULT. */
void operation_answer(const struct call *call, struct answer *answer, const struct request *request,
                      const struct result *result);

/* Applies REQUEST and answers it. */
void operation_apply(const struct call *call, struct answer *answer, const struct request *request);

/*
 * The front half of handle_event, for who applies several events as one group: the type, the body
 * and the conditions of a single event into *REQUEST, whose words borrow from CALL and KEY (ID_MAX
 * bytes).  False: answered.  The back half is operation_answer.
 */
bool event_read(const struct call *call, struct answer *answer, struct request *request, char *key);

#endif
