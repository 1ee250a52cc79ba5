/*
 * The heap against the plainest model there is: all nodes are looked at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/heap.h"
#include "random.h"

#define NODES 500

struct model {
	struct heap_node node;
	int64_t key;
	bool in;
};

static struct model models[NODES];

static void assert_agrees(const struct heap *heap)
{
	size_t count = 0;
	int64_t least = INT64_MAX;

	for (size_t i = 0; i < NODES; i++) {
		const struct model *model = &models[i];

		if (heap_contains(&model->node) != model->in)
			fail_msg("node %zu is %s", i, model->in ? "lost" : "still in");
		if (!model->in)
			continue;
		count++;
		if (model->key < least)
			least = model->key;
		if (model->node.key != model->key || model->node.index >= heap->count ||
		    heap->nodes[model->node.index] != &model->node)
			fail_msg("node %zu has a wrong key or place", i);
	}
	assert_int_equal(heap->count, count);
	if (count == 0)
		assert_null(heap_least(heap));
	else
		assert_int_equal(heap_least(heap)->key, least);
}

static void put(struct heap *heap, struct model *model, int64_t key)
{
	assert_int_equal(heap_put(heap, &model->node, key), 0);
	model->key = key;
	model->in = true;
}

static void take_out(struct heap *heap, struct model *model)
{
	heap_remove(heap, &model->node);
	model->in = false;
}

static void setup_models(void)
{
	for (size_t i = 0; i < NODES; i++) {
		heap_node_init(&models[i].node);
		models[i].in = false;
	}
}

static int compare_keys(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

/* Empties the heap by its least node; the keys must come as sorting gives them. */
static void drain_sorted(struct heap *heap)
{
	int64_t keys[NODES];
	size_t count = 0;

	for (size_t i = 0; i < NODES; i++)
		if (models[i].in)
			keys[count++] = models[i].key;
	qsort(keys, count, sizeof(keys[0]), compare_keys);
	for (size_t i = 0; i < count; i++) {
		struct heap_node *least = heap_least(heap);

		assert_non_null(least);
		assert_int_equal(least->key, keys[i]);
		heap_remove(heap, least);
		assert_false(heap_contains(least));
	}
	assert_null(heap_least(heap));
	for (size_t i = 0; i < NODES; i++)
		models[i].in = false;
}

/* A narrow range of keys makes many equal ones. */
static void run_random(uint64_t range, int steps)
{
	struct heap heap = {0};

	setup_models();
	for (int step = 0; step < steps; step++) {
		struct model *model = &models[random_below(NODES)];

		if (random_below(10) < 6)
			put(&heap, model, (int64_t)(random_next() % range - range / 2));
		else
			take_out(&heap, model);
		assert_agrees(&heap);
		if (step % 2500 == 2499)
			drain_sorted(&heap);
	}
	drain_sorted(&heap);
	heap_release(&heap);
}

static void test_random(void **state)
{
	(void)state;
	run_random(UINT64_MAX, 10000);
}

static void test_random_with_equal_keys(void **state)
{
	(void)state;
	run_random(7, 10000);
}

static void test_extremes(void **state)
{
	struct heap heap = {0};

	(void)state;
	setup_models();
	assert_null(heap_least(&heap));
	heap_remove(&heap, &models[0].node);
	put(&heap, &models[0], INT64_MAX);
	put(&heap, &models[1], INT64_MIN);
	put(&heap, &models[2], 0);
	assert_agrees(&heap);
	put(&heap, &models[1], INT64_MAX);
	assert_agrees(&heap);
	put(&heap, &models[0], INT64_MIN);
	assert_agrees(&heap);
	drain_sorted(&heap);
	heap_release(&heap);
}

static void test_release_frees_nodes(void **state)
{
	struct heap heap = {0};

	(void)state;
	setup_models();
	for (size_t i = 0; i < NODES; i++)
		put(&heap, &models[i], (int64_t)i);
	heap_release(&heap);
	for (size_t i = 0; i < NODES; i++)
		assert_false(heap_contains(&models[i].node));
	assert_null(heap_least(&heap));
	put(&heap, &models[3], 1);
	assert_ptr_equal(heap_least(&heap), &models[3].node);
	heap_release(&heap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_random_with_equal_keys),
		cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_release_frees_nodes),
	};

	return cmocka_run_group_tests_name("base heap", tests, NULL, NULL);
}
