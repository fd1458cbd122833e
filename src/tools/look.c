#include "look.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../shm/operation.h"
#include "../../shm/peek.h"
#include "../base/clock.h"

/* ---- Processes ---- */

/* State and processor time of process PID, as the kernel has them: proc_pid_stat(5). */
static void read_process(struct look_member *member)
{
	char path[64];
	char line[1024];
	unsigned long long user, system;

	snprintf(path, sizeof path, "/proc/%u/stat", member->pid);
	FILE *file = fopen(path, "re");
	if (file == NULL) {
		member->process = errno == ENOENT ? '\0' : '?';
		return;
	}
	size_t length = fread(line, 1, sizeof line - 1, file);
	fclose(file);
	line[length] = '\0';
	/* The name before it may hold anything, parentheses included. */
	const char *rest = strrchr(line, ')');
	if (rest == NULL ||
	    sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
	           &member->process, &user, &system) != 3) {
		member->process = '?';
		return;
	}
	long ticks = sysconf(_SC_CLK_TCK);
	member->cpu_us = ticks > 0 ? (user + system) * 1000000 / (unsigned long long)ticks : 0;
}

static void read_counters(struct region *region, struct look_member *member)
{
	const struct counters *set = counter_set(region, member->slot);

	member->accepting = counter_load(set, COUNTER_ACCEPTING) != 0;
	member->connections = counter_load(set, COUNTER_CONNECTIONS_OPEN);
	member->waiting = counter_load(set, COUNTER_CONNECTIONS_WAITING);
	member->requests = counter_load(set, COUNTER_REQUESTS);
	member->events = counter_load(set, COUNTER_EVENTS_ACCEPTED);
}

/* The journal writer, the snapshotter, the workers by their numbers; who comes after who leaves. */
static int compare(const void *one, const void *other)
{
	static const int rank[] = {[MEMBER_NONE] = 3,
	                           [MEMBER_WORKER] = 2,
	                           [MEMBER_JOURNAL_WRITER] = 0,
	                           [MEMBER_SNAPSHOTTER] = 1};
	const struct look_member *a = one;
	const struct look_member *b = other;

	if (a->role != b->role)
		return rank[a->role & 3] - rank[b->role & 3];
	if (a->number != b->number)
		return a->number < b->number ? -1 : 1;
	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

static void read_members(struct region *region, struct look *look)
{
	struct region_roster *roster = region_roster(region);

	look->members = 0;
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		const struct region_member *told = &roster->member[i];
		uint32_t pid = atomic_load(&told->pid);
		if (pid == 0)
			continue;
		struct look_member *member = &look->member[look->members++];
		*member = (struct look_member){
		    .role = (enum region_member_role)atomic_load(&told->role),
		    .state = (enum region_member_state)atomic_load(&told->state),
		    .pid = pid,
		    .slot = i,
		    .number = atomic_load(&told->number),
		};
		read_process(member);
		read_counters(region, member);
	}
	qsort(look->member, look->members, sizeof look->member[0], compare);
}

const char *look_name(const struct look_member *member, char *text, size_t size)
{
	if (member->role == MEMBER_WORKER)
		snprintf(text, size, "worker %u", member->number);
	else
		snprintf(text, size, "%s",
		         member->role == MEMBER_JOURNAL_WRITER ? "journal writer" : "snapshotter");
	return text;
}

const struct look_member *look_member_of(const struct look *look, uint32_t pid)
{
	for (size_t i = 0; i < look->members; i++)
		if (look->member[i].pid == pid)
			return &look->member[i];
	return NULL;
}

const struct look_member *look_first(const struct look *look, enum region_member_role role)
{
	for (size_t i = 0; i < look->members; i++)
		if (look->member[i].role == role)
			return &look->member[i];
	return NULL;
}

size_t look_count(const struct look *look, enum region_member_role role,
                  enum region_member_state state)
{
	size_t count = 0;

	for (size_t i = 0; i < look->members; i++)
		count += look->member[i].role == role && look->member[i].state == state;
	return count;
}

bool look_stopped(const struct look_member *member)
{
	return member->process == 'T' || member->process == 't';
}

const char *look_state(const struct look_member *member)
{
	static const char *const state[] = {[MEMBER_STARTING] = "starting",
	                                    [MEMBER_SERVING] = "serving",
	                                    [MEMBER_LEAVING] = "leaving"};

	if (look_stopped(member))
		return "stopped";
	if (member->process == 'Z' || member->process == 'X' || member->process == '\0')
		return "gone";
	return member->state <= MEMBER_LEAVING ? state[member->state] : "?";
}

/* ---- Everything ---- */

void look_take(struct region *region, long master, struct look *look)
{
	const struct region_geometry *geometry = region_geometry(region);
	const struct region_roster *roster = region_roster(region);
	uint32_t slots = geometry->processes;

	memset(look, 0, sizeof *look);
	look->taken_us = clock_monotonic_us();
	look->real_us = clock_real_us();
	facts_read(region, look->real_us, &look->facts);
	for (uint32_t i = 0; i < slots; i++)
		counter_total(counter_set(region, i), &look->total);
	look->phase = (enum region_phase)atomic_load(&roster->phase);
	look->workers = atomic_load(&roster->workers);
	memcpy(look->version, roster->version, sizeof look->version - 1);
	look->epoch = geometry->epoch;
	look->sync_interval_ms = atomic_load(&region_settings(region)->sync_interval_ms);
	look->master.pid = (uint32_t)master;
	read_process(&look->master);
	read_members(region, look);
}

/* ---- Locks ---- */

/* Every process may hold those of one operation and the ring's. */
#define HELD_MAX (REGION_PROCESSES_MAX * (OPERATION_LOCKS_MAX + 1))

struct held {
	struct look_lock lock;
	uint64_t progress; /* of its holder, when it was seen first */
};

/* What HOLDER has counted so far: one that goes on counts something. */
static uint64_t progress_of(struct region *region, const struct look *look, uint32_t holder)
{
	const struct look_member *member = look_member_of(look, holder);
	uint64_t sum = 0;

	if (member == NULL)
		return 0;
	const struct counters *set = counter_set(region, member->slot);
	for (int i = 0; i <= COUNTER_LAST; i++)
		sum += counter_load(set, (enum counter)i);
	return sum;
}

static size_t find_held(struct region *region, const struct look *look, struct held *held)
{
	uint32_t locks = peek_locks(region);
	size_t count = 0;
	bool dead;

	for (uint32_t i = 0; i < locks && count < HELD_MAX; i++) {
		uint32_t holder = peek_holder(region, i, &dead);
		if (holder == 0 && !dead)
			continue;
		held[count++] = (struct held){.lock = {.lock = i,
		                                       .holder = holder,
		                                       .dead = dead,
		                                       .guards = peek_guarded(region, i)},
		                              .progress = progress_of(region, look, holder)};
	}
	return count;
}

/* Without those that somebody else has by now, or nobody, or one who goes on. */
static size_t drop_released(struct region *region, const struct look *look, struct held *held,
                            size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		const struct look_lock *lock = &held[i].lock;
		bool dead;
		uint32_t holder = peek_holder(region, lock->lock, &dead);
		if (holder == lock->holder && dead == lock->dead &&
		    progress_of(region, look, holder) == held[i].progress)
			held[kept++] = held[i];
	}
	return kept;
}

void look_at_locks(struct region *region, struct look *look)
{
	static struct held held[HELD_MAX];
	const struct timespec pause = {.tv_nsec = LOOK_LOCK_PAUSE * 1000000};
	size_t count = find_held(region, look, held);

	for (int i = 1; i < LOOK_LOCK_LOOKS && count > 0; i++) {
		nanosleep(&pause, NULL);
		count = drop_released(region, look, held, count);
	}
	look->locks = count;
	for (size_t i = 0; i < count && i < LOOK_LOCKS_MAX; i++)
		look->lock[i] = held[i].lock;
}
