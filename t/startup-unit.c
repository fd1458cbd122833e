/* The way into service: command line, pid file, privileges, leaving the terminal. */
#include "../src/daemon/daemonize.h"
#include "../src/daemon/options.h"
#include "../src/daemon/pidfile.h"
#include "../src/daemon/privileges.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap/tap.h"

#define DEADLINE 10000 /* milliseconds */

static char directory[] = "/tmp/tallyd-startup-XXXXXX";
static char path[128];
static char error[DAEMONIZE_MESSAGE_MAX];

static void nap(void)
{
	const struct timespec millisecond = {.tv_nsec = 1000000};

	nanosleep(&millisecond, NULL);
}

/* ---- options */

/* options_read of "tallyd" and up to four words. */
static int read_options(struct options *options, const char *a, const char *b, const char *c,
                        const char *d)
{
	char words[5][PATH_MAX + 8] = {"tallyd"};
	const char *given[] = {a, b, c, d};
	char *argv[6] = {words[0]};
	int argc = 1;

	for (int i = 0; i < 4 && given[i]; i++) {
		snprintf(words[i + 1], sizeof(words[0]), "%s", given[i]);
		argv[argc++] = words[i + 1];
	}
	error[0] = '\0';
	return options_read(options, argc, argv, error, sizeof(error));
}

static void refuses(const char *message, const char *a, const char *b, const char *c)
{
	struct options options;

	cmp_ok(read_options(&options, a, b, c, NULL), "==", -1, "refused: %s", a);
	is(error, message, "with the reason");
}

static void test_options(void)
{
	struct options options;

	cmp_ok(read_options(&options, NULL, NULL, NULL, NULL), "==", 0, "no options");
	ok(options.action == OPTIONS_RUN && !options.foreground, "run in the background");
	is(options.config_file, TALLYD_CONFIG_FILE, "with the default file");
	cmp_ok(read_options(&options, "-f", "-c", "/a/b", NULL), "==", 0, "-f -c");
	ok(options.action == OPTIONS_RUN && options.foreground, "run in the foreground");
	is(options.config_file, "/a/b", "with that file");
	cmp_ok(read_options(&options, "-tc/x", NULL, NULL, NULL), "==", 0, "-tc");
	cmp_ok(options.action, "==", OPTIONS_TEST, "test");
	is(options.config_file, "/x", "that file");
	cmp_ok(read_options(&options, "-V", "-s", NULL, NULL), "==", 0, "-V ends them");
	cmp_ok(options.action, "==", OPTIONS_VERSION, "version");
	cmp_ok(read_options(&options, "-h", NULL, NULL, NULL), "==", 0, "-h");
	cmp_ok(options.action, "==", OPTIONS_HELP, "help");
	cmp_ok(read_options(&options, "--", NULL, NULL, NULL), "==", 0, "--");
}

static void test_signal_words(void)
{
	static const struct {
		const char *word;
		int signal;
	} words[] = {{"reload", SIGHUP}, {"stop", SIGTERM}, {"quit", SIGQUIT}, {"reopen", SIGUSR1}};
	struct options options;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		cmp_ok(read_options(&options, "-s", words[i].word, NULL, NULL), "==", 0, "-s");
		ok(options.action == OPTIONS_SIGNAL && options.signal == words[i].signal, "%s",
		   words[i].word);
		is(options.signal_word, words[i].word, "under that word");
	}
}

static void test_bad_options(void)
{
	char longest[PATH_MAX + 1];

	refuses("-x: there is no such option", "-x", NULL, NULL);
	refuses("-c: its argument is missing", "-c", NULL, NULL);
	refuses("-c: the file's name is empty; give a path", "-c", "", NULL);
	refuses("-s: \"start\" is no such word; reload, stop, quit or reopen", "-s", "start", NULL);
	refuses("-t and -s exclude each other; give one of them", "-s", "stop", "-t");
	refuses("\"start\" is not expected; tallyd takes options only", "start", NULL, NULL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[PATH_MAX] = '\0';
	refuses("-c: the path is too long; at most 4095 bytes", "-c", longest, NULL);
	longest[PATH_MAX - 1] = '\0';
	struct options options;
	cmp_ok(read_options(&options, "-c", longest, NULL, NULL), "==", 0, "the longest path");
}

static void test_relative_file(void)
{
	struct options options;
	char here[PATH_MAX], expected[PATH_MAX + 16];

	if (!getcwd(here, sizeof(here)))
		BAIL_OUT("no working directory");
	cmp_ok(read_options(&options, "-c", "d/t.conf", NULL, NULL), "==", 0, "a relative file");
	snprintf(expected, sizeof(expected), "%s/d/t.conf", here);
	is(options.config_file, expected, "is made absolute");
}

static void test_usage(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	options_usage(out);
	fclose(out);
	ok(strstr(text, "usage: tallyd [-f] [-t] [-c FILE] [-s reload|stop|quit|reopen]"), "usage");
	ok(strstr(text, TALLYD_CONFIG_FILE), "names the default file");
	free(text);
}

/* ---- pid file */

static const char *read_file(const char *name)
{
	static char text[256];
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd == -1 ? 0 : read(fd, text, sizeof(text) - 1);

	text[got > 0 ? got : 0] = '\0';
	if (fd != -1)
		close(fd);
	return text;
}

/* A child that holds PATH until CONTROL is closed; its pid, once it has it or has failed. */
static pid_t start_holder(int *control)
{
	int go[2], told[2];
	char byte = 0;
	pid_t child;

	if (pipe2(go, O_CLOEXEC) == -1 || pipe2(told, O_CLOEXEC) == -1)
		BAIL_OUT("no pipe");
	child = fork();
	if (child == 0) {
		struct pidfile *pidfile = pidfile_create(path, error, sizeof(error));

		close(go[1]);
		if (write(told[1], pidfile ? "y" : "n", 1) != 1 || read(go[0], &byte, 1) < 0)
			_exit(2);
		pidfile_remove(pidfile);
		_exit(pidfile ? 0 : 1);
	}
	close(go[0]);
	close(told[1]);
	if (read(told[0], &byte, 1) != 1 || byte != 'y')
		diag("the holder has no pid file");
	close(told[0]);
	*control = go[1];
	return child;
}

static void test_pidfile(void)
{
	char expected[256];
	struct stat status;
	int control;
	pid_t holder;

	cmp_ok(pidfile_read(path, error, sizeof(error)), "==", -1, "no file");
	snprintf(expected, sizeof(expected), "%s: tallyd is not running: No such file or directory",
	         path);
	is(error, expected, "not running");
	holder = start_holder(&control);
	cmp_ok(pidfile_read(path, error, sizeof(error)), "==", holder, "the holder is found");
	snprintf(expected, sizeof(expected), "%d\n", (int)holder);
	is(read_file(path), expected, "the file has its pid");
	ok(stat(path, &status) == 0 && (status.st_mode & 0777) == 0644, "and may be read by all");
	ok(!pidfile_create(path, error, sizeof(error)), "a second instance is refused");
	snprintf(expected, sizeof(expected),
	         "%s: tallyd is already running as pid %d; stop it first, or use another pid_file",
	         path, (int)holder);
	is(error, expected, "with the reason");
	is(read_file(path)[0] ? "there" : "gone", "there", "the file stays");
	close(control);
	waitpid(holder, NULL, 0);
	cmp_ok(access(path, F_OK), "==", -1, "it is removed at the end");
}

static void test_pidfile_stale(void)
{
	char expected[256];
	int control;
	pid_t holder = start_holder(&control);

	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	close(control);
	ok(access(path, F_OK) == 0, "a killed daemon leaves its file");
	cmp_ok(pidfile_read(path, error, sizeof(error)), "==", -1, "which tells nothing");
	snprintf(expected, sizeof(expected), "%s: tallyd is not running: the file is stale", path);
	is(error, expected, "not running");
	holder = start_holder(&control);
	cmp_ok(pidfile_read(path, error, sizeof(error)), "==", holder, "and is replaced");
	close(control);
	waitpid(holder, NULL, 0);
}

/* A pid that lives but never locked the file is somebody else's. */
static void test_pidfile_reused(void)
{
	FILE *file = fopen(path, "w");
	int control;
	pid_t holder;

	fprintf(file, "%d\n", (int)getpid());
	fclose(file);
	cmp_ok(pidfile_read(path, error, sizeof(error)), "==", -1, "a live stranger is not ours");
	holder = start_holder(&control);
	cmp_ok(pidfile_read(path, error, sizeof(error)), "==", holder, "the file is replaced");
	close(control);
	waitpid(holder, NULL, 0);
}

/* Many start at once: one has it. */
static void test_pidfile_race(void)
{
	pid_t children[8];
	int won = 0, go[2];

	if (pipe2(go, O_CLOEXEC) == -1)
		BAIL_OUT("no pipe");
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	for (int i = 0; i < 8; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			char byte;

			close(go[1]);
			while (read(go[0], &byte, 1) > 0)
				continue;
			if (!pidfile_create(path, error, sizeof(error)))
				_exit(1);
			/* Held until all others have tried. */
			pause();
		}
	}
	close(go[0]);
	close(go[1]);
	for (int ended = 0, waited = 0; ended < 7 && waited < DEADLINE; waited++) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			ended++;
		nap();
	}
	for (int i = 0; i < 8; i++)
		won += kill(children[i], 0) == 0;
	cmp_ok(won, "==", 1, "one of eight holds it");
	for (int i = 0; i < 8; i++)
		if (kill(children[i], 0) == 0)
			kill(children[i], SIGKILL);
	while (wait(NULL) > 0)
		continue;
	unlink(path);
}

static void test_pidfile_errors(void)
{
	char longest[PATH_MAX + 2], target[160];

	ok(!pidfile_create("/nonexistent/p", error, sizeof(error)), "no directory");
	is(error,
	   "/nonexistent/p: cannot create the pid file: No such file or directory; check pid_file",
	   "it says so");
	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	longest[PATH_MAX] = '\0';
	ok(!pidfile_create(longest, error, sizeof(error)), "a path too long");
	snprintf(target, sizeof(target), "%s/target", directory);
	if (symlink(target, path) == -1)
		BAIL_OUT("no symbolic link");
	ok(!pidfile_create(path, error, sizeof(error)), "a symbolic link");
	ok(strstr(error, "cannot open the existing pid file: "), "%s", error);
	cmp_ok(access(target, F_OK), "==", -1, "is not followed");
	unlink(path);
	pidfile_remove(NULL);
	snprintf(target, sizeof(target), "%s.%d", path, (int)getpid());
	cmp_ok(access(target, F_OK), "==", -1, "no temporary file is left");
}

/* ---- privileges */

static void test_privileges_find(void)
{
	struct privileges privileges;

	cmp_ok(privileges_find(&privileges, "", "", error, sizeof(error)), "==", 0, "no user");
	ok(!privileges.drop, "nothing to drop");
	cmp_ok(privileges_drop(&privileges, error, sizeof(error)), "==", 0, "dropping it is fine");
	cmp_ok(privileges_own(&privileges, "/nonexistent", error, sizeof(error)), "==", 0,
	       "owning too");
	cmp_ok(privileges_find(&privileges, "no-such-user", "", error, sizeof(error)), "==", -1,
	       "an unknown user");
	is(error, "user: \"no-such-user\" does not exist; create it, or name another", "says so");
	cmp_ok(privileges_find(&privileges, "root", "no-such-group", error, sizeof(error)),
	       "==", -1, "an unknown group");
	is(error, "group: \"no-such-group\" does not exist; create it, or name another", "says so");
	cmp_ok(privileges_find(&privileges, "4294967295", "", error, sizeof(error)), "==", -1,
	       "the id that means none");
}

/* In a child: everything is dropped, for good.  Its exit status. */
static int drop_in_child(void)
{
	struct privileges privileges;
	gid_t groups[64];
	gid_t extra = 1;

	if (setgroups(1, &extra) != 0 ||
	    privileges_find(&privileges, "nobody", "", error, sizeof(error)) != 0 ||
	    privileges_own(&privileges, path, error, sizeof(error)) != 0 ||
	    privileges_drop(&privileges, error, sizeof(error)) != 0)
		return 1;
	if (getuid() != privileges.uid || geteuid() != privileges.uid ||
	    getgid() != privileges.gid || getegid() != privileges.gid)
		return 2;
	if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0)
		return 3;
	int count = getgroups(64, groups);
	for (int i = 0; i < count; i++)
		if (groups[i] == extra || groups[i] == 0)
			return 4;
	/* Already that user: fine.  Somebody else: no. */
	if (privileges_find(&privileges, "nobody", "", error, sizeof(error)) != 0 ||
	    privileges.drop)
		return 5;
	if (privileges_find(&privileges, "root", "", error, sizeof(error)) != -1)
		return 6;
	if (strcmp(error, "user: only root can become \"root\"; start as root, or leave user and "
	                  "group out") != 0)
		return 7;
	return 0;
}

static void test_privileges_drop(void)
{
	struct privileges privileges;
	struct stat status;
	int result = 0;
	pid_t child;

	if (geteuid() != 0 ||
	    privileges_find(&privileges, "nobody", "", error, sizeof(error)) != 0) {
		pass("# SKIP dropping needs root and a user nobody");
		return;
	}
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	child = fork();
	if (child == 0)
		_exit(drop_in_child());
	waitpid(child, &result, 0);
	cmp_ok(result, "==", 0, "dropped for good, supplementary groups too");
	ok(stat(path, &status) == 0 && status.st_uid == privileges.uid &&
	       status.st_gid == privileges.gid,
	   "the file was given to the user");
	unlink(path);
	cmp_ok(privileges_own(&privileges, path, error, sizeof(error)), "==", -1, "no such file");
	ok(strstr(error, "cannot be given to user \"nobody\": No such file"), "%s", error);
}

/* ---- daemonize */

/* What the daemon under test does once it is detached. */
typedef void (*life)(void);

/*
 * Runs daemonize_begin and LIFE in a process of its own; its exit status, or -1 if it
 * was still waiting at the deadline.  What it wrote on stderr is in ERROR.
 */
static int run_daemon(life live)
{
	int out[2], status = 0;
	size_t used = 0;
	ssize_t got;
	pid_t child;

	if (pipe2(out, O_CLOEXEC) == -1)
		BAIL_OUT("no pipe");
	child = fork();
	if (child == 0) {
		dup2(out[1], STDERR_FILENO);
		close(out[1]);
		if (daemonize_begin(error, sizeof(error)) == 0)
			live();
		_exit(99);
	}
	close(out[1]);
	while ((got = read(out[0], error + used, sizeof(error) - 1 - used)) > 0)
		used += (size_t)got;
	error[used] = '\0';
	close(out[0]);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Waits for FILE; what it holds. */
static const char *await_file(const char *file)
{
	for (int i = 0; i < DEADLINE && access(file, F_OK) != 0; i++)
		nap();
	return read_file(file);
}

/* Writes what a daemon is about: session, group, descriptors, directory, umask. */
static void describe_self(const char *file)
{
	char text[256], temporary[160], here[64] = "", target[64] = "";
	mode_t mask = umask(0);
	int fd, length;

	if (!getcwd(here, sizeof(here)) || readlink("/proc/self/fd/2", target, 63) == -1)
		_exit(1);
	length = snprintf(text, sizeof(text),
	                  "leader %d, session is ours %d, in %s, stderr %s, umask %03o",
	                  getsid(0) == getpid(), getsid(0) == getpgrp(), here, target, mask);
	snprintf(temporary, sizeof(temporary), "%s.new", file);
	fd = open(temporary, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd == -1 || write(fd, text, (size_t)length) != length || rename(temporary, file) == -1)
		_exit(1);
}

static void live_ready(void)
{
	daemonize_ready();
	daemonize_ready();
	daemonize_failed(7, "after it served, this goes nowhere");
	describe_self(path);
	_exit(0);
}

static void live_failed(void)
{
	daemonize_failed(3, "the data directory is in use");
	_exit(3);
}

static void live_longest(void)
{
	char message[DAEMONIZE_MESSAGE_MAX + 100];

	memset(message, 'm', sizeof(message) - 1);
	message[sizeof(message) - 1] = '\0';
	daemonize_failed(255, message);
	_exit(255);
}

static void live_death(void)
{
	kill(getpid(), SIGKILL);
}

/* A child that lives on must not keep the first process waiting for the dead. */
static void live_death_with_child(void)
{
	if (fork() == 0) {
		await_file(path);
		_exit(0);
	}
	kill(getpid(), SIGKILL);
}

static void test_daemonize(void)
{
	struct timespec before, after;

	cmp_ok(run_daemon(live_ready), "==", 0, "it returns 0 when the daemon serves");
	is(error, "", "and says nothing");
	is(await_file(path), "leader 0, session is ours 1, in /, stderr /dev/null, umask 027",
	   "it is detached");
	unlink(path);
	cmp_ok(run_daemon(live_failed), "==", 3, "the daemon's status is the command's");
	is(error, "tallyd: the data directory is in use\n", "and its reason");
	cmp_ok(run_daemon(live_longest), "==", 255, "a message too long");
	cmp_ok((intmax_t)strspn(error + strlen("tallyd: "), "m"), ">", 4000, "is cut");
	cmp_ok(run_daemon(live_death), "==", 1, "a death without a word");
	is(error, "tallyd: it died before it could serve; the log may say why\n", "is said");
	clock_gettime(CLOCK_MONOTONIC, &before);
	cmp_ok(run_daemon(live_death_with_child), "==", 1, "a death beside a living child");
	clock_gettime(CLOCK_MONOTONIC, &after);
	cmp_ok((after.tv_sec - before.tv_sec) * 1000, "<", DEADLINE / 2, "is told at once");
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	unlink(path);
}

/* Not detached: the reason is printed here. */
static void test_foreground(void)
{
	int out[2];
	ssize_t got;
	pid_t child;

	if (pipe2(out, O_CLOEXEC) == -1)
		BAIL_OUT("no pipe");
	child = fork();
	if (child == 0) {
		dup2(out[1], STDERR_FILENO);
		daemonize_failed(1, "no");
		daemonize_ready();
		_exit(0);
	}
	close(out[1]);
	got = read(out[0], error, sizeof(error) - 1);
	error[got > 0 ? got : 0] = '\0';
	close(out[0]);
	waitpid(child, NULL, 0);
	is(error, "tallyd: no\n", "in the foreground the reason is printed");
}

int main(void)
{
	plan(NO_PLAN);
	if (!mkdtemp(directory))
		BAIL_OUT("cannot make a directory in /tmp");
	snprintf(path, sizeof(path), "%s/file", directory);
	test_options();
	test_signal_words();
	test_bad_options();
	test_relative_file();
	test_usage();
	test_pidfile();
	test_pidfile_stale();
	test_pidfile_reused();
	test_pidfile_race();
	test_pidfile_errors();
	test_privileges_find();
	test_privileges_drop();
	test_daemonize();
	test_foreground();
	rmdir(directory);
	return done_testing();
}
