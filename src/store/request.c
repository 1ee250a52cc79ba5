/*
 * Requests to the store: making and freeing them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/backend.h"

struct store_request *store_request_new(enum store_op op)
{
	struct store_request *request = calloc(1, sizeof(*request));

	if (request == NULL)
		return NULL;
	list_init(&request->node);
	request->op = op;
	return request;
}

int store_request_rows(struct store_request *request, size_t count)
{
	struct store_row *rows = calloc(count + 1, sizeof(*rows));
	int *statuses = calloc(count + 1, sizeof(*statuses));

	if (rows == NULL || statuses == NULL) {
		free(rows);
		free(statuses);
		return -ENOMEM;
	}
	request->rows = rows;
	request->row_count = count;
	request->statuses = statuses;
	return 0;
}

int store_request_ids(struct store_request *request, size_t count)
{
	struct id *ids = calloc(count + 1, sizeof(*ids));
	uint32_t *attempts = calloc(count + 1, sizeof(*attempts));
	int *statuses = calloc(count + 1, sizeof(*statuses));

	if (ids == NULL || attempts == NULL || statuses == NULL) {
		free(ids);
		free(attempts);
		free(statuses);
		return -ENOMEM;
	}
	request->ids = ids;
	request->attempts = attempts;
	request->id_count = count;
	request->statuses = statuses;
	return 0;
}

void store_row_release(struct store_row *row)
{
	free(row->task);
	free(row->pool);
	free(row->labels);
	free(row->record);
	free(row->document);
	free(row->callback);
	memset(row, 0, sizeof(*row));
}

static void free_rows(struct store_request *request)
{
	for (size_t i = 0; i < request->row_count; i++)
		store_row_release(&request->rows[i]);
	free(request->rows);
	request->rows = NULL;
	request->row_count = 0;
}

static void free_batch(struct store_request *request)
{
	if (request->batch != NULL) {
		free(request->batch->task);
		free(request->batch->pool);
	}
	free(request->batch);
	request->batch = NULL;
}

static void free_callbacks(struct store_request *request)
{
	for (size_t i = 0; i < request->callback_count; i++) {
		free(request->callbacks[i].url);
		free(request->callbacks[i].document);
		free(request->callbacks[i].error);
	}
	free(request->callbacks);
	request->callbacks = NULL;
	request->callback_count = 0;
}

static void free_lists(struct store_request *request)
{
	free(request->cancelled);
	free(request->watched);
	request->cancelled = NULL;
	request->watched = NULL;
	request->cancelled_count = 0;
	request->watched_count = 0;
}

void store_request_free(struct store_request *request)
{
	if (request == NULL)
		return;
	free_rows(request);
	free_batch(request);
	free_callbacks(request);
	free_lists(request);
	free(request->ids);
	free(request->attempts);
	free(request->statuses);
	free(request->filter.pool);
	free(request->filter.task);
	free(request->filter.label_key);
	free(request->filter.label_value);
	free(request->pools);
	free(request);
}

static bool answers_rows(enum store_op op)
{
	return op != STORE_PUT && op != STORE_UPDATE && op != STORE_END && op != STORE_LIVE;
}

void backend_clear_outputs(struct store_request *request)
{
	size_t statuses = request->id_count > 0 ? request->id_count : request->row_count;

	if (request->statuses != NULL)
		memset(request->statuses, 0, statuses * sizeof(*request->statuses));
	if (answers_rows(request->op))
		free_rows(request);
	if (request->op == STORE_FETCH_BATCH)
		free_batch(request);
	if (request->op == STORE_CALLBACKS)
		free_callbacks(request);
	free_lists(request);
	request->status = 0;
	memset(&request->found, 0, sizeof(request->found));
	request->found_batch = false;
	request->same = false;
	request->count = 0;
	request->next_us = 0;
	request->more = false;
	for (size_t i = 0; i < request->pool_count; i++)
		request->pools[i].waiting = 0;
}
