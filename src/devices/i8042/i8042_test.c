/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "devices/i8042/i8042.h"
#include "chip_rig.h"

#define FULL 0x01
#define MOUSE 0x20
#define TIME_OUT 0x40

struct world {
    struct i8042_port port;
    unsigned resets;
    struct fake_wire wire;
    struct i8042 i8042;
};

static void note_reset(struct i8042_port *port)
{
    container_of(port, struct world, port)->resets++;
}

static int setup(void **state)
{
    static const struct i8042_port_class class = {.reset = note_reset};
    static struct world world;

    world = (struct world){.port.class = &class};
    fake_wire_init(&world.wire);
    i8042_init(&world.i8042, &world.port, &world.wire.line);
    *state = &world;
    return 0;
}

static uint8_t status(struct world *world)
{
    return (uint8_t)chip_read(&world->i8042.command, 0, 1);
}

static uint8_t get(struct world *world)
{
    return (uint8_t)chip_read(&world->i8042.data, 0, 1);
}

static void put(struct world *world, uint8_t byte)
{
    chip_write(&world->i8042.data, 0, 1, byte);
}

static void command(struct world *world, uint8_t byte)
{
    chip_write(&world->i8042.command, 0, 1, byte);
}

static uint8_t answer_to(struct world *world, uint8_t byte)
{
    command(world, byte);
    assert_int_equal(status(world) & FULL, FULL);
    return get(world);
}

static void resets_the_machine_by_a_pulse_of_the_reset_line_alone(void **state)
{
    struct world *world = *state;

    command(world, 0xfe);
    assert_int_equal(world->resets, 1);
    for (unsigned byte = 0xf1; byte <= 0xff; byte += 2)
        command(world, (uint8_t)byte);
    assert_int_equal(world->resets, 1);
    command(world, 0xf0);
    assert_int_equal(world->resets, 2);
}

static void resets_the_machine_by_the_output_port(void **state)
{
    struct world *world = *state;

    command(world, 0xd1);
    put(world, 0xdf);
    assert_int_equal(world->resets, 0);
    assert_int_equal(answer_to(world, 0xd0), 0xdf);
    command(world, 0xd1);
    put(world, 0xfe);
    assert_int_equal(world->resets, 1);
}

static void is_never_busy_nor_locked_nor_full_at_first(void **state)
{
    struct world *world = *state;

    assert_int_equal(status(world), 0x10);
    command(world, 0xad);
    assert_int_equal(status(world), 0x18); /* bit 3: that was a command */
    assert_int_equal(answer_to(world, 0xc0), 0x80);
}

static void passes_its_tests(void **state)
{
    struct world *world = *state;

    assert_int_equal(answer_to(world, 0xaa), 0x55);
    assert_int_equal(status(world) & 0x04, 0x04);
    assert_int_equal(answer_to(world, 0xab), 0x00);
    assert_int_equal(status(world) & FULL, 0);
}

static void a_driver_finds_no_mouse_at_once(void **state)
{
    struct world *world = *state;

    command(world, 0xd3);
    put(world, 0x5a);
    assert_int_equal(status(world) & (FULL | MOUSE), FULL); /* no byte of a mouse */
    assert_int_equal(answer_to(world, 0xa9), 0x01);
    command(world, 0xd4);
    put(world, 0xf2);
    assert_int_equal(status(world) & (FULL | MOUSE | TIME_OUT), FULL | MOUSE | TIME_OUT);
    assert_int_equal(get(world), 0xfe);
}

static void a_driver_finds_no_keyboard_at_once(void **state)
{
    struct world *world = *state;

    command(world, 0x60);
    put(world, 0x51); /* interrupt on, interface off */
    put(world, 0xf2);
    assert_true(world->wire.raised);
    assert_int_equal(status(world) & (FULL | MOUSE | TIME_OUT), FULL | TIME_OUT);
    assert_int_equal(get(world), 0xfe);
    assert_false(world->wire.raised);
    assert_int_equal(status(world) & (FULL | TIME_OUT), 0);
    assert_int_equal(answer_to(world, 0x20), 0x41); /* a byte for the keyboard switches its interface on */
}

static void keeps_its_memory_and_the_switches_in_the_command_byte(void **state)
{
    struct world *world = *state;

    for (unsigned i = 0; i < I8042_RAM_BYTES; i++) {
        command(world, (uint8_t)(0x60 + i));
        put(world, (uint8_t)(0x30 ^ i));
    }
    for (unsigned i = 0; i < I8042_RAM_BYTES; i++)
        assert_int_equal(answer_to(world, (uint8_t)(0x20 + i)), 0x30 ^ i);
    command(world, 0xae);
    assert_int_equal(answer_to(world, 0x20), 0x20);
    command(world, 0xa8);
    assert_int_equal(answer_to(world, 0x20), 0x00);
    command(world, 0xad);
    command(world, 0xa7);
    assert_int_equal(answer_to(world, 0x20), 0x30);
}

static void interrupts_only_while_that_is_enabled_and_never_for_a_mouse(void **state)
{
    struct world *world = *state;

    command(world, 0xd2);
    put(world, 0x1e);
    assert_false(world->wire.raised);
    command(world, 0x60);
    put(world, 0x01);
    assert_true(world->wire.raised);
    assert_int_equal(get(world), 0x1e);
    assert_false(world->wire.raised);
    command(world, 0xd4);
    put(world, 0xff);
    assert_false(world->wire.raised);
}

static void a_command_forgets_the_one_that_waits_for_a_parameter(void **state)
{
    struct world *world = *state;

    command(world, 0xd1);
    command(world, 0xae);
    put(world, 0x00); /* for the keyboard, not the output port */
    assert_int_equal(world->resets, 0);
    assert_int_equal(get(world), 0xfe);
}

static void reset_is_power_on(void **state)
{
    struct world *world = *state;

    command(world, 0x60);
    put(world, 0x01);
    command(world, 0xaa);
    assert_true(world->wire.raised);
    i8042_reset(&world->i8042);
    assert_false(world->wire.raised);
    assert_int_equal(status(world), 0x10);
    assert_int_equal(answer_to(world, 0x20), 0x60);
}

static void goes_on_from_saved_state(void **state)
{
    struct world *world = *state;
    uint8_t bytes[I8042_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    command(world, 0x60);
    put(world, 0x01);
    command(world, 0xaa);
    command(world, 0xd1);
    assert_int_equal(i8042_save(&world->i8042, &writer), 0);
    struct state_record record = chip_record(bytes, writer.used);
    assert_int_equal(record.tag, I8042_STATE_TAG);

    setup(state);
    assert_int_equal(i8042_load(&world->i8042, &record), 0);
    assert_true(world->wire.raised);
    assert_int_equal(get(world), 0x55);
    put(world, 0x00);
    assert_int_equal(world->resets, 1);

    uint8_t *payload = bytes + STATE_RECORD_HEADER_BYTES;
    payload[0] |= 0x02;
    assert_int_equal(i8042_load(&world->i8042, &record), -EBADMSG);
    payload[0] &= 0xfd;
    payload[3] = 0xaa; /* takes no parameter */
    assert_int_equal(i8042_load(&world->i8042, &record), -EBADMSG);
    payload[3] = 0;
    record.version++;
    assert_int_equal(i8042_load(&world->i8042, &record), -ENOTSUP);
    record.version--;
    record.length--;
    assert_int_equal(i8042_load(&world->i8042, &record), -EBADMSG);
    writer = (struct state_writer){.bytes = bytes, .size = 20};
    assert_int_equal(i8042_save(&world->i8042, &writer), -ENOSPC);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(resets_the_machine_by_a_pulse_of_the_reset_line_alone),
        TEST(resets_the_machine_by_the_output_port),
        TEST(is_never_busy_nor_locked_nor_full_at_first),
        TEST(passes_its_tests),
        TEST(a_driver_finds_no_mouse_at_once),
        TEST(a_driver_finds_no_keyboard_at_once),
        TEST(keeps_its_memory_and_the_switches_in_the_command_byte),
        TEST(interrupts_only_while_that_is_enabled_and_never_for_a_mouse),
        TEST(a_command_forgets_the_one_that_waits_for_a_parameter),
        TEST(reset_is_power_on),
        TEST(goes_on_from_saved_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
