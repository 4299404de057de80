/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The keyboard controller of a PC, without keyboard and mouse: there so that a guest can reset the machine through it,
 * and finds at once that nothing is plugged in (IBM Personal System/2 Hardware Interface Technical Reference, "Keyboard
 * and Auxiliary Device Controller").
 *
 * Its two ports do not touch each other, and what lies between is somebody else's: two devices on the bus, of one byte
 * each: `data` at port 0x60, `command` at 0x64.
 *
 * Threads: one at a time, under the machine's lock. Nothing blocks.
 */
#ifndef DEVICES_I8042_I8042_H
#define DEVICES_I8042_I8042_H

#include "base/state.h"
#include "machine/bus.h"
#include "machine/irq.h"

#define I8042_RAM_BYTES 32

#define I8042_STATE_TAG 0x32343038u /* "8042" */
#define I8042_STATE_BYTES_MAX 64    /* of its record, header included */

/* The port. From inside a write of the guest: must not block, nor call the controller. */
struct i8042_port {
    const struct i8042_port_class *class;
};

struct i8042_port_class {
    /* The guest pulled the processor's reset line. */
    void (*reset)(struct i8042_port *port);
};

struct i8042 {
    struct bus_device data, command;
    struct i8042_port *port; /* borrowed */
    struct irq_line *irq;    /* borrowed */

    uint8_t ram[I8042_RAM_BYTES]; /* byte 0: the command byte */
    uint8_t status;               /* as read at port 0x64 */
    uint8_t output;               /* output buffer */
    uint8_t output_port;          /* P2 */
    uint8_t awaited_by;           /* the command that the next byte at port 0x60 belongs to; 0: none */
};

/*
 * @port and @irq are borrowed and outlive the controller. @irq is IRQ 1, a level that is high while there is a byte
 * from the keyboard's side; may be NULL, and the guest then waits a moment for answers of a keyboard.
 */
void i8042_init(struct i8042 *i8042, struct i8042_port *port, struct irq_line *irq);
void i8042_reset(struct i8042 *i8042);

/* Append one record. -ENOSPC. */
int i8042_save(const struct i8042 *i8042, struct state_writer *writer);
/* Take over the record with I8042_STATE_TAG. -ENOTSUP: of a newer version; -EBADMSG: no such record; nothing changed.
 */
int i8042_load(struct i8042 *i8042, const struct state_record *record);

#endif
