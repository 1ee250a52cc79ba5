/*
 * The declaration of a command: see command.h.
 *
 * The schema of the configuration has checked its form (types, members, ranges); what the schema
 * cannot say is checked here, so that a command which loads fails only by its arguments, its
 * program or the system.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "task/command/command.h"
#include "task/command/system.h"
#include "task/command/tree.h"

#define FIELD_BYTES	 160
#define GRACE_DEFAULT_MS 1000
#define MAX_BYTES	 (1 << 20) /* of a file in the result */

/* What the parts of a declaration are read with. */
struct reader {
	const struct config_task *settings;
	json_t *schema; /* of the arguments; owned */
	struct command *command;
	struct error *error;
};

static int fail_memory(struct error *error)
{
	return error_set(error, ERROR_INTERNAL, NULL, "out of memory");
}

static const json_t *member(const struct reader *reader, const char *name)
{
	return json_object_get(reader->command->document, name);
}

static const char *text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

/* --- the program --- */

/* Whether the file can be run; else errno. */
static bool is_program(const char *path)
{
	struct stat status;

	if (stat(path, &status) < 0) {
		return false;
	}
	if (!S_ISREG(status.st_mode)) {
		errno = S_ISDIR(status.st_mode) ? EISDIR : EACCES;
		return false;
	}
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

static int take_path(struct reader *reader, const char *directory, const char *name)
{
	int length = directory == NULL
			     ? asprintf(&reader->command->program, "%s", name)
			     : asprintf(&reader->command->program, "%s/%s", directory, name);
	if (length < 0) {
		reader->command->program = NULL;
		return fail_memory(reader->error);
	}
	return 0;
}

static int find_by_path(struct reader *reader, const char *name, const json_t *path)
{
	char searched[200] = "";
	size_t index;
	json_t *directory;

	json_array_foreach (path, index, directory) {
		size_t used = strlen(searched);
		int status = take_path(reader, json_string_value(directory), name);
		if (status != 0) {
			return status;
		}
		if (reader->command->program[0] == '/' && is_program(reader->command->program)) {
			return 0;
		}
		free(reader->command->program);
		reader->command->program = NULL;
		snprintf(searched + used, sizeof(searched) - used, "%s%s", index == 0 ? "" : ", ",
			 json_string_value(directory));
	}
	return error_set(reader->error, ERROR_INVALID, "command.argv[0]",
			 "found the program \"%.80s\", which is in none of the directories %s; "
			 "expected one that can be run there (command.path), or its whole path",
			 name, searched);
}

static int find_program(struct reader *reader, const char *name)
{
	int status;

	if (strchr(name, '/') == NULL) {
		json_t *usual = json_pack("[sss]", "/usr/local/bin", "/usr/bin", "/bin");
		const json_t *path = member(reader, "path");
		status = usual == NULL ? fail_memory(reader->error)
				       : find_by_path(reader, name, path != NULL ? path : usual);
		json_decref(usual);
		return status;
	}
	status = take_path(reader, name[0] == '/' ? NULL : reader->settings->directory, name);
	if (status != 0 || is_program(reader->command->program)) {
		return status;
	}
	return error_set(reader->error, ERROR_INVALID, "command.argv[0]",
			 "found the program \"%.200s\" (%s); expected one that can be run",
			 reader->command->program, strerror(errno));
}

static int read_argv(struct reader *reader)
{
	const json_t *argv = member(reader, "argv");
	const char *name = json_string_value(json_array_get(argv, 0));

	if (name == NULL || name[0] == '\0' || strpbrk(name, "{}") != NULL) {
		return error_set(reader->error, ERROR_INVALID, "command.argv[0]",
				 "found no name of a program; expected one, without placeholders");
	}
	int status = find_program(reader, name);
	if (status != 0) {
		return status;
	}
	return template_compile_argv(argv, reader->schema, "command.argv", &reader->command->argv,
				     reader->error);
}

/* --- what it is given --- */

static int check_string_argument(const struct reader *reader, const char *name, const char *field)
{
	if (template_is_of_type(reader->schema, name, "string")) {
		return 0;
	}
	return error_set(
		reader->error, ERROR_INVALID, field,
		"found \"%.60s\"; expected the name of a property of args_schema that is a "
		"string",
		name);
}

static int read_stdin(struct reader *reader)
{
	const json_t *input = member(reader, "stdin");

	if (input == NULL) {
		return 0;
	}
	reader->command->has_stdin = true;
	if (json_is_string(input)) {
		return template_compile(json_string_value(input), reader->schema, "command.stdin",
					&reader->command->stdin_text, reader->error);
	}
	reader->command->stdin_base64 = text_of(input, "base64");
	if (reader->command->stdin_base64 == NULL) {
		return error_set(reader->error, ERROR_INVALID, "command.stdin",
				 "found no member \"base64\"; expected it, or a text");
	}
	return check_string_argument(reader, reader->command->stdin_base64, "command.stdin.base64");
}

static int check_variable(const struct reader *reader, const char *name, const char *field)
{
	if (name[0] != '\0' && strchr(name, '=') == NULL && strcmp(name, TREE_VARIABLE) != 0) {
		return 0;
	}
	return error_set(reader->error, ERROR_INVALID, field,
			 "found the variable \"%.60s\"; expected a name without \"=\", and another "
			 "than %s",
			 name, TREE_VARIABLE);
}

static int inherit(struct reader *reader, const char *name)
{
	const char *value = getenv(name);
	char *entry = NULL;
	int status = check_variable(reader, name, "command.environment.inherit");

	if (status != 0 || value == NULL) {
		return status;
	}
	if (asprintf(&entry, "%s=%s", name, value) < 0) {
		entry = NULL;
	}
	return strings_take(&reader->command->inherited, entry) == 0 ? 0
								     : fail_memory(reader->error);
}

static int read_set(struct reader *reader, json_t *set)
{
	struct command *command = reader->command;
	size_t count = json_object_size(set);
	const char *name;
	json_t *value;

	command->set_names = calloc(count + 1, sizeof(*command->set_names));
	command->set_values = calloc(count + 1, sizeof(*command->set_values));
	if (command->set_names == NULL || command->set_values == NULL) {
		return fail_memory(reader->error);
	}
	json_object_foreach (set, name, value) {
		char field[FIELD_BYTES];
		snprintf(field, sizeof(field), "command.environment.set.%.80s", name);
		int status = check_variable(reader, name, field);
		if (status == 0) {
			status = template_compile(json_string_value(value), reader->schema, field,
						  &command->set_values[command->set_count],
						  reader->error);
		}
		if (status != 0) {
			return status;
		}
		command->set_names[command->set_count++] = name;
	}
	return 0;
}

static int read_environment(struct reader *reader)
{
	const json_t *environment = member(reader, "environment");
	size_t index;
	json_t *name;

	json_array_foreach (json_object_get(environment, "inherit"), index, name) {
		int status = inherit(reader, json_string_value(name));
		if (status != 0) {
			return status;
		}
	}
	return read_set(reader, json_object_get(environment, "set"));
}

/* --- files --- */

/* A name in the scratch directory: one, and not a directory above. */
static int check_name(const struct reader *reader, const char *name, const char *field)
{
	if (name[0] != '\0' && strlen(name) <= 255 && strchr(name, '/') == NULL &&
	    strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
		return 0;
	}
	return error_set(reader->error, ERROR_INVALID, field,
			 "found \"%.60s\"; expected a file's name of at most 255 bytes, without "
			 "directories",
			 name);
}

static int check_root(const struct reader *reader, const char *root, const char *field)
{
	struct stat status;

	if (root == NULL) {
		return 0;
	}
	if (root[0] == '/' && stat(root, &status) == 0 && S_ISDIR(status.st_mode)) {
		return 0;
	}
	return error_set(reader->error, ERROR_INVALID, field,
			 "found \"%.100s\"; expected the whole path of an existing directory",
			 root);
}

static int read_file_in(struct reader *reader, const char *argument, const json_t *document)
{
	struct command_file_in *file = &reader->command->files_in[reader->command->file_in_count];
	char field[FIELD_BYTES];

	*file = (struct command_file_in){.argument = argument,
					 .as = text_of(document, "as"),
					 .root = text_of(document, "root")};
	if (file->as == NULL) {
		file->as = argument;
	}
	snprintf(field, sizeof(field), "command.files.in.%.80s", argument);
	int status = check_string_argument(reader, argument, field);
	if (status == 0) {
		status = check_name(reader, file->as, field);
	}
	if (status == 0) {
		status = check_root(reader, file->root, field);
	}
	for (size_t i = 0; status == 0 && i < reader->command->file_in_count; i++) {
		if (strcmp(reader->command->files_in[i].as, file->as) == 0) {
			status =
				error_set(reader->error, ERROR_INVALID, field,
					  "found a second file as \"%.60s\"; expected another name",
					  file->as);
		}
	}
	reader->command->file_in_count++;
	return status;
}

static int read_file_out(struct reader *reader, const char *name, const json_t *document)
{
	struct command_file_out *file =
		&reader->command->files_out[reader->command->file_out_count++];
	const json_t *max_bytes = json_object_get(document, "max_bytes");
	const char *to = text_of(document, "to");
	char field[FIELD_BYTES];

	file->name = name;
	file->path = text_of(document, "path");
	file->max_bytes = max_bytes == NULL ? MAX_BYTES : (size_t)json_integer_value(max_bytes);
	file->root = text_of(document, "root");
	file->optional = json_is_true(json_object_get(document, "optional"));
	if (file->path == NULL) {
		file->path = name;
	}
	snprintf(field, sizeof(field), "command.files.out.%.80s", name);
	if ((to == NULL) != (file->root == NULL)) {
		return error_set(reader->error, ERROR_INVALID, field,
				 "found one of \"root\" and \"to\"; expected both or none");
	}
	int status = check_name(reader, file->path, field);
	if (status == 0) {
		status = check_root(reader, file->root, field);
	}
	if (status == 0 && to != NULL) {
		status = template_compile(to, reader->schema, field, &file->to, reader->error);
	}
	return status;
}

static int read_files(struct reader *reader)
{
	struct command *command = reader->command;
	json_t *in = json_object_get(member(reader, "files"), "in");
	json_t *out = json_object_get(member(reader, "files"), "out");
	const char *name;
	json_t *value;
	int status = 0;

	command->files_in = calloc(json_object_size(in) + 1, sizeof(*command->files_in));
	command->files_out = calloc(json_object_size(out) + 1, sizeof(*command->files_out));
	if (command->files_in == NULL || command->files_out == NULL) {
		return fail_memory(reader->error);
	}
	json_object_foreach (in, name, value) {
		status = status == 0 ? read_file_in(reader, name, value) : status;
	}
	json_object_foreach (out, name, value) {
		status = status == 0 ? read_file_out(reader, name, value) : status;
	}
	if (status == 0 && command->file_out_count > 0 &&
	    command->result != COMMAND_RESULT_STATUS) {
		status = error_set(reader->error, ERROR_INVALID, "command.files.out",
				   "found files for the result, which is what the command prints; "
				   "expected \"result\": \"status\" with them");
	}
	return status;
}

/* --- what comes of it --- */

static int read_exit(struct reader *reader)
{
	json_t *map = json_object_get(reader->command->document, "exit");
	const char *name;
	json_t *value;

	reader->command->succeeds[0] = true;
	json_object_foreach (map, name, value) {
		char *end;
		unsigned long status = strtoul(name, &end, 10);
		if (name[0] < '0' || name[0] > '9' || *end != '\0' || status > 255) {
			return error_set(
				reader->error, ERROR_INVALID, "command.exit",
				"found the exit status \"%.30s\"; expected a number from 0 "
				"to 255",
				name);
		}
		reader->command->succeeds[status] =
			strcmp(json_string_value(value), "succeeded") == 0;
	}
	return 0;
}

static int read_result(struct reader *reader)
{
	const char *result = json_string_value(member(reader, "result"));

	if (result != NULL && strcmp(result, "json") == 0) {
		reader->command->result = COMMAND_RESULT_JSON;
	} else if (result != NULL && strcmp(result, "text") == 0) {
		reader->command->result = COMMAND_RESULT_TEXT;
	}
	return read_exit(reader);
}

/* --- its bounds --- */

static void read_limits(struct reader *reader)
{
	static const struct {
		const char *name;
		int resource;
	} limits[] = {
		{"memory_bytes", RLIMIT_AS}, {"cpu_s", RLIMIT_CPU},
		{"files", RLIMIT_NOFILE},    {"file_bytes", RLIMIT_FSIZE},
		{"core_bytes", RLIMIT_CORE}, {"stack_bytes", RLIMIT_STACK},
	};
	struct command *command = reader->command;
	const json_t *given = member(reader, "rlimits");

	command->processes = json_integer_value(json_object_get(given, "processes"));
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const json_t *value = json_object_get(given, limits[i].name);
		/* A core file would be written where nobody looks. */
		if (value == NULL && limits[i].resource != RLIMIT_CORE) {
			continue;
		}
		command->limits[command->limit_count++] = (struct spawn_limit){
			.resource = limits[i].resource, .value = (rlim_t)json_integer_value(value)};
	}
}

static int read_user(struct reader *reader)
{
	const json_t *uid = member(reader, "uid");
	const json_t *gid = member(reader, "gid");

	if (uid == NULL && gid == NULL) {
		return 0;
	}
	if (uid == NULL || gid == NULL) {
		return error_set(reader->error, ERROR_INVALID,
				 uid == NULL ? "command.uid" : "command.gid",
				 "found only one of \"uid\" and \"gid\"; expected both");
	}
	if (!system_capabilities()->change_user) {
		return error_set(reader->error, ERROR_INVALID, "command.uid",
				 "found a user to become; expected none, since twinpool may not "
				 "change its user here (CAP_SETUID and CAP_SETGID are missing)");
	}
	reader->command->changes_user = true;
	reader->command->uid = (uid_t)json_integer_value(uid);
	reader->command->gid = (gid_t)json_integer_value(gid);
	return 0;
}

static int read_sandbox(struct reader *reader)
{
	const char *sandbox = json_string_value(member(reader, "sandbox"));
	const struct system_capabilities *system = system_capabilities();

	if (sandbox == NULL || strcmp(sandbox, "none") == 0) {
		return 0;
	}
	reader->command->sandboxed = true;
	if (system->bubblewrap_usable) {
		return 0;
	}
	return error_set(reader->error, ERROR_INVALID, "command.sandbox",
			 "found a sandbox that cannot be had here: %.300s; expected \"none\", or a "
			 "system that allows it",
			 system->bubblewrap_reason);
}

static int read_bounds(struct reader *reader)
{
	const json_t *grace = member(reader, "stop_grace_ms");

	reader->command->stop_grace_ns =
		(grace == NULL ? GRACE_DEFAULT_MS : json_integer_value(grace)) * NS_PER_MS;
	read_limits(reader);
	int status = read_user(reader);
	return status == 0 ? read_sandbox(reader) : status;
}

/* --- all of it --- */

static int read_all(struct reader *reader)
{
	int (*const parts[])(struct reader *) = {read_argv,   read_stdin, read_environment,
						 read_result, read_files, read_bounds};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		int status = parts[i](reader);
		if (status != 0) {
			return status;
		}
	}
	return 0;
}

int command_read(const struct config_task *settings, struct command **ret_command,
		 struct error *error)
{
	struct command *command = calloc(1, sizeof(*command));
	struct reader reader = {.settings = settings, .command = command, .error = error};

	if (command == NULL) {
		return fail_memory(error);
	}
	int status = json_parse(settings->spec, strlen(settings->spec), &command->document, error);
	if (status == 0) {
		status = json_parse(settings->args_schema, strlen(settings->args_schema),
				    &reader.schema, error);
	}
	if (status == 0) {
		status = read_all(&reader);
	}
	json_decref(reader.schema);
	if (status != 0) {
		command_free(command);
		return status;
	}
	*ret_command = command;
	return 0;
}

void command_free(struct command *command)
{
	if (command == NULL) {
		return;
	}
	template_release_argv(&command->argv);
	template_release(&command->stdin_text);
	strings_release(&command->inherited);
	for (size_t i = 0; i < command->set_count; i++) {
		template_release(&command->set_values[i]);
	}
	for (size_t i = 0; i < command->file_out_count; i++) {
		template_release(&command->files_out[i].to);
	}
	free(command->set_names);
	free(command->set_values);
	free(command->files_in);
	free(command->files_out);
	free(command->program);
	json_decref(command->document);
	free(command);
}
