/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device served by vhost-user on a Unix socket: one front end at a time, the next ones wait in the socket's backlog.
 * This is the world of struct vhost_user_backend on Linux. All functions are for the control thread, which runs the
 * loop; none of them blocks longer than one turn of a queue.
 */
#ifndef PLATFORM_LINUX_VHOST_USER_SERVER_H
#define PLATFORM_LINUX_VHOST_USER_SERVER_H

#include "platform/linux/device_queues.h"
#include "platform/linux/log.h"
#include "platform/linux/loop.h"
#include "platform/linux/server_queue.h"
#include "platform/linux/unix_socket.h"
#include "platform/linux/vhost_user_channel.h"
#include "transports/vhost_user/backend.h"

struct vhost_user_server_options {
    struct loop *loop; /* the control thread's; borrowed, like everything here */
    struct virtio_device *device;
    struct device_queues *queues; /* the device's */
    const struct log *log;        /* NULL: nothing is said */
    bool own_threads;             /* a thread for each queue that is used; else all run on the loop */
    enum server_polling polling;  /* of queues with a thread of their own */
    /* The thread of queue i runs on processors[i % processor_count]; none: anywhere. */
    const uint16_t *processors;
    unsigned processor_count;
    struct server_queue_port queue_port;
    /* The server has come to its end: a connected socket's front end is gone, or vhost_user_server_stop is done. */
    void (*ended)(void *context);
    void *context;
};

enum vhost_user_server_state {
    VHOST_USER_SERVER_WAITING,   /* for a front end */
    VHOST_USER_SERVER_CONNECTED, /* with one */
    VHOST_USER_SERVER_LEAVING,   /* it is gone; its queues are being stopped */
    VHOST_USER_SERVER_ENDED,
};

struct vhost_user_server {
    struct vhost_user_port port;
    struct vhost_user_server_options options;
    enum vhost_user_server_state state;
    bool stopping;
    bool unusable; /* the front end must go: found out where it cannot be told off */
    struct unix_listener listener;
    struct loop_watch listener_watch;
    struct loop_timer retry; /* descriptors ran out: accept again later */
    struct vhost_user_channel channel;
    struct loop_watch channel_watch;
    unsigned channel_events;
    int fault_handle; /* eventfd: memory of the front end is gone (shared_mapping.h) */
    struct loop_watch fault_watch;
    struct vhost_user_backend backend;
    struct server_queue server_queues[VHOST_USER_QUEUES_MAX];
    unsigned queue_count;
    uint64_t connections_total;
    uint64_t refused_total; /* front ends that were told off */
    /* Why the last of them was, where that was no message's fault; NULL: see backend.refused_reason. A constant. */
    const char *refused_reason;
};

/*
 * Make a server that serves nobody yet. @server is some 80 KiB: not for a stack. It is borrowed by the loop until
 * vhost_user_server_done.
 */
int vhost_user_server_init(struct vhost_user_server *server, const struct vhost_user_server_options *options);

/* Serve front ends that connect to @listener, one after the other. Takes it over. */
int vhost_user_server_listen(struct vhost_user_server *server, const struct unix_listener *listener);

/*
 * Serve at @handle, which was inherited and is taken over: a listening socket as above, a connected one until its front
 * end goes. -ENOTSOCK, -EPROTOTYPE: it is no Unix stream socket; -ENOTCONN: nobody is at its other end. The handle is
 * closed on failure.
 */
int vhost_user_server_adopt(struct vhost_user_server *server, int handle);

/* Send the front end away, let the queues finish, and then call ended(). */
void vhost_user_server_stop(struct vhost_user_server *server);

/* After ended, or before anything was served: threads end, everything is given back. */
void vhost_user_server_done(struct vhost_user_server *server);

/* The device changed its configuration: true when the front end was told. */
bool vhost_user_server_config_changed(struct vhost_user_server *server);

void vhost_user_server_look(struct vhost_user_server *server, unsigned index,
                            struct server_queue_statistics *ret_statistics);

#endif
