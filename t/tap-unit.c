/*
 * The tests' own tool: each verdict of t/tap/ in a forked child whose output is
 * read back, since a test of failing cannot fail here.
 */
#include "tap/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX 32768 /* bytes of a child's output that are kept */
#define HUGE_NAME  6000  /* bytes: more than tap keeps of a name */

static char output[OUTPUT_MAX];

static void read_all(int fd)
{
	size_t length = 0;
	ssize_t got;
	while ((got = read(fd, output + length, sizeof(output) - 1 - length)) > 0)
		length += (size_t)got;
	output[length] = '\0';
}

/* Runs CASE as another test program: this one, begun again.  Returns its exit status. */
static int run_case(const char *name)
{
	int ends[2];
	int status;
	if (pipe(ends) != 0)
		BAIL_OUT("pipe failed");
	pid_t child = fork();
	if (child < 0)
		BAIL_OUT("fork failed");
	if (child == 0) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		execl("/proc/self/exe", "tap-unit", name, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	read_all(ends[0]);
	close(ends[0]);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int case_pass(void)
{
	plan(7);
	ok(1 == 1, "a %s", "name");
	is("a", "a", "is");
	is(NULL, NULL, "is NULL");
	isnt("a", "b", "isnt");
	isnt("a", NULL, "isnt NULL");
	cmp_ok(INTMAX_MIN, "<", INTMAX_MAX, "the whole range");
	pass("pass");
	return done_testing();
}

static int case_fail(void)
{
	plan(NO_PLAN);
	is("got this", "not that", "differs");
	cmp_ok(INT64_C(5000000000), "==", INT64_C(705032704), "the same in 32 bits");
	fail("fail");
	return done_testing();
}

/* main ends without the verdict. */
static int case_forgotten(void)
{
	plan(1);
	fail("fail");
	return 0;
}

static int case_too_few(void)
{
	plan(2);
	pass("one");
	return done_testing();
}

static int case_no_end(void)
{
	plan(NO_PLAN);
	pass("one");
	return 0;
}

static int case_names(void)
{
	char huge[HUGE_NAME + 1];
	memset(huge, '#', HUGE_NAME);
	huge[HUGE_NAME] = '\0';
	plan(NO_PLAN);
	pass("# SKIP not\nok");
	pass("%s", huge);
	diag("one\ntwo");
	return done_testing();
}

static int case_skip(void)
{
	plan(NO_PLAN);
	skip(2, "no %s", "root");
	return done_testing();
}

static int case_skip_all(void)
{
	plan(SKIP_ALL, "no disk");
	return 1;
}

static int case_bail_out(void)
{
	plan(NO_PLAN);
	BAIL_OUT("the %s broke", "disk");
	return 1;
}

static int case_operator(void)
{
	plan(NO_PLAN);
	cmp_ok(1, "=", 1, "no such operator");
	return done_testing();
}

static int case_fork(void)
{
	int status;
	plan(NO_PLAN);
	pass("parent");
	if (fork() == 0) {
		fail("child");
		exit(0);
	}
	wait(&status);
	pass("parent again");
	return done_testing();
}

static const struct {
	const char *name;
	int (*run)(void);
} cases[] = {
    {"pass", case_pass},         {"fail", case_fail},         {"forgotten", case_forgotten},
    {"too few", case_too_few},   {"no end", case_no_end},     {"names", case_names},
    {"skip", case_skip},         {"skip all", case_skip_all}, {"bail out", case_bail_out},
    {"operator", case_operator}, {"fork", case_fork},
};

static int run_as(const char *name)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (strcmp(cases[i].name, name) == 0)
			return cases[i].run();
	return 127;
}

/* The beginning of TEXT without what means something in TAP: libtap prints names as they are. */
static const char *plain(const char *text)
{
	static char shown[61];
	snprintf(shown, sizeof(shown), "%s", text);
	for (char *c = shown; *c != '\0'; c++)
		if (*c == '\n' || *c == '#')
			*c = ' ';
	return shown;
}

static void says(const char *text)
{
	if (!ok(strstr(output, text) != NULL, "... it says \"%s\"", plain(text)))
		diag("it said:\n%.2000s", output);
}

static void says_not(const char *text)
{
	ok(strstr(output, text) == NULL, "... it does not say \"%s\"", plain(text));
}

static void test_verdicts(void)
{
	cmp_ok(run_case("pass"), "==", 0, "a test that passes exits 0");
	says("1..7\nok 1 - a name\nok 2 - is\n");
	says("ok 7 - pass\n");
	says_not("not ok");
	cmp_ok(run_case("fail"), "!=", 0, "a test that fails does not exit 0");
	says("not ok 1 - differs\n");
	says("got: 'got this'");
	says("expected: 'not that'");
	says("not ok 2 - the same in 32 bits\n");
	says("not ok 3 - fail\n");
	says("1..3\n");
	says("tap-unit.c line");
}

static void test_ends(void)
{
	cmp_ok(run_case("too few"), "!=", 0, "fewer tests than planned is a failure");
	says("1..2\nok 1");
	cmp_ok(run_case("no end"), "==", 0, "without done_testing");
	says_not("1..");
#ifndef HAVE_LIBTAP
	cmp_ok(run_case("forgotten"), "!=", 0, "a failure counts even if main returns 0");
#endif
}

static void test_words(void)
{
	cmp_ok(run_case("skip"), "==", 0, "skipped tests are no failure");
	says("ok 1");
	says("# SKIP no root\n");
	says("1..2\n");
	cmp_ok(run_case("skip all"), "==", 0, "a test may skip itself");
	says("1..0 # ");
	says("no disk\n");
	cmp_ok(run_case("bail out"), "==", 255, "BAIL_OUT exits 255");
	says("Bail out!  the disk broke\n");
	cmp_ok(run_case("operator"), "==", 255, "an unknown operator is not a verdict");
}

/* Promises of t/tap/ that libtap does not make. */
static void test_ours(void)
{
#ifndef HAVE_LIBTAP
	cmp_ok(run_case("names"), "==", 0, "strange names");
	says("ok 1 - \\# SKIP not ok\nok 2 - \\#\\#");
	says("# one\n# two\n");
	cmp_ok(run_case("fork"), "!=", 0, "a failure in a child counts");
	says("ok 1 - parent\nnot ok 2 - child\n");
	says("ok 3 - parent again\n1..3\n");
#endif
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return run_as(argv[1]);
	plan(NO_PLAN);
	test_verdicts();
	test_ends();
	test_words();
	test_ours();
	return done_testing();
}
