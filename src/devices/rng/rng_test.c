/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio-rng against a faked driver, source and clock (VIRTIO 1.3, 5.4). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "device_rig.h"
#include "devices/rng/rng.h"

#define SECOND_NS UINT64_C(1000000000)

struct fake_source {
    struct entropy_source source;
    uint64_t left;     /* bytes it still has; then -EAGAIN */
    int error;         /* when not 0, what read answers */
    size_t at_once;    /* 0: all that is asked for; else a short read */
    uint8_t next;      /* each byte is one more than the last, so order shows */
    unsigned reads;    /* calls */
    size_t asked_most; /* greatest size asked for */
    uint64_t now_ns;
    unsigned clock_reads;
};

struct world {
    struct device_rig rig;
    struct fake_source source;
    struct rng rng;
};

static int source_read(struct entropy_source *source, void *buffer, size_t size)
{
    struct fake_source *fake = container_of(source, struct fake_source, source);
    uint8_t *bytes = buffer;

    fake->reads++;
    if (size > fake->asked_most)
        fake->asked_most = size;
    if (fake->error != 0)
        return fake->error;
    if (fake->left == 0)
        return -EAGAIN;
    size_t count = (size_t)u64_min(size, fake->left);
    if (fake->at_once != 0)
        count = size_min(count, fake->at_once);
    for (size_t i = 0; i < count; i++)
        bytes[i] = fake->next++;
    fake->left -= count;
    return (int)count;
}

static uint64_t source_now_ns(struct entropy_source *source)
{
    struct fake_source *fake = container_of(source, struct fake_source, source);

    fake->clock_reads++;
    return fake->now_ns;
}

static const struct entropy_source_class fake_class = {.read = source_read, .now_ns = source_now_ns};

static struct world *make(uint64_t rate, struct device_rig_shape shape)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);

    shape.request_bytes = rng_request_bytes();
    device_rig_init(&world->rig, &shape);
    world->source =
        (struct fake_source){.source.class = &fake_class, .left = 1 << 20, .next = 1, .now_ns = 1000 * SECOND_NS};
    rng_init(&world->rng, world->rig.queues, &world->source.source, rate);
    device_rig_attach(&world->rig, &world->rng.device, 0);
    return world;
}

static int setup(void **state)
{
    *state = make(0, (struct device_rig_shape){0});
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    device_rig_done(&world->rig);
    free(world);
    return 0;
}

/* Ask for @length bytes; returns where they go. */
static uint64_t ask(struct world *world, uint32_t length)
{
    uint64_t address = device_rig_high(&world->rig, length + 1);
    struct fake_piece piece = {.address = address, .length = length, .writable = true};

    assert_true(fake_driver_add(world->rig.drivers, &piece, 1) >= 0);
    return address;
}

static unsigned run(struct world *world)
{
    return device_rig_run(&world->rig, 0);
}

static unsigned wake(struct world *world)
{
    return device_rig_wake(&world->rig, 0);
}

/* The next used entry's length, or -1 when there is none. */
static int64_t used(struct world *world)
{
    uint32_t head, length;

    return fake_driver_get(world->rig.drivers, &head, &length) ? (int64_t)length : -1;
}

static void fills_a_buffer_with_entropy_and_reports_its_length(void **state)
{
    struct world *world = *state;
    uint64_t address = ask(world, 64);

    assert_int_equal(run(world), VIRTIO_EVENT_NOTIFY);
    assert_int_equal(used(world), 64);
    const uint8_t *bytes = device_rig_host(&world->rig, address);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(bytes[i], i + 1);
    assert_int_equal(bytes[64], 0);
    assert_int_equal(atomic_load(&world->rng.bytes_total), 64);
    assert_int_equal(atomic_load(&world->rng.requests_total), 1);
}

static void gives_each_request_of_a_burst_other_bytes(void **state)
{
    struct world *world = *state;
    uint64_t first = ask(world, 16);
    uint64_t second = ask(world, 16);

    run(world);
    assert_int_equal(*(uint8_t *)device_rig_host(&world->rig, first), 1);
    assert_int_equal(*(uint8_t *)device_rig_host(&world->rig, second), 17);
}

static void spreads_over_the_pieces_of_a_chain(void **state)
{
    struct world *world = *state;
    uint64_t low = device_rig_low(&world->rig, 16);
    uint64_t high = device_rig_high(&world->rig, 16);
    struct fake_piece pieces[] = {
        {low, 3, true},
        {high, 0, true},
        {high, 5, true},
    };

    fake_driver_add(world->rig.drivers, pieces, 3);
    run(world);
    assert_int_equal(used(world), 8);
    assert_memory_equal(device_rig_host(&world->rig, low), "\1\2\3\0", 4);
    assert_memory_equal(device_rig_host(&world->rig, high), "\4\5\6\7\10\0", 6);
}

static void gives_exactly_the_most_when_the_buffer_is_as_long(void **state)
{
    struct world *world = *state;

    ask(world, RNG_REQUEST_BYTES_MAX);
    run(world);
    assert_int_equal(used(world), RNG_REQUEST_BYTES_MAX);
}

static void bounds_a_request_that_is_one_byte_longer(void **state)
{
    struct world *world = *state;
    uint64_t address = ask(world, RNG_REQUEST_BYTES_MAX + 1);

    run(world);
    assert_int_equal(used(world), RNG_REQUEST_BYTES_MAX);
    assert_int_equal(((uint8_t *)device_rig_host(&world->rig, address))[RNG_REQUEST_BYTES_MAX], 0);
    assert_int_equal(world->source.asked_most, RNG_REQUEST_BYTES_MAX);
}

static void bounds_a_chain_that_names_one_page_many_times(void **state)
{
    struct world *world = *state;
    uint64_t page = device_rig_high(&world->rig, 4096);
    struct fake_piece pieces[200];

    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        pieces[i] = (struct fake_piece){page, 4096, true};
    fake_driver_add(world->rig.drivers, pieces, ARRAY_SIZE(pieces));
    run(world);
    assert_int_equal(used(world), RNG_REQUEST_BYTES_MAX);
    assert_int_equal(world->source.reads, 1);
}

static void hands_back_a_short_read_as_it_is(void **state)
{
    struct world *world = *state;

    world->source.at_once = 5;
    uint64_t address = ask(world, 64);
    run(world);
    assert_int_equal(used(world), 5);
    assert_memory_equal(device_rig_host(&world->rig, address), "\1\2\3\4\5\0", 6);
    assert_int_equal(atomic_load(&world->rng.bytes_total), 5);
}

static void hands_back_a_chain_without_room_as_it_came(void **state)
{
    struct world *world = *state;

    ask(world, 0);
    run(world);
    assert_int_equal(used(world), 0);
    assert_int_equal(world->source.reads, 0);
}

static void ignores_what_it_may_only_read(void **state)
{
    struct world *world = *state;
    uint64_t text = device_rig_high(&world->rig, 16);
    uint64_t room = device_rig_high(&world->rig, 16);
    struct fake_piece pieces[] = {{text, 16, false}, {room, 4, true}};
    struct fake_piece readable = {text, 16, false};

    fake_driver_add(world->rig.drivers, pieces, 2);
    fake_driver_add(world->rig.drivers, &readable, 1);
    assert_int_equal(run(world) & VIRTIO_EVENT_NEEDS_RESET, 0);
    assert_int_equal(used(world), 4);
    assert_int_equal(used(world), 0);
    assert_memory_equal(device_rig_host(&world->rig, text), "\0\0\0\0", 4);
}

static void keeps_the_request_when_the_source_is_dry_and_serves_it_at_the_wake(void **state)
{
    struct world *world = *state;

    world->source.left = 0;
    ask(world, 16);
    assert_int_equal(run(world), 0);
    assert_int_equal(used(world), -1);
    assert_int_equal(world->rig.queues[0].wake_at_ns, 0); /* the source wakes us, no timer */

    world->source.left = 16;
    assert_int_equal(wake(world), VIRTIO_EVENT_NOTIFY);
    assert_int_equal(used(world), 16);
}

static void completes_in_ring_order_when_the_source_dries_up_in_a_burst(void **state)
{
    struct world *world = *state;
    int heads[3];
    struct fake_piece piece = {device_rig_high(&world->rig, 16), 16, true};

    for (unsigned i = 0; i < 3; i++)
        heads[i] = fake_driver_add(world->rig.drivers, &piece, 1);
    world->source.left = 24;
    run(world);
    world->source.left = 16;
    wake(world);
    uint32_t head, length;
    assert_true(fake_driver_get(world->rig.drivers, &head, &length));
    assert_int_equal(head, heads[0]);
    assert_int_equal(length, 16);
    assert_true(fake_driver_get(world->rig.drivers, &head, &length));
    assert_int_equal(head, heads[1]);
    assert_int_equal(length, 8);
    assert_true(fake_driver_get(world->rig.drivers, &head, &length));
    assert_int_equal(head, heads[2]);
    assert_int_equal(length, 16);
}

static void asks_a_failed_source_again_only_a_second_later(void **state)
{
    struct world *world = *state;

    world->source.error = -EIO;
    ask(world, 16);
    assert_int_equal(run(world), 0);
    assert_int_equal(world->source.reads, 1);
    assert_int_equal(atomic_load(&world->rng.source_errors_total), 1);
    assert_int_equal(world->rig.queues[0].wake_at_ns, world->source.now_ns + SECOND_NS);

    /* However often the guest kicks. */
    world->source.now_ns += SECOND_NS - 1;
    for (unsigned i = 0; i < 10; i++)
        run(world);
    assert_int_equal(world->source.reads, 1);
    assert_int_equal(world->rig.queues[0].wake_at_ns, world->source.now_ns + 1);

    world->source.now_ns += 1;
    wake(world);
    assert_int_equal(world->source.reads, 2);
    assert_int_equal(atomic_load(&world->rng.source_errors_total), 2);
}

/* The pop ends for want of runs of that length, and still nothing hurries while the source is dry. */
static void a_dry_source_keeps_nobody_awake_for_long_chains(void **state)
{
    struct world *world = *state;
    struct fake_piece pieces[9];

    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        pieces[i] = (struct fake_piece){device_rig_high(&world->rig, 16), 16, true};
    world->source.left = 0;
    for (unsigned i = 0; i < 12; i++)
        assert_true(fake_driver_add(world->rig.drivers, pieces, ARRAY_SIZE(pieces)) >= 0);
    assert_int_equal(run(world), 0);
    assert_int_equal(world->source.reads, 1);
    world->source.left = 1 << 20;
    for (unsigned events = wake(world); (events & VIRTIO_EVENT_AGAIN) != 0;)
        events = run(world);
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(used(world), 144);
}

static void serves_the_waiting_request_once_the_source_is_back(void **state)
{
    struct world *world = *state;

    world->source.error = -ENODEV;
    ask(world, 16);
    run(world);
    world->source.error = 0;
    world->source.now_ns += SECOND_NS;
    assert_int_equal(wake(world), VIRTIO_EVENT_NOTIFY);
    assert_int_equal(used(world), 16);
    assert_int_equal(world->rig.queues[0].wake_at_ns, 0);
}

static void forgets_a_failed_source_at_reset(void **state)
{
    struct world *world = *state;

    world->source.error = -EIO;
    ask(world, 16);
    run(world);
    assert_int_equal(virtio_device_queue_stop(world->rig.device, 0), VIRTIO_EVENT_STOPPED);
    assert_int_equal(world->rig.queues[0].wake_at_ns, 0);
    virtio_device_reset(world->rig.device);
    world->source.error = 0;
    assert_int_equal(virtio_device_set_features(world->rig.device, VIRTIO_F_VERSION_1), 0);
    device_rig_start(&world->rig, 0);
    run(world);
    assert_int_equal(used(world), 16);
}

static void goes_on_with_the_same_request_after_a_stop(void **state)
{
    struct world *world = *state;

    world->source.left = 0;
    ask(world, 16);
    run(world);
    assert_int_equal(virtio_device_queue_stop(world->rig.device, 0), VIRTIO_EVENT_STOPPED);
    world->source.left = 16;
    device_rig_start(&world->rig, 0);
    run(world);
    assert_int_equal(used(world), 16);
}

static void reads_no_clock_without_a_limit(void **state)
{
    struct world *world = *state;

    ask(world, 16);
    run(world);
    assert_int_equal(world->source.clock_reads, 0);
}

static int setup_limited(void **state)
{
    *state = make(1000, (struct device_rig_shape){0});
    return 0;
}

static void holds_back_what_is_over_the_rate_and_says_when_to_come_again(void **state)
{
    struct world *world = *state;

    for (unsigned i = 0; i < 3; i++)
        ask(world, 100); /* 100 ms each at 1000 bytes/s, which is also the burst */
    run(world);
    assert_int_equal(used(world), 100);
    assert_int_equal(used(world), -1);
    uint64_t at_ns = world->rig.queues[0].wake_at_ns;
    assert_true(at_ns > world->source.now_ns);

    world->source.now_ns = at_ns - 1;
    wake(world);
    assert_int_equal(used(world), -1);
    world->source.now_ns = at_ns;
    wake(world);
    assert_int_equal(used(world), 100);
}

static void keeps_the_rate_over_a_long_time(void **state)
{
    struct world *world = *state;
    uint64_t start_ns = world->source.now_ns;
    uint64_t total = 0;

    for (unsigned i = 0; i < 200; i++)
        ask(world, 50);
    run(world);
    while (world->source.now_ns < start_ns + 4 * SECOND_NS) {
        for (int64_t length; (length = used(world)) >= 0;)
            total += (uint64_t)length;
        if (world->rig.queues[0].wake_at_ns <= world->source.now_ns)
            break;
        world->source.now_ns = world->rig.queues[0].wake_at_ns;
        wake(world);
    }
    assert_in_range(total, 3900, 4100 + 50);
}

static void pays_only_for_what_a_short_read_gave(void **state)
{
    struct world *world = *state;

    world->source.at_once = 1;
    for (unsigned i = 0; i < 50; i++)
        ask(world, 50);
    run(world);
    unsigned served = 0;
    while (used(world) == 1)
        served++;
    assert_int_equal(served, 50); /* 50 bytes are within the burst; 50 times 50 would not be */
}

static void pays_nothing_when_the_source_is_dry(void **state)
{
    struct world *world = *state;

    world->source.left = 0;
    ask(world, 100);
    for (unsigned i = 0; i < 10; i++)
        run(world);
    world->source.left = 100;
    wake(world);
    assert_int_equal(used(world), 100);
}

static void serves_more_requests_than_one_burst(void **state)
{
    struct world *world = *state;
    struct fake_piece piece = {device_rig_high(&world->rig, 16), 1, true};

    for (unsigned i = 0; i < 200; i++)
        fake_driver_add(world->rig.drivers, &piece, 1);
    fake_driver_show(world->rig.drivers);
    unsigned events = virtio_device_run(world->rig.device, 0, 150);
    assert_true((events & VIRTIO_EVENT_AGAIN) != 0);
    unsigned served = 0;
    while (used(world) == 1)
        served++;
    assert_int_equal(served, 150);
    virtio_device_run(world->rig.device, 0, 150);
    while (used(world) == 1)
        served++;
    assert_int_equal(served, 200);
}

static void refuses_a_malformed_chain_and_needs_a_reset(void **state)
{
    struct world *world = *state;

    fake_driver_desc(world->rig.drivers, 0, UINT64_C(0xdead00000000), 16, VRING_DESC_F_WRITE, 0);
    fake_driver_offer(world->rig.drivers, 0);
    assert_true((run(world) & VIRTIO_EVENT_NEEDS_RESET) != 0);
    assert_int_equal(world->source.reads, 0);
    assert_int_equal(used(world), -1);
}

static void offers_no_feature_of_its_own_and_has_no_configuration(void **state)
{
    struct world *world = *state;
    uint8_t byte = 0xff;

    assert_int_equal(world->rng.device.class->features(&world->rng.device), 0);
    /* And of the ring's no packed one, for which no front end keeps a record of this device. */
    assert_int_equal(virtio_device_features(&world->rng.device),
                     VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_IN_ORDER);
    assert_int_equal(world->rng.device.class->config_bytes, 0);
    virtio_device_config_read(&world->rng.device, 0, &byte, 1);
    assert_int_equal(byte, 0);
    assert_true(virtio_device_config_write(&world->rng.device, 0, &byte, 1) < 0);
}

static int setup_windows(void **state)
{
    *state = make(0, (struct device_rig_shape){.windows = true, .ring_size = 64});
    return 0;
}

static void touches_no_page_outside_its_window(void **state)
{
    struct world *world = *state;
    size_t idle = window_access_mapped(&world->rig.window);

    for (unsigned i = 0; i < 4; i++)
        ask(world, 6000); /* over pages that do not follow each other in this process */
    world->source.left = 3 * RNG_REQUEST_BYTES_MAX;
    run(world);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(used(world), RNG_REQUEST_BYTES_MAX);
    assert_int_equal(used(world), -1);
    assert_int_equal(window_access_mapped(&world->rig.window), idle); /* the request put back holds nothing */
    virtio_device_queue_stop(world->rig.device, 0);
    assert_int_equal(window_access_mapped(&world->rig.window), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define LIMITED_TEST(name) cmocka_unit_test_setup_teardown(name, setup_limited, teardown)
    const struct CMUnitTest tests[] = {
        TEST(fills_a_buffer_with_entropy_and_reports_its_length),
        TEST(gives_each_request_of_a_burst_other_bytes),
        TEST(spreads_over_the_pieces_of_a_chain),
        TEST(gives_exactly_the_most_when_the_buffer_is_as_long),
        TEST(bounds_a_request_that_is_one_byte_longer),
        TEST(bounds_a_chain_that_names_one_page_many_times),
        TEST(hands_back_a_short_read_as_it_is),
        TEST(hands_back_a_chain_without_room_as_it_came),
        TEST(ignores_what_it_may_only_read),
        TEST(keeps_the_request_when_the_source_is_dry_and_serves_it_at_the_wake),
        TEST(completes_in_ring_order_when_the_source_dries_up_in_a_burst),
        TEST(asks_a_failed_source_again_only_a_second_later),
        TEST(a_dry_source_keeps_nobody_awake_for_long_chains),
        TEST(serves_the_waiting_request_once_the_source_is_back),
        TEST(forgets_a_failed_source_at_reset),
        TEST(goes_on_with_the_same_request_after_a_stop),
        TEST(reads_no_clock_without_a_limit),
        LIMITED_TEST(holds_back_what_is_over_the_rate_and_says_when_to_come_again),
        LIMITED_TEST(keeps_the_rate_over_a_long_time),
        LIMITED_TEST(pays_only_for_what_a_short_read_gave),
        LIMITED_TEST(pays_nothing_when_the_source_is_dry),
        TEST(serves_more_requests_than_one_burst),
        TEST(refuses_a_malformed_chain_and_needs_a_reset),
        cmocka_unit_test_setup_teardown(touches_no_page_outside_its_window, setup_windows, teardown),
        TEST(offers_no_feature_of_its_own_and_has_no_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
