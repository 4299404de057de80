/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Block devices: a loop device over a file, whose blocks show what reached the device. Needs root and the loop driver;
 * skipped elsewhere.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "platform/linux/blk_test_support.h"

/* Somebody else may take the free number before we do. */
#define ATTEMPTS 16

static int loop = -1;
static int backing = -1;
static char loop_path[32];

/* Attach a loop device with blocks of @block_bytes to @fd. -1: not here. It goes when the last user closes it. */
static int attach(int fd, uint32_t block_bytes)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int device = -1;
    for (unsigned i = 0; control >= 0 && i < ATTEMPTS; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            break;
        snprintf(loop_path, sizeof(loop_path), "/dev/loop%d", number);
        device = open(loop_path, O_RDWR | O_CLOEXEC);
        const struct loop_config config = {
            .fd = (uint32_t)fd, .block_size = block_bytes, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
        if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config) == 0)
            break;
        int error = errno;
        if (device >= 0)
            close(device);
        device = -1;
        if (error != EBUSY)
            break;
    }
    if (control >= 0)
        close(control);
    return device;
}

static int attach_and_open(void **state)
{
    fixture = (struct fixture){.variant = *(struct variant *)*state, .image.fd = -1, .skipped = true};
    make_file(fixture.path, sizeof(fixture.path), DISK_BYTES);
    backing = open(fixture.path, O_RDWR | O_CLOEXEC);
    loop = attach(backing, BLOCK);
    if (loop < 0)
        snprintf(fixture.error, sizeof(fixture.error), "no loop device can be had here");
    else
        fixture.skipped = !open_backend(&fixture.variant, loop_path);
    return 0;
}

static int close_and_detach(void **state)
{
    int r = tear_down(state);
    if (loop >= 0)
        close(loop);
    close(backing);
    return r;
}

static void a_block_device_is_measured(void **state)
{
    (void)state;
    skip_if_refused();
    assert_true(fixture.image.block_device);
    assert_int_equal(fixture.image.size_bytes, DISK_BYTES);
    assert_int_equal(fixture.image.logical_block_bytes, BLOCK);
    assert_in_range(fixture.image.physical_block_bytes, BLOCK, 1u << 20);
    assert_true(fixture.image.discard);
}

static void a_new_size_of_the_device_is_seen_when_asked_for(void **state)
{
    (void)state;
    skip_if_refused();
    uint64_t size;
    assert_int_equal(ftruncate(backing, 2 * DISK_BYTES), 0);
    assert_int_equal(ioctl(loop, LOOP_SET_CAPACITY), 0);
    assert_int_equal(disk_image_refresh_size(&fixture.image, &size), 0);
    assert_int_equal(size, 2 * DISK_BYTES);
}

static void a_device_has_one_writer_like_a_file(void **state)
{
    (void)state;
    skip_if_refused();
    struct disk_image second;
    char error[DISK_IMAGE_ERROR_BYTES];
    const struct disk_image_options options = {.path = loop_path};
    assert_int_equal(disk_image_open(&second, &options, error, sizeof(error)), -EBUSY);
}

static void data_goes_to_the_device_and_back(void **state)
{
    (void)state;
    skip_if_refused();
    static uint8_t data[16 * BLOCK];
    static uint8_t back[16 * BLOCK];
    fill(data, sizeof(data), 4);
    assert_int_equal(transfer(BLK_OP_WRITE, BLK_IO_DURABLE, 5 * BLOCK, data, sizeof(data)), 0);
    assert_int_equal(pread(backing, back, sizeof(back), 5 * BLOCK), sizeof(back));
    assert_memory_equal(back, data, sizeof(data));
    memset(back, 0, sizeof(back));
    assert_int_equal(transfer(BLK_OP_READ, 0, 5 * BLOCK, back, sizeof(back)), 0);
    assert_memory_equal(back, data, sizeof(data));
}

static void discard_and_zeroes_reach_the_device(void **state)
{
    (void)state;
    skip_if_refused();
    static uint8_t data[1u << 20];
    static uint8_t back[1u << 20];
    static const uint8_t zeros[1u << 20];
    fill(data, sizeof(data), 2);

    assert_int_equal(transfer(BLK_OP_WRITE, BLK_IO_DURABLE, 0, data, sizeof(data)), 0);
    uint64_t full = blocks_used(backing);
    assert_int_equal(space(BLK_OP_DISCARD, 0, 0, sizeof(data)), 0);
    assert_true(full >= blocks_used(backing) + sizeof(data) / 512); /* all of it, and nothing else */

    assert_int_equal(transfer(BLK_OP_WRITE, BLK_IO_DURABLE, 0, data, sizeof(data)), 0);
    assert_int_equal(space(BLK_OP_WRITE_ZEROES, BLK_IO_UNMAP, BLOCK, sizeof(data) - 2 * BLOCK), 0);
    assert_int_equal(transfer(BLK_OP_READ, 0, 0, back, sizeof(back)), 0);
    assert_memory_equal(back, data, BLOCK);
    assert_memory_equal(back + BLOCK, zeros, sizeof(data) - 2 * BLOCK);
    assert_memory_equal(back + sizeof(data) - BLOCK, data + sizeof(data) - BLOCK, BLOCK);

    assert_int_equal(transfer(BLK_OP_WRITE, BLK_IO_DURABLE, 0, data, sizeof(data)), 0);
    assert_int_equal(space(BLK_OP_WRITE_ZEROES, 0, 0, sizeof(data)), 0);
    assert_int_equal(transfer(BLK_OP_READ, 0, 0, back, sizeof(back)), 0);
    assert_memory_equal(back, zeros, sizeof(data));
}

static void the_end_of_the_device_fails_that_request_alone(void **state)
{
    (void)state;
    skip_if_refused();
    uint8_t data[2 * BLOCK] = {0};
    assert_int_equal(transfer(BLK_OP_READ, 0, DISK_BYTES - BLOCK, data, sizeof(data)), -EIO);
    assert_int_equal(transfer(BLK_OP_WRITE, 0, DISK_BYTES - BLOCK, data, sizeof(data)), -ENOSPC);
    assert_int_equal(transfer(BLK_OP_WRITE, 0, DISK_BYTES - BLOCK, data, BLOCK), 0);
}

static void a_device_that_is_set_read_only_is_refused_for_writing(void **state)
{
    (void)state;
    skip_if_refused();
    const int on = 1;
    const int off = 0;
    struct disk_image image;
    char error[DISK_IMAGE_ERROR_BYTES];
    struct disk_image_options options = {.path = loop_path, .without_lock = true};
    assert_int_equal(ioctl(loop, BLKROSET, &on), 0);
    int writing = disk_image_open(&image, &options, error, sizeof(error));
    options.read_only = true;
    int reading = disk_image_open(&image, &options, error + 256, sizeof(error) - 256);
    assert_int_equal(ioctl(loop, BLKROSET, &off), 0); /* a later user of this number would find it so */
    assert_int_equal(writing, -EACCES);
    assert_non_null(strstr(error, "serve it read-only (--read-only)"));
    assert_int_equal(reading, 0);
    assert_false(image.discard);
    disk_image_close(&image);
}

#define ON_DEVICE(engine, test)                                                                                        \
    {                                                                                                                  \
#test " (" #engine ")", test, attach_and_open, close_and_detach, &engine                                       \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DEVICE(threads, a_block_device_is_measured),
        ON_DEVICE(threads, a_new_size_of_the_device_is_seen_when_asked_for),
        ON_DEVICE(threads, a_device_has_one_writer_like_a_file),
        ON_DEVICE(threads, a_device_that_is_set_read_only_is_refused_for_writing),
        ON_DEVICE(io_uring, data_goes_to_the_device_and_back),
        ON_DEVICE(threads, data_goes_to_the_device_and_back),
        ON_DEVICE(io_uring_direct, data_goes_to_the_device_and_back),
        ON_DEVICE(threads_direct, data_goes_to_the_device_and_back),
        ON_DEVICE(io_uring, discard_and_zeroes_reach_the_device),
        ON_DEVICE(threads, discard_and_zeroes_reach_the_device),
        ON_DEVICE(io_uring_direct, discard_and_zeroes_reach_the_device),
        ON_DEVICE(io_uring, the_end_of_the_device_fails_that_request_alone),
        ON_DEVICE(threads, the_end_of_the_device_fails_that_request_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
