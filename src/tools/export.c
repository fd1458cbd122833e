/*
 * tallyctl export: accounts, open holds and remembered ids as lines of JSON.
 *
 * What is written is what the files say up to one position, worked out in memory of one's own
 * (src/ledger/view.h): no lock is taken, the daemon is not asked, and need not run.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../shm/holds.h"
#include "../../shm/ids.h"
#include "../../shm/region.h"
#include "../../shm/table.h"
#include "../ledger/segment.h"
#include "../ledger/view.h"
#include "../wire/reason.h"
#include "../wire/reply.h"
#include "command.h"
#include "interrupt.h"
#include "json_out.h"
#include "place.h"

#define EXPORT_LINE_MAX 2048 /* bytes of one line */
#define STREAM_BUFFER   (1 << 20)
#define TEMPORARY_NAME  ".tallyctl-export"
#define TRIES           5 /* where the journal is pruned between two looks */

enum { ONLY_ACCOUNTS = 256, ONLY_HOLDS, ONLY_IDS };

static const struct command_option options[] = {
    {'o', "output", "FILE", "write FILE, as a whole or not at all (default: standard output)"},
    {ONLY_ACCOUNTS, "accounts", NULL, "accounts (default: accounts, holds and ids)"},
    {ONLY_HOLDS, "holds", NULL, "open holds"},
    {ONLY_IDS, "ids", NULL, "ids that are remembered"},
    {0},
};

struct exporter {
	const struct session *session;
	struct view view;
	const char *journal;
	FILE *out;
	bool accounts, holds, ids; /* wanted */
	uint64_t account_count, hold_count, id_count;
	uint64_t ids_lost; /* whose record is not kept */
	char *id_lines;    /* of all ids: they are read before anything is written */
	size_t id_length;
};

/* --- lines --- */

/* OBJECT, which begins with '{', as a line of TYPE. */
static void write_object(struct exporter *exporter, const char *type, const struct text *object)
{
	fprintf(exporter->out, "{\"type\":\"%s\",", type);
	fwrite(object->bytes + 1, 1, object->length - 1, exporter->out);
	fputc('\n', exporter->out);
}

static void write_head(struct exporter *exporter)
{
	struct json_out out = {.stream = exporter->out};
	char key[24], lsn[24];

	snprintf(key, sizeof key, "%016" PRIx64, exporter->view.key);
	snprintf(lsn, sizeof lsn, "%" PRIu64, exporter->view.lsn);
	json_out_open(&out, NULL, '{');
	json_out_text(&out, "type", "export");
	json_out_count(&out, "format", 1);
	json_out_text(&out, "journal", key);
	json_out_text(&out, "lsn", lsn);
	json_out_time(&out, "time", exporter->view.time_us);
	json_out_close(&out, '}');
	json_out_end(&out);
}

static void write_end(struct exporter *exporter)
{
	struct json_out out = {.stream = exporter->out};

	json_out_open(&out, NULL, '{');
	json_out_text(&out, "type", "end");
	json_out_count(&out, "accounts", exporter->account_count);
	json_out_count(&out, "holds", exporter->hold_count);
	json_out_count(&out, "ids", exporter->id_count);
	json_out_close(&out, '}');
	json_out_end(&out);
}

/* --- accounts, by name --- */

struct named {
	uint32_t stripe;
	uint32_t length;
	const struct account_slot *slot;
	const char *name; /* in `names` */
};

static int by_name(const void *left, const void *right)
{
	const struct named *a = left, *b = right;
	uint32_t shorter = a->length < b->length ? a->length : b->length;
	int order = memcmp(a->name, b->name, shorter);

	return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

static void write_account(struct exporter *exporter, const struct named *named)
{
	const struct account_slot *slot = named->slot;
	const struct account_view view = {
	    .balance = slot->balance,
	    .held = slot->held,
	    .attributes = {.floor = slot->floor,
	                   .ceiling = slot->ceiling,
	                   .frozen = (enum frozen)slot->frozen},
	    .version = slot->version,
	    .lsn = slot->lsn,
	    .created_us = slot->created_us,
	    .updated_us = slot->updated_us,
	};
	char bytes[EXPORT_LINE_MAX];
	struct text object;

	text_init(&object, bytes, sizeof bytes);
	reply_account_object(&object, named->name, named->length, &view);
	write_object(exporter, "account", &object);
	exporter->account_count++;
}

/* Calls TAKE, if it is not NULL, with each account.  Returns how many there are. */
static size_t each_account(const struct region *region, struct named *named, char *names)
{
	uint64_t stripes = region_slots(region) / table_stripe_slots(region);
	size_t count = 0;

	for (uint32_t stripe = 0; stripe < stripes; stripe++) {
		for (uint32_t i = 0; i < table_stripe_slots(region); i++) {
			const struct account_slot *slot = table_slot(region, stripe, i);
			if (!table_is_account(slot))
				continue;
			if (named != NULL) {
				char *name = names + count * TABLE_NAME_MAX;
				named[count] = (struct named){
				    .stripe = stripe,
				    .slot = slot,
				    .name = name,
				    .length = table_name(region, stripe, slot, name)};
			}
			count++;
		}
	}
	return count;
}

/* 0, or -1 with errno. */
static int write_accounts(struct exporter *exporter)
{
	size_t count = each_account(exporter->view.region, NULL, NULL);
	struct named *named = calloc(count + 1, sizeof *named);
	char *names = malloc(count * TABLE_NAME_MAX + 1);
	bool enough = named != NULL && names != NULL;

	if (enough) {
		each_account(exporter->view.region, named, names);
		qsort(named, count, sizeof *named, by_name);
		for (size_t i = 0; i < count && !ferror(exporter->out) && !interrupted(); i++)
			write_account(exporter, &named[i]);
	}
	free(names);
	free(named);
	return enough ? 0 : -1;
}

/* --- open holds, by id --- */

static int by_id(const void *left, const void *right)
{
	const struct hold_slot *a = *(const struct hold_slot *const *)left;
	const struct hold_slot *b = *(const struct hold_slot *const *)right;
	uint8_t shorter = a->id_length < b->id_length ? a->id_length : b->id_length;
	int order = memcmp(a->id, b->id, shorter);

	return order != 0 ? order : (a->id_length > b->id_length) - (a->id_length < b->id_length);
}

static void write_hold(struct exporter *exporter, const struct hold_slot *slot)
{
	struct hold_view view = {.state = HOLD_OPEN,
	                         .amount = slot->amount,
	                         .expires_us = slot->expires_us,
	                         .placed_us = slot->placed_us,
	                         .lsn = slot->lsn,
	                         .id_length = slot->id_length,
	                         .account_length = slot->account_length};
	char bytes[EXPORT_LINE_MAX];
	struct text object;

	memcpy(view.id, slot->id, slot->id_length);
	memcpy(view.account, slot->account, slot->account_length);
	text_init(&object, bytes, sizeof bytes);
	reply_hold_object(&object, &view);
	write_object(exporter, "hold", &object);
	exporter->hold_count++;
}

static int write_holds(struct exporter *exporter)
{
	const struct region *region = exporter->view.region;
	const struct hold_slot **slots =
	    malloc((size_t)(holds_count(region) + 1) * sizeof(struct hold_slot *));
	size_t count = 0;

	if (slots == NULL)
		return -1;
	for (uint64_t i = 0; i < holds_slots(region); i++) {
		const struct hold_slot *slot = holds_slot(region, i);
		if (slot->lsn != 0 && slot->state == HOLD_SLOT_OPEN)
			slots[count++] = slot;
	}
	qsort(slots, count, sizeof *slots, by_id);
	for (size_t i = 0; i < count && !ferror(exporter->out) && !interrupted(); i++)
		write_hold(exporter, slots[i]);
	free(slots);
	return 0;
}

/* --- ids, by position: the table knows where each stands, the record knows the id --- */

static int by_number(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static void write_id(struct exporter *exporter, FILE *lines, const struct record_head *record)
{
	struct json_out out = {.stream = lines};
	const struct reason *reason = reason_of((enum outcome)record->outcome);
	struct words id = record_id(record);
	char lsn[24];

	snprintf(lsn, sizeof lsn, "%" PRIu64, record->lsn);
	json_out_open(&out, NULL, '{');
	json_out_text(&out, "type", "id");
	json_out_bytes(&out, "id", id.bytes, id.length);
	json_out_text(&out, "lsn", lsn);
	json_out_time(&out, "time", record->time_us);
	json_out_text(&out, "outcome", reason != NULL ? reason->word : "accepted");
	json_out_close(&out, '}');
	json_out_end(&out);
	exporter->id_count++;
}

/* Reads the journal from the first of the COUNT positions in LSN on, which ascend. */
static enum store_status read_ids(struct exporter *exporter, FILE *lines, const struct store *store,
                                  const uint64_t *lsn, size_t count)
{
	const struct record_head *record;
	size_t next = 0;

	while (next < count && lsn[next] < store_first(store))
		next++;
	exporter->ids_lost = next;
	if (next == count)
		return STORE_OK;
	struct store_reader *reader = store_replay(store, lsn[next]);
	enum store_status status = reader != NULL ? STORE_OK : STORE_IO;
	while (next < count && status == STORE_OK && !ferror(lines)) {
		status = store_next(reader, &record);
		if (status == STORE_OK && record->lsn == lsn[next]) {
			write_id(exporter, lines, record);
			next++;
		}
	}
	int cause = errno;
	if (reader != NULL)
		store_reader_close(reader);
	errno = cause;
	return status;
}

/* The positions of all ids, which ascend; their number in *COUNT.  NULL: no memory. */
static uint64_t *find_ids(const struct region *region, size_t *count)
{
	uint64_t *lsn = malloc((size_t)(ids_count(region) + 1) * sizeof *lsn);

	*count = 0;
	if (lsn == NULL)
		return NULL;
	for (uint64_t i = 0; i < ids_slots(region); i++)
		if (ids_slot(region, i)->lsn != 0)
			lsn[(*count)++] = ids_slot(region, i)->lsn;
	qsort(lsn, *count, sizeof *lsn, by_number);
	return lsn;
}

/* The lines of all ids into memory: their records may be pruned while they are looked for. */
static enum store_status collect_ids(struct exporter *exporter, char *error)
{
	size_t count;
	uint64_t *lsn = find_ids(exporter->view.region, &count);
	FILE *lines = open_memstream(&exporter->id_lines, &exporter->id_length);
	enum store_status status = STORE_IO;
	struct store *store =
	    lsn == NULL || lines == NULL ? NULL : store_inspect(exporter->journal, &status, error);

	exporter->id_count = 0;
	if (store != NULL) {
		status = read_ids(exporter, lines, store, lsn, count);
		store_close(store);
	}
	int cause = errno;
	if (lines != NULL && fclose(lines) != 0)
		status = STORE_IO;
	free(lsn);
	if (status != STORE_OK && error[0] == '\0')
		snprintf(error, STORE_ERROR_SIZE, "%s: %s", exporter->journal,
		         status == STORE_IO ? strerror(cause) : "a record is gone that was there");
	errno = cause;
	return status;
}

/* --- where to --- */

static int cannot_write(const struct session *session, const char *path)
{
	return command_fail(session, COMMAND_FAILED, "%s: cannot write: %s", path, strerror(errno));
}

static int write_all(struct exporter *exporter)
{
	write_head(exporter);
	if ((exporter->accounts && write_accounts(exporter) != 0) ||
	    (exporter->holds && write_holds(exporter) != 0))
		return command_fail(exporter->session, COMMAND_FAILED, "memory: %s",
		                    strerror(errno));
	if (exporter->id_length > 0)
		fwrite(exporter->id_lines, 1, exporter->id_length, exporter->out);
	if (interrupted())
		return command_fail(exporter->session, COMMAND_FAILED, "interrupted");
	write_end(exporter);
	return COMMAND_DONE;
}

static int export_to_stdout(struct exporter *exporter)
{
	exporter->out = stdout;
	setvbuf(stdout, NULL, _IOFBF, STREAM_BUFFER);
	int status = write_all(exporter);
	if (status == COMMAND_DONE && (fflush(stdout) != 0 || ferror(stdout)))
		return cannot_write(exporter->session, "standard output");
	return status;
}

/* What is no file, as /dev/null or a pipe, is written to and not replaced. */
static int export_to_special(struct exporter *exporter, const char *path)
{
	exporter->out = fopen(path, "we");
	if (exporter->out == NULL)
		return cannot_write(exporter->session, path);
	int status = write_all(exporter);
	bool bad = fflush(exporter->out) != 0 || ferror(exporter->out);
	bad |= fclose(exporter->out) != 0;
	return status == COMMAND_DONE && bad ? cannot_write(exporter->session, path) : status;
}

/*
 * Without a name, so that one that is killed leaves nothing; named TEMPORARY where the file system
 * cannot do that, or there is no /proc to name it by.
 */
static int create(int directory, const char *temporary, bool *nameless)
{
	int fd = -1;

	/* What is there was left by a process that had this number, or is a trap. */
	unlink(temporary);
	if (access("/proc/self/fd", X_OK) == 0)
		fd = openat(directory, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	*nameless = fd >= 0;
	if (fd < 0)
		fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd;
}

/* Only a rename takes the place of what is there: what has no name gets TEMPORARY for a moment. */
static int publish(int fd, bool nameless, const char *temporary, const char *path)
{
	char self[40];

	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	if (nameless && linkat(AT_FDCWD, self, AT_FDCWD, temporary, AT_SYMLINK_FOLLOW) != 0)
		return -1;
	return rename(temporary, path);
}

/* In the folder of PATH, under that name when it is whole. */
static int export_to_file(struct exporter *exporter, const char *path)
{
	char temporary[PLACE_PATH_MAX], folder[PLACE_PATH_MAX];
	int status = COMMAND_DONE;
	bool nameless;

	snprintf(folder, sizeof folder, "%s", path);
	int written = snprintf(temporary, sizeof temporary, "%s/" TEMPORARY_NAME "-%ld",
	                       dirname(folder), (long)getpid());
	snprintf(folder, sizeof folder, "%s", path);
	int directory = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0 || written >= (int)sizeof temporary) {
		if (directory >= 0)
			close(directory);
		return cannot_write(exporter->session, path);
	}
	int fd = create(directory, temporary, &nameless);
	exporter->out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (exporter->out == NULL) {
		status = cannot_write(exporter->session, path);
	} else {
		setvbuf(exporter->out, NULL, _IOFBF, STREAM_BUFFER);
		status = write_all(exporter);
		if (status == COMMAND_DONE &&
		    (fflush(exporter->out) != 0 || ferror(exporter->out) || fsync(fd) != 0 ||
		     publish(fd, nameless, temporary, path) != 0 || fsync(directory) != 0))
			status = cannot_write(exporter->session, path);
		fclose(exporter->out);
	}
	if (status != COMMAND_DONE)
		unlink(temporary);
	close(directory);
	return status;
}

static void report_json(const struct exporter *exporter, const char *path)
{
	struct json_out out = {.stream = stdout};

	json_out_open(&out, NULL, '{');
	json_out_text(&out, "status", "done");
	json_out_text(&out, "file", path);
	json_out_count(&out, "lsn", exporter->view.lsn);
	json_out_count(&out, "accounts", exporter->account_count);
	json_out_count(&out, "holds", exporter->hold_count);
	json_out_count(&out, "ids", exporter->id_count);
	json_out_count(&out, "ids_without_record", exporter->ids_lost);
	json_out_close(&out, '}');
	json_out_end(&out);
}

static int export_view(struct exporter *exporter)
{
	const char *path = command_value(exporter->session, 'o');

	if (path == NULL)
		return export_to_stdout(exporter);
	struct stat there;
	bool special = stat(path, &there) == 0 && !S_ISREG(there.st_mode);
	int status = special ? export_to_special(exporter, path) : export_to_file(exporter, path);
	if (status != COMMAND_DONE)
		return status;
	if (exporter->session->json)
		report_json(exporter, path);
	else
		printf("%s: up to position %" PRIu64 ": %" PRIu64 " accounts, %" PRIu64
		       " open holds, %" PRIu64 " ids\n",
		       path, exporter->view.lsn, exporter->account_count, exporter->hold_count,
		       exporter->id_count);
	return COMMAND_DONE;
}

/* The state at one position, and the lines of its ids.  The view is to be closed in any case. */
static enum store_status look(struct exporter *exporter, const char *snapshots, char *error)
{
	enum store_status status = STORE_IO;

	for (int i = 0; i < TRIES; i++) {
		bool running = place_daemon(exporter->session->data) != 0;
		error[0] = '\0';
		view_close(&exporter->view);
		free(exporter->id_lines);
		exporter->id_lines = NULL;
		exporter->id_length = 0;
		status = view_open(&exporter->view, exporter->journal, snapshots, running,
		                   exporter->ids, error);
		if (status != STORE_OK || !exporter->ids)
			return status;
		status = collect_ids(exporter, error);
		if (status == STORE_OK || !running)
			return status;
	}
	return status;
}

static int run(const struct session *session, int operands, char **operand)
{
	struct exporter exporter = {.session = session};
	char error[STORE_ERROR_SIZE] = "";
	char journal[PLACE_PATH_MAX], snapshots[PLACE_PATH_MAX];

	(void)operands;
	(void)operand;
	exporter.accounts = command_has(session, ONLY_ACCOUNTS);
	exporter.holds = command_has(session, ONLY_HOLDS);
	exporter.ids = command_has(session, ONLY_IDS);
	if (!exporter.accounts && !exporter.holds && !exporter.ids)
		exporter.accounts = exporter.holds = exporter.ids = true;
	int status = place_below(session, "journal", journal);
	if (status == COMMAND_DONE)
		status = place_below(session, "snapshots", snapshots);
	if (status != COMMAND_DONE)
		return status;
	exporter.journal = journal;
	if (look(&exporter, snapshots, error) != STORE_OK)
		status = command_fail(session, errno == EACCES ? COMMAND_DENIED : COMMAND_FAILED,
		                      "%s", error);
	else {
		/* Until here there is only memory, and whoever wants an end has it at once. */
		interrupt_catch();
		status = export_view(&exporter);
	}
	view_close(&exporter.view);
	free(exporter.id_lines);
	return status;
}

const struct command command_export = {
    .word = {"export"},
    .operands = "",
    .summary = "write accounts, holds and ids as lines of JSON",
    .options = options,
    .run = run,
};
