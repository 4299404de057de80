/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A driver's read of the configuration space cannot wait for another process, so the space is kept here. It is asked
 * for in the greeting, after each write of the driver, and when the peer says that it has changed. What the driver
 * writes is seen by it at once; if the peer will not have it, the answer to the question that follows puts it right.
 *
 * What the driver wrote is told to each new peer before its queues start: a disk that was switched to write-through
 * must not come back with a cache that the driver believes is off. A reset of the device forgets it.
 *
 * One question at a time, and no write while it is on its way: so an answer is never older than a write.
 */
#include <errno.h>

#include "transports/vhost_user/frontend_private.h"

/* SET_CONFIG flags: by the driver */
#define CONFIG_BY_DRIVER 0

static bool has_byte(const struct vhost_user_frontend_bytes *set, uint32_t offset)
{
    return (set->bits[offset / 64] >> offset % 64 & 1) != 0;
}

static void add_byte(struct vhost_user_frontend_bytes *set, uint32_t offset)
{
    set->bits[offset / 64] |= UINT64_C(1) << offset % 64;
}

static bool is_empty(const struct vhost_user_frontend_bytes *set)
{
    for (unsigned i = 0; i < ARRAY_SIZE(set->bits); i++)
        if (set->bits[i] != 0)
            return false;
    return true;
}

void frontend_config_ask(struct vhost_user_frontend *frontend)
{
    /* Back ends want room for the answer to come along (SPDK, libvhost-user), or do not mind. */
    struct vhost_user_message message = {
        .header = {.request = VHOST_USER_GET_CONFIG,
                   .size = (uint32_t)offsetof(struct vhost_user_config, bytes) + frontend->virtio.config_bytes},
        .payload.config.size = frontend->virtio.config_bytes,
    };
    frontend->config_due = true;
    frontend->config_stale = false;
    frontend_send(frontend, &message, 0);
}

const char *frontend_config_reply(struct vhost_user_frontend *frontend, const struct vhost_user_message *reply)
{
    const struct vhost_user_config *config = &reply->payload.config;
    struct virtio_listener *listener = frontend->virtio.listener;
    uint32_t bytes = frontend->virtio.config_bytes;
    frontend->config_due = false;
    if (reply->header.size == 0 || config->size == 0)
        return "the back end has no configuration space of the size that this kind of device has";
    if (config->offset != 0 || config->size != bytes)
        return "GET_CONFIG: an answer to another question";

    bool changed = false;
    for (uint32_t i = 0; i < bytes; i++) {
        /* A new peer will be told these, before it is asked again. */
        if (has_byte(&frontend->config_unsent, i))
            continue;
        changed = changed || frontend->config[i] != config->bytes[i];
        frontend->config[i] = config->bytes[i];
    }
    if (!changed || !frontend->greeted)
        return NULL;
    frontend->config_generation++;
    if (listener != NULL)
        listener->class->config_changed(listener);
    return NULL;
}

/* The run of unsent bytes from @offset on. */
static void send_run(struct vhost_user_frontend *frontend, uint32_t offset, uint32_t size)
{
    struct vhost_user_message message = {
        .header = {.request = VHOST_USER_SET_CONFIG,
                   .size = (uint32_t)offsetof(struct vhost_user_config, bytes) + size},
        .payload.config = {.offset = offset, .size = size, .flags = CONFIG_BY_DRIVER},
    };
    memcpy(message.payload.config.bytes, frontend->config + offset, size);
    frontend_send(frontend, &message, 0);
}

void frontend_config_sync(struct vhost_user_frontend *frontend)
{
    if (!frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_CONFIG) || frontend->config_due)
        return;
    if (!is_empty(&frontend->config_unsent)) {
        uint32_t bytes = frontend->virtio.config_bytes;
        for (uint32_t i = 0; i < bytes;) {
            uint32_t end = i;
            while (end < bytes && has_byte(&frontend->config_unsent, end))
                end++;
            if (end > i)
                send_run(frontend, i, end - i);
            i = end + 1;
        }
        memset(&frontend->config_unsent, 0, sizeof(frontend->config_unsent));
        frontend->config_stale = true;
    }
    if (frontend->config_stale)
        frontend_config_ask(frontend);
}

void frontend_config_read(const struct virtio_backend *virtio, uint32_t offset, void *to, uint32_t size)
{
    const struct vhost_user_frontend *frontend = frontend_of_const(virtio);
    uint32_t bytes = offset < virtio->config_bytes ? u32_min(size, virtio->config_bytes - offset) : 0;
    memset(to, 0, size);
    memcpy(to, frontend->config + (bytes > 0 ? offset : 0), bytes);
}

int frontend_config_write(struct virtio_backend *virtio, uint32_t offset, const void *from, uint32_t size)
{
    struct vhost_user_frontend *frontend = frontend_of(virtio);
    if (size == 0 || !range_within(offset, size, virtio->config_bytes))
        return -EINVAL;
    if (frontend->config_is_ours)
        return -EPERM;
    memcpy(frontend->config + offset, from, size);
    for (uint32_t i = 0; i < size; i++) {
        add_byte(&frontend->config_written, offset + i);
        add_byte(&frontend->config_unsent, offset + i);
    }
    frontend_sync(frontend);
    return 0;
}
