#include "auth_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Is FILE kept as a secret is?  What is checked is what is read: not the path, the open file. */
static bool is_private(int file, const char *path, char *error, size_t error_size)
{
	struct stat status;

	if (fstat(file, &status) == -1)
		snprintf(error, error_size, "auth_file: %s: %s", path, strerror(errno));
	else if (!S_ISREG(status.st_mode))
		snprintf(error, error_size, "auth_file: %s is not a regular file", path);
	else if ((status.st_mode & 077) != 0)
		snprintf(error, error_size,
		         "auth_file: %s has mode %04o: others may read or write it; chmod 0600 %s",
		         path, (unsigned)(status.st_mode & 07777), path);
	else if (status.st_uid != 0 && status.st_uid != geteuid())
		snprintf(error, error_size,
		         "auth_file: %s belongs to user %ju, who could change it; chown it to root "
		         "or to user %ju",
		         path, (uintmax_t)status.st_uid, (uintmax_t)geteuid());
	else
		return true;
	return false;
}

/* The whole of FILE into TEXT (AUTH_FILE_MAX + 1 bytes).  Its length, or -1 with errno. */
static ssize_t read_all(int file, char *text)
{
	size_t length = 0;
	ssize_t got;

	while ((got = read(file, text + length, AUTH_FILE_MAX + 1 - length)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		length += (size_t)got;
	}
	errno = EFBIG;
	return length > AUTH_FILE_MAX ? -1 : (ssize_t)length;
}

static bool parse(struct tokens *tokens, int file, const char *path, char *text, char *error,
                  size_t error_size)
{
	char wrong[TOKEN_WRONG_MAX];
	unsigned line;
	ssize_t length = read_all(file, text);

	if (length < 0)
		snprintf(error, error_size, "auth_file: %s: %s", path, strerror(errno));
	else if (!tokens_read(tokens, text, (size_t)length, &line, wrong))
		snprintf(error, error_size, "auth_file: %s:%u: %s", path, line, wrong);
	else
		return true;
	return false;
}

struct tokens *auth_file_load(const char *path, char *error, size_t error_size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct tokens *tokens = calloc(1, sizeof *tokens);
	char *text = malloc(AUTH_FILE_MAX + 1);
	bool good = false;

	if (file == -1)
		snprintf(error, error_size, "auth_file: %s: %s; make it with tallyctl token add",
		         path, strerror(errno));
	else if (!tokens || !text)
		snprintf(error, error_size, "auth_file: out of memory");
	else
		good = is_private(file, path, error, error_size) &&
		       parse(tokens, file, path, text, error, error_size);
	if (file != -1)
		close(file);
	free(text);
	if (good)
		return tokens;
	free(tokens);
	return NULL;
}
