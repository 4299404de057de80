/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio-template against a faked driver and a faked sink. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "device_rig.h"
#include "devices/template/template.h"

struct fake_sink {
    struct template_sink sink;
    unsigned room; /* messages it still takes */
    unsigned count;
    uint8_t last[TEMPLATE_MESSAGE_BYTES_MAX];
    size_t last_bytes;
};

struct world {
    struct device_rig rig;
    struct fake_sink sink;
    struct template template;
};

static int sink_take(struct template_sink *sink, const void *message, size_t size)
{
    struct fake_sink *fake = container_of(sink, struct fake_sink, sink);

    if (fake->count == fake->room)
        return -EAGAIN;
    assert_true(size <= sizeof(fake->last));
    memcpy(fake->last, message, size);
    fake->last_bytes = size;
    fake->count++;
    return 0;
}

static const struct template_sink_class fake_class = {.take = sink_take};

static struct world *make(const struct device_rig_shape *shape)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);

    device_rig_init(&world->rig, shape);
    world->sink = (struct fake_sink){.sink.class = &fake_class, .room = 1000};
    template_init(&world->template, world->rig.queues, &world->sink.sink);
    device_rig_attach(&world->rig, &world->template.device, 0);
    return world;
}

static int setup(void **state)
{
    struct device_rig_shape shape = {.request_bytes = template_request_bytes()};

    *state = make(&shape);
    return 0;
}

static int setup_windows(void **state)
{
    struct device_rig_shape shape = {.request_bytes = template_request_bytes(), .ring_size = 64, .windows = true};

    *state = make(&shape);
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    device_rig_done(&world->rig);
    free(world);
    return 0;
}

/* A message of @size bytes, all of them @fill. */
static void send(struct world *world, uint8_t fill, uint32_t size)
{
    uint64_t address = device_rig_high(&world->rig, size + 1);
    struct fake_piece piece = {address, size, false};

    memset(device_rig_host(&world->rig, address), fill, size);
    assert_true(fake_driver_add(world->rig.drivers, &piece, 1) >= 0);
}

/* How many requests came back; each says that nothing was written. */
static unsigned returned(struct world *world)
{
    uint32_t head, length;
    unsigned count = 0;

    while (fake_driver_get(world->rig.drivers, &head, &length)) {
        assert_int_equal(length, 0);
        count++;
    }
    return count;
}

static void delivers_a_message_and_answers_nothing(void **state)
{
    struct world *world = *state;

    send(world, 0x5a, 100);
    assert_int_equal(device_rig_run(&world->rig, 0), VIRTIO_EVENT_NOTIFY);
    assert_int_equal(returned(world), 1);
    assert_int_equal(world->sink.last_bytes, 100);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(world->sink.last[i], 0x5a);
    assert_int_equal(atomic_load(&world->template.messages_total), 1);
}

static void cuts_off_a_message_that_is_too_long(void **state)
{
    struct world *world = *state;

    send(world, 1, TEMPLATE_MESSAGE_BYTES_MAX + 1);
    device_rig_run(&world->rig, 0);
    assert_int_equal(world->sink.last_bytes, TEMPLATE_MESSAGE_BYTES_MAX);
    assert_int_equal(returned(world), 1);
}

static void delivers_a_message_of_no_bytes(void **state)
{
    struct world *world = *state;

    send(world, 1, 0);
    device_rig_run(&world->rig, 0);
    assert_int_equal(world->sink.count, 1);
    assert_int_equal(world->sink.last_bytes, 0);
}

static void keeps_what_the_sink_has_no_room_for_until_the_wake(void **state)
{
    struct world *world = *state;

    world->sink.room = 2;
    for (uint8_t i = 1; i <= 4; i++)
        send(world, i, 10);
    device_rig_run(&world->rig, 0);
    assert_int_equal(returned(world), 2);
    assert_int_equal(world->sink.last[0], 2);
    world->sink.room = 4;
    device_rig_wake(&world->rig, 0);
    assert_int_equal(returned(world), 2);
    assert_int_equal(world->sink.last[0], 4);
}

static void stops_at_once_and_goes_on_with_the_same_message(void **state)
{
    struct world *world = *state;

    world->sink.room = 0;
    send(world, 7, 10);
    device_rig_run(&world->rig, 0);
    assert_int_equal(virtio_device_queue_stop(world->rig.device, 0), VIRTIO_EVENT_STOPPED);
    world->sink.room = 1;
    device_rig_start(&world->rig, 0);
    device_rig_run(&world->rig, 0);
    assert_int_equal(world->sink.last[0], 7);
}

static void delivers_no_more_than_its_burst(void **state)
{
    struct world *world = *state;

    for (unsigned i = 0; i < 100; i++)
        send(world, 1, 1);
    fake_driver_show(world->rig.drivers);
    assert_true((virtio_device_run(world->rig.device, 0, 70) & VIRTIO_EVENT_AGAIN) != 0);
    assert_int_equal(returned(world), 70);
}

static void needs_a_reset_when_the_message_lies_outside_memory(void **state)
{
    struct world *world = *state;

    fake_driver_desc(world->rig.drivers, 0, UINT64_C(0xdead00000000), 16, 0, 0);
    fake_driver_offer(world->rig.drivers, 0);
    assert_true((device_rig_run(&world->rig, 0) & VIRTIO_EVENT_NEEDS_RESET) != 0);
    assert_int_equal(world->sink.count, 0);
}

static void touches_no_page_outside_its_window(void **state)
{
    struct world *world = *state;
    size_t idle = window_access_mapped(&world->rig.window);

    for (uint8_t i = 0; i < 4; i++)
        send(world, i, 5000); /* over pages that do not follow each other in this process */
    world->sink.room = 3;
    device_rig_run(&world->rig, 0);
    assert_int_equal(returned(world), 3);
    assert_int_equal(window_access_mapped(&world->rig.window), idle);
    virtio_device_queue_stop(world->rig.device, 0);
    assert_int_equal(window_access_mapped(&world->rig.window), 0);
}

static void shows_its_configuration_and_lets_nobody_write_it(void **state)
{
    struct world *world = *state;
    uint8_t bytes[8];

    virtio_device_config_read(world->rig.device, 0, bytes, sizeof(bytes));
    assert_int_equal(get_le32(bytes), TEMPLATE_MESSAGE_BYTES_MAX);
    assert_int_equal(get_le32(bytes + 4), 0);
    for (uint32_t offset = 0; offset < 4; offset++) {
        uint8_t byte = 0xff;
        virtio_device_config_read(world->rig.device, offset, &byte, 1);
        assert_int_equal(byte, bytes[offset]);
        assert_int_equal(virtio_device_config_write(world->rig.device, offset, &byte, 1), -EPERM);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(delivers_a_message_and_answers_nothing),
        TEST(cuts_off_a_message_that_is_too_long),
        TEST(delivers_a_message_of_no_bytes),
        TEST(keeps_what_the_sink_has_no_room_for_until_the_wake),
        TEST(stops_at_once_and_goes_on_with_the_same_message),
        TEST(delivers_no_more_than_its_burst),
        TEST(needs_a_reset_when_the_message_lies_outside_memory),
        cmocka_unit_test_setup_teardown(touches_no_page_outside_its_window, setup_windows, teardown),
        TEST(shows_its_configuration_and_lets_nobody_write_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
