/*
 * The file that keeps what was said, chat_history: a line each, "TIME <NAME> TEXT" or, for /me,
 * "TIME * NAME TEXT".  Every worker appends what its own clients said, once a turn of its loop; the
 * times of the room's lines rise, so who reads it can put lines of several workers in order.
 */
#ifndef TALLYD_SERVER_CHAT_HISTORY_H
#define TALLYD_SERVER_CHAT_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "../../../shm/room.h"

#define CHAT_HISTORY_BUFFER 32768  /* bytes of lines before they are written */
#define CHAT_HISTORY_READ   131072 /* bytes at the end of the file that a start looks at */
#define CHAT_HISTORY_LINE   640    /* bytes of a line at most */

struct chat_history;

/* Opens PATH for appending (created 0640), behind a line that has no end.  Owned by the caller.
 * NULL with errno. */
struct chat_history *chat_history_open(const char *path);
void chat_history_close(struct chat_history *history); /* writes what is left; NULL is fine */

/* Opens PATH as chat_history_open does.  The descriptor, the caller's, or -1 with errno. */
int chat_history_file(const char *path);

/*
 * Writes what there is to the old file, and goes on in the new one, FD, which is the history's from
 * now on.  -1 with errno keeps the old one.
 */
int chat_history_adopt(struct chat_history *history, int fd);

/* Takes one line, SAID or DID. */
void chat_history_add(struct chat_history *history, const struct room_line *line);

/* Writes the lines.  Those that cannot be written are lost; the log says so, once until it works.
 */
void chat_history_flush(struct chat_history *history);

/* The last up to MAX lines of the file PATH in LINES, in order; how many.  0 if it cannot be read.
 */
size_t chat_history_read(const char *path, struct room_line *lines, size_t max);

#endif
