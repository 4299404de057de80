/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A message is judged in three steps: its size and descriptors by its type (message.c), then whether the protocol
 * feature it belongs to was negotiated, then what it says (the handlers, here and in the other backend_*.c). A handler
 * that refuses has changed nothing, with one exception: when a message completes a ring that then cannot start, what it
 * said stands, and the ring is tried again after the next change. Descriptors that no handler took are closed at the
 * end, so a refusal cannot leak one.
 *
 * How a message is answered is decided in one place. Types with an answer of their own send it; all others are
 * acknowledged, 0 or not, when REPLY_ACK was negotiated and the sender set need_reply, and else not at all. A refused
 * message whose sender waits for an answer gets the error that its type has: GET_CONFIG a payload of length zero,
 * GET_INFLIGHT_FD a size of zero, SET_LOG_BASE and the like a number other than zero. Where there is no such form, or
 * where the sizes show that the two sides do not speak the same protocol and nobody would hear of it, the connection
 * ends. An unknown message is refused the same way: not acknowledged it is passed over, as the protocol's text lets
 * extensions be gated by features and says no more.
 *
 * A message that needs queues to stop is kept in `waiting`; what is left to do when the last one has stopped is
 * finish_wait(). Only one thing waits at a time, since the caller gives no message meanwhile, and a disconnection
 * replaces it.
 *
 * SET_STATUS 0 stops and forgets the rings, and the driver's features with them, but leaves the device model alone:
 * QEMU sends it whenever the machine pauses too (7.2 even before GET_VRING_BASE, so each ring's base must survive), and
 * does not tell the back end again what the driver had written to the configuration space. Only RESET_DEVICE and the
 * end of the connection reset the model. RESET_OWNER disables all rings, as the protocol's text recommends.
 *
 * Limits
 *
 * One front end at a time; SET_OWNER is noted and not insisted on. No postcopy, no IOTLB, no in-band notifications, no
 * device state transfer over this protocol: their feature bits are not offered.
 */
#include "transports/vhost_user/backend.h"

#include <errno.h>

#include "transports/vhost_user/backend_private.h"

/* VIRTIO 1.3, 2.1: the device status has 8 bits. */
#define STATUS_MAX 0xff

/* The payload of a negative acknowledgement: any number but 0. */
#define REFUSED 1

/* SET_CONFIG flags */
#define CONFIG_BY_DRIVER 0
#define CONFIG_BY_MIGRATION 1

static const uint64_t protocol_features_all =
    VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_LOG_SHMFD | VHOST_USER_PROTOCOL_F_REPLY_ACK |
    VHOST_USER_PROTOCOL_F_BACKEND_REQ | VHOST_USER_PROTOCOL_F_CONFIG | VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD |
    VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD | VHOST_USER_PROTOCOL_F_RESET_DEVICE |
    VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | VHOST_USER_PROTOCOL_F_STATUS;

void vhost_user_backend_init(struct vhost_user_backend *backend, struct vhost_user_port *port,
                             struct virtio_device *device)
{
    ASSERT(device->queue_count > 0 && device->queue_count <= VHOST_USER_QUEUES_MAX);
    ASSERT(device->class->config_bytes <= VHOST_USER_CONFIG_BYTES_MAX);
    memset(backend, 0, sizeof(*backend));
    backend->port = port;
    backend->device = device;
    backend->protocol_features_max = protocol_features_all;
    /* QEMU warns of it where it knows that the device has no configuration space. */
    if (device->class->config_bytes == 0)
        backend->protocol_features_max &= ~VHOST_USER_PROTOCOL_F_CONFIG;
    backend->log_line = -1;
    backend->backend_channel = -1;
    guest_memory_init(&backend->maps[0], NULL);
    guest_memory_init(&backend->maps[1], NULL);
}

void backend_reply(struct vhost_user_backend *backend, struct vhost_user_message *message, int handle)
{
    message->header.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;
    message->handle_count = 0;
    /* An error means that the front end is gone: the reader of the connection finds out. */
    (void)backend->port->class->reply(backend->port, message, handle);
}

void backend_reply_u64(struct vhost_user_backend *backend, uint32_t request, uint64_t value)
{
    struct vhost_user_message reply = {
        .header = {.request = request, .size = sizeof(value)},
        .payload.u64 = value,
    };
    backend_reply(backend, &reply, -1);
}

int backend_take_handle(struct vhost_user_message *message, unsigned position)
{
    ASSERT(position < message->handle_count);
    int handle = message->handles[position];
    message->handles[position] = -1;
    return handle;
}

void backend_close(struct vhost_user_backend *backend, int *handle)
{
    if (*handle >= 0)
        backend->port->class->close(backend->port, *handle);
    *handle = -1;
}

int backend_wrong(struct vhost_user_backend *backend, int error, const char *reason)
{
    backend->wrong_reason = reason;
    return error;
}

static int answer_u64(struct vhost_user_backend *backend, const struct vhost_user_message *message, uint64_t value)
{
    backend_reply_u64(backend, message->header.request, value);
    return BACKEND_ANSWERED;
}

static int get_features(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    uint64_t features = virtio_device_features(backend->device);
    return answer_u64(backend, message, features | VHOST_F_LOG_ALL | VHOST_USER_F_PROTOCOL_FEATURES);
}

/* Front ends send this anew at each start and, with LOG_ALL changed, while rings run: then nothing else may change. */
static int set_features(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    uint64_t features = message->payload.u64;
    uint64_t device_features = features & ~(VHOST_F_LOG_ALL | VHOST_USER_F_PROTOCOL_FEATURES);
    if (backend_any_running(backend)) {
        if (device_features != backend->device->features)
            return backend_wrong(backend, -EBUSY, "other features while a ring runs");
    } else {
        int r = virtio_device_set_features(backend->device, device_features);
        if (r < 0)
            return backend_wrong(backend, r, "features that are not on offer or do not go together");
    }

    bool log_changes = ((features ^ backend->features) & VHOST_F_LOG_ALL) != 0;
    backend->features = features;
    backend->features_set = true;
    if (!backend_any_running(backend)) {
        backend_inflight_features(backend);
        backend_rings_features(backend);
    }
    if (log_changes)
        backend_rings_exchange(backend);
    /* "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state." */
    if ((features & VHOST_USER_F_PROTOCOL_FEATURES) == 0) {
        for (unsigned i = 0; i < backend->device->queue_count; i++)
            backend->queues[i].enabled = true;
    }
    backend_rings_start(backend);
    return 0;
}

static int get_protocol_features(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    return answer_u64(backend, message, backend->protocol_features_max);
}

static int set_protocol_features(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    if ((message->payload.u64 & ~backend->protocol_features_max) != 0)
        return backend_wrong(backend, -EINVAL, "protocol features that are not on offer");
    backend->protocol_features = message->payload.u64;
    return 0;
}

static int set_owner(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    (void)message;
    backend->owned = true;
    return 0;
}

static int reset(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    return backend_wait_begin(backend, VHOST_USER_WAIT_RESET, message, BACKEND_ALL_RINGS);
}

static int get_queue_num(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    return answer_u64(backend, message, backend->device->queue_count);
}

static int get_max_mem_slots(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    return answer_u64(backend, message, GUEST_MEMORY_REGIONS_MAX);
}

static int set_backend_channel(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    backend_close(backend, &backend->backend_channel);
    backend->backend_channel = backend_take_handle(message, 0);
    return 0;
}

/* The answer has the size that was asked for, even past the end of the device's space: front ends demand it. */
static int get_config(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_config *asked = &message->payload.config;
    uint32_t head_bytes = offsetof(struct vhost_user_config, bytes);
    if (asked->size == 0)
        return backend_wrong(backend, -EINVAL, "no bytes asked for");
    if (!range_within(asked->offset, asked->size, VHOST_USER_CONFIG_BYTES_MAX))
        return backend_wrong(backend, -EINVAL, "outside of any configuration space");
    /* Some send room for the answer along, some only the head. */
    if (message->header.size != head_bytes && message->header.size != head_bytes + asked->size)
        return backend_wrong(backend, -EINVAL, "asks for another size than the message has");

    struct vhost_user_message reply = {.header.request = VHOST_USER_GET_CONFIG};
    reply.header.size = head_bytes + asked->size;
    reply.payload.config.offset = asked->offset;
    reply.payload.config.size = asked->size;
    reply.payload.config.flags = asked->flags;
    virtio_device_config_read(backend->device, asked->offset, reply.payload.config.bytes, asked->size);
    backend_reply(backend, &reply, -1);
    return BACKEND_ANSWERED;
}

static int set_config(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_config *config = &message->payload.config;
    if (config->flags != CONFIG_BY_DRIVER && config->flags != CONFIG_BY_MIGRATION)
        return backend_wrong(backend, -EINVAL, "unknown flags");
    if (config->size == 0 || !range_within(config->offset, config->size, backend->device->class->config_bytes))
        return backend_wrong(backend, -EINVAL, "outside of the configuration space");
    int r = virtio_device_config_write(backend->device, config->offset, config->bytes, config->size);
    if (r == 0)
        return 0;
    if (r != -EPERM || config->flags != CONFIG_BY_MIGRATION)
        return backend_wrong(backend, r, "a field that the driver may not write, or not so");
    /* A migration brings fields that only we can set: fine when they are what they are here. */
    uint8_t ours[VHOST_USER_CONFIG_BYTES_MAX];
    virtio_device_config_read(backend->device, config->offset, ours, config->size);
    if (memcmp(ours, config->bytes, config->size) != 0)
        return backend_wrong(backend, -EPERM, "a migration from a device that is not like this one");
    return 0;
}

static int set_status(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    uint64_t status = message->payload.u64;
    if (status > STATUS_MAX)
        return backend_wrong(backend, -EINVAL, "a status has 8 bits");
    if (status == 0)
        return reset(backend, message);
    /* NEEDS_RESET is ours to set; front ends send back what they read. */
    status &= ~(uint64_t)VIRTIO_STATUS_NEEDS_RESET;
    /* 3.1.1: the device takes FEATURES_OK back when it does not accept the features. */
    if (!backend->features_set)
        status &= ~(uint64_t)VIRTIO_STATUS_FEATURES_OK;
    backend->status = (uint8_t)status;
    return 0;
}

static int get_status(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    bool needs_reset = atomic_load(&backend->device->needs_reset);
    return answer_u64(backend, message, backend->status | (needs_reset ? VIRTIO_STATUS_NEEDS_RESET : 0u));
}

struct service {
    int (*handle)(struct vhost_user_backend *backend, struct vhost_user_message *message);
    uint64_t protocol_feature; /* must be negotiated; 0: none */
};

static const struct service services[] = {
    [VHOST_USER_GET_FEATURES] = {get_features, 0},
    [VHOST_USER_SET_FEATURES] = {set_features, 0},
    [VHOST_USER_SET_OWNER] = {set_owner, 0},
    [VHOST_USER_RESET_OWNER] = {reset, 0},
    [VHOST_USER_SET_MEM_TABLE] = {backend_set_mem_table, 0},
    [VHOST_USER_SET_LOG_BASE] = {backend_set_log_base, 0},
    [VHOST_USER_SET_LOG_FD] = {backend_set_log_line, 0},
    [VHOST_USER_SET_VRING_NUM] = {backend_set_vring_num, 0},
    [VHOST_USER_SET_VRING_ADDR] = {backend_set_vring_address, 0},
    [VHOST_USER_SET_VRING_BASE] = {backend_set_vring_base, 0},
    [VHOST_USER_GET_VRING_BASE] = {backend_get_vring_base, 0},
    [VHOST_USER_SET_VRING_KICK] = {backend_set_vring_line, 0},
    [VHOST_USER_SET_VRING_CALL] = {backend_set_vring_line, 0},
    [VHOST_USER_SET_VRING_ERR] = {backend_set_vring_line, 0},
    /* These come before any negotiation, so what they say cannot depend on it. */
    [VHOST_USER_GET_PROTOCOL_FEATURES] = {get_protocol_features, 0},
    [VHOST_USER_SET_PROTOCOL_FEATURES] = {set_protocol_features, 0},
    /* MQ need only be on offer for this one. */
    [VHOST_USER_GET_QUEUE_NUM] = {get_queue_num, 0},
    [VHOST_USER_SET_VRING_ENABLE] = {backend_set_vring_enable, 0},
    [VHOST_USER_SET_BACKEND_REQ_FD] = {set_backend_channel, VHOST_USER_PROTOCOL_F_BACKEND_REQ},
    [VHOST_USER_GET_CONFIG] = {get_config, VHOST_USER_PROTOCOL_F_CONFIG},
    [VHOST_USER_SET_CONFIG] = {set_config, VHOST_USER_PROTOCOL_F_CONFIG},
    [VHOST_USER_GET_INFLIGHT_FD] = {backend_get_inflight, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD},
    [VHOST_USER_SET_INFLIGHT_FD] = {backend_set_inflight, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD},
    [VHOST_USER_RESET_DEVICE] = {reset, VHOST_USER_PROTOCOL_F_RESET_DEVICE},
    [VHOST_USER_GET_MAX_MEM_SLOTS] = {get_max_mem_slots, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS},
    [VHOST_USER_ADD_MEM_REG] = {backend_add_mem_region, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS},
    [VHOST_USER_REM_MEM_REG] = {backend_remove_mem_region, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS},
    [VHOST_USER_SET_STATUS] = {set_status, VHOST_USER_PROTOCOL_F_STATUS},
    [VHOST_USER_GET_STATUS] = {get_status, VHOST_USER_PROTOCOL_F_STATUS},
};

static bool wants_ack(const struct vhost_user_backend *backend, const struct vhost_user_header *header)
{
    return (header->flags & VHOST_USER_FLAG_NEED_REPLY) != 0 &&
           backend_negotiated(backend, VHOST_USER_PROTOCOL_F_REPLY_ACK);
}

static void acknowledge(struct vhost_user_backend *backend, const struct vhost_user_header *header, uint64_t value)
{
    if (wants_ack(backend, header))
        backend_reply_u64(backend, header->request, value);
}

/* Send the error that an answer of this type can express. False: it has none. */
static bool reply_error(struct vhost_user_backend *backend, const struct vhost_user_message *message)
{
    struct vhost_user_message reply = {.header = message->header};
    switch (message->header.request) {
    case VHOST_USER_GET_CONFIG:
        reply.header.size = 0;
        backend_reply(backend, &reply, -1);
        return true;
    case VHOST_USER_GET_INFLIGHT_FD:
        if (message->header.size != VHOST_USER_INFLIGHT_BYTES)
            reply.header.size = sizeof(reply.payload.inflight);
        backend_reply(backend, &reply, -1);
        return true;
    case VHOST_USER_SET_LOG_BASE:
        if (!backend_negotiated(backend, VHOST_USER_PROTOCOL_F_LOG_SHMFD))
            return false;
        backend_reply_u64(backend, VHOST_USER_SET_LOG_BASE, REFUSED);
        return true;
    case VHOST_USER_IOTLB_MSG:
    case VHOST_USER_POSTCOPY_END:
    case VHOST_USER_SET_DEVICE_STATE_FD:
    case VHOST_USER_CHECK_DEVICE_STATE:
        /* Not on offer, but whoever sends them waits for a number that is 0 when it worked. */
        backend_reply_u64(backend, message->header.request, REFUSED);
        return true;
    default:
        return false;
    }
}

static int refuse(struct vhost_user_backend *backend, const struct vhost_user_message *message, int error)
{
    backend->refused_total++;
    backend->refused_request = message->header.request;
    backend->refused_error = error;
    backend->refused_reason = backend->wrong_reason;
    if (reply_error(backend, message))
        return 0;
    if (vhost_user_has_reply(message->header.request))
        return -EPROTO;
    if (wants_ack(backend, &message->header)) {
        backend_reply_u64(backend, message->header.request, REFUSED);
        return 0;
    }
    return error == -EBADMSG ? -EBADMSG : 0;
}

static int serve(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    backend->wrong_reason = NULL;
    int r = vhost_user_message_check(message);
    if (r == -EOPNOTSUPP)
        return backend_wrong(backend, r, "a request that is unknown or not served here");
    if (r < 0)
        return backend_wrong(backend, r, "the size or the number of descriptors is wrong");
    ASSERT(message->header.request < ARRAY_SIZE(services));
    const struct service *service = &services[index_mask(message->header.request, ARRAY_SIZE(services))];
    ASSERT(service->handle != NULL);
    if (service->protocol_feature != 0 && !backend_negotiated(backend, service->protocol_feature))
        return backend_wrong(backend, -EOPNOTSUPP, "its protocol feature was not negotiated");
    return service->handle(backend, message);
}

int vhost_user_backend_message(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    ASSERT(!vhost_user_backend_busy(backend));
    ASSERT(message->handle_count <= VHOST_USER_HANDLES_MAX);
    backend->messages_total++;

    int r = serve(backend, message);
    for (unsigned i = 0; i < message->handle_count; i++)
        backend_close(backend, &message->handles[i]);
    if (r < 0)
        return refuse(backend, message, r);
    if (r == 0)
        acknowledge(backend, &message->header, 0);
    return 0;
}

bool vhost_user_backend_busy(const struct vhost_user_backend *backend)
{
    return backend->wait != VHOST_USER_WAIT_NONE;
}

static void finish_vring_base(struct vhost_user_backend *backend)
{
    uint32_t index = backend->waiting.payload.state.index;
    struct vhost_user_message reply = {
        .header = {.request = VHOST_USER_GET_VRING_BASE, .size = sizeof(reply.payload.state)},
        .payload.state = {.index = index, .num = backend_ring_base(backend, index)},
    };
    /* The ring is back in its first state: it starts again with the next kick line. */
    backend_ring_drop_lines(backend, index, true, false);
    backend->queues[index].broken = false;
    backend_reply(backend, &reply, -1);
}

static void finish_reset(struct vhost_user_backend *backend)
{
    uint32_t request = backend->waiting.header.request;
    for (unsigned i = 0; i < backend->device->queue_count; i++) {
        struct vhost_user_queue *ring = &backend->queues[i];
        ring->enabled = false;
        if (request == VHOST_USER_RESET_OWNER)
            continue;
        backend_ring_drop_lines(backend, i, false, false);
        struct vhost_user_queue forgotten = {.size = 0};
        if (request == VHOST_USER_SET_STATUS) {
            forgotten.has_base = ring->has_base;
            forgotten.base = ring->base;
            forgotten.base_laid = ring->base_laid;
            forgotten.base_packed = ring->base_packed;
            forgotten.record_done = ring->record_done;
        }
        *ring = forgotten;
    }
    if (request == VHOST_USER_RESET_OWNER)
        return;
    backend->features = 0;
    backend->features_set = false;
    backend->status = 0;
    if (request == VHOST_USER_RESET_DEVICE) {
        backend_inflight_forget(backend);
        virtio_device_reset(backend->device);
    } else {
        atomic_store(&backend->device->needs_reset, false);
    }
}

static void finish_disconnect(struct vhost_user_backend *backend)
{
    for (unsigned i = 0; i < backend->device->queue_count; i++) {
        backend_ring_drop_lines(backend, i, true, true);
        backend->queues[i] = (struct vhost_user_queue){0};
    }
    backend_memory_done(backend);
    backend_log_done(backend);
    backend_inflight_done(backend);
    backend_close(backend, &backend->backend_channel);
    virtio_device_reset(backend->device);
    backend->protocol_features = 0;
    backend->features = 0;
    backend->features_set = false;
    backend->owned = false;
    backend->status = 0;
}

/* Every ring that was to stop has stopped. */
static void finish_wait(struct vhost_user_backend *backend)
{
    enum vhost_user_wait wait = backend->wait;
    switch (wait) {
    case VHOST_USER_WAIT_VRING_BASE:
        finish_vring_base(backend);
        break;
    case VHOST_USER_WAIT_MEMORY:
        backend_memory_finish(backend);
        break;
    case VHOST_USER_WAIT_RESET:
        finish_reset(backend);
        break;
    case VHOST_USER_WAIT_DISCONNECT:
        finish_disconnect(backend);
        break;
    case VHOST_USER_WAIT_RECONFIGURE:
    case VHOST_USER_WAIT_NONE:
        break;
    }
    backend->wait = VHOST_USER_WAIT_NONE;
    if (wait == VHOST_USER_WAIT_DISCONNECT)
        return;
    backend_rings_start(backend);
    if (wait != VHOST_USER_WAIT_VRING_BASE)
        acknowledge(backend, &backend->waiting.header, 0);
}

int backend_wait_begin(struct vhost_user_backend *backend, enum vhost_user_wait wait,
                       const struct vhost_user_message *message, uint32_t index)
{
    ASSERT(backend->wait == VHOST_USER_WAIT_NONE);
    backend->wait = wait;
    backend->waiting = *message;
    backend->waiting.handle_count = 0;
    for (unsigned i = 0; i < backend->device->queue_count; i++) {
        if (backend->queues[i].running && (index == BACKEND_ALL_RINGS || index == i))
            backend_ring_stop(backend, i);
    }
    if (!backend_any_stopping(backend))
        finish_wait(backend);
    return BACKEND_ANSWERED;
}

int vhost_user_backend_queue_stopped(struct vhost_user_backend *backend, unsigned index)
{
    ASSERT(index < backend->device->queue_count);
    /* An echo of a stop that was answered at once. */
    if (!backend->queues[index].stopping)
        return 0;
    backend_ring_stopped(backend, index);
    if (!backend_any_stopping(backend))
        finish_wait(backend);
    return 0;
}

void vhost_user_backend_queue_broken(struct vhost_user_backend *backend, unsigned index)
{
    ASSERT(index < backend->device->queue_count);
    /* The news may be of an earlier life of the ring, and GET_STATUS looks at the device: so only look. */
    if (backend->queues[index].running)
        backend_ring_look(backend, index);
}

bool vhost_user_backend_config_changed(struct vhost_user_backend *backend)
{
    if (backend->backend_channel < 0 || !backend_negotiated(backend, VHOST_USER_PROTOCOL_F_BACKEND_REQ) ||
        !backend_negotiated(backend, VHOST_USER_PROTOCOL_F_CONFIG))
        return false;
    const struct vhost_user_message message = {
        .header = {.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, .flags = VHOST_USER_VERSION},
    };
    return backend->port->class->request(backend->port, backend->backend_channel, &message) >= 0;
}

void vhost_user_backend_disconnect(struct vhost_user_backend *backend)
{
    if (backend->wait == VHOST_USER_WAIT_DISCONNECT)
        return;
    if (backend->wait == VHOST_USER_WAIT_MEMORY)
        backend_memory_abandon(backend);
    backend->wait = VHOST_USER_WAIT_DISCONNECT;
    for (unsigned i = 0; i < backend->device->queue_count; i++) {
        if (backend->queues[i].running && !backend->queues[i].stopping)
            backend_ring_stop(backend, i);
    }
    if (!backend_any_stopping(backend))
        finish_wait(backend);
}
