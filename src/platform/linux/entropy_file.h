/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Entropy from a character device, FIFO or file: the port of the rng model. Used on the queue's thread; opened and
 * closed on the control thread.
 */
#ifndef PLATFORM_LINUX_ENTROPY_FILE_H
#define PLATFORM_LINUX_ENTROPY_FILE_H

#include "devices/rng/rng.h"

#define ENTROPY_FILE_DEFAULT "/dev/urandom"

struct entropy_file {
    struct entropy_source source; /* for rng_init */
    int fd;                       /* owned; -1: not open */
    bool dry;                     /* the last read found nothing; never so for a regular file */
};

/*
 * Open @path for reading without blocking. -ENOENT, -EACCES, …: as open(2) says. -EINVAL: something that has no
 * entropy: a directory, disk or socket. @error then has one line: what, where, what to do. A regular file gives what
 * it has, once: at its end the source is gone.
 */
int entropy_file_open(struct entropy_file *file, const char *path, char *error, size_t error_bytes);
void entropy_file_close(struct entropy_file *file);

/*
 * What to poll for reading before the model is woken: only after a read found nothing, since a device that always has
 * entropy is always readable. -1: no need to poll now. One shot at a time: ask again after each wake.
 */
int entropy_file_handle(const struct entropy_file *file);

#endif
