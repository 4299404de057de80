/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Groups of operations, with a kernel that is played by the test: a disk of memory, on which any byte may be bad and
 * any call may be cut anywhere.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "platform/linux/blk_merge.h"

#define DEPTH 80u
#define SECTOR 512u
#define DISK_SECTORS 1024u
#define NOWHERE UINT64_MAX

static struct blk_disk disk;
static struct blk_merge merge;
static uint8_t bytes[DISK_SECTORS * SECTOR];
static uint8_t memory[DISK_SECTORS * SECTOR];
static struct guest_iovec iov[DEPTH];
static struct blk_io ios[DEPTH];
static int results[DEPTH];
static uint16_t firsts[DEPTH];
static unsigned calls;
static uint64_t bad_byte; /* a transfer that meets it fails with EIO */
static int64_t cut_bytes; /* the next call transfers so many at most */
static int first_call_result;

static int make(void **state)
{
    (void)state;
    int r = blk_disk_init(&disk, &(struct disk_image){.fd = 7});
    if (r == 0)
        r = blk_merge_init(&merge, &disk, DEPTH);
    memset(iov, 0, sizeof(iov));
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i / SECTOR + i % 251);
    memset(memory, 0xee, sizeof(memory));
    bad_byte = NOWHERE;
    cut_bytes = INT64_MAX;
    first_call_result = 0;
    calls = 0;
    return r;
}

static int end(void **state)
{
    (void)state;
    blk_merge_done(&merge);
    blk_disk_done(&disk);
    return 0;
}

/* Request @i: @sectors from @at on, to or from @place in memory, which is in sectors too. */
static void ask(unsigned i, enum blk_op op, unsigned at, unsigned sectors, unsigned place)
{
    iov[i] = (struct guest_iovec){memory + (size_t)place * SECTOR, (size_t)sectors * SECTOR};
    ios[i] = (struct blk_io){.token = i,
                             .op = op,
                             .offset = (uint64_t)at * SECTOR,
                             .length = (uint64_t)sectors * SECTOR,
                             .iov = &iov[i],
                             .iov_count = 1};
}

/* Tasks get the numbers of their requests, since those of one life of the object are given out in order. */
static unsigned begin(unsigned count)
{
    blk_merge_done(&merge);
    assert_int_equal(blk_merge_init(&merge, &disk, DEPTH), 0);
    for (unsigned i = 0; i < count; i++)
        results[i] = 1;
    unsigned groups = blk_merge_begin(&merge, ios, count, firsts);
    assert_int_equal(blk_merge_room(&merge), DEPTH - count);
    return groups;
}

static int64_t play_transfer(const struct blk_call *call)
{
    const struct iovec one = {call->buffer, call->length};
    const struct iovec *pieces = call->iov_count > 0 ? call->iov : &one;
    unsigned count = call->iov_count > 0 ? call->iov_count : 1;
    int64_t done = 0;
    for (unsigned i = 0; i < count; i++) {
        for (size_t k = 0; k < pieces[i].iov_len; k++) {
            uint64_t at = call->offset + (uint64_t)done;
            if (at == bad_byte)
                return -EIO;
            if (done == cut_bytes)
                return done;
            uint8_t *byte = (uint8_t *)pieces[i].iov_base + k;
            assert_true(at < sizeof(bytes));
            if (call->kind == BLK_CALL_READ)
                *byte = bytes[at];
            else
                bytes[at] = *byte;
            done++;
        }
    }
    return done;
}

static int64_t play(uint16_t number)
{
    struct blk_call call;
    blk_merge_call(&merge, number, &call);
    calls++;
    if (call.kind == BLK_CALL_SYNC)
        return 0;
    assert_true(call.kind == BLK_CALL_READ || call.kind == BLK_CALL_WRITE);
    int64_t answer = first_call_result < 0 ? first_call_result : play_transfer(&call);
    first_call_result = 0;
    cut_bytes = INT64_MAX;
    return answer;
}

/* Serve the group that begins with task @number, and what becomes of it. */
static void serve(uint16_t number)
{
    int64_t answer = play(number);
    while (number != BLK_MERGE_END) {
        uint16_t task = number;
        bool finished = blk_merge_answer(&merge, &number, &answer, &results[task]);
        while (!finished) {
            uint16_t alone = task;
            int64_t again = play(task);
            finished = blk_merge_answer(&merge, &alone, &again, &results[task]);
            assert_int_equal(alone, BLK_MERGE_END);
        }
    }
}

static void serve_all(unsigned groups)
{
    for (unsigned i = 0; i < groups; i++)
        serve(firsts[i]);
}

/* Requests of different lengths that continue each other on the disk, but not in memory. */
static unsigned ask_neighbours(enum blk_op op)
{
    static const unsigned sectors[] = {1, 3, 2, 1};
    unsigned at = 8;
    for (unsigned i = 0; i < ARRAY_SIZE(sectors); i++) {
        ask(i, op, at, sectors[i], 100 - 10 * i);
        at += sectors[i];
    }
    return ARRAY_SIZE(sectors);
}

static void what_continues_on_the_disk_is_one_call(void **state)
{
    (void)state;
    unsigned count = ask_neighbours(BLK_OP_READ);
    unsigned groups = begin(count);
    assert_int_equal(groups, 1);
    serve_all(groups);
    assert_int_equal(calls, 1);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(results[i], 0);
        assert_memory_equal(iov[i].base, bytes + ios[i].offset, ios[i].length);
    }
}

static void what_does_not_continue_is_called_by_itself(void **state)
{
    (void)state;
    ask(0, BLK_OP_READ, 8, 1, 0);
    ask(1, BLK_OP_READ, 10, 1, 2); /* a gap */
    ask(2, BLK_OP_READ, 10, 1, 4); /* the same again */
    ask(3, BLK_OP_READ, 9, 1, 6);  /* before */
    assert_int_equal(begin(4), 4);
    ask(0, BLK_OP_READ, 8, 1, 0);
    ask(1, BLK_OP_WRITE, 9, 1, 2);
    ask(2, BLK_OP_READ, 10, 1, 4);
    assert_int_equal(begin(3), 3);
    ask(0, BLK_OP_WRITE, 8, 1, 0);
    ask(1, BLK_OP_WRITE, 9, 1, 2);
    ios[1].flags = BLK_IO_DURABLE;
    assert_int_equal(begin(2), 2);
    for (unsigned i = 0; i < 3; i++)
        ios[i] = (struct blk_io){.token = i, .op = BLK_OP_FLUSH};
    assert_int_equal(begin(3), 3);
    for (unsigned i = 0; i < 3; i++)
        ios[i] = (struct blk_io){.token = i, .op = BLK_OP_DISCARD, .offset = i * SECTOR, .length = SECTOR};
    assert_int_equal(begin(3), 3);
}

static void pieces_that_continue_each_other_in_memory_are_one(void **state)
{
    (void)state;
    struct blk_call call;
    /* Two requests, neighbours on both sides. */
    ask(0, BLK_OP_WRITE, 4, 2, 10);
    ask(1, BLK_OP_WRITE, 6, 1, 12);
    assert_int_equal(begin(2), 1);
    blk_merge_call(&merge, 0, &call);
    assert_int_equal(call.iov_count, 0);
    assert_ptr_equal(call.buffer, memory + 10 * SECTOR);
    assert_int_equal(call.length, 3 * SECTOR);

    /* One request: three pieces, of which two continue each other. */
    const struct guest_iovec three[] = {{memory, SECTOR}, {memory + SECTOR, 2 * SECTOR}, {memory + 9 * SECTOR, SECTOR}};
    ios[0] = (struct blk_io){.op = BLK_OP_WRITE, .length = 4 * SECTOR, .iov = three, .iov_count = 3};
    assert_int_equal(begin(1), 1);
    blk_merge_call(&merge, 0, &call);
    assert_int_equal(call.iov_count, 2);
    assert_int_equal(call.iov[0].iov_len, 3 * SECTOR);
    assert_ptr_equal(call.iov[1].iov_base, memory + 9 * SECTOR);
    memcpy(memory, "some", 4);
    calls = 0;
    cut_bytes = SECTOR + 1; /* in the middle of a piece: done again from the beginning */
    serve(0);
    assert_int_equal(results[0], 0);
    assert_int_equal(calls, 2);
    assert_memory_equal(bytes, memory, 3 * SECTOR);
    assert_memory_equal(bytes + 3 * SECTOR, memory + 9 * SECTOR, SECTOR);
}

static void a_group_that_is_cut_anywhere_is_finished_one_by_one(void **state)
{
    (void)state;
    for (int64_t at = 0; at < 7 * (int64_t)SECTOR; at++) {
        memset(memory, 0xee, sizeof(memory));
        unsigned count = ask_neighbours(BLK_OP_READ);
        assert_int_equal(begin(count), 1);
        cut_bytes = at;
        serve(0);
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(results[i], 0);
            assert_memory_equal(iov[i].base, bytes + ios[i].offset, ios[i].length);
        }
    }
}

static void of_a_group_that_fails_exactly_the_failing_request_fails(void **state)
{
    (void)state;
    for (unsigned op = BLK_OP_READ; op <= BLK_OP_WRITE; op++) {
        for (unsigned sector = 8; sector < 15; sector++) {
            unsigned count = ask_neighbours((enum blk_op)op);
            assert_int_equal(begin(count), 1);
            bad_byte = (uint64_t)sector * SECTOR + 77;
            serve(0);
            for (unsigned i = 0; i < count; i++) {
                bool met = range_within(bad_byte, 1, ios[i].offset + ios[i].length) && bad_byte >= ios[i].offset;
                assert_int_equal(results[i], met ? -EIO : 0);
                if (!met)
                    assert_memory_equal(iov[i].base, bytes + ios[i].offset, ios[i].length);
            }
        }
    }
    assert_int_equal(disk.errors.total, 14); /* what went well in the end is no error of the disk */
}

static void a_group_that_is_interrupted_is_tried_again(void **state)
{
    (void)state;
    unsigned count = ask_neighbours(BLK_OP_READ);
    assert_int_equal(begin(count), 1);
    first_call_result = -EINTR;
    serve(0);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(results[i], 0);
}

static void durable_writes_without_a_way_to_ask_for_it_are_synced_one_by_one(void **state)
{
    (void)state;
    unsigned count = ask_neighbours(BLK_OP_WRITE);
    for (unsigned i = 0; i < count; i++)
        ios[i].flags = BLK_IO_DURABLE;
    assert_int_equal(begin(count), 1);
    first_call_result = -EOPNOTSUPP;
    serve(0);
    /* The group fails, each is told that it cannot be durable, or knows it already, is written and synced. */
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(results[i], 0);
    assert_int_equal(begin(count), 1);
    calls = 0;
    atomic_store(&disk.no_durable_write, true);
    serve(0);
    assert_int_equal(calls, 1 + count);
}

static void a_lost_page_told_to_a_durable_group_fails_later_flushes(void **state)
{
    (void)state;
    unsigned count = ask_neighbours(BLK_OP_WRITE);
    for (unsigned i = 0; i < count; i++)
        ios[i].flags = BLK_IO_DURABLE;
    assert_int_equal(begin(count), 1);
    first_call_result = -EIO; /* and never again */
    serve(0);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(results[i], 0);
    assert_int_equal(atomic_load(&disk.flush_error), -EIO);
}

static void a_group_has_so_many_bytes_and_pieces_and_no_more(void **state)
{
    (void)state;
    /* 32 pages are one transfer, the 33rd is another. */
    for (unsigned i = 0; i < 33; i++)
        ask(i, BLK_OP_READ, 8 * i, 8, 8 * (32 - i));
    assert_int_equal(begin(33), 2);
    assert_int_equal(firsts[1], 32);
    /* 64 pieces are one, but not 65. */
    struct guest_iovec two[2] = {{memory + 200 * SECTOR, SECTOR}, {memory + 202 * SECTOR, SECTOR}};
    for (unsigned i = 0; i < 64; i++)
        ask(i, BLK_OP_READ, i, 1, 2 * i);
    assert_int_equal(begin(64), 1);
    serve_all(1);
    for (unsigned i = 0; i < 64; i++)
        assert_memory_equal(iov[i].base, bytes + ios[i].offset, ios[i].length);
    ios[63].iov = two;
    ios[63].iov_count = 2;
    ios[63].length = 2 * SECTOR;
    assert_int_equal(begin(64), 2);
    assert_int_equal(firsts[1], 63);
    /* What is large by itself delays nobody else. */
    ask(0, BLK_OP_READ, 0, 1, 0);
    ask(1, BLK_OP_READ, 1, 256, 1);
    ask(2, BLK_OP_READ, 257, 1, 257);
    assert_int_equal(begin(3), 3);
}

static void a_group_that_was_never_called_is_dropped_whole(void **state)
{
    (void)state;
    unsigned count = ask_neighbours(BLK_OP_READ);
    assert_int_equal(begin(count), 1);
    uint16_t number = 0;
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(number, i);
        number = blk_merge_drop(&merge, number);
    }
    assert_int_equal(number, BLK_MERGE_END);
}

static void numbers_come_back(void **state)
{
    (void)state;
    unsigned char seen[DEPTH] = {0};
    ask(0, BLK_OP_READ, 0, 1, 0);
    assert_int_equal(begin(1), 1);
    for (unsigned i = 1; i < DEPTH; i++)
        assert_int_equal(blk_merge_begin(&merge, ios, 1, &firsts[i]), 1);
    assert_int_equal(blk_merge_room(&merge), 0);
    for (unsigned i = 0; i < DEPTH; i++) {
        assert_int_equal(seen[firsts[i]]++, 0);
        blk_merge_free(&merge, firsts[i]);
    }
    assert_int_equal(blk_merge_room(&merge), DEPTH);
    assert_int_equal(blk_merge_begin(&merge, ios, 1, firsts), 1);
    assert_int_equal(blk_merge_room(&merge), DEPTH - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_continues_on_the_disk_is_one_call, make, end),
        cmocka_unit_test_setup_teardown(what_does_not_continue_is_called_by_itself, make, end),
        cmocka_unit_test_setup_teardown(pieces_that_continue_each_other_in_memory_are_one, make, end),
        cmocka_unit_test_setup_teardown(a_group_that_is_cut_anywhere_is_finished_one_by_one, make, end),
        cmocka_unit_test_setup_teardown(of_a_group_that_fails_exactly_the_failing_request_fails, make, end),
        cmocka_unit_test_setup_teardown(a_group_that_is_interrupted_is_tried_again, make, end),
        cmocka_unit_test_setup_teardown(durable_writes_without_a_way_to_ask_for_it_are_synced_one_by_one, make, end),
        cmocka_unit_test_setup_teardown(a_lost_page_told_to_a_durable_group_fails_later_flushes, make, end),
        cmocka_unit_test_setup_teardown(a_group_has_so_many_bytes_and_pieces_and_no_more, make, end),
        cmocka_unit_test_setup_teardown(a_group_that_was_never_called_is_dropped_whole, make, end),
        cmocka_unit_test_setup_teardown(numbers_come_back, make, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
