/*
 * MESSAGE_STOP_SIGNAL in a host of one worker: passes a request to stop on to the processes that
 * the job has started, as SIGTERM to the host's process group, once a job. The host itself is
 * spared.
 *
 * It also interrupts a system call that the task waits in (EINTR), whatever it is asked for.
 *
 * Which job is meant is not in the signal but read from the job's stop word when it is handled, so
 * one that comes late, when the next job runs, does nothing.
 *
 * Thread: the main thread of the host.
 */
#ifndef HOST_STOP_SIGNAL_H
#define HOST_STOP_SIGNAL_H

#include <stdatomic.h>
#include <stdint.h>

/* Installs the handler. The process must lead its group. 0 or -errno. */
int stop_signal_open(void);

/* Around a run: the job's stop word. */
void stop_signal_begin(const _Atomic uint32_t *stop);
void stop_signal_end(void);

#endif
