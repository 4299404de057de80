/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <errno.h>

#include "fake_backend.h"

#define WRITABLE_BYTES 8
#define STATE_TAG 0x454b4146u /* "FAKE": what may be written of the configuration, features u64 */
#define STATE_BYTES (WRITABLE_BYTES + 8)

static struct fake_backend *of(const struct virtio_backend *backend)
{
    return container_of((uintptr_t)backend, struct fake_backend, backend);
}

static struct fake_backend_queue *queue_at(const struct virtio_backend *backend, unsigned index)
{
    ASSERT(index < backend->queue_count);
    return &of(backend)->queues[index];
}

static bool all_stopped(const struct fake_backend *fake)
{
    for (unsigned i = 0; i < FAKE_BACKEND_QUEUES; i++)
        if (fake->queues[i].state != FAKE_STOPPED)
            return false;
    return true;
}

static uint64_t features(const struct virtio_backend *backend)
{
    return of(backend)->offers;
}

static int set_features(struct virtio_backend *backend, uint64_t chosen)
{
    struct fake_backend *fake = of(backend);

    ASSERT(all_stopped(fake) && !fake->resetting && (chosen & ~fake->offers) == 0);
    if (fake->features_error != 0)
        return fake->features_error;
    fake->features = chosen;
    fake->features_set = true;
    return 0;
}

static void status_changed(struct virtio_backend *backend, uint8_t status)
{
    ASSERT(status != 0);
    of(backend)->status = status;
}

static void config_read(const struct virtio_backend *backend, uint32_t offset, void *to, uint32_t size)
{
    ASSERT(range_within(offset, size, FAKE_BACKEND_CONFIG_BYTES));
    memcpy(to, of(backend)->config + offset, size);
}

static int config_write(struct virtio_backend *backend, uint32_t offset, const void *from, uint32_t size)
{
    struct fake_backend *fake = of(backend);

    ASSERT(range_within(offset, size, FAKE_BACKEND_CONFIG_BYTES));
    if (!range_within(offset, size, WRITABLE_BYTES))
        return -EPERM;
    memcpy(fake->config + offset, from, size);
    fake->config_writes++;
    return 0;
}

static uint32_t config_generation(const struct virtio_backend *backend)
{
    return of(backend)->generation;
}

static int queue_start(struct virtio_backend *backend, unsigned index, const struct virtqueue_config *config,
                       int notify)
{
    struct fake_backend *fake = of(backend);
    struct fake_backend_queue *queue = queue_at(backend, index);

    ASSERT(queue->state == FAKE_STOPPED && !fake->resetting && fake->features_set);
    ASSERT(config->features == fake->features && config->size > 0 && config->size <= FAKE_BACKEND_SIZE_MAX);
    ASSERT(notify >= 0 || (notify == -1 && backend->notifies_listener));
    if (fake->start_error != 0)
        return fake->start_error;
    queue->config = *config;
    queue->base = config->base;
    queue->notify = notify;
    queue->state = FAKE_RUNNING;
    queue->starts++;
    return 0;
}

static int queue_stop(struct virtio_backend *backend, unsigned index)
{
    struct fake_backend_queue *queue = queue_at(backend, index);

    if (queue->state == FAKE_STOPPED)
        return 0;
    ASSERT(queue->state == FAKE_RUNNING);
    queue->stops++;
    queue->state = of(backend)->stops_later ? FAKE_STOPPING : FAKE_STOPPED;
    return queue->state == FAKE_STOPPING ? -EINPROGRESS : 0;
}

static uint32_t queue_base(const struct virtio_backend *backend, unsigned index)
{
    ASSERT(queue_at(backend, index)->state == FAKE_STOPPED);
    return queue_at(backend, index)->base;
}

static int queue_notify_by(struct virtio_backend *backend, unsigned index, int notify)
{
    struct fake_backend_queue *queue = queue_at(backend, index);

    ASSERT(queue->state != FAKE_STOPPED);
    if (of(backend)->reroute_error != 0)
        return of(backend)->reroute_error;
    queue->notify = notify;
    queue->reroutes++;
    return 0;
}

static void queue_kick(struct virtio_backend *backend, unsigned index)
{
    ASSERT(queue_at(backend, index)->state == FAKE_RUNNING);
    queue_at(backend, index)->kicks++;
}

static int queue_kick_handle(struct virtio_backend *backend, unsigned index)
{
    return of(backend)->has_kick_handles ? FAKE_KICK_HANDLE + (int)index : -1;
}

static int reset(struct virtio_backend *backend)
{
    struct fake_backend *fake = of(backend);

    ASSERT(all_stopped(fake) && !fake->resetting);
    fake->resets++;
    fake->features = 0;
    fake->features_set = false;
    fake->status = 0;
    fake->resetting = fake->resets_later;
    return fake->resetting ? -EINPROGRESS : 0;
}

static int shared_region(const struct virtio_backend *backend, unsigned index, struct virtio_shared_region *ret_region)
{
    if (index >= of(backend)->region_count)
        return -ENOENT;
    *ret_region = of(backend)->regions[index];
    return 0;
}

static int save(const struct virtio_backend *backend, struct state_writer *writer)
{
    ASSERT(all_stopped(of(backend)));
    if (of(backend)->save_error != 0)
        return of(backend)->save_error;
    uint8_t record[STATE_BYTES];
    memcpy(record, of(backend)->config, WRITABLE_BYTES);
    put_le64(record + WRITABLE_BYTES, of(backend)->features);
    return state_put(writer, STATE_TAG, 1, record, sizeof(record));
}

static int load(struct virtio_backend *backend, struct state_reader *reader)
{
    struct state_record record;

    ASSERT(all_stopped(of(backend)));
    if (state_next(reader, &record) != 1 || record.tag != STATE_TAG || record.length != STATE_BYTES)
        return -EBADMSG;
    memcpy(of(backend)->config, record.payload, WRITABLE_BYTES);
    of(backend)->features = get_le64(record.payload + WRITABLE_BYTES);
    return 0;
}

static const struct virtio_backend_class class = {
    .name = "fake",
    .features = features,
    .set_features = set_features,
    .status_changed = status_changed,
    .config_read = config_read,
    .config_write = config_write,
    .config_generation = config_generation,
    .queue_start = queue_start,
    .queue_stop = queue_stop,
    .queue_base = queue_base,
    .queue_notify_by = queue_notify_by,
    .queue_kick = queue_kick,
    .queue_kick_handle = queue_kick_handle,
    .reset = reset,
    .shared_region = shared_region,
    .save = save,
    .load = load,
};

void fake_backend_init(struct fake_backend *fake)
{
    *fake = (struct fake_backend){
        .backend =
            {
                .class = &class,
                .device_id = VIRTIO_ID_BLOCK,
                .queue_count = FAKE_BACKEND_QUEUES,
                .queue_size_max = FAKE_BACKEND_SIZE_MAX,
                .config_bytes = FAKE_BACKEND_CONFIG_BYTES,
                .notifies_listener = true,
            },
        .offers = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_RING_PACKED | 1,
        .has_kick_handles = true,
    };
    for (unsigned i = 0; i < FAKE_BACKEND_QUEUES; i++)
        fake->queues[i].notify = -2;
    for (unsigned i = 0; i < FAKE_BACKEND_CONFIG_BYTES; i++)
        fake->config[i] = (uint8_t)(0x10 + i);
}

void fake_backend_finish_stop(struct fake_backend *fake, unsigned index)
{
    ASSERT(fake->queues[index].state == FAKE_STOPPING);
    fake->queues[index].state = FAKE_STOPPED;
    fake->backend.listener->class->queue_stopped(fake->backend.listener, index);
}

void fake_backend_finish_reset(struct fake_backend *fake)
{
    ASSERT(fake->resetting);
    fake->resetting = false;
    fake->backend.listener->class->reset_done(fake->backend.listener);
}

void fake_backend_notify(struct fake_backend *fake, unsigned index)
{
    ASSERT(fake->queues[index].state != FAKE_STOPPED && fake->queues[index].notify == -1);
    fake->backend.listener->class->queue_notify(fake->backend.listener, index);
}

void fake_backend_break(struct fake_backend *fake)
{
    fake->backend.listener->class->broken(fake->backend.listener);
}

void fake_backend_change_config(struct fake_backend *fake, unsigned offset, uint8_t value)
{
    fake->config[offset] = value;
    fake->generation++;
    fake->backend.listener->class->config_changed(fake->backend.listener);
}
