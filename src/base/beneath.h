/*
 * Opening a path that somebody else has chosen, such that nothing outside of a directory is
 * reached: the kernel resolves it beneath the directory (openat2(2)). Where a sandbox refuses that
 * call, the path is walked one name at a time without following any symbolic link, so there links
 * that stay beneath are refused too. Thread: any.
 */
#ifndef BASE_BENEATH_H
#define BASE_BENEATH_H

#include <sys/types.h>

/* As openat(2), O_CLOEXEC, O_NOCTTY and O_NONBLOCK added, so that a pipe is opened at once: a
 * descriptor, or -errno; -EXDEV if the path leads out. */
int beneath_open(int directory, const char *path, int flags, mode_t mode);

#endif
