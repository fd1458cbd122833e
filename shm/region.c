#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clients.h"
#include "layout.h"
#include "lock.h"

#define STRIPES_WANTED      64  /* at least, where an account has so many neighbours */
#define STRIPE_ACCOUNTS_MIN 64  /* in stripes of fewer, slack would take too much */
#define STRIPE_ACCOUNTS_MAX 200 /* more would save little, and make probes longer */
#define IDS_IN_BUCKET       38  /* of IDS_BUCKET: six in ten */
#define ID_LOCKS_MAX        1024
#define HOLDS_IN_BUCKET     168 /* with its slack, HOLDS_BUCKET */
#define ACCOUNTS_LIMIT      UINT64_C(1000000000)
#define IDS_LIMIT           UINT64_C(1000000000)
#define HOLDS_LIMIT         UINT64_C(100000000)
#define ADDRESSES_LIMIT     1000000
#define RING_LIMIT          (UINT64_C(1) << 32)

static uint64_t square_root(uint64_t value)
{
	uint64_t root = 0;

	while ((root + 1) * (root + 1) <= value)
		root++;
	return root;
}

/*
 * What falls into compartments at random fills the fullest with more than the mean: six standard
 * deviations are added, and a few because the tail is a little fatter than the normal one.  So a
 * compartment that is full before all are is less likely than a broken machine.
 */
static uint64_t with_slack(uint64_t mean)
{
	return mean + 6 * square_root(mean) + 8;
}

static uint64_t divide_up(uint64_t value, uint64_t by)
{
	return (value + by - 1) / by;
}

static void shape_table(const struct region_geometry *geometry, struct shape *shape)
{
	uint64_t mean = geometry->max_accounts / STRIPES_WANTED;

	if (mean < STRIPE_ACCOUNTS_MIN)
		mean = STRIPE_ACCOUNTS_MIN;
	if (mean > STRIPE_ACCOUNTS_MAX)
		mean = STRIPE_ACCOUNTS_MAX;
	shape->stripes = (uint32_t)divide_up(geometry->max_accounts, mean);
	shape->slots_per_stripe = (uint32_t)with_slack(mean);
}

/* An id too many in one bucket is no error: the oldest there is forgotten, and that is counted. */
static void shape_ids(const struct region_geometry *geometry, struct shape *shape)
{
	shape->id_buckets = (uint32_t)divide_up(geometry->max_ids, IDS_IN_BUCKET);
	while (divide_up(shape->id_buckets, UINT64_C(1) << shape->id_shift) > ID_LOCKS_MAX)
		shape->id_shift++;
	shape->id_locks = (uint32_t)divide_up(shape->id_buckets, UINT64_C(1) << shape->id_shift);
}

static void shape_holds(const struct region_geometry *geometry, struct shape *shape)
{
	shape->hold_buckets = (uint32_t)divide_up(geometry->max_holds, HOLDS_IN_BUCKET);
	shape->hold_slots = (uint64_t)shape->hold_buckets * HOLDS_BUCKET;
}

static uint64_t align(uint64_t value)
{
	return (value + 4095) & ~UINT64_C(4095);
}

/* The place of COUNT things of SIZE bytes; *END moves behind them. */
static uint64_t place(uint64_t *end, uint64_t count, size_t size)
{
	uint64_t at = align(*end);

	*end = at + count * size;
	return at;
}

static bool geometry_valid(const struct region_geometry *geometry)
{
	uint64_t ring = geometry->ring_size;

	return geometry->max_accounts != 0 && geometry->max_accounts <= ACCOUNTS_LIMIT &&
	       geometry->max_ids >= REGION_IDS_MIN && geometry->max_ids <= IDS_LIMIT &&
	       geometry->max_holds >= REGION_HOLDS_MIN && geometry->max_holds <= HOLDS_LIMIT &&
	       geometry->max_addresses <= ADDRESSES_LIMIT && ring >= REGION_RING_MIN &&
	       ring <= RING_LIMIT && (ring & (ring - 1)) == 0 &&
	       geometry->segment_size >= REGION_RING_MIN && geometry->segment_size % 4096 == 0 &&
	       geometry->processes != 0 && geometry->processes <= REGION_PROCESSES_MAX;
}

static bool shape_region(const struct region_geometry *geometry, struct shape *shape)
{
	uint64_t end = sizeof(struct region_header);

	*shape = (struct shape){0};
	if (!geometry_valid(geometry)) {
		errno = EINVAL;
		return false;
	}
	shape_table(geometry, shape);
	shape_ids(geometry, shape);
	shape_holds(geometry, shape);
	shape->locks = shape->stripes + shape->id_locks + shape->hold_buckets + 1;
	shape->locks_at = place(&end, shape->locks, sizeof(struct lock));
	shape->slots_at = place(&end, (uint64_t)shape->stripes * shape->slots_per_stripe,
	                        sizeof(struct account_slot));
	shape->ids_at = place(&end, shape->id_buckets, sizeof(struct id_bucket));
	shape->holds_at = place(&end, shape->hold_slots, sizeof(struct hold_slot));
	shape->hints_at = place(&end, HINT_ARRAYS * shape->hold_slots, sizeof(uint32_t));
	shape->seal_at = place(&end, 1, sizeof(struct region_seal));
	shape->processes_at = place(&end, geometry->processes, sizeof(struct process));
	/* Two thirds full at most: then the way to an entry is five long on average. */
	shape->client_entries = geometry->max_addresses + geometry->max_addresses / 2;
	shape->clients_at =
	    place(&end, (uint64_t)geometry->processes * shape->client_entries, sizeof(uint64_t));
	shape->ring_at = place(&end, geometry->ring_size, 1);
	shape->room_at = place(&end, 1, sizeof(struct room_area));
	shape->size = end;
	return true;
}

uint64_t region_size(const struct region_geometry *geometry)
{
	struct shape shape;

	return shape_region(geometry, &shape) ? shape.size : 0;
}

static void view(struct region *region, void *base, uint64_t size)
{
	struct region_header *header = base;
	const struct shape *shape = &header->shape;

	region->header = header;
	region->base = base;
	region->size = size;
	region->locks = (struct lock *)(void *)(region->base + shape->locks_at);
	region->slots = (struct account_slot *)(void *)(region->base + shape->slots_at);
	region->ids = (struct id_bucket *)(void *)(region->base + shape->ids_at);
	region->holds = (struct hold_slot *)(void *)(region->base + shape->holds_at);
	for (unsigned i = 0; i < HINT_ARRAYS; i++)
		region->hint[i] = (_Atomic uint32_t *)(void *)(region->base + shape->hints_at) +
		                  i * shape->hold_slots;
	region->seal = (struct region_seal *)(void *)(region->base + shape->seal_at);
	region->processes = (struct process *)(void *)(region->base + shape->processes_at);
	region->clients = (_Atomic uint64_t *)(void *)(region->base + shape->clients_at);
	region->ring = region->base + shape->ring_at;
	region->room = (struct room_area *)(void *)(region->base + shape->room_at);
	region->ring_lock = shape->locks - 1;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* What events do until the master says otherwise. */
static void fill_settings(struct region_settings *settings)
{
	atomic_store(&settings->queue_events, UINT64_MAX);
	atomic_store(&settings->auto_create, 1);
	atomic_store(&settings->default_floor, INT64_MIN);
	atomic_store(&settings->default_ceiling, INT64_MAX);
}

/* Fresh pages are zero, which is what most of the region wants to be. */
static int fill(struct region *region, void *base, const struct region_geometry *geometry,
                const struct shape *shape)
{
	struct region_header *header = base;
	uint64_t now = now_us();

	header->version = REGION_VERSION;
	header->header_size = sizeof *header;
	header->size = shape->size;
	header->geometry = *geometry;
	header->shape = *shape;
	header->base_us = now > HINTS_PAST_US ? now - HINTS_PAST_US : 0;
	fill_settings(&header->settings);
	view(region, base, shape->size);
	int error = lock_init(&region->room->lock);
	for (uint32_t i = 0; i < shape->locks && error == 0; i++)
		error = lock_init(&region->locks[i]);
	if (error != 0) {
		errno = error;
		return -1;
	}
	header->magic = REGION_MAGIC;
	return 0;
}

static void *map_new(const char *name, uint64_t size)
{
	void *base = MAP_FAILED;
	int error;
	int fd;

	shm_unlink(name); /* a stale one: the data directory's lock says that nobody uses it */
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return MAP_FAILED;
	do
		error = posix_fallocate(fd, 0, (off_t)size);
	while (error == EINTR);
	if (error == 0) {
		base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
		error = errno;
	}
	close(fd);
	if (base == MAP_FAILED) {
		shm_unlink(name);
		errno = error;
	} else {
		madvise(base, size, MADV_DONTDUMP); /* balances are for no core dump */
	}
	return base;
}

struct region *region_create(const char *name, const struct region_geometry *geometry)
{
	struct shape shape;

	if (!shape_region(geometry, &shape))
		return NULL;
	struct region *region = calloc(1, sizeof *region);
	if (region == NULL)
		return NULL;
	void *base = map_new(name, shape.size);
	if (base == MAP_FAILED) {
		free(region);
		return NULL;
	}
	if (fill(region, base, geometry, &shape) == 0)
		return region;
	int error = errno;
	region_close(region);
	shm_unlink(name);
	errno = error;
	return NULL;
}

struct region *region_create_private(const struct region_geometry *geometry)
{
	struct shape shape;

	if (!shape_region(geometry, &shape))
		return NULL;
	void *base = mmap(NULL, shape.size, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return NULL;
	struct region *region = calloc(1, sizeof *region);
	if (region == NULL) {
		munmap(base, shape.size);
		return NULL;
	}
	if (fill(region, base, geometry, &shape) == 0)
		return region;
	int error = errno;
	region_close(region);
	errno = error;
	return NULL;
}

static void count_accounts(const struct region *region, uint64_t used[USES])
{
	uint64_t slots = region_slots(region);

	for (uint64_t i = 0; i < slots; i++) {
		used[USE_ACCOUNTS] += table_is_account(&region->slots[i]);
		used[USE_ACCOUNT_SLOTS] += !table_is_free(&region->slots[i]);
	}
}

void region_count(const struct region *region, uint64_t used[USES])
{
	memset(used, 0, USES * sizeof *used);
	count_accounts(region, used);
	used[USE_IDS] = ids_count(region);
	used[USE_HOLDS] = holds_count(region);
}

void region_begin(struct region *region, uint64_t start, uint64_t segment_end, uint64_t space)
{
	struct region_marks *marks = &region->header->marks;

	uint64_t used[USES];

	region_count(region, used);
	for (unsigned i = 0; i < USES; i++)
		atomic_store(&marks->used[i], used[i]);
	region->header->segment_end = segment_end;
	atomic_store(&marks->tail, start);
	atomic_store(&marks->released, start);
	atomic_store(&marks->durable, start);
	atomic_store(&marks->written, start);
	atomic_store(&marks->space, space);
}

void region_empty(struct region *region)
{
	const struct shape *shape = &region->header->shape;

	memset(region->base + shape->slots_at, 0, shape->seal_at - shape->slots_at);
	atomic_store(&region->header->marks.ids_lost_us, 0);
}

struct region_seal *region_seal(struct region *region)
{
	return region->seal;
}

static void *map_existing(const char *name, uint64_t *size)
{
	struct stat status;
	void *base = MAP_FAILED;
	int fd = shm_open(name, O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return MAP_FAILED;
	if (fstat(fd, &status) == 0 && status.st_size >= (off_t)sizeof(struct region_header)) {
		*size = (uint64_t)status.st_size;
		base = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
	} else {
		errno = EINVAL;
	}
	int error = errno;
	close(fd);
	errno = error;
	return base;
}

struct region *region_inspect(const char *name)
{
	uint64_t size = 0;
	void *base = map_existing(name, &size);

	if (base == MAP_FAILED)
		return NULL;
	const struct region_header *header = base;
	struct region *region = NULL;
	if (header->magic == REGION_MAGIC && header->version == REGION_VERSION &&
	    header->header_size == sizeof *header && header->size == size)
		region = calloc(1, sizeof *region);
	else
		errno = EINVAL;
	if (region == NULL)
		munmap(base, size);
	else
		view(region, base, size);
	return region;
}

void region_close(struct region *region)
{
	if (region == NULL)
		return;
	munmap(region->base, region->size);
	free(region);
}

int region_unlink(const char *name)
{
	return shm_unlink(name);
}

const struct region_geometry *region_geometry(const struct region *region)
{
	return &region->header->geometry;
}

struct region_settings *region_settings(struct region *region)
{
	return &region->header->settings;
}

struct region_marks *region_marks(struct region *region)
{
	return &region->header->marks;
}

struct region_life *region_life(struct region *region)
{
	return &region->header->life;
}

struct region_snapshots *region_snapshots(struct region *region)
{
	return &region->header->snapshots;
}

struct region_roster *region_roster(struct region *region)
{
	return &region->header->roster;
}

struct region_recovery *region_recovery(struct region *region)
{
	return &region->header->recovery;
}

bool region_poisoned(const struct region *region)
{
	return atomic_load(&region->header->poisoned) != 0;
}

uint64_t region_slots(const struct region *region)
{
	return (uint64_t)region->header->shape.stripes * region->header->shape.slots_per_stripe;
}

uint32_t region_stripes(const struct region *region)
{
	return region->header->shape.stripes;
}

void region_on_alarm(struct region *region, region_alarm *alarm)
{
	region->alarm = alarm;
}

void region_enter(struct region *region, uint32_t slot)
{
	region->slot = slot;
}

void region_reset_slot(struct region *region, uint32_t slot)
{
	struct process *process = &region->processes[slot];

	atomic_store(&process->want, 0);
	counter_bury(&process->counters);
	clients_bury(region, slot);
	room_bury(region, slot);
}
