/*
 * The reader of Redis' protocol: the input is what a client sends, command after command.  A
 * command that comes in pieces is waited for, then read the same; written again it means the same.
 */
#include "fuzz.h"

#include <inttypes.h>
#include <stdio.h>

#include "../../src/server/redis/glob.h"
#include "../../src/wire/resp.h"

#define LENGTH_MAX   8192
#define COMMANDS_MAX 8 /* of one input */
#define PREFIXES     4 /* of a command that are tried */

/* A command read from bytes of its own. */
struct reading {
	enum resp_progress progress;
	struct resp_command command;
	char reason[RESP_REASON_MAX];
	char *bytes;
};

static void read_copy(struct reading *it, const char *bytes, size_t length)
{
	it->bytes = fuzz_copy(bytes, length);
	memset(it->reason, 'x', sizeof it->reason);
	it->progress = resp_read(it->bytes, length, &it->command, it->reason);
	FUZZ_HOLDS(length == 0 || memcmp(it->bytes, bytes, length) == 0,
	           "bytes that may be read again have changed");
}

static void check_within(const struct reading *it, size_t length)
{
	FUZZ_HOLDS(it->command.length > 0 && it->command.length <= length &&
	               it->command.length <= RESP_COMMAND_MAX,
	           "a command of %zu bytes", it->command.length);
	FUZZ_HOLDS(it->command.count <= RESP_ARGUMENTS_MAX, "%u arguments", it->command.count);
	for (uint32_t i = 0; i < it->command.count; i++) {
		const struct words *word = &it->command.argument[i];
		const char *from = it->command.quoted ? it->command.line : it->bytes;
		FUZZ_HOLDS(word->bytes >= from &&
		               word->bytes + word->length <= from + it->command.length,
		           "argument %u lies elsewhere", i);
	}
}

static void check_reason(const char *reason)
{
	size_t length = strnlen(reason, RESP_REASON_MAX);

	FUZZ_HOLDS(length < RESP_REASON_MAX && strncmp(reason, "Protocol error: ", 16) == 0,
	           "a reason that is none");
	for (size_t i = 0; i < length; i++)
		FUZZ_HOLDS(reason[i] >= ' ' && reason[i] <= '~', "a reason with byte %d",
		           reason[i]);
}

static void must_be_same(const struct resp_command *left, const struct resp_command *right)
{
	FUZZ_HOLDS(left->count == right->count, "%u arguments, not %u", left->count, right->count);
	for (uint32_t i = 0; i < left->count; i++)
		FUZZ_HOLDS(left->argument[i].length == right->argument[i].length &&
		               memcmp(left->argument[i].bytes, right->argument[i].bytes,
		                      left->argument[i].length) == 0,
		           "argument %u is another", i);
}

/* What came of the first SIZE bytes, when all of them give WHOLE. */
static void check_prefix(const struct reading *whole, const char *bytes, size_t size)
{
	static struct reading part;

	read_copy(&part, bytes, size);
	switch (part.progress) {
	case RESP_MORE:
		FUZZ_HOLDS(whole->progress != RESP_DONE || size < whole->command.length,
		           "it is whole and is waited for");
		break;
	case RESP_DONE:
		FUZZ_HOLDS(whole->progress == RESP_DONE &&
		               part.command.length == whole->command.length,
		           "more bytes make it another command");
		must_be_same(&part.command, &whole->command);
		break;
	case RESP_REFUSED:
		FUZZ_HOLDS(whole->progress == RESP_REFUSED, "more bytes make it a command");
		break;
	}
	free(part.bytes);
}

/* As an array of bulk strings it is read as the same arguments. */
static void write_again(const struct resp_command *command)
{
	static char bytes[RESP_COMMAND_MAX];
	static struct reading again;
	struct text out;
	size_t size = RESP_FRAME_MAX;

	for (uint32_t i = 0; i < command->count; i++)
		size += command->argument[i].length + RESP_FRAME_MAX + 2;
	if (size > sizeof bytes)
		return;
	text_init(&out, bytes, sizeof bytes);
	resp_array(&out, command->count);
	for (uint32_t i = 0; i < command->count; i++)
		resp_bulk(&out, command->argument[i].bytes, command->argument[i].length);
	read_copy(&again, bytes, out.length);
	FUZZ_HOLDS(again.progress == RESP_DONE && again.command.length == out.length,
	           "what was written is not a command: %s", again.reason);
	must_be_same(&again.command, command);
	free(again.bytes);
}

static void check_number(const struct words *word)
{
	char again[32];
	int64_t number;

	if (!resp_integer_of(word->bytes, word->length, &number))
		return;
	int length = snprintf(again, sizeof again, "%" PRId64, number);
	FUZZ_HOLDS((uint32_t)length == word->length &&
	               memcmp(again, word->bytes, word->length) == 0,
	           "a number that is written otherwise: %s", again);
}

static void check_arguments(const struct resp_command *command)
{
	for (uint32_t i = 0; i < command->count; i++)
		check_number(&command->argument[i]);
	if (command->count >= 2 && command->argument[0].length <= GLOB_MAX &&
	    command->argument[1].length <= GLOB_MAX)
		glob_matches(command->argument[0], command->argument[1]);
}

/* Reads the command at BYTES; its length, 0 if there is none. */
static size_t judge_command(const char *bytes, size_t length)
{
	static struct reading whole;
	uint64_t random = fuzz_hash(bytes, length);
	size_t used = 0;

	read_copy(&whole, bytes, length);
	for (int i = 0; i < PREFIXES; i++)
		check_prefix(&whole, bytes, fuzz_next(&random) % (length + 1));
	if (whole.progress == RESP_REFUSED)
		check_reason(whole.reason);
	if (whole.progress == RESP_DONE) {
		check_within(&whole, length);
		check_prefix(&whole, bytes, whole.command.length);
		check_prefix(&whole, bytes, whole.command.length - 1);
		write_again(&whole.command);
		check_arguments(&whole.command);
		used = whole.command.length;
	}
	free(whole.bytes);
	return used;
}

static void judge(const uint8_t *bytes, size_t length)
{
	size_t at = 0;
	size_t used;

	for (int i = 0; i < COMMANDS_MAX && at < length; i++, at += used) {
		used = judge_command((const char *)bytes + at, length - at);
		if (used == 0)
			return;
	}
}

static void seeds(fuzz_take *take)
{
	static const char *const texts[] = {
	    "*1\r\n$4\r\nPING\r\n",
	    "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n*1\r\n$4\r\nEXEC\r\n",
	    "*2\r\n$6\r\nINCRBY\r\n$20\r\n-9223372036854775808\r\n",
	    "*0\r\n*-1\r\nPING\r\n",
	    "SET \"a\\x41\\n\" 'it\\'s' plain\r\nGET a\n\r\n",
	    "\"unbalanced\r\n",
	    "SCAN 0 MATCH h[^a-c]?*l\\*o COUNT 10\r\n",
	    "h[^a-c]?*l\\*o hello\r\n",
	    "*2\r\n$3\r\nGET\r\n:1\r\n",
	    "*1025\r\n",
	    "*1\r\n$65537\r\n",
	    "*1\r\n$-1\r\n",
	    "*1\r\n$3\r\nGETxx",
	    "*00000000000000000000000",
	    "HELLO 3 AUTH default token\r\n",
	    "TALLY.EVENT alice -5 ID order-17 NOTE \"two words\"\r\n",
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		take(texts[i], strlen(texts[i]));
}

const struct fuzz_target fuzz_resp = {
    .name = "resp", .length_max = LENGTH_MAX, .judge = judge, .seeds = seeds};
