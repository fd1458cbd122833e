/*
 * The operations, all of them: at random against a model, then from many processes at once.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "ledger-model.h"

#define SECOND_US UINT64_C(1000000)

/* ---- all of it, against the model */

#define STEPS 6000 /* TALLYD_TEST_STEPS */

static uint64_t random_state;

/* splitmix64: the same on every machine. */
static uint64_t draw(void)
{
	uint64_t value = random_state += UINT64_C(0x9e3779b97f4a7c15);

	value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
	return value ^ (value >> 31);
}

static unsigned below(unsigned limit)
{
	return (unsigned)(draw() % limit);
}

static bool one_in(unsigned times)
{
	return below(times) == 0;
}

static int64_t draw_amount(void)
{
	if (one_in(12))
		return 0;
	if (one_in(40)) {
		static const int64_t extremes[] = {INT64_MAX,        INT64_MIN,
		                                   INT64_MAX - 1,    INT64_MIN + 1,
		                                   INT64_C(1) << 62, -(INT64_C(1) << 62)};
		return extremes[below(6)];
	}
	return (int64_t)below(121) - 60;
}

static int64_t draw_positive(void)
{
	int64_t amount = draw_amount();

	if (amount == INT64_MIN || amount == INT64_MAX)
		return INT64_MAX;
	return amount < 0 ? -amount : amount + 1;
}

static const char *draw_name(const struct model *model)
{
	return model->account[below(MODEL_ACCOUNTS)].name;
}

static struct attributes draw_attributes(void)
{
	struct attributes attributes = {.floor = one_in(3) ? FLOOR_NONE : -(int64_t)below(100),
	                                .ceiling = one_in(3) ? CEILING_NONE : (int64_t)below(300)};

	if (one_in(5))
		attributes.frozen = one_in(2) ? FROZEN_DEBITS : FROZEN_ALL;
	return attributes;
}

/* A hold, nearly always one that was placed. */
static const char *draw_hold(const struct model *model)
{
	unsigned recent = model->holds < 30 ? model->holds : 30;

	if (recent == 0 || one_in(20))
		return "no such hold";
	return model->hold[model->holds - 1 - below(recent)].id;
}

static struct request draw_transaction(const struct model *model)
{
	struct request request = {.kind = REQUEST_TRANSACTION,
	                          .legs = (uint8_t)(1 + below(MODEL_ACCOUNTS)),
	                          .balanced = one_in(2)};
	unsigned first = below(MODEL_ACCOUNTS);
	int64_t sum = 0;

	for (unsigned i = 0; i < request.legs; i++) {
		int64_t amount = (int64_t)below(41) - 20;
		if (i + 1u == request.legs && !one_in(8))
			amount = -sum;
		sum += amount;
		request.leg[i] = (struct leg){
		    .account = words_of(model->account[(first + i) % MODEL_ACCOUNTS].name),
		    .amount = amount};
	}
	return request;
}

static struct request draw_transfer(const struct model *model)
{
	unsigned from = below(MODEL_ACCOUNTS);
	unsigned to = (from + 1 + below(MODEL_ACCOUNTS - 1)) % MODEL_ACCOUNTS;

	return transfer_of(model->account[from].name, model->account[to].name, draw_positive());
}

/* HOLD_ID: for a hold that has no other. */
static struct request draw_request(const struct model *model, const char *hold_id)
{
	const char *name = draw_name(model);
	struct request request;

	switch (below(16)) {
	case 0:
	case 1:
		return draw_transfer(model);
	case 2:
	case 3:
		return draw_transaction(model);
	case 4:
		request = account_of(one_in(2) ? REQUEST_CREATE : REQUEST_REPLACE, name, 0, 0, 0);
		request.attributes = draw_attributes();
		return request;
	case 5:
		return delete_of(name);
	case 6:
	case 7:
	case 8:
		request = hold_of(name, draw_positive(), 1 + below(5), "");
		request.hold = words_of(hold_id);
		return request;
	case 9:
	case 10:
		return capture_of(draw_hold(model), one_in(3) ? ALL_OF_IT : (int64_t)below(80),
		                  one_in(2) ? name : NULL);
	case 11:
		return release_of(draw_hold(model));
	default:
		return event_of(name, draw_amount());
	}
}

/* The account whose version REQUEST may name; NULL: none, or several. */
static const struct model_account *only_account(struct model *model, const struct request *request)
{
	if (request->kind <= REQUEST_HOLD)
		return request->kind != REQUEST_TRANSFER
		           ? model_find(model, request->leg[0].account)
		           : NULL;
	const struct model_hold *hold = model_find_hold(model, request->hold);
	return hold != NULL && request->legs == 0 ? &model->account[hold->account] : NULL;
}

static struct request draw_dressed(struct model *model, char ids[2][MODEL_ID_SIZE])
{
	static unsigned count;
	struct request request;

	snprintf(ids[0], MODEL_ID_SIZE, "made-%u", count++);
	snprintf(ids[1], MODEL_ID_SIZE, "given-%u", count++);
	/* The same again, or another with the same id. */
	if (model->ids != 0 && one_in(8)) {
		const struct model_id *known = &model->id[below(model->ids)];
		request = one_in(4) ? draw_request(model, ids[0]) : known->request;
		return with_id(request, known->id);
	}
	request = draw_request(model, ids[0]);
	const struct model_account *account = only_account(model, &request);
	if (account != NULL && one_in(6)) {
		request.match = one_in(4) ? MATCH_ANY : MATCH_VERSION;
		if (request.match == MATCH_VERSION)
			request.version = account->version + (one_in(3) ? 1 : 0);
	}
	if (one_in(3))
		request.note = words_of("a note");
	return one_in(2) ? with_id(request, ids[1]) : request;
}

/* Requests live as long as the model: so do the names of holds in them. */
static void keep_hold(const struct model *model, struct request *request)
{
	for (unsigned i = 0; i < model->holds; i++)
		if (model_words_same(request->hold, words_of(model->hold[i].id)))
			request->hold = words_of(model->hold[i].id);
}

static bool step_one(struct world *world, struct model *model)
{
	char ids[2][MODEL_ID_SIZE];
	struct request request = draw_dressed(model, ids);
	unsigned known = model->ids;
	struct result actual = world_apply(world, &request);
	struct result expected = model_apply(model, &request, world->run.now_us, &actual);

	if (model->ids > known)
		keep_hold(model, &model->id[model->ids - 1].request);
	if (!model_agrees(&expected, &actual)) {
		diag("a request of kind %d", (int)request.kind);
		return false;
	}
	return model->ids == known || recorded(world, &actual);
}

static bool step_group(struct world *world, struct model *model)
{
	char ids[GROUP_MAX][2][MODEL_ID_SIZE];
	struct request request[GROUP_MAX];
	struct result actual[GROUP_MAX];
	unsigned count = 0;
	bool good = true;

	while (count < GROUP_MAX && !one_in(10)) {
		request[count] = draw_dressed(model, ids[count]);
		if (request[count].kind != REQUEST_EVENT)
			continue;
		/* One that another member of the group has as well. */
		if (count > 0 && one_in(10))
			request[count].id = request[below(count)].id;
		count++;
	}
	apply_group(world, request, count, actual);
	for (unsigned i = 0; i < count; i++) {
		unsigned known = model->ids;
		struct result expected =
		    model_apply(model, &request[i], world->run.now_us, &actual[i]);
		good = good && model_agrees(&expected, &actual[i]) &&
		       (model->ids == known || recorded(world, &actual[i]));
		if (!good) {
			diag("member %u of %u", i, count);
			break;
		}
	}
	return good;
}

/* The clock may find a hold up to a quarter of a second late. */
static bool step_expire(struct world *world, struct model *model)
{
	size_t expired = ledger_expire(world->run.ledger, world->run.now_us, SIZE_MAX);
	size_t count = 0;

	run_commit(&world->run);
	for (unsigned i = 0; i < model->holds; i++) {
		struct model_hold *hold = &model->hold[i];
		if (hold->state != HOLD_OPEN || world_hold(world, hold->id).state != HOLD_EXPIRED)
			continue;
		if (hold->expires_us > world->run.now_us)
			return false;
		model_expire(model, hold);
		count++;
	}
	return count == expired;
}

static bool step(struct world *world, struct model *model)
{
	world->run.now_us += below(400000);
	if (one_in(10))
		return step_group(world, model);
	if (one_in(20))
		return step_expire(world, model);
	return step_one(world, model);
}

/* Does every id still stand for what it did? */
static bool ids_remembered(struct world *world, struct model *model)
{
	for (unsigned i = 0; i < model->ids; i++) {
		const struct model_id *id = &model->id[i];
		struct result again = world_apply(world, &id->request);
		if (again.replayed && results_same(&again, &id->answer))
			continue;
		diag("the id %s, of kind %d", id->id, (int)id->request.kind);
		result_diag("once", &id->answer);
		result_diag("now", &again);
		return false;
	}
	return true;
}

static struct model *model_make(void)
{
	struct model *model = calloc(1, sizeof *model);
	static const char *const names[MODEL_ACCOUNTS] = {
	    "a",
	    "b",
	    "c",
	    "dd",
	    "eee",
	    "a name of some length",
	    "a name that is longer than one slot of the table, which has to take two of them"};

	must(model != NULL, "calloc");
	model->auto_create = true;
	model->newborn = (struct attributes){.floor = FLOOR_NONE, .ceiling = CEILING_NONE};
	for (unsigned i = 0; i < MODEL_ACCOUNTS; i++)
		model->account[i].name = names[i];
	return model;
}

static void test_model(void)
{
	const struct sizes large = {.segment_size = 1 << 18,
	                            .ring_size = 1 << 18,
	                            .max_accounts = 200,
	                            .max_ids = MODEL_IDS,
	                            .max_holds = MODEL_HOLDS};
	struct model *model = model_make();
	size_t steps = setting("TALLYD_TEST_STEPS", STEPS);
	struct world world;
	bool good = true;
	size_t done = 0;

	random_state = setting("TALLYD_TEST_SEED", (size_t)clock_real_us());
	diag("TALLYD_TEST_SEED=%" PRIu64, random_state);
	world_open(&world, &large);
	while (good && done < steps) {
		good = step(&world, model);
		done++;
		if (good && (done % 64 == 0 || done == steps))
			good = model_holds_for(model, &world);
	}
	ok(good, "%zu of %zu steps at random agree with the model: %u ids, %u holds", done, steps,
	   model->ids, model->holds);
	ok(good && ids_remembered(&world, model), "every id stands for what it did");

	struct run again;
	run_commit(&world.run);
	bool started = run_start(&again, &world.place, &large);
	ok(started, "the journal is replayed: %s", again.error);
	ok(started && table_same(world.run.region, again.region),
	   "into the same accounts, ids and holds");
	if (started)
		run_leave(&again);
	world_restart(&world);
	ok(model_holds_for(model, &world), "which are those of the model");
	ok(good && ids_remembered(&world, model), "and every id stands for what it did");
	world_close(&world);
	free(model);
}

/* ---- many at once */

#define WRITERS  4
#define ROUNDS   4000 /* TALLYD_TEST_ROUNDS */
#define PARTNERS 20

static void partner_name(char *name, unsigned number)
{
	snprintf(name, 16, "partner-%u", number);
}

/* Applies REQUEST, as often as there is no room for it. */
static enum outcome insist(struct ledger *ledger, const struct request *request)
{
	struct result result;

	for (;;) {
		ledger_apply(ledger, request, clock_real_us(), &result);
		if (result.outcome == OUTCOME_READ_FAILED)
			diag("reading %" PRIu64 ": %s", result.lsn, strerror(errno));
		if (result.outcome != OUTCOME_QUEUE_FULL)
			return result.outcome;
		sched_yield();
	}
}

/* Transfers that go to and fro between the same two accounts. */
static bool to_and_fro(struct ledger *ledger, unsigned number, size_t rounds)
{
	struct request request = number % 2 == 0 ? transfer_of("partner-0", "partner-1", 3)
	                                         : transfer_of("partner-1", "partner-0", 3);

	for (size_t i = 0; i < rounds; i++)
		if (insist(ledger, &request) != OUTCOME_ACCEPTED)
			return false;
	return true;
}

static bool everybody(struct ledger *ledger, size_t rounds)
{
	char name[LEGS_MAX][16];
	struct request request = {.kind = REQUEST_TRANSACTION, .legs = LEGS_MAX, .balanced = true};

	for (size_t i = 0; i < rounds / 4; i++) {
		unsigned first = below(PARTNERS);
		unsigned stride = one_in(2) ? 1 : PARTNERS - 1;
		int64_t sum = 0;
		for (unsigned leg = 0; leg < LEGS_MAX; leg++) {
			int64_t amount = leg + 1 == LEGS_MAX ? -sum : (int64_t)below(9) - 4;
			partner_name(name[leg], (first + leg * stride) % PARTNERS);
			request.leg[leg] =
			    (struct leg){.account = words_of(name[leg]), .amount = amount};
			sum += amount;
		}
		if (insist(ledger, &request) != OUTCOME_ACCEPTED)
			return false;
	}
	return true;
}

/* Holds of one account for the benefit of another, which everybody tries to settle. */
/* In one of four ways; the last is the clock, by which any hold is over as soon as it is placed. */
static enum outcome settle(struct ledger *ledger, unsigned how, const char *id, const char *to)
{
	static uint64_t late_us = 1000 * SECOND_US;
	const struct request requests[] = {capture_of(id, 4, to), release_of(id),
	                                   capture_of(id, ALL_OF_IT, to)};

	if (how < 3)
		return insist(ledger, &requests[how]);
	late_us += LEDGER_EXPIRE_EVERY_MS * 1000;
	ledger_expire(ledger, clock_real_us() + late_us, 8);
	return OUTCOME_ACCEPTED;
}

/* Holds of one account for the benefit of another, which everybody tries to place and to settle. */
static bool held(struct ledger *ledger, unsigned number, size_t rounds)
{
	char id[32], from[16], to[16];

	for (size_t i = 0; i < rounds / 4; i++) {
		snprintf(id, sizeof id, "shared-%zu", i);
		partner_name(from, (unsigned)i % PARTNERS);
		partner_name(to, (unsigned)(i + 1) % PARTNERS);
		struct request place = hold_of(from, 5, 600, id);
		enum outcome placed = insist(ledger, &place);
		enum outcome settled = settle(ledger, (number + (unsigned)i) % 4, id, to);
		if (placed != OUTCOME_ACCEPTED ||
		    (settled != OUTCOME_ACCEPTED && settled != OUTCOME_HOLD_SETTLED)) {
			diag("hold %s: placed %d, settled %d", id, (int)placed, (int)settled);
			return false;
		}
	}
	return true;
}

static int writer(struct world *world, unsigned number, size_t rounds)
{
	struct ledger *ledger = ledger_open(world->run.region, 1 + number, world->run.history);

	random_state = number;
	return ledger != NULL && to_and_fro(ledger, number, rounds) && everybody(ledger, rounds) &&
	               held(ledger, number, rounds)
	           ? 0
	           : 1;
}

static pid_t start_writer(struct world *world, unsigned number, size_t rounds)
{
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(writer(world, number, rounds));
}

/* The parent is the journal writer. */
static bool drain_until_done(struct world *world, const pid_t *pid, uint64_t deadline_us)
{
	unsigned left = WRITERS;
	bool good = true;

	while (left > 0 && clock_monotonic_us() < deadline_us) {
		int status;
		run_extend(&world->run);
		run_commit(&world->run);
		pid_t gone = waitpid(-1, &status, WNOHANG);
		if (gone > 0) {
			left--;
			good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
		}
		sched_yield();
	}
	for (unsigned i = 0; left > 0 && i < WRITERS; i++)
		kill(pid[i], SIGKILL);
	while (left > 0 && waitpid(-1, NULL, 0) > 0)
		left--;
	run_commit(&world->run);
	return good && clock_monotonic_us() < deadline_us;
}

static void test_together(void)
{
	const struct sizes sizes = {.segment_size = 1 << 20,
	                            .ring_size = 1 << 18,
	                            .max_accounts = 64,
	                            .max_ids = 50000,
	                            .max_holds = 5000};
	size_t rounds = setting("TALLYD_TEST_ROUNDS", FIXTURE_SANITIZED ? ROUNDS / 4 : ROUNDS);
	uint64_t deadline_us = clock_after_us(60.0 * (double)setting("TALLYD_TEST_PATIENCE", 1));
	struct world world;
	char name[16];
	int64_t sum = 0, still = 0;
	unsigned state[5] = {0};
	pid_t pid[WRITERS];

	world_open(&world, &sizes);
	for (unsigned i = 0; i < PARTNERS; i++) {
		partner_name(name, i);
		must_accept(&world, event_of(name, 1000000));
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pid[i] = start_writer(&world, i, rounds);
	ok(drain_until_done(&world, pid, deadline_us),
	   "%u processes at once, with the same accounts, ids and holds", WRITERS);
	for (uint64_t i = 0; i < holds_slots(world.run.region); i++)
		state[holds_slot(world.run.region, i)->state % 5]++;
	ok(state[HOLD_OPEN] == 0 && state[HOLD_CAPTURED] > 0 && state[HOLD_RELEASED] > 0 &&
	       state[HOLD_EXPIRED] > 0,
	   "holds were captured (%u), released (%u) and expired (%u)", state[HOLD_CAPTURED],
	   state[HOLD_RELEASED], state[HOLD_EXPIRED]);
	for (unsigned i = 0; i < PARTNERS; i++) {
		partner_name(name, i);
		struct account_view view = world_account(&world, name);
		sum += view.balance;
		still += view.held;
	}
	cmp_ok(sum, "==", PARTNERS * 1000000, "nothing was lost, and nothing made");
	cmp_ok(still, "==", 0, "nothing is held");
	struct run again;
	bool started = run_start(&again, &world.place, &sizes);
	ok(started && table_same(world.run.region, again.region),
	   "and the journal says the same: %s", again.error);
	if (started)
		run_leave(&again);
	world_close(&world);
}

int main(void)
{
	plan(NO_PLAN);
	test_model();
	test_together();
	cmp_ok(world_unlocked, "==", 0, "whatever was changed was locked");
	return done_testing();
}
