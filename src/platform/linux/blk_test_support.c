/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/blk_test_support.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture fixture;
struct variant io_uring = {.engine = BLK_ENGINE_URING};
struct variant threads = {.engine = BLK_ENGINE_PLAIN};
struct variant io_uring_direct = {.engine = BLK_ENGINE_URING, .direct = DISK_DIRECT_ON};
struct variant threads_direct = {.engine = BLK_ENGINE_PLAIN, .direct = DISK_DIRECT_ON};
struct variant io_uring_of_5_19 = {.engine = BLK_ENGINE_URING, .uring_age = 1};
struct variant io_uring_of_5_18 = {.engine = BLK_ENGINE_URING, .uring_age = 2};
struct variant io_uring_of_5_6 = {.engine = BLK_ENGINE_URING, .uring_age = 3};

void make_file(char *path, size_t path_bytes, uint64_t size)
{
    snprintf(path, path_bytes, "/tmp/backplane-blk-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
}

bool open_backend(const struct variant *variant, const char *path)
{
    const struct disk_image_options image_options = {.path = path, .direct = variant->direct};
    int r = disk_image_open(&fixture.image, &image_options, fixture.error, sizeof(fixture.error));
    if (r == -EOPNOTSUPP)
        return false;
    if (r < 0)
        fail_msg("%s", fixture.error);
    const struct blk_backend_options options = {
        .engine = variant->engine,
        .image = &fixture.image,
        .queues = 2,
        .depth = DEPTH,
        .uring_age = variant->uring_age,
    };
    r = blk_backend_open(&fixture.backend, &options, fixture.error, sizeof(fixture.error));
    if (r < 0 && variant->engine == BLK_ENGINE_URING) {
        disk_image_close(&fixture.image);
        return false;
    }
    if (r < 0)
        fail_msg("%s", fixture.error);
    return true;
}

void close_backend(void)
{
    blk_backend_close(&fixture.backend);
    disk_image_close(&fixture.image);
}

int set_up(void **state)
{
    fixture = (struct fixture){.variant = *(struct variant *)*state, .image.fd = -1};
    make_file(fixture.path, sizeof(fixture.path), DISK_BYTES);
    fixture.skipped = !open_backend(&fixture.variant, fixture.path);
    return 0;
}

int tear_down(void **state)
{
    (void)state;
    if (!fixture.skipped)
        close_backend();
    unlink(fixture.path);
    return 0;
}

void skip_if_refused(void)
{
    if (fixture.skipped) {
        print_message("skipped: %s\n", fixture.error);
        skip();
    }
}

unsigned submit(unsigned queue, const struct blk_io *ios, unsigned count)
{
    return fixture.backend.port->class->submit(fixture.backend.port, queue, ios, count);
}

unsigned reap(unsigned queue, struct blk_completion *completions, unsigned max)
{
    return fixture.backend.port->class->reap(fixture.backend.port, queue, completions, max);
}

bool is_readable(unsigned queue, int timeout_ms)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (blk_backend_rest(&fixture.backend, queue))
        return true;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    assert_true(epoll >= 0);
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, blk_backend_handle(&fixture.backend, queue), &event), 0);
    int r;
    do
        r = epoll_wait(epoll, &event, 1, timeout_ms);
    while (r < 0 && errno == EINTR);
    close(epoll);
    return r == 1;
}

void wait_for(unsigned queue, unsigned count, int *results)
{
    while (count > 0) {
        struct blk_completion completions[16];
        unsigned given = reap(queue, completions, ARRAY_SIZE(completions));
        for (unsigned i = 0; i < given; i++)
            results[completions[i].token] = completions[i].result;
        assert_true(given <= count);
        count -= given;
        if (given == 0 && count > 0)
            assert_true(is_readable(queue, TIMEOUT_MS));
    }
    assert_int_equal(reap(queue, &(struct blk_completion){0}, 1), 0);
}

int run(const struct blk_io *io)
{
    struct blk_io copy = *io;
    int result = 1;
    copy.token = 0;
    assert_int_equal(submit(0, &copy, 1), 1);
    wait_for(0, 1, &result);
    return result;
}

int transfer(enum blk_op op, uint32_t flags, uint64_t offset, void *buffer, size_t length)
{
    const struct guest_iovec iov = {.base = buffer, .length = length};
    return run(
        &(struct blk_io){.op = op, .flags = flags, .offset = offset, .length = length, .iov = &iov, .iov_count = 1});
}

int space(enum blk_op op, uint32_t flags, uint64_t offset, uint64_t length)
{
    return run(&(struct blk_io){.op = op, .flags = flags, .offset = offset, .length = length});
}

void fill(uint8_t *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(seed + i * 7 + (i >> 8) * 13 + 1);
}

size_t look(void *buffer, size_t length, uint64_t offset)
{
    int fd = open(fixture.path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t n = pread(fd, buffer, length, (off_t)offset);
    close(fd);
    assert_true(n >= 0);
    return (size_t)n;
}

uint64_t blocks_used(int fd)
{
    struct stat status;
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(fstat(fd, &status), 0);
    return (uint64_t)status.st_blocks;
}

/* gcc says it one way, clang the other. */
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#define UNDER_ADDRESS_SANITIZER __has_feature(address_sanitizer)
#else
#define UNDER_ADDRESS_SANITIZER 0
#endif

_Noreturn void end_child(int status)
{
    if (UNDER_ADDRESS_SANITIZER)
        _exit(status);
    exit(status);
}
