/*
 * Leaving the terminal, with a parent that waits: the command returns only when
 * the daemon serves, or with the reason why it does not.
 */
#ifndef TALLYD_DAEMON_DAEMONIZE_H
#define TALLYD_DAEMON_DAEMONIZE_H

#include <stddef.h>

#define DAEMONIZE_MESSAGE_MAX 4096 /* bytes that daemonize_failed passes on; more is cut */

/*
 * Forks twice with a setsid between.  Returns 0 in the detached process, with
 * standard input, output and error on /dev/null, the working directory "/" and
 * umask 027; never returns in the first process, which prints what it is told and
 * exits.  -1 with the reason in ERROR (ERROR_SIZE bytes) if nothing was forked.
 */
int daemonize_begin(char *error, size_t error_size);

/* The first process exits 0.  Nothing in the foreground, nothing the second time. */
void daemonize_ready(void);

/*
 * The first process prints "tallyd: MESSAGE" on its stderr and exits with
 * STATUS (1 to 255); the caller goes on and exits itself.  In the foreground
 * the message is printed here.  After daemonize_ready it does nothing: log it.
 */
void daemonize_failed(int status, const char *message);

#endif
