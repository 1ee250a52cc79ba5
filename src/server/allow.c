#include "server/allow.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define IPV4_BYTES 4u
#define IPV6_BYTES 16u

struct address {
	unsigned int bytes; /* IPV4_BYTES or IPV6_BYTES */
	uint8_t value[IPV6_BYTES];
};

struct network {
	struct address address;
	unsigned int prefix; /* bits */
};

/* --- addresses -------------------------------------------------------------------------------- */

static bool is_within(const struct address *address, const struct network *network)
{
	unsigned int whole = network->prefix / 8;
	unsigned int rest = network->prefix % 8;

	if (address->bytes != network->address.bytes ||
	    memcmp(address->value, network->address.value, whole) != 0)
		return false;
	uint8_t mask = (uint8_t)(0xff00U >> rest);
	return rest == 0 || ((address->value[whole] ^ network->address.value[whole]) & mask) == 0;
}

static void from_ipv4(const void *bytes, struct address *ret_address)
{
	*ret_address = (struct address){.bytes = IPV4_BYTES};
	memcpy(ret_address->value, bytes, IPV4_BYTES);
}

static void from_ipv6(const uint8_t bytes[static IPV6_BYTES], struct address *ret_address)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (memcmp(bytes, mapped, sizeof(mapped)) == 0) {
		from_ipv4(bytes + sizeof(mapped), ret_address);
		return;
	}
	*ret_address = (struct address){.bytes = IPV6_BYTES};
	memcpy(ret_address->value, bytes, IPV6_BYTES);
}

static bool parse_address(const char *text, struct address *ret_address)
{
	uint8_t bytes[IPV6_BYTES];

	if (inet_pton(AF_INET, text, bytes) == 1) {
		from_ipv4(bytes, ret_address);
		return true;
	}
	if (inet_pton(AF_INET6, text, bytes) != 1)
		return false;
	from_ipv6(bytes, ret_address);
	return true;
}

static bool parse_network(const char *text, struct network *ret_network)
{
	char address[INET6_ADDRSTRLEN + 8];
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : strlen(text);

	if (length >= sizeof(address))
		return false;
	memcpy(address, text, length);
	address[length] = '\0';
	if (!parse_address(address, &ret_network->address))
		return false;
	unsigned int bits = ret_network->address.bytes * 8;
	ret_network->prefix = slash ? (unsigned int)strtoul(slash + 1, NULL, 10) : bits;
	/* ::ffff:10.0.0.0/104 is 10.0.0.0/8. */
	if (slash && bits == IPV4_BYTES * 8 && strchr(address, ':'))
		ret_network->prefix = ret_network->prefix > 96 ? ret_network->prefix - 96 : 0;
	if (ret_network->prefix > bits)
		ret_network->prefix = bits;
	return true;
}

/* Of the special-purpose registries, those that are not reachable by everybody, and those within
 * which an address of the former may be hidden. */
static const char *const special[] = {
	"0.0.0.0/8",	 "10.0.0.0/8",	    "100.64.0.0/10",  "127.0.0.0/8",	"169.254.0.0/16",
	"172.16.0.0/12", "192.0.0.0/24",    "192.0.2.0/24",   "192.88.99.0/24", "192.168.0.0/16",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",	"240.0.0.0/4",
	"2001::/23",	 "2001:db8::/32",   "2002::/16",      "3fff::/20",
};

static bool is_public(const struct address *address)
{
	struct network network;

	/* All that was ever given to somebody in IPv6 lies in 2000::/3. */
	if (address->bytes == IPV6_BYTES && address->value[0] >> 5 != 1)
		return false;
	for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
		if (parse_network(special[i], &network) && is_within(address, &network))
			return false;
	return true;
}

/* --- entries ---------------------------------------------------------------------------------- */

/* The entry without its port; *ret_port is 0 if it has none. The configuration has checked it. */
static void split_port(const char *entry, char *host, size_t size, uint16_t *ret_port)
{
	const char *colon = strrchr(entry, ':');
	bool is_ipv6 = colon && entry[0] != '[' && strchr(entry, ':') != colon;
	const char *bracket = entry[0] == '[' ? strchr(entry, ']') : NULL;
	size_t length = strlen(entry);

	*ret_port = 0;
	if (bracket) {
		length = (size_t)(bracket - entry) - 1;
		if (bracket[1] == ':')
			*ret_port = (uint16_t)strtoul(bracket + 2, NULL, 10);
		entry++;
	} else if (colon && !is_ipv6) {
		length = (size_t)(colon - entry);
		*ret_port = (uint16_t)strtoul(colon + 1, NULL, 10);
	}
	snprintf(host, size, "%.*s", (int)length, entry);
}

static bool name_matches(const char *pattern, const char *host)
{
	size_t length = strlen(host);

	if (length > 0 && host[length - 1] == '.')
		length--; /* a name with its root */
	if (strncmp(pattern, "*.", 2) != 0)
		return strlen(pattern) == length && strncasecmp(pattern, host, length) == 0;
	size_t suffix = strlen(pattern) - 1; /* with the full stop */
	return length > suffix && strncasecmp(pattern + 1, host + length - suffix, suffix) == 0;
}

/* Judges by one entry; address NULL: it is not known yet. */
static bool entry_allows(const char *entry, const char *host, uint16_t port,
			 const struct address *address)
{
	char text[256];
	struct network network;
	uint16_t only_port;

	split_port(entry, text, sizeof(text), &only_port);
	if (only_port != 0 && only_port != port)
		return false;
	if (parse_network(text, &network))
		return !address || is_within(address, &network);
	return name_matches(text, host) && (!address || is_public(address));
}

static bool any_allows(const struct config_callbacks *config, const char *host, uint16_t port,
		       const struct address *address)
{
	for (size_t i = 0; i < config->allow_count; i++)
		if (entry_allows(config->allow[i], host, port, address))
			return true;
	return false;
}

bool allow_host(const struct config_callbacks *config, const char *host, uint16_t port)
{
	struct address address;
	bool is_address = parse_address(host, &address);

	return any_allows(config, host, port, is_address ? &address : NULL);
}

bool allow_address(const struct config_callbacks *config, const char *host,
		   const struct sockaddr *address)
{
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
	struct address parsed;

	switch (address->sa_family) {
	case AF_INET:
		memcpy(&ipv4, address, sizeof(ipv4));
		from_ipv4(&ipv4.sin_addr, &parsed);
		return any_allows(config, host, ntohs(ipv4.sin_port), &parsed);
	case AF_INET6:
		memcpy(&ipv6, address, sizeof(ipv6));
		from_ipv6(ipv6.sin6_addr.s6_addr, &parsed);
		return any_allows(config, host, ntohs(ipv6.sin6_port), &parsed);
	default:
		return false;
	}
}
