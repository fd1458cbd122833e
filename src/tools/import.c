/*
 * tallyctl import: what an export wrote, or events, into a running daemon.  All of it goes over one
 * connection in the order of the lines, so that what came before is there; every operation has an
 * id that the same line has again, so that nothing happens twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../wire/token.h"
#include "configuration.h"
#include "http/target.h"
#include "import_parts.h"
#include "place.h"

#define BATCH_MAX   (ID_MAX - 21) /* bytes of its name, before a colon and a number */
#define PATIENCE_US 30000000
#define NO_RESUME   256
#define ONCE        257

void import_give_up(struct import *import, int status, const char *detail)
{
	import->stop = true;
	if (import->status == COMMAND_DONE) {
		import->status = status;
		snprintf(import->detail, sizeof import->detail, "%s", detail);
	}
}

bool import_flow_broke(struct import *import)
{
	bool late;
	const char *error = flow_error(import->flow, &late);

	if (error[0] != '\0')
		import_give_up(import, late ? COMMAND_TIMED_OUT : COMMAND_FAILED, error);
	return true;
}

/* ---- the command */

static int find_url(const struct session *session, char *url, size_t size)
{
	const char *given = command_value(session, 'u');
	const char *file = session->config;
	char error[CONFIGURATION_ERROR_SIZE], data[PLACE_PATH_MAX];

	if (given != NULL)
		return snprintf(url, size, "%s", given) < (int)size
		           ? COMMAND_DONE
		           : command_misused(session, "-u: the URL is too long");
	if (file == NULL && access(TALLYD_CONFIG_FILE, F_OK) == 0)
		file = TALLYD_CONFIG_FILE;
	if (file != NULL && configuration_data(file, data, sizeof data, error) != 0)
		return command_fail(session, errno == EACCES ? COMMAND_DENIED : COMMAND_USAGE, "%s",
		                    error);
	if (file == NULL)
		snprintf(data, sizeof data, "%s", TALLYD_DATA_DIRECTORY);
	/* -d with the configuration of another daemon: what is meant must be said. */
	if (session->config == NULL && strcmp(data, session->data) != 0)
		return command_misused(
		    session,
		    "%s: how its daemon is reached is not known; name its URL with -u, or "
		    "its configuration with -c",
		    session->data);
	if (configuration_url(file, url, size, error) != 0)
		return command_fail(session, COMMAND_USAGE, "%s", error);
	return COMMAND_DONE;
}

static int open_input(struct import *import, const char *name)
{
	struct stat status;

	import->fd = STDIN_FILENO;
	if (name != NULL && strcmp(name, "-") != 0)
		import->fd = open(name, O_RDONLY | O_CLOEXEC);
	if (import->fd < 0 || fstat(import->fd, &status) != 0)
		return command_fail(import->session, COMMAND_FAILED, "%s: %s", name,
		                    strerror(errno));
	if (S_ISDIR(status.st_mode))
		return command_fail(import->session, COMMAND_FAILED, "%s: %s", name,
		                    strerror(EISDIR));
	tally_begin(&import->tally, S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0);
	return COMMAND_DONE;
}

/* Would what is written to the rejects be written over what is read? */
static bool is_input(const struct import *import, const struct stat *rejects)
{
	struct stat input;

	return S_ISREG(rejects->st_mode) && fstat(import->fd, &input) == 0 &&
	       input.st_dev == rejects->st_dev && input.st_ino == rejects->st_ino;
}

static int refuse_rejects(const struct import *import)
{
	return command_misused(import->session, "-r: %s is the input", import->rejects_name);
}

static int check_rejects(struct import *import)
{
	struct stat status;

	import->rejects_name = command_value(import->session, 'r');
	return import->rejects_name != NULL && stat(import->rejects_name, &status) == 0 &&
	               is_input(import, &status)
	           ? refuse_rejects(import)
	           : COMMAND_DONE;
}

/*
 * Only once the daemon is reached: a run that sends nothing leaves what an earlier one wrote.  It
 * is emptied when it is known to be another file than the input, whatever was renamed meanwhile.
 */
static int open_rejects(struct import *import)
{
	const char *name = import->rejects_name;
	struct stat status;

	if (name == NULL)
		return COMMAND_DONE;
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd >= 0 && fstat(fd, &status) == 0) {
		if (is_input(import, &status)) {
			close(fd);
			return refuse_rejects(import);
		}
		if (!S_ISREG(status.st_mode) || ftruncate(fd, 0) == 0)
			import->rejects = fdopen(fd, "w");
	}
	if (import->rejects != NULL)
		return COMMAND_DONE;
	int cause = errno;
	if (fd >= 0)
		close(fd);
	return command_fail(import->session, COMMAND_FAILED, "%s: %s", name, strerror(cause));
}

static int read_options(struct import *import, uint64_t *patience)
{
	const struct session *session = import->session;

	import->batch = command_value(session, 'b');
	import->keep_going = command_has(session, 'k');
	import->no_resume = command_has(session, NO_RESUME);
	import->once = command_has(session, ONCE);
	if (import->batch != NULL &&
	    (!json_id_valid(import->batch, strlen(import->batch)) ||
	     strlen(import->batch) > BATCH_MAX || strpbrk(import->batch, "\"\\") != NULL))
		return command_misused(session,
		                       "-b: a name of 1 to %d printable characters without space, "
		                       "quotes and backslashes",
		                       BATCH_MAX);
	return command_seconds(session, 'p', 0.1, 86400, patience);
}

/* The token to present into TOKEN, "" if there is none. */
static int read_token(const struct session *session, char token[FLOW_TOKEN_MAX + 3])
{
	const char *path = command_value(session, 't');

	token[0] = '\0';
	if (path == NULL)
		return COMMAND_DONE;
	FILE *file = fopen(path, "re");
	const char *line = file != NULL ? fgets(token, FLOW_TOKEN_MAX + 3, file) : NULL;
	int cause = errno;
	if (file != NULL)
		fclose(file);
	if (file == NULL)
		return command_fail(session, cause == EACCES ? COMMAND_DENIED : COMMAND_FAILED,
		                    "%s: %s", path, strerror(cause));
	token[strcspn(token, "\r\n")] = '\0';
	if (line == NULL || !token_text_valid(token, strlen(token)))
		return command_fail(session, COMMAND_FAILED,
		                    "%s: its first line is no token, which has 1 to %d letters, "
		                    "digits and -._~+/",
		                    path, FLOW_TOKEN_MAX);
	return COMMAND_DONE;
}

static int connect_flow(struct import *import, struct target *target, const char *url,
                        uint64_t patience)
{
	const struct flow_calls calls = {
	    .take = import_take, .tick = import_tick, .context = import};
	char error[TARGET_ERROR_SIZE];
	char token[FLOW_TOKEN_MAX + 3];
	bool usage;
	int status = read_token(import->session, token);

	if (status != COMMAND_DONE)
		return status;
	if (!target_find(target, url, FLOW_CONNECT_WAIT, &usage, error))
		return usage ? command_misused(import->session, "-u: %s", error)
		             : command_fail(import->session, COMMAND_NOT_RUNNING, "%s", error);
	import->flow = flow_open(target, token, patience, &calls);
	explicit_bzero(token, sizeof token);
	if (import->flow != NULL)
		return COMMAND_DONE;
	return command_fail(import->session, COMMAND_NOT_RUNNING, "cannot connect to %s: %s", url,
	                    strerror(errno));
}

static const char *reason_for(int status)
{
	return status == COMMAND_TIMED_OUT ? "timed_out"
	       : status == COMMAND_USAGE   ? "usage"
	                                   : "failed";
}

static int conclude(struct import *import)
{
	struct tally *tally = &import->tally;

	tally_wipe(tally);
	import_check_ids_again(import);
	bool fine = import->status == COMMAND_DONE;
	if (fine && tally->refused + tally->unknown > 0) {
		import->status = COMMAND_FAILED;
		snprintf(import->detail, sizeof import->detail,
		         "%" PRIu64 " lines were refused, of %" PRIu64 " the answer was lost",
		         tally->refused, tally->unknown);
		fine = false;
	}
	if (!fine)
		fprintf(stderr, "tallyctl: %s\n", import->detail);
	else if (!import->anything)
		fputs("tallyctl: nothing was imported: the input is empty\n", stderr);
	tally_report(tally, import->session->json, fine ? "ok" : "error",
	             reason_for(import->status), fine ? NULL : import->detail,
	             flow_reconnects(import->flow));
	return import->status;
}

static int prepare(struct import *import, const char *name)
{
	for (size_t i = 0; i <= FLOW_DEPTH; i++) {
		import->block[i] = calloc(1, sizeof *import->block[i]);
		if (import->block[i] == NULL)
			return command_fail(import->session, COMMAND_FAILED, "%s", strerror(errno));
	}
	int status = open_input(import, name);
	if (status == COMMAND_DONE)
		status = check_rejects(import);
	return status == COMMAND_DONE ? import_look_ahead(import) : status;
}

static void clean_up(struct import *import)
{
	for (size_t i = 0; i <= FLOW_DEPTH; i++)
		free(import->block[i]);
	for (size_t i = 0; i < import->deferred_count; i++)
		free(import->deferred[i].line);
	free(import->deferred);
	free(import->shunned);
	if (import->rejects != NULL)
		fclose(import->rejects);
	if (import->fd > STDIN_FILENO)
		close(import->fd);
	flow_close(import->flow);
	free(import);
}

static int run_import(const struct session *session, int operands, char **operand)
{
	struct import *import = calloc(1, sizeof *import);
	struct target target;
	char url[PLACE_PATH_MAX];
	uint64_t patience = PATIENCE_US;

	if (import == NULL)
		return command_fail(session, COMMAND_FAILED, "%s", strerror(errno));
	import->session = session;
	int status = read_options(import, &patience);
	if (status == COMMAND_DONE)
		status = find_url(session, url, sizeof url);
	if (status == COMMAND_DONE)
		status = prepare(import, operands > 0 ? operand[0] : NULL);
	if (status == COMMAND_DONE)
		status = connect_flow(import, &target, url, patience);
	if (status == COMMAND_DONE)
		status = import_check_ids(import);
	if (status == COMMAND_DONE)
		status = open_rejects(import);
	if (status == COMMAND_DONE) {
		import_take_all(import);
		status = conclude(import);
	}
	clean_up(import);
	return status;
}

static const struct command_option options[] = {
    {'u', "url", "URL", "the daemon: http://HOST:PORT or unix:/PATH"},
    {'b', "batch", "NAME", "makes ids of it and the numbers of lines without"},
    {'k', "keep-going", NULL, "pass over lines that cannot be read"},
    {'p', "patience", "SECONDS", "how long nothing may be answered; 30"},
    {'t', "token-file", "FILE", "the first line of FILE is the token to present"},
    {'r', "rejects", "FILE", "write the lines there that are refused"},
    {NO_RESUME, "no-resume", NULL, "send lines without an id, each only once"},
    {ONCE, "once", NULL, "import more lines than can be repeated"},
    {0},
};

const struct command command_import = {
    .word = {"import"},
    .operands = "[FILE]",
    .operands_min = 0,
    .operands_max = 1,
    .summary = "bring an export, or events, into the daemon",
    .options = options,
    .run = run_import,
};
