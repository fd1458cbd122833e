/*
 * The file of tokens: who may read it, and what it says.
 */
#ifndef TALLYD_DAEMON_AUTH_FILE_H
#define TALLYD_DAEMON_AUTH_FILE_H

#include <stddef.h>

#include "../wire/token.h"

#define AUTH_FILE_MAX (TOKENS_MAX * 1024) /* bytes of the file; more is an error */

/*
 * Reads PATH: a regular file that belongs to root or to who calls, and that nobody else may read or
 * write.  Returns its tokens, which the caller frees; or NULL with "PATH:LINE: what is wrong" in
 * ERROR (ERROR_SIZE bytes).
 */
struct tokens *auth_file_load(const char *path, char *error, size_t error_size);

#endif
