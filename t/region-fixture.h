/*
 * Regions for tests: made without a disk, and processes that share them.  A process that hangs is
 * a failure, never a wedge: every wait here has a deadline, scaled by TALLYD_TEST_PATIENCE.
 */
#ifndef TALLYD_T_REGION_FIXTURE_H
#define TALLYD_T_REGION_FIXTURE_H

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "../shm/layout.h"
#include "../src/base/clock.h"
#include "../src/ledger/ledger.h"
#include "../src/ledger/record.h"
#include "tap/tap.h"

#define FIXTURE_DEADLINE_S 10
#define FIXTURE_SEED       UINT64_C(0x5eed)
#define FIXTURE_KEY        UINT64_C(0x6b6579)
#define FIXTURE_SEGMENT    (UINT64_C(1) << 20)
#define FIXTURE_SPACE      (UINT64_C(1) << 40) /* more than any test writes */

#if defined(__SANITIZE_ADDRESS__)
#define FIXTURE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIXTURE_SANITIZED 1
#endif
#endif
#ifndef FIXTURE_SANITIZED
#define FIXTURE_SANITIZED 0
#endif

/* The number in environment variable NAME, or OTHERWISE. */
static inline unsigned fixture_number(const char *name, unsigned otherwise)
{
	const char *text = getenv(name);
	unsigned long number = text != NULL ? strtoul(text, NULL, 10) : 0;

	return number > 0 && number < 1000000 ? (unsigned)number : otherwise;
}

/* Seconds that nothing here may take. */
static inline unsigned fixture_deadline(void)
{
	return FIXTURE_DEADLINE_S * fixture_number("TALLYD_TEST_PATIENCE", 1);
}

static inline struct region_geometry fixture_geometry(uint64_t max_accounts)
{
	return (struct region_geometry){.max_accounts = max_accounts,
	                                .max_ids = REGION_IDS_MIN,
	                                .max_holds = REGION_HOLDS_MIN,
	                                .ring_size = REGION_RING_MIN,
	                                .segment_size = FIXTURE_SEGMENT,
	                                .processes = 4,
	                                .hash_seed = FIXTURE_SEED,
	                                .journal_key = FIXTURE_KEY,
	                                .epoch = 7};
}

/* A name that no other test run uses. */
static inline const char *fixture_name(void)
{
	static char name[64];
	static unsigned count;

	snprintf(name, sizeof name, "/tallyd-test-%ld-%u", (long)getpid(), count++);
	return name;
}

/* A region without a name: it goes when the last process that maps it does.  NULL with errno. */
static inline struct region *fixture_region(const struct region_geometry *geometry)
{
	const char *name = fixture_name();
	struct region *region = region_create(name, geometry);

	if (region != NULL)
		region_unlink(name);
	return region;
}

/* The same, its journal begun at START, in a segment that ends far away; bails out if it cannot. */
static inline struct region *fixture_begun(const struct region_geometry *geometry, uint64_t start)
{
	struct region *region = fixture_region(geometry);

	if (region == NULL)
		BAIL_OUT("cannot make a region: %s", strerror(errno));
	region_begin(region, start, start + FIXTURE_SEGMENT, FIXTURE_SPACE);
	if (!ledger_begin(region, 1))
		BAIL_OUT("the journal takes no record");
	return region;
}

/* The hash of NAME in REGION. */
static inline uint64_t fixture_hash(const struct region *region, const char *name, size_t length)
{
	return XXH3_64bits_withSeed(name, length, region_geometry(region)->hash_seed);
}

static inline uint32_t fixture_stripe(const struct region *region, const char *name)
{
	return table_stripe(region, fixture_hash(region, name, strlen(name)));
}

/* The first name of the form PREFIXn that belongs to STRIPE, into NAME (ACCOUNT_NAME_MAX bytes). */
static inline void fixture_name_in(const struct region *region, uint32_t stripe, const char *prefix,
                                   char *name)
{
	unsigned n = 0;

	do
		snprintf(name, ACCOUNT_NAME_MAX, "%s%u", prefix, n++);
	while (fixture_stripe(region, name) != stripe);
}

/* Memory shared with the processes forked after this; zero. */
static inline void *fixture_shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		BAIL_OUT("mmap: %s", strerror(errno));
	return memory;
}

/*
 * Runs BODY(ARGUMENT) in a child that exits with what it returns, dies with its parent, and is
 * ended by SIGALRM at the deadline.
 */
static inline pid_t fixture_fork(int (*body)(void *argument), void *argument)
{
	pid_t pid = fork();

	if (pid < 0)
		BAIL_OUT("fork: %s", strerror(errno));
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(fixture_deadline());
	_exit(body(argument));
}

/* The exit status of child PID, or minus the signal that ended it. */
static inline int fixture_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			BAIL_OUT("waitpid: %s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline int fixture_run(int (*body)(void *argument), void *argument)
{
	return fixture_wait(fixture_fork(body, argument));
}

/* Waits until *WORD is at least VALUE.  False at the deadline. */
static inline bool fixture_reaches(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t until = clock_monotonic_us() + (uint64_t)fixture_deadline() * 1000000;

	while (atomic_load(word) < value) {
		if (clock_monotonic_us() > until)
			return false;
		sched_yield();
	}
	return true;
}

/* Posts AMOUNT to NAME. */
static inline struct result fixture_post(struct ledger *ledger, const char *name, int64_t amount)
{
	struct request request = {.kind = REQUEST_EVENT, .legs = 1};
	struct result result;

	request.leg[0] = (struct leg){.account = {.bytes = name, .length = (uint32_t)strlen(name)},
	                              .amount = amount};
	ledger_apply(ledger, &request, 1000, &result);
	return result;
}

#endif
