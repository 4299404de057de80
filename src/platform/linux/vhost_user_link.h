/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device in another process: the port of the vhost-user front end for Linux. It connects to a back end's socket, and
 * again whenever the back end goes, for as long as it lives; meanwhile queues that run collect kicks.
 *
 * Threads: link->frontend.virtio is called by any thread that holds the owner's lock (options: lock, unlock); whatever
 * comes in, comes on the loop's thread, which takes that lock before it calls the front end and its listener.
 * listener->queue_notify is called on the loop's thread, without the lock. Open, close and the other functions here are
 * for the loop's thread, the lock not being held, unless said otherwise.
 */
#ifndef PLATFORM_LINUX_VHOST_USER_LINK_H
#define PLATFORM_LINUX_VHOST_USER_LINK_H

#include "platform/linux/log.h"
#include "platform/linux/loop.h"
#include "platform/linux/vhost_user_channel.h"
#include "transports/vhost_user/frontend.h"

struct vhost_user_link_options {
    /* Where the back end listens, borrowed; or NULL, and @socket is a connection to it, taken over in any case, after
     * whose end there is no other. */
    const char *path;
    int socket;
    const char *name; /* "vhost-user blk", for messages; borrowed */
    uint16_t device_id;
    uint16_t queue_count;    /* the most wanted; 0: as many as the back end has */
    uint32_t queue_size_max; /* 0: 256 */
    uint32_t config_bytes;   /* of the configuration space; 0: by the device id */
    /* The space itself, where it is the owner's: a file system's tag and queues (5.11.4), which back ends do not know.
     * NULL: the back end is asked. Only needed during open. */
    const void *config_space;
    const struct vhost_user_frontend_region *regions; /* may also come later: vhost_user_frontend_set_memory */
    unsigned region_count;
    struct loop *loop;            /* borrowed */
    void (*lock)(void *argument); /* NULL: nobody else calls */
    void (*unlock)(void *argument);
    void *lock_argument;
    /* The port's calls of these names, passed on: under the lock. May be NULL. */
    void (*settled)(void *argument);
    void *settled_argument;
    bool isolated;             /* struct vhost_user_frontend_config */
    unsigned start_timeout_ms; /* how long open waits for a back end */
    unsigned reply_timeout_ms; /* a back end that owes an answer for so long is hung up on; 0: 60 s */
    const struct log *log;     /* borrowed; may be NULL */
};

/* Messages and handles that wait for room in the socket; and the eventfds of a queue. */
struct vhost_user_link_out;
struct vhost_user_link_queue;

struct vhost_user_link {
    struct vhost_user_frontend frontend; /* frontend.virtio is the device */
    struct vhost_user_frontend_port port;
    struct vhost_user_link_options options;
    struct vhost_user_channel channel;  /* answers come here */
    struct vhost_user_channel requests; /* the back end's own requests */
    struct vhost_user_link_out *out;    /* owned: a ring */
    unsigned out_first, out_count;
    struct vhost_user_link_queue *queues; /* owned */
    struct loop_watch watch, requests_watch, error_watch, wake_watch;
    struct loop_timer reconnect_timer, reply_timer;
    int error_handle; /* a back end signals that a queue is broken */
    int wake_handle;  /* whoever sends: timers and watches are the loop's to set */
    int fault_handle; /* memory of a back end that is gone under our hands */
    unsigned reconnect_delay_ms;
    uint64_t answers_seen; /* when the reply timer was set */
    bool reply_clock;      /* it is set */
    bool opened;           /* by vhost_user_link_open, with success */
    bool greeted;
    bool failed; /* sending has: to be told by the loop */
    const char *failed_reason;
};

/* Room for why open failed, in plain words. */
#define VHOST_USER_LINK_PROBLEM_BYTES 256

/*
 * Connect, and wait until the back end has introduced itself. Blocks, options->start_timeout_ms at most; says on the
 * log that it waits. The options are copied. On failure @problem says why; nothing is open then.
 * -ETIMEDOUT: nobody was there in time, or did not answer. -EPROTO: it cannot be talked to, or is not of use.
 */
int vhost_user_link_open(struct vhost_user_link *link, const struct vhost_user_link_options *options,
                         char problem[VHOST_USER_LINK_PROBLEM_BYTES]);
/* Hang up, for good. Queues need not be stopped: the back end is told nothing but the end. A zeroed one: nothing. */
void vhost_user_link_close(struct vhost_user_link *link);

/* Is a back end there, and has it introduced itself? With the lock held. */
bool vhost_user_link_connected(const struct vhost_user_link *link);

#endif
