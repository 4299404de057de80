/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A command goes to port 0x64, its parameter and bytes for devices to port 0x60, and each answer is put into the one
 * output buffer at once: the controller is never busy, and drivers wait for nothing. A newer answer replaces one that
 * was not read. A byte for the keyboard or the mouse is answered as by the controller when a device does not take it:
 * 0xfe with the time-out bit, so that drivers give up at once and not after seconds.
 *
 * Limits
 *
 * There is no second interface: the test for it (0xa9) says so, and 0xd3 answers without the bit of the mouse, which
 * tells a driver the same. There is no IRQ 12. Bits of P2 other than the reset line do nothing; so does A20.
 */
#include "devices/i8042/i8042.h"

#include <assert.h>
#include <errno.h>

#define STATUS_OUTPUT_FULL (1u << 0)
#define STATUS_SYSTEM (1u << 2)  /* the self-test was passed */
#define STATUS_COMMAND (1u << 3) /* the last write went to port 0x64 */
#define STATUS_UNLOCKED (1u << 4)
#define STATUS_MOUSE (1u << 5)
#define STATUS_TIME_OUT (1u << 6)
#define STATUS_ALL 0x7du

/* Bits of the command byte. */
#define MODE_INTERRUPT (1u << 0)
#define MODE_KEYBOARD_OFF (1u << 4)
#define MODE_MOUSE_OFF (1u << 5)
#define MODE_TRANSLATE (1u << 6)

#define P2_RUN (1u << 0) /* 0: the processor is held in reset */
#define P2_A20 (1u << 1)

enum {
    COMMAND_READ_RAM = 0x20,  /* to 0x3f */
    COMMAND_WRITE_RAM = 0x60, /* to 0x7f */
    COMMAND_MOUSE_OFF = 0xa7,
    COMMAND_MOUSE_ON = 0xa8,
    COMMAND_TEST_MOUSE = 0xa9,
    COMMAND_SELF_TEST = 0xaa,
    COMMAND_TEST_KEYBOARD = 0xab,
    COMMAND_KEYBOARD_OFF = 0xad,
    COMMAND_KEYBOARD_ON = 0xae,
    COMMAND_READ_INPUT_PORT = 0xc0,
    COMMAND_READ_OUTPUT_PORT = 0xd0,
    COMMAND_WRITE_OUTPUT_PORT = 0xd1,
    COMMAND_AS_KEYBOARD = 0xd2,
    COMMAND_AS_MOUSE = 0xd3,
    COMMAND_TO_MOUSE = 0xd4,
    COMMAND_PULSE = 0xf0, /* to 0xff: the lines whose bits are 0 */
};

#define ANSWER_SELF_TEST_PASSED 0x55
#define ANSWER_TEST_PASSED 0x00
#define ANSWER_CLOCK_STUCK 0x01
#define ANSWER_NO_DEVICE 0xfe
#define INPUT_PORT_UNLOCKED 0x80

#define STATE_VERSION 1
#define STATE_BYTES (4 + I8042_RAM_BYTES)

static_assert(STATE_BYTES + STATE_RECORD_HEADER_BYTES <= I8042_STATE_BYTES_MAX, "room for the record");

static void set_line(struct i8042 *i8042)
{
    bool keyboard = (i8042->status & (STATUS_OUTPUT_FULL | STATUS_MOUSE)) == STATUS_OUTPUT_FULL;

    irq_line_set(i8042->irq, keyboard && (i8042->ram[0] & MODE_INTERRUPT));
}

/* @flags: STATUS_MOUSE, STATUS_TIME_OUT. */
static void answer(struct i8042 *i8042, uint8_t byte, unsigned flags)
{
    i8042->output = byte;
    i8042->status &= (uint8_t) ~(STATUS_MOUSE | STATUS_TIME_OUT);
    i8042->status |= (uint8_t)(STATUS_OUTPUT_FULL | flags);
}

static void pull_reset(struct i8042 *i8042)
{
    i8042->port->class->reset(i8042->port);
}

static bool takes_parameter(uint8_t command)
{
    return (command >= COMMAND_WRITE_RAM && command < COMMAND_WRITE_RAM + I8042_RAM_BYTES) ||
           (command >= COMMAND_WRITE_OUTPUT_PORT && command <= COMMAND_TO_MOUSE);
}

static void obey(struct i8042 *i8042, uint8_t command)
{
    i8042->awaited_by = takes_parameter(command) ? command : 0;
    if (command >= COMMAND_READ_RAM && command < COMMAND_READ_RAM + I8042_RAM_BYTES) {
        answer(i8042, i8042->ram[command % I8042_RAM_BYTES], 0);
        return;
    }
    if (command >= COMMAND_PULSE) {
        if (!(command & P2_RUN))
            pull_reset(i8042);
        return;
    }
    switch (command) {
    case COMMAND_MOUSE_OFF:
        i8042->ram[0] |= MODE_MOUSE_OFF;
        break;
    case COMMAND_MOUSE_ON:
        i8042->ram[0] &= (uint8_t)~MODE_MOUSE_OFF;
        break;
    case COMMAND_TEST_MOUSE:
        answer(i8042, ANSWER_CLOCK_STUCK, 0);
        break;
    case COMMAND_SELF_TEST:
        i8042->status |= STATUS_SYSTEM;
        answer(i8042, ANSWER_SELF_TEST_PASSED, 0);
        break;
    case COMMAND_TEST_KEYBOARD:
        answer(i8042, ANSWER_TEST_PASSED, 0);
        break;
    case COMMAND_KEYBOARD_OFF:
        i8042->ram[0] |= MODE_KEYBOARD_OFF;
        break;
    case COMMAND_KEYBOARD_ON:
        i8042->ram[0] &= (uint8_t)~MODE_KEYBOARD_OFF;
        break;
    case COMMAND_READ_INPUT_PORT:
        answer(i8042, INPUT_PORT_UNLOCKED, 0);
        break;
    case COMMAND_READ_OUTPUT_PORT:
        answer(i8042, i8042->output_port, 0);
        break;
    default:
        break;
    }
}

static void take_parameter(struct i8042 *i8042, uint8_t byte)
{
    uint8_t command = i8042->awaited_by;

    i8042->awaited_by = 0;
    switch (command) {
    case COMMAND_WRITE_OUTPUT_PORT:
        i8042->output_port = byte | P2_RUN; /* the pulse is short: the machine is reset, or nobody wants it to be */
        if (!(byte & P2_RUN))
            pull_reset(i8042);
        break;
    case COMMAND_AS_KEYBOARD:
    case COMMAND_AS_MOUSE:
        answer(i8042, byte, 0);
        break;
    case COMMAND_TO_MOUSE:
        answer(i8042, ANSWER_NO_DEVICE, STATUS_MOUSE | STATUS_TIME_OUT);
        break;
    case 0: /* for the keyboard, whose interface this enables */
        i8042->ram[0] &= (uint8_t)~MODE_KEYBOARD_OFF;
        answer(i8042, ANSWER_NO_DEVICE, STATUS_TIME_OUT);
        break;
    default:
        i8042->ram[command % I8042_RAM_BYTES] = byte;
        break;
    }
}

static enum bus_result data_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    struct i8042 *i8042 = container_of(device, struct i8042, data);

    (void)offset, (void)size; /* it is one byte */
    *ret_value = i8042->output;
    i8042->status &= (uint8_t) ~(STATUS_OUTPUT_FULL | STATUS_MOUSE | STATUS_TIME_OUT);
    set_line(i8042);
    return BUS_DONE;
}

static enum bus_result data_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *i8042 = container_of(device, struct i8042, data);

    (void)offset, (void)size;
    i8042->status &= (uint8_t)~STATUS_COMMAND;
    take_parameter(i8042, (uint8_t)value);
    set_line(i8042);
    return BUS_DONE;
}

static enum bus_result command_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    (void)offset, (void)size;
    *ret_value = container_of(device, struct i8042, command)->status;
    return BUS_DONE;
}

static enum bus_result command_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *i8042 = container_of(device, struct i8042, command);

    (void)offset, (void)size;
    i8042->status |= STATUS_COMMAND;
    obey(i8042, (uint8_t)value);
    set_line(i8042);
    return BUS_DONE;
}

static const struct bus_device_class data_class = {
    .name = "i8042-data",
    .read = data_read,
    .write = data_write,
};

static const struct bus_device_class command_class = {
    .name = "i8042-command",
    .read = command_read,
    .write = command_write,
};

void i8042_init(struct i8042 *i8042, struct i8042_port *port, struct irq_line *irq)
{
    *i8042 = (struct i8042){
        .data.class = &data_class,
        .command.class = &command_class,
        .port = port,
        .irq = irq,
        .ram[0] = MODE_MOUSE_OFF | MODE_TRANSLATE,
        .status = STATUS_UNLOCKED,
        .output_port = P2_RUN | P2_A20,
    };
}

void i8042_reset(struct i8042 *i8042)
{
    i8042_init(i8042, i8042->port, i8042->irq);
    set_line(i8042);
}

int i8042_save(const struct i8042 *i8042, struct state_writer *writer)
{
    uint8_t record[STATE_BYTES] = {i8042->status, i8042->output, i8042->output_port, i8042->awaited_by};

    memcpy(record + 4, i8042->ram, I8042_RAM_BYTES);
    return state_put(writer, I8042_STATE_TAG, STATE_VERSION, record, sizeof(record));
}

int i8042_load(struct i8042 *i8042, const struct state_record *record)
{
    const uint8_t *from = record->payload;

    if (record->version > STATE_VERSION)
        return -ENOTSUP;
    if (record->length != STATE_BYTES || (from[0] & ~STATUS_ALL) || (from[3] != 0 && !takes_parameter(from[3])))
        return -EBADMSG;
    i8042->status = from[0];
    i8042->output = from[1];
    i8042->output_port = from[2];
    i8042->awaited_by = from[3];
    memcpy(i8042->ram, from + 4, I8042_RAM_BYTES);
    set_line(i8042);
    return 0;
}
