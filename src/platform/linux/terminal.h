/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The terminal that a guest's console is shown on: standard input and output, as a rule, whatever they are. A terminal
 * is put into raw mode while the guest runs, and back on every way out that a process can see; its size is followed; an
 * escape key reaches the one who runs the guest. Pipes, files and /dev/null work, too: bytes go through as they are.
 *
 * Escape key (only when input comes from a terminal), Ctrl-A unless chosen otherwise, and then
 *     x          end the guest                TERMINAL_QUIT
 *     s          stop the guest, or go on     TERMINAL_PAUSE
 *     p          press its power button       TERMINAL_POWER
 *     b          break on its serial line     TERMINAL_BREAK
 *     h, ?       show these keys              (done here)
 *     a, Ctrl-A  Ctrl-A itself, for the guest
 * Any other key is forgotten together with the escape.
 *
 * The mode also comes back when a signal ends the process, and by exit(3): terminal_mode.h. Who leaves by _exit(2)
 * calls terminal_mode_give_back. SIGTSTP and SIGCONT from outside do what they do to other programs. In the background
 * the terminal is the shell's: its mode is left alone and nothing is read until SIGCONT says that it is ours again.
 *
 * Threads: open, close and the calls of options on the loop's thread. terminal_output and terminal_input from any
 * thread, each by one at a time or by several: they hold a mutex for a copy, and make no system call but the signal
 * that wakes the loop. So a guest's processor never waits for a person's terminal.
 *
 * Output has a buffer of TERMINAL_OUTPUT_BYTES. Who cannot wait (a serial port) drops what does not fit; who can (the
 * console device) keeps it, and is told by terminal_output_handle when there is room. A terminal that takes nothing for
 * TERMINAL_STALL_NS (Ctrl-S there, a pipe that nobody reads) loses what does not fit from then on, until it takes some
 * again: Linux's console driver waits for its device with a processor that does nothing else. Output whose reader is
 * gone is dropped.
 *
 * Input from a terminal is read all the time, or the escape key of a guest that hangs would not be heard: what is typed
 * past TERMINAL_INPUT_BYTES is dropped. Other input is read only while there is room.
 *
 * The open file descriptions of standard input and output are shared with the shell, so O_NONBLOCK is never set on
 * them: stream_handle.h.
 */
#ifndef PLATFORM_LINUX_TERMINAL_H
#define PLATFORM_LINUX_TERMINAL_H

#include <pthread.h>

#include "platform/linux/byte_ring.h"
#include "platform/linux/loop.h"
#include "platform/linux/stream_handle.h"
#include "platform/linux/terminal_escape.h"

/* A screen of a large terminal and its attributes; as much as a pipe holds. */
#define TERMINAL_OUTPUT_BYTES 65536
/* More than anybody types ahead, and a paste of some size. */
#define TERMINAL_INPUT_BYTES 4096
/* A pager's user turns the page; a guest's kernel does not complain of a lost processor yet. */
#define TERMINAL_STALL_NS UINT64_C(5000000000)

struct terminal_options {
    struct loop *loop; /* borrowed, like everything here */
    int input, output; /* stay the caller's; -1: none */
    int escape;        /* the key's byte; TERMINAL_ESCAPE_NONE: no escape key */
    const char *name;  /* of the program, in what is shown: "backplane vm" */
    bool keep_mode;    /* not into raw mode: for tests of scripts, and people who want their line editing */
    /* A key has asked for something; @key is never TERMINAL_HELP. Neither this nor the next may close the terminal. */
    void (*key)(void *context, enum terminal_key key);
    /* The size is another one. NULL: nobody wants to know. */
    void (*resized)(void *context, uint16_t cols, uint16_t rows);
    void *context;
};

/* What one side of the terminal tells whoever uses it. */
struct terminal_side {
    struct byte_ring ring;
    int handle;  /* eventfd, owned */
    bool wanted; /* it gave 0: tell when that would be different */
    bool told;   /* handle is readable */
    uint64_t dropped_total;
};

struct terminal {
    struct terminal_options options;
    bool opened;
    struct stream_handle input, output;
    bool input_is_terminal, output_is_terminal;
    int size_handle; /* the terminal whose size counts, borrowed of input or output; -1: there is none */
    uint16_t cols, rows;
    struct terminal_escape escape;
    struct loop_watch input_watch, output_watch, signal_watch;
    struct loop_timer stall;
    struct loop_message work; /* from other threads: output came, or there is room for input again */
    pthread_mutex_t lock;     /* of what follows */
    struct terminal_side out, in;
    bool output_gone;    /* nobody will ever read it: it is dropped */
    bool output_stalled; /* nothing was taken for too long: what does not fit is dropped */
    bool input_ended;
    bool input_waits; /* for room */
};

/*
 * Before any thread is made: SIGWINCH, SIGTSTP and SIGCONT come by descriptor from now on, also to children, who should
 * unblock them.
 */
void terminal_take_signals(void);

/* -ENOMEM, -EMFILE, …; nothing has changed then. One at a time in a process. */
int terminal_open(struct terminal *terminal, const struct terminal_options *options);
/*
 * What is in the buffer is written, as far as that is taken within a second; then the terminal is as it was. No thread
 * uses it any more. A closed one is fine.
 */
void terminal_close(struct terminal *terminal);

/* Take the first n of @size bytes; 0: no room, output_handle will tell. */
size_t terminal_output(struct terminal *terminal, const void *bytes, size_t size);
/* The same for who cannot wait: what does not fit is dropped, and counted. */
void terminal_output_or_drop(struct terminal *terminal, const void *bytes, size_t size);
/* Give up to @size bytes that were typed; 0: nothing now, input_handle will tell. */
size_t terminal_input(struct terminal *terminal, void *bytes, size_t size);
/* Do without being told, after terminal_output or terminal_input gave 0. */
void terminal_output_rest(struct terminal *terminal);
void terminal_input_rest(struct terminal *terminal);
/*
 * Eventfds, readable since terminal_output or terminal_input gave 0 and that would be different now; quiet again after
 * the next call. One user for each.
 */
int terminal_output_handle(const struct terminal *terminal);
int terminal_input_handle(const struct terminal *terminal);

/* The size now; false: it is not known. On the loop's thread. */
bool terminal_size(const struct terminal *terminal, uint16_t *ret_cols, uint16_t *ret_rows);

#endif
