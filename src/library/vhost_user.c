/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A server is one loop with one struct vhost_user_server on it, and every queue runs on that loop. The loop's epoll
 * handle can be polled by others, so a program that has a loop of its own nests ours. A request to stop comes by an
 * eventfd, since a signal handler may write one.
 */
#include <backplane/vhost_user.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "library/device.h"
#include "platform/linux/loop.h"
#include "platform/linux/vhost_user_server.h"

#define STRING_OF(value) #value
#define VERSION_OF(major, minor, patch) STRING_OF(major) "." STRING_OF(minor) "." STRING_OF(patch)

/* The umask of the process decides who may connect. */
#define SOCKET_MODE 0777

#define NS_PER_MS 1000000u

struct backplane_server {
    struct loop loop;
    struct vhost_user_server server;
    struct backplane_device *device;
    char *path;      /* NULL: inherited */
    int stop_handle; /* eventfd */
    struct loop_watch stop_watch;
    bool loop_made;
    bool server_made;
    bool ended;
};

const char *backplane_version(void)
{
    return VERSION_OF(BACKPLANE_VERSION_MAJOR, BACKPLANE_VERSION_MINOR, BACKPLANE_VERSION_PATCH);
}

static void server_ended(void *context)
{
    struct backplane_server *server = context;
    server->ended = true;
}

static void server_asked_to_stop(struct loop_watch *watch, unsigned events)
{
    struct backplane_server *server = container_of(watch, struct backplane_server, stop_watch);
    uint64_t count;
    (void)events;
    ssize_t taken = read(watch->handle, &count, sizeof(count));
    (void)taken; /* that it was asked is all there is to know */
    loop_unwatch(&server->loop, watch);
    vhost_user_server_stop(&server->server);
}

/* Give back what there is; also of a half-made one. */
static void server_free(struct backplane_server *server)
{
    if (server->server_made)
        vhost_user_server_done(&server->server);
    if (server->loop_made) {
        loop_unwatch(&server->loop, &server->stop_watch);
        loop_done(&server->loop);
    }
    if (server->stop_handle >= 0)
        close(server->stop_handle);
    server->device->served = false;
    free(server->path);
    free(server);
}

/* Everything but where front ends come from. */
static int server_make(struct backplane_device *device, const char *path, struct backplane_server **ret_server)
{
    if (device->served)
        return -EBUSY;
    struct backplane_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return -ENOMEM;
    device->served = true;
    server->device = device;
    server->stop_watch = (struct loop_watch)LOOP_WATCH_NONE;
    server->stop_handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = server->stop_handle < 0 ? -errno : loop_init(&server->loop);
    server->loop_made = r == 0;
    if (r == 0 && path != NULL) {
        server->path = strdup(path);
        r = server->path == NULL ? -ENOMEM : 0;
    }
    if (r == 0)
        r = loop_watch(&server->loop, &server->stop_watch, server->stop_handle, LOOP_READABLE, server_asked_to_stop);
    if (r == 0) {
        struct vhost_user_server_options options = {
            .loop = &server->loop,
            .device = &device->device,
            .queues = &device->queues,
            .queue_port = {.handle = device_port_handle, .context = device},
            .ended = server_ended,
            .context = server,
        };
        r = vhost_user_server_init(&server->server, &options);
        server->server_made = r == 0;
    }
    if (r < 0) {
        server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

int backplane_server_open(struct backplane_device *device, const char *path, struct backplane_server **ret_server)
{
    struct backplane_server *server;
    int r = server_make(device, path, &server);
    if (r < 0)
        return r;
    struct unix_listener listener;
    r = unix_listener_open(&listener, server->path, SOCKET_MODE);
    if (r == 0)
        r = vhost_user_server_listen(&server->server, &listener);
    if (r < 0) {
        server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

int backplane_server_adopt(struct backplane_device *device, int handle, struct backplane_server **ret_server)
{
    struct backplane_server *server;
    int r = server_make(device, NULL, &server);
    if (r < 0) {
        close(handle);
        return r;
    }
    r = vhost_user_server_adopt(&server->server, handle);
    if (r < 0) {
        server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

int backplane_server_handle(const struct backplane_server *server)
{
    return server->loop.epoll_handle;
}

int backplane_server_timeout_ms(const struct backplane_server *server)
{
    uint64_t timeout_ns = server->ended ? 0 : loop_timeout_ns(&server->loop);
    if (timeout_ns == UINT64_MAX)
        return -1;
    /* Rounded up, or poll would return early again and again. */
    return (int)u64_min(timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0), INT32_MAX);
}

/* One turn, waiting for something to do if @wait. As backplane_server_turn. */
static int server_turn(struct backplane_server *server, bool wait)
{
    if (server->ended)
        return 0;
    int r = loop_turn(&server->loop, wait ? UINT64_MAX : 0);
    if (r < 0)
        return r;
    return server->ended ? 0 : 1;
}

int backplane_server_turn(struct backplane_server *server)
{
    return server_turn(server, false);
}

int backplane_server_run(struct backplane_server *server)
{
    int r;
    do {
        r = server_turn(server, true);
    } while (r > 0);
    return r;
}

void backplane_server_stop(struct backplane_server *server)
{
    int saved = errno;
    uint64_t one = 1;
    ssize_t written = write(server->stop_handle, &one, sizeof(one));
    (void)written; /* full: it has been asked already */
    errno = saved;
}

void backplane_server_close(struct backplane_server *server)
{
    if (server == NULL)
        return;
    if (!server->ended)
        vhost_user_server_stop(&server->server);
    while (server_turn(server, true) > 0) {
    }
    server_free(server);
}

bool backplane_server_config_changed(struct backplane_server *server)
{
    atomic_fetch_add(&server->device->device.config_generation, 1);
    return vhost_user_server_config_changed(&server->server);
}
