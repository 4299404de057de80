/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Bytes in and out of a handle that belongs to others, too: a shell's terminal, a pipe, a socket, a file. Nothing
 * blocks, and O_NONBLOCK is never set on an open file description that is not ours alone.
 */
#ifndef PLATFORM_LINUX_STREAM_HANDLE_H
#define PLATFORM_LINUX_STREAM_HANDLE_H

#include "base/base.h"

struct stream_handle {
    int handle; /* owned; -1: none */
    bool is_socket;
    bool may_block;     /* it is without O_NONBLOCK: asked by poll before each call, */
    size_t write_bytes; /* and given no more than this at once */
};

/* No handle. */
#define STREAM_HANDLE_INIT                                                                                             \
    {                                                                                                                  \
        .handle = -1                                                                                                   \
    }

/* A way of our own to what @handle is, which stays the caller's. @writes: it is to be written, else read. -EBADF, … */
int stream_handle_open(struct stream_handle *stream, int handle, bool writes);
void stream_handle_close(struct stream_handle *stream);

/*
 * As read(2) and write(2): bytes moved, 1 or more; 0 from read: the end. -EAGAIN: not now, wait for the handle (a file,
 * which epoll refuses, never says so). -EPIPE, -EIO, …: it is gone. A closed reader raises no SIGPIPE for sockets; for
 * pipes whoever runs the process ignores that signal.
 */
int stream_handle_read(struct stream_handle *stream, void *bytes, size_t size);
int stream_handle_write(struct stream_handle *stream, const void *bytes, size_t size);

#endif
