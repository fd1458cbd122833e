/*
 * Recovery of damaged journals and snapshots: every cut, every flipped bit, every order in which
 * a disk may have kept the sectors of a torn write.  The answer must be an exact prefix with
 * all that was acknowledged, or a refusal that names file and offset; never a wrong balance.
 *
 * TALLYD_TEST_STRIDE=N tries every Nth damage: by default all, but of the many bits of a whole file
 * a few of each byte; every 53rd under a sanitizer.
 */
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <xxhash.h>

#include "../shm/lock.h"
#include "../src/ledger/replay.h"
#include "journal-traffic.h"

#define STEPS       60
#define RECORDS_MAX 8192
#define PROCESSES   2   /* that try damages side by side */
#define SECTOR      512 /* bytes that a disk writes whole or not at all */
#define FILES_MAX   8
#define ZERO_TRIED  96 /* bytes behind the tail */
/* Every so many bits, no multiple of 2: some of each byte are flipped. */
#define BITS_OF_JOURNAL  3
#define BITS_OF_SNAPSHOT 5 /* it starts without it, which takes longer than a refusal */

static const struct sizes small = {
    .segment_size = FIXTURE_SEGMENT,
    .ring_size = 65536,
    .max_accounts = 64,
    .max_ids = 400, /* all that the traffic uses: which are forgotten is not told by the journal */
    .max_holds = 64,
};

/* ---- what should be there */

/* What the tables are after each record. */
struct history {
	struct {
		uint64_t end; /* of the record: ascending */
		uint64_t digest;
	} after[RECORDS_MAX];
	size_t records;
	size_t kinds[UINT8_MAX + 1];
	size_t refusals;
	uint64_t end;   /* of the journal when it was whole */
	uint64_t floor; /* the greatest durable mark in it: nothing before it may be lost */
};

static void note_after(struct history *history, uint64_t end, uint64_t digest)
{
	must(history->records < RECORDS_MAX, "records");
	history->after[history->records].end = end;
	history->after[history->records++].digest = digest;
}

/* Applies the whole journal, record by record, to a region of its own. */
static void note_history(const struct place *place, struct history *history)
{
	char error[STORE_ERROR_SIZE];
	enum store_status status;
	struct store *store = store_open(place->journal, &status, error);
	const struct record_head *record;

	must(store != NULL, "store_open");
	struct region *region = region_make(&small, store_key(store));
	struct store_reader *reader = store_replay(store, store_first(store));
	must(reader != NULL, "store_replay");
	memset(history, 0, sizeof *history);
	note_after(history, store_reader_at(reader), 0);
	while (store_next(reader, &record) == STORE_OK) {
		const char *why = replay_apply(region, record, NULL);
		if (why != NULL)
			BAIL_OUT("a record cannot be applied: %s", why);
		note_after(history, record->lsn + record->length, digest_of(region));
		history->kinds[record->type]++;
		history->refusals += record->outcome != OUTCOME_ACCEPTED;
		if (record->durable > history->floor)
			history->floor = record->durable;
	}
	history->end = store_reader_at(reader);
	store_reader_close(reader);
	region_close(region);
	store_close(store);
}

static size_t find_end(const struct history *history, uint64_t end)
{
	size_t at = 0;

	while (at < history->records && history->after[at].end != end)
		at++;
	return at;
}

static bool is_boundary(const struct history *history, uint64_t at)
{
	return find_end(history, at) < history->records;
}

/* Does REGION hold exactly the effects of the records before AT? */
static bool exact(const struct history *history, struct region *region, uint64_t at)
{
	size_t found = find_end(history, at);

	return found < history->records && history->after[found].digest == digest_of(region);
}

/* Does the ledger have just what replaying its journal gives? */
static bool agrees(const struct history *history, const struct run *run)
{
	return run->position == history->end && exact(history, run->region, run->position);
}

/* ---- a journal on disk, its sound bytes in memory, and a region that is used again and again */

struct arena {
	struct place place;
	struct image_file file[FILES_MAX];
	size_t files;
	const struct history *history;
	struct region *region;
	unsigned char *fresh; /* the region as it was made, but for the processes and the ring */
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
	arena->fresh_size = arena->region->header->shape.processes_at;
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
	arena->region->header->geometry.hash_seed = record_hash_seed(store_key(store));
	must(store_claim(store, small.segment_size) == 0, "store_claim");
	status =
	    recover(store, arena->place.snapshots, arena->region, &arena->recovery, arena->error);
	store_close(store);
	return status;
}

/* After a recovery that was accepted, a run of one event, then recovery again. */
static bool second_run(struct arena *arena)
{
	struct run run;
	bool right = run_start(&run, &arena->place, &small);

	if (!right) {
		diag("a second start was refused: %s", run.error);
		return false;
	}
	run_post(&run, "another", 7, 1);
	run_commit(&run);
	uint64_t end = run.position;
	uint64_t digest = digest_of(run.region);
	run_leave(&run);
	right = arena_recover(arena) == STORE_OK && arena->recovery.start == end &&
	        digest_of(arena->region) == digest;
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

/* USUAL, where nobody says otherwise. */
static size_t stride_or(size_t usual)
{
	return setting("TALLYD_TEST_STRIDE", FIXTURE_SANITIZED ? 53 : usual);
}

static size_t stride(void)
{
	return stride_or(1);
}

static size_t file_index(const struct arena *arena, const char *ending, size_t which)
{
	for (size_t i = 0; i < arena->files; i++)
		if (strstr(arena->file[i].path, ending) != NULL && which-- == 0)
			return i;
	BAIL_OUT("no file number %zu with %s", which, ending);
}

/* ---- the journals */

static struct history history;

/* Events of a run: SIZE bytes of journal and more, each commit durable. */
static void fill_to(struct traffic *traffic, uint64_t size)
{
	while (traffic->run->position < size)
		traffic_run(traffic, 3);
}

static bool everything_in(const struct history *it)
{
	for (unsigned type = RECORD_EVENT; type <= RECORD_EXPIRE; type++) {
		if (it->kinds[type] != 0)
			continue;
		diag("no record of type %u", type);
		return false;
	}
	return it->refusals > 5;
}

/* A run of STEPS steps and an idle mark. */
static void test_marked(void)
{
	struct place place;
	struct arena arena;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 7};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, STEPS);
	run_mark(&run);
	note_history(&place, &history);
	ok(everything_in(&history), "a journal of %zu records: every type, and refusals",
	   history.records - 1);
	ok(agrees(&history, &run), "replayed record by record it gives the ledger's state");
	run_leave(&run);
	arena_open(&arena, &place, &history);
	ok(arena_recover(&arena) == STORE_OK && judge(&arena, STORE_OK, EVERYTHING),
	   "it is recovered whole");
	const struct job cut = {.damage = CUT,
	                        .demand = PREFIX_OR_REFUSAL,
	                        .to = (size_t)small.segment_size,
	                        .step = stride_or(BITS_OF_JOURNAL)};
	struct tally came = try_all(&arena, &cut, "the file cut in every word");
	cmp_ok((intmax_t)came.accepted, "==", 0, "a file that was cut is never taken");
	const struct job flip = {.damage = FLIP,
	                         .demand = PREFIX_OR_REFUSAL,
	                         .to = (size_t)(history.end + ZERO_TRIED) * 8,
	                         .step = stride_or(BITS_OF_JOURNAL)};
	came = try_all(&arena, &flip, "bits flipped of every byte of a marked journal");
	/* Only the mark itself and what is behind it may be damaged unnoticed. */
	cmp_ok((intmax_t)came.accepted, "<=", (JOURNAL_RECORD_MIN + ZERO_TRIED) * 8,
	       "all but the last mark is known to have been durable");
	arena_close(&arena);
	place_remove(&place);
}

/* What follows may end at every byte: the rest of the file is zero, as if never written. */
static void test_ends(void)
{
	struct place place;
	struct arena arena;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 27};
	size_t wrong = 0;
	size_t tried = 0;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	uint64_t from = run.position;
	while (traffic.steps < STEPS)
		traffic_step(&traffic);
	run_write(&run, atomic_load(&run.marks->tail));
	run_leave(&run);
	note_history(&place, &history);
	arena_open(&arena, &place, &history);
	for (uint64_t at = history.end; at-- > from; tried++) {
		file_put_byte(&arena.file[0], at, 0);
		if (at % stride() != 0)
			continue;
		enum store_status status = arena_recover(&arena);
		if (!judge(&arena, status, PREFIX) && wrong++ < 5)
			diag("ended at %" PRIu64 ": status %d, start %" PRIu64 ", %s", at,
			     (int)status, arena.recovery.start, arena.error);
		/* Recovery has zeroed what it cut off. */
		file_write(&arena.file[0], from, (size_t)(at - from));
	}
	ok(wrong == 0, "unsynced records of every type end at each of %zu bytes", tried);
	arena_close(&arena);
	place_remove(&place);
}

/* The newest group commit has no mark behind it: damage there cannot be told from a torn write. */
static void test_unmarked(void)
{
	struct place place;
	struct arena arena;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 8};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, STEPS);
	uint64_t before = run.position;
	while (atomic_load(&run.marks->tail) < before + 900)
		traffic_step(&traffic);
	run_commit(&run);
	run_leave(&run);
	note_history(&place, &history);
	cmp_ok((intmax_t)history.floor, "==", (intmax_t)before,
	       "the last records prove all but their own group commit");
	arena_open(&arena, &place, &history);
	struct job flip = {.damage = FLIP,
	                   .demand = PREFIX,
	                   .from = (size_t)before * 8,
	                   .to = (size_t)history.end * 8,
	                   .step = stride_or(BITS_OF_JOURNAL)};
	try_all(&arena, &flip, "bits flipped of every byte of a last group commit");
	flip.demand = PREFIX_OR_REFUSAL;
	flip.to = flip.from;
	flip.from = (size_t)(before - 600) * 8;
	struct tally came =
	    try_all(&arena, &flip, "bits flipped of every byte of what was before it");
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
	struct traffic traffic = {.run = &run, .random = 9};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	fill_to(&traffic, small.segment_size * 2 + SEGMENT_HEAD + 800);
	run_mark(&run);
	note_history(&place, &history);
	ok(agrees(&history, &run), "a journal of several segments agrees with the ledger");
	run_leave(&run);
	arena_open(&arena, &place, &history);
	ok(arena_recover(&arena) == STORE_OK && judge(&arena, STORE_OK, EVERYTHING),
	   "it is recovered whole");
	for (size_t i = 0; i < 3; i++) {
		const struct job end = {.damage = FLIP,
		                        .demand = PREFIX_OR_REFUSAL,
		                        .file = file_index(&arena, ".journal", i),
		                        .from = (size_t)(small.segment_size - 400) * 8,
		                        .to = (size_t)small.segment_size * 8,
		                        .step = 3 * stride()};
		const struct job begin = {.damage = FLIP,
		                          .demand = PREFIX_OR_REFUSAL,
		                          .file = end.file,
		                          .from = (SEGMENT_HEAD - 16) * 8,
		                          .to = (SEGMENT_HEAD + 300) * 8,
		                          .step = 3 * stride()};
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
	struct traffic traffic = {.run = &run, .random = 10};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	for (int i = 0; i < 3; i++) {
		traffic_run(&traffic, STEPS / 4);
		take_snapshot(&run, &place);
	}
	traffic_run(&traffic, STEPS / 4);
	run_mark(&run);
	run_leave(&run);
	note_history(&place, &history);
	arena_open(&arena, &place, &history);
	ok(arena_recover(&arena) == STORE_OK && judge(&arena, STORE_OK, EVERYTHING) &&
	       arena.recovery.snapshot.start != 0 && arena.recovery.records < history.records / 2,
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
		job.step = stride_or(BITS_OF_SNAPSHOT);
		try_all(&arena, &job, "bits flipped of every byte of a snapshot");
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
 * BATCHES of BATCH steps each, none of them synced, after BEFORE steps that were.
 */
static void test_torn(size_t before, size_t batches, size_t batch, const char *what)
{
	struct torn torn = {.wrong = 0};
	struct place place;
	struct arena old;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 12};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, before);
	torn.from = run.position;
	arena_open(&old, &place, &history);
	for (size_t i = 0; i < batches; i++) {
		for (size_t n = 0; n < batch; n++)
			traffic_step(&traffic);
		run_write(&run, atomic_load(&run.marks->tail));
	}
	run_leave(&run);
	note_history(&place, &history);
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
static void refused(const struct place *place, const struct sizes *shape, const char *expected,
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
	struct traffic traffic = {.run = &run, .random = 13};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, 20);
	uint64_t lost = run_post(&run, "lost", 4, 1).lsn;
	run_commit(&run);
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
	struct traffic traffic = {.run = &run, .random = 14};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, 20);
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
	struct traffic traffic = {.run = &run, .random = 15};
	uint64_t found;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, 20);
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
	struct traffic traffic = {.run = &run, .random = 16};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, 20);
	take_snapshot(&run, &place);
	/* One account changes in the first segment only, others in the second too. */
	while (atomic_load(&run.marks->tail) < small.segment_size - 200) {
		run_post(&run, "first only", 10, 1);
		run_commit(&run);
	}
	traffic_run(&traffic, 50);
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
	struct sizes large = {
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
	struct traffic traffic = {.run = &run, .random = 17};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, 20);
	uint64_t torn = run.position;
	run_post(&run, "b", 1, 1);
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
	struct traffic traffic = {.run = &run, .random = 18};
	bool followed = true;

	place_make(&place);
	for (int i = 0; i < 4; i++) {
		must(run_start(&run, &place, &small), "run_start");
		followed &= run.recovery.epoch == (i == 0 ? 0 : epoch[i - 1]) &&
		            run.recovery.clean == (i == 2);
		epoch[i] = region_geometry(run.region)->epoch;
		traffic_run(&traffic, 40);
		if (i == 1)
			must(ledger_stop(run.ledger, 1) == OUTCOME_ACCEPTED, "ledger_stop");
		run_commit(&run);
		run_leave(&run);
	}
	ok(followed, "recovery tells the last run's epoch, and whether it ended cleanly");
	note_history(&place, &history);
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
	struct sizes shape = {.segment_size = first, .ring_size = 65536, .max_accounts = 64};
	struct place place;
	struct region *kept;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 19};

	place_make(&place);
	must(run_start(&run, &place, &shape), "run_start");
	traffic_run(&traffic, 20);
	run_leave(&run);
	shape.segment_size = then;
	must(run_start(&run, &place, &shape), "run_start");
	while (run.position < 6 * UINT64_C(65536))
		traffic_run(&traffic, 20);
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
	struct traffic traffic = {.run = &run, .random = 21};

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	while (run.position < small.segment_size - 2000)
		traffic_run(&traffic, 2);
	while (atomic_load(&run.marks->tail) < small.segment_size)
		traffic_step(&traffic);
	run_write(&run, small.segment_size);
	run_leave(&run);
	syncs = 0;
	/* A rest that is too short for a record stays zero. */
	ok(run_start(&run, &place, &small) && run.recovery.start <= small.segment_size &&
	       run.recovery.start > small.segment_size - JOURNAL_RECORD_MIN,
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

/* Goes on until PROCESS has its snapshot, so that it never has the tables to itself: its status. */
static int work_beside(struct traffic *traffic, pid_t process)
{
	int status = -1;

	while (waitpid(process, &status, WNOHANG) == 0)
		traffic_run(traffic, 20);
	return status;
}

static void test_live_snapshot(void)
{
	struct sizes shape = {.segment_size = UINT64_C(1) << 20,
	                      .ring_size = 1 << 18,
	                      .max_accounts = 5000,
	                      .max_ids = 20000,
	                      .max_holds = 20000};
	struct place place;
	struct run run;
	struct run again;
	struct traffic traffic = {.run = &run, .random = 20, .accounts = 2000, .ids = 5000};
	uint64_t start = 0;
	uint64_t newest = 0;
	uint64_t cut;
	int rounds = 0;
	bool same = true;

	place_make(&place);
	must(run_start(&run, &place, &shape), "run_start");
	/* It ends with a snapshot that the traffic overtook. */
	for (; same && (rounds < 20 || newest <= start) && rounds < 400; rounds++) {
		int status = work_beside(&traffic, start_snapshot(&run, &place));
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

/* ---- a snapshot that is overtaken at a known place */

static const struct sizes wide = {.segment_size = UINT64_C(1) << 20,
                                  .ring_size = 1 << 18,
                                  .max_accounts = 5000,
                                  .max_ids = 5000,
                                  .max_holds = 5000};

/* A name of its own stripe, the INDEXth after HELD. */
static struct words name_in(const struct run *run, uint32_t index, bool is_long,
                            char name[ACCOUNT_NAME_MAX])
{
	const struct region_geometry *geometry = region_geometry(run->region);

	for (unsigned n = 0;; n++) {
		int length = snprintf(
		    name, ACCOUNT_NAME_MAX, "%s%u",
		    is_long ? "a name that is longer than one slot of the table takes " : "n", n);
		uint64_t hash = XXH3_64bits_withSeed(name, (size_t)length, geometry->hash_seed);
		if (table_stripe(run->region, hash) == 2 + index)
			return (struct words){.bytes = name, .length = (uint32_t)length};
	}
}

static void ask(struct run *run, enum request_kind kind, struct words account, int64_t amount,
                const char *hold)
{
	struct request request = {.kind = kind,
	                          .legs = 1,
	                          .ttl = 100,
	                          .attributes = {.floor = -9, .ceiling = 900},
	                          .leg = {{.account = account, .amount = amount}}};

	if (hold != NULL)
		request.hold = words_of(hold);
	if (kind == REQUEST_RELEASE || kind == REQUEST_CAPTURE)
		request.legs = 0;
	else if (kind == REQUEST_EVENT)
		request.id = account;
	run_apply(run, &request, OUTCOME_ACCEPTED);
}

/* The header is written, and the first stripe after it: the snapshot's start is past. */
static void wait_begun(const struct place *place)
{
	char path[FIXTURE_PATH + 64];
	struct stat status = {.st_size = 0};

	snprintf(path, sizeof path, "%s/snapshot.tmp", place->snapshots);
	for (int i = 0; i < 100000 && (stat(path, &status) != 0 || status.st_size == 0); i++)
		usleep(100);
	must(status.st_size > 0, "the snapshot does not begin");
}

static void test_overtaken(void)
{
	char text[6][ACCOUNT_NAME_MAX];
	struct words name[6];
	struct place place;
	struct run run;
	struct run again;
	int status;

	place_make(&place);
	must(run_start(&run, &place, &wide), "run_start");
	for (uint32_t i = 0; i < 6; i++) {
		name[i] = name_in(&run, i, i % 2 == 1, text[i]);
		if (i != 2)
			ask(&run, REQUEST_CREATE, name[i], 0, NULL);
	}
	ask(&run, REQUEST_EVENT, name[4], 500, NULL);
	ask(&run, REQUEST_HOLD, name[4], 100, "before");
	run_commit(&run);
	/* It will stop at the stripe before those that change. */
	must(lock_acquire(run.region, 1), "lock_acquire");
	pid_t process = start_snapshot(&run, &place);
	wait_begun(&place);
	ask(&run, REQUEST_DELETE, name[0], 0, NULL);
	ask(&run, REQUEST_DELETE, name[1], 0, NULL);
	ask(&run, REQUEST_CREATE, name[2], 0, NULL);
	ask(&run, REQUEST_DELETE, name[2], 0, NULL);
	ask(&run, REQUEST_DELETE, name[3], 0, NULL);
	ask(&run, REQUEST_CREATE, name[3], 0, NULL);
	ask(&run, REQUEST_CAPTURE, name[4], 0, "before");
	ask(&run, REQUEST_HOLD, name[4], 40, "after");
	ask(&run, REQUEST_RELEASE, name[4], 0, "after");
	ask(&run, REQUEST_HOLD, name[4], 30, "open");
	ask(&run, REQUEST_EVENT, name[5], 7, NULL);
	run_commit(&run);
	lock_release(run.region, 1);
	must(waitpid(process, &status, 0) == process && status == 0, "the snapshot failed");
	bool started = run_start(&again, &place, &wide);
	ok(started && again.recovery.snapshot.newest > again.recovery.snapshot.start,
	   "a snapshot has what happened after its start");
	ok(started && table_same(run.region, again.region),
	   "what was deleted, made and settled meanwhile is not replayed again");
	if (!started)
		diag("%s", again.error);
	run_leave(&again);
	run_leave(&run);
	place_remove(&place);
}

/* ---- snapshots whose checksums are right and whose content is not */

/* Makes the chain of checksums right again. */
static void stamp_blocks(struct image_file *file, uint64_t key)
{
	uint64_t chain = key;
	uint32_t length;

	for (size_t at = 0; at + 16 <= file->size; at += 16 + length) {
		memcpy(&length, file->bytes + at + 8, sizeof length);
		if (length > file->size - at - 16)
			return;
		chain = XXH3_64bits_withSeed(file->bytes + at + 8, length + 8, chain);
		memcpy(file->bytes + at, &chain, sizeof chain);
	}
}

static void test_mutants(void)
{
	size_t rounds = 4000 / stride() + 100;
	struct place place;
	struct arena arena;
	struct run run;
	struct traffic traffic = {.run = &run, .random = 22};
	uint64_t random = 23;
	size_t taken = 0;
	size_t passed = 0;
	size_t refusals = 0;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	traffic_run(&traffic, STEPS);
	take_snapshot(&run, &place);
	uint64_t key = store_key(run.store);
	run_leave(&run);
	note_history(&place, &history);
	arena_open(&arena, &place, &history);
	struct image_file *file = &arena.file[file_index(&arena, ".snapshot", 0)];
	unsigned char *whole = malloc(file->size);
	must(whole != NULL, "malloc");
	memcpy(whole, file->bytes, file->size);
	for (size_t i = 0; i < rounds; i++) {
		for (uint64_t n = random_next(&random) % 3 + 1; n > 0; n--) {
			uint64_t draw = random_next(&random);
			file->bytes[draw % file->size] = (unsigned char)(draw >> 40 & draw >> 48);
		}
		stamp_blocks(file, key);
		file_write(file, 0, file->size);
		enum store_status status = arena_recover(&arena);
		if (status != STORE_OK)
			refusals += arena.error[0] != '\0';
		else if (arena.recovery.snapshots_refused != 0)
			passed += exact(&history, arena.region, history.end);
		else
			taken++;
		memcpy(file->bytes, whole, file->size);
		arena_restore(&arena);
	}
	ok(taken + passed + refusals == rounds && taken > 0 && passed > 0,
	   "snapshots changed by who can: %zu taken, %zu passed over, %zu refused", taken, passed,
	   refusals);
	free(whole);
	arena_close(&arena);
	place_remove(&place);
}

/* ---- smaller tables than those of the run before */

static void test_fewer(void)
{
	struct sizes fewer = wide;
	struct place place;
	struct run run;
	struct run again;
	char name[ACCOUNT_NAME_MAX];
	char hold[32];
	const struct words account = {.bytes = name, .length = traffic_name(3, name)};

	place_make(&place);
	must(run_start(&run, &place, &wide), "run_start");
	run_post(&run, account.bytes, account.length, 1000000);
	for (int i = 0; i < 1500; i++) {
		struct request request = {.kind = REQUEST_HOLD,
		                          .legs = 1,
		                          .ttl = 1000,
		                          .leg = {{.account = account, .amount = 1}}};
		snprintf(hold, sizeof hold, "hold-%d", i);
		request.id = words_of(hold);
		run_apply(&run, &request, OUTCOME_ACCEPTED);
		if (i % 100 == 0)
			run_commit(&run);
	}
	run_commit(&run);
	fewer.max_holds = 64;
	refused(&place, &fewer, "raise max_holds", "too few holds for the journal");
	take_snapshot(&run, &place);
	refused(&place, &fewer, "raise max_holds", "too few holds for the snapshot");
	fewer = wide;
	fewer.max_ids = 64;
	ok(run_start(&again, &place, &fewer) && again.recovery.snapshot.ids_left_out > 1000 &&
	       accounts_same(run.region, again.region) && holds_same(run.region, again.region),
	   "with fewer ids than there are it starts, and says how many it forgot");
	/* The last to be placed is the newest of its bucket. */
	struct key key = record_key(store_key(run.store), hold, strlen(hold));
	ok(ids_find(again.region, &key) != NULL, "it has not forgotten the newest");
	run_leave(&again);
	/* All but one are settled: those make room. */
	for (int i = 0; i < 1499; i++) {
		snprintf(hold, sizeof hold, "hold-%d", i);
		ask(&run, REQUEST_RELEASE, account, 0, hold);
		if (i % 100 == 0)
			run_commit(&run);
	}
	run_commit(&run);
	take_snapshot(&run, &place);
	fewer = wide;
	fewer.max_holds = 64;
	ok(run_start(&again, &place, &fewer) && accounts_same(run.region, again.region),
	   "settled holds that do not fit are forgotten");
	key = record_key(store_key(run.store), "hold-1499", 9);
	const struct hold_slot *open = holds_find(again.region, &key);
	ok(open != NULL && open->state == HOLD_OPEN, "the open one is there");
	run_leave(&again);
	run_leave(&run);
	place_remove(&place);
}

/* Who takes a snapshot with a clock that is ahead loses no ids by it. */
static void test_window(void)
{
	struct place place;
	struct run run;
	struct run again;
	struct snapshot snapshot;
	struct words account = words_of("somebody");
	struct words second = words_of("other");
	struct timespec now;

	place_make(&place);
	must(run_start(&run, &place, &small), "run_start");
	ask(&run, REQUEST_EVENT, account, 1, NULL);
	clock_gettime(CLOCK_REALTIME, &now);
	run.now_us = (uint64_t)now.tv_sec * 1000000;
	ask(&run, REQUEST_EVENT, second, 1, NULL);
	run_commit(&run);
	atomic_store(&region_settings(run.region)->id_window_us, UINT64_C(3600) * 1000000);
	must(snapshot_write(run.region, place.snapshots, store_key(run.store), at_once,
	                    &snapshot) == SNAPSHOT_OK,
	     "snapshot_write");
	cmp_ok((intmax_t)snapshot.ids, "==", 2, "ids of whatever time are in a snapshot");
	ok(run_start(&again, &place, &small) && accounts_same(run.region, again.region) &&
	       count_ids(again.region) == 2,
	   "and remembered");
	run_leave(&again);
	run_leave(&run);
	place_remove(&place);
}

/* ---- seals */

static const struct sizes roomy = {
    .segment_size = UINT64_C(1) << 20, .ring_size = 1 << 24, .max_accounts = 64};

/* Posts events to some accounts until BYTES more are in the ring, committing each MiB if asked. */
static void post_bytes(struct run *run, uint64_t bytes, bool commit)
{
	char name[ACCOUNT_NAME_MAX];
	uint64_t to = atomic_load(&run->marks->tail) + bytes;
	uint32_t account = 0;

	while (atomic_load(&run->marks->tail) < to) {
		account = (account + 1) % TRAFFIC_ACCOUNTS;
		run_post(run, name, traffic_name(account, name), 1);
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
	test_ends();
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
	test_overtaken();
	test_mutants();
	test_fewer();
	test_window();
	test_seals();
	test_late_seal();
	return done_testing();
}
