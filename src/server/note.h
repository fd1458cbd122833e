/*
 * What is counted and written down about answers.
 */
#ifndef TALLYD_SERVER_NOTE_H
#define TALLYD_SERVER_NOTE_H

#include <stdint.h>

#include "connection.h"
#include "../wire/endpoint.h"
#include "handlers.h"

/* An answer that has its place in the queue, to the request line REQUEST. */
struct note {
	enum endpoint endpoint;
	const char *request; /* raw bytes from the request's first on, the line and perhaps more */
	size_t length;
	double began; /* when its first byte came, monotonic seconds */
	unsigned status;
	size_t bytes; /* of its body */
	uint64_t lsn; /* that it depends on, 0: none */
};

/*
 * Counts one request, measures how long it took until now, and writes its line for the access log:
 * one that was answered in pieces.
 */
void note_request(struct connection *connection, const struct note *note);

/*
 * The same for the whole answer in ANSWER to a request for ENDPOINT; how long it takes is measured
 * by connection_answers, which has to come after this.
 */
void note_whole(struct connection *connection, enum endpoint endpoint, const char *request,
                size_t length, double began, const struct answer *answer);

/*
 * The same, and counts and logs what the handler decided: DETAIL is what was refused, if it was.
 */
void note_answer(struct connection *connection, enum endpoint endpoint, const char *request,
                 size_t length, double began, const struct answer *answer, const char *detail);

/* The address of PEER, "unix" if it has none, in NAME or a constant. */
#define NOTE_PEER_MAX 48 /* bytes, with the NUL */
const char *note_peer(const struct peer *peer, char name[NOTE_PEER_MAX]);

/* Counts COUNT operations that VERDICT was given on. */
void note_verdicts(struct worker *worker, enum verdict verdict, uint64_t count);

/* Counts that an operation (VERDICT), or what is none (VERDICT_NEUTRAL), was refused for REASON. */
void note_reason(struct worker *worker, enum verdict verdict, const struct reason *reason);

#endif
