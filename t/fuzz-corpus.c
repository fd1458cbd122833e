/*
 * Every fuzz target over its seeds and its committed inputs, without a fuzzer: what was found once
 * stays fixed.  Each target runs in a process of its own, so that a promise that is broken is one
 * failed test that names the input.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "tap/tap.h"

#define SECONDS 30 /* that a target may take: none of them loops */

#define FUZZ_TARGET(name) extern const struct fuzz_target fuzz_##name;
#include "fuzz/targets.h"
#undef FUZZ_TARGET

static const struct fuzz_target *const targets[] = {
#define FUZZ_TARGET(name) &fuzz_##name,
#include "fuzz/targets.h"
#undef FUZZ_TARGET
};
#define TARGETS (sizeof targets / sizeof *targets)

uint8_t fuzz_marks[FUZZ_MARKS]; /* for a fuzzer only */

/* Where a target is; the parent reads it when the child has ended. */
static struct progress {
	size_t inputs;
	char input[300];
} * progress;

static const struct fuzz_target *current;

static void judge(const void *bytes, size_t length)
{
	progress->inputs++;
	if (length > current->length_max)
		return;
	/* Of just its size, so that reading beyond it is seen. */
	void *copy = fuzz_copy(bytes, length);
	current->judge(copy, length);
	free(copy);
}

static void judge_seed(const void *bytes, size_t length)
{
	snprintf(progress->input, sizeof progress->input, "seed %zu", progress->inputs);
	judge(bytes, length);
}

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void judge_committed(void)
{
	char name[200], path[4096];
	struct dirent **entry;

	snprintf(name, sizeof name, "t/fuzz/corpus/%s", current->name);
	fuzz_path(name, path, sizeof path);
	int count = scandir(path, &entry, is_input, alphasort);

	for (int i = 0; i < count; i++) {
		char file[500];
		size_t length;

		snprintf(file, sizeof file, "%s/%s", name, entry[i]->d_name);
		snprintf(progress->input, sizeof progress->input, "%.290s", file);
		char *bytes = fuzz_source(file, &length);
		judge(bytes, length);
		free(bytes);
		free(entry[i]);
	}
	if (count >= 0)
		free(entry);
}

static unsigned patience(void)
{
	const char *text = getenv("TALLYD_TEST_PATIENCE");
	int factor = text != NULL ? atoi(text) : 1;

	return factor > 0 ? (unsigned)factor : 1;
}

/* Runs TARGET over all of its inputs, with what it complains about on COMPLAINTS; its wait status.
 */
static int run(const struct fuzz_target *target, int complaints)
{
	int status;
	pid_t pid;

	current = target;
	memset(progress, 0, sizeof *progress);
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		BAIL_OUT("fork: %s", strerror(errno));
	if (pid == 0) {
		alarm(SECONDS * patience());
		dup2(complaints, STDERR_FILENO);
		target->seeds(judge_seed);
		judge_committed();
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			BAIL_OUT("waitpid: %s", strerror(errno));
	return status;
}

/* ---- a target of which it is known what it does */

static void judge_word(const uint8_t *bytes, size_t length)
{
	FUZZ_HOLDS(length != 5 || memcmp(bytes, "break", 5) != 0, "as it should be");
}

static void seeds_good(fuzz_take *take)
{
	take("", 0);
	take("bend", 4);
}

static void seeds_bad(fuzz_take *take)
{
	seeds_good(take);
	take("break", 5);
}

static const struct fuzz_target good = {
    .name = "none", .length_max = 5, .judge = judge_word, .seeds = seeds_good};
static const struct fuzz_target bad = {
    .name = "none", .length_max = 5, .judge = judge_word, .seeds = seeds_bad};

static void test_ourselves(void)
{
	int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

	ok(run(&good, STDERR_FILENO) == 0 && progress->inputs == 2,
	   "a target whose promise holds passes");
	ok(WIFSIGNALED(run(&bad, nowhere)), "one whose promise is broken does not");
	is(progress->input, "seed 2", "and the input is named");
	close(nowhere);
}

int main(void)
{
	plan(NO_PLAN);
	progress =
	    mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED)
		BAIL_OUT("mmap: %s", strerror(errno));
	test_ourselves();
	for (size_t i = 0; i < TARGETS; i++) {
		int status = run(targets[i], STDERR_FILENO);

		if (!ok(status == 0, "%s: %zu inputs", targets[i]->name, progress->inputs))
			diag("%s with %s",
			     WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit",
			     progress->input);
		cmp_ok((intmax_t)progress->inputs, ">=", 5, "%s has inputs", targets[i]->name);
	}
	return done_testing();
}
