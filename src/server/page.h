/*
 * A page of a list: its body is written before its length is known, behind room for the head.
 */
#ifndef TALLYD_SERVER_PAGE_H
#define TALLYD_SERVER_PAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "handlers.h"

#define PAGE_HEAD_MAX 1280 /* bytes of any head that page_end writes */
#define PAGE_TAIL_MAX 640  /* bytes after the last entry: the link to the next page */

_Static_assert(PAGE_HEAD_MAX >= REPLY_SHAPE_MAX, "any head with our fields");

/* Where the body is to be written. */
void page_begin(const struct answer *answer, struct text *body);

/* Is there room in BODY for one more entry of up to ENTRY_MAX bytes, and for the tail? */
bool page_has_room(const struct text *body, size_t entry_max);

/* 200 with what was written to BODY. */
void page_end(const struct call *call, struct answer *answer, const struct text *body);

#endif
