#include "privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "value.h"

/* A numeric id; (id_t)-1 is what the calls take for "leave it". */
static bool read_id(const char *text, id_t *id)
{
	uint64_t number;

	if (value_count(text, &number) != VALUE_OK || number >= UINT32_MAX)
		return false;
	*id = (id_t)number;
	return true;
}

static int find_user(struct privileges *privileges, const char *name, char *error,
                     size_t error_size)
{
	struct passwd *entry;
	id_t id;

	errno = 0;
	entry = getpwnam(name);
	if (!entry && read_id(name, &id))
		entry = getpwuid(id);
	if (!entry) {
		snprintf(error, error_size, "user: \"%s\" %s%s; create it, or name another", name,
		         errno ? "cannot be looked up: " : "does not exist",
		         errno ? strerror(errno) : "");
		return -1;
	}
	if (strlen(entry->pw_name) >= sizeof(privileges->user)) {
		snprintf(error, error_size, "user: the name of \"%s\" is too long; name another",
		         name);
		return -1;
	}
	privileges->uid = entry->pw_uid;
	privileges->gid = entry->pw_gid;
	memcpy(privileges->user, entry->pw_name, strlen(entry->pw_name) + 1);
	return 0;
}

static int find_group(struct privileges *privileges, const char *name, char *error,
                      size_t error_size)
{
	struct group *entry;
	id_t id;

	errno = 0;
	entry = getgrnam(name);
	if (entry) {
		privileges->gid = entry->gr_gid;
		return 0;
	}
	if (read_id(name, &id)) {
		privileges->gid = id;
		return 0;
	}
	snprintf(error, error_size, "group: \"%s\" %s%s; create it, or name another", name,
	         errno ? "cannot be looked up: " : "does not exist", errno ? strerror(errno) : "");
	return -1;
}

/* Without root nothing can be dropped; being that user already is as good. */
static int find_as_nobody_special(struct privileges *privileges, char *error, size_t error_size)
{
	if (privileges->uid == geteuid() && privileges->gid == getegid()) {
		privileges->drop = false;
		return 0;
	}
	snprintf(error, error_size,
	         "user: only root can become \"%s\"; start as root, or leave user and group out",
	         privileges->user);
	return -1;
}

int privileges_find(struct privileges *privileges, const char *user, const char *group, char *error,
                    size_t error_size)
{
	memset(privileges, 0, sizeof(*privileges));
	if (user[0] == '\0')
		return 0;
	if (find_user(privileges, user, error, error_size) != 0)
		return -1;
	if (group[0] != '\0' && find_group(privileges, group, error, error_size) != 0)
		return -1;
	privileges->drop = true;
	if (geteuid() != 0)
		return find_as_nobody_special(privileges, error, error_size);
	return 0;
}

int privileges_own(const struct privileges *privileges, const char *path, char *error,
                   size_t error_size)
{
	if (!privileges->drop)
		return 0;
	if (fchownat(AT_FDCWD, path, privileges->uid, privileges->gid, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	snprintf(error, error_size, "%s: cannot be given to user \"%s\": %s; check the directory",
	         path, privileges->user, strerror(errno));
	return -1;
}

/* Says which step failed. */
static int refuse(const char *step, char *error, size_t error_size)
{
	snprintf(
	    error, error_size,
	    "user: cannot drop privileges: %s: %s; start as root, with CAP_SETUID and CAP_SETGID",
	    step, strerror(errno));
	return -1;
}

static bool is_dropped(const struct privileges *privileges)
{
	uid_t real_user, effective_user, saved_user;
	gid_t real_group, effective_group, saved_group;

	if (getresuid(&real_user, &effective_user, &saved_user) != 0 ||
	    getresgid(&real_group, &effective_group, &saved_group) != 0)
		return false;
	return real_user == privileges->uid && effective_user == privileges->uid &&
	       saved_user == privileges->uid && real_group == privileges->gid &&
	       effective_group == privileges->gid && saved_group == privileges->gid;
}

int privileges_drop(const struct privileges *privileges, char *error, size_t error_size)
{
	if (!privileges->drop)
		return 0;
	/* The user last: after it, the other two are not permitted any more. */
	if (initgroups(privileges->user, privileges->gid) != 0)
		return refuse("initgroups", error, error_size);
	if (setresgid(privileges->gid, privileges->gid, privileges->gid) != 0)
		return refuse("setresgid", error, error_size);
	if (setresuid(privileges->uid, privileges->uid, privileges->uid) != 0)
		return refuse("setresuid", error, error_size);
	errno = EPERM;
	if (!is_dropped(privileges))
		return refuse("the ids did not change", error, error_size);
	if (privileges->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0)) {
		errno = EPERM;
		return refuse("root can be had back", error, error_size);
	}
	return 0;
}
