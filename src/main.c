/* Arguments, configuration, and the exit status. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/log.h"
#include "config/config.h"
#include "host/heap.h"
#include "master/loaded.h"
#include "master/master.h"
#include "version.h"
#ifdef TWINPOOL_PYTHON
#include "task/python/python.h"
#else
#define python_version() "none"
#endif

#define EXIT_USAGE 2 /* the command line or the configuration is wrong */

static const char help[] =
	"Usage: twinpool [OPTION]...\n"
	"       twinpool token NAME --scope SCOPE[,SCOPE]...\n"
	"Runs jobs, sent over HTTP as JSON, on pools of processes and of threads.\n"
	"\n"
	"  --config FILE         configuration; without it, built-in defaults   TWINPOOL_CONFIG\n"
	"  --listen HOST:PORT    address to serve on; port 0 takes a free one;  TWINPOOL_LISTEN\n"
	"                        unix:/PATH is a Unix socket\n"
	"  --data-dir DIR        where everything that is written lies          TWINPOOL_DATA_DIR\n"
	"  --tokens-file FILE    whoever asks needs a bearer token that is there  "
	"TWINPOOL_TOKENS_FILE\n"
	"  --allow-anonymous     serves without tokens beyond this machine, too "
	"TWINPOOL_ALLOW_ANONYMOUS=1\n"
	"  --log-level LEVEL     debug, info, warning, error                    "
	"TWINPOOL_LOG_LEVEL\n"
	"  --log-format FORMAT   auto, text, json                               "
	"TWINPOOL_LOG_FORMAT\n"
	"  --ready-fd N          writes the URL and a newline to descriptor N\n"
	"                        once every pool can take jobs                  TWINPOOL_READY_FD\n"
	"  --check-config        checks the configuration and exits\n"
	"  --version, --help\n"
	"\n"
	"token makes a bearer token: it is written to stderr, this once, and its line for the\n"
	"file of tokens to stdout. Scopes: submit (POST, DELETE), read (GET), admin (PATCH).\n"
	"\n"
	"Flags win over TWINPOOL_* variables, and those over the file.\n"
	"Exit status: 0 after an orderly shutdown, 1 if the service failed, 2 for a wrong\n"
	"command line or configuration.\n";

enum {
	OPTION_CHECK = 256,
	OPTION_READY_FD,
	OPTION_CONFIG,
	OPTION_LISTEN,
	OPTION_DATA_DIR,
	OPTION_TOKENS_FILE,
	OPTION_ALLOW_ANONYMOUS,
	OPTION_LOG_LEVEL,
	OPTION_LOG_FORMAT,
	OPTION_HELP,
	OPTION_VERSION
};

static const struct option options[] = {
	{"config", required_argument, NULL, OPTION_CONFIG},
	{"listen", required_argument, NULL, OPTION_LISTEN},
	{"data-dir", required_argument, NULL, OPTION_DATA_DIR},
	{"tokens-file", required_argument, NULL, OPTION_TOKENS_FILE},
	{"allow-anonymous", no_argument, NULL, OPTION_ALLOW_ANONYMOUS},
	{"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
	{"log-format", required_argument, NULL, OPTION_LOG_FORMAT},
	{"ready-fd", required_argument, NULL, OPTION_READY_FD},
	{"check-config", no_argument, NULL, OPTION_CHECK},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{NULL, 0, NULL, 0},
};

struct arguments {
	struct config_flags flags;
	const char *ready_fd; /* NULL if not given */
	bool check_only;
};

static void print_version(void)
{
	heap_meter_init();
	printf("twinpool %s\nheap metering: %s\npython: %s\n", TWINPOOL_VERSION,
	       heap_meter_available() ? "jemalloc" : "none", python_version());
}

/* Answers -1 to go on, or the exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *ret_arguments)
{
	struct arguments arguments = {.ready_fd = getenv("TWINPOOL_READY_FD")};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case OPTION_CONFIG:
			arguments.flags.config_path = optarg;
			break;
		case OPTION_LISTEN:
			arguments.flags.listen = optarg;
			break;
		case OPTION_DATA_DIR:
			arguments.flags.data_dir = optarg;
			break;
		case OPTION_TOKENS_FILE:
			arguments.flags.tokens_file = optarg;
			break;
		case OPTION_ALLOW_ANONYMOUS:
			arguments.flags.allow_anonymous = "true";
			break;
		case OPTION_LOG_LEVEL:
			arguments.flags.log_level = optarg;
			break;
		case OPTION_LOG_FORMAT:
			arguments.flags.log_format = optarg;
			break;
		case OPTION_READY_FD:
			arguments.ready_fd = optarg;
			break;
		case OPTION_CHECK:
			arguments.check_only = true;
			break;
		case OPTION_HELP:
			fputs(help, stdout);
			return 0;
		case OPTION_VERSION:
			print_version();
			return 0;
		default:
			fputs("Try 'twinpool --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "twinpool: unexpected argument '%s'\nTry 'twinpool --help'.\n",
			argv[optind]);
		return EXIT_USAGE;
	}
	*ret_arguments = arguments;
	return -1;
}

/* Reads a descriptor that is open for writing: 0 or -errno. */
static int parse_ready_fd(const char *text, int *ret_fd)
{
	char *end;

	errno = 0;
	long number = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || number < 0 || number > 65535)
		return -EINVAL;
	int flags = fcntl((int)number, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	fcntl((int)number, F_SETFD, FD_CLOEXEC);
	*ret_fd = (int)number;
	return 0;
}

static int complain(const struct error *error)
{
	fprintf(stderr, "twinpool: %s%s%s\n", error->field, error->field[0] ? ": " : "",
		error->message);
	return EXIT_USAGE;
}

static int run(const struct arguments *arguments, struct supervisor *supervisor,
	       struct loaded *loaded)
{
	const struct config *config = loaded->config;
	struct error error = {0};
	int ready_fd = -1;

	if (arguments->ready_fd && parse_ready_fd(arguments->ready_fd, &ready_fd) < 0) {
		fprintf(stderr,
			"twinpool: --ready-fd: found '%s'; expected the number of a descriptor "
			"that is "
			"open for writing\n",
			arguments->ready_fd);
		return EXIT_USAGE;
	}
	if (arguments->check_only && loaded->registry.problem_count > 0) {
		for (size_t i = 0; i < loaded->registry.problem_count; i++)
			fprintf(stderr, "twinpool: %s\n", loaded->registry.problems[i]);
		return EXIT_USAGE;
	}
	if (arguments->check_only && loaded_check_files(loaded, &error) < 0)
		return complain(&error);
	if (arguments->check_only) {
		printf("twinpool: %s is valid\n",
		       config->path ? config->path : "the built-in configuration");
		return 0;
	}
	log_init(config->log_level, config->log_format, "master");
	log_info("starting", log_str("version", TWINPOOL_VERSION), log_str("config", config->path),
		 log_int("pid", getpid()), log_uint("cores", config_cores()),
		 log_uint("memory_limit_bytes", config->memory_bytes));
	loaded_log_plugins(loaded);
	return master_run(loaded, &arguments->flags, supervisor, ready_fd);
}

/* twinpool token NAME --scope SCOPES; argv[0] is "token". */
static int make_token(int argc, char **argv)
{
	static const struct option token_options[] = {
		{"scope", required_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	char token[TOKENS_TOKEN_SIZE];
	char line[TOKENS_LINE_SIZE];
	unsigned int scopes = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", token_options, NULL)) != -1)
		if (option != 's' || !scopes_parse(optarg, &scopes)) {
			fputs("twinpool token: --scope: expected submit, read, admin, with commas "
			      "between them\n",
			      stderr);
			return EXIT_USAGE;
		}
	if (optind != argc - 1 || scopes == 0) {
		fputs("Usage: twinpool token NAME --scope SCOPE[,SCOPE]...\n", stderr);
		return EXIT_USAGE;
	}
	int status = tokens_make(argv[optind], scopes, token, line);
	if (status < 0) {
		fprintf(stderr, "twinpool token: %s\n",
			status == -EINVAL ? "expected a name of 1 to 63 letters, digits, . _ and -"
					  : strerror(-status));
		return status == -EINVAL ? EXIT_USAGE : 1;
	}
	fprintf(stderr, "%s\n", token);
	explicit_bzero(token, sizeof(token));
	return printf("%s\n", line) < 0 || fflush(stdout) != 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "token") == 0)
		return make_token(argc - 1, argv + 1);

	struct arguments arguments;
	struct supervisor supervisor = {.listen_fd = -1};
	struct loaded loaded = {0};
	struct error error = {0};
	int status = parse_arguments(argc, argv, &arguments);

	if (status >= 0)
		return status;
	json_object_seed(
		0); /* before any fork or thread, so that all processes and threads agree */
	if (supervisor_take(&supervisor, &error) < 0 ||
	    loaded_load(&arguments.flags, &loaded, &error) < 0)
		return complain(&error);
	status = run(&arguments, &supervisor, &loaded);
	loaded_release(&loaded);
	supervisor_release(&supervisor);
	return status;
}
