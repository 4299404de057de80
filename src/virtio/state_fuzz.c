/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A saved device in strange bytes. Held against it: whatever the bytes, loading ends in a state that saves and loads
 * again to the same, or in a device as after reset.
 */
#include <errno.h>

#include "virtio/virtio_device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define QUEUES 3
#define MODEL_TAG 1

static struct virtio_device device;
static struct virtqueue queues[QUEUES];
static struct virtq_arena arenas[QUEUES]; /* never used: no queue is started */
static uint32_t value;

static uint64_t model_features(const struct virtio_device *self)
{
    (void)self;
    return 0xff;
}

static int model_run(struct virtio_device *self, struct virtqueue *queue, unsigned burst)
{
    (void)self;
    (void)queue;
    (void)burst;
    return 0;
}

static void model_reset(struct virtio_device *self)
{
    (void)self;
    value = 0;
}

static int model_save(const struct virtio_device *self, struct state_writer *writer)
{
    (void)self;
    return state_put(writer, MODEL_TAG, 1, &value, sizeof(value));
}

static int model_load(struct virtio_device *self, struct state_reader *reader)
{
    (void)self;
    struct state_record record;
    int r;
    while ((r = state_next(reader, &record)) > 0) {
        if (record.tag != MODEL_TAG)
            continue;
        if (record.length != sizeof(value))
            return -EBADMSG;
        memcpy(&value, record.payload, sizeof(value));
    }
    return r;
}

static const struct virtio_device_class model_class = {
    .name = "fuzz",
    .id = 42,
    .queues_max = QUEUES,
    .features = model_features,
    .run = model_run,
    .wake = model_run,
    .reset = model_reset,
    .save = model_save,
    .load = model_load,
};

static int load(const uint8_t *bytes, size_t size)
{
    struct state_reader reader = {.bytes = bytes, .size = size};
    return virtio_device_load(&device, &reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (unsigned i = 0; i < QUEUES; i++)
        virtqueue_init(&queues[i], &arenas[i]);
    virtio_device_init(&device, &model_class, queues, QUEUES);
    value = 0;

    int r = load(data, size);
    ASSERT(r == 0 || r == -EBADMSG || r == -ENOTSUP || r == -EINVAL);
    if (r < 0) {
        ASSERT(device.features == 0 && value == 0 && !atomic_load(&device.needs_reset));
        for (unsigned i = 0; i < QUEUES; i++)
            ASSERT(virtqueue_base(&queues[i]) == 0);
    }

    uint8_t first[256], second[256];
    struct state_writer writer = {.bytes = first, .size = sizeof(first)};
    r = virtio_device_save(&device, &writer);
    ASSERT(r == 0);
    r = load(first, writer.used);
    ASSERT(r == 0);
    struct state_writer again = {.bytes = second, .size = sizeof(second)};
    r = virtio_device_save(&device, &again);
    ASSERT(r == 0);
    ASSERT(again.used == writer.used && memcmp(first, second, writer.used) == 0);
    return 0;
}
