#include "import_tally.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "json_out.h"
#include "words.h"

#define DRAW_EVERY 200000 /* us */
#define BAR_WIDTH  24
#define LINE_SIZE  160
#define COLUMNS    80

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void tally_begin(struct tally *tally, uint64_t size)
{
	*tally = (struct tally){.size = size, .began = now_us(), .shows = isatty(STDERR_FILENO)};
}

double tally_seconds(const struct tally *tally)
{
	return (double)(now_us() - tally->began) / 1e6;
}

/* ---- what is refused */

static void count_reason(struct tally *tally, const char *reason)
{
	size_t i = 0;

	if (tally->reasons == TALLY_REASONS_MAX - 1)
		reason = "other";
	while (i < tally->reasons && strcmp(tally->reason[i].name, reason) != 0)
		i++;
	if (i == tally->reasons) {
		tally->reasons++;
		snprintf(tally->reason[i].name, TALLY_REASON_SIZE, "%s", reason);
	}
	tally->reason[i].count++;
}

void tally_refuse(struct tally *tally, uint64_t number, const char *reason, const char *detail)
{
	count_reason(tally, reason);
	if (tally->refused++ >= TALLY_SAID_MAX)
		return;
	tally_wipe(tally);
	fprintf(stderr, "tallyctl: line %" PRIu64 ": %s%s%s\n", number, reason,
	        detail[0] != '\0' ? ": " : "", detail);
	if (tally->refused == TALLY_SAID_MAX)
		fputs("tallyctl: more lines that are refused are only counted\n", stderr);
}

/* ---- the line on the terminal */

static int columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
	                                                                       : COLUMNS;
}

static size_t write_bar(const struct tally *tally, char *line)
{
	double part = tally->bytes < tally->size ? (double)tally->bytes / (double)tally->size : 1;
	int full = (int)(part * BAR_WIDTH);
	size_t at = 0;

	line[at++] = '[';
	for (int i = 0; i < BAR_WIDTH; i++)
		line[at++] = i < full ? '#' : '.';
	return at + (size_t)sprintf(line + at, "] %3d%% ", (int)(part * 100));
}

static uint64_t time_left(const struct tally *tally, uint64_t spent)
{
	double rate = (double)tally->bytes / (double)spent;

	return (uint64_t)((double)(tally->size - tally->bytes) / rate);
}

void tally_draw(struct tally *tally)
{
	uint64_t now = now_us(), spent = now - tally->began;
	char line[LINE_SIZE], count[WORDS_SIZE], rate[WORDS_SIZE], left[WORDS_SIZE];
	size_t at = 0;

	if (!tally->shows || now - tally->drawn < DRAW_EVERY || spent == 0)
		return;
	tally->drawn = now;
	if (tally->size > 0)
		at = write_bar(tally, line);
	at += (size_t)snprintf(line + at, sizeof line - at, "%s lines, %s/s",
	                       words_count(tally->lines, count),
	                       words_short((double)tally->lines * 1e6 / (double)spent, rate));
	if (tally->bytes > 0 && tally->bytes < tally->size)
		snprintf(line + at, sizeof line - at, ", %s left",
		         words_span(time_left(tally, spent), left));
	fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
}

void tally_wipe(struct tally *tally)
{
	if (tally->drawn != 0)
		fputs("\r\033[K", stderr);
	tally->drawn = 0;
}

/* ---- the end */

static void report_json(const struct tally *tally, const char *status, const char *reason,
                        const char *detail, double seconds, uint64_t reconnects)
{
	struct json_out out = {.stream = stdout};

	json_out_open(&out, NULL, '{');
	json_out_text(&out, "status", status);
	if (detail != NULL) {
		json_out_text(&out, "reason", reason);
		json_out_text(&out, "detail", detail);
	}
	json_out_count(&out, "lines", tally->lines);
	json_out_count(&out, "accepted", tally->accepted);
	json_out_count(&out, "duplicate", tally->duplicate);
	json_out_open(&out, "rejected", '{');
	for (size_t i = 0; i < tally->reasons; i++)
		json_out_count(&out, tally->reason[i].name, tally->reason[i].count);
	json_out_close(&out, '}');
	json_out_count(&out, "unknown", tally->unknown);
	json_out_count(&out, "expired_holds", tally->expired);
	json_out_count(&out, "ids_skipped", tally->ids);
	json_out_count(&out, "without_limits", tally->open);
	json_out_count(&out, "reconnects", reconnects);
	json_out_real(&out, "seconds", seconds);
	json_out_close(&out, '}');
	json_out_end(&out);
}

static void print_count(const char *name, uint64_t count)
{
	char text[WORDS_SIZE];

	if (count > 0)
		printf("%-22s %s\n", name, words_count(count, text));
}

void tally_report(const struct tally *tally, bool json, const char *status, const char *reason,
                  const char *detail, uint64_t reconnects)
{
	double seconds = tally_seconds(tally);
	char count[WORDS_SIZE];

	if (json) {
		report_json(tally, status, reason, detail, seconds, reconnects);
		return;
	}
	printf("%-22s %s\n", "lines", words_count(tally->lines, count));
	printf("%-22s %s\n", "accepted", words_count(tally->accepted, count));
	printf("%-22s %s\n", "duplicate", words_count(tally->duplicate, count));
	for (size_t i = 0; i < tally->reasons; i++)
		print_count(tally->reason[i].name, tally->reason[i].count);
	print_count("answer lost", tally->unknown);
	print_count("holds expired", tally->expired);
	print_count("ids skipped", tally->ids);
	print_count("accounts left open", tally->open);
	print_count("connected again", reconnects);
}
