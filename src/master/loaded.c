#include "master/loaded.h"

#include <unistd.h>

int loaded_load(const struct config_flags *flags, struct loaded *ret_loaded, struct error *error)
{
	struct loaded loaded = {0};
	int status = config_load(flags, environ, &loaded.config, error);

	if (status < 0)
		return status;
	status = registry_build(loaded.config, &loaded.registry, error);
	if (status < 0) {
		config_free(loaded.config);
		return status;
	}
	*ret_loaded = loaded;
	return 0;
}

int loaded_reload(const struct config_flags *flags, const struct loaded *current,
		  struct loaded *ret_loaded, struct error *error)
{
	struct loaded loaded;
	int status = loaded_load(flags, &loaded, error);

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

void loaded_release(struct loaded *loaded)
{
	registry_release(&loaded->registry);
	config_free(loaded->config);
	loaded->config = NULL;
}
