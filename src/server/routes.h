/*
 * Which function answers which request.
 */
#ifndef TALLYD_SERVER_ROUTES_H
#define TALLYD_SERVER_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "../wire/http.h"
#include "handlers.h"

struct route {
	const char *pattern; /* a path; "*" at its end is one segment, handed to the handler raw */
	enum http_method method; /* GET also answers HEAD; OPTIONS is answered everywhere */
	const char *allow;       /* the value of Allow (RFC 9110 10.2.1) */
	handler *handle;
	bool returns_body; /* the answer can be as long as the request's body */
	bool diagnostics;  /* exists only with diagnostics = true */
};

/*
 * The route of PATH (LENGTH raw bytes), whatever the method, or NULL.  What "*" stood for
 * is written to *SEGMENT, relative to PATH; length 0 if there is no "*".
 */
const struct route *route_find(const char *path, size_t length, bool diagnostics,
                               struct http_span *segment);

/* May METHOD be used on ROUTE? */
bool route_allows(const struct route *route, enum http_method method);

#endif
