#include "value.h"

#include <string.h>

#define FRACTION_DIGITS 6
#define FRACTION_SCALE  1000000U

/* Reads digits of BASE at *TEXT and moves past them. */
static enum value_error read_digits(const char **text, unsigned base, uint64_t *number)
{
	const char *at = *text;
	enum value_error error = VALUE_OK;

	*number = 0;
	while (*at >= '0' && (unsigned)(*at - '0') < base) {
		if (__builtin_mul_overflow(*number, base, number) ||
		    __builtin_add_overflow(*number, (uint64_t)(*at - '0'), number))
			error = VALUE_HUGE;
		at++;
	}
	if (at == *text)
		return VALUE_BAD;
	*text = at;
	return error;
}

/* Digits and nothing else; what follows them decides over how many they are. */
static enum value_error read_whole(const char *text, unsigned base, uint64_t *number)
{
	enum value_error error = read_digits(&text, base, number);

	return *text != '\0' ? VALUE_BAD : error;
}

enum value_error value_count(const char *text, uint64_t *count)
{
	return read_whole(text, 10, count);
}

enum value_error value_signed(const char *text, int64_t *number)
{
	bool negative = *text == '-';
	uint64_t most = (uint64_t)INT64_MAX + negative;
	uint64_t size;
	enum value_error error = read_whole(text + negative, 10, &size);

	if (error == VALUE_OK && size > most)
		error = VALUE_HUGE;
	if (error == VALUE_OK)
		*number = negative ? (int64_t)(0 - size) : (int64_t)size;
	return error;
}

enum value_error value_octal(const char *text, uint64_t *bits)
{
	return read_whole(text, 8, bits);
}

enum value_error value_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGTkmgt";
	enum value_error error = read_digits(&text, 10, bytes);
	const char *unit;

	if (error == VALUE_BAD || *text == '\0')
		return error;
	unit = strchr(units, *text);
	if (!unit || text[1] != '\0')
		return VALUE_BAD;
	unsigned power = (unsigned)(unit - units) % 4 + 1;
	if (__builtin_mul_overflow(*bytes, UINT64_C(1) << (10 * power), bytes))
		return VALUE_HUGE;
	return error;
}

/* Microseconds of the unit that is all of TEXT; 0: no such unit. */
static uint64_t unit_us(const char *text, uint64_t bare_us)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = {
	    {"ms", 1000},
	    {"s", UINT64_C(1000000)},
	    {"m", UINT64_C(60000000)},
	    {"h", UINT64_C(3600000000)},
	    {"d", UINT64_C(86400000000)},
	};

	if (*text == '\0')
		return bare_us;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(text, units[i].name) == 0)
			return units[i].us;
	return 0;
}

/* ".25" at *TEXT into millionths, moving past it; no point is 0. */
static enum value_error read_fraction(const char **text, uint64_t *millionths)
{
	const char *digits = *text + 1;

	*millionths = 0;
	if (**text != '.')
		return VALUE_OK;
	*text = digits;
	if (read_digits(text, 10, millionths) != VALUE_OK || *text - digits > FRACTION_DIGITS)
		return VALUE_BAD;
	for (long i = *text - digits; i < FRACTION_DIGITS; i++)
		*millionths *= 10;
	return VALUE_OK;
}

enum value_error value_time(const char *text, uint64_t bare_us, uint64_t *us)
{
	uint64_t whole, millionths, unit;
	enum value_error error = read_digits(&text, 10, &whole);

	if (error == VALUE_BAD || read_fraction(&text, &millionths) != VALUE_OK)
		return VALUE_BAD;
	unit = unit_us(text, bare_us);
	if (unit == 0)
		return VALUE_BAD;
	/* The largest unit times a fraction below one fits easily. */
	if (millionths * unit % FRACTION_SCALE != 0)
		return VALUE_BAD;
	if (error != VALUE_OK || __builtin_mul_overflow(whole, unit, us) ||
	    __builtin_add_overflow(*us, millionths * unit / FRACTION_SCALE, us))
		return VALUE_HUGE;
	return VALUE_OK;
}

enum value_error value_flag(const char *text, bool *flag)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i]) == 0) {
			*flag = i % 2 == 1;
			return VALUE_OK;
		}
	}
	return VALUE_BAD;
}
