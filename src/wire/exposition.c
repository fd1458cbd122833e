#include "exposition.h"

#define MICROSECONDS 1000000
#define DECIMALS     6

void exposition_family(struct text *out, const char *name, const char *kind, const char *help)
{
	text_literal(out, "# HELP ");
	text_string(out, name);
	text_literal(out, " ");
	text_string(out, help);
	text_literal(out, "\n# TYPE ");
	text_string(out, name);
	text_literal(out, " ");
	text_string(out, kind);
	text_literal(out, "\n");
}

/* "1.5", without zeros that say nothing. */
static void write_seconds(struct text *out, uint64_t us)
{
	uint64_t rest = us % MICROSECONDS;
	char digits[DECIMALS];
	size_t length = DECIMALS;

	text_unsigned(out, us / MICROSECONDS);
	if (rest == 0)
		return;
	for (size_t i = DECIMALS; i-- > 0; rest /= 10)
		digits[i] = (char)('0' + rest % 10);
	while (digits[length - 1] == '0')
		length--;
	text_literal(out, ".");
	text_bytes(out, digits, length);
}

static void write_value(struct text *out, uint64_t value, enum exposition_unit unit)
{
	if (unit == EXPOSITION_SECONDS)
		write_seconds(out, value);
	else
		text_unsigned(out, value);
}

static void write_escaped(struct text *out, const char *value)
{
	for (; *value; value++) {
		if (*value == '\n')
			text_literal(out, "\\n");
		else if (*value == '"' || *value == '\\')
			text_bytes(out, (const char[]){'\\', *value}, 2);
		else
			text_bytes(out, value, 1);
	}
}

static void write_labels(struct text *out, const struct exposition_label *label)
{
	const char *before = "{";

	if (label == NULL || label->name == NULL)
		return;
	for (; label->name; label++, before = ",") {
		text_string(out, before);
		text_string(out, label->name);
		text_literal(out, "=\"");
		write_escaped(out, label->value);
		text_literal(out, "\"");
	}
	text_literal(out, "}");
}

void exposition_sample(struct text *out, const char *name, const struct exposition_label *labels,
                       uint64_t value, enum exposition_unit unit)
{
	text_string(out, name);
	write_labels(out, labels);
	text_literal(out, " ");
	write_value(out, value, unit);
	text_literal(out, "\n");
}

static void write_total(struct text *out, const char *name, const char *suffix, uint64_t value,
                        enum exposition_unit unit)
{
	text_string(out, name);
	text_string(out, suffix);
	write_value(out, value, unit);
	text_literal(out, "\n");
}

void exposition_histogram(struct text *out, const char *name,
                          const struct exposition_bucket *buckets, size_t bucket_count,
                          uint64_t count, uint64_t sum, enum exposition_unit unit)
{
	for (size_t i = 0; i < bucket_count; i++) {
		text_string(out, name);
		text_literal(out, "_bucket{le=\"");
		write_value(out, buckets[i].bound, unit);
		write_total(out, "\"} ", "", buckets[i].count, EXPOSITION_COUNT);
	}
	write_total(out, name, "_bucket{le=\"+Inf\"} ", count, EXPOSITION_COUNT);
	write_total(out, name, "_sum ", sum, unit);
	write_total(out, name, "_count ", count, EXPOSITION_COUNT);
}
