/*
 * tallyctl import: what an export wrote, or events, into a running daemon.  All of it goes over one
 * connection in the order of the lines, so that what came before is there; every operation has an
 * id that the same line has again, so that nothing happens twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../wire/token.h"
#include "command.h"
#include "configuration.h"
#include "flow.h"
#include "http/target.h"
#include "import_line.h"
#include "import_tally.h"
#include "place.h"

#define BLOCK_LINES    FLOW_OPERATIONS
#define BLOCK_TEXT_MAX (512 * 1024) /* bytes of the lines of a block */
#define INPUT_SIZE     65536
#define DEFERRED_MAX   1000000       /* accounts with holds and limits that they break */
#define BATCH_MAX      (ID_MAX - 21) /* bytes of its name, before a colon and a number */
#define PATIENCE_US    30000000
#define NO_RESUME      256
#define HOW_TO_RESUME                                                                              \
	"give each line an \"id\", or name the input with --batch NAME, which makes one of the "   \
	"line's number; --no-resume sends it without, and only once"

enum step { STEP_CREATE, STEP_BALANCE, STEP_LIMITS, STEP_HOLD, STEP_LOOK };

/* A line that is under way, or waits for others. */
struct item {
	uint64_t number;
	uint32_t at, length; /* of its text */
	bool fresh;          /* something of it was new */
	bool failed, unknown;
	bool reused; /* a hold whose id is taken, perhaps by itself */
	char reason[FLOW_REASON_SIZE];
};

/* Lines of one kind that are worked on together. */
struct block {
	enum import_type type;
	bool unsafe;
	uint32_t count;
	uint32_t used;
	uint32_t pending; /* operations of it that are not answered */
	struct item item[BLOCK_LINES];
	char text[BLOCK_TEXT_MAX];
};

/* An account that gets its limits last. */
struct deferred {
	uint64_t number;
	bool fresh, failed;
	char *line;
};

struct import {
	const struct session *session;
	const char *batch;
	bool keep_going, no_resume;
	FILE *rejects;
	const char *rejects_name;
	int fd;
	struct flow *flow;
	struct tally tally;

	/* the export that is read */
	bool in_export, ended;
	struct import_origin origin;
	uint64_t accounts, holds, ids;

	/* reading */
	char input[INPUT_SIZE];
	size_t input_at, input_end;
	char line[IMPORT_LINE_MAX + 1];
	size_t line_length;
	bool line_long;

	/* block[] are under way in turn: one for each burst, and the one that is filled */
	uint32_t filling;
	struct block *block[FLOW_DEPTH + 1];

	size_t deferred_count, deferred_room;
	struct deferred *deferred;

	bool stop;
	int status;
	char detail[512];
};

/* An operation's tag: its block, or DEFERRED_TAG, its step and its line there. */
#define DEFERRED_TAG 255u

static uint64_t tag_of(uint32_t block, enum step step, size_t index)
{
	return (uint64_t)block << 56 | (uint64_t)step << 48 | index;
}

static void give_up(struct import *import, int status, const char *detail)
{
	import->stop = true;
	if (import->status == COMMAND_DONE) {
		import->status = status;
		snprintf(import->detail, sizeof import->detail, "%s", detail);
	}
}

static bool flow_broke(struct import *import)
{
	bool late;
	const char *error = flow_error(import->flow, &late);

	if (error[0] != '\0')
		give_up(import, late ? COMMAND_TIMED_OUT : COMMAND_FAILED, error);
	return true;
}

/* ---- what became of lines */

static void write_reject(struct import *import, const char *line, size_t length)
{
	if (import->rejects == NULL)
		return;
	if (fwrite(line, 1, length, import->rejects) != length ||
	    putc('\n', import->rejects) == EOF || fflush(import->rejects) != 0) {
		char text[256];
		snprintf(text, sizeof text, "%.150s: %s", import->rejects_name, strerror(errno));
		give_up(import, COMMAND_FAILED, text);
	}
}

static void settle_item(struct import *import, const struct block *block, const struct item *item)
{
	if (item->failed) {
		tally_refuse(&import->tally, item->number, item->reason, "rejected");
		write_reject(import, block->text + item->at, item->length);
	} else if (item->unknown) {
		import->tally.unknown++;
	} else if (item->fresh) {
		import->tally.accepted++;
	} else {
		import->tally.duplicate++;
	}
}

static void note_answer(struct item *item, const struct flow_answer *answer)
{
	if (answer->verdict == FLOW_ACCEPTED)
		item->fresh = true;
	if (answer->verdict == FLOW_UNKNOWN)
		item->unknown = true;
	if (answer->verdict == FLOW_REJECTED) {
		item->failed = true;
		memcpy(item->reason, answer->reason, sizeof item->reason);
	}
}

static void take_deferred(struct import *import, size_t index, const struct flow_answer *answer)
{
	struct deferred *deferred = &import->deferred[index];

	import->tally.open--;
	if (answer->verdict == FLOW_REJECTED) {
		tally_refuse(&import->tally, deferred->number, answer->reason,
		             "its limits are rejected");
		write_reject(import, deferred->line, strlen(deferred->line));
	} else if (answer->verdict == FLOW_ACCEPTED || deferred->fresh)
		import->tally.accepted++;
	else
		import->tally.duplicate++;
}

static void same_hold(struct item *item, const struct block *block,
                      const struct flow_answer *answer)
{
	const char *line = block->text + item->at;
	struct import_line want, got;
	struct json_error error;
	static const char *const keys[] = {"account", "amount"};

	if (answer->status != 200 || !import_line_read(line, item->length, &want, &error) ||
	    !import_line_read(answer->document, answer->length, &got, &error))
		return;
	for (size_t i = 0; i < 2; i++) {
		struct slice a = import_get(&want, keys[i]), b = import_get(&got, keys[i]);
		if (a.length != b.length || memcmp(a.bytes, b.bytes, a.length) != 0)
			return;
	}
	item->failed = false;
}

static void take(void *context, uint64_t tag, const struct flow_answer *answer)
{
	struct import *import = context;
	uint32_t number = (uint32_t)(tag >> 56);
	enum step step = (enum step)(tag >> 48 & 0xff);
	size_t index = tag & ((UINT64_C(1) << 48) - 1);

	if (number == DEFERRED_TAG) {
		take_deferred(import, index, answer);
		return;
	}
	struct block *block = import->block[number];
	struct item *item = &block->item[index];
	block->pending--;
	if (step == STEP_LOOK) {
		same_hold(item, block, answer);
		return;
	}
	note_answer(item, answer);
	item->reused = step == STEP_HOLD && strcmp(answer->reason, "id_reused") == 0;
	if (block->type == IMPORT_EVENT)
		settle_item(import, block, item);
}

static void tick(void *context)
{
	struct import *import = context;

	tally_draw(&import->tally);
}

/* ---- sending blocks */

/* A burst with room, the one before it sent; NULL: the flow has ended. */
static struct burst *room_for(struct import *import, struct burst *burst, size_t length)
{
	if (burst != NULL && burst_has_room(burst, length))
		return burst;
	if (burst != NULL)
		flow_send(import->flow, burst);
	return flow_begin(import->flow);
}

static void send_events(struct import *import, uint32_t number)
{
	struct block *block = import->block[number];
	char body[IMPORT_LINE_MAX + ID_MAX + 16];
	struct burst *burst = NULL;
	struct import_line line;
	struct json_error error;

	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		const char *text = block->text + item->at;
		size_t length = item->length;
		if (!import_line_read(text, length, &line, &error))
			continue;
		if (import->batch != NULL && import_get(&line, "id").length == 0) {
			length = import_write_event(&line, import->batch, item->number, body);
			text = body;
		}
		burst = room_for(import, burst, length);
		if (burst == NULL)
			return;
		burst->unsafe |= block->unsafe;
		block->pending++;
		burst_line(burst, tag_of(number, STEP_CREATE, i), text, length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
}

/* What STEP sends of an account; 0: nothing. */
static size_t write_step(const struct import *import, const struct import_line *line,
                         const struct import_account *account, enum step step, char *body)
{
	if (step == STEP_CREATE)
		return import_write_create(line, account, &import->origin, body);
	if (step == STEP_BALANCE)
		return account->balance != 0 ? import_write_balance(account, &import->origin, body)
		                             : 0;
	return account->opened && !account->held
	           ? import_write_limits(line, account, &import->origin, body)
	           : 0;
}

static void add_step(struct burst *burst, uint64_t tag, enum step step,
                     const struct import_account *account, const char *body, size_t length)
{
	char path[IMPORT_PATH_MAX];

	if (step == STEP_CREATE) {
		burst_request(burst, tag, "POST", "/accounts", body, length);
	} else if (step == STEP_BALANCE) {
		burst_line(burst, tag, body, length);
	} else {
		import_write_account_path(account, path);
		burst_request(burst, tag, "PUT", path, body, length);
	}
}

/* One step of all accounts of the block for which the steps before went well. */
static bool send_step(struct import *import, uint32_t number, enum step step)
{
	struct block *block = import->block[number];
	struct burst *burst = NULL;
	struct import_line line;
	struct import_account account;
	struct json_error error;
	char body[IMPORT_BODY_MAX];

	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		if (item->failed ||
		    !import_line_read(block->text + item->at, item->length, &line, &error) ||
		    !import_read_account(&line, &account, &error))
			continue;
		size_t length = write_step(import, &line, &account, step, body);
		if (length == 0)
			continue;
		burst = room_for(import, burst, length);
		if (burst == NULL)
			return false;
		block->pending++;
		add_step(burst, tag_of(number, step, i), step, &account, body, length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
	return flow_drain(import->flow);
}

static bool defer(struct import *import, const struct block *block, const struct item *item)
{
	if (import->deferred_count == DEFERRED_MAX)
		return give_up(import, COMMAND_FAILED,
		               "too many accounts with holds break their limits"),
		       false;
	if (import->deferred_count == import->deferred_room) {
		size_t room = import->deferred_room == 0 ? 64 : 2 * import->deferred_room;
		struct deferred *all = realloc(import->deferred, room * sizeof *all);
		if (all == NULL)
			return give_up(import, COMMAND_FAILED, strerror(errno)), false;
		import->deferred = all;
		import->deferred_room = room;
	}
	char *line = strndup(block->text + item->at, item->length);
	if (line == NULL)
		return give_up(import, COMMAND_FAILED, strerror(errno)), false;
	import->deferred[import->deferred_count++] =
	    (struct deferred){.number = item->number, .fresh = item->fresh, .line = line};
	import->tally.open++;
	return true;
}

static bool send_accounts(struct import *import, uint32_t number)
{
	struct block *block = import->block[number];
	struct import_line line;
	struct import_account account;
	struct json_error error;

	for (enum step step = STEP_CREATE; step <= STEP_LIMITS; step++)
		if (!send_step(import, number, step))
			return false;
	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		bool last = !item->failed &&
		            import_line_read(block->text + item->at, item->length, &line, &error) &&
		            import_read_account(&line, &account, &error) && account.opened &&
		            account.held;
		if (!last)
			settle_item(import, block, item);
		else if (!defer(import, block, item))
			return false;
	}
	return true;
}

static uint64_t wall_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Places the holds of the block, or looks at those whose ids are taken. */
static bool send_holds_step(struct import *import, uint32_t number, enum step step)
{
	struct block *block = import->block[number];
	struct burst *burst = NULL;
	struct import_line line;
	struct json_error error;
	char body[IMPORT_BODY_MAX], path[IMPORT_PATH_MAX];
	bool expired;

	for (uint32_t i = 0; i < block->count; i++) {
		const struct item *item = &block->item[i];
		if ((step == STEP_LOOK && !item->reused) ||
		    !import_line_read(block->text + item->at, item->length, &line, &error))
			continue;
		size_t length = import_write_hold(&line, wall_us(), body, path, &expired, &error);
		if (length == 0)
			continue;
		burst = room_for(import, burst, length);
		if (burst == NULL)
			return false;
		block->pending++;
		if (step == STEP_LOOK)
			burst_request(burst, tag_of(number, step, i), "GET", path, "", 0);
		else
			burst_request(burst, tag_of(number, step, i), "POST", "/holds", body,
			              length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
	return flow_drain(import->flow);
}

static bool send_holds(struct import *import, uint32_t number)
{
	const struct block *block = import->block[number];

	if (!send_holds_step(import, number, STEP_HOLD) ||
	    !send_holds_step(import, number, STEP_LOOK))
		return false;
	for (uint32_t i = 0; i < block->count; i++)
		settle_item(import, block, &block->item[i]);
	return true;
}

/* A block without lines under way: bursts are fewer than blocks, so there is one soon. */
static void next_block(struct import *import)
{
	import->filling = (import->filling + 1) % (FLOW_DEPTH + 1);
	struct block *block = import->block[import->filling];
	if (block->pending > 0)
		flow_drain(import->flow);
	block->count = block->used = block->pending = 0;
	block->unsafe = false;
}

static void send_block(struct import *import)
{
	struct block *block = import->block[import->filling];

	if (block->count == 0)
		return;
	if (block->type == IMPORT_EVENT)
		send_events(import, import->filling);
	else if (block->type == IMPORT_ACCOUNT)
		send_accounts(import, import->filling);
	else
		send_holds(import, import->filling);
	flow_broke(import);
	next_block(import);
}

static void add_to_block(struct import *import, enum import_type type, bool unsafe)
{
	struct block *block = import->block[import->filling];

	if (block->count > 0 &&
	    (block->type != type || block->unsafe != unsafe || block->count == BLOCK_LINES ||
	     block->used + import->line_length > BLOCK_TEXT_MAX)) {
		send_block(import);
		block = import->block[import->filling];
	}
	block->type = type;
	block->unsafe = unsafe;
	block->item[block->count++] = (struct item){.number = import->tally.lines,
	                                            .at = block->used,
	                                            .length = (uint32_t)import->line_length};
	memcpy(block->text + block->used, import->line, import->line_length);
	block->used += (uint32_t)import->line_length;
}

/* The limits of accounts that had to have their holds first. */
static void send_deferred(struct import *import)
{
	struct burst *burst = NULL;
	struct import_line line;
	struct import_account account;
	struct json_error error;
	char body[IMPORT_BODY_MAX];

	for (size_t i = 0; i < import->deferred_count; i++) {
		const char *text = import->deferred[i].line;
		if (!import_line_read(text, strlen(text), &line, &error) ||
		    !import_read_account(&line, &account, &error))
			continue;
		size_t length = import_write_limits(&line, &account, &import->origin, body);
		burst = room_for(import, burst, length);
		if (burst == NULL)
			break;
		add_step(burst, tag_of(DEFERRED_TAG, STEP_LIMITS, i), STEP_LIMITS, &account, body,
		         length);
	}
	if (burst != NULL)
		flow_send(import->flow, burst);
	flow_drain(import->flow);
	flow_broke(import);
	for (size_t i = 0; i < import->deferred_count; i++)
		free(import->deferred[i].line);
	import->deferred_count = 0;
}

/* ---- reading lines */

/* The next line into import->line; false at the end.  What is too long is passed over. */
static bool read_line(struct import *import)
{
	bool any = false;

	import->line_length = 0;
	import->line_long = false;
	for (;;) {
		if (import->input_at == import->input_end) {
			ssize_t got = read(import->fd, import->input, INPUT_SIZE);
			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0)
				give_up(import, COMMAND_FAILED, strerror(errno));
			if (got <= 0)
				return got == 0 && any;
			import->input_at = 0;
			import->input_end = (size_t)got;
		}
		const char *from = import->input + import->input_at;
		size_t left = import->input_end - import->input_at;
		const char *end = memchr(from, '\n', left);
		size_t length = end != NULL ? (size_t)(end - from) : left;
		size_t room = IMPORT_LINE_MAX - import->line_length;
		any = true;
		import->line_long |= length > room;
		memcpy(import->line + import->line_length, from, length < room ? length : room);
		import->line_length += length < room ? length : room;
		import->input_at += length + (end != NULL);
		import->tally.bytes += length + (end != NULL);
		if (end != NULL)
			return true;
	}
}

/* ---- lines */

static void bad_line(struct import *import, const char *reason, const char *detail)
{
	char text[300];

	/* What stands before it comes before it. */
	send_block(import);
	tally_refuse(&import->tally, import->tally.lines, reason, detail);
	if (!import->line_long)
		write_reject(import, import->line, import->line_length);
	if (import->keep_going)
		return;
	snprintf(text, sizeof text,
	         "line %" PRIu64 ": %s; what stands before it is imported, --keep-going passes it "
	         "over",
	         import->tally.lines, reason);
	give_up(import, COMMAND_FAILED, text);
}

static void take_event(struct import *import, const struct import_line *line)
{
	char copy[IMPORT_LINE_MAX];
	struct request request;
	struct json_error error;
	bool unnamed = import_get(line, "id").length == 0 && import->batch == NULL;

	if (import->in_export) {
		bad_line(import, "unknown_type", "a line of an export has a type");
		return;
	}
	memcpy(copy, import->line, import->line_length);
	if (!json_read_event(copy, import->line_length, &request, &error)) {
		bad_line(import, error.reason, error.detail);
		return;
	}
	if (unnamed && !import->no_resume) {
		char text[400];
		snprintf(text, sizeof text, "line %" PRIu64 " has no id: " HOW_TO_RESUME,
		         import->tally.lines);
		give_up(import, COMMAND_USAGE, text);
		return;
	}
	add_to_block(import, IMPORT_EVENT, unnamed);
}

static void take_account(struct import *import, const struct import_line *line)
{
	struct import_account account;
	struct json_error error;

	import->accounts++;
	if (import_read_account(line, &account, &error))
		add_to_block(import, IMPORT_ACCOUNT, false);
	else
		bad_line(import, error.reason, error.detail);
}

static void take_hold(struct import *import, const struct import_line *line)
{
	char body[IMPORT_BODY_MAX], path[IMPORT_PATH_MAX];
	struct json_error error;
	bool expired;

	import->holds++;
	if (import_write_hold(line, wall_us(), body, path, &expired, &error) == 0)
		bad_line(import, error.reason, error.detail);
	else if (expired)
		import->tally.expired++;
	else
		add_to_block(import, IMPORT_HOLD, false);
}

static bool count_is(const struct import_line *line, const char *key, uint64_t count)
{
	int64_t said;

	return import_number(import_get(line, key), &said) && said >= 0 && (uint64_t)said == count;
}

static void take_end(struct import *import, const struct import_line *line)
{
	import->ended = count_is(line, "accounts", import->accounts) &&
	                count_is(line, "holds", import->holds) &&
	                count_is(line, "ids", import->ids);
	import->in_export = false;
	if (!import->ended)
		give_up(import, COMMAND_FAILED,
		        "the export is cut: its last line counts others than were read; export it "
		        "again, and import that");
}

static void take_line(struct import *import)
{
	struct import_line line;
	struct json_error error;

	import->tally.lines++;
	if (import->line_long) {
		bad_line(import, "line_too_long", "longer than 4096 bytes");
	} else if (!import_line_read(import->line, import->line_length, &line, &error)) {
		bad_line(import, error.reason, error.detail);
	} else if (line.type == IMPORT_EVENT) {
		take_event(import, &line);
	} else if (line.type == IMPORT_EXPORT && import->tally.lines == 1) {
		import->in_export = import_read_origin(&line, &import->origin, &error);
		if (!import->in_export)
			give_up(import, COMMAND_FAILED, error.detail);
	} else if (!import->in_export) {
		bad_line(import, "unknown_type",
		         "an export begins with its line of the type export");
	} else if (line.type == IMPORT_ACCOUNT) {
		take_account(import, &line);
	} else if (line.type == IMPORT_HOLD) {
		take_hold(import, &line);
	} else if (line.type == IMPORT_ID) {
		import->ids++;
		import->tally.ids++;
	} else if (line.type == IMPORT_END) {
		take_end(import, &line);
	} else {
		bad_line(import, "unknown_type", "an export within an export");
	}
}

static void take_all(struct import *import)
{
	while (!import->stop && read_line(import)) {
		if (import->line_length > 0)
			take_line(import);
		else
			import->tally.lines++;
		tally_draw(&import->tally);
	}
	send_block(import);
	flow_drain(import->flow);
	flow_broke(import);
	if (import->in_export)
		give_up(import, COMMAND_FAILED,
		        "the export is cut: its last line is missing; what was read is imported, "
		        "import the whole and nothing is done twice");
	else if (import->ended)
		send_deferred(import);
}

/* Would a line of the regular file be sent without an id?  Then nothing is sent at all. */
static int look_ahead(struct import *import)
{
	struct import_line line;
	struct json_error error;
	off_t start = lseek(import->fd, 0, SEEK_CUR);
	uint64_t number = 0;

	if (import->batch != NULL || import->no_resume || import->tally.size == 0 || start < 0)
		return COMMAND_DONE;
	while (read_line(import)) {
		number++;
		if (import->line_length > 0 && !import->line_long &&
		    import_line_read(import->line, import->line_length, &line, &error) &&
		    line.type == IMPORT_EVENT && import_get(&line, "account").length > 0 &&
		    import_get(&line, "id").length == 0)
			return command_fail(import->session, COMMAND_USAGE,
			                    "line %" PRIu64 " has no id: " HOW_TO_RESUME, number);
	}
	if (lseek(import->fd, start, SEEK_SET) < 0)
		return command_fail(import->session, COMMAND_FAILED, "%s", strerror(errno));
	import->input_at = import->input_end = 0;
	import->tally.bytes = 0;
	return COMMAND_DONE;
}

/* ---- the command */

static int find_url(const struct session *session, char *url, size_t size)
{
	const char *given = command_value(session, 'u');
	const char *file = session->config;
	char error[CONFIGURATION_ERROR_SIZE], data[PLACE_PATH_MAX];

	if (given != NULL)
		return snprintf(url, size, "%s", given) < (int)size
		           ? COMMAND_DONE
		           : command_misused(session, "-u: the URL is too long");
	if (file == NULL && access(TALLYD_CONFIG_FILE, F_OK) == 0)
		file = TALLYD_CONFIG_FILE;
	if (file != NULL && configuration_data(file, data, sizeof data, error) != 0)
		return command_fail(session, errno == EACCES ? COMMAND_DENIED : COMMAND_USAGE, "%s",
		                    error);
	if (file == NULL)
		snprintf(data, sizeof data, "%s", TALLYD_DATA_DIRECTORY);
	/* -d with the configuration of another daemon: what is meant must be said. */
	if (session->config == NULL && strcmp(data, session->data) != 0)
		return command_misused(
		    session,
		    "%s: how its daemon is reached is not known; name its URL with -u, or "
		    "its configuration with -c",
		    session->data);
	if (configuration_url(file, url, size, error) != 0)
		return command_fail(session, COMMAND_USAGE, "%s", error);
	return COMMAND_DONE;
}

static int open_input(struct import *import, const char *name)
{
	struct stat status;

	import->fd = STDIN_FILENO;
	if (name != NULL && strcmp(name, "-") != 0)
		import->fd = open(name, O_RDONLY | O_CLOEXEC);
	if (import->fd < 0 || fstat(import->fd, &status) != 0)
		return command_fail(import->session, COMMAND_FAILED, "%s: %s", name,
		                    strerror(errno));
	if (S_ISDIR(status.st_mode))
		return command_fail(import->session, COMMAND_FAILED, "%s: %s", name,
		                    strerror(EISDIR));
	tally_begin(&import->tally, S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0);
	return COMMAND_DONE;
}

static int open_rejects(struct import *import)
{
	import->rejects_name = command_value(import->session, 'r');
	if (import->rejects_name == NULL)
		return COMMAND_DONE;
	import->rejects = fopen(import->rejects_name, "we");
	if (import->rejects != NULL)
		return COMMAND_DONE;
	return command_fail(import->session, COMMAND_FAILED, "%s: %s", import->rejects_name,
	                    strerror(errno));
}

static int read_options(struct import *import, uint64_t *patience)
{
	const struct session *session = import->session;

	import->batch = command_value(session, 'b');
	import->keep_going = command_has(session, 'k');
	import->no_resume = command_has(session, NO_RESUME);
	if (import->batch != NULL &&
	    (!json_id_valid(import->batch, strlen(import->batch)) ||
	     strlen(import->batch) > BATCH_MAX || strpbrk(import->batch, "\"\\") != NULL))
		return command_misused(session,
		                       "-b: a name of 1 to %d printable characters without space, "
		                       "quotes and backslashes",
		                       BATCH_MAX);
	return command_seconds(session, 'p', 0.1, 86400, patience);
}

/* The token to present into TOKEN, "" if there is none. */
static int read_token(const struct session *session, char token[FLOW_TOKEN_MAX + 3])
{
	const char *path = command_value(session, 't');

	token[0] = '\0';
	if (path == NULL)
		return COMMAND_DONE;
	FILE *file = fopen(path, "re");
	const char *line = file != NULL ? fgets(token, FLOW_TOKEN_MAX + 3, file) : NULL;
	int cause = errno;
	if (file != NULL)
		fclose(file);
	if (file == NULL)
		return command_fail(session, cause == EACCES ? COMMAND_DENIED : COMMAND_FAILED,
		                    "%s: %s", path, strerror(cause));
	token[strcspn(token, "\r\n")] = '\0';
	if (line == NULL || !token_text_valid(token, strlen(token)))
		return command_fail(session, COMMAND_FAILED,
		                    "%s: its first line is no token, which has 1 to %d letters, "
		                    "digits and -._~+/",
		                    path, FLOW_TOKEN_MAX);
	return COMMAND_DONE;
}

static int connect_flow(struct import *import, struct target *target, const char *url,
                        uint64_t patience)
{
	const struct flow_calls calls = {.take = take, .tick = tick, .context = import};
	char error[TARGET_ERROR_SIZE];
	char token[FLOW_TOKEN_MAX + 3];
	bool usage;
	int status = read_token(import->session, token);

	if (status != COMMAND_DONE)
		return status;
	if (!target_find(target, url, FLOW_CONNECT_WAIT, &usage, error))
		return usage ? command_misused(import->session, "-u: %s", error)
		             : command_fail(import->session, COMMAND_NOT_RUNNING, "%s", error);
	import->flow = flow_open(target, token, patience, &calls);
	explicit_bzero(token, sizeof token);
	if (import->flow != NULL)
		return COMMAND_DONE;
	return command_fail(import->session, COMMAND_NOT_RUNNING, "cannot connect to %s: %s", url,
	                    strerror(errno));
}

static const char *reason_for(int status)
{
	return status == COMMAND_TIMED_OUT ? "timed_out"
	       : status == COMMAND_USAGE   ? "usage"
	                                   : "failed";
}

static int conclude(struct import *import)
{
	struct tally *tally = &import->tally;
	bool fine = import->status == COMMAND_DONE;

	tally_wipe(tally);
	if (fine && tally->refused + tally->unknown > 0) {
		import->status = COMMAND_FAILED;
		snprintf(import->detail, sizeof import->detail,
		         "%" PRIu64 " lines were refused, of %" PRIu64 " the answer was lost",
		         tally->refused, tally->unknown);
		fine = false;
	}
	if (!fine)
		fprintf(stderr, "tallyctl: %s\n", import->detail);
	tally_report(tally, import->session->json, fine ? "ok" : "error",
	             reason_for(import->status), fine ? NULL : import->detail,
	             flow_reconnects(import->flow));
	return import->status;
}

static int prepare(struct import *import, const char *name)
{
	for (size_t i = 0; i <= FLOW_DEPTH; i++) {
		import->block[i] = calloc(1, sizeof *import->block[i]);
		if (import->block[i] == NULL)
			return command_fail(import->session, COMMAND_FAILED, "%s", strerror(errno));
	}
	int status = open_input(import, name);
	if (status == COMMAND_DONE)
		status = look_ahead(import);
	return status == COMMAND_DONE ? open_rejects(import) : status;
}

static void clean_up(struct import *import)
{
	for (size_t i = 0; i <= FLOW_DEPTH; i++)
		free(import->block[i]);
	for (size_t i = 0; i < import->deferred_count; i++)
		free(import->deferred[i].line);
	free(import->deferred);
	if (import->rejects != NULL)
		fclose(import->rejects);
	if (import->fd > STDIN_FILENO)
		close(import->fd);
	flow_close(import->flow);
	free(import);
}

static int run_import(const struct session *session, int operands, char **operand)
{
	struct import *import = calloc(1, sizeof *import);
	struct target target;
	char url[PLACE_PATH_MAX];
	uint64_t patience = PATIENCE_US;

	if (import == NULL)
		return command_fail(session, COMMAND_FAILED, "%s", strerror(errno));
	import->session = session;
	int status = read_options(import, &patience);
	if (status == COMMAND_DONE)
		status = find_url(session, url, sizeof url);
	if (status == COMMAND_DONE)
		status = prepare(import, operands > 0 ? operand[0] : NULL);
	if (status == COMMAND_DONE)
		status = connect_flow(import, &target, url, patience);
	if (status == COMMAND_DONE) {
		take_all(import);
		status = conclude(import);
	}
	clean_up(import);
	return status;
}

static const struct command_option options[] = {
    {'u', "url", "URL", "the daemon: http://HOST:PORT or unix:/PATH"},
    {'b', "batch", "NAME", "makes ids of it and the numbers of lines without"},
    {'k', "keep-going", NULL, "pass over lines that cannot be read"},
    {'p', "patience", "SECONDS", "how long nothing may be answered; 30"},
    {'t', "token-file", "FILE", "the first line of FILE is the token to present"},
    {'r', "rejects", "FILE", "write the lines there that are refused"},
    {NO_RESUME, "no-resume", NULL, "send lines without an id, each only once"},
    {0},
};

const struct command command_import = {
    .word = {"import"},
    .operands = "[FILE]",
    .operands_min = 0,
    .operands_max = 1,
    .summary = "bring an export, or events, into the daemon",
    .options = options,
    .run = run_import,
};
