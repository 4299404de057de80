/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-template: a device that takes messages and answers nothing, to begin a new one from. One queue of
 * device-readable buffers. Requests complete in ring order.
 */
#ifndef DEVICES_TEMPLATE_TEMPLATE_H
#define DEVICES_TEMPLATE_TEMPLATE_H

#include "devices/template/virtio_template.h"
#include "virtio/virtio_device.h"

/* A message is copied to the stack, and a chain may list one page many times: longer ones arrive cut off. */
#define TEMPLATE_MESSAGE_BYTES_MAX 512

/* The port: where messages go. Used on the queue's thread; must not block. */
struct template_sink {
    const struct template_sink_class *class;
};

struct template_sink_class {
    /* Take a message of @size bytes, which may be 0. 0, or -EAGAIN: no room now, wake the queue later. */
    int (*take)(struct template_sink *sink, const void *message, size_t size);
};

struct template
{
    struct virtio_device device;
    struct template_sink *sink; /* borrowed: must outlive the device */
    /* counted, for statistics; written on the queue's thread */
    _Atomic uint64_t messages_total;
};

/* @queue is borrowed, initialised, and outlives the device. */
void template_init(struct template *template, struct virtqueue *queue, struct template_sink *sink);

/* What virtq_arena_shape.request_bytes must be for its queue. */
size_t template_request_bytes(void);

#endif
