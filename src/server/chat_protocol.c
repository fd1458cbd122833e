#include "chat_protocol.h"

#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "../wire/token.h"
#include "chat/chat.h"
#include "note.h"

#define CHAT_SLACK 0.01 /* seconds by which a deadline may seem to lie ahead when it has passed */

/* --- the beginning --- */

/*
 * An idle client stays as long as it is there: the kernel asks.  And it would take megabytes for
 * one that takes nothing.  What is no TCP has an end that is seen, and takes less.
 */
static void prepare_socket(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
	    {SOL_SOCKET, SO_KEEPALIVE, 1},
	    {IPPROTO_TCP, TCP_KEEPIDLE, CHAT_KEEPALIVE_IDLE},
	    {IPPROTO_TCP, TCP_KEEPINTVL, CHAT_KEEPALIVE_EVERY},
	    {IPPROTO_TCP, TCP_KEEPCNT, CHAT_KEEPALIVE_PROBES},
	    {IPPROTO_TCP, TCP_USER_TIMEOUT, CHAT_UNANSWERED_MS},
	    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, CHAT_UNSENT},
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
		setsockopt(fd, options[i].level, options[i].name, &options[i].value,
		           sizeof(options[i].value));
}

/* Who does not say who he is in time is not kept. */
static void ask_for_token(struct connection *connection)
{
	struct worker *worker = connection->worker;
	struct text out;

	connection_expect(connection, worker->now + worker->settings->header_timeout);
	if (connection_room(connection, CHAT_ANSWER_MAX, &out) != CONNECTION_ROOM)
		return;
	chat_write_word(&out, "say who you are: /auth TOKEN");
	connection_answer(connection, &out, 0);
}

static void opened(struct connection *connection)
{
	struct chat *chat = chat_of(connection);

	*chat = (struct chat){.connection = connection,
	                      .tokens = CHAT_BURST,
	                      .filled = connection->worker->now,
	                      .stage = CHAT_AT_DOOR};
	prepare_socket(connection->io.fd);
	connection_stream(connection, true);
	if (connection->guarded)
		ask_for_token(connection);
	/* It need not say anything to be let in. */
	connection_poke(connection);
}

/* --- the end --- */

static void leave(struct chat *chat, enum room_kind kind)
{
	struct chats *chats = chats_of(chat);

	if (chat->seat.serial != 0) {
		room_leave(chats->room, &chat->seat, kind, worker_time_us(chats->worker));
		chats->spoke = true;
		chats_remove(chats, chat);
		if (kind == ROOM_SLOW)
			counter_add(chats->worker->server->counters, COUNTER_CHAT_DROPPED, 1);
	}
	chat->stage = CHAT_OUTSIDE;
}

/* The last that a client reads; WORD is a string constant. */
#define SAY_LAST(chat, word)                                                                       \
	connection_last_words((chat)->connection, CHAT_MARK word "\n",                             \
	                      sizeof(CHAT_MARK word "\n") - 1, 0, 0)

static void closed(struct connection *connection)
{
	/* Who took nothing for write_timeout is cut without a word, which it would not take. */
	bool slow =
	    connection->stalled && connection->progress_by <= connection->worker->now + CHAT_SLACK;

	leave(chat_of(connection), slow ? ROOM_SLOW : ROOM_LEFT);
}

/* --- the door --- */

static void greet(struct chat *chat)
{
	struct connection *connection = chat->connection;
	struct text out;

	if (connection_room(connection, CHAT_ANSWER_MAX, &out) != CONNECTION_ROOM)
		return;
	text_literal(&out, CHAT_MARK "you are ");
	text_bytes(&out, chat->seat.nick, chat->seat.nick_length);
	text_literal(&out, ", one of ");
	text_unsigned(&out, room_count(chats_of(chat)->room));
	text_literal(&out, "; /help says what you can do\n");
	connection_answer(connection, &out, 0);
}

static void sit_down(struct chat *chat)
{
	struct chats *chats = chats_of(chat);

	switch (room_enter(chats->room, worker_time_us(chats->worker), &chat->seat, &chat->news,
	                   &chat->past_end)) {
	case ROOM_DONE:
		break;
	case ROOM_FULL:
		refusal_note(&chats->worker->refusals, REFUSAL_CHAT_FULL, chats->worker->now,
		             "a client of the chat");
		leave(chat, ROOM_LEFT);
		SAY_LAST(chat, "the room is full: come back later");
		return;
	case ROOM_TAKEN:
	case ROOM_BROKEN:
		leave(chat, ROOM_LEFT);
		connection_close(chat->connection, false);
		return;
	}
	chat->past = chat->past_end > CHAT_GREETING ? chat->past_end - CHAT_GREETING : 0;
	chat->stage = CHAT_IN_ROOM;
	chats->spoke = true;
	chats_add(chats, chat);
	greet(chat);
}

/* Does the line of LENGTH BYTES show a token that is good? */
static bool is_known(struct connection *connection, const char *bytes, size_t length)
{
	struct worker *worker = connection->worker;
	struct chat_line line;

	if (length > CHAT_LINE_MAX)
		return false;
	chat_read(bytes, length, &line);
	if (line.command != CHAT_AUTH)
		return false;
	connection->token = tokens_of_text(worker->tokens, line.text, line.length);
	return connection->token && !token_is_over(connection->token, worker_time_us(worker));
}

/* At the door: the first of the LENGTH BYTES say who it is.  How many of them are taken? */
static size_t show_token(struct chat *chat, const char *bytes, size_t length)
{
	struct connection *connection = chat->connection;
	const char *end = memchr(bytes, '\n', length);
	size_t size = end ? (size_t)(end - bytes) : length;

	if (!end && !connection->ended && length <= CHAT_LINE_MAX + 1)
		return 0;
	if (is_known(connection, bytes, size)) {
		connection_expect_nothing(connection);
		return size + (end != NULL);
	}
	connection->token = NULL;
	refusal_note(&connection->worker->refusals, REFUSAL_UNAUTHORIZED, connection->worker->now,
	             "a client of the chat");
	leave(chat, ROOM_LEFT);
	SAY_LAST(chat, "that is no token that is good here; good-bye");
	return length;
}

static bool lacks_token(const struct chat *chat)
{
	return chat->connection->guarded && !chat->connection->token;
}

/* Is CHAT in the room? */
static bool come_in(struct chat *chat)
{
	double wait;

	if (chat->stage == CHAT_AT_DOOR && !chat->connection->paused && !lacks_token(chat)) {
		if (chats_admit(chats_of(chat), &wait))
			sit_down(chat);
		else
			connection_pause(chat->connection, wait);
	}
	return chat->stage == CHAT_IN_ROOM;
}

/* --- what is typed --- */

/* May CHAT's client send one more line now?  Else it is not read from for a while. */
static bool may_speak(struct chat *chat)
{
	double now = chat->connection->worker->now;

	chat->tokens = fmin(CHAT_BURST, chat->tokens + (now - chat->filled) * CHAT_RATE);
	chat->filled = now;
	if (chat->tokens < 1) {
		connection_pause(chat->connection, (1 - chat->tokens) / CHAT_RATE);
		return false;
	}
	chat->tokens--;
	return true;
}

/* Does what the line of LENGTH BYTES says.  False: not now. */
static bool take_line(struct chat *chat, const char *bytes, size_t length)
{
	struct connection *connection = chat->connection;
	bool has_end = length > 0 && bytes[length - 1] == '\r';
	bool too_long = chat->skipping || length - has_end > CHAT_LINE_MAX;
	struct chat_line line = {.command = CHAT_NOTHING};
	struct text out;

	if (!too_long)
		chat_read(bytes, length, &line);
	switch (connection_room(connection, chat_answer_room(chat, &line), &out)) {
	case CONNECTION_ROOM_NOTHING:
		connection->protocol->exhausted(connection);
		return false;
	case CONNECTION_ROOM_LATER:
		return false;
	case CONNECTION_ROOM:
		break;
	}
	bool now = may_speak(chat);
	if (now && too_long) {
		text_literal(&out, CHAT_MARK "that line is too long and was not said: at most ");
		text_unsigned(&out, CHAT_LINE_MAX);
		text_literal(&out, " bytes\n");
	} else if (now) {
		chat_obey(chat, &line, &out);
	}
	connection_answer(connection, &out, 0);
	chat->skipping = chat->skipping && !now;
	return now;
}

/* The LENGTH bytes at BYTES have no end.  How many of them need not be kept? */
static size_t take_part(struct chat *chat, size_t length)
{
	chat->skipping = chat->skipping || length > CHAT_LINE_MAX + 1;
	return chat->skipping ? length : 0;
}

static size_t take_lines(struct chat *chat, const char *bytes, size_t length)
{
	struct connection *connection = chat->connection;
	size_t at = 0;

	while (at < length && chat->stage == CHAT_IN_ROOM) {
		const char *end = memchr(bytes + at, '\n', length - at);
		if (!end && !connection->ended)
			return at + take_part(chat, length - at);
		size_t size = end ? (size_t)(end - bytes) - at : length - at;
		if (!connection_may_go_on(connection) || !take_line(chat, bytes + at, size))
			break;
		at += size + (end != NULL);
	}
	return at;
}

/* --- drains --- */

static void tell_drain(struct chat *chat)
{
	struct text out;

	if (chat->told ||
	    connection_room(chat->connection, CHAT_ANSWER_MAX, &out) != CONNECTION_ROOM)
		return;
	chat->told = true;
	chat_write_word(&out, "tallyd was reloaded: this connection ends soon, come back then");
	connection_answer(chat->connection, &out, 0);
}

/*
 * The worker is to end.  True: CHAT's client has been told so, and goes; not before what it has
 * sent has been said, if only its haste kept it from that (ALL_TAKEN: nothing is left).
 */
static bool drains(struct chat *chat, bool all_taken)
{
	const struct worker *worker = chat->connection->worker;

	if (worker->phase == PHASE_SERVING || chat->stage == CHAT_OUTSIDE)
		return false;
	if (worker->phase == PHASE_GENTLE && worker->now < worker->drain_by - CHAT_LEAVE) {
		tell_drain(chat);
		return false;
	}
	if (!all_taken && chat->connection->paused)
		return false;
	if (chat->stage == CHAT_IN_ROOM)
		chat_deliver(chat);
	leave(chat, ROOM_LEFT);
	connection_hurry(chat->connection, CHAT_HURRY);
	if (worker->phase == PHASE_GENTLE)
		SAY_LAST(chat, "tallyd was reloaded: come back; good-bye");
	else
		SAY_LAST(chat, "tallyd is stopping; good-bye");
	return true;
}

/* --- the whole way --- */

/* Gives CHAT's client what there is; after its own end, that and no more. */
static void answer(struct chat *chat, bool all_taken)
{
	switch (chat_deliver(chat)) {
	case CHAT_TOO_SLOW:
		leave(chat, ROOM_SLOW);
		SAY_LAST(chat, "you did not take what was said: you are dropped");
		break;
	case CHAT_GIVEN_ALL:
		if (!chat->connection->ended || !all_taken)
			break;
		leave(chat, ROOM_LEFT);
		connection_close(chat->connection, true);
		break;
	case CHAT_GIVEN_SOME:
		break;
	}
}

/* Is CHAT's token over?  Then it has been told so, and goes. */
static bool is_over(struct chat *chat)
{
	const struct connection *connection = chat->connection;

	if (!connection->token ||
	    !token_is_over(connection->token, worker_time_us(connection->worker)))
		return false;
	leave(chat, ROOM_LEFT);
	SAY_LAST(chat, "your token is over; good-bye");
	return true;
}

static size_t arrived(struct connection *connection, char *bytes, size_t *length)
{
	struct chat *chat = chat_of(connection);
	size_t at = 0;

	if (chat->stage == CHAT_AT_DOOR && drains(chat, true))
		return *length;
	if (chat->stage == CHAT_AT_DOOR && lacks_token(chat))
		at = show_token(chat, bytes, *length);
	if (is_over(chat) || !come_in(chat))
		return connection->closing ? *length : at;
	at += take_lines(chat, bytes + at, *length - at);
	if (chat->stage == CHAT_OUTSIDE) {
		leave(chat, ROOM_LEFT);
		connection_close(connection, true);
		return *length;
	}
	if (drains(chat, at == *length))
		return *length;
	answer(chat, at == *length);
	return at;
}

/* Nothing is expected but a token. */
static void timed_out(struct connection *connection)
{
	struct chat *chat = chat_of(connection);

	leave(chat, ROOM_LEFT);
	SAY_LAST(chat, "you did not say who you are; good-bye");
}

/* It never came to the door: there is no state. */
static void refused(struct connection *connection, const char *reason)
{
	static const char words[] = CHAT_MARK "you cannot come in now: come back later\n";
	(void)reason;

	connection_last_words(connection, words, sizeof(words) - 1, 0, 0);
}

static void exhausted(struct connection *connection)
{
	struct chat *chat = chat_of(connection);

	refusal_note(&connection->worker->refusals, REFUSAL_BUSY, connection->worker->now,
	             "a client of the chat");
	leave(chat, ROOM_LEFT);
	SAY_LAST(chat, "there is no memory for you: come back later");
}

const struct protocol chat_protocol = {
    .name = "chat",
    .state_size = sizeof(struct chat),
    .opened = opened,
    .arrived = arrived,
    .timed_out = timed_out,
    .exhausted = exhausted,
    .refused = refused,
    .closed = closed,
};
