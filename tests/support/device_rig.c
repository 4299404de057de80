/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdlib.h>

#include "device_rig.h"

#define PAGE_BYTES 4096

/* The low region is all that a test logs: a log up to the high one would have gaps of gigabytes. */
#define LOG_BYTES ((DEVICE_RIG_LOW_BASE + DEVICE_RIG_LOW_BYTES) / DIRTY_LOG_PAGE_BYTES / 8)

static void *allocate(size_t bytes)
{
    void *block = aligned_alloc(PAGE_BYTES, (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
    if (block == NULL)
        abort();
    memset(block, 0, bytes);
    return block;
}

static struct fake_memory make_region(struct device_rig *rig, uint64_t base, uint64_t size)
{
    struct fake_memory memory = {.guest_base = base, .size = size, .host = allocate(size)};
    struct guest_region region = {
        .guest_base = base,
        .size = size,
        .frontend_base = base,
        .host = memory.host,
    };

    if (guest_memory_add(rig->map, &region) != 0)
        abort();
    return memory;
}

static void make_memory(struct device_rig *rig)
{
    if (!rig->shape.windows) {
        guest_memory_init(rig->map, NULL);
        rig->low = make_region(rig, DEVICE_RIG_LOW_BASE, DEVICE_RIG_LOW_BYTES);
        rig->high = make_region(rig, DEVICE_RIG_HIGH_BASE, DEVICE_RIG_HIGH_BYTES);
        return;
    }
    uint64_t high_base = DEVICE_RIG_LOW_BASE + DEVICE_RIG_LOW_BYTES;
    window_access_open(&rig->window, DEVICE_RIG_LOW_BASE, DEVICE_RIG_LOW_BYTES + DEVICE_RIG_HIGH_BYTES,
                       WINDOW_SCATTERED);
    window_access_memory(&rig->window, rig->map);
    rig->low = (struct fake_memory){DEVICE_RIG_LOW_BASE, DEVICE_RIG_LOW_BYTES, rig->window.guest_side};
    rig->high = (struct fake_memory){high_base, DEVICE_RIG_HIGH_BYTES, rig->window.guest_side + DEVICE_RIG_LOW_BYTES};
}

static uint64_t ring_features(const struct device_rig *rig)
{
    return VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (rig->shape.event_idx ? VIRTIO_F_EVENT_IDX : 0) |
           (rig->shape.packed ? VIRTIO_F_RING_PACKED : 0) | (rig->shape.in_order ? VIRTIO_F_IN_ORDER : 0);
}

static void make_queue(struct device_rig *rig, unsigned index)
{
    struct virtq_arena_shape arena = {
        .slots = rig->shape.slots,
        .medium_runs = 8,
        .long_runs = 2,
        .request_bytes = rig->shape.request_bytes,
    };

    rig->blocks[index] = allocate(virtq_arena_bytes(&arena));
    virtq_arena_init(&rig->arenas[index], &arena, rig->blocks[index]);
    virtqueue_init(&rig->queues[index], &rig->arenas[index]);
    uint64_t ring = device_rig_low(rig, fake_driver_ring_bytes(rig->shape.ring_size));
    fake_driver_init(&rig->drivers[index], &rig->low, ring, rig->shape.ring_size, ring_features(rig));
}

void device_rig_init(struct device_rig *rig, const struct device_rig_shape *shape)
{
    *rig = (struct device_rig){.shape = *shape};
    if (rig->shape.queues == 0)
        rig->shape.queues = 1;
    if (rig->shape.ring_size == 0)
        rig->shape.ring_size = 256;
    if (rig->shape.slots == 0)
        rig->shape.slots = 64;
    ASSERT(rig->shape.queues <= DEVICE_RIG_QUEUES_MAX);

    rig->map = allocate(sizeof(*rig->map));
    make_memory(rig);
    rig->log = (struct dirty_log){.bits = allocate(LOG_BYTES), .size_bytes = LOG_BYTES};
    rig->drivers = allocate(rig->shape.queues * sizeof(*rig->drivers));
    for (unsigned i = 0; i < rig->shape.queues; i++)
        make_queue(rig, i);
}

void device_rig_attach(struct device_rig *rig, struct virtio_device *device, uint64_t features)
{
    rig->device = device;
    if (virtio_device_set_features(device, features | ring_features(rig)) != 0)
        abort();
    for (unsigned i = 0; i < rig->shape.queues; i++)
        device_rig_start(rig, i);
}

void device_rig_start(struct device_rig *rig, unsigned index)
{
    struct virtqueue_config config = fake_driver_config(&rig->drivers[index], rig->device->features);

    config.base = virtqueue_base(&rig->queues[index]);
    if (virtio_device_queue_start(rig->device, index, &config, rig->map, rig->shape.logged ? &rig->log : NULL, NULL))
        abort();
}

unsigned device_rig_run(struct device_rig *rig, unsigned index)
{
    fake_driver_show(&rig->drivers[index]);
    return virtio_device_run(rig->device, index, VIRTIO_BURST_DEFAULT);
}

unsigned device_rig_wake(struct device_rig *rig, unsigned index)
{
    return virtio_device_wake(rig->device, index, VIRTIO_BURST_DEFAULT);
}

void device_rig_done(struct device_rig *rig)
{
    for (unsigned i = 0; i < rig->shape.queues; i++)
        free(rig->blocks[i]);
    free(rig->drivers);
    free(rig->log.bits);
    if (rig->shape.windows) {
        window_access_close(&rig->window);
    } else {
        free(rig->high.host);
        free(rig->low.host);
    }
    free(rig->map);
}

static uint64_t take(const struct fake_memory *memory, uint64_t *used, uint64_t bytes)
{
    uint64_t start = align_up(*used, 16);

    ASSERT(range_within(start, bytes, memory->size));
    *used = start + bytes;
    return memory->guest_base + start;
}

uint64_t device_rig_low(struct device_rig *rig, uint64_t bytes)
{
    return take(&rig->low, &rig->low_used, bytes);
}

uint64_t device_rig_high(struct device_rig *rig, uint64_t bytes)
{
    return take(&rig->high, &rig->high_used, bytes);
}

void *device_rig_host(const struct device_rig *rig, uint64_t address)
{
    if (address >= rig->high.guest_base) {
        ASSERT(address - rig->high.guest_base < rig->high.size);
        return rig->high.host + (address - rig->high.guest_base);
    }
    ASSERT(address >= rig->low.guest_base && address - rig->low.guest_base < rig->low.size);
    return rig->low.host + (address - rig->low.guest_base);
}

bool device_rig_is_dirty(const struct device_rig *rig, uint64_t address)
{
    uint64_t page = address / DIRTY_LOG_PAGE_BYTES;

    ASSERT(page / 8 < rig->log.size_bytes);
    return (rig->log.bits[page / 8] >> (page % 8) & 1) != 0;
}
