/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A terminal or a pipe is opened anew by /proc/self/fd, which gives an open file description of our own, with
 * O_NONBLOCK. A socket is asked not to wait call by call. A file, which never waits, is used as it is: its position is
 * the shell's.
 *
 * Limits
 *
 * A terminal or pipe that cannot be opened anew (another user's, no /proc) is asked by poll(2) before each call. A
 * terminal then gets a byte at a time, since a write of more waits until all of it is taken; a pipe as much as a free
 * page of it holds. Should another process be faster between poll and read, the call waits.
 */
#include "platform/linux/stream_handle.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Opening it anew would make a new terminal, not give this one. */
static bool stream_is_master(const struct stat *status)
{
    return S_ISCHR(status->st_mode) && status->st_rdev == makedev(5, 2);
}

static int stream_open_anew(int handle, bool writes)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", handle);
    return open(path, (writes ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int stream_handle_open(struct stream_handle *stream, int handle, bool writes)
{
    struct stat status;
    if (fstat(handle, &status) < 0)
        return -errno;
    int flags = fcntl(handle, F_GETFL);
    bool waits = S_ISFIFO(status.st_mode) || (S_ISCHR(status.st_mode) && isatty(handle));
    *stream = (struct stream_handle){
        .handle = -1,
        .is_socket = S_ISSOCK(status.st_mode),
        .write_bytes = !waits                     ? SSIZE_MAX
                       : S_ISFIFO(status.st_mode) ? PIPE_BUF
                                                  : 1,
    };
    bool blocks = !stream->is_socket && !S_ISREG(status.st_mode) && (flags < 0 || !(flags & O_NONBLOCK));
    if (blocks && waits && !stream_is_master(&status))
        stream->handle = stream_open_anew(handle, writes);
    if (stream->handle >= 0) {
        stream->write_bytes = SSIZE_MAX;
        return 0;
    }
    stream->handle = fcntl(handle, F_DUPFD_CLOEXEC, 3);
    if (stream->handle < 0)
        return -errno;
    stream->may_block = blocks;
    if (!blocks)
        stream->write_bytes = SSIZE_MAX;
    return 0;
}

void stream_handle_close(struct stream_handle *stream)
{
    if (stream->handle >= 0)
        close(stream->handle);
    *stream = (struct stream_handle)STREAM_HANDLE_INIT;
}

/* The other side being gone is an answer, too. */
static bool stream_ready(const struct stream_handle *stream, short events)
{
    struct pollfd look = {.fd = stream->handle, .events = events};
    return poll(&look, 1, 0) == 1;
}

static int stream_answer(ssize_t moved)
{
    if (moved >= 0)
        return (int)moved;
    return errno == EINTR || errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

int stream_handle_read(struct stream_handle *stream, void *bytes, size_t size)
{
    size = size_min(size, INT_MAX);
    if (stream->is_socket)
        return stream_answer(recv(stream->handle, bytes, size, MSG_DONTWAIT));
    if (stream->may_block && !stream_ready(stream, POLLIN))
        return -EAGAIN;
    return stream_answer(read(stream->handle, bytes, size));
}

int stream_handle_write(struct stream_handle *stream, const void *bytes, size_t size)
{
    size = size_min(size_min(size, stream->write_bytes), INT_MAX);
    if (!stream->is_socket && stream->may_block && !stream_ready(stream, POLLOUT))
        return -EAGAIN;
    int r = stream_answer(stream->is_socket ? send(stream->handle, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                                            : write(stream->handle, bytes, size));
    return r == 0 ? -EAGAIN : r;
}
