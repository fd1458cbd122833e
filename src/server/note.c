#include "note.h"

#include "../wire/token.h"

#include <arpa/inet.h>
#include <string.h>

_Static_assert(NOTE_PEER_MAX >= INET6_ADDRSTRLEN, "any address");

const char *note_peer(const struct peer *peer, char name[NOTE_PEER_MAX])
{
	if (peer->family != AF_INET && peer->family != AF_INET6)
		return "unix";
	return inet_ntop(peer->family, peer->address, name, NOTE_PEER_MAX);
}

/* The bytes of the body of a whole answer: what follows its first empty line. */
static size_t body_bytes(const struct text *answer)
{
	const char *end =
	    answer->length ? memmem(answer->bytes, answer->length, "\r\n\r\n", 4) : NULL;
	return end ? answer->length - (size_t)(end + 4 - answer->bytes) : 0;
}

static void log_access(struct connection *connection, const struct note *note)
{
	struct worker *worker = connection->worker;
	char peer[NOTE_PEER_MAX];
	const char *line = note->request;
	size_t length = note->length;

	while (length && (*line == '\r' || *line == '\n')) {
		line++;
		length--;
	}
	const char *end = memchr(line, '\r', length);
	struct access_entry entry = {.peer = note_peer(&connection->peer, peer),
	                             .user = connection->token ? connection->token->name : NULL,
	                             .request = line,
	                             .request_length = end ? (size_t)(end - line) : length,
	                             .status = note->status,
	                             .bytes = note->bytes,
	                             .lsn = note->lsn,
	                             .started = note->began};
	access_log_add(worker->access_log, &entry, worker_time_us(worker), worker->now);
}

static void count_request(struct connection *connection, const struct note *note)
{
	struct counters *counters = connection->worker->server->counters;

	counter_add(counters, COUNTER_REQUESTS, 1);
	counter_bump(&counters->requests[note->endpoint][endpoint_column(note->status)], 1);
	if (connection->worker->access_log)
		log_access(connection, note);
}

void note_request(struct connection *connection, const struct note *note)
{
	struct worker *worker = connection->worker;
	double seconds = worker->now - note->began;

	count_request(connection, note);
	counter_measure(worker->server->counters, MEASURE_STREAM,
	                seconds > 0 ? (uint64_t)(seconds * 1e6) : 0, 1);
}

void note_verdicts(struct worker *worker, enum verdict verdict, uint64_t count)
{
	static const enum counter counters[] = {[VERDICT_ACCEPTED] = COUNTER_EVENTS_ACCEPTED,
	                                        [VERDICT_REFUSED] = COUNTER_EVENTS_REFUSED,
	                                        [VERDICT_REJECTED] = COUNTER_EVENTS_REJECTED,
	                                        [VERDICT_INVALID] = COUNTER_EVENTS_INVALID,
	                                        [VERDICT_REPLAYED] = COUNTER_EVENTS_REPLAYED};

	if (verdict != VERDICT_NEUTRAL && count)
		counter_add(worker->server->counters, counters[verdict], count);
}

void note_reason(struct worker *worker, enum verdict verdict, const struct reason *reason)
{
	struct counters *counters = worker->server->counters;
	size_t place = reason ? reason_place(reason) : COUNTER_REASONS - 1;

	if (verdict == VERDICT_NEUTRAL)
		counter_bump(&counters->errors[place], 1);
	else if (verdict != VERDICT_ACCEPTED && verdict != VERDICT_REPLAYED)
		counter_bump(&counters->events[place], 1);
}

void note_whole(struct connection *connection, enum endpoint endpoint, const char *request,
                size_t length, double began, const struct answer *answer)
{
	bool logged = connection->worker->access_log != NULL;

	count_request(connection, &(struct note){.endpoint = endpoint,
	                                         .request = request,
	                                         .length = length,
	                                         .began = began,
	                                         .status = answer->status,
	                                         .bytes = logged ? body_bytes(&answer->out) : 0,
	                                         .lsn = answer->lsn});
}

void note_answer(struct connection *connection, enum endpoint endpoint, const char *request,
                 size_t length, double began, const struct answer *answer, const char *detail)
{
	struct worker *worker = connection->worker;

	note_verdicts(worker, answer->verdict, 1);
	if (answer->status >= 400)
		note_reason(worker, answer->verdict, answer->reason);
	worker->posted |= answer->posted;
	refusal_note(&worker->refusals, answer->refusal, worker->now, detail);
	note_whole(connection, endpoint, request, length, began, answer);
}
