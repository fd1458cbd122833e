/*
 * The commands of tallyctl.  Each reads its own arguments, speaks on standard output and standard
 * error, and returns the exit status.
 */
#ifndef TALLYD_TOOLS_COMMAND_H
#define TALLYD_TOOLS_COMMAND_H

#define COMMAND_DONE   0
#define COMMAND_FAILED 1
#define COMMAND_USAGE  2

/* ARGV[0] is the command's last word, up to ARGC arguments follow; DATA is the data directory. */
typedef int command(const char *data, int argc, char **argv);

command command_journal_check;

#endif
