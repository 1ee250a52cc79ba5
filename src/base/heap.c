/*
 * An intrusive binary min-heap of deadlines.
 *
 * Invariants: nodes[i]->index == i for all i < count; nodes[(i - 1) / 2]->key <= nodes[i]->key for
 * all 0 < i < count.
 */
#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 16

static void set_place(struct heap *heap, size_t index, struct heap_node *node)
{
	heap->nodes[index] = node;
	node->index = index;
}

/* Moves node, for which there is a hole at index, towards the root as far as its key asks. */
static void sift_up(struct heap *heap, size_t index, struct heap_node *node)
{
	while (index > 0) {
		size_t parent = (index - 1) / 2;

		if (heap->nodes[parent]->key <= node->key)
			break;
		set_place(heap, index, heap->nodes[parent]);
		index = parent;
	}
	set_place(heap, index, node);
}

static void sift_down(struct heap *heap, size_t index, struct heap_node *node)
{
	for (;;) {
		size_t child = 2 * index + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count &&
		    heap->nodes[child + 1]->key < heap->nodes[child]->key)
			child++;
		if (node->key <= heap->nodes[child]->key)
			break;
		set_place(heap, index, heap->nodes[child]);
		index = child;
	}
	set_place(heap, index, node);
}

static void settle(struct heap *heap, size_t index, struct heap_node *node)
{
	if (index > 0 && node->key < heap->nodes[(index - 1) / 2]->key)
		sift_up(heap, index, node);
	else
		sift_down(heap, index, node);
}

static int grow(struct heap *heap)
{
	size_t capacity = heap->capacity < CAPACITY_MIN ? CAPACITY_MIN : heap->capacity * 2;
	struct heap_node **nodes = reallocarray(heap->nodes, capacity, sizeof(struct heap_node *));

	if (nodes == NULL)
		return -ENOMEM;
	heap->nodes = nodes;
	heap->capacity = capacity;
	return 0;
}

int heap_put(struct heap *heap, struct heap_node *node, int64_t key)
{
	if (heap_contains(node)) {
		node->key = key;
		settle(heap, node->index, node);
		return 0;
	}
	if (heap->count == heap->capacity && grow(heap) != 0)
		return -ENOMEM;
	node->key = key;
	sift_up(heap, heap->count++, node);
	return 0;
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
	if (!heap_contains(node))
		return;

	size_t hole = node->index;
	struct heap_node *last = heap->nodes[--heap->count];

	node->index = HEAP_NONE;
	if (last != node)
		settle(heap, hole, last);
}

struct heap_node *heap_least(const struct heap *heap)
{
	return heap->count > 0 ? heap->nodes[0] : NULL;
}

void heap_release(struct heap *heap)
{
	for (size_t i = 0; i < heap->count; i++)
		heap->nodes[i]->index = HEAP_NONE;
	free(heap->nodes);
	*heap = (struct heap){0};
}
