/*
 * The file of tokens, changed as a whole: the new one takes the old one's place in one step, and
 * whoever else changes it at the same time waits.
 */
#ifndef TALLYD_TOOLS_TOKEN_FILE_H
#define TALLYD_TOOLS_TOKEN_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "../wire/token.h"
#include "command.h"

#define TOKEN_FILE_MAX (TOKENS_MAX * TOKEN_LINE_MAX) /* bytes */

struct token_file {
	const char *path;    /* borrowed */
	const char *in_vain; /* what is said besides if it cannot be written; borrowed */
	int lock;            /* the folder's descriptor; -1: not open */
	bool is_new;         /* there was none */
	size_t length;       /* of text */
	char *text;          /* TOKEN_FILE_MAX + TOKEN_LINE_MAX bytes; owned */
	struct tokens tokens;
};

/*
 * Reads PATH, which others can change only after token_file_close.  CREATE: one that is not there
 * is empty.  COMMAND_DONE; or another status, said, and FILE need not be closed.
 */
int token_file_open(const struct session *session, struct token_file *file, const char *path,
                    bool create);

/*
 * Puts what is in file->text in the place of the file, with mode 0600 and the owner of the old one.
 * COMMAND_DONE, or another status, said: then the file is what it was, if that does not say more.
 */
int token_file_write(const struct session *session, const struct token_file *file);

void token_file_close(struct token_file *file);

#endif
