/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Opening and closing a link: the first connection, for which its owner waits. Until it stands the loop need not run:
 * what comes is read here.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "platform/linux/short_text.h"
#include "platform/linux/unix_socket.h"
#include "platform/linux/vhost_user_link_private.h"

#define LINK_QUEUE_SIZE_DEFAULT 256
/* How often open looks for a socket that is not there yet. */
#define LINK_OPEN_PAUSE_MS 20

static void link_close_handle(int *handle)
{
    if (*handle >= 0)
        close(*handle);
    *handle = -1;
}

static int link_queue_open(struct vhost_user_link *link, unsigned index)
{
    struct vhost_user_link_queue *queue = &link->queues[index];
    queue->link = link;
    queue->index = index;
    queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->kick < 0)
        return -errno;
    queue->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->call < 0)
        return -errno;
    return loop_watch(link->options.loop, &queue->call_watch, queue->call, LOOP_READABLE | LOOP_EDGE, link_call_ready);
}

static int link_event_open(struct vhost_user_link *link, int *handle, struct loop_watch *watch,
                           void (*ready)(struct loop_watch *watch, unsigned events))
{
    *handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (*handle < 0)
        return -errno;
    return ready ? loop_watch(link->options.loop, watch, *handle, LOOP_READABLE | LOOP_EDGE, ready) : 0;
}

/* 5.1.4, 5.2.4, 5.3.4, 5.10.4, 5.11.4: so much of the configuration space as every back end of the kind has. */
static uint32_t link_config_bytes(uint16_t device_id)
{
    switch (device_id) {
    case VIRTIO_ID_NET:
        return 12;
    case VIRTIO_ID_BLOCK:
        return 60;
    case VIRTIO_ID_CONSOLE:
        return 12;
    case VIRTIO_ID_SCSI:
        return 36;
    case VIRTIO_ID_VSOCK:
        return 8;
    case VIRTIO_ID_FS: /* without notify_buf_size, which comes with a feature that no back end has */
        return 40;
    default:
        return 0;
    }
}

/* What does not need a back end. */
static int link_prepare(struct vhost_user_link *link)
{
    const struct vhost_user_link_options *options = &link->options;
    link->out = calloc(LINK_OUT_MAX, sizeof(*link->out));
    link->queues = calloc(VHOST_USER_QUEUES_MAX, sizeof(*link->queues));
    if (!link->out || !link->queues)
        return -ENOMEM;
    for (unsigned i = 0; i < VHOST_USER_QUEUES_MAX; i++)
        link->queues[i] =
            (struct vhost_user_link_queue){.kick = -1, .call = -1, .call_watch = (struct loop_watch)LOOP_WATCH_NONE};
    int r = link_event_open(link, &link->error_handle, &link->error_watch, link_error_ready);
    if (r == 0)
        r = link_event_open(link, &link->wake_handle, &link->wake_watch, link_woken);
    if (r == 0)
        r = link_event_open(link, &link->fault_handle, NULL, NULL);
    if (r == 0)
        r = link_queue_open(link, 0);
    if (r < 0)
        return r;
    link->port.class = &link_port_class;
    const struct vhost_user_frontend_config config = {
        .device_id = options->device_id,
        .queue_count = options->queue_count,
        .queue_size_max = options->queue_size_max ? options->queue_size_max : LINK_QUEUE_SIZE_DEFAULT,
        .config_bytes = options->config_bytes ? options->config_bytes : link_config_bytes(options->device_id),
        .config_space = options->config_space,
        .isolated = options->isolated,
    };
    vhost_user_frontend_init(&link->frontend, &link->port, &config);
    return vhost_user_frontend_set_memory(&link->frontend, options->regions, options->region_count);
}

static unsigned left_ms(uint64_t deadline_ns)
{
    uint64_t now = loop_now_ns();
    return now < deadline_ns ? (unsigned)((deadline_ns - now) / NS_PER_MS) + 1 : 0;
}

/* A connection to whoever listens, before the deadline. */
static int link_first_connect(struct vhost_user_link *link, uint64_t deadline_ns, bool *told)
{
    for (;;) {
        int socket = unix_socket_connect_now(link->options.path);
        if (socket != -ENOENT && socket != -ECONNREFUSED && socket != -EAGAIN)
            return socket;
        if (left_ms(deadline_ns) == 0)
            return -ETIMEDOUT;
        if (!*told)
            log_line(link->options.log, LOG_LEVEL_INFO, "%s: waiting for a back end at %s", link->options.name,
                     SHORTENED(link->options.path));
        *told = true;
        poll(NULL, 0, (int)u32_min(LINK_OPEN_PAUSE_MS, left_ms(deadline_ns)));
    }
}

/* Let it introduce itself: 0, -EAGAIN when it went instead, or what is wrong. */
static int link_first_greeting(struct vhost_user_link *link, uint64_t deadline_ns)
{
    while (!link->greeted) {
        if (link->failed)
            vhost_user_frontend_lost(&link->frontend, link->failed_reason);
        if (link->channel.socket < 0)
            return link->frontend.lost_reason == link_closed_reason ? -EAGAIN : -EPROTO;
        struct pollfd look = {.fd = link->channel.socket, .events = POLLIN};
        unsigned timeout_ms = left_ms(deadline_ns);
        if (timeout_ms == 0)
            return -ETIMEDOUT;
        if (poll(&look, 1, (int)u32_min(timeout_ms, INT32_MAX)) > 0)
            link_receive(link);
    }
    return 0;
}

static int link_open_connection(struct vhost_user_link *link)
{
    uint64_t deadline_ns = loop_now_ns() + link->options.start_timeout_ms * NS_PER_MS;
    bool told = false;
    for (;;) {
        int socket = link->options.path ? link_first_connect(link, deadline_ns, &told) : link->options.socket;
        if (socket < 0)
            return socket;
        link->options.socket = -1;
        int r = link_take(link, socket);
        if (r == 0)
            r = link_first_greeting(link, deadline_ns);
        if (r != -EAGAIN || !link->options.path)
            return r == -EAGAIN ? -EPROTO : r;
        if (left_ms(deadline_ns) == 0)
            return -ETIMEDOUT;
        poll(NULL, 0, (int)u32_min(LINK_OPEN_PAUSE_MS, left_ms(deadline_ns)));
    }
}

static void link_problem(const struct vhost_user_link *link, int error, char problem[VHOST_USER_LINK_PROBLEM_BYTES])
{
    const char *path = link->options.path ? SHORTENED(link->options.path) : "its socket";
    const char *why;
    if (error == -ETIMEDOUT && link->channel.socket < 0)
        why = "no back end was there in time; start it, or wait longer";
    else if (error == -ETIMEDOUT)
        why = "the back end does not answer";
    else if (error == -EPROTO)
        why = link->frontend.lost_reason;
    else if (error == -ENAMETOOLONG)
        why = "the path is longer than 107 bytes; choose a shorter one";
    else
        why = strerror(-error);
    snprintf(problem, VHOST_USER_LINK_PROBLEM_BYTES, "%s: %s", path, why);
}

int vhost_user_link_open(struct vhost_user_link *link, const struct vhost_user_link_options *options,
                         char problem[VHOST_USER_LINK_PROBLEM_BYTES])
{
    memset(link, 0, sizeof(*link));
    link->options = *options;
    link->channel.socket = link->requests.socket = -1;
    link->error_handle = link->wake_handle = link->fault_handle = -1;
    link->watch = link->requests_watch = (struct loop_watch)LOOP_WATCH_NONE;
    link->error_watch = link->wake_watch = (struct loop_watch)LOOP_WATCH_NONE;
    link->reconnect_timer.expired = link_reconnect;
    link->reply_timer.expired = link_reply_late;
    link->reconnect_delay_ms = LINK_RECONNECT_MIN_MS;
    if (options->path)
        link->options.socket = -1;
    int r = link_prepare(link);
    if (r == 0)
        r = link_open_connection(link);
    for (unsigned i = 1; i < link->frontend.virtio.queue_count && r == 0; i++)
        r = link_queue_open(link, i);
    if (r < 0) {
        link_problem(link, r, problem);
        vhost_user_link_close(link);
        return r;
    }
    link->opened = true;
    link_attend(link);
    return 0;
}

void vhost_user_link_close(struct vhost_user_link *link)
{
    struct loop *loop = link->options.loop;
    if (!loop)
        return;
    link_drop_connection(link);
    loop_timer_set(loop, &link->reconnect_timer, 0);
    if (link->port.class)
        vhost_user_frontend_done(&link->frontend);
    loop_unwatch(loop, &link->error_watch);
    loop_unwatch(loop, &link->wake_watch);
    for (unsigned i = 0; i < VHOST_USER_QUEUES_MAX && link->queues; i++) {
        loop_unwatch(loop, &link->queues[i].call_watch);
        link_close_handle(&link->queues[i].kick);
        link_close_handle(&link->queues[i].call);
    }
    link_close_handle(&link->error_handle);
    link_close_handle(&link->wake_handle);
    link_close_handle(&link->fault_handle);
    link_close_handle(&link->options.socket);
    free(link->queues);
    free(link->out);
    memset(link, 0, sizeof(*link));
}
