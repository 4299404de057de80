/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device as a transport (virtio-mmio, virtio-pci) sees it, wherever its queues are served: by a model in this
 * process, by a vhost-user back end in another one, by the kernel's vhost. The transport is the driver's counterpart
 * for everything but the data: status, features, where the rings are. Kicks and notifications pass it by where they
 * can: both are handles that whoever owns the machine connects directly (ioeventfd, irqfd).
 *
 * What takes time (a stop waits for I/O in flight, a peer may have to answer) ends with a call of the listener, never
 * from inside the function that began it. Handles are opaque integers, -1 being none.
 *
 * Threads: all functions are called, and all calls of the listener are made, by one thread at a time (in the VMM: under
 * the machine's lock), but for listener->queue_notify.
 */
#ifndef VIRTIO_VIRTIO_BACKEND_H
#define VIRTIO_VIRTIO_BACKEND_H

#include "virtio/virtio_device.h"

struct virtio_backend;

/* What a back end tells its transport. */
struct virtio_listener {
    const struct virtio_listener_class *class;
};

struct virtio_listener_class {
    /*
     * Queue @index wants to interrupt the driver and has no notification handle. On the queue's thread, at the same
     * time as anything else: what it touches is atomic.
     */
    void (*queue_notify)(struct virtio_listener *listener, unsigned index);
    /* A stop that answered -EINPROGRESS is done: nothing of the queue touches guest memory any more. */
    void (*queue_stopped)(struct virtio_listener *listener, unsigned index);
    /* The driver broke the rules there (2.1.1, DEVICE_NEEDS_RESET), or the back end cannot go on. */
    void (*broken)(struct virtio_listener *listener);
    /* A reset that answered -EINPROGRESS is done. */
    void (*reset_done)(struct virtio_listener *listener);
    /* The configuration space has changed, and config_generation with it (2.5). */
    void (*config_changed)(struct virtio_listener *listener);
};

/* A shared memory region (2.10). */
struct virtio_shared_region {
    uint8_t id;
    uint64_t size;
    uint8_t *host; /* where the guest's view of it begins in this process; NULL: nothing can be reached yet */
};

struct virtio_backend_class {
    const char *name; /* "local", "vhost-user": for messages */

    /* All bits on offer, ring features included; transports add their own. Constant while the driver is at work. */
    uint64_t (*features)(const struct virtio_backend *backend);
    /* The driver's choice; every queue is stopped. -EINVAL: these do not go together. */
    int (*set_features)(struct virtio_backend *backend, uint64_t features);
    /*
     * The device status has changed (2.1); 0 does not come here but as reset. For back ends that want to know. May be
     * NULL.
     */
    void (*status_changed)(struct virtio_backend *backend, uint8_t status);

    /* The configuration space: as virtio_device_config_read and _write. Never blocks: a remote device's is kept here.
     */
    void (*config_read)(const struct virtio_backend *backend, uint32_t offset, void *to, uint32_t size);
    int (*config_write)(struct virtio_backend *backend, uint32_t offset, const void *from, uint32_t size);
    uint32_t (*config_generation)(const struct virtio_backend *backend);

    /*
     * Start queue @index; @notify is the handle that is signalled for the driver (borrowed until the queue has stopped
     * or queue_notify_by is called), or -1: the listener is told instead, which only back ends with
     * @notifies_listener can do. Errors are virtqueue_start's, and those of the way to a remote device; the queue is
     * then stopped. A device that is away for the moment (reconnect) accepts the start and carries it out when it is
     * back.
     */
    int (*queue_start)(struct virtio_backend *backend, unsigned index, const struct virtqueue_config *config,
                       int notify);
    /*
     * Begin to stop it. 0: it has stopped. -EINPROGRESS: listener->queue_stopped comes. A stopped queue: 0.
     */
    int (*queue_stop)(struct virtio_backend *backend, unsigned index);
    /* Where the stopped queue is in its ring (virtqueue_base); what a later start is to be given. */
    uint32_t (*queue_base)(const struct virtio_backend *backend, unsigned index);
    /* The queue's notifications go there from now on: an interrupt vector has changed. As in queue_start. */
    int (*queue_notify_by)(struct virtio_backend *backend, unsigned index, int notify);
    /* The driver kicked and no doorbell caught it. Never blocks. */
    void (*queue_kick)(struct virtio_backend *backend, unsigned index);
    /*
     * The handle whose signal is a kick, for a doorbell; owned by the back end, the same for as long as it lives. -1:
     * there is none, kick by queue_kick.
     */
    int (*queue_kick_handle)(struct virtio_backend *backend, unsigned index);

    /* Every queue is stopped. 0: done, as new. -EINPROGRESS: listener->reset_done comes. */
    int (*reset)(struct virtio_backend *backend);

    /* Shared memory region @index of those there are; -ENOENT: no more. May be NULL: none. */
    int (*shared_region)(const struct virtio_backend *backend, unsigned index, struct virtio_shared_region *ret_region);

    /*
     * The device's own state for a snapshot, every queue being stopped; records as virtio_device_save's. -ENOTSUP: this
     * back end cannot. May be NULL: it cannot.
     */
    int (*save)(const struct virtio_backend *backend, struct state_writer *writer);
    int (*load)(struct virtio_backend *backend, struct state_reader *reader);
};

struct virtio_backend {
    const struct virtio_backend_class *class;
    struct virtio_listener *listener; /* borrowed; set by the transport before anything is started */
    uint16_t device_id;               /* enum virtio_id */
    uint16_t queue_count;
    uint32_t queue_size_max; /* entries, a power of two */
    uint32_t config_bytes;   /* of the configuration space */
    bool notifies_listener;  /* queue_start takes -1 for @notify */
};

#endif
