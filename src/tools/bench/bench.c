/* One run, with what comes before and behind it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "fetch.h"
#include "run.h"

#define SETTLE_TRIES    20
#define SETTLE_PAUSE_US 100000

bool bench_find(const struct options *options, const char *url, struct target *target, int *status)
{
	char error[TARGET_ERROR_SIZE];
	bool usage;

	if (!target_find(target, url, options->timeout, &usage, error)) {
		fprintf(stderr, "tallybench: %s\n", error);
		*status = usage ? BENCH_USAGE : BENCH_WRONG;
		return false;
	}
	if (options->sources == 0 || target_is_loopback(target))
		return true;
	fprintf(stderr, "tallybench: %s: --sources is for servers on 127.0.0.0/8\n", url);
	*status = BENCH_USAGE;
	return false;
}

static bool same(const struct book *book, const struct balance *last)
{
	for (uint32_t i = 0; i < book->accounts; i++)
		if (book->sheet[i].after.balance != last[i].balance ||
		    book->sheet[i].after.version != last[i].version)
			return false;
	return true;
}

/* A request whose answer nobody waits for may still be applied: reads until nothing changes. */
static bool settle(const struct options *options, const struct target *target, struct book *book)
{
	struct balance *last = calloc(book->accounts, sizeof *last);
	bool read = true;

	if (last == NULL) {
		perror("tallybench: memory");
		exit(EXIT_FAILURE);
	}
	for (int i = 0; i < SETTLE_TRIES && read; i++) {
		for (uint32_t a = 0; a < book->accounts; a++)
			last[a] = book->sheet[a].after;
		usleep(SETTLE_PAUSE_US);
		read = fetch_balances(options, target, book, FETCH_AFTER);
		if (read && same(book, last))
			break;
	}
	free(last);
	return read;
}

static bool verify(const struct options *options, const struct target *target, struct book *book,
                   struct result *result)
{
	if (!fetch_balances(options, target, book, FETCH_AFTER) ||
	    (book->perhaps > 0 && !settle(options, target, book)))
		return false;
	result->verified = true;
	result->verified_accounts = book->accounts;
	result->verdict = book_check(book, stderr);
	return true;
}

struct result *bench_once(const struct options *options, const struct target *target, int *status)
{
	struct result *result = result_new();
	struct book book = {0};
	bool good = true;

	*status = BENCH_WRONG;
	if (options->verify) {
		book_init(&book, options);
		good = fetch_balances(options, target, &book, FETCH_BEFORE);
	}
	if (good) {
		enum run_end end =
		    run_load(options, target, options->verify ? &book : NULL, result);
		good = end == RUN_DONE;
		if (end == RUN_LIMITED)
			*status = BENCH_USAGE;
	}
	if (good && options->verify)
		good = verify(options, target, &book, result);
	book_free(&book);
	if (good) {
		*status = result_is_good(result) ? BENCH_GOOD : BENCH_WRONG;
		return result;
	}
	free(result);
	return NULL;
}
