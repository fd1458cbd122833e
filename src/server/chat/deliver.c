/* What a client is given: the past, the lines of the room, and changes of balances. */
#include "../../ledger/tail.h"
#include "../feed.h"
#include "chat.h"

#define CHANGES_MAX (LEGS_MAX * CHAT_CHANGE_MAX) /* bytes of one record */

_Static_assert(CHAT_BLOCK + CHAT_WORD_MAX + sizeof(struct queue) <= 8192, "a block of 8 KiB");
_Static_assert(CHAT_BLOCK >= CHANGES_MAX + CHAT_WORD_MAX && CHAT_BLOCK >= CHAT_SHOWN_MAX,
               "there is a way");

/* Is there room for LENGTH more bytes of OUT? */
static bool fits(const struct text *out, size_t length)
{
	return out->capacity - out->length >= length;
}

static uint64_t now_us(const struct chat *chat)
{
	return worker_time_us(chat->connection->worker);
}

/* What is overwritten already was long ago. */
static bool give_past(struct chat *chat, struct text *out)
{
	const struct room *room = chats_of(chat)->room;
	struct room_line line;

	for (; chat->past < chat->past_end; chat->past++) {
		if (!fits(out, CHAT_SHOWN_MAX))
			return false;
		if (room_read_past(room, chat->past, &line) == ROOM_LINE)
			chat_write_line(out, &line, now_us(chat));
	}
	return true;
}

static enum chat_given give_news(struct chat *chat, struct text *out)
{
	const struct room *room = chats_of(chat)->room;
	struct room_line line;

	for (;; chat->news++) {
		if (!fits(out, CHAT_SHOWN_MAX))
			return CHAT_GIVEN_SOME;
		switch (room_read(room, chat->news, &line)) {
		case ROOM_NONE:
			return CHAT_GIVEN_ALL;
		case ROOM_LOST:
			return CHAT_TOO_SLOW;
		case ROOM_LINE:
			/* Who types sees what he types. */
			if (line.member != chat->seat.serial)
				chat_write_line(out, &line, now_us(chat));
			break;
		}
	}
}

/* --- watches --- */

static bool concerns(const struct chat *chat, const struct words *account)
{
	return account->length >= chat->prefix_length &&
	       memcmp(account->bytes, chat->prefix, chat->prefix_length) == 0;
}

static void give_change(const struct chat *chat, const struct change *change, struct text *out)
{
	for (unsigned i = 0; i < change->legs; i++)
		if (concerns(chat, &change->leg[i].account))
			chat_write_change(out, &change->leg[i], change->time_us, now_us(chat));
}

static void stop_watching(struct chat *chat, struct text *out)
{
	chats_of(chat)->watchers--;
	chat->watching = false;
	chat_write_word(out, "the journal cannot be read: you watch nothing");
}

/* STATUS of CHAT's next record, which is neither a change nor none: what has it been given? */
static enum chat_given cannot_read(struct chat *chat, enum tail_status status, uint64_t durable,
                                   struct text *out)
{
	switch (status) {
	case TAIL_PRUNED:
		chat->watched = durable;
		chat_write_word(out, "some changes are not shown: they are no longer kept");
		return CHAT_GIVEN_ALL;
	case TAIL_LATER:
		return CHAT_GIVEN_SOME;
	case TAIL_NOWHERE:
	case TAIL_IO:
		stop_watching(chat, out);
		return CHAT_GIVEN_ALL;
	case TAIL_CHANGE:
	case TAIL_NOTHING:
	case TAIL_END:
		break;
	}
	return CHAT_GIVEN_ALL;
}

static enum chat_given give_changes(struct chat *chat, struct text *out)
{
	struct chats *chats = chats_of(chat);
	struct tail *tail = feeds_tail(chats->worker->feeds);
	uint64_t durable = tail_durable(tail);

	if (durable - chat->watched > CHAT_WATCH_LAG && fits(out, CHAT_WORD_MAX)) {
		chat->watched = durable;
		chat_write_word(out, "some changes are not shown: there were too many");
	}
	for (unsigned i = 0; i < CHAT_WATCH_SLICE; i++) {
		if (!fits(out, CHANGES_MAX + CHAT_WORD_MAX))
			return CHAT_GIVEN_SOME;
		enum tail_status status = tail_next(tail, &chat->watched, durable, &chats->change);
		if (status == TAIL_CHANGE)
			give_change(chat, &chats->change, out);
		else if (status != TAIL_NOTHING)
			return cannot_read(chat, status, durable, out);
	}
	return CHAT_GIVEN_SOME;
}

/* --- all of it --- */

static enum chat_given give(struct chat *chat, struct text *out)
{
	if (!give_past(chat, out))
		return CHAT_GIVEN_SOME;
	enum chat_given given = give_news(chat, out);
	return given == CHAT_GIVEN_ALL && chat->watching ? give_changes(chat, out) : given;
}

/* Nothing is to be given: no memory is needed to know that. */
static bool has_all(const struct chat *chat)
{
	struct chats *chats = chats_of(chat);

	return chat->past == chat->past_end && chat->news == room_end(chats->room) &&
	       (!chat->watching || chat->watched >= tail_durable(feeds_tail(chats->worker->feeds)));
}

enum chat_given chat_deliver(struct chat *chat)
{
	struct connection *connection = chat->connection;
	struct chats *chats = chats_of(chat);
	struct text out;

	if (has_all(chat))
		return CHAT_GIVEN_ALL;
	if (room_end(chats->room) - chat->news > ROOM_LINES)
		return CHAT_TOO_SLOW;
	/* `arrived` is called when it has taken what it was given. */
	if (connection_waits_for_room(connection))
		return CHAT_GIVEN_SOME;
	if (connection_room(connection, CHAT_BLOCK + CHAT_WORD_MAX, &out) != CONNECTION_ROOM) {
		chats->again = true;
		return CHAT_GIVEN_SOME;
	}
	/* The rest is for a last word. */
	out.capacity = CHAT_BLOCK;
	enum chat_given given = give(chat, &out);
	connection_answer(connection, &out, 0);
	chats->again = chats->again || given == CHAT_GIVEN_SOME;
	return given;
}
