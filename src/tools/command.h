/*
 * The commands of tallyctl.  Each is a struct of its own, named in the table of tallyctl.c: what it
 * is called, what it takes, what it does.  Options are read, and helped with, by commands.c.
 */
#ifndef TALLYD_TOOLS_COMMAND_H
#define TALLYD_TOOLS_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses: man/tallyctl.8 has each of them. */
#define COMMAND_DONE        0
#define COMMAND_FAILED      1
#define COMMAND_USAGE       2
#define COMMAND_NOT_RUNNING 3 /* no daemon runs on the data directory */
#define COMMAND_DENIED      4 /* the permission to look is missing */
#define COMMAND_UNKNOWN     5 /* there is no such account */
#define COMMAND_UNWELL      6 /* the daemon runs, but takes no updates */
#define COMMAND_TIMED_OUT   7

#define COMMAND_WORDS_MAX    2    /* words that name a command */
#define COMMAND_OPTIONS_MAX  16   /* of one command, the common ones not counted */
#define COMMAND_GIVEN_MAX    32   /* options on one command line */
#define COMMAND_MESSAGE_SIZE 4096 /* bytes of a message; more is cut */

/* One option of a command.  Those that every command has are not listed: see commands.c. */
struct command_option {
	int letter;        /* one that no common option has; from 256 on: it has only its NAME */
	const char *name;  /* of the long form, without dashes; NULL: none */
	const char *value; /* what its argument is called; NULL: it has none */
	const char *help;  /* in a line */
};

/* One option as it was given. */
struct command_given {
	int letter;
	const char *value; /* borrowed from the command line; NULL: it takes none */
};

/* What a command is told. */
struct session {
	const struct command *command;
	const char *data;   /* the data directory */
	const char *config; /* -c, or NULL */
	bool json;          /* what is said on standard output is JSON */
	size_t given_count;
	struct command_given given[COMMAND_GIVEN_MAX];
};

/* Speaks on standard output and standard error.  Returns the exit status. */
typedef int command_run(const struct session *session, int operands, char **operand);

struct command {
	const char *word[COMMAND_WORDS_MAX]; /* the second may be NULL */
	const char *operands;                /* as the usage shows them: "NAME"; "": none */
	int operands_min;
	int operands_max;
	const char *summary;                  /* what it does, in a line */
	const struct command_option *options; /* up to one without a letter; NULL: none */
	command_run *run;
};

extern const struct command command_backup;
extern const struct command command_export;
extern const struct command command_get;
extern const struct command command_import;
extern const struct command command_journal_cat;
extern const struct command command_journal_check;
extern const struct command command_journal_prune;
extern const struct command command_journal_repair;
extern const struct command command_snapshot;
extern const struct command command_status;
extern const struct command command_token_add;
extern const struct command command_token_list;
extern const struct command command_token_remove;
extern const struct command command_top;

/* Was the option LETTER given, and with which value?  NULL: no.  The last one counts. */
bool command_has(const struct session *session, int letter);
const char *command_value(const struct session *session, int letter);

/*
 * The value of option LETTER as a whole number from MIN to MAX in *NUMBER, which stays as it is
 * where the option was not given.  0; or COMMAND_USAGE, said.
 */
int command_number(const struct session *session, int letter, uint64_t min, uint64_t max,
                   uint64_t *number);

/* The same of seconds, perhaps with a point and digits, in microseconds. */
int command_seconds(const struct session *session, int letter, double min, double max,
                    uint64_t *us);

/*
 * Says on standard error why the command ends with STATUS; with --json on standard output, too, as
 * {"status":"error","reason":...,"detail":...}.  Returns STATUS.
 */
int command_fail(const struct session *session, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The command line was not understood: says why, and how the command is used.  COMMAND_USAGE. */
int command_misused(const struct session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The whole program, on the commands in TABLE, up to NULL.  Returns the exit status. */
int command_main(const struct command *const *table, int argc, char **argv);

#endif
