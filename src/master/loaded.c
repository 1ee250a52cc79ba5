#include "master/loaded.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "http/http.h"
#include "master/probe.h"
#include "task/command/system.h"
#include "task/plugin.h"

int loaded_build(struct loaded *loaded, char *found, size_t found_length, struct error *error)
{
	free(loaded->found);
	loaded->found = found;
	loaded->found_length = found_length;
	return registry_build_with_plugins(loaded->config, found, found_length, &loaded->registry,
					   error);
}

int loaded_load(const struct config_flags *flags, struct loaded *ret_loaded, struct error *error)
{
	struct loaded loaded = {0};
	int status = config_load(flags, environ, &loaded.config, error);
	size_t found_length = 0;

	if (status < 0)
		return status;
	/* Looked at here, before anybody is forked, so that all know the same of the system. */
	(void)system_capabilities();
	char *found = probe_run(loaded.config, &found_length);
	status = loaded_build(&loaded, found, found_length, error);
	if (status < 0) {
		loaded_release(&loaded);
		return status;
	}
	*ret_loaded = loaded;
	return 0;
}

int loaded_check_files(const struct loaded *loaded, struct error *error)
{
	return http_check_files(loaded->config, error);
}

int loaded_read(const struct config_flags *flags, const struct loaded *current,
		struct loaded *ret_loaded, struct error *error)
{
	struct loaded loaded = {0};
	int status = config_load(flags, environ, &loaded.config, error);

	if (status < 0)
		return status;
	status = config_reload_check(current->config, loaded.config, error);
	if (status < 0) {
		loaded_release(&loaded);
		return status;
	}
	*ret_loaded = loaded;
	return 0;
}

/* FNV-1a, as of the file. */
uint64_t loaded_digest(const struct loaded *loaded)
{
	uint64_t digest = loaded->config->digest;

	for (size_t i = 0; i < loaded->found_length; i++)
		digest = (digest ^ (unsigned char)loaded->found[i]) * UINT64_C(0x100000001b3);
	return digest;
}

void loaded_log_plugins(const struct loaded *loaded)
{
	for (size_t i = 0; i < loaded->registry.plugin_count; i++) {
		const struct plugin *plugin = &loaded->registry.plugins[i];
		if (plugin->description)
			log_info("plugin_found", log_str("path", plugin->config->path),
				 log_str("name", plugin_name(plugin)),
				 log_str("version", plugin_version(plugin)),
				 log_uint("tasks", plugin_task_count(plugin)));
	}
	for (size_t i = 0; i < loaded->registry.problem_count; i++)
		log_error("plugin_left_out", log_str("error", loaded->registry.problems[i]));
}

void loaded_release(struct loaded *loaded)
{
	registry_release(&loaded->registry);
	config_free(loaded->config);
	free(loaded->found);
	*loaded = (struct loaded){0};
}
