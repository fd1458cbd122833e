/* tallyd(8): from the command line to the master. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/clock.h"
#include "../base/log.h"
#include "config.h"
#include "confine.h"
#include "daemonize.h"
#include "instance.h"
#include "listen.h"
#include "master.h"
#include "options.h"
#include "pidfile.h"
#include "privileges.h"

#define EXIT_USAGE   2
#define MESSAGE_SIZE 2048

static int test(const struct options *options)
{
	char error[CONFIG_ERROR_MAX];
	struct config *config = config_load(options->config_file, error, sizeof error);
	struct privileges privileges;

	if (config != NULL && config_load_tokens(config, error, sizeof error) != 0) {
		config_free(config);
		config = NULL;
	}
	/* Only root can become somebody else, so only root's answer means anything. */
	if (config == NULL ||
	    (geteuid() == 0 &&
	     privileges_find(&privileges, config->user, config->group, error, sizeof error) != 0)) {
		fprintf(stderr, "tallyd: %s\n", error);
		config_free(config);
		return EXIT_USAGE;
	}
	printf("tallyd: %s is valid\n", options->config_file);
	config_free(config);
	return EXIT_SUCCESS;
}

static int send_signal(const struct options *options)
{
	char error[MESSAGE_SIZE];
	struct config *config = config_load(options->config_file, error, sizeof error);
	int status = EXIT_FAILURE;

	if (config == NULL) {
		fprintf(stderr, "tallyd: %s\n", error);
		return EXIT_USAGE;
	}
	pid_t pid = pidfile_read(config->pid_file, error, sizeof error);
	if (pid > 0 && kill(pid, options->signal) == 0)
		status = EXIT_SUCCESS;
	else if (pid > 0)
		fprintf(stderr, "tallyd: process %ld: %s\n", (long)pid, strerror(errno));
	else
		fprintf(stderr, "tallyd: %s\n", error);
	config_free(config);
	return status;
}

/* What started before the failure: all of it, or as far as it came. */
struct startup {
	struct privileges privileges;
	struct instance instance;
	struct pidfile *pidfile;
	struct listen_set *listeners;
};

/* The lock first: nothing else may be touched beside a running instance. */
static int acquire(struct startup *startup, const struct config *config, char *error, size_t size)
{
	int status = instance_open(&startup->instance, config->data_directory, &startup->privileges,
	                           error, size);

	if (status != 0)
		return status;
	/* Whoever reads it there may send one at once. */
	master_hold_signals();
	if (config->pid_file[0] != '\0') {
		startup->pidfile = pidfile_create(config->pid_file, error, size);
		if (startup->pidfile == NULL)
			return EXIT_FAILURE;
	}
	/*
	 * A worker of a predecessor that was killed may let go of the data directory a moment
	 * before its sockets.  Who else has an address will not give it up: that costs the wait,
	 * once.
	 */
	startup->listeners =
	    listen_open(config, NULL, clock_after_us(INSTANCE_DYING_WAIT), error, size);
	if (startup->listeners == NULL)
		return EXIT_FAILURE;
	return listen_own(startup->listeners, &startup->privileges, error, size) == 0
	           ? 0
	           : EXIT_FAILURE;
}

static int explain_log(const struct config *config, char *error, size_t size)
{
	snprintf(error, size, "%.1024s: the log cannot be given to user \"%s\": %s", config->log,
	         config->user, strerror(errno));
	return EXIT_FAILURE;
}

/* When all that its start needs is had: names of users, for one, come from wherever they are kept.
 */
static int confine_master(const struct config *config, char *error, size_t size)
{
	const struct confine confined = {.role = CONFINE_MASTER,
	                                 .seccomp = config->seccomp,
	                                 .landlock = config->landlock,
	                                 .journal = -1,
	                                 .snapshots = -1,
	                                 .handover = -1,
	                                 .syslog = -1};

	confine_report(config->seccomp, config->landlock);
	return confine(&confined, error, size) == 0 ? 0 : EXIT_FAILURE;
}

static int serve(struct config *config, const struct options *options)
{
	static struct startup startup = {.instance.lock = -1};
	char error[MESSAGE_SIZE];
	int status;

	if (privileges_find(&startup.privileges, config->user, config->group, error,
	                    sizeof error) != 0)
		status = EXIT_USAGE;
	else if (startup.privileges.drop &&
	         log_set_owner(startup.privileges.uid, startup.privileges.gid) != 0)
		status = explain_log(config, error, sizeof error);
	else
		status = acquire(&startup, config, error, sizeof error);
	if (status == 0)
		status = confine_master(config, error, sizeof error);
	if (status == 0) {
		listen_commit(NULL, startup.listeners);
		status = master_run(config, options->config_file, startup.listeners,
		                    &startup.instance, &startup.privileges);
	} else {
		log_error("%s", error);
		daemonize_failed(status, error);
		listen_close(startup.listeners);
		config_free(config);
	}
	pidfile_remove(startup.pidfile);
	instance_close(&startup.instance);
	return status;
}

/* The soft limit is for programs that use select(2); connections need what is permitted. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_warning("the limit of open files cannot be raised to %ju: %s",
		            (uintmax_t)limit.rlim_max, strerror(errno));
}

static int run(const struct options *options)
{
	char error[CONFIG_ERROR_MAX];
	struct config *config = config_load(options->config_file, error, sizeof error);

	if (config == NULL || config_load_tokens(config, error, sizeof error) != 0) {
		fprintf(stderr, "tallyd: %s\n", error);
		config_free(config);
		return EXIT_USAGE;
	}
	log_set_role("master");
	log_set_level(config->log_level);
	log_set_format(config->log_format);
	if (!options->foreground && daemonize_begin(error, sizeof error) != 0) {
		fprintf(stderr, "tallyd: %s\n", error);
		config_free(config);
		return EXIT_FAILURE;
	}
	umask(077);
	if (!options->foreground)
		log_leave_stderr();
	if (log_open(config->log) != 0) {
		snprintf(error, sizeof error, "%s: cannot be opened: %s", config->log,
		         strerror(errno));
		daemonize_failed(EXIT_USAGE, error);
		config_free(config);
		return EXIT_USAGE;
	}
	raise_file_limit();
	log_notice("tallyd %s starts", PACKAGE_VERSION);
	if (confine_process(error, sizeof error) != 0) {
		log_error("%s", error);
		daemonize_failed(EXIT_FAILURE, error);
		config_free(config);
		return EXIT_FAILURE;
	}
	return serve(config, options);
}

int main(int argc, char **argv)
{
	static struct options options;
	char error[MESSAGE_SIZE];

	if (options_read(&options, argc, argv, error, sizeof error) != 0) {
		fprintf(stderr, "tallyd: %s\n", error);
		options_usage(stderr);
		return EXIT_USAGE;
	}
	switch (options.action) {
	case OPTIONS_TEST:
		return test(&options);
	case OPTIONS_SIGNAL:
		return send_signal(&options);
	case OPTIONS_VERSION:
		printf("tallyd %s\n", PACKAGE_VERSION);
		return EXIT_SUCCESS;
	case OPTIONS_HELP:
		options_usage(stdout);
		return EXIT_SUCCESS;
	case OPTIONS_RUN:
		break;
	}
	return run(&options);
}
