/* tallyctl(8): what an administrator asks of a daemon and of its data directory. */
#include "command.h"

static const struct command *const commands[] = {
    &command_get,
    &command_snapshot,
    &command_journal_check,
    NULL,
};

int main(int argc, char **argv)
{
	return command_main(commands, argc, argv);
}
