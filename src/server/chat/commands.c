/* What a client may type. */
#include "../../ledger/tail.h"
#include "../../wire/token.h"
#include "../feed.h"
#include "chat.h"
#include "history.h"

#define NAMES_AT_ONCE 64 /* that are read under one lock */
#define LIST_MAX      (CHAT_ANSWER_MAX + ROOM_MEMBERS_MAX * (ROOM_NICK_MAX + 1))

_Static_assert(LIST_MAX < CONNECTION_OUT_MAX, "a full room can be listed");

size_t chat_answer_room(const struct chat *chat, const struct chat_line *line)
{
	(void)chat;
	return line->command == CHAT_LIST ? LIST_MAX : CHAT_ANSWER_MAX;
}

static void say(struct chat *chat, enum room_kind kind, const struct chat_line *line,
                struct text *out)
{
	struct chats *chats = chats_of(chat);
	struct worker *worker = chats->worker;
	struct room_line said;

	if (line->length == 0) {
		chat_write_word(out, "/me WHAT YOU DO");
		return;
	}
	if (room_say(chats->room, &chat->seat, kind, line->text, line->length,
	             worker_time_us(worker), &said) != ROOM_DONE)
		return;
	chats->spoke = true;
	counter_add(worker->server->counters, COUNTER_CHAT_LINES, 1);
	if (chats->history)
		chat_history_add(chats->history, &said);
}

static void rename_to(struct chat *chat, const struct chat_line *line, struct text *out)
{
	struct chats *chats = chats_of(chat);

	if (!room_nick_valid(line->text, line->length)) {
		text_literal(out, CHAT_MARK "a name has 1 to ");
		text_unsigned(out, ROOM_NICK_MAX);
		text_literal(out, " letters, digits, \"_\", \"-\" and \".\"\n");
		return;
	}
	switch (room_rename(chats->room, &chat->seat, line->text, line->length,
	                    worker_time_us(chats->worker))) {
	case ROOM_DONE:
		chats->spoke = true;
		text_literal(out, CHAT_MARK "you are now ");
		text_bytes(out, chat->seat.nick, chat->seat.nick_length);
		text_literal(out, "\n");
		break;
	case ROOM_TAKEN:
		text_literal(out, CHAT_MARK "somebody else is ");
		text_bytes(out, line->text, line->length);
		text_literal(out, "\n");
		break;
	case ROOM_FULL:
	case ROOM_BROKEN:
		break;
	}
}

static void list(struct chat *chat, struct text *out)
{
	struct room_name names[NAMES_AT_ONCE];
	struct room *room = chats_of(chat)->room;
	uint32_t cursor = 0;
	size_t count, all = 0;
	size_t begin = out->length;

	text_literal(out, CHAT_MARK "here are:");
	while ((count = room_names(room, &cursor, names, NAMES_AT_ONCE)) > 0) {
		for (size_t i = 0; i < count; i++) {
			text_literal(out, " ");
			text_bytes(out, names[i].bytes, names[i].length);
		}
		all += count;
	}
	text_literal(out, "\n");
	if (all == 0)
		out->length = begin;
}

/* What CHAT's token lets it see of the accounts that LINE's prefix names, in *PREFIX. */
static bool may_watch(const struct chat *chat, const struct chat_line *line, struct words *prefix)
{
	const struct token *token = chat->connection->token;
	const struct words wanted = {line->text, (uint32_t)line->length};

	return (!token || (token->scopes & SCOPE_READ)) && token_narrows(token, wanted, prefix);
}

static void watch(struct chat *chat, const struct chat_line *line, struct text *out)
{
	struct chats *chats = chats_of(chat);
	struct tail *tail = feeds_tail(chats->worker->feeds);
	char shown[ACCOUNT_NAME_MAX]; /* a token's prefix may be unfit for a terminal */
	struct words prefix;

	if (line->length > ACCOUNT_NAME_MAX) {
		chat_write_word(out, "no account has so long a name");
		return;
	}
	if (!may_watch(chat, line, &prefix)) {
		chat_write_word(out, "your token does not permit that");
		return;
	}
	if (!tail) {
		chat_write_word(out, "there is no journal to be watched");
		return;
	}
	chat->prefix_length = (uint8_t)prefix.length;
	memcpy(chat->prefix, prefix.bytes, prefix.length);
	chat->watched = tail_durable(tail);
	chats->watchers += !chat->watching;
	chat->watching = true;
	text_literal(out, CHAT_MARK "you watch ");
	text_string(out, prefix.length ? "accounts that begin with " : "all accounts");
	text_bytes(out, shown, chat_clean(chat->prefix, prefix.length, shown));
	text_literal(out, "; /unwatch ends it\n");
}

static void unwatch(struct chat *chat, struct text *out)
{
	chats_of(chat)->watchers -= chat->watching;
	chat->watching = false;
	chat_write_word(out, "you watch nothing");
}

static void help(struct text *out)
{
	chat_write_word(out, "what you type is said to all others");
	chat_write_word(out, "/nick NAME      be called NAME");
	chat_write_word(out, "/list           who is here");
	chat_write_word(out, "/me WHAT        say what you do");
	chat_write_word(out, "/watch PREFIX   see balances of accounts change");
	chat_write_word(out, "/unwatch        see no more of them");
	chat_write_word(out, "/quit           leave");
	chat_write_word(out, "//...           say something that begins with /");
}

static void leave(struct chat *chat, struct text *out)
{
	chat->stage = CHAT_OUTSIDE;
	chat_write_word(out, "good-bye");
}

void chat_obey(struct chat *chat, const struct chat_line *line, struct text *out)
{
	switch (line->command) {
	case CHAT_NOTHING:
		break;
	case CHAT_SAY:
		say(chat, ROOM_SAID, line, out);
		break;
	case CHAT_ME:
		say(chat, ROOM_DID, line, out);
		break;
	case CHAT_NICK:
		rename_to(chat, line, out);
		break;
	case CHAT_LIST:
		list(chat, out);
		break;
	case CHAT_WATCH:
		watch(chat, line, out);
		break;
	case CHAT_UNWATCH:
		unwatch(chat, out);
		break;
	case CHAT_AUTH:
		chat_write_word(out, "nobody is asked who he is here, or you have said it");
		break;
	case CHAT_HELP:
		help(out);
		break;
	case CHAT_QUIT:
		leave(chat, out);
		break;
	case CHAT_UNKNOWN:
		text_literal(out, CHAT_MARK "there is no ");
		text_bytes(out, line->text, line->length);
		text_literal(out, "; /help says what there is\n");
		break;
	}
}
