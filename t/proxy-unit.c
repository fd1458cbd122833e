/*
 * The reader of the PROXY protocol alone: both versions, every split, every limit at its last good
 * and its first bad value, and whatever else must be refused.
 */
#include "../src/wire/proxy.h"
#include "tap/tap.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define ROOM      (2 * PROXY_HEADER_MAX)
#define ROUNDS    200000
#define SEED      20261128u

static struct proxy_header header;

/* What comes of BYTES: "CLIENT ADDRESS PORT LENGTH", "more", or what is wrong. */
static const char *reads(const void *bytes, size_t length)
{
	static const char *const clients[] = {"itself", "inet", "inet6", "unix"};
	static char text[256];
	char address[INET6_ADDRSTRLEN] = "-";
	char *copy = malloc(length ? length : 1); /* of just that size, for the sanitizers */

	memcpy(copy, bytes, length);
	memset(&header, 'x', sizeof(header));
	enum proxy_progress progress = proxy_read(copy, length, &header);
	free(copy);
	if (progress == PROXY_MALFORMED)
		return header.wrong;
	if (progress == PROXY_MORE)
		return "more";
	if (header.client == PROXY_INET || header.client == PROXY_INET6)
		inet_ntop(header.client == PROXY_INET ? AF_INET : AF_INET6, header.address, address,
		          sizeof(address));
	snprintf(text, sizeof(text), "%s %s %u %zu", clients[header.client], address,
	         (unsigned)header.port, header.length);
	return text;
}

#define READS(literal)                reads(literal, sizeof(literal) - 1)
#define LINE(literal, expected, what) is(READS("PROXY " literal), expected, what)

/* Does every shorter part of BYTES say that it goes on, and all behind it change nothing? */
static void splits(const void *bytes, size_t length, const char *what)
{
	static unsigned char more[ROOM];
	char whole[256];
	bool good = true;

	snprintf(whole, sizeof(whole), "%s", reads(bytes, length));
	for (size_t size = 0; size < length; size++)
		good = good && strcmp(reads(bytes, size), "more") == 0;
	ok(good, "%s, split anywhere, is waited for", what);
	memcpy(more, bytes, length);
	memcpy(more + length, "GET / HTTP/1.1\r\n", 16);
	is(reads(more, length + 16), whole, "%s ends where what follows begins", what);
}

#define SPLITS(literal, what) splits(literal, sizeof(literal) - 1, what)

/* --- version 1 --- */

static void lines(void)
{
	LINE("TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "inet 192.0.2.1 56324 45", "IPv4");
	LINE("TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "inet6 2001:db8::1 1 40", "IPv6");
	LINE("TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", "inet6 ::ffff:192.0.2.1 1 50",
	     "IPv4 within IPv6");
	LINE("TCP4 255.255.255.255 0.0.0.0 0 65535\r\n", "inet 255.255.255.255 0 44",
	     "the last and the first");
	LINE("UNKNOWN\r\n", "itself - 0 15", "an unknown client");
	LINE("UNKNOWN ffff::1 nonsense \x01\r\n", "itself - 0 34", "whatever is said of it");
	SPLITS("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "IPv4");
	SPLITS("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "IPv6");
	SPLITS("PROXY UNKNOWN\r\n", "an unknown client");
}

static void line_limits(void)
{
	char line[PROXY_LINE_MAX + 8];

	LINE("TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	     "inet6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 104", "the longest of IPv6");
	memset(line, 'x', sizeof(line));
	memcpy(line, "PROXY UNKNOWN ", 14);
	is(reads(line, PROXY_LINE_MAX - 1), "more", "106 bytes without an end may have one");
	is(reads(line, PROXY_LINE_MAX), "a line of over 107 bytes", "107 may not");
	is(reads(line, sizeof(line)), "a line of over 107 bytes", "nor more");
	memcpy(line + PROXY_LINE_MAX - 2, "\r\n", 2);
	is(reads(line, sizeof(line)), "itself - 0 107", "107 with one are a header");
	line[PROXY_LINE_MAX - 2] = 'x';
	memcpy(line + PROXY_LINE_MAX - 1, "\r\n", 2);
	is(reads(line, sizeof(line)), "a line of over 107 bytes", "108 are none");
	is(reads(line, PROXY_LINE_MAX), "a line of over 107 bytes", "which the CR tells already");
}

static void bad_lines(void)
{
	static const char words[] = "not two addresses and two ports with one space between";
	static const char ending[] = "a line that does not end with CRLF";
	static const char address[] = "an address that is none of its family";
	static const char family[] = "neither TCP4 nor TCP6 nor UNKNOWN";
	static const char port[] = "a port that is none";

	LINE("TCP4 192.0.2.1 198.51.100.2 1 2\n", ending, "LF alone");
	LINE("TCP4 192.0.2.1 198.51.100.2 1 2\rx", ending, "CR alone");
	LINE("TCP4 192.0.2.1\r198.51.100.2 1 2\r\n", ending, "CR within");
	LINE("UNKNOWN a\nb\r\n", ending, "LF within");
	LINE("\r\n", family, "no family");
	LINE(" TCP4 192.0.2.1 198.51.100.2 1 2\r\n", family, "two spaces");
	LINE("tcp4 192.0.2.1 198.51.100.2 1 2\r\n", family, "small letters");
	LINE("TCP5 192.0.2.1 198.51.100.2 1 2\r\n", family, "another family");
	LINE("TCP4\r\n", family, "a family alone");
	LINE("UNKNOWNS\r\n", family, "more than UNKNOWN");
	LINE("TCP4 \r\n", words, "no words");
	LINE("TCP4 192.0.2.1 198.51.100.2 1\r\n", words, "one too few");
	LINE("TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n", words, "one too many");
	LINE("TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", words, "a space at the end");
	LINE("TCP4  192.0.2.1 198.51.100.2 1 2\r\n", words, "two spaces in front");
	LINE("TCP4 192.0.2.1  198.51.100.2 1 2\r\n", words, "two spaces within");
	LINE("TCP4 192.0.2.1\0 198.51.100.2 1 2\r\n", words, "a NUL");
	LINE("TCP4 192.0.2.1111111111111111111111111111111111111111 1.2.3.4 1 2\r\n", words,
	     "a word that is too long");
	LINE("TCP4 192.0.2.256 198.51.100.2 1 2\r\n", address, "256");
	LINE("TCP4 192.0.02.1 198.51.100.2 1 2\r\n", address, "a zero in front");
	LINE("TCP4 192.0.2 198.51.100.2 1 2\r\n", address, "three numbers");
	LINE("TCP4 192.0.2.1 198.51.100 1 2\r\n", address, "three in the second");
	LINE("TCP4 ::1 ::1 1 2\r\n", address, "IPv6 for IPv4");
	LINE("TCP6 192.0.2.1 192.0.2.2 1 2\r\n", address, "IPv4 for IPv6");
	LINE("TCP6 [::1] [::1] 1 2\r\n", address, "brackets");
	LINE("TCP6 ::1%lo ::1 1 2\r\n", address, "a scope");
	LINE("TCP4 localhost localhost 1 2\r\n", address, "names");
	LINE("TCP4 192.0.2.1 198.51.100.2 65536 2\r\n", port, "65536");
	LINE("TCP4 192.0.2.1 198.51.100.2 1 65536\r\n", port, "in the second, too");
	LINE("TCP4 192.0.2.1 198.51.100.2 01 2\r\n", port, "a zero in front");
	LINE("TCP4 192.0.2.1 198.51.100.2 00 2\r\n", port, "two zeros");
	LINE("TCP4 192.0.2.1 198.51.100.2 -1 2\r\n", port, "less than none");
	LINE("TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", port, "a sign");
	LINE("TCP4 192.0.2.1 198.51.100.2 100000 2\r\n", port, "six digits");
	LINE("TCP4 192.0.2.1 198.51.100.2 0x1 2\r\n", port, "another base");
}

static void neither(void)
{
	static const char none[] = "no PROXY header";

	is(READS(""), "more", "nothing is waited for");
	is(READS("G"), none, "a request is told by its first byte");
	is(READS("GET / HTTP/1.1\r\n"), none, "so is more of it");
	is(READS("PO"), none, "POST by its second");
	is(READS("*1\r\n$4\r\nPING\r\n"), none, "a command");
	is(READS("\x16\x03\x01"), none, "TLS");
	is(READS("proxy TCP4"), none, "small letters");
	is(READS("PROXYTCP4"), none, "no space");
	is(READS("PROXY\r\n"), none, "no more than the word");
	is(READS("\r\n\r\n\0\r\nQUIX"), none, "a signature with another byte");
	is(READS("\r\nPROXY "), none, "an empty line in front");
}

/* --- version 2 --- */

static uint8_t binary[ROOM + 16];
static size_t binary_length;

static void put(const void *bytes, size_t length)
{
	memcpy(binary + binary_length, bytes, length);
	binary_length += length;
}

#define PUT(literal) put(literal, sizeof(literal) - 1)

/* Makes the length in the header that of all that was put. */
static void close_header(void)
{
	binary[14] = (uint8_t)((binary_length - 16) >> 8);
	binary[15] = (uint8_t)(binary_length - 16);
}

static void begin(uint8_t command, uint8_t family)
{
	binary_length = 0;
	PUT(SIGNATURE);
	put((uint8_t[]){command, family, 0, 0}, 4);
}

#define INET_BYTES "\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb"
#define INET6_BYTES                                                                                \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02"     \
	"\xdc\x04\x01\xbb"

static void begin_inet(void)
{
	begin(0x21, 0x11);
	PUT(INET_BYTES);
}

static const char *ends(void)
{
	close_header();
	return reads(binary, binary_length);
}

static void headers(void)
{
	begin_inet();
	is(ends(), "inet 192.0.2.1 56324 28", "IPv4");
	splits(binary, binary_length, "IPv4");
	begin(0x21, 0x21);
	PUT(INET6_BYTES);
	is(ends(), "inet6 2001:db8::1 56324 52", "IPv6");
	splits(binary, binary_length, "IPv6");
	begin(0x21, 0x12);
	PUT(INET_BYTES);
	is(ends(), "inet 192.0.2.1 56324 28", "a client of datagrams");
	begin(0x21, 0x22);
	PUT(INET6_BYTES);
	is(ends(), "inet6 2001:db8::1 56324 52", "of IPv6, too");
	for (uint8_t way = 1; way <= 2; way++) {
		begin(0x21, 0x30 + way);
		memset(binary + binary_length, 'p', 216);
		binary_length += 216;
		is(ends(), "unix - 0 232", "a Unix socket's");
	}
	splits(binary, binary_length, "a Unix socket's");
}

static void unnamed(void)
{
	begin(0x20, 0x00);
	is(ends(), "itself - 0 16", "LOCAL");
	splits(binary, binary_length, "LOCAL");
	begin(0x20, 0x11);
	PUT(INET_BYTES);
	is(ends(), "itself - 0 28", "LOCAL with addresses: they mean nothing");
	begin(0x20, 0xff);
	PUT("\x04\x00");
	is(ends(), "itself - 0 18",
	   "LOCAL with nonsense: the family is ignored, the block skipped");
	begin(0x21, 0x00);
	is(ends(), "itself - 0 16", "an unspecified client");
	begin(0x21, 0x00);
	PUT("nonsense");
	is(ends(), "itself - 0 24", "whatever is said of it");
}

static void bad_headers(void)
{
	static const char family[] = "a family of addresses that there is none of";
	static const uint8_t families[] = {0x01, 0x02, 0x10, 0x13, 0x1f, 0x20, 0x23,
	                                   0x30, 0x33, 0x40, 0x41, 0x51, 0xf1};
	unsigned refused = 0;

	begin(0x11, 0x11);
	is(reads(binary, 13), "a version that is not 2", "version 1, known by its byte");
	begin(0x31, 0x11);
	is(reads(binary, 13), "a version that is not 2", "version 3");
	begin(0x22, 0x11);
	is(reads(binary, 13), "a command that is neither LOCAL nor PROXY", "command 2");
	begin(0x2f, 0x11);
	is(reads(binary, 13), "a command that is neither LOCAL nor PROXY", "command 15");
	for (size_t i = 0; i < sizeof(families); i++) {
		begin(0x21, families[i]);
		refused += strcmp(reads(binary, 14), family) == 0;
	}
	cmp_ok(refused, "==", sizeof(families), "families and transports that there are none of");
	begin_inet();
	binary[15] = 11;
	is(reads(binary, 16), "addresses that are longer than the header", "IPv4 a byte short");
	begin(0x21, 0x21);
	PUT(INET6_BYTES);
	binary[15] = 35;
	is(reads(binary, 16), "addresses that are longer than the header", "IPv6 a byte short");
	begin(0x21, 0x31);
	binary[15] = 215;
	is(reads(binary, 16), "addresses that are longer than the header", "a Unix socket's");
}

static void long_headers(void)
{
	static const char too_long[] = "a header of over 4096 bytes";

	begin_inet();
	PUT("\x04");
	put((uint8_t[]){(PROXY_HEADER_MAX - 31) >> 8, (PROXY_HEADER_MAX - 31) & 255}, 2);
	memset(binary + binary_length, 0, PROXY_HEADER_MAX - 31);
	binary_length = PROXY_HEADER_MAX;
	is(ends(), "inet 192.0.2.1 56324 4096", "as long as it may be");
	is(reads(binary, binary_length - 1), "more", "... is waited for to the last byte");
	binary_length++;
	is(ends(), too_long, "a byte longer");
	is(reads(binary, 16), too_long, "which is known by its length");
	begin(0x20, 0);
	memcpy(binary + 14, "\xff\xff", 2);
	is(reads(binary, 16), too_long, "also of LOCAL");
}

/* --- TLVs --- */

static void put_checksum(uint32_t wrong_by)
{
	size_t at = binary_length + 3;

	PUT("\x03\x00\x04\0\0\0\0");
	close_header();
	uint32_t crc = proxy_crc32c(binary, binary_length) ^ wrong_by;
	for (int i = 0; i < 4; i++)
		binary[at + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
}

static void tlvs(void)
{
	begin_inet();
	PUT("\x01\x00\x02h2\x04\x00\x00\xea\x00\x03vpc");
	is(ends(), "inet 192.0.2.1 56324 42", "TLVs are passed over");
	splits(binary, binary_length, "one with TLVs");
	begin_inet();
	PUT("\x01\x00\x02h2\x04");
	is(ends(), "bytes behind the last TLV", "one byte of another");
	begin_inet();
	PUT("\x01\x00");
	is(ends(), "bytes behind the last TLV", "two");
	begin_inet();
	PUT("\x01\x00\x03h2");
	is(ends(), "a TLV that is longer than the header", "one that is a byte short");
	begin_inet();
	PUT("\x01\xff\xff");
	is(ends(), "a TLV that is longer than the header", "one that is much longer");
}

static void checksums(void)
{
	cmp_ok(proxy_crc32c((const uint8_t *)"123456789", 9), "==", 0xe3069283,
	       "CRC-32C of the digits");
	cmp_ok(proxy_crc32c((const uint8_t *)"", 0), "==", 0, "of nothing");
	cmp_ok(proxy_crc32c((const uint8_t[32]){0}, 32), "==", 0x8a9136aa, "of zeros");
	begin_inet();
	PUT("\x01\x00\x02h2");
	put_checksum(0);
	is(reads(binary, binary_length), "inet 192.0.2.1 56324 40", "a right checksum");
	splits(binary, binary_length, "one with a checksum");
	binary[16] ^= 1;
	is(reads(binary, binary_length), "a wrong checksum", "one bit of the address");
	begin_inet();
	put_checksum(1);
	is(reads(binary, binary_length), "a wrong checksum", "one bit of itself");
	begin_inet();
	put_checksum(0);
	put_checksum(0);
	is(reads(binary, binary_length), "a checksum that is none", "two of them");
	begin_inet();
	PUT("\x03\x00\x03\0\0\0");
	is(ends(), "a checksum that is none", "three bytes");
	begin_inet();
	PUT("\x03\x00\x05\0\0\0\0\0");
	is(ends(), "a checksum that is none", "five");
}

/* --- damage --- */

/* One byte or more of a good header is another: whatever comes of it keeps its bounds. */
static void damage(void)
{
	unsigned done = 0;
	bool good = true;

	srand(SEED);
	for (unsigned i = 0; i < ROUNDS; i++) {
		bool line = i % 2;
		if (line) {
			binary_length = 0;
			PUT("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n");
		} else {
			begin(0x21, i % 4 ? 0x11 : 0x21);
			PUT(INET6_BYTES);
			put_checksum(0);
		}
		for (int n = rand() % 3; n >= 0; n--)
			binary[(size_t)rand() % binary_length] = (uint8_t)rand();
		size_t length = (size_t)rand() % (binary_length + 1);
		const char *what = reads(binary, i % 3 ? binary_length : length);
		if (strcmp(what, "more") == 0 || header.wrong)
			continue;
		done++;
		good = good && header.length <= binary_length &&
		       header.length <= (line ? PROXY_LINE_MAX : PROXY_HEADER_MAX);
	}
	ok(good, "damaged headers keep their bounds");
	cmp_ok(done, ">", 1000, "many of them are still headers");
}

int main(void)
{
	plan(NO_PLAN);
	lines();
	line_limits();
	bad_lines();
	neither();
	headers();
	unnamed();
	bad_headers();
	long_headers();
	tlvs();
	checksums();
	damage();
	return done_testing();
}
