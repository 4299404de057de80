/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "platform/linux/stream_handle.h"

/* Ends that block, as a shell's do: nothing may wait, and nothing of that may change. */
static void expect_no_waiting(int from, int to)
{
    struct stream_handle in, out;
    char bytes[4096] = {0};
    int from_flags = fcntl(from, F_GETFL), to_flags = fcntl(to, F_GETFL);
    assert_int_equal(stream_handle_open(&in, from, false), 0);
    assert_int_equal(stream_handle_open(&out, to, true), 0);
    assert_int_equal(stream_handle_read(&in, bytes, sizeof(bytes)), -EAGAIN);
    assert_true(stream_handle_write(&out, "ab", 2) > 0);
    int r = -EAGAIN;
    while (r == -EAGAIN)
        r = stream_handle_read(&in, bytes, sizeof(bytes));
    assert_true(r > 0);
    assert_int_equal(bytes[0], 'a');
    do
        r = stream_handle_write(&out, bytes, sizeof(bytes));
    while (r > 0);
    assert_int_equal(r, -EAGAIN);
    assert_int_equal(fcntl(from, F_GETFL), from_flags);
    assert_int_equal(fcntl(to, F_GETFL), to_flags);
    stream_handle_close(&in);
    stream_handle_close(&out);
    stream_handle_close(&out);
}

static void pipes_do_not_wait(void **state)
{
    int ends[2];
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    expect_no_waiting(ends[0], ends[1]);
    close(ends[0]);
    close(ends[1]);
}

static void sockets_do_not_wait(void **state)
{
    int ends[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    expect_no_waiting(ends[0], ends[1]);
    close(ends[0]);
    close(ends[1]);
}

static void open_raw_terminal(int *master, int *slave)
{
    struct termios raw;
    assert_int_equal(openpty(master, slave, NULL, NULL, NULL), 0);
    assert_int_equal(tcgetattr(*slave, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(*slave, TCSANOW, &raw), 0);
}

static void terminals_do_not_wait_opened_anew_or_not(void **state)
{
    int master, slave;
    (void)state;
    open_raw_terminal(&master, &slave);
    expect_no_waiting(master, slave);
    close(master);
    close(slave);
    open_raw_terminal(&master, &slave);
    expect_no_waiting(slave, master); /* to open a master anew would make another terminal */
    close(master);
    close(slave);
}

static void an_end_is_told(void **state)
{
    struct stream_handle in, out;
    char byte;
    int ends[2];
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(stream_handle_open(&in, ends[0], false), 0);
    close(ends[1]);
    assert_int_equal(stream_handle_read(&in, &byte, 1), 0);
    stream_handle_close(&in);
    close(ends[0]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(stream_handle_open(&out, ends[1], true), 0);
    close(ends[0]);
    assert_int_equal(stream_handle_write(&out, "x", 1), -EPIPE);
    stream_handle_close(&out);
    close(ends[1]);
    assert_int_equal(stream_handle_open(&out, ends[1], true), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipes_do_not_wait),
        cmocka_unit_test(sockets_do_not_wait),
        cmocka_unit_test(terminals_do_not_wait_opened_anew_or_not),
        cmocka_unit_test(an_end_is_told),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("stream_handle", tests, NULL, NULL);
}
