/*
 * The registry, and every built-in task: found by its name, its arguments checked by its schema,
 * run with a real context.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "task/context.h"

#define THREADS 4
#define LONG_NS (60 * NS_PER_S)

static struct config_task settings[2];
static struct config config = {.tasks = settings, .task_count = 2};
static struct registry registry;
static char outer[64]; /* holds the root, and what must not be read */
static char root[80];
static struct shared *shared;
static _Atomic uint32_t stop;

/* What came of one run. */
struct outcome {
	bool is_process; /* set before */
	int status;
	bool stopped;
	json_t *result;
	char failure[1024];
	char output[256]; /* the beginning of it */
	size_t output_length;
};

static int keep_output(struct tp_context *ctx, enum tp_stream stream, const void *data,
		       size_t length)
{
	struct outcome *outcome = ctx->host_data;
	assert_int_equal(stream, TP_STDOUT);
	size_t room = sizeof(outcome->output) - 1;
	if (outcome->output_length + length <= room) {
		memcpy(outcome->output + outcome->output_length, data, length);
	}
	outcome->output_length += length;
	return 0;
}

/* Parses and checks args as a submission would. NULL: the schema refuses them. */
static json_t *checked(const struct task *task, const char *text)
{
	struct error error;
	json_t *args = NULL;
	assert_int_equal(json_parse(text, strlen(text), &args, &error), 0);
	if (schema_check(task->args_schema, args, true, "args", &error) != 0) {
		json_decref(args);
		return NULL;
	}
	return args;
}

static bool accepted(const char *name, const char *text)
{
	const struct task *task = registry_find(&registry, name);
	assert_non_null(task);
	json_t *args = checked(task, text);
	json_decref(args);
	return args != NULL;
}

static int run(const char *name, const char *text, struct outcome *outcome)
{
	const struct task *task = registry_find(&registry, name);
	assert_non_null(task);
	json_t *args = checked(task, text);
	assert_non_null(args);
	struct tp_context ctx = {.task = task,
				 .pool = "process",
				 .attempt = 1,
				 .is_process = outcome->is_process,
				 .shared = shared,
				 .stop = &stop,
				 .write = keep_output,
				 .host_data = outcome};
	outcome->status = task->definition->run(&ctx, args);
	outcome->stopped = ctx.stopped;
	outcome->result = json_incref(ctx.result);
	memcpy(outcome->failure, ctx.failure, sizeof(ctx.failure));
	context_release(&ctx);
	json_decref(args);
	return outcome->status;
}

/* Runs, wants success, and compares the result with this JSON. */
static void expect(const char *name, const char *args, const char *result)
{
	struct outcome outcome = {0};
	assert_int_equal(run(name, args, &outcome), 0);
	json_t *wanted = json_loads(result, JSON_DECODE_ANY, NULL);
	assert_non_null(wanted);
	assert_true(json_equal(outcome.result, wanted));
	json_decref(wanted);
	json_decref(outcome.result);
}

/* Runs, wants a failure whose message has this in it. */
static void expect_failure(const char *name, const char *args, const char *part)
{
	struct outcome outcome = {0};
	assert_int_not_equal(run(name, args, &outcome), 0);
	assert_false(outcome.stopped);
	assert_null(outcome.result);
	if (strstr(outcome.failure, part) == NULL) {
		fail_msg("\"%s\" is not in \"%s\"", part, outcome.failure);
	}
}

static int64_t integer_of(const json_t *result, const char *name)
{
	assert_true(json_is_integer(json_object_get(result, name)));
	return json_integer_value(json_object_get(result, name));
}

static int64_t run_for(const char *name, const char *args, const char *member)
{
	struct outcome outcome = {0};
	assert_int_equal(run(name, args, &outcome), 0);
	int64_t value = integer_of(outcome.result, member);
	json_decref(outcome.result);
	return value;
}

/* Without cleanup by cmocka in the child: it ends by _exit(). */
static pid_t spawn(void (*body)(void *), void *argument)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		body(argument);
		_exit(0);
	}
	return pid;
}

static int wait_for(pid_t pid)
{
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* --- the registry --- */

static void test_registry_is_sorted_and_complete(void **state)
{
	(void)state;
	static const char *const names[] = {"allocate", "counter", "crash", "echo", "fib",
					    "leak",	"primes",  "print", "read", "sha256",
					    "sleep",	"spawn",   "spin"};
	size_t found = 0;
	for (size_t i = 0; i < registry.count; i++) {
		const struct task *task = &registry.tasks[i];
		assert_int_equal(task->index, i);
		if (task->is_internal) {
			assert_false(task->enabled);
			continue;
		}
		assert_in_range(found, 0, sizeof(names) / sizeof(names[0]) - 1);
		assert_string_equal(task->definition->name, names[found]);
		assert_ptr_equal(registry_find(&registry, names[found]), task);
		found++;
		assert_string_equal(task->kind, "builtin");
		assert_non_null(task->definition->description);
		assert_true((task->definition->flags & TP_TASK_THREAD_SAFE) != 0);
	}
	assert_int_equal(found, sizeof(names) / sizeof(names[0]));
	assert_null(registry_find(&registry, "prime"));
	assert_null(registry_find(&registry, ""));
}

static void test_every_argument_is_described(void **state)
{
	(void)state;
	for (size_t i = 0; i < registry.count; i++) {
		if (registry.tasks[i].is_internal) {
			continue;
		}
		const json_t *document = schema_document(registry.tasks[i].args_schema);
		json_t *properties = json_object_get(document, "properties");
		const char *name = NULL;
		json_t *property = NULL;
		json_object_foreach (properties, name, property) {
			assert_true(json_is_string(json_object_get(property, "description")));
			json_t *value = json_object_get(property, "default");
			if (value != NULL) {
				json_t *args = json_pack("{s:O}", name, value);
				struct error error;
				int status = schema_check(registry.tasks[i].args_schema, args,
							  false, "args", &error);
				/* What is missing may be told, but never that the default is wrong.
				 */
				assert_true(status == 0 || strstr(error.field, name) == NULL);
				json_decref(args);
			}
		}
	}
}

static void test_registry_applies_the_configuration(void **state)
{
	(void)state;
	assert_true(registry_find(&registry, "crash")->enabled);
	assert_ptr_equal(registry_find(&registry, "read")->settings, &settings[0]);
	assert_null(registry_find(&registry, "print")->settings);

	char print[] = "print";
	struct config_task other[] = {{.name = print, .enabled = 0}};
	struct config with_other = {.tasks = other, .task_count = 1};
	struct registry another;
	struct error error;
	assert_int_equal(registry_build(&with_other, &another, &error), 0);
	assert_false(registry_find(&another, "print")->enabled);
	assert_false(registry_find(&another, "crash")->enabled);
	assert_false(registry_find(&another, "leak")->enabled);
	assert_true(registry_find(&another, "echo")->enabled);
	registry_release(&another);
	assert_null(another.tasks);
}

static void test_registry_refuses_an_unknown_name(void **state)
{
	(void)state;
	char name[] = "primez";
	struct config_task other[] = {{.name = name, .enabled = 1}};
	struct config with_other = {.tasks = other, .task_count = 1};
	struct registry another = {.count = 77};
	struct error error;
	assert_true(registry_build(&with_other, &another, &error) < 0);
	assert_int_equal(another.count, 77);
	assert_int_equal(error.code, ERROR_INVALID);
	assert_string_equal(error.field, "tasks.primez");
	assert_non_null(strstr(error.message, "allocate, counter, crash"));
	assert_non_null(strstr(error.message, "sleep"));
}

/* --- the tasks --- */

static void test_print(void **state)
{
	(void)state;
	struct outcome outcome = {.is_process = true};
	assert_int_equal(run("print", "{}", &outcome), 0);
	assert_string_equal(outcome.output, "Sample Process\n");
	json_decref(outcome.result);

	outcome = (struct outcome){0};
	assert_int_equal(run("print", "{}", &outcome), 0);
	assert_string_equal(outcome.output, "Sample Thread\n");
	json_decref(outcome.result);

	outcome = (struct outcome){0};
	assert_int_equal(run("print", "{\"text\": \"grün\", \"times\": 3}", &outcome), 0);
	assert_string_equal(outcome.output, "grün\ngrün\ngrün\n");
	json_decref(outcome.result);

	expect("print", "{\"text\": \"\", \"times\": 2}", "{\"printed\": \"\", \"times\": 2}");
	expect("print", "{}", "{\"printed\": \"Sample Thread\", \"times\": 1}");
	assert_false(accepted("print", "{\"times\": 0}"));
	assert_false(accepted("print", "{\"times\": 1001}"));
	assert_false(accepted("print", "{\"time\": 1}"));
}

static void test_echo(void **state)
{
	(void)state;
	static const char *const values[] = {"null",   "{}",	    "[1, [2.5, {\"a\": null}]]",
					     "\"x\"",  "-7",	    "true",
					     "1.0e10", "{\"n\": 1}"};
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		expect("echo", values[i], values[i]);
	}
}

static void test_sleep(void **state)
{
	(void)state;
	struct outcome outcome = {0};
	int64_t begin_ns = clock_monotonic_ns();
	assert_int_equal(run("sleep", "{\"ms\": 20}", &outcome), 0);
	double took_ms = (double)(clock_monotonic_ns() - begin_ns) / 1e6;
	double slept_ms = json_real_value(json_object_get(outcome.result, "slept_ms"));
	assert_true(slept_ms >= 19.999 && slept_ms <= took_ms + 0.001);
	json_decref(outcome.result);
	assert_false(accepted("sleep", "{}"));
	assert_false(accepted("sleep", "{\"ms\": -1}"));
	assert_false(accepted("sleep", "{\"ms\": 3600001}"));
}

static bool is_prime(unsigned int n)
{
	for (unsigned int d = 2; d * d <= n; d++) {
		if (n % d == 0) {
			return false;
		}
	}
	return n >= 2;
}

static void test_primes(void **state)
{
	(void)state;
	int64_t count = 0;
	char args[64];
	for (unsigned int n = 0; n <= 300; n++) {
		count += is_prime(n) ? 1 : 0;
		snprintf(args, sizeof(args), "{\"n\": %u}", n);
		assert_int_equal(run_for("primes", args, "count"), count);
	}
	/* The edges of the first two segments, by trial division. */
	for (unsigned int n = 301; n <= 131080; n++) {
		count += is_prime(n) ? 1 : 0;
		if ((n > 65530 && n < 65545) || n > 131066) {
			snprintf(args, sizeof(args), "{\"n\": %u}", n);
			assert_int_equal(run_for("primes", args, "count"), count);
		}
	}
	expect("primes", "{\"n\": 10}", "{\"count\": 4}");
	expect("primes", "{\"n\": 200000}", "{\"count\": 17984}");
	expect("primes", "{\"n\": 2000000}", "{\"count\": 148933}");
	expect("primes", "{\"n\": 100000000}", "{\"count\": 5761455}");
	assert_false(accepted("primes", "{\"n\": 2000000001}"));
	assert_false(accepted("primes", "{}"));
}

static void test_fib(void **state)
{
	(void)state;
	uint64_t a = 0;
	uint64_t b = 1;
	char args[64];
	for (unsigned int n = 0; n <= 27; n++) {
		snprintf(args, sizeof(args), "{\"n\": %u}", n);
		assert_int_equal(run_for("fib", args, "value"), a);
		uint64_t next = a + b;
		a = b;
		b = next;
	}
	assert_false(accepted("fib", "{\"n\": 61}"));
}

static void test_sha256(void **state)
{
	(void)state;
	/* FIPS 180-2, appendix B.1. */
	expect("sha256", "{\"text\": \"abc\"}",
	       "{\"sha256\": \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\","
	       "\"bytes\": 3}");
	expect("sha256", "{\"text\": \"\"}",
	       "{\"sha256\": \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\","
	       "\"bytes\": 0}");
	/* python3: hashlib.sha256(bytes(range(256)) * 4096 * mib).hexdigest() */
	expect("sha256", "{\"mib\": 1}",
	       "{\"sha256\": \"fbbab289f7f94b25736c58be46a994c441fd02552cc6022352e3d86d2fab7c83\","
	       "\"bytes\": 1048576}");
	expect("sha256", "{\"mib\": 3}",
	       "{\"sha256\": \"f6dd7fec8584ad00219a447071c1fa368a1caee4d9c146083d233713ddccd2c0\","
	       "\"bytes\": 3145728}");
	expect_failure("sha256", "{}", "neither");
	expect_failure("sha256", "{\"text\": \"\", \"mib\": 1}", "both");
	assert_false(accepted("sha256", "{\"mib\": 0}"));
}

static long resident_peak_kib(void)
{
	struct rusage usage;
	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return usage.ru_maxrss;
}

static void allocate_much(void *argument)
{
	(void)argument;
	long before = resident_peak_kib();
	struct outcome outcome = {0};
	if (run("allocate", "{\"mib\": 64}", &outcome) != 0 ||
	    integer_of(outcome.result, "bytes") != INT64_C(64) << 20) {
		_exit(1);
	}
	/* 1 MiB less: the kernel's counters of a process lag a little. */
	_exit(resident_peak_kib() - before >= 63 * 1024 ? 0 : 2);
}

static void allocate_too_much(void *argument)
{
	(void)argument;
	struct rlimit limit = {.rlim_cur = 1 << 30, .rlim_max = 1 << 30};
	setrlimit(RLIMIT_AS, &limit);
	expect_failure("allocate", "{\"mib\": 65536}", "cannot allocate 65536 MiB");
	_exit(0);
}

static void test_allocate(void **state)
{
	(void)state;
	expect("allocate", "{\"mib\": 0}", "{\"bytes\": 0}");
	expect("allocate", "{\"mib\": 2, \"hold_ms\": 1}", "{\"bytes\": 2097152}");
	assert_false(accepted("allocate", "{\"mib\": 1.5}"));
	assert_false(accepted("allocate", "{\"mib\": 1048577}"));
	assert_int_equal(wait_for(spawn(allocate_much, NULL)), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER
#endif
#endif
#ifndef HAS_SANITIZER
	/* The sanitizers need more address space than this limit leaves. */
	assert_int_equal(wait_for(spawn(allocate_too_much, NULL)), 0);
#endif
#endif
	(void)allocate_too_much;
}

static void test_leak(void **state)
{
	(void)state;
	int64_t before = run_for("leak", "{}", "host_bytes");
	assert_int_equal(run_for("leak", "{\"mib\": 3}", "bytes"), INT64_C(3) << 20);
	assert_int_equal(run_for("leak", "{}", "host_bytes"), before + (INT64_C(4) << 20));
	assert_false(accepted("leak", "{\"mib\": 0}"));
	assert_false(accepted("leak", "{\"mib\": 1025}"));
}

/* --- read --- */

#define HELLO_SHA256 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static void test_read(void **state)
{
	(void)state;
	expect("read", "{\"path\": \"sub/hello\"}",
	       "{\"bytes\": 5, \"sha256\": \"" HELLO_SHA256 "\"}");
	expect("read", "{\"path\": \"./sub//hello\"}",
	       "{\"bytes\": 5, \"sha256\": \"" HELLO_SHA256 "\"}");
	/* printf ell | sha256sum */
	expect("read", "{\"path\": \"sub/hello\", \"offset\": 1, \"length\": 3}",
	       "{\"bytes\": 3, \"sha256\": "
	       "\"baea96500997ff5cd6cfd26592a978d6b73d480b4ad33d002499cf0041ac9996\"}");
	assert_int_equal(run_for("read", "{\"path\": \"sub/hello\", \"offset\": 9}", "bytes"), 0);
	assert_int_equal(run_for("read", "{\"path\": \"sub/hello\", \"length\": 0}", "bytes"), 0);
	assert_int_equal(run_for("read", "{\"path\": \"big\"}", "bytes"), 600000);
	assert_int_equal(run_for("read", "{\"path\": \"big\", \"length\": 300000}", "bytes"),
			 300000);
	assert_false(accepted("read", "{}"));
	assert_false(accepted("read", "{\"path\": \"\"}"));
	assert_false(accepted("read", "{\"path\": \"big\", \"offset\": -1}"));
}

static void expect_no_escape(void)
{
	static const char *const outside[] = {
		"{\"path\": \"../secret\"}",	    "{\"path\": \"sub/../../secret\"}",
		"{\"path\": \"/etc/passwd\"}",	    "{\"path\": \"..\"}",
		"{\"path\": \"absolute-link\"}",    "{\"path\": \"relative-link\"}",
		"{\"path\": \"outer-dir/secret\"}", "{\"path\": \"proc-link\"}",
	};
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		expect_failure("read", outside[i], ": ");
	}
	expect_failure("read", "{\"path\": \"../secret\"}", "leads out");
	expect_failure("read", "{\"path\": \"/etc/passwd\"}", "leads out");
	expect_failure("read", "{\"path\": \"missing\"}", "missing: No such file");
	expect_failure("read", "{\"path\": \"sub/hello/x\"}", "Not a directory");
	expect_failure("read", "{\"path\": \"sub\"}", "not a regular file");
	expect_failure("read", "{\"path\": \"sub/\"}", "not a regular file");
	expect_failure("read", "{\"path\": \"pipe\"}", "not a regular file");
}

static void test_read_stays_below_its_root(void **state)
{
	(void)state;
	expect_no_escape();
}

/* As sandboxes do that do not know openat2: it fails with the errno that is given. */
static void read_without_openat2(void *argument)
{
	const int *error = argument;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)*error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
		_exit(1);
	}
	if (syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0) != -1 || errno != *error) {
		_exit(2);
	}
	expect("read", "{\"path\": \"sub//./hello\"}",
	       "{\"bytes\": 5, \"sha256\": \"" HELLO_SHA256 "\"}");
	assert_int_equal(run_for("read", "{\"path\": \"big\"}", "bytes"), 600000);
	expect_no_escape();
	expect_failure("read", "{\"path\": \"inner-link\"}", "inner-link: ");
	_exit(0);
}

static int open_descriptors(void)
{
	int count = 0;
	for (int fd = 0; fd < 200; fd++) {
		count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
	}
	return count;
}

static void test_read_without_openat2(void **state)
{
	(void)state;
	int errors[] = {ENOSYS, EPERM};
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(wait_for(spawn(read_without_openat2, &errors[i])), 0);
	}
}

static void test_read_leaves_no_descriptor(void **state)
{
	(void)state;
	int before = open_descriptors();
	test_read(state);
	expect_no_escape();
	assert_int_equal(open_descriptors(), before);
}

static void test_read_needs_a_root(void **state)
{
	(void)state;
	char *kept = settings[0].root;
	settings[0].root = NULL;
	expect_failure("read", "{\"path\": \"sub/hello\"}", "tasks.read.root");
	char missing[] = "/nonexistent-root";
	settings[0].root = missing;
	expect_failure("read", "{\"path\": \"sub/hello\"}", "tasks.read.root cannot be opened");
	settings[0].root = kept;
}

/* --- counter --- */

static void *count_in_thread(void *args)
{
	struct outcome outcome = {0};
	run("counter", args, &outcome);
	json_decref(outcome.result);
	return outcome.status == 0 ? NULL : args;
}

static void count_in_threads(const char *args)
{
	char text[128];
	pthread_t threads[THREADS];
	snprintf(text, sizeof(text), "%s", args);
	for (size_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, count_in_thread, text), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		void *answer = NULL;
		assert_int_equal(pthread_join(threads[i], &answer), 0);
		assert_null(answer);
	}
}

static void count_in_process(void *args)
{
	_exit(count_in_thread(args) == NULL ? 0 : 1);
}

static void test_counter_alone(void **state)
{
	(void)state;
	expect("counter", "{\"reset\": true, \"increments\": 10000}",
	       "{\"before\": 0, \"value\": 10000, \"increments\": 10000}");
	expect("counter", "{}", "{\"before\": 10000, \"value\": 10001, \"increments\": 1}");
	expect("counter", "{\"lock\": false, \"increments\": 5}",
	       "{\"before\": 10001, \"value\": 10006, \"increments\": 5}");
	expect("counter", "{\"memory\": \"shared\", \"reset\": true}",
	       "{\"before\": 0, \"value\": 1, \"increments\": 1}");
	expect("counter", "{\"increments\": 0}",
	       "{\"before\": 10006, \"value\": 10006, \"increments\": 0}");
	assert_false(accepted("counter", "{\"memory\": \"other\"}"));
	assert_false(accepted("counter", "{\"increments\": 1000000001}"));
}

static void renew_shared(void)
{
	shared_free(shared);
	assert_int_equal(shared_create(&shared), 0);
}

static void test_counter_of_threads(void **state)
{
	(void)state;
	static const char *const memories[] = {"private", "shared"};
	for (size_t i = 0; i < 2; i++) {
		char args[128];
		/* All threads at once find the shared lock not yet made. */
		renew_shared();
		snprintf(args, sizeof(args),
			 "{\"memory\": \"%s\", \"reset\": true, \"increments\": 0}", memories[i]);
		assert_int_equal(run_for("counter", args, "value"), 0);
		if (i == 1) {
			renew_shared();
		}
		snprintf(args, sizeof(args), "{\"memory\": \"%s\", \"increments\": 50000}",
			 memories[i]);
		count_in_threads(args);
		snprintf(args, sizeof(args), "{\"memory\": \"%s\", \"increments\": 0}",
			 memories[i]);
		assert_int_equal(run_for("counter", args, "value"), THREADS * 50000);
		/* Without the lock some are lost, but never is one gained. */
		snprintf(args, sizeof(args),
			 "{\"memory\": \"%s\", \"increments\": 50000, \"lock\": false}",
			 memories[i]);
		count_in_threads(args);
		snprintf(args, sizeof(args), "{\"memory\": \"%s\", \"increments\": 0}",
			 memories[i]);
		int64_t value = run_for("counter", args, "value");
		assert_true(value >= 2 * 50000 && value <= 2 * THREADS * 50000);
	}
}

static void test_counter_of_processes(void **state)
{
	(void)state;
	static char in_shared[] = "{\"memory\": \"shared\", \"increments\": 50000}";
	static char in_private[] = "{\"increments\": 50000}";
	pid_t pids[2 * THREADS];
	renew_shared();
	int64_t before = run_for("counter", "{\"increments\": 0}", "value");
	for (size_t i = 0; i < 2 * THREADS; i++) {
		pids[i] = spawn(count_in_process, i % 2 == 0 ? in_shared : in_private);
	}
	for (size_t i = 0; i < 2 * THREADS; i++) {
		assert_int_equal(wait_for(pids[i]), 0);
	}
	assert_int_equal(run_for("counter", "{\"memory\": \"shared\", \"increments\": 0}", "value"),
			 THREADS * 50000);
	assert_int_equal(run_for("counter", "{\"increments\": 0}", "value"), before);
}

/* Whether a word of the shared memory, masked, has this value: locks of the C library hold the
 * number of the thread that has them. */
static bool shared_has(uint32_t mask, uint32_t value)
{
	for (size_t i = 0; i < shared_size() / sizeof(uint32_t); i++) {
		uint32_t word = __atomic_load_n((uint32_t *)shared + i, __ATOMIC_RELAXED);
		if ((word & mask) == value) {
			return true;
		}
	}
	return false;
}

static void kill_while_it_has_the_lock(pid_t victim)
{
	for (;;) {
		int status = 0;
		struct timespec pause = {.tv_nsec = 200000};
		nanosleep(&pause, NULL);
		assert_int_equal(kill(victim, SIGSTOP), 0);
		assert_int_equal(waitpid(victim, &status, WUNTRACED), victim);
		assert_true(WIFSTOPPED(status));
		if (shared_has(FUTEX_TID_MASK, (uint32_t)victim)) {
			break;
		}
		assert_int_equal(kill(victim, SIGCONT), 0);
	}
	assert_int_equal(kill(victim, SIGKILL), 0);
	int status = wait_for(victim);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_counter_outlives_the_holder_of_its_lock(void **state)
{
	(void)state;
	static char for_ever[] = "{\"memory\": \"shared\", \"increments\": 1000000000}";
	static char some[] = "{\"memory\": \"shared\", \"increments\": 20000}";
	pid_t pids[3];
	renew_shared();
	/* Alone: then it is certain that nobody has taken the lock over before we look. */
	pid_t victim = spawn(count_in_process, for_ever);
	kill_while_it_has_the_lock(victim);
	assert_true(shared_has(UINT32_MAX, FUTEX_OWNER_DIED));
	int64_t before = run_for("counter", "{\"memory\": \"shared\", \"increments\": 0}", "value");
	assert_true(before > 0);
	assert_false(shared_has(UINT32_MAX, FUTEX_OWNER_DIED));

	/* And once more while others wait for the lock. */
	victim = spawn(count_in_process, for_ever);
	for (size_t i = 0; i < 3; i++) {
		pids[i] = spawn(count_in_process, some);
	}
	kill_while_it_has_the_lock(victim);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(wait_for(pids[i]), 0);
	}
	int64_t after = run_for("counter", "{\"memory\": \"shared\", \"increments\": 0}", "value");
	assert_true(after >= before + 3 * 20000);
	assert_int_equal(run_for("counter", some, "value"), after + 20000);
}

/* --- crash --- */

static void crash_in_process(void *args)
{
	struct rlimit none = {0};
	sigset_t all;
	struct outcome outcome = {0};
	setrlimit(RLIMIT_CORE, &none);
	/* cmocka and sanitizers catch these, a host has their default actions. */
	for (int number = 1; number < SIGRTMIN; number++)
		sigaction(number, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
	/* A host may block or ignore what it likes. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	run("crash", args, &outcome);
	_exit(99);
}

static void test_crash(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		int number;
	} signals[] = {{"SEGV", SIGSEGV}, {"ABRT", SIGABRT}, {"BUS", SIGBUS},
		       {"FPE", SIGFPE},	  {"ILL", SIGILL},   {"KILL", SIGKILL},
		       {"TERM", SIGTERM}, {"TRAP", SIGTRAP}, {"SYS", SIGSYS}};
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		char args[64];
		snprintf(args, sizeof(args), "{\"signal\": \"%s\"}", signals[i].name);
		int status = wait_for(spawn(crash_in_process, args));
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), signals[i].number);
	}
	char args[] = "{\"after_ms\": 5, \"text\": \"last words\"}";
	int status = wait_for(spawn(crash_in_process, args));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	assert_false(accepted("crash", "{\"signal\": \"USR1\"}"));
}

/* --- stopping --- */

struct stopper {
	const char *name;
	const char *args;
	struct outcome outcome;
};

static void *run_until_stopped(void *argument)
{
	struct stopper *stopper = argument;
	run(stopper->name, stopper->args, &stopper->outcome);
	return NULL;
}

static void test_every_long_task_stops_early(void **state)
{
	(void)state;
	struct stopper stoppers[] = {
		{.name = "sleep", .args = "{\"ms\": 3600000}"},
		{.name = "primes", .args = "{\"n\": 2000000000}"},
		{.name = "fib", .args = "{\"n\": 60}"},
		{.name = "sha256", .args = "{\"mib\": 65536}"},
		{.name = "allocate", .args = "{\"mib\": 1, \"hold_ms\": 3600000}"},
		{.name = "read", .args = "{\"path\": \"endless\"}"},
		{.name = "counter", .args = "{\"increments\": 1000000000}"},
		{.name = "crash", .args = "{\"after_ms\": 3600000}"},
	};
	enum { COUNT = sizeof(stoppers) / sizeof(stoppers[0]) };
	pthread_t threads[COUNT];
	for (size_t i = 0; i < COUNT; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, run_until_stopped, &stoppers[i]),
				 0);
	}
	struct timespec pause = {.tv_nsec = 50 * NS_PER_MS};
	nanosleep(&pause, NULL);
	int64_t begin_ns = clock_monotonic_ns();
	atomic_store(&stop, 1);
	syscall(SYS_futex, &stop, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	for (size_t i = 0; i < COUNT; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	atomic_store(&stop, 0);
	assert_true(clock_monotonic_ns() - begin_ns < LONG_NS / 20);
	for (size_t i = 0; i < COUNT; i++) {
		if (!stoppers[i].outcome.stopped) {
			fail_msg("%s was not stopped: %s", stoppers[i].name,
				 stoppers[i].outcome.failure);
		}
		assert_int_not_equal(stoppers[i].outcome.status, 0);
		assert_null(stoppers[i].outcome.result);
	}
}

/* --- setting up --- */

static int make_file(const char *path, const char *data, off_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		return -1;
	}
	size_t length = strlen(data);
	if (write(fd, data, length) != (ssize_t)length || ftruncate(fd, size) != 0) {
		close(fd);
		return -1;
	}
	return close(fd);
}

/* outer/secret, and below outer/root what the task may and may not read. */
static int make_files(void)
{
	snprintf(outer, sizeof(outer), "/tmp/test_task_builtin.XXXXXX");
	if (mkdtemp(outer) == NULL) {
		return -1;
	}
	snprintf(root, sizeof(root), "%s/root", outer);
	if (mkdir(root, 0700) != 0 || chdir(root) != 0) {
		return -1;
	}
	if (make_file("../secret", "secret", 6) != 0 || mkdir("sub", 0700) != 0 ||
	    make_file("sub/hello", "hello", 5) != 0 || make_file("big", "", 600000) != 0 ||
	    make_file("endless", "", (off_t)1 << 40) != 0 || mkfifo("pipe", 0600) != 0) {
		return -1;
	}
	if (symlink("/etc/passwd", "absolute-link") != 0 ||
	    symlink("../secret", "relative-link") != 0 || symlink("..", "outer-dir") != 0 ||
	    symlink("/proc/self/environ", "proc-link") != 0 ||
	    symlink("sub/hello", "inner-link") != 0) {
		return -1;
	}
	return chdir("/");
}

static void remove_files(void)
{
	static const char *const names[] = {
		"secret",	  "root/sub/hello",	"root/big",	      "root/endless",
		"root/pipe",	  "root/absolute-link", "root/relative-link", "root/outer-dir",
		"root/proc-link", "root/inner-link"};
	if (chdir(outer) != 0) {
		return;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		unlink(names[i]);
	}
	rmdir("root/sub");
	rmdir("root");
	rmdir(outer);
}

static int set_up(void **state)
{
	(void)state;
	static char read_name[] = "read";
	static char crash_name[] = "crash";
	json_object_seed(0);
	if (make_files() != 0) {
		return -1;
	}
	settings[0] = (struct config_task){.name = read_name, .enabled = -1, .root = root};
	settings[1] = (struct config_task){.name = crash_name, .enabled = 1};
	struct error error;
	if (shared_create(&shared) != 0 || registry_build(&config, &registry, &error) != 0) {
		return -1;
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	registry_release(&registry);
	shared_free(shared);
	remove_files();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registry_is_sorted_and_complete),
		cmocka_unit_test(test_every_argument_is_described),
		cmocka_unit_test(test_registry_applies_the_configuration),
		cmocka_unit_test(test_registry_refuses_an_unknown_name),
		cmocka_unit_test(test_print),
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_primes),
		cmocka_unit_test(test_fib),
		cmocka_unit_test(test_sha256),
		cmocka_unit_test(test_allocate),
		cmocka_unit_test(test_leak),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_read_stays_below_its_root),
		cmocka_unit_test(test_read_without_openat2),
		cmocka_unit_test(test_read_leaves_no_descriptor),
		cmocka_unit_test(test_read_needs_a_root),
		cmocka_unit_test(test_counter_alone),
		cmocka_unit_test(test_counter_of_threads),
		cmocka_unit_test(test_counter_of_processes),
		cmocka_unit_test(test_counter_outlives_the_holder_of_its_lock),
		cmocka_unit_test(test_crash),
		cmocka_unit_test(test_every_long_task_stops_early),
	};
	return cmocka_run_group_tests_name("task_builtin", tests, set_up, tear_down);
}
