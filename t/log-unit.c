/* The log: its line, its targets, its limits. */
#include "../src/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "../src/base/pass.h"
#include "../src/base/system_log.h"
#include "tap/tap.h"

static char directory[] = "/tmp/tallyd-log-XXXXXX";
static char path[128], moved[128];

static const char *read_file(const char *name)
{
	static char text[1 << 20];
	FILE *file = fopen(name, "r");

	text[file ? fread(text, 1, sizeof(text) - 1, file) : 0] = '\0';
	if (file)
		fclose(file);
	return text;
}

/* Starts PATH anew and returns with the log in it. */
static void begin(void)
{
	unlink(path);
	cmp_ok(log_open(path), "==", 0, "the log goes to a file");
}

static bool matches(const char *text, const char *pattern)
{
	regex_t compiled;
	bool found;

	if (regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		BAIL_OUT("bad pattern %s", pattern);
	found = regexec(&compiled, text, 0, NULL, 0) == 0;
	regfree(&compiled);
	return found;
}

static void must_pass(int result)
{
	if (result != 0)
		BAIL_OUT("%s", strerror(errno));
}

static void test_line(void)
{
	char pattern[256];

	begin();
	log_set_role("worker 3");
	log_warning("it is %d", 42);
	snprintf(pattern, sizeof(pattern),
	         "^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z "
	         "tallyd\\[%d\\] worker 3 warning: it is 42\n$",
	         (int)getpid());
	ok(matches(read_file(path), pattern), "a line: %s", read_file(path));
}

static mode_t mode_of(const char *name)
{
	struct stat status;

	return stat(name, &status) == 0 ? status.st_mode & 07777 : 07777;
}

/* As the daemon runs, so that nothing of it is for others. */
static void test_mode(void)
{
	mode_t before = umask(077);

	begin();
	cmp_ok(mode_of(path), "==", 0640, "a new log is for its group to read");
	rename(path, moved);
	cmp_ok(log_reopen(), "==", 0, "reopened");
	cmp_ok(mode_of(path), "==", 0640, "so is the next one");
	chmod(path, 0604);
	cmp_ok(log_reopen(), "==", 0, "reopened where it is");
	cmp_ok(log_open(path), "==", 0, "and opened");
	cmp_ok(mode_of(path), "==", 0604, "what is there keeps its mode");
	cmp_ok(umask(before), "==", 077, "the umask is as it was");
	unlink(moved);
}

/* Opens a link, in a directory of MODE, to a file that is not there; 0, or errno. */
static int open_link(mode_t mode, uid_t owner)
{
	int result;

	chmod(directory, mode);
	unlink(path);
	unlink(moved);
	if (symlink(moved, path) == -1 || lchown(path, owner, (gid_t)-1) == -1)
		BAIL_OUT("cannot make a link in %s", directory);
	result = log_open(path) == 0 ? 0 : errno;
	cmp_ok(access(moved, F_OK), "==", result == 0 ? 0 : -1, "%s file is made behind it",
	       result == 0 ? "a" : "no");
	chmod(directory, 0700);
	unlink(path);
	return result;
}

static void test_link(void)
{
	cmp_ok(open_link(0755, geteuid()), "==", 0, "a link of ours in our directory");
	cmp_ok(mode_of(moved), "==", 0640, "... to a file that has the mode");
	cmp_ok(open_link(01777, geteuid()), "==", 0, "... where others can add names only");
	cmp_ok(open_link(0777, geteuid()), "==", ELOOP, "... where others can put their own");
	cmp_ok(open_link(0770, geteuid()), "==", ELOOP, "... where the group can");
	if (geteuid() == 0) {
		cmp_ok(open_link(0755, 65534), "==", ELOOP, "a link of somebody else's");
		if (chown(directory, 65534, (gid_t)-1) == -1)
			BAIL_OUT("chown: %s", strerror(errno));
		cmp_ok(open_link(0755, 0), "==", ELOOP, "a link in somebody else's directory");
		if (chown(directory, 0, (gid_t)-1) == -1)
			BAIL_OUT("chown: %s", strerror(errno));
	} else {
		skip(4, "only root can give links and directories away");
	}
	unlink(moved);
}

/* time(2) may lag behind the clock that is logged by a tick, over a second's edge. */
static time_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

static void test_time(void)
{
	time_t before = seconds(), at;
	struct tm utc = {0};

	begin();
	setenv("TZ", "Asia/Tokyo", 1);
	tzset();
	log_error("now");
	ok(strptime(read_file(path), "%Y-%m-%dT%H:%M:%S", &utc) != NULL, "a time is read");
	at = timegm(&utc);
	ok(at >= before && at <= seconds(), "it is now, in UTC");
}

static void test_levels(void)
{
	begin();
	log_set_level(LOG_LEVEL_WARNING);
	log_error("E");
	log_warning("W");
	log_notice("N");
	log_info("I");
	ok(matches(read_file(path), "^[^\n]*error: E\n[^\n]*warning: W\n$"), "warning and above");
	log_set_level(LOG_LEVEL_DEBUG);
	begin();
	log_notice("N");
	log_info("I");
	log_debug("D");
	ok(matches(read_file(path), "^[^\n]*notice: N\n[^\n]*info: I\n[^\n]*debug: D\n$"), "all");
	log_set_level(LOG_LEVEL_INFO);
}

static void test_escape(void)
{
	begin();
	log_error("a%cb\r\nc\x7f\t \xc3\xa9 \\", 27);
	ok(strstr(read_file(path), "error: a\\x1bb\\x0d\\x0ac\\x7f\\x09 \xc3\xa9 \\\n"), "%s",
	   read_file(path));
}

static void test_errno(void)
{
	begin();
	errno = ENOSPC;
	log_error("%m");
	cmp_ok(errno, "==", ENOSPC, "errno is kept");
	ok(strstr(read_file(path), "No space left"), "and %%m is what it was");
}

/* The disk is full: the line is lost, and nobody's errno with it. */
static void test_full(void)
{
	cmp_ok(log_open("/dev/full"), "==", 0, "the log goes to a full disk");
	errno = EDOM;
	log_error("lost");
	cmp_ok(errno, "==", EDOM, "errno is kept though the write failed");
}

/* A process that opened the file itself writes behind the others, as after a reopen. */
static void test_append(void)
{
	begin();
	log_error("first");
	if (fork() == 0) {
		log_open(path);
		log_error("second");
		_exit(0);
	}
	wait(NULL);
	log_error("third");
	ok(matches(read_file(path), "first\n.*second\n.*third\n$"), "all lines are appended");
}

static void test_longest(void)
{
	static char message[8192];

	memset(message, '\n', sizeof(message) - 1);
	begin();
	log_error("%.2047s", message);
	ok(matches(read_file(path), "error: (\\\\x0a)+\n$"), "2047 bytes are not cut");
	cmp_ok((intmax_t)(strlen(strchr(read_file(path), '\\')) - 1), "==", 4 * 2047,
	       "all are shown, at their longest");
	begin();
	log_error("%.2048s", message);
	ok(matches(read_file(path), "\\\\x0a \\[cut\\]\n$"), "2048 bytes are cut");
}

static void test_json(void)
{
	char pattern[256];

	begin();
	log_set_format(LOG_FORMAT_JSON);
	log_set_role("worker 3");
	log_warning("it is %d", 42);
	snprintf(
	    pattern, sizeof(pattern),
	    "^[{]\"time\":\"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z\","
	    "\"level\":\"warning\",\"role\":\"worker 3\",\"pid\":%d,\"message\":\"it is 42\"[}]\n$",
	    (int)getpid());
	ok(matches(read_file(path), pattern), "a line of JSON: %s", read_file(path));
	begin();
	log_error("a%cb\r\nc\x7f\t \xc3\xa9 \\ \"q\" \xf0\x9f\x98\x80", 27);
	ok(strstr(read_file(path), "\"message\":\"a\\u001bb\\u000d\\u000ac\x7f\\u0009 \xc3\xa9 "
	                           "\\\\ \\\"q\\\" \xf0\x9f\x98\x80\"}\n"),
	   "escaped as RFC 8259 has it: %s", read_file(path));
	begin();
	log_error("%s", "\xff \xc0\xaf \xe0\x80\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xf5 \xc3");
	ok(strstr(
	       read_file(path),
	       "\"message\":\"\\ufffd \\ufffd\\ufffd \\ufffd\\ufffd\\ufffd \\ufffd\\ufffd\\ufffd "
	       "\\ufffd\\ufffd\\ufffd\\ufffd \\ufffd \\ufffd\"}\n"),
	   "what is no UTF-8 is replaced: %s", read_file(path));
	log_set_role("master");
}

static void test_longest_json(void)
{
	static char message[8192];

	memset(message, '\n', sizeof(message) - 1);
	log_set_role("\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n");
	begin();
	log_error("%.2047s", message);
	ok(matches(read_file(path), "\"message\":\"(\\\\u000a)+\"[}]\n$"),
	   "2047 bytes are not cut");
	begin();
	log_error("%.2048s", message);
	ok(matches(read_file(path), "\\\\u000a \\[cut\\]\"[}]\n$"), "2048 bytes are cut");
	log_set_role("master");
	log_set_format(LOG_FORMAT_TEXT);
}

static void test_role(void)
{
	begin();
	log_set_role("0123456789012345678901234567890123456789");
	log_error("x");
	ok(strstr(read_file(path), " 0123456789012345678901234567890 error: x"),
	   "31 bytes of role");
	log_set_role("master");
}

static void test_targets(void)
{
	char longest[5000];

	begin();
	errno = 0;
	cmp_ok(log_open("/nonexistent/log"), "==", -1, "no directory");
	cmp_ok(errno, "==", ENOENT, "errno says so");
	cmp_ok(log_open("relative"), "==", -1, "a relative path");
	cmp_ok(errno, "==", EINVAL, "errno says so");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	cmp_ok(log_open(longest), "==", -1, "a path too long");
	cmp_ok(errno, "==", ENAMETOOLONG, "errno says so");
	log_error("still here");
	ok(strstr(read_file(path), "still here"), "the old target stays in use");
	cmp_ok(log_open("syslog"), "==", 0, "syslog");
	log_debug("nothing that anybody should see");
	cmp_ok(log_reopen(), "==", 0, "which is not reopened");
	cmp_ok(log_open("stderr"), "==", 0, "stderr");
	cmp_ok(log_reopen(), "==", 0, "which is not reopened either");
}

static void test_stderr(void)
{
	int saved = dup(STDERR_FILENO);
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	log_open("stderr");
	dup2(file, STDERR_FILENO);
	log_error("on stderr");
	dup2(saved, STDERR_FILENO);
	close(file);
	close(saved);
	ok(strstr(read_file(path), "error: on stderr\n"), "a line on stderr");
}

static void test_reopen(void)
{
	begin();
	log_error("first");
	rename(path, moved);
	log_error("second");
	cmp_ok(log_reopen(), "==", 0, "reopened");
	log_error("third");
	ok(matches(read_file(moved), "first\n.*second\n$"), "the moved file has two lines");
	ok(matches(read_file(path), "^[^\n]*third\n$"), "the new one the third");
	unlink(path);
	rmdir(path);
	mkdir(path, 0700);
	cmp_ok(log_reopen(), "==", -1, "it cannot be reopened");
	rmdir(path);
	unlink(moved);
}

/* Another process opens the file, and this one takes it. */
static void test_adopt(void)
{
	struct rlimit limit, few;
	int ends[2];
	char what = 0;

	begin();
	log_error("first");
	rename(path, moved);
	must_pass(pass_pair(ends));
	cmp_ok(pass_take(ends[1], &what), "==", -1, "nothing was sent");
	cmp_ok(errno, "==", EAGAIN, "errno says so");
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	must_pass(pass_send(ends[0], 'L', fd));
	close(fd);
	fd = pass_take(ends[1], &what);
	ok(fd >= 0 && what == 'L', "a descriptor was taken");
	ok((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "close-on-exec");
	cmp_ok(log_adopt(fd), "==", 0, "it is the log's");
	log_error("second");
	ok(matches(read_file(moved), "first\n$"), "the moved file has one line");
	ok(matches(read_file(path), "^[^\n]*second\n$"), "the new one the next");
	cmp_ok(log_file(), ">=", 0, "there is a file");

	getrlimit(RLIMIT_NOFILE, &limit);
	must_pass(pass_send(ends[0], 'L', log_file()));
	must_pass(pass_send(ends[0], 'A', log_file()));
	few = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
	setrlimit(RLIMIT_NOFILE, &few);
	cmp_ok(pass_take(ends[1], &what), "==", -1, "without a descriptor left");
	cmp_ok(errno, "==", EBADMSG, "errno says so");
	setrlimit(RLIMIT_NOFILE, &limit);
	fd = pass_take(ends[1], &what);
	ok(fd >= 0 && what == 'A', "the next one is taken again");

	log_open("stderr");
	cmp_ok(log_file(), "==", -1, "stderr is no file of the log's");
	cmp_ok(log_adopt(fd), "==", 0, "which takes none");
	ok(fcntl(fd, F_GETFD) == -1 && errno == EBADF, "but closes it");
	int sent = 0;
	while (pass_send(ends[0], 'L', STDERR_FILENO) == 0 && sent < 100000)
		sent++;
	ok((errno == EAGAIN || errno == ETOOMANYREFS) && sent > 0,
	   "who takes nothing is not waited for: %d were sent", sent);
	close(ends[0]);
	while ((fd = pass_take(ends[1], &what)) >= 0)
		close(fd);
	cmp_ok(errno, "==", ECONNRESET, "the other side is gone");
	close(ends[1]);
	unlink(moved);
}

/* syslog's service, which comes and goes. */
static void test_system_log(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int client = system_log_open();
	char text[16384];

	snprintf(address.sun_path, sizeof address.sun_path, "%s/syslog", directory);
	for (int i = 0; i < 2; i++) {
		system_log_send(client, address.sun_path, LOG_ERR, "to nobody");
		int service = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		must_pass(bind(service, (struct sockaddr *)&address, sizeof address));
		system_log_send(client, address.sun_path, LOG_ERR, "worker 1 error: text");
		ssize_t got = recv(service, text, sizeof text - 1, 0);
		text[got > 0 ? got : 0] = '\0';
		ok(matches(text, "^<27>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} tallyd\\[[0-9]+\\]: "
		                 "worker 1 error: text$"),
		   "a line of RFC 3164: %s", text);
		close(service);
		unlink(address.sun_path);
	}
	close(client);
}

/* Lines of several processes stay whole. */
static void test_processes(void)
{
	const char *text;
	int lines = 0;
	bool whole = true;

	begin();
	for (int i = 0; i < 4; i++) {
		if (fork() != 0)
			continue;
		for (int n = 0; n < 200; n++)
			log_info("%01000d", n);
		_exit(0);
	}
	while (wait(NULL) > 0)
		continue;
	text = read_file(path);
	for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1, lines++)
		whole = whole && end - text > 1000 && end - text < 1100;
	ok(whole, "no line is mixed with another");
	cmp_ok(lines, "==", 800, "and none is lost");
}

static void test_limited(void)
{
	struct log_limit limit = {0};
	uint64_t count = 0;

	ok(log_limited(&limit, 100.0, &count), "the first is logged");
	cmp_ok((intmax_t)count, "==", 1, "alone");
	ok(!log_limited(&limit, 100.1, &count), "the second is not");
	ok(!log_limited(&limit, 109.9, &count), "nor the third");
	ok(log_limited(&limit, 100.0 + LOG_LIMIT_PERIOD, &count), "a period later one is");
	cmp_ok((intmax_t)count, "==", 3, "with those since");
	ok(!log_limited(&limit, 111.0, &count), "and the next waits again");
}

int main(void)
{
	plan(NO_PLAN);
	if (!mkdtemp(directory))
		BAIL_OUT("cannot make a directory in /tmp");
	snprintf(path, sizeof(path), "%s/log", directory);
	snprintf(moved, sizeof(moved), "%s/log.1", directory);
	test_line();
	test_mode();
	test_link();
	test_time();
	test_levels();
	test_escape();
	test_errno();
	test_full();
	test_append();
	test_longest();
	test_json();
	test_longest_json();
	test_role();
	test_targets();
	test_stderr();
	test_reopen();
	test_adopt();
	test_system_log();
	test_processes();
	test_limited();
	log_open("stderr");
	unlink(path);
	rmdir(directory);
	return done_testing();
}
