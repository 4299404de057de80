/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * vhost-user messages over a connected Unix stream socket: bytes and descriptors in, whole messages out, and back.
 * Never blocks.
 */
#ifndef PLATFORM_LINUX_VHOST_USER_CHANNEL_H
#define PLATFORM_LINUX_VHOST_USER_CHANNEL_H

#include "transports/vhost_user/message.h"

struct vhost_user_channel {
    int socket;                        /* owned; -1: closed */
    struct vhost_user_message message; /* being received; its handles are owned */
    size_t received;                   /* bytes of it */
    size_t expected;                   /* bytes it will have, as far as is known */
    const char *problem;               /* the stream cannot be followed any more: why */
    bool replies;                      /* what comes are answers, not requests */
    /* an answer that the socket did not take at once */
    struct vhost_user_message answer;
    int answer_handle; /* owned; -1: none */
    size_t answer_sent, answer_bytes;
};

/* Take over @socket. */
void vhost_user_channel_open(struct vhost_user_channel *channel, int socket);
/* The same for a front end: what comes are answers. */
void vhost_user_channel_open_replies(struct vhost_user_channel *channel, int socket);
/* Everything it still owns is closed. */
void vhost_user_channel_close(struct vhost_user_channel *channel);

/*
 * Receive what there is. 1: a message is whole, and moved to @ret_message with its handles; 0: not yet.
 * -ECONNRESET: the other side is gone. -EPROTO, -EMSGSIZE: what came is no message, or brings too many descriptors;
 * the stream cannot be followed any more.
 */
int vhost_user_channel_receive(struct vhost_user_channel *channel, struct vhost_user_message *ret_message);

/* Why vhost_user_channel_receive refused the stream, in plain words, a constant; NULL: it did not. */
const char *vhost_user_channel_problem(const struct vhost_user_channel *channel);

/*
 * Send an answer with @handle (-1: none), which stays the caller's. What the socket does not take now is kept, and
 * vhost_user_channel_flush() goes on with it: at most one answer may be waiting. < 0: the other side is gone.
 */
int vhost_user_channel_send(struct vhost_user_channel *channel, const struct vhost_user_message *message, int handle);
/* 1: everything has been sent; 0: not yet; < 0: the other side is gone. */
int vhost_user_channel_flush(struct vhost_user_channel *channel);
bool vhost_user_channel_sending(const struct vhost_user_channel *channel);

/*
 * Send bytes of @message from @sent on to @socket, its handles with the first of them. How many went out, or -EAGAIN,
 * or what is wrong.
 */
int vhost_user_channel_transmit(int socket, const struct vhost_user_message *message, size_t sent);

/* Send a request on @socket, another one, whole or not at all: -EAGAIN when it is full, others when it is of no use. */
int vhost_user_channel_request(int socket, const struct vhost_user_message *message);

#endif
