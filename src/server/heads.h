/*
 * The heads that came last.  A client that keeps its connection sends the same head again and
 * again; what was read from its bytes, and what follows from that alone, is then taken as it was.
 */
#ifndef TALLYD_SERVER_HEADS_H
#define TALLYD_SERVER_HEADS_H

#include <stdbool.h>
#include <stddef.h>

#include "auth.h"
#include "routes.h"

#define HEADS_KEPT     4
#define HEADS_SIZE_MAX 512 /* bytes of a head that is kept */

/* What follows from a head's bytes and the settings. */
struct head {
	struct http_request request; /* after HTTP_DONE of http_parse_head */
	const struct route *route;
	enum endpoint endpoint;
	struct http_span segment;  /* of route_find */
	const struct token *token; /* of auth_identify */
	enum credentials credentials;
	struct reply_frame frame; /* of route_frame; without date and connection */
};

/* Start from {0}. */
struct heads {
	struct head other; /* one that is not kept, while it is served */
	unsigned newest;   /* that was found or kept */
	struct {
		size_t length; /* 0: none */
		char bytes[HEADS_SIZE_MAX];
		struct head head;
	} kept[HEADS_KEPT];
};

/* The head that BYTES[0..LENGTH) begin with, byte for byte; NULL: it is none of these. */
const struct head *heads_find(struct heads *heads, const char *bytes, size_t length);

/* Keeps HEAD, which was read from BYTES, unless it is too long. */
void heads_keep(struct heads *heads, const char *bytes, const struct head *head);

#endif
