/*
 * The scoreboard: one page or more of memory that the server shares with one generation of a host.
 *
 * A host has `cells`, one for each job that it may hold at once. The server gives a job a cell with
 * the job's message and owns the choice; from there until the job's end, the cell is that job's
 * alone. So asking a job to stop is one store and a futex wake, can never hit the job that follows
 * it, and needs nobody in the host to listen; and when a host dies, the server reads which of its
 * jobs had begun, and which thread fell, without a message for each.
 *
 * Trust: a host may scribble over all of it. The server only ever reads words from it and
 * range-checks them, so the worst that a scribbling host reaches is a wrong tale about its own
 * jobs. The file is sealed against shrinking, so no access can fault (memfd_create(2),
 * F_SEAL_SHRINK).
 *
 * Thread: every shared word is atomic, and says who writes it.
 */
#ifndef IPC_SCOREBOARD_H
#define IPC_SCOREBOARD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SCOREBOARD_NOBODY UINT32_MAX

struct scoreboard_cell {
	_Atomic uint32_t stop;	    /* server: 0, then 1 to ask the job to stop; a futex */
	_Atomic uint32_t worker;    /* host: who runs it */
	_Atomic uint64_t started;   /* host: seq of the job once its run has begun */
	_Atomic int64_t started_ns; /* host: when, monotonic; written before `started` */
	_Atomic int64_t cpu_ns; /* host: what the worker's CPU clock showed then, if the job has a
				   CPU limit; written before `started` */
	_Atomic int64_t memory_seen; /* host: bytes that the job would have held when its memory
					limit refused it more; 0 before */
	char padding[24];	     /* a cache line a cell */
};

struct scoreboard_worker {
	_Atomic int32_t tid;   /* host: thread id; 0 until it runs */
	_Atomic uint64_t jobs; /* host: jobs finished */
};

/* The mapping as one process sees it. */
struct scoreboard_map {
	void *memory; /* NULL while there is none */
	size_t size;
	uint32_t cells;
	uint32_t workers;
};

/* Makes the file: 0 or -errno. cells and workers 1 to 4096. */
int scoreboard_create(uint32_t cells, uint32_t workers, int *ret_fd);

/* Maps it; -EPROTO if the file is too small for that many or can still shrink. */
int scoreboard_open(int fd, uint32_t cells, uint32_t workers, struct scoreboard_map *ret_map);
void scoreboard_close(struct scoreboard_map *map);

/* host, from a signal handler: the worker that took the host down, SCOREBOARD_NOBODY until then;
 * and by which signal, 0 if it called exit(). */
_Atomic uint32_t *scoreboard_fallen_worker(const struct scoreboard_map *map);
_Atomic int32_t *scoreboard_fallen_signal(const struct scoreboard_map *map);
struct scoreboard_cell *scoreboard_cell(const struct scoreboard_map *map, uint32_t cell);
struct scoreboard_worker *scoreboard_worker(const struct scoreboard_map *map, uint32_t worker);

/* Server: asks the job in that cell to stop and wakes it if it sleeps. */
void scoreboard_stop(const struct scoreboard_map *map, uint32_t cell);

#endif
