/*
 * The command line: tallyd [-f] [-t] [-c FILE] [-s reload|stop|quit|reopen] [-V] [-h],
 * tallyd(8).  Read with getopt (POSIX.1-2017 XBD 12.2).
 */
#ifndef TALLYD_DAEMON_OPTIONS_H
#define TALLYD_DAEMON_OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum options_action {
	OPTIONS_RUN,     /* be the daemon */
	OPTIONS_TEST,    /* check the configuration, say so, exit */
	OPTIONS_SIGNAL,  /* send .signal to the running master */
	OPTIONS_VERSION, /* print the version */
	OPTIONS_HELP,    /* print the usage */
};

struct options {
	enum options_action action;
	bool foreground;
	char config_file[PATH_MAX]; /* absolute, so that a reload finds it after chdir */
	int signal;                 /* with OPTIONS_SIGNAL: SIGHUP, SIGTERM, SIGQUIT or SIGUSR1 */
	const char *signal_word;    /* as it was given: "reload" */
};

/*
 * Reads ARGV into OPTIONS.  0, or -1 with what is wrong in ERROR (ERROR_SIZE
 * bytes): exit 2 then, after options_usage.  Prints nothing.
 */
int options_read(struct options *options, int argc, char **argv, char *error, size_t error_size);

/* Writes the usage to OUT. */
void options_usage(FILE *out);

#endif
