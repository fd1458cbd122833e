/*
 * How fast a journal is replayed: makes one of RECORDS records over ACCOUNTS accounts and times
 * recover() on it, best of three.
 *
 *     t/replay-bench [RECORDS [ACCOUNTS]]      default 3000000 and 100000
 */
#include <time.h>

#include "journal-fixture.h"

#define ROUNDS 3
#define BATCH  512 /* records to a group commit */

static void fill(const struct place *place, const struct sizes *shape, size_t records,
                 size_t accounts)
{
	struct run run;
	uint64_t random = 1;
	char name[32];

	must(run_start(&run, place, shape), "run_start");
	for (size_t i = 0; i < records; i++) {
		int length = snprintf(name, sizeof name, "customer-%08" PRIu64,
		                      random_next(&random) % accounts);
		run_post(&run, name, (uint32_t)length, 1);
		if (i % BATCH == 0)
			run_commit(&run);
	}
	run_commit(&run);
	run_leave(&run);
}

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct taken {
	double real; /* seconds */
	double cpu;  /* the same on a machine that has nothing else to do and the file in memory */
	uint64_t records;
};

static struct taken measure(const struct place *place, const struct sizes *shape)
{
	char error[STORE_ERROR_SIZE];
	enum store_status status;
	struct recovery recovery;
	struct store *store = store_open(place->journal, &status, error);

	must(store != NULL, "store_open");
	struct region *region = region_make(shape, store_key(store));
	struct taken taken = {.real = -seconds(CLOCK_MONOTONIC),
	                      .cpu = -seconds(CLOCK_PROCESS_CPUTIME_ID)};
	status = recover(store, place->snapshots, region, &recovery, error);
	taken.real += seconds(CLOCK_MONOTONIC);
	taken.cpu += seconds(CLOCK_PROCESS_CPUTIME_ID);
	if (status != STORE_OK)
		BAIL_OUT("%s", error);
	taken.records = recovery.records;
	region_close(region);
	store_close(store);
	return taken;
}

int main(int argc, char **argv)
{
	size_t records = argc > 1 ? strtoul(argv[1], NULL, 10) : 3000000;
	size_t accounts = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
	struct sizes shape = {.segment_size = UINT64_C(64) << 20,
	                      .ring_size = UINT64_C(16) << 20,
	                      .max_accounts = accounts};
	struct place place;
	struct taken best = {.real = 0};

	if (records == 0 || accounts == 0) {
		fprintf(stderr, "usage: replay-bench [RECORDS [ACCOUNTS]]\n");
		return 2;
	}
	place_make(&place);
	fill(&place, &shape, records, accounts);
	for (int i = 0; i < ROUNDS; i++) {
		struct taken taken = measure(&place, &shape);
		if (best.real == 0 || taken.real < best.real)
			best = taken;
	}
	place_remove(&place);
	printf("replay: %" PRIu64 " records, %zu accounts, %.3f s: %.0f records/s "
	       "(%.0f for a second of CPU)\n",
	       best.records, accounts, best.real, (double)best.records / best.real,
	       (double)best.records / best.cpu);
	return 0;
}
