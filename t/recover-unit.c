/*
 * Recovery of damaged journals and snapshots: every cut, every flipped bit, every order in which
 * a disk may have kept the sectors of a torn write.  The answer must be an exact prefix with
 * all that was acknowledged, or a refusal that names file and offset; never a wrong balance.
 *
 * TALLYD_TEST_STRIDE=N tries every Nth damage only (default 1; 17 under a sanitizer).
 */
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "journal-fixture.h"

#define ACCOUNTS   10
#define EVENTS     200
#define EVENTS_MAX 4096
#define PROCESSES  2   /* that try damages side by side */
#define SECTOR     512 /* bytes that a disk writes whole or not at all */
#define FILES_MAX  8
#define ZERO_TRIED 96 /* bytes behind the tail */

static const struct shape small = {
    .segment_size = FIXTURE_SEGMENT, .ring_size = 65536, .max_accounts = 64};

/* ---- what should be there */

struct posted {
	uint64_t lsn;
	uint32_t account;
	int64_t balance;
	uint64_t version;
};

struct history {
	struct posted event[EVENTS_MAX];
	size_t events;
	uint64_t boundary[2 * EVENTS_MAX]; /* ends of records, ascending */
	size_t boundaries;
	uint64_t end;   /* of the journal when it was whole */
	uint64_t floor; /* the greatest durable mark in it: nothing before it may be lost */
};

/* Names of every kind of length, so that paddings differ. */
static uint32_t name_of(uint32_t account, char name[ACCOUNT_NAME_MAX])
{
	uint32_t length = account == 0 ? ACCOUNT_NAME_MAX : 1 + account * 3 % 23;

	memset(name, 'a' + (int)account, length);
	return length;
}

static void post(struct run *run, struct history *history, uint32_t account, int64_t amount)
{
	char name[ACCOUNT_NAME_MAX];
	struct result result = run_post(run, name, name_of(account, name), amount);

	must(history->events < EVENTS_MAX, "history");
	history->event[history->events++] = (struct posted){.lsn = result.lsn,
	                                                    .account = account,
	                                                    .balance = result.balance,
	                                                    .version = result.version};
}

static void post_some(struct run *run, struct history *history, size_t count, uint64_t *random)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t draw = random_next(random);
		post(run, history, (uint32_t)(draw % ACCOUNTS), (int64_t)(draw >> 40) - 6000000);
	}
}

/* Reads the whole journal for where records end and what the durable marks say. */
static void note_boundaries(const struct place *place, struct history *history)
{
	char error[STORE_ERROR_SIZE];
	enum store_status status;
	struct store *store = store_open(place->journal, &status, error);
	const struct record_head *record;

	must(store != NULL, "store_open");
	struct store_reader *reader = store_replay(store, store_first(store));
	must(reader != NULL, "store_replay");
	history->boundaries = 0;
	history->boundary[history->boundaries++] = store_reader_at(reader);
	while (store_next(reader, &record) == STORE_OK) {
		must(history->boundaries < 2 * EVENTS_MAX, "boundaries");
		history->boundary[history->boundaries++] = record->lsn + record->length;
		if (record->durable > history->floor)
			history->floor = record->durable;
	}
	history->end = store_reader_at(reader);
	store_reader_close(reader);
	store_close(store);
}

static bool is_boundary(const struct history *history, uint64_t at)
{
	for (size_t i = 0; i < history->boundaries; i++)
		if (history->boundary[i] == at)
			return true;
	return false;
}

static const struct account_slot *find(struct region *region, uint32_t account)
{
	char name[ACCOUNT_NAME_MAX];
	uint32_t length = name_of(account, name);
	uint64_t hash = XXH3_64bits_withSeed(name, length, region_geometry(region)->hash_seed);

	return table_find(region, table_stripe(region, hash), hash, name, length, NULL);
}

static size_t used_slots(struct region *region)
{
	size_t used = 0;

	for (uint64_t i = 0; i < region_slots(region); i++)
		used += region->slots[i].name_length != 0;
	return used;
}

/* Does REGION hold exactly the events before AT? */
static bool exact(const struct history *history, struct region *region, uint64_t at)
{
	const struct posted *last[ACCOUNTS] = {NULL};
	size_t expected = 0;

	for (size_t i = 0; i < history->events && history->event[i].lsn < at; i++)
		last[history->event[i].account] = &history->event[i];
	for (uint32_t i = 0; i < ACCOUNTS; i++) {
		const struct account_slot *slot = find(region, i);
		if ((slot == NULL) != (last[i] == NULL))
			return false;
		if (slot == NULL)
			continue;
		expected++;
		if (slot->balance != last[i]->balance || slot->version != last[i]->version ||
		    slot->lsn != last[i]->lsn)
			return false;
	}
	return used_slots(region) == expected;
}

/* ---- a journal on disk, its sound bytes in memory, and a region that is used again and again */

struct arena {
	struct place place;
	struct image_file file[FILES_MAX];
	size_t files;
	const struct history *history;
	struct region *region;
	unsigned char *fresh; /* the region as it was made, but for the ring */
	size_t fresh_size;
	struct recovery recovery;
	char error[STORE_ERROR_SIZE];
};

static void load_directory(struct arena *arena, const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;

	while (directory != NULL && (entry = readdir(directory)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		must(arena->files < FILES_MAX, "files");
		struct image_file *file = &arena->file[arena->files++];
		snprintf(file->path, sizeof file->path, "%s/%.60s", path, entry->d_name);
		file_read(file);
	}
	if (directory != NULL)
		closedir(directory);
}

static int by_path(const void *left, const void *right)
{
	return strcmp(((const struct image_file *)left)->path,
	              ((const struct image_file *)right)->path);
}

static void arena_open(struct arena *arena, const struct place *place,
                       const struct history *history)
{
	*arena = (struct arena){.place = *place, .history = history};
	load_directory(arena, place->journal);
	load_directory(arena, place->snapshots);
	qsort(arena->file, arena->files, sizeof *arena->file, by_path);
	arena->region = region_make(&small, 0);
	arena->fresh_size = arena->region->header->ring_at;
	arena->fresh = malloc(arena->fresh_size);
	must(arena->fresh != NULL, "malloc");
	memcpy(arena->fresh, arena->region->base, arena->fresh_size);
}

static void arena_close(struct arena *arena)
{
	for (size_t i = 0; i < arena->files; i++)
		free(arena->file[i].bytes);
	free(arena->fresh);
	region_close(arena->region);
}

/* Gives this process a directory of its own with the same files. */
static void arena_move(struct arena *arena)
{
	struct place old = arena->place;

	place_make(&arena->place);
	must(mkdir(arena->place.journal, 0700) == 0 && mkdir(arena->place.snapshots, 0700) == 0,
	     "mkdir");
	for (size_t i = 0; i < arena->files; i++) {
		struct image_file *file = &arena->file[i];
		char tail[96];
		snprintf(tail, sizeof tail, "%s", file->path + strlen(old.root));
		snprintf(file->path, sizeof file->path, "%s%s", arena->place.root, tail);
		file_write(file, 0, file->size);
	}
}

/* The files as they were.  Whole: accepted recoveries write. */
static void arena_restore(const struct arena *arena)
{
	for (size_t i = 0; i < arena->files; i++)
		file_write(&arena->file[i], 0, arena->file[i].size);
}

static enum store_status arena_recover(struct arena *arena)
{
	enum store_status status;
	struct store *store = store_open(arena->place.journal, &status, arena->error);

	memset(&arena->recovery, 0, sizeof arena->recovery);
	if (store == NULL)
		return status;
	memcpy(arena->region->base, arena->fresh, arena->fresh_size);
	arena->region->header->geometry.journal_key = store_key(store);
	must(store_claim(store, small.segment_size) == 0, "store_claim");
	status =
	    recover(store, arena->place.snapshots, arena->region, &arena->recovery, arena->error);
	store_close(store);
	return status;
}

/* After a recovery that was accepted, a run of one event, then recovery again. */
static bool second_run(struct arena *arena)
{
	static struct history after;
	struct run run;
	bool right = run_start(&run, &arena->place, &small);

	if (!right) {
		diag("a second start was refused: %s", run.error);
		return false;
	}
	after.events = 0;
	for (size_t i = 0; i < arena->history->events; i++)
		if (arena->history->event[i].lsn < run.recovery.start)
			after.event[after.events++] = arena->history->event[i];
	post(&run, &after, 3, 1);
	run_commit(&run);
	uint64_t end = run.position;
	run_leave(&run);
	right = arena_recover(arena) == STORE_OK && arena->recovery.start == end &&
	        exact(&after, arena->region, end);
	if (!right)
		diag("after a second run: start %" PRIu64 ", expected %" PRIu64 ", %s",
		     arena->recovery.start, end, arena->error);
	return right;
}

enum demand {
	PREFIX_OR_REFUSAL, /* an exact prefix with all that was acknowledged, or a refusal */
	PREFIX,            /* the same, but it must start */
	EVERYTHING,        /* nothing at all may be lost */
};

static bool refusal_names_place(const struct arena *arena)
{
	return strstr(arena->error, ".journal") != NULL &&
	       (strstr(arena->error, ", offset ") != NULL || strstr(arena->error, "head") != NULL ||
	        strstr(arena->error, "size") != NULL || strstr(arena->error, "cut short") != NULL ||
	        strstr(arena->error, "not a journal segment") != NULL ||
	        strstr(arena->error, "missing") != NULL);
}

/* Is what recovery answered right? */
static bool judge(struct arena *arena, enum store_status status, enum demand demand)
{
	const struct history *history = arena->history;
	uint64_t at = arena->recovery.start;

	if (status != STORE_OK)
		return status == STORE_CORRUPT && demand == PREFIX_OR_REFUSAL &&
		       refusal_names_place(arena);
	if (demand == EVERYTHING && at != history->end)
		return false;
	return is_boundary(history, at) && at >= history->floor &&
	       exact(history, arena->region, at);
}

/* ---- many damages, side by side */

enum damage { FLIP, CUT };

struct job {
	enum damage damage;
	enum demand demand;
	size_t file;
	size_t from; /* bits to flip, or lengths to cut to: FROM .. TO */
	size_t to;
	size_t step;
};

struct tally {
	_Atomic size_t tried, accepted, refused, wrong;
};

static void inflict(const struct arena *arena, const struct job *job, size_t index)
{
	const struct image_file *file = &arena->file[job->file];

	if (job->damage == CUT)
		must(truncate(file->path, (off_t)index) == 0, "truncate");
	else
		file_put_byte(file, index / 8,
		              (unsigned char)(file->bytes[index / 8] ^ (1u << index % 8)));
}

static void try_one(struct arena *arena, const struct job *job, size_t index, struct tally *tally)
{
	inflict(arena, job, index);
	enum store_status status = arena_recover(arena);
	bool right = judge(arena, status, job->demand);

	if (right && status == STORE_OK)
		right = second_run(arena);
	tally->tried++;
	if (status == STORE_OK)
		tally->accepted++;
	else
		tally->refused++;
	if (!right && tally->wrong++ < 5)
		diag("%s at %zu of %s: status %d, start %" PRIu64 ", %s",
		     job->damage == CUT ? "cut" : "bit flipped", index, arena->file[job->file].path,
		     (int)status, arena->recovery.start, arena->error);
	if (status == STORE_OK)
		arena_restore(arena);
	else if (job->damage == FLIP)
		file_put_byte(&arena->file[job->file], index / 8,
		              arena->file[job->file].bytes[index / 8]);
	else
		file_write(&arena->file[job->file], index, arena->file[job->file].size - index);
}

/* One process's share: every PROCESSESth damage from FIRST on. */
static void try_share(struct arena *arena, const struct job *job, size_t first, struct tally *tally)
{
	struct place shared = arena->place;

	arena_move(arena);
	for (size_t i = job->from + first * job->step; i < job->to; i += PROCESSES * job->step)
		try_one(arena, job, i, tally);
	place_remove(&arena->place);
	arena->place = shared;
}

/* The region is memory shared with the parent's other children: each makes its own. */
static void child(const struct arena *arena, const struct job *job, size_t first,
                  struct tally *tally)
{
	struct arena own;

	arena_open(&own, &arena->place, arena->history);
	try_share(&own, job, first, tally);
	arena_close(&own);
}

/* Tries JOB on the journal in ARENA, reports it as one test, returns what came of it. */
static struct tally try_all(const struct arena *arena, const struct job *job, const char *what)
{
	struct tally *tally =
	    mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t process[PROCESSES];
	bool fine = true;
	int status;

	must(tally != MAP_FAILED, "mmap");
	for (size_t i = 0; i < PROCESSES; i++) {
		process[i] = fork();
		must(process[i] >= 0, "fork");
		if (process[i] == 0) {
			child(arena, job, i, tally);
			_exit(0);
		}
	}
	for (size_t i = 0; i < PROCESSES; i++)
		fine &= waitpid(process[i], &status, 0) == process[i] && status == 0;
	struct tally result = *tally;
	munmap(tally, sizeof *tally);
	size_t expected = (job->to - job->from + job->step - 1) / job->step;
	ok(fine && result.wrong == 0 && result.tried == expected,
	   "%s: %zu tried, %zu started, %zu refused", what, result.tried, result.accepted,
	   result.refused);
	return result;
}

static size_t stride(void)
{
	static size_t value;

	if (value == 0)
		value = setting("TALLYD_TEST_STRIDE", FIXTURE_SANITIZED ? 17 : 1);
	return value;
}

static size_t file_index(const struct arena *arena, const char *ending, size_t which)
{
	for (size_t i = 0; i < arena->files; i++)
		if (strstr(arena->file[i].path, ending) != NULL && which-- == 0)
			return i;
	BAIL_OUT("no file number %zu with %s", which, ending);
}

/* ---- the journals */

/* EVENTS events in group commits of one to nine. */
static void write_traffic(struct run *run, struct history *history, size_t events, uint64_t *random)
{
	while (events > 0) {
		size_t batch = 1 + random_next(random) % 9;
		batch = batch < events ? batch : events;
		post_some(run, history, batch, random);
		run_commit(run);
		events -= batch;
	}
}

static struct history history;

/* A run of EVENTS events and an idle mark. */
static void make_marked(struct place *place)
{
	struct run run;
	uint64_t random = 7;

	memset(&history, 0, sizeof history);
	place_make(place);
	must(run_start(&run, place, &small), "run_start");
	write_traffic(&run, &history, EVENTS, &random);
	run_mark(&run);
	run_leave(&run);
	note_boundaries(place, &history);
}

static void test_marked(void)
{
	struct place place;
	struct arena arena;

	make_marked(&place);
	arena_open(&arena, &place, &history);
	cmp_ok((intmax_t)history.events, "==", EVENTS, "a journal of %d records", EVENTS);
	ok(arena_recover(&arena) == STORE_OK && judge(&arena, STORE_OK, EVERYTHING),
	   "it is recovered whole");
	const struct job cut = {.damage = CUT,
	                        .demand = PREFIX_OR_REFUSAL,
	                        .to = (size_t)small.segment_size,
	                        .step = stride()};
	struct tally came = try_all(&arena, &cut, "the file cut at every byte");
	cmp_ok((intmax_t)came.accepted, "==", 0, "a file that was cut is never taken");
	const struct job flip = {.damage = FLIP,
	                         .demand = PREFIX_OR_REFUSAL,
	                         .to = (size_t)(history.end + ZERO_TRIED) * 8,
	                         .step = stride()};
	came = try_all(&arena, &flip, "every bit flipped of a marked journal");
	/* Only the mark itself and what is behind it may be damaged unnoticed. */
	cmp_ok((intmax_t)came.accepted, "<=", (JOURNAL_RECORD_MIN + ZERO_TRIED) * 8,
	       "all but the last mark is known to have been durable");
	arena_close(&arena);
	place_remove(&place);
}

/* The newest group commit has no mark behind it: damage there cannot be told from a torn write. */
static void test_unmarked(void)
{
	struct place place;
	struct arena arena;
	struct run run;
	uint64_t random = 8;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	write_traffic(&run, &history, EVENTS - 6, &random);
	uint64_t before = run.position;
	post_some(&run, &history, 6, &random);
	run_commit(&run);
	run_leave(&run);
	note_boundaries(&place, &history);
	cmp_ok((intmax_t)history.floor, "==", (intmax_t)before,
	       "the last records prove all but their own group commit");
	arena_open(&arena, &place, &history);
	struct job flip = {.damage = FLIP,
	                   .demand = PREFIX,
	                   .from = (size_t)before * 8,
	                   .to = (size_t)history.end * 8,
	                   .step = stride()};
	try_all(&arena, &flip, "every bit flipped of a last group commit");
	flip.demand = PREFIX_OR_REFUSAL;
	flip.to = flip.from;
	flip.from = (size_t)(before - 600) * 8;
	struct tally came = try_all(&arena, &flip, "every bit flipped of what was before it");
	cmp_ok((intmax_t)came.accepted, "==", 0, "that is known to have been durable");
	arena_close(&arena);
	place_remove(&place);
}

/* Pads, unused ends and heads of segments stand between records here. */
static void test_segments(void)
{
	struct place place;
	struct arena arena;
	struct run run;
	uint64_t random = 9;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	while (run.position < small.segment_size * 2 + SEGMENT_HEAD + 800)
		write_traffic(&run, &history, 5, &random);
	run_mark(&run);
	run_leave(&run);
	note_boundaries(&place, &history);
	arena_open(&arena, &place, &history);
	ok(arena_recover(&arena) == STORE_OK && judge(&arena, STORE_OK, EVERYTHING),
	   "a journal of several segments is recovered whole");
	for (size_t i = 0; i < 3; i++) {
		const struct job end = {.damage = FLIP,
		                        .demand = PREFIX_OR_REFUSAL,
		                        .file = file_index(&arena, ".journal", i),
		                        .from = (size_t)(small.segment_size - 400) * 8,
		                        .to = (size_t)small.segment_size * 8,
		                        .step = stride()};
		const struct job begin = {.damage = FLIP,
		                          .demand = PREFIX_OR_REFUSAL,
		                          .file = end.file,
		                          .from = (SEGMENT_HEAD - 16) * 8,
		                          .to = (SEGMENT_HEAD + 300) * 8,
		                          .step = stride()};
		try_all(&arena, &end, "bits flipped at a segment's end");
		try_all(&arena, &begin, "bits flipped at a segment's beginning");
	}
	arena_close(&arena);
	place_remove(&place);
}

static bool at_once(struct region *region, uint64_t lsn)
{
	return atomic_load(&region_marks(region)->durable) > lsn;
}

static void take_snapshot(struct run *run, const struct place *place)
{
	struct snapshot snapshot;

	must(snapshot_write(run->region, place->snapshots, store_key(run->store), at_once,
	                    &snapshot) == SNAPSHOT_OK,
	     "snapshot_write");
}

static void test_snapshots(void)
{
	struct place place;
	struct arena arena;
	struct run run;
	uint64_t random = 10;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	for (int i = 0; i < 3; i++) {
		write_traffic(&run, &history, EVENTS / 4, &random);
		take_snapshot(&run, &place);
	}
	write_traffic(&run, &history, EVENTS / 4, &random);
	run_mark(&run);
	run_leave(&run);
	note_boundaries(&place, &history);
	arena_open(&arena, &place, &history);
	ok(arena_recover(&arena) == STORE_OK && judge(&arena, STORE_OK, EVERYTHING) &&
	       arena.recovery.snapshot.start != 0 &&
	       arena.recovery.records < EVENTS / 4 + 10 + history.boundaries / 4,
	   "a snapshot and what followed give everything");
	for (size_t i = 0; i < SNAPSHOTS_KEPT; i++) {
		size_t file = file_index(&arena, ".snapshot", i);
		struct job job = {.damage = CUT,
		                  .demand = EVERYTHING,
		                  .file = file,
		                  .to = arena.file[file].size,
		                  .step = stride()};
		try_all(&arena, &job, "a snapshot cut at every byte");
		job.damage = FLIP;
		job.to *= 8;
		try_all(&arena, &job, "every bit flipped of a snapshot");
	}
	struct image_file *newest = &arena.file[file_index(&arena, ".snapshot", 1)];
	file_put_byte(newest, newest->size, 0);
	ok(arena_recover(&arena) == STORE_OK && judge(&arena, STORE_OK, EVERYTHING) &&
	       arena.recovery.snapshots_refused == 1,
	   "a snapshot grown by a byte is passed over");
	must(truncate(newest->path, (off_t)newest->size) == 0, "truncate");
	arena_restore(&arena);
	const struct job flip = {.damage = FLIP,
	                         .demand = PREFIX_OR_REFUSAL,
	                         .from = SEGMENT_HEAD * 8,
	                         .to = (size_t)(history.end + ZERO_TRIED) * 8,
	                         .step = 7 * stride()};
	try_all(&arena, &flip, "bits flipped of a journal with snapshots");
	arena_close(&arena);
	place_remove(&place);
}

/* ---- torn writes: the sectors of the unsynced part reached the disk in any order */

/* Puts into FILE the old or, for the sectors in KEPT, the new bytes of FROM .. TO. */
static void mix_sectors(struct image_file *file, const unsigned char *old, uint64_t from,
                        uint64_t to, const unsigned char *kept)
{
	size_t first = (size_t)from / SECTOR;
	size_t last = (size_t)(to - 1) / SECTOR;

	for (size_t i = first; i <= last; i++) {
		struct image_file source = *file;
		if (kept[i - first] == 0)
			source.bytes = (unsigned char *)(uintptr_t)old;
		file_write(&source, i * SECTOR, SECTOR);
	}
}

struct torn {
	struct arena arena;
	unsigned char *old;
	uint64_t from;
	size_t sectors;
	size_t wrong;
	size_t tried;
};

static void try_torn(struct torn *torn, const unsigned char *kept)
{
	struct arena *arena = &torn->arena;

	mix_sectors(&arena->file[0], torn->old, torn->from, history.end, kept);
	enum store_status status = arena_recover(arena);
	torn->tried++;
	if ((!judge(arena, status, PREFIX) || !second_run(arena)) && torn->wrong++ < 5)
		diag("torn write: status %d, start %" PRIu64 ", %s", (int)status,
		     arena->recovery.start, arena->error);
	arena_restore(arena);
}

/* All subsets while they are few, LIMIT random ones otherwise. */
static void try_subsets(struct torn *torn, size_t limit)
{
	unsigned char kept[256];
	uint64_t random = 11;
	bool few = torn->sectors < 12 && ((size_t)1 << torn->sectors) <= limit;
	size_t count = few ? (size_t)1 << torn->sectors : limit;

	must(torn->sectors <= sizeof kept, "sectors");
	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < torn->sectors; j++)
			kept[j] = (unsigned char)((few ? i >> j : random_next(&random)) & 1);
		try_torn(torn, kept);
	}
}

/*
 * A batch of EVENTS after others; SYNCS: the batches before it were synced one by one.  If not,
 * they are as unsure as the last (sync interval).
 */
static void test_torn(size_t before, size_t batches, size_t batch, const char *what)
{
	struct torn torn = {.wrong = 0};
	struct place place;
	struct arena old;
	struct run run;
	uint64_t random = 12;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	write_traffic(&run, &history, before, &random);
	torn.from = run.position;
	arena_open(&old, &place, &history);
	for (size_t i = 0; i < batches; i++) {
		post_some(&run, &history, batch, &random);
		run_write(&run, atomic_load(&run.marks->tail));
	}
	run_leave(&run);
	note_boundaries(&place, &history);
	arena_open(&torn.arena, &place, &history);
	torn.old = old.file[0].bytes;
	torn.sectors = (size_t)((history.end - 1) / SECTOR - torn.from / SECTOR + 1);
	try_subsets(&torn, 1024 / stride() + 16);
	ok(torn.wrong == 0, "%s: %zu orders of %zu sectors, each an exact prefix", what, torn.tried,
	   torn.sectors);
	arena_close(&torn.arena);
	arena_close(&old);
	place_remove(&place);
}

/* ---- single cases */

/* Starts PLACE, expecting a refusal whose words hold EXPECTED. */
static void refused(const struct place *place, const struct shape *shape, const char *expected,
                    const char *what)
{
	struct run run;
	bool started = run_start(&run, place, shape);

	ok(!started && run.status == STORE_CORRUPT && strstr(run.error, expected) != NULL, "%s",
	   what);
	if (started || strstr(run.error, expected) == NULL)
		diag("started: %d, status %d, said: %s", started, (int)run.status, run.error);
	run_leave(&run);
}

/* A snapshot that speaks of records which the journal no longer has. */
static void test_snapshot_ahead(void)
{
	struct place place;
	struct run run;
	struct arena arena;
	uint64_t random = 13;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	write_traffic(&run, &history, 20, &random);
	uint64_t lost = history.event[18].lsn;
	take_snapshot(&run, &place);
	run_leave(&run);
	arena_open(&arena, &place, &history);
	file_put_byte(&arena.file[0], lost + 9, 0xff);
	refused(&place, &small, ".journal, offset ", "a journal that ends before its snapshot");
	arena_close(&arena);
	place_remove(&place);
}

/* The same, where what is lost has no effect: new records there would be taken for old ones. */
static void test_snapshot_ahead_of_marks(void)
{
	struct place place;
	struct run run;
	struct arena arena;
	uint64_t random = 14;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	write_traffic(&run, &history, 20, &random);
	uint64_t lost = run.position;
	for (int i = 0; i < 4; i++)
		must(ledger_mark(run.ledger, 1) == OUTCOME_ACCEPTED, "ledger_mark");
	run_commit(&run);
	take_snapshot(&run, &place);
	run_leave(&run);
	arena_open(&arena, &place, &history);
	file_put_byte(&arena.file[0], lost + 9, 0xff);
	refused(&place, &small, ".journal, offset ",
	        "a journal that ends where its snapshot had seen but marks");
	arena_close(&arena);
	place_remove(&place);
}

/* A snapshot waits for all that it says was there, marks and seals too. */
static uint64_t asked_for;

static bool note_and_refuse(struct region *region, uint64_t lsn)
{
	(void)region;
	asked_for = lsn;
	return false;
}

static void test_snapshot_waits(void)
{
	struct place place;
	struct run run;
	struct snapshot snapshot;
	uint64_t random = 15;
	uint64_t found;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	write_traffic(&run, &history, 20, &random);
	must(ledger_mark(run.ledger, 1) == OUTCOME_ACCEPTED, "ledger_mark");
	ok(snapshot_write(run.region, place.snapshots, store_key(run.store), note_and_refuse,
	                  &snapshot) == SNAPSHOT_IO &&
	       errno == ECANCELED,
	   "a snapshot that is not waited for is given up");
	cmp_ok((intmax_t)asked_for, "==", (intmax_t)atomic_load(&run.marks->tail) - 1,
	       "it asks for everything before its start to be durable");
	ok(snapshot_find(place.snapshots, UINT64_MAX, &found) == SNAPSHOT_NONE &&
	       rmdir(place.snapshots) == 0,
	   "nothing of it stays");
	run_leave(&run);
	place_remove(&place);
}

static void test_missing_first(void)
{
	char path[FIXTURE_PATH + 64];
	struct place place;
	struct run run;
	uint64_t random = 16;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	write_traffic(&run, &history, 20, &random);
	take_snapshot(&run, &place);
	/* Account 9 changes in the first segment only, the others in the second. */
	while (atomic_load(&run.marks->tail) < small.segment_size - 200) {
		post(&run, &history, 9, 1);
		run_commit(&run);
	}
	for (uint32_t i = 0; i < 50; i++)
		post(&run, &history, i % 9, 1);
	run_mark(&run);
	run_leave(&run);
	snprintf(path, sizeof path, "%s/%016x.journal", place.journal, 0);
	must(unlink(path) == 0, path);
	refused(&place, &small, ".journal, offset ",
	        "the first segment is gone, and with it records that the snapshot has not");
	directory_remove(place.snapshots);
	refused(&place, &small, "no good snapshot",
	        "the first segment is gone and there is no snapshot");
	place_remove(&place);
}

static void test_too_small(void)
{
	struct shape large = {
	    .segment_size = UINT64_C(1) << 20, .ring_size = 1 << 20, .max_accounts = 4000};
	struct place place;
	struct run run;
	char name[32];

	place_make(&place);
	must(run_start(&run, &place, &large), "run_start");
	for (int i = 0; i < 2000; i++) {
		run_post(&run, name, (uint32_t)snprintf(name, sizeof name, "account-%d", i), 1);
		if (i % 100 == 0)
			run_commit(&run);
	}
	run_commit(&run);
	refused(&place, &small, "raise max_accounts", "a table too small for the journal");
	take_snapshot(&run, &place);
	run_leave(&run);
	refused(&place, &small, "raise max_accounts", "a table too small for the snapshot");
	ok(run_start(&run, &place, &large), "with a larger table it starts");
	run_leave(&run);
	place_remove(&place);
}

/* A durable mark that a client wrote into a name: sound only to who knows the key. */
static void forge(unsigned char name[ACCOUNT_NAME_MAX], uint64_t lsn, uint64_t key)
{
	struct record_head fake;

	record_plain(&fake, RECORD_MARK, NULL, 0, 0);
	record_stamp(&fake, sizeof fake, lsn, lsn, 1, key);
	memset(name, 'x', ACCOUNT_NAME_MAX);
	memcpy(name + 7, &fake, sizeof fake);
}

static void test_forged(bool key_known)
{
	unsigned char name[ACCOUNT_NAME_MAX];
	struct place place;
	struct arena arena;
	struct run run;
	uint64_t random = 17;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	write_traffic(&run, &history, 20, &random);
	uint64_t torn = run.position;
	post(&run, &history, 1, 1);
	uint64_t at = atomic_load(&run.marks->tail);
	/* A name begins 41 bytes into the leg; seven more are the next multiple of eight. */
	forge(name, at + sizeof(struct record_head) + RECORD_LEG_FIXED + 7,
	      key_known ? store_key(run.store) : 0);
	run_post(&run, (const char *)name, sizeof name, 1);
	run_commit(&run);
	run_leave(&run);
	arena_open(&arena, &place, &history);
	file_put_byte(&arena.file[0], torn + 9, 0xff);
	if (key_known) {
		refused(&place, &small, "proves",
		        "who knew the journal's key could make a torn write look like damage");
	} else {
		ok(run_start(&run, &place, &small) && run.recovery.start == torn,
		   "a client's bytes prove nothing");
		run_leave(&run);
	}
	arena_close(&arena);
	place_remove(&place);
}

/* Several runs, each with an epoch of its own. */
static void test_runs(void)
{
	uint32_t epoch[4] = {0};
	struct place place;
	struct arena arena;
	struct run run;
	uint64_t random = 18;
	bool followed = true;

	memset(&history, 0, sizeof history);
	place_make(&place);
	for (int i = 0; i < 4; i++) {
		must(run_start(&run, &place, &small), "run_start");
		followed &= run.recovery.epoch == (i == 0 ? 0 : epoch[i - 1]) &&
		            run.recovery.clean == (i == 2);
		epoch[i] = region_geometry(run.region)->epoch;
		write_traffic(&run, &history, 40, &random);
		if (i == 1)
			must(ledger_stop(run.ledger, 1) == OUTCOME_ACCEPTED, "ledger_stop");
		run_commit(&run);
		run_leave(&run);
	}
	ok(followed, "recovery tells the last run's epoch, and whether it ended cleanly");
	note_boundaries(&place, &history);
	arena_open(&arena, &place, &history);
	ok(arena_recover(&arena) == STORE_OK && judge(&arena, STORE_OK, EVERYTHING),
	   "four runs are recovered whole");
	const struct job flip = {.damage = FLIP,
	                         .demand = PREFIX_OR_REFUSAL,
	                         .from = SEGMENT_HEAD * 8,
	                         .to = (size_t)(history.end + ZERO_TRIED) * 8,
	                         .step = 11 * stride()};
	try_all(&arena, &flip, "bits flipped of a journal of four runs");
	arena_close(&arena);
	place_remove(&place);
}

/* The configured size of segments changes while segments of the old one lie ahead. */
static void test_other_segment_size(uint64_t first, uint64_t then)
{
	struct shape shape = {.segment_size = first, .ring_size = 65536, .max_accounts = 64};
	struct place place;
	struct region *kept;
	struct run run;
	uint64_t random = 19;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &shape), "run_start");
	write_traffic(&run, &history, 20, &random);
	run_leave(&run);
	shape.segment_size = then;
	must(run_start(&run, &place, &shape), "run_start");
	while (run.position < 6 * UINT64_C(65536))
		write_traffic(&run, &history, 20, &random);
	run_mark(&run);
	struct run again;
	bool started = run_start(&again, &place, &shape);
	kept = run.region;
	ok(started && table_same(kept, again.region),
	   "segments of %" PRIu64 " bytes, then of %" PRIu64, first, then);
	if (!started)
		diag("%s", again.error);
	run_leave(&again);
	run_leave(&run);
	place_remove(&place);
}

/* ---- what recovery takes for durable, it has made so */

static ino_t synced[64];
static size_t syncs;

/* In the place of libc's: notes the file. */
int fdatasync(int fd)
{
	struct stat status;

	must(fstat(fd, &status) == 0, "fstat");
	synced[syncs++ % (sizeof synced / sizeof *synced)] = status.st_ino;
	return fsync(fd);
}

static bool was_synced(const char *path)
{
	struct stat status;

	must(stat(path, &status) == 0, path);
	for (size_t i = 0; i < syncs && i < sizeof synced / sizeof *synced; i++)
		if (synced[i] == status.st_ino)
			return true;
	return false;
}

/* The last run filled a segment to its end and died before it synced. */
static void test_settled(void)
{
	char path[FIXTURE_PATH + 64];
	struct place place;
	struct run run;
	uint64_t random = 21;

	memset(&history, 0, sizeof history);
	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	while (run.position < small.segment_size - 2000)
		write_traffic(&run, &history, 2, &random);
	while (atomic_load(&run.marks->tail) < small.segment_size)
		post_some(&run, &history, 1, &random);
	run_write(&run, small.segment_size);
	run_leave(&run);
	syncs = 0;
	ok(run_start(&run, &place, &small) && run.recovery.start == small.segment_size,
	   "a journal that ends with its segment");
	snprintf(path, sizeof path, "%s/%016x.journal", place.journal, 0);
	ok(was_synced(path),
	   "what nothing proves to be durable is synced before it counts as such");
	run_leave(&run);
	place_remove(&place);
}

/* ---- a snapshot beside live traffic */

static bool wait_durable(struct region *region, uint64_t lsn)
{
	const struct region_marks *marks = region_marks(region);

	while (atomic_load(&marks->durable) <= lsn)
		usleep(100);
	return true;
}

static pid_t start_snapshot(struct run *run, const struct place *place)
{
	struct snapshot snapshot;
	pid_t process = fork();

	must(process >= 0, "fork");
	if (process != 0)
		return process;
	region_enter(run->region, 1);
	_exit(snapshot_write(run->region, place->snapshots, store_key(run->store), wait_durable,
	                     &snapshot) == SNAPSHOT_OK
	          ? 0
	          : 1);
}

/* Posts until PROCESS has its snapshot, so that it never has the table to itself: its status. */
static int post_beside(struct run *run, pid_t process, uint64_t *random)
{
	char name[32];
	int status = -1;

	while (waitpid(process, &status, WNOHANG) == 0) {
		for (int i = 0; i < 50; i++)
			run_post(run, name,
			         (uint32_t)snprintf(name, sizeof name, "account-%" PRIu64,
			                            random_next(random) % 2000),
			         (int64_t)(random_next(random) % 1000) - 500);
		run_commit(run);
	}
	return status;
}

static void test_live_snapshot(void)
{
	struct shape shape = {
	    .segment_size = UINT64_C(1) << 20, .ring_size = 1 << 18, .max_accounts = 2000};
	struct place place;
	struct run run;
	struct run again;
	uint64_t random = 20;
	uint64_t start = 0;
	uint64_t newest = 0;
	uint64_t cut;
	int rounds = 0;
	bool same = true;

	place_make(&place);
	must(run_start(&run, &place, &shape), "run_start");
	/* It ends with a snapshot that the traffic overtook. */
	for (; same && (rounds < 20 || newest <= start) && rounds < 400; rounds++) {
		int status = post_beside(&run, start_snapshot(&run, &place), &random);
		same = status == 0 && run_start(&again, &place, &shape) &&
		       again.recovery.snapshot.start != 0 && table_same(run.region, again.region);
		start = again.recovery.snapshot.start;
		newest = again.recovery.snapshot.newest;
		if (!same)
			diag("round %d: status %d, %s", rounds, status, again.error);
		run_leave(&again);
	}
	ok(same, "%d snapshots taken beside traffic give the ledger's state", rounds);
	cmp_ok((intmax_t)newest, ">", (intmax_t)start, "traffic overtook the last of them");
	must(store_cut(run.store, newest, &cut) == 0, "store_cut");
	run_leave(&run);
	refused(&place, &shape, "ends before what the snapshot holds",
	        "a journal that has the snapshot's start and not its newest effect");
	place_remove(&place);
}

/* ---- seals */

static const struct shape roomy = {
    .segment_size = UINT64_C(1) << 20, .ring_size = 1 << 24, .max_accounts = 64};

/* Posts events to some accounts until BYTES more are in the ring, committing each MiB if asked. */
static void post_bytes(struct run *run, uint64_t bytes, bool commit)
{
	char name[ACCOUNT_NAME_MAX];
	uint64_t to = atomic_load(&run->marks->tail) + bytes;
	uint32_t account = 0;

	while (atomic_load(&run->marks->tail) < to) {
		account = (account + 1) % ACCOUNTS;
		run_post(run, name, name_of(account, name), 1);
		if (commit && atomic_load(&run->marks->tail) - run->position > 1000000)
			run_commit(run);
	}
}

static size_t count_seals(const struct place *place)
{
	char error[STORE_ERROR_SIZE];
	enum store_status status;
	struct store *store = store_open(place->journal, &status, error);
	const struct record_head *record;
	size_t seals = 0;

	must(store != NULL, "store_open");
	struct store_reader *reader = store_replay(store, store_first(store));
	must(reader != NULL, "store_replay");
	while (store_next(reader, &record) == STORE_OK)
		seals += record->type == RECORD_SEAL;
	store_reader_close(reader);
	store_close(store);
	return seals;
}

/* Changes the time of the first record at or after OFFSET of the first segment, checksum and all.
 */
static void exchange_record(const struct place *place)
{
	char error[STORE_ERROR_SIZE];
	enum store_status status;
	struct store *store = store_open(place->journal, &status, error);
	union {
		struct record_head head;
		unsigned char bytes[JOURNAL_RECORD_MAX];
	} copy;
	const struct record_head *record = NULL;
	struct image_file file;

	must(store != NULL, "store_open");
	struct store_reader *reader = store_replay(store, store_first(store));
	for (int i = 0; i < 100; i++)
		must(store_next(reader, &record) == STORE_OK, "store_next");
	memcpy(copy.bytes, record, record->length);
	copy.head.time_us++;
	record_stamp(&copy, copy.head.length, copy.head.lsn, copy.head.durable, copy.head.epoch,
	             store_key(store));
	snprintf(file.path, sizeof file.path, "%s/%016x.journal", place->journal, 0);
	file_read(&file);
	memcpy(file.bytes + copy.head.lsn, copy.bytes, copy.head.length);
	file_write(&file, copy.head.lsn, copy.head.length);
	free(file.bytes);
	store_reader_close(reader);
	store_close(store);
}

static void test_seals(void)
{
	struct place place;
	struct run run;
	struct run again;

	place_make(&place);
	must(run_start(&run, &place, &roomy), "run_start");
	post_bytes(&run, 2 * SEAL_EVERY + 3000000, true);
	run_mark(&run);
	cmp_ok((intmax_t)count_seals(&place), "==", 2, "a seal every %d bytes", SEAL_EVERY);
	ok(run_start(&again, &place, &roomy) && table_same(run.region, again.region),
	   "replay finds the seals right");
	/* A run goes on with the chain of the one before. */
	post_bytes(&again, SEAL_EVERY + 1000000, true);
	run_leave(&run);
	run_mark(&again);
	take_snapshot(&again, &place);
	post_bytes(&again, SEAL_EVERY, true);
	run_mark(&again);
	ok(run_start(&run, &place, &roomy) && run.recovery.snapshot.seal_to != 0 &&
	       table_same(run.region, again.region),
	   "and goes on from a snapshot's seal");
	run_leave(&again);
	run_leave(&run);
	directory_remove(place.snapshots);
	exchange_record(&place);
	refused(&place, &roomy, "not what was sealed",
	        "a record exchanged for another sound one is noticed by the seal");
	place_remove(&place);
}

/* A ring fuller than two seals' worth: the seal of one boundary stands behind the next boundary. */
static void test_late_seal(void)
{
	struct place place;
	struct run run;
	struct run again;

	place_make(&place);
	must(run_start(&run, &place, &roomy), "run_start");
	post_bytes(&run, SEAL_EVERY + 100000, false);
	uint64_t first = atomic_load(&run.marks->tail);
	post_bytes(&run, SEAL_EVERY + 100000, false);
	run_commit_to(&run, first);
	run_commit(&run);
	run_mark(&run);
	run_mark(&run);
	cmp_ok((intmax_t)count_seals(&place), "==", 2, "two seals, both behind both boundaries");
	take_snapshot(&run, &place);
	post_bytes(&run, 100000, true);
	run_mark(&run);
	bool started = run_start(&again, &place, &roomy);
	ok(started && again.recovery.snapshot.start != 0 && table_same(run.region, again.region),
	   "a snapshot between them and their boundaries is no damage");
	if (!started)
		diag("%s", again.error);
	run_leave(&again);
	run_leave(&run);
	place_remove(&place);
}

int main(void)
{
	plan(NO_PLAN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	test_marked();
	test_unmarked();
	test_segments();
	test_snapshots();
	test_torn(30, 1, 20, "a torn group commit");
	test_torn(30, 1, 150, "a large torn group commit");
	test_torn(30, 12, 4, "group commits not yet synced");
	test_snapshot_ahead();
	test_snapshot_ahead_of_marks();
	test_snapshot_waits();
	test_missing_first();
	test_too_small();
	test_forged(false);
	test_forged(true);
	test_runs();
	test_other_segment_size(131072, 65536);
	test_other_segment_size(65536, 131072);
	test_settled();
	test_live_snapshot();
	test_seals();
	test_late_seal();
	return done_testing();
}
