/*
 * What a fuzz target is.  Each is a file of this directory named after what it fuzzes, and a line
 * in targets.h; driver.c runs one under libFuzzer ("make fuzz"), t/fuzz-corpus.c all of them over
 * the committed inputs ("make check").
 */
#ifndef TALLYD_T_FUZZ_H
#define TALLYD_T_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Hears of one input to begin with. */
typedef void fuzz_take(const void *bytes, size_t length);

struct fuzz_target {
	const char *name;
	size_t length_max; /* bytes of an input; none is longer */

	/* Judges one input: returns if all is as promised, else it ends with fuzz_broken.  Keeps no
	   memory of the inputs before. */
	void (*judge)(const uint8_t *bytes, size_t length);

	/* Gives TAKE the inputs that are made from the tests' own cases. */
	void (*seeds)(fuzz_take *take);

	/*
	 * Changes BYTES[0..LENGTH), of which there is room for ROOM, in a way that its format
	 * suggests; the new length, or 0 if it does not apply.  May be NULL: libFuzzer knows bytes
	 * and words itself.
	 */
	size_t (*mutate)(uint8_t *bytes, size_t length, size_t room, uint64_t random);
};

/*
 * Tells the fuzzer of something about an input that the code's branches do not show, a length for
 * example: the first input with a mark is kept.
 */
#define FUZZ_MARKS 1024
extern uint8_t fuzz_marks[FUZZ_MARKS];

static inline void fuzz_mark(size_t mark)
{
	fuzz_marks[mark % FUZZ_MARKS] = 1;
}

/* A promise does not hold: says so on stderr and aborts. */
_Noreturn void fuzz_broken(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define FUZZ_HOLDS(condition, ...)                                                                 \
	((condition) ? (void)0 : fuzz_broken(__FILE__, __LINE__, __VA_ARGS__))

/*
 * A copy of BYTES[0..LENGTH) in memory of just that size, so that a sanitizer sees one byte too
 * many; freed by the caller.
 */
void *fuzz_copy(const void *bytes, size_t length);

/* Reads all of the file PATH, relative to the source directory; freed by the caller. */
char *fuzz_source(const char *path, size_t *length);

/* The path PATH of the source directory ($TALLYD_SRC, or where we are) into TEXT. */
void fuzz_path(const char *path, char *text, size_t size);

/* Gives TAKE every file of DIRECTORY (of the source) whose name ends in ENDING. */
void fuzz_directory(const char *directory, const char *ending, fuzz_take *take);

/* A number that LENGTH bytes of BYTES decide: the same for the same input. */
uint64_t fuzz_hash(const void *bytes, size_t length);

/* The next of a row of numbers that look random (splitmix64). */
static inline uint64_t fuzz_next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/*
 * For mutate: of BYTES[0..LENGTH), a word of the SIZE bytes at AT becomes another of the input, one
 * more or less in one of its bytes, or something odd.  SIZE is a multiple of 8 and not 0.
 */
void fuzz_change_word(uint8_t *bytes, size_t length, size_t at, size_t size, uint64_t *random);

#endif
