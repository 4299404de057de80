/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* For fuzzers of models: what a loop does with VIRTIO_EVENT_AGAIN, and that it comes to rest. */
#ifndef TESTS_SUPPORT_DEVICE_TURNS_H
#define TESTS_SUPPORT_DEVICE_TURNS_H

#include "fake_driver.h"
#include "virtio/virtio_device.h"

/* A model may write into its own ring, and so find new requests for ever: that is the driver's wish. */
#define DEVICE_TURNS_MAX 32

/* Turns that lead to nothing: one, when requests came while the last one was served. */
#define DEVICE_IDLE_TURNS_MAX 1

/* Run queue @index as long as @events, and each answer that follows, ask for it: never for nothing. */
static inline void device_take_turns(struct virtio_device *device, unsigned index, unsigned burst, unsigned events)
{
    const struct virtqueue *queue = &device->queues[index];
    unsigned idle = 0;

    for (unsigned turn = 0; turn < DEVICE_TURNS_MAX && (events & VIRTIO_EVENT_AGAIN) != 0; turn++) {
        uint64_t popped = queue->popped_total;
        uint64_t pushed = queue->pushed_total;
        ASSERT(idle <= DEVICE_IDLE_TURNS_MAX);
        events = virtio_device_run(device, index, burst);
        idle = queue->popped_total == popped && queue->pushed_total == pushed ? idle + 1 : 0;
    }
}

/* May @driver take what the device gives back next? It ends the program over a head outside its ring. */
static inline bool driver_can_get(const struct fake_driver *driver)
{
    if (driver->packed)
        return le16_to_cpu(driver->ring[driver->next_used].id) < driver->size;
    return le32_to_cpu(driver->used->ring[driver->next_used % driver->size].id) < driver->size;
}

#endif
