/*
 * The two ways in which answers write a moment: IMF-fixdate (RFC 9110 5.6.7) and RFC 3339.
 */
#include "reply.h"

/* 253402300799 is 9999-12-31T23:59:59Z, the last second that four digits of year can say. */
#define LAST_SECOND UINT64_C(253402300799)

/* A moment taken apart, UTC, proleptic Gregorian. */
struct moment {
	unsigned year, month, day;     /* 1970.., 1..12, 1..31 */
	unsigned hour, minute, second; /* no leap seconds, as in Unix time */
	unsigned weekday;              /* 0: Sunday */
};

/*
 * Takes SECONDS since 1970 apart.  Own arithmetic, not gmtime_r: that one takes a
 * lock and looks at the time zone's environment.  Counts in years that begin in March, so that
 * the leap day comes last, in eras of 400 years with 146097 days each.
 */
static struct moment moment_of(uint64_t seconds)
{
	if (seconds > LAST_SECOND)
		seconds = LAST_SECOND;

	uint32_t days = (uint32_t)(seconds / 86400);
	uint32_t rest = (uint32_t)(seconds % 86400);
	uint32_t since = days + 719468; /* days from 0000-03-01 to 1970-01-01 */
	uint32_t era = since / 146097;
	uint32_t of_era = since % 146097;
	uint32_t year =
	    (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365; /* of the era */
	uint32_t of_year = of_era - (365 * year + year / 4 - year / 100);
	uint32_t march = (5 * of_year + 2) / 153; /* 0: March */

	return (struct moment){
	    .year = era * 400 + year + (march >= 10),
	    .month = march < 10 ? march + 3 : march - 9,
	    .day = of_year - (153 * march + 2) / 5 + 1,
	    .hour = rest / 3600,
	    .minute = rest / 60 % 60,
	    .second = rest % 60,
	    .weekday = (days + 4) % 7, /* 1970-01-01 was a Thursday */
	};
}

/* Appends VALUE in exactly WIDTH digits. */
static void padded(struct text *out, unsigned value, size_t width)
{
	char digits[8];

	for (size_t i = width; i-- > 0; value /= 10)
		digits[i] = (char)('0' + value % 10);
	text_bytes(out, digits, width);
}

/* Appends the time of day, "08:49:37". */
static void clock_time(struct text *out, const struct moment *moment)
{
	padded(out, moment->hour, 2);
	text_literal(out, ":");
	padded(out, moment->minute, 2);
	text_literal(out, ":");
	padded(out, moment->second, 2);
}

void reply_date(char date[REPLY_DATE_LENGTH], uint64_t unix_seconds)
{
	static const char weekdays[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct moment moment = moment_of(unix_seconds);
	struct text out;

	text_init(&out, date, REPLY_DATE_LENGTH);
	text_bytes(&out, weekdays + 3 * moment.weekday, 3);
	text_literal(&out, ", ");
	padded(&out, moment.day, 2);
	text_literal(&out, " ");
	text_bytes(&out, months + 3 * (moment.month - 1), 3);
	text_literal(&out, " ");
	padded(&out, moment.year, 4);
	text_literal(&out, " ");
	clock_time(&out, &moment);
	text_literal(&out, " GMT");
}

void reply_time(struct text *out, uint64_t unix_us)
{
	const uint64_t last = LAST_SECOND * 1000000 + 999999;
	uint64_t us = unix_us < last ? unix_us : last;
	struct moment moment = moment_of(us / 1000000);

	padded(out, moment.year, 4);
	text_literal(out, "-");
	padded(out, moment.month, 2);
	text_literal(out, "-");
	padded(out, moment.day, 2);
	text_literal(out, "T");
	clock_time(out, &moment);
	text_literal(out, ".");
	padded(out, (unsigned)(us % 1000000), 6);
	text_literal(out, "Z");
}
