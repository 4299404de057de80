/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A kernel that is played by the test: it answers each call as it likes, and the calls that follow are judged. Every
 * sentence about short transfers, ladders and durability is told here without a disk.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "platform/linux/blk_task.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

static struct blk_disk disk;
static struct blk_task task;
static struct blk_call call;
static int result;
static _Alignas(4096) uint8_t bounce[BLK_BOUNCE_BYTES];

static int make_disk(void **state)
{
    (void)state;
    result = 1;
    return blk_disk_init(&disk, &(struct disk_image){.fd = 7});
}

static int end_disk(void **state)
{
    (void)state;
    blk_disk_done(&disk);
    return 0;
}

static void begin(const struct blk_io *io)
{
    blk_task_begin(&task, &disk, io, bounce);
    blk_task_call(&task, &disk, &call);
}

/* The kernel answers @answer, and there is more to do. */
static void goes_on_after(int64_t answer)
{
    assert_false(blk_task_answer(&task, &disk, answer, &result));
    blk_task_call(&task, &disk, &call);
}

static void ends_after(int64_t answer, int expected)
{
    assert_true(blk_task_answer(&task, &disk, answer, &result));
    assert_int_equal(result, expected);
}

static void asks_fallocate(int mode, uint64_t offset, uint64_t length)
{
    assert_int_equal(call.kind, BLK_CALL_FALLOCATE);
    assert_int_equal(call.flags, mode);
    assert_int_equal(call.offset, offset);
    assert_int_equal(call.length, length);
}

static void asks_zeros(uint64_t offset, uint64_t length)
{
    assert_int_equal(call.kind, BLK_CALL_WRITE);
    assert_int_equal(call.iov_count, 0);
    assert_ptr_equal(call.buffer, disk.zeros);
    assert_int_equal(call.offset, offset);
    assert_int_equal(call.length, length);
}

/* Transfer what @call asks for, but at most @most bytes, as a kernel does that reads a file full of its own offsets. */
static int64_t play_read(size_t most)
{
    const struct iovec one = {.iov_base = call.buffer, .iov_len = call.length};
    const struct iovec *iov = call.iov_count > 0 ? call.iov : &one;
    unsigned count = call.iov_count > 0 ? call.iov_count : 1;
    size_t done = 0;
    for (unsigned i = 0; i < count; i++)
        for (size_t j = 0; j < iov[i].iov_len && done < most; j++, done++)
            ((uint8_t *)iov[i].iov_base)[j] = (uint8_t)(call.offset + done);
    return (int64_t)done;
}

static void a_transfer_that_is_cut_anywhere_goes_on_where_it_stopped(void **state)
{
    (void)state;
    enum { TOTAL = 24 };
    for (size_t most = 1; most <= TOTAL; most++) {
        uint8_t bytes[TOTAL] = {0};
        const struct guest_iovec iov[] = {{bytes, 1}, {bytes + 1, 5}, {bytes + 6, 0}, {bytes + 6, 10}, {bytes + 16, 8}};
        begin(&(struct blk_io){
            .op = BLK_OP_READ, .offset = 100, .length = TOTAL, .iov = iov, .iov_count = ARRAY_SIZE(iov)});
        assert_int_equal(call.kind, BLK_CALL_READ);
        unsigned calls = 1;
        while (!blk_task_answer(&task, &disk, play_read(most), &result)) {
            blk_task_call(&task, &disk, &call);
            assert_in_range(++calls, 1, TOTAL);
        }
        assert_int_equal(result, 0);
        for (unsigned i = 0; i < TOTAL; i++)
            assert_int_equal(bytes[i], 100 + i);
    }
}

static void one_piece_is_a_plain_call_and_several_are_one_vector(void **state)
{
    (void)state;
    uint8_t bytes[16];
    const struct guest_iovec iov[] = {{bytes, 8}, {bytes + 8, 8}};

    begin(&(struct blk_io){.op = BLK_OP_WRITE, .offset = 512, .length = 8, .iov = iov, .iov_count = 1});
    assert_int_equal(call.kind, BLK_CALL_WRITE);
    assert_int_equal(call.iov_count, 0);
    assert_ptr_equal(call.buffer, bytes);
    assert_int_equal(call.length, 8);
    assert_int_equal(call.flags, 0);

    begin(&(struct blk_io){.op = BLK_OP_WRITE, .offset = 512, .length = 16, .iov = iov, .iov_count = 2});
    assert_int_equal(call.iov_count, 2);
    assert_ptr_equal(call.iov, iov);
    ends_after(16, 0);
}

static void the_end_of_the_file_fails_reads_and_writes(void **state)
{
    (void)state;
    uint8_t bytes[16];
    const struct guest_iovec iov = {bytes, 16};

    begin(&(struct blk_io){.op = BLK_OP_READ, .length = 16, .iov = &iov, .iov_count = 1});
    goes_on_after(8);
    ends_after(0, -EIO);
    begin(&(struct blk_io){.op = BLK_OP_WRITE, .length = 16, .iov = &iov, .iov_count = 1});
    ends_after(0, -ENOSPC);
}

static void interruptions_are_tried_again_but_not_for_ever(void **state)
{
    (void)state;
    uint8_t bytes[16];
    const struct guest_iovec iov = {bytes, 16};

    begin(&(struct blk_io){.op = BLK_OP_READ, .length = 16, .iov = &iov, .iov_count = 1});
    for (unsigned i = 0; i < 50; i++)
        goes_on_after(i % 2 == 0 ? -EAGAIN : -EINTR);
    goes_on_after(8); /* progress: patience begins anew */
    for (unsigned i = 0; i < 100; i++)
        goes_on_after(-EAGAIN);
    ends_after(-EAGAIN, -EAGAIN);
}

static void a_durable_write_asks_for_it_on_every_part(void **state)
{
    (void)state;
    uint8_t bytes[16];
    const struct guest_iovec iov = {bytes, 16};

    begin(&(struct blk_io){.op = BLK_OP_WRITE, .flags = BLK_IO_DURABLE, .length = 16, .iov = &iov, .iov_count = 1});
    assert_int_equal(call.flags, RWF_DSYNC);
    goes_on_after(8);
    assert_int_equal(call.flags, RWF_DSYNC);
    ends_after(8, 0);
}

static void where_durable_writes_are_unknown_a_sync_follows(void **state)
{
    (void)state;
    uint8_t bytes[16];
    const struct guest_iovec iov = {bytes, 16};
    const struct blk_io io = {.op = BLK_OP_WRITE, .flags = BLK_IO_DURABLE, .length = 16, .iov = &iov, .iov_count = 1};

    begin(&io);
    goes_on_after(-EOPNOTSUPP);
    for (unsigned i = 0; i < 2; i++) { /* the second knows from the start */
        assert_int_equal(call.kind, BLK_CALL_WRITE);
        assert_int_equal(call.flags, 0);
        goes_on_after(16);
        assert_int_equal(call.kind, BLK_CALL_SYNC);
        ends_after(0, 0);
        begin(&io);
    }
}

static void a_flush_that_failed_once_never_succeeds_again(void **state)
{
    (void)state;
    const struct blk_io flush = {.op = BLK_OP_FLUSH};

    begin(&flush);
    assert_int_equal(call.kind, BLK_CALL_SYNC);
    ends_after(0, 0);
    begin(&flush);
    ends_after(-EIO, -EIO);
    begin(&flush);
    ends_after(0, -EIO);
}

static void a_lost_page_told_to_a_durable_write_fails_later_flushes(void **state)
{
    (void)state;
    uint8_t bytes[16];
    const struct guest_iovec iov = {bytes, 16};

    begin(&(struct blk_io){.op = BLK_OP_WRITE, .flags = BLK_IO_DURABLE, .length = 16, .iov = &iov, .iov_count = 1});
    ends_after(-EIO, -EIO);
    begin(&(struct blk_io){.op = BLK_OP_FLUSH});
    ends_after(0, -EIO);
}

static void discard_is_a_hint_that_may_be_dropped(void **state)
{
    (void)state;
    const struct blk_io discard = {.op = BLK_OP_DISCARD, .offset = 4096, .length = 8192};

    begin(&discard);
    asks_fallocate(PUNCH, 4096, 8192);
    ends_after(-EOPNOTSUPP, 0);
    begin(&discard);
    ends_after(-EIO, -EIO); /* but a disk that fails is heard */
}

static void a_block_device_is_discarded_by_command_first(void **state)
{
    (void)state;
    const struct blk_io discard = {.op = BLK_OP_DISCARD, .offset = 4096, .length = 8192};
    disk.block_device = true;

    begin(&discard);
    assert_int_equal(call.kind, BLK_CALL_DISCARD);
    assert_int_equal(call.offset, 4096);
    assert_int_equal(call.length, 8192);
    goes_on_after(-EOPNOTSUPP);
    asks_fallocate(PUNCH, 4096, 8192);
    ends_after(0, 0);
    begin(&discard); /* it does not ask in vain again */
    asks_fallocate(PUNCH, 4096, 8192);
}

static void zeroes_go_down_the_ladder_and_remember_it(void **state)
{
    (void)state;
    const struct blk_io zeroes = {
        .op = BLK_OP_WRITE_ZEROES, .flags = BLK_IO_UNMAP, .offset = 512, .length = BLK_ZEROS_BYTES + 512};

    begin(&zeroes);
    asks_fallocate(PUNCH, 512, BLK_ZEROS_BYTES + 512);
    goes_on_after(-EOPNOTSUPP);
    asks_fallocate(ZERO, 512, BLK_ZEROS_BYTES + 512);
    goes_on_after(-EOPNOTSUPP);
    asks_zeros(512, BLK_ZEROS_BYTES);
    goes_on_after(512); /* cut short */
    asks_zeros(1024, BLK_ZEROS_BYTES);
    ends_after(BLK_ZEROS_BYTES, 0);

    begin(&zeroes);
    asks_zeros(512, BLK_ZEROS_BYTES);
    goes_on_after(BLK_ZEROS_BYTES);
    asks_zeros(512 + BLK_ZEROS_BYTES, 512);
    ends_after(-ENOSPC, -ENOSPC);
}

static void zeroes_that_keep_their_space_never_punch_holes(void **state)
{
    (void)state;
    begin(&(struct blk_io){.op = BLK_OP_WRITE_ZEROES, .offset = 512, .length = 512});
    asks_fallocate(ZERO, 512, 512);
    ends_after(0, 0);
}

static void a_refusal_of_these_numbers_says_nothing_about_others(void **state)
{
    (void)state;
    const struct blk_io zeroes = {.op = BLK_OP_WRITE_ZEROES, .offset = 512, .length = 512};
    begin(&zeroes);
    goes_on_after(-EINVAL);
    asks_zeros(512, 512);
    ends_after(512, 0);
    begin(&zeroes);
    asks_fallocate(ZERO, 512, 512);
}

static void durable_zeroes_are_synced(void **state)
{
    (void)state;
    begin(&(struct blk_io){
        .op = BLK_OP_WRITE_ZEROES, .flags = BLK_IO_UNMAP | BLK_IO_DURABLE, .offset = 512, .length = 512});
    asks_fallocate(PUNCH, 512, 512);
    goes_on_after(0);
    assert_int_equal(call.kind, BLK_CALL_SYNC);
    ends_after(-EIO, -EIO);
}

static void nothing_to_discard_or_zero_is_done(void **state)
{
    (void)state;
    begin(&(struct blk_io){.op = BLK_OP_DISCARD, .offset = 512});
    ends_after(-EINVAL, 0);
    begin(&(struct blk_io){.op = BLK_OP_WRITE_ZEROES, .offset = 512});
    ends_after(-EINVAL, 0);
}

static void the_token_and_the_disk_of_a_task_stay_its_own(void **state)
{
    (void)state;
    begin(&(struct blk_io){.op = BLK_OP_FLUSH, .token = UINT64_MAX - 3});
    assert_int_equal(task.token, UINT64_MAX - 3);
    assert_int_equal(disk.fd, 7);
    for (unsigned i = 0; i < BLK_ZEROS_BYTES; i++)
        if (disk.zeros[i] != 0)
            fail();
}

static void make_direct(uint32_t memory_bytes, uint32_t block_bytes)
{
    blk_disk_done(&disk);
    const struct disk_image image = {
        .fd = 7, .direct = true, .direct_memory_bytes = memory_bytes, .direct_block_bytes = block_bytes};
    assert_int_equal(blk_disk_init(&disk, &image), 0);
}

static void past_the_page_cache_what_is_aligned_goes_as_it_is(void **state)
{
    (void)state;
    static _Alignas(4096) uint8_t memory[3 * 512];
    struct guest_iovec iov[2] = {{memory, 512}, {memory + 1024, 512}};
    const struct blk_io io = {.op = BLK_OP_WRITE, .length = 1024, .iov = iov, .iov_count = 2};
    make_direct(512, 512);
    begin(&io);
    assert_int_equal(call.iov_count, 2);
    assert_ptr_equal(call.iov, iov);
    ends_after(1024, 0);
    /* Memory, then a length, that is not aligned. */
    iov[1].base = memory + 1025;
    begin(&io);
    assert_ptr_equal(call.buffer, bounce);
    iov[1] = (struct guest_iovec){memory + 1024, 510};
    iov[0].length = 514;
    begin(&io);
    assert_ptr_equal(call.buffer, bounce);
    /* A file system may be content with less for memory than for offsets. */
    make_direct(4, 512);
    iov[0] = (struct guest_iovec){memory + 4, 512};
    iov[1] = (struct guest_iovec){memory + 1020, 512};
    begin(&io);
    assert_ptr_equal(call.iov, iov);
}

static void past_the_page_cache_unaligned_bytes_go_through_a_bounce_buffer(void **state)
{
    (void)state;
    enum { LENGTH = 2 * BLK_BOUNCE_BYTES + 512 };
    static _Alignas(4096) uint8_t memory[LENGTH + 8];
    static uint8_t seen[LENGTH];
    const struct guest_iovec iov[] = {{memory + 1, 3},
                                      {memory + 4, 0},
                                      {memory + 5, BLK_BOUNCE_BYTES},
                                      {memory + 6 + BLK_BOUNCE_BYTES, LENGTH - 3 - BLK_BOUNCE_BYTES}};
    struct blk_io io = {.op = BLK_OP_WRITE, .offset = 1024, .length = LENGTH, .iov = iov, .iov_count = ARRAY_SIZE(iov)};
    make_direct(512, 512);
    for (unsigned i = 0; i < sizeof(memory); i++)
        memory[i] = (uint8_t)(i * 7 + i / 256);
    /* Write; the second call is cut within a block, whose beginning comes again. */
    static const int64_t answers[] = {BLK_BOUNCE_BYTES, 1024 + 100, BLK_BOUNCE_BYTES - 512};
    begin(&io);
    uint64_t at = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
        assert_int_equal(call.kind, BLK_CALL_WRITE);
        assert_int_equal(call.offset, 1024 + at);
        assert_ptr_equal(call.buffer, bounce);
        assert_int_equal(call.length, u64_min(LENGTH - at, BLK_BOUNCE_BYTES));
        memcpy(seen + at, bounce, call.length);
        at += align_down((uint64_t)answers[i], 512);
        if (at == LENGTH)
            ends_after(answers[i], 0);
        else
            goes_on_after(answers[i]);
    }
    assert_memory_equal(seen, memory + 1, 3);
    assert_memory_equal(seen + 3, memory + 5, BLK_BOUNCE_BYTES);
    assert_memory_equal(seen + 3 + BLK_BOUNCE_BYTES, memory + 6 + BLK_BOUNCE_BYTES, LENGTH - 3 - BLK_BOUNCE_BYTES);

    /* Read it back. */
    io.op = BLK_OP_READ;
    memset(memory, 0, sizeof(memory));
    begin(&io);
    for (at = 0; at < LENGTH; at += BLK_BOUNCE_BYTES) {
        memcpy(bounce, seen + at, call.length);
        if (at + call.length == LENGTH)
            ends_after((int64_t)call.length, 0);
        else
            goes_on_after((int64_t)call.length);
    }
    assert_memory_equal(seen, memory + 1, 3);
    assert_memory_equal(seen + 3, memory + 5, BLK_BOUNCE_BYTES);
    assert_memory_equal(seen + 3 + BLK_BOUNCE_BYTES, memory + 6 + BLK_BOUNCE_BYTES, LENGTH - 3 - BLK_BOUNCE_BYTES);
    assert_int_equal(memory[0] | memory[4] | memory[5 + BLK_BOUNCE_BYTES] | memory[LENGTH + 3], 0);
}

static void past_the_page_cache_less_than_a_block_is_the_end_of_the_file(void **state)
{
    (void)state;
    static _Alignas(4096) uint8_t memory[1024];
    const struct guest_iovec iov = {memory, sizeof(memory)};
    struct blk_io io = {.op = BLK_OP_READ, .length = sizeof(memory), .iov = &iov, .iov_count = 1};
    make_direct(512, 512);
    begin(&io);
    goes_on_after(512 + 100);
    assert_int_equal(call.offset, 512);
    ends_after(100, -EIO);
    io.op = BLK_OP_WRITE;
    begin(&io);
    ends_after(511, -ENOSPC);
}

static void a_kernel_that_takes_o_nonblock_literally_is_made_to_wait(void **state)
{
    (void)state;
    char path[] = "/tmp/backplane-task-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    uint8_t memory[512];
    const struct guest_iovec iov = {memory, sizeof(memory)};
    const struct blk_io io = {.op = BLK_OP_READ, .length = sizeof(memory), .iov = &iov, .iov_count = 1};
    blk_disk_done(&disk);
    assert_int_equal(blk_disk_init(&disk, &(struct disk_image){.fd = fd, .non_blocking = true}), 0);
    begin(&io);
    goes_on_after(-EAGAIN);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    ends_after(512, 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_transfer_that_is_cut_anywhere_goes_on_where_it_stopped, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(one_piece_is_a_plain_call_and_several_are_one_vector, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(the_end_of_the_file_fails_reads_and_writes, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(interruptions_are_tried_again_but_not_for_ever, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(a_durable_write_asks_for_it_on_every_part, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(where_durable_writes_are_unknown_a_sync_follows, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(a_flush_that_failed_once_never_succeeds_again, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(a_lost_page_told_to_a_durable_write_fails_later_flushes, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(discard_is_a_hint_that_may_be_dropped, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(a_block_device_is_discarded_by_command_first, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(zeroes_go_down_the_ladder_and_remember_it, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(zeroes_that_keep_their_space_never_punch_holes, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(a_refusal_of_these_numbers_says_nothing_about_others, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(durable_zeroes_are_synced, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(nothing_to_discard_or_zero_is_done, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(the_token_and_the_disk_of_a_task_stay_its_own, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(past_the_page_cache_what_is_aligned_goes_as_it_is, make_disk, end_disk),
        cmocka_unit_test_setup_teardown(past_the_page_cache_unaligned_bytes_go_through_a_bounce_buffer, make_disk,
                                        end_disk),
        cmocka_unit_test_setup_teardown(past_the_page_cache_less_than_a_block_is_the_end_of_the_file, make_disk,
                                        end_disk),
        cmocka_unit_test_setup_teardown(a_kernel_that_takes_o_nonblock_literally_is_made_to_wait, make_disk, end_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
