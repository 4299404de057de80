/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/terminal_test_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <unistd.h>

static void note_key(void *context, enum terminal_key key)
{
    struct screen *screen = context;
    assert_true(screen->key_count < ARRAY_SIZE(screen->keys));
    screen->keys[screen->key_count++] = key;
}

static void note_size(void *context, uint16_t cols, uint16_t rows)
{
    struct screen *screen = context;
    screen->resizes++;
    screen->cols = cols;
    screen->rows = rows;
    (void)terminal_output(&screen->terminal, "resized", 7);
}

void open_on(struct screen *screen, int input, int output)
{
    const struct terminal_options options = {
        .loop = &screen->loop,
        .input = input,
        .output = output,
        .escape = TERMINAL_ESCAPE_DEFAULT,
        .name = "test",
        .key = note_key,
        .resized = note_size,
        .context = screen,
    };
    assert_int_equal(terminal_open(&screen->terminal, &options), 0);
}

struct screen *given_a_screen(void)
{
    struct screen *screen = calloc(1, sizeof(*screen));
    assert_non_null(screen);
    const struct winsize size = {.ws_col = 80, .ws_row = 25};
    assert_int_equal(openpty(&screen->master, &screen->slave, NULL, NULL, &size), 0);
    assert_int_equal(fcntl(screen->master, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(tcgetattr(screen->slave, &screen->before), 0);
    assert_int_equal(loop_init(&screen->loop), 0);
    return screen;
}

struct screen *given_a_terminal(void)
{
    struct screen *screen = given_a_screen();
    open_on(screen, screen->slave, screen->slave);
    return screen;
}

void finish(struct screen *screen)
{
    terminal_close(&screen->terminal);
    terminal_close(&screen->terminal);
    loop_done(&screen->loop);
    close(screen->master);
    close(screen->slave);
    free(screen);
}

void turn(struct screen *screen)
{
    assert_int_equal(loop_turn(&screen->loop, TURN_NS), 0);
}

bool is_readable(int handle, int timeout_ms)
{
    struct pollfd look = {.fd = handle, .events = POLLIN};
    return poll(&look, 1, timeout_ms) == 1 && (look.revents & POLLIN);
}

void expect_input(struct screen *screen, const char *text)
{
    char got[256];
    size_t count = 0;
    while (count < strlen(text)) {
        size_t n = terminal_input(&screen->terminal, got + count, sizeof(got) - count);
        count += n;
        while (n == 0 && !is_readable(terminal_input_handle(&screen->terminal), 0))
            turn(screen);
    }
    assert_int_equal(terminal_input(&screen->terminal, got, 1), 0);
    assert_int_equal(count, strlen(text));
    assert_memory_equal(got, text, count);
}

void expect_output(int handle, const char *text)
{
    char got[1024];
    size_t count = 0;
    while (count < strlen(text)) {
        assert_true(is_readable(handle, TIMEOUT_MS));
        ssize_t n = read(handle, got + count, strlen(text) - count);
        assert_true(n > 0);
        count += (size_t)n;
    }
    assert_memory_equal(got, text, count);
}

void type(const struct screen *screen, const char *text, size_t length)
{
    assert_int_equal(write(screen->master, text, length), (ssize_t)length);
}

bool is_raw(int terminal)
{
    struct termios now;
    assert_int_equal(tcgetattr(terminal, &now), 0);
    return !(now.c_lflag & (ICANON | ECHO | ISIG));
}

void expect_mode_of_before(const struct screen *screen)
{
    struct termios now;
    assert_int_equal(tcgetattr(screen->slave, &now), 0);
    assert_int_equal(now.c_lflag, screen->before.c_lflag);
    assert_int_equal(now.c_iflag, screen->before.c_iflag);
    assert_int_equal(now.c_oflag, screen->before.c_oflag);
    assert_int_equal(now.c_cflag, screen->before.c_cflag);
    assert_memory_equal(now.c_cc, screen->before.c_cc, sizeof(now.c_cc));
}
