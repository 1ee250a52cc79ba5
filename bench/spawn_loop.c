/*
 * What starting a program costs at the least: vfork, exec, and wait for its end, one after the other.
 *
 *	spawn_loop COUNT RESIDENT-MB PROGRAM [ARGUMENT...]
 *
 * prints one line of JSON: median, 99th percentile and mean in nanoseconds. The program's stdout goes to
 * /dev/null. With RESIDENT-MB so much memory is touched first: what a process that has grown pays.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static bool run(int null_fd, char **command)
{
	int status;
	pid_t child = vfork();

	if (child == 0) {
		dup2(null_fd, STDOUT_FILENO);
		execv(command[0], command);
		_exit(127);
	}
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static int compare(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a;
	int64_t right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

static void report(int64_t *sample, size_t count)
{
	int64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += sample[i];
	qsort(sample, count, sizeof(*sample), compare);
	printf("{\"median_ns\": %lld, \"p99_ns\": %lld, \"mean_ns\": %lld}\n",
	       (long long)sample[count / 2], (long long)sample[count * 99 / 100],
	       (long long)(sum / (int64_t)count));
}

/* Kept to the end of the process. */
static bool hold(size_t megabytes)
{
	char *memory = malloc(megabytes << 20 | 1);

	if (memory)
		memset(memory, 1, megabytes << 20 | 1);
	return memory != NULL;
}

int main(int argc, char **argv)
{
	size_t count = argc > 3 ? strtoul(argv[1], NULL, 10) : 0;
	size_t megabytes = argc > 3 ? strtoul(argv[2], NULL, 10) : 0;
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (count < 1 || count > 1000000 || megabytes > 65536 || null_fd < 0) {
		fprintf(stderr, "usage: spawn_loop COUNT RESIDENT-MB PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	int64_t *sample = calloc(count, sizeof(*sample));
	if (!sample || !hold(megabytes))
		return 1;
	for (size_t i = 0; i < count; i++) {
		int64_t began_ns = now_ns();
		if (!run(null_fd, argv + 3)) {
			fprintf(stderr, "spawn_loop: %s: %s\n", argv[3], strerrordesc_np(errno));
			return 1;
		}
		sample[i] = now_ns() - began_ns;
	}
	report(sample, count);
	return 0;
}
