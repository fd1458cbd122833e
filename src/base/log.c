#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "quote.h"
#include "system_log.h"

#define ROLE_MAX    32   /* bytes with NUL */
#define MESSAGE_MAX 2048 /* bytes of a formatted message with NUL; more is cut */
#define PATH_SIZE   4096 /* bytes of a file's path with NUL */
#define TIME_MAX    80   /* bytes of a time with NUL, whatever the clock says */
#define PREFIX_MAX  128  /* bytes before the message of a line of text */
#define CUT         " [cut]"

/* A line's bytes, its newline included. */
#define TEXT_LINE_MAX  (PREFIX_MAX + 4 * MESSAGE_MAX + sizeof(CUT) + 1)
#define JSON_FRAME_MAX 192 /* bytes of a JSON line besides the role and the message */
#define JSON_LINE_MAX  (JSON_FRAME_MAX + QUOTE_MAX * (ROLE_MAX + MESSAGE_MAX) + sizeof(CUT))
#define LINE_MAX_BYTES (JSON_LINE_MAX > TEXT_LINE_MAX ? JSON_LINE_MAX : TEXT_LINE_MAX)

static enum log_level current_level = LOG_LEVEL_INFO;
static enum log_format current_format = LOG_FORMAT_TEXT;
static char role[ROLE_MAX] = "master";
static char path[PATH_SIZE];
static int target = STDERR_FILENO;
static int system_log = -1; /* the socket, where the log goes to syslog */
static bool no_stderr;

static struct {
	bool given;
	uid_t user;
	gid_t group;
} owner;

static const char *const level_names[] = {"error", "warning", "notice", "info", "debug"};
static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG};

static bool gives_away(void)
{
	return owner.given && geteuid() == 0;
}

/*
 * The directory may be the user's own: what stands there must not lead root to a file of
 * somebody else.  0, or -1 with errno.
 */
static int hand_over(int fd)
{
	struct stat status;

	if (!gives_away())
		return 0;
	if (fstat(fd, &status) == -1)
		return -1;
	if (!S_ISREG(status.st_mode))
		return 0;
	if (status.st_nlink > 1) {
		errno = EMLINK;
		return -1;
	}
	return fchown(fd, owner.user, owner.group);
}

/* May only this user, or root, change what stands at DIRECTORY's names? */
static bool is_guarded(const struct stat *directory)
{
	bool open_to_others = (directory->st_mode & (S_IWGRP | S_IWOTH)) != 0;

	return (directory->st_uid == 0 || directory->st_uid == geteuid()) &&
	       (!open_to_others || (directory->st_mode & S_ISVTX) != 0);
}

/*
 * A link leads where its owner wants, and in a directory of others that can change between a look
 * and the next: so only a link of ours or of root's, where nobody else can put another in its
 * place.
 */
static bool is_trusted_link(const char *name)
{
	size_t length = (size_t)(strrchr(name, '/') - name);
	struct stat link, directory;
	char parent[PATH_SIZE];

	memcpy(parent, name, length);
	memcpy(parent + length, "/", 2);
	return lstat(name, &link) == 0 && S_ISLNK(link.st_mode) &&
	       (link.st_uid == 0 || link.st_uid == geteuid()) && stat(parent, &directory) == 0 &&
	       is_guarded(&directory);
}

/* A new file is for its group to read, whatever the umask; what is there keeps its mode. */
static int open_or_create(const char *name, int flags)
{
	mode_t before = umask(S_IWGRP | S_IRWXO);
	int fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | flags, 0640);
	int reason = errno;

	umask(before);
	errno = reason;
	return fd;
}

static int open_file(const char *name)
{
	int fd = open_or_create(name, O_NOFOLLOW);

	if (fd == -1 && errno == ELOOP && !gives_away() && is_trusted_link(name))
		fd = open_or_create(name, 0);
	if (fd == -1 || hand_over(fd) == 0)
		return fd;
	int reason = errno;
	close(fd);
	errno = reason;
	return -1;
}

/* Ends the use of what the log went to before; never of stderr. */
static void leave_target(void)
{
	if (target != STDERR_FILENO)
		close(target);
	if (system_log != -1)
		close(system_log);
	target = STDERR_FILENO;
	system_log = -1;
	path[0] = '\0';
}

int log_open(const char *name)
{
	int fd;

	if (strcmp(name, "stderr") == 0 && !no_stderr) {
		leave_target();
		return 0;
	}
	if (strcmp(name, "syslog") == 0 || strcmp(name, "stderr") == 0) {
		fd = system_log_open();
		if (fd == -1)
			return -1;
		leave_target();
		system_log = fd;
		return 0;
	}
	if (name[0] != '/' || strlen(name) >= sizeof(path)) {
		errno = name[0] != '/' ? EINVAL : ENAMETOOLONG;
		return -1;
	}
	fd = open_file(name);
	if (fd == -1)
		return -1;
	leave_target();
	target = fd;
	memcpy(path, name, strlen(name) + 1);
	return 0;
}

/* Ends the use of FD under its own number: the log's stays, so that no line meets a closed one. */
static int replace_target(int fd)
{
	int result = dup3(fd, target, O_CLOEXEC);
	int reason = errno;

	close(fd);
	errno = reason;
	return result == -1 ? -1 : 0;
}

int log_reopen(void)
{
	int fd;

	if (path[0] == '\0')
		return 0;
	fd = open_file(path);
	return fd == -1 ? -1 : replace_target(fd);
}

int log_file(void)
{
	return path[0] == '\0' ? -1 : target;
}

int log_system_socket(void)
{
	return system_log;
}

int log_adopt(int fd)
{
	if (path[0] != '\0')
		return replace_target(fd);
	close(fd);
	return 0;
}

int log_set_owner(uid_t user, gid_t group)
{
	struct stat open_one, named;

	owner.given = true;
	owner.user = user;
	owner.group = group;
	if (path[0] == '\0')
		return 0;
	/* It was opened before there was an owner, through whatever link. */
	if (gives_away() && fstat(target, &open_one) == 0 && S_ISREG(open_one.st_mode) &&
	    (lstat(path, &named) == -1 || S_ISLNK(named.st_mode))) {
		errno = ELOOP;
		return -1;
	}
	return hand_over(target);
}

void log_leave_stderr(void)
{
	no_stderr = true;
}

void log_set_level(enum log_level level)
{
	current_level = level;
}

void log_set_format(enum log_format format)
{
	current_format = format;
}

void log_set_role(const char *name)
{
	snprintf(role, sizeof(role), "%s", name);
}

/* Appends TEXT with control bytes shown; UTF-8 passes.  Returns the new end. */
static char *append_escaped(char *end, const char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (; *text != '\0'; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte >= 0x20 && byte != 0x7f) {
			*end++ = *text;
			continue;
		}
		*end++ = '\\';
		*end++ = 'x';
		*end++ = digits[byte >> 4];
		*end++ = digits[byte & 15];
	}
	return end;
}

/* "2026-01-31T12:00:00.000001Z" (RFC 3339) */
static void write_time(char text[TIME_MAX])
{
	struct timespec now;
	struct tm utc;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	snprintf(text, TIME_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ", utc.tm_year + 1900,
	         utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
	         now.tv_nsec / 1000);
}

/* "2026-01-31T12:00:00.000001Z tallyd[42] worker 3 error: " into PREFIX; its length. */
static size_t write_prefix(char *prefix, enum log_level level)
{
	char escaped_role[4 * ROLE_MAX];
	char time[TIME_MAX];
	int length;

	write_time(time);
	*append_escaped(escaped_role, role) = '\0';
	length = snprintf(prefix, PREFIX_MAX, "%.27s tallyd[%d] %.60s %s: ", time, (int)getpid(),
	                  escaped_role, level_names[level]);
	if (length < 0)
		return 0;
	return length < PREFIX_MAX ? (size_t)length : PREFIX_MAX - 1;
}

/* "worker 3 error: ": syslog knows the rest. */
static size_t write_short_prefix(char *prefix, enum log_level level)
{
	return (size_t)snprintf(prefix, PREFIX_MAX, "%s %s: ", role, level_names[level]);
}

/* Each writes MESSAGE as a line without newline into LINE, LINE_MAX_BYTES; its end. */
static char *write_text(char *line, enum log_level level, const char *message, bool cut)
{
	size_t start =
	    system_log != -1 ? write_short_prefix(line, level) : write_prefix(line, level);
	char *end = append_escaped(line + start, message);

	return cut ? stpcpy(end, CUT) : end;
}

static char *write_json(char *line, enum log_level level, const char *message, bool cut)
{
	char time[TIME_MAX];
	char *end = line;

	write_time(time);
	end +=
	    sprintf(end, "{\"time\":\"%s\",\"level\":\"%s\",\"role\":\"", time, level_names[level]);
	end = quote(end, role);
	end += sprintf(end, "\",\"pid\":%d,\"message\":\"", (int)getpid());
	end = quote(end, message);
	return stpcpy(end, cut ? CUT "\"}" : "\"}");
}

/* One write; one more only if a signal came before its first byte. */
static void write_line(const char *line, size_t length)
{
	while (write(target, line, length) == -1 && errno == EINTR)
		continue;
}

void log_line(enum log_level level, const char *format, ...)
{
	char message[MESSAGE_MAX], line[LINE_MAX_BYTES];
	int reason = errno;
	va_list arguments;
	int length;

	if (level > current_level)
		return;
	va_start(arguments, format);
	length = vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	const char *said = length < 0 ? format : message;
	bool cut = length >= (int)sizeof(message);
	if (system_log != -1) {
		*write_text(line, level, said, cut) = '\0';
		system_log_send(system_log, SYSTEM_LOG_PATH, priorities[level], line);
	} else {
		char *end = current_format == LOG_FORMAT_JSON ? write_json(line, level, said, cut)
		                                              : write_text(line, level, said, cut);
		*end++ = '\n';
		write_line(line, (size_t)(end - line));
	}
	errno = reason;
}

bool log_limited(struct log_limit *limit, double now, uint64_t *count)
{
	limit->count++;
	if (now < limit->next)
		return false;
	*count = limit->count;
	limit->count = 0;
	limit->next = now + LOG_LIMIT_PERIOD;
	return true;
}
