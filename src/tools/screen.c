#include "screen.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 2048
#define HEIGHTS    8

void screen_begin(struct screen *screen, int columns, int rows)
{
	screen->columns = columns < SCREEN_COLUMNS_MAX ? columns : SCREEN_COLUMNS_MAX;
	screen->rows = rows < SCREEN_ROWS_MAX ? rows : SCREEN_ROWS_MAX;
	screen->row = 0;
	screen->column = 0;
	screen->length = 0;
}

int screen_left(const struct screen *screen)
{
	return screen->rows == 0 ? SCREEN_ROWS_MAX : screen->rows - screen->row;
}

static void append(struct screen *screen, const char *bytes, size_t length)
{
	if (screen_left(screen) <= 0 || length > sizeof screen->bytes - screen->length)
		return;
	memcpy(screen->bytes + screen->length, bytes, length);
	screen->length += length;
}

static void append_text(struct screen *screen, const char *text)
{
	append(screen, text, strlen(text));
}

/* What fits of TEXT. */
static void append_cut(struct screen *screen, const char *text)
{
	const char *end = text;

	while (*end != '\0' && screen->column < screen->columns) {
		end++;
		while (((unsigned char)*end & 0xc0) == 0x80)
			end++;
		screen->column++;
	}
	append(screen, text, (size_t)(end - text));
}

static const char *sequence(enum screen_style style)
{
	switch (style) {
	case SCREEN_BOLD:
		return "\033[1m";
	case SCREEN_DIM:
		return "\033[2m";
	case SCREEN_GOOD:
		return "\033[32m";
	case SCREEN_BAD:
		return "\033[1;31m";
	case SCREEN_HEAD:
		return "\033[7m";
	case SCREEN_PLAIN:
		break;
	}
	return "";
}

static void put(struct screen *screen, enum screen_style style, const char *text)
{
	bool styled = screen->styled && style != SCREEN_PLAIN;

	if (styled)
		append_text(screen, sequence(style));
	append_cut(screen, text);
	if (styled)
		append_text(screen, "\033[0m");
}

void screen_put(struct screen *screen, enum screen_style style, const char *format, ...)
{
	char text[LINE_BYTES];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	for (char *at = text; *at != '\0'; at++)
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = '?';
	put(screen, style, text);
}

void screen_tab(struct screen *screen, int column)
{
	while (screen->column < column && screen->column < screen->columns)
		append_cut(screen, " ");
}

void screen_line(struct screen *screen)
{
	append_text(screen, "\n");
	if (screen_left(screen) > 0)
		screen->row++;
	screen->column = 0;
}

void screen_bar(struct screen *screen, int width, double fraction, enum screen_style style)
{
	/* Whatever is not nothing shows. */
	int full = (int)(fraction * width + 0.5);
	full = full == 0 && fraction > 0 ? 1 : full;
	full = full > width ? width : full < 0 ? 0 : full;

	put(screen, SCREEN_PLAIN, "[");
	for (int i = 0; i < full; i++)
		put(screen, style, screen->unicode ? "\u2588" : "#");
	for (int i = full; i < width; i++)
		put(screen, SCREEN_DIM, screen->unicode ? "\u00b7" : ".");
	put(screen, SCREEN_PLAIN, "]");
}

/* 0 (nothing) to HEIGHTS. */
static int height_of(double value, double peak)
{
	if (!(value > 0) || !(peak > 0))
		return 0;
	int height = (int)(value / peak * HEIGHTS + 0.5);
	return height < 1 ? 1 : height > HEIGHTS ? HEIGHTS : height;
}

void screen_spark(struct screen *screen, int width, const double *values, size_t count, double peak,
                  enum screen_style style)
{
	static const char *const blocks[] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
	                                     "\u2585", "\u2586", "\u2587", "\u2588"};
	static const char *const ascii[] = {" ", ".", ":", "-", "=", "+", "*", "%", "#"};
	size_t shown = count < (size_t)width ? count : (size_t)width;

	screen_tab(screen, screen->column + width - (int)shown);
	for (size_t i = count - shown; i < count; i++) {
		int height = height_of(values[i], peak);
		put(screen, style, screen->unicode ? blocks[height] : ascii[height]);
	}
}
