/*
 * A page of lines for a terminal, or for a file: what is longer than a line is cut, what is below
 * the last one is dropped.
 */
#ifndef TALLYD_TOOLS_SCREEN_H
#define TALLYD_TOOLS_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

#define SCREEN_COLUMNS_MAX 512
#define SCREEN_ROWS_MAX    512
#define SCREEN_BYTES       (256 * 1024)

enum screen_style { SCREEN_PLAIN, SCREEN_BOLD, SCREEN_DIM, SCREEN_GOOD, SCREEN_BAD, SCREEN_HEAD };

struct screen {
	int columns;
	int rows;     /* 0: as many as there are */
	bool styled;  /* colours and the like may be used */
	bool unicode; /* so may what is not ASCII */
	int row;      /* where the next text goes */
	int column;
	size_t length;
	char bytes[SCREEN_BYTES]; /* the page, with escape sequences in it */
};

/* An empty page of COLUMNS and ROWS. */
void screen_begin(struct screen *screen, int columns, int rows);

/* Appends text to the line.  It is UTF-8 without control characters, one column a character. */
void screen_put(struct screen *screen, enum screen_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Goes on at COLUMN (from 0) of the line, if it is not beyond that already. */
void screen_tab(struct screen *screen, int column);

/* Ends the line. */
void screen_line(struct screen *screen);

/* Lines that are left; SCREEN_ROWS_MAX if there is no end. */
int screen_left(const struct screen *screen);

/* WIDTH columns of which FRACTION (0 to 1) are full. */
void screen_bar(struct screen *screen, int width, double fraction, enum screen_style style);

/* The last WIDTH of COUNT values, the newest at the right, as heights up to PEAK. */
void screen_spark(struct screen *screen, int width, const double *values, size_t count, double peak,
                  enum screen_style style);

#endif
