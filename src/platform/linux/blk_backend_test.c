/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Every test here runs on each engine: what the model sees must not depend on how the calls are made. Files are in the
 * temporary directory. Waiting is by poll on the handle, as the program does it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/linux/blk_test_support.h"

static void what_was_written_is_in_the_file_and_is_read_back(void **state)
{
    (void)state;
    skip_if_refused();
    uint8_t written[BLOCK];
    uint8_t in_file[BLOCK];
    uint8_t back[BLOCK];
    fill(written, sizeof(written), 1);

    assert_int_equal(transfer(BLK_OP_WRITE, 0, 3 * BLOCK, written, sizeof(written)), 0);
    assert_int_equal(look(in_file, sizeof(in_file), 3 * BLOCK), sizeof(in_file));
    assert_memory_equal(in_file, written, sizeof(written));
    assert_int_equal(transfer(BLK_OP_READ, 0, 3 * BLOCK, back, sizeof(back)), 0);
    assert_memory_equal(back, written, sizeof(written));
}

static void pieces_are_scattered_and_gathered_in_order(void **state)
{
    (void)state;
    skip_if_refused();
    enum { PIECES = 40 };
    static uint8_t source[PIECES][512];
    static uint8_t target[PIECES * 512];
    struct guest_iovec iov[PIECES];
    for (unsigned i = 0; i < PIECES; i++) {
        fill(source[i], sizeof(source[i]), i);
        /* backwards in memory, so that neither side is one run of bytes */
        iov[i] = (struct guest_iovec){.base = source[PIECES - 1 - i], .length = sizeof(source[i])};
    }

    struct blk_io io = {.op = BLK_OP_WRITE, .offset = 512, .length = sizeof(source), .iov = iov, .iov_count = PIECES};
    assert_int_equal(run(&io), 0);
    assert_int_equal(transfer(BLK_OP_READ, 0, 512, target, sizeof(target)), 0);
    for (unsigned i = 0; i < PIECES; i++)
        assert_memory_equal(target + i * 512, source[PIECES - 1 - i], 512);

    memset(source, 0, sizeof(source));
    io.op = BLK_OP_READ;
    assert_int_equal(run(&io), 0);
    for (unsigned i = 0; i < PIECES; i++)
        assert_memory_equal(target + i * 512, source[PIECES - 1 - i], 512);
}

static void a_queue_takes_as_many_as_its_depth_and_completes_them_all(void **state)
{
    (void)state;
    skip_if_refused();
    static uint8_t data[DEPTH + 1][BLOCK];
    struct guest_iovec iov[DEPTH + 1];
    struct blk_io ios[DEPTH + 1];
    int results[DEPTH + 1];
    for (unsigned i = 0; i <= DEPTH; i++) {
        fill(data[i], BLOCK, i);
        iov[i] = (struct guest_iovec){.base = data[i], .length = BLOCK};
        ios[i] = (struct blk_io){.token = i,
                                 .op = BLK_OP_WRITE,
                                 .offset = (uint64_t)i * 2 * BLOCK,
                                 .length = BLOCK,
                                 .iov = &iov[i],
                                 .iov_count = 1};
        results[i] = 1;
    }

    /* Several rounds: every slot must come back. */
    for (unsigned round = 0; round < 5; round++) {
        assert_int_equal(submit(0, ios, DEPTH + 1), DEPTH);
        wait_for(0, DEPTH, results);
    }
    assert_int_equal(results[DEPTH], 1);
    assert_int_equal(submit(0, &ios[DEPTH], 1), 1);
    wait_for(0, 1, results);
    for (unsigned i = 0; i <= DEPTH; i++) {
        uint8_t in_file[BLOCK];
        assert_int_equal(results[i], 0);
        assert_int_equal(look(in_file, BLOCK, ios[i].offset), BLOCK);
        assert_memory_equal(in_file, data[i], BLOCK);
    }
}

static void queues_do_not_see_each_others_completions(void **state)
{
    (void)state;
    skip_if_refused();
    uint8_t a[512] = {1};
    uint8_t b[512] = {2};
    const struct guest_iovec iov[2] = {{a, sizeof(a)}, {b, sizeof(b)}};
    struct blk_io ios[2] = {
        {.token = 0, .op = BLK_OP_WRITE, .offset = 0, .length = 512, .iov = &iov[0], .iov_count = 1},
        {.token = 1, .op = BLK_OP_WRITE, .offset = 512, .length = 512, .iov = &iov[1], .iov_count = 1},
    };
    int results[2] = {1, 1};

    assert_int_equal(submit(0, &ios[0], 1), 1);
    assert_int_equal(submit(1, &ios[1], 1), 1);
    wait_for(1, 1, results);
    assert_int_equal(results[0], 1);
    assert_int_equal(results[1], 0);
    wait_for(0, 1, results);
    assert_int_equal(results[0], 0);
}

static void the_handle_is_quiet_once_everything_is_reaped(void **state)
{
    (void)state;
    skip_if_refused();
    uint8_t data[512] = {0};

    assert_false(is_readable(0, 0));
    assert_int_equal(transfer(BLK_OP_WRITE, 0, 0, data, sizeof(data)), 0);
    assert_false(is_readable(0, 0));
}

static void the_handle_stays_readable_while_completions_are_left(void **state)
{
    (void)state;
    skip_if_refused();
    struct blk_io ios[2] = {{.token = 0, .op = BLK_OP_FLUSH}, {.token = 1, .op = BLK_OP_FLUSH}};
    int results[2] = {1, 1};
    struct blk_completion one;

    assert_int_equal(submit(0, ios, 2), 2);
    for (unsigned taken = 0; taken < 2;) {
        assert_true(is_readable(0, TIMEOUT_MS));
        if (reap(0, &one, 1) == 1) {
            results[one.token] = one.result;
            taken++;
        }
    }
    assert_int_equal(results[0], 0);
    assert_int_equal(results[1], 0);
    assert_false(is_readable(0, 0));
}

/* What was written to the disk in one piece, read by so many requests, or the other way round. */
static void neighbours(enum blk_op op, unsigned count, uint64_t at, uint8_t *memory)
{
    struct guest_iovec iov[32];
    struct blk_io ios[32];
    int results[32];
    for (unsigned i = 0; i < count; i++) {
        /* backwards in memory */
        iov[i] = (struct guest_iovec){.base = memory + (count - 1 - i) * BLOCK, .length = BLOCK};
        ios[i] = (struct blk_io){
            .token = i, .op = op, .offset = at + i * BLOCK, .length = BLOCK, .iov = &iov[i], .iov_count = 1};
        results[i] = 1;
    }
    assert_int_equal(submit(0, ios, count), count);
    wait_for(0, count, results);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(results[i], 0);
}

static void requests_that_continue_each_other_are_one_transfer(void **state)
{
    (void)state;
    skip_if_refused();
    enum { COUNT = 32 };
    static _Alignas(BLOCK) uint8_t memory[COUNT * BLOCK];
    static uint8_t in_file[COUNT * BLOCK];
    static uint8_t written[COUNT * BLOCK];
    struct blk_backend_counters counters;
    fill(memory, sizeof(memory), 11);
    memcpy(written, memory, sizeof(memory));

    neighbours(BLK_OP_WRITE, COUNT, 3 * BLOCK, memory);
    assert_int_equal(look(in_file, sizeof(in_file), 3 * BLOCK), sizeof(in_file));
    for (unsigned i = 0; i < COUNT; i++)
        assert_memory_equal(in_file + i * BLOCK, memory + (COUNT - 1 - i) * BLOCK, BLOCK);
    memset(memory, 0, sizeof(memory));
    neighbours(BLK_OP_READ, COUNT, 3 * BLOCK, memory);
    assert_memory_equal(memory, written, sizeof(memory));
    blk_backend_count(&fixture.backend, &counters);
    assert_int_equal(counters.operations, 2 * COUNT);
    assert_int_equal(counters.merged, 2 * (COUNT - 1));
    assert_true(counters.calls <= 4);
}

static void the_end_of_a_file_that_shrank_fails_its_requests_alone_though_merged(void **state)
{
    (void)state;
    skip_if_refused();
    static _Alignas(BLOCK) uint8_t data[8][BLOCK];
    struct guest_iovec iov[8];
    struct blk_io ios[8];
    int results[8];
    assert_int_equal(ftruncate(fixture.image.fd, 5 * BLOCK + 512), 0);
    for (unsigned i = 0; i < 8; i++) {
        iov[i] = (struct guest_iovec){.base = data[7 - i], .length = BLOCK};
        ios[i] = (struct blk_io){
            .token = i, .op = BLK_OP_READ, .offset = i * BLOCK, .length = BLOCK, .iov = &iov[i], .iov_count = 1};
    }
    assert_int_equal(submit(0, ios, 8), 8);
    wait_for(0, 8, results);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(results[i], i < 5 ? 0 : -EIO);
}

static void memory_of_any_address_and_pieces_of_any_length_are_served(void **state)
{
    (void)state;
    skip_if_refused();
    static const size_t lengths[] = {1, 511, 4097, 2 * BLK_BOUNCE_BYTES, 3, 0, 100, 313};
    enum { PIECES = ARRAY_SIZE(lengths) };
    static uint8_t memory[4 * BLK_BOUNCE_BYTES];
    static uint8_t written[4 * BLK_BOUNCE_BYTES];
    static uint8_t in_file[4 * BLK_BOUNCE_BYTES];
    for (unsigned shift = 0; shift < 4; shift++) {
        struct guest_iovec iov[PIECES];
        size_t at = shift, total = 0;
        fill(memory, sizeof(memory), shift);
        for (unsigned i = 0; i < PIECES; i++) {
            /* each a byte after the one before, so that they are no single run */
            iov[i] = (struct guest_iovec){.base = memory + at, .length = lengths[i]};
            memcpy(written + total, memory + at, lengths[i]);
            at += lengths[i] + 1;
            total += lengths[i];
        }
        size_t rest = align_up(total, 512) - total;
        iov[PIECES - 1].length += rest;
        memcpy(written + total, memory + at - 1, rest);
        total += rest;
        struct blk_io io = {.op = BLK_OP_WRITE, .offset = 512, .length = total, .iov = iov, .iov_count = PIECES};
        assert_int_equal(run(&io), 0);
        assert_int_equal(look(in_file, total, 512), total);
        assert_memory_equal(in_file, written, total);
        memset(memory, 0xee, sizeof(memory));
        io.op = BLK_OP_READ;
        assert_int_equal(run(&io), 0);
        for (size_t i = 0, done = 0; i < PIECES; done += iov[i].length, i++) {
            assert_memory_equal(iov[i].base, written + done, iov[i].length);
            assert_int_equal(((uint8_t *)iov[i].base)[iov[i].length], 0xee);
        }
    }
}

static void a_queue_says_without_a_call_whether_something_has_come(void **state)
{
    (void)state;
    skip_if_refused();
    const struct blk_io flush = {.token = 3, .op = BLK_OP_FLUSH};
    struct blk_completion completion;
    assert_false(blk_backend_ready(&fixture.backend, 0));
    assert_false(blk_backend_rest(&fixture.backend, 0));
    assert_int_equal(submit(0, &flush, 1), 1);
    /* Whoever goes to rest is either told that there is something, or woken by the handle. */
    assert_true(is_readable(0, TIMEOUT_MS));
    while (!blk_backend_ready(&fixture.backend, 0))
        assert_true(is_readable(0, TIMEOUT_MS));
    assert_false(blk_backend_ready(&fixture.backend, 1));
    assert_int_equal(reap(0, &completion, 1), 1);
    assert_int_equal(completion.token, 3);
    assert_false(blk_backend_ready(&fixture.backend, 0));
    assert_false(blk_backend_rest(&fixture.backend, 0));
}

static void flush_and_durable_writes_succeed(void **state)
{
    (void)state;
    skip_if_refused();
    uint8_t data[BLOCK];
    uint8_t back[BLOCK];
    fill(data, sizeof(data), 9);

    assert_int_equal(transfer(BLK_OP_WRITE, BLK_IO_DURABLE, BLOCK, data, sizeof(data)), 0);
    assert_int_equal(space(BLK_OP_FLUSH, 0, 0, 0), 0);
    assert_int_equal(transfer(BLK_OP_READ, 0, BLOCK, back, sizeof(back)), 0);
    assert_memory_equal(back, data, sizeof(data));
}

static void discard_gives_the_files_space_back(void **state)
{
    (void)state;
    skip_if_refused();
    static uint8_t data[1u << 20];
    fill(data, sizeof(data), 3);

    assert_int_equal(transfer(BLK_OP_WRITE, 0, 0, data, sizeof(data)), 0);
    uint64_t before = blocks_used(fixture.image.fd);
    assert_true(before >= sizeof(data) / 512);
    if (!fixture.image.discard) {
        print_message("skipped: the file system of /tmp cannot punch holes\n");
        skip();
    }
    assert_int_equal(space(BLK_OP_DISCARD, 0, 0, sizeof(data)), 0);
    assert_true(blocks_used(fixture.image.fd) < before);
    struct stat status;
    assert_int_equal(fstat(fixture.image.fd, &status), 0);
    assert_int_equal(status.st_size, DISK_BYTES);
}

static void check_zeroes(uint32_t flags)
{
    static uint8_t data[1u << 20];
    static const uint8_t zeros[1u << 20];
    fill(data, sizeof(data), 5);
    assert_int_equal(transfer(BLK_OP_WRITE, 0, 0, data, sizeof(data)), 0);

    /* not a multiple of the zeros written at a time, nor aligned to blocks of the file system */
    uint64_t from = 512;
    uint64_t length = sizeof(data) - 3 * 512;
    assert_int_equal(space(BLK_OP_WRITE_ZEROES, flags, from, length), 0);
    static uint8_t back[1u << 20];
    assert_int_equal(transfer(BLK_OP_READ, 0, 0, back, sizeof(back)), 0);
    assert_memory_equal(back, data, from);
    assert_memory_equal(back + from, zeros, length);
    assert_memory_equal(back + from + length, data + from + length, sizeof(data) - from - length);
}

static void write_zeroes_reads_as_zeros_and_nothing_else_changes(void **state)
{
    (void)state;
    skip_if_refused();
    check_zeroes(0);
}

static void write_zeroes_with_unmap_reads_as_zeros_and_gives_space_back(void **state)
{
    (void)state;
    skip_if_refused();
    check_zeroes(BLK_IO_UNMAP);
    if (fixture.image.discard)
        assert_true(blocks_used(fixture.image.fd) <= 64);
}

static void write_zeroes_without_unmap_keeps_the_space(void **state)
{
    (void)state;
    skip_if_refused();
    check_zeroes(BLK_IO_DURABLE);
    assert_true(blocks_used(fixture.image.fd) >= (1 << 20) / 512);
}

static void reading_past_a_file_that_shrank_fails_that_request_alone(void **state)
{
    (void)state;
    skip_if_refused();
    uint8_t data[2 * BLOCK];
    assert_int_equal(ftruncate(fixture.image.fd, 5 * BLOCK), 0);

    assert_int_equal(transfer(BLK_OP_READ, 0, 8 * BLOCK, data, sizeof(data)), -EIO);
    assert_int_equal(transfer(BLK_OP_READ, 0, 4 * BLOCK, data, sizeof(data)), -EIO); /* half of it is there */
    assert_int_equal(transfer(BLK_OP_READ, 0, 3 * BLOCK, data, sizeof(data)), 0);
}

static void a_write_that_is_cut_short_goes_on_and_reports_why_it_cannot(void **state)
{
    (void)state;
    skip_if_refused();
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit limit = {.rlim_cur = DISK_BYTES + BLOCK, .rlim_max = before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);

    uint8_t data[3 * BLOCK];
    uint8_t back[BLOCK];
    fill(data, sizeof(data), 6);
    const struct guest_iovec iov[3] = {{data, BLOCK + 512}, {data + BLOCK + 512, 512}, {data + BLOCK + 1024, BLOCK}};
    struct blk_io io = {
        .op = BLK_OP_WRITE, .offset = DISK_BYTES, .length = 2 * BLOCK + 1024, .iov = iov, .iov_count = 3};
    int past = run(&io); /* a page fits, then nothing */
    int inside = transfer(BLK_OP_WRITE, 0, 0, data, BLOCK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);

    assert_int_equal(past, -EFBIG);
    assert_int_equal(inside, 0);
    assert_int_equal(look(back, BLOCK, DISK_BYTES), BLOCK);
    assert_memory_equal(back, data, BLOCK);
    struct blk_backend_counters counters;
    blk_backend_count(&fixture.backend, &counters);
    assert_true(counters.continued >= 1);
}

static void cancel_lets_everything_complete(void **state)
{
    (void)state;
    skip_if_refused();
    static uint8_t data[8][BLOCK];
    struct guest_iovec iov[8];
    struct blk_io ios[8];
    int results[8];
    for (unsigned i = 0; i < 8; i++) {
        iov[i] = (struct guest_iovec){.base = data[i], .length = BLOCK};
        ios[i] = (struct blk_io){
            .token = i, .op = BLK_OP_READ, .offset = i * BLOCK, .length = BLOCK, .iov = &iov[i], .iov_count = 1};
        results[i] = 1;
    }

    assert_int_equal(submit(0, ios, 8), 8);
    fixture.backend.port->class->cancel(fixture.backend.port, 0);
    wait_for(0, 8, results);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(results[i], 0);
}

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return written;
}

static bool become_root_of_a_namespace(void)
{
    char map[32];
    snprintf(map, sizeof(map), "0 %u 1", (unsigned)getuid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return false;
    return write_text("/proc/self/uid_map", map);
}

/* Runs in a process of its own that has a file system of its own. 0 done, 77 not possible here, else the line. */
static int fill_a_small_file_system(const struct variant *variant)
{
    enum { CANNOT = 77 };
#define CHILD_CHECK(condition)                                                                                         \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            return __LINE__ % 64 + 1;                                                                                  \
    } while (0)
    char directory[] = "/tmp/backplane-blk-XXXXXX";
    char path[64];
    static uint8_t data[1u << 20];
    uint8_t back[BLOCK];
    if (unshare(CLONE_NEWNS) < 0 && !become_root_of_a_namespace())
        return CANNOT;
    CHILD_CHECK(mkdtemp(directory) != NULL);
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", directory, "tmpfs", 0, "size=1m") < 0) {
        rmdir(directory);
        return CANNOT;
    }
    snprintf(path, sizeof(path), "%s/disk", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHILD_CHECK(fd >= 0 && ftruncate(fd, 4 << 20) == 0);
    close(fd);
    CHILD_CHECK(open_backend(variant, path));
    fill(data, sizeof(data), 8);

    /* The first page is safe; then more than there is room for. */
    CHILD_CHECK(transfer(BLK_OP_WRITE, 0, 0, data, BLOCK) == 0);
    CHILD_CHECK(transfer(BLK_OP_WRITE, 0, 1 << 20, data, sizeof(data)) == -ENOSPC);
    CHILD_CHECK(space(BLK_OP_WRITE_ZEROES, 0, 2 << 20, 1 << 20) == -ENOSPC);
    CHILD_CHECK(transfer(BLK_OP_READ, 0, 0, back, BLOCK) == 0 && memcmp(back, data, BLOCK) == 0);
    CHILD_CHECK(space(BLK_OP_FLUSH, 0, 0, 0) == 0);
    /* Space that is given back can be used again. */
    CHILD_CHECK(space(BLK_OP_DISCARD, 0, 1 << 20, 1 << 20) == 0);
    CHILD_CHECK(space(BLK_OP_DISCARD, 0, 2 << 20, 1 << 20) == 0);
    CHILD_CHECK(transfer(BLK_OP_WRITE, 0, 3 << 20, data, 16 * BLOCK) == 0);
    close_backend();
    umount2(directory, MNT_DETACH);
    rmdir(directory);
    return 0;
#undef CHILD_CHECK
}

static void an_operation_that_fails_is_remembered_with_its_place(void **state)
{
    (void)state;
    skip_if_refused();
    uint8_t data[BLOCK] = {0};
    uint64_t total;
    struct disk_error last;
    struct disk_errors *errors = blk_backend_errors(&fixture.backend);
    assert_int_equal(disk_errors_last(errors, &total, &last), -ENOENT);
    assert_int_equal(ftruncate(fixture.image.fd, 2 * BLOCK), 0);
    assert_int_equal(transfer(BLK_OP_READ, 0, BLOCK, data, sizeof(data)), 0);
    assert_int_equal(disk_errors_last(errors, &total, &last), -ENOENT);
    assert_int_equal(transfer(BLK_OP_READ, 0, 4 * BLOCK, data, sizeof(data)), -EIO);
    assert_int_equal(disk_errors_last(errors, &total, &last), 0);
    assert_int_equal(total, 1);
    assert_int_equal(last.op, BLK_OP_READ);
    assert_int_equal(last.offset, 4 * BLOCK);
    assert_int_equal(last.error, -EIO);
}

static void a_full_file_system_fails_requests_and_loses_nothing_written(void **state)
{
    (void)state;
    skip_if_refused();
    fflush(NULL); /* or the child would write it again */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        end_child(fill_a_small_file_system(&fixture.variant));
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: no file system may be mounted here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_EACH(what_was_written_is_in_the_file_and_is_read_back),
        ON_EACH(pieces_are_scattered_and_gathered_in_order),
        ON_EACH(a_queue_takes_as_many_as_its_depth_and_completes_them_all),
        ON_EACH(queues_do_not_see_each_others_completions),
        ON_EACH(the_handle_is_quiet_once_everything_is_reaped),
        ON_EACH(the_handle_stays_readable_while_completions_are_left),
        ON_EACH(flush_and_durable_writes_succeed),
        ON_EACH(discard_gives_the_files_space_back),
        ON_EACH(write_zeroes_reads_as_zeros_and_nothing_else_changes),
        ON_EACH(write_zeroes_with_unmap_reads_as_zeros_and_gives_space_back),
        ON_EACH(write_zeroes_without_unmap_keeps_the_space),
        ON_EACH(reading_past_a_file_that_shrank_fails_that_request_alone),
        ON_EACH(a_write_that_is_cut_short_goes_on_and_reports_why_it_cannot),
        ON_EACH(cancel_lets_everything_complete),
        ON_EACH(an_operation_that_fails_is_remembered_with_its_place),
        ON_EACH(a_full_file_system_fails_requests_and_loses_nothing_written),
        ON_EACH(requests_that_continue_each_other_are_one_transfer),
        ON_EACH(the_end_of_a_file_that_shrank_fails_its_requests_alone_though_merged),
        ON_EACH(memory_of_any_address_and_pieces_of_any_length_are_served),
        ON_EACH(a_queue_says_without_a_call_whether_something_has_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
