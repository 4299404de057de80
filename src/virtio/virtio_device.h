/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The contract between a device model and whatever it is plugged into (VIRTIO 1.3, 2). A model is a pure state machine:
 * it is told, and answers. It makes no system call, allocates nothing, has no clock and no thread; the world reaches it
 * through a port that it declares itself.
 *
 * Transports and the platform call the virtio_device_* functions below; those call the model's class. The answer is a
 * set of events, acted on after the call has returned: never a callback inside a callback.
 *
 * Threads: run, wake, queue_start and queue_stop of one queue come from that queue's thread, different queues at the
 * same time. All else (features, configuration, reset, save, load) comes from the control thread: reset, save, load and
 * set_features with every queue stopped, configuration at any time. What queues share is immutable or atomic.
 */
#ifndef VIRTIO_VIRTIO_DEVICE_H
#define VIRTIO_VIRTIO_DEVICE_H

#include <stdatomic.h>

#include "base/state.h"
#include "virtio/virtqueue.h"

struct virtio_device;

/* What is to be done after a call. */
enum virtio_event {
    VIRTIO_EVENT_NOTIFY = 1,      /* interrupt the driver for this queue */
    VIRTIO_EVENT_AGAIN = 2,       /* the turn was used up: run this queue again, after the others had theirs */
    VIRTIO_EVENT_STOPPED = 4,     /* this queue was stopping and has now stopped */
    VIRTIO_EVENT_NEEDS_RESET = 8, /* the guest broke the rules on this queue; told once */
};

/* The most requests one call of run or wake handles, so that one queue cannot starve its loop. */
#define VIRTIO_BURST_DEFAULT 256

struct virtio_device_class {
    const char *name; /* "blk" */
    uint16_t id;      /* enum virtio_id */
    uint16_t queues_max;
    uint32_t config_bytes; /* size of the configuration space, at most 256 */
    size_t request_bytes;  /* the model's state for each request in flight */

    /* Device-type feature bits on offer. Ring and transport bits are added by who owns those. */
    uint64_t (*features)(const struct virtio_device *device);

    /*
     * Serve what is in the ring, at most @burst requests: pop, call the port with arrays, push. Returns > 0 when
     * stopped by the burst with more to do, 0 when there is nothing more to do now, -EPROTO when the guest is wrong.
     */
    int (*run)(struct virtio_device *device, struct virtqueue *queue, unsigned burst);

    /*
     * The port has something (completions, entropy, packets) or queue->wake_at_ns has come. Returns as run. A model
     * that had stopped popping for want of room or rate goes on here. Also called while the queue is stopping or
     * broken; pop gives nothing then. queue->wake_at_ns is 0 at every run and wake: set it again if it is still wanted.
     */
    int (*wake)(struct virtio_device *device, struct virtqueue *queue, unsigned burst);

    /* A queue has begun: may be NULL. */
    void (*queue_start)(struct virtio_device *device, struct virtqueue *queue);

    /* A queue begins to stop: cancel at the port what can be cancelled. May be NULL. */
    void (*queue_stop)(struct virtio_device *device, struct virtqueue *queue);

    /* The driver's choice, a subset of what was offered. -EINVAL: bits that do not go together. May be NULL. */
    int (*set_features)(struct virtio_device *device, uint64_t features);

    /* Copy @size bytes of the configuration space from @offset; the caller keeps both inside config_bytes. */
    void (*config_read)(const struct virtio_device *device, uint32_t offset, void *to, uint32_t size);

    /* The driver writes there. -EPERM: not a field it may write. May be NULL: nothing may be written. */
    int (*config_write)(struct virtio_device *device, uint32_t offset, const void *from, uint32_t size);

    /* Back to how init left it, but for what the host decided (a disk's size). May be NULL. */
    void (*reset)(struct virtio_device *device);

    /*
     * State other than the queues', as records whose tags are the model's own; @reader has these records alone, and
     * the features have been set. -ENOSPC, -EBADMSG as in state.h. May be NULL: there is none.
     */
    int (*save)(const struct virtio_device *device, struct state_writer *writer);
    int (*load)(struct virtio_device *device, struct state_reader *reader);
};

struct virtio_device {
    const struct virtio_device_class *class;
    struct virtqueue *queues; /* borrowed: [queue_count], initialised by the owner */
    uint16_t queue_count;
    uint64_t features; /* negotiated, ring and transport bits included */
    /* Grows whenever the device, not the driver, changes its configuration space (2.5). */
    _Atomic uint32_t config_generation;
    _Atomic bool needs_reset; /* some queue broke since the last reset */
    /*
     * Two features of the ring that are not for every device: set after init, by who makes the device.
     * VIRTIO_F_RING_PACKED: a front end that keeps no in-flight record cannot tell a back end's successor where it was
     * in such a ring (docs/decisions/0010-ring-features-on-offer.md). VIRTIO_F_IN_ORDER: it makes fast requests wait
     * for slow ones, so a device whose requests overtake each other rather does without.
     */
    bool offers_packed;
    bool offers_in_order;
};

/* Called by a model's init. @queues are borrowed and outlive the device. */
void virtio_device_init(struct virtio_device *device, const struct virtio_device_class *class, struct virtqueue *queues,
                        uint16_t queue_count);

/*
 * What the device offers: the model's bits and the ring's (INDIRECT_DESC, EVENT_IDX, VERSION_1, and RING_PACKED and
 * IN_ORDER where the device offers them).
 */
uint64_t virtio_device_features(const struct virtio_device *device);

/*
 * -EINVAL: bits that were not offered, or that the model refuses; nothing changes. Every queue is stopped. Where the
 * rings' layout changes, they are new ones, and every queue is to begin there (virtqueue_base_initial).
 */
int virtio_device_set_features(struct virtio_device *device, uint64_t features);

/* Start queue @index. Errors are virtqueue_start's. On the queue's thread. The caller runs the queue once afterwards.
 */
int virtio_device_queue_start(struct virtio_device *device, unsigned index, const struct virtqueue_config *config,
                              const struct guest_memory *memory, const struct dirty_log *log, void *inflight);

/*
 * Begin to stop queue @index; a stopped one answers at once. Returns events: with VIRTIO_EVENT_STOPPED it has stopped,
 * else a later run or wake says so.
 */
unsigned virtio_device_queue_stop(struct virtio_device *device, unsigned index);

/*
 * After a kick, or VIRTIO_EVENT_AGAIN. @burst is at least 1. A queue that does not run, or is broken, answers 0, unless
 * a wake of it ended with AGAIN: then that goes on here.
 */
unsigned virtio_device_run(struct virtio_device *device, unsigned index, unsigned burst);

/*
 * queue->attended has been cleared: turn kicks on. Answers VIRTIO_EVENT_AGAIN when something came meanwhile, and 0 when
 * it is safe to sleep.
 */
unsigned virtio_device_rest(struct virtio_device *device, unsigned index);

/* After the port has something or queue->wake_at_ns has come. */
unsigned virtio_device_wake(struct virtio_device *device, unsigned index, unsigned burst);

/*
 * The configuration space, for transports. Reading past its end gives zeros. Writing outside it, or where the model
 * does not allow it: -EINVAL, -EPERM.
 */
void virtio_device_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t size);
int virtio_device_config_write(struct virtio_device *device, uint32_t offset, const void *from, uint32_t size);

/* Every queue is stopped. Negotiated features, needs_reset and the queues' bases are forgotten, the model resets. */
void virtio_device_reset(struct virtio_device *device);

/* Tags of a saved device (state.h). The queue's is version 2, the others version 1. */
#define VIRTIO_STATE_DEVICE                                                                                            \
    0x00564544u                        /* first: device id u16, queues u16, features u64, config_generation u32,       \
                                          needs_reset u32 (0 or 1) */
#define VIRTIO_STATE_QUEUE 0x00555551u /* one a queue: index u16, virtqueue_base u32; in version 1 that was an u16 */
#define VIRTIO_STATE_MODEL 0x004c444du /* at most one: the records of the model's class->save, with tags of its own */

/*
 * Orderly transfer: features, the model's own state, and where each queue stands in its ring (virtqueue_base gives it
 * after load, for the transport that starts the queue). Every queue is stopped.
 * load: -EBADMSG when the bytes make no sense, -ENOTSUP when a newer version wrote them, -EINVAL when they belong to
 * another kind of device or its features are not on offer here; the device is then as after reset.
 */
int virtio_device_save(const struct virtio_device *device, struct state_writer *writer);
int virtio_device_load(struct virtio_device *device, struct state_reader *reader);

#endif
