#include "fuzz.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <xxhash.h>

void fuzz_broken(const char *file, int line, const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "%s:%d: broken: ", file, line);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	abort();
}

void *fuzz_copy(const void *bytes, size_t length)
{
	void *copy = malloc(length > 0 ? length : 1);

	FUZZ_HOLDS(copy != NULL, "out of memory");
	if (length > 0)
		memcpy(copy, bytes, length);
	return copy;
}

void fuzz_path(const char *path, char *text, size_t size)
{
	const char *source = getenv("TALLYD_SRC");

	snprintf(text, size, "%s/%s", source != NULL ? source : ".", path);
}

static char *read_file(const char *path, size_t *length)
{
	FILE *file = fopen(path, "re");
	char *bytes;
	long size;

	FUZZ_HOLDS(file != NULL && fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0,
	           "%s cannot be read: is TALLYD_SRC the source directory?", path);
	rewind(file);
	bytes = malloc((size_t)size + 1);
	FUZZ_HOLDS(bytes != NULL, "out of memory");
	*length = fread(bytes, 1, (size_t)size, file);
	bytes[*length] = '\0';
	fclose(file);
	return bytes;
}

char *fuzz_source(const char *path, size_t *length)
{
	char name[4096];

	fuzz_path(path, name, sizeof name);
	return read_file(name, length);
}

static bool ends_in(const char *name, const char *ending)
{
	size_t length = strlen(name);
	size_t tail = strlen(ending);

	return name[0] != '.' && length >= tail && strcmp(name + length - tail, ending) == 0;
}

void fuzz_directory(const char *directory, const char *ending, fuzz_take *take)
{
	char path[4096];
	struct dirent **entry;

	fuzz_path(directory, path, sizeof path);
	int count = scandir(path, &entry, NULL, alphasort);

	FUZZ_HOLDS(count >= 0, "%s cannot be read", path);
	for (int i = 0; i < count; i++) {
		if (ends_in(entry[i]->d_name, ending)) {
			char name[4096 + 300];
			size_t length;

			snprintf(name, sizeof name, "%s/%s", path, entry[i]->d_name);
			char *bytes = read_file(name, &length);
			take(bytes, length);
			free(bytes);
		}
		free(entry[i]);
	}
	free(entry);
}

uint64_t fuzz_hash(const void *bytes, size_t length)
{
	return XXH3_64bits(bytes, length);
}

void fuzz_change_word(uint8_t *bytes, size_t length, size_t at, size_t size, uint64_t *random)
{
	static const uint64_t odd[] = {0, 1, INT64_MAX, (uint64_t)INT64_MIN, UINT64_MAX, 4096};
	uint8_t *word = bytes + at + 8 * (fuzz_next(random) % (size / 8));
	uint64_t value;

	memcpy(&value, word, sizeof value);
	switch (fuzz_next(random) % 4) {
	case 0:
		value = odd[fuzz_next(random) % (sizeof odd / sizeof *odd)];
		break;
	case 1:
		value += UINT64_C(1) << 8 * (fuzz_next(random) % 8);
		break;
	case 2:
		value -= UINT64_C(1) << 8 * (fuzz_next(random) % 8);
		break;
	default:
		memcpy(&value, bytes + fuzz_next(random) % (length - 7), sizeof value);
		break;
	}
	memcpy(word, &value, sizeof value);
}
