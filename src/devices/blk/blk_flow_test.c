/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What happens over time: a port that is full, queues that stop, limits, sizes that change, several queues. */
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
#define SECOND_NS UINT64_C(1000000000)

static struct blk_world *make(const struct blk_options *options, uint16_t queues, uint16_t slots)
{
    struct device_rig_shape shape = {.queues = queues, .slots = slots};

    return blk_world_make(options, &shape, 0);
}

static struct blk_world *make_limited(uint64_t iops, uint64_t bytes_per_s)
{
    struct blk_options options = blk_world_options();

    options.limit_iops = iops;
    options.limit_bytes_per_s = bytes_per_s;
    return make(&options, 1, 64);
}

/* How many used entries there are; forgets them. */
static unsigned used_count(struct blk_world *world)
{
    uint32_t head, length;
    unsigned count = 0;

    while (fake_driver_get(world->rig.drivers, &head, &length))
        count++;
    return count;
}

static void loses_nothing_when_the_port_takes_only_a_part(void **state)
{
    struct blk_world *world = *state;
    struct fake_request requests[10];

    world->disk.room = 4;
    for (unsigned i = 0; i < 10; i++)
        requests[i] = offer(world, IN, i * 8, 512);
    assert_int_equal(run(world), 0);
    assert_int_equal(world->disk.io_count, 4);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(world->disk.ios[0].io.offset, i * 4096); /* in the order of the ring */
        complete(world, 0, 0);
        assert_used(world, &requests[i], OK, 513);
        assert_int_equal(world->disk.io_count, 9 - i < 4 ? 9 - i : 4);
    }
}

static void pops_nothing_more_while_the_port_is_full(void **state)
{
    struct blk_world *world = *state;

    world->disk.room = 2;
    for (unsigned i = 0; i < 4; i++)
        offer(world, IN, 0, 512);
    run(world);
    uint64_t popped = world->rig.queues[0].popped_total;
    for (unsigned i = 0; i < 5; i++) {
        offer(world, IN, 0, 512);
        run(world);
    }
    assert_int_equal(world->rig.queues[0].popped_total, popped);
    complete_all(world);
    assert_int_equal(used_count(world), 9);
}

/* It completes each at once but takes one at a time: no wake is owed, since none is in flight. */
static void goes_on_while_a_small_port_keeps_up(void **state)
{
    struct blk_world *world = *state;

    world->disk.at_once = true;
    world->disk.take_max = 1;
    for (unsigned i = 0; i < 50; i++)
        offer(world, IN, 0, 512);
    run(world);
    assert_int_equal(used_count(world), 50);
}

static void keeps_what_is_left_of_a_request_of_many_ranges(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_range ranges[5];

    for (unsigned i = 0; i < 5; i++)
        ranges[i] = (struct virtio_blk_range){i * 16, 8, 0};
    world->disk.room = 2;
    struct fake_request request = offer_ranges(world, VIRTIO_BLK_T_DISCARD, ranges, 5);
    run(world);
    for (unsigned i = 0; i < 5; i++) {
        assert_nothing_used(world);
        assert_int_equal(world->disk.ios[0].io.offset, i * 16 * 512);
        complete(world, 0, 0);
    }
    assert_used(world, &request, OK, 1);
}

static void pops_no_more_than_its_burst(void **state)
{
    struct blk_world *world = *state;

    world->disk.at_once = true;
    for (unsigned i = 0; i < 70; i++)
        offer(world, VIRTIO_BLK_T_FLUSH, 0, 0);
    fake_driver_show(world->rig.drivers);
    assert_true((virtio_device_run(&world->blk.device, 0, 65) & VIRTIO_EVENT_AGAIN) != 0);
    assert_int_equal(used_count(world), 65);
    virtio_device_run(&world->blk.device, 0, 65);
    assert_int_equal(used_count(world), 5);
}

static void goes_on_in_the_wake_when_the_arena_was_empty(void **state)
{
    struct blk_options options = blk_world_options();
    (void)state;

    struct blk_world *world = make(&options, 1, 4);
    for (unsigned i = 0; i < 12; i++)
        offer(world, IN, 0, 512);
    run(world);
    assert_int_equal(world->disk.io_count, 4);
    complete_all(world);
    assert_int_equal(used_count(world), 12);
    blk_world_free(world);
}

static void keeps_two_queues_apart(void **state)
{
    struct blk_options options = blk_world_options();
    (void)state;

    struct blk_world *world = make(&options, 2, 64);
    struct fake_request first = offer_on(world, 0, IN, 0, 512);
    struct fake_request second = offer_on(world, 1, IN, 8, 512);
    device_rig_run(&world->rig, 0);
    device_rig_run(&world->rig, 1);
    assert_int_equal(world->disk.ios[0].queue, 0);
    assert_int_equal(world->disk.ios[1].queue, 1);
    /* Both have the same slot of their arenas, and so the same token. */
    assert_int_equal(world->disk.ios[0].io.token, world->disk.ios[1].io.token);
    complete(world, 1, 0);
    assert_used(world, &second, OK, 513);
    assert_nothing_used(world);
    complete(world, 0, 0);
    assert_used(world, &first, OK, 513);
    blk_world_free(world);
}

static void keeps_what_each_queues_port_did_not_take_apart(void **state)
{
    struct blk_options options = blk_world_options();
    (void)state;

    struct blk_world *world = make(&options, 2, 64);
    struct fake_request requests[4];
    for (unsigned i = 0; i < 4; i++)
        requests[i] = offer_on(world, i / 2, IN, i, 512);
    world->disk.room = 1;
    device_rig_run(&world->rig, 0);
    world->disk.room = 2;
    device_rig_run(&world->rig, 1);
    assert_int_equal(world->disk.ios[1].queue, 1);
    assert_int_equal(world->disk.ios[1].io.offset, 2 * 512);
    complete_all(world);
    for (unsigned i = 0; i < 4; i++) {
        assert_used(world, &requests[i], OK, 513);
        assert_memory_equal(data_of(world, &requests[i]), world->disk.bytes + i * 512, 512);
    }
    blk_world_free(world);
}

static void fetches_all_completions_in_one_wake(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {.ring_size = 1024, .slots = 200};
    (void)state;

    struct blk_world *world = blk_world_make(&options, &shape, 0);
    for (unsigned i = 0; i < 200; i++)
        offer(world, IN, i, 512);
    run(world);
    while (world->disk.io_count > 0)
        finish_io(&world->disk, 0, 0);
    assert_int_equal(wake(world), VIRTIO_EVENT_NOTIFY);
    assert_int_equal(used_count(world), 200);
    blk_world_free(world);
}

static void has_stopped_only_when_all_that_was_in_flight_is_back(void **state)
{
    struct blk_world *world = *state;
    struct fake_request first = offer(world, IN, 0, 512);
    struct fake_request second = offer(world, OUT, 0, 512);

    run(world);
    offer(world, IN, 0, 512); /* after the stop: stays in the ring */
    assert_int_equal(virtio_device_queue_stop(&world->blk.device, 0) & VIRTIO_EVENT_STOPPED, 0);
    assert_int_equal(world->disk.cancels, 1);
    assert_int_equal(world->disk.cancelled_queue, 0);
    assert_int_equal(complete(world, 0, 0) & VIRTIO_EVENT_STOPPED, 0);
    assert_int_equal(complete(world, 0, -ECANCELED) & VIRTIO_EVENT_STOPPED, VIRTIO_EVENT_STOPPED);
    assert_used(world, &first, OK, 513);
    assert_used(world, &second, IOERR, 1);
    assert_int_equal(world->disk.io_count, 0);
}

static void stops_too_when_the_port_had_not_taken_everything(void **state)
{
    struct blk_world *world = *state;

    world->disk.room = 2;
    for (unsigned i = 0; i < 7; i++)
        offer(world, IN, 0, 512);
    run(world);
    virtio_device_queue_stop(&world->blk.device, 0);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(complete(world, 0, 0) & VIRTIO_EVENT_STOPPED, 0);
    assert_int_equal(complete(world, 0, 0) & VIRTIO_EVENT_STOPPED, VIRTIO_EVENT_STOPPED);
    assert_int_equal(used_count(world), 7);
}

static void drops_a_completion_of_an_earlier_life(void **state)
{
    struct blk_world *world = *state;
    struct fake_request request = offer(world, IN, 0, 512);

    run(world);
    uint64_t stale = world->disk.ios[0].io.token;
    complete(world, 0, 0);
    assert_used(world, &request, OK, 513);
    assert_int_equal(virtio_device_queue_stop(&world->blk.device, 0), VIRTIO_EVENT_STOPPED);
    device_rig_start(&world->rig, 0);

    request = offer(world, IN, 8, 512);
    run(world);
    assert_int_not_equal(world->disk.ios[0].io.token, stale);
    const uint64_t tokens[] = {stale, UINT64_MAX, world->disk.ios[0].io.token | UINT64_C(1) << 32, 60};
    for (unsigned i = 0; i < ARRAY_SIZE(tokens); i++) {
        world->disk.done[0] = (struct fake_io){{.token = tokens[i]}, 0};
        world->disk.done_results[0] = -EIO;
        world->disk.done_count = 1;
        wake(world);
        assert_nothing_used(world);
    }
    complete(world, 0, 0);
    assert_used(world, &request, OK, 513);
}

static void goes_on_where_it_stopped(void **state)
{
    struct blk_world *world = *state;
    struct fake_request first = offer(world, IN, 0, 512);

    fake_driver_show(world->rig.drivers);
    virtio_device_queue_stop(&world->blk.device, 0);
    assert_int_equal(run(world), 0);
    device_rig_start(&world->rig, 0);
    run(world);
    complete(world, 0, 0);
    assert_used(world, &first, OK, 513);
}

static void fails_what_lies_past_the_new_end_but_not_what_is_in_flight(void **state)
{
    struct blk_world *world = *state;
    struct fake_request before = offer(world, IN, FAKE_DISK_SECTORS - 1, 512);

    run(world);
    uint32_t generation = atomic_load(&world->blk.device.config_generation);
    blk_resize(&world->blk, FAKE_DISK_BYTES / 2);
    assert_int_equal(atomic_load(&world->blk.device.config_generation), generation + 1);
    struct fake_request after = offer(world, IN, FAKE_DISK_SECTORS - 1, 512);
    struct fake_request inside = offer(world, IN, FAKE_DISK_SECTORS / 2 - 1, 512);
    struct fake_request across = offer(world, IN, FAKE_DISK_SECTORS / 2 - 1, 1024);
    run(world);
    assert_used(world, &after, IOERR, 0);
    assert_used(world, &across, IOERR, 0);
    complete(world, 0, 0);
    assert_used(world, &before, OK, 513);
    complete(world, 0, 0);
    assert_used(world, &inside, OK, 513);

    blk_resize(&world->blk, FAKE_DISK_BYTES);
    struct fake_request again = offer(world, IN, FAKE_DISK_SECTORS - 1, 512);
    run(world);
    complete(world, 0, 0);
    assert_used(world, &again, OK, 513);
}

static void lets_through_no_more_requests_than_the_limit(void **state)
{
    struct blk_world *world = make_limited(100, 0);
    (void)state;

    world->disk.at_once = true;
    for (unsigned i = 0; i < 60; i++)
        offer(world, IN, 0, 512);
    uint64_t start_ns = world->disk.now_ns;
    run(world);
    assert_int_equal(used_count(world), 10); /* the burst: 100 ms worth */
    assert_int_equal(world->rig.queues[0].wake_at_ns, start_ns + 1);
    unsigned wakes = 0;
    while (world->rig.queues[0].wake_at_ns != 0 && wakes++ < 100) {
        world->disk.now_ns = world->rig.queues[0].wake_at_ns;
        wake(world);
    }
    assert_int_equal(used_count(world), 50);
    /* The last one goes when the 59 before it are earned, but for the burst. */
    assert_int_equal(world->disk.now_ns - start_ns, SECOND_NS * 49 / 100 + 1);
    blk_world_free(world);
}

static void serves_nothing_before_its_time_however_often_the_driver_kicks(void **state)
{
    struct blk_world *world = make_limited(100, 0);
    (void)state;

    world->disk.at_once = true;
    for (unsigned i = 0; i < 20; i++)
        offer(world, IN, 0, 512);
    run(world);
    world->disk.now_ns = world->rig.queues[0].wake_at_ns - 1;
    uint64_t at_ns = world->rig.queues[0].wake_at_ns;
    for (unsigned i = 0; i < 10; i++) {
        run(world);
        assert_int_equal(world->rig.queues[0].wake_at_ns, at_ns);
    }
    assert_int_equal(used_count(world), 10);
    blk_world_free(world);
}

static void lets_through_no_more_bytes_than_the_limit(void **state)
{
    struct blk_world *world = make_limited(0, 1 << 20);
    (void)state;

    world->disk.at_once = true;
    for (unsigned i = 0; i < 80; i++)
        offer(world, i % 2 == 0 ? IN : OUT, 0, 8192);
    uint64_t start_ns = world->disk.now_ns;
    run(world);
    unsigned wakes = 0;
    while (world->rig.queues[0].wake_at_ns != 0 && wakes++ < 200) {
        world->disk.now_ns = world->rig.queues[0].wake_at_ns;
        wake(world);
    }
    assert_int_equal(used_count(world), 80);
    /* 632 KiB before the last one at 1 MiB/s, less the burst of 100 ms. */
    assert_in_range(world->disk.now_ns - start_ns, SECOND_NS * 51 / 100, SECOND_NS * 52 / 100);
    blk_world_free(world);
}

/* Refused for its bytes, a request has not used up its share of the requests either. */
static void gives_a_requests_share_back_when_its_bytes_must_wait(void **state)
{
    struct blk_world *world = make_limited(10, 1 << 20);
    (void)state;

    world->disk.at_once = true;
    offer(world, IN, 0, 512 * 1024); /* half a second of bytes, all of the burst of requests */
    run(world);
    assert_int_equal(used_count(world), 1);
    world->disk.now_ns += SECOND_NS / 10; /* the requests' share has grown back */
    offer(world, IN, 0, 512);
    for (unsigned i = 0; i < 20; i++)
        run(world);
    assert_int_equal(used_count(world), 0);
    world->disk.now_ns = world->rig.queues[0].wake_at_ns;
    wake(world);
    assert_int_equal(used_count(world), 1);
    blk_world_free(world);
}

static void limits_several_queues_together(void **state)
{
    struct blk_options options = blk_world_options();
    (void)state;

    options.limit_iops = 100;
    struct blk_world *world = make(&options, 2, 64);
    world->disk.at_once = true;
    for (unsigned i = 0; i < 16; i++)
        offer_on(world, i % 2, IN, 0, 512);
    device_rig_run(&world->rig, 0);
    device_rig_run(&world->rig, 1);
    assert_int_equal(used_count(world), 8);
    assert_int_equal(world->rig.queues[1].wake_at_ns != 0, true);
    uint32_t head, length;
    assert_true(fake_driver_get(&world->rig.drivers[1], &head, &length));
    assert_true(fake_driver_get(&world->rig.drivers[1], &head, &length));
    assert_false(fake_driver_get(&world->rig.drivers[1], &head, &length));
    blk_world_free(world);
}

static void counts_the_ranges_of_a_request_as_operations(void **state)
{
    struct blk_world *world = make_limited(100, 0);
    struct virtio_blk_range ranges[10];
    (void)state;

    world->disk.at_once = true;
    for (unsigned i = 0; i < 10; i++)
        ranges[i] = (struct virtio_blk_range){i * 16, 8, 0};
    offer_ranges(world, VIRTIO_BLK_T_DISCARD, ranges, 10);
    offer(world, IN, 0, 512);
    run(world);
    assert_int_equal(used_count(world), 1);
    assert_true(world->rig.queues[0].wake_at_ns != 0);
    blk_world_free(world);
}

/* 64 KiB of zeros may have to be written; freeing them moves nothing. */
static void counts_zeros_as_bytes_but_not_what_is_discarded(void **state)
{
    struct blk_world *world = make_limited(0, 1 << 20);
    struct virtio_blk_range range = {0, 128, 0};
    (void)state;

    world->disk.at_once = true;
    for (unsigned i = 0; i < 5; i++)
        offer_ranges(world, VIRTIO_BLK_T_DISCARD, &range, 1);
    run(world);
    assert_int_equal(used_count(world), 5);
    for (unsigned i = 0; i < 5; i++)
        offer_ranges(world, VIRTIO_BLK_T_WRITE_ZEROES, &range, 1);
    run(world);
    assert_int_equal(used_count(world), 2); /* the burst has 102 KiB, and the last to begin in it is paid for later */
    blk_world_free(world);
}

static void holds_back_flushes_too(void **state)
{
    struct blk_world *world = make_limited(100, 0);
    (void)state;

    world->disk.at_once = true;
    for (unsigned i = 0; i < 12; i++)
        offer(world, VIRTIO_BLK_T_FLUSH, 0, 0);
    run(world);
    assert_int_equal(used_count(world), 10);
    world->disk.now_ns += SECOND_NS;
    wake(world);
    assert_int_equal(used_count(world), 2);
    blk_world_free(world);
}

static void answers_what_needs_no_disk_whatever_the_limit(void **state)
{
    struct blk_world *world = make_limited(1, 0);
    (void)state;

    for (unsigned i = 0; i < 20; i++)
        offer(world, VIRTIO_BLK_T_GET_ID, 0, 20);
    run(world);
    assert_int_equal(used_count(world), 20);
    blk_world_free(world);
}

static void asks_for_no_clock_without_a_limit(void **state)
{
    struct blk_world *world = *state;

    offer(world, IN, 0, 512);
    run(world);
    complete_all(world);
    assert_int_equal(world->disk.clock_reads, 0);
    assert_int_equal(world->rig.queues[0].wake_at_ns, 0);
}

static void forgets_its_appointment_when_it_stops(void **state)
{
    struct blk_world *world = make_limited(100, 0);
    (void)state;

    for (unsigned i = 0; i < 20; i++)
        offer(world, IN, 0, 512);
    run(world);
    assert_true(world->rig.queues[0].wake_at_ns != 0);
    virtio_device_queue_stop(&world->blk.device, 0);
    assert_int_equal(world->rig.queues[0].wake_at_ns, 0);
    complete_all(world);
    assert_int_equal(world->rig.queues[0].state, VIRTQUEUE_STOPPED);
    blk_world_free(world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, blk_world_setup, blk_world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(loses_nothing_when_the_port_takes_only_a_part),
        TEST(pops_nothing_more_while_the_port_is_full),
        TEST(goes_on_while_a_small_port_keeps_up),
        TEST(keeps_what_is_left_of_a_request_of_many_ranges),
        TEST(pops_no_more_than_its_burst),
        cmocka_unit_test(goes_on_in_the_wake_when_the_arena_was_empty),
        cmocka_unit_test(keeps_two_queues_apart),
        cmocka_unit_test(keeps_what_each_queues_port_did_not_take_apart),
        cmocka_unit_test(fetches_all_completions_in_one_wake),
        TEST(has_stopped_only_when_all_that_was_in_flight_is_back),
        TEST(stops_too_when_the_port_had_not_taken_everything),
        TEST(drops_a_completion_of_an_earlier_life),
        TEST(goes_on_where_it_stopped),
        TEST(fails_what_lies_past_the_new_end_but_not_what_is_in_flight),
        cmocka_unit_test(lets_through_no_more_requests_than_the_limit),
        cmocka_unit_test(serves_nothing_before_its_time_however_often_the_driver_kicks),
        cmocka_unit_test(lets_through_no_more_bytes_than_the_limit),
        cmocka_unit_test(gives_a_requests_share_back_when_its_bytes_must_wait),
        cmocka_unit_test(limits_several_queues_together),
        cmocka_unit_test(counts_the_ranges_of_a_request_as_operations),
        cmocka_unit_test(counts_zeros_as_bytes_but_not_what_is_discarded),
        cmocka_unit_test(holds_back_flushes_too),
        cmocka_unit_test(answers_what_needs_no_disk_whatever_the_limit),
        TEST(asks_for_no_clock_without_a_limit),
        cmocka_unit_test(forgets_its_appointment_when_it_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
