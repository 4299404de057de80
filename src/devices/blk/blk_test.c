/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Requests that are as they should be, and what the driver gets for them (VIRTIO 1.3, 5.2.6). */
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
#define UNSUPP VIRTIO_BLK_S_UNSUPP

static void reads_what_stands_on_the_disk(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, IN, 7, 4096);

    assert_int_equal(run(world), 0);
    assert_nothing_used(world);
    assert_int_equal(world->disk.ios[0].io.op, BLK_OP_READ);
    assert_int_equal(world->disk.ios[0].io.offset, 7 * 512);
    assert_int_equal(world->disk.ios[0].io.length, 4096);
    assert_int_equal(world->disk.ios[0].io.flags, 0);
    assert_int_equal(complete(world, 0, 0), VIRTIO_EVENT_NOTIFY);
    assert_used(world, &request, OK, 4097);
    assert_memory_equal(data_of(world, &request), world->disk.bytes + 7 * 512, 4096);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_READS), 1);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_READ_BYTES), 4096);
}

static void writes_what_the_driver_gave(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, OUT, 9, 1024);

    memset(data_of(world, &request), 0x5a, 1024);
    run(world);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 1);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(world->disk.bytes[9 * 512 + i], 0x5a);
    assert_int_equal(world->disk.bytes[11 * 512], (uint8_t)(11 + 11 * 512));
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_WRITES), 1);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_WRITE_BYTES), 1024);
}

static void gives_the_port_the_drivers_own_memory(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, OUT, 0, 1024);

    run(world);
    assert_int_equal(world->disk.ios[0].io.iov_count, 1);
    assert_ptr_equal(world->disk.ios[0].io.iov[0].base, data_of(world, &request));
    assert_int_equal(world->disk.ios[0].io.iov[0].length, 1024);
    complete_all(world);
}

static void flushes_by_the_port(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, VIRTIO_BLK_T_FLUSH, 0, 0);

    run(world);
    assert_int_equal(world->disk.ios[0].io.op, BLK_OP_FLUSH);
    assert_nothing_used(world);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 1);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_FLUSHES), 1);
}

static void answers_get_id_with_the_padded_serial(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, VIRTIO_BLK_T_GET_ID, 0, 20);

    assert_int_equal(run(world), VIRTIO_EVENT_NOTIFY);
    assert_used(world, &request, OK, 21);
    assert_memory_equal(data_of(world, &request), "a-serial\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    assert_int_equal(world->disk.submits, 0);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_IDS), 1);
}

static void answers_get_id_without_a_terminator_when_all_20_bytes_are_used(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};
    (void)state;

    memcpy(options.serial, "abcdefghijklmnopqrst", 21);
    struct blk_world *world = blk_world_make(&options, &shape, 0);
    struct fake_request request = offer(world, VIRTIO_BLK_T_GET_ID, 0, 20);
    run(world);
    assert_used(world, &request, OK, 21);
    assert_memory_equal(data_of(world, &request), "abcdefghijklmnopqrst", 20);
    blk_world_free(world);
}

static void cuts_the_id_to_a_shorter_buffer(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, VIRTIO_BLK_T_GET_ID, 0, 4);

    run(world);
    assert_used(world, &request, OK, 5);
    assert_memory_equal(data_of(world, &request), "a-se\0", 5);
}

/* 2.7.8.2: the used length counts from the beginning, and 10 bytes before the status stay as they were. */
static void counts_only_the_id_when_the_buffer_is_longer(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, VIRTIO_BLK_T_GET_ID, 0, 30);

    run(world);
    assert_used(world, &request, OK, 20);
    assert_int_equal(data_of(world, &request)[20], UNWRITTEN);
}

static void answers_unsupp_to_a_type_it_does_not_know(void **state)
{
    struct blk_world *world = *state;
    const uint32_t types[] = {2, 3, 5, 7, 9, 10, 12, 14, 15, 16, 26, 0x80000000, UINT32_MAX};

    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        struct fake_request request = offer(world, types[i], 0, 0);
        run(world);
        assert_used(world, &request, UNSUPP, 1);
    }
    assert_int_equal(world->disk.submits, 0);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_UNSUPPORTED), ARRAY_SIZE(types));
}

static void reads_into_the_last_sector(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, IN, FAKE_DISK_SECTORS - 1, 512);

    run(world);
    complete(world, 0, 0);
    assert_used(world, &request, OK, 513);
}

static void answers_a_transfer_of_nothing_without_the_port(void **state)
{
    struct blk_world *world = *state;
    struct fake_request read = offer(world, IN, FAKE_DISK_SECTORS, 0);
    struct fake_request write = offer(world, OUT, 0, 0);

    run(world);
    assert_used(world, &read, OK, 1);
    assert_used(world, &write, OK, 1);
    assert_int_equal(world->disk.submits, 0);
}

static void completes_in_the_order_of_the_port(void **state)
{
    struct blk_world *world = *state;
    struct fake_request requests[4];

    for (unsigned i = 0; i < 4; i++)
        requests[i] = offer(world, IN, i * 8, 4096);
    run(world);
    assert_int_equal(world->disk.submits, 1); /* one call for the burst */
    assert_int_equal(world->disk.io_count, 4);
    const unsigned order[] = {2, 0, 3, 1};
    const unsigned index[] = {2, 0, 1, 0}; /* of the same among those left */
    for (unsigned i = 0; i < 4; i++) {
        complete(world, index[i], 0);
        assert_used(world, &requests[order[i]], OK, 4097);
        assert_memory_equal(data_of(world, &requests[order[i]]), world->disk.bytes + order[i] * 4096, 4096);
    }
}

static void pushes_at_once_what_the_port_completes_at_once(void **state)
{
    struct blk_world *world = *state;
    struct fake_request requests[100];

    world->disk.at_once = true;
    for (unsigned i = 0; i < 80; i++)
        requests[i] = offer(world, IN, i, 512);
    assert_int_equal(run(world), VIRTIO_EVENT_NOTIFY);
    for (unsigned i = 0; i < 80; i++)
        assert_used(world, &requests[i], OK, 513);
}

static void serves_answers_and_transfers_of_one_burst(void **state)
{
    struct blk_world *world = *state;
    struct fake_request read = offer(world, IN, 0, 512);
    struct fake_request id = offer(world, VIRTIO_BLK_T_GET_ID, 0, 20);
    struct fake_request wrong = offer(world, IN, 0, 511);
    struct fake_request write = offer(world, OUT, 5, 512);

    run(world);
    assert_used(world, &id, OK, 21);
    assert_used(world, &wrong, IOERR, 0);
    assert_int_equal(world->disk.io_count, 2);
    complete(world, 1, 0);
    assert_used(world, &write, OK, 1);
    complete(world, 0, 0);
    assert_used(world, &read, OK, 513);
}

/* The data of a failed read is undefined, so none of it is promised by the used length (2.7.8.2). */
static void reports_a_failed_read_as_ioerr_and_promises_no_data(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, IN, 0, 4096);

    run(world);
    complete(world, 0, -EIO);
    assert_used(world, &request, IOERR, 0);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_FAILED), 1);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_READ_BYTES), 0);
}

static void reports_a_failed_write_as_ioerr_and_goes_on(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, OUT, 0, 512);

    run(world);
    complete(world, 0, -ENOSPC);
    assert_used(world, &request, IOERR, 1);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_WRITE_BYTES), 0);

    struct fake_request next = offer(world, OUT, 0, 512);
    run(world);
    complete(world, 0, 0);
    assert_used(world, &next, OK, 1);
}

static void reports_a_failed_flush_as_ioerr(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, VIRTIO_BLK_T_FLUSH, 0, 0);

    run(world);
    complete(world, 0, -EIO);
    assert_used(world, &request, IOERR, 1);
}

static struct blk_world *make_read_only(void)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};

    options.read_only = true;
    return blk_world_make(&options, &shape, 0);
}

/* 5.2.6.2: IOERR to a write request when RO is offered, and nothing is written. */
static void refuses_to_write_on_a_read_only_disk(void **state)
{
    struct blk_world *world = make_read_only();
    struct virtio_blk_range range = {0, 8, 0};
    (void)state;

    struct fake_request write = offer(world, OUT, 0, 512);
    struct fake_request discard = offer_ranges(world, VIRTIO_BLK_T_DISCARD, &range, 1);
    struct fake_request zero = offer_ranges(world, VIRTIO_BLK_T_WRITE_ZEROES, &range, 1);
    struct fake_request read = offer(world, IN, 0, 512);
    run(world);
    assert_used(world, &write, IOERR, 1);
    assert_used(world, &discard, IOERR, 1);
    assert_used(world, &zero, IOERR, 1);
    assert_int_equal(world->disk.io_count, 1);
    complete(world, 0, 0);
    assert_used(world, &read, OK, 513);
    blk_world_free(world);
}

static void wants_whole_blocks_of_the_size_it_announces(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};
    (void)state;

    options.block_bytes = 4096;
    struct blk_world *world = blk_world_make(&options, &shape, 0);
    struct fake_request at = offer(world, IN, 1, 4096);
    struct fake_request length = offer(world, IN, 0, 512);
    struct fake_request good = offer(world, IN, 8, 4096);
    run(world);
    assert_used(world, &at, IOERR, 0);
    assert_used(world, &length, IOERR, 0);
    complete(world, 0, 0);
    assert_used(world, &good, OK, 4097);
    blk_world_free(world);
}

static struct blk_io first_io(uint64_t features, int writeback, uint32_t type)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};
    struct virtio_blk_range range = {0, 8, 0};
    struct blk_world *world = blk_world_make(&options, &shape, features);

    if (writeback >= 0) {
        uint8_t byte = (uint8_t)writeback;
        assert_int_equal(virtio_device_config_write(&world->blk.device, 32, &byte, 1), 0);
    }
    if (type == OUT || type == IN)
        offer(world, type, 0, 512);
    else
        offer_ranges(world, type, &range, 1);
    run(world);
    assert_int_equal(world->disk.io_count, 1);
    struct blk_io io = world->disk.ios[0].io;
    complete_all(world);
    blk_world_free(world);
    return io;
}

/* 5.2.6.2, "a write becomes stable": case 1. */
static void writes_through_when_the_driver_can_neither_flush_nor_switch(void **state)
{
    const uint64_t features = VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES;
    (void)state;

    assert_int_equal(first_io(features, -1, OUT).flags, BLK_IO_DURABLE);
    assert_int_equal(first_io(features, -1, VIRTIO_BLK_T_DISCARD).flags, BLK_IO_DURABLE);
    assert_int_equal(first_io(features, -1, VIRTIO_BLK_T_WRITE_ZEROES).flags, BLK_IO_DURABLE);
    assert_int_equal(first_io(features, -1, IN).flags, 0);
}

static void writes_back_when_the_driver_flushes(void **state)
{
    (void)state;
    assert_int_equal(first_io(VIRTIO_BLK_F_FLUSH, -1, OUT).flags, 0);
    assert_int_equal(first_io(VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_CONFIG_WCE, -1, OUT).flags, 0);
}

/* Case 2. */
static void writes_through_while_the_driver_has_switched_the_cache_off(void **state)
{
    const uint64_t features = VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_CONFIG_WCE;
    (void)state;

    assert_int_equal(first_io(features, 0, OUT).flags, BLK_IO_DURABLE);
    assert_int_equal(first_io(features, 1, OUT).flags, 0);
}

/* 5.2.5.2: "If CONFIG_WCE is negotiated but FLUSH is not, the device MUST initialize writeback to 0." */
static void starts_write_through_for_a_driver_that_switches_but_does_not_flush(void **state)
{
    (void)state;
    assert_int_equal(first_io(VIRTIO_BLK_F_CONFIG_WCE, -1, OUT).flags, BLK_IO_DURABLE);
    assert_int_equal(first_io(VIRTIO_BLK_F_CONFIG_WCE, 1, OUT).flags, 0);
}

static void marks_the_pages_it_wrote_and_no_others(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {.logged = true};
    (void)state;

    struct blk_world *world = blk_world_make(&options, &shape, 0);
    device_rig_low(&world->rig, 4096 * 4); /* away from the ring's pages */
    uint64_t data = align_up(device_rig_low(&world->rig, 4096 * 4), 4096);
    uint64_t header = put_header(world, IN, 0);
    struct fake_piece read[] = {{header, 16, false}, {data, 512, true}, {data + 8192, 1, true}};

    fake_driver_add(world->rig.drivers, read, 3);
    run(world);
    assert_false(device_rig_is_dirty(&world->rig, data)); /* not before it is complete */
    complete(world, 0, 0);
    assert_true(device_rig_is_dirty(&world->rig, data));
    assert_false(device_rig_is_dirty(&world->rig, data + 4096));
    assert_true(device_rig_is_dirty(&world->rig, data + 8192));
    assert_false(device_rig_is_dirty(&world->rig, header));
    blk_world_free(world);
}

/* A read that failed in the middle may have written any of its pages, and the status in any case. */
static void marks_the_pages_of_a_failed_read_too(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {.logged = true};
    (void)state;

    struct blk_world *world = blk_world_make(&options, &shape, 0);
    device_rig_low(&world->rig, 4096 * 4);
    uint64_t data = align_up(device_rig_low(&world->rig, 4096 * 4), 4096);
    struct fake_piece read[] = {{put_header(world, IN, 0), 16, false}, {data, 512, true}, {data + 8192, 1, true}};

    fake_driver_add(world->rig.drivers, read, 3);
    run(world);
    complete(world, 0, -EIO);
    assert_true(device_rig_is_dirty(&world->rig, data));
    assert_true(device_rig_is_dirty(&world->rig, data + 8192));
    blk_world_free(world);
}

/* A request that is refused writes its status alone. */
static void marks_only_the_status_of_a_refused_read(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {.logged = true};
    (void)state;

    struct blk_world *world = blk_world_make(&options, &shape, 0);
    device_rig_low(&world->rig, 4096 * 4);
    uint64_t data = align_up(device_rig_low(&world->rig, 4096 * 4), 4096);
    struct fake_piece read[] = {
        {put_header(world, IN, FAKE_DISK_SECTORS), 16, false}, {data, 512, true}, {data + 8192, 1, true}};

    fake_driver_add(world->rig.drivers, read, 3);
    run(world);
    assert_false(device_rig_is_dirty(&world->rig, data));
    assert_true(device_rig_is_dirty(&world->rig, data + 8192));
    blk_world_free(world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, blk_world_setup, blk_world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(reads_what_stands_on_the_disk),
        TEST(writes_what_the_driver_gave),
        TEST(gives_the_port_the_drivers_own_memory),
        TEST(flushes_by_the_port),
        TEST(answers_get_id_with_the_padded_serial),
        cmocka_unit_test(answers_get_id_without_a_terminator_when_all_20_bytes_are_used),
        TEST(cuts_the_id_to_a_shorter_buffer),
        TEST(counts_only_the_id_when_the_buffer_is_longer),
        TEST(answers_unsupp_to_a_type_it_does_not_know),
        TEST(reads_into_the_last_sector),
        TEST(answers_a_transfer_of_nothing_without_the_port),
        TEST(completes_in_the_order_of_the_port),
        TEST(pushes_at_once_what_the_port_completes_at_once),
        TEST(serves_answers_and_transfers_of_one_burst),
        TEST(reports_a_failed_read_as_ioerr_and_promises_no_data),
        TEST(reports_a_failed_write_as_ioerr_and_goes_on),
        TEST(reports_a_failed_flush_as_ioerr),
        cmocka_unit_test(refuses_to_write_on_a_read_only_disk),
        cmocka_unit_test(wants_whole_blocks_of_the_size_it_announces),
        cmocka_unit_test(writes_through_when_the_driver_can_neither_flush_nor_switch),
        cmocka_unit_test(writes_back_when_the_driver_flushes),
        cmocka_unit_test(writes_through_while_the_driver_has_switched_the_cache_off),
        cmocka_unit_test(starts_write_through_for_a_driver_that_switches_but_does_not_flush),
        cmocka_unit_test(marks_the_pages_it_wrote_and_no_others),
        cmocka_unit_test(marks_the_pages_of_a_failed_read_too),
        cmocka_unit_test(marks_only_the_status_of_a_refused_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
