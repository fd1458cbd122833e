#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layout.h"
#include "lock.h"

#define STRIPE_ACCOUNTS_MIN 64
#define STRIPE_ACCOUNTS_MAX 1024
#define STRIPES_WANTED      1024
#define ACCOUNTS_LIMIT      UINT64_C(1000000000)
#define RING_LIMIT          (UINT64_C(1) << 32)

struct shape {
	uint64_t locks_at, slots_at, seal_at, processes_at, ring_at, size;
	uint32_t stripes, slots_per_stripe;
};

static uint64_t square_root(uint64_t value)
{
	uint64_t root = 0;

	while ((root + 1) * (root + 1) <= value)
		root++;
	return root;
}

/*
 * Accounts fall into stripes at random, so the fullest stripe holds more than the mean: six
 * standard deviations and a quarter are added.  The quarter keeps probes short, the deviations make
 * a full stripe before max_accounts less likely than a broken machine.
 */
static void shape_table(const struct region_geometry *geometry, struct shape *shape)
{
	uint64_t mean = geometry->max_accounts / STRIPES_WANTED;

	if (mean < STRIPE_ACCOUNTS_MIN)
		mean = STRIPE_ACCOUNTS_MIN;
	if (mean > STRIPE_ACCOUNTS_MAX)
		mean = STRIPE_ACCOUNTS_MAX;
	shape->stripes = (uint32_t)((geometry->max_accounts + mean - 1) / mean);
	shape->slots_per_stripe = (uint32_t)(mean + mean / 4 + 6 * square_root(mean) + 8);
}

static uint64_t align(uint64_t value)
{
	return (value + 4095) & ~UINT64_C(4095);
}

static bool shape_region(const struct region_geometry *geometry, struct shape *shape)
{
	uint64_t ring = geometry->ring_size;

	if (geometry->max_accounts == 0 || geometry->max_accounts > ACCOUNTS_LIMIT ||
	    ring < REGION_RING_MIN || ring > RING_LIMIT || (ring & (ring - 1)) != 0 ||
	    geometry->segment_size < REGION_RING_MIN || geometry->segment_size % 4096 != 0 ||
	    geometry->processes == 0 || geometry->processes > REGION_PROCESSES_MAX) {
		errno = EINVAL;
		return false;
	}
	shape_table(geometry, shape);
	shape->locks_at = align(sizeof(struct region_header));
	shape->slots_at =
	    align(shape->locks_at + ((uint64_t)shape->stripes + 1) * sizeof(struct lock));
	shape->seal_at =
	    align(shape->slots_at +
	          (uint64_t)shape->stripes * shape->slots_per_stripe * sizeof(struct account_slot));
	shape->processes_at = align(shape->seal_at + sizeof(struct region_seal));
	shape->ring_at = align(shape->processes_at + geometry->processes * sizeof(struct process));
	shape->size = shape->ring_at + ring;
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

	region->header = header;
	region->base = base;
	region->size = size;
	region->locks = (struct lock *)(void *)(region->base + header->locks_at);
	region->slots = (struct account_slot *)(void *)(region->base + header->slots_at);
	region->seal = (struct region_seal *)(void *)(region->base + header->seal_at);
	region->processes = (struct process *)(void *)(region->base + header->processes_at);
	region->ring = region->base + header->ring_at;
	region->ring_lock = header->stripes;
}

/* Fresh pages are zero, which is what most of the region wants to be. */
static int fill(struct region *region, void *base, const struct region_geometry *geometry,
                const struct shape *shape)
{
	struct region_header *header = base;

	header->version = REGION_VERSION;
	header->header_size = sizeof *header;
	header->size = shape->size;
	header->geometry = *geometry;
	header->stripes = shape->stripes;
	header->slots_per_stripe = shape->slots_per_stripe;
	header->locks_at = shape->locks_at;
	header->slots_at = shape->slots_at;
	header->seal_at = shape->seal_at;
	header->processes_at = shape->processes_at;
	header->ring_at = shape->ring_at;
	atomic_store(&header->settings.queue_events, UINT64_MAX);
	view(region, base, shape->size);
	for (uint32_t i = 0; i <= region->ring_lock; i++) {
		int error = lock_init(&region->locks[i]);
		if (error != 0) {
			errno = error;
			return -1;
		}
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

void region_begin(struct region *region, uint64_t start, uint64_t segment_end, uint64_t space)
{
	struct region_marks *marks = &region->header->marks;

	region->header->segment_end = segment_end;
	atomic_store(&marks->tail, start);
	atomic_store(&marks->released, start);
	atomic_store(&marks->durable, start);
	atomic_store(&marks->written, start);
	atomic_store(&marks->space, space);
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

bool region_poisoned(const struct region *region)
{
	return atomic_load(&region->header->poisoned) != 0;
}

uint64_t region_slots(const struct region *region)
{
	return (uint64_t)region->header->stripes * region->header->slots_per_stripe;
}

uint32_t region_stripes(const struct region *region)
{
	return region->header->stripes;
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
	counter_store(&process->counters, COUNTER_CONNECTIONS_OPEN, 0);
}
