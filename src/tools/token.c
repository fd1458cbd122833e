/*
 * tallyctl token add, list, remove: the file of tokens (auth_file).  A token itself is shown once,
 * when it is made; kept is its SHA-256.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/random.h>

#include "../base/clock.h"
#include "../wire/json.h"
#include "../wire/moment.h"
#include "command.h"
#include "configuration.h"
#include "json_out.h"
#include "place.h"
#include "token_file.h"
#include "words.h"

#define SECRET_SIZE    32 /* random bytes of a token */
#define SECRET_PREFIX  "tally_"
#define SECRET_LENGTH  (sizeof(SECRET_PREFIX) - 1 + (SECRET_SIZE * 4 + 2) / 3)
#define DAY_US         UINT64_C(86400000000)
#define DAYS_MAX       36500
#define SCOPES_DEFAULT "read,write"
#define SCOPES_SIZE    32

#define RELOAD "tallyd knows it after a reload: tallyd -s reload"

enum { LETTER_OLDER = 256, LETTER_PRINT };

static const struct command_option add_options[] = {
    {'f', "file", "FILE", "the file of tokens (default: auth_file of the configuration)"},
    {'s', "scopes", "LIST", "read, write, admin, with commas (default: read,write)"},
    {'p', "prefix", "PREFIX", "only for accounts whose names begin so"},
    {'e', "expires", "WHEN", "a time as 2027-01-31T12:00:00Z, or days from now as 90d"},
    {LETTER_PRINT, "print", NULL, "change no file: print the line for it, too"},
    {0},
};

static const struct command_option list_options[] = {
    {'f', "file", "FILE", "the file of tokens (default: auth_file of the configuration)"},
    {0},
};

static const struct command_option remove_options[] = {
    {'f', "file", "FILE", "the file of tokens (default: auth_file of the configuration)"},
    {LETTER_OLDER, "older", NULL, "of two tokens of the name only the one that was added first"},
    {0},
};

#define LINKS_MAX 40 /* as the kernel's, path_resolution(7) */

/* A link stays: what it leads to is changed, or made. */
static void follow(char *path)
{
	char target[PLACE_PATH_MAX];

	for (unsigned links = 0; links < LINKS_MAX; links++) {
		ssize_t length = readlink(path, target, sizeof target);
		const char *slash = strrchr(path, '/');
		size_t kept = slash == NULL || target[0] == '/' ? 0 : (size_t)(slash - path) + 1;
		/* No link, or one that leads too far: it is replaced then. */
		if (length <= 0 || kept + (size_t)length >= PLACE_PATH_MAX)
			return;
		memcpy(path + kept, target, (size_t)length);
		path[kept + (size_t)length] = '\0';
	}
}

/* The path of the file into PATH (PLACE_PATH_MAX bytes). */
static int find_file(const struct session *session, char *path)
{
	char error[CONFIGURATION_ERROR_SIZE];
	const char *given = command_value(session, 'f');
	const char *configuration = place_configuration(session);

	path[0] = '\0';
	if (given != NULL) {
		if ((size_t)snprintf(path, PLACE_PATH_MAX, "%s", given) >= PLACE_PATH_MAX)
			return command_misused(session, "the path of the file is too long");
	} else if (configuration != NULL &&
	           configuration_auth_file(configuration, path, PLACE_PATH_MAX, error) != 0) {
		return command_fail(session, errno == EACCES ? COMMAND_DENIED : COMMAND_USAGE, "%s",
		                    error);
	}
	if (path[0] == '\0')
		return command_fail(
		    session, COMMAND_USAGE,
		    "the configuration names no auth_file; name the file with -f FILE");
	follow(path);
	return COMMAND_DONE;
}

/* ---- add ---- */

static int read_expiry(const struct session *session, const char *text, uint64_t *us)
{
	uint64_t now = clock_real_us();
	char *end;

	errno = 0;
	unsigned long days = strtoul(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && strcmp(end, "d") == 0) {
		if (errno != 0 || days == 0 || days > DAYS_MAX)
			return command_misused(session, "-e: from 1d to %dd", DAYS_MAX);
		/* Whole seconds are easier to read. */
		*us = (now / 1000000 * 1000000) + days * DAY_US;
		return COMMAND_DONE;
	}
	if (!moment_read(text, strlen(text), us))
		return command_misused(session,
		                       "-e: \"%s\" is neither a time as 2027-01-31T12:00:00Z nor "
		                       "days as 90d",
		                       text);
	if (*us <= now)
		return command_misused(session, "-e: %s is over already", text);
	return COMMAND_DONE;
}

/* What is asked for, but for the token itself. */
static int read_token(const struct session *session, const char *name, struct token *token)
{
	const char *scopes = command_value(session, 's');
	const char *prefix = command_value(session, 'p');
	const char *expires = command_value(session, 'e');

	*token = (struct token){0};
	if (!token_name_valid(name, strlen(name)))
		return command_misused(
		    session, "a token's name is 1 to %d letters, digits, '.', '_' and '-'",
		    TOKEN_NAME_MAX);
	memcpy(token->name, name, strlen(name));
	if (scopes == NULL)
		scopes = SCOPES_DEFAULT;
	if (!token_scopes_read(scopes, strlen(scopes), &token->scopes))
		return command_misused(
		    session, "-s: \"%s\": read, write and admin, with commas between them", scopes);
	if (prefix != NULL && !json_account_name_valid(prefix, strlen(prefix)))
		return command_misused(session, "-p: it is 1 to 100 bytes of a name's beginning");
	if (prefix != NULL) {
		token->prefix_length = (uint8_t)strlen(prefix);
		memcpy(token->prefix, prefix, token->prefix_length);
	}
	return expires == NULL ? COMMAND_DONE : read_expiry(session, expires, &token->expires_us);
}

/* base64url without padding (RFC 4648 5). */
static size_t encode(char *text, const unsigned char *bytes, size_t length)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t group = 0;
	size_t written = 0;
	unsigned bits = 0;

	for (size_t i = 0; i < length; i++) {
		group = group << 8 | bytes[i];
		for (bits += 8; bits >= 6; bits -= 6)
			text[written++] = digits[group >> (bits - 6) & 63];
	}
	if (bits > 0)
		text[written++] = digits[group << (6 - bits) & 63];
	return written;
}

/* Makes the token itself, as a string, and its digest. */
static int make_secret(const struct session *session, char secret[SECRET_LENGTH + 1],
                       struct token *token)
{
	unsigned char bytes[SECRET_SIZE];
	size_t front = sizeof(SECRET_PREFIX) - 1;

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		return command_fail(session, COMMAND_FAILED, "no random bytes: %s",
		                    strerror(errno));
	memcpy(secret, SECRET_PREFIX, front);
	secret[front + encode(secret + front, bytes, sizeof bytes)] = '\0';
	explicit_bzero(bytes, sizeof bytes);
	token_digest(secret, strlen(secret), token->digest);
	return COMMAND_DONE;
}

static unsigned count_name(const struct tokens *tokens, const char *name)
{
	unsigned count = 0;

	for (size_t i = 0; i < tokens->count; i++)
		count += strcmp(tokens->token[i].name, name) == 0;
	return count;
}

/* Appends LINE, which is TOKEN's, to what FILE is to be. */
static int append(const struct session *session, struct token_file *file, const struct token *token,
                  const struct text *line)
{
	if (count_name(&file->tokens, token->name) == TOKENS_OF_NAME)
		return command_fail(session, COMMAND_FAILED,
		                    "%s: there are two tokens called %s; first remove the older: "
		                    "tallyctl token remove --older %s",
		                    file->path, token->name, token->name);
	if (file->tokens.count == TOKENS_MAX || file->length + line->length + 1 > TOKEN_FILE_MAX)
		return command_fail(session, COMMAND_FAILED, "%s: it is full: %d tokens",
		                    file->path, TOKENS_MAX);
	if (file->length > 0 && file->text[file->length - 1] != '\n')
		file->text[file->length++] = '\n';
	memcpy(file->text + file->length, line->bytes, line->length);
	file->length += line->length;
	return COMMAND_DONE;
}

/* A token that nobody gets must not be one: it is out before the file has it. */
static int print_token(const struct session *session, const char *path, const char *secret,
                       const struct token *token, const struct text *line)
{
	struct json_out out = {.stream = stdout};

	if (session->json) {
		json_out_open(&out, NULL, '{');
		json_out_text(&out, "status", path != NULL ? "done" : "printed");
		json_out_text(&out, "name", token->name);
		json_out_text(&out, "token", secret);
		json_out_bytes(&out, "line", line->bytes, line->length - 1);
		if (path != NULL)
			json_out_text(&out, "file", path);
		json_out_close(&out, '}');
		json_out_end(&out);
	} else {
		printf("%s\n", secret);
		if (path == NULL)
			printf("%.*s", (int)line->length, line->bytes);
	}
	if (fflush(stdout) == 0 && !ferror(stdout))
		return COMMAND_DONE;
	return command_fail(session, COMMAND_FAILED,
	                    "standard output: cannot write: %s; no token was added",
	                    strerror(errno));
}

/* Prints TOKEN, and adds it to the file PATH. */
static int add_to(const struct session *session, const char *path, const char *secret,
                  const struct token *token, const struct text *line)
{
	struct token_file *file = malloc(sizeof *file);
	int status = file == NULL ? command_fail(session, COMMAND_FAILED, "out of memory")
	                          : token_file_open(session, file, path, true);

	if (status != COMMAND_DONE) {
		free(file);
		return status;
	}
	file->in_vain = "; the token that was printed is void";
	status = append(session, file, token, line);
	if (status == COMMAND_DONE)
		status = print_token(session, path, secret, token, line);
	if (status == COMMAND_DONE)
		status = token_file_write(session, file);
	token_file_close(file);
	free(file);
	if (status == COMMAND_DONE && !session->json)
		fprintf(stderr,
		        "%s: %s was added; keep the token, it cannot be shown again; " RELOAD "\n",
		        path, token->name);
	return status;
}

static int add(const struct session *session, int operands, char **operand)
{
	char path[PLACE_PATH_MAX], secret[SECRET_LENGTH + 1], bytes[TOKEN_LINE_MAX];
	bool prints = command_has(session, LETTER_PRINT);
	struct token token;
	struct text line;
	int status = read_token(session, operand[0], &token);

	(void)operands;
	if (status == COMMAND_DONE && !prints)
		status = find_file(session, path);
	if (status == COMMAND_DONE)
		status = make_secret(session, secret, &token);
	if (status != COMMAND_DONE)
		return status;
	text_init(&line, bytes, sizeof bytes);
	token_write(&line, &token);
	status = prints ? print_token(session, NULL, secret, &token, &line)
	                : add_to(session, path, secret, &token, &line);
	explicit_bzero(secret, sizeof secret);
	return status;
}

/* ---- list ---- */

static const char *scopes_text(const struct token *token, char text[SCOPES_SIZE])
{
	text[0] = '\0';
	for (unsigned i = 0; i < TOKEN_SCOPES; i++) {
		if (!(token->scopes & (1u << i)))
			continue;
		if (text[0] != '\0')
			strcat(text, ",");
		strcat(text, token_scope_name(i));
	}
	return text;
}

static void list_json(const struct tokens *tokens)
{
	struct json_out out = {.stream = stdout};
	char scopes[SCOPES_SIZE];

	json_out_open(&out, NULL, '[');
	for (size_t i = 0; i < tokens->count; i++) {
		const struct token *token = &tokens->token[i];
		json_out_open(&out, NULL, '{');
		json_out_text(&out, "name", token->name);
		json_out_text(&out, "scopes", scopes_text(token, scopes));
		json_out_bytes(&out, "prefix", token->prefix, token->prefix_length);
		json_out_time(&out, "expires", token->expires_us);
		json_out_flag(&out, "over", token_is_over(token, clock_real_us()));
		json_out_close(&out, '}');
	}
	json_out_close(&out, ']');
	json_out_end(&out);
}

static void list_lines(const struct tokens *tokens)
{
	char scopes[SCOPES_SIZE], when[WORDS_TIME_SIZE];

	for (size_t i = 0; i < tokens->count; i++) {
		const struct token *token = &tokens->token[i];
		printf("%-20s %-16s", token->name, scopes_text(token, scopes));
		if (token->prefix_length > 0)
			printf(" accounts %.*s...", (int)token->prefix_length, token->prefix);
		if (token->expires_us != 0)
			printf(" %s %s",
			       token_is_over(token, clock_real_us()) ? "over since" : "until",
			       words_time(token->expires_us, when));
		putchar('\n');
	}
}

static int list(const struct session *session, int operands, char **operand)
{
	char path[PLACE_PATH_MAX];
	int status = find_file(session, path);
	struct token_file *file = malloc(sizeof *file);

	(void)operands;
	(void)operand;
	if (status == COMMAND_DONE)
		status = file == NULL ? command_fail(session, COMMAND_FAILED, "out of memory")
		                      : token_file_open(session, file, path, false);
	if (status == COMMAND_DONE) {
		if (session->json)
			list_json(&file->tokens);
		else
			list_lines(&file->tokens);
		token_file_close(file);
	}
	free(file);
	return status;
}

/* ---- remove ---- */

/* Is the line TEXT[0..LENGTH) one of NAME? */
static bool is_of(const char *text, size_t length, const char *name)
{
	size_t at = 0, wanted = strlen(name);

	while (at < length && (text[at] == ' ' || text[at] == '\t'))
		at++;
	return length - at > wanted && memcmp(text + at, name, wanted) == 0 &&
	       (text[at + wanted] == ' ' || text[at + wanted] == '\t');
}

/* Takes the lines of NAME out of FILE, or only the first of them.  Their number. */
static unsigned take_out(struct token_file *file, const char *name, bool only_first)
{
	unsigned count = 0;
	size_t kept = 0;

	for (size_t at = 0, next; at < file->length; at = next) {
		const char *feed = memchr(file->text + at, '\n', file->length - at);
		next = feed != NULL ? (size_t)(feed - file->text) + 1 : file->length;
		if (is_of(file->text + at, next - at, name) && !(only_first && count > 0)) {
			count++;
			continue;
		}
		memmove(file->text + kept, file->text + at, next - at);
		kept += next - at;
	}
	file->length = kept;
	return count;
}

static int remove_from(const struct session *session, struct token_file *file, const char *name,
                       unsigned *count)
{
	bool older = command_has(session, LETTER_OLDER);

	if (older && count_name(&file->tokens, name) == 1)
		return command_fail(session, COMMAND_FAILED,
		                    "%s: there is only one token called %s", file->path, name);
	*count = take_out(file, name, older);
	if (*count == 0)
		return command_fail(session, COMMAND_FAILED, "%s: there is no token called %s",
		                    file->path, name);
	return token_file_write(session, file);
}

static void tell_removed(const struct session *session, const char *path, const char *name,
                         unsigned count)
{
	struct json_out out = {.stream = stdout};

	if (!session->json) {
		printf("%s: %u of %s removed; " RELOAD "\n", path, count, name);
		return;
	}
	json_out_open(&out, NULL, '{');
	json_out_text(&out, "status", "done");
	json_out_text(&out, "name", name);
	json_out_count(&out, "removed", count);
	json_out_text(&out, "file", path);
	json_out_close(&out, '}');
	json_out_end(&out);
}

static int remove_token(const struct session *session, int operands, char **operand)
{
	char path[PLACE_PATH_MAX];
	unsigned count = 0;
	int status = find_file(session, path);
	struct token_file *file = malloc(sizeof *file);

	(void)operands;
	if (status == COMMAND_DONE)
		status = file == NULL ? command_fail(session, COMMAND_FAILED, "out of memory")
		                      : token_file_open(session, file, path, false);
	if (status == COMMAND_DONE) {
		status = remove_from(session, file, operand[0], &count);
		token_file_close(file);
	}
	free(file);
	if (status == COMMAND_DONE)
		tell_removed(session, path, operand[0], count);
	return status;
}

const struct command command_token_add = {
    .word = {"token", "add"},
    .operands = "NAME",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "make a token, and print it",
    .options = add_options,
    .run = add,
};

const struct command command_token_list = {
    .word = {"token", "list"},
    .operands = "",
    .summary = "list the tokens that there are",
    .options = list_options,
    .run = list,
};

const struct command command_token_remove = {
    .word = {"token", "remove"},
    .operands = "NAME",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "remove the tokens of a name",
    .options = remove_options,
    .run = remove_token,
};
