/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The blk port by io_uring: one ring a queue. See blk_backend.h for the rules of all ports.
 */
#ifndef PLATFORM_LINUX_BLK_URING_H
#define PLATFORM_LINUX_BLK_URING_H

#include "platform/linux/blk_task.h"
#include "platform/linux/disk_image.h"

#define BLK_URING_ERROR_BYTES 160

struct blk_backend_counters;
struct blk_uring_queue;

struct blk_uring {
    struct blk_port port;
    struct blk_disk disk;
    unsigned queue_count;
    struct blk_uring_queue *queues; /* [queue_count], owned */
};

/* Rings are made by the newest rules that the kernel takes; ages count back from these. */
#define BLK_URING_AGES 4

struct blk_uring_options {
    const struct disk_image *image; /* borrowed */
    unsigned queues;
    unsigned depth; /* operations a queue may have in flight */
    unsigned age;   /* for tests: begin with the rules of that age */
};

/*
 * Each queue's ring is made by its own thread, when it first uses it. Fails, with the reason in @error, where io_uring
 * cannot be used: -ENOSYS (kernel or build without it, or too old), -EPERM, -EACCES (forbidden by sysctl, seccomp or
 * LSM), -ENOMEM, -EMFILE.
 */
int blk_uring_open(struct blk_uring *uring, const struct blk_uring_options *options, char *error, size_t error_bytes);
void blk_uring_close(struct blk_uring *uring);
/* As in blk_backend.h. */
int blk_uring_handle(struct blk_uring *uring, unsigned queue);
bool blk_uring_ready(const struct blk_uring *uring, unsigned queue);
bool blk_uring_rest(struct blk_uring *uring, unsigned queue);
void blk_uring_count(const struct blk_uring *uring, struct blk_backend_counters *ret_counters);

#endif
