/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "frontend_rig.h"

#include <errno.h>
#include <stdlib.h>

static struct frig *frig_of(struct vhost_user_frontend_port *port)
{
    return container_of(port, struct frig, port);
}

static int make_handle(struct frig *rig)
{
    ASSERT(rig->made_count < FRIG_MADE_MAX);
    rig->made_open[rig->made_count] = true;
    return FRIG_MADE + rig->made_count++;
}

static bool is_open(const struct frig *rig, int handle)
{
    return handle >= 0 && (handle < FRIG_MADE || rig->made_open[handle - FRIG_MADE]);
}

/* The port */

static void port_send(struct vhost_user_frontend_port *port, const struct vhost_user_message *message)
{
    struct frig *rig = frig_of(port);
    ASSERT(message->header.request < ARRAY_SIZE(rig->sent_total));
    /* What we send is what a back end of ours would take. */
    ASSERT(vhost_user_header_check(&message->header) == (int)message->header.size);
    ASSERT(vhost_user_message_check(message) == 0);
    for (unsigned i = 0; i < message->handle_count; i++)
        ASSERT(is_open(rig, message->handles[i]));
    ASSERT(rig->message_count < FRIG_MESSAGES_MAX);
    rig->messages[rig->message_count++] = *message;
    rig->sent_total[message->header.request]++;
    rig->last[message->header.request] = *message;
}

static void port_answer(struct vhost_user_frontend_port *port, const struct vhost_user_message *message)
{
    struct frig *rig = frig_of(port);
    rig->last_answer = *message;
    rig->answer_count++;
}

static int port_open_channel(struct vhost_user_frontend_port *port, int *ret_handle)
{
    struct frig *rig = frig_of(port);
    if (rig->channel_fails)
        return -EMFILE;
    *ret_handle = make_handle(rig);
    return 0;
}

static void port_close(struct vhost_user_frontend_port *port, int handle)
{
    struct frig *rig = frig_of(port);
    ASSERT(handle >= FRIG_MADE && is_open(rig, handle));
    rig->made_open[handle - FRIG_MADE] = false;
}

static int port_map(struct vhost_user_frontend_port *port, int handle, uint64_t offset, uint64_t bytes,
                    struct vhost_user_mapping *ret_mapping)
{
    struct frig *rig = frig_of(port);
    ASSERT(is_open(rig, handle) && bytes > 0);
    if (rig->map_fails || !range_within(offset, bytes, FRIG_RECORD_BYTES))
        return -ENXIO;
    rig->mappings++;
    *ret_mapping = (struct vhost_user_mapping){.base = rig->record + offset, .bytes = bytes};
    return 0;
}

static void port_unmap(struct vhost_user_frontend_port *port, const struct vhost_user_mapping *mapping)
{
    ASSERT(mapping->base != NULL);
    frig_of(port)->mappings--;
}

static int port_kick_handle(struct vhost_user_frontend_port *port, unsigned index)
{
    (void)port;
    return FRIG_KICK((int)index);
}

static int port_notify_handle(struct vhost_user_frontend_port *port, unsigned index)
{
    return frig_of(port)->no_notify_handles ? -1 : FRIG_CALL((int)index);
}

static int port_error_handle(struct vhost_user_frontend_port *port)
{
    (void)port;
    return FRIG_ERROR;
}

static void port_signal(struct vhost_user_frontend_port *port, int handle)
{
    struct frig *rig = frig_of(port);
    ASSERT(handle >= 0 && handle < (int)ARRAY_SIZE(rig->signals));
    rig->signals[handle]++;
}

static void port_hang_up(struct vhost_user_frontend_port *port, const char *reason)
{
    struct frig *rig = frig_of(port);
    ASSERT(reason != NULL);
    rig->hang_ups++;
    rig->hang_up_reason = reason;
    rig->message_count = rig->message_next = 0;
}

static void port_greeted(struct vhost_user_frontend_port *port)
{
    frig_of(port)->greetings++;
}

static void port_settled(struct vhost_user_frontend_port *port)
{
    frig_of(port)->settled++;
}

static void port_broken(struct vhost_user_frontend_port *port, const char *reason)
{
    ASSERT(reason != NULL);
    frig_of(port)->broken++;
}

static const struct vhost_user_frontend_port_class port_class = {
    .send = port_send,
    .answer = port_answer,
    .open_channel = port_open_channel,
    .close = port_close,
    .map = port_map,
    .unmap = port_unmap,
    .kick_handle = port_kick_handle,
    .notify_handle = port_notify_handle,
    .error_handle = port_error_handle,
    .signal = port_signal,
    .hang_up = port_hang_up,
    .greeted = port_greeted,
    .settled = port_settled,
    .broken = port_broken,
};

/* The listener */

static struct frig *frig_of_listener(struct virtio_listener *listener)
{
    return container_of(listener, struct frig, listener);
}

static void told_notify(struct virtio_listener *listener, unsigned index)
{
    (void)listener;
    (void)index;
    ASSERT(false); /* the port's business */
}

static void told_stopped(struct virtio_listener *listener, unsigned index)
{
    frig_of_listener(listener)->stopped[index]++;
}

static void told_broken(struct virtio_listener *listener)
{
    frig_of_listener(listener)->broken_told++;
}

static void told_reset(struct virtio_listener *listener)
{
    frig_of_listener(listener)->resets++;
}

static void told_config(struct virtio_listener *listener)
{
    frig_of_listener(listener)->configs++;
}

static const struct virtio_listener_class listener_class = {
    .queue_notify = told_notify,
    .queue_stopped = told_stopped,
    .broken = told_broken,
    .reset_done = told_reset,
    .config_changed = told_config,
};

/* Life */

struct frig *frig_open(const struct vhost_user_frontend_config *config)
{
    struct frig *rig = calloc(1, sizeof(*rig));
    ASSERT(rig != NULL);
    rig->memory = calloc(1, FRIG_MEMORY_BYTES);
    rig->record = calloc(1, FRIG_RECORD_BYTES);
    ASSERT(rig->memory != NULL && rig->record != NULL);
    rig->port.class = &port_class;
    rig->listener.class = &listener_class;
    rig->features = FRIG_FEATURE | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED | VHOST_F_LOG_ALL |
                    VHOST_USER_F_PROTOCOL_FEATURES;
    rig->protocol_features = FRIG_ALL_PROTOCOL_FEATURES;
    rig->queue_count = FRIG_QUEUES;
    rig->slots = 32;
    for (unsigned i = 0; i < FRIG_CONFIG_BYTES; i++)
        rig->config[i] = (uint8_t)(0x40 + i);
    vhost_user_frontend_init(&rig->frontend, &rig->port, config);
    rig->frontend.virtio.listener = &rig->listener;
    rig->region = (struct vhost_user_frontend_region){
        .guest_base = FRIG_GUEST_BASE,
        .size = FRIG_MEMORY_BYTES,
        .handle = FRIG_MEMORY,
        .offset = 0x2000,
        .host = rig->memory,
    };
    return rig;
}

struct frig *frig_open_usual(void)
{
    const struct vhost_user_frontend_config config = {
        .device_id = VIRTIO_ID_BLOCK,
        .queue_count = FRIG_QUEUES,
        .queue_size_max = 64,
        .config_bytes = FRIG_CONFIG_BYTES,
    };
    struct frig *rig = frig_open(&config);
    ASSERT(vhost_user_frontend_set_memory(&rig->frontend, &rig->region, 1) == 0);
    return rig;
}

void frig_close(struct frig *rig)
{
    vhost_user_frontend_lost(&rig->frontend, "the test is over");
    vhost_user_frontend_done(&rig->frontend);
    ASSERT(rig->mappings == 0);
    for (int i = 0; i < rig->made_count; i++)
        ASSERT(!rig->made_open[i]);
    free(rig->memory);
    free(rig->record);
    free(rig);
}

/* The back end */

void frig_connect(struct frig *rig)
{
    vhost_user_frontend_connected(&rig->frontend);
    frig_serve(rig);
}

void frig_reply(struct frig *rig, uint32_t request, const void *payload, uint32_t size, unsigned handle_count)
{
    struct vhost_user_message reply = {
        .header = {.request = request, .flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, .size = size}};
    ASSERT(size <= VHOST_USER_PAYLOAD_BYTES_MAX && handle_count <= VHOST_USER_HANDLES_MAX);
    memset(reply.payload.bytes, 0xa5, sizeof(reply.payload.bytes));
    if (size > 0)
        memcpy(reply.payload.bytes, payload, size);
    for (unsigned i = 0; i < handle_count; i++)
        reply.handles[i] = make_handle(rig);
    reply.handle_count = handle_count;
    vhost_user_frontend_reply(&rig->frontend, &reply);
}

void frig_reply_u64(struct frig *rig, uint32_t request, uint64_t value)
{
    frig_reply(rig, request, &value, sizeof(value), 0);
}

static void answer_config(struct frig *rig, const struct vhost_user_message *message)
{
    struct vhost_user_config config = message->payload.config;
    if (rig->no_config) {
        frig_reply(rig, VHOST_USER_GET_CONFIG, NULL, 0, 0);
        return;
    }
    ASSERT(config.offset == 0 && config.size == FRIG_CONFIG_BYTES);
    memcpy(config.bytes, rig->config, FRIG_CONFIG_BYTES);
    frig_reply(rig, VHOST_USER_GET_CONFIG, &config, message->header.size, 0);
}

static void answer_inflight(struct frig *rig)
{
    const struct vhost_user_inflight given = {.mmap_size = rig->no_record ? 0 : FRIG_RECORD_BYTES};
    if (!rig->no_record)
        memset(rig->record, 0, FRIG_RECORD_BYTES);
    frig_reply(rig, VHOST_USER_GET_INFLIGHT_FD, &given, sizeof(given), rig->no_record ? 0 : 1);
}

/* An answer of its own, or the acknowledgement of a message that has been taken. */
static void answer(struct frig *rig, const struct vhost_user_message *message)
{
    uint32_t request = message->header.request;
    struct vhost_user_vring_state state = message->payload.state;
    switch (request) {
    case VHOST_USER_GET_FEATURES:
        frig_reply_u64(rig, request, rig->features);
        break;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        frig_reply_u64(rig, request, rig->protocol_features);
        break;
    case VHOST_USER_GET_QUEUE_NUM:
        frig_reply_u64(rig, request, rig->queue_count);
        break;
    case VHOST_USER_GET_MAX_MEM_SLOTS:
        frig_reply_u64(rig, request, rig->slots);
        break;
    case VHOST_USER_GET_VRING_BASE:
        state.num = rig->bases[state.index];
        frig_reply(rig, request, &state, sizeof(state), 0);
        break;
    case VHOST_USER_GET_CONFIG:
        answer_config(rig, message);
        break;
    case VHOST_USER_GET_INFLIGHT_FD:
        answer_inflight(rig);
        break;
    default:
        frig_reply_u64(rig, request, request == rig->refuse ? 1 : 0);
        break;
    }
}

bool frig_serve_one(struct frig *rig)
{
    while (rig->message_next < rig->message_count) {
        const struct vhost_user_message message = rig->messages[rig->message_next++];
        if (rig->message_next == rig->message_count)
            rig->message_next = rig->message_count = 0;
        const struct vhost_user_config *config = &message.payload.config;
        if (message.header.request == VHOST_USER_SET_CONFIG && rig->refuse != VHOST_USER_SET_CONFIG)
            memcpy(rig->config + config->offset, config->bytes, config->size);
        if (vhost_user_has_reply(message.header.request) || message.header.request == VHOST_USER_SET_LOG_BASE ||
            (message.header.flags & VHOST_USER_FLAG_NEED_REPLY) != 0) {
            answer(rig, &message);
            return true;
        }
    }
    return false;
}

void frig_serve(struct frig *rig)
{
    while (frig_serve_one(rig))
        continue;
}

/* The driver */

void frig_choose(struct frig *rig, uint64_t features)
{
    struct virtio_backend *virtio = &rig->frontend.virtio;
    ASSERT(virtio->class->set_features(virtio, features) == 0);
}

struct virtqueue_config frig_ring(const struct frig *rig, unsigned index)
{
    return (struct virtqueue_config){
        .size = FRIG_RING_SIZE,
        .desc_address = FRIG_RING(index),
        .avail_address = FRIG_RING(index) + 0x400,
        .used_address = FRIG_RING(index) + 0x800,
        .features = rig->frontend.features,
    };
}

int frig_start(struct frig *rig, unsigned index, uint32_t base)
{
    struct virtio_backend *virtio = &rig->frontend.virtio;
    struct virtqueue_config config = frig_ring(rig, index);
    config.base = base;
    return virtio->class->queue_start(virtio, index, &config, -1);
}

void frig_set_used(struct frig *rig, unsigned index, uint16_t used)
{
    put_le16(rig->memory + (FRIG_RING(index) + 0x802 - FRIG_GUEST_BASE), used);
}
