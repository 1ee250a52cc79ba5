/*
 * A hash table from struct id to an intrusive node.
 *
 * Invariants: bucket_count is 0 or a power of two of at least BUCKETS_MIN; a node is in the chain
 * of bucket_of() its id, and in no other. The load is kept between 1/8 and 1, with room between the
 * two thresholds, so that inserting and removing at one of them does not resize each time.
 */
#include "base/table.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 16

/* The last bytes of a version 7 UUID are random; the first two bits of the eighth byte are not, so
 * they are put at the far end. */
static size_t bucket_of(const struct id *id, size_t bucket_count)
{
	uint64_t random;

	memcpy(&random, id->bytes + 8, sizeof(random));
	return (size_t)be64toh(random) & (bucket_count - 1);
}

/* Without memory for it the table stays as it is. */
static void resize(struct table *table, size_t bucket_count)
{
	struct table_node **buckets = calloc(bucket_count, sizeof(struct table_node *));

	if (buckets == NULL)
		return;
	for (size_t i = 0; i < table->bucket_count; i++) {
		struct table_node *next;

		for (struct table_node *node = table->buckets[i]; node != NULL; node = next) {
			size_t to = bucket_of(&node->id, bucket_count);

			next = node->next;
			node->next = buckets[to];
			buckets[to] = node;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->bucket_count = bucket_count;
}

int table_insert(struct table *table, struct table_node *node)
{
	if (table_find(table, &node->id) != NULL)
		return -EEXIST;
	if (table->bucket_count == 0)
		resize(table, BUCKETS_MIN);
	else if (table->count >= table->bucket_count)
		resize(table, table->bucket_count * 2);
	if (table->bucket_count == 0)
		return -ENOMEM;

	size_t bucket = bucket_of(&node->id, table->bucket_count);
	node->next = table->buckets[bucket];
	table->buckets[bucket] = node;
	table->count++;
	return 0;
}

struct table_node *table_find(const struct table *table, const struct id *id)
{
	if (table->bucket_count == 0)
		return NULL;

	struct table_node *node = table->buckets[bucket_of(id, table->bucket_count)];
	while (node != NULL && id_compare(&node->id, id) != 0)
		node = node->next;
	return node;
}

void table_remove(struct table *table, struct table_node *node)
{
	struct table_node **link = &table->buckets[bucket_of(&node->id, table->bucket_count)];

	while (*link != node)
		link = &(*link)->next;
	*link = node->next;
	node->next = NULL;
	table->count--;
	if (table->bucket_count > BUCKETS_MIN && table->count < table->bucket_count / 8)
		resize(table, table->bucket_count / 2);
}

void table_release(struct table *table)
{
	free(table->buckets);
	*table = (struct table){0};
}
