/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A stranger's device as a struct virtio_device: between the callbacks of include/backplane/device.h and the queues.
 * See there for who may call what.
 */
#ifndef LIBRARY_DEVICE_H
#define LIBRARY_DEVICE_H

#include <backplane/device.h>
#include <pthread.h>
#include <stdalign.h>

#include "platform/linux/device_queues.h"
#include "virtio/virtio_device.h"

struct backplane_request {
    struct backplane_device *device;
    struct virtq_chain *chain;
    struct backplane_request *next; /* of those completed, under the queue's lock */
    uint16_t queue;
    bool held; /* out of serve and not completed: under the queue's lock once serve has returned */
    alignas(max_align_t) uint8_t storage[];
};

struct backplane_device_queue {
    int handle; /* eventfd: something was completed, or the device may be asked again */
    pthread_mutex_t lock;
    struct backplane_request *completed; /* under lock; the last one first */
};

struct backplane_device {
    struct virtio_device device;
    struct virtio_device_class device_class; /* made of class: each device is of its own kind */
    struct backplane_device_class class;
    void *context;
    struct device_queues queues;
    struct backplane_device_queue sides[BACKPLANE_QUEUES_MAX];
    unsigned side_count; /* of sides that were made */
    bool served;
};

/* For the server: the handle to watch for queue @index of the device @context. */
int device_port_handle(void *context, unsigned index);

#endif
