/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The blk port to nowhere: every operation is done when submit returns, and no data is touched. It measures everything
 * but the disk. See blk_backend.h for the rules of all ports.
 */
#ifndef PLATFORM_LINUX_BLK_NULL_H
#define PLATFORM_LINUX_BLK_NULL_H

#include "devices/blk/blk.h"

struct blk_backend_counters;
struct blk_null_queue;

struct blk_null {
    struct blk_port port;
    unsigned queue_count;
    struct blk_null_queue *queues; /* [queue_count], owned */
};

/* -ENOMEM. */
int blk_null_open(struct blk_null *null, unsigned queues, unsigned depth);
void blk_null_close(struct blk_null *null);
bool blk_null_ready(const struct blk_null *null, unsigned queue);
void blk_null_count(const struct blk_null *null, struct blk_backend_counters *ret_counters);

#endif
