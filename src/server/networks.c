#include "networks.h"

#include <arpa/inet.h>
#include <string.h>

#define WORD_MAX (INET6_ADDRSTRLEN + 4) /* with "/128" and the NUL */

/* Has ADDRESS only zeros behind its first BITS, of SIZE bytes? */
static bool ends_there(const uint8_t *address, unsigned bits, unsigned size)
{
	for (unsigned i = bits; i < size * 8; i++)
		if (address[i / 8] & (0x80 >> i % 8))
			return false;
	return true;
}

/* The length of a prefix, at most MOST; -1 if it is none. */
static int read_bits(const char *text, unsigned most)
{
	unsigned bits = 0;
	size_t length = strlen(text);

	if (length == 0 || length > 3 || (text[0] == '0' && length > 1))
		return -1;
	for (; *text >= '0' && *text <= '9'; text++)
		bits = bits * 10 + (unsigned)(*text - '0');
	return *text == '\0' && bits <= most ? (int)bits : -1;
}

/* WORD is changed. */
static const char *read_word(char *word, struct networks *networks)
{
	struct network *network = &networks->network[networks->count];
	char *slash = strchr(word, '/');
	uint8_t address[16];
	int family = strchr(word, ':') ? AF_INET6 : AF_INET;
	unsigned size = family == AF_INET6 ? 16 : 4;

	if (strcmp(word, "unix") == 0) {
		networks->local = true;
		return NULL;
	}
	if (networks->count == NETWORKS_MAX)
		return "has too many addresses";
	if (slash)
		*slash = '\0';
	if (inet_pton(family, word, address) != 1)
		return "has a word that is no numeric address";
	int bits = slash ? read_bits(slash + 1, size * 8) : (int)(size * 8);
	if (bits < 0)
		return "has a prefix of no such length";
	if (!ends_there(address, (unsigned)bits, size))
		return "has an address with bits behind its prefix";
	network->first = peer_make(family, address);
	if (network->first.family != family)
		return "has an IPv4 address within IPv6";
	network->bits = (uint8_t)bits;
	networks->count++;
	return NULL;
}

const char *networks_read(const char *text, struct networks *networks)
{
	memset(networks, 0, sizeof(*networks));
	while (*text) {
		size_t length = strcspn(text, " ");
		char word[WORD_MAX];

		if (length == 0 || (text[length] == ' ' && text[length + 1] == '\0'))
			return "has a space too many";
		if (length >= sizeof(word))
			return "has a word that is no numeric address";
		memcpy(word, text, length);
		word[length] = '\0';
		const char *wrong = read_word(word, networks);
		if (wrong)
			return wrong;
		text += length + (text[length] == ' ');
	}
	return NULL;
}

static bool has(const struct network *network, const struct peer *peer)
{
	unsigned whole = network->bits / 8;
	unsigned rest = network->bits % 8;

	if (network->first.family != peer->family ||
	    memcmp(network->first.address, peer->address, whole) != 0)
		return false;
	return rest == 0 ||
	       (network->first.address[whole] ^ peer->address[whole]) >> (8 - rest) == 0;
}

bool networks_have(const struct networks *networks, const struct peer *peer)
{
	if (peer->family != AF_INET && peer->family != AF_INET6)
		return networks->local;
	for (unsigned i = 0; i < networks->count; i++)
		if (has(&networks->network[i], peer))
			return true;
	return false;
}
