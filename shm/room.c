#include "room.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "lock.h"

/* This process's view of it. */
struct room {
	struct region *region;
	struct room_area *area;
	uint32_t slot;
	uint32_t life;
};

struct room *room_open(struct region *region, uint32_t slot)
{
	struct room *room = calloc(1, sizeof *room);

	if (room == NULL)
		return NULL;
	*room = (struct room){.region = region,
	                      .area = region->room,
	                      .slot = slot,
	                      .life = atomic_load(&region->room->life[slot])};
	return room;
}

void room_close(struct room *room)
{
	free(room);
}

/* The life changes first: who sees the death finds whose members they were. */
void room_bury(struct region *region, uint32_t slot)
{
	struct room_area *area = region->room;

	atomic_store(&area->want[slot], 0);
	atomic_fetch_add(&area->life[slot], 1);
	atomic_fetch_add(&area->deaths, 1);
}

/* ---- lines */

/* Who reads CELL meanwhile sees another number before or after. */
static void put(struct room_cell *cell, uint64_t number, const struct room_line *line)
{
	const size_t words = sizeof cell->word / sizeof *cell->word;
	uint64_t word[sizeof cell->word / sizeof *cell->word];

	memcpy(word, line, sizeof word);
	atomic_store_explicit(&cell->number, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (size_t i = 0; i < words; i++)
		atomic_store_explicit(&cell->word[i], word[i], memory_order_relaxed);
	atomic_store_explicit(&cell->number, number + 1, memory_order_release);
}

static bool get(const struct room_cell *cell, uint64_t number, struct room_line *line)
{
	const size_t words = sizeof cell->word / sizeof *cell->word;
	uint64_t word[sizeof cell->word / sizeof *cell->word];

	if (atomic_load_explicit(&cell->number, memory_order_acquire) != number + 1)
		return false;
	for (size_t i = 0; i < words; i++)
		word[i] = atomic_load_explicit(&cell->word[i], memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&cell->number, memory_order_relaxed) != number + 1)
		return false;
	memcpy(line, word, sizeof word);
	return true;
}

uint64_t room_end(const struct room *room)
{
	return atomic_load_explicit(&room->area->end, memory_order_acquire);
}

enum room_read room_read(const struct room *room, uint64_t number, struct room_line *line)
{
	if (number >= room_end(room))
		return ROOM_NONE;
	return get(&room->area->news[number % ROOM_LINES], number, line) ? ROOM_LINE : ROOM_LOST;
}

uint64_t room_past_end(const struct room *room)
{
	return atomic_load_explicit(&room->area->past_end, memory_order_acquire);
}

enum room_read room_read_past(const struct room *room, uint64_t number, struct room_line *line)
{
	if (number >= room_past_end(room))
		return ROOM_NONE;
	return get(&room->area->past_line[number % ROOM_PAST], number, line) ? ROOM_LINE
	                                                                     : ROOM_LOST;
}

/* ---- steps: the lock is held */

/* Once or many times: it comes to the same. */
static void copy_step(struct room_area *area)
{
	const struct room_step *step = &area->step;

	if (step->place < ROOM_MEMBERS_MAX)
		area->member[step->place] = step->after;
	area->count = step->count;
	atomic_store_explicit(&area->members, step->count.members, memory_order_relaxed);
	if (step->number == atomic_load_explicit(&area->end, memory_order_relaxed)) {
		put(&area->news[step->number % ROOM_LINES], step->number, &step->line);
		atomic_store_explicit(&area->end, step->number + 1, memory_order_release);
	}
	if (step->past == atomic_load_explicit(&area->past_end, memory_order_relaxed)) {
		put(&area->past_line[step->past % ROOM_PAST], step->past, &step->line);
		atomic_store_explicit(&area->past_end, step->past + 1, memory_order_release);
	}
}

/* Nothing of the copying may be done before the commit, nor of the next step before its end. */
static void set_commit(struct room_area *area, uint64_t commit)
{
	atomic_store_explicit(&area->step.commit, commit, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
}

static void commit_step(struct room_area *area)
{
	set_commit(area, 1);
	copy_step(area);
	set_commit(area, 0);
}

/* Whoever held the lock has died with it. */
static void repair(struct room *room)
{
	struct room_area *area = room->area;

	counter_add(&room->region->processes[room->region->slot].counters, COUNTER_LOCK_RECOVERIES,
	            1);
#ifndef TALLYD_STUB_REPAIR
	if (atomic_load_explicit(&area->step.commit, memory_order_acquire) != 0)
		copy_step(area);
#endif
	set_commit(area, 0);
}

static bool acquire(struct room *room)
{
	pthread_mutex_t *mutex = &room->area->lock.mutex;

	/* As in lock_acquire: an unrecoverable mutex must not be asked. */
	if (region_poisoned(room->region))
		return false;
	int error = lock_wait(room->region, &room->area->lock, room->region->header->shape.locks);
	if (error != EOWNERDEAD)
		return error == 0;
	repair(room);
	pthread_mutex_consistent(mutex);
	return true;
}

static void release(struct room *room)
{
	pthread_mutex_unlock(&room->area->lock.mutex);
}

/* A line's time rises, so that what several processes have written down can be put in order. */
static uint64_t time_after(uint64_t last_us, uint64_t now_us)
{
	const uint64_t second = 1000000;
	bool stepped = now_us + second < last_us;

	return now_us > last_us || stepped ? now_us : last_us + 1;
}

/* Begins a step that nothing follows from yet, but a line of KIND about MEMBER. */
static struct room_step *begin_step(struct room_area *area, enum room_kind kind,
                                    const struct room_member *member, uint64_t now_us)
{
	struct room_step *step = &area->step;

	step->count = area->count;
	step->count.last_us = time_after(step->count.last_us, now_us);
	step->number = atomic_load_explicit(&area->end, memory_order_relaxed);
	step->past = kind == ROOM_SAID || kind == ROOM_DID
	                 ? atomic_load_explicit(&area->past_end, memory_order_relaxed)
	                 : ROOM_NOWHERE;
	step->place = ROOM_MEMBERS_MAX;
	step->line = (struct room_line){.time_us = step->count.last_us,
	                                .member = member->serial,
	                                .kind = (uint8_t)kind,
	                                .nick_length = member->nick.length};
	memcpy(step->line.nick, member->nick.bytes, member->nick.length);
	return step;
}

static void set_text(struct room_step *step, const char *text, size_t length)
{
	memcpy(step->line.text, text, length);
	step->line.text_length = (uint16_t)length;
}

/* ---- members */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool room_nick_valid(const char *nick, size_t length)
{
	if (length == 0 || length > ROOM_NICK_MAX)
		return false;
	for (size_t i = 0; i < length; i++) {
		char c = lower(nick[i]);
		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-' &&
		    c != '.')
			return false;
	}
	return true;
}

static bool same_nick(const struct room_name *name, const char *nick, size_t length)
{
	if (name->length != length)
		return false;
	for (size_t i = 0; i < length; i++)
		if (lower(name->bytes[i]) != lower(nick[i]))
			return false;
	return true;
}

/* The place of who is called NICK, or ROOM_MEMBERS_MAX. */
static uint32_t find_nick(const struct room_area *area, const char *nick, size_t length)
{
	uint32_t i = 0;

	while (i < ROOM_MEMBERS_MAX &&
	       (area->member[i].serial == 0 || !same_nick(&area->member[i].nick, nick, length)))
		i++;
	return i;
}

static uint32_t find_place(const struct room_area *area)
{
	uint32_t i = 0;

	while (i < ROOM_MEMBERS_MAX && area->member[i].serial != 0)
		i++;
	return i;
}

static void set_nick(struct room_name *name, const char *nick, size_t length)
{
	*name = (struct room_name){.length = (uint8_t)length};
	memcpy(name->bytes, nick, length);
}

/* "guest" and the next number that makes a name that is free. */
static void name_guest(const struct room_area *area, struct room_name *name, uint64_t *guests)
{
	static const char word[] = "guest";

	do {
		char digits[ROOM_NICK_MAX];
		size_t at = sizeof digits;
		size_t length = sizeof word - 1;
		for (uint64_t rest = ++*guests; rest != 0; rest /= 10)
			digits[--at] = (char)('0' + rest % 10);
		*name = (struct room_name){0};
		memcpy(name->bytes, word, length);
		for (; at < sizeof digits && length < sizeof name->bytes; at++)
			name->bytes[length++] = digits[at];
		name->length = (uint8_t)length;
	} while (find_nick(area, name->bytes, name->length) != ROOM_MEMBERS_MAX);
}

static void sit_down(struct room_seat *seat, uint32_t place, const struct room_member *member)
{
	seat->serial = member->serial;
	seat->place = place;
	seat->nick_length = member->nick.length;
	memcpy(seat->nick, member->nick.bytes, sizeof seat->nick);
}

static enum room_result enter(struct room *room, uint64_t now_us, struct room_seat *seat,
                              uint64_t *news, uint64_t *past)
{
	struct room_area *area = room->area;
	struct room_member member = {.slot = room->slot, .life = room->life};
	struct room_count count = area->count;
	uint32_t place = find_place(area);

	if (place == ROOM_MEMBERS_MAX)
		return ROOM_FULL;
	member.serial = ++count.serials;
	name_guest(area, &member.nick, &count.guests);
	struct room_step *step = begin_step(area, ROOM_JOINED, &member, now_us);
	step->place = place;
	step->after = member;
	step->count.serials = count.serials;
	step->count.guests = count.guests;
	step->count.members++;
	*news = step->number;
	*past = atomic_load(&area->past_end);
	commit_step(area);
	sit_down(seat, place, &member);
	return ROOM_DONE;
}

enum room_result room_enter(struct room *room, uint64_t now_us, struct room_seat *seat,
                            uint64_t *news, uint64_t *past)
{
	if (!acquire(room))
		return ROOM_BROKEN;
	enum room_result result = enter(room, now_us, seat, news, past);
	release(room);
	return result;
}

/* SEAT's member, or NULL. */
static const struct room_member *member_of(const struct room *room, const struct room_seat *seat)
{
	const struct room_member *member = &room->area->member[seat->place];

	return seat->serial != 0 && member->serial == seat->serial ? member : NULL;
}

/* The member at PLACE is there no more, for the reason KIND. */
static void remove_member(struct room_area *area, uint32_t place, enum room_kind kind,
                          uint64_t now_us)
{
	struct room_step *step = begin_step(area, kind, &area->member[place], now_us);

	step->place = place;
	step->after = (struct room_member){0};
	step->count.members--;
	commit_step(area);
}

void room_leave(struct room *room, struct room_seat *seat, enum room_kind kind, uint64_t now_us)
{
	if (seat->serial == 0)
		return;
	if (acquire(room)) {
		if (member_of(room, seat) != NULL)
			remove_member(room->area, seat->place, kind, now_us);
		release(room);
	}
	seat->serial = 0;
}

static enum room_result rename_to(struct room *room, struct room_seat *seat, const char *nick,
                                  size_t length, uint64_t now_us)
{
	struct room_area *area = room->area;
	const struct room_member *member = member_of(room, seat);
	uint32_t other = find_nick(area, nick, length);

	if (member == NULL)
		return ROOM_BROKEN;
	if (other != ROOM_MEMBERS_MAX && other != seat->place)
		return ROOM_TAKEN;
	struct room_step *step = begin_step(area, ROOM_RENAMED, member, now_us);
	set_text(step, nick, length);
	step->place = seat->place;
	step->after = *member;
	set_nick(&step->after.nick, nick, length);
	commit_step(area);
	sit_down(seat, seat->place, &area->member[seat->place]);
	return ROOM_DONE;
}

enum room_result room_rename(struct room *room, struct room_seat *seat, const char *nick,
                             size_t length, uint64_t now_us)
{
	if (!acquire(room))
		return ROOM_BROKEN;
	enum room_result result = rename_to(room, seat, nick, length, now_us);
	release(room);
	return result;
}

enum room_result room_say(struct room *room, const struct room_seat *seat, enum room_kind kind,
                          const char *text, size_t length, uint64_t now_us, struct room_line *said)
{
	if (!acquire(room))
		return ROOM_BROKEN;
	const struct room_member *member = member_of(room, seat);
	if (member != NULL) {
		struct room_step *step = begin_step(room->area, kind, member, now_us);
		set_text(step, text, length);
		*said = step->line;
		commit_step(room->area);
	}
	release(room);
	return member != NULL ? ROOM_DONE : ROOM_BROKEN;
}

size_t room_names(struct room *room, uint32_t *cursor, struct room_name *names, size_t max)
{
	size_t count = 0;

	if (!acquire(room))
		return 0;
	for (; *cursor < ROOM_MEMBERS_MAX && count < max; ++*cursor)
		if (room->area->member[*cursor].serial != 0)
			names[count++] = room->area->member[*cursor].nick;
	release(room);
	return count;
}

uint32_t room_count(const struct room *room)
{
	return atomic_load_explicit(&room->area->members, memory_order_relaxed);
}

uint32_t room_deaths(const struct room *room)
{
	return atomic_load_explicit(&room->area->deaths, memory_order_acquire);
}

static bool is_gone(const struct room_area *area, uint32_t place)
{
	const struct room_member *member = &area->member[place];

	return member->serial != 0 &&
	       member->life !=
	           atomic_load_explicit(&area->life[member->slot % REGION_PROCESSES_MAX],
	                                memory_order_acquire);
}

/* Under one lock, of those from *PLACE on. */
static uint32_t sweep_some(struct room *room, uint32_t *place, uint64_t now_us)
{
	uint32_t count = 0;

	if (!acquire(room)) {
		*place = ROOM_MEMBERS_MAX;
		return 0;
	}
	for (; *place < ROOM_MEMBERS_MAX && count < ROOM_SWEEP; ++*place) {
		if (!is_gone(room->area, *place))
			continue;
		remove_member(room->area, *place, ROOM_GONE, now_us);
		count++;
	}
	release(room);
	return count;
}

uint32_t room_sweep(struct room *room, uint64_t now_us)
{
	uint32_t place = 0;
	uint32_t count = 0;

	while (place < ROOM_MEMBERS_MAX)
		count += sweep_some(room, &place, now_us);
	return count;
}

bool room_remember(struct room *room, const struct room_line *lines, size_t count)
{
	struct room_area *area = room->area;
	size_t from = count > ROOM_PAST ? count - ROOM_PAST : 0;

	if (atomic_load(&area->remembered) != 0 || !acquire(room))
		return false;
	bool first = atomic_load(&area->remembered) == 0;
	for (size_t i = from; i < count && first; i++) {
		/* From the beginning again, if who did this before has died of it. */
		put(&area->past_line[i - from], i - from, &lines[i]);
		atomic_store_explicit(&area->past_end, i - from + 1, memory_order_release);
	}
	atomic_store(&area->remembered, 1);
	release(room);
	return first;
}

/* ---- waking */

bool room_want(struct room *room, uint64_t seen, uint32_t deaths)
{
	_Atomic uint32_t *want = &room->area->want[room->slot];

	/* Pairs with the fence of room_due: either we see the line, or its writer the wish. */
	atomic_store_explicit(want, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (room_end(room) == seen && room_deaths(room) == deaths)
		return true;
	atomic_store_explicit(want, 0, memory_order_relaxed);
	return false;
}

bool room_due(struct room *room, uint32_t slot)
{
	_Atomic uint32_t *want = &room->area->want[slot];

	atomic_thread_fence(memory_order_seq_cst);
	if (slot == room->slot || atomic_load_explicit(want, memory_order_relaxed) == 0)
		return false;
	return atomic_exchange(want, 0) != 0;
}

uint32_t room_slots(const struct room *room)
{
	return atomic_load(&room->region->header->settings.processes);
}
