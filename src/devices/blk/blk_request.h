/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* One request of the disk, from its header to its status byte (VIRTIO 1.3, 5.2.6). For blk.c alone. */
#ifndef DEVICES_BLK_BLK_REQUEST_H
#define DEVICES_BLK_BLK_REQUEST_H

#include "devices/blk/blk.h"

/* What the model keeps for each request in flight. Small: a busy disk has hundreds. */
struct blk_request {
    uint32_t bytes;    /* of data, for IN and OUT */
    uint16_t ios_left; /* operations that have not completed */
    uint8_t op;        /* enum blk_op */
    uint8_t status;    /* the worst so far */
};
static_assert(sizeof(struct blk_request) <= 32, "a slot of the arena must stay a fraction of a cache line");

/* One call of run or wake. */
struct blk_turn {
    struct blk *blk;
    struct virtqueue *queue;
    struct blk_queue *batch;
    struct blk_io *ios;     /* [BLK_BATCH_MAX], of the batch */
    unsigned index;         /* of the queue */
    uint32_t durable_flags; /* BLK_IO_DURABLE when the disk is write-through */
    bool limited;           /* there is a rate limit */
};

/* Only the queue's own thread adds, so no locked instruction is needed. */
static inline void blk_turn_count(struct blk_turn *turn, enum blk_counter which, uint64_t more)
{
    _Atomic uint64_t *counter = &turn->batch->counters[which];
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

enum blk_verdict {
    BLK_STARTED,    /* its operations stand in the batch */
    BLK_ANSWERED,   /* its status is written: push it */
    BLK_NO_ROOM,    /* the batch is full: put it back, submit, and pop it again */
    BLK_NOT_SO_FAST /* the rate limit says later: put it back; queue->wake_at_ns is set */
};

/* Judge and start one request. enum blk_verdict, or -EPROTO: no header or no status byte; put it back. */
int blk_request_start(struct blk_turn *turn, struct virtq_chain *chain);

/* One operation of @chain has completed with @result (struct blk_completion). True when it was the last: push it. */
bool blk_request_complete(struct blk_turn *turn, struct virtq_chain *chain, int result);

#endif
