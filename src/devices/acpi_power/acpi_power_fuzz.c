/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The power registers against a hostile guest, a button and saved state. Held against them: power-off and reset come
 * only by the value that means it, every press is an edge, and an event stays until a 1 is written to it.
 */
#include "devices/acpi_power/acpi_power.h"
#include "chip_rig.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 2000

static unsigned power_offs, resets;

static void note_power_off(struct acpi_power_port *port)
{
    (void)port;
    power_offs++;
}

static void note_reset(struct acpi_power_port *port)
{
    (void)port;
    resets++;
}

static void save_and_load(struct acpi_power *power)
{
    uint8_t bytes[ACPI_POWER_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    ASSERT(acpi_power_save(power, &writer) == 0);
    struct state_record record = chip_record(bytes, writer.used);
    ASSERT(acpi_power_load(power, &record) == 0);
}

/* Writes @value, and holds what it does against what each of its bytes means. */
static void write(struct acpi_power *power, uint64_t offset, unsigned width, uint64_t value)
{
    unsigned expected_offs = power_offs, expected_resets = resets, expected_events = power->events;

    for (unsigned i = 0; i < width; i++) {
        uint8_t byte = (uint8_t)(value >> 8 * i);
        expected_offs += offset + i == 0 && (byte & 0x3c) == 0x34;
        expected_resets += offset + i == 2 && byte == 1;
        expected_events &= offset + i == 3 ? ~(unsigned)byte : ~0u;
    }
    chip_write(&power->device, offset, width, value);
    ASSERT(power_offs == expected_offs && resets == expected_resets && power->events == expected_events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct acpi_power_port_class class = {.power_off = note_power_off, .reset = note_reset};
    struct acpi_power_port port = {&class};
    struct fuzz_input input = {data, size};
    struct fake_wire wire;
    struct acpi_power power;
    uint8_t bytes[4];

    fake_wire_init(&wire);
    acpi_power_init(&power, &port, &wire.line);
    power_offs = resets = 0;
    for (unsigned step = 0; step < STEPS_MAX && input.left > 0; step++) {
        uint8_t what = fuzz_u8(&input);
        unsigned width = 1u << (what >> 4) % 3, pulses = wire.pulses;
        uint64_t offset = (what >> 6) % (ACPI_POWER_BYTES - width + 1);
        struct state_record record = {.version = what >> 4, .length = sizeof(bytes), .payload = bytes};

        switch (what % 5) {
        case 0:
            write(&power, offset, width, fuzz_u32(&input));
            break;
        case 1:
            ASSERT(chip_read(&power.device, 0, 4) == (uint32_t)power.events << 24);
            break;
        case 2:
            acpi_power_press(&power);
            ASSERT(wire.pulses == pulses + 1 && power.events == 1);
            break;
        case 3:
            save_and_load(&power);
            break;
        default:
            fuzz_bytes(&input, bytes, sizeof(bytes));
            if (acpi_power_load(&power, &record) == 0)
                save_and_load(&power);
            break;
        }
        ASSERT((power.events & ~1u) == 0 && !wire.raised);
    }
    return 0;
}
