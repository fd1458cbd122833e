#include "people.h"

#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "value.h"

static bool find(const char *name, enum people people, uint32_t *id)
{
	const struct passwd *user;
	const struct group *group;
	uint64_t number;

	if (value_count(name, &number) == VALUE_OK) {
		*id = (uint32_t)number;
		/* The largest means nobody in particular: chown(2), setresuid(2). */
		return number < UINT32_MAX;
	}
	if (people == PEOPLE_USERS && (user = getpwnam(name)) != NULL) {
		*id = user->pw_uid;
		return true;
	}
	if (people == PEOPLE_GROUPS && (group = getgrnam(name)) != NULL) {
		*id = group->gr_gid;
		return true;
	}
	return false;
}

int people_read(const char *text, enum people people, uint32_t *ids, size_t max, char *wrong)
{
	char name[PEOPLE_NAME_MAX + 1];
	size_t count = 0;

	for (text += strspn(text, " "); *text != '\0'; text += strspn(text, " ")) {
		size_t length = strcspn(text, " ");
		if (count == max || length > PEOPLE_NAME_MAX) {
			snprintf(wrong, PEOPLE_WRONG_MAX, "names too many, or too long");
			return -1;
		}
		memcpy(name, text, length);
		name[length] = '\0';
		if (!find(name, people, &ids[count])) {
			snprintf(wrong, PEOPLE_WRONG_MAX,
			         "names %s, whom this machine does not know", name);
			return -1;
		}
		count++;
		text += length;
	}
	return (int)count;
}
