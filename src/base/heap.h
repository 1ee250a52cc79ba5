/*
 * An intrusive binary min-heap of deadlines: insert, remove and change in O(log n), least in O(1).
 * The heap owns its array, never its nodes. Thread: one owner.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_NONE SIZE_MAX

struct heap_node {
	int64_t key;  /* read only; set by heap_put() */
	size_t index; /* place in the heap; HEAP_NONE while on none */
};

struct heap {
	struct heap_node **nodes;
	size_t count;
	size_t capacity;
};

static inline void heap_node_init(struct heap_node *node)
{
	node->key = 0;
	node->index = HEAP_NONE;
}

static inline bool heap_contains(const struct heap_node *node)
{
	return node->index != HEAP_NONE;
}

/* Inserts node with key, or moves it there if it is in already. Answers 0, or -ENOMEM and nothing
 * changed. */
int heap_put(struct heap *heap, struct heap_node *node, int64_t key);

/* Takes node out; nothing happens if it is not in. */
void heap_remove(struct heap *heap, struct heap_node *node);

/* The node with the least key, which stays in; NULL if there is none. */
struct heap_node *heap_least(const struct heap *heap);

/* Frees the array; nodes still in are marked as being on none. */
void heap_release(struct heap *heap);

#endif
