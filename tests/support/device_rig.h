/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Everything around a device model that a test needs: guest memory in two regions, queues with their arenas, a fake
 * driver for each. The test supplies the model and its port. For a host: it allocates, and ends the program when that
 * fails.
 */
#ifndef TESTS_SUPPORT_DEVICE_RIG_H
#define TESTS_SUPPORT_DEVICE_RIG_H

#include "fake_driver.h"
#include "virtio/virtio_device.h"
#include "window_access.h"

#define DEVICE_RIG_QUEUES_MAX 4

/* Two regions with a gap: rings and small things in the first, whatever a test asks for in the second. */
#define DEVICE_RIG_LOW_BASE UINT64_C(0x10000)
#define DEVICE_RIG_LOW_BYTES UINT64_C(0x80000)
#define DEVICE_RIG_HIGH_BASE UINT64_C(0x100000000)
#define DEVICE_RIG_HIGH_BYTES UINT64_C(0x400000)

struct device_rig_shape {
    uint16_t queues;      /* 0: 1 */
    uint32_t ring_size;   /* 0: 256 */
    uint16_t slots;       /* of each arena; 0: 64 */
    size_t request_bytes; /* the model's */
    bool event_idx;
    bool packed;
    bool in_order; /* the device must offer it */
    bool logged;   /* with a dirty log */
    bool windows;  /* memory that must be mapped before use (window_access.h), pages scattered; no gap then */
};

struct device_rig {
    struct device_rig_shape shape;
    struct virtio_device *device; /* set by device_rig_attach */
    struct guest_memory *map;
    struct window_access window;
    struct fake_memory low;
    struct fake_memory high;
    uint64_t low_used, high_used; /* handed out so far */
    struct dirty_log log;
    struct virtqueue queues[DEVICE_RIG_QUEUES_MAX];
    struct virtq_arena arenas[DEVICE_RIG_QUEUES_MAX];
    void *blocks[DEVICE_RIG_QUEUES_MAX];
    struct fake_driver *drivers; /* [queues] */
};

/* Memory, queues and drivers; the rings are laid out, nothing runs. */
void device_rig_init(struct device_rig *rig, const struct device_rig_shape *shape);

/* The model has been made on rig->queues: negotiate @features on top of the ring's own, and start every queue. */
void device_rig_attach(struct device_rig *rig, struct virtio_device *device, uint64_t features);

/* Start queue @index again, where it had stopped. */
void device_rig_start(struct device_rig *rig, unsigned index);

/* Show what was added to queue @index and run it, as after a kick. Returns the events. */
unsigned device_rig_run(struct device_rig *rig, unsigned index);
unsigned device_rig_wake(struct device_rig *rig, unsigned index);

void device_rig_done(struct device_rig *rig);

/* @bytes of guest memory that nobody else has, zeroed; aligned to 16. In the low or the high region. */
uint64_t device_rig_low(struct device_rig *rig, uint64_t bytes);
uint64_t device_rig_high(struct device_rig *rig, uint64_t bytes);

/* Where guest address @address is in this process. */
void *device_rig_host(const struct device_rig *rig, uint64_t address);

/* Is the page of guest address @address marked in the log? */
bool device_rig_is_dirty(const struct device_rig *rig, uint64_t address);

#endif
