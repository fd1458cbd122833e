/* The load: draws operations by mix, skew and seed, and writes them as requests. */
#ifndef TALLYD_BENCH_LOAD_H
#define TALLYD_BENCH_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "operation.h"
#include "options.h"
#include "random.h"
#include "../http/target.h"
#include "zipf.h"

#define LOAD_NAME_MAX (PREFIX_MAX + 8)                     /* bytes of an account's name */
#define LOAD_HEAD_MAX (TOKEN_MAX + TARGET_HOST_MAX + 256)  /* bytes of a request's head */
#define LOAD_PART_MAX (LOAD_NAME_MAX + HOLD_NAME_MAX + 64) /* bytes of a body, for each leg */
#define LOAD_HOLD_TTL 3600                                 /* seconds */

struct load {
	const struct options *options; /* borrowed */
	struct random random;
	struct zipf zipf;
	uint32_t weights;           /* the sum of all */
	uint64_t run, ids;          /* name an id: no two runs have the same */
	char fields[LOAD_HEAD_MAX]; /* those that all requests have */
	size_t fields_length;
	char *body; /* load_request_max bytes to write in */
};

/* Makes *LOAD ready to draw for OPTIONS, which must stay, and to ask TARGET; memory is taken here
 * and only here.  Ends the process if there is none. */
void load_init(struct load *load, const struct options *options, const struct target *target);
void load_free(struct load *load);

/* Legs that an operation may have, and bytes of a request. */
uint32_t load_legs_max(const struct options *options);
size_t load_request_max(const struct options *options);

/* Draws into *OPERATION, whose leg has room for load_legs_max; of events at most EVENTS. */
void load_draw(struct load *load, struct operation *operation, uint32_t events);

/* Writes OPERATION as a request into TARGET (load_request_max bytes); returns its length. */
size_t load_write(struct load *load, const struct operation *operation, char *target);

/* Writes GET of account NUMBER into TARGET (LOAD_HEAD_MAX bytes); returns its length. */
size_t load_write_read(const struct load *load, uint32_t number, char *target);

#endif
