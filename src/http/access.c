/*
 * Bearer tokens. What a request brings as its token is hashed and forgotten: it is in no answer and
 * in no log.
 */
#include "http/access.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "http/reply.h"
#include "http/request.h"
#include "http/route.h"

#define REALM "Bearer realm=\"twinpool\""

/* What stands behind "Bearer " in the header; NULL if there is no such header. */
static const char *bearer(const struct request *request)
{
	static const char scheme[] = "Bearer ";
	const char *value = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
							MHD_HTTP_HEADER_AUTHORIZATION);

	if (!value || strncasecmp(value, scheme, strlen(scheme)) != 0)
		return NULL;
	value += strlen(scheme);
	return value + strspn(value, " ");
}

static const struct token *find_token(const struct tokens *tokens, const char *text)
{
	size_t length = strnlen(text, TOKENS_TOKEN_MAX + 1);

	if (length == 0 || length > TOKENS_TOKEN_MAX)
		return NULL;
	return tokens_find(tokens, text, length);
}

void access_judge(struct request *request)
{
	const struct tokens *tokens = server_config(request->http->server)->tokens;
	struct access *access = &request->access;
	unsigned int scope;

	*access = (struct access){0};
	if (!tokens || route_is_open(request))
		return;
	const char *text = bearer(request);
	const struct token *token = text ? find_token(tokens, text) : NULL;
	access->has_token = text != NULL;
	if (!token) {
		access->status = MHD_HTTP_UNAUTHORIZED;
		return;
	}
	text_copy(access->client, sizeof(access->client), token->name);
	scope = route_scope(request);
	if (scope & ~token->scopes) {
		access->status = MHD_HTTP_FORBIDDEN;
		access->lacks = (enum scope)scope;
	}
}

enum MHD_Result access_refuse(struct request *request)
{
	const struct access *access = &request->access;
	char authenticate[128];
	char detail[160];

	if (access->status == MHD_HTTP_FORBIDDEN) {
		const char *scope = scope_name(access->lacks);
		snprintf(authenticate, sizeof(authenticate),
			 REALM ", error=\"insufficient_scope\", scope=\"%s\"", scope);
		snprintf(detail, sizeof(detail), "the token of \"%s\" lacks the scope \"%s\"",
			 access->client, scope);
		return reply_refusal(request, access->status, authenticate, scope, detail);
	}
	return access->has_token
		       ? reply_refusal(request, access->status, REALM ", error=\"invalid_token\"",
				       NULL, "the token is not known")
		       : reply_refusal(request, access->status, REALM, NULL,
				       "a token is needed; expected the header Authorization: "
				       "Bearer TOKEN");
}
