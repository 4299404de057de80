/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Notification lines that a front end handed over: eventfds as a rule, pipes and sockets too. What kind of file it is,
 * and who else uses it, is the front end's choice, so nothing here relies on its manners. Lines live on one thread.
 */
#ifndef PLATFORM_LINUX_LINE_H
#define PLATFORM_LINUX_LINE_H

#include "platform/linux/loop.h"

enum line_kind {
    LINE_NONE,
    LINE_EVENT,  /* an eventfd, or another file without a type */
    LINE_PIPE,   /* a pipe or FIFO */
    LINE_SOCKET, /* any socket */
};

struct line {
    int handle; /* owned, unless borrowed; -1: none */
    enum line_kind kind;
    bool may_block; /* its open file description is without O_NONBLOCK, which is not ours to change */
    bool borrowed;  /* not closed by line_close */
};

/* No line. */
#define LINE_INIT                                                                                                      \
    {                                                                                                                  \
        .handle = -1                                                                                                   \
    }

/*
 * Take over @handle (closed by line_close; also on failure). -EPERM: a file that notifies nobody (a regular file, a
 * directory, a device).
 */
int line_open(struct line *line, int handle);
/* The same with a handle that stays the caller's, and open for as long as the line is. */
int line_borrow(struct line *line, int handle);
void line_close(struct line *line);

/* Signal it once. A full one is signalled already; one whose other side is gone hears nothing. */
void line_signal(struct line *line);

/* Events to watch it for: an eventfd's arrivals are told without being read, the others must be drained. */
unsigned line_watch_events(const struct line *line);
/* Take what has arrived; false: nobody will ever signal again. */
bool line_drain(struct line *line);
/* Leave nothing behind for the front end to find, an eventfd's count included. */
void line_clear(struct line *line);

#endif
