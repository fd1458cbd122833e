#include "history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../base/log.h"
#include "../../wire/chat.h"
#include "../../wire/moment.h"
#include "../../wire/reply.h"
#include "../../wire/text.h"

#define APART_US 1000000 /* lines further apart are in the order in which they stand */

struct chat_history {
	int fd;
	bool failing; /* and the log says so */
	bool torn;    /* the file ends in the middle of a line */
	char *path;
	size_t length;
	char buffer[CHAT_HISTORY_BUFFER];
};

/* --- writing --- */

/* A log is for the group, too.  What is no file must not hold us up. */
int chat_history_file(const char *path)
{
	mode_t before = umask(S_IWGRP | S_IRWXO);
	int fd =
	    open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
	int error = errno;

	umask(before);
	errno = error;
	return fd;
}

/* To be looked at: nothing that we would have to wait for. */
static int open_to_read(const char *path, struct stat *status)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd >= 0 && fstat(fd, status) == 0 && S_ISREG(status->st_mode))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Does the file PATH end in the middle of a line?  So a power cut or a full disk leaves it. */
static bool is_torn(const char *path)
{
	struct stat status;
	int fd = open_to_read(path, &status);
	char last = '\n';
	bool torn;

	if (fd < 0)
		return false;
	torn = status.st_size > 0 && pread(fd, &last, 1, status.st_size - 1) == 1 && last != '\n';
	close(fd);
	return torn;
}

/* Where the rest of a line is missing, the next one must begin anew. */
static void mend(struct chat_history *history)
{
	if (history->torn && write(history->fd, "\n", 1) == 1)
		history->torn = false;
}

struct chat_history *chat_history_open(const char *path)
{
	struct chat_history *history = calloc(1, sizeof(*history));
	int error;

	if (!history)
		return NULL;
	history->path = strdup(path);
	history->fd = history->path ? chat_history_file(path) : -1;
	if (history->fd >= 0) {
		/* Now, so that others who open it find it mended. */
		history->torn = is_torn(path);
		mend(history);
		return history;
	}
	error = errno;
	free(history->path);
	free(history);
	errno = error;
	return NULL;
}

void chat_history_close(struct chat_history *history)
{
	if (!history)
		return;
	chat_history_flush(history);
	close(history->fd);
	free(history->path);
	free(history);
}

int chat_history_adopt(struct chat_history *history, int fd)
{
	chat_history_flush(history);
	int result = dup3(fd, history->fd, O_CLOEXEC);
	int error = errno;
	close(fd);
	errno = error;
	if (result < 0)
		return -1;
	history->torn = false;
	return 0;
}

void chat_history_add(struct chat_history *history, const struct room_line *line)
{
	struct text text;

	if (sizeof(history->buffer) - history->length < CHAT_HISTORY_LINE)
		chat_history_flush(history);
	text_init(&text, history->buffer + history->length, CHAT_HISTORY_LINE);
	reply_time(&text, line->time_us);
	text_string(&text, line->kind == ROOM_DID ? " * " : " <");
	text_bytes(&text, line->nick, line->nick_length);
	text_string(&text, line->kind == ROOM_DID ? " " : "> ");
	text_bytes(&text, line->text, line->text_length);
	text_literal(&text, "\n");
	history->length += text.length;
}

static void note_failed(struct chat_history *history, const char *why)
{
	if (!history->failing)
		log_warning("chat history %s: %s; what is said is not kept until it can be written "
		            "again",
		            history->path, why);
	history->failing = true;
}

static void note_written(struct chat_history *history)
{
	if (history->failing)
		log_notice("chat history %s: written again", history->path);
	history->failing = false;
}

/* One write: others append, too, and a line is to stay whole. */
static void write_all(struct chat_history *history)
{
	ssize_t written;

	do
		written = write(history->fd, history->buffer, history->length);
	while (written < 0 && errno == EINTR);
	if (written == (ssize_t)history->length) {
		note_written(history);
		return;
	}
	note_failed(history, written < 0 ? strerror(errno) : "the disk is full");
	history->torn = history->torn || written > 0;
}

void chat_history_flush(struct chat_history *history)
{
	if (history->length == 0)
		return;
	mend(history);
	write_all(history);
	history->length = 0;
}

/* --- reading --- */

/* What is left of a line that is being read. */
struct rest {
	const char *at;
	size_t length;
};

static bool take_word(struct rest *rest, const char *word)
{
	size_t length = strlen(word);

	if (rest->length < length || memcmp(rest->at, word, length) != 0)
		return false;
	rest->at += length;
	rest->length -= length;
	return true;
}

/* Up to STOP, which is passed. */
static bool take_until(struct rest *rest, char stop, struct rest *taken)
{
	const char *end = memchr(rest->at, stop, rest->length);

	if (!end)
		return false;
	*taken = (struct rest){rest->at, (size_t)(end - rest->at)};
	rest->length -= taken->length + 1;
	rest->at = end + 1;
	return true;
}

/* Whoever wrote the file: nothing comes out of it that could not be said. */
static bool read_line(struct rest rest, struct room_line *line)
{
	struct rest time, nick;

	memset(line, 0, sizeof(*line));
	if (!take_until(&rest, ' ', &time) || !moment_read(time.at, time.length, &line->time_us))
		return false;
	if (take_word(&rest, "<")) {
		line->kind = ROOM_SAID;
		if (!take_until(&rest, '>', &nick) || !take_word(&rest, " "))
			return false;
	} else if (take_word(&rest, "* ")) {
		line->kind = ROOM_DID;
		if (!take_until(&rest, ' ', &nick))
			return false;
	} else {
		return false;
	}
	if (!room_nick_valid(nick.at, nick.length) || rest.length > ROOM_TEXT_MAX)
		return false;
	line->nick_length = (uint8_t)nick.length;
	memcpy(line->nick, nick.at, nick.length);
	line->text_length = (uint16_t)chat_clean(rest.at, rest.length, line->text);
	return true;
}

/* Behind those that are earlier; what is much later by its time stays: the clock was put back. */
static void insert(struct room_line *lines, size_t count, const struct room_line *line)
{
	size_t at = count;

	while (at > 0 && lines[at - 1].time_us > line->time_us &&
	       lines[at - 1].time_us - line->time_us < APART_US)
		at--;
	memmove(&lines[at + 1], &lines[at], (count - at) * sizeof(*lines));
	lines[at] = *line;
}

/* LINES has room for one more than MAX. */
static size_t read_lines(struct rest rest, struct room_line *lines, size_t max)
{
	struct rest one;
	struct room_line line;
	size_t count = 0;

	while (take_until(&rest, '\n', &one)) {
		if (!read_line(one, &line))
			continue;
		insert(lines, count++, &line);
		if (count <= max)
			continue;
		memmove(&lines[0], &lines[1], max * sizeof(*lines));
		count = max;
	}
	return count;
}

/* The end of the file PATH, of at most CHAT_HISTORY_READ bytes at BYTES, from a line's beginning
 * on.
 */
static struct rest read_end(const char *path, char *bytes)
{
	struct stat status;
	int fd = open_to_read(path, &status);
	struct rest rest = {bytes, 0}, cut;
	off_t from = 0;

	if (fd < 0)
		return rest;
	if (status.st_size > CHAT_HISTORY_READ)
		from = status.st_size - CHAT_HISTORY_READ;
	ssize_t got = pread(fd, bytes, CHAT_HISTORY_READ, from);
	close(fd);
	rest.length = got > 0 ? (size_t)got : 0;
	if (from > 0 && !take_until(&rest, '\n', &cut))
		rest.length = 0;
	return rest;
}

size_t chat_history_read(const char *path, struct room_line *lines, size_t max)
{
	char *bytes = malloc(CHAT_HISTORY_READ);
	struct room_line *sorted = calloc(max + 1, sizeof(*sorted));
	size_t count = 0;

	if (bytes && sorted) {
		count = read_lines(read_end(path, bytes), sorted, max);
		memcpy(lines, sorted, count * sizeof(*lines));
	}
	free(bytes);
	free(sorted);
	return count;
}
