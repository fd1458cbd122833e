/*
 * What each role of the daemon may still do once it has opened what it needs: the least that it
 * works with.  tallyd(8), SECURITY, says it in words; confine_seccomp.c has the system calls
 * (seccomp(2), through libseccomp), confine_landlock.c the folders (landlock(7)).
 */
#ifndef TALLYD_DAEMON_CONFINE_H
#define TALLYD_DAEMON_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

enum confine_role {
	CONFINE_MASTER,      /* all but what leads to other programs, processes and the kernel */
	CONFINE_WORKER,      /* its connections, and the journal's segments for reading */
	CONFINE_JOURNAL,     /* the files of the journal */
	CONFINE_SNAPSHOTTER, /* those of the snapshots, and removing old segments */
};

/* What happens to a process that makes a system call which its role may not make. */
enum confine_seccomp {
	CONFINE_OFF,   /* nothing: no filter is loaded */
	CONFINE_LOG,   /* the call is made; the kernel's log has it */
	CONFINE_ERRNO, /* the call fails with EPERM; the kernel's log has it */
	CONFINE_KILL,  /* the process dies of SIGSYS; the kernel's log has it */
};

/* Descriptors are the caller's, and -1 where there is none. */
struct confine {
	enum confine_role role;
	enum confine_seccomp seccomp;
	bool landlock;
	int journal;   /* of the journal's folder: what is below it is reached through this alone */
	int snapshots; /* of the snapshots' folder */
	int handover;  /* where files come that were opened anew (base/pass.h) */
	int syslog;    /* log_system_socket */
};

/*
 * For the whole process and its children: no new privileges (prctl(2), PR_SET_NO_NEW_PRIVS), no
 * core file, and nothing of its memory in a core dump that somebody takes all the same (core(5):
 * no limit holds for a pipe).  0, or -1 with the reason in ERROR.
 */
int confine_process(char *error, size_t size);

/*
 * Restricts this thread, and those that it starts from now on, to the folders of its role, as far
 * as the kernel's Landlock goes: nothing where it has none, or for the master.  0, or -1 with
 * ERROR.
 */
int confine_files(const struct confine *confine, char *error, size_t size);

/*
 * Restricts all threads of this process, and what it forks, to the system calls of its role.
 * Filters add up: what one forbids the next does not allow.  0, or -1 with ERROR.
 */
int confine_calls(const struct confine *confine, char *error, size_t size);

/* Both. */
int confine(const struct confine *confine, char *error, size_t size);

/* Says in the log what is had with these settings. */
void confine_report(enum confine_seccomp seccomp, bool landlock);

/*
 * A sanitizer opens /proc/self/maps and starts a program when it has something to tell: in such a
 * build filters only log, and Landlock is not used.
 */
bool confine_is_sanitized(void);

/* Are system calls confined at all by this build?  (./configure --without-seccomp) */
bool confine_has_seccomp(void);

/* The kernel's version of Landlock, 0: it has none. */
int confine_landlock_abi(void);

#endif
