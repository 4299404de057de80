/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What went wrong on a disk, for the person who runs it: any thread adds, and somebody is told that there is something
 * to report. Adding costs a lock that nobody keeps while waiting, and only where an operation has failed.
 */
#ifndef PLATFORM_LINUX_DISK_ERRORS_H
#define PLATFORM_LINUX_DISK_ERRORS_H

#include <pthread.h>

#include "devices/blk/blk.h"

/* "write at 12582912: No space left on device" */
#define DISK_ERROR_TEXT_BYTES 128

struct disk_error {
    enum blk_op op;
    uint64_t offset; /* where it got stuck; of no meaning for a flush */
    int error;       /* a negative errno; 0: there was none yet */
};

struct disk_errors {
    pthread_mutex_t mutex;
    /* under it */
    struct disk_error last;
    uint64_t total; /* those of the host: see disk_errors_add */
    bool told;      /* and not yet looked at: tell is not called again */
    void (*tell)(void *context);
    void *context;
};

void disk_errors_init(struct disk_errors *errors);
void disk_errors_done(struct disk_errors *errors);

/* @error met memory that the front end took away (-EFAULT): remembered, but nothing for the host's person to act on. */
void disk_errors_add(struct disk_errors *errors, const struct disk_error *error);

/*
 * Call @tell(@context) at the next error, on the thread that met it and with the lock held: it must not wait, nor come
 * back here. NULL: no more, and none is under way when this returns.
 */
void disk_errors_watch(struct disk_errors *errors, void (*tell)(void *context), void *context);

/* How many there have been, and the last; -ENOENT before the first. */
int disk_errors_last(struct disk_errors *errors, uint64_t *ret_total, struct disk_error *ret_error);

/* Had there been no more than @seen, tell again at the next one: true. Else false. */
bool disk_errors_rest(struct disk_errors *errors, uint64_t seen);

void disk_error_print(const struct disk_error *error, char *text, size_t text_bytes);

#endif
