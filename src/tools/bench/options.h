/* What tallybench is asked to do. */
#ifndef TALLYD_BENCH_OPTIONS_H
#define TALLYD_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define CONNECTIONS_MAX 100000
#define DEPTH_MAX       1024
#define BATCH_MAX       100000
#define ACCOUNTS_MAX    10000000
#define LEGS_LEAST      2
#define LEGS_MOST       16
#define AMOUNT_MOST     1000000 /* either way */
#define WEIGHT_MAX      1000000
#define RATE_MAX        10000000
#define DURATION_MAX    2592000 /* 30 days */
#define TIMEOUT_MAX     3600
#define OPERATIONS_MAX  UINT64_C(1000000000000)
#define SOURCES_MAX     254
#define ROUNDS_MAX      99
#define URLS_MAX        8
#define PREFIX_MAX      32 /* bytes of what the accounts' names begin with */
#define TOKEN_MAX       1024
#define MEMORY_MAX      (UINT64_C(2) << 30) /* bytes of what is in flight */

/* What a mix is made of. */
enum mix {
	MIX_EVENT,
	MIX_TRANSFER,
	MIX_TRANSACTION,
	MIX_CAPTURE, /* a hold, and then its capture */
	MIX_RELEASE, /* a hold, and then its release */
	MIX_READ,
	MIXES,
};

extern const char *const mix_name[MIXES];

struct options {
	bool compare;
	uint32_t rounds;
	const char *url[URLS_MAX];
	uint32_t urls;

	uint32_t connections, depth, sources; /* sources 0: as many as are needed */
	uint32_t batch;                       /* events of a request; 1: each its own */
	uint32_t accounts;
	double zipf; /* the exponent; 0: uniform */
	uint32_t weight[MIXES];
	int32_t amount_least, amount_most;
	uint32_t legs;
	bool ids;

	double rate;         /* operations per second; 0: as fast as it goes */
	double duration;     /* seconds; 0: until operations are done */
	uint64_t operations; /* 0: until the duration is over */
	double timeout;      /* seconds */

	const char *prefix;
	char token[TOKEN_MAX + 1]; /* empty: none */
	uint64_t seed;

	bool verify, json, quiet;
	const char *plot; /* NULL: none */
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_WRONG };

/*
 * Reads ARGV into *OPTIONS, whose strings point into it.  OPTIONS_DONE: what was asked for has been
 * printed (help, version); OPTIONS_WRONG: why is on standard error.
 */
enum options_result options_read(struct options *options, int argc, char **argv);

#endif
