/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "devices/acpi_power/acpi_power.h"
#include "chip_rig.h"

struct world {
    struct acpi_power_port port;
    unsigned power_offs, resets;
    struct fake_wire wire;
    struct acpi_power power;
};

static void note_power_off(struct acpi_power_port *port)
{
    container_of(port, struct world, port)->power_offs++;
}

static void note_reset(struct acpi_power_port *port)
{
    container_of(port, struct world, port)->resets++;
}

static int setup(void **state)
{
    static const struct acpi_power_port_class class = {.power_off = note_power_off, .reset = note_reset};
    static struct world world;

    world = (struct world){.port.class = &class};
    fake_wire_init(&world.wire);
    acpi_power_init(&world.power, &world.port, &world.wire.line);
    *state = &world;
    return 0;
}

static void put(struct world *world, unsigned offset, unsigned value)
{
    chip_write(&world->power.device, offset, 1, value);
}

static uint8_t get(struct world *world, unsigned offset)
{
    return (uint8_t)chip_read(&world->power.device, offset, 1);
}

static void powers_off_for_its_sleep_type_with_enable_alone(void **state)
{
    struct world *world = *state;

    for (unsigned value = 0; value < 256; value++) {
        world->power_offs = 0;
        put(world, 0, value);
        assert_int_equal(world->power_offs, (value & 0x3c) == (0x20 | 5 << 2));
    }
    assert_int_equal(world->resets, 0);
    assert_int_equal(get(world, 0), 0);
}

static void resets_for_its_value_alone(void **state)
{
    struct world *world = *state;

    for (unsigned value = 0; value < 256; value++)
        put(world, 2, value);
    assert_int_equal(world->resets, 1);
    assert_int_equal(world->power_offs, 0);
    assert_int_equal(get(world, 2), 0);
}

static void a_press_is_an_edge_and_a_bit_that_a_one_clears(void **state)
{
    struct world *world = *state;

    acpi_power_press(&world->power);
    assert_int_equal(world->wire.pulses, 1);
    assert_int_equal(get(world, 3), 1);
    put(world, 3, 0xfe);
    assert_int_equal(get(world, 3), 1);
    put(world, 3, 1);
    assert_int_equal(get(world, 3), 0);
    acpi_power_press(&world->power);
    acpi_power_press(&world->power);
    assert_int_equal(world->wire.pulses, 3);
    acpi_power_reset(&world->power);
    assert_int_equal(get(world, 3), 0);
}

static void it_never_wakes(void **state)
{
    struct world *world = *state;

    put(world, 1, 0x80);
    assert_int_equal(get(world, 1), 0);
}

static void an_access_of_four_bytes_is_four_registers(void **state)
{
    struct world *world = *state;

    acpi_power_press(&world->power);
    assert_int_equal(chip_read(&world->power.device, 0, 4), 0x01000000);
    chip_write(&world->power.device, 0, 4, 0x01010034);
    assert_int_equal(world->power_offs, 1);
    assert_int_equal(world->resets, 1);
    assert_int_equal(get(world, 3), 0);
}

static void a_press_without_answer_is_announced_again_after_load(void **state)
{
    struct world *world = *state;
    uint8_t bytes[ACPI_POWER_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    acpi_power_press(&world->power);
    assert_int_equal(acpi_power_save(&world->power, &writer), 0);
    struct state_record record = chip_record(bytes, writer.used);
    assert_int_equal(record.tag, ACPI_POWER_STATE_TAG);

    setup(state);
    assert_int_equal(acpi_power_load(&world->power, &record), 0);
    assert_int_equal(world->wire.pulses, 1);
    assert_int_equal(get(world, 3), 1);

    bytes[STATE_RECORD_HEADER_BYTES] = 0;
    assert_int_equal(acpi_power_load(&world->power, &record), 0);
    assert_int_equal(world->wire.pulses, 1);
    bytes[STATE_RECORD_HEADER_BYTES] = 2;
    assert_int_equal(acpi_power_load(&world->power, &record), -EBADMSG);
    record.version++;
    assert_int_equal(acpi_power_load(&world->power, &record), -ENOTSUP);
    record.version--;
    record.length--;
    assert_int_equal(acpi_power_load(&world->power, &record), -EBADMSG);
    writer = (struct state_writer){.bytes = bytes, .size = 12};
    assert_int_equal(acpi_power_save(&world->power, &writer), -ENOSPC);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(powers_off_for_its_sleep_type_with_enable_alone),
        TEST(resets_for_its_value_alone),
        TEST(a_press_is_an_edge_and_a_bit_that_a_one_clears),
        TEST(it_never_wakes),
        TEST(an_access_of_four_bytes_is_four_registers),
        TEST(a_press_without_answer_is_announced_again_after_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
