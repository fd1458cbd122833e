/*
 * The store of files: create, reopen, append across segments, read from anywhere, refuse what is
 * not whole, leave nothing behind when the disk is full, cut only what follows.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "../src/ledger/segment.h"
#include "journal-fixture.h"

#define SEGMENT     FIXTURE_SEGMENT
#define RECORDS_MAX 8192

/* ---- a journal made by hand: no ring, no ledger */

struct journal {
	struct place place;
	struct store *store;
	uint64_t tail;
	uint64_t lsn[RECORDS_MAX];
	size_t records;
};

static char error[STORE_ERROR_SIZE];
static enum store_status status;

static struct store *open_store(const struct place *place)
{
	error[0] = '\0';
	return store_open(place->journal, &status, error);
}

static void begin(struct journal *journal)
{
	memset(journal, 0, sizeof *journal);
	place_make(&journal->place);
	journal->store = open_store(&journal->place);
	must(journal->store != NULL, error);
	must(store_claim(journal->store, SEGMENT) == 0, "store_claim");
	journal->tail = store_first(journal->store);
}

static void end(struct journal *journal)
{
	store_close(journal->store);
	place_remove(&journal->place);
}

/* Opens what is on disk anew. */
static void reopen(struct journal *journal)
{
	store_close(journal->store);
	journal->store = open_store(&journal->place);
	must(journal->store != NULL, error);
	must(store_claim(journal->store, SEGMENT) == 0, "store_claim");
}

/* Puts a filler of LENGTH bytes at LSN into BUFFER, as the record that it will be. */
static void make(const struct journal *journal, unsigned char *buffer, uint64_t lsn, size_t length)
{
	struct record_head *head = (void *)buffer;

	memset(buffer, 0, length);
	record_plain(buffer, RECORD_PAD, NULL, 0, 0);
	head->length = (uint32_t)length;
	record_stamp(buffer, length, lsn, lsn, 1, store_key(journal->store));
}

/*
 * Appends a record of LENGTH bytes in two pieces cut at CUT, or in one if CUT is 0; at a segment's
 * end with what the ring would put before it: the unused rest and the gap of the head.
 */
static void append(struct journal *journal, size_t length, size_t cut)
{
	static _Alignas(8) unsigned char bytes[3 * JOURNAL_RECORD_MAX];
	uint64_t from = journal->tail;
	uint64_t left = store_segment_end(journal->store, from) - from;
	size_t gap = left < length ? (size_t)left + SEGMENT_HEAD : 0;

	must(left >= length || left < JOURNAL_RECORD_MIN, "the test leaves no such rest");
	memset(bytes, 0, (size_t)left < sizeof bytes ? (size_t)left : sizeof bytes);
	if (gap != 0)
		memset(bytes + left, 0xaa, SEGMENT_HEAD); /* never to be seen on disk */
	make(journal, bytes + gap, from + gap, length);
	cut = cut < gap + length ? cut : 0;
	struct iovec piece[2] = {{bytes, cut != 0 ? cut : gap + length},
	                         {bytes + cut, gap + length - cut}};
	must(store_append(journal->store, from, piece, cut != 0 ? 2 : 1) == 0, "store_append");
	must(journal->records < RECORDS_MAX, "records");
	journal->lsn[journal->records++] = from + gap;
	journal->tail = from + gap + length;
}

/* How many records are read from FROM on; each must be the one that was written there. */
static size_t read_from(const struct journal *journal, uint64_t from, uint64_t *tail)
{
	struct store_reader *reader = store_replay(journal->store, from);
	const struct record_head *record;
	size_t first = 0;
	size_t read_back = 0;

	must(reader != NULL, "store_replay");
	while (first < journal->records && journal->lsn[first] < from)
		first++;
	while (store_next(reader, &record) == STORE_OK) {
		if (first + read_back >= journal->records ||
		    record->lsn != journal->lsn[first + read_back]) {
			diag("read from %" PRIu64 ": a record at %" PRIu64, from, record->lsn);
			break;
		}
		read_back++;
	}
	*tail = store_reader_at(reader);
	store_reader_close(reader);
	return read_back;
}

static bool reads_whole(const struct journal *journal)
{
	uint64_t tail;

	return read_from(journal, store_first(journal->store), &tail) == journal->records &&
	       tail == journal->tail;
}

static char *segment_path(const struct place *place, uint64_t base)
{
	static char path[FIXTURE_PATH + 64];

	snprintf(path, sizeof path, "%s/%016" PRIx64 ".journal", place->journal, base);
	return path;
}

/* ---- creation */

static void test_empty(void)
{
	struct journal journal;
	struct place place;
	uint64_t tail;

	place_make(&place);
	struct store *store = open_store(&place);
	must(store != NULL, error);
	ok(store_empty(store) && store_space(store) == 0, "a new store is empty");
	uint64_t key = store_key(store);
	store_close(store);
	store = open_store(&place);
	must(store != NULL, error);
	ok(store_empty(store) && store_key(store) != key, "and keeps no key before it is claimed");
	store_close(store);
	place_remove(&place);

	begin(&journal);
	key = store_key(journal.store);
	cmp_ok((intmax_t)store_first(journal.store), "==", SEGMENT_HEAD,
	       "the first record stands behind the head");
	cmp_ok((intmax_t)store_space(journal.store), "==", SEGMENT, "one segment is made");
	cmp_ok((intmax_t)read_from(&journal, journal.tail, &tail), "==", 0, "nothing is in it");
	cmp_ok((intmax_t)tail, "==", SEGMENT_HEAD, "and the tail is at its beginning");
	reopen(&journal);
	ok(!store_empty(journal.store) && store_key(journal.store) == key, "the key stays");
	end(&journal);
}

/* ---- append and replay */

/* Fills a segment so that LEFT bytes (0, or less than a record) stay, then goes on in the next. */
static void test_rest(size_t left, size_t cut)
{
	struct journal journal;

	begin(&journal);
	must(store_extend(journal.store) == 0, "store_extend");
	while (journal.tail + JOURNAL_RECORD_MAX + 512 < SEGMENT - left)
		append(&journal, 248, 0);
	while (SEGMENT - left - journal.tail > 512)
		append(&journal, 248, 0);
	append(&journal, (size_t)(SEGMENT - left - journal.tail), 0);
	cmp_ok((intmax_t)journal.tail, "==", (intmax_t)(SEGMENT - left), "%zu bytes are left",
	       left);
	ok(reads_whole(&journal), "the tail is before them");
	append(&journal, 104, cut);
	append(&journal, 48, 0);
	ok(store_sync(journal.store) == 0, "synced");
	cmp_ok((intmax_t)journal.lsn[journal.records - 2], "==", SEGMENT + SEGMENT_HEAD,
	       "a record that crosses goes behind the next head (pieces cut at %zu)", cut);
	reopen(&journal);
	ok(reads_whole(&journal), "all is read back");
	struct segment segment;
	const char *why;
	int directory = open(journal.place.journal, O_RDONLY | O_DIRECTORY);
	int fd = segment_open(directory, SEGMENT, O_RDONLY, &segment, &why);
	ok(fd >= 0, "the head was not written over");
	close(fd);
	close(directory);
	if (left != 0) {
		uint64_t tail;
		struct image_file file;
		snprintf(file.path, sizeof file.path, "%s", segment_path(&journal.place, 0));
		file_put_byte(&file, SEGMENT - 1, 1);
		ok(read_from(&journal, SEGMENT_HEAD, &tail) == journal.records - 2 &&
		       tail == SEGMENT - left,
		   "a rest that is not zero ends the journal");
	}
	end(&journal);
}

/* A segment that is only reserved has all its blocks, and reads as zero. */
static void test_unfilled(void)
{
	struct journal journal;
	struct stat file;
	unsigned char bytes[4096];
	bool zero = true;

	begin(&journal);
	must(store_extend_unfilled(journal.store) == 0, "store_extend_unfilled");
	int fd = open(segment_path(&journal.place, SEGMENT), O_RDONLY);
	must(fd >= 0 && fstat(fd, &file) == 0, "the segment");
	cmp_ok(file.st_size, "==", SEGMENT, "a segment that is not filled has its full size");
	cmp_ok((intmax_t)file.st_blocks * 512, ">=", SEGMENT, "... and its blocks");
	for (size_t at = SEGMENT_HEAD; at < SEGMENT; at += sizeof bytes) {
		must(pread(fd, bytes, sizeof bytes, (off_t)at) == (ssize_t)sizeof bytes, "pread");
		for (size_t i = 0; i < sizeof bytes; i++)
			zero &= bytes[i] == 0;
	}
	ok(zero, "... and reads as zero");
	close(fd);
	reopen(&journal);
	ok(reads_whole(&journal), "... and is opened again");
	end(&journal);
}

static void test_boundaries(void)
{
	struct journal journal;
	bool whole = true;
	uint64_t tail;

	begin(&journal);
	while (journal.tail < 4 * SEGMENT) {
		/* Filled ahead or only reserved, in turn: nobody may see a difference. */
		if (store_space(journal.store) - journal.tail < SEGMENT)
			must((journal.records % 2 == 0 ? store_extend(journal.store)
			                               : store_extend_unfilled(journal.store)) == 0,
			     "store_extend");
		uint64_t left = store_segment_end(journal.store, journal.tail) - journal.tail;
		size_t length = 48 + 8 * (journal.records % 60);
		if (left < length + JOURNAL_RECORD_MIN && left >= JOURNAL_RECORD_MIN)
			length = (size_t)left;
		append(&journal, length, journal.records * 8 % length);
	}
	ok(reads_whole(&journal), "%zu records over five segments", journal.records);
	for (size_t i = 0; i < journal.records; i += 3)
		whole &= read_from(&journal, journal.lsn[i], &tail) == journal.records - i &&
		         tail == journal.tail;
	ok(whole, "are read from any of them on");
	whole = read_from(&journal, 2 * SEGMENT, &tail) > 0 && tail == journal.tail;
	ok(whole, "and from where one segment ends and the next begins");
	cmp_ok((intmax_t)read_from(&journal, journal.tail, &tail), "==", 0,
	       "behind the last is none");
	cmp_ok((intmax_t)store_segment_end(journal.store, SEGMENT), "==", SEGMENT,
	       "an end belongs to the segment that it ends");
	cmp_ok((intmax_t)store_segment_end(journal.store, SEGMENT + 1), "==", 2 * SEGMENT,
	       "the next byte to the next one");
	char text[512];
	store_locate(journal.store, SEGMENT + 5000, text, sizeof text);
	ok(strstr(text, "0000000000010000.journal, offset 5000") != NULL, "a position is named");
	store_locate(journal.store, SEGMENT * 99, text, sizeof text);
	ok(strstr(text, "position") != NULL, "one that is nowhere too");
	end(&journal);
}

static void test_no_segment(void)
{
	struct journal journal;
	_Alignas(8) unsigned char bytes[64];

	begin(&journal);
	make(&journal, bytes, SEGMENT + SEGMENT_HEAD, 48);
	const struct iovec piece = {bytes, 48};
	ok(store_append(journal.store, SEGMENT + SEGMENT_HEAD, &piece, 1) != 0 && errno == ENXIO,
	   "a record beyond the last segment is an error");
	end(&journal);
}

/* ---- what is refused */

static void expect_refusal(struct journal *journal, const char *words, const char *what)
{
	store_close(journal->store);
	journal->store = open_store(&journal->place);
	ok(journal->store == NULL && status == STORE_CORRUPT && strstr(error, words) != NULL &&
	       strstr(error, ".journal: ") != NULL &&
	       strstr(error, "tallyctl journal repair") != NULL,
	   "%s", what);
	if (journal->store != NULL || strstr(error, words) == NULL)
		diag("status %d: %s", (int)status, error);
}

static void grown(struct journal *journal, int64_t by)
{
	must(truncate(segment_path(&journal->place, SEGMENT), (off_t)((int64_t)SEGMENT + by)) == 0,
	     "truncate");
}

/* Three segments, some records in the first two. */
static void begin_three(struct journal *journal)
{
	begin(journal);
	must(store_extend(journal->store) == 0 && store_extend(journal->store) == 0,
	     "store_extend");
	while (journal->tail < SEGMENT + 8000)
		append(journal, 240, 0); /* 61440 bytes: 256 of them fill a segment exactly */
}

/* Changes the head at OFFSET and makes its checksum right again. */
static void change_head(const struct journal *journal, size_t offset, uint64_t value, size_t size)
{
	struct image_file file;

	snprintf(file.path, sizeof file.path, "%s", segment_path(&journal->place, SEGMENT));
	file_read(&file);
	memcpy(file.bytes + offset, &value, size);
	uint64_t sum = XXH3_64bits(file.bytes, SEGMENT_HEAD - 8);
	memcpy(file.bytes + SEGMENT_HEAD - 8, &sum, sizeof sum);
	file_write(&file, 0, SEGMENT_HEAD);
	free(file.bytes);
}

static void test_refusals(void)
{
	char elsewhere[FIXTURE_PATH + 64];
	struct journal journal;

	begin_three(&journal);
	ok(reads_whole(&journal), "a journal to be damaged");
	end(&journal);

#define DAMAGED(damage, words, what)                                                               \
	begin_three(&journal);                                                                     \
	damage;                                                                                    \
	expect_refusal(&journal, words, what);                                                     \
	end(&journal)
	DAMAGED(unlink(segment_path(&journal.place, SEGMENT)), "is missing", "a missing segment");
	DAMAGED(grown(&journal, -1), "cut short or has grown", "a file cut by a byte");
	DAMAGED(grown(&journal, 1), "cut short or has grown", "a file grown by a byte");
	DAMAGED(grown(&journal, 100 - (int64_t)SEGMENT), "cut short", "a file without its head");
	DAMAGED(grown(&journal, -(int64_t)SEGMENT), "cut short", "an empty file");
	DAMAGED(change_head(&journal, 0, 1, 8), "not a journal segment", "another magic");
	DAMAGED(change_head(&journal, 8, 3, 4), "another version", "another version");
	DAMAGED(change_head(&journal, 12, 8192, 4), "another version", "another size of head");
	DAMAGED(change_head(&journal, 16, 0, 8), "another position", "another base than its name");
	DAMAGED(change_head(&journal, 24, 4096, 8), "impossible size", "too small a size");
	DAMAGED(change_head(&journal, 24, SEGMENT_SIZE_MAX + 4096, 8), "impossible size",
	        "too large a size");
	DAMAGED(change_head(&journal, 24, SEGMENT + 8, 8), "impossible size", "an uneven size");
	DAMAGED(change_head(&journal, 24, SEGMENT * 2, 8), "cut short or has grown",
	        "another size than the file's");
	DAMAGED(change_head(&journal, 32, 1, 8), "another journal", "another journal's key");
	begin_three(&journal);
	snprintf(elsewhere, sizeof elsewhere, "%s", segment_path(&journal.place, 2 * SEGMENT));
	must(rename(elsewhere, segment_path(&journal.place, 3 * SEGMENT)) == 0, "rename");
	expect_refusal(&journal, "another position", "a file with another's name");
	end(&journal);
}

static void test_strangers(void)
{
	static const char *const names[] = {"README",
	                                    "0000000000010000.journal.bak",
	                                    "10000.journal",
	                                    "00000000000A0000.journal",
	                                    "0000000000010000.journa",
	                                    "snapshot.tmp"};
	char path[FIXTURE_PATH + 64];
	struct journal journal;

	begin(&journal);
	append(&journal, 48, 0);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", journal.place.journal, names[i]);
		close(open(path, O_CREAT | O_WRONLY, 0600));
	}
	reopen(&journal);
	ok(reads_whole(&journal) && store_space(journal.store) == SEGMENT,
	   "other files are not the store's");
	ok(access(path, F_OK) == 0, "and stay");
	snprintf(path, sizeof path, "%s/segment.tmp", journal.place.journal);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	reopen(&journal);
	ok(access(path, F_OK) != 0, "but what a dead segment's making left is swept");
	end(&journal);
}

/* ---- segments that go while they are listed */

#define PRUNED        64 /* segments of a journal that is pruned while it is opened */
#define PRUNED_ROUNDS 10
#define PRUNED_US     100 /* between two removals */

/* The journal's files have a second name in the pool, from which they come back. */
static void name_in(char path[FIXTURE_PATH + 64], const char *directory, size_t index)
{
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, index * SEGMENT);
	snprintf(path, FIXTURE_PATH + 64, "%s/%s", directory, name);
}

static void fill_pool(struct journal *journal)
{
	char from[FIXTURE_PATH + 64];
	char to[FIXTURE_PATH + 64];

	must(mkdir(journal->place.snapshots, 0700) == 0, "mkdir");
	for (size_t i = 0; i < PRUNED; i++) {
		if (i > 0)
			must(store_extend_unfilled(journal->store) == 0, "store_extend_unfilled");
		name_in(from, journal->place.journal, i);
		name_in(to, journal->place.snapshots, i);
		must(rename(from, to) == 0, "rename");
	}
}

/* In an order that jumps, as directories have: what comes second may be asked for first. */
static void bring_back(const struct journal *journal)
{
	char from[FIXTURE_PATH + 64];
	char to[FIXTURE_PATH + 64];

	for (size_t i = 0; i < PRUNED; i++) {
		name_in(from, journal->place.snapshots, i * 37 % PRUNED);
		name_in(to, journal->place.journal, i * 37 % PRUNED);
		must(link(from, to) == 0 || errno == EEXIST, "link");
	}
}

/* The oldest goes first, and the last stays. */
__attribute__((noreturn)) static void prune_all(const struct journal *journal)
{
	char path[FIXTURE_PATH + 64];

	for (size_t i = 0; i + 1 < PRUNED; i++) {
		name_in(path, journal->place.journal, i);
		unlink(path);
		usleep(PRUNED_US);
	}
	_exit(0);
}

static void test_pruned(void)
{
	struct journal journal;
	unsigned opened = 0;
	unsigned refused = 0;
	bool begins = true;

	begin(&journal);
	fill_pool(&journal);
	for (int i = 0; i < PRUNED_ROUNDS; i++) {
		bring_back(&journal);
		pid_t process = fork();
		must(process >= 0, "fork");
		if (process == 0)
			prune_all(&journal);
		uint64_t first = 0;
		while (waitpid(process, NULL, WNOHANG) == 0) {
			struct store *store = open_store(&journal.place);
			opened++;
			if (store == NULL && refused++ == 0)
				diag("status %d: %s", (int)status, error);
			if (store == NULL)
				continue;
			begins &=
			    store_first(store) >= first && store_space(store) == PRUNED * SEGMENT;
			first = store_first(store);
			store_close(store);
		}
	}
	cmp_ok(refused, "==", 0, "opened %u times while the oldest segments go: always", opened);
	ok(opened > PRUNED_ROUNDS && begins, "... from what is left on");
	end(&journal);
}

static void test_names(void)
{
	char name[SEGMENT_NAME_SIZE];
	uint64_t base;

	segment_name(name, UINT64_MAX);
	is(name, "ffffffffffffffff.journal", "the last possible name");
	ok(segment_parse(name, &base) && base == UINT64_MAX, "is read back");
	ok(!segment_parse("", &base) && !segment_parse(" 000000000000000.journal", &base) &&
	       !segment_parse("-000000000000001.journal", &base) &&
	       !segment_parse("fffffffffffffffff.journal", &base),
	   "others are none");
}

/* ---- a full disk */

static bool only_whole_segments(const struct place *place)
{
	DIR *directory = opendir(place->journal);
	struct dirent *entry;
	bool whole = true;
	uint64_t base;

	must(directory != NULL, "opendir");
	while ((entry = readdir(directory)) != NULL)
		whole &= entry->d_name[0] == '.' || segment_parse(entry->d_name, &base);
	closedir(directory);
	return whole;
}

/* Files may not become as large as a segment: as a full disk, but for the error's name. */
static int full_by_limit(void)
{
	struct journal journal;
	const struct rlimit limit = {SEGMENT / 2, RLIM_INFINITY};
	const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};

	begin(&journal);
	append(&journal, 48, 0);
	signal(SIGXFSZ, SIG_IGN);
	must(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit");
	bool refused = store_extend(journal.store) != 0 && errno == EFBIG &&
	               only_whole_segments(&journal.place) && store_space(journal.store) == SEGMENT;
	setrlimit(RLIMIT_FSIZE, &none);
	bool healed = store_extend(journal.store) == 0 && reads_whole(&journal);
	end(&journal);
	return refused && healed ? 0 : 1;
}

/* A journal of a record on a file system with OPTIONS that this process alone sees; false: no. */
static bool begin_on_mount(struct journal *journal, const char *options)
{
	memset(journal, 0, sizeof *journal);
	place_make(&journal->place);
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", journal->place.root, "tmpfs", 0, options) != 0) {
		place_remove(&journal->place);
		return false;
	}
	journal->store = open_store(&journal->place);
	must(journal->store != NULL, error);
	must(store_claim(journal->store, SEGMENT) == 0, "store_claim");
	journal->tail = store_first(journal->store);
	append(journal, 48, 0);
	return true;
}

/* On one of three segments and a bit. */
static int full_by_mount(void)
{
	struct journal journal;
	int made = 0;

	if (!begin_on_mount(&journal, "size=216k"))
		return 2;
	while (store_extend(journal.store) == 0)
		made++;
	bool refused = errno == ENOSPC && made == 2 && only_whole_segments(&journal.place) &&
	               store_space(journal.store) == 3 * SEGMENT;
	append(&journal, 48, 0); /* what was made ahead still takes records */
	must(mount("tmpfs", journal.place.root, "tmpfs", MS_REMOUNT, "size=1m") == 0, "remount");
	bool healed = store_extend(journal.store) == 0 && reads_whole(&journal);
	end(&journal);
	umount(journal.place.root);
	rmdir(journal.place.root);
	return refused && healed ? 0 : 1;
}

static bool has_blocks(const struct place *place, uint64_t base)
{
	struct stat file;

	must(stat(segment_path(place, base), &file) == 0, "the segment");
	return (uint64_t)file.st_blocks * 512 >= SEGMENT;
}

/* What a sparse copy makes of a segment with nothing in it from FROM on. */
static void punch(const struct place *place, uint64_t base, uint64_t from)
{
	int fd = open(segment_path(place, base), O_RDWR);

	must(fd >= 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
	                          (off_t)(SEGMENT - from)) == 0,
	     "fallocate");
	close(fd);
}

/* Leaves room for PAGES pages on the file system of full_by_mount. */
static void fill_to(const struct place *place, unsigned pages)
{
	char path[FIXTURE_PATH + 64];
	struct statvfs system;

	snprintf(path, sizeof path, "%s/ballast", place->root);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	must(fd >= 0 && ftruncate(fd, 0) == 0 && fstatvfs(fd, &system) == 0, "the ballast");
	must(posix_fallocate(fd, 0, (off_t)(system.f_bfree - pages) * 4096) == 0, "its blocks");
	close(fd);
}

/* Three segments; holes from the records' end on. */
static bool reserves(struct journal *journal)
{
	struct place *place = &journal->place;
	bool right;

	for (uint64_t base = 0; base < 3 * SEGMENT; base += SEGMENT)
		punch(place, base, 8192);
	fill_to(place, 0);
	right = store_reserve(journal->store, journal->tail) != 0 && errno == ENOSPC &&
	        store_space(journal->store) == 3 * SEGMENT;
	fill_to(place, 20); /* for the first, and not for another */
	right &= store_reserve(journal->store, journal->tail) == 0 && has_blocks(place, 0) &&
	         store_space(journal->store) == SEGMENT;
	append(journal, 248, 0);
	return right && reads_whole(journal);
}

/* On a file system as full_by_mount makes it. */
static int holes_by_mount(void)
{
	char path[FIXTURE_PATH + 64];
	struct journal journal;

	if (!begin_on_mount(&journal, "size=400k"))
		return 2;
	must(store_extend(journal.store) == 0 && store_extend(journal.store) == 0, "store_extend");
	bool right = reserves(&journal);
	snprintf(path, sizeof path, "%s/ballast", journal.place.root);
	unlink(path);
	right &= store_extend(journal.store) == 0;
	end(&journal);
	umount(journal.place.root);
	rmdir(journal.place.root);
	return right ? 0 : 1;
}

static int in_child(int (*function)(void))
{
	int result = -1;
	pid_t process = fork();

	must(process >= 0, "fork");
	if (process == 0)
		_exit(function());
	must(waitpid(process, &result, 0) == process, "waitpid");
	return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

static void test_full(void)
{
	cmp_ok(in_child(full_by_limit), "==", 0,
	       "a segment that cannot be made leaves nothing, and can be made later");
	int result = geteuid() == 0 ? in_child(full_by_mount) : 2;
	if (result == 2)
		skip(1, "a full disk needs root, and leave to mount");
	else
		cmp_ok(result, "==", 0, "on a full disk too");
}

static void test_holes(void)
{
	struct journal journal;

	begin_three(&journal);
	punch(&journal.place, SEGMENT, 16384);
	punch(&journal.place, 2 * SEGMENT, 4096);
	ok(!has_blocks(&journal.place, SEGMENT) && reads_whole(&journal), "a sparse copy");
	ok(store_reserve(journal.store, journal.tail) == 0 && reads_whole(&journal) &&
	       has_blocks(&journal.place, SEGMENT) && has_blocks(&journal.place, 2 * SEGMENT),
	   "... has its blocks again from its end on");
	end(&journal);
	int result = geteuid() == 0 ? in_child(holes_by_mount) : 2;
	if (result == 2)
		skip(1, "a full disk needs root, and leave to mount");
	else
		cmp_ok(result, "==", 0, "... as far as there is room, and not less than it needs");
}

/* ---- cut and settle */

static unsigned char *contents(const struct place *place, uint64_t base)
{
	static struct image_file file;

	free(file.bytes);
	snprintf(file.path, sizeof file.path, "%s", segment_path(place, base));
	file_read(&file);
	return file.bytes;
}

static void test_cut(void)
{
	struct journal journal;
	unsigned char *before = malloc(SEGMENT);
	uint64_t cut = 0;
	bool kept = true;
	bool zeroed = true;

	must(before != NULL, "malloc");
	begin_three(&journal);
	uint64_t at = journal.lsn[100];
	memcpy(before, contents(&journal.place, 0), SEGMENT);
	ok(store_cut(journal.store, at, &cut) == 0 && cut > 0, "a cut in the first segment");
	const unsigned char *after = contents(&journal.place, 0);
	kept = memcmp(before, after, (size_t)at) == 0;
	for (size_t i = (size_t)at; i < SEGMENT; i++)
		zeroed &= after[i] == 0;
	after = contents(&journal.place, SEGMENT);
	for (size_t i = SEGMENT_HEAD; i < SEGMENT; i++)
		zeroed &= after[i] == 0;
	ok(kept, "keeps what is before it");
	ok(zeroed, "and zeroes what follows, in later segments too");
	ok(store_cut(journal.store, at, &cut) == 0 && cut == 0,
	   "a second time nothing is left to do");
	journal.records = 100;
	journal.tail = at;
	reopen(&journal);
	ok(reads_whole(&journal), "the journal ends at the cut, its heads are whole");
	while (journal.tail < SEGMENT + 9000)
		append(&journal, 240, 0);
	ok(reads_whole(&journal), "and goes on from there");
	free(before);
	end(&journal);
}

static void test_settle(void)
{
	struct journal journal;

	begin_three(&journal);
	ok(store_settle(journal.store, journal.lsn[3], journal.tail) == 0 && reads_whole(&journal),
	   "settling changes nothing");
	ok(store_settle(journal.store, journal.tail, journal.tail) == 0,
	   "not even where nothing is");
	end(&journal);
}

/* Fillers carry their own position as durable mark: each proves all before it. */
static void test_torn(void)
{
	struct image_file file;
	struct journal journal;
	uint64_t witness = 0;
	uint64_t tail;

	begin_three(&journal);
	ok(store_torn(journal.store, journal.tail, &witness) == STORE_OK,
	   "nothing is torn at the end");
	uint64_t at = journal.lsn[10];
	snprintf(file.path, sizeof file.path, "%s", segment_path(&journal.place, 0));
	file_put_byte(&file, (size_t)at + 9, 0xff);
	cmp_ok((intmax_t)read_from(&journal, SEGMENT_HEAD, &tail), "==", 10,
	       "a damaged record ends it");
	ok(tail == at && store_torn(journal.store, at, &witness) == STORE_CORRUPT &&
	       witness == journal.lsn[11],
	   "the record behind it proves that this was durable");
	uint64_t cut;
	must(store_cut(journal.store, journal.lsn[11], &cut) == 0, "store_cut");
	ok(store_torn(journal.store, at, &witness) == STORE_OK,
	   "with no record behind it, it is torn");
	end(&journal);
	begin_three(&journal);
	at = journal.lsn[5];
	snprintf(file.path, sizeof file.path, "%s", segment_path(&journal.place, 0));
	file_read(&file);
	memset(file.bytes, 0, file.size);
	file_write(&file, at, SEGMENT - at);
	free(file.bytes);
	ok(store_torn(journal.store, at, &witness) == STORE_CORRUPT &&
	       witness == SEGMENT + SEGMENT_HEAD,
	   "so does one in the next segment");
	end(&journal);
}

int main(void)
{
	plan(NO_PLAN);
	test_empty();
	for (size_t left = 0; left < JOURNAL_RECORD_MIN; left += 8)
		test_rest(left, left % 16 == 0 ? 0 : left + 100);
	test_rest(8, 4);
	test_rest(16, 16 + SEGMENT_HEAD);
	test_rest(16, 16 + SEGMENT_HEAD + 24);
	test_unfilled();
	test_boundaries();
	test_no_segment();
	test_refusals();
	test_strangers();
	test_pruned();
	test_names();
	test_full();
	test_holes();
	test_cut();
	test_settle();
	test_torn();
	return done_testing();
}
