/*
 * Commands about the connection and the service: what clients say when they connect, and what
 * people ask.  Redis' version is the one whose commands and words these are.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "glob.h"
#include "redis.h"

#define REDIS_VERSION "7.0.15"

void redis_ping(struct redis_call *call, struct answer *answer)
{
	if (call->given->count > 2)
		redis_error_arity(answer, "ping");
	else if (call->given->count == 2)
		resp_bulk(&answer->out, redis_word(call, 1).bytes, redis_word(call, 1).length);
	else
		resp_simple(&answer->out, "PONG");
}

void redis_echo(struct redis_call *call, struct answer *answer)
{
	resp_bulk(&answer->out, redis_word(call, 1).bytes, redis_word(call, 1).length);
}

void redis_quit(struct redis_call *call, struct answer *answer)
{
	call->quit = true;
	resp_simple(&answer->out, "OK");
}

void redis_select(struct redis_call *call, struct answer *answer)
{
	struct words word = redis_word(call, 1);
	int64_t index;

	if (!resp_integer_of(word.bytes, word.length, &index))
		redis_error_integer(answer);
	else if (index != 0)
		redis_error(answer, "ERR DB index is out of range");
	else
		resp_simple(&answer->out, "OK");
}

/* --- who is there --- */

#define WRONG "WRONGPASS invalid username-password pair or user is disabled."

static bool refuse_token(struct redis_call *call, struct answer *answer)
{
	/* It is known who was refused, and as what he came before. */
	answer->refusal = call->connection->guarded ? REFUSAL_UNAUTHORIZED : REFUSAL_NONE;
	redis_error(answer, WRONG);
	return false;
}

/* USER with PASSWORD, which is his token; where nobody needs one, any.  False: answered. */
static bool authenticate(struct redis_call *call, struct answer *answer, struct words user,
                         struct words password)
{
	bool is_default = user.length == 7 && memcmp(user.bytes, "default", 7) == 0;

	if (call->connection->guarded ? redis_presents(call, user, password) : is_default)
		return true;
	return refuse_token(call, answer);
}

void redis_auth(struct redis_call *call, struct answer *answer)
{
	if (call->given->count > 3) {
		redis_error_syntax(answer);
	} else if (call->given->count == 3) {
		if (authenticate(call, answer, redis_word(call, 1), redis_word(call, 2)))
			resp_simple(&answer->out, "OK");
	} else if (!call->connection->guarded) {
		redis_error(answer,
		            "ERR AUTH <password> called without any password configured for "
		            "the default user. Are you sure your configuration is correct?");
	} else if (authenticate(call, answer, (struct words){0}, redis_word(call, 1))) {
		resp_simple(&answer->out, "OK");
	}
}

static bool is_name(struct words name)
{
	for (uint32_t i = 0; i < name.length; i++)
		if (name.bytes[i] < '!' || name.bytes[i] > '~')
			return false;
	return true;
}

/* The name NAME for the connection.  False: answered. */
static bool take_name(struct redis_call *call, struct answer *answer, struct words name)
{
	if (!is_name(name)) {
		redis_error(answer, "ERR Client names cannot contain spaces, newlines or special "
		                    "characters.");
		return false;
	}
	if (name.length > REDIS_NAME_MAX) {
		redis_error(answer, "ERR a client's name has at most 64 bytes here");
		return false;
	}
	call->session->name_length = (uint8_t)name.length;
	if (name.length)
		memcpy(call->session->name, name.bytes, name.length);
	return true;
}

static void write_hello(const struct redis_call *call, struct text *out)
{
	unsigned protocol = call->session->protocol;

	resp_map(out, 7, protocol);
	resp_string(out, "server");
	resp_string(out, "tallyd");
	resp_string(out, "version");
	resp_string(out, REDIS_VERSION);
	resp_string(out, "proto");
	resp_integer(out, protocol);
	resp_string(out, "id");
	resp_integer(out, (int64_t)call->session->id);
	resp_string(out, "mode");
	resp_string(out, "standalone");
	resp_string(out, "role");
	resp_string(out, "master");
	resp_string(out, "modules");
	resp_array(out, 0);
}

/* The options of HELLO from word 2 on.  False: answered. */
static bool read_hello(struct redis_call *call, struct answer *answer)
{
	unsigned left, i = 2;

	for (; i < call->given->count; i++) {
		left = call->given->count - 1 - i;
		if (redis_is(redis_word(call, i), "AUTH") && left >= 2) {
			if (!authenticate(call, answer, redis_word(call, i + 1),
			                  redis_word(call, i + 2)))
				return false;
			i += 2;
		} else if (redis_is(redis_word(call, i), "SETNAME") && left >= 1) {
			if (!take_name(call, answer, redis_word(call, i + 1)))
				return false;
			i += 1;
		} else {
			char message[REDIS_ERROR_MAX];
			struct text text;
			text_init(&text, message, sizeof(message) - 1);
			text_literal(&text, "ERR Syntax error in HELLO option '");
			redis_show(&text, redis_word(call, i), 128);
			text_literal(&text, "'");
			message[text.length] = '\0';
			redis_error(answer, message);
			return false;
		}
	}
	return true;
}

void redis_hello(struct redis_call *call, struct answer *answer)
{
	int64_t protocol = call->session->protocol;

	if (call->given->count > 1) {
		struct words word = redis_word(call, 1);
		if (!resp_integer_of(word.bytes, word.length, &protocol)) {
			redis_error(answer,
			            "ERR Protocol version is not an integer or out of range");
			return;
		}
		if (protocol != 2 && protocol != 3) {
			redis_error(answer, "NOPROTO unsupported protocol version");
			return;
		}
		if (!read_hello(call, answer))
			return;
	}
	if (call->connection->guarded && !call->connection->token) {
		redis_error(answer, REDIS_HELLO_DENIED);
		return;
	}
	call->session->protocol = (uint8_t)protocol;
	write_hello(call, &answer->out);
}

/* --- subcommands --- */

static void error_subcommand(struct redis_call *call, struct answer *answer, const char *command)
{
	char message[REDIS_ERROR_MAX];
	struct text text;

	text_init(&text, message, sizeof(message) - 1);
	text_literal(&text, "ERR unknown subcommand '");
	redis_show(&text, redis_word(call, 1), 128);
	text_literal(&text, "'. Try ");
	text_string(&text, command);
	text_literal(&text, " HELP.");
	message[text.length] = '\0';
	redis_error(answer, message);
}

static bool has_words(struct redis_call *call, struct answer *answer, unsigned count,
                      const char *command)
{
	if (call->given->count == count)
		return true;
	redis_error_arity(answer, command);
	return false;
}

void redis_client(struct redis_call *call, struct answer *answer)
{
	struct words word = redis_word(call, 1);

	if (redis_is(word, "ID")) {
		if (has_words(call, answer, 2, "client|id"))
			resp_integer(&answer->out, (int64_t)call->session->id);
	} else if (redis_is(word, "GETNAME")) {
		if (!has_words(call, answer, 2, "client|getname"))
			return;
		if (call->session->name_length)
			resp_bulk(&answer->out, call->session->name, call->session->name_length);
		else
			resp_null(&answer->out, call->session->protocol);
	} else if (redis_is(word, "SETNAME")) {
		if (has_words(call, answer, 3, "client|setname") &&
		    take_name(call, answer, redis_word(call, 2)))
			resp_simple(&answer->out, "OK");
	} else if (redis_is(word, "SETINFO")) {
		/* What library it is: taken note of by nobody. */
		if (has_words(call, answer, 4, "client|setinfo"))
			resp_simple(&answer->out, "OK");
	} else {
		error_subcommand(call, answer, "CLIENT");
	}
}

static void write_command(struct text *out, const struct redis_command *command)
{
	bool writes = command->flags & REDIS_WRITES;

	resp_array(out, 6);
	resp_string(out, command->name);
	resp_integer(out, command->arity);
	resp_array(out, 1);
	resp_simple(out, writes ? "write" : "readonly");
	resp_integer(out, command->first);
	resp_integer(out, command->last);
	resp_integer(out, command->step);
}

static size_t count_commands(void)
{
	size_t count = 0;

	while (redis_at(count))
		count++;
	return count;
}

static void list_commands(struct text *out, bool names)
{
	resp_array(out, count_commands());
	for (size_t i = 0; redis_at(i); i++) {
		if (names)
			resp_string(out, redis_at(i)->name);
		else
			write_command(out, redis_at(i));
	}
}

#define COMMAND_INFO_MAX 64 /* commands that are asked for by name */

void redis_commands(struct redis_call *call, struct answer *answer)
{
	struct text *out = &answer->out;

	if (call->given->count == 1) {
		list_commands(out, false);
	} else if (redis_is(redis_word(call, 1), "COUNT")) {
		if (has_words(call, answer, 2, "command|count"))
			resp_integer(out, (int64_t)count_commands());
	} else if (redis_is(redis_word(call, 1), "LIST")) {
		if (has_words(call, answer, 2, "command|list"))
			list_commands(out, true);
	} else if (redis_is(redis_word(call, 1), "DOCS")) {
		/* The manual has them: tallyd-redis(7). */
		resp_map(out, 0, call->session->protocol);
	} else if (redis_is(redis_word(call, 1), "INFO") &&
	           call->given->count <= COMMAND_INFO_MAX + 2) {
		if (call->given->count == 2) {
			list_commands(out, false);
			return;
		}
		resp_array(out, call->given->count - 2);
		for (unsigned i = 2; i < call->given->count; i++) {
			const struct redis_command *command = redis_find(redis_word(call, i));
			if (command)
				write_command(out, command);
			else
				resp_null(out, call->session->protocol);
		}
	} else {
		error_subcommand(call, answer, "COMMAND");
	}
}

/* --- CONFIG GET: what tools look at --- */

/* Parameters are called in any case.  NAME: in lower case. */
static bool names_parameter(struct words pattern, const char *name)
{
	char lower[GLOB_MAX];

	if (pattern.length > sizeof(lower))
		return false;
	for (uint32_t i = 0; i < pattern.length; i++)
		lower[i] = (char)tolower((unsigned char)pattern.bytes[i]);
	return glob_matches((struct words){lower, pattern.length},
	                    (struct words){name, (uint32_t)strlen(name)});
}

/* As in Redis, one that was named, not looked for, is called what it was called. */
static void write_parameter(struct text *out, struct words asked, const char *name)
{
	bool pattern = false;

	for (uint32_t i = 0; i < asked.length; i++)
		pattern |= memchr("[*?", asked.bytes[i], 3) != NULL;
	if (pattern || asked.length != strlen(name))
		resp_string(out, name);
	else
		resp_bulk(out, asked.bytes, asked.length);
}

void redis_config(struct redis_call *call, struct answer *answer)
{
	const struct server_settings *settings = call->connection->worker->settings;
	char clients[16], seconds[16];
	const struct {
		const char *name, *value;
	} parameters[] = {{"appendfsync", settings->sync_always ? "always" : "everysec"},
	                  {"appendonly", "yes"},
	                  {"databases", "1"},
	                  {"maxclients", clients},
	                  {"maxmemory", "0"},
	                  {"save", ""},
	                  {"timeout", seconds}};
	const size_t all = sizeof(parameters) / sizeof(parameters[0]);
	unsigned wanted[sizeof(parameters) / sizeof(parameters[0])] = {0}; /* the word; 0: none */
	size_t count = 0;

	if (!redis_is(redis_word(call, 1), "GET")) {
		error_subcommand(call, answer, "CONFIG");
		return;
	}
	if (call->given->count < 3) {
		redis_error_arity(answer, "config|get");
		return;
	}
	snprintf(clients, sizeof(clients), "%u", settings->max_connections);
	snprintf(seconds, sizeof(seconds), "%.0f", settings->idle_timeout);
	for (size_t i = 0; i < all; i++) {
		for (unsigned j = 2; j < call->given->count && !wanted[i]; j++)
			if (names_parameter(redis_word(call, j), parameters[i].name))
				wanted[i] = j;
		count += wanted[i] != 0;
	}
	resp_map(&answer->out, count, call->session->protocol);
	for (size_t i = 0; i < all; i++) {
		if (!wanted[i])
			continue;
		write_parameter(&answer->out, redis_word(call, wanted[i]), parameters[i].name);
		resp_string(&answer->out, parameters[i].value);
	}
}

/* --- INFO --- */

static bool section(const struct redis_call *call, const char *name)
{
	if (call->given->count == 1)
		return true;
	for (unsigned i = 1; i < call->given->count; i++) {
		struct words word = redis_word(call, i);
		if (redis_is(word, name) || redis_is(word, "ALL") || redis_is(word, "DEFAULT") ||
		    redis_is(word, "EVERYTHING"))
			return true;
	}
	return false;
}

static void number(struct text *out, const char *name, uint64_t value)
{
	text_string(out, name);
	text_literal(out, ":");
	text_unsigned(out, value);
	text_literal(out, "\r\n");
}

static void write_server(const struct redis_call *call, struct text *out, const struct facts *facts)
{
	struct worker *worker = call->connection->worker;
	uint64_t now_us = worker_time_us(worker);

	text_literal(out, "# Server\r\nredis_version:" REDIS_VERSION "\r\nredis_mode:standalone\r\n"
	                  "tallyd_version:");
	text_string(out, worker->settings->version);
	text_literal(out, "\r\n");
	number(out, "process_id", (uint64_t)getpid());
	number(out, "tallyd_workers", worker->settings->workers);
	number(out, "uptime_in_seconds",
	       now_us > facts->started_us ? (now_us - facts->started_us) / 1000000 : 0);
	text_literal(out, "\r\n");
}

static uint64_t summed(const struct server *server, enum counter counter)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < server->set_count; i++)
		sum += counter_load(server->sets[i], counter);
	return sum;
}

void redis_info(struct redis_call *call, struct answer *answer)
{
	struct worker *worker = call->connection->worker;
	const struct server *server = worker->server;
	char bytes[REDIS_INFO_MAX];
	struct facts facts;
	struct text out;

	text_init(&out, bytes, sizeof(bytes));
	ledger_facts(server->ledger, worker_time_us(worker), &facts);
	answer->lsn = facts.tail > 0 ? facts.tail - 1 : 0;
	if (section(call, "SERVER"))
		write_server(call, &out, &facts);
	if (section(call, "CLIENTS")) {
		text_literal(&out, "# Clients\r\n");
		number(&out, "connected_clients", summed(server, COUNTER_CONNECTIONS_OPEN));
		number(&out, "maxclients", worker->settings->max_connections);
		text_literal(&out, "\r\n");
	}
	if (section(call, "PERSISTENCE")) {
		text_literal(&out, "# Persistence\r\nloading:0\r\naof_enabled:1\r\n");
		text_string(&out, facts.failed ? "aof_last_write_status:err\r\n"
		                               : "aof_last_write_status:ok\r\n");
		number(&out, "aof_current_size", facts.journal_bytes);
		text_literal(&out, "\r\n");
	}
	if (section(call, "STATS")) {
		text_literal(&out, "# Stats\r\n");
		number(&out, "total_connections_received",
		       summed(server, COUNTER_CONNECTIONS_ACCEPTED));
		number(&out, "total_commands_processed", summed(server, COUNTER_REQUESTS));
		text_literal(&out, "\r\n");
	}
	if (section(call, "REPLICATION"))
		text_literal(&out, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n");
	if (section(call, "KEYSPACE")) {
		text_literal(&out, "# Keyspace\r\n");
		if (facts.accounts.used > 0) {
			text_literal(&out, "db0:keys=");
			text_unsigned(&out, facts.accounts.used);
			text_literal(&out, ",expires=0,avg_ttl=0\r\n");
		}
	}
	resp_bulk(&answer->out, out.bytes, out.length);
}
