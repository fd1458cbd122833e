#include "proxy.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

#define SIGNATURE   12 /* bytes that version 2 begins with */
#define FIXED       16 /* of it before the addresses */
#define TLV_HEAD    3  /* bytes of a TLV before its value: the type, the length */
#define TLV_CRC32C  0x03
#define CRC32C_SIZE 4
#define WORD_MAX    (INET6_ADDRSTRLEN + 1)

static const char line_start[] = "PROXY ";
static const uint8_t signature[SIGNATURE] = "\r\n\r\n\0\r\nQUIT\n";

static enum proxy_progress malformed(struct proxy_header *header, const char *wrong)
{
	header->wrong = wrong;
	return PROXY_MALFORMED;
}

/* --- version 1: a line --- */

/*
 * The word that begins at *AT, up to a space or END, into WORD, and *AT behind that space; false if
 * there is none, or none so long.
 */
static bool take_word(const char **at, const char *end, char word[WORD_MAX])
{
	const char *space = *at < end ? memchr(*at, ' ', (size_t)(end - *at)) : NULL;
	const char *stop = space ? space : end;
	size_t length = *at < end ? (size_t)(stop - *at) : 0;

	/* What ends with a space has an empty word behind it. */
	if (length == 0 || length >= WORD_MAX || memchr(*at, '\0', length) || stop + 1 == end)
		return false;
	memcpy(word, *at, length);
	word[length] = '\0';
	*at = space ? space + 1 : end;
	return true;
}

static bool read_port(const char *word, uint16_t *port)
{
	uint32_t number = 0;
	size_t i = 0;

	for (; word[i] >= '0' && word[i] <= '9' && i < 5; i++)
		number = number * 10 + (uint32_t)(word[i] - '0');
	if (i == 0 || word[i] != '\0' || number > UINT16_MAX || (word[0] == '0' && i > 1))
		return false;
	*port = (uint16_t)number;
	return true;
}

/* The two addresses and ports of a client that came by FAMILY, from AT to END. */
static enum proxy_progress read_addresses(const char *at, const char *end, int family,
                                          struct proxy_header *header)
{
	char source[WORD_MAX], target[WORD_MAX], from[WORD_MAX], to[WORD_MAX];
	uint8_t ignored[16];
	uint16_t unused;

	if (!take_word(&at, end, source) || !take_word(&at, end, target) ||
	    !take_word(&at, end, from) || !take_word(&at, end, to) || at != end)
		return malformed(header, "not two addresses and two ports with one space between");
	/* inet_pton takes no zero in front of a decimal number (section 2.1). */
	if (inet_pton(family, source, header->address) != 1 ||
	    inet_pton(family, target, ignored) != 1)
		return malformed(header, "an address that is none of its family");
	if (!read_port(from, &header->port) || !read_port(to, &unused))
		return malformed(header, "a port that is none");
	header->client = family == AF_INET ? PROXY_INET : PROXY_INET6;
	return PROXY_DONE;
}

/* What a line of LENGTH bytes says, its end not included. */
static enum proxy_progress read_line(const char *bytes, size_t length, struct proxy_header *header)
{
	static const char unknown[] = "UNKNOWN", tcp4[] = "TCP4 ", tcp6[] = "TCP6 ";
	const char *word = bytes + sizeof(line_start) - 1, *end = bytes + length;
	size_t rest = length - (sizeof(line_start) - 1);

	if (rest >= sizeof(tcp4) - 1 && memcmp(word, tcp4, sizeof(tcp4) - 1) == 0)
		return read_addresses(word + sizeof(tcp4) - 1, end, AF_INET, header);
	if (rest >= sizeof(tcp6) - 1 && memcmp(word, tcp6, sizeof(tcp6) - 1) == 0)
		return read_addresses(word + sizeof(tcp6) - 1, end, AF_INET6, header);
	/* Whatever follows it means nothing. */
	if (rest >= sizeof(unknown) - 1 && memcmp(word, unknown, sizeof(unknown) - 1) == 0 &&
	    (rest == sizeof(unknown) - 1 || word[sizeof(unknown) - 1] == ' '))
		return PROXY_DONE;
	return malformed(header, "neither TCP4 nor TCP6 nor UNKNOWN");
}

static enum proxy_progress read_version_1(const char *bytes, size_t length,
                                          struct proxy_header *header)
{
	size_t seen = length < PROXY_LINE_MAX ? length : PROXY_LINE_MAX;
	const char *feed = memchr(bytes, '\n', seen);
	const char *end = memchr(bytes, '\r', seen);

	/* The first of either must be a CR that an LF follows. */
	if (feed && (!end || end + 1 != feed))
		return malformed(header, "a line that does not end with CRLF");
	if (end && !feed && end + 1 < bytes + seen)
		return malformed(header, "a line that does not end with CRLF");
	if (!feed)
		return seen < PROXY_LINE_MAX ? PROXY_MORE
		                             : malformed(header, "a line of over 107 bytes");
	header->length = (size_t)(feed + 1 - bytes);
	return read_line(bytes, (size_t)(end - bytes), header);
}

/* --- version 2: binary --- */

static uint32_t crc_step(uint32_t crc, uint8_t byte)
{
	/* Half a byte at a time: x^n modulo the polynomial, reflected. */
	static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
	                                   0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
	                                   0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	                                   0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};

	crc ^= byte;
	crc = (crc >> 4) ^ table[crc & 15];
	return (crc >> 4) ^ table[crc & 15];
}

static uint32_t crc_with_hole(const uint8_t *bytes, size_t length, size_t hole, size_t hole_length)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < length; i++)
		crc = crc_step(crc, i >= hole && i - hole < hole_length ? 0 : bytes[i]);
	return ~crc;
}

uint32_t proxy_crc32c(const uint8_t *bytes, size_t length)
{
	return crc_with_hole(bytes, length, length, 0);
}

static uint32_t big_endian(const uint8_t *bytes, size_t count)
{
	uint32_t number = 0;

	for (size_t i = 0; i < count; i++)
		number = number << 8 | bytes[i];
	return number;
}

/* The TLVs from AT to the end of the header of TOTAL bytes (section 2.2). */
static enum proxy_progress check_tlvs(const uint8_t *bytes, size_t at, size_t total,
                                      struct proxy_header *header)
{
	size_t checksum_at = 0;

	while (at < total) {
		if (total - at < TLV_HEAD)
			return malformed(header, "bytes behind the last TLV");
		size_t size = big_endian(bytes + at + 1, 2);
		if (size > total - at - TLV_HEAD)
			return malformed(header, "a TLV that is longer than the header");
		if (bytes[at] == TLV_CRC32C) {
			if (size != CRC32C_SIZE || checksum_at != 0)
				return malformed(header, "a checksum that is none");
			checksum_at = at + TLV_HEAD;
		}
		at += TLV_HEAD + size;
	}
	if (checksum_at != 0 && crc_with_hole(bytes, total, checksum_at, CRC32C_SIZE) !=
	                            big_endian(bytes + checksum_at, CRC32C_SIZE))
		return malformed(header, "a wrong checksum");
	return PROXY_DONE;
}

/* Bytes of both addresses and ports of the family in the upper half of BYTE; 0: none are told. */
static size_t address_size(uint8_t byte)
{
	static const uint8_t sizes[] = {0, 12, 36, 216};

	return sizes[byte >> 4];
}

/* A family and a way of transport that there are: unspecified both, or both specified. */
static bool is_family(uint8_t byte)
{
	return byte == 0 ||
	       (byte >> 4 >= 1 && byte >> 4 <= 3 && (byte & 15) >= 1 && (byte & 15) <= 2);
}

static void read_client(const uint8_t *bytes, struct proxy_header *header)
{
	static const enum proxy_client clients[] = {PROXY_ITSELF, PROXY_INET, PROXY_INET6,
	                                            PROXY_UNIX};

	header->client = clients[bytes[13] >> 4];
	if (header->client == PROXY_INET) {
		memcpy(header->address, bytes + FIXED, 4);
		header->port = (uint16_t)big_endian(bytes + FIXED + 8, 2);
	} else if (header->client == PROXY_INET6) {
		memcpy(header->address, bytes + FIXED, 16);
		header->port = (uint16_t)big_endian(bytes + FIXED + 32, 2);
	}
}

/* The version and the command, the family: as far as they have come.  NULL, or what is wrong. */
static const char *check_fixed(const uint8_t *bytes, size_t length)
{
	if (length > 12 && bytes[12] >> 4 != 2)
		return "a version that is not 2";
	if (length > 12 && (bytes[12] & 15) > 1)
		return "a command that is neither LOCAL nor PROXY";
	if (length > 13 && (bytes[12] & 15) == 1 && !is_family(bytes[13]))
		return "a family of addresses that there is none of";
	if (length >= FIXED && FIXED + big_endian(bytes + 14, 2) > PROXY_HEADER_MAX)
		return "a header of over 4096 bytes";
	return NULL;
}

static enum proxy_progress read_version_2(const uint8_t *bytes, size_t length,
                                          struct proxy_header *header)
{
	const char *wrong = check_fixed(bytes, length);

	if (wrong)
		return malformed(header, wrong);
	if (length < FIXED)
		return PROXY_MORE;
	size_t total = FIXED + big_endian(bytes + 14, 2);
	bool names = (bytes[12] & 15) == 1 && bytes[13] != 0;
	if (names && total < FIXED + address_size(bytes[13]))
		return malformed(header, "addresses that are longer than the header");
	if (length < total)
		return PROXY_MORE;
	header->length = total;
	if (!names)
		return PROXY_DONE;
	read_client(bytes, header);
	return check_tlvs(bytes, FIXED + address_size(bytes[13]), total, header);
}

/* --- either --- */

static bool begins(const char *bytes, size_t length, const void *start, size_t size)
{
	return memcmp(bytes, start, length < size ? length : size) == 0;
}

enum proxy_progress proxy_read(const char *bytes, size_t length, struct proxy_header *header)
{
	*header = (struct proxy_header){.client = PROXY_ITSELF};
	if (length == 0)
		return PROXY_MORE;
	if (begins(bytes, length, signature, SIGNATURE))
		return length < SIGNATURE ? PROXY_MORE
		                          : read_version_2((const uint8_t *)bytes, length, header);
	if (begins(bytes, length, line_start, sizeof(line_start) - 1))
		return length < sizeof(line_start) - 1 ? PROXY_MORE
		                                       : read_version_1(bytes, length, header);
	return malformed(header, "no PROXY header");
}
