/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The blk port by plain system calls on threads, for where io_uring is missing or forbidden. See blk_backend.h for the
 * rules of all ports.
 */
#ifndef PLATFORM_LINUX_BLK_PLAIN_H
#define PLATFORM_LINUX_BLK_PLAIN_H

#include <sched.h>

#include "platform/linux/blk_task.h"
#include "platform/linux/disk_image.h"

#define BLK_PLAIN_WORKERS_DEFAULT 4
/* More threads than this on one queue wait for each other, not for the disk. */
#define BLK_PLAIN_WORKERS_MAX 16

struct blk_backend_counters;
struct blk_plain_queue;

struct blk_plain {
    struct blk_port port;
    struct blk_disk disk;
    unsigned queue_count;
    struct blk_plain_queue *queues; /* [queue_count], owned */
    cpu_set_t processors;           /* where workers may run */
    bool processors_known;
};

/*
 * Up to @workers threads a queue, started when there is work for them. They may run where the caller of this may: a
 * queue's own thread, which starts them, may be bound to one processor, and that is for it alone. -ENOMEM, -EMFILE: see
 * @error.
 */
int blk_plain_open(struct blk_plain *plain, const struct disk_image *image, unsigned queues, unsigned depth,
                   unsigned workers, char *error, size_t error_bytes);
/* Ends the threads, after what they are at. */
void blk_plain_close(struct blk_plain *plain);
int blk_plain_handle(const struct blk_plain *plain, unsigned queue);
bool blk_plain_ready(const struct blk_plain *plain, unsigned queue);
void blk_plain_count(const struct blk_plain *plain, struct blk_backend_counters *ret_counters);

#endif
