/*
 * The operators' room: names, lines, the past, waking; readers while somebody writes; and a member,
 * or whoever tells of its death, killed at every instruction of what it does.
 */
#include "../shm/room.h"
#include "death-step.h"

#define US            UINT64_C(1700000000000000)
#define SLOT_SURVIVOR 1
#define SLOT_VICTIM   2
#define SLOT_HEIR     3
#define RACE_ROUNDS   200
#define RACERS        3
#define FLOOD         60000 /* lines that are written while others read */
#define OVERWRITES    1000  /* instructions of a reader, at which a line is written */
#define FAILURES_MAX  3     /* that are told of */

static struct region *region;
static struct room_area *area;
static struct room *rooms[4];  /* by slot */
static _Atomic uint64_t *word; /* shared with children */

static void begin(void)
{
	struct region_geometry geometry = fixture_geometry(64);

	region = fixture_begun(&geometry, 4096);
	region_enter(region, 0);
	area = region->room;
	for (uint32_t i = 0; i < 4; i++)
		rooms[i] = room_open(region, i);
	for (unsigned i = 0; i < 8; i++)
		atomic_store(&word[i], 0);
}

static void end(void)
{
	for (uint32_t i = 0; i < 4; i++)
		room_close(rooms[i]);
	region_close(region);
}

static struct room_seat enter(uint32_t slot)
{
	struct room_seat seat = {0};
	uint64_t news, past;

	if (room_enter(rooms[slot], US, &seat, &news, &past) != ROOM_DONE)
		seat.serial = 0;
	return seat;
}

static enum room_result call(uint32_t slot, struct room_seat *seat, const char *nick)
{
	return room_rename(rooms[slot], seat, nick, strlen(nick), US);
}

static enum room_result say(uint32_t slot, const struct room_seat *seat, const char *text)
{
	struct room_line line;

	return room_say(rooms[slot], seat, ROOM_SAID, text, strlen(text), US, &line);
}

/* Line NUMBER as "KIND NICK TEXT". */
static const char *line_text(uint64_t number)
{
	static const char *const kinds[] = {"nothing", "said",    "did",  "joined",
	                                    "left",    "renamed", "gone", "slow"};
	static char text[ROOM_TEXT_MAX + ROOM_NICK_MAX + 32];
	struct room_line line;

	switch (room_read(rooms[0], number, &line)) {
	case ROOM_NONE:
		return "none";
	case ROOM_LOST:
		return "lost";
	case ROOM_LINE:
		break;
	}
	snprintf(text, sizeof text, "%s %.*s %.*s", kinds[line.kind], line.nick_length, line.nick,
	         line.text_length, line.text);
	return text;
}

/* ---- names */

static void test_names(void)
{
	static const char *const good[] = {"a", "A.b-c_9", "123456789012345678901234", "-", "."};
	static const char *const bad[] = {
	    "", "1234567890123456789012345", "a b", "a/b", "\xc3\xa9", "a\x1b", "<a>", "*"};

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ok(room_nick_valid(good[i], strlen(good[i])), "\"%s\" may be a name", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(!room_nick_valid(bad[i], strlen(bad[i])), "bad name %zu may not", i);
	begin();
	struct room_seat one = enter(0), two = enter(1);
	is(line_text(0), "joined guest1 ", "the first is a guest");
	is(line_text(1), "joined guest2 ", "and so is the second");
	ok(call(1, &two, "Bob") == ROOM_DONE, "one is called Bob");
	is(line_text(2), "renamed guest2 Bob", "... and that is told");
	ok(call(0, &one, "bOB") == ROOM_TAKEN, "another cannot be, in whatever case");
	ok(call(1, &two, "BOB") == ROOM_DONE, "... he himself can");
	ok(call(0, &one, "guest3") == ROOM_DONE, "a guest's name can be had");
	enter(0);
	is(line_text(5), "joined guest4 ", "... and is not given again");
	struct room_name names[4];
	uint32_t cursor = 0;
	cmp_ok((intmax_t)room_names(rooms[1], &cursor, names, 2), "==", 2, "names, two at a time");
	ok(names[0].length == 6 && memcmp(names[0].bytes, "guest3", 6) == 0, "... in their places");
	cmp_ok((intmax_t)room_names(rooms[1], &cursor, names, 2), "==", 1, "... and the third");
	cmp_ok((intmax_t)room_names(rooms[1], &cursor, names, 2), "==", 0, "... and no more");
	room_leave(rooms[1], &two, ROOM_LEFT, US);
	is(line_text(6), "left BOB ", "who leaves is told of");
	room_leave(rooms[1], &two, ROOM_LEFT, US);
	is(line_text(7), "none", "... once");
	ok(say(1, &two, "hello") == ROOM_BROKEN, "and has nothing to say any more");
	ok(call(0, &one, "bob") == ROOM_DONE, "his name is free");
	end();
}

static void test_full(void)
{
	struct room_seat seat = {0}, other;
	uint64_t news, past;
	unsigned in = 0;

	begin();
	while (enter(0).serial != 0)
		in++;
	cmp_ok(in, "==", ROOM_MEMBERS_MAX, "%d are let in", ROOM_MEMBERS_MAX);
	ok(room_enter(rooms[1], US, &seat, &news, &past) == ROOM_FULL, "... and no more");
	cmp_ok(room_count(rooms[0]), "==", ROOM_MEMBERS_MAX, "they are counted");
	other = (struct room_seat){.serial = area->member[17].serial, .place = 17};
	room_leave(rooms[0], &other, ROOM_LEFT, US);
	seat = enter(1);
	cmp_ok((intmax_t)seat.place, "==", 17, "a place that is left is taken again");
	end();
}

/* ---- lines */

static void test_lines(void)
{
	char text[ROOM_TEXT_MAX];
	struct room_line line;

	begin();
	struct room_seat seat = enter(0);
	is(line_text(1), "none", "what is not said yet is not read");
	memset(text, 'x', sizeof text);
	ok(room_say(rooms[0], &seat, ROOM_DID, text, sizeof text, US, &line) == ROOM_DONE,
	   "the longest line");
	ok(room_read(rooms[1], 1, &line) == ROOM_LINE && line.text_length == ROOM_TEXT_MAX &&
	       memcmp(line.text, text, sizeof text) == 0 && line.kind == ROOM_DID &&
	       line.member == seat.serial,
	   "... is read as it was said");
	ok(room_read_past(rooms[1], 0, &line) == ROOM_LINE && line.kind == ROOM_DID,
	   "what was done is past");
	cmp_ok((intmax_t)room_past_end(rooms[1]), "==", 1, "... who joined is not");
	for (unsigned i = 2; i < ROOM_LINES; i++)
		say(0, &seat, "again");
	is(line_text(0), "joined guest1 ", "the ring is full: all can be read");
	say(0, &seat, "last");
	is(line_text(0), "lost", "one more, and the first is lost");
	is(line_text(ROOM_LINES), "said guest1 last", "... the last is there");
	uint64_t past = room_past_end(rooms[0]);
	ok(room_read_past(rooms[0], past - ROOM_PAST, &line) == ROOM_LINE, "so much past is kept");
	ok(room_read_past(rooms[0], past - ROOM_PAST - 1, &line) == ROOM_LOST, "... and no more");
	ok(room_read_past(rooms[0], past, &line) == ROOM_NONE, "... nor what is to come");
	end();
}

static uint64_t time_of(uint64_t number)
{
	struct room_line line = {0};

	room_read(rooms[0], number, &line);
	return line.time_us;
}

static void test_time(void)
{
	struct room_line line;

	begin();
	struct room_seat seat = enter(0);
	say(0, &seat, "at the same time");
	ok(time_of(1) == US + 1, "times rise");
	room_say(rooms[0], &seat, ROOM_SAID, "", 0, US - 500000, &line);
	ok(line.time_us == US + 2, "... though a clock be behind");
	room_say(rooms[0], &seat, ROOM_SAID, "", 0, US - 5000000, &line);
	ok(line.time_us == US - 5000000, "... but not where it was put back");
	end();
}

static void test_past(void)
{
	static struct room_line lines[ROOM_PAST + 6];
	struct room_line line;

	begin();
	for (unsigned i = 0; i < ROOM_PAST + 6; i++)
		lines[i] = (struct room_line){.kind = ROOM_SAID, .time_us = i};
	ok(room_remember(rooms[0], lines, ROOM_PAST + 6), "a room remembers");
	cmp_ok((intmax_t)room_past_end(rooms[0]), "==", ROOM_PAST, "... as much as it can");
	ok(room_read_past(rooms[0], 0, &line) == ROOM_LINE && line.time_us == 6, "... the last");
	ok(!room_remember(rooms[1], lines, 1), "... once");
	struct room_seat seat = enter(0);
	say(0, &seat, "and on");
	ok(room_read_past(rooms[0], ROOM_PAST, &line) == ROOM_LINE, "the past goes on behind it");
	end();
	begin();
	ok(room_remember(rooms[0], NULL, 0), "a room that has nothing to remember");
	ok(!room_remember(rooms[1], lines, 1), "... never will");
	end();
}

/* ---- deaths */

/* A process that has SLOT now, where another died. */
static void succeed(uint32_t slot)
{
	room_bury(region, slot);
	room_close(rooms[slot]);
	rooms[slot] = room_open(region, slot);
}

static void test_sweep(void)
{
	begin();
	struct room_seat survivor = enter(1);
	for (unsigned i = 0; i < ROOM_SWEEP + 10; i++)
		enter(2);
	uint32_t deaths = room_deaths(rooms[1]);
	cmp_ok(room_sweep(rooms[1], US), "==", 0, "nobody is gone");
	succeed(2);
	ok(room_deaths(rooms[1]) != deaths, "a burial is seen");
	enter(2);
	uint64_t before = room_end(rooms[0]);
	cmp_ok(room_sweep(rooms[1], US), "==", ROOM_SWEEP + 10, "all of one that died are gone");
	is(line_text(before), "gone guest2 ", "... and are told of");
	cmp_ok((intmax_t)(room_end(rooms[0]) - before), "==", ROOM_SWEEP + 10, "... once each");
	cmp_ok(room_sweep(rooms[2], US), "==", 0, "... and not again");
	cmp_ok(room_count(rooms[0]), "==", 2, "who lives stays, and who came after");
	ok(say(1, &survivor, "still here") == ROOM_DONE, "... and speaks");
	end();
}

/* ---- waking */

static void test_waking(void)
{
	begin();
	struct room_seat seat = enter(0);
	uint32_t deaths = room_deaths(rooms[1]);
	ok(!room_want(rooms[1], 0, deaths), "who has not seen the last line need not wait");
	ok(!room_due(rooms[0], 1), "... and is not woken");
	ok(room_want(rooms[1], 1, deaths), "who has waits");
	ok(!room_due(rooms[1], 1), "nobody wakes himself");
	ok(room_due(rooms[0], 1), "another does");
	ok(!room_due(rooms[0], 1), "... once");
	say(0, &seat, "x");
	room_bury(region, 3);
	ok(!room_want(rooms[1], 2, deaths), "nor need he who has not seen a burial");
	ok(room_want(rooms[1], 2, room_deaths(rooms[1])), "who has waits");
	room_bury(region, 1);
	ok(!room_due(rooms[0], 1), "who is dead wants nothing");
	end();
}

/* ---- several processes */

static int race(void *argument)
{
	uint32_t slot = *(uint32_t *)argument;
	struct room_seat seat = enter(slot);
	char nick[ROOM_NICK_MAX];

	for (unsigned i = 0; i < RACE_ROUNDS; i++) {
		atomic_fetch_add(&word[0], 1);
		if (!fixture_reaches(&word[0], (uint64_t)(i + 1) * RACERS))
			return 1;
		snprintf(nick, sizeof nick, "nick-%u", i);
		if (call(slot, &seat, nick) == ROOM_DONE)
			atomic_fetch_add(&word[1], 1);
		/* Nobody gives it up before all have tried. */
		atomic_fetch_add(&word[2], 1);
		if (!fixture_reaches(&word[2], (uint64_t)(i + 1) * RACERS))
			return 1;
	}
	return 0;
}

static void test_race(void)
{
	uint32_t slots[RACERS] = {1, 2, 3};
	pid_t pid[RACERS];
	unsigned good = 0;

	begin();
	for (unsigned i = 0; i < RACERS; i++)
		pid[i] = fixture_fork(race, &slots[i]);
	for (unsigned i = 0; i < RACERS; i++)
		good += fixture_wait(pid[i]) == 0;
	cmp_ok(good, "==", RACERS, "several want one name, again and again");
	cmp_ok((intmax_t)atomic_load(&word[1]), "==", RACE_ROUNDS, "... one has it each time");
	end();
}

/* SEAT's member says a line that tells its number, see is_whole. */
static void say_number(uint32_t slot, const struct room_seat *seat)
{
	char text[ROOM_TEXT_MAX];
	struct room_line line;

	memset(text, 'a' + (int)(room_end(rooms[slot]) % 26), sizeof text);
	room_say(rooms[slot], seat, ROOM_SAID, text, sizeof text, US, &line);
}

static int flood(void *ignored)
{
	struct room_seat seat = enter(1);
	(void)ignored;

	for (unsigned i = 0; i < FLOOD; i++)
		say_number(1, &seat);
	return 0;
}

/* Is LINE whole, and the one with this NUMBER? */
static bool is_whole(const struct room_line *line, uint64_t number)
{
	for (unsigned i = 0; i < line->text_length; i++)
		if (line->text[i] != (char)('a' + (int)(number % 26)))
			return false;
	return line->kind == ROOM_JOINED || line->text_length == ROOM_TEXT_MAX;
}

static void test_readers(void)
{
	struct room_line line;
	uint64_t read = 0, lost = 0, torn = 0;
	int status;

	begin();
	pid_t pid = fixture_fork(flood, NULL);
	/* At the end of the ring, where lines are overwritten as they are read. */
	while (waitpid(pid, &status, WNOHANG) == 0) {
		uint64_t now = room_end(rooms[0]);
		for (uint64_t back = ROOM_LINES - 8; back <= ROOM_LINES; back++) {
			if (now < back)
				continue;
			if (room_read(rooms[0], now - back, &line) != ROOM_LINE)
				lost++;
			else if (++read > 0 && !is_whole(&line, now - back))
				torn++;
		}
	}
	cmp_ok((intmax_t)room_end(rooms[0]), "==", FLOOD + 1, "a writer waits for no reader");
	ok(read > 0, "... who reads %ju lines meanwhile, and misses %ju", (uintmax_t)read,
	   (uintmax_t)lost);
	cmp_ok((intmax_t)torn, "==", 0, "... none of them torn");
	end();
}

/* ---- a line that is overwritten while it is read, wherever both are in that */

static struct room_seat survivor;
static uint64_t oldest; /* the line whose place is the next one's */
static struct {
	unsigned whole, lost, torn;
} found;

static struct read_line {
	enum room_read result;
	struct room_line line;
} * read_line; /* shared with children */

/* What came of reading line NUMBER, or the past's that is that line. */
static void judge_read(enum room_read result, const struct room_line *line, uint64_t number)
{
	if (result != ROOM_LINE)
		found.lost++;
	else if (is_whole(line, number))
		found.whole++;
	else
		found.torn++;
}

static void do_overwrite(uint32_t slot)
{
	region_enter(region, slot);
	say_number(slot, &survivor);
}

static void do_read(uint32_t slot)
{
	read_line->result = room_read(rooms[slot], oldest, &read_line->line);
}

/* Whoever reads between two instructions of the writer; who joined is no part of the past. */
static void look_at_place(uint32_t n)
{
	struct room_line line;
	uint64_t past = oldest + ROOM_LINES - ROOM_PAST;
	(void)n;

	for (uint64_t back = 0; back <= ROOM_LINES; back += ROOM_LINES)
		judge_read(room_read(rooms[0], oldest + back, &line), &line, oldest + back);
	for (uint64_t back = 0; back <= ROOM_PAST; back += ROOM_PAST)
		judge_read(room_read_past(rooms[0], past + back - 1, &line), &line, past + back);
}

/* A whole line is written between two instructions of the reader. */
static void overwrite_during(const struct step_path *path, const struct room_area *image,
                             uint32_t n)
{
	memcpy(area, image, sizeof *area);
	pid_t pid = step_start(do_read, 0);
	bool there = step_to(pid, path, n);
	say_number(SLOT_SURVIVOR, &survivor);
	bool ends = step_go(pid, PTRACE_CONT) == SIGSTOP;
	if (!(there && ends) && !FIXTURE_SANITIZED)
		found.torn++;
	step_kill(pid);
	judge_read(read_line->result, &read_line->line, oldest);
}

static void test_overwriting(void)
{
	struct step_path path = {0};

	if (!step_allowed()) {
		skip(6, "ptrace is not allowed here: %s", strerror(errno));
		return;
	}
	begin();
	survivor = enter(SLOT_SURVIVOR);
	while (room_end(rooms[0]) < 2 * ROOM_LINES)
		say_number(SLOT_SURVIVOR, &survivor);
	oldest = room_end(rooms[0]) - ROOM_LINES;
	struct room_area *image = malloc(sizeof *area);
	memcpy(image, area, sizeof *area);
	memset(&found, 0, sizeof found);
	step_record(&path, do_overwrite, SLOT_SURVIVOR, look_at_place);
	ok(found.whole > 0, "a line is read %u times while another is written over it",
	   found.whole);
	ok(found.lost > 0, "... and lost %u times", found.lost);
	cmp_ok(found.torn, "==", 0, "... but never torn");
	step_free(&path);
	memcpy(area, image, sizeof *area);
	memset(&found, 0, sizeof found);
	step_record(&path, do_read, 0, NULL);
	for (uint32_t n = 0; n + 1 < path.steps; n += 1 + path.steps / OVERWRITES)
		overwrite_during(&path, image, n);
	ok(found.whole > 0, "a line is written over another that was read %u times", found.whole);
	ok(found.lost > 0, "... that was lost to its reader %u times", found.lost);
	cmp_ok(found.torn, "==", 0, "... but never torn");
	step_free(&path);
	free(image);
	end();
}

/* ---- death at every instruction */

static struct room_seat victim;

static void do_enter(uint32_t slot)
{
	region_enter(region, slot);
	victim = enter(slot);
}

static void do_say(uint32_t slot)
{
	region_enter(region, slot);
	say(slot, &victim, "the last that I say");
}

static void do_rename(uint32_t slot)
{
	region_enter(region, slot);
	call(slot, &victim, "phoenix");
}

static void do_leave(uint32_t slot)
{
	region_enter(region, slot);
	room_leave(rooms[slot], &victim, ROOM_LEFT, US);
}

static void do_sweep(uint32_t slot)
{
	region_enter(region, slot);
	room_sweep(rooms[slot], US);
}

/* Who is there, by what the lines say. */
static struct {
	uint64_t serial;
	struct room_name nick;
} heard[8];

static int hear_of(uint64_t serial)
{
	for (int i = 0; i < 8; i++)
		if (heard[i].serial == serial)
			return i;
	return -1;
}

static bool is_called(int who, const struct room_line *line)
{
	return who >= 0 && heard[who].nick.length == line->nick_length &&
	       memcmp(heard[who].nick.bytes, line->nick, line->nick_length) == 0;
}

/* NULL, or what is wrong with LINE after those before it. */
static const char *hear(const struct room_line *line)
{
	int who = hear_of(line->member);

	if (line->kind == ROOM_JOINED) {
		int place = hear_of(0);
		if (who >= 0)
			return "somebody has joined twice";
		heard[place].serial = line->member;
		heard[place].nick.length = line->nick_length;
		memcpy(heard[place].nick.bytes, line->nick, ROOM_NICK_MAX);
		return NULL;
	}
	if (!is_called(who, line))
		return "a line is about nobody who is there by that name";
	if (line->kind == ROOM_RENAMED) {
		heard[who].nick.length = (uint8_t)line->text_length;
		memcpy(heard[who].nick.bytes, line->text, ROOM_NICK_MAX);
	} else if (line->kind != ROOM_SAID) {
		heard[who].serial = 0;
	}
	return NULL;
}

static const char *compare(void)
{
	uint32_t members = 0;

	for (uint32_t i = 0; i < ROOM_MEMBERS_MAX; i++) {
		const struct room_member *member = &area->member[i];
		if (member->serial == 0)
			continue;
		members++;
		int who = hear_of(member->serial);
		if (who < 0)
			return "somebody is there of whom nobody was told";
		if (heard[who].nick.length != member->nick.length ||
		    memcmp(heard[who].nick.bytes, member->nick.bytes, member->nick.length) != 0)
			return "somebody has another name than was told";
		heard[who].serial = 0;
	}
	for (int i = 0; i < 8; i++)
		if (heard[i].serial != 0)
			return "somebody is not there, and nobody was told";
	return members == area->count.members ? NULL : "the count is wrong";
}

/* All lines from the first on tell the truth, each once. */
static const char *check_lines(void)
{
	uint64_t last = room_end(rooms[SLOT_SURVIVOR]);
	uint64_t said = 0;
	struct room_line line;

	memset(heard, 0, sizeof heard);
	for (uint64_t i = 0; i < last; i++) {
		if (room_read(rooms[SLOT_SURVIVOR], i, &line) != ROOM_LINE)
			return "a line is missing";
		const char *wrong = hear(&line);
		if (wrong)
			return wrong;
		said += line.kind == ROOM_SAID;
	}
	if (said != room_past_end(rooms[SLOT_SURVIVOR]))
		return "what was said is not what is past";
	return compare();
}

/* The process in SLOT is dead: the survivor tells of its members, and goes on. */
static const char *judge(uint32_t slot)
{
	room_bury(region, slot);
	room_sweep(rooms[SLOT_SURVIVOR], US);
	const char *wrong = check_lines();
	if (wrong)
		return wrong;
	for (uint32_t i = 0; i < ROOM_MEMBERS_MAX; i++)
		if (area->member[i].serial != 0 && area->member[i].slot == SLOT_VICTIM)
			return "a member of a dead process is there";
	if (say(SLOT_SURVIVOR, &survivor, "and on") != ROOM_DONE)
		return "the survivor cannot go on";
	return check_lines();
}

struct deaths {
	struct step_path path;
	struct room_area *image;
	uint32_t slot;
	uint32_t stride;
	unsigned count, failures;
	void (*operation)(uint32_t slot);
	const char *name;
};

static void fail_at(struct deaths *deaths, uint32_t n, const char *why)
{
	if (deaths->failures++ < FAILURES_MAX)
		diag("%s, killed after %u instructions: %s", deaths->name, n, why);
}

/*
 * The room as it is when its owner is killed after N instructions of OPERATION.  A sanitizer keeps
 * frames in places of its own, which may take it another way: then it is killed somewhere else.
 */
static void kill_after(struct deaths *deaths, uint32_t n)
{
	memcpy(area, deaths->image, sizeof *area);
	pid_t pid = step_start(deaths->operation, deaths->slot);
	bool there = step_to(pid, &deaths->path, n);
	step_kill(pid);
	deaths->count++;
	if (!there && !FIXTURE_SANITIZED)
		fail_at(deaths, n, "it went another way than the first time");
}

static uint64_t visible;      /* lines that could be read before the death is told of */
static uint64_t visible_past; /* likewise of the past */
static unsigned hidden;       /* times that one could not, meanwhile */

static void look_at_last(uint32_t n)
{
	struct room_line line;
	(void)n;

	hidden += room_read(rooms[SLOT_SURVIVOR], visible - 1, &line) != ROOM_LINE;
	if (visible_past > 0)
		hidden +=
		    room_read_past(rooms[SLOT_SURVIVOR], visible_past - 1, &line) != ROOM_LINE;
}

/* Those who tell of the death at each instruction of theirs are killed as well. */
static void kill_heirs(struct deaths *deaths)
{
	struct deaths heirs = {.image = malloc(sizeof *area),
	                       .slot = SLOT_HEIR,
	                       .operation = do_sweep,
	                       .name = deaths->name};

	room_bury(region, SLOT_VICTIM);
	memcpy(heirs.image, area, sizeof *area);
	visible = room_end(rooms[SLOT_SURVIVOR]);
	visible_past = room_past_end(rooms[SLOT_SURVIVOR]);
	hidden = 0;
	step_record(&heirs.path, do_sweep, SLOT_HEIR, look_at_last);
	if (hidden != 0)
		fail_at(&heirs, 0, "a line that could be read was written again");
	for (uint32_t n = deaths->count % deaths->stride; n <= heirs.path.steps;
	     n += deaths->stride) {
		kill_after(&heirs, n);
		const char *wrong = judge(SLOT_HEIR);
		if (wrong)
			fail_at(&heirs, n, wrong);
	}
	deaths->count += heirs.count;
	deaths->failures += heirs.failures;
	step_free(&heirs.path);
	free(heirs.image);
}

/* Stands the room between a commit and its end? */
static bool is_half_done(void)
{
	return atomic_load(&area->step.commit) != 0;
}

/* Are the lines of the step there, and only its end is missing? */
static bool is_all_visible(const struct room_area *before)
{
	return atomic_load(&area->past_end) != atomic_load(&before->past_end);
}

/* What a step changes, so that each state that it goes through is seen. */
static uint64_t digest(void)
{
	return XXH3_64bits(area, offsetof(struct room_area, past_line));
}

static uint64_t *digests; /* by step */

static void note_digest(uint32_t n)
{
	digests[n] = digest();
}

/* Kills OPERATION wherever it has changed something, and at every STRIDEth instruction. */
static void deaths_of(const char *name, void (*operation)(uint32_t slot), bool is_there,
                      uint32_t stride, uint32_t heir_stride)
{
	struct deaths deaths = {
	    .slot = SLOT_VICTIM, .stride = heir_stride, .operation = operation, .name = name};
	unsigned half_done = 0;

	begin();
	survivor = enter(SLOT_SURVIVOR);
	call(SLOT_SURVIVOR, &survivor, "survivor");
	victim = is_there ? enter(SLOT_VICTIM) : (struct room_seat){0};
	deaths.image = malloc(sizeof *area);
	memcpy(deaths.image, area, sizeof *area);
	step_record(&deaths.path, operation, SLOT_VICTIM, note_digest);
	for (uint32_t n = 0; n <= deaths.path.steps; n++) {
		bool changes = n > 0 && digests[n] != digests[n - 1];
		if (!changes && n % stride != 0)
			continue;
		kill_after(&deaths, n);
		half_done += is_half_done();
		if (is_half_done() && (half_done % 16 == 1 || is_all_visible(deaths.image))) {
			kill_heirs(&deaths);
			continue;
		}
		const char *wrong = judge(SLOT_VICTIM);
		if (wrong)
			fail_at(&deaths, n, wrong);
	}
	ok(half_done > 0, "%s is left half done %u times", name, half_done);
	cmp_ok(deaths.failures, "==", 0, "%s: killed %u times in %u instructions", name,
	       deaths.count, deaths.path.steps);
	step_free(&deaths.path);
	free(deaths.image);
	end();
}

static void test_deaths(void)
{
	unsigned stride = fixture_number("TALLYD_DEATH_STRIDE", FIXTURE_SANITIZED ? 61 : 29);

	if (!step_allowed()) {
		skip(8, "ptrace is not allowed here: %s", strerror(errno));
		return;
	}
	digests = calloc(STEP_PATH_MAX + 1, sizeof *digests);
	deaths_of("to enter", do_enter, false, stride, stride * 11);
	deaths_of("to speak", do_say, true, stride, stride * 11);
	deaths_of("to be renamed", do_rename, true, stride, stride * 11);
	deaths_of("to leave", do_leave, true, stride, stride * 11);
	free(digests);
}

/* A tracer and a tracee that take turns are fastest on one processor. */
static void pin(void)
{
	cpu_set_t set;
	int here = sched_getcpu();

	CPU_ZERO(&set);
	CPU_SET(here < 0 ? 0 : (size_t)here, &set);
	sched_setaffinity(0, sizeof set, &set);
}

int main(void)
{
	/* Symbols bound late would send the first call of each function another way. */
	if (getenv("LD_BIND_NOW") == NULL && setenv("LD_BIND_NOW", "1", 1) == 0)
		execl("/proc/self/exe", "room-unit", (char *)NULL);
	plan(NO_PLAN);
	word = fixture_shared(4096);
	read_line = fixture_shared(sizeof *read_line);
	test_names();
	test_full();
	test_lines();
	test_time();
	test_past();
	test_sweep();
	test_waking();
	test_race();
	test_readers();
	pin();
	test_overwriting();
	test_deaths();
	return done_testing();
}
