/* tallyctl snapshot: asks the running daemon for one, and waits for it. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "../ledger/snapshot_format.h"
#include "command.h"
#include "json_out.h"
#include "place.h"
#include "words.h"

#define POLL_MS        20
#define RENEWED_EVERY  25 /* polls between two looks at whether the region is the daemon's still */
#define PATIENCE_S     300
#define PATIENCE_MAX_S 86400.0

static const struct command_option options[] = {
    {'t', "timeout", "SECONDS", "how long to wait for it (default: 300)"},
    {0},
};

/* The daemon that was asked. */
struct asked {
	const struct session *session;
	struct region *region;
	int process;     /* a pidfd */
	uint64_t number; /* of the first snapshot that begins from now on */
	uint64_t patience_us;
};

static int ended_meanwhile(const struct asked *asked)
{
	return command_fail(asked->session, COMMAND_FAILED,
	                    "%s: tallyd ended before the snapshot was there: see its log",
	                    asked->session->data);
}

static int open_process(const struct session *session, long pid, int *process)
{
	*process = pidfd_open((pid_t)pid, 0);
	if (*process >= 0)
		return COMMAND_DONE;
	if (errno == ESRCH)
		return command_fail(session, COMMAND_NOT_RUNNING,
		                    "%s: tallyd does not run on this data directory",
		                    session->data);
	return command_fail(session, COMMAND_FAILED, "process %ld: %s", pid, strerror(errno));
}

/*
 * A daemon of another version may not know the signal, and die of it: but its region is of another
 * version, too, and was not mapped then.
 */
static int ask(struct asked *asked, long pid)
{
	const struct session *session = asked->session;
	long now;

	/* Of the process that the descriptor means, not of one that got its number later. */
	int status = place_running(session, &now);
	if (status != COMMAND_DONE)
		return status;
	if (now != pid)
		return ended_meanwhile(asked);
	asked->number = atomic_load(&region_snapshots(asked->region)->begun) + 1;
	if (pidfd_send_signal(asked->process, SIGUSR2, NULL, 0) == 0)
		return COMMAND_DONE;
	if (errno == EPERM)
		return command_fail(session, COMMAND_DENIED,
		                    "process %ld may not be signalled: %s; do it as root, or as "
		                    "whoever started tallyd",
		                    pid, strerror(errno));
	return errno == ESRCH
	           ? ended_meanwhile(asked)
	           : command_fail(session, COMMAND_FAILED, "process %ld: %s", pid, strerror(errno));
}

static bool is_over(const struct asked *asked)
{
	return atomic_load(&region_snapshots(asked->region)->ended) >= asked->number;
}

/* A region that was poisoned is made anew, with the count of snapshots from the beginning. */
static bool is_renewed(const struct asked *asked)
{
	char error[COMMAND_MESSAGE_SIZE];
	int status;
	struct region *now = place_region(asked->session->data, &status, error);

	if (now == NULL)
		return status == COMMAND_NOT_RUNNING;
	bool renewed = region_geometry(now)->epoch != region_geometry(asked->region)->epoch;
	region_close(now);
	return renewed;
}

static int too_slow(const struct asked *asked)
{
	bool begun = atomic_load(&region_snapshots(asked->region)->begun) >= asked->number;
	char text[WORDS_SIZE];

	return command_fail(asked->session, COMMAND_TIMED_OUT,
	                    "the snapshot is not there after %s: %s",
	                    words_span(asked->patience_us, text),
	                    begun ? "it is still being written, and will be kept if it gets done"
	                          : "tallyd has not begun it: see tallyctl status");
}

static int wait_for(const struct asked *asked)
{
	struct pollfd process = {.fd = asked->process, .events = POLLIN};
	uint64_t until = clock_monotonic_us() + asked->patience_us;

	for (unsigned i = 1; !is_over(asked); i++) {
		if (poll(&process, 1, POLL_MS) > 0 && !is_over(asked))
			return ended_meanwhile(asked);
		if (clock_monotonic_us() > until && !is_over(asked))
			return too_slow(asked);
		if (i % RENEWED_EVERY == 0 && is_renewed(asked))
			return command_fail(asked->session, COMMAND_FAILED,
			                    "tallyd has made its shared memory anew meanwhile: see "
			                    "its log, then ask again");
	}
	/* A later one that was written has everything that this one would have had. */
	if (atomic_load(&region_snapshots(asked->region)->good) >= asked->number)
		return COMMAND_DONE;
	return command_fail(asked->session, COMMAND_FAILED,
	                    "%s: tallyd could not write the snapshot: see its log",
	                    asked->session->data);
}

static int report(const struct asked *asked)
{
	const struct region_snapshots *told = region_snapshots(asked->region);
	const struct session *session = asked->session;
	struct json_out out = {.stream = stdout};
	char path[PLACE_PATH_MAX];
	char name[64];
	struct stat status = {0};
	char bytes[WORDS_SIZE], span[WORDS_SIZE];
	uint64_t start = atomic_load(&told->start);
	uint64_t took = atomic_load(&told->took_us);

	snprintf(name, sizeof name, "snapshots/" SNAPSHOT_NAME, start);
	int result = place_below(session, name, path);
	if (result != COMMAND_DONE)
		return result;
	bool seen = stat(path, &status) == 0;
	if (session->json) {
		json_out_open(&out, NULL, '{');
		json_out_text(&out, "status", "done");
		json_out_text(&out, "file", path);
		json_out_count(&out, "lsn", start);
		if (seen)
			json_out_count(&out, "bytes", (uint64_t)status.st_size);
		json_out_real(&out, "seconds", (double)took / 1e6);
		json_out_close(&out, '}');
		json_out_end(&out);
	} else {
		printf("%s: position %" PRIu64 ", %s, written in %s\n", path, start,
		       seen ? words_bytes((uint64_t)status.st_size, bytes)
		            : "replaced by newer ones already",
		       words_span(took, span));
	}
	return COMMAND_DONE;
}

static int snapshot_of(struct asked *asked, long pid)
{
	int status = open_process(asked->session, pid, &asked->process);

	if (status != COMMAND_DONE)
		return status;
	status = ask(asked, pid);
	if (status == COMMAND_DONE)
		status = wait_for(asked);
	if (status == COMMAND_DONE)
		status = report(asked);
	close(asked->process);
	return status;
}

static int snapshot(const struct session *session, int operands, char **operand)
{
	struct asked asked = {.session = session, .patience_us = PATIENCE_S * UINT64_C(1000000)};
	char error[COMMAND_MESSAGE_SIZE];
	long pid;
	int status = command_seconds(session, 't', 0.001, PATIENCE_MAX_S, &asked.patience_us);

	(void)operands;
	(void)operand;
	if (status == COMMAND_DONE)
		status = place_running(session, &pid);
	if (status != COMMAND_DONE)
		return status;
	asked.region = place_region(session->data, &status, error);
	if (asked.region == NULL)
		return command_fail(session, status, "%s", error);
	status = snapshot_of(&asked, pid);
	region_close(asked.region);
	return status;
}

const struct command command_snapshot = {
    .word = {"snapshot"},
    .operands = "",
    .summary = "have the daemon write a snapshot now, and wait for it",
    .options = options,
    .run = snapshot,
};
