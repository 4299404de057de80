/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * An eventfd that is watched edge-triggered tells every write, read or not, so a kick costs no read. What was counted
 * is cleared when the queue stops, since a front end may look into its own eventfd then.
 *
 * Limits
 *
 * The open file description is shared with the front end, so O_NONBLOCK is neither set nor trusted. A description that
 * blocks is written after poll has allowed it; a front end that fills it in between, or drops O_NONBLOCK later, stalls
 * its own queue's thread until loop_call interrupts it.
 */
#include "platform/linux/line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes taken from a pipe or socket at a time: kicks are 8 bytes each, and more come back as another event. */
#define LINE_DRAIN_BYTES 512

int line_borrow(struct line *line, int handle)
{
    ASSERT(handle >= 0);
    struct stat status;
    int r = fstat(handle, &status) < 0 ? -errno : 0;
    enum line_kind kind = LINE_NONE;
    if (r == 0) {
        if ((status.st_mode & S_IFMT) == 0)
            kind = LINE_EVENT; /* anonymous inodes have no type */
        else if (S_ISFIFO(status.st_mode))
            kind = LINE_PIPE;
        else if (S_ISSOCK(status.st_mode))
            kind = LINE_SOCKET;
        else
            r = -EPERM;
    }
    if (r < 0)
        return r;
    int flags = fcntl(handle, F_GETFL);
    *line = (struct line){
        .handle = handle, .kind = kind, .may_block = flags < 0 || !(flags & O_NONBLOCK), .borrowed = true};
    return 0;
}

int line_open(struct line *line, int handle)
{
    int r = line_borrow(line, handle);
    if (r < 0)
        close(handle);
    else
        line->borrowed = false;
    return r;
}

void line_close(struct line *line)
{
    if (line->handle >= 0 && !line->borrowed)
        close(line->handle);
    *line = (struct line)LINE_INIT;
}

static bool line_ready(const struct line *line, short events)
{
    struct pollfd look = {.fd = line->handle, .events = events};
    return poll(&look, 1, 0) == 1 && (look.revents & events);
}

void line_signal(struct line *line)
{
    uint64_t one = 1;
    ssize_t written;
    if (line->handle < 0)
        return;
    if (line->kind == LINE_SOCKET)
        written = send(line->handle, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (line->may_block && !line_ready(line, POLLOUT))
        return;
    else
        written = write(line->handle, &one, sizeof(one));
    /* Full (EAGAIN), closed (EPIPE), of another kind (EINVAL): the front end's affair. */
    (void)written;
}

unsigned line_watch_events(const struct line *line)
{
    return line->kind == LINE_EVENT ? LOOP_READABLE | LOOP_EDGE : LOOP_READABLE;
}

bool line_drain(struct line *line)
{
    uint8_t bytes[LINE_DRAIN_BYTES];
    ssize_t taken = 0;
    if (line->kind == LINE_EVENT)
        return true;
    if (line->kind == LINE_SOCKET) {
        taken = recv(line->handle, bytes, sizeof(bytes), MSG_DONTWAIT);
    } else {
        /* A blocking pipe gives what is there without waiting, unless another reader was faster. */
        if (line->may_block && !line_ready(line, POLLIN))
            return !line_ready(line, POLLHUP);
        taken = read(line->handle, bytes, sizeof(bytes));
    }
    return taken > 0 || (taken < 0 && (errno == EAGAIN || errno == EINTR));
}

void line_clear(struct line *line)
{
    uint64_t count;
    if (line->kind != LINE_EVENT || !line_ready(line, POLLIN))
        return;
    ssize_t taken = read(line->handle, &count, sizeof(count));
    (void)taken;
}
