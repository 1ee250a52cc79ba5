/*
 * Intrusive doubly linked lists with a sentinel, as in the Linux kernel. A node that is on no list
 * points to itself (list_init) so list_remove() of it does no harm. Thread: one owner.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *previous;
};

#define container_of(pointer, type, member)                                                        \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void list_init(struct list *node)
{
	node->next = node;
	node->previous = node;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_insert_after(struct list *where, struct list *node)
{
	node->next = where->next;
	node->previous = where;
	where->next->previous = node;
	where->next = node;
}

static inline void list_append(struct list *head, struct list *node)
{
	list_insert_after(head->previous, node);
}

static inline void list_prepend(struct list *head, struct list *node)
{
	list_insert_after(head, node);
}

/* Takes node off its list; it is then on none. */
static inline void list_remove(struct list *node)
{
	node->previous->next = node->next;
	node->next->previous = node->previous;
	list_init(node);
}

#define list_for_each(node, head)                                                                  \
	for (struct list *node = (head)->next; node != (head); node = node->next)

/* The body may remove and free node, and nothing else of the list. */
#define list_for_each_safe(node, head)                                                             \
	for (struct list *node = (head)->next, *node##_next = node->next; node != (head);          \
	     node = node##_next, node##_next = node->next)

#endif
