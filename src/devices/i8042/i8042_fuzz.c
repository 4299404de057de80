/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The keyboard controller against a hostile guest and saved state: pairs of a step and a byte. Held against it: it is
 * never busy (a driver would wait), the interrupt is raised only for a byte that is there, a reset comes only from a
 * write, and what was saved can be loaded.
 */
#include "devices/i8042/i8042.h"
#include "chip_rig.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 2000

static struct fake_wire wire;
static struct i8042 i8042;
static unsigned resets;

static void note_reset(struct i8042_port *port)
{
    (void)port;
    resets++;
}

static void save_and_load(void)
{
    uint8_t bytes[I8042_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    ASSERT(i8042_save(&i8042, &writer) == 0);
    struct state_record record = chip_record(bytes, writer.used);
    ASSERT(i8042_load(&i8042, &record) == 0);
}

static void load_anything(struct fuzz_input *input, uint8_t version)
{
    uint8_t bytes[36];
    struct state_record record = {.version = version, .length = sizeof(bytes), .payload = bytes};

    fuzz_bytes(input, bytes, sizeof(bytes));
    if (i8042_load(&i8042, &record) == 0)
        save_and_load();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct i8042_port_class class = {.reset = note_reset};
    struct i8042_port port = {&class};
    struct fuzz_input input = {data, size};

    resets = 0;
    fake_wire_init(&wire);
    i8042_init(&i8042, &port, &wire.line);
    for (unsigned step = 0; step < STEPS_MAX && input.left > 0; step++) {
        uint8_t what = fuzz_u8(&input), byte = fuzz_u8(&input);
        unsigned before = resets;

        switch (what % 6) {
        case 0:
            chip_write(&i8042.command, 0, 1, byte);
            before += byte >= 0xf0 && !(byte & 1);
            break;
        case 1:
            before += i8042.awaited_by == 0xd1 && !(byte & 1);
            chip_write(&i8042.data, 0, 1, byte);
            break;
        case 2:
            chip_read(&i8042.data, 0, 1);
            ASSERT(!wire.raised);
            break;
        case 3:
            load_anything(&input, byte);
            break;
        case 4:
            save_and_load();
            break;
        default:
            i8042_reset(&i8042);
            break;
        }
        uint64_t status = chip_read(&i8042.command, 0, 1);
        ASSERT(resets == before && (status & 0x02) == 0 && (!wire.raised || (status & 0x01)));
    }
    return 0;
}
