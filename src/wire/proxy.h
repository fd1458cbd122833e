/*
 * The PROXY protocol as a receiver reads it (HAProxy, "The PROXY protocol", versions 1 and 2,
 * sections 2.1 and 2.2): what a proxy says, in front of everything else, of the client whose
 * connection it passes on.
 */
#ifndef TALLYD_WIRE_PROXY_H
#define TALLYD_WIRE_PROXY_H

#include <stddef.h>
#include <stdint.h>

#define PROXY_LINE_MAX   107  /* bytes of a header of version 1, CRLF included (section 2.1) */
#define PROXY_HEADER_MAX 4096 /* bytes of one of version 2; the protocol has up to 65551 */

/* Who the client is. */
enum proxy_client {
	PROXY_ITSELF, /* LOCAL, UNKNOWN, UNSPEC: nothing is said; the connection's own peer */
	PROXY_INET,   /* IPv4 */
	PROXY_INET6,  /* IPv6 */
	PROXY_UNIX,   /* a Unix socket's */
};

struct proxy_header {
	enum proxy_client client;
	uint8_t address[16]; /* IPv6, or IPv4 in the first four */
	uint16_t port;       /* of either */
	size_t length;       /* bytes that the header takes up */
	const char *wrong;   /* of a malformed one: what is, a constant; else NULL */
};

enum proxy_progress {
	PROXY_MORE,      /* it goes on */
	PROXY_DONE,      /* *HEADER is filled in */
	PROXY_MALFORMED, /* no more bytes make a header of this: header->wrong says why */
};

/*
 * Reads the header that BYTES[0..LENGTH) begin with.  Pure, and strict: nothing is guessed.
 * Addresses and ports as section 2.1 wants them written, no zero in front; of version 2 every
 * address whole, every TLV within the header and nothing behind the last, and the checksum right
 * where there is one (PP2_TYPE_CRC32C).  A header that names no client is passed over by its
 * length alone, as section 2.2 wants.
 */
enum proxy_progress proxy_read(const char *bytes, size_t length, struct proxy_header *header);

/* CRC-32C (Castagnoli, RFC 3720 B.4) of BYTES[0..LENGTH). */
uint32_t proxy_crc32c(const uint8_t *bytes, size_t length);

#endif
