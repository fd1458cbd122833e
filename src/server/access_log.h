/*
 * One line per answer, in the common log format followed by the microseconds from the
 * request's first byte until its answer was free to leave; or the same as JSON:
 * {"time":..,"peer":..,"user":..,"request":..,"status":..,"bytes":..,"lsn":"..","us":..}.  Lines
 * wait for their answer's record as the answers do, and are written in large pieces.
 */
#ifndef TALLYD_SERVER_ACCESS_LOG_H
#define TALLYD_SERVER_ACCESS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACCESS_LOG_BUFFER  65536 /* bytes of finished lines before they are written */
#define ACCESS_LOG_WAITING 4096  /* lines waiting; one more and the oldest is finished early */
#define ACCESS_LOG_TEXT    512   /* bytes of a line before its time; longer ones are cut */
#define ACCESS_LOG_FLUSH   1.0   /* seconds that a finished line may wait to be written */

struct access_log;

/* What a line says.  All borrowed. */
struct access_entry {
	const char *peer;    /* NUL-terminated */
	const char *user;    /* the name of the token, NUL-terminated; NULL: none */
	const char *request; /* the request line, raw bytes; escaped here */
	size_t request_length;
	unsigned status;
	size_t bytes;   /* of the answer's body */
	uint64_t lsn;   /* that the answer depends on, 0: none */
	double started; /* monotonic seconds */
};

/*
 * Opens PATH for appending (created 0640), for lines in JSON or not.  Owned by the caller, ended
 * with access_log_close. NULL with errno set.
 */
struct access_log *access_log_open(const char *path, bool json);

/* Writes all that is left, without waiting for the journal, and frees. */
void access_log_close(struct access_log *log);

/* Opens PATH as access_log_open does.  The descriptor, the caller's, or -1 with errno. */
int access_log_file(const char *path);

/*
 * Writes what is finished to the old file, and goes on in the new one, FD, which is the log's from
 * now on.  -1 with errno keeps the old one.
 */
int access_log_adopt(struct access_log *log, int fd);

/* Takes one line; UNIX_US (since 1970) is its date, NOW monotonic seconds. */
void access_log_add(struct access_log *log, const struct access_entry *entry, uint64_t unix_us,
                    double now);

/* Finishes the lines that depend only on records below RELEASED. */
void access_log_release(struct access_log *log, uint64_t released, double now);

/* Writes the finished lines.  A failed write loses them and is logged. */
void access_log_flush(struct access_log *log);

/* Are there finished lines to be flushed? */
bool access_log_pending(const struct access_log *log);

#endif
