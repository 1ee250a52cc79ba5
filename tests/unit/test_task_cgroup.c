/*
 * What the kernel says of cgroups, read from texts as it writes them; and that nothing is in force where nothing
 * was set up. What cgroups do is tested against the binary, in tests/api/test_cgroup.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "task/command/cgroup.h"

static void expect_own(const char *text, const char *expected)
{
	char path[32];

	if (expected == NULL) {
		assert_false(cgroup_parse_own(text, path, sizeof(path)));
		return;
	}
	assert_true(cgroup_parse_own(text, path, sizeof(path)));
	assert_string_equal(path, expected);
}

static void test_own(void **state)
{
	(void)state;
	expect_own("0::/\n", "/");
	expect_own("0::/a/b.service\n", "/a/b.service");
	expect_own("0::/a", "/a");
	expect_own("9:memory:/x\n1:name=systemd:/y\n0::/z\n", "/z");
	expect_own("0::/../other\n", "/../other");
	expect_own("0::/runs/1.2 (deleted)\n", "/runs/1.2 (deleted)");
	expect_own("", NULL);
	expect_own("\n", NULL);
	expect_own("9:memory:/x\n", NULL);
	expect_own("10::/x\n", NULL);
	expect_own("0::x\n", NULL);
	expect_own("9:name=0::/x:/y\n", NULL);
	expect_own("0::/234567890123456789012345678901\n", "/234567890123456789012345678901");
	expect_own("0::/2345678901234567890123456789012\n", NULL);
}

static void expect_mounted(const char *text, const char *own, const char *expected)
{
	char path[64];

	if (expected == NULL) {
		assert_false(cgroup_parse_mounts(text, own, path, sizeof(path)));
		return;
	}
	assert_true(cgroup_parse_mounts(text, own, path, sizeof(path)));
	assert_string_equal(path, expected);
}

#define BEFORE                                                                                     \
	"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n"                                   \
	"30 21 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

static void test_mounts(void **state)
{
	static const char whole[] = BEFORE
		"31 21 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
	static const char part[] = BEFORE "31 21 0:26 /docker/1 /cg rw - cgroup2 cgroup rw";
	static const char both[] = "31 21 0:26 /docker/1 /cg rw - cgroup2 cgroup rw\n"
				   "32 21 0:26 / /all rw - cgroup2 cgroup rw\n";

	(void)state;
	expect_mounted(whole, "/", "/sys/fs/cgroup");
	expect_mounted(whole, "/a/b", "/sys/fs/cgroup/a/b");
	expect_mounted(whole, "/../b", NULL);
	expect_mounted(part, "/docker/1", "/cg");
	expect_mounted(part, "/docker/1/a", "/cg/a");
	expect_mounted(part, "/docker/12", NULL);
	expect_mounted(part, "/docker", NULL);
	expect_mounted(part, "/", NULL);
	expect_mounted(both, "/docker/1/a", "/cg/a");
	expect_mounted(both, "/a", "/all/a");
	expect_mounted(BEFORE, "/", NULL);
	expect_mounted("", "/", NULL);
	expect_mounted("31 21 0:26 / /with\\040space rw - cgroup2 cgroup rw\n", "/", NULL);
	expect_mounted("31 21 0:26 / - cgroup2", "/", NULL);
	expect_mounted(whole, "/234567890123456789012345678901234567890123456789",
		       "/sys/fs/cgroup"
		       "/234567890123456789012345678901234567890123456789");
	expect_mounted(whole, "/2345678901234567890123456789012345678901234567890", NULL);
}

static void test_keyed(void **state)
{
	static const char events[] = "low 0\nhigh 0\nmax 17\noom 3\noom_kill 2\noom_group_kill 1\n";

	(void)state;
	assert_int_equal(cgroup_parse_keyed(events, "low"), 0);
	assert_int_equal(cgroup_parse_keyed(events, "oom"), 3);
	assert_int_equal(cgroup_parse_keyed(events, "oom_kill"), 2);
	assert_int_equal(cgroup_parse_keyed(events, "oom_group_kill"), 1);
	assert_int_equal(cgroup_parse_keyed(events, "kill"), -1);
	assert_int_equal(cgroup_parse_keyed(events, "oom_"), -1);
	assert_int_equal(cgroup_parse_keyed("", "oom"), -1);
	assert_int_equal(cgroup_parse_keyed("oom", "oom"), -1);
	assert_int_equal(cgroup_parse_keyed("oom \n", "oom"), -1);
	assert_int_equal(cgroup_parse_keyed("oom max\n", "oom"), -1);
	assert_int_equal(cgroup_parse_keyed("oom -5\n", "oom"), -1);
	assert_true(cgroup_parse_keyed("user_usec 9000000000000", "user_usec") ==
		    INT64_C(9000000000000));
}

static void test_lists(void **state)
{
	(void)state;
	assert_true(cgroup_parse_has("cpuset cpu io memory pids\n", "memory"));
	assert_true(cgroup_parse_has("cpuset cpu io memory pids\n", "pids"));
	assert_true(cgroup_parse_has("memory", "memory"));
	assert_false(cgroup_parse_has("hugetlb-memory memory2", "memory"));
	assert_false(cgroup_parse_has("", "memory"));
	assert_false(cgroup_parse_has("\n", "memory"));
}

/* Where nothing was set up there is no cgroup, and all that is asked of it answers so. */
static void test_none(void **state)
{
	struct cgroup none = {.directory = -1};

	(void)state;
	assert_false(cgroup_state()->in_force);
	assert_int_equal(cgroup_open("off"), 0);
	assert_false(cgroup_state()->in_force);
	assert_string_equal(cgroup_state()->reason, "the configuration says commands.cgroup: off");
	assert_false(cgroup_has(&none, getpid()));
	cgroup_kill(&none);
	assert_int_equal(cgroup_remove(&none), 0);
	assert_true(cgroup_end_dead(NULL, NULL));
	assert_true(cgroup_open("/") < 0);
	assert_string_equal(cgroup_state()->reason, "/ is no cgroup of version 2");
	cgroup_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own),   cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_keyed), cmocka_unit_test(test_lists),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
