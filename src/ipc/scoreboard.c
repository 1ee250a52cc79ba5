/*
 * Layout of the file: a head of one cache line, the cells, the workers; rounded up to whole pages.
 */
#include "ipc/scoreboard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define SCOREBOARD_ENTRIES_MAX 4096

struct head {
	_Atomic uint32_t fallen_worker;
	_Atomic int32_t fallen_signal;
	char padding[56];
};

_Static_assert(sizeof(struct head) == 64, "the cells start on a cache line");
_Static_assert(sizeof(struct scoreboard_cell) == 64, "a cell is a cache line");

static size_t file_size(uint32_t cells, uint32_t workers)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t size = sizeof(struct head) + cells * sizeof(struct scoreboard_cell) +
		      workers * sizeof(struct scoreboard_worker);

	return (size + page - 1) / page * page;
}

static int entries_fit(uint32_t cells, uint32_t workers)
{
	return cells > 0 && cells <= SCOREBOARD_ENTRIES_MAX && workers > 0 &&
	       workers <= SCOREBOARD_ENTRIES_MAX;
}

int scoreboard_create(uint32_t cells, uint32_t workers, int *ret_fd)
{
	struct scoreboard_map map;
	int result;

	if (!entries_fit(cells, workers))
		return -EINVAL;
	int fd = memfd_create("scoreboard", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)file_size(cells, workers)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		result = -errno;
		goto fail;
	}
	result = scoreboard_open(fd, cells, workers, &map);
	if (result < 0)
		goto fail;
	atomic_store(scoreboard_fallen_worker(&map), SCOREBOARD_NOBODY);
	scoreboard_close(&map);
	*ret_fd = fd;
	return 0;
fail:
	fd_close(&fd);
	return result;
}

int scoreboard_open(int fd, uint32_t cells, uint32_t workers, struct scoreboard_map *ret_map)
{
	struct stat status;
	int seals = fcntl(fd, F_GET_SEALS);

	if (!entries_fit(cells, workers))
		return -EINVAL;
	if (seals < 0 || fstat(fd, &status) < 0)
		return -errno;
	size_t size = file_size(cells, workers);
	if (!(seals & F_SEAL_SHRINK) || status.st_size < (off_t)size)
		return -EPROTO;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	*ret_map = (struct scoreboard_map){
		.memory = memory, .size = size, .cells = cells, .workers = workers};
	return 0;
}

void scoreboard_close(struct scoreboard_map *map)
{
	if (map->memory)
		munmap(map->memory, map->size);
	*map = (struct scoreboard_map){0};
}

_Atomic uint32_t *scoreboard_fallen_worker(const struct scoreboard_map *map)
{
	return &((struct head *)map->memory)->fallen_worker;
}

_Atomic int32_t *scoreboard_fallen_signal(const struct scoreboard_map *map)
{
	return &((struct head *)map->memory)->fallen_signal;
}

static struct scoreboard_cell *first_cell(const struct scoreboard_map *map)
{
	return (struct scoreboard_cell *)(void *)((char *)map->memory + sizeof(struct head));
}

struct scoreboard_cell *scoreboard_cell(const struct scoreboard_map *map, uint32_t cell)
{
	return first_cell(map) + cell;
}

struct scoreboard_worker *scoreboard_worker(const struct scoreboard_map *map, uint32_t worker)
{
	return (struct scoreboard_worker *)(void *)(first_cell(map) + map->cells) + worker;
}

void scoreboard_stop(const struct scoreboard_map *map, uint32_t cell)
{
	_Atomic uint32_t *stop = &scoreboard_cell(map, cell)->stop;

	atomic_store(stop, 1);
	syscall(SYS_futex, stop, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
