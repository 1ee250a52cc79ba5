/* /openapi.yaml: the description of all this, as it was compiled in. */
#include "http/openapi.h"

#include "http/reply.h"
#include "http/resources.h"

enum MHD_Result openapi_get(struct request *request)
{
	const struct reply reply = {.status = MHD_HTTP_OK, .content_type = "application/yaml"};
	struct buffer body = {0};

	buffer_append(&body, openapi_yaml, openapi_yaml_size);
	return reply_send(request, &reply, &body);
}
