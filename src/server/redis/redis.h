/*
 * Redis' protocol: what its rooms share.  redis_protocol.c reads commands and answers them,
 * commands.c is the table of them; each group of commands has a file of its own.
 *
 * A key is an account, its value the balance.  Everything that reads or changes keys does so
 * through a plan (plan.h), so that it is the same alone and in MULTI; but for increments, which go
 * as groups of events (increments.c).
 */
#ifndef TALLYD_SERVER_REDIS_REDIS_H
#define TALLYD_SERVER_REDIS_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../wire/resp.h"
#include "../connection.h"
#include "../handlers.h"
#include "plan.h"

#define REDIS_NAME_MAX    64   /* bytes of CLIENT SETNAME */
#define REDIS_WORD_MAX    32   /* bytes of a command's name, with its NUL */
#define REDIS_ERROR_MAX   400  /* bytes of any error */
#define REDIS_ANSWER_ROOM 1024 /* bytes of an answer, but for those whose command says more */
#define REDIS_INFO_MAX    4096 /* bytes of INFO */
#define REDIS_SCAN_MAX    256  /* keys of one answer to SCAN */

struct redis_transaction;

/* What is kept of a connection between two reads. */
struct redis_session {
	double began; /* when the first byte of a command came; 0: none has */
	uint64_t id;  /* of CLIENT ID */
	struct redis_transaction *transaction; /* NULL: nothing is watched, and no MULTI */
	uint64_t cursor, lsn;                  /* of a command that pauses */
	bool resumed;                          /* its pause is over */
	bool pipelined;                        /* more than one command has come at once */
	double waits_since;                    /* for room in the queue; 0: it does not */
	bool rewinds;     /* commands from `rewind` on are to be read again: they wait for room */
	uint32_t rewind;  /* bytes of what has arrived */
	uint8_t protocol; /* 2 or 3 */
	uint8_t name_length;
	char name[REDIS_NAME_MAX];
};

_Static_assert(sizeof(struct redis_session) <= CONNECTION_STATE_MAX, "it lives in the connection");

struct redis_command;

/* One command being answered.  All borrowed. */
struct redis_call {
	struct connection *connection;
	struct redis_session *session;
	const struct redis_command *command;
	const struct resp_command *given; /* its name is argument 0 */
	struct plan *plan;                /* of commands of keys */
	bool quit;                        /* set: the connection ends with this answer */
	bool later;                       /* set: it is to be tried again, from the beginning */
};

typedef void redis_handler(struct redis_call *call, struct answer *answer);

enum redis_flag {
	REDIS_WRITES = 1,    /* changes something */
	REDIS_PLANS = 2,     /* works on call->plan, which is carried out afterwards */
	REDIS_QUEUES = 4,    /* may stand between MULTI and EXEC */
	REDIS_AT_ONCE = 8,   /* is not queued there, but done */
	REDIS_COUNTS = 16,   /* is an increment, which may join a group */
	REDIS_SECRET = 32,   /* its arguments are not for the access log */
	REDIS_OPEN = 64,     /* needs no token */
	REDIS_READS = 128,   /* shows what there is, though it names no key */
	REDIS_GOVERNS = 256, /* removes accounts */
	REDIS_WHOLE = 512,   /* is about the whole service: not for a token with a prefix */
};

struct redis_command {
	char name[REDIS_WORD_MAX]; /* in lower case */
	redis_handler *handle;
	int arity; /* words, its own included; negative: at least so many */
	unsigned flags;
	int first, last, step; /* which words are keys, as COMMAND says it; 0: none */
};

/* The command called NAME, in any case; NULL: there is none. */
const struct redis_command *redis_find(struct words name);
const struct redis_command *redis_at(size_t index); /* NULL: no more */

/* Bytes that the answer to GIVEN may take. */
size_t redis_room(const struct redis_command *command, const struct resp_command *given);

/* Argument INDEX. */
struct words redis_word(const struct redis_call *call, unsigned index);

/* Is WORD the option OPTION, written in capitals here, in any case there? */
bool redis_is(struct words word, const char *option);

/* A word that is to be shown in an error: cut, as Redis does at a NUL, too, and without what would
 * end its line. */
void redis_show(struct text *out, struct words word, size_t max);

/* Errors: "ERR ..." or with a code of their own.  They make ANSWER one. */
void redis_error(struct answer *answer, const char *message);
void redis_error_arity(struct answer *answer, const char *command);
void redis_error_integer(struct answer *answer);
void redis_error_syntax(struct answer *answer);
/* A request that cannot be read, for REASON (reason.h); DETAIL NULL: the table's. */
void redis_invalid(struct answer *answer, const char *reason, const char *detail);

/*
 * What became of RESULT, as an error: Redis' own words where it has them, else the reason's word in
 * capitals and its sentence.
 */
void redis_refused(struct text *out, const struct result *result);

/*
 * The queue is full: may the client wait for room?  Who sends one command behind the other cannot
 * react to each, and part of what fills the queue may be its own; who sends one alone is refused at
 * once.
 */
bool redis_has_to_wait(struct connection *connection);
#define REDIS_WAIT     0.002 /* seconds until it is tried again */
#define REDIS_WAIT_MAX 1.0   /* seconds; then it is refused */

/*
 * What RESULT means for the counters, the log and the connection.  Where the queue was full and the
 * client may wait, CALL is to be done later.
 */
void redis_decided(struct redis_call *call, struct answer *answer, const struct result *result);

/* The same of a plan that changes something, which others may have come before each time. */
void redis_planned(struct redis_call *call, struct answer *answer, const struct result *result);

/* --- permit.c --- */

#define REDIS_KEYS_DENIED                                                                          \
	"NOPERM this user has no permissions to access one of the keys used as arguments"
#define REDIS_HELLO_DENIED                                                                         \
	"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "  \
	"<proto> AUTH <user> <pass> option can be used to authenticate the client and select the " \
	"RESP protocol version at the same time"

/*
 * Why CALL, whose command there is and has its words, may not be done, as an error of Redis; NULL:
 * it may.
 */
const char *redis_denies(struct redis_call *call);

/*
 * The token that USER (length 0: nobody in particular) presents as TEXT becomes the connection's.
 * False: it is none, or another's, and nothing has changed.
 */
bool redis_presents(struct redis_call *call, struct words user, struct words text);

/* --- increments.c --- */

/*
 * The increment in CALL as a request of the ledger.  False: it is answered, or it has to go through
 * a plan (ANSWER is empty).
 */
bool increment_read(struct redis_call *call, struct request *request, struct answer *answer);

/* --- transaction.c --- */

/* Is the session between MULTI and EXEC? */
bool transaction_is_open(const struct redis_session *session);

/* COMMAND (NULL: unknown, or wrong) joins the transaction, or breaks it; ANSWER is to be an error
 * then. */
void transaction_queue(struct redis_call *call, struct answer *answer);
void transaction_break(struct redis_session *session);

/* The connection ends. */
void transaction_drop(struct redis_call *call);

/* --- all handlers --- */

redis_handler redis_ping, redis_echo, redis_hello, redis_auth, redis_select, redis_quit;
redis_handler redis_client, redis_commands, redis_info, redis_config;
redis_handler redis_get, redis_mget, redis_set, redis_getset, redis_exists, redis_ttl, redis_type;
redis_handler redis_del, redis_dbsize, redis_scan, redis_increment;
redis_handler redis_multi, redis_exec, redis_discard, redis_watch, redis_unwatch;
redis_handler tally_event, tally_transfer, tally_hold, tally_capture, tally_release;
redis_handler tally_statement;

#endif
