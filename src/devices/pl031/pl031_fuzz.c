/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The PL031 against a hostile guest, a clock that jumps, and saved state. Held against it: the interrupt's level is
 * RTCMIS, the counter is the port's time and what was loaded, the timer is asked for a time to come exactly while an
 * interrupt may come, and what was saved can be loaded.
 */
#include "devices/pl031/pl031.h"
#include "chip_rig.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 2000

static struct fake_clock timer;
static struct fake_wire wire;
static struct pl031 pl031;

static void save_and_load(void)
{
    uint8_t bytes[PL031_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    ASSERT(pl031_save(&pl031, &writer) == 0);
    struct state_record record = chip_record(bytes, writer.used);
    ASSERT(pl031_load(&pl031, &record) == 0);
}

static void load_anything(struct fuzz_input *input)
{
    uint8_t bytes[20];
    struct state_record record = {.version = fuzz_u8(input), .length = sizeof(bytes), .payload = bytes};

    fuzz_bytes(input, bytes, sizeof(bytes));
    if (pl031_load(&pl031, &record) == 0)
        save_and_load();
}

static void check(void)
{
    uint64_t now_s = timer.now_ns / UINT64_C(1000000000);
    bool interrupts = chip_read(&pl031.device, 0x18, 4) != 0;

    ASSERT(chip_read(&pl031.device, 0, 4) == (uint32_t)((uint32_t)now_s + pl031.offset_s));
    ASSERT(wire.raised == interrupts);
    ASSERT((timer.alarm_ns == CLOCK_PORT_NEVER) == (interrupts || !pl031.masked_in || pl031.raw));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    fake_clock_init(&timer, 1700000000);
    fake_wire_init(&wire);
    pl031_init(&pl031, &timer.port, &wire.line);
    for (unsigned step = 0; step < STEPS_MAX && input.left > 0; step++) {
        uint8_t what = fuzz_u8(&input);
        unsigned width = 1u << (what >> 6);

        switch (what % 8) {
        case 0:
        case 1:
            chip_write(&pl031.device, (what >> 3) % 8 * 4, width, fuzz_u32(&input));
            break;
        case 2:
            chip_read(&pl031.device, fuzz_u16(&input) % (PL031_BYTES - width + 1), width);
            break;
        case 3: /* up to a minute, forwards or back */
            timer.now_ns += UINT64_C(1000000000) * (what >> 3);
            break;
        case 4:
            timer.now_ns -= UINT64_C(100000000) * (what >> 3);
            break;
        case 5:
            if (timer.alarm_ns < UINT64_MAX / 2 && timer.alarm_ns > timer.now_ns)
                timer.now_ns = timer.alarm_ns;
            pl031_alarm(&pl031);
            break;
        case 6:
            if (what & 8)
                save_and_load();
            else
                load_anything(&input);
            break;
        default:
            pl031_reset(&pl031);
            break;
        }
        check();
    }
    return 0;
}
