/*
 * A client of syslog(3)'s service that needs nothing but one socket, made at first: libc's own
 * makes a new one whenever the service was started again, which a confined process may not.  The
 * format is that of RFC 3164, as libc writes it.
 */
#ifndef TALLYD_BASE_SYSTEM_LOG_H
#define TALLYD_BASE_SYSTEM_LOG_H

#define SYSTEM_LOG_PATH "/dev/log"

/* The socket, or -1 with errno.  Nobody has to listen yet. */
int system_log_open(void);

/*
 * Sends LINE with PRIORITY (of syslog.h, its facility LOG_DAEMON) to who listens at PATH now, as a
 * line of tallyd's.  It is lost where nobody does.
 */
void system_log_send(int socket, const char *path, int priority, const char *line);

#endif
