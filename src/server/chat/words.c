/* How lines look. */
#include "../../wire/reply.h"
#include "chat.h"

#define DAY_US     UINT64_C(86400000000)
#define STAMP_MAX  32
#define DATE_BYTES 10 /* "2026-11-28T12:34:56.123456Z" */
#define TIME_AT    11
#define TIME_BYTES 8

/* "[12:34:56] ", with the date if that is not today's. */
static void write_stamp(struct text *out, uint64_t time_us, uint64_t now_us)
{
	char bytes[STAMP_MAX];
	struct text stamp;

	text_init(&stamp, bytes, sizeof(bytes));
	reply_time(&stamp, time_us);
	text_literal(out, "[");
	if (time_us / DAY_US != now_us / DAY_US) {
		text_bytes(out, bytes, DATE_BYTES);
		text_literal(out, " ");
	}
	text_bytes(out, bytes + TIME_AT, TIME_BYTES);
	text_literal(out, "] ");
}

/* What became of whom a line is about. */
static const char *fate(enum room_kind kind)
{
	switch (kind) {
	case ROOM_JOINED:
		return " has joined";
	case ROOM_LEFT:
		return " has left";
	case ROOM_GONE:
		return " is gone: its worker died";
	case ROOM_SLOW:
		return " was dropped: too slow";
	case ROOM_RENAMED:
		return " is now ";
	case ROOM_SAID:
	case ROOM_DID:
	case ROOM_NOTHING:
		break;
	}
	return "";
}

void chat_write_line(struct text *out, const struct room_line *line, uint64_t now_us)
{
	enum room_kind kind = (enum room_kind)line->kind;

	write_stamp(out, line->time_us, now_us);
	text_string(out, kind == ROOM_SAID ? "<" : kind == ROOM_DID ? "* " : CHAT_MARK);
	text_bytes(out, line->nick, line->nick_length);
	text_string(out, kind == ROOM_SAID ? "> " : kind == ROOM_DID ? " " : fate(kind));
	text_bytes(out, line->text, line->text_length);
	text_literal(out, "\n");
}

void chat_write_change(struct text *out, const struct change_leg *leg, uint64_t time_us,
                       uint64_t now_us)
{
	char name[ACCOUNT_NAME_MAX];

	write_stamp(out, time_us, now_us);
	text_literal(out, "= ");
	text_bytes(out, name, chat_clean(leg->account.bytes, leg->account.length, name));
	text_literal(out, " ");
	text_signed(out, leg->balance);
	text_string(out, leg->amount < 0 ? " (" : " (+");
	text_signed(out, leg->amount);
	text_literal(out, ")");
	if (leg->held != 0) {
		text_literal(out, " held ");
		text_signed(out, leg->held);
	}
	text_literal(out, "\n");
}
