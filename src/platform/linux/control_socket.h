/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Lines in, lines out, on a Unix socket: what `backplane ctl` speaks to. What a line means is the caller's affair. A
 * few clients at a time, none of whom can block, fill or end the program. All on the loop's thread.
 */
#ifndef PLATFORM_LINUX_CONTROL_SOCKET_H
#define PLATFORM_LINUX_CONTROL_SOCKET_H

#include "platform/linux/loop.h"
#include "platform/linux/unix_socket.h"

/* A command is a few dozen bytes; anything longer than this is none. */
#define CONTROL_LINE_BYTES_MAX 4096

/* People and monitors. With one more, the one that has been silent longest is let go. */
#define CONTROL_CLIENTS_MAX 8

struct control_socket;

/* An answer that is owed. All zeros: none is. */
struct control_later {
    struct control_socket *control;
    unsigned client;
    uint64_t turn; /* of that client's place: another client may have it by then */
};

struct control_client {
    struct control_socket *control;
    struct loop_watch watch; /* handle owned */
    uint64_t heard_ns;
    bool ended;      /* nothing more will come from it */
    bool overlong;   /* its line is none: it is let go once it has been told */
    size_t received; /* bytes of line */
    bool waits;      /* its answer comes later */
    uint64_t turn;   /* counts who has had this place */
    char *answer;    /* owned; NULL: none waits */
    size_t sent, answer_bytes;
    char line[CONTROL_LINE_BYTES_MAX];
};

struct control_socket {
    struct loop *loop; /* borrowed */
    struct unix_listener listener;
    struct loop_watch watch;
    struct loop_timer retry;
    /*
     * Answer one line of @length bytes, without its end, not terminated: a string from malloc that ends with a newline,
     * or NULL when there is no memory. @line is NULL when the line was too long. What takes its time is kept: copy
     * @later, clear its control, return NULL, and answer by control_socket_answer; the client's next line waits.
     */
    char *(*answer)(void *context, struct control_later *later, const char *line, size_t length);
    void *context;
    struct control_client clients[CONTROL_CLIENTS_MAX];
};

/* Serve clients of @listener, which is taken over. @control is some 34 KiB. */
int control_socket_open(struct control_socket *control, struct loop *loop, const struct unix_listener *listener,
                        char *(*answer)(void *context, struct control_later *later, const char *line, size_t length),
                        void *context);
void control_socket_close(struct control_socket *control);

/* Answer what @later stands for with @text, which is taken over; a client that is gone is none. Then @later is zeros.
 */
void control_socket_answer(struct control_later *later, char *text);

#endif
