/*
 * The buffer and the list.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/list.h"

static void assert_content(const struct buffer *buffer, const char *expected)
{
	assert_int_equal(buffer->length, strlen(expected));
	assert_memory_equal(buffer->data, expected, buffer->length);
}

static void test_append(void **state)
{
	struct buffer buffer = {0};

	(void)state;
	buffer_append(&buffer, NULL, 0);
	assert_null(buffer.data);
	buffer_append_text(&buffer, "one");
	buffer_append_char(&buffer, ',');
	buffer_append(&buffer, "two", 3);
	buffer_append_format(&buffer, ",%d", 3);
	assert_content(&buffer, "one,two,3");
	assert_false(buffer_failed(&buffer));

	size_t capacity = buffer.capacity;
	buffer_clear(&buffer);
	assert_int_equal(buffer.length, 0);
	assert_int_equal(buffer.capacity, capacity);
	buffer_release(&buffer);
	assert_null(buffer.data);
	buffer_append_char(&buffer, 'x');
	assert_content(&buffer, "x");
	buffer_release(&buffer);
}

static void test_format_of_every_length(void **state)
{
	char text[300];
	struct buffer buffer = {0};

	(void)state;
	for (size_t length = 0; length < sizeof(text); length++) {
		memset(text, 'f', length);
		text[length] = '\0';
		buffer_append_text(&buffer, "<");
		buffer_append_format(&buffer, "%s", text);
		assert_int_equal(buffer.length, length + 1);
		assert_memory_equal(buffer.data + 1, text, length);
		buffer_release(&buffer);
	}
}

static void test_grows(void **state)
{
	struct buffer buffer = {0};
	const size_t total = 1 << 20;
	size_t moves = 0;

	(void)state;
	for (size_t i = 0; i < total; i++) {
		size_t capacity = buffer.capacity;

		buffer_append_char(&buffer, (char)(i * 7));
		moves += buffer.capacity != capacity;
	}
	assert_int_equal(buffer.length, total);
	for (size_t i = 0; i < total; i++)
		if (buffer.data[i] != (char)(i * 7))
			fail_msg("byte %zu", i);
	/* geometric growth */
	assert_true(moves < 40);
	buffer_release(&buffer);
}

static void test_reserve(void **state)
{
	struct buffer buffer = {0};

	(void)state;
	assert_int_equal(buffer_reserve(&buffer, 1000), 0);
	assert_true(buffer.capacity >= 1000);
	char *data = buffer.data;
	for (int i = 0; i < 1000; i++)
		buffer_append_char(&buffer, 'r');
	assert_ptr_equal(buffer.data, data);
	buffer_release(&buffer);
}

static void test_failure_is_remembered(void **state)
{
	struct buffer buffer = {0};
	size_t length = 77;

	(void)state;
	buffer_append_text(&buffer, "kept");
	assert_int_equal(buffer_reserve(&buffer, SIZE_MAX), -ENOMEM);
	assert_true(buffer_failed(&buffer));
	buffer_append_text(&buffer, "x");
	buffer_append_char(&buffer, 'x');
	buffer_append_format(&buffer, "x");
	assert_int_equal(buffer_reserve(&buffer, 0), -ENOMEM);
	assert_content(&buffer, "kept");
	assert_null(buffer_take(&buffer, &length));
	assert_int_equal(length, 0);

	/* after it, the buffer is empty and valid */
	assert_false(buffer_failed(&buffer));
	buffer_append_text(&buffer, "new");
	assert_content(&buffer, "new");
	assert_int_equal(buffer_reserve(&buffer, SIZE_MAX - 1), -ENOMEM);
	buffer_clear(&buffer);
	assert_false(buffer_failed(&buffer));
	buffer_release(&buffer);
}

static void test_take(void **state)
{
	struct buffer buffer = {0};
	size_t length;

	(void)state;
	assert_null(buffer_take(&buffer, NULL));
	buffer_append_text(&buffer, "mine");
	char *data = buffer_take(&buffer, &length);
	assert_non_null(data);
	assert_int_equal(length, 4);
	assert_memory_equal(data, "mine", 4);
	assert_null(buffer.data);
	assert_int_equal(buffer.length, 0);
	assert_int_equal(buffer.capacity, 0);
	free(data);
	assert_null(buffer_take(&buffer, &length));
}

struct item {
	int number;
	struct list node;
};

static void assert_numbers(struct list *head, const int *numbers, size_t count)
{
	size_t at = 0;

	list_for_each (node, head) {
		assert_true(at < count);
		assert_int_equal(container_of(node, struct item, node)->number, numbers[at]);
		assert_ptr_equal(node->previous->next, node);
		at++;
	}
	assert_int_equal(at, count);
}

static void test_list(void **state)
{
	struct item items[5];
	struct list head;

	(void)state;
	list_init(&head);
	assert_true(list_empty(&head));
	for (int i = 0; i < 5; i++) {
		items[i].number = i;
		list_init(&items[i].node);
	}
	list_append(&head, &items[1].node);
	list_append(&head, &items[2].node);
	list_prepend(&head, &items[0].node);
	list_append(&head, &items[4].node);
	list_insert_after(&items[2].node, &items[3].node);
	assert_numbers(&head, (const int[]){0, 1, 2, 3, 4}, 5);

	list_remove(&items[2].node);
	list_remove(&items[2].node);
	assert_numbers(&head, (const int[]){0, 1, 3, 4}, 4);
	list_for_each_safe (node, &head)
		if (container_of(node, struct item, node)->number % 2 == 0)
			list_remove(node);
	assert_numbers(&head, (const int[]){1, 3}, 2);
	list_for_each_safe (node, &head)
		list_remove(node);
	assert_true(list_empty(&head));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_format_of_every_length),
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_failure_is_remembered),
		cmocka_unit_test(test_take),
		cmocka_unit_test(test_list),
	};

	return cmocka_run_group_tests_name("base buffer", tests, NULL, NULL);
}
