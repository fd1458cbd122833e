#include "survey.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "../../shm/region.h"
#include "segment.h"

#define STAT_BLOCK 512 /* bytes that st_blocks counts, whatever the file system's own are */

static int add(DIR *directory, const struct dirent *entry, struct survey *survey)
{
	struct stat status;
	uint64_t base;

	if (!segment_parse(entry->d_name, &base))
		return 0;
	if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -1; /* it was removed just now */
	if (survey->segments++ == 0 || base + SEGMENT_HEAD < survey->first)
		survey->first = base + SEGMENT_HEAD;
	survey->bytes += (uint64_t)status.st_blocks * STAT_BLOCK;
	return 0;
}

int survey_journal(const char *path, struct survey *survey)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;
	int result = 0;

	*survey = (struct survey){0};
	if (directory == NULL)
		return -1;
	errno = 0;
	while (result == 0 && (entry = readdir(directory)) != NULL)
		result = add(directory, entry, survey);
	if (result == 0 && errno != 0 && errno != ENOENT)
		result = -1;
	int reason = errno;
	closedir(directory);
	errno = reason;
	return result;
}
