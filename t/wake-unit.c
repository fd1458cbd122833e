/*
 * Waking: no wake-up is lost.  Each side is stopped after each of its instructions while the other
 * one acts (ptrace), which finds every order of theirs; and both run free on as many processors as
 * there are, which finds what processors reorder.
 */
#include <sys/eventfd.h>

#include "../shm/wake.h"
#include "death-step.h"

#define WAKE_ROUNDS  20000
#define LONG_STEP_US 20000 /* a step that takes longer slept */

static struct region *region;
static _Atomic uint64_t *word; /* shared with children */

static struct region_marks *marks(void)
{
	return region_marks(region);
}

static void begin(uint64_t max_accounts)
{
	struct region_geometry geometry = fixture_geometry(max_accounts);

	region = fixture_begun(&geometry, 4096);
	region_enter(region, 0);
	atomic_store(&word[0], 0);
	atomic_store(&word[1], 0);
}

static void end(void)
{
	region_close(region);
}

/* ---- one stopped, the other acts */

static uint32_t sleep_ms;
static uint32_t sleep_step; /* the step that sleeps */
static uint64_t stepped_us;

static void sleep_once(uint32_t slot)
{
	region_enter(region, slot);
	wake_writer_sleep(region, 1, sleep_ms);
}

static void note_sleep(uint32_t n)
{
	uint64_t now = clock_monotonic_us();

	if (n != 0 && sleep_step == 0 && now - stepped_us > LONG_STEP_US &&
	    marks()->writer_sleeps == 1)
		sleep_step = n;
	stepped_us = clock_monotonic_us();
}

/* Lets PID run to its end.  False if it slept as long as it was allowed to. */
static bool ends_soon(pid_t pid)
{
	uint64_t before = clock_monotonic_us();
	bool ended = step_go(pid, PTRACE_CONT) == SIGSTOP;

	step_kill(pid);
	return ended && clock_monotonic_us() - before < (uint64_t)sleep_ms * 900;
}

static void test_sleep_interrupted(void)
{
	struct step_path path;
	uint32_t good = 0;

	begin(64);
	atomic_store(&marks()->tail, 1);
	sleep_ms = 100;
	step_record(&path, sleep_once, 1, note_sleep);
	ok(sleep_step != 0, "the writer sleeps (instruction %u of %u)", sleep_step, path.steps);
	sleep_ms = fixture_deadline() * 1000;
	for (uint32_t n = 0; n < sleep_step; n++) {
		atomic_store(&marks()->tail, 1);
		atomic_store(&marks()->writer_sleeps, 0);
		pid_t pid = step_start(sleep_once, 1);
		bool there = step_to(pid, &path, n);
		atomic_store(&marks()->tail, 2);
		wake_writer(region);
		if (!ends_soon(pid) || !there)
			break;
		good++;
	}
	cmp_ok(good, "==", sleep_step, "a record at any moment before that keeps it awake");
	step_free(&path);
	end();
}

/* word[0]: 1 + what wake_want or wake_due returned. */
static void want_once(uint32_t slot)
{
	region_enter(region, slot);
	atomic_store(&word[0], 1 + (uint64_t)wake_want(region, 1));
}

static void release_once(uint32_t slot)
{
	atomic_store(&marks()->released, 2);
	atomic_store(&word[0], 1 + (uint64_t)wake_due(region, slot, 2));
}

/* Stops OPERATION(1) after each of its instructions, for OTHER to be done.  Is any wish lost? */
static void interleave(void (*operation)(uint32_t slot), bool wants, const char *what)
{
	struct step_path path;
	uint32_t n;

	begin(64);
	atomic_store(&marks()->released, 1);
	step_record(&path, operation, 1, NULL);
	for (n = 0; n <= path.steps; n++) {
		atomic_store(&marks()->released, 1);
		region_reset_slot(region, 1);
		region_enter(region, 1);
		pid_t pid = step_start(operation, 1);
		if (!step_to(pid, &path, n))
			break;
		if (wants)
			atomic_store(&marks()->released, 2);
		bool ours = wants ? wake_due(region, 1, 2) : wake_want(region, 1);
		if (n < path.steps)
			step_go(pid, PTRACE_CONT);
		step_kill(pid);
		bool theirs = atomic_load(&word[0]) == 2;
		if ((wants ? theirs : ours) && !(wants ? ours : theirs))
			break;
	}
	cmp_ok(n, "==", (intmax_t)path.steps + 1, "%s, at each of its instructions", what);
	step_free(&path);
	end();
}

/* ---- both run free */

/* The journal writer of a stress: sleeps until each tail, and says so. */
static int sleep_for_each(void *argument)
{
	(void)argument;
	for (uint64_t round = 1; round <= WAKE_ROUNDS; round++) {
		while (marks()->tail == round - 1) {
			uint64_t before = clock_monotonic_us();
			wake_writer_sleep(region, round - 1, fixture_deadline() * 1000);
			if (clock_monotonic_us() - before > (uint64_t)fixture_deadline() * 900000)
				return 1;
		}
		atomic_store(&word[0], round);
	}
	return 0;
}

static void spin(unsigned times)
{
	for (volatile unsigned i = 0; i < times; i++)
		;
}

static void test_writer_wakes(void)
{
	uint64_t round = 0;

	begin(1);
	atomic_store(&marks()->tail, 0);
	pid_t pid = fixture_fork(sleep_for_each, NULL);
	while (round < WAKE_ROUNDS) {
		spin((unsigned)(round * 7919 % 1000));
		atomic_store(&marks()->tail, ++round);
		wake_writer(region);
		if (!fixture_reaches(&word[0], round))
			break;
	}
	cmp_ok((intmax_t)atomic_load(&word[0]), "==", WAKE_ROUNDS, "the writer is woken each time");
	cmp_ok(fixture_wait(pid), "==", 0, "... and never slept through a wake-up");
	end();
}

static int wake_fd;

/* Wants each round's LSN and is woken for it, or told that it has passed. */
static int want_each(void *argument)
{
	struct pollfd polled = {.fd = wake_fd, .events = POLLIN};
	uint64_t count;

	(void)argument;
	region_enter(region, 1);
	for (uint64_t round = 1; round <= WAKE_ROUNDS; round++) {
		atomic_store(&word[1], round);
		spin((unsigned)(round * 104729 % 1000));
		while (wake_want(region, round)) {
			if (poll(&polled, 1, (int)fixture_deadline() * 900) != 1 ||
			    read(wake_fd, &count, sizeof count) != sizeof count)
				return 1;
			if (marks()->released > round)
				break;
		}
		if (marks()->released <= round)
			return 2;
		atomic_store(&word[0], round);
	}
	return 0;
}

static void test_workers_wake(void)
{
	uint64_t round = 0, one = 1;
	bool wrote = true;

	begin(1);
	wake_fd = eventfd(0, EFD_CLOEXEC);
	atomic_store(&marks()->released, 1);
	pid_t pid = fixture_fork(want_each, NULL);
	while (wrote && round < WAKE_ROUNDS) {
		if (!fixture_reaches(&word[1], ++round))
			break;
		spin((unsigned)(round * 7919 % 1000));
		atomic_store(&marks()->released, round + 1);
		if (wake_due(region, 1, round + 1))
			wrote = write(wake_fd, &one, sizeof one) == sizeof one;
		if (!fixture_reaches(&word[0], round))
			break;
	}
	cmp_ok(fixture_wait(pid), "==", 0, "no worker waits for a wake-up that was lost");
	cmp_ok((intmax_t)atomic_load(&word[0]), "==", WAKE_ROUNDS, "... in %d rounds", WAKE_ROUNDS);
	close(wake_fd);
	end();
}

static void test_wants(void)
{
	begin(1);
	atomic_store(&marks()->released, 100);
	ok(!wake_want(region, 99), "what is released is not waited for");
	ok(!wake_due(region, 0, 1000), "... so no wake-up comes");
	ok(wake_want(region, 100), "the mark itself is not released yet");
	ok(!wake_due(region, 0, 100), "not due at the LSN");
	ok(wake_due(region, 0, 101), "due beyond it");
	ok(!wake_due(region, 0, 102), "once");
	ok(wake_want(region, 200), "a wish");
	region_reset_slot(region, 0);
	ok(!wake_due(region, 0, 1000), "is not the next owner's");
	end();
}

int main(void)
{
	if (getenv("LD_BIND_NOW") == NULL && setenv("LD_BIND_NOW", "1", 1) == 0)
		execl("/proc/self/exe", "wake-unit", (char *)NULL);
	plan(NO_PLAN);
	word = fixture_shared(2 * sizeof *word);
	test_wants();
	if (step_allowed()) {
		test_sleep_interrupted();
		interleave(want_once, true, "a release while a worker says what it wants");
		interleave(release_once, false, "a wish while the writer releases");
	} else {
		skip(4, "ptrace(2) is not allowed here: %s", strerror(errno));
	}
	test_writer_wakes();
	test_workers_wake();
	return done_testing();
}
