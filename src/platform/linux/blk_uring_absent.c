/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Stands for blk_uring.c in builds without liburing. */
#include "platform/linux/blk_uring.h"

#include <errno.h>
#include <stdio.h>

#include "platform/linux/blk_backend.h"

int blk_uring_open(struct blk_uring *uring, const struct blk_uring_options *options, char *error, size_t error_bytes)
{
    (void)options;
    *uring = (struct blk_uring){0};
    snprintf(error, error_bytes, "this build has no io_uring (liburing was missing)");
    return -ENOSYS;
}

void blk_uring_close(struct blk_uring *uring)
{
    (void)uring;
}

int blk_uring_handle(struct blk_uring *uring, unsigned queue)
{
    (void)uring;
    (void)queue;
    return -1;
}

bool blk_uring_ready(const struct blk_uring *uring, unsigned queue)
{
    (void)uring;
    (void)queue;
    return false;
}

bool blk_uring_rest(struct blk_uring *uring, unsigned queue)
{
    (void)uring;
    (void)queue;
    return false;
}

void blk_uring_count(const struct blk_uring *uring, struct blk_backend_counters *ret_counters)
{
    (void)uring;
    *ret_counters = (struct blk_backend_counters){0};
}
