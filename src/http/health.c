/* /healthz: the event loop turns. /readyz: work can be taken. */
#include "http/reply.h"
#include "http/resources.h"

static enum MHD_Result answer_status(struct request *request, const char *status)
{
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	json_write_begin_object(&writer, NULL);
	json_write_string(&writer, "status", status);
	json_write_end_object(&writer);
	return reply_json(request, &body);
}

enum MHD_Result health_get(struct request *request)
{
	return answer_status(request, "ok");
}

enum MHD_Result health_ready(struct request *request)
{
	const char *reason = "";
	struct error error;

	if (server_is_ready(request->http->server, &reason))
		return answer_status(request, "ready");
	(void)error_set(&error, ERROR_UNAVAILABLE, NULL, "%s", reason);
	return reply_error(request, &error, 0);
}
