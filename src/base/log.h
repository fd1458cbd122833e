/*
 * The log of the process's life: stderr, a file or syslog.  One line per event,
 * never one per request.  Written with one write(2) per line, so that lines of
 * several processes never mix.  Keeps errno.
 */
#ifndef TALLYD_BASE_LOG_H
#define TALLYD_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* How lines of stderr and of files look; syslog's are always text. */
enum log_format {
	LOG_FORMAT_TEXT, /* TIME tallyd[PID] ROLE LEVEL: MESSAGE */
	LOG_FORMAT_JSON, /* {"time":TIME,"level":LEVEL,"role":ROLE,"pid":PID,"message":MESSAGE} */
};

/*
 * Directs the log: "stderr", "syslog", or a file's absolute path (opened O_APPEND; created 0640,
 * whatever the umask).  A symbolic link is followed only if it and its directory belong to root or
 * to this user, and nobody else may rename in that directory; else ELOOP.
 * 0, or -1 with errno (the old target stays in use).
 */
int log_open(const char *target);

/* Opens the file anew (after rotation).  0, or -1 with errno and the old one kept. */
int log_reopen(void);

/*
 * The descriptor of the log's file, -1 if it is none; and the one over which syslog is told, -1 if
 * it is not.  Both stay the log's.
 */
int log_file(void);
int log_system_socket(void);

/*
 * FD is the log's file, which another process has opened anew, perhaps because this one may not: it
 * takes the place of the present one, or is closed where the log goes to no file.  0, or -1 with
 * errno and the old one kept.
 */
int log_adopt(int fd);

/*
 * Gives every file that log_open or log_reopen opens from now on to USER and GROUP, if this
 * process is root: it is the service's own, and whoever becomes USER can open it again.  Symbolic
 * links (ELOOP) and files with other names (EMLINK) are then refused: the directory may be USER's.
 * Of the file that is open now: 0, or -1 with errno.
 */
int log_set_owner(uid_t user, gid_t group);

/* From now on "stderr" means "syslog", because stderr is /dev/null. */
void log_leave_stderr(void);

void log_set_level(enum log_level level);
void log_set_format(enum log_format format);

/* Names the process in every line: "master", "worker 3", "journal".  Copied, cut to 31 bytes. */
void log_set_role(const char *role);

/*
 * One line; FORMAT without newline.  Control bytes in the result are shown as \xNN; in JSON
 * everything is escaped as it must be, and what is no UTF-8 is U+FFFD.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * At most one line per period for a class of events that clients can cause at will.
 * Returns true if the caller should log now, with the number of occurrences since the
 * last line in *COUNT; NOW is any monotonic time in seconds.  Static storage of the caller's:
 * start from {0}.
 */
struct log_limit {
	double next;
	uint64_t count;
};
#define LOG_LIMIT_PERIOD 10.0 /* seconds */
bool log_limited(struct log_limit *limit, double now, uint64_t *count);

#endif
