/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A stranger's bytes in pieces over a real socket: whatever they are cut into, the same messages come out, and no
 * descriptor stays behind. The input is pieces of {length, descriptors in the low 4 bits of the next byte, bytes}.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platform/linux/vhost_user_channel.h"

#define PIECE_HANDLES_MAX 15

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void send_piece(int socket, const uint8_t *bytes, size_t size, int handle, unsigned handle_count)
{
    union {
        char bytes[CMSG_SPACE(PIECE_HANDLES_MAX * sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    uint8_t copy[256];
    memcpy(copy, bytes, size);
    struct iovec iov = {.iov_base = copy, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (handle_count > 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(handle_count * sizeof(int));
        struct cmsghdr *first = CMSG_FIRSTHDR(&header);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(handle_count * sizeof(int));
        for (unsigned i = 0; i < handle_count; i++)
            memcpy(CMSG_DATA(first) + i * sizeof(int), &handle, sizeof(int));
    }
    ssize_t sent = sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent;
}

/* All that is there. False: the stream has come to its end. */
static bool receive_all(struct vhost_user_channel *channel)
{
    struct vhost_user_message message;
    int r;
    while ((r = vhost_user_channel_receive(channel, &message)) > 0) {
        check(message.header.size <= VHOST_USER_PAYLOAD_BYTES_MAX);
        check(message.handle_count <= VHOST_USER_HANDLES_MAX);
        for (unsigned i = 0; i < message.handle_count; i++)
            check(close(message.handles[i]) == 0);
    }
    check(r == 0 || r == -ECONNRESET || r == -EPROTO || r == -EMSGSIZE);
    return r == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vhost_user_channel channel;
    int ends[2];
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (lowest < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return 0;
    vhost_user_channel_open(&channel, ends[0]);
    bool open = true;
    while (open && size > 2) {
        size_t length = size_min(data[0] % 255u + 1u, size - 2);
        send_piece(ends[1], data + 2, length, lowest, data[1] & PIECE_HANDLES_MAX);
        open = receive_all(&channel);
        data += 2 + length;
        size -= 2 + length;
    }
    close(ends[1]);
    check(!open || !receive_all(&channel));
    vhost_user_channel_close(&channel);
    /* All that came is closed: the next number is that of the first end again. */
    int next = dup(lowest);
    check(next == ends[0]);
    close(next);
    close(lowest);
    return 0;
}
