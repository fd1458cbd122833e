#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *word;
	int signal;
} signals[] = {
    {"reload", SIGHUP},
    {"stop", SIGTERM},
    {"quit", SIGQUIT},
    {"reopen", SIGUSR1},
};

void options_usage(FILE *out)
{
	fputs("usage: tallyd [-f] [-t] [-c FILE] [-s reload|stop|quit|reopen] [-V] [-h]\n"
	      "  -f       stay in the foreground\n"
	      "  -t       check the configuration and exit\n"
	      "  -c FILE  read FILE instead of " TALLYD_CONFIG_FILE "\n"
	      "  -s WORD  send a signal to the running daemon:\n"
	      "           reload the configuration, stop after a drain, quit at once,\n"
	      "           reopen the logs\n"
	      "  -V       print the version and exit\n"
	      "  -h       print this and exit\n"
	      "See tallyd(8) and tallyd.conf(5).\n",
	      out);
}

static int set_file(struct options *options, const char *path, char *error, size_t error_size)
{
	char directory[PATH_MAX] = "";
	int length;

	if (path[0] == '\0') {
		snprintf(error, error_size, "-c: the file's name is empty; give a path");
		return -1;
	}
	if (path[0] != '/' && !getcwd(directory, sizeof(directory))) {
		snprintf(error, error_size,
		         "-c: %s: the working directory is unknown: %s; give an absolute path",
		         path, strerror(errno));
		return -1;
	}
	length = snprintf(options->config_file, sizeof(options->config_file), "%s%s%s", directory,
	                  path[0] == '/' ? "" : "/", path);
	if (length < 0 || (size_t)length >= sizeof(options->config_file)) {
		snprintf(error, error_size, "-c: the path is too long; at most %d bytes",
		         PATH_MAX - 1);
		return -1;
	}
	return 0;
}

static int set_signal(struct options *options, const char *word, char *error, size_t error_size)
{
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (strcmp(signals[i].word, word) != 0)
			continue;
		options->action = OPTIONS_SIGNAL;
		options->signal = signals[i].signal;
		options->signal_word = signals[i].word;
		return 0;
	}
	snprintf(error, error_size, "-s: \"%s\" is no such word; reload, stop, quit or reopen",
	         word);
	return -1;
}

/* One option; VALUE is its argument. */
static int take(struct options *options, int letter, const char *value, char *error,
                size_t error_size)
{
	switch (letter) {
	case 'f':
		options->foreground = true;
		return 0;
	case 't':
		options->action = OPTIONS_TEST;
		return 0;
	case 'V':
		options->action = OPTIONS_VERSION;
		return 0;
	case 'h':
		options->action = OPTIONS_HELP;
		return 0;
	case 'c':
		return set_file(options, value, error, error_size);
	case 's':
		return set_signal(options, value, error, error_size);
	case ':':
		snprintf(error, error_size, "-%c: its argument is missing", optopt);
		return -1;
	default:
		snprintf(error, error_size, "-%c: there is no such option", optopt);
		return -1;
	}
}

int options_read(struct options *options, int argc, char **argv, char *error, size_t error_size)
{
	bool test = false, signal = false;
	int letter;

	memset(options, 0, sizeof(*options));
	if (set_file(options, TALLYD_CONFIG_FILE, error, error_size) != 0)
		return -1;
	optind = 0; /* glibc: start anew, so that a second call reads a second command line */
	/* '+': options end at the first operand, as POSIX has it; ':': print nothing. */
	while ((letter = getopt(argc, argv, "+:ftc:s:Vh")) != -1) {
		if (take(options, letter, optarg, error, error_size) != 0)
			return -1;
		test = test || letter == 't';
		signal = signal || letter == 's';
		if (options->action == OPTIONS_VERSION || options->action == OPTIONS_HELP)
			return 0;
	}
	if (optind < argc) {
		snprintf(error, error_size, "\"%s\" is not expected; tallyd takes options only",
		         argv[optind]);
		return -1;
	}
	if (test && signal) {
		snprintf(error, error_size, "-t and -s exclude each other; give one of them");
		return -1;
	}
	return 0;
}
