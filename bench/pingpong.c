/*
 * What a message between two processes costs: from one to the other and back, over each channel
 * that a server and its worker could use, as two sleeping processes see it, since a wake-up is most
 * of the price.
 *
 *	pingpong ROUND-TRIPS [apart]
 *
 * prints one line of JSON: for each channel the median, the 99th percentile and the mean of the
 * round trips in nanoseconds; and, with 64 messages under way over SOCK_SEQPACKET, messages a
 * second and the CPU time that each side spends on one message there and back. A message has 64 bytes. With "apart" the two are bound to different processors; without,
 * the scheduler places them, and may put both on one.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_BYTES 64
#define WARM_UP	      1000
#define DEPTH	      64
#define BATCHES	      2000
#define NS_PER_S      1000000000

/* Memory of both processes. */
struct shared {
	_Alignas(64) _Atomic uint32_t request; /* number of the message that is there; a futex */
	_Alignas(64) _Atomic uint32_t reply;
	char message[MESSAGE_BYTES];
};

/* One channel: two descriptors or words a side. The child answers until its parent is gone. */
struct channel {
	const char *name;
	bool (*open)(struct channel *channel);
	bool (*ask)(struct channel *channel);	 /* parent: one round trip */
	bool (*answer)(struct channel *channel); /* child: waits for one message and answers it */
	int to_child[2], to_parent[2];
	struct shared *shared;
	uint32_t count; /* messages so far, of this process */
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* --- descriptors ------------------------------------------------------------------------------ */

static bool put(int fd)
{
	char message[MESSAGE_BYTES] = {1};

	return write(fd, message, sizeof(message)) == (ssize_t)sizeof(message);
}

static bool get(int fd)
{
	char message[MESSAGE_BYTES];

	return read(fd, message, sizeof(message)) == (ssize_t)sizeof(message);
}

static bool open_pipes(struct channel *channel)
{
	return pipe(channel->to_child) == 0 && pipe(channel->to_parent) == 0;
}

static bool open_pair(int type, struct channel *channel)
{
	int pair[2];

	if (socketpair(AF_UNIX, type, 0, pair) < 0)
		return false;
	channel->to_child[1] = pair[0];
	channel->to_child[0] = pair[1];
	channel->to_parent[1] = pair[1];
	channel->to_parent[0] = pair[0];
	return true;
}

static bool open_seqpacket(struct channel *channel)
{
	return open_pair(SOCK_SEQPACKET, channel);
}

static bool ask_by_descriptor(struct channel *channel)
{
	return put(channel->to_child[1]) && get(channel->to_parent[0]);
}

static bool answer_by_descriptor(struct channel *channel)
{
	return get(channel->to_child[0]) && put(channel->to_parent[1]);
}

/* --- shared memory, woken by a futex or an eventfd -------------------------------------------- */

static bool open_shared(struct channel *channel)
{
	channel->shared = mmap(NULL, sizeof(*channel->shared), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return channel->shared != MAP_FAILED;
}

static void futex_post(_Atomic uint32_t *word, uint32_t value)
{
	atomic_store(word, value);
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_await(_Atomic uint32_t *word, uint32_t value)
{
	uint32_t seen;

	while ((seen = atomic_load(word)) != value)
		syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static bool ask_by_futex(struct channel *channel)
{
	memset(channel->shared->message, (int)(channel->count & 127), MESSAGE_BYTES);
	futex_post(&channel->shared->request, ++channel->count);
	futex_await(&channel->shared->reply, channel->count);
	return true;
}

static bool answer_by_futex(struct channel *channel)
{
	futex_await(&channel->shared->request, ++channel->count);
	futex_post(&channel->shared->reply, channel->count);
	return true;
}

static bool open_eventfd(struct channel *channel)
{
	int to_child = eventfd(0, 0);
	int to_parent = eventfd(0, 0);

	channel->to_child[0] = channel->to_child[1] = to_child;
	channel->to_parent[0] = channel->to_parent[1] = to_parent;
	return open_shared(channel) && to_child >= 0 && to_parent >= 0;
}

static bool event_post(int fd)
{
	uint64_t one = 1;

	return write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one);
}

static bool event_await(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static bool ask_by_eventfd(struct channel *channel)
{
	memset(channel->shared->message, (int)(++channel->count & 127), MESSAGE_BYTES);
	return event_post(channel->to_child[1]) && event_await(channel->to_parent[0]);
}

static bool answer_by_eventfd(struct channel *channel)
{
	return event_await(channel->to_child[0]) && event_post(channel->to_parent[1]);
}

static struct channel channels[] = {
	{.name = "seqpacket",
	 .open = open_seqpacket,
	 .ask = ask_by_descriptor,
	 .answer = answer_by_descriptor},
	{.name = "pipe",
	 .open = open_pipes,
	 .ask = ask_by_descriptor,
	 .answer = answer_by_descriptor},
	{.name = "eventfd",
	 .open = open_eventfd,
	 .ask = ask_by_eventfd,
	 .answer = answer_by_eventfd},
	{.name = "futex", .open = open_shared, .ask = ask_by_futex, .answer = answer_by_futex},
};

/* --- measuring -------------------------------------------------------------------------------- */

static bool apart;
static cpu_set_t allowed; /* processors, at the start */

/* To one of the processors that this process may use: the first or the last. */
static void bind_to_processor(bool first)
{
	cpu_set_t one;
	size_t chosen = 0;

	while (chosen < CPU_SETSIZE - 1 && !CPU_ISSET(chosen, &allowed))
		chosen++;
	for (size_t i = chosen; !first && i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &allowed))
			chosen = i;
	CPU_ZERO(&one);
	CPU_SET(chosen, &one);
	(void)sched_setaffinity(0, sizeof(one), &one);
}

static pid_t start_child(struct channel *channel)
{
	pid_t child = fork();

	if (child == 0) {
		if (apart)
			bind_to_processor(false);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (channel->answer(channel))
			;
		_exit(0);
	}
	if (apart)
		bind_to_processor(true);
	return child;
}

static void end_child(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static int compare(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a;
	int64_t right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

static void report(const char *name, int64_t *sample, size_t count)
{
	int64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += sample[i];
	qsort(sample, count, sizeof(*sample), compare);
	printf("\"%s\": {\"median_ns\": %lld, \"p99_ns\": %lld, \"mean_ns\": %lld}, ", name,
	       (long long)sample[count / 2], (long long)sample[count * 99 / 100],
	       (long long)(sum / (int64_t)count));
}

static bool measure(struct channel *channel, int64_t *sample, size_t count)
{
	bool good = channel->open(channel);
	pid_t child = good ? start_child(channel) : -1;

	if (child < 0)
		return false;
	for (size_t i = 0; good && i < WARM_UP; i++)
		good = channel->ask(channel);
	for (size_t i = 0; good && i < count; i++) {
		int64_t began_ns = now_ns();
		good = channel->ask(channel);
		sample[i] = now_ns() - began_ns;
	}
	end_child(child);
	if (good)
		report(channel->name, sample, count);
	return good;
}

static int64_t cpu_ns(clockid_t clock)
{
	struct timespec used;

	clock_gettime(clock, &used);
	return (int64_t)used.tv_sec * NS_PER_S + used.tv_nsec;
}

/* Messages there and back with DEPTH of them under way. */
static bool measure_depth(void)
{
	struct channel channel = channels[0];
	bool good = channel.open(&channel);
	pid_t child = good ? start_child(&channel) : -1;
	clockid_t child_clock;

	if (child < 0 || clock_getcpuclockid(child, &child_clock) != 0)
		return false;
	int64_t began_ns = now_ns();
	int64_t began_cpu_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
	int64_t began_child_ns = cpu_ns(child_clock);
	for (int i = 0; good && i < DEPTH; i++)
		good = put(channel.to_child[1]);
	for (int i = 0; good && i < DEPTH * BATCHES; i++)
		good = get(channel.to_parent[0]) && put(channel.to_child[1]);
	double count = (double)DEPTH * BATCHES;
	double took_ns = (double)(now_ns() - began_ns);
	double cpu = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - began_cpu_ns);
	double child_cpu = (double)(cpu_ns(child_clock) - began_child_ns);
	end_child(child);
	printf("\"seqpacket_depth_64\": {\"messages_per_s\": %.0f, \"cpu_ns\": %.0f, "
	       "\"child_cpu_ns\": %.0f}}\n",
	       count * NS_PER_S / took_ns, cpu / count, child_cpu / count);
	return good;
}

int main(int argc, char **argv)
{
	size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;

	apart = argc > 2 && strcmp(argv[2], "apart") == 0;
	if (count < 100 || count > 10000000 || argc > 3 || (argc == 3 && !apart)) {
		fprintf(stderr, "usage: pingpong ROUND-TRIPS [apart]\n");
		return 2;
	}
	int64_t *sample = calloc(count, sizeof(*sample));
	if (!sample || sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return 1;
	printf("{");
	fflush(stdout); /* or a child would print it, too */
	for (size_t i = 0; i < sizeof(channels) / sizeof(channels[0]); i++) {
		if (!measure(&channels[i], sample, count)) {
			fprintf(stderr, "%s: %s\n", channels[i].name, strerrordesc_np(errno));
			return 1;
		}
		fflush(stdout);
	}
	bool good = measure_depth();
	free(sample);
	return good ? 0 : 1;
}
