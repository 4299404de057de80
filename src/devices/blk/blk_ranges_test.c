/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* DISCARD and WRITE_ZEROES (VIRTIO 1.3, 5.2.6 and 5.2.6.2). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "devices/blk/blk_config.h"
#include "devices/blk/blk_test_rig.h"

#define DISCARD VIRTIO_BLK_T_DISCARD
#define ZEROES VIRTIO_BLK_T_WRITE_ZEROES
#define UNMAP VIRTIO_BLK_RANGE_UNMAP
#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP

/* What one range of @type gets when nothing else is asked for. */
static void assert_refused(struct blk_world *world, uint32_t type, struct virtio_blk_range range, uint8_t status)
{
    struct fake_request request = offer_ranges(world, type, &range, 1);
    unsigned submits = world->disk.submits;

    run(world);
    assert_used(world, &request, status, 1);
    assert_int_equal(world->disk.submits, submits);
}

static void discards_a_range(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range range = {16, 8, 0};
    struct fake_request request = offer_ranges(world, DISCARD, &range, 1);

    run(world);
    struct blk_io io = world->disk.ios[0].io;
    assert_int_equal(io.op, BLK_OP_DISCARD);
    assert_int_equal(io.offset, 16 * 512);
    assert_int_equal(io.length, 8 * 512);
    assert_int_equal(io.flags, 0);
    assert_int_equal(io.iov_count, 0);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 1);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_DISCARDS), 1);
}

static void zeroes_a_range_and_no_other_byte(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range range = {16, 8, 0};
    struct fake_request request = offer_ranges(world, ZEROES, &range, 1);

    run(world);
    assert_int_equal(world->disk.ios[0].io.flags, 0);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 1);
    for (unsigned i = 0; i < 8 * 512; i++)
        assert_int_equal(world->disk.bytes[16 * 512 + i], 0);
    assert_int_equal(world->disk.bytes[16 * 512 - 1], (uint8_t)(15 + 511));
    assert_int_equal(world->disk.bytes[24 * 512], 24);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_ZEROES), 1);
}

static void lets_zeroes_be_unmapped_where_the_driver_says_so(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range ranges[] = {{0, 8, UNMAP}, {8, 8, 0}};

    offer_ranges(world, ZEROES, ranges, 2);
    run(world);
    assert_int_equal(world->disk.ios[0].io.flags, BLK_IO_UNMAP);
    assert_int_equal(world->disk.ios[1].io.flags, 0);
    complete_all(world);
}

/* write_zeroes_may_unmap is 0 then, but the flag is a known one. */
static void never_unmaps_where_the_host_does_not_discard(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};
    struct virtio_blk_range range = {0, 8, UNMAP};
    (void)state;

    options.discard = false;
    struct blk_world *world = blk_world_make(&options, &shape, 0);
    struct fake_request request = offer_ranges(world, ZEROES, &range, 1);
    run(world);
    assert_int_equal(world->disk.ios[0].io.flags, 0);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 1);
    blk_world_free(world);
}

/* "MUST set the status byte to UNSUPP for discard commands if the unmap flag is set" */
static void refuses_a_discard_with_the_unmap_flag(void **state)
{
    assert_refused(*state, DISCARD, (struct virtio_blk_range){0, 8, UNMAP}, UNSUPP);
}

/* "... if any unknown flag is set" */
static void refuses_each_flag_it_does_not_know(void **state)
{
    for (unsigned bit = 1; bit < 32; bit++) {
        assert_refused(*state, DISCARD, (struct virtio_blk_range){0, 8, UINT32_C(1) << bit}, UNSUPP);
        assert_refused(*state, ZEROES, (struct virtio_blk_range){0, 8, UNMAP | UINT32_C(1) << bit}, UNSUPP);
    }
}

static void refuses_an_unknown_flag_even_in_the_last_of_wrong_ranges(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range ranges[] = {{UINT64_MAX, 8, 0}, {0, 8, 2}};
    struct fake_request request = offer_ranges(world, ZEROES, ranges, 2);

    run(world);
    assert_used(world, &request, UNSUPP, 1);
}

static void refuses_a_range_past_the_end(void **state)
{
    assert_refused(*state, DISCARD, (struct virtio_blk_range){FAKE_DISK_SECTORS - 7, 8, 0}, IOERR);
    assert_refused(*state, ZEROES, (struct virtio_blk_range){FAKE_DISK_SECTORS, 1, 0}, IOERR);
}

static void refuses_a_range_whose_end_wraps(void **state)
{
    assert_refused(*state, DISCARD, (struct virtio_blk_range){UINT64_MAX, 1, 0}, IOERR);
    assert_refused(*state, DISCARD, (struct virtio_blk_range){UINT64_MAX - 6, 8, 0}, IOERR);
    assert_refused(*state, ZEROES, (struct virtio_blk_range){UINT64_C(1) << 55, 8, 0}, IOERR);
}

static void touches_nothing_when_one_range_of_many_is_wrong(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range ranges[] = {{0, 8, 0}, {FAKE_DISK_SECTORS, 8, 0}};
    struct fake_request request = offer_ranges(world, ZEROES, ranges, 2);

    run(world);
    assert_used(world, &request, IOERR, 1);
    assert_int_equal(world->disk.submits, 0);
}

static struct blk_world *make_huge(void)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};

    options.size_bytes = UINT64_C(1) << 40;
    return blk_world_make(&options, &shape, 0);
}

static void takes_a_range_of_the_most_sectors_and_no_more(void **state)
{
    struct blk_world *world = make_huge();
    (void)state;

    assert_refused(world, DISCARD, (struct virtio_blk_range){0, BLK_DISCARD_SECTORS_MAX + 1, 0}, IOERR);
    assert_refused(world, ZEROES, (struct virtio_blk_range){0, BLK_WRITE_ZEROES_SECTORS_MAX + 1, 0}, IOERR);
    struct virtio_blk_range range = {0, BLK_DISCARD_SECTORS_MAX, 0};
    offer_ranges(world, DISCARD, &range, 1);
    range.num_sectors = BLK_WRITE_ZEROES_SECTORS_MAX;
    offer_ranges(world, ZEROES, &range, 1);
    run(world);
    assert_int_equal(world->disk.io_count, 2);
    assert_int_equal(world->disk.ios[0].io.length, (uint64_t)BLK_DISCARD_SECTORS_MAX * 512);
    assert_int_equal(world->disk.ios[1].io.length, (uint64_t)BLK_WRITE_ZEROES_SECTORS_MAX * 512);
    while (world->disk.io_count > 0)
        complete(world, 0, -ECANCELED);
    blk_world_free(world);
}

static void takes_the_most_ranges_and_answers_once(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range ranges[BLK_RANGES_MAX + 1];

    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
        ranges[i] = (struct virtio_blk_range){i * 16, 8, 0};
    struct fake_request many = offer_ranges(world, ZEROES, ranges, BLK_RANGES_MAX + 1);
    struct fake_request most = offer_ranges(world, ZEROES, ranges, BLK_RANGES_MAX);
    run(world);
    assert_used(world, &many, IOERR, 1);
    assert_int_equal(world->disk.io_count, BLK_RANGES_MAX);
    for (unsigned i = 0; i < BLK_RANGES_MAX; i++) {
        assert_int_equal(world->disk.ios[0].io.offset, i * 16 * 512);
        assert_nothing_used(world);
        complete(world, 0, 0);
    }
    assert_used(world, &most, OK, 1);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_ZEROES), 1);
}

static void fails_the_request_when_one_of_its_ranges_fails(void **state)
{
    struct virtio_blk_range ranges[] = {{0, 8, 0}, {8, 8, 0}, {16, 8, 0}};

    for (unsigned failing = 0; failing < 3; failing++) {
        struct blk_world *world = *state;
        struct fake_request request = offer_ranges(world, DISCARD, ranges, 3);
        run(world);
        for (unsigned i = 0; i < 3; i++)
            complete(world, 0, i == failing ? -EIO : 0);
        assert_used(world, &request, IOERR, 1);
    }
}

static void answers_unsupp_when_the_file_below_cannot_do_it(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range ranges[] = {{0, 8, 0}, {8, 8, 0}};
    struct fake_request request = offer_ranges(world, DISCARD, ranges, 2);

    run(world);
    complete(world, 0, -EOPNOTSUPP);
    complete(world, 0, 0);
    assert_used(world, &request, UNSUPP, 1);
    request = offer_ranges(world, DISCARD, ranges, 2);
    run(world);
    complete(world, 0, -EOPNOTSUPP);
    complete(world, 0, -EOPNOTSUPP);
    assert_used(world, &request, UNSUPP, 1);

    /* An error weighs more, whichever came first. */
    request = offer_ranges(world, DISCARD, ranges, 2);
    run(world);
    complete(world, 0, -EOPNOTSUPP);
    complete(world, 0, -EIO);
    assert_used(world, &request, IOERR, 1);
    request = offer_ranges(world, DISCARD, ranges, 2);
    run(world);
    complete(world, 0, -EIO);
    complete(world, 0, -EOPNOTSUPP);
    assert_used(world, &request, IOERR, 1);
}

static void passes_over_a_range_of_nothing(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range ranges[] = {{0, 0, 0}, {8, 8, 0}};
    struct fake_request none = offer_ranges(world, DISCARD, ranges, 1);
    struct fake_request one = offer_ranges(world, DISCARD, ranges, 2);

    run(world);
    assert_used(world, &none, OK, 1);
    assert_int_equal(world->disk.io_count, 1);
    complete(world, 0, 0);
    assert_used(world, &one, OK, 1);
}

static void refuses_data_that_is_no_array_of_ranges(void **state)
{
    struct blk_world *world = *state;
    const uint32_t lengths[] = {0, 1, 15, 17, 31, 16 * BLK_RANGES_MAX + 16, 16 * BLK_RANGES_MAX + 1, 65536};

    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct fake_request request = offer(world, DISCARD, 0, lengths[i]);
        run(world);
        assert_used(world, &request, IOERR, 1);
    }
    assert_int_equal(world->disk.submits, 0);
}

static void wants_whole_blocks_here_too(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};
    (void)state;

    options.block_bytes = 4096;
    struct blk_world *world = blk_world_make(&options, &shape, 0);
    assert_refused(world, DISCARD, (struct virtio_blk_range){1, 8, 0}, IOERR);
    assert_refused(world, ZEROES, (struct virtio_blk_range){8, 4, 0}, IOERR);
    blk_world_free(world);
}

static void answers_unsupp_to_what_the_driver_did_not_take(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};
    (void)state;

    struct blk_world *world = blk_world_make(&options, &shape, VIRTIO_BLK_F_SEG_MAX);
    assert_refused(world, DISCARD, (struct virtio_blk_range){0, 8, 0}, UNSUPP);
    assert_refused(world, ZEROES, (struct virtio_blk_range){0, 8, 0}, UNSUPP);
    blk_world_free(world);
}

/* Each with the most ranges: more operations than a batch holds, so some go back to the ring and are popped anew. */
static void starts_more_ranges_than_one_batch_holds(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range ranges[BLK_RANGES_MAX];
    struct fake_request requests[30];

    for (unsigned i = 0; i < BLK_RANGES_MAX; i++)
        ranges[i] = (struct virtio_blk_range){i * 16, 8, 0};
    for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
        requests[i] = offer_ranges(world, DISCARD, ranges, i % 2 == 0 ? BLK_RANGES_MAX : 3);
    run(world);
    assert_int_equal(world->disk.io_count, 15 * (BLK_RANGES_MAX + 3));
    complete_all(world);
    for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
        assert_used(world, &requests[i], OK, 1);
}

/* What goes back for want of room in the batch is popped again in the same turn, and counts once. */
static void counts_only_what_it_started_against_its_burst(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range ranges[BLK_RANGES_MAX];

    for (unsigned i = 0; i < BLK_RANGES_MAX; i++)
        ranges[i] = (struct virtio_blk_range){i * 16, 8, 0};
    for (unsigned i = 0; i < 12; i++)
        offer_ranges(world, DISCARD, ranges, BLK_RANGES_MAX);
    fake_driver_show(world->rig.drivers);
    virtio_device_run(&world->blk.device, 0, 12);
    assert_int_equal(world->disk.io_count, 12 * BLK_RANGES_MAX);
    complete_all(world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, blk_world_setup, blk_world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(discards_a_range),
        TEST(zeroes_a_range_and_no_other_byte),
        TEST(lets_zeroes_be_unmapped_where_the_driver_says_so),
        cmocka_unit_test(never_unmaps_where_the_host_does_not_discard),
        TEST(refuses_a_discard_with_the_unmap_flag),
        TEST(refuses_each_flag_it_does_not_know),
        TEST(refuses_an_unknown_flag_even_in_the_last_of_wrong_ranges),
        TEST(refuses_a_range_past_the_end),
        TEST(refuses_a_range_whose_end_wraps),
        TEST(touches_nothing_when_one_range_of_many_is_wrong),
        cmocka_unit_test(takes_a_range_of_the_most_sectors_and_no_more),
        TEST(takes_the_most_ranges_and_answers_once),
        TEST(fails_the_request_when_one_of_its_ranges_fails),
        TEST(answers_unsupp_when_the_file_below_cannot_do_it),
        TEST(passes_over_a_range_of_nothing),
        TEST(refuses_data_that_is_no_array_of_ranges),
        cmocka_unit_test(wants_whole_blocks_here_too),
        cmocka_unit_test(answers_unsupp_to_what_the_driver_did_not_take),
        TEST(starts_more_ranges_than_one_batch_holds),
        TEST(counts_only_what_it_started_against_its_burst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
