/*
 * Users and groups as a configuration names them.
 */
#ifndef TALLYD_DAEMON_PEOPLE_H
#define TALLYD_DAEMON_PEOPLE_H

#include <stddef.h>
#include <stdint.h>

#define PEOPLE_NAME_MAX  255 /* bytes of a name */
#define PEOPLE_WRONG_MAX 320 /* bytes of what is wrong, with its NUL */

enum people { PEOPLE_USERS, PEOPLE_GROUPS };

/*
 * Reads TEXT, names or numbers with spaces between them, into IDS, up to MAX of them; names are
 * looked up now (getpwnam(3), getgrnam(3)).  Returns how many there are, 0 of "", or -1 with the
 * end of a sentence that begins with TEXT in WRONG (PEOPLE_WRONG_MAX bytes).
 */
int people_read(const char *text, enum people people, uint32_t *ids, size_t max, char *wrong);

#endif
