/*
 * What clients are refused, by class: one line in the log per class and period, however
 * many clients provoke it.
 */
#ifndef TALLYD_SERVER_REFUSAL_H
#define TALLYD_SERVER_REFUSAL_H

#include "../base/log.h"

enum refusal {
	REFUSAL_NONE,
	REFUSAL_MALFORMED,
	REFUSAL_INVALID,
	REFUSAL_TIMED_OUT,
	REFUSAL_BUSY,
	REFUSAL_QUEUE_FULL,
	REFUSAL_DISK_FULL,
	REFUSAL_TABLE_FULL,
	REFUSAL_HOLDS_FULL,
	REFUSAL_JOURNAL_FAILED,
	REFUSAL_FORGOTTEN,    /* an id whose record is no longer kept */
	REFUSAL_READ_FAILED,  /* of the journal, for an id or a statement */
	REFUSAL_UNAUTHORIZED, /* no token, or none of ours */
	REFUSAL_FORBIDDEN,    /* a token that does not permit it */
	REFUSAL_STRANGER,     /* on a Unix socket, who is not named */
	REFUSAL_CHAT_FULL,    /* nobody more is let into the chat */
	REFUSAL_PAUSED,       /* listeners, at a limit or out of descriptors */
	REFUSAL_NOT_PROXY,    /* who connects where only proxies may */
	REFUSAL_HEADER,       /* a proxy that does not begin as one */
	REFUSAL_MANY,         /* a client with as many connections as it may have */
	REFUSAL_ADDRESSES,    /* no place to count another client */
	REFUSAL_CLASSES,
};

/* Start from {0}. */
struct refusals {
	struct log_limit limits[REFUSAL_CLASSES];
};

/*
 * Counts one refusal of CLASS (REFUSAL_NONE: none) at NOW (monotonic seconds), and logs the
 * class with DETAIL (what this one was, a sentence without its full stop) if a line is due.
 */
void refusal_note(struct refusals *refusals, enum refusal class, double now, const char *detail);

#endif
