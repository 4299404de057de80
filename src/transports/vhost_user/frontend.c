/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * What the transport and the owner want is kept in one set of fields, what the peer has been told in another
 * (told_...), and frontend_sync() sends the difference. Nothing that a caller wants depends on a peer being there: a
 * new one finds told_... empty, is greeted, and the same function brings it to where it should be.
 *
 * Messages are sent without waiting for answers; those that are due stand in a ring in the order of their requests, and
 * an answer that is not the first one due is a lie. With REPLY_ACK every message is acknowledged, so that a refusal
 * has a name. Without it a GET_FEATURES now and then, of which the answer says nothing new, tells that all before it
 * has been done.
 *
 * Three things begin now and end with an answer: a stop (GET_VRING_BASE), a reset (RESET_DEVICE, or status 0), and
 * whatever the owner does (memory, log), whose end is port->settled. All three end at once when the connection is lost.
 *
 * A peer may vanish with queues running. What of them must be known then lies in memory: a split ring's used index, and
 * the in-flight record, which is ours to keep. The next peer gets both; then each queue is kicked once, since a kick
 * may have been taken by the dead, and its driver is interrupted once, since that may have been lost too.
 *
 * Front-end addresses are guest addresses with a constant added: where guest memory lies in our process is nobody's
 * affair. Not the guest addresses themselves: those begin with 0, which some peers (ours is one) take for none.
 *
 * Limits
 *
 * No IOTLB, in-band notifications, postcopy, device state transfer, host notifiers or shared objects. Back ends of the
 * legacy protocol (no VHOST_USER_F_PROTOCOL_FEATURES) are served, with what can be had from them.
 */
#include "transports/vhost_user/frontend.h"

#include <errno.h>

#include "transports/vhost_user/frontend_private.h"

/* Answers due, or messages without one, from which on a guest's doings wait for the next answer. */
#define FRONTEND_BEHIND_DUE 512
#define FRONTEND_BEHIND_UNANSWERED 64

void vhost_user_frontend_init(struct vhost_user_frontend *frontend, struct vhost_user_frontend_port *port,
                              const struct vhost_user_frontend_config *config)
{
    ASSERT(config->queue_count <= VHOST_USER_QUEUES_MAX && config->config_bytes <= VHOST_USER_CONFIG_BYTES_MAX);
    ASSERT(config->queue_size_max > 0 && config->queue_size_max <= VRING_SIZE_MAX);
    memset(frontend, 0, sizeof(*frontend));
    frontend->port = port;
    frontend->isolated = config->isolated;
    frontend->virtio = (struct virtio_backend){
        .class = &frontend_class,
        .device_id = config->device_id,
        .queue_count = config->queue_count,
        .queue_size_max = config->queue_size_max,
        .config_bytes = config->config_bytes,
        .notifies_listener = port->class->notify_handle(port, 0) >= 0,
    };
    frontend->config_is_ours = config->config_space != NULL || config->config_bytes == 0;
    if (config->config_space != NULL)
        memcpy(frontend->config, config->config_space, config->config_bytes);
    frontend->log.handle = -1;
    frontend->record_handle = -1;
    for (unsigned i = 0; i < VHOST_USER_QUEUES_MAX; i++)
        frontend->queues[i].notify = frontend->queues[i].told_notify = -1;
}

void vhost_user_frontend_done(struct vhost_user_frontend *frontend)
{
    frontend_record_drop(frontend);
}

static void push_due(struct vhost_user_frontend *frontend, uint32_t request, unsigned index, bool is_acknowledge)
{
    /* Bounded by how much can be asked for: frontend.h. */
    ASSERT(frontend->due_count < VHOST_USER_FRONTEND_DUE_MAX);
    frontend->due[(frontend->due_first + frontend->due_count++) % VHOST_USER_FRONTEND_DUE_MAX] =
        (struct vhost_user_frontend_due){
            .request = (uint8_t)request, .index = (uint8_t)index, .is_acknowledge = is_acknowledge};
    frontend->unanswered = 0;
}

/* Has the answer of @message been promised by the message itself? */
static bool has_own_reply(const struct vhost_user_frontend *frontend, uint32_t request)
{
    if (request == VHOST_USER_SET_LOG_BASE)
        return frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_LOG_SHMFD);
    return vhost_user_has_reply(request);
}

void frontend_send(struct vhost_user_frontend *frontend, struct vhost_user_message *message, unsigned index)
{
    uint32_t request = message->header.request;
    bool own = has_own_reply(frontend, request);
    bool acknowledged = !own && frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    message->header.flags = VHOST_USER_VERSION | (acknowledged ? VHOST_USER_FLAG_NEED_REPLY : 0);
    frontend->unanswered++;
    if (own || acknowledged)
        push_due(frontend, request, index, acknowledged);
    frontend->port->class->send(frontend->port, message);
    if (frontend->unanswered >= FRONTEND_BEHIND_UNANSWERED)
        frontend_send_empty(frontend, VHOST_USER_GET_FEATURES);
}

void frontend_send_empty(struct vhost_user_frontend *frontend, uint32_t request)
{
    struct vhost_user_message message = {.header.request = request};
    frontend_send(frontend, &message, 0);
}

void frontend_send_u64(struct vhost_user_frontend *frontend, uint32_t request, uint64_t value)
{
    struct vhost_user_message message = {
        .header = {.request = request, .size = sizeof(value)},
        .payload.u64 = value,
    };
    frontend_send(frontend, &message, 0);
}

void frontend_send_barrier(struct vhost_user_frontend *frontend)
{
    if (frontend->unanswered > 0)
        frontend_send_empty(frontend, VHOST_USER_GET_FEATURES);
}

bool frontend_is_behind(const struct vhost_user_frontend *frontend)
{
    /* Without acknowledgements each answer that is due stands for many messages. */
    if (!frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_REPLY_ACK))
        return frontend->due_count * FRONTEND_BEHIND_UNANSWERED >= FRONTEND_BEHIND_DUE;
    return frontend->due_count >= FRONTEND_BEHIND_DUE;
}

void frontend_break(struct vhost_user_frontend *frontend, const char *reason)
{
    struct virtio_listener *listener = frontend->virtio.listener;
    if (frontend->is_broken)
        return;
    frontend->is_broken = true;
    frontend->broken_reason = reason;
    if (frontend->port->class->broken != NULL)
        frontend->port->class->broken(frontend->port, reason);
    if (listener != NULL)
        listener->class->broken(listener);
}

void vhost_user_frontend_connected(struct vhost_user_frontend *frontend)
{
    ASSERT(frontend->phase == VHOST_USER_FRONTEND_AWAY);
    frontend->phase = VHOST_USER_FRONTEND_GREETING;
    frontend_greet(frontend);
}

/* Nothing that this peer was told, or owes, is of any worth to the next. */
static void forget_peer(struct vhost_user_frontend *frontend)
{
    frontend->phase = VHOST_USER_FRONTEND_AWAY;
    frontend->protocol_features = 0;
    frontend->told_features = 0;
    frontend->told_status = 0;
    frontend->told_record = false;
    frontend->told_log = false;
    frontend->told_region_count = 0;
    frontend->record_due = false;
    frontend->without_record = false;
    frontend->config_unsent = frontend->config_written;
    frontend->config_due = false;
    frontend->config_stale = false;
    frontend->due_count = 0;
    frontend->unanswered = 0;
}

void vhost_user_frontend_lost(struct vhost_user_frontend *frontend, const char *reason)
{
    struct virtio_listener *listener = frontend->virtio.listener;
    if (frontend->phase == VHOST_USER_FRONTEND_AWAY)
        return;
    forget_peer(frontend);
    frontend->lost_reason = reason;
    frontend->lost_total++;
    frontend->port->class->hang_up(frontend->port, reason);

    bool stopped[VHOST_USER_QUEUES_MAX] = {false};
    bool homeless = false;
    for (unsigned i = 0; i < frontend->virtio.queue_count; i++) {
        struct vhost_user_frontend_queue *queue = &frontend->queues[i];
        if (!queue->told)
            continue;
        uint32_t base = virtqueue_base_initial(frontend->features);
        homeless = !frontend_find_base(frontend, i, &base) || homeless;
        stopped[i] = queue->stopping;
        queue->resumed = !queue->stopping;
        queue->orphaned = queue->stopping;
        queue->base = base;
        queue->told = queue->stopping = false;
    }
    /* First of all: whoever stops for a reset forgets it with that. */
    if (homeless)
        frontend_break(frontend, "the back end is gone, and where it stood in its ring cannot be known");
    for (unsigned i = 0; i < frontend->virtio.queue_count; i++)
        if (stopped[i])
            listener->class->queue_stopped(listener, i);
    if (frontend->resetting) {
        frontend->resetting = false;
        listener->class->reset_done(listener);
    }
    if (frontend->port->class->settled != NULL)
        frontend->port->class->settled(frontend->port);
}

void vhost_user_frontend_abandon(struct vhost_user_frontend *frontend, const char *reason)
{
    ASSERT(frontend->phase == VHOST_USER_FRONTEND_AWAY);
    frontend_break(frontend, reason);
}

/* GET_VRING_BASE: NULL, or how it lies. */
static const char *queue_stopped(struct vhost_user_frontend *frontend, unsigned index,
                                 const struct vhost_user_message *reply)
{
    struct vhost_user_frontend_queue *queue = &frontend->queues[index];
    uint32_t base = reply->payload.state.num;
    if (reply->payload.state.index != index)
        return "GET_VRING_BASE: an answer about another queue";
    if (!frontend_packed(frontend) && base > UINT16_MAX)
        return "GET_VRING_BASE: the base of a split ring has 16 bits";
    /* Some know one half of a packed ring's alone (DPDK), nothing being in flight. */
    if (frontend_packed(frontend) && base >> 16 == 0)
        base |= base << 16;
    queue->base = base;
    queue->stopping = false;
    queue->told = false;
    struct virtio_listener *listener = frontend->virtio.listener;
    listener->class->queue_stopped(listener, index);
    return NULL;
}

/* The peer will not have message @due. NULL: so be it. */
static const char *refused(struct vhost_user_frontend *frontend, const struct vhost_user_frontend_due *due)
{
    switch (due->request) {
    case VHOST_USER_SET_VRING_NUM:
    case VHOST_USER_SET_VRING_ADDR:
    case VHOST_USER_SET_VRING_BASE:
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ENABLE:
        if (frontend->queues[due->index].wanted)
            frontend_break(frontend, "the back end refuses the ring");
        return NULL;
    case VHOST_USER_SET_FEATURES:
        frontend_break(frontend, "the back end refuses the features");
        return NULL;
    case VHOST_USER_SET_INFLIGHT_FD:
        frontend_break(frontend, "the back end refuses the record of requests in flight");
        return NULL;
    case VHOST_USER_SET_MEM_TABLE:
    case VHOST_USER_ADD_MEM_REG:
    case VHOST_USER_REM_MEM_REG:
        return "the back end refuses the memory";
    case VHOST_USER_RESET_DEVICE:
        return "the back end refuses to be reset";
    case VHOST_USER_SET_OWNER:
        return "the back end refuses an owner";
    default:
        /* SET_CONFIG: what comes of it is asked for anyway. The status, the error line, the channel: for information.
         */
        return NULL;
    }
}

/* An answer in due form to what was first in the ring. NULL: fine, else what is wrong. */
static const char *handle_reply(struct vhost_user_frontend *frontend, const struct vhost_user_frontend_due *due,
                                struct vhost_user_message *reply)
{
    if (due->is_acknowledge) {
        return reply->payload.u64 != 0 ? refused(frontend, due) : NULL;
    }
    switch (due->request) {
    case VHOST_USER_GET_VRING_BASE:
        return queue_stopped(frontend, due->index, reply);
    case VHOST_USER_GET_INFLIGHT_FD:
        return frontend_record_reply(frontend, reply);
    case VHOST_USER_GET_CONFIG:
        return frontend_config_reply(frontend, reply);
    default:
        break;
    }
    /* Afterwards these say no more than that all before them is done. */
    return frontend->phase == VHOST_USER_FRONTEND_GREETING ? frontend_greeting_reply(frontend, reply) : NULL;
}

static void close_handles(struct vhost_user_frontend *frontend, struct vhost_user_message *message)
{
    for (unsigned i = 0; i < message->handle_count; i++)
        if (message->handles[i] >= 0)
            frontend->port->class->close(frontend->port, message->handles[i]);
    message->handle_count = 0;
}

/* After an answer: what waited for it, or for the last one. */
static void settle(struct vhost_user_frontend *frontend)
{
    struct virtio_listener *listener = frontend->virtio.listener;
    if (frontend->resetting && frontend->due_count == 0) {
        frontend->resetting = false;
        listener->class->reset_done(listener);
    }
    frontend_sync(frontend);
    if (frontend->phase == VHOST_USER_FRONTEND_PRESENT && frontend->due_count == 0 &&
        frontend->port->class->settled != NULL)
        frontend->port->class->settled(frontend->port);
}

void vhost_user_frontend_reply(struct vhost_user_frontend *frontend, struct vhost_user_message *reply)
{
    const char *problem = NULL;
    if (frontend->phase == VHOST_USER_FRONTEND_AWAY || frontend->due_count == 0) {
        problem = "an answer to nothing";
    } else {
        const struct vhost_user_frontend_due due = frontend->due[frontend->due_first];
        int r = vhost_user_reply_check(reply, due.request, due.is_acknowledge);
        if (r < 0) {
            problem = r == -EPROTO ? "an answer to something else" : "an answer of another size than it has";
        } else {
            frontend->due_first = (frontend->due_first + 1) % VHOST_USER_FRONTEND_DUE_MAX;
            frontend->due_count--;
            frontend->answers_total++;
            problem = handle_reply(frontend, &due, reply);
        }
    }
    close_handles(frontend, reply);
    if (problem != NULL) {
        vhost_user_frontend_lost(frontend, problem);
        return;
    }
    settle(frontend);
}

void vhost_user_frontend_request(struct vhost_user_frontend *frontend, struct vhost_user_message *message)
{
    bool known = message->header.request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG && message->handle_count == 0;
    bool wants_answer = (message->header.flags & VHOST_USER_FLAG_NEED_REPLY) != 0;
    close_handles(frontend, message);
    if (frontend->phase != VHOST_USER_FRONTEND_PRESENT && frontend->phase != VHOST_USER_FRONTEND_GREETING)
        return;
    if (wants_answer) {
        const struct vhost_user_message answer = {
            .header = {.request = message->header.request,
                       .flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
                       .size = sizeof(uint64_t)},
            .payload.u64 = known ? 0 : 1,
        };
        frontend->port->class->answer(frontend->port, &answer);
    }
    if (known && frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_CONFIG)) {
        frontend->config_stale = true;
        frontend_sync(frontend);
    }
}

void vhost_user_frontend_failed(struct vhost_user_frontend *frontend)
{
    if (frontend->features_set)
        frontend_break(frontend, "the driver broke the rules of a queue");
}
