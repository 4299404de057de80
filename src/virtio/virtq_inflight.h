/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Inside the virtqueue: the in-flight record of a split ring ("Inflight I/O tracking" in vhost-user's text). Every call
 * is for a queue that has a record. Nobody outside virtio/ includes this.
 */
#ifndef VIRTIO_VIRTQ_INFLIGHT_H
#define VIRTIO_VIRTQ_INFLIGHT_H

#include "virtio/virtqueue.h"

/* Stores and loads on both sides of it stay there, as far as the compiler is concerned. */
static inline void compiler_barrier(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/*
 * A life begins, the ring's used index being @used_index: make a new record ready, or find out what is in flight and
 * where the queue goes on (next_avail). -EPROTO: the record contradicts itself or the ring.
 */
int virtq_inflight_begin(struct virtqueue *queue, uint16_t used_index);

static inline struct virtq_record_split *virtq_inflight_record(const struct virtqueue *queue)
{
    return queue->inflight;
}

/* @head was popped: its counter first, so that a set flag never has an old one. */
static inline void virtq_inflight_pop(struct virtqueue *queue, uint16_t head)
{
    struct virtq_record_split_entry *desc = &virtq_inflight_record(queue)->desc[head];
    desc->counter = queue->inflight_counter++;
    compiler_barrier();
    desc->inflight = 1;
    compiler_barrier();
}

/* @head goes back into the available ring. */
static inline void virtq_inflight_unpop(struct virtqueue *queue, uint16_t head)
{
    compiler_barrier();
    virtq_inflight_record(queue)->desc[head].inflight = 0;
}

/* @head stands in the used ring, and is part of the batch that is shown next. */
static inline void virtq_inflight_push(struct virtqueue *queue, uint16_t head)
{
    virtq_inflight_record(queue)->desc[head].next = virtq_inflight_record(queue)->last_batch_head;
    compiler_barrier();
    virtq_inflight_record(queue)->last_batch_head = head;
}

/* The used ring's index has been moved over a batch of @count, to @used_index: none of it is in flight. */
void virtq_inflight_shown(struct virtqueue *queue, uint16_t count, uint16_t used_index);

/*
 * The recorded request that is to be popped next, while queue->resubmit_left is not 0. False: there is none, contrary
 * to what there was. virtq_inflight_taken() says that it was popped, virtq_inflight_put_back() that it is to come
 * again.
 */
bool virtq_inflight_next(const struct virtqueue *queue, uint16_t *ret_head, uint64_t *ret_counter);
void virtq_inflight_taken(struct virtqueue *queue, uint16_t head, uint64_t counter);
void virtq_inflight_put_back(struct virtqueue *queue, uint16_t head);

#endif
