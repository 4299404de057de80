/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A socket's file outlives its process. Whether somebody is behind it shows by connecting: refused means left over.
 * Between that question and the new bind another starter could do the same and lose its fresh socket to us, so this
 * stretch runs under a lock on the directory (flock, gone with the process, no file left behind).
 *
 * Limits
 *
 * A directory that we may not open, or that a stranger keeps locked, is used without the lock.
 */
#include "platform/linux/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Front ends that wait for their turn. */
#define UNIX_LISTENER_BACKLOG 16

/* How long another starter may hold the directory before we go on without. */
#define UNIX_LOCK_TRIES 100
#define UNIX_LOCK_PAUSE_NS 10000000

static int unix_address(const char *path, struct sockaddr_un *ret_address)
{
    size_t length = strlen(path);
    if (length == 0)
        return -ENOENT;
    if (length >= sizeof(ret_address->sun_path))
        return -ENAMETOOLONG;
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_address->sun_path, path, length + 1);
    return 0;
}

/* A handle that holds the lock on the directory of @path, or -1. */
static int unix_lock_directory(const char *path)
{
    char directory[sizeof(((struct sockaddr_un *)0)->sun_path)];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + 1 : 0;
    if (length >= sizeof(directory))
        return -1;
    memcpy(directory, path, length);
    directory[length] = '\0';

    int handle = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (handle < 0)
        return -1;
    for (unsigned i = 0; i < UNIX_LOCK_TRIES; i++) {
        if (flock(handle, LOCK_EX | LOCK_NB) == 0)
            return handle;
        nanosleep(&(struct timespec){.tv_nsec = UNIX_LOCK_PAUSE_NS}, NULL);
    }
    close(handle);
    return -1;
}

/* Is the socket at @path left over? 0: it was, and is removed. */
static int unix_remove_stale(const char *path, const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(path, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode))
        return -ENOTSOCK;
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return -errno;
    int error = connect(probe, (const struct sockaddr *)address, sizeof(*address)) < 0 ? errno : 0;
    close(probe);
    if (error == EACCES || error == EPERM)
        return -EACCES;
    if (error != ECONNREFUSED)
        return -EADDRINUSE; /* also: busy, or another kind of socket */
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int unix_bind(int handle, const char *path, const struct sockaddr_un *address)
{
    if (bind(handle, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        if (errno != EADDRINUSE)
            return -errno;
        int r = unix_remove_stale(path, address);
        if (r < 0)
            return r;
        if (bind(handle, (const struct sockaddr *)address, sizeof(*address)) < 0)
            return -errno;
    }
    if (listen(handle, UNIX_LISTENER_BACKLOG) < 0) {
        int r = -errno;
        unlink(path);
        return r;
    }
    return 0;
}

int unix_listener_open(struct unix_listener *listener, const char *path, mode_t mode)
{
    struct sockaddr_un address;
    int r = unix_address(path, &address);
    if (r < 0)
        return r;
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (handle < 0)
        return -errno;
    /* bind gives the file the mode of the socket, so there is no moment in which it is more open. */
    r = fchmod(handle, mode) < 0 ? -errno : 0;
    if (r == 0) {
        int lock = unix_lock_directory(path);
        r = unix_bind(handle, path, &address);
        if (lock >= 0)
            close(lock);
    }
    struct stat status = {.st_ino = 0};
    if (r == 0 && lstat(path, &status) < 0)
        r = -errno;
    if (r < 0) {
        close(handle);
        return r;
    }
    *listener = (struct unix_listener){.handle = handle, .path = path, .device = status.st_dev, .inode = status.st_ino};
    return 0;
}

void unix_listener_close(struct unix_listener *listener)
{
    struct stat status;
    if (listener->handle < 0)
        return;
    if (listener->path && lstat(listener->path, &status) == 0 && status.st_dev == listener->device &&
        status.st_ino == listener->inode)
        unlink(listener->path);
    close(listener->handle);
    listener->handle = -1;
}

const char *unix_listener_problem(int error)
{
    switch (error) {
    case -ENAMETOOLONG:
        return "the path is longer than 107 bytes; choose a shorter one";
    case -EADDRINUSE:
        return "another process serves this socket; stop it or choose another path";
    case -ENOTSOCK:
        return "a file that is no socket is there; choose another path";
    case -ENOENT:
    case -ENOTDIR:
        return "No such file or directory; create the folder or choose another path";
    case -EACCES:
    case -EPERM:
        return "Permission denied; run as a user who may write there or choose another path";
    case -EROFS:
        return "Read-only file system; choose another path";
    default:
        return strerror(-error);
    }
}

const char *unix_socket_problem(int error)
{
    switch (error) {
    case -ENAMETOOLONG:
        return "the path is longer than 107 bytes; give the device a shorter --control-path";
    case -ENOENT:
    case -ENOTDIR:
        return "No such file or directory; give the --control-path of a device that runs";
    case -EACCES:
    case -EPERM:
        return "Permission denied; run as the user who runs the device";
    case -ECONNREFUSED:
        return "nobody serves it; is the device running?";
    case -EPROTOTYPE:
        return "it is a socket of another kind; give the --control-path of a device";
    default:
        return strerror(-error);
    }
}

int unix_listener_accept(const struct unix_listener *listener)
{
    int handle = accept4(listener->handle, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (handle >= 0)
        return handle;
    /* A connection that was given up while it waited is no error of the listener. */
    return errno == EINTR || errno == ECONNABORTED ? -EAGAIN : -errno;
}

int unix_socket_connect(const char *path, unsigned timeout_ms)
{
    struct sockaddr_un address;
    int r = unix_address(path, &address);
    if (r < 0)
        return r;
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (handle < 0)
        return -errno;
    /* Before connect, which waits for room in the backlog of somebody who accepts nobody. */
    const struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    if (setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        setsockopt(handle, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
        connect(handle, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        r = -errno;
        close(handle);
        return r;
    }
    return handle;
}

int unix_socket_connect_now(const char *path)
{
    struct sockaddr_un address;
    int r = unix_address(path, &address);
    if (r < 0)
        return r;
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (handle < 0)
        return -errno;
    if (connect(handle, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        r = -errno;
        close(handle);
        return r;
    }
    return handle;
}
