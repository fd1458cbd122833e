/*
 * A ledger with a journal, and requests for it in few words, for the tests of the operations.
 */
#ifndef TALLYD_T_LEDGER_WORLD_H
#define TALLYD_T_LEDGER_WORLD_H

#include "../src/base/clock.h"
#include "journal-fixture.h"

struct world {
	struct place place;
	struct sizes sizes;
	struct run run;
};

/*
 * While an operation commits: does it hold the lock of every cell that it is about to change?
 * Nothing else would notice soon, with so few who get into each other's way.
 */
static unsigned world_unlocked;

static inline uint32_t lock_of_cell(const struct region *region, uint64_t offset)
{
	const struct shape *shape = &region->header->shape;
	const unsigned char *cell = region->base + offset;

	if (offset == shape->seal_at)
		return 0;
	if (offset >= shape->holds_at)
		return holds_slot_lock(region, (const struct hold_slot *)(const void *)cell);
	if (offset >= shape->ids_at)
		return ids_slot_lock(region, (offset - shape->ids_at) / sizeof(struct id_bucket) *
		                                 IDS_BUCKET);
	return (uint32_t)((offset - shape->slots_at) / sizeof(struct account_slot) /
	                  shape->slots_per_stripe);
}

static inline void world_stamp(void *records, size_t length, uint64_t lsn, uint64_t durable,
                               const struct region *region)
{
	const struct region_geometry *geometry = region_geometry(region);
	const struct operation_area *area = &region->processes[region->slot].area;

	record_stamp(records, length, lsn, durable, geometry->epoch, geometry->journal_key);
	for (uint32_t i = 0; i < area->images; i++) {
		uint32_t lock = lock_of_cell(region, area->cell[i]);
		uint32_t at = 0;
		while (at < area->locks && area->lock[at] != lock)
			at++;
		if (at == area->locks || area->image[i].lock != lock)
			world_unlocked++;
	}
}

static inline void world_watch(struct run *run)
{
	const struct ring_codec codec = {.stamp = world_stamp, .pad = run->region->codec.pad};

	ring_set_codec(run->region, &codec);
}

static inline void world_open(struct world *world, const struct sizes *sizes)
{
	world->sizes = *sizes;
	place_make(&world->place);
	if (!run_start(&world->run, &world->place, sizes))
		BAIL_OUT("a run does not start: %s", world->run.error);
	world->run.now_us = clock_real_us();
	world_watch(&world->run);
}

static inline void world_close(struct world *world)
{
	run_leave(&world->run);
	place_remove(&world->place);
}

/* The daemon dies and comes again. */
static inline void world_restart(struct world *world)
{
	uint64_t now_us = world->run.now_us;

	run_commit(&world->run);
	run_leave(&world->run);
	if (!run_start(&world->run, &world->place, &world->sizes))
		BAIL_OUT("a run does not start again: %s", world->run.error);
	world->run.now_us = now_us;
	world_watch(&world->run);
}

static inline struct result world_apply(struct world *world, const struct request *request)
{
	struct result result;

	run_extend(&world->run);
	ledger_apply(world->run.ledger, request, ++world->run.now_us, &result);
	run_commit(&world->run);
	return result;
}

/* Of an account that is there. */
static inline struct account_view world_account(struct world *world, const char *name)
{
	struct account_view view = {0};

	ledger_read(world->run.ledger, name, (uint32_t)strlen(name), &view);
	return view;
}

static inline bool world_knows(struct world *world, const char *name)
{
	struct account_view view;

	return ledger_read(world->run.ledger, name, (uint32_t)strlen(name), &view) ==
	       OUTCOME_ACCEPTED;
}

static inline struct hold_view world_hold(struct world *world, const char *id)
{
	struct hold_view view = {0};

	ledger_read_hold(world->run.ledger, id, (uint32_t)strlen(id), &view);
	return view;
}

/* ---- requests: their words borrow from the arguments */

static inline struct request event_of(const char *account, int64_t amount)
{
	return (struct request){.kind = REQUEST_EVENT,
	                        .legs = 1,
	                        .leg = {{.account = words_of(account), .amount = amount}}};
}

static inline struct request transfer_of(const char *from, const char *to, int64_t amount)
{
	return (struct request){.kind = REQUEST_TRANSFER,
	                        .legs = 2,
	                        .leg = {{.account = words_of(from), .amount = -amount},
	                                {.account = words_of(to), .amount = amount}}};
}

static inline struct request account_of(enum request_kind kind, const char *account, int64_t floor,
                                        int64_t ceiling, enum frozen frozen)
{
	return (struct request){
	    .kind = kind,
	    .legs = 1,
	    .attributes = {.floor = floor, .ceiling = ceiling, .frozen = frozen},
	    .leg = {{.account = words_of(account)}}};
}

static inline struct request delete_of(const char *account)
{
	return (struct request){
	    .kind = REQUEST_DELETE, .legs = 1, .leg = {{.account = words_of(account)}}};
}

/* ID is the client's. */
static inline struct request hold_of(const char *account, int64_t amount, uint32_t ttl,
                                     const char *id)
{
	return (struct request){.kind = REQUEST_HOLD,
	                        .legs = 1,
	                        .ttl = ttl,
	                        .id = words_of(id),
	                        .leg = {{.account = words_of(account), .amount = amount}}};
}

#define ALL_OF_IT INT64_MIN

/* TO may be NULL. */
static inline struct request capture_of(const char *hold, int64_t amount, const char *to)
{
	struct request request = {.kind = REQUEST_CAPTURE,
	                          .has_capture = amount != ALL_OF_IT,
	                          .capture = amount != ALL_OF_IT ? amount : 0,
	                          .hold = words_of(hold)};

	if (to != NULL) {
		request.legs = 1;
		request.leg[0].account = words_of(to);
	}
	return request;
}

static inline struct request release_of(const char *hold)
{
	return (struct request){.kind = REQUEST_RELEASE, .hold = words_of(hold)};
}

static inline struct request with_id(struct request request, const char *id)
{
	request.id = words_of(id);
	return request;
}

static inline struct request if_version(struct request request, uint64_t version)
{
	request.match = MATCH_VERSION;
	request.version = version;
	return request;
}

/* ---- results */

static inline bool legs_same(const struct result *a, const struct result *b)
{
	for (unsigned i = 0; i < a->legs; i++)
		if (a->leg[i].amount != b->leg[i].amount ||
		    a->leg[i].balance != b->leg[i].balance || a->leg[i].held != b->leg[i].held ||
		    a->leg[i].version != b->leg[i].version)
			return false;
	return a->legs == b->legs;
}

/* Would they be answered the same, byte for byte? */
static inline bool results_same(const struct result *a, const struct result *b)
{
	return a->outcome == b->outcome && a->created == b->created && a->refused == b->refused &&
	       a->lsn == b->lsn && a->time_us == b->time_us && a->available == b->available &&
	       a->required == b->required && a->limit == b->limit &&
	       a->attributes.floor == b->attributes.floor &&
	       a->attributes.ceiling == b->attributes.ceiling &&
	       a->attributes.frozen == b->attributes.frozen && a->hold_state == b->hold_state &&
	       a->hold_amount == b->hold_amount && a->hold_captured == b->hold_captured &&
	       a->hold_settled_lsn == b->hold_settled_lsn &&
	       a->hold_expires_us == b->hold_expires_us && a->account_length == b->account_length &&
	       memcmp(a->account, b->account, a->account_length) == 0 && legs_same(a, b);
}

static inline void result_diag(const char *what, const struct result *r)
{
	diag("%s: outcome %d created %d replayed %d legs %u refused %u lsn %" PRIu64
	     " time %" PRIu64 " available %" PRId64 " required %" PRId64 " limit %" PRId64
	     " hold %d %" PRId64 " %" PRId64 " %" PRIu64 " account %u",
	     what, (int)r->outcome, r->created, r->replayed, r->legs, r->refused, r->lsn,
	     r->time_us, r->available, r->required, r->limit, (int)r->hold_state, r->hold_amount,
	     r->hold_captured, r->hold_expires_us, r->account_length);
	for (unsigned i = 0; i < r->legs; i++)
		diag("%s: leg %u amount %" PRId64 " balance %" PRId64 " held %" PRId64
		     " version %" PRIu64,
		     what, i, r->leg[i].amount, r->leg[i].balance, r->leg[i].held,
		     r->leg[i].version);
}

/* Does the record at RESULT's LSN say what RESULT says? */
static inline bool recorded(struct world *world, const struct result *result)
{
	const struct record_head *record;
	struct result told;

	history_may_wait(world->run.history, true);
	enum history_status status = history_record(world->run.history, result->lsn, &record);
	history_may_wait(world->run.history, false);
	if (status != HISTORY_OK) {
		diag("no record at %" PRIu64 ": status %d", result->lsn, (int)status);
		return false;
	}
	history_result(record, &told);
	if (results_same(&told, result))
		return true;
	result_diag("told", &told);
	result_diag("made", result);
	return false;
}

static inline void must_accept(struct world *world, struct request request)
{
	struct result result = world_apply(world, &request);

	if (result.outcome != OUTCOME_ACCEPTED) {
		result_diag("refused", &result);
		BAIL_OUT("a test cannot be prepared");
	}
}

static inline void apply_group(struct world *world, const struct request *requests, size_t count,
                               struct result *results)
{
	run_extend(&world->run);
	ledger_apply_group(world->run.ledger, requests, count, ++world->run.now_us, results);
	run_commit(&world->run);
}

#endif
