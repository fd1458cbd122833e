/*
 * The folders of each role, by landlock(7).  libc has no functions for it, and its headers may be
 * older than the kernel, which is asked what it knows: what it does not is left out.
 */
#include <errno.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"

#define ABI_REFER     2
#define ABI_TRUNCATE  3
#define ABI_NET       4
#define ABI_IOCTL_DEV 5
#define ABI_SCOPE     6

#define FS_ALL_1     ((UINT64_C(1) << 13) - 1)
#define FS_REFER     (UINT64_C(1) << 13)
#define FS_TRUNCATE  (UINT64_C(1) << 14)
#define FS_IOCTL_DEV (UINT64_C(1) << 15)
#define NET_ALL      UINT64_C(3) /* bind and connect, of TCP */
#define SCOPE_ALL    UINT64_C(3) /* abstract Unix sockets, and signals */

#define READ LANDLOCK_ACCESS_FS_READ_FILE
#define LIST LANDLOCK_ACCESS_FS_READ_DIR
#define WRITE                                                                                      \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |                             \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE)
#define REMOVE LANDLOCK_ACCESS_FS_REMOVE_FILE

/* struct landlock_ruleset_attr as it grew: each version of the kernel takes its own length. */
struct ruleset {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

int confine_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi > 0 ? (int)abi : 0;
}

static uint64_t handled(int abi)
{
	return FS_ALL_1 | (abi >= ABI_REFER ? FS_REFER : 0) |
	       (abi >= ABI_TRUNCATE ? FS_TRUNCATE : 0) | (abi >= ABI_IOCTL_DEV ? FS_IOCTL_DEV : 0);
}

static int create(int abi)
{
	const struct ruleset ruleset = {.fs = handled(abi),
	                                .net = abi >= ABI_NET ? NET_ALL : 0,
	                                .scoped = abi >= ABI_SCOPE ? SCOPE_ALL : 0};
	size_t size = abi >= ABI_SCOPE ? sizeof ruleset
	              : abi >= ABI_NET ? offsetof(struct ruleset, scoped)
	                               : offsetof(struct ruleset, net);

	return (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
}

/* Below FOLDER, RIGHTS are had; nothing where there is no such folder. */
static int allow(int ruleset, int abi, int folder, uint64_t rights)
{
	const struct landlock_path_beneath_attr below = {.allowed_access = rights & handled(abi),
	                                                 .parent_fd = folder};

	if (folder < 0)
		return 0;
	return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &below, 0);
}

static int allow_role(int ruleset, int abi, const struct confine *confine)
{
	switch (confine->role) {
	case CONFINE_WORKER:
		return allow(ruleset, abi, confine->journal, READ);
	case CONFINE_JOURNAL:
		return allow(ruleset, abi, confine->journal, READ | WRITE);
	case CONFINE_SNAPSHOTTER:
		if (allow(ruleset, abi, confine->journal, READ | LIST | REMOVE) != 0)
			return -1;
		return allow(ruleset, abi, confine->snapshots, READ | LIST | WRITE);
	case CONFINE_MASTER:
		break;
	}
	return 0;
}

int confine_files(const struct confine *confine, char *error, size_t size)
{
	int abi = confine->landlock && !confine_is_sanitized() ? confine_landlock_abi() : 0;

	/* A reload may name any file to the master. */
	if (abi == 0 || confine->role == CONFINE_MASTER)
		return 0;
	int ruleset = create(abi);
	int result = ruleset < 0 ? -1 : allow_role(ruleset, abi, confine);
	if (result == 0)
		result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
	int reason = errno;
	if (ruleset >= 0)
		close(ruleset);
	if (result != 0)
		snprintf(error, size,
		         "landlock: files cannot be confined: %s; with landlock = false it goes on "
		         "without",
		         strerror(reason));
	return result;
}
