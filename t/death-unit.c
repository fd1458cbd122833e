/*
 * Death at every instruction.  A process is killed after each instruction of an operation on the
 * region; then another one must find that all of it happened or nothing, and go on.  The same again
 * with the one who repairs, killed after each instruction of the repair.  After every death
 *
 *   - nobody hangs: a neighbour reads and posts to every account within a deadline; in one case of
 *     WAITER_EVERY it waits for the victim's lock already when that is killed;
 *   - it happened if and only if it had committed, with all its accounts;
 *   - nothing is read whose record is not in the ring;
 *   - the slot of the dead is adopted and used again;
 *   - the ring's records are sound, each follows the one before it, and replayed they are exactly
 *     the table, the seal and the count of events (death-model.h).
 *
 * TALLYD_DEATH_STRIDE=N takes every Nth instruction only.
 */
#include <linux/futex.h>

#include "../src/ledger/seal.h"
#include "death-model.h"
#include "death-neighbour.h"
#include "death-step.h"

#define STRIPES          4
#define NEW_ACCOUNT      5 /* the one that does not exist yet */
#define LONE_ACCOUNT     6 /* in a stripe that no victim touches */
#define LONE_STRIPE      3
#define VICTIM_POST      5
#define REPAIRER_POST    7
#define WAITER_EVERY     5
#define FAILURES_MAX     3 /* per line of the test */
#define POINTS_MAX       160
#define SANITIZED_STRIDE 61 /* an operation takes many more instructions then */
#define OTHER_STRIDE     31 /* of repairs after deaths that are not the typical ones */
#define POINTS_EVERY     4  /* of those deaths: so many are passed over where time is short */

struct scenario {
	const char *name;
	void (*operation)(uint32_t slot);
	int64_t amount[ACCOUNTS]; /* what it adds if it happens; 0: does not touch it */
	uint32_t wrap_after;      /* bytes from its record to the end of the ring, 0: far */
	uint32_t segment_after;   /* likewise of the segment */
	bool full;                /* queue_events allows none */
	uint32_t repair_stride;   /* its repair is stepped too, in steps of so many; 0: not */
};

/* An operation to be killed, from one state of the region. */
struct run {
	void (*operation)(uint32_t slot);
	uint32_t slot;
	const unsigned char *image; /* the region at its beginning */
	struct step_path path;
	const struct scenario *scenario;
	bool victim_happened; /* for repairs: before it began */
	uint32_t account;     /* to which it posts REPAIRER_POST; ACCOUNTS: to none */
	uint64_t tail;        /* of what had happened before it */
};

static struct region *region;
static struct ledger *ledger;
static struct neighbour neighbour;
static struct model model;
static char name[ACCOUNTS][ACCOUNT_NAME_MAX];
static struct account_view base[ACCOUNTS];
static uint64_t start;
static unsigned stride;
static unsigned deaths, waiters;

/* ---- the operations */

static void post(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[0], VICTIM_POST);
}

static void create(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[NEW_ACCOUNT], VICTIM_POST);
}

static void overflow(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[0], INT64_MAX);
}

static void seal(uint32_t slot)
{
	static const struct seal_link link = {.from = 8192, .to = 16384, .hash = 99};

	region_enter(region, slot);
	ledger_seal(ledger, &link, 1000);
}

static void mark(uint32_t slot)
{
	region_enter(region, slot);
	ledger_mark(ledger, 1000);
}

static void look_at(uint32_t account)
{
	struct account_view view;

	ledger_read(ledger, name[account], (uint32_t)strlen(name[account]), &view);
}

static void read_first(uint32_t slot)
{
	region_enter(region, slot);
	look_at(0);
}

static void read_last(uint32_t slot)
{
	region_enter(region, slot);
	look_at(4);
}

static void repair_by_post(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[0], REPAIRER_POST);
}

static void repair_ring_by_post(uint32_t slot)
{
	region_enter(region, slot);
	fixture_post(ledger, name[LONE_ACCOUNT], REPAIRER_POST);
}

static void adopt(uint32_t slot)
{
	region_enter(region, slot);
	operation_adopt(region);
}

/* Stages account I plus VICTIM_POST, and appends its leg to RECORD. */
static void stage(uint32_t i, struct record_head *record)
{
	uint64_t hash = fixture_hash(region, name[i], strlen(name[i]));
	uint32_t stripe = table_stripe(region, hash), length = (uint32_t)strlen(name[i]);
	struct account_slot *vacancy;
	struct account_slot *found = table_find(region, stripe, hash, name[i], length, &vacancy);
	struct account_slot *after =
	    operation_stage(region, found != NULL ? found : vacancy, stripe, sizeof *after);
	struct record_leg *leg = (struct record_leg *)(void *)((char *)record + record->length);

	if (found == NULL) {
		*after = (struct account_slot){.hash = hash,
		                               .floor = INT64_MIN,
		                               .ceiling = INT64_MAX,
		                               .created_us = 1000,
		                               .name_length = (uint8_t)length};
		memcpy(after->name, name[i], length);
	}
	after->balance += VICTIM_POST;
	after->version++;
	after->updated_us = 1000;
	leg->amount = VICTIM_POST;
	leg->balance = after->balance;
	leg->held = 0;
	leg->version = after->version;
	leg->previous = found != NULL ? found->lsn : 0;
	leg->name_length = (uint8_t)length;
	memcpy(leg->name, name[i], length);
	record->length += (uint32_t)record_leg_size(length);
	record->legs++;
}

/* Five accounts in three stripes, one of them new. */
static void many(uint32_t slot)
{
	static const uint32_t account[] = {0, 1, 2, 4, NEW_ACCOUNT};
	static const uint32_t stripe[] = {2, 0, 1, 0, 2};
	static union {
		struct record_head head;
		unsigned char bytes[JOURNAL_RECORD_MAX];
	} record;
	uint64_t lsn;

	region_enter(region, slot);
	if (!operation_lock(region, stripe, 5))
		return;
	record_plain(&record, RECORD_EVENT, NULL, 0, 1000);
	for (uint32_t i = 0; i < 5; i++)
		stage(account[i], &record.head);
	operation_commit(region, &record, record.head.length, 1, RING_CLIENT, &lsn);
	operation_unlock(region);
}

static const struct scenario scenarios[] = {
    {.name = "a post", .operation = post, .amount = {VICTIM_POST}, .repair_stride = 1},
    {.name = "a post to a new account",
     .operation = create,
     .amount = {[NEW_ACCOUNT] = VICTIM_POST}},
    {.name = "a post across the ring's end",
     .operation = post,
     .amount = {VICTIM_POST},
     .wrap_after = 56},
    {.name = "a post after a filler",
     .operation = post,
     .amount = {VICTIM_POST},
     .segment_after = 56},
    {.name = "a post after a filler across the ring's end",
     .operation = post,
     .amount = {VICTIM_POST},
     .wrap_after = 24,
     .segment_after = 56},
    {.name = "a post after a segment's unused end",
     .operation = post,
     .amount = {VICTIM_POST},
     .segment_after = 40},
    {.name = "five accounts in three stripes",
     .operation = many,
     .amount = {VICTIM_POST, VICTIM_POST, VICTIM_POST, 0, VICTIM_POST, VICTIM_POST},
     .repair_stride = 7},
    {.name = "a post refused for overflow", .operation = overflow},
    {.name = "a post refused for a full queue", .operation = post, .full = true},
    {.name = "a seal", .operation = seal},
    {.name = "a mark", .operation = mark},
    {.name = "a read", .operation = read_first},
};

/* ---- the region at the beginning of a scenario */

static void name_accounts(void)
{
	static const uint32_t stripe[ACCOUNTS] = {0, 0, 1, 1, 2, 2, 3, 3};

	for (uint32_t i = 0; i < ACCOUNTS; i++) {
		char prefix[16];
		snprintf(prefix, sizeof prefix, "account-%u-", i);
		fixture_name_in(region, stripe[i], prefix, name[i]);
	}
}

/* Makes the region, its journal begun at FROM, and two posts to each account but the new one. */
static void begin_at(uint64_t from)
{
	struct region_geometry geometry = fixture_geometry(STRIPES * 64);

	start = from;
	region = fixture_begun(&geometry, from);
	if (region_stripes(region) != STRIPES)
		BAIL_OUT("the table has %u stripes", region_stripes(region));
	name_accounts();
	ledger = ledger_open(region, SLOT_BASE);
	for (uint32_t i = 0; i < 2 * ACCOUNTS; i++)
		if (i % ACCOUNTS != NEW_ACCOUNT)
			fixture_post(ledger, name[i % ACCOUNTS], 10 + i);
}

static void end(void)
{
	ledger_close(ledger);
	region_close(region);
}

static uint64_t tail_now(void)
{
	return atomic_load(&region->header->marks.tail);
}

static unsigned char *image_now(void)
{
	unsigned char *image = malloc(region->size);

	if (image == NULL)
		BAIL_OUT("out of memory");
	memcpy(image, region->base, region->size);
	return image;
}

static void begin(const struct scenario *scenario)
{
	struct region_geometry geometry = fixture_geometry(STRIPES * 64);
	uint64_t from = SEGMENT_HEAD;

	begin_at(from);
	if (scenario->wrap_after != 0) {
		from += 2 * geometry.ring_size - tail_now() - scenario->wrap_after;
		end();
		begin_at(from);
	}
	if (scenario->segment_after != 0)
		region->header->segment_end = tail_now() + scenario->segment_after;
	if (scenario->full)
		atomic_store(&region_settings(region)->queue_events, 0);
	for (uint32_t i = 0; i < ACCOUNTS; i++)
		if (ledger_read(ledger, name[i], (uint32_t)strlen(name[i]), &base[i]) !=
		    OUTCOME_ACCEPTED)
			base[i] = (struct account_view){0};
	model.region = fixture_region(&geometry);
	neighbour.region = region;
	neighbour.name = name;
	neighbour_start(&neighbour);
}

static void finish(void)
{
	neighbour_stop(&neighbour);
	region_close(model.region);
	end();
}

/* ---- one death */

static uint32_t lock_word(uint32_t number)
{
	/* glibc's: the owner's thread id, and whether somebody waits. */
	return (uint32_t)__atomic_load_n(&region->locks[number].mutex.__data.__lock,
	                                 __ATOMIC_SEQ_CST);
}

static bool holds(pid_t pid, uint32_t number)
{
	return (lock_word(number) & FUTEX_TID_MASK) == (uint32_t)pid;
}

/*
 * Sends the neighbour into a lock that PID holds, if there is one, and waits until it sleeps there:
 * the ring's, if the way to it is free.
 */
static bool send_waiter(pid_t pid, struct order *order)
{
	uint64_t until = clock_monotonic_us() + (uint64_t)fixture_deadline() * 1000000;
	uint32_t number = 0;

	while (number < STRIPES && !holds(pid, number))
		number++;
	*order = (struct order){.act = READ_FIRST, .account = number * 2}; /* two to a stripe */
	if (holds(pid, STRIPES) && !holds(pid, LONE_STRIPE)) {
		number = STRIPES;
		*order = (struct order){.act = POST_FIRST, .account = LONE_ACCOUNT};
	}
	if (!holds(pid, number))
		return false;
	neighbour_order(&neighbour, order);
	while ((lock_word(number) & FUTEX_WAITERS) == 0) {
		if (clock_monotonic_us() > until)
			BAIL_OUT("the neighbour does not wait for lock %u", number);
		sched_yield();
	}
	waiters++;
	return true;
}

/* Has the operation of SLOT's owner, now stopped or dead, happened?  TAIL was the tail before it.
 */
static bool happened(uint32_t slot, uint64_t tail)
{
	return atomic_load(&region->processes[slot].area.commit) != 0 || tail_now() > tail;
}

/* What account I must be when first read. */
static const char *judge_view(const struct run *run, const struct order *order, bool victim,
                              bool repairer, uint32_t i)
{
	const struct account_view *view = &neighbour.report->view[i];
	int64_t balance = base[i].balance;
	uint64_t version = base[i].version;

	if (victim && run->scenario->amount[i] != 0) {
		balance += run->scenario->amount[i];
		version++;
	}
	if (repairer && run->account == i) {
		balance += REPAIRER_POST;
		version++;
	}
	if (order->act == POST_FIRST && order->account == i) {
		balance += NEIGHBOUR_POST;
		version++;
	}
	if (neighbour.report->known[i] != (version != 0))
		return version != 0 ? "an account is lost" : "an account came from nowhere";
	if (version != 0 && (view->balance != balance || view->version != version))
		return "a balance is neither before nor after, or not what was committed";
	return NULL;
}

static const char *judge(const struct run *run, const struct order *order, bool victim,
                         bool repairer)
{
	if (neighbour.report->why[0] != '\0')
		return neighbour.report->why;
	if (region_poisoned(region))
		return "the region is poisoned";
	for (uint32_t i = 0; i < ACCOUNTS; i++) {
		const char *why = judge_view(run, order, victim, repairer, i);
		if (why != NULL)
			return why;
	}
	for (uint32_t slot = 0; slot < SLOT_BASE; slot++)
		if (atomic_load(&region->processes[slot].area.commit) != 0)
			return "an operation area is not clear";
	if (!model_agrees(&model, region, start))
		return model.why;
	if ((model.marks != 0) != (victim && run->scenario->operation == mark) ||
	    (model.seal.lsn != 0) != (victim && run->scenario->operation == seal))
		return "a committed record is lost, or another one was written";
	return NULL;
}

static struct order usual_order(uint32_t n)
{
	return (struct order){.act = (enum first_act)(n % 3), .account = n / 3 % ACCOUNTS};
}

/* Kills RUN's operation after N instructions.  NULL, or what is wrong then. */
static const char *death(struct run *run, uint32_t n)
{
	struct order order = usual_order(n);
	bool victim = run->victim_happened, repairer = false;

	memcpy(region->base, run->image, region->size);
	pid_t pid = step_start(run->operation, run->slot);
	if (!step_to(pid, &run->path, n)) {
		step_kill(pid);
		return "it went another way than the first time";
	}
	if (run->slot == SLOT_VICTIM && run->operation != adopt)
		victim = happened(SLOT_VICTIM, run->tail);
	else
		repairer = run->account < ACCOUNTS && happened(SLOT_REPAIRER, run->tail);
	bool waits = n % WAITER_EVERY == 0 && send_waiter(pid, &order);
	/* A queue that was full is none any more: the neighbour posts. */
	atomic_store(&region_settings(region)->queue_events, UINT64_MAX);
	step_kill(pid);
	if (!waits) {
		order = usual_order(n);
		neighbour_order(&neighbour, &order);
	}
	deaths++;
	neighbour_answer(&neighbour);
	return judge(run, &order, victim, repairer);
}

/* Kills it at every STEPth instruction from FIRST on; the number of failures, at most FAILURES_MAX.
 */
static unsigned deaths_of(struct run *run, uint32_t first, uint32_t step, const char *what)
{
	unsigned failures = 0;

	for (uint32_t n = first; n <= run->path.steps && failures < FAILURES_MAX; n += step) {
		const char *why = death(run, n);
		if (why == NULL)
			continue;
		failures++;
		diag("%s, killed after %u of %u instructions: %s", what, n, run->path.steps, why);
	}
	return failures;
}

/* ---- where the state changes */

static uint32_t changes[POINTS_MAX];
static uint32_t change_count;

/* Everything by which a death could be told from another. */
static uint64_t digest(void)
{
	const struct region_marks *marks = &region->header->marks;
	uint64_t parts[5 + STRIPES + 1] = {
	    XXH3_64bits(region->slots, region_slots(region) * sizeof *region->slots),
	    XXH3_64bits(region->seal, sizeof *region->seal), atomic_load(&marks->events),
	    atomic_load(&marks->tail), atomic_load(&region->processes[SLOT_VICTIM].area.commit)};

	for (uint32_t i = 0; i <= STRIPES; i++)
		parts[5 + i] = (lock_word(i) & FUTEX_TID_MASK) != 0;
	return XXH3_64bits(parts, sizeof parts);
}

static void note_change(uint32_t n)
{
	static uint64_t last;
	uint64_t now = digest();

	if (n == 0)
		change_count = 0;
	else if (now != last && change_count < POINTS_MAX)
		changes[change_count++] = n;
	last = now;
}

/* ---- repairs */

/* What is left by a victim killed after STEP instructions. */
struct point {
	uint32_t step;
	unsigned char *image;
	bool happened;
	bool committed; /* its area counts */
	bool ring;      /* which locks it died with */
	bool first;
	bool last;
	bool typical;
	uint64_t tail;
};

static struct point leave(struct run *run, uint32_t step)
{
	struct point point = {.step = step};

	memcpy(region->base, run->image, region->size);
	pid_t pid = step_start(run->operation, run->slot);
	if (!step_to(pid, &run->path, step))
		BAIL_OUT("%s went another way than the first time", run->scenario->name);
	point.happened = happened(SLOT_VICTIM, run->tail);
	point.committed = atomic_load(&region->processes[SLOT_VICTIM].area.commit) != 0;
	point.ring = holds(pid, STRIPES);
	point.first = holds(pid, 0);
	point.last = holds(pid, 2);
	point.tail = point.happened ? region->processes[SLOT_VICTIM].area.new_tail : run->tail;
	step_kill(pid);
	point.image = image_now();
	return point;
}

/* Kills those who repair by OPERATION after the death at POINT. */
static unsigned repairs_by(const struct scenario *scenario, const struct point *point,
                           void (*operation)(uint32_t slot), uint32_t slot, uint32_t account)
{
	struct run run = {.operation = operation,
	                  .slot = slot,
	                  .image = point->image,
	                  .scenario = scenario,
	                  .victim_happened = point->happened,
	                  .account = account,
	                  .tail = point->tail};
	uint32_t step = stride * scenario->repair_stride * (point->typical ? 1 : OTHER_STRIDE);
	char what[96];

	memcpy(region->base, point->image, region->size);
	step_record(&run.path, operation, slot, NULL);
	snprintf(what, sizeof what, "%s, left after %u; its repair", scenario->name, point->step);
	unsigned failures = deaths_of(&run, point->typical ? 0 : point->step % step, step, what);
	step_free(&run.path);
	return failures;
}

/* After a typical death each way to repair it is taken, after another one of them, by TURN. */
static unsigned repairs_at(const struct scenario *scenario, const struct point *point,
                           unsigned turn)
{
	const struct {
		bool suits;
		void (*operation)(uint32_t slot);
		uint32_t slot, account;
	} ways[] = {
	    {point->first, read_first, SLOT_REPAIRER, ACCOUNTS},
	    {point->committed, adopt, SLOT_VICTIM, ACCOUNTS},
	    {point->ring, repair_ring_by_post, SLOT_REPAIRER, LONE_ACCOUNT},
	    {point->last, read_last, SLOT_REPAIRER, ACCOUNTS},
	    {point->first && !point->typical, repair_by_post, SLOT_REPAIRER, 0},
	};
	const unsigned count = sizeof ways / sizeof *ways;
	unsigned failures = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned way = (turn + i) % count;
		if (!ways[way].suits)
			continue;
		failures += repairs_by(scenario, point, ways[way].operation, ways[way].slot,
		                       ways[way].account);
		if (!point->typical)
			break;
	}
	return failures;
}

/*
 * The deaths just before and just after every change of state.  Two are typical, and repaired with
 * a death at every instruction: just committed, and in the middle of copying the images.
 */
static unsigned repairs_of(struct run *run)
{
	unsigned failures = 0, committed = 0, copying = 0;
	uint32_t last = UINT32_MAX;
	uint32_t every = run->scenario->repair_stride == 1 ? 1 : POINTS_EVERY;

	/* The recording of each path is what takes longest where the paths are long. */
	if (FIXTURE_SANITIZED)
		every *= POINTS_EVERY;

	for (uint32_t i = 0; i < 2 * change_count && failures < FAILURES_MAX; i++) {
		uint32_t step = changes[i / 2] - 1 + i % 2;
		if (step == last)
			continue;
		last = step;
		struct point point = leave(run, step);
		if (point.committed && point.ring)
			point.typical = committed++ == 0;
		else if (point.committed)
			point.typical = copying++ == 2;
		if (point.typical || i % every == 0)
			failures += repairs_at(run->scenario, &point, i);
		free(point.image);
	}
	return failures;
}

/* ---- all of it */

static void play(const struct scenario *scenario)
{
	begin(scenario);
	unsigned char *image = image_now();
	struct run run = {.operation = scenario->operation,
	                  .slot = SLOT_VICTIM,
	                  .image = image,
	                  .scenario = scenario,
	                  .account = ACCOUNTS,
	                  .tail = tail_now()};
	uint64_t began = clock_monotonic_us();

	step_record(&run.path, run.operation, run.slot, note_change);
	deaths = waiters = 0;
	unsigned failures = deaths_of(&run, 0, stride, scenario->name);
	ok(failures == 0, "%s: killed at %u of %u instructions, %u times with a waiter (%.1f s)",
	   scenario->name, deaths, run.path.steps + 1, waiters,
	   (double)(clock_monotonic_us() - began) / 1e6);
	if (scenario->repair_stride != 0) {
		began = clock_monotonic_us();
		deaths = waiters = 0;
		failures = repairs_of(&run);
		ok(failures == 0, "... and its repairs: %u deaths, %u times with a waiter (%.1f s)",
		   deaths, waiters, (double)(clock_monotonic_us() - began) / 1e6);
	}
	step_free(&run.path);
	free(image);
	finish();
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
		execl("/proc/self/exe", "death-unit", (char *)NULL);
	if (!step_allowed())
		plan(SKIP_ALL, "ptrace(2) is not allowed here: %s", strerror(errno));
	plan(NO_PLAN);
	stride = fixture_number("TALLYD_DEATH_STRIDE", FIXTURE_SANITIZED ? SANITIZED_STRIDE : 1);
	neighbour.report = fixture_shared(sizeof *neighbour.report);
	pin();
	for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
		play(&scenarios[i]);
	return done_testing();
}
