/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The serial port of a PC: a 16550A (National Semiconductor PC16550D, data sheet of June 1995), eight byte registers in
 * port or memory space. No timing: what the guest writes is sent at once, whatever rate it has set.
 *
 * The interrupt is a level (irq_line_set): high while IIR has an interrupt. On an edge-triggered input, as IRQ 4 of a
 * PC is, its rise is the edge.
 *
 * Threads: one at a time, under the machine's lock. Nothing blocks.
 */
#ifndef DEVICES_SERIAL_SERIAL_H
#define DEVICES_SERIAL_SERIAL_H

#include "base/state.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/uart_fifo.h"
#include "machine/uart_port.h"

#define SERIAL_BYTES 8 /* of the bus */
#define SERIAL_FIFO_BYTES 16

#define SERIAL_STATE_TAG 0x55385331u /* "1S8U" */
#define SERIAL_STATE_BYTES_MAX 64    /* of its record, header included */

struct serial {
    struct bus_device device;
    struct uart_port *port; /* borrowed */
    struct irq_line *irq;   /* borrowed */

    struct uart_fifo receive, transmit;
    uint8_t interrupt_enable, fifo_control, line_control, modem_control, scratch;
    uint8_t modem_deltas; /* the low half of MSR */
    uint16_t divisor;
    bool overrun;            /* LSR OE */
    bool transmit_interrupt; /* THR has become empty, and nobody has looked or written since */
    bool input_was_refused;  /* input_room is owed */
    /* counted, for people */
    uint64_t lost_total; /* bytes of the guest that found no room in its own FIFO */
};

/* @port and @irq are borrowed and outlive the chip; @irq may be NULL. The chip is as after power-on. */
void serial_init(struct serial *serial, struct uart_port *port, struct irq_line *irq);
/* The pin MR: registers of control and both FIFOs; baud rate and scratch register stay (data sheet, table III). */
void serial_reset(struct serial *serial);

/* Bytes from outside: returns how many were taken; for the others input_room is called. */
size_t serial_input(struct serial *serial, const uint8_t *bytes, size_t count);
/* The port, which had refused output, can take some. */
void serial_output_ready(struct serial *serial);

/* Append one record. -ENOSPC. */
int serial_save(const struct serial *serial, struct state_writer *writer);
/*
 * Take over the record with SERIAL_STATE_TAG, and set the interrupt's level to what it says. -ENOTSUP: of a newer
 * version; -EBADMSG: it cannot be one; nothing has changed then.
 */
int serial_load(struct serial *serial, const struct state_record *record);

#endif
