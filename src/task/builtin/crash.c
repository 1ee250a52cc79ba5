/*
 * crash: ends its own process by a signal, and with it all jobs that run in the same host. It
 * serves to show that the service goes on, and must be enabled by the operator.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "task/builtin/builtin.h"

static const struct {
	const char *name;
	int number;
} signals[] = {
	{"SEGV", SIGSEGV}, {"ABRT", SIGABRT}, {"BUS", SIGBUS},	 {"FPE", SIGFPE}, {"ILL", SIGILL},
	{"KILL", SIGKILL}, {"TERM", SIGTERM}, {"TRAP", SIGTRAP}, {"SYS", SIGSYS},
};

static int find_signal(const char *name)
{
	for (size_t i = 0; name != NULL && i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (strcmp(signals[i].name, name) == 0) {
			return signals[i].number;
		}
	}
	return SIGSEGV;
}

/* Makes sure that the signal is delivered. Handlers stay: a host of several threads has one that
 * notes which of them fell, as it would for a crash that nobody meant. */
static void expose(int number)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, number);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* An address in the first page, which Linux maps for nobody; volatile, so that the compiler does
 * not know. */
static volatile uintptr_t unmapped_address = 16;

/* A sanitizer would look up the address in tables of its own and die there in its own way. */
__attribute__((no_sanitize("address"), no_sanitize("thread"), no_sanitize("undefined"))) static void
write_to_unmapped(void)
{
	*(volatile char *)unmapped_address = 1;
}

static void die(int number)
{
	switch (number) {
	case SIGSEGV:
		write_to_unmapped();
		break;
	case SIGABRT:
		abort();
	case SIGKILL:
		kill(getpid(), SIGKILL);
		break;
	default:
		raise(number);
		break;
	}
}

static int run(struct tp_context *ctx, const json_t *args)
{
	const char *name = json_string_value(json_object_get(args, "signal"));
	const json_t *text = json_object_get(args, "text");
	int number = find_signal(name);
	if (json_is_string(text)) {
		int written =
			tp_write(ctx, TP_STDOUT, json_string_value(text), json_string_length(text));
		if (written != 0) {
			return tp_fail(ctx, "cannot write the output: %s", strerror(-written));
		}
	}
	if (!tp_sleep_ns(ctx, builtin_integer(args, "after_ms", 0) * BUILTIN_NS_PER_MS)) {
		return tp_stopped(ctx);
	}
	expose(number);
	die(number);
	return tp_fail(ctx, "the process survived the signal %d", number);
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"signal\": {\"enum\": [\"SEGV\", \"ABRT\", \"BUS\", \"FPE\", \"ILL\", \"KILL\", "
	"\"TERM\", "
	"\"TRAP\", \"SYS\"], \"default\": \"SEGV\", "
	"\"description\": \"The signal that ends the process; SEGV by a real write to memory that "
	"is "
	"not there.\"},"
	"\"after_ms\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 3600000, \"default\": "
	"0, "
	"\"description\": \"How long to wait first, in milliseconds.\"},"
	"\"text\": {\"type\": \"string\", \"description\": \"What to write to stdout before, "
	"as it is.\"}}}";

const struct tp_task builtin_crash = {
	.name = "crash",
	.description =
		"Ends the process it runs in by a signal, together with every job beside it. "
		"Must be enabled in the configuration.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE | TP_TASK_DISABLED_BY_DEFAULT,
	.run = run,
};
