/*
 * Traffic of every kind for a run of the ledger: first one of everything that makes a record, then
 * at random.  The same at every run.
 */
#ifndef TALLYD_T_JOURNAL_TRAFFIC_H
#define TALLYD_T_JOURNAL_TRAFFIC_H

#include "journal-fixture.h"

#define TRAFFIC_ACCOUNTS 10
#define TRAFFIC_IDS      200 /* that are used again and again */
#define TRAFFIC_HOLDS    8   /* the newest, which are settled */
#define TRAFFIC_TTL      2   /* seconds */

struct traffic {
	struct run *run;
	uint64_t random;
	uint32_t accounts; /* 0: TRAFFIC_ACCOUNTS */
	uint64_t ids;      /* 0: TRAFFIC_IDS */
	uint64_t steps;
	uint64_t holds; /* placed with ids made for them */
	size_t asked;   /* requests, each of a group counted */
	size_t decided[OUTCOME_READ_FAILED + 1];
};

/* Names of every kind of length, so that paddings differ and some need a second slot. */
static inline uint32_t traffic_name(uint32_t account, char name[ACCOUNT_NAME_MAX])
{
	if (account >= TRAFFIC_ACCOUNTS)
		return (uint32_t)snprintf(name, ACCOUNT_NAME_MAX, "%s-%u",
		                          account % 5 == 0 ? "an account whose name is longer "
		                                             "than one slot takes"
		                                           : "account",
		                          account);
	uint32_t length = account == 0   ? ACCOUNT_NAME_MAX
	                  : account == 1 ? TABLE_NAME_INLINE + 1
	                                 : 1 + account * 3 % 23;

	memset(name, 'a' + (int)account, length);
	return length;
}

static inline uint64_t traffic_draw(struct traffic *traffic, uint64_t range)
{
	return (random_next(&traffic->random) >> 20) % range;
}

/* Where the words of a request are. */
struct traffic_words {
	char name[LEGS_MAX][ACCOUNT_NAME_MAX];
	char id[ID_MAX];
	char hold[ID_MAX];
	char note[32];
};

static inline struct words traffic_account(char name[ACCOUNT_NAME_MAX], uint32_t account)
{
	return (struct words){.bytes = name, .length = traffic_name(account, name)};
}

static inline struct words traffic_text(char *text, size_t size, const char *prefix, uint64_t n)
{
	return (struct words){.bytes = text,
	                      .length = (uint32_t)snprintf(text, size, "%s%" PRIu64, prefix, n)};
}

static inline enum outcome traffic_apply(struct traffic *traffic, const struct request *request)
{
	struct result result;

	run_extend(traffic->run);
	ledger_apply(traffic->run->ledger, request, ++traffic->run->now_us, &result);
	traffic->asked++;
	traffic->decided[result.outcome]++;
	return result.outcome;
}

/* Legs on different accounts from FIRST on. */
static inline void traffic_legs(struct traffic *traffic, struct request *request,
                                struct traffic_words *words, unsigned legs)
{
	uint32_t accounts = traffic->accounts != 0 ? traffic->accounts : TRAFFIC_ACCOUNTS;
	uint32_t first = (uint32_t)traffic_draw(traffic, accounts);

	request->legs = (uint8_t)legs;
	for (uint32_t i = 0; i < legs; i++)
		request->leg[i] =
		    (struct leg){.account = traffic_account(words->name[i], (first + i) % accounts),
		                 .amount = (int64_t)traffic_draw(traffic, 2000) - 980};
}

/* A request of KIND, drawn at random; some have ids, notes and conditions. */
static inline void traffic_request(struct traffic *traffic, enum request_kind kind,
                                   struct request *request, struct traffic_words *words)
{
	*request = (struct request){.kind = kind};
	switch (kind) {
	case REQUEST_TRANSFER:
		traffic_legs(traffic, request, words, 2);
		request->leg[1].amount = 1 + (int64_t)traffic_draw(traffic, 500);
		request->leg[0].amount = -request->leg[1].amount;
		break;
	case REQUEST_TRANSACTION:
		traffic_legs(traffic, request, words, 1 + (unsigned)traffic_draw(traffic, 6));
		break;
	case REQUEST_CREATE:
	case REQUEST_REPLACE:
		traffic_legs(traffic, request, words, 1);
		request->leg[0].amount = 0;
		request->attributes = (struct attributes){
		    .floor = traffic_draw(traffic, 2) == 0 ? FLOOR_NONE : -300,
		    .ceiling = traffic_draw(traffic, 3) != 0 ? CEILING_NONE : 5000,
		    .frozen = traffic_draw(traffic, 12) == 0 ? FROZEN_DEBITS : FROZEN_NONE};
		break;
	case REQUEST_DELETE:
		traffic_legs(traffic, request, words, 1);
		request->leg[0].amount = 0;
		break;
	case REQUEST_HOLD:
		traffic_legs(traffic, request, words, 1);
		request->leg[0].amount = 1 + (int64_t)traffic_draw(traffic, 300);
		request->ttl = TRAFFIC_TTL;
		request->hold =
		    traffic_text(words->hold, sizeof words->hold, "made-", traffic->holds++);
		break;
	case REQUEST_CAPTURE:
	case REQUEST_RELEASE:
		if (kind == REQUEST_CAPTURE && traffic_draw(traffic, 2) == 0)
			traffic_legs(traffic, request, words, 1);
		if (kind == REQUEST_CAPTURE && traffic_draw(traffic, 2) == 0) {
			request->has_capture = true;
			request->capture = (int64_t)traffic_draw(traffic, 200);
		}
		request->hold = traffic_text(words->hold, sizeof words->hold, "made-",
		                             traffic->holds - traffic_draw(traffic, TRAFFIC_HOLDS));
		break;
	case REQUEST_EVENT:
		traffic_legs(traffic, request, words, 1);
		if (traffic_draw(traffic, 8) == 0)
			request->leg[0].amount = 0;
		break;
	}
	if (traffic_draw(traffic, 2) == 0)
		request->id = traffic_text(
		    words->id, sizeof words->id, "id-",
		    traffic_draw(traffic, traffic->ids != 0 ? traffic->ids : TRAFFIC_IDS));
	if (traffic_draw(traffic, 4) == 0)
		request->note = traffic_text(words->note, sizeof words->note, "note ",
		                             traffic_draw(traffic, 100000));
	if (traffic_draw(traffic, 10) == 0 && request->legs == 1 && kind <= REQUEST_DELETE) {
		request->match = MATCH_VERSION;
		request->version = traffic_draw(traffic, 4);
	}
}

static inline void traffic_group(struct traffic *traffic)
{
	static struct traffic_words words[GROUP_MAX];
	static struct request request[GROUP_MAX];
	static struct result result[GROUP_MAX];
	size_t count = 2 + traffic_draw(traffic, GROUP_MAX - 1);

	for (size_t i = 0; i < count; i++)
		traffic_request(traffic, REQUEST_EVENT, &request[i], &words[i]);
	run_extend(traffic->run);
	ledger_apply_group(traffic->run->ledger, request, count, ++traffic->run->now_us, result);
	for (size_t i = 0; i < count; i++)
		traffic->decided[result[i].outcome]++;
	traffic->asked += count;
}

/* Time passes; whatever is over is swept. */
static inline void traffic_expire(struct traffic *traffic)
{
	traffic->run->now_us += 1 + traffic_draw(traffic, TRAFFIC_TTL * UINT64_C(1000000));
	run_extend(traffic->run);
	ledger_expire(traffic->run->ledger, traffic->run->now_us, 4);
}

/* The first steps: accounts with room for what follows, a delete and a creation anew. */
static inline bool traffic_first(struct traffic *traffic)
{
	static const struct {
		enum request_kind kind;
		uint32_t account;
		int64_t amount;
		const char *id;
	} script[] = {
	    {REQUEST_CREATE, 0, 0, "made"},     {REQUEST_EVENT, 0, 1000, NULL},
	    {REQUEST_EVENT, 1, 1000, "paid"},   {REQUEST_EVENT, 1, 0, "asked"},
	    {REQUEST_CREATE, 1, 0, "again"},    {REQUEST_CREATE, 2, 0, NULL},
	    {REQUEST_DELETE, 2, 0, NULL},       {REQUEST_CREATE, 2, 0, NULL},
	    {REQUEST_DELETE, 0, 0, "in-use"},   {REQUEST_REPLACE, 2, 0, "set"},
	    {REQUEST_REPLACE, 3, 0, NULL},      {REQUEST_HOLD, 0, 90, NULL},
	    {REQUEST_HOLD, 1, 80, "mine"},      {REQUEST_CAPTURE, 0, 50, NULL},
	    {REQUEST_RELEASE, 0, 0, "settled"}, {REQUEST_HOLD, 0, 70, NULL},
	    {REQUEST_RELEASE, 0, 0, NULL},      {REQUEST_HOLD, 0, 60, NULL},
	    {REQUEST_CAPTURE, 7, 60, "moved"},  {REQUEST_RELEASE, 0, 0, "nothing"},
	    {REQUEST_EVENT, 8, -900, "debt"},   {REQUEST_DELETE, 9, 0, "nobody"},
	};
	static unsigned holds;
	const size_t at = traffic->steps;
	struct traffic_words words;
	struct request request;

	if (at >= sizeof script / sizeof *script)
		return false;
	if (at == 0)
		holds = 0;
	request = (struct request){.kind = script[at].kind,
	                           .attributes = {.floor = -200, .ceiling = CEILING_NONE}};
	if (script[at].id != NULL)
		request.id = words_of(script[at].id);
	if (request.kind != REQUEST_RELEASE &&
	    (request.kind != REQUEST_CAPTURE || script[at].account != 0)) {
		request.legs = 1;
		request.leg[0] =
		    (struct leg){.account = traffic_account(words.name[0], script[at].account),
		                 .amount = script[at].amount};
	}
	if (request.kind == REQUEST_CAPTURE) {
		request.has_capture = true;
		request.capture = script[at].amount;
		request.leg[0].amount = 0;
	}
	request.ttl = TRAFFIC_TTL;
	if (request.kind == REQUEST_HOLD && request.id.length == 0)
		holds++;
	/* What the client named is left to expire. */
	request.hold = traffic_text(words.hold, sizeof words.hold, "first-", holds);
	traffic_apply(traffic, &request);
	return true;
}

/* One request, one group or one sweep. */
static inline void traffic_step(struct traffic *traffic)
{
	static const enum request_kind kinds[] = {
	    REQUEST_EVENT,   REQUEST_EVENT,   REQUEST_TRANSFER, REQUEST_TRANSACTION,
	    REQUEST_HOLD,    REQUEST_CAPTURE, REQUEST_HOLD,     REQUEST_RELEASE,
	    REQUEST_REPLACE, REQUEST_CREATE,  REQUEST_DELETE,   REQUEST_CAPTURE};
	struct traffic_words words;
	struct request request;

	if (!traffic_first(traffic)) {
		uint64_t draw = traffic_draw(traffic, 15);
		if (draw < sizeof kinds / sizeof *kinds) {
			traffic_request(traffic, kinds[draw], &request, &words);
			traffic_apply(traffic, &request);
		} else if (draw == 12) {
			traffic_expire(traffic);
		} else {
			traffic_group(traffic);
		}
	}
	traffic->steps++;
}

/* STEPS of them in group commits of one to nine. */
static inline void traffic_run(struct traffic *traffic, size_t steps)
{
	while (steps > 0) {
		size_t batch = 1 + traffic_draw(traffic, 9);
		batch = batch < steps ? batch : steps;
		steps -= batch;
		while (batch-- > 0)
			traffic_step(traffic);
		run_commit(traffic->run);
	}
}

#endif
