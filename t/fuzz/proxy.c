/*
 * The reader of the PROXY protocol: the input is what a proxy sends first.  A header that comes in
 * pieces is waited for, then read the same; nothing behind it changes it; and what it says, written
 * again, says the same.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "../../src/wire/proxy.h"

#define LENGTH_MAX (PROXY_HEADER_MAX + 64)
#define PREFIXES   4 /* of a header that are tried */
#define FIXED      16

static enum proxy_progress read_copy(const void *bytes, size_t length, struct proxy_header *header)
{
	char *copy = fuzz_copy(bytes, length);
	enum proxy_progress progress;

	memset(header, 'x', sizeof *header);
	progress = proxy_read(copy, length, header);
	FUZZ_HOLDS((progress == PROXY_MALFORMED) == (header->wrong != NULL),
	           "what is wrong is said when something is");
	free(copy);
	return progress;
}

static void must_be_same(const struct proxy_header *left, const struct proxy_header *right)
{
	FUZZ_HOLDS(left->client == right->client && left->port == right->port &&
	               left->length == right->length &&
	               memcmp(left->address, right->address, sizeof left->address) == 0,
	           "it says something else");
}

static void check_prefix(enum proxy_progress whole, const struct proxy_header *header,
                         const uint8_t *bytes, size_t size)
{
	struct proxy_header part;

	switch (read_copy(bytes, size, &part)) {
	case PROXY_MORE:
		FUZZ_HOLDS(whole != PROXY_DONE || size < header->length,
		           "it is whole and is waited for");
		FUZZ_HOLDS(size < PROXY_HEADER_MAX, "%zu bytes are waited for", size);
		break;
	case PROXY_DONE:
		FUZZ_HOLDS(whole == PROXY_DONE, "more bytes make it none");
		must_be_same(&part, header);
		break;
	case PROXY_MALFORMED:
		FUZZ_HOLDS(whole == PROXY_MALFORMED, "more bytes make it a header");
		break;
	}
}

/* As a line of version 1 it says the same. */
static void write_again(const struct proxy_header *header)
{
	const char *family = header->client == PROXY_INET ? "TCP4" : "TCP6";
	char address[INET6_ADDRSTRLEN], line[PROXY_LINE_MAX + 1];
	struct proxy_header again;

	if (header->client != PROXY_INET && header->client != PROXY_INET6)
		return;
	inet_ntop(header->client == PROXY_INET ? AF_INET : AF_INET6, header->address, address,
	          sizeof address);
	int length = snprintf(line, sizeof line, "PROXY %s %s %s %u %u\r\n", family, address,
	                      address, (unsigned)header->port, (unsigned)header->port);
	FUZZ_HOLDS(read_copy(line, (size_t)length, &again) == PROXY_DONE, "no header: %s", line);
	again.length = header->length;
	must_be_same(&again, header);
}

static void judge(const uint8_t *bytes, size_t length)
{
	uint64_t random = fuzz_hash(bytes, length);
	struct proxy_header header;
	enum proxy_progress progress = read_copy(bytes, length, &header);

	for (int i = 0; i < PREFIXES; i++)
		check_prefix(progress, &header, bytes, fuzz_next(&random) % (length + 1));
	if (progress != PROXY_DONE)
		return;
	FUZZ_HOLDS(header.length > 0 && header.length <= length &&
	               header.length <= (bytes[0] == 'P' ? PROXY_LINE_MAX : PROXY_HEADER_MAX),
	           "a header of %zu bytes", header.length);
	check_prefix(progress, &header, bytes, header.length);
	check_prefix(progress, &header, bytes, header.length - 1);
	write_again(&header);
}

/* --- inputs --- */

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define INET      "\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb"
#define SEED(literal)                                                                              \
	{                                                                                          \
		literal, sizeof(literal) - 1                                                       \
	}

static void seeds(fuzz_take *take)
{
	static const struct {
		const char *bytes;
		size_t length;
	} all[] = {
	    SEED("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET / HTTP/1.1\r\n"),
	    SEED("PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 0 65535\r\n"),
	    SEED("PROXY UNKNOWN\r\n"),
	    SEED("PROXY UNKNOWN ffff::1 nonsense\r\n"),
	    SEED("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n"),
	    SEED(SIGNATURE "\x21\x11\x00\x0c" INET "*1\r\n"),
	    SEED(SIGNATURE "\x21\x11\x00\x16" INET "\x01\x00\x00\x03\x00\x04\0\0\0\0"),
	    SEED(SIGNATURE "\x21\x12\x00\x11" INET "\x01\x00\x02h2"),
	    SEED(SIGNATURE "\x21\x21\x00\x24" INET INET INET),
	    SEED(SIGNATURE "\x20\x00\x00\x00"),
	    SEED(SIGNATURE "\x20\x00\xff\xff"),
	    SEED(SIGNATURE "\x21\x00\x00\x03xyz"),
	    SEED(SIGNATURE "\x21\x31\x00\xd8"),
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		take(all[i].bytes, all[i].length);
}

/* The length becomes that of the input; what is a checksum perhaps becomes right. */
static size_t mutate(uint8_t *bytes, size_t length, size_t room, uint64_t random)
{
	(void)room;
	if (length < FIXED || length - FIXED > UINT16_MAX || bytes[0] != '\r')
		return 0;
	bytes[14] = (uint8_t)((length - FIXED) >> 8);
	bytes[15] = (uint8_t)(length - FIXED);
	uint8_t *type = memchr(bytes + FIXED, 3, length - FIXED);
	if (random % 2 == 0 || type == NULL || (size_t)(bytes + length - type) < 7)
		return length;
	memcpy(type, "\x03\x00\x04\0\0\0\0", 7);
	uint32_t crc = proxy_crc32c(bytes, length);
	for (int i = 0; i < 4; i++)
		type[3 + i] = (uint8_t)(crc >> (24 - 8 * i));
	return length;
}

const struct fuzz_target fuzz_proxy = {
    .name = "proxy", .length_max = LENGTH_MAX, .judge = judge, .seeds = seeds, .mutate = mutate};
