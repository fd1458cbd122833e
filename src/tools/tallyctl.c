/* tallyctl(8): what an administrator asks of a data directory. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

#define WORDS_MAX 2 /* words that name a command */

static const struct entry {
	const char *word[WORDS_MAX];
	const char *arguments;
	command *run;
} commands[] = {
    {{"journal", "check"}, "[-i max_ids] [-w seconds]", command_journal_check},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static int usage(FILE *stream)
{
	fputs("usage: tallyctl [-V] [-d data_directory] command\n", stream);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(stream, "       %s %s %s\n", commands[i].word[0], commands[i].word[1],
		        commands[i].arguments);
	return stream == stdout ? COMMAND_DONE : COMMAND_USAGE;
}

static const struct entry *find(int argc, char **argv)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (argc >= WORDS_MAX && strcmp(argv[0], commands[i].word[0]) == 0 &&
		    strcmp(argv[1], commands[i].word[1]) == 0)
			return &commands[i];
	return NULL;
}

int main(int argc, char **argv)
{
	const char *data = TALLYD_DATA_DIRECTORY;
	const struct entry *entry;
	int option;

	/* What follows the first word belongs to the command. */
	while ((option = getopt(argc, argv, "+d:hV")) != -1) {
		switch (option) {
		case 'd':
			data = optarg;
			break;
		case 'h':
			return usage(stdout);
		case 'V':
			puts("tallyctl " PACKAGE_VERSION);
			return COMMAND_DONE;
		default:
			return usage(stderr);
		}
	}
	entry = find(argc - optind, argv + optind);
	if (entry == NULL)
		return usage(stderr);
	int first = optind + WORDS_MAX - 1;
	optind = 1;
	int status = entry->run(data, argc - first, argv + first);
	if (status == COMMAND_USAGE)
		return usage(stderr);
	if (fflush(stdout) == 0)
		return status;
	perror("tallyctl: standard output");
	return COMMAND_FAILED;
}
