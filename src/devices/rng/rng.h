/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-rng: entropy for the guest (VIRTIO 1.3, 5.4). One queue of device-writable buffers. Requests complete in ring
 * order, since vhost-user front ends keep no in-flight record for this device.
 */
#ifndef DEVICES_RNG_RNG_H
#define DEVICES_RNG_RNG_H

#include "base/rate_limit.h"
#include "virtio/virtio_device.h"

/* A chain may list one page many times, so its length is no bound: this is. The driver asks again for more. */
#define RNG_REQUEST_BYTES_MAX 1024

/* The port: where entropy comes from. Used on the queue's thread; must not block. */
struct entropy_source {
    const struct entropy_source_class *class;
};

struct entropy_source_class {
    /*
     * Write 1 to @size bytes to @buffer and return how many. -EAGAIN: nothing now, wake the queue later. Any other
     * error: the source is gone; the request is put back and stays there, the guest waits.
     */
    int (*read)(struct entropy_source *source, void *buffer, size_t size);
    uint64_t (*now_ns)(struct entropy_source *source); /* a clock that never goes back */
};

struct rng {
    struct virtio_device device;
    struct entropy_source *source; /* borrowed: must outlive the device */
    struct rate_limit rate;        /* bytes */
    uint64_t retry_at_ns;          /* the source failed: not to be asked before; 0: at any time */
    /* counted, for statistics; written on the queue's thread */
    _Atomic uint64_t bytes_total;
    _Atomic uint64_t requests_total;
    _Atomic uint64_t source_errors_total;
};

/* @queue is borrowed, initialised, and outlives the device. @rate_bytes_per_s 0: no limit. */
void rng_init(struct rng *rng, struct virtqueue *queue, struct entropy_source *source, uint64_t rate_bytes_per_s);

/* What virtq_arena_shape.request_bytes must be for its queue. */
size_t rng_request_bytes(void);

#endif
