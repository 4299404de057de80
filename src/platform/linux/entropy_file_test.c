/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/linux/entropy_file.h"

static struct entropy_file file;
static char error[256];
static char folder[64];
static char path[80];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/backplane-entropy-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/source", folder);
    file.fd = -1;
    error[0] = '\0';
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    entropy_file_close(&file);
    unlink(path);
    rmdir(folder);
    return 0;
}

static int read_some(void *bytes, size_t size)
{
    return file.source.class->read(&file.source, bytes, size);
}

static void the_default_source_gives_bytes_that_differ_and_needs_no_polling(void **state)
{
    (void)state;
    uint8_t a[64] = {0};
    uint8_t b[64] = {0};
    assert_int_equal(entropy_file_open(&file, ENTROPY_FILE_DEFAULT, error, sizeof(error)), 0);
    assert_int_equal(read_some(a, sizeof(a)), sizeof(a));
    assert_int_equal(read_some(b, sizeof(b)), sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(entropy_file_handle(&file), -1);
}

static void a_source_that_is_dry_says_so_and_is_polled_until_it_gives_again(void **state)
{
    (void)state;
    uint8_t bytes[16];
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(entropy_file_open(&file, path, error, sizeof(error)), 0);
    assert_int_equal(entropy_file_handle(&file), -1); /* nobody has asked yet */
    assert_int_equal(read_some(bytes, sizeof(bytes)), -EAGAIN);

    struct pollfd poll_fd = {.fd = entropy_file_handle(&file), .events = POLLIN};
    assert_true(poll_fd.fd >= 0);
    assert_int_equal(poll(&poll_fd, 1, 0), 0);
    int writer = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(write(writer, "abc", 3), 3);
    assert_int_equal(poll(&poll_fd, 1, 0), 1);
    assert_int_equal(read_some(bytes, sizeof(bytes)), 3);
    assert_memory_equal(bytes, "abc", 3);
    assert_int_equal(entropy_file_handle(&file), -1);

    /* A writer that goes is not the end of entropy, nor a wake. */
    close(writer);
    assert_int_equal(read_some(bytes, sizeof(bytes)), -EAGAIN);
    assert_int_equal(poll(&poll_fd, 1, 0), 0);
}

static void a_file_gives_what_it_has_once_and_is_then_gone(void **state)
{
    (void)state;
    uint8_t bytes[16];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "0123456789", 10), 10);
    close(fd);
    assert_int_equal(entropy_file_open(&file, path, error, sizeof(error)), 0);
    assert_int_equal(read_some(bytes, 4), 4);
    assert_int_equal(read_some(bytes, sizeof(bytes)), 6);
    assert_memory_equal(bytes, "456789", 6);
    assert_int_equal(read_some(bytes, sizeof(bytes)), -ENODATA);
    assert_int_equal(entropy_file_handle(&file), -1); /* a file cannot be polled */
}

static void what_has_no_entropy_is_refused_with_what_to_do(void **state)
{
    (void)state;
    assert_int_equal(entropy_file_open(&file, folder, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, folder));
    assert_non_null(strstr(error, "it is a directory: try /dev/urandom"));
    assert_null(strchr(error, '\n'));

    assert_int_equal(entropy_file_open(&file, path, error, sizeof(error)), -ENOENT);
    assert_non_null(strstr(error, path));
    assert_non_null(strstr(error, "No such file or directory: try /dev/urandom"));
    assert_int_equal(file.fd, -1);
}

static void the_clock_never_goes_back(void **state)
{
    (void)state;
    assert_int_equal(entropy_file_open(&file, ENTROPY_FILE_DEFAULT, error, sizeof(error)), 0);
    uint64_t before = file.source.class->now_ns(&file.source);
    uint64_t after = file.source.class->now_ns(&file.source);
    assert_true(before > 0 && after >= before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_default_source_gives_bytes_that_differ_and_needs_no_polling, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_source_that_is_dry_says_so_and_is_polled_until_it_gives_again, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_file_gives_what_it_has_once_and_is_then_gone, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_has_no_entropy_is_refused_with_what_to_do, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(the_clock_never_goes_back, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
