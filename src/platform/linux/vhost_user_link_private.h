/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the two files of vhost_user_link share. Nobody else includes this. */
#ifndef PLATFORM_LINUX_VHOST_USER_LINK_PRIVATE_H
#define PLATFORM_LINUX_VHOST_USER_LINK_PRIVATE_H

#include "platform/linux/vhost_user_link.h"

#define NS_PER_MS UINT64_C(1000000)

/* Messages that wait for room: 64 queues that start, each with 7, and some. */
#define LINK_OUT_MAX 640
/* From the end of a connection to the first attempt at another one. */
#define LINK_RECONNECT_MIN_MS 10

struct vhost_user_link_out {
    struct vhost_user_message message; /* its handles are owned */
    size_t sent;
};

struct vhost_user_link_queue {
    int kick, call; /* eventfds; the second is watched for the listener */
    struct loop_watch call_watch;
    struct vhost_user_link *link;
    unsigned index;
};

extern const struct vhost_user_frontend_port_class link_port_class;

/* The back end went, which is nobody's fault: why a connection was lost. */
extern const char link_closed_reason[];

/* On the loop's thread, with the lock held: connected by @socket, which is taken over; hang up; read what there is; and
 * set watches and timers to what they are to be now. */
int link_take(struct vhost_user_link *link, int socket);
void link_drop_connection(struct vhost_user_link *link);
void link_receive(struct vhost_user_link *link);
void link_attend(struct vhost_user_link *link);

/* What the loop calls, without the lock. */
void link_woken(struct loop_watch *watch, unsigned events);
void link_error_ready(struct loop_watch *watch, unsigned events);
void link_call_ready(struct loop_watch *watch, unsigned events);
void link_reconnect(struct loop_timer *timer);
void link_reply_late(struct loop_timer *timer);

#endif
