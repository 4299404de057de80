/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The 16550A against a hostile guest, an outside that sends and refuses at any time, and saved state. The input is a
 * list of steps. Held against the chip: the interrupt's level is what IIR says, FIFOs stay within their depth, nobody
 * who was refused waits for word of room while the receiver is empty, and what was saved can be loaded.
 */
#include "devices/serial/serial.h"
#include "chip_rig.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 2000

static struct fake_uart uart;
static struct fake_wire wire;
static struct serial serial;

/* Bit 0 of IIR, without the effects of looking. */
static bool has_interrupt(void)
{
    struct serial copy = serial;

    copy.irq = NULL;
    return (chip_read(&copy.device, 2, 1) & 1) == 0;
}

static void check(bool waits)
{
    ASSERT(wire.raised == has_interrupt());
    ASSERT(serial.receive.count <= SERIAL_FIFO_BYTES && serial.transmit.count <= SERIAL_FIFO_BYTES);
    ASSERT(!waits || uart.room_told > 0 || serial.receive.count > 0 || (serial.modem_control & 0x10));
}

static void save_and_load(void)
{
    uint8_t bytes[SERIAL_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    ASSERT(serial_save(&serial, &writer) == 0);
    struct state_record record = chip_record(bytes, writer.used);
    ASSERT(serial_load(&serial, &record) == 0);
}

static void load_anything(struct fuzz_input *input)
{
    uint8_t bytes[46];
    struct state_record record = {.version = fuzz_u8(input), .length = sizeof(bytes), .payload = bytes};

    fuzz_bytes(input, bytes, sizeof(bytes));
    if (serial_load(&serial, &record) == 0)
        save_and_load();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    bool waits = false;

    fake_uart_init(&uart);
    fake_wire_init(&wire);
    serial_init(&serial, &uart.port, &wire.line);
    for (unsigned step = 0; step < STEPS_MAX && input.left > 0; step++) {
        uint8_t what = fuzz_u8(&input);
        uint8_t bytes[24];
        unsigned width = 1u << (what >> 6);
        uint64_t offset = (what >> 3) % (SERIAL_BYTES - width + 1);

        switch (what % 8) {
        case 0:
        case 1:
            chip_write(&serial.device, offset, width, width == 8 ? fuzz_u64(&input) : fuzz_u8(&input));
            break;
        case 2:
        case 3:
            chip_read(&serial.device, offset, width);
            break;
        case 4:
            fuzz_bytes(&input, bytes, what % sizeof(bytes));
            uart.room_told = 0;
            waits = serial_input(&serial, bytes, what % sizeof(bytes)) < what % sizeof(bytes);
            break;
        case 5:
            uart.willing = what & 8 ? SIZE_MAX : what >> 4;
            serial_output_ready(&serial);
            break;
        case 6:
            if (what & 8)
                save_and_load();
            else
                load_anything(&input);
            break;
        default:
            serial_reset(&serial);
            break;
        }
        check(waits);
    }
    return 0;
}
