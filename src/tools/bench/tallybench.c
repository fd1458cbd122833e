/* tallybench(1): puts a load on tallyd, measures it, and proves what became of it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../base/standard.h"
#include "bench.h"
#include "report.h"

static int run_one(const struct options *options)
{
	struct target target;
	int status;

	if (!bench_find(options, options->url[0], &target, &status))
		return status;
	struct result *result = bench_once(options, &target, &status);
	if (result == NULL)
		return status;
	if (options->json)
		report_json(options, &target, result);
	else
		report_text(options, &target, result);
	if (options->plot != NULL && !report_plot(options, result))
		status = BENCH_WRONG;
	free(result);
	return status;
}

int main(int argc, char **argv)
{
	struct options options;
	int status = BENCH_GOOD;

	if (standard_fill() != 0) {
		perror("tallybench: /dev/null");
		return BENCH_WRONG;
	}
	signal(SIGPIPE, SIG_IGN);
	switch (options_read(&options, argc, argv)) {
	case OPTIONS_WRONG:
		return BENCH_USAGE;
	case OPTIONS_RUN:
		status = options.compare ? bench_compare(&options) : run_one(&options);
		break;
	case OPTIONS_DONE:
		break;
	}
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	perror("tallybench: standard output");
	return BENCH_WRONG;
}
