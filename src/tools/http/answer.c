#include <string.h>
#include <strings.h>

#include "answer.h"

#define LENGTH_DIGITS_MAX 18
#define SIZE_DIGITS_MAX   15

enum state { HEAD, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, END };

/* Bytes that are still to be read. */
struct view {
	const char *at, *end;
};

static enum answer_progress bad(struct answer *answer, const char *fault)
{
	answer->fault = fault;
	return ANSWER_BAD;
}

void answer_init(struct answer *answer)
{
	memset(answer, 0, offsetof(struct answer, kept));
}

bool answer_between(const struct answer *answer)
{
	return answer->state == HEAD;
}

/* ---- the head */

/* The bytes up to the line's CRLF, which is passed; false if there is none or a bare CR or LF. */
static bool take_line(struct view *view, const char **line, size_t *length)
{
	const char *end = memchr(view->at, '\n', (size_t)(view->end - view->at));

	if (end == NULL || end == view->at || end[-1] != '\r')
		return false;
	*line = view->at;
	*length = (size_t)(end - 1 - view->at);
	view->at = end + 1;
	return memchr(*line, '\r', *length) == NULL;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* RFC 9112 4: "HTTP/1.1 200 OK"; the reason phrase may be empty, its space may not. */
static bool read_status(struct answer *answer, const char *line, size_t length)
{
	if (length < 13 || memcmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') ||
	    line[8] != ' ' || line[12] != ' ')
		return false;
	if (line[9] < '1' || line[9] > '5' || !is_digit(line[10]) || !is_digit(line[11]))
		return false;
	answer->status =
	    (uint16_t)((line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0'));
	answer->close = line[7] == '0';
	return true;
}

static bool read_length(struct answer *answer, const char *value, size_t length)
{
	uint64_t number = 0;

	if (length == 0 || length > LENGTH_DIGITS_MAX)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!is_digit(value[i]))
			return false;
		number = number * 10 + (uint64_t)(value[i] - '0');
	}
	if (answer->has_length && answer->left != number)
		return false;
	answer->has_length = true;
	answer->left = number;
	return true;
}

static bool same(const char *text, size_t length, const char *word)
{
	return length == strlen(word) && strncasecmp(text, word, length) == 0;
}

static bool begins(const char *text, size_t length, const char *word)
{
	return length >= strlen(word) && strncasecmp(text, word, strlen(word)) == 0;
}

static bool read_field(struct answer *answer, const char *line, size_t length)
{
	const char *colon = memchr(line, ':', length);

	if (colon == NULL || colon == line || colon[-1] == ' ' || line[0] == ' ' || line[0] == '\t')
		return false;
	size_t name = (size_t)(colon - line);
	const char *value = colon + 1, *end = line + length;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	length = (size_t)(end - value);
	if (same(line, name, "content-length"))
		return read_length(answer, value, length);
	if (same(line, name, "transfer-encoding")) {
		bool first = !answer->chunked;
		answer->chunked = true;
		return first && same(value, length, "chunked");
	}
	if (same(line, name, "connection")) {
		if (same(value, length, "close"))
			answer->close = true;
		else if (same(value, length, "keep-alive"))
			answer->close = false;
	} else if (same(line, name, "content-type")) {
		answer->lines = begins(value, length, "application/x-ndjson");
	}
	return true;
}

/* RFC 9112 6.3, without bodies that the end of the connection ends. */
static enum answer_progress begin_body(struct answer *answer)
{
	if (answer->chunked && answer->has_length)
		return bad(answer, "both a length and chunks");
	if (answer->status < 200) {
		answer_init(answer);
		return ANSWER_MORE;
	}
	if (answer->status == 204 || answer->status == 304)
		answer->state = END;
	else if (answer->chunked)
		answer->state = CHUNK_SIZE;
	else if (answer->has_length)
		answer->state = BODY;
	else
		return bad(answer, "an answer without a length");
	return ANSWER_MORE;
}

static enum answer_progress read_head(struct answer *answer, struct view *view)
{
	size_t length = (size_t)(view->end - view->at);
	const char *end = memmem(view->at, length, "\r\n\r\n", 4);
	size_t head = end == NULL ? length : (size_t)(end + 4 - view->at);
	const char *line;

	if (length > 0 && memcmp(view->at, "HTTP/1.", length < 7 ? length : 7) != 0)
		return bad(answer, "no status line");
	if (head >= ANSWER_HEAD_MAX)
		return bad(answer, "a head of over 4 KiB");
	if (end == NULL)
		return ANSWER_MORE;
	struct view lines = {view->at, end + 2};
	answer_init(answer);
	if (!take_line(&lines, &line, &length) || !read_status(answer, line, length))
		return bad(answer, "no status line");
	while (lines.at < lines.end)
		if (!take_line(&lines, &line, &length) || !read_field(answer, line, length))
			return bad(answer, "a field that cannot be read");
	view->at += head;
	return begin_body(answer);
}

/* ---- the body */

static void keep(struct answer *answer, const char *bytes, size_t length)
{
	size_t room = ANSWER_KEEP - answer->kept_length;

	if (length > room)
		length = room;
	memcpy(answer->kept + answer->kept_length, bytes, length);
	answer->kept_length = (uint16_t)(answer->kept_length + length);
}

static void refresh(struct answer *answer)
{
	if (answer->fresh)
		answer->kept_length = 0;
	answer->fresh = false;
}

/* Takes what is there of the body or chunk, but of lines only one. */
static enum answer_progress take_body(struct answer *answer, struct view *view)
{
	size_t length = (size_t)(view->end - view->at);

	if (length > answer->left)
		length = (size_t)answer->left;
	refresh(answer);
	const char *line_end = answer->lines ? memchr(view->at, '\n', length) : NULL;
	if (line_end != NULL)
		length = (size_t)(line_end - view->at);
	keep(answer, view->at, length);
	view->at += length;
	answer->left -= length;
	if (line_end == NULL)
		return ANSWER_MORE;
	view->at++;
	answer->left--;
	if (answer->kept_length == 0) /* an empty line says nothing */
		return ANSWER_MORE;
	answer->fresh = true;
	return ANSWER_LINE;
}

static int hex(char c)
{
	if (is_digit(c))
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 9112 7.1; extensions are passed over. */
static enum answer_progress take_size(struct answer *answer, struct view *view)
{
	const char *line;
	size_t length = (size_t)(view->end - view->at), digits = 0;

	if (memchr(view->at, '\n', length < ANSWER_CHUNK_MAX ? length : ANSWER_CHUNK_MAX) == NULL)
		return length < ANSWER_CHUNK_MAX ? ANSWER_MORE : bad(answer, "no chunk size");
	if (!take_line(view, &line, &length))
		return bad(answer, "no chunk size");
	answer->left = 0;
	while (digits < length && hex(line[digits]) >= 0)
		answer->left = answer->left << 4 | (unsigned)hex(line[digits++]);
	if (digits == 0 || digits > SIZE_DIGITS_MAX || (digits < length && line[digits] != ';'))
		return bad(answer, "no chunk size");
	answer->state = answer->left == 0 ? TRAILER : CHUNK;
	return ANSWER_MORE;
}

static enum answer_progress take_chunk_end(struct answer *answer, struct view *view)
{
	size_t length = (size_t)(view->end - view->at);

	if (length < 2)
		return ANSWER_MORE;
	if (memcmp(view->at, "\r\n", 2) != 0)
		return bad(answer, "a chunk that is longer than it says");
	view->at += 2;
	answer->state = CHUNK_SIZE;
	return ANSWER_MORE;
}

static enum answer_progress take_trailer(struct answer *answer, struct view *view)
{
	const char *line;
	size_t length = (size_t)(view->end - view->at);

	if (memchr(view->at, '\n', length) == NULL)
		return length < ANSWER_HEAD_MAX / 2 ? ANSWER_MORE : bad(answer, "a long trailer");
	if (!take_line(view, &line, &length))
		return bad(answer, "a trailer that cannot be read");
	answer->trailer += (uint32_t)length;
	if (answer->trailer > ANSWER_HEAD_MAX)
		return bad(answer, "a long trailer");
	if (length == 0)
		answer->state = END;
	return ANSWER_MORE;
}

/* A last line need not have an end. */
static enum answer_progress finish(struct answer *answer)
{
	refresh(answer);
	if (answer->lines && answer->kept_length > 0) {
		answer->fresh = true;
		return ANSWER_LINE;
	}
	answer->state = HEAD;
	return ANSWER_DONE;
}

static enum answer_progress step(struct answer *answer, struct view *view)
{
	enum answer_progress progress;

	switch (answer->state) {
	case HEAD:
		return read_head(answer, view);
	case BODY:
	case CHUNK:
		progress = take_body(answer, view);
		if (answer->left == 0)
			answer->state = answer->state == BODY ? END : CHUNK_END;
		return progress;
	case CHUNK_SIZE:
		return take_size(answer, view);
	case CHUNK_END:
		return take_chunk_end(answer, view);
	case TRAILER:
		return take_trailer(answer, view);
	default:
		return finish(answer);
	}
}

enum answer_progress answer_next(struct answer *answer, const char *bytes, size_t length,
                                 size_t *used)
{
	struct view view = {bytes, bytes + length};
	enum answer_progress progress;
	const char *before;
	uint8_t state;

	do {
		before = view.at;
		state = answer->state;
		progress = step(answer, &view);
	} while (progress == ANSWER_MORE && (view.at != before || answer->state != state));
	*used = (size_t)(view.at - bytes);
	return progress;
}
