/* The lines of the input: what each is, and what is to be done with it. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "import_parts.h"

#define HOW_TO_RESUME                                                                              \
	"give each line an \"id\", or name the input with --batch NAME, which makes one of the "   \
	"line's number; --no-resume sends it without, and only once"

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
				import_give_up(import, COMMAND_FAILED, strerror(errno));
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

	/* What stands before it comes before it, and is not said to be there until it is. */
	import_send_block(import);
	if (!import->keep_going)
		flow_drain(import->flow);
	import_flow_broke(import);
	if (import->stop)
		return;
	tally_refuse(&import->tally, import->tally.lines, reason, detail);
	if (!import->line_long)
		import_reject(import, import->line, import->line_length);
	if (import->keep_going)
		return;
	snprintf(text, sizeof text,
	         "line %" PRIu64 ": %s; what stands before it is imported, --keep-going passes it "
	         "over",
	         import->tally.lines, reason);
	import_give_up(import, COMMAND_FAILED, text);
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
		import_give_up(import, COMMAND_USAGE, text);
		return;
	}
	if (!unnamed)
		import_count_id(import);
	import_add(import, IMPORT_EVENT, unnamed);
}

static void take_account(struct import *import, const struct import_line *line)
{
	struct import_account account;
	struct json_error error;

	import->accounts++;
	if (import_read_account(line, &account, &error))
		import_add(import, IMPORT_ACCOUNT, false);
	else
		bad_line(import, error.reason, error.detail);
}

static void take_hold(struct import *import, const struct import_line *line)
{
	char body[IMPORT_BODY_MAX], path[IMPORT_PATH_MAX];
	struct json_error error;
	bool expired;

	import->holds++;
	if (import_write_hold(line, import_wall_us(), body, path, &expired, &error) == 0)
		bad_line(import, error.reason, error.detail);
	else if (expired)
		import->tally.expired++;
	else
		import_add(import, IMPORT_HOLD, false);
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
		import_give_up(
		    import, COMMAND_FAILED,
		    "the export is cut: its last line counts others than were read; export it "
		    "again, and import that");
}

/* Empty, as lines that end with CRLF are empty, too. */
static bool is_empty(const struct import *import)
{
	return import->line_length == 0 || (import->line_length == 1 && import->line[0] == '\r');
}

static void take_line(struct import *import)
{
	struct import_line line;
	struct json_error error;

	import->anything = true;
	if (import->line_long) {
		bad_line(import, "line_too_long", "longer than 4096 bytes");
	} else if (!import_line_read(import->line, import->line_length, &line, &error)) {
		bad_line(import, error.reason, error.detail);
	} else if (line.type == IMPORT_EVENT) {
		take_event(import, &line);
	} else if (line.type == IMPORT_EXPORT && import->tally.lines == 1) {
		import->in_export = import_read_origin(&line, &import->origin, &error);
		if (!import->in_export)
			import_give_up(import, COMMAND_FAILED, error.detail);
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

void import_take_all(struct import *import)
{
	while (!import->stop && read_line(import)) {
		import->tally.lines++;
		if (!is_empty(import))
			take_line(import);
		tally_draw(&import->tally);
	}
	import_send_block(import);
	flow_drain(import->flow);
	import_flow_broke(import);
	if (import->in_export)
		import_give_up(
		    import, COMMAND_FAILED,
		    "the export is cut: its last line is missing; what was read is imported, "
		    "import the whole and nothing is done twice");
	else if (import->ended)
		import_send_deferred(import);
}

/* What the line is ahead of sending: without an id where it needs one, or one of those with. */
static bool look_at_line(struct import *import, bool *unnamed)
{
	struct import_line line;
	struct json_error error;

	*unnamed = false;
	if (is_empty(import) || import->line_long ||
	    !import_line_read(import->line, import->line_length, &line, &error) ||
	    line.type != IMPORT_EVENT)
		return false;
	*unnamed = import_get(&line, "id").length == 0 && import->batch == NULL;
	return import_get(&line, "account").length > 0 || import_get(&line, "user").length > 0;
}

/* What would be sent in part is not sent at all. */
int import_look_ahead(struct import *import)
{
	off_t start = lseek(import->fd, 0, SEEK_CUR);
	uint64_t number = 0;
	bool unnamed;

	if (import->tally.size == 0 || start < 0)
		return COMMAND_DONE;
	while (read_line(import)) {
		number++;
		if (!look_at_line(import, &unnamed))
			continue;
		if (unnamed && !import->no_resume)
			return command_fail(import->session, COMMAND_USAGE,
			                    "line %" PRIu64 " has no id: " HOW_TO_RESUME, number);
		import->ahead += !unnamed;
	}
	import->counted = true;
	if (lseek(import->fd, start, SEEK_SET) < 0)
		return command_fail(import->session, COMMAND_FAILED, "%s", strerror(errno));
	import->input_at = import->input_end = 0;
	import->tally.bytes = 0;
	return COMMAND_DONE;
}
