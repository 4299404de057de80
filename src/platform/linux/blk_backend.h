/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Where a disk's blocks are, on Linux: one object for a whole disk and all its queues, by io_uring, by threads that
 * make plain system calls, or nowhere at all (for measurement). A program treats all three the same.
 *
 * Threads: open and close on the control thread, with no queue running. The port functions of one queue are used on
 * one thread at a time.
 */
#ifndef PLATFORM_LINUX_BLK_BACKEND_H
#define PLATFORM_LINUX_BLK_BACKEND_H

#include "devices/blk/blk.h"
#include "platform/linux/blk_null.h"
#include "platform/linux/blk_plain.h"
#include "platform/linux/blk_uring.h"
#include "platform/linux/disk_image.h"
#include "platform/linux/sandbox.h"

enum blk_engine {
    BLK_ENGINE_AUTO,  /* io_uring; threads where the system refuses it */
    BLK_ENGINE_URING, /* io_uring or nothing */
    BLK_ENGINE_PLAIN, /* threads */
    BLK_ENGINE_NULL,  /* requests complete at once, data is not touched; needs no image */
};

struct blk_backend_options {
    enum blk_engine engine;
    const struct disk_image *image; /* borrowed: must stay open until the back end is closed */
    unsigned queues;                /* 1 to BLK_QUEUES_MAX */
    unsigned depth;                 /* operations a queue may have in flight: as many as its arena has slots */
    unsigned workers;               /* threads a queue may have, without io_uring; 0: BLK_PLAIN_WORKERS_DEFAULT */
    unsigned uring_age;             /* for tests: 0 to BLK_URING_AGES - 1, as if the kernel were so much older */
};

struct blk_backend {
    struct blk_port *port;  /* for blk_init; into this object */
    enum blk_engine engine; /* the one in use: never AUTO */
    /* AUTO chose threads: why, as half a sentence to print after "io_uring is not used: ". Else empty. */
    char note[BLK_URING_ERROR_BYTES];
    union {
        struct blk_uring uring;
        struct blk_plain plain;
        struct blk_null null;
    } with;
};

/* Sums over all queues since open. */
struct blk_backend_counters {
    uint64_t operations;  /* taken by submit */
    uint64_t merged;      /* of them, those that went to the kernel with the one before, as one transfer */
    uint64_t blocking;    /* of them, those made by the queue's own thread, since io_uring had no ring left for it */
    uint64_t calls;       /* io_uring_enter, or system calls of the threads */
    uint64_t continued;   /* calls made since an earlier one was short, interrupted or not supported */
    uint64_t not_entered; /* times io_uring refused to take what was submitted, for want of memory */
};

/*
 * -EINVAL: options that make no sense. -ENOMEM. With BLK_ENGINE_URING also what io_uring_setup(2) says. @error then
 * has one line. The object must not be moved while open.
 */
int blk_backend_open(struct blk_backend *backend, const struct blk_backend_options *options, char *error,
                     size_t error_bytes);

/* Nothing is in flight. */
void blk_backend_close(struct blk_backend *backend);

/*
 * What to poll for reading (level-triggered) for completions of @queue; reap takes them and makes it quiet again.
 * Borrowed: do not read it. -1: there is none, since all completions are there when submit returns. On the queue's
 * thread.
 */
int blk_backend_handle(struct blk_backend *backend, unsigned queue);

/* On the queue's thread: would reap give something now? Cheap: no system call. */
bool blk_backend_ready(const struct blk_backend *backend, unsigned queue);

/*
 * On the queue's thread, which is about to sleep: from now on the handle tells. True: something is there already.
 * Without this call before, a handle may stay quiet.
 */
bool blk_backend_rest(struct blk_backend *backend, unsigned queue);

/* May be called from any thread, while queues run. */
void blk_backend_count(const struct blk_backend *backend, struct blk_backend_counters *ret_counters);

/* Operations that failed, of all queues. NULL: of a null disk, none do. */
struct disk_errors *blk_backend_errors(struct blk_backend *backend);

/* What a queue's thread asks of the kernel for @engine, and so do threads that it makes. */
const struct sandbox_calls *blk_backend_system_calls(enum blk_engine engine);

/* "io_uring", "threads", "null": for people. */
const char *blk_engine_name(enum blk_engine engine);

#endif
