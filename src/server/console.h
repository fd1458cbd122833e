/*
 * The console: one page without outside resources, served from memory.  Its parts stand in
 * console/; console_page.c is made of them.
 */
#ifndef TALLYD_SERVER_CONSOLE_H
#define TALLYD_SERVER_CONSOLE_H

#include <stddef.h>

#define CONSOLE_MAX 32768 /* bytes of the page */

extern const char console_page[]; /* HTML in UTF-8 */
extern const size_t console_length;
extern const char console_policy[]; /* its Content-Security-Policy */

#endif
