/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The PL011 against a hostile guest, an outside that sends and refuses at any time, and saved state. The input is a
 * list of steps. Held against the chip: the interrupt's level is UARTMIS, UARTFR fits the FIFOs, nobody who was refused
 * waits for word of room while the receiver is enabled and empty, and what was saved can be loaded.
 */
#include "devices/pl011/pl011.h"
#include "chip_rig.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 2000

static struct fake_uart uart;
static struct fake_wire wire;
static struct pl011 pl011;

static void check(bool waits)
{
    uint64_t flags = chip_read(&pl011.device, 0x18, 4);

    ASSERT(wire.raised == (chip_read(&pl011.device, 0x40, 4) != 0));
    ASSERT(pl011.receive.count <= PL011_FIFO_BYTES && pl011.transmit.count <= PL011_FIFO_BYTES);
    ASSERT(((flags & 0x10) != 0) == (pl011.receive.count == 0) && ((flags & 0x80) != 0) == (pl011.transmit.count == 0));
    ASSERT(!waits || uart.room_told > 0 || pl011.receive.count > 0 || (pl011.cr & 0x281) != 0x201);
}

static void save_and_load(void)
{
    uint8_t bytes[PL011_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    ASSERT(pl011_save(&pl011, &writer) == 0);
    struct state_record record = chip_record(bytes, writer.used);
    ASSERT(pl011_load(&pl011, &record) == 0);
}

static void load_anything(struct fuzz_input *input)
{
    uint8_t bytes[82];
    struct state_record record = {.version = fuzz_u8(input), .length = sizeof(bytes), .payload = bytes};

    fuzz_bytes(input, bytes, sizeof(bytes));
    if (pl011_load(&pl011, &record) == 0)
        save_and_load();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    bool waits = false;

    fake_uart_init(&uart);
    fake_wire_init(&wire);
    pl011_init(&pl011, &uart.port, &wire.line);
    for (unsigned step = 0; step < STEPS_MAX && input.left > 0; step++) {
        uint8_t what = fuzz_u8(&input);
        unsigned width = 1u << (what >> 6);
        uint8_t bytes[40];
        size_t count;

        switch (what % 8) {
        case 0:
        case 1:
            count = fuzz_u8(&input) % 0x50u;
            chip_write(&pl011.device, count, width, fuzz_u16(&input));
            break;
        case 2:
            chip_read(&pl011.device, fuzz_u16(&input) % (PL011_BYTES - width + 1), width);
            break;
        case 3:
            chip_read(&pl011.device, 0, 4);
            break;
        case 4:
            count = fuzz_u8(&input) % sizeof(bytes);
            fuzz_bytes(&input, bytes, count);
            uart.room_told = 0;
            waits = pl011_input(&pl011, bytes, count) < count;
            break;
        case 5:
            uart.willing = what & 8 ? SIZE_MAX : what >> 4;
            pl011_output_ready(&pl011);
            break;
        case 6:
            if (what & 8)
                save_and_load();
            else
                load_anything(&input);
            break;
        default:
            pl011_reset(&pl011);
            break;
        }
        check(waits);
    }
    return 0;
}
