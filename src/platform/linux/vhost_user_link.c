/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Messages go out at once, on the thread of whoever sends, as far as the socket takes them; the rest stands in a ring
 * with copies of its handles until the socket has room. Everything that belongs to the loop (watches, timers, the end
 * of a connection) is done on the loop's thread: a sender signals wake_handle where that is needed.
 *
 * While a connection stands there is no timer but for answers that are due. While there is none, a timer tries to
 * connect, at first soon and then every second. A back end that connects and turns out to be of no use is asked less
 * and less often in the same way, since only one that has introduced itself sets the delay back.
 *
 * Kicks and interrupts are eventfds that live as long as the link: a kick while no back end is there stays in its
 * eventfd, and the next one finds it.
 *
 * Limits
 *
 * A back end that takes no messages while LINK_OUT_MAX wait for it is hung up on.
 */
#include "platform/linux/vhost_user_link_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platform/linux/shared_mapping.h"
#include "platform/linux/short_text.h"
#include "platform/linux/unix_socket.h"

#define LINK_REPLY_TIMEOUT_MS 60000
/* Between two attempts to connect: from LINK_RECONNECT_MIN_MS on, each time twice as long. */
#define LINK_RECONNECT_MAX_MS 1000
/* Answers taken at a time before others on the loop have their turn. */
#define LINK_RECEIVE_MAX 64

const char link_closed_reason[] = "the back end has closed the connection";

static struct vhost_user_link *link_of(struct vhost_user_frontend_port *port)
{
    return container_of(port, struct vhost_user_link, port);
}

static void link_lock(struct vhost_user_link *link)
{
    if (link->options.lock)
        link->options.lock(link->options.lock_argument);
}

static void link_unlock(struct vhost_user_link *link)
{
    if (link->options.unlock)
        link->options.unlock(link->options.lock_argument);
}

static void link_signal(int handle)
{
    const uint64_t one = 1;
    /* A full one is signalled already. */
    ssize_t written = write(handle, &one, sizeof(one));
    (void)written;
}

/* Sending */

static void link_out_drop_first(struct vhost_user_link *link)
{
    struct vhost_user_message *message = &link->out[link->out_first].message;
    for (unsigned i = 0; i < message->handle_count; i++)
        close(message->handles[i]);
    link->out_first = (link->out_first + 1) % LINK_OUT_MAX;
    link->out_count--;
}

static void link_fail(struct vhost_user_link *link, const char *reason)
{
    link->failed = true;
    link->failed_reason = reason;
    link_signal(link->wake_handle);
}

/* Keep what is left of @message for later. */
static void link_out_push(struct vhost_user_link *link, const struct vhost_user_message *message, size_t sent)
{
    if (link->out_count == LINK_OUT_MAX) {
        link_fail(link, "the back end takes no more messages");
        return;
    }
    struct vhost_user_link_out *out = &link->out[(link->out_first + link->out_count) % LINK_OUT_MAX];
    *out = (struct vhost_user_link_out){.message = *message, .sent = sent};
    out->message.handle_count = 0;
    for (unsigned i = 0; i < message->handle_count && sent == 0; i++) {
        int copy = fcntl(message->handles[i], F_DUPFD_CLOEXEC, 0);
        if (copy < 0) {
            link_fail(link, "this process has no descriptors left");
            break;
        }
        out->message.handles[out->message.handle_count++] = copy;
    }
    link->out_count++;
    link_signal(link->wake_handle);
}

static void port_send(struct vhost_user_frontend_port *port, const struct vhost_user_message *message)
{
    struct vhost_user_link *link = link_of(port);
    int count = 0;
    if (link->failed || link->channel.socket < 0)
        return;
    if (link->out_count == 0) {
        count = vhost_user_channel_transmit(link->channel.socket, message, 0);
        if (count == (int)(VHOST_USER_HEADER_BYTES + message->header.size)) {
            /* The first answer that is due starts the clock. */
            if (!link->reply_clock)
                link_signal(link->wake_handle);
            return;
        }
        if (count < 0 && count != -EAGAIN) {
            link_fail(link, link_closed_reason);
            return;
        }
    }
    link_out_push(link, message, count > 0 ? (size_t)count : 0);
}

/* Send what waits. */
static void link_flush(struct vhost_user_link *link)
{
    while (link->out_count > 0 && !link->failed) {
        struct vhost_user_link_out *out = &link->out[link->out_first];
        int count = vhost_user_channel_transmit(link->channel.socket, &out->message, out->sent);
        if (count == -EAGAIN)
            return;
        if (count < 0) {
            link_fail(link, link_closed_reason);
            return;
        }
        out->sent += (size_t)count;
        if (out->sent == VHOST_USER_HEADER_BYTES + out->message.header.size)
            link_out_drop_first(link);
    }
}

static void port_answer(struct vhost_user_frontend_port *port, const struct vhost_user_message *message)
{
    struct vhost_user_link *link = link_of(port);
    /* A back end that does not read what it asks for does without. */
    if (link->requests.socket >= 0)
        (void)vhost_user_channel_request(link->requests.socket, message);
}

/* The rest of the port */

static void link_requests_ready(struct loop_watch *watch, unsigned events);

static int port_open_channel(struct vhost_user_frontend_port *port, int *ret_handle)
{
    struct vhost_user_link *link = link_of(port);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    vhost_user_channel_open(&link->requests, pair[0]);
    int r = loop_watch(link->options.loop, &link->requests_watch, pair[0], LOOP_READABLE, link_requests_ready);
    if (r < 0) {
        vhost_user_channel_close(&link->requests);
        close(pair[1]);
        return r;
    }
    *ret_handle = pair[1];
    return 0;
}

static void port_close(struct vhost_user_frontend_port *port, int handle)
{
    (void)port;
    close(handle);
}

static int port_map(struct vhost_user_frontend_port *port, int handle, uint64_t offset, uint64_t bytes,
                    struct vhost_user_mapping *ret_mapping)
{
    struct shared_mapping mapping;
    int r = shared_mapping_open(handle, offset, bytes, link_of(port)->fault_handle, &mapping);
    if (r == 0)
        *ret_mapping = (struct vhost_user_mapping){.base = mapping.base, .bytes = bytes, .owner = mapping.owner};
    return r;
}

static void port_unmap(struct vhost_user_frontend_port *port, const struct vhost_user_mapping *mapping)
{
    (void)port;
    shared_mapping_close(mapping->owner);
}

static int port_kick_handle(struct vhost_user_frontend_port *port, unsigned index)
{
    return link_of(port)->queues[index].kick;
}

static int port_notify_handle(struct vhost_user_frontend_port *port, unsigned index)
{
    return link_of(port)->queues[index].call;
}

static int port_error_handle(struct vhost_user_frontend_port *port)
{
    return link_of(port)->error_handle;
}

static void port_signal(struct vhost_user_frontend_port *port, int handle)
{
    (void)port;
    link_signal(handle);
}

static void link_drop_requests(struct vhost_user_link *link)
{
    loop_unwatch(link->options.loop, &link->requests_watch);
    vhost_user_channel_close(&link->requests);
}

void link_drop_connection(struct vhost_user_link *link)
{
    loop_unwatch(link->options.loop, &link->watch);
    link_drop_requests(link);
    vhost_user_channel_close(&link->channel);
    while (link->out_count > 0)
        link_out_drop_first(link);
    loop_timer_set(link->options.loop, &link->reply_timer, 0);
    link->reply_clock = false;
    link->failed = false;
}

static void link_try_later(struct vhost_user_link *link)
{
    uint64_t now = loop_now_ns();
    loop_timer_set(link->options.loop, &link->reconnect_timer, now + link->reconnect_delay_ms * NS_PER_MS);
    link->reconnect_delay_ms = u32_min(2 * link->reconnect_delay_ms, LINK_RECONNECT_MAX_MS);
}

static void port_hang_up(struct vhost_user_frontend_port *port, const char *reason)
{
    struct vhost_user_link *link = link_of(port);
    link_drop_connection(link);
    if (!link->opened)
        return; /* open sees to it */
    bool again = link->options.path != NULL;
    if (link->greeted)
        log_line(link->options.log, LOG_LEVEL_INFO, "%s: %s%s%s", link->options.name, reason,
                 again ? "; waiting for the next one at " : "", again ? SHORTENED(link->options.path) : "");
    link->greeted = false;
    if (again)
        link_try_later(link);
}

static void port_greeted(struct vhost_user_frontend_port *port)
{
    struct vhost_user_link *link = link_of(port);
    link->greeted = true;
    link->reconnect_delay_ms = LINK_RECONNECT_MIN_MS;
    if (link->opened)
        log_line(link->options.log, LOG_LEVEL_INFO, "%s: a back end is there again", link->options.name);
}

static void port_settled(struct vhost_user_frontend_port *port)
{
    struct vhost_user_link *link = link_of(port);
    if (link->options.settled)
        link->options.settled(link->options.settled_argument);
}

static void port_broken(struct vhost_user_frontend_port *port, const char *reason)
{
    struct vhost_user_link *link = link_of(port);
    log_line(link->options.log, LOG_LEVEL_ERROR, "%s: the device needs a reset: %s", link->options.name, reason);
}

const struct vhost_user_frontend_port_class link_port_class = {
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

/* What comes in, on the loop's thread */

/* With the lock held: the connection is of no more use. */
static void link_lost(struct vhost_user_link *link, const char *reason)
{
    vhost_user_frontend_lost(&link->frontend, reason);
    if (link->opened && link->options.path == NULL)
        vhost_user_frontend_abandon(&link->frontend, "the back end is gone, and no other can be had");
}

/* With the lock held: watches and timers as they are to be now. */
void link_attend(struct vhost_user_link *link)
{
    struct loop *loop = link->options.loop;
    if (link->channel.socket < 0)
        return;
    if (link->failed) {
        link_lost(link, link->failed_reason);
        return;
    }
    (void)loop_watch_change(loop, &link->watch, LOOP_READABLE | (link->out_count > 0 ? LOOP_WRITABLE : 0));
    bool waits = vhost_user_frontend_waits(&link->frontend);
    if (waits && !link->reply_clock) {
        link->reply_clock = true;
        unsigned timeout_ms = link->options.reply_timeout_ms ? link->options.reply_timeout_ms : LINK_REPLY_TIMEOUT_MS;
        link->answers_seen = link->frontend.answers_total;
        loop_timer_set(loop, &link->reply_timer, loop_now_ns() + timeout_ms * NS_PER_MS);
    } else if (!waits && link->reply_clock) {
        link->reply_clock = false;
        loop_timer_set(loop, &link->reply_timer, 0);
    }
}

void link_reply_late(struct loop_timer *timer)
{
    struct vhost_user_link *link = container_of(timer, struct vhost_user_link, reply_timer);
    link_lock(link);
    link->reply_clock = false;
    if (vhost_user_frontend_waits(&link->frontend) && link->frontend.answers_total == link->answers_seen)
        link_lost(link, "the back end does not answer");
    else
        link_attend(link);
    link_unlock(link);
}

/* With the lock held. */
void link_receive(struct vhost_user_link *link)
{
    for (unsigned i = 0; i < LINK_RECEIVE_MAX && link->channel.socket >= 0; i++) {
        struct vhost_user_message reply;
        int r = vhost_user_channel_receive(&link->channel, &reply);
        if (r == 0)
            return;
        if (r > 0) {
            vhost_user_frontend_reply(&link->frontend, &reply);
            continue;
        }
        const char *problem = vhost_user_channel_problem(&link->channel);
        link_lost(link, problem ? problem : link_closed_reason);
    }
}

static void link_ready(struct loop_watch *watch, unsigned events)
{
    struct vhost_user_link *link = container_of(watch, struct vhost_user_link, watch);
    link_lock(link);
    if (events & LOOP_WRITABLE)
        link_flush(link);
    if (events & (LOOP_READABLE | LOOP_HANGUP))
        link_receive(link);
    link_attend(link);
    link_unlock(link);
}

static void link_requests_ready(struct loop_watch *watch, unsigned events)
{
    struct vhost_user_link *link = container_of(watch, struct vhost_user_link, requests_watch);
    (void)events;
    link_lock(link);
    for (unsigned i = 0; i < LINK_RECEIVE_MAX && link->requests.socket >= 0; i++) {
        struct vhost_user_message request;
        int r = vhost_user_channel_receive(&link->requests, &request);
        if (r == 0)
            break;
        if (r > 0)
            vhost_user_frontend_request(&link->frontend, &request);
        else
            link_drop_requests(link); /* answers may still come, and they decide */
    }
    link_attend(link);
    link_unlock(link);
}

void link_woken(struct loop_watch *watch, unsigned events)
{
    struct vhost_user_link *link = container_of(watch, struct vhost_user_link, wake_watch);
    (void)events;
    link_lock(link);
    link_attend(link);
    link_unlock(link);
}

void link_error_ready(struct loop_watch *watch, unsigned events)
{
    struct vhost_user_link *link = container_of(watch, struct vhost_user_link, error_watch);
    (void)events;
    link_lock(link);
    vhost_user_frontend_failed(&link->frontend);
    link_unlock(link);
}

/* Without the lock: as the contract has it. */
void link_call_ready(struct loop_watch *watch, unsigned events)
{
    const struct vhost_user_link_queue *queue = container_of(watch, struct vhost_user_link_queue, call_watch);
    struct virtio_listener *listener = queue->link->frontend.virtio.listener;
    (void)events;
    if (listener)
        listener->class->queue_notify(listener, queue->index);
}

/* Connections */

int link_take(struct vhost_user_link *link, int socket)
{
    vhost_user_channel_open_replies(&link->channel, socket);
    int r = loop_watch(link->options.loop, &link->watch, socket, LOOP_READABLE, link_ready);
    if (r < 0) {
        vhost_user_channel_close(&link->channel);
        return r;
    }
    vhost_user_frontend_connected(&link->frontend);
    return 0;
}

void link_reconnect(struct loop_timer *timer)
{
    struct vhost_user_link *link = container_of(timer, struct vhost_user_link, reconnect_timer);
    int socket = unix_socket_connect_now(link->options.path);
    link_lock(link);
    int r = socket < 0 ? socket : link_take(link, socket);
    if (r < 0)
        link_try_later(link);
    else
        link_attend(link);
    link_unlock(link);
}

bool vhost_user_link_connected(const struct vhost_user_link *link)
{
    return link->greeted;
}
