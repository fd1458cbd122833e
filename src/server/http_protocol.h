/*
 * HTTP/1.1 on a connection: the way of one request (RFC 9110, RFC 9112).
 */
#ifndef TALLYD_SERVER_HTTP_PROTOCOL_H
#define TALLYD_SERVER_HTTP_PROTOCOL_H

#include "protocol.h"

extern const struct protocol http_protocol;

#endif
