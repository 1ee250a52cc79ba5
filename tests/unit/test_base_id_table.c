/*
 * Identifiers and the table that finds by them.
 *
 * The C library's clock_gettime() is replaced here by one that can be told to stand still or to
 * step back.
 */
#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/table.h"
#include "random.h"

#define NODES 20000

static time_t fake_seconds; /* 0: the true time */

int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	if (fake_seconds != 0) {
		*ret_time = (struct timespec){.tv_sec = fake_seconds};
		return 0;
	}
	return (int)syscall(SYS_clock_gettime, clock, ret_time);
}

static uint64_t ms_of(const struct id *id)
{
	uint64_t ms = 0;

	for (size_t i = 0; i < 6; i++)
		ms = ms << 8 | id->bytes[i];
	return ms;
}

static void test_new_is_version_7(void **state)
{
	(void)state;
	uint64_t before = (uint64_t)(clock_realtime_ns() / NS_PER_MS);
	struct id id = id_new();
	uint64_t after = (uint64_t)(clock_realtime_ns() / NS_PER_MS);

	assert_true(ms_of(&id) >= before && ms_of(&id) <= after);
	assert_int_equal(id.bytes[6] >> 4, 7);
	assert_int_equal(id.bytes[8] >> 6, 2);
}

static void test_new_sorts_by_age(void **state)
{
	struct id last = id_new();
	uint8_t ones[8] = {0}, zeros[8] = {0};

	(void)state;
	for (int i = 0; i < 200000; i++) {
		struct id id = id_new();

		if (id_compare(&last, &id) >= 0)
			fail_msg("identifier %d is not greater than the one before", i);
		if (id.bytes[6] >> 4 != 7 || id.bytes[8] >> 6 != 2)
			fail_msg("identifier %d is of another version or variant", i);
		for (size_t b = 0; b < 8; b++) {
			ones[b] |= id.bytes[8 + b];
			zeros[b] |= (uint8_t)~id.bytes[8 + b];
		}
		last = id;
	}
	/* all 62 bits vary */
	assert_int_equal(ones[0], 0xbf);
	assert_int_equal(zeros[0], 0x7f);
	for (size_t b = 1; b < 8; b++) {
		assert_int_equal(ones[b], 0xff);
		assert_int_equal(zeros[b], 0xff);
	}
}

static void make_sorted(int count, struct id *last)
{
	for (int i = 0; i < count; i++) {
		struct id id = id_new();

		if (id_compare(last, &id) >= 0 || id.bytes[6] >> 4 != 7)
			fail_msg("identifier %d is not greater than the one before", i);
		*last = id;
	}
}

static void test_new_while_the_clock_stands_or_steps_back(void **state)
{
	const time_t then = 4000000000;
	struct id last = id_new();

	(void)state;
	/* 4096 fit in a millisecond; the next goes on in the one after it */
	fake_seconds = then;
	make_sorted(4096, &last);
	assert_int_equal(ms_of(&last), (uint64_t)then * 1000);
	make_sorted(1, &last);
	assert_int_equal(ms_of(&last), (uint64_t)then * 1000 + 1);
	make_sorted(3 * 4096, &last);
	fake_seconds = then - 1000;
	make_sorted(5000, &last);
	fake_seconds = then + 1;
	make_sorted(1, &last);
	assert_int_equal(ms_of(&last), (uint64_t)(then + 1) * 1000);
	fake_seconds = 0;
	make_sorted(5000, &last);
}

static void test_format_and_parse(void **state)
{
	static const char text[] = "01890a5d-ac96-774b-bcce-b302099a8057";
	char out[ID_TEXT_SIZE], upper[ID_TEXT_SIZE] = {0};
	struct id id, other;

	(void)state;
	assert_true(id_parse(text, &id));
	assert_int_equal(id.bytes[0], 0x01);
	assert_int_equal(id.bytes[3], 0x5d);
	assert_int_equal(id.bytes[4], 0xac);
	assert_int_equal(id.bytes[15], 0x57);
	assert_string_equal(id_format(&id, out), text);
	for (size_t i = 0; text[i] != '\0'; i++)
		upper[i] = (char)toupper((unsigned char)text[i]);
	assert_true(id_parse(upper, &other));
	assert_int_equal(id_compare(&id, &other), 0);

	for (int round = 0; round < 1000; round++) {
		id = id_new();
		assert_true(id_parse(id_format(&id, out), &other));
		assert_int_equal(id_compare(&id, &other), 0);
	}
}

/* Each character replaced by every byte, each cut; in memory of exactly the size, for the sanitizer
 * to watch. */
static void test_parse_refuses(void **state)
{
	static const char text[] = "01890a5d-ac96-774b-bcce-b302099a8057";
	struct id untouched, id;

	(void)state;
	memset(&untouched, 0xa5, sizeof(untouched));
	id = untouched;
	for (size_t at = 0; at < 36; at++) {
		char *cut = strndup(text, at);
		assert_non_null(cut);
		assert_false(id_parse(cut, &id));
		free(cut);
		for (int c = 0; c < 256; c++) {
			char changed[ID_TEXT_SIZE];
			bool hyphen = text[at] == '-';
			struct id parsed = untouched;

			memcpy(changed, text, sizeof(text));
			changed[at] = (char)c;
			bool good = hyphen ? c == '-' : isxdigit(c) != 0;
			assert_int_equal(id_parse(changed, &parsed), good);
			if (!good)
				assert_memory_equal(&parsed, &untouched, sizeof(parsed));
		}
	}
	assert_false(id_parse("", &id));
	assert_false(id_parse("01890a5d-ac96-774b-bcce-b302099a80570", &id));
	assert_false(id_parse("01890a5dac96774bbcceb302099a8057", &id));
	assert_false(id_parse(" 01890a5d-ac96-774b-bcce-b302099a8057", &id));
	assert_memory_equal(&id, &untouched, sizeof(id));
}

struct entry {
	bool in;
	struct table_node node;
};

static struct entry *make_entries(void)
{
	struct entry *entries = calloc(NODES, sizeof(*entries));

	assert_non_null(entries);
	for (size_t i = 0; i < NODES; i++)
		entries[i].node.id = id_new();
	return entries;
}

static void assert_found(const struct table *table, const struct entry *entries)
{
	for (size_t i = 0; i < NODES; i++) {
		const struct table_node *found = table_find(table, &entries[i].node.id);

		if (found != (entries[i].in ? &entries[i].node : NULL))
			fail_msg("entry %zu: found the wrong node, or none", i);
	}
}

static void test_table_random(void **state)
{
	struct entry *entries = make_entries();
	struct table table = {0};
	size_t count = 0;

	(void)state;
	assert_null(table_find(&table, &entries[0].node.id));
	/* it grows, then shrinks, as inserting gets rare */
	for (int step = 0; step < 200000; step++) {
		struct entry *entry = &entries[random_below(NODES)];

		if (random_below(10) < (step < 100000 ? 9u : 1u)) {
			int status = table_insert(&table, &entry->node);

			assert_int_equal(status, entry->in ? -EEXIST : 0);
			count += !entry->in;
			entry->in = true;
		} else if (entry->in) {
			table_remove(&table, &entry->node);
			entry->in = false;
			count--;
		}
		assert_int_equal(table.count, count);
		if (step % 20000 == 0)
			assert_found(&table, entries);
	}
	assert_found(&table, entries);
	table_release(&table);
	free(entries);
}

static void test_table_size_follows(void **state)
{
	struct entry *entries = make_entries();
	struct table table = {0};
	size_t longest = 0;

	(void)state;
	for (size_t i = 0; i < NODES; i++)
		assert_int_equal(table_insert(&table, &entries[i].node), 0);
	assert_true(table.bucket_count >= NODES);
	for (size_t i = 0; i < table.bucket_count; i++) {
		size_t length = 0;

		for (struct table_node *node = table.buckets[i]; node != NULL; node = node->next)
			length++;
		if (length > longest)
			longest = length;
	}
	/* with random bits, a chain of 12 at this load is less likely than one in ten thousand */
	assert_true(longest < 12);

	struct table_node twin = {.id = entries[0].node.id};
	assert_int_equal(table_insert(&table, &twin), -EEXIST);
	assert_ptr_equal(table_find(&table, &twin.id), &entries[0].node);
	for (size_t i = 0; i < NODES; i++)
		table_remove(&table, &entries[i].node);
	assert_int_equal(table.count, 0);
	assert_true(table.bucket_count <= 16);
	table_release(&table);
	assert_null(table_find(&table, &twin.id));
	free(entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_is_version_7),
		cmocka_unit_test(test_new_sorts_by_age),
		cmocka_unit_test(test_new_while_the_clock_stands_or_steps_back),
		cmocka_unit_test(test_format_and_parse),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_table_random),
		cmocka_unit_test(test_table_size_follows),
	};

	return cmocka_run_group_tests_name("base id and table", tests, NULL, NULL);
}
