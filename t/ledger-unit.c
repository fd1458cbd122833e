/* The operations: each rule by itself.  All of them together: t/ledger-random.c. */
#include <sys/wait.h>

#include "../shm/lock.h"
#include "../src/ledger/segment.h"
#include "../src/ledger/snapshot.h"
#include "ledger-world.h"

#define SECOND_US UINT64_C(1000000)
#define MANY      (INT64_C(1) << 62)

static const struct sizes ordinary = {.segment_size = 1 << 20,
                                      .ring_size = 1 << 18,
                                      .max_accounts = 2000,
                                      .max_ids = 5000,
                                      .max_holds = 1000};

static const char long_name[] = "this-account-has-a-name-that-does-not-fit-into-one-slot-of-the-"
                                "table-and-so-it-takes-two-of-them";

/* ---- what a balance may do */

/*
 * An account with this balance, of which so much is held by one hold, and these attributes; what
 * is asked of it; and what must be the answer.
 */
struct rule {
	const char *says;
	int64_t balance, held, floor, ceiling;
	enum frozen frozen;
	enum { EVENT, OUT, IN, HOLD, CAPTURE, RELEASE, GIVE } asks;
	int64_t amount;
	enum outcome outcome;
	int64_t available, required, limit;
};

#define NO_LIMITS FLOOR_NONE, CEILING_NONE
#define ABOVE_0   0, CEILING_NONE
#define UP_TO(n)  FLOOR_NONE, (n)
#define MAX       INT64_MAX
#define MIN       INT64_MIN
#define SHORT     OUTCOME_INSUFFICIENT_FUNDS
#define FROZEN    OUTCOME_ACCOUNT_FROZEN
#define TOO_HIGH  OUTCOME_CEILING_EXCEEDED
#define OVER      OUTCOME_OVERFLOW

static const struct rule rules[] = {
    {"a credit", 0, 0, ABOVE_0, FROZEN_NONE, EVENT, 5, 0, 0, 0, 0},
    {"a debit of all", 5, 0, ABOVE_0, FROZEN_NONE, EVENT, -5, 0, 0, 0, 0},
    {"a debit of more", 5, 0, ABOVE_0, FROZEN_NONE, EVENT, -6, SHORT, 5, 6, 0},
    {"a debit of what is held", 9, 4, ABOVE_0, FROZEN_NONE, EVENT, -6, SHORT, 5, 6, 0},
    {"a debit of all but that", 9, 4, ABOVE_0, FROZEN_NONE, EVENT, -5, 0, 0, 0, 0},
    {"a debit into the red", 0, 0, -10, CEILING_NONE, FROZEN_NONE, EVENT, -10, 0, 0, 0, 0},
    {"a debit beyond it", 0, 0, -10, CEILING_NONE, FROZEN_NONE, EVENT, -11, SHORT, 10, 11, 0},
    {"a debit of one below its floor", 3, 0, 7, CEILING_NONE, FROZEN_NONE, EVENT, -1, SHORT, -4, 1,
     0},
    {"a credit of one below its floor", 3, 0, 7, CEILING_NONE, FROZEN_NONE, EVENT, 1, 0, 0, 0, 0},
    {"the greatest debit", MAX, 0, ABOVE_0, FROZEN_NONE, EVENT, MIN, SHORT, MAX, MAX, 0},
    {"what is short has one", -MAX, 0, MAX, CEILING_NONE, FROZEN_NONE, EVENT, -1, SHORT, MIN, 1, 0},
    {"a debit down to the least", 0, 0, NO_LIMITS, FROZEN_NONE, EVENT, MIN, 0, 0, 0, 0},
    {"a debit below it", -1, 0, NO_LIMITS, FROZEN_NONE, EVENT, MIN, OVER, 0, 0, 0},
    {"a debit that a hold forbids", -3, 4, NO_LIMITS, FROZEN_NONE, EVENT, -MAX + 3, OVER, 0, 0, 0},
    {"a credit up to the greatest", 1, 0, NO_LIMITS, FROZEN_NONE, EVENT, MAX - 1, 0, 0, 0, 0},
    {"a credit above it", 1, 0, NO_LIMITS, FROZEN_NONE, EVENT, MAX, OVER, 0, 0, 0},
    {"a credit up to the ceiling", 3, 0, UP_TO(10), FROZEN_NONE, EVENT, 7, 0, 0, 0, 0},
    {"a credit beyond it", 3, 0, UP_TO(10), FROZEN_NONE, EVENT, 8, TOO_HIGH, 0, 0, 10},
    {"a credit that overflows below it", 3, 0, UP_TO(10), FROZEN_NONE, EVENT, MAX, TOO_HIGH, 0, 0,
     10},
    {"a debit above the ceiling", 30, 0, UP_TO(10), FROZEN_NONE, EVENT, -5, 0, 0, 0, 0},
    {"a credit above the ceiling", 30, 0, UP_TO(10), FROZEN_NONE, EVENT, 1, TOO_HIGH, 0, 0, 10},
    {"a debit, debits frozen", 5, 0, NO_LIMITS, FROZEN_DEBITS, EVENT, -1, FROZEN, 0, 0, 0},
    {"a credit, debits frozen", 5, 0, NO_LIMITS, FROZEN_DEBITS, EVENT, 1, 0, 0, 0, 0},
    {"a debit, all frozen", 5, 0, NO_LIMITS, FROZEN_ALL, EVENT, -1, FROZEN, 0, 0, 0},
    {"a credit, all frozen", 5, 0, NO_LIMITS, FROZEN_ALL, EVENT, 1, FROZEN, 0, 0, 0},
    {"frozen goes before short", 5, 0, ABOVE_0, FROZEN_ALL, EVENT, -9, FROZEN, 0, 0, 0},
    {"nothing", 5, 0, ABOVE_0, FROZEN_NONE, EVENT, 0, 0, 0, 0, 0},
    {"nothing, all frozen", 5, 0, ABOVE_0, FROZEN_ALL, EVENT, 0, 0, 0, 0, 0},
    {"nothing, below the floor", 5, 0, 9, CEILING_NONE, FROZEN_NONE, EVENT, 0, 0, 0, 0, 0},
    {"a transfer out", 5, 0, ABOVE_0, FROZEN_NONE, OUT, 5, 0, 0, 0, 0},
    {"a transfer of more", 5, 0, ABOVE_0, FROZEN_NONE, OUT, 6, SHORT, 5, 6, 0},
    {"a transfer out, frozen", 5, 0, ABOVE_0, FROZEN_DEBITS, OUT, 1, FROZEN, 0, 0, 0},
    {"a transfer in", 5, 0, UP_TO(10), FROZEN_DEBITS, IN, 5, 0, 0, 0, 0},
    {"a transfer in beyond the ceiling", 5, 0, UP_TO(10), FROZEN_NONE, IN, 6, TOO_HIGH, 0, 0, 10},
    {"a transfer in, frozen", 5, 0, UP_TO(10), FROZEN_ALL, IN, 1, FROZEN, 0, 0, 0},
    {"a hold of all", 5, 0, ABOVE_0, FROZEN_NONE, HOLD, 5, 0, 0, 0, 0},
    {"a hold of more", 5, 0, ABOVE_0, FROZEN_NONE, HOLD, 6, SHORT, 5, 6, 0},
    {"a hold beside another", 9, 4, ABOVE_0, FROZEN_NONE, HOLD, 5, 0, 0, 0, 0},
    {"a hold of what is held", 9, 4, ABOVE_0, FROZEN_NONE, HOLD, 6, SHORT, 5, 6, 0},
    {"a hold in the red", 0, 0, -8, CEILING_NONE, FROZEN_NONE, HOLD, 8, 0, 0, 0, 0},
    {"a hold, debits frozen", 5, 0, ABOVE_0, FROZEN_DEBITS, HOLD, 1, FROZEN, 0, 0, 0},
    {"holds above the greatest", MAX, MAX, NO_LIMITS, FROZEN_NONE, HOLD, 1, OVER, 0, 0, 0},
    {"holds below the least", -MAX, 0, NO_LIMITS, FROZEN_NONE, HOLD, 2, OVER, 0, 0, 0},
    {"a capture of all", 9, 4, ABOVE_0, FROZEN_NONE, CAPTURE, 4, 0, 0, 0, 0},
    {"a capture of less", 9, 4, ABOVE_0, FROZEN_NONE, CAPTURE, 1, 0, 0, 0, 0},
    {"a capture of nothing", 9, 4, ABOVE_0, FROZEN_NONE, CAPTURE, 0, 0, 0, 0, 0},
    {"a capture of more", 9, 4, ABOVE_0, FROZEN_NONE, CAPTURE, 9, 0, 0, 0, 0},
    {"a capture of too much", 9, 4, ABOVE_0, FROZEN_NONE, CAPTURE, 10, SHORT, 5, 6, 0},
    {"a capture below the floor", 9, 4, 20, CEILING_NONE, FROZEN_NONE, CAPTURE, 4, 0, 0, 0, 0},
    {"more than held below the floor", 9, 4, 20, CEILING_NONE, FROZEN_NONE, CAPTURE, 5, SHORT, -15,
     1, 0},
    {"a capture, debits frozen", 9, 4, ABOVE_0, FROZEN_DEBITS, CAPTURE, 4, 0, 0, 0, 0},
    {"more than held, debits frozen", 9, 4, ABOVE_0, FROZEN_DEBITS, CAPTURE, 5, FROZEN, 0, 0, 0},
    {"a capture, all frozen", 9, 4, ABOVE_0, FROZEN_ALL, CAPTURE, 1, FROZEN, 0, 0, 0},
    {"a capture that overflows", -MAX, 1, NO_LIMITS, FROZEN_NONE, CAPTURE, 2, OVER, 0, 0, 0},
    {"the greatest capture", 9, 4, ABOVE_0, FROZEN_NONE, CAPTURE, MAX, SHORT, 5, MAX - 4, 0},
    {"a capture for another", 9, 4, ABOVE_0, FROZEN_NONE, GIVE, 7, 0, 0, 0, 0},
    {"a release, all frozen", 9, 4, ABOVE_0, FROZEN_ALL, RELEASE, 0, 0, 0, 0, 0},
    {"a release below the floor", 9, 4, 20, CEILING_NONE, FROZEN_NONE, RELEASE, 0, 0, 0, 0, 0},
};

static void prepare(struct world *world, const struct rule *rule, const char *name,
                    const char *hold)
{
	must_accept(world, account_of(REQUEST_CREATE, name, NO_LIMITS, FROZEN_NONE));
	must_accept(world, event_of(name, rule->balance));
	if (rule->held != 0)
		must_accept(world, hold_of(name, rule->held, 60, hold));
	must_accept(world,
	            account_of(REQUEST_REPLACE, name, rule->floor, rule->ceiling, rule->frozen));
}

static struct request ask(const struct rule *rule, const char *name, const char *hold,
                          const char *id)
{
	struct request request;

	switch (rule->asks) {
	case EVENT:
		request = event_of(name, rule->amount);
		break;
	case OUT:
		request = transfer_of(name, "sink", rule->amount);
		break;
	case IN:
		request = transfer_of("sink", name, rule->amount);
		break;
	case HOLD:
		request = hold_of(name, rule->amount, 60, "");
		request.hold = words_of(id);
		break;
	case CAPTURE:
		request = capture_of(hold, rule->amount, NULL);
		break;
	case GIVE:
		request = capture_of(hold, rule->amount, "sink");
		break;
	case RELEASE:
		request = release_of(hold);
		break;
	}
	return request;
}

/* By how much the balance must change if it is accepted, and what must be held then. */
static int64_t change_of(const struct rule *rule)
{
	switch (rule->asks) {
	case EVENT:
	case IN:
		return rule->amount;
	case OUT:
	case CAPTURE:
	case GIVE:
		return -rule->amount;
	case HOLD:
	case RELEASE:
		break;
	}
	return 0;
}

static int64_t held_after(const struct rule *rule)
{
	switch (rule->asks) {
	case EVENT:
	case OUT:
	case IN:
		return rule->held;
	case HOLD:
		return rule->held + rule->amount;
	case CAPTURE:
	case GIVE:
	case RELEASE:
		break;
	}
	return 0;
}

static bool account_right(const struct rule *rule, const struct account_view *before,
                          const struct account_view *after)
{
	bool changes =
	    rule->outcome == OUTCOME_ACCEPTED && !(rule->asks == EVENT && rule->amount == 0);
	int64_t change = rule->outcome == OUTCOME_ACCEPTED ? change_of(rule) : 0;
	int64_t held = rule->outcome == OUTCOME_ACCEPTED ? held_after(rule) : rule->held;

	return after->balance == rule->balance + change && after->held == held &&
	       after->version == before->version + (changes ? 1 : 0);
}

static void check_rule(struct world *world, const struct rule *rule, unsigned number, bool has_id)
{
	char name[32], hold[32], id[32];

	snprintf(name, sizeof name, "rule-%u-%d", number, has_id);
	snprintf(hold, sizeof hold, "hold-%u-%d", number, has_id);
	snprintf(id, sizeof id, "id-%u-%d", number, has_id);
	prepare(world, rule, name, hold);
	struct account_view before = world_account(world, name);
	struct request request = ask(rule, name, hold, id);
	if (has_id)
		request = with_id(request, id);
	struct result result = world_apply(world, &request);
	struct account_view after = world_account(world, name);
	unsigned refused = rule->asks == IN && rule->outcome != OUTCOME_ACCEPTED ? 1 : 0;
	bool good = result.outcome == rule->outcome && result.available == rule->available &&
	            result.required == rule->required && result.limit == rule->limit &&
	            result.refused == refused && account_right(rule, &before, &after) &&
	            (result.leg[rule->asks == IN].balance == after.balance &&
	             result.leg[rule->asks == IN].held == after.held &&
	             result.leg[rule->asks == IN].version == after.version);
	if (has_id) {
		struct result again = world_apply(world, &request);
		good = good && recorded(world, &result) && again.replayed &&
		       results_same(&result, &again);
		request.note = words_of("another");
		struct result reused = world_apply(world, &request);
		good = good && reused.outcome == OUTCOME_ID_REUSED &&
		       world_account(world, name).version == after.version;
	}
	if (!ok(good, "%s%s", rule->says, has_id ? ", with an id" : ""))
		result_diag("got", &result);
}

static void test_rules(struct world *world)
{
	for (unsigned i = 0; i < sizeof rules / sizeof *rules; i++) {
		check_rule(world, &rules[i], i, false);
		check_rule(world, &rules[i], i, true);
	}
}

/* ---- accounts */

static struct result apply_recorded(struct world *world, struct request request)
{
	struct result result = world_apply(world, &request);

	if (request.id.length != 0 && !recorded(world, &result))
		fail("the record of %.*s says what was answered", (int)request.id.length,
		     request.id.bytes);
	return result;
}

static bool is_outcome(const struct result *result, enum outcome outcome)
{
	if (result->outcome == outcome)
		return true;
	result_diag("got", result);
	return false;
}

static void test_accounts(struct world *world)
{
	struct result result = apply_recorded(
	    world,
	    with_id(account_of(REQUEST_CREATE, "carol", -5, 100, FROZEN_DEBITS), "create-carol"));
	struct account_view view = world_account(world, "carol");
	ok(is_outcome(&result, 0) && result.created && result.leg[0].version == 1 &&
	       result.attributes.floor == -5,
	   "an account is made");
	ok(view.attributes.floor == -5 && view.attributes.ceiling == 100 &&
	       view.attributes.frozen == FROZEN_DEBITS && view.version == 1 &&
	       view.lsn == result.lsn && view.created_us == result.time_us,
	   "and is what it was asked to be");
	result = apply_recorded(
	    world, with_id(account_of(REQUEST_CREATE, "carol", 0, 1, FROZEN_NONE), "create-2"));
	ok(is_outcome(&result, OUTCOME_ACCOUNT_EXISTS) && result.leg[0].version == 1,
	   "it is not made again");

	result = apply_recorded(
	    world, with_id(if_version(account_of(REQUEST_REPLACE, "carol", 1, 9, FROZEN_NONE), 7),
	                   "replace-1"));
	ok(is_outcome(&result, OUTCOME_VERSION_MISMATCH) && result.leg[0].version == 1,
	   "another version is not replaced");
	result = apply_recorded(
	    world, with_id(if_version(account_of(REQUEST_REPLACE, "carol", 1, 9, FROZEN_NONE), 1),
	                   "replace-2"));
	view = world_account(world, "carol");
	ok(is_outcome(&result, 0) && !result.created && result.leg[0].version == 2 &&
	       view.attributes.floor == 1 && view.attributes.frozen == FROZEN_NONE,
	   "this one is");
	result = apply_recorded(
	    world, with_id(account_of(REQUEST_REPLACE, "dora", 0, 9, FROZEN_ALL), "replace-3"));
	ok(is_outcome(&result, 0) && result.created && world_knows(world, "dora"),
	   "what is replaced is made if it is not there");
	struct request request = account_of(REQUEST_REPLACE, "emil", 0, 9, FROZEN_ALL);
	request.match = MATCH_ANY;
	result = apply_recorded(world, with_id(request, "replace-4"));
	ok(is_outcome(&result, OUTCOME_VERSION_MISMATCH) && result.leg[0].version == 0 &&
	       !world_knows(world, "emil"),
	   "but not under If-Match");

	must_accept(world, event_of("frida", 5));
	result = apply_recorded(world, with_id(delete_of("frida"), "delete-1"));
	ok(is_outcome(&result, OUTCOME_ACCOUNT_IN_USE) && result.leg[0].balance == 5,
	   "an account with a balance is not deleted");
	must_accept(world, hold_of("frida", 5, 60, "frida's"));
	must_accept(world, event_of("frida", -5));
	result = apply_recorded(world, with_id(delete_of("frida"), "delete-2"));
	ok(is_outcome(&result, OUTCOME_ACCOUNT_IN_USE) && result.leg[0].held == 5,
	   "nor one with an open hold");
	must_accept(world, release_of("frida's"));
	result = apply_recorded(world, with_id(if_version(delete_of("frida"), 1), "delete-3"));
	ok(is_outcome(&result, OUTCOME_VERSION_MISMATCH), "nor one of another version");
	result = apply_recorded(world, with_id(delete_of("frida"), "delete-4"));
	ok(is_outcome(&result, 0) && result.leg[0].version == 5 && !world_knows(world, "frida"),
	   "an empty one is");
	result = apply_recorded(world, with_id(delete_of("frida"), "delete-5"));
	ok(is_outcome(&result, OUTCOME_UNKNOWN_ACCOUNT) && result.leg[0].version == 0,
	   "and is unknown then");
	result = apply_recorded(world, event_of("frida", 1));
	ok(is_outcome(&result, 0) && result.leg[0].version == 1 && result.leg[0].balance == 1,
	   "its name can be used anew");
}

static void test_long_names(struct world *world)
{
	struct result result = apply_recorded(world, with_id(event_of(long_name, 7), "long-1"));
	ok(is_outcome(&result, 0) && world_account(world, long_name).balance == 7,
	   "an account with a long name");
	char other[ACCOUNT_NAME_MAX + 1];
	memcpy(other, long_name, sizeof long_name);
	other[sizeof long_name - 2] = '!';
	result = apply_recorded(world, transfer_of(long_name, other, 7));
	ok(is_outcome(&result, 0) && world_account(world, other).balance == 7 &&
	       world_account(world, long_name).balance == 0,
	   "and one that differs at the end");
	result = apply_recorded(world, with_id(delete_of(long_name), "long-2"));
	ok(is_outcome(&result, 0) && !world_knows(world, long_name) && world_knows(world, other),
	   "is deleted");
	result = apply_recorded(world, with_id(delete_of(long_name), "long-3"));
	ok(is_outcome(&result, OUTCOME_UNKNOWN_ACCOUNT), "once");
}

static void test_births(struct world *world)
{
	struct region_settings *settings = region_settings(world->run.region);

	atomic_store(&settings->default_floor, 0);
	atomic_store(&settings->default_ceiling, 50);
	struct result result = apply_recorded(world, with_id(event_of("born-1", -1), "born-1"));
	ok(is_outcome(&result, SHORT) && result.available == 0 && result.required == 1 &&
	       !world_knows(world, "born-1"),
	   "a debit does not make an account below default_floor");
	result = apply_recorded(world, event_of("born-1", 51));
	ok(is_outcome(&result, TOO_HIGH) && result.limit == 50 && !world_knows(world, "born-1"),
	   "nor a credit one above default_ceiling");
	result = apply_recorded(world, with_id(event_of("born-1", 50), "born-2"));
	struct account_view view = world_account(world, "born-1");
	ok(is_outcome(&result, 0) && view.attributes.floor == 0 && view.attributes.ceiling == 50,
	   "it begins with both");
	atomic_store(&settings->default_floor, 60);
	result = apply_recorded(world, with_id(event_of("born-2", 60), "born-3"));
	view = world_account(world, "born-2");
	ok(is_outcome(&result, 0) && view.attributes.floor == 60 && view.attributes.ceiling == 60,
	   "half a change of the settings makes no impossible account");
	atomic_store(&settings->default_floor, FLOOR_NONE);
	atomic_store(&settings->default_ceiling, CEILING_NONE);

	result = apply_recorded(world, with_id(event_of("born-3", 0), "born-4"));
	ok(is_outcome(&result, OUTCOME_UNKNOWN_ACCOUNT) && !world_knows(world, "born-3"),
	   "nothing makes no account");
	atomic_store(&settings->auto_create, 0);
	result = apply_recorded(world, with_id(event_of("born-3", 1), "born-5"));
	ok(is_outcome(&result, OUTCOME_UNKNOWN_ACCOUNT), "without auto_create nothing does");
	result = apply_recorded(world, with_id(transfer_of("born-1", "born-3", 1), "born-6"));
	ok(is_outcome(&result, OUTCOME_UNKNOWN_ACCOUNT) && result.refused == 1 &&
	       world_account(world, "born-1").balance == 50,
	   "a transfer neither");
	result =
	    apply_recorded(world, account_of(REQUEST_CREATE, "born-3", NO_LIMITS, FROZEN_NONE));
	ok(is_outcome(&result, 0), "but who asks for it");
	atomic_store(&settings->auto_create, 1);
	result = apply_recorded(world, hold_of("born-4", 1, 60, "born-7"));
	ok(is_outcome(&result, OUTCOME_UNKNOWN_ACCOUNT), "a hold makes no account");
	result = apply_recorded(world, with_id(if_version(event_of("born-4", 1), 1), "born-8"));
	ok(is_outcome(&result, OUTCOME_VERSION_MISMATCH) && !world_knows(world, "born-4"),
	   "nor an event under If-Match");
}

static void test_transactions(struct world *world)
{
	struct request request = {.kind = REQUEST_TRANSACTION, .legs = LEGS_MAX, .balanced = true};
	char name[LEGS_MAX][16];

	for (unsigned i = 0; i < LEGS_MAX; i++) {
		snprintf(name[i], sizeof name[i], "leg-%u", i);
		request.leg[i].account = words_of(name[i]);
		request.leg[i].amount = i == 0 ? -15 : 1;
	}
	struct result result = apply_recorded(world, with_id(request, "legs-1"));
	ok(is_outcome(&result, 0) && result.legs == LEGS_MAX && result.leg[0].balance == -15 &&
	       result.leg[15].balance == 1,
	   "a transaction of as many legs as there may be");
	request.leg[3].amount = 2;
	result = apply_recorded(world, with_id(request, "legs-2"));
	ok(is_outcome(&result, OUTCOME_UNBALANCED) && world_account(world, "leg-0").balance == -15,
	   "one that does not sum to zero");
	request.balanced = false;
	must_accept(world, account_of(REQUEST_REPLACE, "leg-9", 0, 2, FROZEN_NONE));
	must_accept(world, request);
	result = apply_recorded(world, with_id(request, "legs-3"));
	ok(is_outcome(&result, TOO_HIGH) && result.refused == 9 && result.limit == 2 &&
	       result.leg[9].balance == 2 && world_account(world, "leg-0").balance == -30 &&
	       world_account(world, "leg-15").balance == 2,
	   "all or nothing: the leg that is refused is named");
	for (unsigned i = 0; i < LEGS_MAX; i++)
		request.leg[i].amount = i < 8 ? MAX : MIN;
	request.balanced = true;
	result = apply_recorded(world, with_id(request, "legs-4"));
	ok(is_outcome(&result, OUTCOME_UNBALANCED), "a sum is exact, whatever the legs are");
	for (unsigned i = 0; i < LEGS_MAX; i++)
		request.leg[i].amount = 0;
	uint64_t version = world_account(world, "leg-0").version;
	result = apply_recorded(world, with_id(request, "legs-5"));
	ok(is_outcome(&result, 0) && world_account(world, "leg-0").version == version &&
	       result.leg[0].version == version,
	   "one that changes nothing");
	result = apply_recorded(world, with_id(transfer_of("leg-0", "leg-0", 1), "legs-7"));
	ok(is_outcome(&result, OUTCOME_SAME_ACCOUNT) && result.legs == 0, "a transfer to itself");
	request.leg[0].amount = 1;
	request.balanced = false;
	result = apply_recorded(world, with_id(request, "legs-6"));
	ok(is_outcome(&result, 0) && world_account(world, "leg-5").version == 3,
	   "one that changes something changes all");
}

/* ---- holds */

static void test_settled(struct world *world)
{
	must_accept(world, event_of("henry", 100));
	must_accept(world, hold_of("henry", 10, 60, "h-1"));
	struct hold_view view = world_hold(world, "h-1");
	ok(view.state == HOLD_OPEN && view.amount == 10 && view.account_length == 5 &&
	       view.settled_us == 0 && view.expires_us == view.placed_us + 60 * SECOND_US,
	   "a hold can be read");
	struct result first =
	    apply_recorded(world, with_id(capture_of("h-1", 7, "ida"), "capture-1"));
	ok(is_outcome(&first, 0) && first.leg[0].balance == 93 && first.leg[0].held == 0 &&
	       first.leg[1].balance == 7 && first.account_length == 5 &&
	       memcmp(first.account, "henry", 5) == 0,
	   "it is captured for another");
	view = world_hold(world, "h-1");
	ok(view.state == HOLD_CAPTURED && view.captured == 7 && view.settled_us == first.time_us,
	   "and says so");
	struct result again = apply_recorded(world, capture_of("h-1", 7, "ida"));
	ok(again.replayed && results_same(&first, &again), "the same again is answered the same");
	again = apply_recorded(world, with_id(capture_of("h-1", 7, "ida"), "capture-0"));
	ok(again.replayed && again.lsn > first.lsn && legs_same(&first, &again) &&
	       again.hold_captured == 7 && world_account(world, "henry").version == 3,
	   "with an id of its own as well");
	struct request request = with_id(capture_of("h-1", 7, "ida"), "capture-0");
	struct result third = world_apply(world, &request);
	ok(third.replayed && results_same(&again, &third), "which then stands for that");
	again = apply_recorded(world, capture_of("h-1", 7, NULL));
	ok(is_outcome(&again, OUTCOME_HOLD_SETTLED) && again.hold_state == HOLD_CAPTURED &&
	       again.hold_captured == 7 && again.hold_amount == 10,
	   "for nobody else is something else");
	again = apply_recorded(world, with_id(capture_of("h-1", 7, "henry"), "capture-2"));
	ok(is_outcome(&again, OUTCOME_HOLD_SETTLED), "for somebody else too");
	again = apply_recorded(world, with_id(capture_of("h-1", 8, "ida"), "capture-3"));
	ok(is_outcome(&again, OUTCOME_HOLD_SETTLED), "more too");
	again = apply_recorded(world, with_id(release_of("h-1"), "release-1"));
	ok(is_outcome(&again, OUTCOME_HOLD_SETTLED), "and a release");
	ok(world_account(world, "henry").version == 3 && world_account(world, "ida").version == 1,
	   "nothing was changed by all that");

	must_accept(world, hold_of("henry", 10, 60, "h-2"));
	first = apply_recorded(world, capture_of("h-2", ALL_OF_IT, NULL));
	ok(is_outcome(&first, 0) && first.hold_captured == 10 && first.leg[0].balance == 83,
	   "without an amount all is captured");
	again = apply_recorded(world, capture_of("h-2", 10, NULL));
	ok(again.replayed && results_same(&first, &again), "to say how much is the same");

	must_accept(world, hold_of("henry", 10, 60, "h-3"));
	first = apply_recorded(world, with_id(release_of("h-3"), "release-2"));
	again = apply_recorded(world, release_of("h-3"));
	ok(is_outcome(&first, 0) && first.hold_state == HOLD_RELEASED && again.replayed &&
	       results_same(&first, &again),
	   "a release is answered the same");
	again = apply_recorded(world, with_id(capture_of("h-3", 0, NULL), "capture-4"));
	ok(is_outcome(&again, OUTCOME_HOLD_SETTLED) && again.hold_state == HOLD_RELEASED,
	   "a capture of nothing is no release");

	must_accept(world, hold_of("henry", 10, 60, "h-4"));
	again = apply_recorded(world, with_id(capture_of("h-4", 3, "henry"), "capture-5"));
	ok(is_outcome(&again, OUTCOME_SAME_ACCOUNT) && world_hold(world, "h-4").state == HOLD_OPEN,
	   "nobody captures for the hold's own account");
	again = apply_recorded(world, with_id(capture_of("h-4", 0, "nobody"), "capture-6"));
	ok(is_outcome(&again, OUTCOME_UNKNOWN_ACCOUNT) && again.refused == 1,
	   "nothing makes no receiver");
	must_accept(world, account_of(REQUEST_CREATE, "ivan", 0, 2, FROZEN_NONE));
	again = apply_recorded(world, with_id(capture_of("h-4", 3, "ivan"), "capture-7"));
	ok(is_outcome(&again, TOO_HIGH) && again.refused == 1 && again.limit == 2 &&
	       world_account(world, "henry").held == 10,
	   "a receiver has a ceiling");
	again = apply_recorded(world, with_id(release_of("h-none"), "release-3"));
	ok(is_outcome(&again, OUTCOME_UNKNOWN_HOLD) && again.legs == 0, "an unknown hold");
	again = apply_recorded(world, capture_of("h-none", 3, "ivan"));
	ok(is_outcome(&again, OUTCOME_UNKNOWN_HOLD), "without an id as well");
	struct hold_view none;
	ok(ledger_read_hold(world->run.ledger, "h-none", 6, &none) == OUTCOME_UNKNOWN_HOLD,
	   "it cannot be read");
}

/* If-Match of what concerns a hold is about its account. */
static void test_hold_versions(struct world *world)
{
	must_accept(world, event_of("mara", 100));
	struct result result =
	    apply_recorded(world, with_id(if_version(hold_of("mara", 5, 60, ""), 2), "m-0"));
	ok(is_outcome(&result, OUTCOME_VERSION_MISMATCH) && result.leg[0].version == 1 &&
	       world_account(world, "mara").held == 0,
	   "a hold is not placed on another version");
	result = apply_recorded(world, with_id(if_version(hold_of("mara", 5, 60, ""), 1), "m-1"));
	ok(is_outcome(&result, 0) && result.leg[0].version == 2, "but on this one");

	struct request request = with_id(if_version(capture_of("m-1", 3, NULL), 1), "m-2");
	result = apply_recorded(world, request);
	ok(is_outcome(&result, OUTCOME_VERSION_MISMATCH) && result.legs == 1 &&
	       result.leg[0].version == 2 && world_hold(world, "m-1").state == HOLD_OPEN,
	   "nor is it captured from another");
	must_accept(world, event_of("mara", 0));
	struct result again = world_apply(world, &request);
	ok(again.replayed && results_same(&result, &again), "which is remembered");
	result = apply_recorded(world, with_id(if_version(release_of("m-1"), 3), "m-3"));
	ok(is_outcome(&result, OUTCOME_VERSION_MISMATCH) && result.leg[0].version == 2 &&
	       world_hold(world, "m-1").state == HOLD_OPEN,
	   "nor released");
	request = if_version(capture_of("m-1", 3, NULL), 2);
	result = world_apply(world, &request);
	ok(is_outcome(&result, 0) && result.leg[0].version == 3, "from this one it is");
	again = world_apply(world, &request);
	ok(is_outcome(&again, 0) && again.replayed && results_same(&result, &again),
	   "and the same again is answered the same: it is what changed the version");
	result = apply_recorded(world, if_version(release_of("m-1"), 2));
	ok(is_outcome(&result, OUTCOME_HOLD_SETTLED), "another settlement is not");

	must_accept(world, hold_of("mara", 5, 60, "m-4"));
	request = release_of("m-4");
	request.match = MATCH_ANY;
	result = world_apply(world, &request);
	ok(is_outcome(&result, 0) && result.hold_state == HOLD_RELEASED, "any version will do");
	request.hold = words_of("m-none");
	result = world_apply(world, &request);
	ok(is_outcome(&result, OUTCOME_UNKNOWN_HOLD), "of a hold that is there");
}

/* More than there are slots: whatever is looked for must still be found. */
static void test_refused_holds(struct world *world)
{
	struct region_settings *settings = region_settings(world->run.region);
	char id[32];
	bool all = true;

	must_accept(world, hold_of("henry", 1, 60, "h-open"));
	atomic_store(&settings->queue_events, 0);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(id, sizeof id, "refused-%u", i);
		const struct request request = hold_of("henry", 1, 60, id);
		all = all && world_apply(world, &request).outcome == OUTCOME_QUEUE_FULL;
	}
	atomic_store(&settings->queue_events, UINT64_MAX);
	ok(all && world_hold(world, "refused-7").state == 0,
	   "holds that find no room in the queue");
	ok(world_hold(world, "h-1").state == HOLD_CAPTURED &&
	       world_hold(world, "h-open").state == HOLD_OPEN,
	   "take none from others");
	must_accept(world, release_of("h-open"));
}

/* ---- a hold that comes between looking whose it is and locking that account */

static int waits[2];

static void on_wait(uint32_t lock, unsigned seconds)
{
	(void)lock;
	if (seconds == 1 && write(waits[1], "", 1) != 1)
		BAIL_OUT("a pipe takes nothing");
}

/* Another process: holds LOCK, and places REQUEST's hold once somebody waits for it. */
static bool place_meanwhile(struct world *world, uint32_t lock, const struct request *request,
                            int ready)
{
	struct region *region = world->run.region;
	struct ledger *ledger = ledger_open(region, 1, NULL);
	struct result result;
	char byte;

	if (ledger == NULL || !lock_acquire(region, lock) || write(ready, "", 1) != 1 ||
	    read(waits[0], &byte, 1) != 1)
		return false;
	ledger_apply(ledger, request, world->run.now_us + 1, &result);
	lock_release(region, lock);
	return result.outcome == OUTCOME_ACCEPTED;
}

/* An id whose lock is another than that of KEY, into ID.  Returns the lock. */
static uint32_t other_lock(const struct world *world, const struct key *key, char *id, size_t size)
{
	const struct region *region = world->run.region;

	for (unsigned i = 0; i < 1000; i++) {
		int length = snprintf(id, size, "n-%u", i);
		struct key other = record_key(store_key(world->run.store), id, (size_t)length);
		if (ids_lock(region, &other) != ids_lock(region, key))
			return ids_lock(region, &other);
	}
	BAIL_OUT("all ids have one lock");
	return 0;
}

static void test_meanwhile(struct world *world)
{
	const struct request late = hold_of("nora", 5, 60, "late");
	const struct key key = record_key(store_key(world->run.store), "late", 4);
	char id[32];
	uint32_t lock = other_lock(world, &key, id, sizeof id);
	int ready[2];
	int status;
	char byte;

	must_accept(world, event_of("nora", 10));
	must(pipe(ready) == 0 && pipe(waits) == 0, "pipe");
	pid_t pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0)
		_exit(place_meanwhile(world, lock, &late, ready[1]) ? 0 : 1);
	must(read(ready[0], &byte, 1) == 1, "read");
	region_on_alarm(world->run.region, on_wait);
	const struct request request = with_id(capture_of("late", 4, NULL), id);
	struct result result = world_apply(world, &request);
	region_on_alarm(world->run.region, NULL);
	ok(waitpid(pid, &status, 0) == pid && status == 0,
	   "a hold is placed while its capture waits, who has seen none");
	ok(is_outcome(&result, 0) && recorded(world, &result) && result.leg[0].balance == 6 &&
	       world_account(world, "nora").held == 0,
	   "it looks again before it says so");
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(waits[i]);
	}
}

static void test_made_ids(struct world *world)
{
	struct request request = hold_of("henry", 1, 60, "");

	request.hold = words_of("0123456789abcdef0123456789abcdef");
	struct result result = apply_recorded(world, request);
	ok(is_outcome(&result, 0) && recorded(world, &result) &&
	       world_hold(world, "0123456789abcdef0123456789abcdef").state == HOLD_OPEN,
	   "a hold whose id was made for it");
	result = apply_recorded(world, with_id(event_of("henry", 1), request.hold.bytes));
	ok(is_outcome(&result, 0), "that is no operation's id");
	request = hold_of("henry", 1, 60, request.hold.bytes);
	result = world_apply(world, &request);
	ok(is_outcome(&result, OUTCOME_ID_REUSED), "and no hold's any more");
	must_accept(world, release_of("0123456789abcdef0123456789abcdef"));
}

static void test_expiry(struct world *world)
{
	struct ledger *ledger = world->run.ledger;
	uint64_t *now_us = &world->run.now_us;

	must_accept(world, event_of("jane", 100));
	must_accept(world, hold_of("jane", 10, 1, "e-1"));
	must_accept(world, hold_of("jane", 20, 1, "e-2"));
	must_accept(world, hold_of("jane", 30, 3, "e-3"));
	*now_us += SECOND_US / 2;
	ok(ledger_expire(ledger, *now_us, 100) == 0, "a hold lives as long as it may");
	*now_us += SECOND_US;
	struct result result = apply_recorded(world, with_id(capture_of("e-1", 5, NULL), "e-4"));
	ok(is_outcome(&result, OUTCOME_HOLD_SETTLED) && result.hold_state == HOLD_EXPIRED &&
	       world_account(world, "jane").held == 50,
	   "one whose time is over is not captured");
	result = apply_recorded(world, release_of("e-1"));
	ok(is_outcome(&result, OUTCOME_HOLD_SETTLED), "to release it is something else");
	ok(ledger_expire(ledger, *now_us, 100) == 1 && world_account(world, "jane").held == 30 &&
	       world_hold(world, "e-2").state == HOLD_EXPIRED,
	   "the other one is swept");
	ok(ledger_expire(ledger, *now_us + LEDGER_EXPIRE_EVERY_MS * 1000 - 1, 100) == 0,
	   "not by everybody at once");
	struct entry entry;
	uint64_t lsn = world_account(world, "jane").lsn;
	run_commit(&world->run);
	history_may_wait(world->run.history, true);
	ok(history_step(world->run.history, "jane", 4, &lsn, &entry) == HISTORY_OK &&
	       entry.expired && entry.held == 30 && entry.hold.length == 3,
	   "the journal knows");
	history_may_wait(world->run.history, false);

	char id[32];
	for (unsigned i = 0; i < 10; i++) {
		snprintf(id, sizeof id, "e-%u", 100 + i);
		must_accept(world, hold_of("jane", 1, 1, id));
	}
	*now_us += 5 * SECOND_US;
	ok(ledger_expire(ledger, *now_us, 4) == 4 && ledger_expire(ledger, *now_us, 4) == 4 &&
	       ledger_expire(ledger, *now_us, 4) == 3 && ledger_expire(ledger, *now_us, 4) == 0,
	   "a few at a time, at once as long as there are more");
	run_commit(&world->run);
	ok(world_account(world, "jane").held == 0 && world_account(world, "jane").balance == 100,
	   "all is free again");

	must_accept(world, hold_of("jane", 1, 1, "e-200"));
	*now_us += 2 * SECOND_US;
	world_restart(world);
	ok(world_hold(world, "e-200").state == HOLD_OPEN &&
	       ledger_expire(world->run.ledger, *now_us, 4) == 1 &&
	       world_hold(world, "e-200").state == HOLD_EXPIRED,
	   "one that ran out while nobody was there");
	run_commit(&world->run);
}

static void test_holds_list(struct world *world)
{
	struct hold_view views[4];
	unsigned seen[30] = {0};
	uint64_t cursor = 0;
	uint64_t lsn = 0;
	size_t count;
	char id[32];

	must_accept(world, event_of("kate", 100));
	for (unsigned i = 0; i < 30; i++) {
		snprintf(id, sizeof id, "list-%u", i);
		must_accept(world, hold_of("kate", 1, 60, id));
	}
	must_accept(world, release_of("list-7"));
	do {
		enum outcome outcome = ledger_list_holds(world->run.ledger, "kate", 4, &cursor,
		                                         views, 4, &count, &lsn);
		if (outcome != OUTCOME_ACCEPTED)
			break;
		for (size_t i = 0; i < count; i++) {
			char text[ID_MAX + 1] = "";
			memcpy(text, views[i].id, views[i].id_length);
			seen[strtoul(text + 5, NULL, 10) % 30]++;
		}
	} while (cursor != 0);
	bool once = true;
	for (unsigned i = 0; i < 30; i++)
		once = once && seen[i] == (i == 7 ? 0 : 1);
	ok(once, "every open hold of an account is listed once");
	ok(lsn == world_account(world, "kate").lsn, "and how new the list is");
	cursor = 0;
	ok(ledger_list_holds(world->run.ledger, "nobody", 6, &cursor, views, 4, &count, &lsn) ==
	       OUTCOME_UNKNOWN_ACCOUNT,
	   "nobody has none");
}

/* ---- lists */

static void count_listed(struct world *world, const char *prefix, unsigned *seen, unsigned max,
                         bool changing)
{
	struct list_cursor cursor = {0};
	struct account_view views[7];
	uint64_t lsn = 0;
	unsigned made = 0;

	while (!cursor.done) {
		size_t count;
		if (ledger_list(world->run.ledger, words_of(prefix), &cursor, views, 7, &count,
		                &lsn) != OUTCOME_ACCEPTED)
			break;
		for (size_t i = 0; i < count; i++) {
			char text[ACCOUNT_NAME_MAX + 1] = "";
			memcpy(text, views[i].name, views[i].name_length);
			unsigned long number = strtoul(text + strlen(prefix), NULL, 10);
			if (number < max)
				seen[number]++;
		}
		if (changing && made < 50) {
			char name[ACCOUNT_NAME_MAX];
			snprintf(name, sizeof name, "%s%u", prefix, 1000 + made++);
			must_accept(world, event_of(name, 1));
		}
	}
}

static void test_list(struct world *world)
{
	static const char *prefixes[] = {
	    "list/", "list/of/names/that/are/so/long/that/their/first/slot/is/full/"};

	for (unsigned p = 0; p < 2; p++) {
		unsigned seen[300] = {0};
		bool once = true;
		for (unsigned i = 0; i < 300; i++) {
			char name[ACCOUNT_NAME_MAX];
			snprintf(name, sizeof name, "%s%u", prefixes[p], i);
			must_accept(world, event_of(name, 1));
		}
		count_listed(world, prefixes[p], seen, 300, true);
		for (unsigned i = 0; i < 300; i++)
			once = once && seen[i] == 1;
		ok(once, "accounts with the prefix %.10s are listed once", prefixes[p]);
	}
	unsigned seen[1] = {0};
	count_listed(world, "no such prefix", seen, 1, false);
	ok(seen[0] == 0, "and nothing where there is nothing");
}

/* ---- groups */

static void test_group(struct world *world)
{
	struct result result[GROUP_MAX];
	uint64_t before;

	must_accept(world, account_of(REQUEST_CREATE, "lena", 0, 100, FROZEN_NONE));
	const struct request group[] = {
	    event_of("lena", 10),
	    event_of("lena", -11),
	    with_id(event_of("lena", -11), "group-1"),
	    with_id(event_of("lena", -10), "group-2"),
	    event_of("new in a group", 5),
	    event_of("new in a group", 6),
	    with_id(event_of("lena", 3), "group-3"),
	    with_id(event_of("lena", 3), "group-3"),
	    with_id(event_of("lena", 4), "group-3"),
	    event_of("lena", 0),
	    with_id(event_of("lena", 0), "group-4"),
	    event_of(long_name, 1),
	    event_of(long_name, 1),
	};
	unsigned count = sizeof group / sizeof *group;
	before = atomic_load(&region_marks(world->run.region)->tail);
	apply_group(world, group, count, result);
	ok(result[0].outcome == 0 && result[0].leg[0].balance == 10 &&
	       result[0].leg[0].version == 2,
	   "a group: the first");
	ok(result[1].outcome == SHORT && result[1].available == 10 &&
	       result[1].lsn == result[0].lsn,
	   "the next one sees it, and depends on it");
	ok(result[2].outcome == SHORT && result[2].lsn > result[0].lsn &&
	       recorded(world, &result[2]),
	   "a refusal with an id is recorded");
	ok(result[3].outcome == 0 && result[3].leg[0].balance == 0 && recorded(world, &result[3]),
	   "what is there is enough");
	ok(result[4].outcome == 0 && result[5].outcome == 0 && result[5].leg[0].balance == 11 &&
	       result[5].leg[0].version == 2 && recorded(world, &result[5]),
	   "an account that is made by the group itself");
	ok(result[6].outcome == 0 && !result[6].replayed && result[7].replayed &&
	       results_same(&result[6], &result[7]),
	   "an id twice in a group is applied once");
	ok(result[8].outcome == OUTCOME_ID_REUSED && world_account(world, "lena").balance == 3,
	   "and for something else not at all");
	ok(result[9].outcome == 0 && result[9].leg[0].balance == 3 &&
	       result[9].lsn == result[6].lsn,
	   "a check sees it");
	ok(result[10].outcome == 0 && recorded(world, &result[10]) &&
	       result[10].leg[0].version == result[9].leg[0].version,
	   "a check with an id");
	ok(result[12].outcome == 0 && result[12].leg[0].balance == 2 &&
	       world_account(world, long_name).balance == 2,
	   "a long name twice");
	ok(result[0].lsn >= before, "it is in the journal");
	world_restart(world);
	ok(world_account(world, "lena").balance == 3 &&
	       world_account(world, long_name).balance == 2 &&
	       world_account(world, "lena").lsn == result[6].lsn,
	   "and comes back from there");
}

static void test_group_refused(struct world *world)
{
	struct region_settings *settings = region_settings(world->run.region);
	struct result result[GROUP_MAX];
	struct request group[GROUP_MAX];

	for (unsigned i = 0; i < GROUP_MAX; i++)
		group[i] = event_of("mona", 1);
	group[3] = with_id(event_of("lena", 3), "group-3");
	group[5] = with_id(event_of("lena", -1000), "group-5");
	atomic_store(&settings->queue_events, 0);
	apply_group(world, group, GROUP_MAX, result);
	atomic_store(&settings->queue_events, UINT64_MAX);
	bool all = true;
	for (unsigned i = 0; i < GROUP_MAX; i++)
		all =
		    all && (i == 3 ? result[i].replayed : result[i].outcome == OUTCOME_QUEUE_FULL);
	ok(all && !world_knows(world, "mona"), "a group that cannot be committed is refused whole");
	apply_group(world, group, GROUP_MAX, result);
	ok(result[5].outcome == SHORT && !result[5].replayed &&
	       world_account(world, "mona").balance == GROUP_MAX - 2,
	   "and nothing of it was remembered");
}

/* ---- what does not fit */

static void test_full(void)
{
	const struct sizes small = {.segment_size = 1 << 20,
	                            .ring_size = 1 << 18,
	                            .max_accounts = 64,
	                            .max_ids = 64,
	                            .max_holds = 64};
	struct world world;
	struct result result = {0};
	unsigned accounts = 0, holds = 0;
	char name[ACCOUNT_NAME_MAX + 1];

	world_open(&world, &small);
	while (result.outcome == OUTCOME_ACCEPTED && accounts < 100000) {
		/* Short ones and long ones, with a check that one which does not fit leaves
		 * nothing. */
		snprintf(name, sizeof name, accounts % 2 ? "%u" : "%090u", accounts);
		const struct request request = event_of(name, 1);
		result = world_apply(&world, &request);
		accounts += result.outcome == OUTCOME_ACCEPTED;
	}
	ok(result.outcome == OUTCOME_TABLE_FULL && accounts >= 42 && !world_knows(&world, name) &&
	       result.lsn == 0,
	   "the table is full after %u accounts", accounts);
	struct request request = transfer_of("1", "one too many, whatever its name is", 1);
	while (request.leg[1].account.length < 90 && result.outcome != OUTCOME_TABLE_FULL)
		result = world_apply(&world, &request);
	ok(result.outcome == OUTCOME_TABLE_FULL && world_account(&world, "1").balance == 1,
	   "a transfer is all or nothing there too");

	result.outcome = OUTCOME_ACCEPTED;
	must_accept(&world, event_of("1", MANY));
	while (result.outcome == OUTCOME_ACCEPTED && holds < 100000) {
		snprintf(name, sizeof name, "hold-%u", holds);
		request = hold_of("1", 1, 60, name);
		result = world_apply(&world, &request);
		holds += result.outcome == OUTCOME_ACCEPTED;
	}
	ok(result.outcome == OUTCOME_HOLDS_FULL && holds >= 64 &&
	       world_account(&world, "1").held == holds,
	   "holds are full after %u", holds);
	result = world_apply(&world, &request);
	ok(result.outcome == OUTCOME_HOLDS_FULL && !result.replayed,
	   "that was not remembered with its id");
	for (unsigned i = 0; i < 3; i++) {
		static const char *const settled[] = {"hold-9", "hold-0", "hold-5"};
		must_accept(&world, release_of(settled[i]));
		world.run.now_us += SECOND_US;
	}
	must_accept(&world, request);
	ok(world_hold(&world, name).state == HOLD_OPEN, "when one is settled there is room");
	ok(world_hold(&world, "hold-9").state == 0 &&
	       world_hold(&world, "hold-0").state == HOLD_RELEASED &&
	       world_hold(&world, "hold-5").state == HOLD_RELEASED,
	   "which the one that was settled first gave up");

	uint64_t forgotten;
	atomic_store(&region_settings(world.run.region)->id_window_us, 24 * 3600 * SECOND_US);
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(name, sizeof name, "an id %u", i);
		must_accept(&world, with_id(event_of("1", 1), name));
	}
	ok(ledger_id_window(world.run.ledger, world.run.now_us, &forgotten) <
	           24 * 3600 * SECOND_US &&
	       forgotten > 0,
	   "ids that made room too early are counted");
	world_close(&world);
}

/* ---- how long ids are really kept */

static bool at_once(struct region *region, uint64_t lsn)
{
	(void)region;
	(void)lsn;
	return true;
}

static void snapshot(struct world *world)
{
	uint64_t now_us = world->run.now_us;
	struct snapshot taken;

	run_mark(&world->run);
	world->run.now_us = now_us;
	if (snapshot_write(world->run.region, world->place.snapshots, store_key(world->run.store),
	                   at_once, &taken) != SNAPSHOT_OK)
		BAIL_OUT("no snapshot");
}

static void restart_within(struct world *world, uint64_t window_us)
{
	world_restart(world);
	atomic_store(&region_settings(world->run.region)->id_window_us, window_us);
}

/* How long before now the newest id was made that is not remembered. */
static uint64_t ids_kept(const struct world *world, uint64_t *forgotten)
{
	return ledger_id_window(world->run.ledger, world->run.now_us, forgotten);
}

static void must_remember(struct world *world, const char *prefix, unsigned from, unsigned to)
{
	char id[ID_MAX];

	for (unsigned i = from; i < to; i++) {
		snprintf(id, sizeof id, "%s%u", prefix, i);
		must_accept(world, with_id(event_of("sum", 1), id));
	}
}

/* Of the ids PREFIX 0 to COUNT - 1, made 1 us apart, the last one now: the age of the youngest that
 * is missing. */
static uint64_t youngest_missing(struct world *world, const char *prefix, unsigned count)
{
	char id[ID_MAX];

	for (unsigned i = count; i-- > 0;) {
		int length = snprintf(id, sizeof id, "%s%u", prefix, i);
		struct key key = record_key(store_key(world->run.store), id, (size_t)length);
		if (ids_find(world->run.region, &key) == NULL)
			return count - 1 - i;
	}
	return UINT64_MAX;
}

static void test_kept(void)
{
	const uint64_t window = 3600 * SECOND_US;
	const struct sizes little = {.segment_size = 1 << 20,
	                             .ring_size = 65536,
	                             .max_accounts = 64,
	                             .max_ids = 64,
	                             .max_holds = 64};
	struct sizes large = little;
	struct world world;
	uint64_t forgotten;

	world_open(&world, &little);
	atomic_store(&region_settings(world.run.region)->id_window_us, window);
	must_remember(&world, "a", 0, 40);
	ok(ids_kept(&world, &forgotten) == window && forgotten == 0, "no id is missing");
	restart_within(&world, window);
	ok(ids_kept(&world, &forgotten) == window, "nor after a restart");
	must_remember(&world, "a", 40, 1000);
	uint64_t kept = ids_kept(&world, &forgotten);
	cmp_ok((intmax_t)kept, "==", (intmax_t)youngest_missing(&world, "a", 1000),
	       "ids are kept from the youngest on that is missing");
	restart_within(&world, window);
	cmp_ok((intmax_t)ids_kept(&world, &forgotten), "==", (intmax_t)kept,
	       "after a restart that read the journal");
	ok(forgotten == 0, "which forgot none itself");
	world.run.now_us += window - kept - 1;
	ok(ids_kept(&world, &forgotten) == window - 1, "it grows");
	snapshot(&world);
	restart_within(&world, window);
	ok(ids_kept(&world, &forgotten) == window - 1, "the same from a snapshot");
	world.run.now_us += SECOND_US;
	ok(ids_kept(&world, &forgotten) == window, "up to the window");
	world_close(&world);

	/* The table has room, and then it is made smaller. */
	large.max_ids = 10000;
	world_open(&world, &large);
	must_remember(&world, "b", 0, 1000);
	snapshot(&world);
	restart_within(&world, window);
	ok(ids_kept(&world, &forgotten) == window, "with room for all, none is missing");
	world.sizes.max_ids = 64;
	restart_within(&world, window);
	cmp_ok((intmax_t)ids_kept(&world, &forgotten),
	       "==", (intmax_t)youngest_missing(&world, "b", 1000),
	       "those left out on loading count");
	world_close(&world);

	/* A snapshot has them all, also those of a clock that is behind it by more than the window.
	 */
	world_open(&world, &little);
	world.run.now_us -= 2 * window;
	must_remember(&world, "c", 0, 10);
	world.run.now_us += 2 * window;
	atomic_store(&region_settings(world.run.region)->id_window_us, window);
	snapshot(&world);
	restart_within(&world, 10 * window);
	ok(ids_kept(&world, &forgotten) == 10 * window, "a snapshot leaves none out");
	world_close(&world);
}

/* Who asks again soon gets the first answer, whatever the clock says. */
static void test_wrong_clock(void)
{
	const uint64_t hour = 3600 * SECOND_US, years = 100000 * hour;
	const struct sizes little = {.segment_size = 1 << 20,
	                             .ring_size = 65536,
	                             .max_accounts = 64,
	                             .max_ids = 64,
	                             .max_holds = 64};
	const struct request first = with_id(event_of("first", 1), "first");
	struct world world;
	uint64_t forgotten;

	world_open(&world, &little);
	atomic_store(&region_settings(world.run.region)->id_window_us, hour);
	must_remember(&world, "a", 0, 300);
	world.run.now_us -= hour;
	must_accept(&world, first);
	must_remember(&world, "b", 0, 12);
	ok(world_apply(&world, &first).replayed, "a clock is set back: the newest ids are kept");
	world.run.now_us += years;
	must_remember(&world, "c", 0, 300);
	world.run.now_us -= years;
	must_accept(&world, first);
	must_remember(&world, "d", 0, 12);
	ok(world_apply(&world, &first).replayed, "... also after one that was ahead for long");
	must_remember(&world, "e", 0, 300);
	world.run.now_us += 10 * SECOND_US;
	uint64_t kept = ids_kept(&world, &forgotten);
	ok(kept >= 10 * SECOND_US && kept < 11 * SECOND_US, "what it dated is lost by now");
	world_close(&world);
}

static void test_pruned(void)
{
	const struct sizes small = {.segment_size = 65536,
	                            .ring_size = 65536,
	                            .max_accounts = 64,
	                            .max_ids = 1000,
	                            .max_holds = 64};
	struct request request = with_id(event_of("olga", 1), "the first");
	char path[FIXTURE_PATH + 64];
	char name[SEGMENT_NAME_SIZE];
	struct world world;

	world_open(&world, &small);
	struct result first = world_apply(&world, &request);
	must_accept(&world, hold_of("olga", 1, 60, "held"));
	must_accept(&world, capture_of("held", 1, NULL));
	while (atomic_load(&world.run.marks->tail) < 5 * 65536)
		must_accept(&world, event_of("olga", 1));
	int64_t balance = world_account(&world, "olga").balance;
	struct result again = world_apply(&world, &request);
	ok(again.replayed && results_same(&first, &again), "an old id is answered from the file");
	ledger_close(world.run.ledger);
	world.run.ledger = ledger_open(world.run.region, 0, NULL);
	again = world_apply(&world, &request);
	ok(again.outcome == OUTCOME_READ_FAILED, "who cannot read the journal says so");
	ledger_close(world.run.ledger);
	world.run.ledger = ledger_open(world.run.region, 0, world.run.history);
	segment_name(name, history_first(world.run.history) - SEGMENT_HEAD);
	snprintf(path, sizeof path, "%s/%s", world.place.journal, name);
	must(unlink(path) == 0, path);
	again = world_apply(&world, &request);
	ok(again.outcome == OUTCOME_FORGOTTEN, "an id whose record is gone is not applied again");
	request = capture_of("held", 1, NULL);
	again = world_apply(&world, &request);
	ok(again.outcome == OUTCOME_HOLD_SETTLED && again.hold_state == HOLD_CAPTURED &&
	       again.hold_captured == 1 && again.hold_settled_lsn != 0 && !again.replayed,
	   "nor is a settlement, of which the hold says what it was");
	ok(world_account(&world, "olga").balance == balance, "nothing has changed");
	world_close(&world);
}

int main(void)
{
	struct world world;

	plan(NO_PLAN);
	world_open(&world, &ordinary);
	test_rules(&world);
	test_accounts(&world);
	test_long_names(&world);
	test_births(&world);
	test_transactions(&world);
	test_settled(&world);
	test_hold_versions(&world);
	test_refused_holds(&world);
	test_meanwhile(&world);
	test_made_ids(&world);
	test_expiry(&world);
	test_holds_list(&world);
	test_list(&world);
	test_group(&world);
	test_group_refused(&world);
	world_close(&world);
	test_full();
	test_kept();
	test_wrong_clock();
	test_pruned();
	cmp_ok(world_unlocked, "==", 0, "whatever was changed was locked");
	return done_testing();
}
