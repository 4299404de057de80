/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The queues of one device and the memory their requests live in. Address space is taken at once, memory when used. */
#ifndef PLATFORM_LINUX_DEVICE_QUEUES_H
#define PLATFORM_LINUX_DEVICE_QUEUES_H

#include "virtio/virtqueue.h"

struct device_arena;

/* Queues run on different threads, so that what one writes shares no cache line with what another does. */
struct device_queues {
    unsigned count;
    struct virtq_arena_shape shape;
    struct virtqueue *queues;    /* [count] */
    struct device_arena *arenas; /* [count], each queue's */
    uint8_t *memory;             /* of all arenas */
    size_t stride;               /* bytes from one arena's memory to the next */
    bool *prepared;              /* [count] */
};

/* @count queues, each with an arena of @shape. -ENOMEM. */
int device_queues_open(struct device_queues *queues, unsigned count, const struct virtq_arena_shape *shape);
/* Every queue has stopped. A half-made or closed one is fine. */
void device_queues_close(struct device_queues *queues);

/* Before a queue's first start, on any one thread: make its arena ready. Later calls do nothing. */
void device_queues_prepare(struct device_queues *queues, unsigned index);

#endif
