/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A message is a header of 12 bytes and the payload that it announces. Reads never go past the message that is being
 * received, so descriptors, which travel with the first byte of what they were sent with, belong to it without doubt.
 *
 * Limits
 *
 * VHOST_USER_HANDLES_MAX descriptors a message; the kernel is not given room for more, and says when it had more.
 */
#include "platform/linux/vhost_user_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Header and payload are one run of bytes. */
static_assert(offsetof(struct vhost_user_message, payload) >= VHOST_USER_HEADER_BYTES, "payload follows the header");

void vhost_user_channel_open(struct vhost_user_channel *channel, int socket)
{
    *channel = (struct vhost_user_channel){.socket = socket, .expected = VHOST_USER_HEADER_BYTES, .answer_handle = -1};
}

void vhost_user_channel_open_replies(struct vhost_user_channel *channel, int socket)
{
    vhost_user_channel_open(channel, socket);
    channel->replies = true;
}

void vhost_user_channel_close(struct vhost_user_channel *channel)
{
    if (channel->socket < 0)
        return;
    for (unsigned i = 0; i < channel->message.handle_count; i++)
        close(channel->message.handles[i]);
    if (channel->answer_handle >= 0)
        close(channel->answer_handle);
    close(channel->socket);
    *channel = (struct vhost_user_channel){.socket = -1, .answer_handle = -1};
}

/* Keep the descriptors that came. Too many: those are closed, and it is an error. */
static int vhost_user_channel_keep_handles(struct vhost_user_message *message, struct msghdr *header)
{
    int r = header->msg_flags & MSG_CTRUNC ? -EPROTO : 0;
    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int handle;
            memcpy(&handle, CMSG_DATA(control) + i * sizeof(int), sizeof(handle));
            if (message->handle_count < VHOST_USER_HANDLES_MAX) {
                message->handles[message->handle_count++] = handle;
            } else {
                close(handle);
                r = -EPROTO;
            }
        }
    }
    return r;
}

/* Read up to @size bytes. > 0: how many. 0: nothing now. */
static int vhost_user_channel_read(struct vhost_user_channel *channel, void *to, size_t size)
{
    union {
        char bytes[CMSG_SPACE(VHOST_USER_HANDLES_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = to, .iov_len = size};
    struct msghdr header = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    ssize_t count = recvmsg(channel->socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -ECONNRESET;
    int r = vhost_user_channel_keep_handles(&channel->message, &header);
    if (r < 0) {
        channel->problem = "more descriptors than any message has";
        return r;
    }
    if (count == 0 && channel->received > 0) {
        channel->problem = "the connection ended in the middle of a message";
        return -EPROTO;
    }
    return count == 0 ? -ECONNRESET : (int)count;
}

const char *vhost_user_channel_problem(const struct vhost_user_channel *channel)
{
    return channel->problem;
}

static int vhost_user_channel_check(struct vhost_user_channel *channel)
{
    const struct vhost_user_header *header = &channel->message.header;
    int r = channel->replies ? vhost_user_reply_header_check(header) : vhost_user_header_check(header);
    if (r == -EMSGSIZE)
        channel->problem = "header: the payload is longer than that of any message";
    else if (r < 0 && (header->flags & VHOST_USER_FLAG_VERSION_MASK) != VHOST_USER_VERSION)
        channel->problem = "header: not version 1";
    else if (r < 0)
        channel->problem =
            channel->replies ? "header: a request where a reply belongs" : "header: a reply where a request belongs";
    return r;
}

int vhost_user_channel_receive(struct vhost_user_channel *channel, struct vhost_user_message *ret_message)
{
    struct vhost_user_message *message = &channel->message;
    while (channel->received < channel->expected) {
        bool in_header = channel->received < VHOST_USER_HEADER_BYTES;
        uint8_t *to = in_header ? (uint8_t *)&message->header + channel->received
                                : message->payload.bytes + (channel->received - VHOST_USER_HEADER_BYTES);
        int r = vhost_user_channel_read(channel, to, channel->expected - channel->received);
        if (r <= 0)
            return r;
        channel->received += (size_t)r;
        if (!in_header || channel->received < VHOST_USER_HEADER_BYTES)
            continue;
        r = vhost_user_channel_check(channel);
        if (r < 0)
            return r;
        ASSERT((size_t)r <= VHOST_USER_PAYLOAD_BYTES_MAX);
        channel->expected += (size_t)r;
    }
    *ret_message = *message;
    *message = (struct vhost_user_message){.handle_count = 0};
    channel->received = 0;
    channel->expected = VHOST_USER_HEADER_BYTES;
    return 1;
}

/* Send bytes [@sent, @bytes) of @message with these handles. How many went out, or -EAGAIN, or what is wrong. */
static ssize_t vhost_user_channel_write(int socket, const struct vhost_user_message *message, size_t sent, size_t bytes,
                                        const int *handles, unsigned handle_count)
{
    uint8_t wire[VHOST_USER_HEADER_BYTES + VHOST_USER_PAYLOAD_BYTES_MAX];
    ASSERT(bytes <= sizeof(wire));
    memcpy(wire, &message->header, VHOST_USER_HEADER_BYTES);
    memcpy(wire + VHOST_USER_HEADER_BYTES, message->payload.bytes, bytes - VHOST_USER_HEADER_BYTES);

    union {
        char bytes[CMSG_SPACE(VHOST_USER_HANDLES_MAX * sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec iov = {.iov_base = wire + sent, .iov_len = bytes - sent};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (handle_count > 0) {
        size_t handle_bytes = handle_count * sizeof(int);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(handle_bytes);
        struct cmsghdr *first = CMSG_FIRSTHDR(&header);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(handle_bytes);
        memcpy(CMSG_DATA(first), handles, handle_bytes);
    }
    ssize_t count = sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    return count;
}

int vhost_user_channel_send(struct vhost_user_channel *channel, const struct vhost_user_message *message, int handle)
{
    if (channel->socket < 0)
        return -ECONNRESET;
    ASSERT(!vhost_user_channel_sending(channel));
    size_t bytes = VHOST_USER_HEADER_BYTES + message->header.size;
    ssize_t count = vhost_user_channel_write(channel->socket, message, 0, bytes, &handle, handle >= 0 ? 1 : 0);
    if (count < 0 && count != -EAGAIN)
        return (int)count;
    if (count == (ssize_t)bytes)
        return 0;

    channel->answer = *message;
    channel->answer_bytes = bytes;
    channel->answer_sent = count > 0 ? (size_t)count : 0;
    if (handle >= 0 && count <= 0) {
        channel->answer_handle = fcntl(handle, F_DUPFD_CLOEXEC, 0);
        if (channel->answer_handle < 0)
            return -errno;
    }
    return 0;
}

int vhost_user_channel_flush(struct vhost_user_channel *channel)
{
    while (vhost_user_channel_sending(channel)) {
        ssize_t count =
            vhost_user_channel_write(channel->socket, &channel->answer, channel->answer_sent, channel->answer_bytes,
                                     &channel->answer_handle, channel->answer_handle >= 0 ? 1 : 0);
        if (count < 0)
            return count == -EAGAIN ? 0 : (int)count;
        if (channel->answer_handle >= 0)
            close(channel->answer_handle);
        channel->answer_handle = -1;
        channel->answer_sent += (size_t)count;
    }
    return 1;
}

bool vhost_user_channel_sending(const struct vhost_user_channel *channel)
{
    return channel->answer_sent < channel->answer_bytes;
}

int vhost_user_channel_transmit(int socket, const struct vhost_user_message *message, size_t sent)
{
    unsigned handle_count = sent == 0 ? message->handle_count : 0;
    return (int)vhost_user_channel_write(socket, message, sent, VHOST_USER_HEADER_BYTES + message->header.size,
                                         message->handles, handle_count);
}

int vhost_user_channel_request(int socket, const struct vhost_user_message *message)
{
    size_t bytes = VHOST_USER_HEADER_BYTES + message->header.size;
    ssize_t count = vhost_user_channel_write(socket, message, 0, bytes, NULL, 0);
    if (count < 0)
        return (int)count;
    return count == (ssize_t)bytes ? 0 : -EPIPE; /* half a message: nothing more can be said there */
}
