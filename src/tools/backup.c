/*
 * tallyctl backup: a data directory that is this one as it is at one moment, also while the daemon
 * runs.  It is made under another name, tried, and then given its own: what has the name is good.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/clock.h"
#include "../ledger/view.h"
#include "command.h"
#include "copy.h"
#include "interrupt.h"
#include "json_out.h"
#include "mend.h"
#include "place.h"
#include "words.h"

#define UNFINISHED    ".unfinished"
#define REDRAWN_EVERY 100000 /* microseconds */

struct backup {
	const struct session *session;
	const char *name;                /* the directory that is asked for */
	char unfinished[PLACE_PATH_MAX]; /* where it is made */
	int lock;                        /* of that, locked */
	bool terminal;
	uint64_t redrawn_us;
	struct copy copy;
};

static bool go_on(void *context, uint64_t done, uint64_t all)
{
	struct backup *backup = context;
	uint64_t now = clock_monotonic_us();
	char part[WORDS_SIZE], whole[WORDS_SIZE];

	if (backup->terminal && now - backup->redrawn_us > REDRAWN_EVERY) {
		fprintf(stderr, "\r\033[K%s of %s, %.0f %%", words_bytes(done, part),
		        words_bytes(all, whole), all > 0 ? 100.0 * (double)done / (double)all : 0);
		backup->redrawn_us = now;
	}
	return !interrupted();
}

static int fail(const struct backup *backup, const char *what)
{
	return command_fail(backup->session, errno == EACCES ? COMMAND_DENIED : COMMAND_FAILED,
	                    "%s: %s", what, strerror(errno));
}

static bool is_empty(DIR *listing)
{
	struct dirent *entry;

	while ((entry = readdir(listing)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return false;
	return true;
}

/*
 * Only what is not there, or is an empty directory, becomes a backup.  The latter is replaced by
 * the finished one: rename(2) does that, and refuses one that is no longer empty.
 */
static int check_name(const struct backup *backup)
{
	DIR *listing = opendir(backup->name);

	if (listing == NULL && errno != ENOTDIR)
		return errno == ENOENT ? COMMAND_DONE : fail(backup, backup->name);
	bool empty = listing != NULL && is_empty(listing);
	if (listing != NULL)
		closedir(listing);
	if (empty)
		return COMMAND_DONE;
	return command_fail(backup->session, COMMAND_FAILED,
	                    "%s: is there already: a backup is a new directory, or an empty one",
	                    backup->name);
}

static int name_unfinished(struct backup *backup)
{
	size_t length = strlen(backup->name);

	while (length > 1 && backup->name[length - 1] == '/')
		length--;
	int written = snprintf(backup->unfinished, sizeof backup->unfinished, "%.*s" UNFINISHED,
	                       (int)length, backup->name);
	if (written < (int)sizeof backup->unfinished)
		return COMMAND_DONE;
	errno = ENAMETOOLONG;
	return fail(backup, backup->name);
}

/* Is that what a backup leaves?  A data directory that a daemon ran on, or the source, is not. */
static bool is_leftover(const struct backup *backup)
{
	struct stat here, source;
	int fd = dup(backup->lock);
	DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;
	bool leftover = listing != NULL && fstat(backup->lock, &here) == 0 &&
	                (stat(backup->session->data, &source) != 0 ||
	                 here.st_dev != source.st_dev || here.st_ino != source.st_ino);
	struct dirent *entry;

	while (leftover && (entry = readdir(listing)) != NULL)
		leftover = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		           strcmp(entry->d_name, "journal") == 0 ||
		           strcmp(entry->d_name, "snapshots") == 0;
	if (listing != NULL)
		closedir(listing);
	else if (fd >= 0)
		close(fd);
	return leftover;
}

/* What an earlier one left that was killed is removed; one that is at work is not disturbed. */
static int begin(struct backup *backup)
{
	for (int i = 0; i < 2; i++) {
		if (mkdir(backup->unfinished, 0700) != 0 && errno != EEXIST)
			return fail(backup, backup->unfinished);
		backup->lock =
		    open(backup->unfinished, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (backup->lock < 0)
			return fail(backup, backup->unfinished);
		if (flock(backup->lock, LOCK_EX | LOCK_NB) != 0) {
			close(backup->lock);
			return command_fail(backup->session, COMMAND_FAILED,
			                    "%s: another backup is being made there",
			                    backup->unfinished);
		}
		if (i == 1)
			break;
		if (!is_leftover(backup)) {
			close(backup->lock);
			return command_fail(backup->session, COMMAND_FAILED,
			                    "%s: is not what a backup left, and is in the way",
			                    backup->unfinished);
		}
		/* Its lock goes with it: once more. */
		if (copy_remove(backup->unfinished) != 0) {
			int status = fail(backup, backup->unfinished);
			close(backup->lock);
			return status;
		}
		close(backup->lock);
	}
	return COMMAND_DONE;
}

static void give_to_owner(const struct backup *backup)
{
	struct stat owner;

	/* Who may not give it away keeps it. */
	if (stat(backup->session->data, &owner) == 0 &&
	    fchown(backup->lock, owner.st_uid, owner.st_gid) != 0)
		return;
}

static int copy(struct backup *backup)
{
	if (copy_data(&backup->copy, backup->session->data, backup->unfinished) == 0)
		return COMMAND_DONE;
	if (backup->terminal)
		fprintf(stderr, "\r\033[K");
	return command_fail(backup->session, errno == EACCES ? COMMAND_DENIED : COMMAND_FAILED,
	                    "%s; no backup was made", backup->copy.error);
}

/* What cannot be started from is no backup: all of it is read as a start reads it. */
static int try_it(const struct backup *backup)
{
	char journal[PLACE_PATH_MAX + 16], snapshots[PLACE_PATH_MAX + 16];
	char error[STORE_ERROR_SIZE] = "";
	struct view view;

	snprintf(journal, sizeof journal, "%s/journal", backup->unfinished);
	snprintf(snapshots, sizeof snapshots, "%s/snapshots", backup->unfinished);
	if (view_open(&view, journal, snapshots, false, false, error) != STORE_OK)
		return command_fail(backup->session, COMMAND_FAILED, "%s; no backup was made",
		                    error);
	uint64_t lsn = view.lsn;
	view_close(&view);
	/* Also the seals, which the view passes over and a start does not. */
	struct mend mend;
	bool good = mend_look(&mend, journal, snapshots) == 0 && (mend.count == 0 || mend.sound);
	int status = good ? COMMAND_DONE
	                  : command_fail(backup->session, COMMAND_FAILED, "%s; no backup was made",
	                                 mend.why);
	mend_free(&mend);
	if (status != COMMAND_DONE)
		return status;
	if (lsn == backup->copy.end)
		return COMMAND_DONE;
	return command_fail(backup->session, COMMAND_FAILED,
	                    "%s: the copy ends at position %" PRIu64 ", not at %" PRIu64
	                    "; no backup was made",
	                    backup->unfinished, lsn, backup->copy.end);
}

static int publish(const struct backup *backup)
{
	char folder[PLACE_PATH_MAX];

	snprintf(folder, sizeof folder, "%s", backup->unfinished);
	int directory = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int status = COMMAND_DONE;
	if (directory < 0 || rename(backup->unfinished, backup->name) != 0 || fsync(directory) != 0)
		status = fail(backup, backup->name);
	if (directory >= 0)
		close(directory);
	return status;
}

static void report(const struct backup *backup)
{
	struct json_out out = {.stream = stdout};
	char bytes[WORDS_SIZE];

	if (!backup->session->json) {
		printf("%s: up to position %" PRIu64 ": %s in %" PRIu64 " segments\n", backup->name,
		       backup->copy.end, words_bytes(backup->copy.bytes, bytes),
		       backup->copy.segments);
		return;
	}
	json_out_open(&out, NULL, '{');
	json_out_text(&out, "status", "done");
	json_out_text(&out, "directory", backup->name);
	json_out_count(&out, "lsn", backup->copy.end);
	json_out_count(&out, "bytes", backup->copy.bytes);
	json_out_count(&out, "segments", backup->copy.segments);
	json_out_close(&out, '}');
	json_out_end(&out);
}

static int make(struct backup *backup)
{
	give_to_owner(backup);
	int status = copy(backup);
	if (status == COMMAND_DONE && backup->terminal)
		fprintf(stderr, "\r\033[Ktrying the backup");
	if (status == COMMAND_DONE)
		status = try_it(backup);
	if (backup->terminal)
		fprintf(stderr, "\r\033[K");
	if (status == COMMAND_DONE && interrupted())
		status = command_fail(backup->session, COMMAND_FAILED,
		                      "interrupted; no backup was made");
	if (status == COMMAND_DONE)
		status = publish(backup);
	if (status != COMMAND_DONE)
		copy_remove(backup->unfinished);
	close(backup->lock);
	return status;
}

static int run(const struct session *session, int operands, char **operand)
{
	struct backup backup = {.session = session,
	                        .name = operand[0],
	                        .terminal = isatty(STDERR_FILENO),
	                        .copy = {.go_on = go_on}};

	(void)operands;
	backup.copy.context = &backup;
	backup.copy.running = place_daemon(session->data) != 0;
	interrupt_catch();
	int status = check_name(&backup);
	if (status == COMMAND_DONE)
		status = name_unfinished(&backup);
	if (status == COMMAND_DONE)
		status = begin(&backup);
	if (status == COMMAND_DONE)
		status = make(&backup);
	if (status == COMMAND_DONE)
		report(&backup);
	return status;
}

const struct command command_backup = {
    .word = {"backup"},
    .operands = "DIR",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "copy the data directory as it is at one moment, while the daemon runs, too",
    .run = run,
};
