/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Listening Unix sockets that have a place in the file system: left-over ones are replaced, live ones respected. */
#ifndef PLATFORM_LINUX_UNIX_SOCKET_H
#define PLATFORM_LINUX_UNIX_SOCKET_H

#include <sys/types.h>

#include "base/base.h"

struct unix_listener {
    int handle;       /* owned; -1: closed */
    const char *path; /* borrowed; NULL: inherited, nothing to remove */
    dev_t device;     /* what we made there, */
    ino_t inode;      /* so as to remove no other's */
};

/*
 * Listen at @path, borrowed until close; the socket gets @mode less the umask. A socket there that nobody serves is
 * replaced. -ENAMETOOLONG: it does not fit into an address. -EADDRINUSE: somebody serves that socket. -ENOTSOCK: some
 * other kind of file is there. Others as bind(2) has them. May take a second when another process does the same.
 */
int unix_listener_open(struct unix_listener *listener, const char *path, mode_t mode);
/* Removes the socket if it is still ours. A closed or zero-handle one: nothing. */
void unix_listener_close(struct unix_listener *listener);

/* What is wrong and what to do, for the person: "another process serves it; …". @error as from unix_listener_open. */
const char *unix_listener_problem(int error);
/* The same for unix_socket_connect, of a control socket. */
const char *unix_socket_problem(int error);

/* Take the next connection, not blocking: its handle, or -EAGAIN, or what is wrong. */
int unix_listener_accept(const struct unix_listener *listener);

/*
 * Connect to @path: a handle that blocks, or -errno. To connect, to send and to receive takes @timeout_ms at most, and
 * then is EAGAIN.
 */
int unix_socket_connect(const char *path, unsigned timeout_ms);

/* Connect to @path if that can be done right now: a handle that does not block, or -errno. -EAGAIN: it is busy. */
int unix_socket_connect_now(const char *path);

#endif
