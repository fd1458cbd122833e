/*
 * Descriptors handed from one process to another over a pair of Unix sockets, each with a byte that
 * says what it is: so a process that may open nothing gets what another has opened for it
 * (unix(7), SCM_RIGHTS).
 */
#ifndef TALLYD_BASE_PASS_H
#define TALLYD_BASE_PASS_H

/* Makes a pair: what is sent at one end is taken at the other.  0, or -1 with errno. */
int pass_pair(int ends[2]);

/*
 * Sends FD, which stays the caller's, as WHAT.  Never waits.  0, or -1 with errno: EAGAIN if the
 * other side has not taken what was sent before.
 */
int pass_send(int end, char what, int fd);

/*
 * The next descriptor that was sent, close-on-exec and the caller's, and in *WHAT what it is. Never
 * waits.  -1 with errno: EAGAIN if there is none, ECONNRESET if the other side is gone, EBADMSG if
 * one was sent but could not be had, as with all descriptors in use.
 */
int pass_take(int end, char *what);

#endif
