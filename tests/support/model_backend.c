/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <errno.h>

#include "device_turns.h"
#include "model_backend.h"

static struct model_backend *of(const struct virtio_backend *backend)
{
    return container_of((uintptr_t)backend, struct model_backend, backend);
}

static uint64_t features(const struct virtio_backend *backend)
{
    return virtio_device_features(of(backend)->device);
}

static int set_features(struct virtio_backend *backend, uint64_t chosen)
{
    return virtio_device_set_features(of(backend)->device, chosen);
}

static void config_read(const struct virtio_backend *backend, uint32_t offset, void *to, uint32_t size)
{
    virtio_device_config_read(of(backend)->device, offset, to, size);
}

static int config_write(struct virtio_backend *backend, uint32_t offset, const void *from, uint32_t size)
{
    return virtio_device_config_write(of(backend)->device, offset, from, size);
}

static uint32_t config_generation(const struct virtio_backend *backend)
{
    return atomic_load(&of(backend)->device->config_generation);
}

static int queue_start(struct virtio_backend *backend, unsigned index, const struct virtqueue_config *config,
                       int notify)
{
    struct model_backend *model = of(backend);

    int r = virtio_device_queue_start(model->device, index, config, model->memory, NULL, NULL);
    model->notify[index] = notify;
    model->pending[index] = r == 0; /* it may have been kicked before */
    return r;
}

static int queue_stop(struct virtio_backend *backend, unsigned index)
{
    struct model_backend *model = of(backend);

    if ((virtio_device_queue_stop(model->device, index) & VIRTIO_EVENT_STOPPED) != 0)
        return 0;
    model->stopping[index] = true;
    return -EINPROGRESS;
}

static uint32_t queue_base(const struct virtio_backend *backend, unsigned index)
{
    return virtqueue_base(&of(backend)->device->queues[index]);
}

static int queue_notify_by(struct virtio_backend *backend, unsigned index, int notify)
{
    of(backend)->notify[index] = notify;
    return 0;
}

static void queue_kick(struct virtio_backend *backend, unsigned index)
{
    of(backend)->pending[index] = true;
}

static int queue_kick_handle(struct virtio_backend *backend, unsigned index)
{
    (void)backend;
    (void)index;
    return -1;
}

static int reset(struct virtio_backend *backend)
{
    virtio_device_reset(of(backend)->device);
    return 0;
}

static int save(const struct virtio_backend *backend, struct state_writer *writer)
{
    return virtio_device_save(of(backend)->device, writer);
}

static int load(struct virtio_backend *backend, struct state_reader *reader)
{
    return virtio_device_load(of(backend)->device, reader);
}

static const struct virtio_backend_class class = {
    .name = "model",
    .features = features,
    .set_features = set_features,
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
    .save = save,
    .load = load,
};

void model_backend_init(struct model_backend *model, struct virtio_device *device, const struct guest_memory *memory,
                        uint32_t queue_size_max)
{
    ASSERT(device->queue_count <= MODEL_BACKEND_QUEUES_MAX);
    *model = (struct model_backend){
        .backend =
            {
                .class = &class,
                .device_id = device->class->id,
                .queue_count = device->queue_count,
                .queue_size_max = queue_size_max,
                .config_bytes = device->class->config_bytes,
                .notifies_listener = true,
            },
        .device = device,
        .memory = memory,
    };
}

static void act(struct model_backend *model, unsigned index, unsigned events)
{
    struct virtio_listener *listener = model->backend.listener;

    if ((events & VIRTIO_EVENT_NOTIFY) != 0 && model->notify[index] < 0)
        listener->class->queue_notify(listener, index);
    else if ((events & VIRTIO_EVENT_NOTIFY) != 0)
        model->signals[index]++;
    if ((events & VIRTIO_EVENT_AGAIN) != 0)
        model->pending[index] = true;
    if ((events & VIRTIO_EVENT_NEEDS_RESET) != 0)
        listener->class->broken(listener);
    if ((events & VIRTIO_EVENT_STOPPED) != 0 && model->stopping[index]) {
        model->stopping[index] = false;
        listener->class->queue_stopped(listener, index);
    }
}

void model_backend_run(struct model_backend *model)
{
    for (unsigned turn = 0; turn < DEVICE_TURNS_MAX; turn++) {
        bool idle = true;
        for (unsigned i = 0; i < model->device->queue_count; i++) {
            if (!model->pending[i])
                continue;
            idle = false;
            model->pending[i] = false;
            act(model, i, virtio_device_run(model->device, i, VIRTIO_BURST_DEFAULT));
        }
        if (idle)
            return;
    }
}

void model_backend_wake(struct model_backend *model, unsigned index)
{
    act(model, index, virtio_device_wake(model->device, index, VIRTIO_BURST_DEFAULT));
    model_backend_run(model);
}
