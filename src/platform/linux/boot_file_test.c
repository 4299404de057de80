/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/linux/boot_file.h"

static char folder[64], path[80], error[BOOT_FILE_ERROR_BYTES];

static int make_file(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/backplane-boot-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/kernel", folder);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int i = 0; i < 10000; i++)
        fputc(i * 7 & 0xff, file);
    return fclose(file);
}

static int remove_file(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void bytes_come_from_where_they_are_asked_for(void **state)
{
    (void)state;
    struct boot_file file;
    uint8_t bytes[100];
    assert_int_equal(boot_file_open(&file, path, error, sizeof(error)), 0);
    assert_int_equal(file.image.size, 10000);
    assert_int_equal(boot_image_read(&file.image, 9900, bytes, 100), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(bytes[i], (9900 + i) * 7 & 0xff);
    assert_int_equal(boot_image_read(&file.image, 9901, bytes, 100), -EBADMSG);
    boot_file_close(&file);
}

static void a_file_that_shrinks_meanwhile_ends_in_an_error(void **state)
{
    (void)state;
    struct boot_file file;
    uint8_t bytes[100];
    assert_int_equal(boot_file_open(&file, path, error, sizeof(error)), 0);
    assert_int_equal(truncate(path, 9950), 0);
    assert_int_equal(boot_image_read(&file.image, 9900, bytes, 100), -ENODATA);
    boot_file_close(&file);
}

static void what_is_no_file_is_told_in_words(void **state)
{
    (void)state;
    struct boot_file file;
    assert_int_equal(boot_file_open(&file, folder, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "no regular file"));
    unlink(path);
    assert_int_equal(boot_file_open(&file, path, error, sizeof(error)), -ENOENT);
    assert_non_null(strstr(error, "No such file"));
    assert_non_null(strstr(error, path));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(boot_file_open(&file, path, error, sizeof(error)), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_come_from_where_they_are_asked_for, make_file, remove_file),
        cmocka_unit_test_setup_teardown(a_file_that_shrinks_meanwhile_ends_in_an_error, make_file, remove_file),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_told_in_words, make_file, remove_file),
    };
    return cmocka_run_group_tests_name("boot_file", tests, NULL, NULL);
}
