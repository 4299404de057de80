/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The front end as a transport sees it: struct virtio_backend. What is wanted is noted; frontend_sync() does the rest.
 */
#include <errno.h>

#include "transports/vhost_user/frontend_private.h"

static uint64_t features(const struct virtio_backend *virtio)
{
    return frontend_of_const(virtio)->offered;
}

static int set_features(struct virtio_backend *virtio, uint64_t chosen)
{
    struct vhost_user_frontend *frontend = frontend_of(virtio);
    if ((chosen & ~frontend->offered) != 0)
        return frontend_refuse(frontend, -EINVAL, "features that are not on offer");
    frontend->features = chosen;
    frontend->features_set = true;
    if (frontend->record_handle >= 0 && frontend->record_packed != frontend_packed(frontend))
        frontend_record_drop(frontend);
    frontend_sync(frontend);
    return 0;
}

static void status_changed(struct virtio_backend *virtio, uint8_t status)
{
    struct vhost_user_frontend *frontend = frontend_of(virtio);
    /* That bit is the device's own to set. */
    frontend->status = (uint8_t)(status & ~(unsigned)VIRTIO_STATUS_NEEDS_RESET);
    frontend_sync(frontend);
}

static uint32_t config_generation(const struct virtio_backend *virtio)
{
    return frontend_of_const(virtio)->config_generation;
}

static int queue_start(struct virtio_backend *virtio, unsigned index, const struct virtqueue_config *config, int notify)
{
    struct vhost_user_frontend *frontend = frontend_of(virtio);
    ASSERT(index < virtio->queue_count);
    struct vhost_user_frontend_queue *queue = &frontend->queues[index];
    ASSERT(!queue->wanted && !queue->stopping);
    if (notify < 0 && !virtio->notifies_listener)
        return frontend_refuse(frontend, -EINVAL, "a queue that notifies nobody");
    int r = frontend_ring_check(frontend, frontend->regions, frontend->region_count, config);
    if (r < 0)
        return r;
    if (queue->orphaned && config->base == virtqueue_base_initial(frontend->features))
        frontend_record_void(frontend, index);
    queue->orphaned = false;
    queue->resumed = false;
    queue->config = *config;
    queue->notify = notify;
    queue->wanted = true;
    frontend_sync(frontend);
    return 0;
}

/* Disabled first, so that it is not served again before all its parts have come anew. */
static void send_stop(struct vhost_user_frontend *frontend, unsigned index)
{
    struct vhost_user_message message = {
        .header = {.request = VHOST_USER_SET_VRING_ENABLE, .size = sizeof(struct vhost_user_vring_state)},
        .payload.state = {.index = index, .num = 0},
    };
    if ((frontend->told_features & VHOST_USER_F_PROTOCOL_FEATURES) != 0)
        frontend_send(frontend, &message, index);
    message.header.request = VHOST_USER_GET_VRING_BASE;
    frontend_send(frontend, &message, index);
}

static int queue_stop(struct virtio_backend *virtio, unsigned index)
{
    struct vhost_user_frontend *frontend = frontend_of(virtio);
    ASSERT(index < virtio->queue_count);
    struct vhost_user_frontend_queue *queue = &frontend->queues[index];
    if (queue->stopping)
        return -EINPROGRESS;
    if (!queue->wanted)
        return 0;
    queue->wanted = false;
    if (queue->told) {
        queue->stopping = true;
        send_stop(frontend, index);
        return -EINPROGRESS;
    }
    queue->base = queue->config.base;
    /* Nobody has it now. Where its last peer left it is found; if not, the device has been broken for that. */
    if (queue->resumed) {
        queue->base = virtqueue_base_initial(frontend->features);
        (void)frontend_find_base(frontend, index, &queue->base);
        queue->orphaned = true;
    }
    queue->resumed = false;
    return 0;
}

static uint32_t queue_base(const struct virtio_backend *virtio, unsigned index)
{
    ASSERT(index < virtio->queue_count);
    return frontend_of_const(virtio)->queues[index].base;
}

static int queue_notify_by(struct virtio_backend *virtio, unsigned index, int notify)
{
    struct vhost_user_frontend *frontend = frontend_of(virtio);
    ASSERT(index < virtio->queue_count);
    if (notify < 0 && !virtio->notifies_listener)
        return frontend_refuse(frontend, -EINVAL, "a queue that notifies nobody");
    frontend->queues[index].notify = notify;
    frontend_sync(frontend);
    return 0;
}

static int queue_kick_handle(struct virtio_backend *virtio, unsigned index)
{
    struct vhost_user_frontend *frontend = frontend_of(virtio);
    ASSERT(index < virtio->queue_count);
    return frontend->port->class->kick_handle(frontend->port, index);
}

static void queue_kick(struct virtio_backend *virtio, unsigned index)
{
    struct vhost_user_frontend *frontend = frontend_of(virtio);
    frontend->port->class->signal(frontend->port, queue_kick_handle(virtio, index));
}

/* The next driver finds the device as it is now, and new rings. */
static void forget_driver(struct vhost_user_frontend *frontend)
{
    frontend->features = 0;
    frontend->features_set = false;
    frontend->status = 0;
    frontend->is_broken = false;
    memset(&frontend->config_written, 0, sizeof(frontend->config_written));
    memset(&frontend->config_unsent, 0, sizeof(frontend->config_unsent));
    frontend_record_drop(frontend);
    frontend->without_record = false;
    for (unsigned i = 0; i < frontend->virtio.queue_count; i++) {
        frontend->queues[i].base = 0;
        frontend->queues[i].orphaned = false;
    }
}

static int reset(struct virtio_backend *virtio)
{
    struct vhost_user_frontend *frontend = frontend_of(virtio);
    for (unsigned i = 0; i < virtio->queue_count; i++)
        ASSERT(!frontend->queues[i].wanted && !frontend->queues[i].stopping);
    forget_driver(frontend);
    if (frontend->phase != VHOST_USER_FRONTEND_PRESENT)
        return 0;
    frontend->offered = frontend_offered(frontend);
    bool was_told = frontend->told_features != 0 || frontend->told_status != 0;
    frontend->told_features = 0;
    frontend->told_status = 0;
    if (!was_told)
        return 0;
    /* As far as it can be said: a peer with neither knows that its queues have stopped, and gets features anew. */
    if (frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_RESET_DEVICE))
        frontend_send_empty(frontend, VHOST_USER_RESET_DEVICE);
    else if (frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_STATUS))
        frontend_send_u64(frontend, VHOST_USER_SET_STATUS, 0);
    frontend_send_barrier(frontend);
    /* What it shows of itself may be as in the beginning again. */
    frontend->config_stale = !frontend->config_is_ours;
    frontend->resetting = frontend->due_count > 0;
    if (frontend->resetting)
        return -EINPROGRESS;
    frontend_sync(frontend);
    return 0;
}

const struct virtio_backend_class frontend_class = {
    .name = "vhost-user",
    .features = features,
    .set_features = set_features,
    .status_changed = status_changed,
    .config_read = frontend_config_read,
    .config_write = frontend_config_write,
    .config_generation = config_generation,
    .queue_start = queue_start,
    .queue_stop = queue_stop,
    .queue_base = queue_base,
    .queue_notify_by = queue_notify_by,
    .queue_kick = queue_kick,
    .queue_kick_handle = queue_kick_handle,
    .reset = reset,
};
