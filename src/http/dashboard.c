/*
 * The dashboard: the page at / and its files at /dashboard/, as they were compiled in. They are the
 * same for everybody and have nothing of the service's data in them, which the page gets by the API.
 *
 * Each file is carried as it is and compressed, under an ETag made from its content; browsers are
 * told to ask each time whether what they have is still the same.
 *
 * The page may load from and talk to this service alone, and has no script and no style within
 * itself; so text that came from a job would have no means to act even if it became part of the
 * page as HTML, which the scripts never make it.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http/reply.h"
#include "http/resources.h"

#define HTML	   "text/html; charset=utf-8"
#define CSS	   "text/css; charset=utf-8"
#define JAVASCRIPT "text/javascript; charset=utf-8"
#define SVG	   "image/svg+xml"

/* The build makes a source file of each, named as here with _ for the dot. */
#define FILES(X)                                                                                   \
	X(index_html, "index.html", HTML)                                                          \
	X(style_css, "style.css", CSS)                                                             \
	X(icon_svg, "icon.svg", SVG)                                                               \
	X(theme_js, "theme.js", JAVASCRIPT)                                                        \
	X(app_js, "app.js", JAVASCRIPT)                                                            \
	X(api_js, "api.js", JAVASCRIPT)                                                            \
	X(dom_js, "dom.js", JAVASCRIPT)                                                            \
	X(format_js, "format.js", JAVASCRIPT)                                                      \
	X(plots_js, "plots.js", JAVASCRIPT)                                                        \
	X(overview_js, "overview.js", JAVASCRIPT)                                                  \
	X(schema_form_js, "schema_form.js", JAVASCRIPT)                                            \
	X(submit_js, "submit.js", JAVASCRIPT)                                                      \
	X(jobs_js, "jobs.js", JAVASCRIPT)                                                          \
	X(job_js, "job.js", JAVASCRIPT)                                                            \
	X(comparisons_js, "comparisons.js", JAVASCRIPT)                                            \
	X(comparison_js, "comparison.js", JAVASCRIPT)                                              \
	X(experiments_js, "experiments.js", JAVASCRIPT)                                            \
	X(chart_js, "chart.js", JAVASCRIPT)

#define DECLARE(symbol, name, type)                                                                \
	extern const char dashboard_##symbol[], dashboard_##symbol##_gz[];                         \
	extern const size_t dashboard_##symbol##_size, dashboard_##symbol##_gz_size;               \
	extern const char dashboard_##symbol##_sha256[];
FILES(DECLARE)

struct file {
	const char *name;
	const char *type;
	const char *sha256;
	const char *bytes, *gz_bytes;
	const size_t *size, *gz_size;
};

#define ENTRY(symbol, file_name, file_type)                                                        \
	{                                                                                          \
		.name = (file_name),                                                               \
		.type = (file_type),                                                               \
		.sha256 = dashboard_##symbol##_sha256,                                             \
		.bytes = dashboard_##symbol,                                                       \
		.gz_bytes = dashboard_##symbol##_gz,                                               \
		.size = &dashboard_##symbol##_size,                                                \
		.gz_size = &dashboard_##symbol##_gz_size,                                          \
	},
static const struct file files[] = {FILES(ENTRY)};

#define FILE_COUNT (sizeof(files) / sizeof(files[0]))
#define ETAG_SIZE  48

static const char *header(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

/* Whether value, the list of Accept-Encoding, has gzip with a weight that is not 0. */
static bool accepts_gzip(const char *value)
{
	static const char gzip[] = "gzip";

	while (value && *value) {
		value += strspn(value, " \t,");
		size_t length = strcspn(value, ",");
		size_t name = strcspn(value, " \t,;");
		if (name == strlen(gzip) && strncasecmp(value, gzip, name) == 0) {
			const char *weight = memchr(value, '=', length);
			return !weight || strspn(weight + 1, "0.") != strcspn(weight + 1, " \t,");
		}
		value += length;
	}
	return false;
}

/* Whether value, of If-None-Match, lists etag; weak or strong is the same here. */
static bool lists_etag(const char *value, const char *etag)
{
	return value && (strcmp(value, "*") == 0 || strstr(value, etag));
}

static enum MHD_Result send_file(struct request *request, const struct file *file)
{
	bool is_gzip = accepts_gzip(header(request, MHD_HTTP_HEADER_ACCEPT_ENCODING));
	char etag[ETAG_SIZE];

	snprintf(etag, sizeof(etag), "\"%.32s%s\"", file->sha256, is_gzip ? "-gzip" : "");
	const struct reply_header headers[] = {
		{MHD_HTTP_HEADER_ETAG, etag},
		{MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT_ENCODING},
		{MHD_HTTP_HEADER_CONTENT_ENCODING, is_gzip ? "gzip" : NULL},
		{"Content-Security-Policy",
		 "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
		 "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
		{"X-Content-Type-Options", "nosniff"},
		{"Referrer-Policy", "no-referrer"},
		{"Cross-Origin-Opener-Policy", "same-origin"},
		{"Cross-Origin-Resource-Policy", "same-origin"},
		{NULL, NULL},
	};
	struct reply reply = {.status = MHD_HTTP_OK,
			      .content_type = file->type,
			      .cache_control = "no-cache",
			      .headers = headers};
	if (lists_etag(header(request, MHD_HTTP_HEADER_IF_NONE_MATCH), etag)) {
		reply.status = MHD_HTTP_NOT_MODIFIED;
		return reply_constant(request, &reply, NULL, 0);
	}
	return reply_constant(request, &reply, is_gzip ? file->gz_bytes : file->bytes,
			      is_gzip ? *file->gz_size : *file->size);
}

enum MHD_Result dashboard_get_page(struct request *request)
{
	return send_file(request, &files[0]);
}

enum MHD_Result dashboard_get_file(struct request *request)
{
	for (size_t i = 0; i < FILE_COUNT; i++)
		if (strcmp(files[i].name, request->target) == 0)
			return send_file(request, &files[i]);
	return reply_problem(request, MHD_HTTP_NOT_FOUND, NULL, "there is nothing at this path");
}
