/*
 * What the processes speak over: the channel and its descriptors, the scoreboard, and the reading
 * of messages from a host that may have gone mad.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "ipc/channel.h"
#include "ipc/message.h"
#include "ipc/scoreboard.h"
#include "random.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static size_t open_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static void make_pair(int fds[static 2])
{
	int result = channel_pair(fds);

	assert_int_equal(result, 0);
}

static void close_pair(int fds[static 2])
{
	fd_close(&fds[0]);
	fd_close(&fds[1]);
}

static int send_bytes(int fd, void *bytes, size_t length, const int *fds, size_t fd_count)
{
	struct iovec part = {.iov_base = bytes, .iov_len = length};

	return channel_send(fd, &part, 1, fds, fd_count, 1);
}

static int same_file(int a, int b)
{
	struct stat first, second;

	assert_int_equal(fstat(a, &first), 0);
	assert_int_equal(fstat(b, &second), 0);
	return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/* --- channel --------------------------------------------------------------------------------- */

static void test_pair_is_close_on_exec(void **state)
{
	int fds[2];

	(void)state;
	make_pair(fds);
	for (int i = 0; i < 2; i++) {
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		assert_false(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
	}
	close_pair(fds);
}

static void test_messages_keep_their_bounds(void **state)
{
	static char sent[4][MESSAGE_SIZE_MAX], received[MESSAGE_SIZE_MAX];
	size_t lengths[4], fd_count = 99;
	int fds[2];

	(void)state;
	make_pair(fds);
	for (int round = 0; round < 300; round++) {
		for (int i = 0; i < 4; i++) {
			lengths[i] = 1 + random_below(random_below(4) ? 200 : MESSAGE_SIZE_MAX);
			for (size_t j = 0; j < lengths[i]; j++)
				sent[i][j] = (char)random_next();
			/* in up to three parts, some of them empty */
			size_t first = random_below(lengths[i] + 1);
			size_t second = random_below(lengths[i] - first + 1);
			struct iovec parts[3] = {
				{sent[i], first},
				{sent[i] + first, second},
				{sent[i] + first + second, lengths[i] - first - second}};
			assert_int_equal(channel_send(fds[0], parts, 3, NULL, 0, 1), 0);
		}
		for (int i = 0; i < 4; i++) {
			ssize_t length = channel_receive(fds[1], received, sizeof(received), NULL,
							 0, &fd_count, 1);
			assert_int_equal(length, lengths[i]);
			assert_int_equal(fd_count, 0);
			assert_memory_equal(received, sent[i], lengths[i]);
		}
	}
	assert_int_equal(channel_receive(fds[1], received, sizeof(received), NULL, 0, &fd_count, 1),
			 -EAGAIN);
	close_pair(fds);
}

static void test_full_channel(void **state)
{
	static char bytes[MESSAGE_SIZE_MAX];
	size_t fd_count, sent = 0;
	int fds[2], result;

	(void)state;
	make_pair(fds);
	while ((result = send_bytes(fds[0], bytes, sizeof(bytes), NULL, 0)) == 0)
		sent++;
	assert_int_equal(result, -EAGAIN);
	assert_true(sent >= 4); /* what MESSAGE_INLINE_MAX promises */
	while (sent > 0) {
		assert_int_equal(
			channel_receive(fds[1], bytes, sizeof(bytes), NULL, 0, &fd_count, 1),
			sizeof(bytes));
		sent--;
	}
	assert_int_equal(send_bytes(fds[0], bytes, 1, NULL, 0), 0);
	/* non-blocking by itself as well */
	assert_int_equal(fd_set_nonblocking(fds[0]), 0);
	assert_int_equal(channel_receive(fds[0], bytes, sizeof(bytes), NULL, 0, &fd_count, 0),
			 -EAGAIN);
	close_pair(fds);
}

static void test_descriptors_pass(void **state)
{
	size_t before = open_descriptors();
	size_t fd_count = 0;
	int fds[2], sent[CHANNEL_FDS_MAX], received[CHANNEL_FDS_MAX];
	char byte = 'x';

	(void)state;
	make_pair(fds);
	for (size_t count = 1; count <= CHANNEL_FDS_MAX; count++) {
		for (size_t i = 0; i < count; i++) {
			sent[i] = memfd_create("sent", 0); /* not close-on-exec: the copy is */
			assert_true(sent[i] >= 0);
		}
		assert_int_equal(send_bytes(fds[0], &byte, 1, sent, count), 0);
		assert_int_equal(channel_receive(fds[1], &byte, 1, received, count, &fd_count, 1),
				 1);
		assert_int_equal(fd_count, count);
		for (size_t i = 0; i < count; i++) {
			assert_int_not_equal(received[i], sent[i]); /* the sender's stay its own */
			assert_true(same_file(received[i], sent[i]));
			assert_true(fcntl(received[i], F_GETFD) & FD_CLOEXEC);
			fd_close(&received[i]);
			fd_close(&sent[i]);
		}
	}
	close_pair(fds);
	assert_int_equal(open_descriptors(), before);
}

/* Sends descriptors past channel_send(), as only a stranger would. */
static void send_raw(int fd, void *bytes, size_t length, const int *fds, size_t fd_count)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * 64)];
		struct cmsghdr align;
	} control;
	struct iovec part = {.iov_base = bytes, .iov_len = length};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = CMSG_SPACE(sizeof(int) * fd_count)};

	memset(&control, 0, sizeof(control));
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	assert_non_null(header);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
	memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
	assert_int_equal(sendmsg(fd, &message, MSG_DONTWAIT), length);
}

static void test_too_many_descriptors(void **state)
{
	int fds[2], many[40], received[CHANNEL_FDS_MAX];
	size_t before, fd_count = 0;
	char byte = 'x';

	(void)state;
	make_pair(fds);
	for (size_t i = 0; i < COUNT(many); i++)
		many[i] = fds[0];
	before = open_descriptors();
	assert_int_equal(send_bytes(fds[0], &byte, 1, many, CHANNEL_FDS_MAX + 1), -EINVAL);

	for (size_t max = 0; max < CHANNEL_FDS_MAX; max++) {
		assert_int_equal(send_bytes(fds[0], &byte, 1, many, max + 1), 0);
		assert_int_equal(channel_receive(fds[1], &byte, 1, received, max, &fd_count, 1),
				 -EMSGSIZE);
		assert_int_equal(open_descriptors(), before);
	}
	for (size_t count = CHANNEL_FDS_MAX + 1; count <= COUNT(many); count++) {
		send_raw(fds[0], &byte, 1, many, count);
		assert_int_equal(
			channel_receive(fds[1], &byte, 1, received, CHANNEL_FDS_MAX, &fd_count, 1),
			-EMSGSIZE);
		assert_int_equal(open_descriptors(), before);
	}
	/* and what comes after is heard */
	assert_int_equal(send_bytes(fds[0], &byte, 1, NULL, 0), 0);
	assert_int_equal(channel_receive(fds[1], &byte, 1, received, 1, &fd_count, 1), 1);
	assert_int_equal(fd_count, 0);
	close_pair(fds);
}

static void test_too_long_a_message(void **state)
{
	char bytes[100] = {0};
	int fds[2], received[CHANNEL_FDS_MAX];
	size_t before, fd_count = 0;

	(void)state;
	make_pair(fds);
	before = open_descriptors();
	for (size_t count = 0; count <= 2; count++) {
		assert_int_equal(send_bytes(fds[0], bytes, 100, fds, count), 0);
		assert_int_equal(send_bytes(fds[0], bytes, 99, NULL, 0), 0);
		assert_int_equal(
			channel_receive(fds[1], bytes, 99, received, CHANNEL_FDS_MAX, &fd_count, 1),
			-EMSGSIZE);
		assert_int_equal(open_descriptors(), before);
		assert_int_equal(
			channel_receive(fds[1], bytes, 99, received, CHANNEL_FDS_MAX, &fd_count, 1),
			99);
	}
	/* longer than any socket takes */
	static char huge[4 << 20];
	assert_int_equal(send_bytes(fds[0], huge, sizeof(huge), NULL, 0), -EMSGSIZE);
	close_pair(fds);
}

/* Where the receiver has no room for the descriptors the message is refused, not handed over as one
 * that never had any. */
static void test_receiver_is_out_of_descriptors(void **state)
{
	int fds[2], received[CHANNEL_FDS_MAX], fillers[4096];
	struct rlimit old, tight;
	size_t before, filled = 0, fd_count = 0;
	char byte = 'x';

	(void)state;
	make_pair(fds);
	before = open_descriptors();
	assert_int_equal(send_bytes(fds[0], &byte, 1, fds, 2), 0); /* for no room at all */
	assert_int_equal(send_bytes(fds[0], &byte, 1, fds, 2), 0); /* for room for one */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = (rlim_t)fds[1] + 20;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	while (filled < COUNT(fillers) && (fillers[filled] = dup(fds[0])) >= 0)
		filled++;
	ssize_t none = channel_receive(fds[1], &byte, 1, received, 2, &fd_count, 1);
	if (filled > 0)
		fd_close(&fillers[--filled]);
	ssize_t one = channel_receive(fds[1], &byte, 1, received, 2, &fd_count, 1);
	while (filled > 0)
		fd_close(&fillers[--filled]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(none, -EMSGSIZE);
	assert_int_equal(one, -EMSGSIZE);
	assert_int_equal(open_descriptors(), before);
	close_pair(fds);
}

/* An empty message cannot be told from the end, so nobody sends one; a stranger's leaks nothing. */
static void test_empty_message(void **state)
{
	int fds[2], received[CHANNEL_FDS_MAX];
	size_t before, fd_count = 0;
	char byte = 'x';

	(void)state;
	make_pair(fds);
	before = open_descriptors();
	assert_int_equal(send_bytes(fds[0], &byte, 0, NULL, 0), -EINVAL);
	assert_int_equal(send_bytes(fds[0], &byte, 0, fds, 1), -EINVAL);
	assert_int_equal(channel_send(fds[0], NULL, 0, NULL, 0, 1), -EINVAL);
	send_raw(fds[0], &byte, 0, fds, 2);
	assert_true(channel_receive(fds[1], &byte, 1, received, CHANNEL_FDS_MAX, &fd_count, 1) <=
		    0);
	assert_int_equal(open_descriptors(), before);
	close_pair(fds);
}

static void test_the_end(void **state)
{
	int fds[2];
	size_t fd_count = 7;
	char byte = 'x';

	(void)state;
	make_pair(fds);
	assert_int_equal(send_bytes(fds[0], &byte, 1, NULL, 0), 0);
	fd_close(&fds[0]);
	assert_int_equal(channel_receive(fds[1], &byte, 1, NULL, 0, &fd_count, 0), 1);
	assert_int_equal(channel_receive(fds[1], &byte, 1, NULL, 0, &fd_count, 0), 0);
	assert_int_equal(fd_count, 0);
	assert_int_equal(send_bytes(fds[1], &byte, 1, NULL, 0), -EPIPE); /* and no signal */
	fd_close(&fds[1]);
	assert_int_equal(channel_receive(-1, &byte, 1, NULL, 0, &fd_count, 0), -EBADF);
	assert_int_equal(send_bytes(-1, &byte, 1, NULL, 0), -EBADF);
}

/* A killed peer with unread messages resets the connection; what it had said before is heard all
 * the same. */
static void test_last_words_of_a_killed_peer(void **state)
{
	int fds[2], status;
	size_t fd_count;
	char byte;

	(void)state;
	make_pair(fds);
	for (byte = 'a'; byte < 'c'; byte++)
		assert_int_equal(send_bytes(fds[0], &byte, 1, NULL, 0), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		for (char said = '1'; said <= '3'; said++)
			if (send_bytes(fds[1], &said, 1, NULL, 0) < 0)
				_exit(1);
		raise(SIGKILL);
	}
	fd_close(&fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	for (char said = '1'; said <= '3'; said++) {
		assert_int_equal(channel_receive(fds[0], &byte, 1, NULL, 0, &fd_count, 0), 1);
		assert_int_equal(byte, said);
	}
	assert_int_equal(channel_receive(fds[0], &byte, 1, NULL, 0, &fd_count, 0), 0);
	assert_int_equal(channel_receive(fds[0], &byte, 1, NULL, 0, &fd_count, 0), 0);
	fd_close(&fds[0]);
}

/* --- channel, several threads ---------------------------------------------------------------- */

#define TALKERS	 3
#define SPEECHES 1500

struct talk {
	int fds[2];
	_Atomic uint32_t next_talker;
	_Atomic uint32_t wrong;
	_Atomic uint32_t heard[TALKERS][SPEECHES];
};

struct speech {
	uint32_t talker;
	uint32_t number;
	uint32_t length;
};

static char fill_of(const struct speech *speech)
{
	return (char)(speech->talker * 31 + speech->number);
}

static void *talk(void *data)
{
	struct talk *talk = data;
	struct speech speech = {.talker = atomic_fetch_add(&talk->next_talker, 1)};
	char bytes[3000];

	for (speech.number = 0; speech.number < SPEECHES; speech.number++) {
		speech.length = (speech.number * 37 + speech.talker) % sizeof(bytes);
		memset(bytes, fill_of(&speech), speech.length);
		struct iovec parts[2] = {{&speech, sizeof(speech)}, {bytes, speech.length}};
		if (channel_send(talk->fds[0], parts, 2, NULL, 0, 0) != 0)
			atomic_fetch_add(&talk->wrong, 1);
	}
	return NULL;
}

static bool is_whole(const struct speech *speech, const char *bytes, size_t length)
{
	if (speech->talker >= TALKERS || speech->number >= SPEECHES || speech->length != length)
		return false;
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != fill_of(speech))
			return false;
	return true;
}

static void *listen_to(void *data)
{
	struct talk *talk = data;
	char bytes[4096];
	struct speech speech;
	size_t fd_count;
	ssize_t length;

	while ((length = channel_receive(talk->fds[1], bytes, sizeof(bytes), NULL, 0, &fd_count,
					 0)) > 0) {
		memcpy(&speech, bytes, sizeof(speech));
		if ((size_t)length >= sizeof(speech) &&
		    is_whole(&speech, bytes + sizeof(speech), (size_t)length - sizeof(speech)))
			atomic_fetch_add(&talk->heard[speech.talker][speech.number], 1);
		else
			atomic_fetch_add(&talk->wrong, 1);
	}
	if (length < 0)
		atomic_fetch_add(&talk->wrong, 1);
	return NULL;
}

static void test_many_threads_on_one_channel(void **state)
{
	static struct talk talk_data;
	pthread_t talkers[TALKERS], listeners[TALKERS];

	(void)state;
	make_pair(talk_data.fds);
	for (int i = 0; i < TALKERS; i++) {
		assert_int_equal(pthread_create(&listeners[i], NULL, listen_to, &talk_data), 0);
		assert_int_equal(pthread_create(&talkers[i], NULL, talk, &talk_data), 0);
	}
	for (int i = 0; i < TALKERS; i++)
		pthread_join(talkers[i], NULL);
	fd_close(&talk_data.fds[0]);
	for (int i = 0; i < TALKERS; i++)
		pthread_join(listeners[i], NULL);
	fd_close(&talk_data.fds[1]);
	assert_int_equal(atomic_load(&talk_data.wrong), 0);
	for (int i = 0; i < TALKERS; i++)
		for (int j = 0; j < SPEECHES; j++)
			assert_int_equal(atomic_load(&talk_data.heard[i][j]), 1);
}

/* --- scoreboard ------------------------------------------------------------------------------ */

static void test_scoreboard_is_sealed(void **state)
{
	struct stat status;
	int fd = -1;

	(void)state;
	assert_int_equal(scoreboard_create(3, 2, &fd), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size % sysconf(_SC_PAGESIZE), 0);
	assert_true(status.st_size > 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, status.st_size - 1), -1);
	assert_int_equal(ftruncate(fd, status.st_size + 4096), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1); /* it stays writable */
	fd_close(&fd);
}

static void test_scoreboard_sizes(void **state)
{
	static const uint32_t wrong[][2] = {{0, 1},    {1, 0},	  {0, 0},
					    {4097, 1}, {1, 4097}, {UINT32_MAX, UINT32_MAX}};
	static const uint32_t right[][2] = {{1, 1}, {1, 4096}, {4096, 1}, {4096, 4096}, {64, 64}};
	struct scoreboard_map map;
	size_t before = open_descriptors();
	int fd;

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		fd = -1;
		assert_int_equal(scoreboard_create(wrong[i][0], wrong[i][1], &fd), -EINVAL);
		assert_int_equal(fd, -1);
	}
	for (size_t i = 0; i < COUNT(right); i++) {
		assert_int_equal(scoreboard_create(right[i][0], right[i][1], &fd), 0);
		assert_int_equal(scoreboard_open(fd, right[i][0], right[i][1], &map), 0);
		for (size_t j = 0; j < COUNT(wrong); j++) {
			struct scoreboard_map untouched = {0};
			assert_int_equal(scoreboard_open(fd, wrong[j][0], wrong[j][1], &untouched),
					 -EINVAL);
			assert_null(untouched.memory);
		}
		assert_int_equal(map.cells, right[i][0]);
		assert_int_equal(map.workers, right[i][1]);
		fd_close(&fd); /* the mapping stands without it */
		atomic_store(&scoreboard_worker(&map, map.workers - 1)->jobs, 5);
		scoreboard_close(&map);
		assert_null(map.memory);
		scoreboard_close(&map);
	}
	assert_int_equal(open_descriptors(), before);
}

/* Every word has a place of its own within the mapping, and begins as it should. */
static void test_scoreboard_layout(void **state)
{
	const uint32_t cells = 70, workers = 40;
	struct scoreboard_map map, other;
	int fd;

	(void)state;
	assert_int_equal(scoreboard_create(cells, workers, &fd), 0);
	assert_int_equal(scoreboard_open(fd, cells, workers, &map), 0);
	assert_int_equal(scoreboard_open(fd, cells, workers, &other), 0);
	assert_int_equal(atomic_load(scoreboard_fallen_worker(&map)), SCOREBOARD_NOBODY);
	assert_int_equal(atomic_load(scoreboard_fallen_signal(&map)), 0);
	atomic_store(scoreboard_fallen_worker(&map), 7000001);
	atomic_store(scoreboard_fallen_signal(&map), 7000002);
	for (uint32_t i = 0; i < cells; i++) {
		struct scoreboard_cell *cell = scoreboard_cell(&map, i);
		assert_int_equal((uintptr_t)cell % 64, 0);
		assert_true((char *)cell >= (char *)map.memory);
		assert_true((char *)(cell + 1) <= (char *)map.memory + map.size);
		assert_int_equal(atomic_load(&cell->stop), 0);
		assert_int_equal(atomic_load(&cell->started), 0);
		assert_int_equal(atomic_load(&cell->memory_seen), 0);
		atomic_store(&cell->stop, i + 1);
		atomic_store(&cell->worker, i + 1000);
		atomic_store(&cell->started, i + 2000);
		atomic_store(&cell->started_ns, i + 3000);
		atomic_store(&cell->cpu_ns, INT64_MAX - i);
		atomic_store(&cell->memory_seen, INT64_MIN + i);
	}
	for (uint32_t i = 0; i < workers; i++) {
		struct scoreboard_worker *worker = scoreboard_worker(&map, i);
		assert_true((char *)(worker + 1) <= (char *)map.memory + map.size);
		assert_int_equal(atomic_load(&worker->tid), 0);
		assert_int_equal(atomic_load(&worker->jobs), 0);
		atomic_store(&worker->tid, (int32_t)i + 4000);
		atomic_store(&worker->jobs, i + 5000);
	}
	for (uint32_t i = 0; i < cells; i++) {
		struct scoreboard_cell *cell = scoreboard_cell(&other, i);
		assert_int_equal(atomic_load(&cell->stop), i + 1);
		assert_int_equal(atomic_load(&cell->worker), i + 1000);
		assert_int_equal(atomic_load(&cell->started), i + 2000);
		assert_int_equal(atomic_load(&cell->started_ns), i + 3000);
		assert_true(atomic_load(&cell->cpu_ns) == INT64_MAX - i);
		assert_true(atomic_load(&cell->memory_seen) == INT64_MIN + i);
	}
	for (uint32_t i = 0; i < workers; i++) {
		assert_int_equal(atomic_load(&scoreboard_worker(&other, i)->tid), i + 4000);
		assert_int_equal(atomic_load(&scoreboard_worker(&other, i)->jobs), i + 5000);
	}
	assert_int_equal(atomic_load(scoreboard_fallen_worker(&other)), 7000001);
	assert_int_equal(atomic_load(scoreboard_fallen_signal(&other)), 7000002);
	scoreboard_close(&map);
	scoreboard_close(&other);
	fd_close(&fd);
}

static int file_with(off_t size, int seals)
{
	int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_scoreboard_refuses_other_files(void **state)
{
	struct scoreboard_map map = {0};
	int fds[2], fd;

	(void)state;
	fd = file_with(1 << 20, 0);
	assert_int_equal(scoreboard_open(fd, 4, 4, &map), -EPROTO);
	fd_close(&fd);
	fd = file_with(1 << 20, F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(scoreboard_open(fd, 4, 4, &map), -EPROTO);
	fd_close(&fd);
	fd = file_with(100, F_SEAL_SHRINK);
	assert_int_equal(scoreboard_open(fd, 4, 4, &map), -EPROTO);
	fd_close(&fd);
	fd = file_with(0, F_SEAL_SHRINK);
	assert_int_equal(scoreboard_open(fd, 1, 1, &map), -EPROTO);
	fd_close(&fd);
	assert_int_equal(scoreboard_create(4, 4, &fd), 0);
	assert_int_equal(scoreboard_open(fd, 4096, 4, &map), -EPROTO);
	assert_int_equal(scoreboard_open(fd, 4, 4096, &map), -EPROTO);
	fd_close(&fd);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_true(scoreboard_open(fds[0], 4, 4, &map) < 0);
	close_pair(fds);
	assert_true(scoreboard_open(-1, 4, 4, &map) < 0);
	assert_null(map.memory);
}

/* What a job's sleep does: waits for the word to change. Answers the exit status. */
static int sleep_on_cell(int fd, uint32_t cell)
{
	const struct timespec most = {.tv_sec = 60};
	struct scoreboard_map map;

	if (scoreboard_open(fd, 8, 8, &map) < 0)
		return 2;
	_Atomic uint32_t *stop = &scoreboard_cell(&map, cell)->stop;
	while (atomic_load(stop) == 0)
		if (syscall(SYS_futex, stop, FUTEX_WAIT, 0, &most, NULL, 0) < 0 &&
		    errno == ETIMEDOUT)
			return 3;
	return atomic_load(stop) == 1 ? 0 : 4;
}

static bool sleeps(pid_t pid)
{
	char path[64], text[512], *end;
	size_t length;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = '\0';
	end = strrchr(text, ')');
	return end && end[1] == ' ' && end[2] == 'S';
}

static void test_stop_wakes_another_process(void **state)
{
	struct scoreboard_map map;
	int64_t asked_ns;
	int fd, status;

	(void)state;
	assert_int_equal(scoreboard_create(8, 8, &fd), 0);
	assert_int_equal(scoreboard_open(fd, 8, 8, &map), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(sleep_on_cell(fd, 5));
	/* Stopping one that does not sleep yet is right too, but shows less. */
	for (int i = 0; i < 5000 && !sleeps(pid); i++)
		usleep(1000);
	for (uint32_t i = 0; i < 8; i++)
		if (i != 5)
			scoreboard_stop(&map, i);
	usleep(20000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0); /* those were not meant for it */
	asked_ns = clock_monotonic_ns();
	scoreboard_stop(&map, 5);
	scoreboard_stop(&map, 5);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(clock_monotonic_ns() - asked_ns < 20 * NS_PER_S);
	scoreboard_close(&map);
	fd_close(&fd);
}

/* --- messages -------------------------------------------------------------------------------- */

#define CELLS	6
#define WORKERS 4

static struct message_done good_done(void)
{
	struct message_done done = {
		.kind = MESSAGE_DONE,
		.seq = 77,
		.cell = CELLS - 1,
		.worker = WORKERS - 1,
		.outcome = DONE_SUCCEEDED,
		.tid = 4711,
		.jobs_before = 3,
	};

	metering_init(&done.metering);
	done.metering.started_ns = 1000;
	done.metering.ended_ns = 2000;
	return done;
}

/* A message in memory of exactly its size, so that a sanitizer sees any reading past it. */
static char *put(const void *head, size_t head_length, const char *tail, size_t tail_length)
{
	char *data = malloc(head_length + tail_length + 1);

	assert_non_null(data);
	data = realloc(data, head_length + tail_length ? head_length + tail_length : 1);
	assert_non_null(data);
	memcpy(data, head, head_length);
	if (tail_length > 0)
		memcpy(data + head_length, tail, tail_length);
	return data;
}

static bool read_done(const struct message_done *done, const char *tail, size_t tail_length,
		      size_t fd_count)
{
	char *data = put(done, sizeof(*done), tail, tail_length);
	struct message_done read;
	const char *result, *failure;
	bool accepted = message_read_done(data, sizeof(*done) + tail_length, CELLS, WORKERS,
					  fd_count, &read, &result, &failure);

	free(data);
	return accepted;
}

static void test_kinds(void **state)
{
	const uint32_t kind = MESSAGE_DONE;

	(void)state;
	for (size_t length = 0; length < sizeof(kind); length++)
		assert_int_equal(message_kind(&kind, length), 0);
	assert_int_equal(message_kind(&kind, sizeof(kind)), MESSAGE_DONE);
	assert_int_equal(message_kind("\x01\0\0\0after", 9), MESSAGE_RUN);
}

static void test_sizes(void **state)
{
	(void)state;
	assert_true(sizeof(struct message_done) + MESSAGE_INLINE_MAX + MESSAGE_ERROR_MAX <=
		    MESSAGE_SIZE_MAX);
	assert_true(sizeof(struct message_run) + MESSAGE_INLINE_MAX <= MESSAGE_SIZE_MAX);
	assert_true(sizeof(struct message_output) + MESSAGE_INLINE_MAX <= MESSAGE_SIZE_MAX);
	assert_true(HOST_UP_FDS <= CHANNEL_FDS_MAX);
}

static void test_ready(void **state)
{
	struct message_ready ready = {.kind = MESSAGE_READY, .workers = WORKERS}, read = {0};
	char longer[sizeof(ready) + 1] = {0};

	(void)state;
	assert_true(message_read_ready(&ready, sizeof(ready), WORKERS, &read));
	assert_int_equal(read.workers, WORKERS);
	for (size_t length = 0; length < sizeof(ready); length++)
		assert_false(message_read_ready(&ready, length, WORKERS, &read));
	memcpy(longer, &ready, sizeof(ready));
	assert_false(message_read_ready(longer, sizeof(longer), WORKERS, &read));
	assert_false(message_read_ready(&ready, sizeof(ready), WORKERS + 1, &read));
	assert_false(message_read_ready(&ready, sizeof(ready), WORKERS - 1, &read));
}

static void test_log(void **state)
{
	struct message_log line = {
		.kind = MESSAGE_LOG, .level = 3, .seq = 9, .cell = CELLS - 1, .length = 4};
	struct message_log read;
	char data[sizeof(line) + MESSAGE_ERROR_MAX + 1] = {0};
	size_t whole = sizeof(line) + 4;
	const char *text = NULL;

	(void)state;
	memcpy(data + sizeof(line), "text", 4);
	memcpy(data, &line, sizeof(line));
	assert_true(message_read_log(data, whole, CELLS, &read, &text));
	assert_memory_equal(&read, &line, sizeof(line));
	assert_ptr_equal(text, data + sizeof(line));
	for (size_t length = 0; length <= whole + 1; length++)
		assert_int_equal(message_read_log(data, length, CELLS, &read, &text),
				 length == whole);
	assert_false(message_read_log(data, whole, CELLS - 1, &read, &text));
	line.cell = MESSAGE_LOG_NO_JOB;
	memcpy(data, &line, sizeof(line));
	assert_true(message_read_log(data, whole, CELLS, &read, &text));
	line.level = 4;
	memcpy(data, &line, sizeof(line));
	assert_false(message_read_log(data, whole, CELLS, &read, &text));
	line.level = 0;
	line.length = MESSAGE_ERROR_MAX + 1;
	memcpy(data, &line, sizeof(line));
	assert_false(message_read_log(data, sizeof(data), CELLS, &read, &text));
}

static void test_output(void **state)
{
	static const char text[] = "some output\n";
	struct message_output output = {.kind = MESSAGE_OUTPUT,
					.stream = 2,
					.seq = 9,
					.cell = CELLS - 1,
					.length = sizeof(text)};
	struct message_output wrong, read;
	char *data = put(&output, sizeof(output), text, sizeof(text));
	size_t whole = sizeof(output) + sizeof(text);
	const char *bytes;

	(void)state;
	assert_true(message_read_output(data, whole, CELLS, &read, &bytes));
	assert_memory_equal(&read, &output, sizeof(output));
	assert_ptr_equal(bytes, data + sizeof(output));
	for (size_t length = 0; length < whole; length++)
		assert_false(message_read_output(data, length, CELLS, &read, &bytes));
	assert_false(message_read_output(data, whole, CELLS - 1, &read, &bytes));
	free(data);

	const uint32_t streams[] = {0, 3, UINT32_MAX},
		       lengths[] = {0, sizeof(text) - 1, sizeof(text) + 1, UINT32_MAX,
				    UINT32_MAX - sizeof(output)};
	for (size_t i = 0; i < COUNT(streams) + COUNT(lengths); i++) {
		wrong = output;
		if (i < COUNT(streams))
			wrong.stream = streams[i];
		else
			wrong.length = lengths[i - COUNT(streams)];
		data = put(&wrong, sizeof(wrong), text, sizeof(text));
		assert_false(message_read_output(data, whole, CELLS, &read, &bytes));
		free(data);
	}
}

static void test_progress(void **state)
{
	static const char text[] = "rows";
	struct message_progress progress = {.kind = MESSAGE_PROGRESS,
					    .cell = CELLS - 1,
					    .seq = 9,
					    .done = INT64_MAX,
					    .total = 0,
					    .length = sizeof(text)};
	struct message_progress read;
	char *data = put(&progress, sizeof(progress), text, sizeof(text));
	size_t whole = sizeof(progress) + sizeof(text);
	const char *bytes;

	(void)state;
	assert_true(message_read_progress(data, whole, CELLS, &read, &bytes));
	assert_memory_equal(&read, &progress, sizeof(progress));
	assert_ptr_equal(bytes, data + sizeof(progress));
	for (size_t length = 0; length < whole; length++)
		assert_false(message_read_progress(data, length, CELLS, &read, &bytes));
	assert_false(message_read_progress(data, whole, CELLS - 1, &read, &bytes));
	free(data);

	struct message_progress wrong[] = {progress, progress, progress, progress, progress};
	wrong[0].done = -1;
	wrong[1].total = -1;
	wrong[2].length = sizeof(text) - 1;
	wrong[3].length = UINT64_MAX;
	wrong[4].length = UINT64_MAX - sizeof(progress) + 1;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		data = put(&wrong[i], sizeof(wrong[i]), text, sizeof(text));
		assert_false(message_read_progress(data, whole, CELLS, &read, &bytes));
		free(data);
	}
}

static void test_progress_text_is_bounded(void **state)
{
	static const char text[MESSAGE_PROGRESS_MAX + 1] = "x";
	struct message_progress progress = {.kind = MESSAGE_PROGRESS}, read;
	const char *bytes;

	(void)state;
	for (progress.length = 0; progress.length <= sizeof(text); progress.length++) {
		char *data = put(&progress, sizeof(progress), text, progress.length);
		assert_int_equal(message_read_progress(data, sizeof(progress) + progress.length,
						       CELLS, &read, &bytes),
				 progress.length <= MESSAGE_PROGRESS_MAX);
		free(data);
	}
}

static void test_done_round_trip(void **state)
{
	static const char tail[] = "{\"n\":[1,2]}it failed";
	struct message_done done = good_done(), read;
	const char *result = "?", *failure = "?";
	char *data;

	(void)state;
	assert_true(message_read_done(&done, sizeof(done), CELLS, WORKERS, 0, &read, &result,
				      &failure));
	assert_memory_equal(&read, &done, sizeof(done));
	assert_null(result);

	done.result_length = 11;
	done.failure_length = 9;
	done.outcome = DONE_FAILED;
	data = put(&done, sizeof(done), tail, sizeof(tail) - 1);
	assert_true(message_read_done(data, sizeof(done) + sizeof(tail) - 1, CELLS, WORKERS, 0,
				      &read, &result, &failure));
	assert_memory_equal(&read, &done, sizeof(done));
	assert_ptr_equal(result, data + sizeof(done));
	assert_ptr_equal(failure, data + sizeof(done) + 11);
	assert_memory_equal(failure, "it failed", 9);
	free(data);

	done.in_file = 1;
	done.result_length = UINT64_C(1) << 40; /* the file will tell whether that is so */
	data = put(&done, sizeof(done), "it failed", 9);
	assert_true(message_read_done(data, sizeof(done) + 9, CELLS, WORKERS, 1, &read, &result,
				      &failure));
	assert_null(result);
	assert_memory_equal(failure, "it failed", 9);
	free(data);
}

static void test_done_out_of_range(void **state)
{
	struct message_done done = good_done();

	(void)state;
	assert_true(read_done(&done, NULL, 0, 0));
#define REFUSED(member, value)                                                                     \
	do {                                                                                       \
		done = good_done();                                                                \
		done.member = (value);                                                             \
		assert_false(read_done(&done, NULL, 0, 0));                                        \
	} while (0)
	REFUSED(cell, CELLS);
	REFUSED(cell, UINT32_MAX);
	REFUSED(worker, WORKERS);
	REFUSED(worker, UINT32_MAX);
	REFUSED(outcome, DONE_RESULT_TOO_LARGE + 1);
	REFUSED(outcome, UINT32_MAX);
	REFUSED(in_file, 1); /* without a descriptor */
	REFUSED(in_file, 2);
	REFUSED(output_pending, 2);
	REFUSED(tid, 0);
	REFUSED(tid, -1);
	REFUSED(failure_length, 1);
	REFUSED(failure_length, UINT32_MAX);
	REFUSED(result_length, 1);
	REFUSED(result_length, UINT64_MAX);
	REFUSED(metering.started_ns, METERING_UNKNOWN);
	REFUSED(metering.started_ns, 2001);
	REFUSED(metering.ended_ns, 999);
	REFUSED(metering.ended_ns, INT64_MAX);
	REFUSED(metering.cpu_user_ns, -2);
	REFUSED(metering.cpu_user_ns, INT64_MAX);
	REFUSED(metering.peak_bytes, (INT64_C(1) << 60) + 1);
	REFUSED(metering.involuntary_switches, INT64_MIN);
	REFUSED(metering.scope, MEMORY_SCOPE_CHILDREN + 1);
	REFUSED(metering.source, MEMORY_SOURCE_CGROUP_MEMORY_PEAK + 1);
#undef REFUSED
	done = good_done();
	assert_false(read_done(&done, NULL, 0, 1)); /* a descriptor that nobody spoke of */
	done.in_file = 1;
	assert_true(read_done(&done, NULL, 0, 1));
	assert_false(read_done(&done, NULL, 0, 2));
	assert_false(read_done(&done, "1", 1, 1));
	/* lengths that only together are right, or that wrap round */
	done = good_done();
	done.result_length = 2;
	assert_false(read_done(&done, "1", 1, 0));
	done.result_length = UINT64_MAX;
	done.failure_length = 2;
	assert_false(read_done(&done, "1", 1, 0));
	done.failure_length = 1;
	done.result_length = 0;
	assert_true(read_done(&done, "1", 1, 0));
}

static void test_done_failure_is_bounded(void **state)
{
	struct message_done done = good_done();
	char text[MESSAGE_ERROR_MAX + 1];

	(void)state;
	memset(text, 'x', sizeof(text));
	done.failure_length = MESSAGE_ERROR_MAX;
	assert_true(read_done(&done, text, MESSAGE_ERROR_MAX, 0));
	done.failure_length = MESSAGE_ERROR_MAX + 1;
	assert_false(read_done(&done, text, MESSAGE_ERROR_MAX + 1, 0));
}

static void test_done_result_is_json(void **state)
{
	static const char *const good[] = {"null", "0", "\"x\"", "{\"a\":[]}", " [1] "};
	static const char *const bad[] = {" ", "{", "nul", "[1,]", "1 2", "\"\xff\"", "{\"a\":1}}"};
	struct message_done done = good_done();

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		done.result_length = strlen(good[i]);
		assert_true(read_done(&done, good[i], strlen(good[i]), 0));
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		done.result_length = strlen(bad[i]);
		assert_false(read_done(&done, bad[i], strlen(bad[i]), 0));
	}
}

static void test_done_cut_short(void **state)
{
	static const char tail[] = "[1,2,3]sorry";
	struct message_done done = good_done(), read;
	const char *result, *failure;

	(void)state;
	done.result_length = 7;
	done.failure_length = 5;
	for (size_t length = 0; length <= sizeof(done) + 12; length++) {
		char *data = put(&done, length < sizeof(done) ? length : sizeof(done), tail,
				 length < sizeof(done) ? 0 : length - sizeof(done));
		assert_int_equal(message_read_done(data, length, CELLS, WORKERS, 0, &read, &result,
						   &failure),
				 length == sizeof(done) + 12);
		free(data);
	}
}

/* --- messages, from a host gone mad ---------------------------------------------------------- */

static bool within(const char *data, size_t length, const char *from, uint64_t size)
{
	return from >= data && from <= data + length && size <= (size_t)(data + length - from);
}

static void check_accepted_done(const char *data, size_t length, size_t fd_count,
				const struct message_done *done, const char *result,
				const char *failure)
{
	const int64_t *numbers[] = {
		&done->metering.cpu_user_ns,	    &done->metering.cpu_system_ns,
		&done->metering.peak_bytes,	    &done->metering.baseline_bytes,
		&done->metering.heap_peak_bytes,    &done->metering.host_rss_bytes,
		&done->metering.minor_faults,	    &done->metering.major_faults,
		&done->metering.voluntary_switches, &done->metering.involuntary_switches};

	assert_true(done->cell < CELLS);
	assert_true(done->worker < WORKERS);
	assert_true(done->outcome <= 3);
	assert_true(done->tid >= 1);
	assert_true(done->in_file == fd_count);
	assert_true(done->failure_length <= MESSAGE_ERROR_MAX);
	assert_true(done->metering.started_ns > 0);
	assert_true(done->metering.started_ns <= done->metering.ended_ns);
	assert_true(done->metering.ended_ns <= clock_monotonic_ns());
	assert_true(done->metering.scope <= MEMORY_SCOPE_CHILDREN);
	assert_true(done->metering.source <= MEMORY_SOURCE_CGROUP_MEMORY_PEAK);
	for (size_t i = 0; i < COUNT(numbers); i++)
		assert_true(*numbers[i] >= -1);
	assert_true(within(data, length, failure, done->failure_length));
	assert_ptr_equal(failure + done->failure_length, data + length);
	if (done->in_file || done->result_length == 0) {
		assert_null(result);
		return;
	}
	assert_true(within(data, length, result, done->result_length));
	assert_ptr_equal(result + done->result_length, failure);
	json_t *value = json_loadb(result, done->result_length,
				   JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	/* jansson refuses a few more than RFC 8259 does: duplicates, and numbers too large for it
	 */
	if (!value)
		assert_true(json_is_wellformed(result, done->result_length));
	json_decref(value);
}

/* Changes some bytes of data, towards numbers that are likely to be edges. */
static void scribble(char *data, size_t length)
{
	static const uint32_t edges[] = {0,	    1,		2,    CELLS,	WORKERS,
					 CELLS - 1, UINT32_MAX, 1025, 1u << 31, 0x7fffffff};

	for (size_t changes = random_below(4); changes > 0; changes--) {
		size_t at = random_below(length);
		if (random_below(2) && length >= 4) {
			at = random_below(length - 3) & ~(size_t)3;
			memcpy(data + at, &edges[random_below(COUNT(edges))], 4);
		} else {
			data[at] = (char)random_next();
		}
	}
}

static void test_done_mutations(void **state)
{
	static const char tail[] = "{\"count\":17984,\"x\":[\"\xc3\xa9\",1.5e3]}sorry";
	size_t accepted = 0;

	(void)state;
	for (int i = 0; i < 120000; i++) {
		struct message_done done = good_done(), read;
		const char *result, *failure;
		size_t tail_length = random_below(sizeof(tail)), fd_count = random_below(12) == 0;
		done.in_file = fd_count && random_below(2);
		done.failure_length = (uint32_t)(tail_length < 5 ? tail_length : 5);
		done.result_length = tail_length - done.failure_length;
		/* the end of tail: mostly no JSON, unless it is all of it */
		if (random_below(2))
			tail_length = sizeof(tail) - 1;
		if (tail_length == sizeof(tail) - 1) {
			done.failure_length = 5;
			done.result_length = tail_length - 5;
		}
		char *data = put(&done, sizeof(done), tail, tail_length);
		size_t length = sizeof(done) + tail_length;
		scribble(data, length);
		if (random_below(8) == 0) {
			size_t shorter = random_below(length + 1);
			char *cut = put(data, shorter, NULL, 0);
			free(data);
			data = cut;
			length = shorter;
		}
		if (message_read_done(data, length, CELLS, WORKERS, fd_count, &read, &result,
				      &failure)) {
			check_accepted_done(data, length, fd_count, &read, result, failure);
			accepted++;
		}
		free(data);
	}
	assert_true(accepted > 10000); /* else the test would show nothing */
}

static void test_other_mutations(void **state)
{
	static const char text[] = "some output of a job";
	size_t accepted = 0;

	(void)state;
	for (int i = 0; i < 60000; i++) {
		size_t tail_length = random_below(sizeof(text));
		struct message_output output = {.kind = MESSAGE_OUTPUT,
						.stream = 1 + (uint32_t)random_below(2),
						.cell = (uint32_t)random_below(CELLS + 1),
						.length = (uint32_t)tail_length};
		struct message_output read;
		const char *bytes;
		char *data = put(&output, sizeof(output), text, tail_length);
		size_t length = sizeof(output) + tail_length;
		scribble(data, length);
		if (message_read_output(data, length, CELLS, &read, &bytes)) {
			assert_true(read.cell < CELLS);
			assert_true(read.stream == 1 || read.stream == 2);
			assert_true(within(data, length, bytes, read.length));
			assert_ptr_equal(bytes + read.length, data + length);
			accepted++;
		}
		free(data);
	}
	assert_true(accepted > 5000);
	for (int i = 0; i < 20000; i++) {
		struct message_ready ready = {.kind = MESSAGE_READY, .workers = WORKERS}, read;
		char *data = put(&ready, sizeof(ready), NULL, 0);
		scribble(data, sizeof(ready));
		if (message_read_ready(data, random_below(4) ? sizeof(ready) : random_below(8),
				       WORKERS, &read))
			assert_int_equal(read.workers, WORKERS);
		free(data);
	}
}

static void test_progress_mutations(void **state)
{
	static const char text[] = "rows of a table";
	size_t accepted = 0;

	(void)state;
	for (int i = 0; i < 60000; i++) {
		size_t tail_length = random_below(sizeof(text));
		struct message_progress progress = {.kind = MESSAGE_PROGRESS,
						    .cell = (uint32_t)random_below(CELLS + 1),
						    .done = (int64_t)random_below(100),
						    .total = (int64_t)random_below(100),
						    .length = tail_length};
		struct message_progress read;
		const char *bytes;
		char *data = put(&progress, sizeof(progress), text, tail_length);
		size_t length = sizeof(progress) + tail_length;
		scribble(data, length);
		if (message_read_progress(data, length, CELLS, &read, &bytes)) {
			assert_true(read.cell < CELLS && read.done >= 0 && read.total >= 0);
			assert_true(within(data, length, bytes, read.length));
			assert_ptr_equal(bytes + read.length, data + length);
			accepted++;
		}
		free(data);
	}
	assert_true(accepted > 5000);
}

static void test_random_bytes(void **state)
{
	char bytes[600];
	union {
		struct message_done done;
		struct message_output output;
		struct message_progress progress;
		struct message_ready ready;
	} read;
	const char *first, *second;

	(void)state;
	for (int i = 0; i < 40000; i++) {
		size_t length = random_below(sizeof(bytes));
		for (size_t j = 0; j < length; j++)
			bytes[j] = (char)(random_below(3) ? 0 : random_next());
		char *data = put(bytes, length, NULL, 0);
		(void)message_kind(data, length);
		if (message_read_done(data, length, CELLS, WORKERS, random_below(2), &read.done,
				      &first, &second))
			assert_true(within(data, length, second, read.done.failure_length));
		if (message_read_output(data, length, CELLS, &read.output, &first))
			assert_true(within(data, length, first, read.output.length));
		if (message_read_progress(data, length, CELLS, &read.progress, &first))
			assert_true(within(data, length, first, read.progress.length));
		(void)message_read_ready(data, length, WORKERS, &read.ready);
		free(data);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pair_is_close_on_exec),
		cmocka_unit_test(test_messages_keep_their_bounds),
		cmocka_unit_test(test_full_channel),
		cmocka_unit_test(test_descriptors_pass),
		cmocka_unit_test(test_too_many_descriptors),
		cmocka_unit_test(test_too_long_a_message),
		cmocka_unit_test(test_receiver_is_out_of_descriptors),
		cmocka_unit_test(test_empty_message),
		cmocka_unit_test(test_the_end),
		cmocka_unit_test(test_last_words_of_a_killed_peer),
		cmocka_unit_test(test_many_threads_on_one_channel),
		cmocka_unit_test(test_scoreboard_is_sealed),
		cmocka_unit_test(test_scoreboard_sizes),
		cmocka_unit_test(test_scoreboard_layout),
		cmocka_unit_test(test_scoreboard_refuses_other_files),
		cmocka_unit_test(test_stop_wakes_another_process),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_ready),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_progress_text_is_bounded),
		cmocka_unit_test(test_done_round_trip),
		cmocka_unit_test(test_done_out_of_range),
		cmocka_unit_test(test_done_failure_is_bounded),
		cmocka_unit_test(test_done_result_is_json),
		cmocka_unit_test(test_done_cut_short),
		cmocka_unit_test(test_done_mutations),
		cmocka_unit_test(test_other_mutations),
		cmocka_unit_test(test_progress_mutations),
		cmocka_unit_test(test_random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
