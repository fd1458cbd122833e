/*
 * The operators' room on the wire, one line per message: tallyd-chat(7).  What is said on any
 * worker stands in the region (shm/room.h); each worker gives its own clients the lines that they
 * have not had.
 */
#ifndef TALLYD_SERVER_CHAT_PROTOCOL_H
#define TALLYD_SERVER_CHAT_PROTOCOL_H

#include <stdbool.h>

#include "protocol.h"

struct worker;

extern const struct protocol chat_protocol;

/*
 * What WORKER keeps of the room, in worker->chats, if one of its listeners speaks chat: opens the
 * history, remembers what it says, and tells of the members of who had this slot before.  False,
 * and the log says why: it cannot be had.
 */
bool chats_open(struct worker *worker);
void chats_close(struct worker *worker); /* no connection is left */

/* At the end of a turn of the loop: wakes others for what was said here, looks for what was said
 * there, and asks to be woken. */
void chats_turn_ends(struct worker *worker);

/* Goes on in FD, the history that was opened anew, which is not the caller's any more. */
void chats_adopt(struct worker *worker, int fd);

#endif
