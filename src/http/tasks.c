/* /tasks: what can be run. */
#include <stdlib.h>

#include "http/reply.h"
#include "http/resources.h"

static bool may_run_on(const struct task *task, const struct config_pool *pool)
{
	return pool->threads == 1 || (task->definition->flags & TP_TASK_THREAD_SAFE);
}

static void write_task(const struct task *task, const struct config *config,
		       struct json_writer *writer)
{
	size_t length = 0;
	char *schema = json_encode(schema_document(task->args_schema), &length);

	if (!schema)
		writer->buffer->failed = true;
	json_write_begin_object(writer, NULL);
	json_write_string(writer, "name", task->definition->name);
	json_write_string(writer, "description", task->definition->description);
	json_write_string(writer, "kind", task->kind);
	json_write_bool(writer, "enabled", task->enabled);
	json_write_bool(writer, "thread_safe", task->definition->flags & TP_TASK_THREAD_SAFE);
	json_write_begin_array(writer, "pools");
	for (size_t i = 0; i < config->pool_count; i++)
		if (may_run_on(task, &config->pools[i]))
			json_write_string(writer, NULL, config->pools[i].name);
	json_write_end_array(writer);
	json_write_raw(writer, "args_schema", schema, length);
	json_write_end_object(writer);
	free(schema);
}

enum MHD_Result tasks_list(struct request *request)
{
	const struct registry *registry = server_registry(request->http->server);
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	json_write_begin_object(&writer, NULL);
	json_write_begin_array(&writer, "tasks");
	for (size_t i = 0; i < registry->count; i++)
		if (!registry->tasks[i].is_internal)
			write_task(&registry->tasks[i], server_config(request->http->server),
				   &writer);
	json_write_end_array(&writer);
	json_write_end_object(&writer);
	return reply_json(request, &body);
}
