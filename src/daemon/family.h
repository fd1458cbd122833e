/*
 * The master's children: who they are, how they are born, what became of them.
 */
#ifndef TALLYD_DAEMON_FAMILY_H
#define TALLYD_DAEMON_FAMILY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../shm/region.h"
#include "config.h"
#include "instance.h"
#include "listen.h"
#include "privileges.h"

#define FAMILY_JOURNAL_SLOT  0
#define FAMILY_SNAPSHOT_SLOT 1
#define FAMILY_WORKER_SLOT   2 /* the first of the workers' */

#define FAMILY_GRACE_S 5.0 /* beyond drain_timeout, before a worker that drains is killed */

enum role { ROLE_NONE, ROLE_WORKER, ROLE_JOURNAL, ROLE_SNAPSHOT };

struct child {
	enum role role; /* ROLE_NONE: the slot is free */
	pid_t pid;
	unsigned number;    /* of a worker, for people: 1 and up */
	int ready_fd;       /* of a worker that is not ready yet, else -1 */
	int handover_fd;    /* where it takes files that were opened anew (base/pass.h), -1: it does
	                       not */
	char *access_log;   /* of a worker: the path of its access log, owned; NULL: it has none */
	char *chat_history; /* likewise, of its chat's history */
	bool ready;
	bool leaving; /* told to drain; not to be replaced */
	uint64_t born_us;
	uint64_t kill_us; /* when patience ends, 0: never */
};

/* Children by process slot; what they are made with. */
struct family {
	struct child child[REGION_PROCESSES_MAX];
	int wake_fds[REGION_PROCESSES_MAX];
	const struct instance *instance;
	const struct privileges *privileges;
	struct region *region;
	uint64_t started_us;
};

/* Makes the eventfds.  0, or -1 with errno. */
int family_open(struct family *family);
void family_close(struct family *family);

/*
 * Each forks a child into a free slot and returns the slot, or -1 with errno (EAGAIN with all
 * slots taken).  They do not return in the child.  A worker on TRIAL (of a start or a reload) ends
 * where CONFIG cannot be had, as its access log; one that replaces another goes on without.
 */
int family_worker(struct family *family, unsigned number, const struct config *config,
                  const struct listen_set *listeners, bool trial);
int family_journal(struct family *family, const struct config *config);
int family_snapshot(struct family *family, const struct config *config);

/* Sends SIGNAL to every child of ROLE (ROLE_NONE: all). */
void family_signal(const struct family *family, enum role role, int signal);

/* How many of ROLE live (ROLE_NONE: all)? */
unsigned family_count(const struct family *family, enum role role);

/* The slot whose child is PID, or -1. */
int family_find(const struct family *family, pid_t pid);

/* The child in SLOT is gone. */
void family_forget(struct family *family, uint32_t slot);

/* Stores in the region who is there (struct region_roster).  DRAINING: all workers are leaving. */
void family_tell(const struct family *family, bool draining);

/* "worker 3", "journal writer", "snapshotter" into TEXT. */
void family_name(const struct child *child, char *text, size_t size);

#endif
