/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The other side of a ring at its barest: a thread that hands back whatever it finds. It takes heads and writes used
 * entries; it reads no descriptor, no header, and writes no status. No back end can serve this driver faster than that,
 * so what the driver reaches here is its own ceiling.
 */
#ifndef BENCH_BENCH_CEILING_H
#define BENCH_BENCH_CEILING_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench_options.h"
#include "fake_driver.h"

struct bench_ceiling_queue {
    struct fake_driver *driver; /* borrowed, for where the ring is */
    int call;                   /* eventfd, borrowed */
    uint16_t next;              /* in the available and in the used ring; packed: position */
    uint16_t called;            /* next, when the driver was last asked whether it wants a call */
    uint16_t looks;             /* that found something, but no batch */
    uint16_t avail_mark;        /* packed: the flags that say available on this lap */
};

struct bench_ceiling {
    pthread_t thread;
    clockid_t cpu; /* the thread's */
    atomic_bool stop;
    bool calls;     /* the driver may sleep */
    unsigned batch; /* handed back at a time, if that many are to be had */
    unsigned queue_count;
    struct bench_ceiling_queue queues[BENCH_QUEUES_MAX];
};

/* Fill queues and queue_count first. -errno when there is no thread, or no such processor. */
int bench_ceiling_start(struct bench_ceiling *ceiling, const struct bench_options *options);
void bench_ceiling_stop(struct bench_ceiling *ceiling);

#endif
