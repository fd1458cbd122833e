#include "moment.h"

#define SECOND INT64_C(1000000) /* microseconds */
#define MINUTE (60 * SECOND)
#define DAY    (1440 * MINUTE)

struct reader {
	const char *at;
	const char *end;
};

static bool take(struct reader *reader, const char *one_of)
{
	for (; *one_of; one_of++) {
		if (reader->at < reader->end && *reader->at == *one_of) {
			reader->at++;
			return true;
		}
	}
	return false;
}

/* Exactly COUNT digits, LOW to HIGH. */
static bool number(struct reader *reader, int count, int64_t low, int64_t high, int64_t *value)
{
	*value = 0;
	for (int i = 0; i < count; i++, reader->at++) {
		if (reader->at == reader->end || *reader->at < '0' || *reader->at > '9')
			return false;
		*value = *value * 10 + (*reader->at - '0');
	}
	return *value >= low && *value <= high;
}

static bool is_leap(int64_t year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t days_of(int64_t year, int64_t month)
{
	static const int64_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return days[month - 1] + (month == 2 && is_leap(year) ? 1 : 0);
}

/* Days from 1970-01-01 to the first of January of YEAR. */
static int64_t days_before(int64_t year)
{
	int64_t last = year - 1;

	return 365 * (year - 1970) + (last / 4 - 1969 / 4) - (last / 100 - 1969 / 100) +
	       (last / 400 - 1969 / 400);
}

static bool date(struct reader *reader, int64_t *us)
{
	int64_t year, month, day;

	if (!number(reader, 4, 1, 9999, &year) || !take(reader, "-") ||
	    !number(reader, 2, 1, 12, &month) || !take(reader, "-") ||
	    !number(reader, 2, 1, days_of(year, month), &day))
		return false;
	int64_t days = days_before(year) + day - 1;
	for (int64_t m = 1; m < month; m++)
		days += days_of(year, m);
	*us = days * DAY;
	return true;
}

/* ".918", perhaps longer than microseconds. */
static bool fraction(struct reader *reader, int64_t *us)
{
	const char *first = reader->at;
	int64_t unit = SECOND;

	for (; reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9'; reader->at++) {
		unit /= 10;
		*us += (*reader->at - '0') * unit;
	}
	return reader->at > first;
}

static bool time_of_day(struct reader *reader, int64_t *us)
{
	int64_t hour, minute, second, part = 0;

	if (!number(reader, 2, 0, 23, &hour) || !take(reader, ":") ||
	    !number(reader, 2, 0, 59, &minute) || !take(reader, ":") ||
	    !number(reader, 2, 0, 60, &second))
		return false;
	if (take(reader, ".") && !fraction(reader, &part))
		return false;
	if (second == 60) {
		second = 59;
		part = SECOND - 1;
	}
	*us += (hour * 60 + minute) * MINUTE + second * SECOND + part;
	return true;
}

static bool offset(struct reader *reader, int64_t *us)
{
	int64_t hour, minute;
	int64_t sign = take(reader, "+") ? 1 : -1;

	if (sign < 0 && take(reader, "Zz"))
		return true;
	if (sign < 0 && !take(reader, "-"))
		return false;
	if (!number(reader, 2, 0, 23, &hour) || !take(reader, ":") ||
	    !number(reader, 2, 0, 59, &minute))
		return false;
	*us -= sign * (hour * 60 + minute) * MINUTE;
	return true;
}

bool moment_read(const char *text, size_t length, uint64_t *us)
{
	struct reader reader = {.at = text, .end = text + length};
	int64_t value;

	if (length > MOMENT_LENGTH_MAX || !date(&reader, &value) || !take(&reader, "Tt ") ||
	    !time_of_day(&reader, &value) || !offset(&reader, &value) || reader.at != reader.end)
		return false;
	*us = value < 0 ? 0 : (uint64_t)value;
	return true;
}
