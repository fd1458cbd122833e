/*
 * Lists of addresses and networks: who is among them, to the bit; and which client a peer counts
 * as. What such a list may not be is in t/configs/listen-proxy-*.conf.
 */
#include "../src/server/networks.h"
#include "tap/tap.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static struct peer peer(const char *text)
{
	uint8_t bytes[16];
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;

	if (strcmp(text, "unix") == 0)
		return peer_make(AF_UNIX, NULL);
	if (inet_pton(family, text, bytes) != 1)
		BAIL_OUT("%s is no address", text);
	return peer_make(family, bytes);
}

static bool has(const char *list, const char *who)
{
	struct networks networks;
	const struct peer it = peer(who);
	const char *wrong = networks_read(list, &networks);

	if (wrong)
		BAIL_OUT("%s %s", list, wrong);
	return networks_have(&networks, &it);
}

static void members(void)
{
	ok(!has("", "127.0.0.1") && !has("", "::1") && !has("", "unix"), "nobody is in nothing");
	ok(has("127.0.0.1", "127.0.0.1"), "an address");
	ok(!has("127.0.0.1", "127.0.0.2") && !has("127.0.0.1", "127.0.0.0"), "and none beside it");
	ok(has("10.0.0.0/8", "10.0.0.0") && has("10.0.0.0/8", "10.255.255.255"), "a network");
	ok(!has("10.0.0.0/8", "9.255.255.255") && !has("10.0.0.0/8", "11.0.0.0"), "to its edges");
	ok(has("10.20.32.0/19", "10.20.63.255") && !has("10.20.32.0/19", "10.20.64.0") &&
	       !has("10.20.32.0/19", "10.20.31.255"),
	   "one that ends within a byte");
	ok(has("10.0.0.2/31", "10.0.0.3") && !has("10.0.0.2/31", "10.0.0.4"), "of two");
	ok(has("0.0.0.0/0", "255.255.255.255") && !has("0.0.0.0/0", "::1"), "all of IPv4");
	ok(has("::/0", "ffff::1") && !has("::/0", "1.2.3.4"), "all of IPv6");
	ok(has("2001:db8::/33", "2001:db8:7fff::1") && !has("2001:db8::/33", "2001:db8:8000::1"),
	   "one of IPv6");
	ok(has("::1/128", "::1") && !has("::1/128", "::2"), "one address of it");
	ok(has("10.0.0.0/8", "::ffff:10.1.2.3"), "IPv4 within IPv6 is IPv4");
	ok(!has("::/0", "::ffff:10.1.2.3"), "and not IPv6");
	ok(has("127.0.0.1 unix ::1", "unix") && has("127.0.0.1 unix ::1", "::1"), "several");
	ok(!has("127.0.0.1 ::1", "unix") && !has("unix", "127.0.0.1"), "and no other");
}

static void most(void)
{
	char text[1024] = "";
	struct networks networks;

	for (unsigned i = 0; i < NETWORKS_MAX; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "10.0.%u.0/24 ", i);
	strcat(text, "unix");
	ok(!networks_read(text, &networks), "as many as there may be, and unix");
	cmp_ok(networks.count, "==", NETWORKS_MAX, "are all read");
	ok(has(text, "10.0.31.9") && !has(text, "10.0.32.9"), "to the last");
}

static bool same_client(const char *one, const char *other)
{
	const struct peer left = peer(one), right = peer(other);
	uint64_t a = 0, b = 0;

	return peer_client(&left, &a) && peer_client(&right, &b) && a == b;
}

static void clients(void)
{
	const struct peer local = peer("unix");
	uint64_t client;

	ok(!peer_client(&local, &client), "who has no address is no client");
	ok(same_client("192.0.2.1", "192.0.2.1"), "an address is itself");
	ok(!same_client("192.0.2.1", "192.0.2.2"), "and no other");
	ok(same_client("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"), "a /64 is one client");
	ok(!same_client("2001:db8::1", "2001:db8:0:1::1"), "the next is another");
	ok(same_client("::ffff:192.0.2.1", "192.0.2.1"), "IPv4 within IPv6 is IPv4");
	ok(!same_client("0.0.0.0", "::"), "nothing of IPv4 is not nothing of IPv6");
	ok(!same_client("::1", "0.0.0.1"), "nor one one");
}

static void addresses(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr un = {.sa_family = AF_UNIX};
	const struct peer four = peer("127.0.0.2"), six = peer("::1");
	struct peer got = peer_of((struct sockaddr *)&in);

	ok(memcmp(&got, &four, sizeof(got)) == 0, "of a socket of IPv4");
	got = peer_of((struct sockaddr *)&in6);
	ok(memcmp(&got, &six, sizeof(got)) == 0, "of IPv6");
	got = peer_of(&un);
	cmp_ok(got.family, "==", AF_UNIX, "of a Unix socket");
}

int main(void)
{
	plan(NO_PLAN);
	members();
	most();
	clients();
	addresses();
	return done_testing();
}
