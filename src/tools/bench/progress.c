/* The line on the terminal while a run goes on. */
#include <stdio.h>
#include <unistd.h>

#include "engine.h"
#include "report.h"

#define EACH UINT64_C(1000000000) /* ns between two lines */

static uint64_t answered(const struct engine *engine)
{
	return result_accepted(engine->result) + result_rejected(engine->result);
}

void progress_start(struct engine *engine, uint64_t now)
{
	engine->shows = !engine->options->quiet && isatty(STDERR_FILENO);
	engine->progress = now + EACH;
	engine->progress_count = 0;
	histogram_clear(&engine->window);
}

void progress_show(struct engine *engine, uint64_t now)
{
	char rate[REPORT_NUMBER], latency[REPORT_NUMBER];

	if (!engine->shows || engine->phase != PHASE_LOAD || now < engine->progress)
		return;
	double seconds = (double)(now - engine->progress + EACH) / EACH;
	uint64_t count = answered(engine);
	report_rate(rate, (double)(count - engine->progress_count) / seconds);
	report_latency(latency, histogram_percentile(&engine->window, 99));
	fprintf(stderr, "\r\033[K%5.0f s  %10s  p99 %9s  rejected %llu  errors %llu",
	        (double)(now - engine->start) / EACH, rate, latency,
	        (unsigned long long)result_rejected(engine->result),
	        (unsigned long long)result_failed(engine->result));
	engine->progress = now + EACH;
	engine->progress_count = count;
	histogram_clear(&engine->window);
}

void progress_clear(struct engine *engine)
{
	if (engine->shows)
		fputs("\r\033[K", stderr);
}
