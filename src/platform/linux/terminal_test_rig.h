/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A terminal for a guest in a test: on a pseudo terminal whose other side the test has, or on anything else. */
#ifndef PLATFORM_LINUX_TERMINAL_TEST_RIG_H
#define PLATFORM_LINUX_TERMINAL_TEST_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <termios.h>

#include "platform/linux/terminal.h"

/* An answer takes microseconds; a machine under load is given half a minute. */
#define TIMEOUT_MS 30000
#define TURN_NS (TIMEOUT_MS * UINT64_C(1000000))

struct screen {
    int master, slave;
    struct termios before;
    struct loop loop;
    struct terminal terminal;
    enum terminal_key keys[8];
    unsigned key_count, resizes;
    uint16_t cols, rows;
};

/* A pseudo terminal and a loop; then the guest's terminal on it. */
struct screen *given_a_screen(void);
void open_on(struct screen *screen, int input, int output);
struct screen *given_a_terminal(void);
void finish(struct screen *screen);

/* One turn of the loop, which has something to do. */
void turn(struct screen *screen);
bool is_readable(int handle, int timeout_ms);
/* The guest reads until it has @text, and nothing more is there. */
void expect_input(struct screen *screen, const char *text);
/* @text comes out of @handle. */
void expect_output(int handle, const char *text);
void type(const struct screen *screen, const char *text, size_t length);
bool is_raw(int terminal);
void expect_mode_of_before(const struct screen *screen);

#endif
