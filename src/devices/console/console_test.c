/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio-console against a faked driver and a faked terminal (VIRTIO 1.3, 5.3). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "device_rig.h"
#include "devices/console/console.h"

#define RECEIVE VIRTIO_CONSOLE_RECEIVEQ
#define TRANSMIT VIRTIO_CONSOLE_TRANSMITQ

/* What one call of run puts out at most. */
#define TURN_BYTES 65536

struct fake_terminal {
    struct console_port port;
    uint8_t shown[200000];
    size_t shown_bytes;
    size_t room;       /* then -EAGAIN */
    size_t at_once;    /* 0: all; else short writes */
    const char *typed; /* what is left of it */
    unsigned asked;    /* calls of input */
    size_t asked_most;
    unsigned rests[CONSOLE_QUEUES];
    uint8_t emergency[8];
    unsigned emergencies;
};

struct world {
    struct device_rig rig;
    struct fake_terminal terminal;
    struct console console;
};

static struct fake_terminal *terminal_of(struct console_port *port)
{
    return container_of(port, struct fake_terminal, port);
}

static int terminal_output(struct console_port *port, const void *bytes, size_t size)
{
    struct fake_terminal *terminal = terminal_of(port);

    assert_in_range(size, 1, CONSOLE_PIECE_BYTES);
    if (terminal->room == 0)
        return -EAGAIN;
    size_t taken = size_min(size, terminal->room);
    if (terminal->at_once != 0)
        taken = size_min(taken, terminal->at_once);
    assert_true(terminal->shown_bytes + taken <= sizeof(terminal->shown));
    memcpy(terminal->shown + terminal->shown_bytes, bytes, taken);
    terminal->shown_bytes += taken;
    terminal->room -= taken;
    return (int)taken;
}

static int terminal_input(struct console_port *port, void *bytes, size_t size)
{
    struct fake_terminal *terminal = terminal_of(port);

    assert_in_range(size, 1, CONSOLE_PIECE_BYTES);
    terminal->asked++;
    if (size > terminal->asked_most)
        terminal->asked_most = size;
    size_t given = size_min(size, strlen(terminal->typed));
    if (given == 0)
        return -EAGAIN;
    memcpy(bytes, terminal->typed, given);
    terminal->typed += given;
    return (int)given;
}

static void terminal_rest(struct console_port *port, unsigned index)
{
    assert_true(index < CONSOLE_QUEUES);
    terminal_of(port)->rests[index]++;
}

static void terminal_emergency(struct console_port *port, uint8_t byte)
{
    struct fake_terminal *terminal = terminal_of(port);

    assert_true(terminal->emergencies < sizeof(terminal->emergency));
    terminal->emergency[terminal->emergencies++] = byte;
}

static const struct console_port_class terminal_class = {
    .output = terminal_output, .input = terminal_input, .rest = terminal_rest, .emergency = terminal_emergency};
static const struct console_port_class plain_class = {.output = terminal_output, .input = terminal_input};

static struct world *make(struct device_rig_shape shape, const struct console_port_class *class,
                          const struct console_options *options)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    shape.queues = CONSOLE_QUEUES;
    shape.request_bytes = console_request_bytes();
    device_rig_init(&world->rig, &shape);
    world->terminal = (struct fake_terminal){.port.class = class, .room = SIZE_MAX, .typed = ""};
    console_init(&world->console, world->rig.queues, &world->terminal.port, options);
    device_rig_attach(&world->rig, &world->console.device, 0);
    return world;
}

static const struct console_options sized = {.has_size = true, .cols = 80, .rows = 25};

static int setup(void **state)
{
    *state = make((struct device_rig_shape){0}, &terminal_class, &sized);
    return 0;
}

static int setup_windows(void **state)
{
    *state = make((struct device_rig_shape){.windows = true, .ring_size = 32}, &terminal_class, &sized);
    return 0;
}

static int setup_packed(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    const struct device_rig_shape shape = {.queues = CONSOLE_QUEUES, .packed = true, .in_order = true};
    device_rig_init(&world->rig, &shape);
    world->terminal = (struct fake_terminal){.port.class = &terminal_class, .room = SIZE_MAX, .typed = ""};
    console_init(&world->console, world->rig.queues, &world->terminal.port, &sized);
    world->console.device.offers_packed = true;
    device_rig_attach(&world->rig, &world->console.device, 0);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
        assert_true(virtio_device_queue_stop(world->rig.device, i) & VIRTIO_EVENT_STOPPED);
    device_rig_done(&world->rig); /* with windows: nothing has stayed mapped */
    free(world);
    return 0;
}

/* The guest writes @text. */
static void write_text(struct world *world, const char *text)
{
    uint32_t length = (uint32_t)strlen(text);
    uint64_t address = device_rig_high(&world->rig, length + 1);
    const struct fake_piece piece = {.address = address, .length = length};

    for (uint32_t i = 0; i < length; i++)
        *(char *)device_rig_host(&world->rig, address + i) = text[i];
    assert_true(fake_driver_add(&world->rig.drivers[TRANSMIT], &piece, 1) >= 0);
}

/* The guest has room for @length bytes; returns where. */
static uint64_t offer(struct world *world, uint32_t length)
{
    uint64_t address = device_rig_high(&world->rig, length + 1);
    const struct fake_piece piece = {.address = address, .length = length, .writable = true};

    assert_true(fake_driver_add(&world->rig.drivers[RECEIVE], &piece, 1) >= 0);
    return address;
}

static void expect_shown(const struct world *world, const char *text)
{
    assert_int_equal(world->terminal.shown_bytes, strlen(text));
    assert_memory_equal(world->terminal.shown, text, strlen(text));
}

static void expect_bytes(struct world *world, uint64_t address, const char *text)
{
    for (size_t i = 0; text[i] != '\0'; i++)
        assert_int_equal(*(char *)device_rig_host(&world->rig, address + i), text[i]);
}

/* The next used entry's length, or -1 when there is none. */
static int64_t used(struct world *world, unsigned index)
{
    uint32_t head, length;

    return fake_driver_get(&world->rig.drivers[index], &head, &length) ? (int64_t)length : -1;
}

/* ---- output, 5.3.6 ---- */

static void shows_what_the_guest_writes_in_its_order(void **state)
{
    struct world *world = *state;

    write_text(world, "one ");
    write_text(world, "two ");
    write_text(world, "three");
    assert_true(device_rig_run(&world->rig, TRANSMIT) & VIRTIO_EVENT_NOTIFY);
    expect_shown(world, "one two three");
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(used(world, TRANSMIT), 0); /* nothing of it was written to */
    assert_int_equal(used(world, TRANSMIT), -1);
    assert_int_equal(atomic_load(&world->console.output_bytes_total), 13);
}

static void a_terminal_that_takes_a_byte_at_a_time_gets_all_of_them(void **state)
{
    struct world *world = *state;

    world->terminal.at_once = 1;
    write_text(world, "slowly");
    device_rig_run(&world->rig, TRANSMIT);
    expect_shown(world, "slowly");
    assert_int_equal(used(world, TRANSMIT), 0);
}

static void a_request_waits_for_room_and_goes_on_where_it_was(void **state)
{
    struct world *world = *state;

    world->terminal.room = 6;
    write_text(world, "all");
    write_text(world, " of this");
    write_text(world, " in order");
    assert_false(device_rig_run(&world->rig, TRANSMIT) & VIRTIO_EVENT_AGAIN);
    expect_shown(world, "all of");
    assert_int_equal(used(world, TRANSMIT), 0);
    assert_int_equal(used(world, TRANSMIT), -1);
    assert_int_equal(world->rig.queues[TRANSMIT].out_count, 0);
    assert_int_equal(world->terminal.rests[TRANSMIT], 0); /* it waits for room */
    device_rig_wake(&world->rig, TRANSMIT);
    expect_shown(world, "all of");
    world->terminal.room = SIZE_MAX;
    device_rig_wake(&world->rig, TRANSMIT);
    expect_shown(world, "all of this in order");
    assert_int_equal(used(world, TRANSMIT), 0);
    assert_int_equal(used(world, TRANSMIT), 0);
    assert_int_equal(world->terminal.rests[TRANSMIT], 1);
}

static void a_request_in_pieces_goes_on_in_the_right_one(void **state)
{
    struct world *world = *state;
    uint64_t address = device_rig_high(&world->rig, 16);
    const struct fake_piece pieces[] = {{address, 1, false}, {address + 1, 3, false}, {address + 4, 4, false}};

    for (unsigned i = 0; i < 8; i++)
        *(char *)device_rig_host(&world->rig, address + i) = (char)('a' + i);
    assert_true(fake_driver_add(&world->rig.drivers[TRANSMIT], pieces, 3) >= 0);
    for (unsigned i = 0; i < 8; i++) {
        world->terminal.room = 1;
        device_rig_run(&world->rig, TRANSMIT);
        assert_int_equal(world->terminal.shown_bytes, i + 1);
    }
    expect_shown(world, "abcdefgh");
    assert_int_equal(used(world, TRANSMIT), 0);
}

static void a_stop_shows_nothing_twice_and_loses_nothing(void **state)
{
    struct world *world = *state;

    world->terminal.room = 3;
    write_text(world, "abcdef");
    device_rig_run(&world->rig, TRANSMIT);
    assert_true(virtio_device_queue_stop(world->rig.device, TRANSMIT) & VIRTIO_EVENT_STOPPED);
    assert_int_equal(world->terminal.rests[TRANSMIT], 1);
    world->terminal.room = SIZE_MAX;
    device_rig_start(&world->rig, TRANSMIT);
    device_rig_run(&world->rig, TRANSMIT);
    expect_shown(world, "abcdef");
}

static void a_ring_that_begins_elsewhere_is_shown_from_its_beginning(void **state)
{
    struct world *world = *state;

    write_text(world, "first ");
    device_rig_run(&world->rig, TRANSMIT);
    world->terminal.room = 3;
    write_text(world, "abcdef");
    device_rig_run(&world->rig, TRANSMIT);
    assert_true(virtio_device_queue_stop(world->rig.device, TRANSMIT) & VIRTIO_EVENT_STOPPED);
    /* The driver resets this queue alone (2.6.1), and makes it anew. */
    struct fake_driver *driver = &world->rig.drivers[TRANSMIT];
    struct fake_memory memory = driver->memory;
    fake_driver_init(driver, &memory, driver->desc_address, driver->size, 0);
    virtqueue_set_base(&world->rig.queues[TRANSMIT], 0);
    device_rig_start(&world->rig, TRANSMIT);
    world->terminal.room = SIZE_MAX;
    write_text(world, "whole");
    device_rig_run(&world->rig, TRANSMIT);
    expect_shown(world, "first abcwhole");
}

static void a_reset_forgets_what_was_half_shown(void **state)
{
    struct world *world = *state;

    world->terminal.room = 3;
    write_text(world, "abcdef");
    device_rig_run(&world->rig, TRANSMIT);
    for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
        virtio_device_queue_stop(world->rig.device, i);
    virtio_device_reset(world->rig.device);
    world->terminal.room = SIZE_MAX;
    device_rig_start(&world->rig, TRANSMIT);
    device_rig_run(&world->rig, TRANSMIT);
    expect_shown(world, "abcabcdef");
}

static void what_was_half_shown_is_saved(void **state)
{
    struct world *world = *state;
    struct world *other = make((struct device_rig_shape){0}, &terminal_class, &sized);
    uint8_t bytes[512];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    world->terminal.room = 3;
    write_text(world, "abcdef");
    write_text(other, "abcdef");
    device_rig_run(&world->rig, TRANSMIT);
    for (unsigned i = 0; i < CONSOLE_QUEUES; i++) {
        virtio_device_queue_stop(world->rig.device, i);
        virtio_device_queue_stop(other->rig.device, i);
    }
    assert_int_equal(virtio_device_save(world->rig.device, &writer), 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    assert_int_equal(virtio_device_load(other->rig.device, &reader), 0);
    device_rig_start(&other->rig, TRANSMIT);
    device_rig_run(&other->rig, TRANSMIT);
    expect_shown(other, "def");
    teardown((void **)&other);
}

static void a_state_that_makes_no_sense_is_refused(void **state)
{
    struct world *world = *state;
    uint8_t bytes[512];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
        virtio_device_queue_stop(world->rig.device, i);
    assert_int_equal(virtio_device_save(world->rig.device, &writer), 0);
    uint8_t *record = bytes + writer.used - 8 - STATE_RECORD_HEADER_BYTES;
    put_le16(record + 4, 2); /* a newer version */
    struct state_reader newer = {.bytes = bytes, .size = writer.used};
    assert_int_equal(virtio_device_load(world->rig.device, &newer), -ENOTSUP);
    put_le16(record + 4, 1);
    put_le32(record + 8, 4); /* a shorter record, and what is left of it is none */
    struct state_reader shorter = {.bytes = bytes, .size = writer.used};
    assert_int_equal(virtio_device_load(world->rig.device, &shorter), -EBADMSG);
}

static void one_turn_puts_out_no_more_than_a_pipe_holds(void **state)
{
    struct world *world = *state;
    uint64_t address = device_rig_high(&world->rig, 150000);
    const struct fake_piece piece = {address, 150000, false};

    memset(device_rig_host(&world->rig, address), 'x', 150000);
    assert_true(fake_driver_add(&world->rig.drivers[TRANSMIT], &piece, 1) >= 0);
    assert_true(device_rig_run(&world->rig, TRANSMIT) & VIRTIO_EVENT_AGAIN);
    assert_int_equal(world->terminal.shown_bytes, TURN_BYTES);
    assert_true(device_rig_run(&world->rig, TRANSMIT) & VIRTIO_EVENT_AGAIN);
    assert_false(device_rig_run(&world->rig, TRANSMIT) & VIRTIO_EVENT_AGAIN);
    assert_int_equal(world->terminal.shown_bytes, 150000);
    assert_int_equal(used(world, TRANSMIT), 0);
}

static void a_request_that_is_exchanged_while_it_waits_harms_nobody(void **state)
{
    struct world *world = *state;
    struct fake_driver *driver = &world->rig.drivers[TRANSMIT];

    world->terminal.room = 4;
    write_text(world, "abcdef");
    device_rig_run(&world->rig, TRANSMIT);
    driver->desc[0].length = cpu_to_le32(2); /* shorter than what was shown */
    world->terminal.room = SIZE_MAX;
    device_rig_wake(&world->rig, TRANSMIT);
    write_text(world, "next");
    device_rig_run(&world->rig, TRANSMIT);
    expect_shown(world, "abcdnext");
}

static void writable_parts_of_output_are_passed_over(void **state)
{
    struct world *world = *state;
    uint64_t address = device_rig_high(&world->rig, 16);
    const struct fake_piece pieces[] = {{address, 2, false}, {address + 2, 2, true}};
    const struct fake_piece nothing = {address, 4, true};

    memcpy(device_rig_host(&world->rig, address), "ok??", 4);
    assert_true(fake_driver_add(&world->rig.drivers[TRANSMIT], pieces, 2) >= 0);
    assert_true(fake_driver_add(&world->rig.drivers[TRANSMIT], &nothing, 1) >= 0);
    device_rig_run(&world->rig, TRANSMIT);
    expect_shown(world, "ok");
    assert_int_equal(used(world, TRANSMIT), 0);
    assert_int_equal(used(world, TRANSMIT), 0);
}

/* ---- input ---- */

static void gives_what_was_typed(void **state)
{
    struct world *world = *state;
    uint64_t first = offer(world, 4), second = offer(world, 100);

    world->terminal.typed = "hello";
    assert_true(device_rig_run(&world->rig, RECEIVE) & VIRTIO_EVENT_NOTIFY);
    assert_int_equal(used(world, RECEIVE), 4);
    assert_int_equal(used(world, RECEIVE), 1);
    expect_bytes(world, first, "hell");
    expect_bytes(world, second, "o");
    assert_int_equal(atomic_load(&world->console.input_bytes_total), 5);
}

static void a_buffer_waits_until_something_is_typed(void **state)
{
    struct world *world = *state;
    uint64_t address = offer(world, 16);

    assert_int_equal(device_rig_run(&world->rig, RECEIVE) & (VIRTIO_EVENT_AGAIN | VIRTIO_EVENT_NOTIFY), 0);
    assert_int_equal(used(world, RECEIVE), -1);
    assert_int_equal(world->terminal.rests[RECEIVE], 0); /* it wants to be woken */
    assert_int_equal(world->rig.queues[RECEIVE].out_count, 0);
    world->terminal.typed = "x";
    assert_true(device_rig_wake(&world->rig, RECEIVE) & VIRTIO_EVENT_NOTIFY);
    assert_int_equal(used(world, RECEIVE), 1);
    expect_bytes(world, address, "x");
}

static void nothing_is_asked_for_while_the_guest_has_no_room(void **state)
{
    struct world *world = *state;

    world->terminal.typed = "typed ahead";
    device_rig_wake(&world->rig, RECEIVE);
    assert_int_equal(world->terminal.asked, 0);
    assert_int_equal(world->terminal.rests[RECEIVE], 1);
    offer(world, 5);
    device_rig_run(&world->rig, RECEIVE);
    assert_int_equal(world->terminal.asked, 1);
    assert_string_equal(world->terminal.typed, " ahead");
    assert_int_equal(world->terminal.rests[RECEIVE], 2); /* its one buffer is full */
}

static void a_queue_that_stops_waits_for_no_input(void **state)
{
    struct world *world = *state;

    offer(world, 5);
    device_rig_run(&world->rig, RECEIVE);
    assert_int_equal(world->terminal.rests[RECEIVE], 0);
    assert_true(virtio_device_queue_stop(world->rig.device, RECEIVE) & VIRTIO_EVENT_STOPPED);
    assert_int_equal(world->terminal.rests[RECEIVE], 1);
}

static void a_buffer_without_room_comes_back_empty(void **state)
{
    struct world *world = *state;
    uint64_t address = device_rig_high(&world->rig, 16);
    const struct fake_piece readable = {address, 4, false};

    world->terminal.typed = "x";
    assert_true(fake_driver_add(&world->rig.drivers[RECEIVE], &readable, 1) >= 0);
    device_rig_run(&world->rig, RECEIVE);
    assert_int_equal(used(world, RECEIVE), 0);
    assert_int_equal(world->terminal.asked, 0);
}

static void a_large_buffer_is_filled_by_a_piece_at_most(void **state)
{
    struct world *world = *state;

    offer(world, 100000);
    device_rig_run(&world->rig, RECEIVE);
    assert_int_equal(world->terminal.asked_most, CONSOLE_PIECE_BYTES);
}

static void a_broken_guest_waits_for_nothing(void **state)
{
    struct world *world = *state;

    fake_driver_set_avail_index(&world->rig.drivers[RECEIVE], 5000);
    assert_true(virtio_device_run(world->rig.device, RECEIVE, 16) & VIRTIO_EVENT_NEEDS_RESET);
    assert_int_equal(world->terminal.rests[RECEIVE], 1);
    assert_int_equal(world->terminal.asked, 0);
}

/* ---- configuration, 5.3.4 ---- */

static void tells_its_size_and_that_it_has_changed(void **state)
{
    struct world *world = *state;
    struct virtio_console_config config;
    uint32_t generation = atomic_load(&world->console.device.config_generation);

    virtio_device_config_read(world->rig.device, 0, &config, sizeof(config));
    assert_int_equal(le16_to_cpu(config.cols), 80);
    assert_int_equal(le16_to_cpu(config.rows), 25);
    assert_int_equal(config.max_nr_ports, 0);
    assert_int_equal(config.emerg_wr, 0);
    assert_false(console_resize(&world->console, 80, 25));
    assert_int_equal(atomic_load(&world->console.device.config_generation), generation);
    assert_true(console_resize(&world->console, 132, 43));
    assert_int_equal(atomic_load(&world->console.device.config_generation), generation + 1);
    virtio_device_config_read(world->rig.device, 2, &config, 2);
    assert_int_equal(le16_to_cpu(config.cols), 43);
}

static void offers_no_size_and_no_emergency_write_where_there_are_none(void **state)
{
    struct world *world = *state;
    const struct console_options none = {.has_size = false};
    struct world *plain = make((struct device_rig_shape){0}, &plain_class, &none);
    uint8_t byte = 'x';

    assert_int_equal(world->rig.device->class->features(world->rig.device),
                     VIRTIO_CONSOLE_F_SIZE | VIRTIO_CONSOLE_F_EMERG_WRITE);
    assert_int_equal(plain->rig.device->class->features(plain->rig.device), 0);
    assert_false(console_resize(&plain->console, 1, 1));
    assert_int_equal(virtio_device_config_write(plain->rig.device, 8, &byte, 1), -EPERM);
    virtio_device_queue_stop(plain->rig.device, RECEIVE); /* a port without rest */
    teardown((void **)&plain);
}

static void an_emergency_write_needs_neither_queue_nor_features(void **state)
{
    struct world *world = *state;
    const uint32_t word = cpu_to_le32('W');
    const uint8_t byte = 'B';

    for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
        virtio_device_queue_stop(world->rig.device, i);
    virtio_device_reset(world->rig.device);
    assert_int_equal(virtio_device_config_write(world->rig.device, 8, &word, 4), 0);
    assert_int_equal(virtio_device_config_write(world->rig.device, 8, &byte, 1), 0);
    assert_int_equal(world->terminal.emergencies, 2);
    assert_memory_equal(world->terminal.emergency, "WB", 2);
    assert_int_equal(virtio_device_config_write(world->rig.device, 8, &byte, 0), -EPERM);
    assert_int_equal(virtio_device_config_write(world->rig.device, 0, &word, 4), -EPERM);
    assert_int_equal(virtio_device_config_write(world->rig.device, 9, &byte, 1), -EPERM);
    assert_int_equal(virtio_device_config_write(world->rig.device, 12, &byte, 1), -EINVAL);
    assert_int_equal(world->terminal.emergencies, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shows_what_the_guest_writes_in_its_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_terminal_that_takes_a_byte_at_a_time_gets_all_of_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_waits_for_room_and_goes_on_where_it_was, setup, teardown),
        {"packed: a_request_waits_for_room_and_goes_on_where_it_was", a_request_waits_for_room_and_goes_on_where_it_was,
         setup_packed, teardown, NULL},
        {"windows: a_request_waits_for_room_and_goes_on_where_it_was",
         a_request_waits_for_room_and_goes_on_where_it_was, setup_windows, teardown, NULL},
        cmocka_unit_test_setup_teardown(a_request_in_pieces_goes_on_in_the_right_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stop_shows_nothing_twice_and_loses_nothing, setup, teardown),
        {"packed: a_stop_shows_nothing_twice_and_loses_nothing", a_stop_shows_nothing_twice_and_loses_nothing,
         setup_packed, teardown, NULL},
        cmocka_unit_test_setup_teardown(a_ring_that_begins_elsewhere_is_shown_from_its_beginning, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_forgets_what_was_half_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_half_shown_is_saved, setup, teardown),
        cmocka_unit_test_setup_teardown(a_state_that_makes_no_sense_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(one_turn_puts_out_no_more_than_a_pipe_holds, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_that_is_exchanged_while_it_waits_harms_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(writable_parts_of_output_are_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(gives_what_was_typed, setup, teardown),
        {"windows: gives_what_was_typed", gives_what_was_typed, setup_windows, teardown, NULL},
        cmocka_unit_test_setup_teardown(a_buffer_waits_until_something_is_typed, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_asked_for_while_the_guest_has_no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(a_queue_that_stops_waits_for_no_input, setup, teardown),
        cmocka_unit_test_setup_teardown(a_buffer_without_room_comes_back_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_buffer_is_filled_by_a_piece_at_most, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broken_guest_waits_for_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_its_size_and_that_it_has_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(offers_no_size_and_no_emergency_write_where_there_are_none, setup, teardown),
        cmocka_unit_test_setup_teardown(an_emergency_write_needs_neither_queue_nor_features, setup, teardown),
    };
    return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}
