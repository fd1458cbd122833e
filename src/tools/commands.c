#include "command.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/standard.h"
#include "json_out.h"
#include "place.h"

#define LETTER_JSON   1000 /* it has only a long form, as those of a command from 256 on */
#define SYNOPSIS_SIZE 512
#define LINE_WIDTH    78

/* Those that every command has, and that may stand before it as well. */
static const struct command_option common[] = {
    {'d', "data", "DIR", "the daemon's data directory"},
    {'c', "config", "FILE", "the daemon's configuration, which names its data directory"},
    {LETTER_JSON, "json", NULL, "say it in JSON, on one line"},
    {'h', "help", NULL, "print how it is used"},
    {0},
};

static const struct {
	int status;
	const char *reason; /* with --json */
	const char *words;
} statuses[] = {
    {COMMAND_DONE, "done", "done"},
    {COMMAND_FAILED, "failed", "it failed, or what was looked at is damaged"},
    {COMMAND_USAGE, "usage", "the command line or the configuration is wrong"},
    {COMMAND_NOT_RUNNING, "not_running", "no daemon runs on the data directory"},
    {COMMAND_DENIED, "permission_denied", "the permission is missing"},
    {COMMAND_UNKNOWN, "unknown_account", "there is no such account"},
    {COMMAND_UNWELL, "unwell", "the daemon runs, but takes no updates"},
    {COMMAND_TIMED_OUT, "timed_out", "it took too long"},
};

static const char version[] = "tallyctl " PACKAGE_VERSION;

/* ---- What the commands ask ---- */

static const struct command_given *find_given(const struct session *session, int letter)
{
	for (size_t i = session->given_count; i > 0; i--)
		if (session->given[i - 1].letter == letter)
			return &session->given[i - 1];
	return NULL;
}

bool command_has(const struct session *session, int letter)
{
	return find_given(session, letter) != NULL;
}

const char *command_value(const struct session *session, int letter)
{
	const struct command_given *given = find_given(session, letter);

	return given != NULL ? given->value : NULL;
}

/* "-n", or "--until" where there is no letter. */
static const char *name_given(const struct session *session, int letter, char *text, size_t size)
{
	const struct command_option *option = session->command->options;

	while (option->letter != letter)
		option++;
	if (letter < 256)
		snprintf(text, size, "-%c", letter);
	else
		snprintf(text, size, "--%s", option->name);
	return text;
}

int command_number(const struct session *session, int letter, uint64_t min, uint64_t max,
                   uint64_t *number)
{
	const char *text = command_value(session, letter);
	char name[SYNOPSIS_SIZE];
	char *end;

	if (text == NULL)
		return COMMAND_DONE;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value < min || value > max)
		return command_misused(
		    session, "%s: \"%s\" is no such number; allowed: %" PRIu64 " to %" PRIu64,
		    name_given(session, letter, name, sizeof name), text, min, max);
	*number = value;
	return COMMAND_DONE;
}

int command_seconds(const struct session *session, int letter, double min, double max, uint64_t *us)
{
	const char *text = command_value(session, letter);
	char *end;

	if (text == NULL)
		return COMMAND_DONE;
	double value = strtod(text, &end);
	/* strtod(3) takes more than digits and a point. */
	if (*text == '\0' || text[strspn(text, "0123456789.")] != '\0' || *end != '\0' ||
	    !(value >= min && value <= max))
		return command_misused(
		    session, "-%c: \"%s\" is no such number of seconds; allowed: %g to %g", letter,
		    text, min, max);
	*us = (uint64_t)llround(value * 1e6);
	return COMMAND_DONE;
}

/* ---- How they are used ---- */

static void name_command(const struct command *command, char *text, size_t size)
{
	bool second = command->word[1] != NULL;

	snprintf(text, size, "%s%s%s", command->word[0], second ? " " : "",
	         second ? command->word[1] : "");
}

/* "[-n SECONDS]", or "[--json]" where there is no letter. */
static void name_option(const struct command_option *option, char *text, size_t size)
{
	bool value = option->value != NULL;

	if (option->letter < 256)
		snprintf(text, size, "[-%c%s%s]", option->letter, value ? " " : "",
		         value ? option->value : "");
	else
		snprintf(text, size, "[--%s%s%s]", option->name, value ? "=" : "",
		         value ? option->value : "");
}

/* "get [--holds] NAME", in lines that begin with INDENT blanks. */
static void print_synopsis(FILE *stream, const struct command *command, int indent)
{
	char text[SYNOPSIS_SIZE];
	int column = indent;

	name_command(command, text, sizeof text);
	column += fprintf(stream, "%s", text);
	for (const struct command_option *option = command->options;
	     option != NULL && option->letter != 0; option++) {
		name_option(option, text, sizeof text);
		if (column + (int)strlen(text) >= LINE_WIDTH)
			column = fprintf(stream, "\n%*s", indent + 3, "") - 1;
		column += fprintf(stream, " %s", text);
	}
	fprintf(stream, "%s%s\n", command->operands[0] != '\0' ? " " : "", command->operands);
}

static void print_options(FILE *stream, const struct command_option *option)
{
	char text[SYNOPSIS_SIZE];

	for (; option != NULL && option->letter != 0; option++) {
		int at = 0;
		if (option->letter < 256)
			at = snprintf(text, sizeof text, "-%c%s", option->letter,
			              option->name != NULL ? ", " : "");
		if (option->name != NULL)
			at += snprintf(text + at, sizeof text - (size_t)at, "--%s", option->name);
		if (option->value != NULL)
			snprintf(text + at, sizeof text - (size_t)at, " %s", option->value);
		fprintf(stream, "  %-26s %s\n", text, option->help);
	}
}

static void print_statuses(FILE *stream)
{
	fputs("exit status:\n", stream);
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
		fprintf(stream, "  %d  %s\n", statuses[i].status, statuses[i].words);
}

static void print_usage(FILE *stream, const struct command *const *table)
{
	char text[SYNOPSIS_SIZE];

	fputs("usage: tallyctl [-d DIR] [-c FILE] [--json] COMMAND [OPTION...] [OPERAND...]\n"
	      "       tallyctl help [COMMAND]\n"
	      "       tallyctl -V\n"
	      "commands:\n",
	      stream);
	for (; *table != NULL; table++) {
		name_command(*table, text, sizeof text);
		fprintf(stream, "  %-16s %s\n", text, (*table)->summary);
	}
	fprintf(stream, "  %-16s %s\n", "help", "print how a command is used");
}

static int help_command(FILE *stream, const struct command *command)
{
	fputs("usage: tallyctl ", stream);
	print_synopsis(stream, command, 16);
	fprintf(stream, "%s\n", command->summary);
	if (command->options != NULL) {
		fputs("options:\n", stream);
		print_options(stream, command->options);
	}
	fputs("options of every command:\n", stream);
	print_options(stream, common);
	print_statuses(stream);
	return COMMAND_DONE;
}

static int help_all(FILE *stream, const struct command *const *table)
{
	print_usage(stream, table);
	fputs("options of every command:\n", stream);
	print_options(stream, common);
	fputs("option instead of a command:\n", stream);
	fprintf(stream, "  %-26s %s\n", "-V", "print the version");
	print_statuses(stream);
	fputs("See tallyctl(8).\n", stream);
	return COMMAND_DONE;
}

/* ---- What they say when they fail ---- */

static const char *reason_of(int status)
{
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
		if (statuses[i].status == status)
			return statuses[i].reason;
	return "failed";
}

static int say_failure(const struct session *session, int status, const char *format,
                       va_list arguments)
{
	struct json_out out = {.stream = stdout};
	char text[COMMAND_MESSAGE_SIZE];

	vsnprintf(text, sizeof text, format, arguments);
	fflush(stdout);
	fprintf(stderr, "tallyctl: %s\n", text);
	if (!session->json)
		return status;
	json_out_open(&out, NULL, '{');
	json_out_text(&out, "status", "error");
	json_out_text(&out, "reason", reason_of(status));
	json_out_text(&out, "detail", text);
	json_out_close(&out, '}');
	json_out_end(&out);
	return status;
}

int command_fail(const struct session *session, int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say_failure(session, status, format, arguments);
	va_end(arguments);
	return status;
}

int command_misused(const struct session *session, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say_failure(session, COMMAND_USAGE, format, arguments);
	va_end(arguments);
	if (session->command != NULL) {
		fputs("usage: tallyctl ", stderr);
		print_synopsis(stderr, session->command, 16);
	}
	return COMMAND_USAGE;
}

/* ---- The command line ---- */

/* What getopt_long(3) wants to know of OPTION. */
static void describe(const struct command_option *option, char *letters, struct option *long_option)
{
	if (option->letter < 256) {
		size_t at = strlen(letters);
		letters[at] = (char)option->letter;
		strcpy(letters + at + 1, option->value != NULL ? ":" : "");
	}
	if (option->name != NULL)
		*long_option = (struct option){
		    .name = option->name, .has_arg = option->value != NULL, .val = option->letter};
}

static size_t describe_all(const struct command_option *option, char *letters,
                           struct option *long_options, size_t count)
{
	for (; option != NULL && option->letter != 0; option++) {
		describe(option, letters, &long_options[count]);
		count += option->name != NULL;
	}
	return count;
}

static int complain(const struct session *session, int letter, char **argv)
{
	const char *word = argv[optind - 1];

	if (letter == ':' && strncmp(word, "--", 2) != 0)
		return command_misused(session, "-%c: its argument is missing", optopt);
	if (letter == ':')
		return command_misused(session, "%s: its argument is missing", word);
	if (optopt != 0 && optopt < 256)
		return command_misused(session, "-%c: there is no such option", optopt);
	return command_misused(session, "%s: there is no such option, or it takes no argument",
	                       word);
}

/* What is asked for by an option without a value that every command has, or the program itself. */
struct asked {
	bool help, version, json;
};

/*
 * Reads the options of ARGV: those of the command, or, while there is none, those before it: up to
 * the first operand.  What was given goes into SESSION and *ASKED.
 */
static int read_options(struct session *session, int argc, char **argv, struct asked *asked)
{
	const struct command_option *own =
	    session->command != NULL ? session->command->options : NULL;
	/* a letter and a colon for each, '+', ':', 'V', NUL */
	char letters[2 * (COMMAND_OPTIONS_MAX + sizeof common / sizeof *common) + 8];
	struct option long_options[COMMAND_OPTIONS_MAX + sizeof common / sizeof *common + 1];
	int letter;

	strcpy(letters, session->command != NULL ? ":" : "+:V");
	size_t count = describe_all(common, letters, long_options, 0);
	count = describe_all(own, letters, long_options, count);
	long_options[count] = (struct option){0};
	optind = 0; /* glibc: start anew */
	opterr = 0;
	while ((letter = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
		if (letter == ':' || letter == '?')
			return complain(session, letter, argv);
		if (letter == 'h')
			asked->help = true;
		else if (letter == 'V')
			asked->version = true;
		else if (letter == LETTER_JSON)
			asked->json = true;
		else if (session->given_count == COMMAND_GIVEN_MAX)
			return command_misused(session, "more than %d options", COMMAND_GIVEN_MAX);
		else
			session->given[session->given_count++] =
			    (struct command_given){letter, optarg};
	}
	return COMMAND_DONE;
}

/* The command that WORD (COUNT of them) begins with; *WORDS of them name it. */
static const struct command *find(const struct command *const *table, int count, char **word,
                                  int *words)
{
	for (; *table != NULL; table++) {
		const char *second = (*table)->word[1];
		*words = second != NULL ? 2 : 1;
		if (count >= *words && strcmp(word[0], (*table)->word[0]) == 0 &&
		    (second == NULL || strcmp(word[1], second) == 0))
			return *table;
	}
	return NULL;
}

static int no_command(const struct session *session, const struct command *const *table, int count,
                      char **word)
{
	bool second = count > 1 && word[1][0] != '-';

	command_misused(session, "\"%s%s%s\" is no command", word[0], second ? " " : "",
	                second ? word[1] : "");
	print_usage(stderr, table);
	return COMMAND_USAGE;
}

static int help(const struct session *session, const struct command *const *table, int count,
                char **word)
{
	int words;

	if (count == 0)
		return help_all(stdout, table);
	const struct command *command = find(table, count, word, &words);
	if (command != NULL && words == count)
		return help_command(stdout, command);
	return no_command(session, table, count, word);
}

/* Where the data is, and the command itself. */
static int run(struct session *session, int operands, char **operand)
{
	char data[PLACE_PATH_MAX];

	if (operands < session->command->operands_min)
		return command_misused(session, "%s is missing", session->command->operands);
	if (operands > session->command->operands_max)
		return command_misused(session, "\"%s\" is one word too many",
		                       operand[session->command->operands_max]);
	session->config = command_value(session, 'c');
	int status = place_data(session, command_value(session, 'd'), data);
	if (status != COMMAND_DONE)
		return status;
	session->data = data;
	return session->command->run(session, operands, operand);
}

static int flush(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "tallyctl: standard output: %s\n", strerror(errno));
	return COMMAND_FAILED;
}

/* Is --json among WORDS, up to NULL?  Or the value of an option. */
static bool has_json(char **word)
{
	while (*word != NULL && strcmp(*word, "--json") != 0)
		word++;
	return *word != NULL;
}

static int dispatch(struct session *session, const struct command *const *table, int argc,
                    char **argv)
{
	struct asked asked = {0};
	int words;

	/* What cannot be read may stand before it: until all is read, this is how it is said. */
	session->json = has_json(argv);
	int status = read_options(session, argc, argv, &asked);
	if (status != COMMAND_DONE) {
		print_usage(stderr, table);
		return status;
	}
	if (asked.version)
		return puts(version) < 0 ? COMMAND_FAILED : COMMAND_DONE;
	argc -= optind;
	argv += optind;
	if (asked.help || (argc > 0 && strcmp(argv[0], "help") == 0))
		return help(session, table, argc - !asked.help, argv + !asked.help);
	session->command = argc > 0 ? find(table, argc, argv, &words) : NULL;
	if (session->command == NULL) {
		if (argc > 0)
			return no_command(session, table, argc, argv);
		command_misused(session, "which command?");
		print_usage(stderr, table);
		return COMMAND_USAGE;
	}
	/* The last word of its name stands where getopt skips one. */
	argc -= words - 1;
	argv += words - 1;
	status = read_options(session, argc, argv, &asked);
	if (status != COMMAND_DONE)
		return status;
	session->json = asked.json;
	if (asked.help)
		return help_command(stdout, session->command);
	return run(session, argc - optind, argv + optind);
}

int command_main(const struct command *const *table, int argc, char **argv)
{
	struct session session = {0};

	/* Before anything is opened: see there. */
	if (standard_fill() != 0)
		return command_fail(&session, COMMAND_FAILED, "/dev/null: %s", strerror(errno));
	return flush(dispatch(&session, table, argc, argv));
}
