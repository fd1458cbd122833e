#include "tap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TAP_TEXT_MAX 4096 /* bytes of one name or remark; the rest is cut */

#ifdef HAVE_LIBTAP

static bool report(const char *file, int line, bool passed, const char *name)
{
	return ok_at_loc(file, line, passed, "%s", name, NULL) != 0;
}

/* A directive in the name, since libtaps differ in their own word for it. */
static void report_skipped(const char *reason)
{
	ok_at_loc(__FILE__, __LINE__, 1, "# SKIP %s", reason, NULL);
}

/* libtap leaves its lines in stdio, where a fork would double them and a death lose them. */
__attribute__((constructor)) static void flush_every_line(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
}

#else

#define TAP_LINE_MAX (2 * TAP_TEXT_MAX + 64) /* a name with every byte escaped, and the number */

/* On a page shared with forked children, so that their tests get numbers of their own. */
static struct tap_state {
	_Atomic int run;
	_Atomic int failed;
	int planned;
	pid_t owner;
} * state;

static void write_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t written = write(fd, bytes, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			_exit(255); /* nobody reads the result: it cannot be a success */
		bytes += written;
		length -= (size_t)written;
	}
}

/* What a test printed itself must not overtake its verdict. */
static void write_line(int fd, const char *line)
{
	fflush(fd == STDERR_FILENO ? stderr : stdout);
	write_all(fd, line, strlen(line));
}

/* '#' begins a directive and a newline another line: neither may come from a name. */
static void append_name(char *line, size_t capacity, const char *name)
{
	size_t at = strlen(line);
	for (; *name != '\0' && at + 3 < capacity; name++) {
		if (*name == '#' || *name == '\\')
			line[at++] = '\\';
		line[at++] = (unsigned char)*name < ' ' ? ' ' : *name;
	}
	line[at] = '\0';
}

/* exit(0) and a main without a return must not hide a failure. */
static void at_exit(int status, void *unused)
{
	(void)unused;
	if (getpid() != state->owner || status != 0 || exit_status() == 0)
		return;
	fflush(NULL);
	_exit(1);
}

static void start(int planned)
{
	if (state != NULL)
		tap_bail_out("plan() was called after a test or a second time");
	state =
	    mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (state == MAP_FAILED) {
		perror("tap: cannot map the page of the counts");
		_exit(255);
	}
	state->planned = planned;
	state->owner = getpid();
	on_exit(at_exit, NULL);
}

void tap_plan(int count, ...)
{
	char line[TAP_LINE_MAX] = "";
	start(count);
	if (count >= 0) {
		snprintf(line, sizeof(line), "1..%d\n", count);
		write_line(STDOUT_FILENO, line);
	}
	if (count != SKIP_ALL)
		return;
	char reason[TAP_TEXT_MAX] = "";
	va_list arguments;
	va_start(arguments, count);
	const char *format = va_arg(arguments, const char *);
	if (format != NULL)
		vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	snprintf(line, sizeof(line), "1..0 # SKIP ");
	append_name(line, sizeof(line), reason);
	strcat(line, "\n");
	write_line(STDOUT_FILENO, line);
	exit(0);
}

static bool report(const char *file, int line, bool passed, const char *name)
{
	char text[TAP_LINE_MAX];
	if (state == NULL)
		start(NO_PLAN);
	int number = atomic_fetch_add(&state->run, 1) + 1;
	snprintf(text, sizeof(text), "%s %d - ", passed ? "ok" : "not ok", number);
	append_name(text, sizeof(text), name);
	strcat(text, "\n");
	write_line(STDOUT_FILENO, text);
	if (!passed) {
		atomic_fetch_add(&state->failed, 1);
		diag("  Failed test '%s'\n  at %s line %d.", name, file, line);
	}
	return passed;
}

bool tap_ok(const char *file, int line, bool passed, const char *format, ...)
{
	char name[TAP_TEXT_MAX];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(name, sizeof(name), format, arguments);
	va_end(arguments);
	return report(file, line, passed, name);
}

static void show(const char *label, const char *value)
{
	if (value == NULL)
		diag("  %s: NULL", label);
	else
		diag("  %s: '%s'", label, value);
}

bool tap_is(const char *file, int line, bool equal, const char *got, const char *expected,
            const char *format, ...)
{
	char name[TAP_TEXT_MAX];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(name, sizeof(name), format, arguments);
	va_end(arguments);
	bool same = got == NULL || expected == NULL ? got == expected : strcmp(got, expected) == 0;
	if (report(file, line, same == equal, name))
		return true;
	show("     got", got);
	show(equal ? "expected" : "  unwanted", expected);
	return false;
}

static void report_skipped(const char *reason)
{
	char line[TAP_LINE_MAX];
	if (state == NULL)
		start(NO_PLAN);
	int number = atomic_fetch_add(&state->run, 1) + 1;
	snprintf(line, sizeof(line), "ok %d # SKIP ", number);
	append_name(line, sizeof(line), reason);
	strcat(line, "\n");
	write_line(STDOUT_FILENO, line);
}

int diag(const char *format, ...)
{
	char remark[TAP_TEXT_MAX];
	char text[TAP_TEXT_MAX * 3 + 8];
	size_t at = 0;
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(remark, sizeof(remark), format, arguments);
	va_end(arguments);
	for (const char *from = remark; *from != '\0';) {
		size_t length = strcspn(from, "\n");
		text[at++] = '#';
		text[at++] = ' ';
		memcpy(text + at, from, length);
		at += length;
		text[at++] = '\n';
		from += length + (from[length] == '\n');
	}
	text[at] = '\0';
	write_line(STDERR_FILENO, text);
	return 0;
}

int exit_status(void)
{
	if (state == NULL)
		return 1; /* no test at all: nothing was shown */
	if (state->failed > 0)
		return 1;
	return state->planned >= 0 && state->planned != state->run;
}

int done_testing(void)
{
	if (state == NULL)
		start(NO_PLAN);
	if (state->planned == NO_PLAN) {
		char line[32];
		snprintf(line, sizeof(line), "1..%d\n", state->run);
		write_line(STDOUT_FILENO, line);
		state->planned = state->run;
	}
	if (state->planned != state->run)
		diag("Looks like you planned %d tests but ran %d.", state->planned, state->run);
	if (state->failed > 0)
		diag("Looks like you failed %d of %d tests.", state->failed, state->run);
	return exit_status();
}

void tap_bail_out(const char *format, ...)
{
	char reason[TAP_TEXT_MAX];
	char line[TAP_LINE_MAX] = "Bail out!  ";
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	append_name(line, sizeof(line), reason);
	strcat(line, "\n");
	write_line(STDOUT_FILENO, line);
	exit(255);
}

#endif

void tap_skip_tests(unsigned count, const char *format, ...)
{
	char reason[TAP_TEXT_MAX];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	for (; count > 0; count--)
		report_skipped(reason);
}

static bool compare(intmax_t a, const char *operator, intmax_t b)
{
	if (strcmp(operator, "==") == 0)
		return a == b;
	if (strcmp(operator, "!=") == 0)
		return a != b;
	if (strcmp(operator, "<") == 0)
		return a < b;
	if (strcmp(operator, "<=") == 0)
		return a <= b;
	if (strcmp(operator, ">") == 0)
		return a > b;
	if (strcmp(operator, ">=") == 0)
		return a >= b;
	BAIL_OUT("cmp_ok: unknown operator \"%s\"", operator);
	return false;
}

bool tap_cmp_ok(const char *file, int line, intmax_t a, const char *operator, intmax_t b,
                const char *format, ...)
{
	char name[TAP_TEXT_MAX];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(name, sizeof(name), format, arguments);
	va_end(arguments);
	if (report(file, line, compare(a, operator, b), name))
		return true;
	diag("         got: %" PRIdMAX "\n    expected: %s %" PRIdMAX, a, operator, b);
	return false;
}
