/*
 * The text of a configuration file, with blanks in place of its comments: the
 * parser behind miscounts lines at comments and takes a file that ends inside a
 * comment or a section for a whole one.
 */
#ifndef TALLYD_DAEMON_SOURCE_H
#define TALLYD_DAEMON_SOURCE_H

#include <stddef.h>

#define SOURCE_MAX (1024 * 1024) /* bytes of a configuration file */

/*
 * Reads the file PATH.  Comments run from '#', or from "//" where a word could
 * begin, to the end of the line, or from slash-star to star-slash.  Every quote,
 * brace and comment of the text is closed, and it holds no NUL.  Returns it terminated, with
 * its lines where they were, to be freed by the caller; or NULL with a message
 * in ERROR (ERROR_SIZE bytes), as of config_load.
 */
char *source_read(const char *path, char *error, size_t error_size);

#endif
