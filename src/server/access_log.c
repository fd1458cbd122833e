#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../base/log.h"
#include "../wire/reply.h"
#include "../wire/text.h"
#include "access_log.h"

#define TIME_ROOM 24  /* the digits of a 64-bit number, a brace, a newline */
#define TAIL_ROOM 112 /* bytes of a line behind the request and before the time */
#define ESCAPED   5   /* bytes that one of the request takes at most */

struct waiting {
	uint64_t lsn;
	double started;
	double
	    freed; /* of an answer that depends on nothing: it left before those ahead of it here */
	size_t length;
	char line[ACCESS_LOG_TEXT];
};

struct access_log {
	int fd;
	bool json;
	char *path;
	size_t first; /* of waiting[], a ring */
	size_t count;
	size_t length; /* of buffer */
	uint64_t date_second;
	char date[32]; /* "10/Oct/2000:13:55:36 +0000" */
	char buffer[ACCESS_LOG_BUFFER];
	struct waiting waiting[ACCESS_LOG_WAITING];
};

/* The daemon's umask hides everything from everybody; a log is for the group, too. */
int access_log_file(const char *path)
{
	mode_t before = umask(S_IWGRP | S_IRWXO);
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
	int error = errno;

	umask(before);
	errno = error;
	return fd;
}

struct access_log *access_log_open(const char *path, bool json)
{
	struct access_log *log = calloc(1, sizeof(*log));
	if (!log)
		return NULL;
	log->json = json;
	log->path = strdup(path);
	log->fd = log->path ? access_log_file(path) : -1;
	if (log->fd < 0) {
		int error = errno;
		free(log->path);
		free(log);
		errno = error;
		return NULL;
	}
	return log;
}

int access_log_adopt(struct access_log *log, int fd)
{
	access_log_flush(log);
	int result = dup3(fd, log->fd, O_CLOEXEC);
	int error = errno;
	close(fd);
	errno = error;
	return result < 0 ? -1 : 0;
}

void access_log_flush(struct access_log *log)
{
	size_t done = 0;
	while (done < log->length) {
		ssize_t written = write(log->fd, log->buffer + done, log->length - done);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			static struct log_limit limit;
			uint64_t count;
			struct timespec now;
			clock_gettime(CLOCK_MONOTONIC, &now);
			if (log_limited(&limit, (double)now.tv_sec, &count))
				log_warning("access log %s: %s; lines are lost until it can be "
				            "written again",
				            log->path, strerror(errno));
			break;
		}
		done += (size_t)written;
	}
	log->length = 0;
}

bool access_log_pending(const struct access_log *log)
{
	return log->length > 0;
}

/* Moves the oldest waiting line to the buffer, with its time. */
static void finish_first(struct access_log *log, double now)
{
	struct waiting *waiting = &log->waiting[log->first];
	if (log->length + waiting->length + TIME_ROOM > sizeof(log->buffer))
		access_log_flush(log);
	struct text text;
	text_init(&text, log->buffer + log->length, sizeof(log->buffer) - log->length);
	text_bytes(&text, waiting->line, waiting->length);
	double freed = waiting->lsn == 0 ? waiting->freed : now;
	double seconds = freed > waiting->started ? freed - waiting->started : 0;
	text_unsigned(&text, (uint64_t)(seconds * 1e6));
	if (log->json)
		text_literal(&text, "}");
	text_literal(&text, "\n");
	log->length += text.length;
	log->first = (log->first + 1) % ACCESS_LOG_WAITING;
	log->count--;
}

void access_log_release(struct access_log *log, uint64_t released, double now)
{
	while (log->count) {
		uint64_t lsn = log->waiting[log->first].lsn;
		if (lsn != 0 && lsn >= released)
			return;
		finish_first(log, now);
	}
}

void access_log_close(struct access_log *log)
{
	if (!log)
		return;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	while (log->count)
		finish_first(log, (double)now.tv_sec + (double)now.tv_nsec / 1e9);
	access_log_flush(log);
	close(log->fd);
	free(log->path);
	free(log);
}

/*
 * Quotes, backslashes and all but printable ASCII become \xNN: a line stays one line.  What reads
 * JSON sees the same, for which the backslash is doubled.  Nothing of a byte that does not fit.
 */
static void write_escaped(const struct access_log *log, struct text *text, const char *bytes,
                          size_t length)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < length && text->capacity - text->length >= ESCAPED; i++) {
		unsigned char byte = (unsigned char)bytes[i];
		if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
			text_bytes(text, &bytes[i], 1);
			continue;
		}
		char escape[] = {'\\', '\\', 'x', digits[byte >> 4], digits[byte & 15]};
		text_bytes(text, escape + !log->json, sizeof(escape) - !log->json);
	}
}

static void write_date(struct access_log *log, struct text *text, uint64_t unix_seconds)
{
	if (unix_seconds != log->date_second || !log->date[0]) {
		static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
		time_t seconds = (time_t)unix_seconds;
		struct tm utc;
		gmtime_r(&seconds, &utc);
		/* The month's name must not follow the locale. */
		size_t day = strftime(log->date, sizeof(log->date), "%d/", &utc);
		memcpy(log->date + day, months + 3 * utc.tm_mon, 3);
		strftime(log->date + day + 3, sizeof(log->date) - day - 3, "/%Y:%H:%M:%S +0000",
		         &utc);
		log->date_second = unix_seconds;
	}
	text_string(text, log->date);
}

static void write_common(struct access_log *log, struct text *text,
                         const struct access_entry *entry, uint64_t unix_us)
{
	text_string(text, entry->peer);
	text_literal(text, " - ");
	text_string(text, entry->user ? entry->user : "-");
	text_literal(text, " [");
	write_date(log, text, unix_us / 1000000);
	text_literal(text, "] \"");
	write_escaped(log, text, entry->request, entry->request_length);
	text->capacity = ACCESS_LOG_TEXT;
	text_literal(text, "\" ");
	text_unsigned(text, entry->status);
	text_literal(text, " ");
	text_unsigned(text, entry->bytes);
	text_literal(text, " ");
}

static void write_json(struct access_log *log, struct text *text, const struct access_entry *entry,
                       uint64_t unix_us)
{
	text_literal(text, "{\"time\":\"");
	reply_time(text, unix_us);
	text_literal(text, "\",\"peer\":\"");
	text_string(text, entry->peer);
	if (entry->user) {
		text_literal(text, "\",\"user\":\"");
		text_string(text, entry->user);
	}
	text_literal(text, "\",\"request\":\"");
	write_escaped(log, text, entry->request, entry->request_length);
	text->capacity = ACCESS_LOG_TEXT;
	text_literal(text, "\",\"status\":");
	text_unsigned(text, entry->status);
	text_literal(text, ",\"bytes\":");
	text_unsigned(text, entry->bytes);
	if (entry->lsn) {
		text_literal(text, ",\"lsn\":\"");
		text_unsigned(text, entry->lsn);
		text_literal(text, "\"");
	}
	text_literal(text, ",\"us\":");
}

void access_log_add(struct access_log *log, const struct access_entry *entry, uint64_t unix_us,
                    double now)
{
	if (log->count == ACCESS_LOG_WAITING)
		finish_first(log, now);
	struct waiting *waiting = &log->waiting[(log->first + log->count++) % ACCESS_LOG_WAITING];
	waiting->lsn = entry->lsn;
	waiting->started = entry->started;
	waiting->freed = now;

	/* The request is cut so that what follows it always fits. */
	struct text text;
	text_init(&text, waiting->line, ACCESS_LOG_TEXT - TAIL_ROOM);
	if (log->json)
		write_json(log, &text, entry, unix_us);
	else
		write_common(log, &text, entry, unix_us);
	waiting->length = text.length;
}
