/* tallyctl get: an account straight from the region, without a lock. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../../shm/counter.h"
#include "../../shm/peek.h"
#include "../../shm/region.h"
#include "../base/clock.h"
#include "../ledger/event.h"
#include "command.h"
#include "json_out.h"
#include "place.h"
#include "words.h"

#define LETTER_HOLDS 256
#define HOLDS_FIRST  64 /* holds for which room is made to begin with */

static const struct command_option options[] = {
    {LETTER_HOLDS, "holds", NULL, "its open holds, too"},
    {0},
};

/* What is told of an account. */
struct found {
	const char *name;
	size_t name_length;
	struct account_slot slot;
	struct peek_note note;
	bool durable;
	struct hold_slot *hold; /* the open ones, `holds` of them; owned */
	size_t holds;
	uint64_t moving; /* that could not be read at one moment */
};

/* ---- Reading ---- */

static bool is_of(const struct found *found, const struct hold_slot *hold)
{
	return hold->state == HOLD_SLOT_OPEN && hold->account_length == found->name_length &&
	       memcmp(hold->account, found->name, found->name_length) == 0;
}

static bool make_room(struct found *found)
{
	size_t holds = found->holds;
	size_t room = holds == 0 ? HOLDS_FIRST : 2 * holds;

	/* It is full at each power of two. */
	if (holds != 0 && (holds < HOLDS_FIRST || (holds & (holds - 1)) != 0))
		return true;
	struct hold_slot *grown = reallocarray(found->hold, room, sizeof *grown);
	if (grown != NULL)
		found->hold = grown;
	return grown != NULL;
}

static bool read_holds(const struct region *region, struct found *found)
{
	struct hold_slot *cell;
	struct peek_note note;
	uint64_t at = 0;

	while (holds_next_of(region, found->slot.hash, &at, &cell)) {
		if (!make_room(found))
			return false;
		struct hold_slot *hold = &found->hold[found->holds];
		if (peek_hold(region, cell, hold, &note) != PEEK_OK)
			found->moving++;
		else if (is_of(found, hold))
			found->holds++;
	}
	return true;
}

static int compare(const void *one, const void *other)
{
	const struct hold_slot *a = one;
	const struct hold_slot *b = other;

	if (a->placed_us != b->placed_us)
		return a->placed_us < b->placed_us ? -1 : 1;
	return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

/* ---- Telling ---- */

static const char *frozen_word(uint8_t frozen)
{
	return frozen == FROZEN_ALL ? "all" : frozen == FROZEN_DEBITS ? "debits" : "none";
}

static void json_limit(struct json_out *out, const char *name, int64_t limit, int64_t none)
{
	if (limit == none)
		json_out_null(out, name);
	else
		json_out_signed(out, name, limit);
}

static void json_holds(struct json_out *out, const struct found *found)
{
	json_out_open(out, "holds", '[');
	for (size_t i = 0; i < found->holds; i++) {
		const struct hold_slot *hold = &found->hold[i];
		json_out_open(out, NULL, '{');
		json_out_bytes(out, "hold", hold->id, hold->id_length);
		json_out_signed(out, "amount", hold->amount);
		json_out_time(out, "placed", hold->placed_us);
		json_out_time(out, "expires", hold->expires_us);
		json_out_count(out, "lsn", hold->lsn);
		json_out_close(out, '}');
	}
	json_out_close(out, ']');
}

/* What may be taken now; floor NONE: whatever int64 holds. */
static int64_t available(const struct account_slot *slot)
{
	__extension__ __int128 left = (__int128)slot->balance - slot->held - slot->floor;

	return left > INT64_MAX ? INT64_MAX : left < INT64_MIN ? INT64_MIN : (int64_t)left;
}

static void tell_json(const struct session *session, const struct found *found)
{
	const struct account_slot *slot = &found->slot;
	struct json_out out = {.stream = stdout};

	json_out_open(&out, NULL, '{');
	json_out_bytes(&out, "account", found->name, found->name_length);
	json_out_signed(&out, "balance", slot->balance);
	json_out_signed(&out, "held", slot->held);
	if (slot->floor == FLOOR_NONE)
		json_out_null(&out, "available");
	else
		json_out_signed(&out, "available", available(slot));
	json_limit(&out, "floor", slot->floor, FLOOR_NONE);
	json_limit(&out, "ceiling", slot->ceiling, CEILING_NONE);
	json_out_text(&out, "frozen", frozen_word(slot->frozen));
	json_out_count(&out, "version", slot->version);
	json_out_count(&out, "lsn", slot->lsn);
	json_out_flag(&out, "durable", found->durable);
	json_out_flag(&out, "under_way", found->note.under_way);
	json_out_time(&out, "created", slot->created_us);
	json_out_time(&out, "updated", slot->updated_us);
	if (command_has(session, LETTER_HOLDS))
		json_holds(&out, found);
	json_out_close(&out, '}');
	json_out_end(&out);
}

static void tell_number(const char *what, int64_t number)
{
	char text[WORDS_SIZE];

	printf("%-10s %s\n", what, words_signed(number, text));
}

static void tell_limit(const char *what, int64_t limit, int64_t none)
{
	if (limit == none)
		printf("%-10s none\n", what);
	else
		tell_number(what, limit);
}

/* A name is what a client gave: what would move the cursor, or is not UTF-8, is not printed. */
static void tell_text(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		putchar((unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i]);
}

static void tell_times(const struct account_slot *slot)
{
	char text[WORDS_TIME_SIZE];

	printf("%-10s %s\n", "created", words_time(slot->created_us, text));
	printf("%-10s %s\n", "updated", words_time(slot->updated_us, text));
}

static void tell_holds(const struct found *found)
{
	char amount[WORDS_SIZE], left[WORDS_SIZE], count[WORDS_SIZE];
	uint64_t now = clock_real_us();

	printf("%-10s %s\n", "holds", words_count(found->holds, count));
	for (size_t i = 0; i < found->holds; i++) {
		const struct hold_slot *hold = &found->hold[i];
		bool over = hold->expires_us <= now;
		printf("  ");
		tell_text(hold->id, hold->id_length);
		printf("  %s, %s%s\n", words_signed(hold->amount, amount),
		       over ? "its time is over" : "expires in ",
		       over ? "" : words_span(hold->expires_us - now, left));
	}
	if (found->moving != 0)
		printf("  (%s more changed while they were read)\n",
		       words_count(found->moving, count));
}

static void tell(const struct session *session, const struct found *found)
{
	const struct account_slot *slot = &found->slot;

	printf("%-10s ", "account");
	tell_text(found->name, found->name_length);
	putchar('\n');
	tell_number("balance", slot->balance);
	tell_number("held", slot->held);
	if (slot->floor != FLOOR_NONE)
		tell_number("available", available(slot));
	tell_limit("floor", slot->floor, FLOOR_NONE);
	tell_limit("ceiling", slot->ceiling, CEILING_NONE);
	printf("%-10s %s\n", "frozen", frozen_word(slot->frozen));
	printf("%-10s %" PRIu64 "\n", "version", slot->version);
	printf("%-10s %" PRIu64 "%s\n", "lsn", slot->lsn,
	       found->durable ? "" : " (not durable yet)");
	tell_times(slot);
	if (found->note.under_way)
		printf("%-10s committed, and being written just now by the process in slot %" PRIu32
		       "; shown is what it comes to\n",
		       "under way", found->note.process);
	if (command_has(session, LETTER_HOLDS))
		tell_holds(found);
}

/* ---- The command ---- */

static int look(const struct session *session, struct region *region, struct found *found)
{
	uint64_t hash = XXH3_64bits_withSeed(found->name, found->name_length,
	                                     region_geometry(region)->hash_seed);

	switch (peek_account(region, hash, found->name, (uint32_t)found->name_length, &found->slot,
	                     &found->note)) {
	case PEEK_OK:
		break;
	case PEEK_NONE:
		return command_fail(session, COMMAND_UNKNOWN, "%s: there is no such account",
		                    found->name);
	case PEEK_MOVING:
		return command_fail(session, COMMAND_FAILED,
		                    "%s: it changed at each of %d looks; try again", found->name,
		                    PEEK_TRIES);
	}
	/* Its record ends behind its LSN, and with it what is durable. */
	found->durable = atomic_load(&region_marks(region)->durable) > found->slot.lsn;
	if (command_has(session, LETTER_HOLDS) && !read_holds(region, found))
		return command_fail(session, COMMAND_FAILED, "out of memory");
	if (found->holds > 1)
		qsort(found->hold, found->holds, sizeof *found->hold, compare);
	return COMMAND_DONE;
}

static int get(const struct session *session, int operands, char **operand)
{
	struct found found = {.name = operand[0], .name_length = strlen(operand[0])};
	char error[COMMAND_MESSAGE_SIZE];
	long pid;

	(void)operands;
	if (found.name_length == 0 || found.name_length > TABLE_NAME_MAX)
		return command_misused(session, "an account's name has 1 to %d bytes",
		                       TABLE_NAME_MAX);
	int status = place_running(session, &pid);
	if (status != COMMAND_DONE)
		return status;
	struct region *region = place_region(session->data, &status, error);
	if (region == NULL)
		return command_fail(session, status, "%s", error);
	status = look(session, region, &found);
	region_close(region);
	if (status == COMMAND_DONE && session->json)
		tell_json(session, &found);
	else if (status == COMMAND_DONE)
		tell(session, &found);
	free(found.hold);
	return status;
}

const struct command command_get = {
    .word = {"get"},
    .operands = "NAME",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "show an account, straight from the shared memory",
    .options = options,
    .run = get,
};
