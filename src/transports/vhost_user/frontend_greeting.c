/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A peer is asked what it can do in the order that QEMU has, which back ends know: GET_FEATURES, and where it has them
 * GET_PROTOCOL_FEATURES; then, all at once, what was chosen of these, the number of queues and of memory slots, the
 * channel for its requests, SET_OWNER, and GET_CONFIG. A last GET_FEATURES ends it: everything before has been
 * answered.
 *
 * A successor is held against its predecessor. A driver that is at work cannot be told of other features or fewer
 * queues, so these break the device, until the driver resets it and finds what there is now.
 */
#include <errno.h>

#include "transports/vhost_user/frontend_private.h"

/* Of what a peer offers, what we know how to use. */
static const uint64_t protocol_features_known =
    VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_LOG_SHMFD | VHOST_USER_PROTOCOL_F_REPLY_ACK |
    VHOST_USER_PROTOCOL_F_BACKEND_REQ | VHOST_USER_PROTOCOL_F_CONFIG | VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD |
    VHOST_USER_PROTOCOL_F_RESET_DEVICE | VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | VHOST_USER_PROTOCOL_F_STATUS;

/*
 * Bits that a driver never chooses through us: those of vhost; those of the transport, which are no affair of a process
 * that sees rings and nothing else (VIRTIO 1.3, 6: ACCESS_PLATFORM, SR_IOV, NOTIFICATION_DATA, NOTIF_CONFIG_DATA,
 * RING_RESET, ADMIN_VQ); and those of legacy devices (6.3: NOTIFY_ON_EMPTY, ANY_LAYOUT).
 */
#define LEGACY_FEATURES ((UINT64_C(1) << 24) | (UINT64_C(1) << 27))
#define TRANSPORT_FEATURES                                                                                             \
    (VIRTIO_F_ACCESS_PLATFORM | (UINT64_C(1) << 37) | VIRTIO_F_NOTIFICATION_DATA | (UINT64_C(1) << 39) |               \
     VIRTIO_F_RING_RESET | (UINT64_C(1) << 41))

uint64_t frontend_offered(const struct vhost_user_frontend *frontend)
{
    uint64_t offered = frontend->peer_features &
                       ~(VHOST_F_LOG_ALL | VHOST_USER_F_PROTOCOL_FEATURES | TRANSPORT_FEATURES | LEGACY_FEATURES);
    /* Without a record nobody knows where such a ring stood when a peer died: the driver is better off with the other
     * layout (docs/decisions/0010-ring-features-on-offer.md). */
    if (!frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))
        offered &= ~VIRTIO_F_RING_PACKED;
    return offered | (frontend->isolated ? VIRTIO_F_ACCESS_PLATFORM : 0);
}

void frontend_greet(struct vhost_user_frontend *frontend)
{
    frontend->peer_queues = 0;
    frontend->memory_slots = VHOST_USER_TABLE_REGIONS_MAX;
    frontend->asked_all = false;
    frontend_send_empty(frontend, VHOST_USER_GET_FEATURES);
}

static void open_channel(struct vhost_user_frontend *frontend)
{
    struct vhost_user_message message = {.header.request = VHOST_USER_SET_BACKEND_REQ_FD, .handle_count = 1};
    if (!frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_BACKEND_REQ) ||
        frontend->port->class->open_channel(frontend->port, &message.handles[0]) < 0)
        return;
    int handle = message.handles[0];
    frontend_send(frontend, &message, 0);
    frontend->port->class->close(frontend->port, handle);
}

/* Protocol features are known, or there are none: all the rest. */
static void ask_the_rest(struct vhost_user_frontend *frontend)
{
    if (frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_MQ))
        frontend_send_empty(frontend, VHOST_USER_GET_QUEUE_NUM);
    if (frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
        frontend_send_empty(frontend, VHOST_USER_GET_MAX_MEM_SLOTS);
    open_channel(frontend);
    frontend_send_empty(frontend, VHOST_USER_SET_OWNER);
    if (frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_CONFIG))
        frontend_config_ask(frontend);
    frontend->asked_all = true; /* the last one ends it */
    frontend_send_empty(frontend, VHOST_USER_GET_FEATURES);
}

static void choose_protocol_features(struct vhost_user_frontend *frontend, uint64_t offered)
{
    uint64_t chosen = offered & protocol_features_known;
    if (frontend->config_is_ours)
        chosen &= ~VHOST_USER_PROTOCOL_F_CONFIG;
    /* Before they hold: this message itself is acknowledged by nobody. */
    frontend_send_u64(frontend, VHOST_USER_SET_PROTOCOL_FEATURES, chosen);
    frontend->protocol_features = chosen;
    ask_the_rest(frontend);
}

/* Is it of use to the driver that is at work? Breaks the device if not. */
static void compare(struct vhost_user_frontend *frontend, uint64_t queues)
{
    if ((frontend->features & ~frontend_offered(frontend)) != 0)
        frontend_break(frontend, "the back end lacks features that its predecessor had and the driver uses");
    else if (queues < frontend->virtio.queue_count)
        frontend_break(frontend, "the back end has fewer queues than its predecessor had");
}

/* Everything was answered. */
static const char *finish(struct vhost_user_frontend *frontend)
{
    uint64_t queues = frontend->peer_queues;
    if (frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_MQ) && queues == 0)
        return "the back end has no queues";
    if (queues == 0) /* it cannot say: as many as its kind of device has */
        queues = frontend->virtio.queue_count > 0 ? frontend->virtio.queue_count : 1;
    if (frontend->region_count > frontend->memory_slots)
        return "the back end takes fewer memory regions than there are";
    if (frontend->log.handle >= 0 && !frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_LOG_SHMFD))
        return "the back end cannot log what it writes";

    if (!frontend->config_is_ours && !frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_CONFIG))
        return "the back end has no configuration space, and this kind of device needs one";
    if (!frontend->greeted) {
        if (frontend->virtio.queue_count == 0 || queues < frontend->virtio.queue_count)
            frontend->virtio.queue_count = (uint16_t)u64_min(queues, VHOST_USER_QUEUES_MAX);
        frontend->greeted = true;
    }
    frontend->phase = VHOST_USER_FRONTEND_PRESENT;
    if (frontend->features_set)
        compare(frontend, queues);
    else
        frontend->offered = frontend_offered(frontend);
    frontend->port->class->greeted(frontend->port);
    return NULL;
}

const char *frontend_greeting_reply(struct vhost_user_frontend *frontend, const struct vhost_user_message *reply)
{
    uint64_t value = reply->payload.u64;
    switch (reply->header.request) {
    case VHOST_USER_GET_FEATURES:
        if (frontend->asked_all)
            return frontend->due_count == 0 ? finish(frontend) : NULL;
        frontend->peer_features = value;
        if ((value & VHOST_USER_F_PROTOCOL_FEATURES) != 0)
            frontend_send_empty(frontend, VHOST_USER_GET_PROTOCOL_FEATURES);
        else
            ask_the_rest(frontend);
        return NULL;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        choose_protocol_features(frontend, value);
        return NULL;
    case VHOST_USER_GET_QUEUE_NUM:
        frontend->peer_queues = value;
        return NULL;
    case VHOST_USER_GET_MAX_MEM_SLOTS:
        /* Fewer than a table has: they can still be had one by one. */
        frontend->memory_slots = value;
        return value == 0 ? "the back end takes no memory" : NULL;
    default:
        return "an answer that does not belong into the greeting";
    }
}
