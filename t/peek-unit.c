/*
 * Reading without locks: at every instruction of an operation that is stopped there, all of it is
 * seen or nothing; beside operations that go on, only what was there at one moment; and who holds a
 * lock is told.
 */
#include "../shm/lock.h"
#include "../shm/peek.h"
#include "death-step.h"

#define START  UINT64_C(4096)
#define LONG   "an account whose name is longer than what one slot of the table can hold of it"
#define FIRST  "first"
#define SECOND "second"
#define DOOMED "doomed"
#define HOLD   "hold-1"
#define TTL    60
#define LOOKS  200000

enum { AT_FIRST, AT_SECOND, AT_LONG, AT_DOOMED, ACCOUNTS };
static const char *const name[ACCOUNTS] = {FIRST, SECOND, LONG, DOOMED};

/* What is seen of everything. */
struct seen {
	enum peek_status status[ACCOUNTS];
	struct account_slot slot[ACCOUNTS];
	enum hold_state hold; /* 0: there is none */
	int64_t held;
};

static struct region *region;
static struct ledger *ledger;
static struct seen before, after;
static unsigned looks, olds, news, wrongs, under_way;
static int first_wrong = -1;

static void begin(void)
{
	struct region_geometry geometry = fixture_geometry(64);

	region = fixture_begun(&geometry, START);
	ledger = ledger_open(region, 0, NULL);
	if (ledger == NULL)
		BAIL_OUT("no ledger");
	fixture_post(ledger, FIRST, 100);
	fixture_post(ledger, SECOND, 7);
}

static void end(void)
{
	ledger_close(ledger);
	region_close(region);
}

static enum peek_status look_up(const char *wanted, struct account_slot *slot,
                                struct peek_note *note)
{
	size_t length = strlen(wanted);

	*slot = (struct account_slot){0};
	return peek_account(region, fixture_hash(region, wanted, length), wanted, (uint32_t)length,
	                    slot, note);
}

static void look(struct seen *seen)
{
	struct hold_slot *cell;
	struct peek_note note;
	uint64_t at = 0;

	*seen = (struct seen){0};
	for (int i = 0; i < ACCOUNTS; i++) {
		seen->status[i] = look_up(name[i], &seen->slot[i], &note);
		if (seen->status[i] != PEEK_OK)
			seen->slot[i] = (struct account_slot){0};
		under_way += note.under_way;
	}
	while (holds_next_of(region, fixture_hash(region, FIRST, strlen(FIRST)), &at, &cell)) {
		struct hold_slot hold;
		if (peek_hold(region, cell, &hold, &note) != PEEK_OK || hold.lsn == 0)
			continue;
		seen->hold = (enum hold_state)hold.state;
		seen->held = hold.amount;
	}
}

static bool same(const struct seen *one, const struct seen *other)
{
	return memcmp(one->status, other->status, sizeof one->status) == 0 &&
	       memcmp(one->slot, other->slot, sizeof one->slot) == 0 && one->hold == other->hold &&
	       one->held == other->held;
}

static void judge(uint32_t n)
{
	struct seen seen;

	look(&seen);
	looks++;
	if (news == 0 && same(&seen, &before))
		olds++;
	else if (same(&seen, &after))
		news++;
	else if (wrongs++ == 0)
		first_wrong = (int)n;
}

static struct leg leg(const char *account, int64_t amount)
{
	return (struct leg){.account = {.bytes = account, .length = (uint32_t)strlen(account)},
	                    .amount = amount};
}

static void apply(const struct request *request)
{
	struct result result;

	ledger_apply(ledger, request, 2000, &result);
}

/* ---- the operations */

static void transfer(uint32_t slot)
{
	struct request request = {.kind = REQUEST_TRANSFER, .legs = 2};

	region_enter(region, slot);
	request.leg[0] = leg(FIRST, -5);
	request.leg[1] = leg(SECOND, 5);
	apply(&request);
}

static void create(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, LONG, 3);
}

static void delete (uint32_t slot)
{
	struct request request = {.kind = REQUEST_DELETE, .legs = 1};

	region_enter(region, slot);
	request.leg[0] = leg(DOOMED, 0);
	apply(&request);
}

static void hold(uint32_t slot)
{
	struct request request = {.kind = REQUEST_HOLD,
	                          .legs = 1,
	                          .ttl = TTL,
	                          .hold = {.bytes = HOLD, .length = (uint32_t)strlen(HOLD)}};

	region_enter(region, slot);
	request.leg[0] = leg(FIRST, 20);
	apply(&request);
}

/* OPERATION, stepped by a neighbour, with a look at each instruction. */
static void at_each_instruction(const char *what, void (*operation)(uint32_t slot), bool doomed)
{
	struct step_path path;
	pid_t pid;

	begin();
	if (doomed) {
		fixture_post(ledger, DOOMED, 1);
		fixture_post(ledger, DOOMED, -1);
	}
	/* What it will come to: the same in a copy of the region. */
	size_t size = region->size;
	unsigned char *copy = malloc(size);
	if (copy == NULL)
		BAIL_OUT("out of memory");
	look(&before);
	memcpy(copy, region->base, size);
	pid = step_start(operation, 0);
	while (step_go(pid, PTRACE_CONT) == SIGTRAP)
		;
	step_kill(pid);
	look(&after);
	memcpy(region->base, copy, size);
	free(copy);
	ok(!same(&before, &after), "%s changes something", what);
	looks = olds = news = wrongs = under_way = 0;
	step_record(&path, operation, 0, judge);
	cmp_ok(wrongs, "==", 0, "%s: all of it is seen or nothing, at each of %u instructions",
	       what, looks);
	if (wrongs != 0)
		diag("first at instruction %d of %u", first_wrong, looks);
	cmp_ok(olds, ">", 100, "nothing before the commit");
	cmp_ok(news, ">", 100, "all of it from there on");
	cmp_ok(under_way, ">", 10, "some while it is copied");
	step_free(&path);
	end();
}

/* ---- beside operations that go on */

static _Atomic uint64_t *stop;

/* Each event is worth 1: the balance of both is what their version says. */
static int post_on(void *ignored)
{
	struct ledger *mine = ledger_open(region, 1, NULL);

	(void)ignored;
	for (uint64_t i = 0; atomic_load(stop) == 0; i++) {
		fixture_post(mine, "racer", 1);
		/* Nobody writes the journal: what is in the ring is given up at once. */
		atomic_store(&region_marks(region)->released,
		             atomic_load(&region_marks(region)->tail));
	}
	return 0;
}

static void beside_operations(void)
{
	unsigned torn = 0, moving = 0, back = 0;
	uint64_t version = 0, first = 0;

	begin();
	stop = fixture_shared(sizeof *stop);
	fixture_post(ledger, "racer", 1);
	pid_t pid = fixture_fork(post_on, NULL);
	for (unsigned i = 0; i < LOOKS; i++) {
		struct account_slot slot;
		struct peek_note note;
		enum peek_status status = look_up("racer", &slot, &note);
		moving += status != PEEK_OK;
		if (status != PEEK_OK)
			continue;
		torn += (uint64_t)slot.balance != slot.version;
		back += slot.version < version;
		version = slot.version;
		first = first == 0 ? version : first;
	}
	atomic_store(stop, 1);
	cmp_ok(fixture_wait(pid), "==", 0, "%d looks beside %ju events", LOOKS,
	       (uintmax_t)(version - first));
	cmp_ok((intmax_t)(version - first), ">", 1000, "which went on meanwhile");
	cmp_ok(torn, "==", 0, "none is torn");
	cmp_ok(back, "==", 0, "none goes back");
	cmp_ok(moving, "==", 0, "none is given up");
	end();
}

/* ---- what is never still, or was never right */

static void bounds(void)
{
	struct account_slot slot;
	struct peek_note note;
	uint64_t hash;

	begin();
	hash = fixture_hash(region, FIRST, strlen(FIRST));
	struct account_slot *cell =
	    table_find(region, table_stripe(region, hash), hash, FIRST, (uint32_t)strlen(FIRST));
	struct operation_area *area = &region->processes[2].area;
	area->images = 1;
	area->cell[0] = (uint64_t)((unsigned char *)cell - region->base);
	area->image[0].length = OPERATION_CELL_MAX; /* no account is as long */
	atomic_store(&area->commit, cell->lsn + 8);
	cmp_ok(look_up(FIRST, &slot, &note), "==", PEEK_MOVING,
	       "an image that cannot be ends after %d looks", PEEK_TRIES);
	area->images = UINT32_MAX;
	cmp_ok(look_up(SECOND, &slot, &note), "==", PEEK_OK, "nonsense about others is no matter");
	cmp_ok(slot.balance, "==", 7, "they are as they are");
	atomic_store(&area->commit, 0);
	cmp_ok(look_up("nobody", &slot, &note), "==", PEEK_NONE, "who is not there is not found");
	cmp_ok(look_up("", &slot, &note), "==", PEEK_NONE, "nor is who has no name");
	cmp_ok(peek_account(region, 1, LONG LONG, (uint32_t)strlen(LONG LONG), &slot, &note),
	       "==", PEEK_NONE, "nor who has too long a one");
	end();
}

/* ---- locks */

static uint32_t wanted_lock;

static int take_and_stop(void *ignored)
{
	(void)ignored;
	region_enter(region, 1);
	if (!lock_acquire(region, wanted_lock))
		return 1;
	raise(SIGSTOP);
	return 0;
}

static void holder_of(uint32_t lock, const char *guarded)
{
	bool dead;
	int status;

	wanted_lock = lock;
	cmp_ok(peek_holder(region, lock, &dead), "==", 0, "lock %u is free", lock);
	pid_t pid = fixture_fork(take_and_stop, NULL);
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		BAIL_OUT("it did not stop");
	cmp_ok(peek_holder(region, lock, &dead), "==", pid, "its holder is told");
	ok(!dead, "who lives");
	kill(pid, SIGKILL);
	fixture_wait(pid);
	peek_holder(region, lock, &dead);
	ok(dead, "or has died of it");
	ok(strcmp(peek_guarded(region, lock), guarded) == 0, "it guards %s", guarded);
	ok(lock_acquire(region, lock), "it is repaired");
	cmp_ok(peek_holder(region, lock, &dead), "==", getpid(), "and the next one's");
	ok(!dead, "who lives");
	lock_release(region, lock);
}

static void holders(void)
{
	begin();
	holder_of(0, "accounts");
	holder_of(region->header->shape.stripes, "ids");
	holder_of(region->ring_lock - 1, "holds");
	holder_of(region->ring_lock, "ring");
	cmp_ok(peek_locks(region), "==", region->ring_lock + 1, "the ring's is the last lock");
	end();
}

int main(void)
{
	plan(NO_PLAN);
	bounds();
	holders();
	beside_operations();
	if (!step_allowed()) {
		diag("children cannot be traced here: %s", strerror(errno));
		return done_testing();
	}
	at_each_instruction("a transfer", transfer, false);
	at_each_instruction("an account with a long name", create, false);
	at_each_instruction("a deletion", delete, true);
	at_each_instruction("a hold", hold, false);
	return done_testing();
}
