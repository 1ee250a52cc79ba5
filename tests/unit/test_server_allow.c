/* Whom a callback may go to. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/allow.h"

/* One entry, copied to *copy. */
static struct config_callbacks allowing(const char *entry, char **copy)
{
	*copy = strdup(entry);
	assert_non_null(*copy);
	return (struct config_callbacks){.allow = copy, .allow_count = 1};
}

static bool reaches(const char *entry, const char *host, const char *address, uint16_t port)
{
	char *copy;
	struct config_callbacks config = allowing(entry, &copy);
	bool allowed;
	struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (inet_pton(AF_INET, address, &ipv4.sin_addr) == 1) {
		allowed = allow_address(&config, host, (const struct sockaddr *)&ipv4);
	} else {
		assert_int_equal(inet_pton(AF_INET6, address, &ipv6.sin6_addr), 1);
		allowed = allow_address(&config, host, (const struct sockaddr *)&ipv6);
	}
	free(copy);
	return allowed;
}

static bool may_ask(const char *entry, const char *host, uint16_t port)
{
	char *copy;
	struct config_callbacks config = allowing(entry, &copy);
	bool allowed = allow_host(&config, host, port);

	free(copy);
	return allowed;
}

static void test_a_name_leads_to_public_addresses_only(void **state)
{
	static const char *const hidden[] = {
		"127.0.0.1",   "10.1.2.3",	   "172.31.255.255",
		"192.168.0.1", "169.254.169.254",  "100.64.0.1",
		"0.0.0.0",     "224.0.0.1",	   "255.255.255.255",
		"::1",	       "fe80::1",	   "fd00::1",
		"::",	       "::ffff:127.0.0.1", "::ffff:10.0.0.1",
		"2002:7f00::", "2001:db8::1",	   "64:ff9b::a00:1",
		"ff02::1",
	};

	(void)state;
	assert_true(reaches("hooks.example", "hooks.example", "93.184.216.34", 443));
	assert_true(reaches("hooks.example", "HOOKS.Example.", "2606:2800:220:1::1", 80));
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		assert_false(reaches("hooks.example", "hooks.example", hidden[i], 443));
	assert_false(reaches("hooks.example", "other.example", "93.184.216.34", 443));
}

static void test_a_network_allows_its_addresses_by_any_name(void **state)
{
	(void)state;
	assert_true(reaches("10.1.0.0/16", "inner.example", "10.1.255.1", 80));
	assert_false(reaches("10.1.0.0/16", "inner.example", "10.2.0.1", 80));
	assert_true(reaches("10.1.128.0/17", "x", "10.1.128.1", 80));
	assert_false(reaches("10.1.128.0/17", "x", "10.1.127.255", 80));
	assert_true(reaches("127.0.0.1", "localhost", "127.0.0.1", 80));
	assert_true(reaches("127.0.0.1", "localhost", "::ffff:127.0.0.1", 80));
	assert_true(reaches("::ffff:10.0.0.0/104", "x", "10.9.9.9", 80));
	assert_true(reaches("fd00::/8", "x", "fd12::1", 80));
	assert_false(reaches("fd00::/8", "x", "fe80::1", 80));
	assert_true(reaches("0.0.0.0/0", "x", "127.0.0.1", 80));
	assert_false(reaches("0.0.0.0/0", "x", "::1", 80));
}

static void test_wildcards_stand_for_whole_labels(void **state)
{
	(void)state;
	assert_true(may_ask("*.example.org", "a.example.org", 443));
	assert_true(may_ask("*.example.org", "a.b.example.org", 443));
	assert_false(may_ask("*.example.org", "example.org", 443));
	assert_false(may_ask("*.example.org", "badexample.org", 443));
	assert_false(may_ask("example.org", "a.example.org", 443));
}

static void test_a_port_limits(void **state)
{
	(void)state;
	assert_true(may_ask("hooks.example:8443", "hooks.example", 8443));
	assert_false(may_ask("hooks.example:8443", "hooks.example", 443));
	assert_true(reaches("127.0.0.1:9000", "x", "127.0.0.1", 9000));
	assert_false(reaches("127.0.0.1:9000", "x", "127.0.0.1", 9001));
	assert_true(reaches("[::1]:9000", "x", "::1", 9000));
	assert_false(reaches("[::1]:9000", "x", "::1", 9001));
	assert_true(reaches("[fd00::/8]", "x", "fd00::7", 1));
}

static void test_an_address_in_the_url_is_judged_at_once(void **state)
{
	(void)state;
	assert_false(may_ask("hooks.example", "127.0.0.1", 80));
	assert_false(may_ask("10.0.0.0/8", "11.0.0.1", 80));
	assert_true(may_ask("10.0.0.0/8", "10.0.0.1", 80));
	assert_true(may_ask("::1", "::1", 80));
	/* What a name stands for is known later. */
	assert_true(may_ask("10.0.0.0/8", "inner.example", 80));
}

static void test_nobody_is_allowed_without_entries(void **state)
{
	struct config_callbacks none = {0};

	(void)state;
	assert_false(allow_host(&none, "hooks.example", 443));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_name_leads_to_public_addresses_only),
		cmocka_unit_test(test_a_network_allows_its_addresses_by_any_name),
		cmocka_unit_test(test_wildcards_stand_for_whole_labels),
		cmocka_unit_test(test_a_port_limits),
		cmocka_unit_test(test_an_address_in_the_url_is_judged_at_once),
		cmocka_unit_test(test_nobody_is_allowed_without_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
