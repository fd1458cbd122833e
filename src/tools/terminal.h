/*
 * The terminal as a whole page: its own screen, keys one by one.  However the program ends, but for
 * SIGKILL, the terminal is left as it was found.
 */
#ifndef TALLYD_TOOLS_TERMINAL_H
#define TALLYD_TOOLS_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

/* Can standard output and standard input be one? */
bool terminal_there(void);

/* Does it show what is not ASCII? */
bool terminal_unicode(void);

/* Takes it over.  0, or -1 with errno.  Only once in a program. */
int terminal_open(void);
void terminal_close(void);

/* Its size now; 80 by 24 if it does not say. */
void terminal_size(int *columns, int *rows);

/* Shows the LENGTH bytes of PAGE, lines that end with \n.  False: it is gone. */
bool terminal_show(const char *page, size_t length);

/*
 * Waits up to MS milliseconds for a key and returns it; 0: none came, or the size has changed, or
 * the program was stopped and goes on: draw again.  -1: the terminal is gone, or a signal asks for
 * the end.
 */
int terminal_key(int ms);

/* Ends the program by the signal that asked for it, if one did, after terminal_close. */
void terminal_die(void);

#endif
