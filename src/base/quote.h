/* Text of whatever origin as the inside of a JSON string (RFC 8259 7). */
#ifndef TALLYD_BASE_QUOTE_H
#define TALLYD_BASE_QUOTE_H

#define QUOTE_MAX 6 /* bytes that one byte of text takes at most */

/*
 * Appends TEXT at END, which has room: quotes, backslashes and control bytes are escaped, and each
 * byte that is part of no UTF-8 becomes U+FFFD.  Returns the new end.
 */
char *quote(char *end, const char *text);

#endif
