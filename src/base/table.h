/*
 * A hash table from struct id to an intrusive node: chained, doubling, O(1) on average. The
 * identifiers are random in their last 62 bits, which serve as the hash, so a client cannot choose
 * a bucket. The table owns its buckets, never its nodes. Thread: one owner.
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include <stddef.h>

#include "base/id.h"

struct table_node {
	struct table_node *next; /* the table's */
	struct id id;		 /* set before table_insert(), constant while in */
};

struct table {
	struct table_node **buckets;
	size_t bucket_count; /* a power of two, or 0 */
	size_t count;
};

/* Answers 0, -EEXIST if that id is in, -ENOMEM only if there is no bucket at all (a table that
 * cannot grow goes on with longer chains). */
int table_insert(struct table *table, struct table_node *node);

/* NULL if there is none. */
struct table_node *table_find(const struct table *table, const struct id *id);

/* Takes node out; it must be in. Shrinks the buckets when the table is mostly empty. */
void table_remove(struct table *table, struct table_node *node);

/* Frees the buckets. */
void table_release(struct table *table);

#endif
