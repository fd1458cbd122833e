#include "token_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "place.h"

static int fail(const struct session *session, const char *path, const char *more)
{
	int cause = errno;

	return command_fail(session,
	                    cause == EACCES || cause == EPERM ? COMMAND_DENIED : COMMAND_FAILED,
	                    "%s: %s%s", path, strerror(cause), more);
}

/* The folder of PATH, open; -1 with errno. */
static int open_folder(const char *path)
{
	char copy[PLACE_PATH_MAX];

	if ((size_t)snprintf(copy, sizeof copy, "%s", path) >= sizeof copy) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* All of DESCRIPTOR.  -1 with errno. */
static int read_all(struct token_file *file, int descriptor)
{
	ssize_t got;

	while ((got = read(descriptor, file->text + file->length,
	                   TOKEN_FILE_MAX + 1 - file->length)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		file->length += (size_t)got;
		if (file->length > TOKEN_FILE_MAX) {
			errno = EFBIG;
			return -1;
		}
	}
	return 0;
}

static int read_text(struct token_file *file, bool create)
{
	int descriptor = open(file->path, O_RDONLY | O_CLOEXEC);

	if (descriptor == -1 && errno == ENOENT && create) {
		file->is_new = true;
		return 0;
	}
	if (descriptor == -1)
		return -1;
	int result = read_all(file, descriptor);
	int cause = errno;
	close(descriptor);
	errno = cause;
	return result;
}

int token_file_open(const struct session *session, struct token_file *file, const char *path,
                    bool create)
{
	char wrong[TOKEN_WRONG_MAX];
	unsigned line;
	int status = COMMAND_DONE;

	*file = (struct token_file){.path = path, .in_vain = "", .lock = open_folder(path)};
	file->text = malloc(TOKEN_FILE_MAX + TOKEN_LINE_MAX);
	/* Its folder and not itself is locked: the file is another one after each change. */
	if (file->lock == -1 || file->text == NULL || flock(file->lock, LOCK_EX) == -1 ||
	    read_text(file, create) == -1)
		status = fail(session, path, "");
	else if (!tokens_read(&file->tokens, file->text, file->length, &line, wrong))
		status = command_fail(session, COMMAND_FAILED, "%s:%u: %s", path, line, wrong);
	if (status != COMMAND_DONE)
		token_file_close(file);
	return status;
}

void token_file_close(struct token_file *file)
{
	if (file->lock != -1)
		close(file->lock);
	if (file->text != NULL)
		explicit_bzero(file->text, file->length);
	free(file->text);
	file->lock = -1;
	file->text = NULL;
}

static int write_all(int descriptor, const char *text, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t put = write(descriptor, text + at, length - at);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -1;
		at += (size_t)put;
	}
	return 0;
}

/* Whose the old one is, the new one is.  -1 with errno. */
static int give_away(const struct token_file *file, int descriptor)
{
	struct stat before;

	if (file->is_new)
		return 0;
	if (stat(file->path, &before) == -1)
		return -1;
	return before.st_uid == geteuid() && before.st_gid == getegid()
	           ? 0
	           : fchown(descriptor, before.st_uid, before.st_gid);
}

int token_file_write(const struct session *session, const struct token_file *file)
{
	char beside[PLACE_PATH_MAX];
	int descriptor;

	if ((size_t)snprintf(beside, sizeof beside, "%s.new", file->path) >= sizeof beside) {
		errno = ENAMETOOLONG;
		return fail(session, file->path, file->in_vain);
	}
	/* What an interrupted change left; nobody else is at it. */
	unlink(beside);
	descriptor = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (descriptor == -1)
		return fail(session, beside, file->in_vain);
	if (write_all(descriptor, file->text, file->length) == -1 ||
	    give_away(file, descriptor) == -1 || fsync(descriptor) == -1 ||
	    rename(beside, file->path) == -1) {
		int status = fail(session, beside, file->in_vain);
		close(descriptor);
		unlink(beside);
		return status;
	}
	close(descriptor);
	return fsync(file->lock) == 0
	           ? COMMAND_DONE
	           : fail(session, file->path, "; it was changed, but perhaps not on the disk");
}
