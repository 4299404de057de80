/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The PC's clock against a hostile guest, a port's clock that jumps, and saved state. Held against it: the interrupt's
 * level is that of enabled flags, the timer is asked while an interrupt for updates is wanted and never while the clock
 * stands, a running clock shows a date that exists, and what was saved can be loaded.
 */
#include "devices/cmos/cmos.h"
#include "devices/cmos/cmos_time.h"
#include "chip_rig.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 2000
#define NS_PER_S UINT64_C(1000000000)

static struct fake_clock timer;
static struct fake_wire wire;
static struct cmos cmos;

static void save_and_load(void)
{
    uint8_t bytes[CMOS_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    ASSERT(cmos_save(&cmos, &writer) == 0);
    struct state_record record = chip_record(bytes, writer.used);
    ASSERT(cmos_load(&cmos, &record) == 0);
}

static void load_anything(struct fuzz_input *input)
{
    uint8_t bytes[20 + CMOS_RAM_BYTES];
    struct state_record record = {.version = fuzz_u8(input), .length = sizeof(bytes), .payload = bytes};

    fuzz_bytes(input, bytes, sizeof(bytes));
    if (cmos_load(&cmos, &record) == 0)
        save_and_load();
}

static uint8_t peek(uint8_t index)
{
    struct cmos copy = cmos;

    copy.irq = NULL;
    chip_write(&copy.device, 0, 1, index);
    return (uint8_t)chip_read(&copy.device, 1, 1);
}

static void check(void)
{
    uint8_t a = cmos.ram[0x0a], b = cmos.ram[0x0b], c = cmos.ram[0x0c];
    bool stands = (b & 0x80) || (a & 0x60) == 0x60;

    ASSERT(wire.raised == ((b & c & 0x30) != 0) && wire.raised == ((c & 0x80) != 0));
    ASSERT(!stands || timer.alarm_ns == CLOCK_PORT_NEVER);
    ASSERT(stands || wire.raised || !(b & 0x10) || timer.alarm_ns != CLOCK_PORT_NEVER);
    if (stands)
        return;
    unsigned month = cmos_time_decode(peek(8), b & 4), day = cmos_time_decode(peek(7), b & 4);
    unsigned hour = cmos_time_decode_hour(peek(4), b & 4, b & 2), second = cmos_time_decode(peek(0), b & 4);
    ASSERT(month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour < 24 && second < 60);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    fake_clock_init(&timer, 1709214896);
    fake_wire_init(&wire);
    cmos_init(&cmos, &timer.port, &wire.line);
    for (unsigned step = 0; step < STEPS_MAX && input.left > 0; step++) {
        uint8_t what = fuzz_u8(&input);

        switch (what % 8) {
        case 0:
        case 1:
            chip_write(&cmos.device, 0, 2, fuzz_u16(&input));
            break;
        case 2:
            chip_write(&cmos.device, what & 8 ? 0 : 1, 1, fuzz_u8(&input));
            break;
        case 3:
            chip_read(&cmos.device, what & 8 ? 0 : 1, 1);
            break;
        case 4: /* forwards by seconds or years, or back */
            timer.now_ns += what & 8 ? NS_PER_S * (what >> 4) : UINT64_C(32000000) * NS_PER_S * (what >> 7);
            timer.now_ns -= what & 16 ? 1500000000 : 0;
            break;
        case 5:
            if (timer.alarm_ns > timer.now_ns && timer.alarm_ns < UINT64_MAX / 2)
                timer.now_ns = timer.alarm_ns;
            timer.alarm_ns = CLOCK_PORT_NEVER;
            cmos_alarm(&cmos);
            break;
        case 6:
            if (what & 8)
                save_and_load();
            else
                load_anything(&input);
            break;
        default:
            cmos_reset(&cmos);
            break;
        }
        check();
    }
    return 0;
}
