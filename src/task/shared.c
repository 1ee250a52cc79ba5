/*
 * Blocks are only ever added. An entry is filled while it is beyond `count`, which is then raised:
 * so what is below `count` never changes and is found without a lock, and one who dies over an
 * entry leaves nothing behind.
 *
 * Invariants
 * 1. Entries below count have a name, lie within memory one after the other, and do not overlap.
 * 2. count is raised, and memory given out, only under `adding`.
 * 3. All locks are robust and were initialised by the master before any host was there.
 */
#include "task/shared.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "task/context.h"

#define BLOCK_ALIGNMENT 64
#define LOCK_WAIT_NS	(10 * NS_PER_MS) /* between two looks at whether the job should stop */

struct entry {
	pthread_mutex_t lock;
	uint32_t offset; /* in memory */
	uint32_t size;	 /* as it was asked for */
	char name[TP_SHARED_NAME_MAX + 1];
};

struct shared {
	pthread_mutex_t adding;
	_Atomic uint32_t count;
	struct entry entries[TP_SHARED_BLOCKS_MAX];
	_Alignas(BLOCK_ALIGNMENT) unsigned char memory[TP_SHARED_BYTES];
};
_Static_assert(TP_SHARED_BLOCKS_MAX <= 64, "tp_context.locks has a bit for each");

static int init_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;
	int error = pthread_mutexattr_init(&attributes);

	if (error != 0)
		return -error;
	error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (error == 0)
		error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (error == 0)
		error = pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return -error;
}

int shared_create(struct shared **ret_shared)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return -errno;
	int status = init_lock(&shared->adding);
	for (size_t i = 0; status == 0 && i < TP_SHARED_BLOCKS_MAX; i++)
		status = init_lock(&shared->entries[i].lock);
	if (status < 0) {
		shared_free(shared);
		return status;
	}
	*ret_shared = shared;
	return 0;
}

void shared_free(struct shared *shared)
{
	if (shared)
		munmap(shared, sizeof(*shared));
}

size_t shared_size(void)
{
	return sizeof(struct shared);
}

/* --- finding and adding ---------------------------------------------------------------------- */

static uint32_t count_entries(const struct shared *shared)
{
	uint32_t count = atomic_load_explicit(&shared->count, memory_order_acquire);

	return count < TP_SHARED_BLOCKS_MAX ? count : TP_SHARED_BLOCKS_MAX;
}

static struct entry *find_name(struct shared *shared, const char *name)
{
	uint32_t count = count_entries(shared);

	for (uint32_t i = 0; i < count; i++)
		if (strncmp(shared->entries[i].name, name, TP_SHARED_NAME_MAX + 1) == 0)
			return &shared->entries[i];
	return NULL;
}

static uint32_t round_up(uint32_t size)
{
	return (size + BLOCK_ALIGNMENT - 1) / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT;
}

/* The end of what is given out, kept within bounds whatever stands there. */
static uint32_t used_bytes(const struct shared *shared, uint32_t count)
{
	if (count == 0)
		return 0;
	const struct entry *last = &shared->entries[count - 1];
	if (last->offset > TP_SHARED_BYTES || last->size > TP_SHARED_BYTES - last->offset)
		return TP_SHARED_BYTES;
	return last->offset + round_up(last->size);
}

/* Under shared->adding. */
static struct entry *add(struct shared *shared, const char *name, uint32_t size)
{
	uint32_t count = count_entries(shared);
	uint32_t used = used_bytes(shared, count);

	if (count == TP_SHARED_BLOCKS_MAX || round_up(size) > TP_SHARED_BYTES - used)
		return NULL;
	struct entry *entry = &shared->entries[count];
	entry->offset = used;
	entry->size = size;
	memset(entry->name, 0, sizeof(entry->name));
	memcpy(entry->name, name, strlen(name));
	atomic_store_explicit(&shared->count, count + 1, memory_order_release);
	return entry;
}

/* 0, or an errno value. */
static int find_or_add(struct shared *shared, const char *name, uint32_t size,
		       struct entry **ret_entry)
{
	struct entry *entry = find_name(shared, name);

	if (!entry) {
		int error = pthread_mutex_lock(&shared->adding);
		if (error == EOWNERDEAD) /* by invariant 2 there is nothing to repair but it */
			error = pthread_mutex_consistent(&shared->adding);
		if (error != 0)
			return error;
		entry = find_name(shared, name);
		if (!entry)
			entry = add(shared, name, size);
		pthread_mutex_unlock(&shared->adding);
	}
	if (!entry)
		return ENOSPC;
	/* The second cannot be, unless somebody has scribbled here. */
	if (entry->size != size || entry->offset > TP_SHARED_BYTES - size)
		return EINVAL;
	*ret_entry = entry;
	return 0;
}

void *tp_shared_block(struct tp_context *ctx, const char *name, size_t size)
{
	size_t length = strnlen(name, TP_SHARED_NAME_MAX + 1);
	struct entry *entry = NULL;
	int error = EINVAL;

	if (length > 0 && length <= TP_SHARED_NAME_MAX && size > 0)
		error = size > TP_SHARED_BYTES
				? ENOSPC
				: find_or_add(ctx->shared, name, (uint32_t)size, &entry);
	if (error != 0) {
		errno = error;
		return NULL;
	}
	return ctx->shared->memory + entry->offset;
}

/* --- locks ----------------------------------------------------------------------------------- */

/* Which entry has this block; -EINVAL if none has. */
static int find_block(const struct shared *shared, const void *block)
{
	uint32_t count = count_entries(shared);
	uintptr_t offset = (uintptr_t)block - (uintptr_t)shared->memory;

	for (uint32_t i = 0; i < count; i++)
		if (shared->entries[i].offset == offset)
			return (int)i;
	return -EINVAL;
}

/* Waits for the lock, LOCK_WAIT_NS at the most. ThreadSanitizer does not know of
 * pthread_mutex_clocklock() (LLVM 14), nor that one which can time out may answer EOWNERDEAD; a
 * build with it only looks now and then. */
static int lock_a_while(pthread_mutex_t *lock)
{
#ifdef TWINPOOL_SANITIZER
	const struct timespec pause = {.tv_nsec = NS_PER_MS / 10};

	nanosleep(&pause, NULL);
	return pthread_mutex_trylock(lock);
#else
	int64_t deadline_ns = clock_monotonic_ns() + LOCK_WAIT_NS;
	struct timespec deadline = {.tv_sec = deadline_ns / NS_PER_S,
				    .tv_nsec = deadline_ns % NS_PER_S};

	return pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &deadline);
#endif
}

int tp_lock(struct tp_context *ctx, void *block)
{
	int index = find_block(ctx->shared, block);

	if (index < 0)
		return index;
	uint64_t bit = UINT64_C(1) << index;
	if (ctx->locks & bit)
		return -EDEADLK;
	pthread_mutex_t *lock = &ctx->shared->entries[index].lock;
	int error = pthread_mutex_trylock(lock);
	while (error == EBUSY || error == ETIMEDOUT) {
		if (tp_should_stop(ctx))
			return -ECANCELED;
		error = lock_a_while(lock);
	}
	bool owner_died = error == EOWNERDEAD;
	if (owner_died)
		error = pthread_mutex_consistent(lock);
	if (error != 0)
		return -error;
	ctx->locks |= bit;
	return owner_died ? TP_LOCK_OWNER_DIED : 0;
}

int tp_unlock(struct tp_context *ctx, void *block)
{
	int index = find_block(ctx->shared, block);

	if (index < 0)
		return index;
	uint64_t bit = UINT64_C(1) << index;
	if (!(ctx->locks & bit))
		return -EPERM;
	ctx->locks &= ~bit;
	return -pthread_mutex_unlock(&ctx->shared->entries[index].lock);
}

unsigned int shared_unlock_all(struct tp_context *ctx)
{
	unsigned int count = 0;

	for (; ctx->locks; count++) {
		int index = __builtin_ctzll(ctx->locks);
		ctx->locks &= ctx->locks - 1;
		pthread_mutex_unlock(&ctx->shared->entries[index].lock);
	}
	return count;
}
