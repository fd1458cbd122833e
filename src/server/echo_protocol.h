/*
 * Echo (RFC 862): every byte back, as it came.  A client that does not read what is sent back is
 * not read from either, as soon as a block of answers waits for it.
 */
#ifndef TALLYD_SERVER_ECHO_PROTOCOL_H
#define TALLYD_SERVER_ECHO_PROTOCOL_H

#include "protocol.h"

#define ECHO_BUFFER_MAX 65536 /* bytes that wait to go back to one client */

extern const struct protocol echo_protocol;

#endif
