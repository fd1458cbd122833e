#include "words.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000) /* microseconds */
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

const char *words_count(uint64_t count, char text[WORDS_SIZE])
{
	char digits[WORDS_SIZE];
	int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
	char *to = text;

	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			*to++ = ' ';
		*to++ = digits[i];
	}
	*to = '\0';
	return text;
}

const char *words_signed(int64_t number, char text[WORDS_SIZE])
{
	char digits[WORDS_SIZE];
	/* INT64_MIN has no fellow among the positive ones. */
	uint64_t size = number < 0 ? (uint64_t) - (number + 1) + 1 : (uint64_t)number;

	snprintf(text, WORDS_SIZE, "%s%s", number < 0 ? "-" : "", words_count(size, digits));
	return text;
}

const char *words_short(double number, char text[WORDS_SIZE])
{
	static const char unit[] = {'k', 'M', 'G', 'T', 'P'};
	int at = -1;

	/* What would be rounded up to 1000 is of the next unit. */
	while (number >= 999.5 && at + 1 < (int)sizeof unit) {
		number /= 1000;
		at++;
	}
	if (at < 0)
		snprintf(text, WORDS_SIZE,
		         number >= 99.95 || number == (double)(int)number ? "%.0f" : "%.1f",
		         number);
	else
		snprintf(text, WORDS_SIZE, "%.*f%c",
		         number < 9.995   ? 2
		         : number < 99.95 ? 1
		                          : 0,
		         number, unit[at]);
	return text;
}

const char *words_bytes(uint64_t bytes, char text[WORDS_SIZE])
{
	static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double size = (double)bytes;
	int at = -1;

	while (size >= 1024 && at + 1 < (int)(sizeof unit / sizeof *unit)) {
		size /= 1024;
		at++;
	}
	if (at < 0)
		snprintf(text, WORDS_SIZE, "%" PRIu64 " bytes", bytes);
	else
		snprintf(text, WORDS_SIZE, "%.1f %s", size, unit[at]);
	return text;
}

static const char *two(char *text, uint64_t large, const char *large_unit, uint64_t small,
                       const char *small_unit)
{
	snprintf(text, WORDS_SIZE, "%" PRIu64 " %s %" PRIu64 " %s", large, large_unit, small,
	         small_unit);
	return text;
}

const char *words_span(uint64_t us, char text[WORDS_SIZE])
{
	if (us < 1000)
		snprintf(text, WORDS_SIZE, "%" PRIu64 " us", us);
	else if (us < SECOND)
		snprintf(text, WORDS_SIZE, us < 100000 ? "%.2f ms" : "%.0f ms", (double)us / 1000);
	else if (us < MINUTE)
		snprintf(text, WORDS_SIZE, "%.1f s", (double)us / (double)SECOND);
	else if (us < HOUR)
		return two(text, us / MINUTE, "min", us % MINUTE / SECOND, "s");
	else if (us < DAY)
		return two(text, us / HOUR, "h", us % HOUR / MINUTE, "min");
	else
		return two(text, us / DAY, "d", us % DAY / HOUR, "h");
	return text;
}

const char *words_time(uint64_t us, char text[WORDS_TIME_SIZE])
{
	time_t seconds = (time_t)(us / SECOND);
	struct tm parts;

	if (localtime_r(&seconds, &parts) == NULL ||
	    strftime(text, WORDS_TIME_SIZE, "%Y-%m-%d %H:%M:%S", &parts) == 0)
		snprintf(text, WORDS_TIME_SIZE, "%" PRIu64 " us", us);
	return text;
}

const char *words_time_exact(uint64_t us, char text[WORDS_TIME_SIZE])
{
	time_t seconds = (time_t)(us / SECOND);
	char date[WORDS_TIME_SIZE];
	struct tm parts;

	if (gmtime_r(&seconds, &parts) == NULL ||
	    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
		snprintf(text, WORDS_TIME_SIZE, "%" PRIu64 " us", us);
	else
		snprintf(text, WORDS_TIME_SIZE, "%.30s.%06uZ", date, (unsigned)(us % SECOND));
	return text;
}
