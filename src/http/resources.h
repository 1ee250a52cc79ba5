/*
 * The handlers of the route table, by resource, and what they share in rendering.
 *
 * A handler gets a request that was read whole and whose query parameters are known ones, and
 * answers it or suspends it. Event loop only.
 */
#ifndef HTTP_RESOURCES_H
#define HTTP_RESOURCES_H

#include <microhttpd.h>

#include "base/buffer.h"
#include "base/json.h"
#include "http/request.h"
#include "server/server.h"

enum MHD_Result jobs_submit(struct request *request);
enum MHD_Result jobs_list(struct request *request);
enum MHD_Result jobs_get(struct request *request);
enum MHD_Result jobs_cancel(struct request *request);
/* Reads a submission and what comes with it: the wait (request->hold.wait_ns) and the key; on failure
 * *ret_answer is what the handler answers. */
bool jobs_read_submission(struct request *request, bool is_batch, struct submission *ret_submission,
			  struct submit_terms *ret_terms, enum MHD_Result *ret_answer);

/* Reads the job's id of the path into request->hold.id: 0, or ERROR_NOT_FOUND if it is none. */
int jobs_target(struct request *request, struct error *error);

enum MHD_Result events_get(struct request *request);

enum MHD_Result batches_submit(struct request *request);
enum MHD_Result batches_get(struct request *request);
void batches_write(const struct batch *batch, struct json_writer *writer);

enum MHD_Result comparisons_submit(struct request *request);
enum MHD_Result comparisons_list(struct request *request);
enum MHD_Result comparisons_get(struct request *request);
enum MHD_Result comparisons_cancel(struct request *request);
enum MHD_Result comparisons_watch(struct request *request);
enum MHD_Result experiments_list(struct request *request);
enum MHD_Result experiments_run(struct request *request);

enum MHD_Result tasks_list(struct request *request);

enum MHD_Result pools_list(struct request *request);
enum MHD_Result pools_get(struct request *request);
enum MHD_Result pools_patch(struct request *request);
/* "process, thread" */
void pools_append_names(const struct config *config, struct buffer *names);
/* What GET /pools and GET /stats both say of a pool's size. */
void pools_write_size(const struct pool_snapshot *pool, struct json_writer *writer);
void pools_write_restarts(const struct pool_snapshot *pool, struct json_writer *writer);
void pools_write_workers(const struct pool_snapshot *pool, struct json_writer *writer);

enum MHD_Result stats_get(struct request *request);

enum MHD_Result metrics_get(struct request *request);

enum MHD_Result capabilities_get(struct request *request);

enum MHD_Result health_get(struct request *request);
enum MHD_Result health_ready(struct request *request);

enum MHD_Result openapi_get(struct request *request);

enum MHD_Result dashboard_get_page(struct request *request);
enum MHD_Result dashboard_get_file(struct request *request);

/* A number with three decimals. */
void render_number(struct json_writer *writer, const char *key, double value);
/* A date; realtime_ns <= 0: null. */
void render_time(struct json_writer *writer, const char *key, int64_t realtime_ns);
/* Appends to a list with commas, for people. */
void render_name(struct buffer *names, const char *name);
void render_id(struct json_writer *writer, const char *key, const struct id *id);

#endif
