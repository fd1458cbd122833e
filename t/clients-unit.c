/*
 * The tables that count each client's connections: one process against a model that cannot be
 * wrong, every limit at its last good and its first bad value, many processes that race for one
 * limit, and one that dies within.
 */
#include "region-fixture.h"

#include "../shm/clients.h"

#define ADDRESSES 64
#define CLIENTS   96 /* different ones in the model: more than fit */
#define ROUNDS    300000
#define SEED      20261128u
#define RACERS    8
#define LIMIT     20
#define RACES     1000000 /* steps of each racer */
#define ENTRIES   (ADDRESSES + ADDRESSES / 2)

static struct region *region;

static void make_region(uint32_t processes)
{
	struct region_geometry geometry = fixture_geometry(64);

	geometry.processes = processes;
	geometry.max_addresses = ADDRESSES;
	region = fixture_region(&geometry);
	if (region == NULL)
		BAIL_OUT("cannot make a region: %s", strerror(errno));
	atomic_store(&region_settings(region)->processes, processes);
	region_enter(region, 2);
}

static void limit(void)
{
	make_region(4);
	cmp_ok(clients_enter(region, 7, 2), "==", CLIENTS_ADMITTED, "the first");
	cmp_ok(clients_enter(region, 7, 2), "==", CLIENTS_ADMITTED, "the second");
	cmp_ok(clients_enter(region, 7, 2), "==", CLIENTS_MANY, "a third is too many");
	cmp_ok((intmax_t)clients_count(region, 7), "==", 2, "and is not counted");
	cmp_ok(clients_enter(region, 8, 2), "==", CLIENTS_ADMITTED, "another client may");
	cmp_ok(clients_enter(region, 7, 0), "==", CLIENTS_ADMITTED,
	       "without a limit it is counted");
	cmp_ok((intmax_t)clients_count(region, 7), "==", 3, "so that a limit finds it");
	cmp_ok(clients_enter(region, 7, 3), "==", CLIENTS_MANY, "... which it does");
	cmp_ok(clients_known(region), "==", 2, "two clients");
	region_enter(region, 3);
	cmp_ok(clients_enter(region, 7, 3), "==", CLIENTS_MANY, "another process sees them");
	cmp_ok(clients_known(region), "==", 0, "and keeps nothing of whom it refused");
	cmp_ok(clients_enter(region, 7, 4), "==", CLIENTS_ADMITTED, "it may have one more");
	region_enter(region, 2);
	cmp_ok(clients_enter(region, 7, 4), "==", CLIENTS_MANY, "which the first sees");
	clients_leave(region, 7);
	cmp_ok(clients_enter(region, 7, 4), "==", CLIENTS_ADMITTED, "one that ends makes room");
	region_reset_slot(region, 2);
	cmp_ok((intmax_t)clients_count(region, 7), "==", 1, "a dead process has none");
	cmp_ok(clients_known(region), "==", 0, "of anybody");
	clients_leave(region, 7);
	cmp_ok((intmax_t)clients_count(region, 7), "==", 1, "who has none gives none back");
	cmp_ok(clients_enter(region, 0, 1), "==", CLIENTS_ADMITTED, "0 is a client, too");
	cmp_ok(clients_enter(region, 0, 1), "==", CLIENTS_MANY, "like others");
	region_close(region);
}

static void full(void)
{
	unsigned admitted = 0;

	make_region(4);
	for (uint64_t i = 1; i <= ADDRESSES; i++)
		admitted += clients_enter(region, i, 5) == CLIENTS_ADMITTED;
	cmp_ok(admitted, "==", ADDRESSES, "max_addresses clients have their places");
	cmp_ok(clients_enter(region, ADDRESSES + 1, 5), "==", CLIENTS_FULL, "one more has none");
	cmp_ok(clients_enter(region, 1, 5), "==", CLIENTS_ADMITTED, "who has one may go on");
	region_enter(region, 3);
	cmp_ok(clients_enter(region, ADDRESSES + 1, 5), "==", CLIENTS_ADMITTED,
	       "other processes have their own");
	region_enter(region, 2);
	clients_leave(region, 2);
	cmp_ok(clients_enter(region, ADDRESSES + 1, 5), "==", CLIENTS_ADMITTED,
	       "a place that is free again is taken");
	region_close(region);
}

static void count_limit(void)
{
	unsigned admitted = 0;

	make_region(4);
	for (uint32_t i = 0; i < CLIENTS_COUNT_MAX; i++)
		admitted += clients_enter(region, 5, 0) == CLIENTS_ADMITTED;
	cmp_ok(admitted, "==", CLIENTS_COUNT_MAX, "so many are counted");
	cmp_ok(clients_enter(region, 5, 0), "==", CLIENTS_MANY, "one more is too many");
	cmp_ok((intmax_t)clients_count(region, 5), "==", CLIENTS_COUNT_MAX, "no bit is lost");
	region_close(region);
}

static bool agrees(const unsigned *model, uint32_t known)
{
	for (uint64_t i = 0; i < CLIENTS; i++)
		if (clients_count(region, i) != model[i])
			return false;
	return clients_known(region) == known;
}

/* Is every entry zero?  Nothing of who has gone may stay, or rows would grow for ever. */
static unsigned left_over(void)
{
	unsigned used = 0;

	for (unsigned i = 0; i < ENTRIES; i++)
		used += region->clients[region->slot * ENTRIES + i] != 0;
	return used;
}

static void against_model(void)
{
	unsigned model[CLIENTS] = {0};
	unsigned seen[3] = {0};
	uint32_t known = 0;
	bool good = true;

	make_region(4);
	srand(SEED);
	for (unsigned i = 0; i < ROUNDS && good; i++) {
		uint64_t client = (uint64_t)rand() % CLIENTS;
		unsigned most = (unsigned)rand() % 4;
		/* By turns it fills and empties. */
		if (rand() % 100 < (i / 5000 % 2 ? 40 : 65)) {
			enum clients_verdict expected =
			    model[client] == 0 && known == ADDRESSES ? CLIENTS_FULL
			    : most != 0 && model[client] >= most     ? CLIENTS_MANY
			                                             : CLIENTS_ADMITTED;
			enum clients_verdict verdict = clients_enter(region, client, most);
			good = verdict == expected;
			seen[expected]++;
			if (expected == CLIENTS_ADMITTED)
				known += model[client]++ == 0;
		} else if (model[client] > 0) {
			clients_leave(region, client);
			known -= --model[client] == 0;
		}
		if (i % 64 == 0)
			good = good && agrees(model, known);
	}
	ok(good && agrees(model, known), "as a model counts");
	ok(seen[CLIENTS_MANY] > 1000 && seen[CLIENTS_FULL] > 1000, "refusals of both kinds");
	for (uint64_t i = 0; i < CLIENTS; i++)
		for (; model[i] > 0; model[i]--)
			clients_leave(region, i);
	cmp_ok(left_over(), "==", 0, "when all have gone, nothing is left");
	region_close(region);
}

/* --- races --- */

struct race {
	_Atomic int held;    /* admitted and not given back */
	_Atomic int highest; /* that it ever was */
	_Atomic int admitted;
	_Atomic int begin;
};
static struct race *race;

static bool take_one(void)
{
	if (clients_enter(region, 1, LIMIT) != CLIENTS_ADMITTED)
		return false;
	int held = atomic_fetch_add(&race->held, 1) + 1;
	int highest = atomic_load(&race->highest);
	while (held > highest && !atomic_compare_exchange_weak(&race->highest, &highest, held))
		;
	atomic_fetch_add(&race->admitted, 1);
	return true;
}

static void give_one(void)
{
	atomic_fetch_sub(&race->held, 1);
	clients_leave(region, 1);
}

/*
 * It has by turns up to 7 of them, so that all together want more than there are; others come and
 * go in the same table, so that entries are taken and tidied beside.
 */
static void one_racer(uint32_t slot)
{
	unsigned random = slot, mine = 0;

	region_enter(region, slot);
	while (!atomic_load(&race->begin))
		;
	for (unsigned i = 0; i < RACES; i++) {
		uint64_t other = 100 + (uint64_t)rand_r(&random) % 40;
		bool with = clients_enter(region, other, 0) == CLIENTS_ADMITTED;
		if (mine < (unsigned)rand_r(&random) % 8) {
			mine += take_one();
		} else if (mine > 0) {
			give_one();
			mine--;
		}
		if (with)
			clients_leave(region, other);
	}
	_exit(0);
}

static void races(void)
{
	pid_t racers[RACERS];

	make_region(RACERS + 2);
	race = mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (uint32_t i = 0; i < RACERS; i++) {
		racers[i] = fork();
		if (racers[i] == 0) {
			alarm(fixture_deadline() * 3);
			one_racer(i + 2);
		}
	}
	atomic_store(&race->begin, 1);
	for (uint32_t i = 0; i < RACERS; i++) {
		int status = -1;
		waitpid(racers[i], &status, 0);
		ok(status == 0, "racer %u ends", i);
	}
	cmp_ok(atomic_load(&race->highest), "<=", LIMIT, "the limit is never exceeded");
	cmp_ok(atomic_load(&race->highest), ">", LIMIT / 2, "but used");
	cmp_ok(atomic_load(&race->admitted), ">", RACES / 10, "by many");
	cmp_ok((intmax_t)clients_count(region, 1), "==", atomic_load(&race->held),
	       "what is held at the end is what is counted");
	for (uint32_t i = 0; i < RACERS; i++)
		region_reset_slot(region, i + 2);
	cmp_ok((intmax_t)clients_count(region, 1), "==", 0, "the dead have nothing");
	region_close(region);
}

int main(void)
{
	plan(NO_PLAN);
	limit();
	full();
	count_limit();
	against_model();
	races();
	return done_testing();
}
