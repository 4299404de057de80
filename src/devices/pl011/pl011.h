/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The serial port of arm64 machines: Arm PrimeCell UART (PL011), r1p5 (technical reference manual, DDI 0183G). No
 * timing: what the guest writes is sent at once, whatever rate it has set.
 *
 * The interrupt is UARTINTR, a level: high while UARTMIS is not 0.
 *
 * Threads: one at a time, under the machine's lock. Nothing blocks.
 */
#ifndef DEVICES_PL011_PL011_H
#define DEVICES_PL011_PL011_H

#include "base/state.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/uart_fifo.h"
#include "machine/uart_port.h"

#define PL011_BYTES 0x1000 /* of the bus */
#define PL011_FIFO_BYTES 32

#define PL011_STATE_TAG 0x31314c50u /* "PL11" */
#define PL011_STATE_BYTES_MAX 160   /* of its record, header included */

struct pl011 {
    struct bus_device device;
    struct uart_port *port; /* borrowed */
    struct irq_line *irq;   /* borrowed */

    struct uart_fifo receive, transmit;
    /* registers, by the manual's names */
    uint16_t cr, ibrd, imsc, ris;
    uint8_t fbrd, lcr_h, ifls, dmacr, ilpr;
    bool overrun;            /* UARTRSR OE */
    bool overrun_in_data;    /* UARTDR OE: until the next byte finds room */
    bool output_was_refused; /* not to be asked again before output_ready */
    bool input_was_refused;  /* input_room is owed */
    /* counted, for people */
    uint64_t lost_total; /* bytes of the guest that found no room in its own FIFO */
};

/* @port and @irq are borrowed and outlive the chip; @irq may be NULL. The chip is as after power-on. */
void pl011_init(struct pl011 *pl011, struct uart_port *port, struct irq_line *irq);
/* Signals PRESETn and nUARTRST, and what firmware would do: the UART is enabled, so that an early console works. */
void pl011_reset(struct pl011 *pl011);

/* Bytes from outside: returns how many were taken; for the others input_room is called. */
size_t pl011_input(struct pl011 *pl011, const uint8_t *bytes, size_t count);
/* The port, which had refused output, can take some. */
void pl011_output_ready(struct pl011 *pl011);

/* Append one record. -ENOSPC. */
int pl011_save(const struct pl011 *pl011, struct state_writer *writer);
/*
 * Take over the record with PL011_STATE_TAG, and set the interrupt's level to what it says. -ENOTSUP: of a newer
 * version; -EBADMSG: it cannot be one; nothing has changed then.
 */
int pl011_load(struct pl011 *pl011, const struct state_record *record);

#endif
