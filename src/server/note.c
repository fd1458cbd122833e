#include "note.h"

#include <arpa/inet.h>
#include <string.h>

static const char *peer_name(const struct peer *peer, char name[INET6_ADDRSTRLEN])
{
	if (peer->family != AF_INET && peer->family != AF_INET6)
		return "unix";
	return inet_ntop(peer->family, peer->address, name, INET6_ADDRSTRLEN);
}

/* The bytes of the body of a whole answer: what follows its first empty line. */
static size_t body_bytes(const struct text *answer)
{
	const char *end = memmem(answer->bytes, answer->length, "\r\n\r\n", 4);
	return end ? answer->length - (size_t)(end + 4 - answer->bytes) : 0;
}

static void log_access(struct connection *connection, const struct note *note)
{
	struct worker *worker = connection->worker;
	char peer[INET6_ADDRSTRLEN];
	const char *line = note->request;
	size_t length = note->length;

	while (length && (*line == '\r' || *line == '\n')) {
		line++;
		length--;
	}
	const char *end = memchr(line, '\r', length);
	struct access_entry entry = {.peer = peer_name(&connection->peer, peer),
	                             .request = line,
	                             .request_length = end ? (size_t)(end - line) : length,
	                             .status = note->status,
	                             .bytes = note->bytes,
	                             .lsn = note->lsn,
	                             .started = note->began};
	access_log_add(worker->access_log, &entry, worker_time_us(worker) / 1000000, worker->now);
}

void note_request(struct connection *connection, const struct note *note)
{
	counter_add(connection->worker->server->counters, COUNTER_REQUESTS, 1);
	if (connection->worker->access_log)
		log_access(connection, note);
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

void note_whole(struct connection *connection, const char *request, size_t length, double began,
                const struct answer *answer)
{
	bool logged = connection->worker->access_log != NULL;

	note_request(connection, &(struct note){.request = request,
	                                        .length = length,
	                                        .began = began,
	                                        .status = answer->status,
	                                        .bytes = logged ? body_bytes(&answer->out) : 0,
	                                        .lsn = answer->lsn});
}

void note_answer(struct connection *connection, const char *request, size_t length, double began,
                 const struct answer *answer, const char *detail)
{
	struct worker *worker = connection->worker;

	note_verdicts(worker, answer->verdict, 1);
	worker->posted |= answer->posted;
	refusal_note(&worker->refusals, answer->refusal, worker->now, detail);
	note_whole(connection, request, length, began, answer);
}
