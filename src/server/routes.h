/*
 * Which function answers which request.
 */
#ifndef TALLYD_SERVER_ROUTES_H
#define TALLYD_SERVER_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "../wire/endpoint.h"
#include "../wire/http.h"
#include "handlers.h"

struct route_method {
	enum http_method method; /* GET also answers HEAD; OPTIONS is answered everywhere */
	handler *handle;
	enum endpoint endpoint;                     /* as what its requests are counted */
	size_t room;                                /* bytes of its answer, 0: HANDLER_ROOM */
	size_t (*measure)(const struct call *call); /* and so many more; NULL: none */
	bool events;       /* POST /events: also takes streams, arrays, and events in groups */
	bool returns_body; /* the answer can be as long as the request's body besides */
	uint8_t scope;     /* of the tokens that may ask, enum token_scope; 0: of any */
	bool whole;        /* only of tokens without a prefix: it is about the whole service */
	bool (*open)(const struct call *call); /* may it be asked without a token?  NULL: no */
};

#define ROUTE_METHODS_MAX 3

struct route {
	const char *pattern; /* a path; one "*" in it is one segment, handed to the handler raw */
	const char *allow;   /* the value of Allow (RFC 9110 10.2.1) */
	struct route_method method[ROUTE_METHODS_MAX]; /* ends early with a NULL handler */
	bool diagnostics;                              /* exists only with diagnostics = true */
};

/*
 * The route of PATH (LENGTH raw bytes), whatever the method, or NULL.  What "*" stood for
 * is written to *SEGMENT, relative to PATH; length 0 if there is no "*".
 */
const struct route *route_find(const char *path, size_t length, bool diagnostics,
                               struct http_span *segment);

/* How METHOD is answered on ROUTE (may be NULL), or NULL. */
const struct route_method *route_method(const struct route *route, enum http_method method);

/* Sets what call->frame takes from the request: head, problem, origin and varies. */
void route_frame(struct call *call);

/* How many bytes the answer to CALL on ROUTE (may be NULL) may take, after route_frame. */
size_t route_room(const struct route *route, const struct call *call);

/*
 * Answers CALL on ROUTE (NULL: 404): with its handler, or with what keeps the handler from being
 * asked: call->denied, 404, 405, a foreign origin; and OPTIONS.
 */
void route_answer(const struct route *route, const struct call *call, struct answer *answer);

#endif
