/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device model as a back end, in one thread: for tests in which requests really flow through a transport. What a
 * platform does on threads happens in model_backend_run: queues that were kicked are served, and the listener hears of
 * interrupts, stops and broken rings, never from inside a call of the transport.
 */
#ifndef TESTS_SUPPORT_MODEL_BACKEND_H
#define TESTS_SUPPORT_MODEL_BACKEND_H

#include "virtio/virtio_backend.h"

#define MODEL_BACKEND_QUEUES_MAX 4

struct model_backend {
    struct virtio_backend backend;
    struct virtio_device *device;            /* borrowed; its queues are initialised */
    const struct guest_memory *memory;       /* borrowed */
    bool pending[MODEL_BACKEND_QUEUES_MAX];  /* kicked */
    bool stopping[MODEL_BACKEND_QUEUES_MAX]; /* the listener waits */
    int notify[MODEL_BACKEND_QUEUES_MAX];
    unsigned signals[MODEL_BACKEND_QUEUES_MAX]; /* of the handle that was given */
};

void model_backend_init(struct model_backend *model, struct virtio_device *device, const struct guest_memory *memory,
                        uint32_t queue_size_max);
/* Serve what was kicked until nothing is left. */
void model_backend_run(struct model_backend *model);
/* The port of the model has something for queue @index. */
void model_backend_wake(struct model_backend *model, unsigned index);

#endif
