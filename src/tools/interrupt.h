/*
 * Being asked to end: for commands that leave something half done.
 */
#ifndef TALLYD_TOOLS_INTERRUPT_H
#define TALLYD_TOOLS_INTERRUPT_H

#include <stdbool.h>

/* From now on SIGINT, SIGTERM and SIGHUP only ask for the end. */
void interrupt_catch(void);

/* Has it been asked for? */
bool interrupted(void);

#endif
