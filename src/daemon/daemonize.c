#include "daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../base/standard.h"

/*
 * What goes to the first process: one byte, the exit status of the first process, and
 * after a status other than 0 the message.  The end without a byte
 * means that the daemon died.
 */
static int report_fd = -1; /* the daemon's end; -1: foreground, or told already */
static enum { FOREGROUND, WAITED_FOR, TOLD } state;

/* A child of the daemon that held it open would keep the first process waiting. */
static void close_in_child(void)
{
	if (report_fd != -1)
		close(report_fd);
	report_fd = -1;
}

/* Reads until SIZE bytes or the end; the number read. */
static size_t read_all(int fd, char *buffer, size_t size)
{
	size_t used = 0;

	while (used < size) {
		ssize_t got = read(fd, buffer + used, size - used);

		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		used += (size_t)got;
	}
	return used;
}

static void write_all(int fd, const char *buffer, size_t size)
{
	while (size > 0) {
		ssize_t done = send(fd, buffer, size, MSG_NOSIGNAL);

		if (done == -1 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		buffer += done;
		size -= (size_t)done;
	}
}

/* The first process: waits for the word, passes it on, exits. */
__attribute__((noreturn)) static void wait_for_word(int fd, pid_t child)
{
	char word[1 + DAEMONIZE_MESSAGE_MAX];
	size_t length = read_all(fd, word, sizeof(word));

	/* _exit: what stdio held before the fork is the daemon's to flush. */
	while (waitpid(child, NULL, 0) == -1 && errno == EINTR)
		continue;
	if (length == 0) {
		fputs("tallyd: it died before it could serve; the log may say why\n", stderr);
		fflush(stderr);
		_exit(1);
	}
	if (word[0] != 0) {
		fprintf(stderr, "tallyd: %.*s\n", (int)(length - 1), word + 1);
		fflush(stderr);
	}
	_exit((unsigned char)word[0]);
}

/* The two forks of a daemon, from the first child on. */
static int detach(void)
{
	pid_t child;

	if (setsid() == -1)
		return -1;
	/* No session leader any more: no terminal that is opened can become ours. */
	child = fork();
	if (child > 0)
		_exit(0);
	return child;
}

static int leave_surroundings(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null == -1)
		return -1;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (dup2(null, fd) == -1)
			return -1;
	if (null > STDERR_FILENO)
		close(null);
	umask(027);
	return chdir("/");
}

static int explain(const char *what, char *error, size_t error_size)
{
	snprintf(error, error_size, "cannot go to the background: %s: %s; start with -f", what,
	         strerror(errno));
	return -1;
}

int daemonize_begin(char *error, size_t error_size)
{
	int ends[2];
	pid_t child;

	if (standard_fill() == -1)
		return explain("/dev/null", error, error_size);
	/* A socket, because a write to a pipe whose reader was killed would kill the daemon. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1)
		return explain("socketpair", error, error_size);
	fflush(NULL);
	child = fork();
	if (child == -1) {
		close(ends[0]);
		close(ends[1]);
		return explain("fork", error, error_size);
	}
	if (child > 0) {
		close(ends[1]);
		wait_for_word(ends[0], child);
	}
	close(ends[0]);
	report_fd = ends[1];
	state = WAITED_FOR;
	if (detach() == -1 || leave_surroundings() == -1 ||
	    pthread_atfork(NULL, NULL, close_in_child) != 0) {
		explain("detach", error, error_size);
		daemonize_failed(1, error);
		_exit(1);
	}
	return 0;
}

/* The word itself: STATUS and LENGTH bytes of MESSAGE in one write. */
static void tell(int status, const char *message, size_t length)
{
	char word[1 + DAEMONIZE_MESSAGE_MAX];

	if (length > DAEMONIZE_MESSAGE_MAX)
		length = DAEMONIZE_MESSAGE_MAX;
	word[0] = (char)status;
	memcpy(word + 1, message, length);
	write_all(report_fd, word, 1 + length);
	close(report_fd);
	report_fd = -1;
}

void daemonize_ready(void)
{
	if (state == WAITED_FOR && report_fd != -1)
		tell(0, "", 0);
	state = TOLD;
}

void daemonize_failed(int status, const char *message)
{
	if (state == FOREGROUND)
		fprintf(stderr, "tallyd: %s\n", message);
	else if (state == WAITED_FOR && report_fd != -1)
		tell(status, message, strlen(message));
	state = TOLD;
}
