/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The server waits for a connection, feeds its messages to the state machine one at a time, and reads no further while
 * that one is busy with queues that stop, or while an answer waits for room in the socket. When the front end goes, or
 * is told off for what cannot be followed, the state machine gives everything back, which may take until the last
 * request has come back from the disk. Only then the next front end is accepted.
 *
 * Nothing a front end does ends the process: what it may do to descriptors, lines and memory is handled in
 * vhost_user_channel, line and shared_mapping.
 *
 * Limits
 *
 * A front end that connects and says nothing keeps the others waiting: it is the one that was started for this device.
 */
#include "platform/linux/vhost_user_server.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/linux/shared_mapping.h"

/* Messages handled before others on the loop get their turn. */
#define SERVER_MESSAGES_PER_TURN 16

/* How long to leave a waiting connection alone after the process or the system ran out of descriptors. */
#define SERVER_RETRY_NS 200000000u

static void server_settle(struct vhost_user_server *server);

static struct vhost_user_server *server_of(struct vhost_user_port *port)
{
    return container_of(port, struct vhost_user_server, port);
}

/* ---- the port ---- */

static int server_map(struct vhost_user_port *port, int handle, uint64_t offset, uint64_t bytes,
                      struct vhost_user_mapping *ret_mapping)
{
    struct shared_mapping mapping;
    int r = shared_mapping_open(handle, offset, bytes, server_of(port)->fault_handle, &mapping);
    if (r < 0)
        return r;
    *ret_mapping = (struct vhost_user_mapping){.base = mapping.base, .bytes = bytes, .owner = mapping.owner};
    return 0;
}

static void server_unmap(struct vhost_user_port *port, const struct vhost_user_mapping *mapping)
{
    (void)port;
    shared_mapping_close(mapping->owner);
}

static void server_close(struct vhost_user_port *port, int handle)
{
    (void)port;
    close(handle);
}

static int server_shared_memory(struct vhost_user_port *port, uint64_t bytes, int *ret_handle)
{
    (void)port;
    if (bytes > INT64_MAX)
        return -EINVAL;
    int handle = memfd_create("backplane-inflight", MFD_CLOEXEC);
    if (handle < 0)
        return -errno;
    if (ftruncate(handle, (off_t)bytes) < 0) {
        int r = -errno;
        close(handle);
        return r;
    }
    *ret_handle = handle;
    return 0;
}

static int server_reply(struct vhost_user_port *port, const struct vhost_user_message *message, int handle)
{
    struct vhost_user_server *server = server_of(port);
    int r = vhost_user_channel_send(&server->channel, message, handle);
    if (r < 0)
        server->unusable = true;
    return r;
}

static int server_request(struct vhost_user_port *port, int channel, const struct vhost_user_message *message)
{
    (void)port;
    return vhost_user_channel_request(channel, message);
}

static void server_pin(const struct vhost_user_server_options *options, struct server_queue *queue)
{
    if (options->processor_count == 0)
        return;
    unsigned processor = options->processors[queue->index % options->processor_count];
    int r = server_queue_pin(queue, processor);
    if (r < 0)
        log_line(options->log, LOG_LEVEL_ERROR, "queue %u cannot run on processor %u: %s", queue->index, processor,
                 strerror(-r));
}

static void server_place(struct vhost_user_server *server, struct server_queue *queue)
{
    const struct vhost_user_server_options *options = &server->options;
    if (options->own_threads && server_queue_start_thread(queue, NULL, NULL) == 0)
        server_pin(options, queue);
    server_queue_place(queue, options->loop);
}

static void server_call_on_queue(struct vhost_user_port *port, unsigned index, void (*function)(void *argument),
                                 void *argument)
{
    struct vhost_user_server *server = server_of(port);
    ASSERT(index < server->queue_count);
    struct server_queue *queue = &server->server_queues[index];
    server_queue_call(queue, function, argument);
    if (server_queue_wants_place(queue))
        server_place(server, queue);
}

static void server_set_line(struct vhost_user_port *port, unsigned index, enum queue_line line, int handle)
{
    server_queue_set_line(&server_of(port)->server_queues[index], line, handle);
}

static void server_set_polled(struct vhost_user_port *port, unsigned index, bool polled)
{
    server_queue_set_polled(&server_of(port)->server_queues[index], polled);
}

static void server_events(struct vhost_user_port *port, unsigned index, unsigned events)
{
    server_queue_events(&server_of(port)->server_queues[index], events);
}

static const struct vhost_user_port_class server_port_class = {
    .map = server_map,
    .unmap = server_unmap,
    .close = server_close,
    .shared_memory = server_shared_memory,
    .reply = server_reply,
    .request = server_request,
    .call_on_queue = server_call_on_queue,
    .set_line = server_set_line,
    .set_polled = server_set_polled,
    .events = server_events,
};

/* ---- the connection ---- */

static bool server_may_read(const struct vhost_user_server *server)
{
    return server->state == VHOST_USER_SERVER_CONNECTED && !vhost_user_backend_busy(&server->backend) &&
           !vhost_user_channel_sending(&server->channel);
}

/* The front end is gone, or is sent away for @reason. */
static void server_disconnect(struct vhost_user_server *server, int reason)
{
    if (server->state != VHOST_USER_SERVER_CONNECTED)
        return;
    if (reason == 0 || reason == -ECONNRESET) {
        log_line(server->options.log, LOG_LEVEL_INFO, "the front end is gone");
    } else {
        server->refused_total++;
        log_line(server->options.log, LOG_LEVEL_INFO, "the front end is disconnected: %s", strerror(-reason));
    }
    server->state = VHOST_USER_SERVER_LEAVING;
    loop_unwatch(server->options.loop, &server->channel_watch);
    vhost_user_channel_close(&server->channel);
    vhost_user_backend_disconnect(&server->backend);
}

static void server_watch_channel(struct vhost_user_server *server)
{
    if (server->state != VHOST_USER_SERVER_CONNECTED)
        return;
    unsigned events = server_may_read(server) ? LOOP_READABLE : 0;
    if (vhost_user_channel_sending(&server->channel))
        events |= LOOP_WRITABLE;
    if (events == server->channel_events)
        return;
    server->channel_events = events;
    if (loop_watch_change(server->options.loop, &server->channel_watch, events) < 0)
        server_disconnect(server, -ENOMEM);
}

static void server_receive(struct vhost_user_server *server)
{
    struct vhost_user_message message;
    for (unsigned i = 0; i < SERVER_MESSAGES_PER_TURN && server_may_read(server); i++) {
        int r = vhost_user_channel_receive(&server->channel, &message);
        if (r == 0)
            return;
        if (r < 0 && r != -ECONNRESET)
            server->refused_reason = vhost_user_channel_problem(&server->channel);
        if (r > 0) {
            uint64_t refused = server->backend.refused_total;
            log_line(server->options.log, LOG_LEVEL_DEBUG, "%s", vhost_user_request_name(message.header.request));
            r = vhost_user_backend_message(&server->backend, &message);
            if (server->backend.refused_total != refused) {
                server->refused_reason = NULL;
                log_line(server->options.log, LOG_LEVEL_DEBUG, "%s is refused: %s",
                         vhost_user_request_name(message.header.request), server->backend.refused_reason);
            }
        }
        if (r < 0)
            server_disconnect(server, r);
    }
}

static void server_channel_ready(struct loop_watch *watch, unsigned events)
{
    struct vhost_user_server *server = container_of(watch, struct vhost_user_server, channel_watch);
    if (events & LOOP_WRITABLE && vhost_user_channel_flush(&server->channel) < 0)
        server_disconnect(server, -ECONNRESET);
    if (server_may_read(server))
        server_receive(server);
    else if (events & LOOP_HANGUP)
        server_disconnect(server, -ECONNRESET); /* not reading now, and nobody is there to be answered */
    server_settle(server);
}

static void server_clear_faults(struct vhost_user_server *server)
{
    uint64_t count;
    ssize_t taken = read(server->fault_handle, &count, sizeof(count));
    (void)taken;
}

static void server_connected(struct vhost_user_server *server, int socket)
{
    server_clear_faults(server);
    vhost_user_channel_open(&server->channel, socket);
    server->unusable = false;
    server->state = VHOST_USER_SERVER_CONNECTED;
    server->channel_events = LOOP_READABLE;
    server->connections_total++;
    log_line(server->options.log, LOG_LEVEL_INFO, "a front end has connected");
    int r = loop_watch(server->options.loop, &server->channel_watch, socket, LOOP_READABLE, server_channel_ready);
    if (r < 0)
        server_disconnect(server, r);
}

static void server_listener_ready(struct loop_watch *watch, unsigned events)
{
    struct vhost_user_server *server = container_of(watch, struct vhost_user_server, listener_watch);
    (void)events;
    int r = unix_listener_accept(&server->listener);
    if (r == -EAGAIN)
        return;
    loop_unwatch(server->options.loop, watch);
    if (r >= 0) {
        server_connected(server, r);
        server_settle(server);
    } else {
        log_line(server->options.log, LOG_LEVEL_ERROR, "cannot accept a connection: %s", strerror(-r));
        loop_timer_set(server->options.loop, &server->retry, loop_now_ns() + SERVER_RETRY_NS);
    }
}

static void server_wait(struct vhost_user_server *server)
{
    struct loop *loop = server->options.loop;
    if (server->listener_watch.handle < 0 &&
        loop_watch(loop, &server->listener_watch, server->listener.handle, LOOP_READABLE, server_listener_ready) < 0)
        loop_timer_set(loop, &server->retry, loop_now_ns() + SERVER_RETRY_NS);
}

static void server_retry(struct loop_timer *timer)
{
    server_wait(container_of(timer, struct vhost_user_server, retry));
}

static void server_close_lines(void *argument)
{
    server_queue_close_lines(argument);
}

/* After anything that may have ended a wait or a front end. */
static void server_settle(struct vhost_user_server *server)
{
    if (server->unusable)
        server_disconnect(server, -EPROTO);
    server_watch_channel(server);
    if (server->state != VHOST_USER_SERVER_LEAVING || vhost_user_backend_busy(&server->backend))
        return;
    for (unsigned i = 0; i < server->queue_count; i++) {
        struct server_queue *queue = &server->server_queues[i];
        server_queue_call(queue, server_close_lines, queue);
        atomic_store(&queue->told, 0); /* what it told of this front end is not to meet the next one */
    }
    if (server->stopping || server->listener.handle < 0) {
        server->state = VHOST_USER_SERVER_ENDED;
        server->options.ended(server->options.context);
    } else {
        server->state = VHOST_USER_SERVER_WAITING;
        server_wait(server);
    }
}

static void server_told(struct server_queue *queue, unsigned told)
{
    struct vhost_user_server *server = container_of(queue - queue->index, struct vhost_user_server, server_queues[0]);
    if (told & SERVER_QUEUE_UNUSABLE)
        server->unusable = true;
    if (told & SERVER_QUEUE_BROKEN) {
        log_line(server->options.log, LOG_LEVEL_DEBUG, "queue %u is broken by the guest", queue->index);
        vhost_user_backend_queue_broken(&server->backend, queue->index);
    }
    if (told & SERVER_QUEUE_STOPPED) {
        int r = vhost_user_backend_queue_stopped(&server->backend, queue->index);
        if (r < 0)
            server_disconnect(server, r);
    }
    server_settle(server);
}

static void server_fault(struct loop_watch *watch, unsigned events)
{
    struct vhost_user_server *server = container_of(watch, struct vhost_user_server, fault_watch);
    (void)events;
    server_clear_faults(server);
    if (server->state == VHOST_USER_SERVER_CONNECTED)
        server->refused_reason = "memory of the front end is gone: its file was made shorter";
    server_disconnect(server, -EFAULT);
    server_settle(server);
}

/* ---- life ---- */

int vhost_user_server_init(struct vhost_user_server *server, const struct vhost_user_server_options *options)
{
    ASSERT(options->device->queue_count <= VHOST_USER_QUEUES_MAX);
    *server = (struct vhost_user_server){
        .port.class = &server_port_class,
        .options = *options,
        .state = VHOST_USER_SERVER_WAITING,
        .listener.handle = -1,
        .listener_watch = LOOP_WATCH_NONE,
        .retry.expired = server_retry,
        .channel.socket = -1,
        .channel_watch = LOOP_WATCH_NONE,
        .fault_watch = LOOP_WATCH_NONE,
    };
    server->fault_handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->fault_handle < 0)
        return -errno;
    int r = loop_watch(options->loop, &server->fault_watch, server->fault_handle, LOOP_READABLE, server_fault);
    if (r < 0) {
        close(server->fault_handle);
        return r;
    }
    server->queue_count = options->device->queue_count;
    for (unsigned i = 0; i < server->queue_count; i++)
        server_queue_init(&server->server_queues[i], i, options->device, options->queues, &server->options.queue_port,
                          options->polling, options->loop, server_told);
    vhost_user_backend_init(&server->backend, &server->port, options->device);
    return 0;
}

int vhost_user_server_listen(struct vhost_user_server *server, const struct unix_listener *listener)
{
    server->listener = *listener;
    return loop_watch(server->options.loop, &server->listener_watch, listener->handle, LOOP_READABLE,
                      server_listener_ready);
}

static int server_socket_option(int handle, int option, int *ret_value)
{
    socklen_t length = sizeof(*ret_value);
    return getsockopt(handle, SOL_SOCKET, option, ret_value, &length) < 0 ? -errno : 0;
}

int vhost_user_server_adopt(struct vhost_user_server *server, int handle)
{
    int domain = 0, type = 0, listening = 0;
    int r = server_socket_option(handle, SO_DOMAIN, &domain);
    if (r == 0)
        r = server_socket_option(handle, SO_TYPE, &type);
    if (r == 0)
        r = server_socket_option(handle, SO_ACCEPTCONN, &listening);
    if (r == 0 && (domain != AF_UNIX || type != SOCK_STREAM))
        r = -EPROTOTYPE;
    /* Nobody is at its other end, nor can come: the server would wait in vain. One that has gone meanwhile is known. */
    struct sockaddr_un peer;
    socklen_t length = sizeof(peer);
    if (r == 0 && !listening && getpeername(handle, (struct sockaddr *)&peer, &length) < 0)
        r = -errno;
    /* accept must not wait for a connection that was given up; all else is asked not to wait call by call. */
    if (r == 0 && (fcntl(handle, F_SETFD, FD_CLOEXEC) < 0 || (listening && fcntl(handle, F_SETFL, O_NONBLOCK) < 0)))
        r = -errno;
    if (r < 0) {
        close(handle);
        return r;
    }
    if (listening)
        return vhost_user_server_listen(server, &(struct unix_listener){.handle = handle});
    server_connected(server, handle);
    server_settle(server);
    return 0;
}

void vhost_user_server_stop(struct vhost_user_server *server)
{
    server->stopping = true;
    loop_unwatch(server->options.loop, &server->listener_watch);
    loop_timer_set(server->options.loop, &server->retry, 0);
    if (server->state == VHOST_USER_SERVER_WAITING)
        server->state = VHOST_USER_SERVER_LEAVING; /* nobody to send away */
    server_disconnect(server, 0);
    server_settle(server);
}

void vhost_user_server_done(struct vhost_user_server *server)
{
    struct loop *loop = server->options.loop;
    ASSERT(server->state != VHOST_USER_SERVER_CONNECTED);
    for (unsigned i = 0; i < server->queue_count; i++)
        server_queue_done(&server->server_queues[i]);
    loop_unwatch(loop, &server->listener_watch);
    loop_unwatch(loop, &server->fault_watch);
    loop_timer_set(loop, &server->retry, 0);
    unix_listener_close(&server->listener);
    close(server->fault_handle);
}

bool vhost_user_server_config_changed(struct vhost_user_server *server)
{
    return server->state == VHOST_USER_SERVER_CONNECTED && vhost_user_backend_config_changed(&server->backend);
}

struct server_look {
    struct server_queue *queue;
    struct server_queue_statistics *statistics;
};

static void server_look(void *argument)
{
    const struct server_look *look = argument;
    server_queue_look(look->queue, look->statistics);
}

void vhost_user_server_look(struct vhost_user_server *server, unsigned index,
                            struct server_queue_statistics *ret_statistics)
{
    ASSERT(index < server->queue_count);
    struct server_look look = {.queue = &server->server_queues[index], .statistics = ret_statistics};
    server_queue_call(look.queue, server_look, &look);
}
