/*
 * Redis' protocol on a connection (RESP2 and RESP3): see redis/redis.h.
 */
#ifndef TALLYD_SERVER_REDIS_PROTOCOL_H
#define TALLYD_SERVER_REDIS_PROTOCOL_H

#include "protocol.h"

extern const struct protocol redis_protocol;

#endif
