/*
 * Single-stepping a child with ptrace(2) and killing it at a given instruction.
 *
 * A single step costs tens of microseconds on a virtual machine, so the way to instruction N is
 * not stepped from the beginning for each N: the operation is stepped once, its path recorded,
 * and later runs go by breakpoint to the recorded instruction nearest before N, and step the
 * rest.  Every run must arrive where the path says, or it counts as a failure.
 */
#ifndef TALLYD_T_DEATH_STEP_H
#define TALLYD_T_DEATH_STEP_H

#include <alloca.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "region-fixture.h"

#define STEP_PATH_MAX 400000 /* instructions of one operation, sanitizers included */
#define STEP_MAP_SIZE (1U << 20)
#define STEP_STACK    65536 /* bytes by which its callers' stacks may differ */
#define STEP_LAST     4     /* instructions about the closing marker's system call */

/* The path of an operation: AT[n] is the address of the instruction that is next after n steps. */
struct step_path {
	uint32_t steps; /* the operation ends with this one */
	uint64_t *at;   /* steps + 1 of them */
	uint32_t *seen; /* how often AT[n] stands before n */
};

/* May we trace our children?  A sandbox may forbid it: errno says why. */
static inline int step_try(void *ignored)
{
	(void)ignored;
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : errno;
}

static inline bool step_allowed(void)
{
	errno = fixture_run(step_try, NULL);
	return errno == 0;
}

/* Says to the tracer: here it begins, here it ends. */
static inline void step_marker(void)
{
	syscall(SYS_kill, getpid(), SIGSTOP);
}

/* One copy of the code, whoever calls it: else the paths of its callers' children would differ. */
#ifdef __clang__
#define STEP_ONE_COPY __attribute__((noinline))
#else
#define STEP_ONE_COPY __attribute__((noipa))
#endif

static STEP_ONE_COPY void step_live(void (*operation)(uint32_t slot), uint32_t slot)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	step_marker();
	operation(slot);
	step_marker();
	_exit(0);
}

/*
 * Forks a child that runs OPERATION(SLOT) between two markers; returns it stopped at the first.
 * Its stack begins at the same address whoever calls: copying goes another way by how source and
 * target lie to each other.
 */
static STEP_ONE_COPY pid_t step_start(void (*operation)(uint32_t slot), uint32_t slot)
{
	static uintptr_t beginning;
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	int status;

	if (beginning == 0)
		beginning = here - STEP_STACK;
	pid_t pid = fork();
	if (pid == 0) {
		volatile char *unused = alloca(here - beginning);
		unused[0] = 0;
		step_live(operation, slot);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		BAIL_OUT("cannot trace a child: %s", strerror(errno));
	return pid;
}

static inline void step_kill(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) == pid && !WIFSIGNALED(status) && !WIFEXITED(status))
		;
}

/* Lets PID go on by REQUEST until its next stop, and returns the signal of that: SIGTRAP. */
static inline int step_go(pid_t pid, int request)
{
	int status;

	if (ptrace((enum __ptrace_request)request, pid, NULL, NULL) != 0 ||
	    waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return 0;
	return WSTOPSIG(status);
}

#if defined(__x86_64__)

#define STEP_COUNTER offsetof(struct user_regs_struct, rip)

static inline uint64_t step_address(pid_t pid)
{
	return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, STEP_COUNTER, NULL);
}

/*
 * Sets a breakpoint at ADDRESS of PID, or takes it back.  The text there is ours too: PID is a
 * fork.
 */
static inline void step_breakpoint(pid_t pid, uint64_t address, bool set)
{
	uint64_t aligned = address & ~UINT64_C(7);
	unsigned shift = (unsigned)(address - aligned) * 8;
	uint64_t word;

	memcpy(&word, (const void *)(uintptr_t)aligned, sizeof word);
	if (set)
		word = (word & ~(UINT64_C(0xff) << shift)) | UINT64_C(0xcc) << shift;
	ptrace(PTRACE_POKETEXT, pid, aligned, word);
}

/* Runs PID to ADDRESS for the time TIMES + 1. */
static inline bool step_run_to(pid_t pid, uint64_t address, uint32_t times)
{
	for (;;) {
		step_breakpoint(pid, address, true);
		if (step_go(pid, PTRACE_CONT) != SIGTRAP)
			return false;
		step_breakpoint(pid, address, false);
		ptrace(PTRACE_POKEUSER, pid, STEP_COUNTER, address);
		if (times-- == 0)
			return true;
		if (step_go(pid, PTRACE_SINGLESTEP) != SIGTRAP)
			return false;
	}
}

/*
 * The recorded instruction from which step N is reached with the fewest stops.  Not one of the
 * last: the signal of the closing marker would come before the breakpoint.
 */
static inline uint32_t step_shortcut(const struct step_path *path, uint32_t n)
{
	uint32_t last = path->steps > STEP_LAST ? path->steps - STEP_LAST : 0;
	uint32_t best = 0;
	uint64_t least = n;

	for (uint32_t k = n < last ? n : last; k > 0 && n - k < least; k--) {
		uint64_t cost = 1 + 2 * (uint64_t)path->seen[k] + (n - k);
		if (cost < least) {
			least = cost;
			best = k;
		}
	}
	return best;
}

#else

static inline uint64_t step_address(pid_t pid)
{
	(void)pid;
	return 0;
}

static inline bool step_run_to(pid_t pid, uint64_t address, uint32_t times)
{
	(void)pid, (void)address, (void)times;
	return true;
}

static inline uint32_t step_shortcut(const struct step_path *path, uint32_t n)
{
	(void)path, (void)n;
	return 0;
}

#endif

/* Brings PID, just started, to where N steps of PATH are done.  False: it went another way. */
static inline bool step_to(pid_t pid, const struct step_path *path, uint32_t n)
{
	uint32_t done = step_shortcut(path, n);

	if (done != 0 && !step_run_to(pid, path->at[done], path->seen[done]))
		return false;
	for (; done < n; done++)
		if (step_go(pid, PTRACE_SINGLESTEP) != (done + 1 < path->steps ? SIGTRAP : SIGSTOP))
			return false;
	return step_address(pid) == path->at[n];
}

static inline void step_free(struct step_path *path)
{
	free(path->at);
	free(path->seen);
	*path = (struct step_path){0};
}

/* How often each address was met: open addressing. */
static inline uint32_t step_count(uint64_t *address, uint32_t *count, uint64_t wanted)
{
	uint32_t at = (uint32_t)(wanted * UINT64_C(0x9e3779b97f4a7c15) >> 44);

	while (address[at] != 0 && address[at] != wanted)
		at = (at + 1) % STEP_MAP_SIZE;
	address[at] = wanted;
	return count[at]++;
}

static inline void step_index(struct step_path *path)
{
	uint64_t *address = calloc(STEP_MAP_SIZE, sizeof *address);
	uint32_t *count = calloc(STEP_MAP_SIZE, sizeof *count);

	path->seen = calloc(path->steps + 1, sizeof *path->seen);
	if (address == NULL || count == NULL || path->seen == NULL)
		BAIL_OUT("out of memory");
	for (uint32_t n = 0; n <= path->steps; n++)
		path->seen[n] = step_count(address, count, path->at[n]);
	free(address);
	free(count);
}

/*
 * Steps OPERATION(SLOT) once from end to end and records its path; LOOK(N), if not NULL, is
 * called after each step.  The child is dead afterwards.
 */
static inline void step_record(struct step_path *path, void (*operation)(uint32_t slot),
                               uint32_t slot, void (*look)(uint32_t n))
{
	pid_t pid = step_start(operation, slot);
	int signal = SIGTRAP;
	uint32_t n = 0;

	path->at = calloc(STEP_PATH_MAX + 1, sizeof *path->at);
	if (path->at == NULL)
		BAIL_OUT("out of memory");
	path->at[0] = step_address(pid);
	if (look != NULL)
		look(0);
	while (signal == SIGTRAP && n < STEP_PATH_MAX) {
		signal = step_go(pid, PTRACE_SINGLESTEP);
		path->at[++n] = step_address(pid);
		if (look != NULL)
			look(n);
	}
	step_kill(pid);
	if (signal != SIGSTOP)
		BAIL_OUT("an operation of %u steps ended with signal %d", n, signal);
	path->steps = n;
	step_index(path);
}

#endif
