/*
 * One fuzz target under libFuzzer, compiled with -DFUZZ_TARGET=fuzz_NAME.  Besides libFuzzer's own
 * arguments it takes
 *
 *     --seeds DIRECTORY   write the target's seeds there, and end
 */
#include "fuzz.h"

#include <inttypes.h>
#include <stdio.h>

extern const struct fuzz_target FUZZ_TARGET;

/* libFuzzer's side; it has no header. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length, size_t room, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t length, size_t room);

#define MUTATED_OURSELVES 3 /* of 8 mutations, where a target has its own */

/* libFuzzer finds them by their section, and clears them before each input. */
__attribute__((section("__libfuzzer_extra_counters"))) uint8_t fuzz_marks[FUZZ_MARKS];

static const char *seed_directory;

/* By content, so that the same seed has the same name wherever it comes from. */
static void write_seed(const void *bytes, size_t length)
{
	char path[4096];

	if (length > FUZZ_TARGET.length_max)
		return;
	snprintf(path, sizeof path, "%s/%016" PRIx64, seed_directory, fuzz_hash(bytes, length));
	FILE *file = fopen(path, "we");

	FUZZ_HOLDS(file != NULL && fwrite(bytes, 1, length, file) == length && fclose(file) == 0,
	           "%s cannot be written", path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char length[32];
	static char *given[256];

	if (*argc == 3 && strcmp((*argv)[1], "--seeds") == 0) {
		seed_directory = (*argv)[2];
		FUZZ_TARGET.seeds(write_seed);
		exit(0);
	}
	FUZZ_HOLDS(*argc < 250, "too many arguments");
	snprintf(length, sizeof length, "-max_len=%zu", FUZZ_TARGET.length_max);
	memcpy(given, *argv, (size_t)*argc * sizeof *given);
	given[(*argc)++] = length;
	*argv = given;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	if (length <= FUZZ_TARGET.length_max)
		FUZZ_TARGET.judge(bytes, length);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length, size_t room, unsigned seed)
{
	uint64_t state = seed;
	size_t changed = 0;

	if (FUZZ_TARGET.mutate != NULL && fuzz_next(&state) % 8 < MUTATED_OURSELVES)
		changed = FUZZ_TARGET.mutate(bytes, length, room, fuzz_next(&state));
	return changed != 0 ? changed : LLVMFuzzerMutate(bytes, length, room);
}
