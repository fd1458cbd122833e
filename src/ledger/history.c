#include "history.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../../shm/region.h"
#include "../../shm/ring.h"
#include "disk.h"
#include "record.h"
#include "segment.h"

#define FILES_MAX    8 /* descriptors of segments, and so segments that a reader may keep alive */
#define FETCH_BEFORE 65536  /* bytes before a record that are asked for with it */
#define FETCH_AHEAD  262144 /* bytes from a record on that are asked for by who reads forward */

/* What is being written may lie so far beyond the tail, over what was in the ring before. */
#define RING_MARGIN (2 * RECORD_GROUP_MAX + SEGMENT_HEAD)
_Static_assert(REGION_RING_MIN > RING_MARGIN + JOURNAL_RECORD_MAX, "there is a ring besides");

struct file {
	uint64_t base;
	uint64_t used; /* by the reader's clock; 0: none is open */
	int fd;
};

struct journal_reader {
	struct region *region;
	int directory;
	bool wait;
	bool nowait_fails; /* the file system knows no reads that do not wait */
	uint64_t *base;    /* of the segments that were there at first, ascending */
	size_t count;
	size_t first;   /* those before it are gone */
	uint64_t after; /* what begins here or later has the region's segment size */
	uint64_t clock; /* counts uses of files */
	struct file file[FILES_MAX];
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
};

/* ---- which segments there are */

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left;
	uint64_t b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static int add_base(struct journal_reader *reader, size_t *capacity, uint64_t base)
{
	if (reader->count == *capacity) {
		size_t more = *capacity == 0 ? 64 : *capacity * 2;
		uint64_t *grown = reallocarray(reader->base, more, sizeof *grown);
		if (grown == NULL)
			return -1;
		reader->base = grown;
		*capacity = more;
	}
	reader->base[reader->count++] = base;
	return 0;
}

static int read_names(struct journal_reader *reader, DIR *directory)
{
	struct dirent *entry;
	size_t capacity = 0;
	uint64_t base;

	while (errno = 0, (entry = readdir(directory)) != NULL)
		/* Later ones are known without looking: they all have one size. */
		if (segment_parse(entry->d_name, &base) && base < reader->after &&
		    add_base(reader, &capacity, base) != 0)
			return -1;
	if (errno != 0)
		return -1;
	if (reader->count > 1)
		qsort(reader->base, reader->count, sizeof *reader->base, compare);
	return 0;
}

static int list(struct journal_reader *reader)
{
	int fd = disk_open(reader->directory, ".", O_RDONLY | O_DIRECTORY);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	int result;
	int error;

	if (directory == NULL) {
		error = errno;
		if (fd >= 0)
			close(fd);
		errno = error;
		return -1;
	}
	result = read_names(reader, directory);
	error = errno;
	closedir(directory);
	errno = error;
	return result;
}

/* The base of the segment that holds LSN; false: it lies before all that are kept. */
static bool find_base(const struct journal_reader *reader, uint64_t lsn, uint64_t *base)
{
	size_t low = reader->first;
	size_t high = reader->count;

	if (lsn >= reader->after) {
		/* An end belongs to the segment that it ends. */
		*base = ring_segment_end(reader->region, lsn + 1) -
		        region_geometry(reader->region)->segment_size;
		return true;
	}
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (reader->base[middle] <= lsn)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == reader->first)
		return false;
	*base = reader->base[low - 1];
	return true;
}

static bool is_there(const struct journal_reader *reader, uint64_t base)
{
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, base);
	return faccessat(reader->directory, name, F_OK, 0) == 0;
}

uint64_t history_first(struct journal_reader *reader)
{
	uint64_t size = region_geometry(reader->region)->segment_size;
	uint64_t tail = atomic_load(&region_marks(reader->region)->tail);
	uint64_t base;

	while (reader->first < reader->count && !is_there(reader, reader->base[reader->first]))
		reader->first++;
	if (reader->first < reader->count)
		return reader->base[reader->first] + SEGMENT_HEAD;
	for (base = reader->after; base + size < tail && !is_there(reader, base); base += size)
		;
	return base + SEGMENT_HEAD;
}

int history_directory(const struct journal_reader *reader)
{
	return reader->directory;
}

struct region *history_region(struct journal_reader *reader)
{
	return reader->region;
}

/* The end of the segment in which LSN lies; an end belongs to the segment that it ends. */
static uint64_t segment_end(const struct journal_reader *reader, uint64_t lsn)
{
	size_t low = 0;
	size_t high = reader->count;

	if (lsn > reader->after)
		return ring_segment_end(reader->region, lsn);
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (reader->base[middle] < lsn)
			low = middle + 1;
		else
			high = middle;
	}
	return low < reader->count ? reader->base[low] : reader->after;
}

uint64_t history_next(const struct journal_reader *reader, uint64_t lsn)
{
	uint64_t end = segment_end(reader, lsn);

	return end - lsn < JOURNAL_RECORD_MIN ? end + SEGMENT_HEAD : lsn;
}

/* ---- open files */

static void close_file(struct file *file)
{
	close(file->fd);
	*file = (struct file){.fd = -1};
}

/* A descriptor keeps the disk space of a file that was removed: such a one is closed. */
static bool removed(const struct file *file)
{
	struct stat status;

	return fstat(file->fd, &status) == 0 && status.st_nlink == 0;
}

static struct file *vacancy(struct journal_reader *reader)
{
	struct file *oldest = &reader->file[0];

	for (size_t i = 1; i < FILES_MAX; i++)
		if (reader->file[i].used < oldest->used)
			oldest = &reader->file[i];
	if (oldest->used != 0)
		close_file(oldest);
	return oldest;
}

/* The file of the segment at BASE, opened if need be; NULL with errno. */
static struct file *open_file(struct journal_reader *reader, uint64_t base)
{
	char name[SEGMENT_NAME_SIZE];
	struct file *file = NULL;

	for (size_t i = 0; i < FILES_MAX; i++) {
		if (reader->file[i].used != 0 && removed(&reader->file[i]))
			close_file(&reader->file[i]);
		if (reader->file[i].used != 0 && reader->file[i].base == base)
			file = &reader->file[i];
	}
	if (file == NULL) {
		segment_name(name, base);
		int fd = disk_open(reader->directory, name, O_RDONLY | O_NOFOLLOW);
		if (fd < 0)
			return NULL;
		file = vacancy(reader);
		file->fd = fd;
		file->base = base;
	}
	file->used = ++reader->clock;
	return file;
}

/* ---- the record at a position */

/* A copy that was being overwritten is not sound: then the file has it. */
static bool from_ring(struct journal_reader *reader, uint64_t lsn)
{
	const struct region_geometry *geometry = region_geometry(reader->region);
	uint64_t tail =
	    atomic_load_explicit(&region_marks(reader->region)->tail, memory_order_acquire);
	struct record_head *head = (struct record_head *)(void *)reader->record;

	if (lsn >= tail || tail - lsn > geometry->ring_size)
		return false;
	ring_read(reader->region, lsn, head, sizeof *head);
	if (head->lsn != lsn || head->length < sizeof *head || head->length > JOURNAL_RECORD_MAX ||
	    head->length > tail - lsn)
		return false;
	size_t length = head->length;
	ring_read(reader->region, lsn, head, length);
	return record_check(head, length, lsn, geometry->journal_key) != 0;
}

/* Up to LENGTH bytes at OFFSET, as many as are in memory; -1 with errno. */
static ssize_t read_in_memory(int fd, void *bytes, size_t length, uint64_t offset)
{
	struct iovec piece = {.iov_base = bytes, .iov_len = length};
	ssize_t got;

	do
		got = preadv2(fd, &piece, 1, (off_t)offset, RWF_NOWAIT);
	while (got < 0 && errno == EINTR);
	return got;
}

static ssize_t read_file(struct journal_reader *reader, int fd, void *bytes, size_t length,
                         uint64_t offset)
{
	if (!reader->wait && !reader->nowait_fails) {
		ssize_t got = read_in_memory(fd, bytes, length, offset);
		if (got >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
			return got;
		reader->nowait_fails = true;
	}
	return disk_read(fd, bytes, length, offset);
}

/* Part of it was in memory: is that not enough for the record? */
static bool is_cut(const struct journal_reader *reader, ssize_t got)
{
	const struct record_head *head = (const void *)reader->record;

	return got < (ssize_t)sizeof *head ||
	       (head->length <= JOURNAL_RECORD_MAX && got < (ssize_t)head->length);
}

/* Who reads one record reads next, as a rule, what was before it: a statement walks back. */
static void fetch(const struct file *file, uint64_t offset)
{
	uint64_t from = offset > FETCH_BEFORE ? offset - FETCH_BEFORE : 0;

	posix_fadvise(file->fd, (off_t)from, (off_t)(offset - from + JOURNAL_RECORD_MAX),
	              POSIX_FADV_WILLNEED);
}

static enum history_status from_file(struct journal_reader *reader, uint64_t lsn)
{
	uint64_t base;
	struct file *file;

	if (!find_base(reader, lsn, &base))
		return HISTORY_PRUNED;
	file = open_file(reader, base);
	if (file == NULL)
		return errno == ENOENT ? HISTORY_PRUNED : HISTORY_IO;
	bool waits = reader->wait || reader->nowait_fails;
	ssize_t got =
	    read_file(reader, file->fd, reader->record, sizeof reader->record, lsn - base);
	waits |= reader->nowait_fails;
	if (got < 0 && errno != EAGAIN)
		return HISTORY_IO;
	if (!waits && (got < 0 || is_cut(reader, got))) {
		fetch(file, lsn - base);
		return HISTORY_LATER;
	}
	if (got >= 0 && record_check(reader->record, (size_t)got, lsn,
	                             region_geometry(reader->region)->journal_key) != 0)
		return HISTORY_OK;
	errno = EUCLEAN;
	return HISTORY_IO;
}

enum history_status history_record(struct journal_reader *reader, uint64_t lsn,
                                   const struct record_head **record)
{
	enum history_status status = HISTORY_OK;

	*record = (const void *)reader->record;
	if (lsn % 8 != 0) {
		errno = EUCLEAN;
		return HISTORY_IO;
	}
	if (!from_ring(reader, lsn))
		status = from_file(reader, lsn);
	return status;
}

/* ---- a piece of the journal, for who reads forward */

size_t history_ring(struct journal_reader *reader, uint64_t lsn, void *bytes, size_t length)
{
	const struct region_marks *marks = region_marks(reader->region);
	uint64_t size = region_geometry(reader->region)->ring_size - RING_MARGIN;
	uint64_t tail = atomic_load_explicit(&marks->tail, memory_order_acquire);

	if (lsn >= tail || tail - lsn > size)
		return 0;
	if (length > tail - lsn)
		length = (size_t)(tail - lsn);
	ring_read(reader->region, lsn, bytes, length);
	/* What was written meanwhile may have overtaken us. */
	atomic_thread_fence(memory_order_acquire);
	tail = atomic_load_explicit(&marks->tail, memory_order_relaxed);
	return tail - lsn > size ? 0 : length;
}

/* What is read next is what follows. */
static void fetch_ahead(const struct file *file, uint64_t offset)
{
	posix_fadvise(file->fd, (off_t)offset, FETCH_AHEAD, POSIX_FADV_WILLNEED);
}

enum history_status history_file(struct journal_reader *reader, uint64_t lsn, void *bytes,
                                 size_t *length)
{
	uint64_t end = segment_end(reader, lsn + 1);
	size_t wanted = end - lsn < *length ? (size_t)(end - lsn) : *length;
	size_t least = wanted < JOURNAL_RECORD_MAX ? wanted : JOURNAL_RECORD_MAX;
	uint64_t base;
	struct file *file;

	if (!find_base(reader, lsn, &base))
		return HISTORY_PRUNED;
	file = open_file(reader, base);
	if (file == NULL)
		return errno == ENOENT ? HISTORY_PRUNED : HISTORY_IO;
	ssize_t got = read_file(reader, file->fd, bytes, wanted, lsn - base);
	if (got < 0 && errno != EAGAIN)
		return HISTORY_IO;
	if (got >= (ssize_t)least) {
		*length = (size_t)got;
		return HISTORY_OK;
	}
	if (reader->wait || reader->nowait_fails) {
		errno = EUCLEAN; /* a segment has its full size when it gets its name */
		return HISTORY_IO;
	}
	fetch_ahead(file, lsn - base);
	return HISTORY_LATER;
}

struct journal_reader *history_open(struct region *region, const char *path)
{
	struct journal_reader *reader = calloc(1, sizeof *reader);

	if (reader == NULL)
		return NULL;
	reader->region = region;
	reader->after = ring_segment_end(region, 0);
	for (size_t i = 0; i < FILES_MAX; i++)
		reader->file[i].fd = -1;
	reader->directory = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
	if (reader->directory >= 0 && list(reader) == 0)
		return reader;
	int error = errno;
	history_close(reader);
	errno = error;
	return NULL;
}

void history_close(struct journal_reader *reader)
{
	if (reader == NULL)
		return;
	for (size_t i = 0; i < FILES_MAX; i++)
		if (reader->file[i].used != 0)
			close_file(&reader->file[i]);
	if (reader->directory >= 0)
		close(reader->directory);
	free(reader->base);
	free(reader);
}

void history_may_wait(struct journal_reader *reader, bool wait)
{
	reader->wait = wait;
}

/* ---- what a record says */

static void tell_refusal(const struct record_head *record, struct result *result)
{
	const struct record_refusal *body = record_body(record);

	result->refused = (uint8_t)body->leg;
	switch (record->outcome) {
	case OUTCOME_INSUFFICIENT_FUNDS:
		result->available = body->available;
		result->required = body->required;
		break;
	case OUTCOME_CEILING_EXCEEDED:
		result->limit = body->limit;
		break;
	case OUTCOME_HOLD_SETTLED:
		result->hold_state = (enum hold_state)body->state;
		result->hold_amount = body->required;
		result->hold_captured = body->limit;
		result->hold_expires_us = body->when_us;
		result->hold_settled_lsn = (uint64_t)body->available;
		break;
	default:
		break;
	}
}

static void tell_settled(const struct record_head *record, struct result *result)
{
	const struct record_settled *body = record_body(record);

	result->hold_amount = body->amount;
	result->hold_captured = body->captured;
	result->hold_expires_us = body->expires_us;
	result->hold_state = record->type == RECORD_CAPTURE   ? HOLD_CAPTURED
	                     : record->type == RECORD_RELEASE ? HOLD_RELEASED
	                                                      : HOLD_EXPIRED;
}

static void tell_accepted(const struct record_head *record, struct result *result)
{
	const void *body = record_body(record);

	result->time_us = record->time_us;
	result->created = (record->flags & RECORD_CREATED) != 0;
	switch (record->type) {
	case RECORD_CREATE:
	case RECORD_REPLACE: {
		const struct record_attributes *attributes = body;
		result->attributes = (struct attributes){.floor = attributes->floor,
		                                         .ceiling = attributes->ceiling,
		                                         .frozen = (enum frozen)attributes->frozen};
		break;
	}
	case RECORD_HOLD: {
		const struct record_hold *hold = body;
		result->hold_state = HOLD_OPEN;
		result->hold_amount = hold->amount;
		result->hold_expires_us = hold->expires_us;
		break;
	}
	case RECORD_CAPTURE:
	case RECORD_RELEASE:
	case RECORD_EXPIRE:
		tell_settled(record, result);
		break;
	default:
		break;
	}
}

/* The account of a hold is in leg 0, if the hold was found. */
static void tell_account(const struct record_head *record, struct result *result)
{
	const struct record_leg *leg = record_next_leg(record, NULL);

	if (record->type < RECORD_CAPTURE || leg == NULL)
		return;
	result->account_length = leg->name_length;
	memcpy(result->account, leg->name, leg->name_length);
}

void history_result(const struct record_head *record, struct result *result)
{
	const struct record_leg *leg = NULL;

	memset(result, 0, sizeof *result);
	result->outcome = (enum outcome)record->outcome;
	result->lsn = record->lsn;
	while ((leg = record_next_leg(record, leg)) != NULL)
		result->leg[result->legs++] = (struct leg_result){.amount = leg->amount,
		                                                  .balance = leg->balance,
		                                                  .held = leg->held,
		                                                  .version = leg->version};
	if (record->outcome == OUTCOME_ACCEPTED)
		tell_accepted(record, result);
	else
		tell_refusal(record, result);
	tell_account(record, result);
}

/* ---- statements */

static const struct record_leg *leg_of(const struct record_head *record, const char *name,
                                       uint32_t length)
{
	const struct record_leg *leg = NULL;

	while ((leg = record_next_leg(record, leg)) != NULL)
		if (leg->name_length == length && memcmp(leg->name, name, length) == 0)
			break;
	return leg;
}

static struct words counterparty(const struct record_head *record, const struct record_leg *leg)
{
	const struct record_leg *first = record_next_leg(record, NULL);
	const struct record_leg *other = first == leg ? record_next_leg(record, first) : first;

	if (record->legs != 2)
		return (struct words){0};
	return (struct words){.bytes = other->name, .length = other->name_length};
}

static void tell_entry(const struct record_head *record, const struct record_leg *leg,
                       struct entry *entry)
{
	*entry = (struct entry){.lsn = record->lsn,
	                        .time_us = record->time_us,
	                        .kind = record_kind(record),
	                        .expired = record->type == RECORD_EXPIRE,
	                        .amount = leg->amount,
	                        .balance = leg->balance,
	                        .held = leg->held,
	                        .version = leg->version,
	                        .note = record_note(record),
	                        .counterparty = counterparty(record, leg),
	                        .hold = record_hold_id(record),
	                        .holds = record_next_leg(record, NULL) == leg,
	                        .legs = record->legs};
	if ((record->flags & RECORD_REMEMBERED) != 0)
		entry->id = record_id(record);
}

enum history_status history_step(struct journal_reader *reader, const char *name, uint32_t length,
                                 uint64_t *lsn, struct entry *entry)
{
	const struct record_head *record;
	const struct record_leg *leg;
	enum history_status status;

	if (*lsn == 0)
		return HISTORY_END;
	status = history_record(reader, *lsn, &record);
	if (status != HISTORY_OK)
		return status;
	leg = record_has_effect(record) ? leg_of(record, name, length) : NULL;
	if (leg == NULL) {
		errno = EUCLEAN;
		return HISTORY_IO;
	}
	tell_entry(record, leg, entry);
	*lsn = leg->previous;
	return HISTORY_OK;
}
