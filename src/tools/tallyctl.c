/* tallyctl(8): what an administrator asks of a daemon and of its data directory. */
#include "command.h"

/* One to a line. */
/* clang-format off */
static const struct command *const commands[] = {
    &command_status,
    &command_top,
    &command_get,
    &command_snapshot,
    &command_export,
    &command_backup,
    &command_import,
    &command_journal_cat,
    &command_journal_check,
    &command_journal_prune,
    &command_journal_repair,
    &command_token_add,
    &command_token_list,
    &command_token_remove,
    NULL,
};
/* clang-format on */

int main(int argc, char **argv)
{
	return command_main(commands, argc, argv);
}
