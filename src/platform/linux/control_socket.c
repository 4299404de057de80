/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A client's bytes are gathered until a line is whole; it is answered, and nothing more is read from that client until
 * the answer has been taken. So what a client can make us keep is one line and one answer.
 *
 * Who sends a command and goes without waiting for the answer is served all the same: whether the connection ended
 * before or after we looked must not decide.
 *
 * Limits
 *
 * CONTROL_LINE_BYTES_MAX, CONTROL_CLIENTS_MAX. Who may connect is decided by the socket's file mode.
 */
#include "platform/linux/control_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTROL_RETRY_NS 200000000u

static void control_client_close(struct control_client *client)
{
    int handle = client->watch.handle;
    if (handle < 0)
        return;
    loop_unwatch(client->control->loop, &client->watch);
    close(handle);
    free(client->answer);
    client->answer = NULL;
    client->waits = false;
    client->turn++;
}

/* Send what waits. False: the client is gone, or done with, and closed. */
static bool control_client_flush(struct control_client *client)
{
    while (client->answer) {
        ssize_t count = send(client->watch.handle, client->answer + client->sent, client->answer_bytes - client->sent,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (count < 0) {
            control_client_close(client);
            return false;
        }
        client->sent += (size_t)count;
        if (client->sent == client->answer_bytes) {
            free(client->answer);
            client->answer = NULL;
        }
    }
    if (client->overlong) {
        control_client_close(client);
        return false;
    }
    return true;
}

static bool control_client_answer(struct control_client *client, const char *line, size_t length)
{
    struct control_socket *control = client->control;
    struct control_later later = {
        .control = control, .client = (unsigned)(client - control->clients), .turn = client->turn};
    client->answer = control->answer(control->context, &later, line, length);
    client->waits = !client->answer && !later.control;
    if (client->waits)
        return true;
    client->answer_bytes = client->answer ? strlen(client->answer) : 0;
    client->sent = 0;
    if (!client->answer) {
        control_client_close(client);
        return false;
    }
    return control_client_flush(client);
}

/* Answer whole lines as far as answers are taken. False: closed. */
static bool control_client_lines(struct control_client *client)
{
    while (!client->answer && !client->waits) {
        char *end = memchr(client->line, '\n', client->received);
        if (!end && client->received == sizeof(client->line)) {
            client->overlong = true;
            return control_client_answer(client, NULL, 0);
        }
        if (!end)
            return true;
        size_t length = (size_t)(end - client->line);
        bool open = control_client_answer(client, client->line, length);
        if (!open)
            return false;
        client->received -= length + 1;
        memmove(client->line, end + 1, client->received);
    }
    return true;
}

static bool control_client_receive(struct control_client *client)
{
    ssize_t count = recv(client->watch.handle, client->line + client->received, sizeof(client->line) - client->received,
                         MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (count < 0) {
        control_client_close(client);
        return false;
    }
    client->ended = count == 0;
    client->received += (size_t)count;
    client->heard_ns = loop_now_ns();
    return true;
}

/* Answer what has come, and wait for what is due next. */
static void control_client_go_on(struct control_client *client)
{
    if (!control_client_lines(client))
        return;
    if (client->ended && !client->answer && !client->waits) {
        control_client_close(client);
        return;
    }
    unsigned wanted = client->answer ? LOOP_WRITABLE : client->waits ? 0 : LOOP_READABLE;
    if (loop_watch_change(client->control->loop, &client->watch, wanted) < 0)
        control_client_close(client);
}

static void control_client_ready(struct loop_watch *watch, unsigned events)
{
    struct control_client *client = container_of(watch, struct control_client, watch);
    if (events & LOOP_HANGUP && (client->answer || client->waits)) {
        control_client_close(client); /* nobody will take it */
        return;
    }
    if (!control_client_flush(client))
        return;
    if (!client->answer && !client->waits && !client->ended && !control_client_receive(client))
        return;
    control_client_go_on(client);
}

void control_socket_answer(struct control_later *later, char *text)
{
    struct control_client *client = later->control ? &later->control->clients[later->client] : NULL;
    bool owed = client && client->waits && client->turn == later->turn;
    *later = (struct control_later){0};
    if (!owed) {
        free(text);
        return;
    }
    client->waits = false;
    client->answer = text;
    client->answer_bytes = text ? strlen(text) : 0;
    client->sent = 0;
    if (!text)
        control_client_close(client);
    else if (control_client_flush(client))
        control_client_go_on(client);
}

static struct control_client *control_free_client(struct control_socket *control)
{
    struct control_client *quietest = &control->clients[0];
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct control_client *client = &control->clients[i];
        if (client->watch.handle < 0)
            return client;
        if (client->heard_ns < quietest->heard_ns)
            quietest = client;
    }
    control_client_close(quietest);
    return quietest;
}

static void control_listener_ready(struct loop_watch *watch, unsigned events)
{
    struct control_socket *control = container_of(watch, struct control_socket, watch);
    (void)events;
    int handle = unix_listener_accept(&control->listener);
    if (handle == -EAGAIN)
        return;
    if (handle < 0) {
        loop_unwatch(control->loop, watch);
        loop_timer_set(control->loop, &control->retry, loop_now_ns() + CONTROL_RETRY_NS);
        return;
    }
    struct control_client *client = control_free_client(control);
    client->heard_ns = loop_now_ns();
    client->ended = false;
    client->overlong = false;
    client->waits = false;
    client->received = 0;
    if (loop_watch(control->loop, &client->watch, handle, LOOP_READABLE, control_client_ready) < 0)
        close(handle);
}

static void control_retry(struct loop_timer *timer)
{
    struct control_socket *control = container_of(timer, struct control_socket, retry);
    if (loop_watch(control->loop, &control->watch, control->listener.handle, LOOP_READABLE, control_listener_ready) < 0)
        loop_timer_set(control->loop, timer, loop_now_ns() + CONTROL_RETRY_NS);
}

int control_socket_open(struct control_socket *control, struct loop *loop, const struct unix_listener *listener,
                        char *(*answer)(void *context, struct control_later *later, const char *line, size_t length),
                        void *context)
{
    control->loop = loop;
    control->listener = *listener;
    control->watch = (struct loop_watch)LOOP_WATCH_NONE;
    control->retry = (struct loop_timer){.expired = control_retry};
    control->answer = answer;
    control->context = context;
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        control->clients[i].control = control;
        control->clients[i].watch = (struct loop_watch)LOOP_WATCH_NONE;
        control->clients[i].answer = NULL;
    }
    return loop_watch(loop, &control->watch, listener->handle, LOOP_READABLE, control_listener_ready);
}

void control_socket_close(struct control_socket *control)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        control_client_close(&control->clients[i]);
    loop_unwatch(control->loop, &control->watch);
    loop_timer_set(control->loop, &control->retry, 0);
    unix_listener_close(&control->listener);
}
