/*
 * A plug-in that does what none should. Its task "hostile" takes {"how": ...}; its set-up obeys the
 * settings of that task. Built several times, also as something that cannot be loaded: VARIANT_ABI,
 * VARIANT_REFUSES, VARIANT_NO_ENTRY, VARIANT_UNDEFINED, VARIANT_BAD_SCHEMA, VARIANT_CLASH,
 * VARIANT_NO_RUN, VARIANT_CONSTRUCTOR.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <twinpool/task.h>

#define SOCKET_FD   3 /* of a host, to the server */
#define CHILDREN    4
#define THREADS	    4
#define LEAK_BYTES  (8 << 20)
#define FOR_EVER_NS (3600 * INT64_C(1000000000))

static volatile int zero;

/* --- ways to be hostile -------------------------------------------------------------------------
 * */

static int overflow(int depth)
{
	volatile char frame[4096];

	frame[0] = (char)depth;
	return overflow(depth + 1) + frame[0];
}

static void close_all(void)
{
	close_range(0, ~0U, 0);
}

static void write_to_socket(struct tp_context *ctx)
{
	char nonsense[512];

	memset(nonsense, 0xA5, sizeof(nonsense));
	for (int i = 0; i < 100; i++)
		send(SOCKET_FD, nonsense, sizeof(nonsense), MSG_NOSIGNAL);
	tp_sleep_ns(ctx, FOR_EVER_NS);
}

/* Every mapping of a memory file in this process: the scoreboard is one. */
static void write_to_memory_files(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long begin;
		unsigned long end;
		if (strstr(line, "memfd:") && sscanf(line, "%lx-%lx rw", &begin, &end) == 2)
			memset((void *)begin, 0xFF, end - begin);
	}
	if (maps)
		fclose(maps);
}

static void start_children(void)
{
	for (int i = 0; i < CHILDREN; i++) {
		if (fork() != 0)
			continue;
		setsid();
		if (fork() != 0)
			_exit(0);
		sigaction(SIGTERM, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
		for (;;)
			pause();
	}
}

static void block_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (int number = 1; number < NSIG; number++)
		sigaction(number, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
}

static void *wait_for_ever(void *data)
{
	for (;;)
		pause();
	return data;
}

static void start_threads(void)
{
	pthread_t thread;

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, wait_for_ever, NULL) == 0)
			pthread_detach(thread);
}

/* Kept where a leak checker sees it: that it is never given back is the point. */
static void leak(void)
{
	static void *kept[64];
	static size_t count;

	if (count < sizeof(kept) / sizeof(kept[0]) && (kept[count] = malloc(LEAK_BYTES)))
		memset(kept[count++], 1, LEAK_BYTES);
}

static void jump_to_nowhere(void)
{
	jmp_buf nowhere;

	memset(nowhere, 0x5A, sizeof(nowhere));
	longjmp(nowhere, 1);
}

/* Another thread than ours may be the one that takes the signal first. */
static void stop_process(struct tp_context *ctx)
{
	kill(getpid(), SIGSTOP);
	tp_sleep_ns(ctx, FOR_EVER_NS);
}

static void become_another_program(void)
{
	execl("/bin/sleep", "sleep", "3600", (char *)NULL);
}

static int be_hostile(struct tp_context *ctx, const char *how)
{
	if (strcmp(how, "exit") == 0)
		exit(7);
	else if (strcmp(how, "abort") == 0)
		abort();
	else if (strcmp(how, "overflow") == 0)
		return overflow(zero);
	else if (strcmp(how, "close_all") == 0)
		close_all();
	else if (strcmp(how, "socket") == 0)
		write_to_socket(ctx);
	else if (strcmp(how, "scoreboard") == 0)
		write_to_memory_files();
	else if (strcmp(how, "fork") == 0)
		start_children();
	else if (strcmp(how, "signals") == 0)
		block_signals();
	else if (strcmp(how, "threads") == 0)
		start_threads();
	else if (strcmp(how, "leak") == 0)
		leak();
	else if (strcmp(how, "stdout") == 0)
		freopen("/dev/null", "w", stdout);
	else if (strcmp(how, "jump") == 0)
		jump_to_nowhere();
	else if (strcmp(how, "stop") == 0)
		stop_process(ctx);
	else if (strcmp(how, "thread_exit") == 0)
		pthread_exit(NULL);
	else if (strcmp(how, "exec") == 0)
		become_another_program();
	return tp_set_result(ctx, json_string(how));
}

static int run_hostile(struct tp_context *ctx, const json_t *args)
{
	const char *how = json_string_value(json_object_get(args, "how"));

	if (strcmp(how, "log") == 0) {
		for (int i = 0; i < 2000; i++)
			tp_log(ctx, TP_LOG_INFO, "line %d with \n and \xFF", i);
		tp_log(NULL, TP_LOG_WARNING, "%02000d", 0);
	}
	return be_hostile(ctx, how);
}

/* Keeps a lock, or dies with it; the next one is told. */
static int run_lock(struct tp_context *ctx, const json_t *args)
{
	int64_t *block = tp_shared_block(ctx, "hostile.lock", 2 * sizeof(*block));

	if (!block)
		return tp_fail(ctx, "no block");
	int status = tp_lock(ctx, block);
	if (status < 0)
		return tp_fail(ctx, "not locked: %s", strerror(-status));
	block[0]++;
	if (json_is_true(json_object_get(args, "die")))
		abort();
	if (!json_is_true(json_object_get(args, "keep")))
		tp_unlock(ctx, block);
	return tp_set_result(ctx, json_pack("{s:I, s:b}", "value", (json_int_t)block[0], "died",
					    status == TP_LOCK_OWNER_DIED));
}

/* --- set-up -------------------------------------------------------------------------------------
 * */

static int open_somewhere(struct tp_host *host, const char *setting)
{
	const char *how = tp_host_setting(host, "hostile", setting);
	const char *file = tp_host_setting(host, "hostile", "fail_if");

	if (file && access(file, F_OK) == 0)
		return tp_host_fail(host, "there is %s", file);
	if (!how)
		return 0;
	if (strcmp(how, "fail") == 0)
		return tp_host_fail(host, "it was told to");
	if (strcmp(how, "segv") == 0)
		raise(SIGSEGV);
	if (strcmp(how, "exit") == 0)
		exit(3);
	if (strcmp(how, "hang") == 0)
		for (;;)
			pause();
	if (strcmp(how, "close_all") == 0)
		close_all();
	if (strcmp(how, "fork") == 0)
		start_children();
	return 0;
}

static int host_open(struct tp_host *host)
{
	return open_somewhere(host, "host_open");
}

static int thread_open(struct tp_host *host)
{
	return open_somewhere(host, "thread_open");
}

static const struct tp_task hostile_task = {
#ifdef VARIANT_CLASH
	.name = "echo",
#else
	.name = "hostile",
#endif
	.description = "Does what no task should.",
#ifdef VARIANT_BAD_SCHEMA
	.args_schema = "{\"type\": \"object\", \"pattern\": \"x\"}",
#else
	.args_schema = "{\"type\": \"object\", \"required\": [\"how\"],"
		       " \"properties\": {\"how\": {\"type\": \"string\"}}}",
#endif
	.flags = TP_TASK_THREAD_SAFE,
#ifndef VARIANT_NO_RUN
	.run = run_hostile,
#endif
};

static const struct tp_task lock_task = {
	.name = "hostile.lock",
	.description = "Counts in a shared block, and may keep its lock or die with it.",
	.args_schema = "{\"type\": \"object\", \"properties\": {\"keep\": {\"type\": \"boolean\"},"
		       " \"die\": {\"type\": \"boolean\"}}}",
	.flags = TP_TASK_THREAD_SAFE,
	.run = run_lock,
};

static const struct tp_task *const tasks[] = {&hostile_task, &lock_task, NULL};

static const struct tp_plugin plugin = {
#ifdef VARIANT_ABI
	.abi = TP_TASK_ABI + 1000,
#else
	.abi = TP_TASK_ABI,
#endif
	.name = "hostile",
	.version = "1",
	.tasks = tasks,
	.host_open = host_open,
	.thread_open = thread_open,
};

#ifdef VARIANT_UNDEFINED
void tp_is_not_there(void);
#endif
#ifdef VARIANT_CONSTRUCTOR
static void __attribute__((constructor)) constructor(void)
{
	abort();
}
#endif

#ifndef VARIANT_NO_ENTRY
TP_PLUGIN_EXPORT const struct tp_plugin *tp_plugin_entry(unsigned int host_abi)
{
#ifdef VARIANT_UNDEFINED
	tp_is_not_there();
#endif
#ifdef VARIANT_REFUSES
	return NULL;
#endif
	return host_abi == TP_TASK_ABI ? &plugin : NULL;
}
#endif
