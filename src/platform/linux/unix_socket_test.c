/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Stale and live sockets are in tests/system/test_cli.py, where two processes meet. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/linux/unix_socket.h"

#define TIMEOUT_MS 20
/* More than any backlog of 0 lets in. */
#define CONNECTIONS_MAX 8

/* The server that hangs listens, and accepts nobody. */
static void connecting_to_one_that_hangs_comes_to_an_end(void **state)
{
    char folder[] = "/tmp/backplane-test-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int handles[CONNECTIONS_MAX], count = 0;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/hangs", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 0), 0);

    int last = 0;
    while (count < CONNECTIONS_MAX && last >= 0) {
        last = unix_socket_connect(address.sun_path, TIMEOUT_MS);
        if (last >= 0)
            handles[count++] = last;
    }
    assert_int_equal(last, -EAGAIN);
    /* Those who got in are not answered either. */
    assert_true(count > 0);
    char byte;
    assert_int_equal(recv(handles[0], &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);

    while (count > 0)
        close(handles[--count]);
    close(listener);
    unlink(address.sun_path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connecting_to_one_that_hangs_comes_to_an_end),
    };
    return cmocka_run_group_tests_name("unix_socket", tests, NULL, NULL);
}
