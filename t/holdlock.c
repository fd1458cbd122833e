/*
 * Takes the lock of an account in the region of a running tallyd, says "held", and waits to be
 * killed, for the tests of tallyctl:
 *
 *     holdlock NAME ACCOUNT          with the lock alone
 *     holdlock NAME ring:            with the ring's (no account has a colon at its end here)
 *     holdlock NAME ACCOUNT AMOUNT   after an event of AMOUNT has been committed, and before
 *                                    the account's slot is written
 *
 * NAME is the region's ("/tallyd-...").  It uses the last process slot, which is nobody's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "../shm/layout.h"
#include "../shm/lock.h"
#include "../shm/repair.h"
#include "../src/ledger/event.h"
#include "../src/ledger/record.h"

static struct region region;
static const char *name;
static uint32_t stripe;

/* As region_inspect, but to write. */
static void map(const char *object)
{
	struct stat status;
	struct region *seen = region_inspect(object);
	int fd = shm_open(object, O_RDWR, 0);

	if (seen == NULL || fd < 0 || fstat(fd, &status) != 0) {
		fprintf(stderr, "holdlock: %s: %s\n", object, strerror(errno));
		exit(EXIT_FAILURE);
	}
	/* At the same addresses, so that what they name can be written. */
	region = *seen;
	if (mmap(seen->base, seen->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED) {
		perror("holdlock: mmap");
		exit(EXIT_FAILURE);
	}
	region_enter(&region, region_geometry(&region)->processes - 1);
	record_install(&region);
}

_Noreturn static void hold(void)
{
	puts("held");
	fflush(stdout);
	for (;;)
		pause();
}

static struct account_slot *find(void)
{
	uint32_t length = (uint32_t)strlen(name);
	uint64_t hash = XXH3_64bits_withSeed(name, length, region_geometry(&region)->hash_seed);

	stripe = table_stripe(&region, hash);
	return table_find(&region, stripe, hash, name, length);
}

/* Everything that operation_commit does up to and with the ring, and nothing of what follows. */
static void commit(struct account_slot *slot, int64_t amount)
{
	_Alignas(8) static unsigned char record[JOURNAL_RECORD_MAX];
	static const struct words none;
	const struct words words = {.bytes = name, .length = (uint32_t)strlen(name)};
	struct operation_area *area = &region.processes[region.slot].area;
	struct region_marks *marks = region_marks(&region);
	struct record_writer writer;
	uint64_t lsn;

	struct account_slot *after =
	    operation_stage(&region, slot, stripe, offsetof(struct account_slot, rest), 0);
	after->balance += amount;
	after->version++;
	record_begin(&writer, record, RECORD_EVENT, OUTCOME_ACCEPTED, 0, 1000);
	const struct record_leg leg = {.amount = amount,
	                               .balance = after->balance,
	                               .held = after->held,
	                               .version = after->version,
	                               .previous = slot->lsn};
	record_add_leg(&writer, &words, &leg, NULL);
	size_t length = record_end(&writer, 42, &none, &none);
	area->check = repair_check(area);
	if (!lock_acquire(&region, lock_ring(&region)) ||
	    ring_place(&region, length, RING_CLIENT, &lsn) != RING_OK)
		exit(EXIT_FAILURE);
	region.codec.stamp(record, length, lsn, atomic_load(&marks->durable), &region);
	ring_write(&region, lsn, record, length, atomic_load(&marks->durable));
	area->new_tail = lsn + length;
	area->new_events = atomic_load(&marks->events) + 1;
	atomic_store(&area->commit, lsn);
	atomic_store(&marks->events, area->new_events);
	atomic_store(&marks->tail, area->new_tail);
	lock_release(&region, lock_ring(&region));
	/* Half of what comes next. */
	memcpy(&slot->balance, &after->balance, sizeof slot->balance);
}

int main(int argc, char **argv)
{
	if (argc < 3 || argc > 4) {
		fputs("usage: holdlock NAME ACCOUNT [AMOUNT]\n", stderr);
		return 2;
	}
	map(argv[1]);
	name = argv[2];
	if (strcmp(name, "ring:") == 0)
		if (lock_acquire(&region, lock_ring(&region)))
			hold();
	/* The stripe first: no slot is looked for without its lock. */
	uint64_t hash =
	    XXH3_64bits_withSeed(name, strlen(name), region_geometry(&region)->hash_seed);
	const uint32_t lock = table_stripe(&region, hash);
	if (!operation_adopt(&region) || !operation_lock(&region, &lock, 1))
		return EXIT_FAILURE;
	struct account_slot *slot = find();
	if (slot == NULL)
		return EXIT_FAILURE;
	if (argc == 4)
		commit(slot, strtoll(argv[3], NULL, 10));
	hold();
}
