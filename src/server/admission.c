#include "admission.h"

#include <stdio.h>

#include "../../shm/clients.h"
#include "connection.h"
#include "note.h"

#define DETAIL_MAX 128

/* The gauge of what this worker's table has. */
static void tell(const struct worker *worker)
{
	counter_store(worker->server->counters, COUNTER_CLIENT_ADDRESSES,
	              clients_known(worker->server->clients));
}

static const char *refuse_many(struct connection *connection)
{
	struct worker *worker = connection->worker;
	char detail[DETAIL_MAX], peer[NOTE_PEER_MAX];

	snprintf(detail, sizeof(detail), "%s has %u", note_peer(&connection->peer, peer),
	         worker->settings->max_connections_per_ip);
	counter_add(worker->server->counters, COUNTER_REFUSED_MANY, 1);
	refusal_note(&worker->refusals, REFUSAL_MANY, worker->now, detail);
	return "too_many_connections";
}

static const char *refuse_full(struct connection *connection)
{
	struct worker *worker = connection->worker;
	char detail[DETAIL_MAX], peer[NOTE_PEER_MAX];

	snprintf(detail, sizeof(detail), "%s is one too many", note_peer(&connection->peer, peer));
	counter_add(worker->server->counters, COUNTER_REFUSED_ADDRESSES, 1);
	refusal_note(&worker->refusals, REFUSAL_ADDRESSES, worker->now, detail);
	return "addresses_full";
}

const char *admission_enter(struct connection *connection)
{
	const struct worker *worker = connection->worker;
	uint32_t most = worker->settings->max_connections_per_ip;
	uint64_t client;

	if (!worker->server->clients || connection->exempt ||
	    !peer_client(&connection->peer, &client))
		return NULL;
	/* Without a limit they are counted, too: a reload may set one for those who are there. */
	enum clients_verdict verdict = clients_enter(worker->server->clients, client, most);
	connection->counted = verdict == CLIENTS_ADMITTED;
	tell(worker);
	if (connection->counted || most == 0)
		return NULL;
	return verdict == CLIENTS_MANY ? refuse_many(connection) : refuse_full(connection);
}

void admission_leave(struct connection *connection)
{
	const struct worker *worker = connection->worker;
	uint64_t client;

	if (!connection->counted || !peer_client(&connection->peer, &client))
		return;
	connection->counted = false;
	clients_leave(worker->server->clients, client);
	tell(worker);
}
