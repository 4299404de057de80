/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Around a chip in a test: its registers reached as a bus reaches them, a wire that remembers, the other end of a
 * serial line, a clock that stands until it is set, and saved state.
 */
#ifndef TESTS_SUPPORT_CHIP_RIG_H
#define TESTS_SUPPORT_CHIP_RIG_H

#include "base/state.h"
#include "machine/bus.h"
#include "machine/clock_port.h"
#include "machine/irq.h"
#include "machine/uart_port.h"

static inline uint64_t chip_mask(unsigned size)
{
    return size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
}

/* As bus_read and bus_write do it, once they have found the device. */
static inline uint64_t chip_read(struct bus_device *device, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    ASSERT(device->class->read(device, offset, size, &value) == BUS_DONE);
    return value & chip_mask(size);
}

static inline void chip_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    ASSERT(device->class->write(device, offset, size, value & chip_mask(size)) == BUS_DONE);
}

struct fake_wire {
    struct irq_line line;
    bool raised;
    unsigned rises, pulses;
};

static inline void fake_wire_set(struct irq_line *line, bool raised)
{
    struct fake_wire *wire = container_of(line, struct fake_wire, line);

    if (raised && !wire->raised)
        wire->rises++;
    wire->raised = raised;
}

static inline void fake_wire_pulse(struct irq_line *line)
{
    container_of(line, struct fake_wire, line)->pulses++;
}

static inline void fake_wire_init(struct fake_wire *wire)
{
    static const struct irq_line_class class = {.set = fake_wire_set, .pulse = fake_wire_pulse};

    *wire = (struct fake_wire){.line.class = &class};
}

#define FAKE_UART_BYTES 256

/* Takes `willing` bytes and then no more, and keeps the last of what it took. */
struct fake_uart {
    struct uart_port port;
    size_t willing;
    uint8_t bytes[FAKE_UART_BYTES];
    size_t count;
    unsigned asked, room_told;
};

static inline size_t fake_uart_output(struct uart_port *port, const uint8_t *bytes, size_t count)
{
    struct fake_uart *uart = container_of(port, struct fake_uart, port);
    size_t taken = size_min(count, uart->willing);

    ASSERT(count > 0);
    uart->asked++;
    uart->willing -= taken;
    for (size_t i = 0; i < taken; i++)
        uart->bytes[uart->count++ % FAKE_UART_BYTES] = bytes[i];
    return taken;
}

static inline void fake_uart_input_room(struct uart_port *port)
{
    container_of(port, struct fake_uart, port)->room_told++;
}

static inline void fake_uart_init(struct fake_uart *uart)
{
    static const struct uart_port_class class = {.output = fake_uart_output, .input_room = fake_uart_input_room};

    *uart = (struct fake_uart){.port.class = &class, .willing = SIZE_MAX};
}

struct fake_clock {
    struct clock_port port;
    uint64_t now_ns;
    uint64_t alarm_ns;
};

static inline uint64_t fake_clock_now_ns(struct clock_port *port)
{
    return container_of(port, struct fake_clock, port)->now_ns;
}

static inline void fake_clock_set_alarm(struct clock_port *port, uint64_t at_ns)
{
    container_of(port, struct fake_clock, port)->alarm_ns = at_ns;
}

static inline void fake_clock_init(struct fake_clock *clock, uint64_t now_s)
{
    static const struct clock_port_class class = {.now_ns = fake_clock_now_ns, .set_alarm = fake_clock_set_alarm};

    *clock = (struct fake_clock){
        .port.class = &class,
        .now_ns = now_s * UINT64_C(1000000000),
        .alarm_ns = CLOCK_PORT_NEVER,
    };
}

/* A clock without a timer. */
static inline void fake_clock_init_silent(struct fake_clock *clock, uint64_t now_s)
{
    static const struct clock_port_class class = {.now_ns = fake_clock_now_ns};

    fake_clock_init(clock, now_s);
    clock->port.class = &class;
}

/* The one record that was written into @bytes. */
static inline struct state_record chip_record(const uint8_t *bytes, size_t size)
{
    struct state_reader reader = {.bytes = bytes, .size = size};
    struct state_record record = {0};

    ASSERT(state_next(&reader, &record) == 1 && reader.used == size);
    return record;
}

#endif
