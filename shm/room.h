/*
 * The operators' room: who is in it, and what was said, for the workers to share.  Lines stand in
 * a ring, numbered from 0 on, and are read without a lock (a seqlock in each place, so a reader
 * holds nobody up and may find that a line was overwritten).  Every change, a line and what it does
 * to the members, is one step: staged, committed by one release store, then copied; whoever gets
 * the lock of a dead owner copies it again.  So a member whose process is killed is told of as gone
 * exactly once, wherever in this it was killed.  Nothing here waits for a disk or allocates, but
 * for room_open; nothing here can poison the region.
 */
#ifndef TALLYD_SHM_ROOM_H
#define TALLYD_SHM_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROOM_NICK_MAX    24   /* bytes of a name: letters, digits, "_", "-" and "." */
#define ROOM_TEXT_MAX    512  /* bytes of what is said in one line */
#define ROOM_LINES       1024 /* that are kept for readers; a power of two */
#define ROOM_PAST        64   /* likewise, of what was said, for those who enter later */
#define ROOM_MEMBERS_MAX 512  /* so that all of a worker that dies fit in half the lines */
#define ROOM_SWEEP       64   /* members that are told of as gone under one lock */

struct region;
struct room;

enum room_kind {
	ROOM_NOTHING,
	ROOM_SAID,
	ROOM_DID, /* /me */
	ROOM_JOINED,
	ROOM_LEFT,
	ROOM_RENAMED, /* `text` is the new name */
	ROOM_GONE,    /* with the process that served it */
	ROOM_SLOW,    /* it did not take its lines, and was dropped */
};

struct room_line {
	uint64_t time_us; /* since 1970; rises with the lines but where the clock was put back */
	uint64_t member;  /* the serial of whom it is about */
	uint8_t kind;     /* enum room_kind */
	uint8_t nick_length;
	uint16_t text_length;
	uint32_t zero;
	char nick[ROOM_NICK_MAX];
	char text[ROOM_TEXT_MAX];
};

/* What a member keeps of its being there.  Start from {0}: nobody. */
struct room_seat {
	uint64_t serial; /* 0: it is not there; never given twice */
	uint32_t place;
	uint8_t nick_length;
	char nick[ROOM_NICK_MAX];
};

struct room_name {
	uint8_t length;
	char bytes[ROOM_NICK_MAX];
};

enum room_result {
	ROOM_DONE,
	ROOM_TAKEN,  /* somebody else has the name */
	ROOM_FULL,   /* ROOM_MEMBERS_MAX are there */
	ROOM_BROKEN, /* the region is poisoned, or the seat is nobody's */
};

/*
 * The room in REGION for the process that has SLOT, since its last owner was buried (room_bury).
 * One allocation, for room_close; NULL: ENOMEM.
 */
struct room *room_open(struct region *region, uint32_t slot);
void room_close(struct room *room); /* NULL is fine */

/* SLOT's owner is dead: its members are gone.  Without a lock, for the master. */
void room_bury(struct region *region, uint32_t slot);

/* --- members.  NOW_US is since 1970. --- */

/* A new member, called "guest" and a number, into *SEAT; *NEWS is the number of the line that says
 * so, *PAST the number after the last of the past before it.  ROOM_DONE, FULL or BROKEN. */
enum room_result room_enter(struct room *room, uint64_t now_us, struct room_seat *seat,
                            uint64_t *news, uint64_t *past);

/* SEAT's member leaves, for the reason KIND (LEFT, SLOW).  Nothing if it is nobody's. */
void room_leave(struct room *room, struct room_seat *seat, enum room_kind kind, uint64_t now_us);

/* May NICK be a name at all? */
bool room_nick_valid(const char *nick, size_t length);

/* SEAT's member is called NICK (valid) from now on, which nobody else is, in whatever case. */
enum room_result room_rename(struct room *room, struct room_seat *seat, const char *nick,
                             size_t length, uint64_t now_us);

/*
 * SEAT's member says or does TEXT (at most ROOM_TEXT_MAX bytes), KIND SAID or DID; the line as it
 * became into *SAID.
 */
enum room_result room_say(struct room *room, const struct room_seat *seat, enum room_kind kind,
                          const char *text, size_t length, uint64_t now_us, struct room_line *said);

/* The names of members from *CURSOR (0: the first) on, up to MAX; moves *CURSOR.  0: no more. */
size_t room_names(struct room *room, uint32_t *cursor, struct room_name *names, size_t max);

/* How many are there. */
uint32_t room_count(const struct room *room);

/*
 * Tells of the members of processes that have been buried, if there are any; for every process,
 * when it begins, and whenever room_deaths is another.  How many it told of.
 */
uint32_t room_sweep(struct room *room, uint64_t now_us);
uint32_t room_deaths(const struct room *room);

/* --- lines --- */

enum room_read {
	ROOM_LINE,
	ROOM_NONE, /* not yet */
	ROOM_LOST, /* overwritten */
};

/* The number of the next line; the one before it can be read. */
uint64_t room_end(const struct room *room);
enum room_read room_read(const struct room *room, uint64_t number, struct room_line *line);

/* The same of the past: what was SAID or DID, by numbers of its own. */
uint64_t room_past_end(const struct room *room);
enum room_read room_read_past(const struct room *room, uint64_t number, struct room_line *line);

/*
 * Gives the room the COUNT LINES as its past (the last ROOM_PAST of them), once in a region's life:
 * false if it has been done.  For every process before it serves, also without lines.
 */
bool room_remember(struct room *room, const struct room_line *lines, size_t count);

/* --- waking --- */

/* This process wants to be woken at the next line or burial.  False: there is one, after line SEEN
 * or DEATHS; no wake-up comes. */
bool room_want(struct room *room, uint64_t seen, uint32_t deaths);

/* For who has written: does the process in SLOT (not one's own) want to be woken?  Takes its wish
 * back. */
bool room_due(struct room *room, uint32_t slot);
uint32_t room_slots(const struct room *room);

#endif
