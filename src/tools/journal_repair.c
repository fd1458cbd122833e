/*
 * tallyctl journal repair: makes of a journal that tallyd refuses one that it starts from.  What is
 * wrong and what that costs is said first; all that will be changed is copied first.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../ledger/disk.h"
#include "../ledger/snapshot_format.h"
#include "../ledger/store.h"
#include "command.h"
#include "copy.h"
#include "json_out.h"
#include "mend.h"
#include "place.h"

#define NAME_SIZE  64
#define UNFINISHED ".unfinished"
#define EVENTS     "undone.ndjson"
#define RECORDS    "undone-records.ndjson"

static const struct command_option options[] = {
    {'n', "dry-run", NULL, "only say what is wrong and what would be done"},
    {'y', "yes", NULL, "do it without asking"},
    {0},
};

struct repair {
	const struct session *session;
	struct mend mend;
	char journal[PLACE_PATH_MAX], snapshots[PLACE_PATH_MAX], lock_path[PLACE_PATH_MAX];
	char copies[PLACE_PATH_MAX]; /* where what was there is kept; "": nothing had to be */
	int lock;
	int to, to_journal, to_snapshots; /* descriptors of the copies' directories */
	uint64_t undone, lines;
};

static int fail(const struct repair *repair, const char *what)
{
	return command_fail(repair->session,
	                    errno == EACCES || errno == EPERM ? COMMAND_DENIED : COMMAND_FAILED,
	                    "%s: %s", what, strerror(errno));
}

/* --- the daemon stays away as long as this goes on --- */

static int lock(struct repair *repair)
{
	struct stat status;

	if (stat(repair->session->data, &status) != 0)
		return fail(repair, repair->session->data);
	bool rehearses = command_has(repair->session, 'n');
	repair->lock = open(repair->lock_path,
	                    O_RDWR | O_CLOEXEC | O_NOFOLLOW | (rehearses ? 0 : O_CREAT), 0600);
	/* Where there is none nobody runs, and a rehearsal makes nothing. */
	if (repair->lock < 0 && rehearses && errno == ENOENT)
		return COMMAND_DONE;
	if (repair->lock < 0)
		return fail(repair, repair->lock_path);
	/* One that is made by root must not keep the daemon out. */
	if (fchown(repair->lock, status.st_uid, status.st_gid) != 0 && errno != EPERM)
		return fail(repair, repair->lock_path);
	if (flock(repair->lock, LOCK_EX | LOCK_NB) == 0)
		return COMMAND_DONE;
	return command_fail(repair->session, COMMAND_FAILED,
	                    "%s: tallyd runs on this data directory: its journal is whole; stop it "
	                    "first",
	                    repair->session->data);
}

/* --- what it costs --- */

/* Counts what would be undone. */
static int count_undone(struct repair *repair)
{
	FILE *nowhere = fopen("/dev/null", "w");
	int result = nowhere == NULL ? -1
	                             : mend_tell(&repair->mend, nowhere, nowhere, &repair->undone,
	                                         &repair->lines);
	if (nowhere != NULL)
		fclose(nowhere);
	return result == 0 ? COMMAND_DONE : fail(repair, repair->journal);
}

static size_t segments_to_go(const struct mend *mend)
{
	size_t count = 0;

	for (size_t i = 0; i < mend->count; i++)
		count += !mend->segment[i].stays;
	return count;
}

static void say(const struct repair *repair, FILE *out)
{
	const struct mend *mend = &repair->mend;

	fprintf(out, "%s\n", mend->why);
	fprintf(out,
	        "The journal will be what is sound of it, from position %" PRIu64 " to %" PRIu64
	        ":\n"
	        "  %zu of %zu segments go%s, and %zu snapshots\n"
	        "  %" PRIu64 " operations that were accepted after that are undone\n",
	        mend->first, mend->end, segments_to_go(mend), mend->count,
	        mend->cut ? ", one is cleared from there on" : "", mend->snapshot_count,
	        repair->undone);
}

static void say_json(const struct repair *repair, const char *status)
{
	const struct mend *mend = &repair->mend;
	struct json_out out = {.stream = stdout};

	json_out_open(&out, NULL, '{');
	json_out_text(&out, "status", status);
	if (!mend->sound) {
		json_out_text(&out, "damage", mend->why);
		json_out_count(&out, "first", mend->first);
	}
	json_out_count(&out, "end", mend->end);
	json_out_count(&out, "segments_removed", segments_to_go(mend));
	json_out_count(&out, "snapshots_removed", mend->snapshot_count);
	json_out_count(&out, "undone", repair->undone);
	if (repair->copies[0] != '\0')
		json_out_text(&out, "copies", repair->copies);
	json_out_close(&out, '}');
	json_out_end(&out);
}

/* Is it meant?  Who cannot be asked must have said so. */
static int confirm(const struct repair *repair)
{
	char answer[16];

	if (command_has(repair->session, 'y'))
		return COMMAND_DONE;
	if (!isatty(STDIN_FILENO) || repair->session->json)
		return command_misused(repair->session, "it is not done without --yes");
	say(repair, stderr);
	fprintf(stderr, "Do that? (what is there is copied first) [y/N] ");
	if (fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y'))
		return COMMAND_DONE;
	return command_fail(repair->session, COMMAND_FAILED, "nothing was changed");
}

/* --- copies --- */

static int make_directory(int parent, const char *name)
{
	struct stat owner;

	if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST)
		return -1;
	int fd = disk_open(parent, name, O_RDONLY | O_DIRECTORY);
	if (fd >= 0 && fstat(parent, &owner) == 0 && fchown(fd, owner.st_uid, owner.st_gid) != 0 &&
	    errno != EPERM) {
		close(fd);
		return -1;
	}
	return fd;
}

static int copy_segments(const struct repair *repair, int from)
{
	const struct mend *mend = &repair->mend;
	char name[SEGMENT_NAME_SIZE];

	for (size_t i = 0; i < mend->count; i++) {
		const struct mend_segment *segment = &mend->segment[i];
		bool cleared = mend->cut && segment->stays && segment->whole &&
		               segment->base + segment->segment.size > mend->end;
		if (segment->stays && !cleared)
			continue;
		segment_name(name, segment->base);
		if (copy_file(from, repair->to_journal, name) != 0)
			return -1;
	}
	return disk_fsync(repair->to_journal);
}

static int copy_snapshots(const struct repair *repair)
{
	const struct mend *mend = &repair->mend;
	char name[NAME_SIZE];
	int from = disk_open(AT_FDCWD, repair->snapshots, O_RDONLY | O_DIRECTORY);
	int result = mend->snapshot_count == 0 ? 0 : from < 0 ? -1 : 0;

	for (size_t i = 0; i < mend->snapshot_count && result == 0; i++) {
		snprintf(name, sizeof name, SNAPSHOT_NAME, mend->snapshot[i]);
		result = copy_file(from, repair->to_snapshots, name);
	}
	if (from >= 0)
		close(from);
	return result == 0 ? disk_fsync(repair->to_snapshots) : result;
}

static FILE *create(const struct repair *repair, const char *name)
{
	int fd = disk_create(repair->to, name);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (fd >= 0 && file == NULL)
		close(fd);
	return file;
}

static int finish(FILE *file)
{
	int result =
	    file == NULL || fflush(file) != 0 || ferror(file) || fsync(fileno(file)) != 0 ? -1 : 0;

	if (file != NULL && fclose(file) != 0)
		result = -1;
	return result;
}

static int write_undone(struct repair *repair)
{
	FILE *events = create(repair, EVENTS), *records = create(repair, RECORDS);
	int result = events == NULL || records == NULL ? -1
	                                               : mend_tell(&repair->mend, events, records,
	                                                           &repair->undone, &repair->lines);

	result |= finish(events);
	result |= finish(records);
	return result == 0 ? disk_fsync(repair->to) : -1;
}

static int copy_all(struct repair *repair)
{
	int from = disk_open(AT_FDCWD, repair->journal, O_RDONLY | O_DIRECTORY);
	int result = -1;

	repair->to_journal = make_directory(repair->to, "journal");
	repair->to_snapshots = make_directory(repair->to, "snapshots");
	if (from >= 0 && repair->to_journal >= 0 && repair->to_snapshots >= 0 &&
	    copy_segments(repair, from) == 0 && copy_snapshots(repair) == 0)
		result = write_undone(repair);
	int cause = errno;
	if (from >= 0)
		close(from);
	if (repair->to_journal >= 0)
		close(repair->to_journal);
	if (repair->to_snapshots >= 0)
		close(repair->to_snapshots);
	errno = cause;
	return result;
}

/* One that is not there yet: a repair that was killed may have left one of the same second. */
static void name_copies(int data, char name[NAME_SIZE])
{
	char stem[NAME_SIZE - 16];
	time_t now = time(NULL);
	struct tm utc;

	gmtime_r(&now, &utc);
	strftime(stem, sizeof stem, "damaged-%Y%m%dT%H%M%SZ", &utc);
	snprintf(name, NAME_SIZE, "%s", stem);
	for (unsigned i = 2; faccessat(data, name, F_OK, 0) == 0; i++)
		snprintf(name, NAME_SIZE, "%s-%u", stem, i);
}

/* Into a directory that has its name only when all of it is there, durably. */
static int keep_copies(struct repair *repair)
{
	char name[NAME_SIZE] = "", unfinished[NAME_SIZE + sizeof UNFINISHED];
	int data = disk_open(AT_FDCWD, repair->session->data, O_RDONLY | O_DIRECTORY);

	if (data >= 0)
		name_copies(data, name);
	snprintf(unfinished, sizeof unfinished, "%s" UNFINISHED, name);
	repair->to = data < 0 ? -1 : make_directory(data, unfinished);
	int result = repair->to < 0 ? -1 : copy_all(repair);
	if (result == 0 && (renameat(data, unfinished, data, name) != 0 || disk_fsync(data) != 0))
		result = -1;
	int cause = errno;
	if (repair->to >= 0)
		close(repair->to);
	if (data >= 0)
		close(data);
	errno = cause;
	if (result != 0)
		return fail(repair, "copying what is there; nothing was changed");
	return place_below(repair->session, name, repair->copies);
}

/* --- changes: in an order in which each step leaves what can be repaired again --- */

static int remove_snapshots(const struct repair *repair)
{
	const struct mend *mend = &repair->mend;
	char name[NAME_SIZE];

	if (mend->snapshot_count == 0)
		return 0;
	int directory = disk_open(AT_FDCWD, repair->snapshots, O_RDONLY | O_DIRECTORY);
	int result = directory < 0 ? -1 : 0;
	for (size_t i = 0; i < mend->snapshot_count && result == 0; i++) {
		snprintf(name, sizeof name, SNAPSHOT_NAME, mend->snapshot[i]);
		result = unlinkat(directory, name, 0);
	}
	if (result == 0)
		result = disk_fsync(directory);
	if (directory >= 0)
		close(directory);
	return result;
}

static int remove_segments(const struct repair *repair)
{
	const struct mend *mend = &repair->mend;
	char name[SEGMENT_NAME_SIZE];
	int directory = disk_open(AT_FDCWD, repair->journal, O_RDONLY | O_DIRECTORY);
	int result = directory < 0 ? -1 : 0;

	for (size_t i = mend->count; i > 0 && result == 0; i--) {
		if (mend->segment[i - 1].stays)
			continue;
		segment_name(name, mend->segment[i - 1].base);
		result = unlinkat(directory, name, 0);
		if (result == 0)
			result = disk_fsync(directory);
	}
	if (directory >= 0)
		close(directory);
	return result;
}

static int clear(const struct repair *repair)
{
	char error[STORE_ERROR_SIZE];
	enum store_status status;
	uint64_t cleared;

	if (!repair->mend.cut)
		return 0;
	struct store *store = store_open(repair->journal, &status, error);
	if (store == NULL)
		return -1;
	int result = store_cut(store, repair->mend.end, &cleared);
	int cause = errno;
	store_close(store);
	errno = cause;
	return result;
}

static int change(struct repair *repair)
{
	struct mend after;

	if (remove_snapshots(repair) != 0 || remove_segments(repair) != 0 || clear(repair) != 0)
		return command_fail(repair->session, COMMAND_FAILED,
		                    "%s: %s; try again: what was there is in %s", repair->journal,
		                    strerror(errno), repair->copies);
	int looked = mend_look(&after, repair->journal, repair->snapshots);
	bool good = looked == 0 && after.sound;
	int status = COMMAND_DONE;
	if (!good)
		status = command_fail(repair->session, COMMAND_FAILED,
		                      "it is not good yet: %s; what was there is in %s", after.why,
		                      repair->copies);
	mend_free(&after);
	return status;
}

/* --- the command --- */

static void report(const struct repair *repair)
{
	if (repair->session->json) {
		say_json(repair, "repaired");
		return;
	}
	say(repair, stdout);
	printf("That is done.  What was there is in %s,\n"
	       "there, as lines for tallyctl import, are the changes that were undone: " EVENTS
	       " (%" PRIu64 "),\nand all that those operations said: " RECORDS "\n",
	       repair->copies, repair->lines);
}

static int mend_it(struct repair *repair)
{
	const struct session *session = repair->session;
	struct mend *mend = &repair->mend;

	if (mend->hopeless)
		return command_fail(
		    session, COMMAND_FAILED,
		    "%s; no part of the journal can be started from: restore a backup", mend->why);
	if (mend->sound) {
		if (session->json)
			say_json(repair, "sound");
		else
			printf("%s: tallyd can start from this: there is nothing to repair\n",
			       repair->journal);
		return COMMAND_DONE;
	}
	int status = count_undone(repair);
	if (status == COMMAND_DONE && command_has(session, 'n')) {
		if (session->json)
			say_json(repair, "rehearsed");
		else
			say(repair, stdout);
		return COMMAND_DONE;
	}
	if (status == COMMAND_DONE)
		status = confirm(repair);
	if (status == COMMAND_DONE)
		status = keep_copies(repair);
	if (status == COMMAND_DONE)
		status = change(repair);
	if (status == COMMAND_DONE)
		report(repair);
	return status;
}

static int run(const struct session *session, int operands, char **operand)
{
	static struct repair repair;

	(void)operands;
	(void)operand;
	repair = (struct repair){.session = session, .lock = -1, .to = -1};
	int status = place_below(session, "journal", repair.journal);
	if (status == COMMAND_DONE)
		status = place_below(session, "snapshots", repair.snapshots);
	if (status == COMMAND_DONE)
		status = place_below(session, "lock", repair.lock_path);
	if (status == COMMAND_DONE)
		status = lock(&repair);
	if (status == COMMAND_DONE) {
		if (mend_look(&repair.mend, repair.journal, repair.snapshots) != 0)
			status =
			    command_fail(session, errno == EACCES ? COMMAND_DENIED : COMMAND_FAILED,
			                 "%s", repair.mend.why);
		else
			status = mend_it(&repair);
		mend_free(&repair.mend);
	}
	if (repair.lock >= 0)
		close(repair.lock);
	return status;
}

const struct command command_journal_repair = {
    .word = {"journal", "repair"},
    .operands = "",
    .summary = "make of a damaged journal one that tallyd starts from",
    .options = options,
    .run = run,
};
