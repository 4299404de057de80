/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Requests that no honest driver sends, and odd ones that are allowed (VIRTIO 1.3, 2.7.4, 2.7.5, 5.2.6). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "devices/blk/blk_test_rig.h"

#define IN VIRTIO_BLK_T_IN
#define OUT VIRTIO_BLK_T_OUT
#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define HEADER_BYTES 16

/* Offer @pieces as they are; request->status is where the last byte of the last one lies. */
static struct fake_request offer_pieces(struct blk_world *world, const struct fake_piece *pieces, unsigned count,
                                        bool indirect)
{
    struct fake_request request = {.status = pieces[count - 1].address + pieces[count - 1].length - 1};

    if (indirect) {
        uint64_t table = device_rig_low(&world->rig, count * sizeof(struct vring_desc));
        request.head = fake_driver_add_indirect(world->rig.drivers, &world->rig.low, table, pieces, count);
    } else {
        request.head = fake_driver_add(world->rig.drivers, pieces, count);
    }
    assert_true(request.head >= 0);
    return request;
}

static void assert_status(struct blk_world *world, uint64_t sector, uint32_t length, uint8_t status)
{
    unsigned submits = world->disk.submits;
    struct fake_request read = offer(world, IN, sector, length);
    struct fake_request write = offer(world, OUT, sector, length);

    run(world);
    assert_used(world, &read, status, length == 0);
    assert_used(world, &write, status, 1);
    assert_int_equal(world->disk.submits, submits);
}

static void fails_a_transfer_that_crosses_the_end(void **state)
{
    assert_status(*state, FAKE_DISK_SECTORS - 1, 1024, IOERR);
    assert_status(*state, FAKE_DISK_SECTORS, 512, IOERR);
    assert_status(*state, FAKE_DISK_SECTORS + 1, 0, IOERR);
}

static void fails_a_transfer_whose_end_wraps_around_2_to_the_64(void **state)
{
    assert_status(*state, UINT64_MAX, 512, IOERR);
    assert_status(*state, UINT64_MAX - 7, 4096, IOERR);
    assert_status(*state, UINT64_C(1) << 55, 512, IOERR);       /* in bytes it is 2^64 */
    assert_status(*state, (UINT64_C(1) << 55) + 1, 512, IOERR); /* in bytes it wraps to 512 */
    assert_status(*state, UINT64_C(1) << 63, 512, IOERR);
}

static void fails_a_length_that_is_no_whole_sector(void **state)
{
    const uint32_t lengths[] = {1, 511, 513, 1023, 4095, 4097};

    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++)
        assert_status(*state, 0, lengths[i], IOERR);
}

static void goes_on_after_each_wrong_request(void **state)
{
    struct blk_world *world = *state;

    assert_status(world, UINT64_MAX, 512, IOERR);
    assert_false(atomic_load(&world->blk.device.needs_reset));
    struct fake_request good = offer(world, IN, 0, 512);
    run(world);
    complete(world, 0, 0);
    assert_used(world, &good, OK, 513);
}

static void needs_a_reset_when_there_is_no_whole_header(void **state)
{
    for (uint32_t length = 0; length < HEADER_BYTES; length++) {
        struct blk_options options = blk_world_options();
        struct device_rig_shape shape = {0};
        struct blk_world *world = blk_world_make(&options, &shape, 0);
        uint64_t status = device_rig_low(&world->rig, 1);
        struct fake_piece pieces[] = {{put_header(world, IN, 0), length, false}, {status, 1, true}};
        unsigned skip = length == 0;
        offer_pieces(world, pieces + skip, 2 - skip, false);
        assert_true((run(world) & VIRTIO_EVENT_NEEDS_RESET) != 0);
        assert_nothing_used(world);
        assert_int_equal(world->disk.submits, 0);
        blk_world_free(world);
    }
    (void)state;
}

static void needs_a_reset_when_there_is_no_place_for_a_status(void **state)
{
    struct blk_world *world = *state;
    struct fake_piece pieces[] = {{put_header(world, IN, 0), HEADER_BYTES, false}};

    offer_pieces(world, pieces, 1, false);
    assert_true((run(world) & VIRTIO_EVENT_NEEDS_RESET) != 0);
    assert_true(atomic_load(&world->blk.device.needs_reset));
    assert_int_equal(run(world), 0); /* told once */
}

static void needs_a_reset_when_the_only_writable_piece_is_empty(void **state)
{
    struct blk_world *world = *state;
    struct fake_piece pieces[] = {{put_header(world, IN, 0), HEADER_BYTES, false}, {DEVICE_RIG_LOW_BASE, 0, true}};

    offer_pieces(world, pieces, 2, false);
    assert_true((run(world) & VIRTIO_EVENT_NEEDS_RESET) != 0);
}

/* The good ones before it were promised; the one behind it is not looked at; and the queue can still stop. */
static void completes_what_came_before_the_malformed_request(void **state)
{
    struct blk_world *world = *state;
    struct fake_request before = offer(world, IN, 0, 512);
    struct fake_piece pieces[] = {{put_header(world, IN, 0), 15, false}, {device_rig_low(&world->rig, 1), 1, true}};

    offer_pieces(world, pieces, 2, false);
    offer(world, IN, 8, 512);
    assert_true((run(world) & VIRTIO_EVENT_NEEDS_RESET) != 0);
    assert_int_equal(world->disk.io_count, 1);
    assert_int_equal(virtio_device_queue_stop(&world->blk.device, 0) & VIRTIO_EVENT_STOPPED, 0);
    assert_int_equal(complete(world, 0, 0) & VIRTIO_EVENT_STOPPED, VIRTIO_EVENT_STOPPED);
    assert_used(world, &before, OK, 513);
    assert_nothing_used(world);
}

static void reads_a_header_in_sixteen_pieces(void **state)
{
    struct blk_world *world = *state;
    uint64_t header = put_header(world, IN, 5);
    uint64_t data = device_rig_high(&world->rig, 512);
    struct fake_piece pieces[18];

    for (unsigned indirect = 0; indirect < 2; indirect++) {
        for (unsigned i = 0; i < HEADER_BYTES; i++)
            pieces[i] = (struct fake_piece){header + i, 1, false};
        pieces[16] = (struct fake_piece){data, 512, true};
        pieces[17] = (struct fake_piece){device_rig_low(&world->rig, 1), 1, true};
        struct fake_request request = offer_pieces(world, pieces, 18, indirect == 1);
        run(world);
        assert_int_equal(world->disk.ios[0].io.offset, 5 * 512);
        complete(world, 0, 0);
        assert_used(world, &request, OK, 513);
        assert_memory_equal(device_rig_host(&world->rig, data), world->disk.bytes + 5 * 512, 512);
    }
}

/* 5.2.6 puts no boundary between header and data, nor between data and status. */
static void takes_header_and_data_from_one_piece(void **state)
{
    struct blk_world *world = *state;
    uint64_t header = device_rig_high(&world->rig, HEADER_BYTES + 512);
    uint8_t *bytes = device_rig_host(&world->rig, header);
    struct fake_piece pieces[] = {{header, HEADER_BYTES + 512, false}, {device_rig_low(&world->rig, 1), 1, true}};

    memcpy(bytes, device_rig_host(&world->rig, put_header(world, OUT, 3)), HEADER_BYTES);
    memset(bytes + HEADER_BYTES, 0x33, 512);
    struct fake_request request = offer_pieces(world, pieces, 2, false);
    run(world);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 1);
    assert_int_equal(world->disk.bytes[3 * 512], 0x33);
    assert_int_equal(world->disk.bytes[3 * 512 + 511], 0x33);
}

static void puts_data_and_status_into_one_piece(void **state)
{
    struct blk_world *world = *state;
    uint64_t data = device_rig_high(&world->rig, 514);
    struct fake_piece pieces[] = {{put_header(world, IN, 3), HEADER_BYTES, false}, {data, 513, true}};
    uint8_t *bytes = device_rig_host(&world->rig, data);

    memset(bytes, UNWRITTEN, 514);
    struct fake_request request = offer_pieces(world, pieces, 2, false);
    run(world);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 513);
    assert_memory_equal(bytes, world->disk.bytes + 3 * 512, 512);
    assert_int_equal(bytes[513], UNWRITTEN);
}

static void finds_the_status_among_empty_pieces(void **state)
{
    struct blk_world *world = *state;
    uint64_t data = device_rig_high(&world->rig, 512);
    uint64_t status = device_rig_low(&world->rig, 1);
    struct fake_piece pieces[] = {
        {data, 0, false},  {put_header(world, IN, 3), HEADER_BYTES, false},
        {data, 0, false},  {data, 0, true},
        {data, 512, true}, {data, 0, true},
        {status, 1, true}, {data, 0, true},
        {data, 0, true},
    };
    struct fake_request request = offer_pieces(world, pieces, ARRAY_SIZE(pieces), true);

    request.status = status;
    run(world);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 513);
    assert_memory_equal(device_rig_host(&world->rig, data), world->disk.bytes + 3 * 512, 512);
}

static void writes_from_a_thousand_pieces(void **state)
{
    struct blk_world *world = *state;
    struct fake_piece pieces[VIRTQ_INDIRECT_MAX];
    unsigned data_pieces = 1000;
    uint64_t data = device_rig_high(&world->rig, 64 * data_pieces);
    uint8_t *bytes = device_rig_host(&world->rig, data);

    /* 64 bytes each, taken from the end of memory to its start, so that none continues another. */
    uint32_t sectors = 64 * data_pieces / 512;
    pieces[0] = (struct fake_piece){put_header(world, OUT, 0), HEADER_BYTES, false};
    for (unsigned i = 0; i < data_pieces; i++) {
        pieces[i + 1] = (struct fake_piece){data + 64 * (data_pieces - 1 - i), 64, false};
        memset(bytes + 64 * (data_pieces - 1 - i), (int)(i % 251), 64);
    }
    pieces[data_pieces + 1] = (struct fake_piece){device_rig_low(&world->rig, 1), 1, true};
    struct fake_request request = offer_pieces(world, pieces, data_pieces + 2, true);
    run(world);
    assert_int_equal(world->disk.ios[0].io.length, sectors * 512);
    assert_int_equal(world->disk.ios[0].io.iov_count, data_pieces);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 1);
    for (unsigned i = 0; i < data_pieces; i++)
        assert_int_equal(world->disk.bytes[i * 64], i % 251);
}

static void takes_the_longest_chain_and_needs_a_reset_for_one_more(void **state)
{
    struct blk_world *world = *state;
    struct fake_piece pieces[VIRTQ_INDIRECT_MAX + 1];
    uint64_t data = device_rig_high(&world->rig, 512);

    pieces[0] = (struct fake_piece){put_header(world, IN, 0), HEADER_BYTES, false};
    for (unsigned i = 1; i < VIRTQ_INDIRECT_MAX; i++)
        pieces[i] = (struct fake_piece){data, i <= 1022 ? 1 : 0, true};
    /* 1022 bytes of data in 1-byte pieces are no whole sector; make it 1024 with the first two. */
    pieces[1].length = 2;
    pieces[2].length = 2;
    pieces[VIRTQ_INDIRECT_MAX - 1] = (struct fake_piece){device_rig_low(&world->rig, 1), 1, true};
    struct fake_request request = offer_pieces(world, pieces, VIRTQ_INDIRECT_MAX, true);
    run(world);
    assert_int_equal(world->disk.ios[0].io.length, 1024);
    assert_int_equal(world->disk.ios[0].io.iov_count, VIRTQ_INDIRECT_MAX - 2);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 1025);

    pieces[VIRTQ_INDIRECT_MAX] = pieces[VIRTQ_INDIRECT_MAX - 1];
    offer_pieces(world, pieces, VIRTQ_INDIRECT_MAX + 1, true);
    assert_true((run(world) & VIRTIO_EVENT_NEEDS_RESET) != 0);
}

static void reads_into_memory_on_both_sides_of_a_gap(void **state)
{
    struct blk_world *world = *state;
    uint64_t low = device_rig_low(&world->rig, 512);
    uint64_t high = device_rig_high(&world->rig, 512);
    struct fake_piece pieces[] = {{put_header(world, IN, 3), HEADER_BYTES, false},
                                  {low, 100, true},
                                  {high, 412, true},
                                  {device_rig_low(&world->rig, 1), 1, true}};
    struct fake_request request = offer_pieces(world, pieces, 4, false);

    run(world);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 513);
    assert_memory_equal(device_rig_host(&world->rig, low), world->disk.bytes + 3 * 512, 100);
    assert_memory_equal(device_rig_host(&world->rig, high), world->disk.bytes + 3 * 512 + 100, 412);
}

static void needs_a_reset_when_data_lies_outside_memory(void **state)
{
    struct blk_world *world = *state;
    struct fake_piece pieces[] = {{put_header(world, IN, 3), HEADER_BYTES, false},
                                  {DEVICE_RIG_LOW_BASE + DEVICE_RIG_LOW_BYTES - 100, 512, true},
                                  {device_rig_low(&world->rig, 1), 1, true}};

    offer_pieces(world, pieces, 3, false);
    assert_true((run(world) & VIRTIO_EVENT_NEEDS_RESET) != 0);
    assert_int_equal(world->disk.submits, 0);
}

/* The driver may change a header after the device has read it; the device must not have read it twice. */
static void judges_the_copy_of_the_header(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, IN, 0, 512);

    run(world);
    memset(device_rig_host(&world->rig, request.header), 0xff, HEADER_BYTES);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 513);
}

static void ignores_data_that_goes_the_wrong_way(void **state)
{
    struct blk_world *world = *state;
    uint64_t data = device_rig_high(&world->rig, 1024);
    struct fake_piece read[] = {{put_header(world, IN, 0), HEADER_BYTES, false},
                                {data, 512, false},
                                {data + 512, 512, true},
                                {device_rig_low(&world->rig, 1), 1, true}};
    struct fake_piece write[] = {{put_header(world, OUT, 8), HEADER_BYTES, false},
                                 {data, 512, false},
                                 {data + 512, 512, true},
                                 {device_rig_low(&world->rig, 1), 1, true}};
    struct fake_request first = offer_pieces(world, read, 4, false);
    struct fake_request second = offer_pieces(world, write, 4, false);

    run(world);
    assert_int_equal(world->disk.ios[0].io.length, 512);
    assert_int_equal(world->disk.ios[1].io.length, 512);
    complete(world, 0, 0);
    assert_used(world, &first, OK, 513);
    memset(device_rig_host(&world->rig, data + 512), UNWRITTEN, 512);
    complete(world, 0, 0);
    assert_used(world, &second, OK, 0); /* a gap of 512 bytes before the status */
    assert_int_equal(*(uint8_t *)device_rig_host(&world->rig, data + 512), UNWRITTEN);
}

/*
 * The pages of a request, and no others, can be touched, from pop to push; what is only read cannot be written. The
 * port moves the data, so a wrong piece given to it would die too.
 */
static void touches_no_page_outside_its_window(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {.windows = true, .ring_size = 64, .event_idx = true};
    struct virtio_blk_range ranges[] = {{0, 8, 0}, {64, 8, 1}};
    (void)state;

    for (unsigned at_once = 0; at_once < 2; at_once++) {
        struct blk_world *world = blk_world_make(&options, &shape, 0);
        size_t idle = window_access_mapped(&world->rig.window);
        world->disk.at_once = at_once == 1;
        for (unsigned i = 0; i < 3; i++) {
            offer(world, IN, i * 8, 12288);
            offer(world, OUT, i * 8, 8192);
            offer(world, VIRTIO_BLK_T_GET_ID, 0, 20);
            offer(world, VIRTIO_BLK_T_FLUSH, 0, 0);
            offer_ranges(world, VIRTIO_BLK_T_WRITE_ZEROES, ranges, 2);
            offer(world, IN, UINT64_MAX, 512);
            offer(world, 99, 0, 0);
        }
        run(world);
        complete_all(world);
        uint32_t head, length;
        unsigned count = 0;
        while (fake_driver_get(world->rig.drivers, &head, &length))
            count++;
        assert_int_equal(count, 21);
        assert_int_equal(window_access_mapped(&world->rig.window), idle); /* nothing of a request stays mapped */
        virtio_device_queue_stop(&world->blk.device, 0);
        assert_int_equal(window_access_mapped(&world->rig.window), 0);
        blk_world_free(world);
    }
}

static void waits_for_a_translation_and_loses_nothing(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {.windows = true, .ring_size = 64};
    (void)state;

    struct blk_world *world = blk_world_make(&options, &shape, 0);
    struct fake_request request = offer(world, IN, 0, 4096);
    window_access_refuse(&world->rig.window, -EAGAIN, 1);
    run(world);
    assert_int_equal(world->disk.io_count, 0);
    wake(world);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 4097);
    virtio_device_queue_stop(&world->blk.device, 0);
    blk_world_free(world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, blk_world_setup, blk_world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(fails_a_transfer_that_crosses_the_end),
        TEST(fails_a_transfer_whose_end_wraps_around_2_to_the_64),
        TEST(fails_a_length_that_is_no_whole_sector),
        TEST(goes_on_after_each_wrong_request),
        cmocka_unit_test(needs_a_reset_when_there_is_no_whole_header),
        TEST(needs_a_reset_when_there_is_no_place_for_a_status),
        TEST(needs_a_reset_when_the_only_writable_piece_is_empty),
        TEST(completes_what_came_before_the_malformed_request),
        TEST(reads_a_header_in_sixteen_pieces),
        TEST(takes_header_and_data_from_one_piece),
        TEST(puts_data_and_status_into_one_piece),
        TEST(finds_the_status_among_empty_pieces),
        TEST(writes_from_a_thousand_pieces),
        TEST(takes_the_longest_chain_and_needs_a_reset_for_one_more),
        TEST(reads_into_memory_on_both_sides_of_a_gap),
        TEST(needs_a_reset_when_data_lies_outside_memory),
        TEST(judges_the_copy_of_the_header),
        TEST(ignores_data_that_goes_the_wrong_way),
        cmocka_unit_test(touches_no_page_outside_its_window),
        cmocka_unit_test(waits_for_a_translation_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
