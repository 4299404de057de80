/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Two rings under one mutex: the guest's threads fill one and empty the other, the loop does the rest. What the loop is
 * to do it is told by a message, and what a guest's thread waits for by an eventfd of its side. The loop writes out of
 * the ring without the mutex: producers never touch what lies between tail and head, and only the loop moves the tail.
 *
 * Signals come by signalfd. SIGTSTP gives the mode back and then stops the process as if nobody had caught it; whatever
 * stopped the process, SIGCONT takes the terminal again if it is ours.
 *
 * Limits
 *
 * A shell that brings a running job to the foreground without SIGCONT is noticed at the next change of the window's
 * size. Some 64 KiB of output a turn of the loop.
 */
#include "platform/linux/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "platform/linux/terminal_mode.h"

#define TERMINAL_READ_BYTES 512
/* How long the end of a guest may wait for its last words to be read. */
#define TERMINAL_FLUSH_NS UINT64_C(1000000000)

static void terminal_input_ready(struct loop_watch *watch, unsigned events);
static void terminal_output_ready(struct loop_watch *watch, unsigned events);

/* ---- the two sides, under the lock ---- */

static void terminal_side_tell(struct terminal_side *side)
{
    uint64_t one = 1;
    if (!side->wanted)
        return;
    side->wanted = false;
    side->told = write(side->handle, &one, sizeof(one)) > 0;
}

static void terminal_side_quiet(struct terminal_side *side, bool wanted)
{
    uint64_t count;
    if (side->told && read(side->handle, &count, sizeof(count)) > 0)
        side->told = false;
    side->wanted = wanted;
}

static int terminal_side_open(struct terminal_side *side, uint32_t bytes)
{
    side->ring = (struct byte_ring){.bytes = malloc(bytes), .size = bytes};
    side->handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!side->ring.bytes)
        return -ENOMEM;
    return side->handle < 0 ? -errno : 0;
}

static void terminal_side_close(struct terminal_side *side)
{
    free(side->ring.bytes);
    if (side->handle >= 0)
        close(side->handle);
}

/* ---- for the guest's threads ---- */

size_t terminal_output(struct terminal *terminal, const void *bytes, size_t size)
{
    pthread_mutex_lock(&terminal->lock);
    size_t put = terminal->output_gone ? 0 : byte_ring_put(&terminal->out.ring, bytes, size);
    size_t count = terminal->output_gone || terminal->output_stalled ? size : put;
    terminal->out.dropped_total += count - put;
    terminal_side_quiet(&terminal->out, count == 0);
    pthread_mutex_unlock(&terminal->lock);
    if (put > 0)
        loop_post(terminal->options.loop, &terminal->work);
    return count;
}

void terminal_output_or_drop(struct terminal *terminal, const void *bytes, size_t size)
{
    pthread_mutex_lock(&terminal->lock);
    size_t count = terminal->output_gone ? 0 : byte_ring_put(&terminal->out.ring, bytes, size);
    terminal->out.dropped_total += size - count;
    pthread_mutex_unlock(&terminal->lock);
    if (count > 0)
        loop_post(terminal->options.loop, &terminal->work);
}

size_t terminal_input(struct terminal *terminal, void *bytes, size_t size)
{
    pthread_mutex_lock(&terminal->lock);
    size_t count = byte_ring_take(&terminal->in.ring, bytes, size);
    bool room = count > 0 && terminal->input_waits;
    if (room)
        terminal->input_waits = false;
    terminal_side_quiet(&terminal->in, count == 0);
    pthread_mutex_unlock(&terminal->lock);
    if (room)
        loop_post(terminal->options.loop, &terminal->work);
    return count;
}

static void terminal_side_rest(struct terminal *terminal, struct terminal_side *side)
{
    pthread_mutex_lock(&terminal->lock);
    terminal_side_quiet(side, false);
    pthread_mutex_unlock(&terminal->lock);
}

void terminal_output_rest(struct terminal *terminal)
{
    terminal_side_rest(terminal, &terminal->out);
}

void terminal_input_rest(struct terminal *terminal)
{
    terminal_side_rest(terminal, &terminal->in);
}

int terminal_output_handle(const struct terminal *terminal)
{
    return terminal->out.handle;
}

int terminal_input_handle(const struct terminal *terminal)
{
    return terminal->in.handle;
}

/* ---- output, on the loop ---- */

/* What was read of the ring is written, or nobody will ever read it. */
static void terminal_written(struct terminal *terminal, size_t count, bool gone)
{
    pthread_mutex_lock(&terminal->lock);
    if (gone) {
        count = byte_ring_used(&terminal->out.ring);
        terminal->out.dropped_total += count;
        terminal->output_gone = true;
    }
    terminal->output_stalled = false;
    byte_ring_drop(&terminal->out.ring, count);
    terminal_side_tell(&terminal->out);
    pthread_mutex_unlock(&terminal->lock);
}

/* Write what there is: 0, or -EAGAIN with some of it left. */
static int terminal_flush(struct terminal *terminal)
{
    for (;;) {
        const uint8_t *bytes;
        pthread_mutex_lock(&terminal->lock);
        size_t count = byte_ring_peek(&terminal->out.ring, &bytes);
        pthread_mutex_unlock(&terminal->lock);
        if (count == 0)
            return 0;
        int r = stream_handle_write(&terminal->output, bytes, count);
        if (r == -EAGAIN)
            return r;
        terminal_written(terminal, r > 0 ? (size_t)r : 0, r < 0);
    }
}

static void terminal_stalls(struct loop_timer *timer)
{
    struct terminal *terminal = container_of(timer, struct terminal, stall);
    pthread_mutex_lock(&terminal->lock);
    terminal->output_stalled = true;
    terminal_side_tell(&terminal->out);
    pthread_mutex_unlock(&terminal->lock);
}

static void terminal_write(struct terminal *terminal)
{
    struct loop *loop = terminal->options.loop;
    uint32_t before = terminal->out.ring.tail; /* ours to move */
    bool waits = terminal_flush(terminal) < 0;
    if (!waits)
        loop_timer_set(loop, &terminal->stall, 0);
    else if (terminal->stall.at_ns == 0 || terminal->out.ring.tail != before)
        loop_timer_set(loop, &terminal->stall, loop_now_ns() + TERMINAL_STALL_NS);
    if (waits == (terminal->output_watch.handle >= 0))
        return;
    if (!waits)
        loop_unwatch(loop, &terminal->output_watch);
    else if (loop_watch(loop, &terminal->output_watch, terminal->output.handle, LOOP_WRITABLE, terminal_output_ready) <
             0)
        terminal_written(terminal, 0, true); /* it says "not now", and will not say when */
}

static void terminal_output_ready(struct loop_watch *watch, unsigned events)
{
    (void)events; /* a hang-up is found by writing */
    terminal_write(container_of(watch, struct terminal, output_watch));
}

/* ---- input, on the loop ---- */

static void terminal_show_help(struct terminal *terminal)
{
    char key[16], text[512];
    int escape = terminal->escape.key;
    if (escape > 0 && escape < 0x20)
        snprintf(key, sizeof(key), "Ctrl-%c", '@' + escape);
    else
        snprintf(key, sizeof(key), "0x%02x", (unsigned)escape);
    int length = snprintf(text, sizeof(text),
                          "\r\n%s: %s and then\r\n"
                          "  x  end the guest\r\n"
                          "  s  stop the guest, or go on\r\n"
                          "  p  press its power button\r\n"
                          "  b  send a break on its serial line\r\n"
                          "  a  %s for the guest\r\n"
                          "  h  this text\r\n",
                          terminal->options.name, key, key);
    terminal_output_or_drop(terminal, text, size_min((size_t)length, sizeof(text) - 1));
}

static void terminal_asked(struct terminal *terminal, enum terminal_key key)
{
    if (key == TERMINAL_HELP)
        terminal_show_help(terminal);
    else if (key != TERMINAL_NO_KEY && terminal->options.key)
        terminal->options.key(terminal->options.context, key);
}

/* Split what was typed in place: what is left is for the guest. */
static size_t terminal_split(struct terminal *terminal, uint8_t *bytes, size_t count)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        enum terminal_key key;
        uint8_t byte;
        if (terminal_escape_typed(&terminal->escape, bytes[i], &byte, &key))
            bytes[left++] = byte;
        terminal_asked(terminal, key);
    }
    return left;
}

static void terminal_typed(struct terminal *terminal, uint8_t *bytes, size_t count)
{
    if (terminal->input_is_terminal)
        count = terminal_split(terminal, bytes, count);
    pthread_mutex_lock(&terminal->lock);
    size_t put = byte_ring_put(&terminal->in.ring, bytes, count);
    terminal->in.dropped_total += count - put;
    if (put > 0)
        terminal_side_tell(&terminal->in);
    pthread_mutex_unlock(&terminal->lock);
}

/* How much to read: a terminal's keys are wanted in any case. */
static size_t terminal_wanted(struct terminal *terminal)
{
    size_t wanted = TERMINAL_READ_BYTES;
    pthread_mutex_lock(&terminal->lock);
    if (!terminal->input_is_terminal)
        wanted = size_min(wanted, byte_ring_room(&terminal->in.ring));
    terminal->input_waits = wanted == 0;
    pthread_mutex_unlock(&terminal->lock);
    return wanted;
}

/* Wait for input, or do not. A file cannot be waited for: it is read when there is room. */
static void terminal_watch_input(struct terminal *terminal, bool watch)
{
    if (watch && terminal->input_watch.handle < 0)
        (void)loop_watch(terminal->options.loop, &terminal->input_watch, terminal->input.handle, LOOP_READABLE,
                         terminal_input_ready);
    else if (!watch)
        loop_unwatch(terminal->options.loop, &terminal->input_watch);
}

static void terminal_read(struct terminal *terminal)
{
    uint8_t bytes[TERMINAL_READ_BYTES];
    if (terminal->input.handle < 0 || terminal->input_ended)
        return;
    if (terminal->input_is_terminal && !terminal_mode_is_ours(terminal->input.handle)) {
        terminal_watch_input(terminal, false); /* to read would stop us */
        return;
    }
    for (size_t left = TERMINAL_INPUT_BYTES; left > 0;) {
        size_t wanted = size_min(terminal_wanted(terminal), left);
        if (wanted == 0) {
            terminal_watch_input(terminal, false); /* room will bring us back */
            return;
        }
        int r = stream_handle_read(&terminal->input, bytes, wanted);
        if (r == -EAGAIN)
            break;
        terminal->input_ended = r <= 0;
        if (terminal->input_ended) {
            terminal_watch_input(terminal, false);
            return;
        }
        left -= (size_t)r;
        terminal_typed(terminal, bytes, (size_t)r);
    }
    terminal_watch_input(terminal, true);
}

static void terminal_input_ready(struct loop_watch *watch, unsigned events)
{
    (void)events; /* a hang-up is found by reading */
    terminal_read(container_of(watch, struct terminal, input_watch));
}

static void terminal_work(struct loop_message *message)
{
    struct terminal *terminal = container_of(message, struct terminal, work);
    terminal_write(terminal);
    terminal_read(terminal);
}

/* ---- size and signals, on the loop ---- */

bool terminal_size(const struct terminal *terminal, uint16_t *ret_cols, uint16_t *ret_rows)
{
    struct winsize size;
    if (terminal->size_handle < 0 || ioctl(terminal->size_handle, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
        return false;
    *ret_cols = size.ws_col;
    *ret_rows = size.ws_row;
    return true;
}

static void terminal_look_at_size(struct terminal *terminal)
{
    uint16_t cols, rows;
    if (!terminal_size(terminal, &cols, &rows) || (cols == terminal->cols && rows == terminal->rows))
        return;
    terminal->cols = cols;
    terminal->rows = rows;
    if (terminal->options.resized)
        terminal->options.resized(terminal->options.context, cols, rows);
}

/* Take the terminal, if it is ours now. */
static void terminal_take(struct terminal *terminal)
{
    if (terminal->input_is_terminal && !terminal->options.keep_mode && terminal_mode_is_ours(terminal->input.handle))
        (void)terminal_mode_take(terminal->input.handle); /* a terminal that refuses is used as it is */
    terminal_look_at_size(terminal);
    terminal_read(terminal);
}

static void terminal_signalled(struct loop_watch *watch, unsigned events)
{
    struct terminal *terminal = container_of(watch, struct terminal, signal_watch);
    struct signalfd_siginfo information;
    (void)events;
    if (read(watch->handle, &information, sizeof(information)) != sizeof(information))
        return;
    if (information.ssi_signo == SIGTSTP) {
        terminal_mode_give_back();
        pthread_kill(pthread_self(), SIGSTOP); /* SIGCONT has the rest */
    } else {
        terminal_take(terminal);
    }
}

static void terminal_signal_set(sigset_t *ret_signals)
{
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGWINCH);
    sigaddset(ret_signals, SIGTSTP);
    sigaddset(ret_signals, SIGCONT);
}

void terminal_take_signals(void)
{
    sigset_t signals;
    terminal_signal_set(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

/* ---- life ---- */

/* The other side of a pseudo terminal is a pipe to us: who sits there has a mode and a size, we have not. */
static bool terminal_is(int handle)
{
    unsigned number;
    return handle >= 0 && isatty(handle) && ioctl(handle, TIOCGPTN, &number) < 0;
}

static int terminal_open_stream(struct stream_handle *stream, int handle, bool writes, bool *ret_is_terminal)
{
    int r = handle >= 0 ? stream_handle_open(stream, handle, writes) : 0;
    if (r == -EBADF)
        return 0; /* it was closed: there is none */
    *ret_is_terminal = terminal_is(stream->handle);
    return r;
}

static int terminal_open_parts(struct terminal *terminal)
{
    const struct terminal_options *options = &terminal->options;
    sigset_t signals;
    int r = terminal_side_open(&terminal->out, TERMINAL_OUTPUT_BYTES);
    if (r == 0)
        r = terminal_side_open(&terminal->in, TERMINAL_INPUT_BYTES);
    if (r == 0)
        r = terminal_open_stream(&terminal->input, options->input, false, &terminal->input_is_terminal);
    if (r == 0)
        r = terminal_open_stream(&terminal->output, options->output, true, &terminal->output_is_terminal);
    if (r < 0 || !(terminal->input_is_terminal || terminal->output_is_terminal))
        return r;
    terminal_signal_set(&signals);
    int handle = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (handle < 0)
        return -errno;
    r = loop_watch(options->loop, &terminal->signal_watch, handle, LOOP_READABLE, terminal_signalled);
    if (r < 0)
        close(handle);
    return r;
}

int terminal_open(struct terminal *terminal, const struct terminal_options *options)
{
    *terminal = (struct terminal){
        .options = *options,
        .input = STREAM_HANDLE_INIT,
        .output = STREAM_HANDLE_INIT,
        .escape.key = options->escape,
        .input_watch = LOOP_WATCH_NONE,
        .output_watch = LOOP_WATCH_NONE,
        .signal_watch = LOOP_WATCH_NONE,
        .stall.expired = terminal_stalls,
        .work.deliver = terminal_work,
        .out.handle = -1,
        .in.handle = -1,
        .opened = true,
    };
    pthread_mutex_init(&terminal->lock, NULL);
    int r = terminal_open_parts(terminal);
    if (r < 0) {
        terminal_close(terminal);
        return r;
    }
    terminal->output_gone = terminal->output.handle < 0;
    terminal->size_handle = terminal->output_is_terminal  ? terminal->output.handle
                            : terminal->input_is_terminal ? terminal->input.handle
                                                          : -1;
    (void)terminal_size(terminal, &terminal->cols, &terminal->rows); /* who wants it now asks for it */
    terminal_take(terminal);
    return 0;
}

/* The last words, as far as they are taken in time. */
static void terminal_drain(struct terminal *terminal)
{
    uint64_t until_ns = loop_now_ns() + TERMINAL_FLUSH_NS;
    struct pollfd look = {.fd = terminal->output.handle, .events = POLLOUT};
    while (terminal_flush(terminal) < 0) {
        uint64_t now_ns = loop_now_ns();
        if (now_ns >= until_ns || poll(&look, 1, (int)((until_ns - now_ns) / 1000000 + 1)) == 0)
            break;
    }
}

void terminal_close(struct terminal *terminal)
{
    struct loop *loop = terminal->options.loop;
    if (!terminal->opened)
        return;
    terminal->opened = false;
    loop_unwatch(loop, &terminal->input_watch);
    loop_unwatch(loop, &terminal->output_watch);
    int signals = terminal->signal_watch.handle;
    loop_unwatch(loop, &terminal->signal_watch);
    if (signals >= 0)
        close(signals);
    loop_timer_set(loop, &terminal->stall, 0);
    loop_unpost(loop, &terminal->work);
    if (terminal->output.handle >= 0)
        terminal_drain(terminal);
    if (terminal->input_is_terminal)
        terminal_mode_end();
    stream_handle_close(&terminal->input);
    stream_handle_close(&terminal->output);
    terminal_side_close(&terminal->out);
    terminal_side_close(&terminal->in);
    pthread_mutex_destroy(&terminal->lock);
}
