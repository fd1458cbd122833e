/* The descriptors 0 to 2, which a program may be started without. */
#ifndef TALLYD_BASE_STANDARD_H
#define TALLYD_BASE_STANDARD_H

/*
 * Opens /dev/null as those that are closed, so that nothing opened later gets their numbers and,
 * with them, what is meant for people.  They stay as useless as they were: input is not readable,
 * output and error not writable (EBADF).  0, or -1 with errno.
 */
int standard_fill(void);

#endif
