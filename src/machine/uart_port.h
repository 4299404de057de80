/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The port of a serial chip: what is at the other end of its line. The same for every chip.
 *
 * Threads: called on the thread that uses the chip, from inside the chip's functions. Must not block, and must not call
 * the chip.
 */
#ifndef MACHINE_UART_PORT_H
#define MACHINE_UART_PORT_H

#include "base/base.h"

struct uart_port {
    const struct uart_port_class *class;
};

struct uart_port_class {
    /*
     * The guest sends @bytes (borrowed for the call; @count is not 0). Returns how many of them, from the first, were
     * taken. The others wait in the chip, and the guest sees that, until the port has the chip's output_ready called.
     */
    size_t (*output)(struct uart_port *port, const uint8_t *bytes, size_t count);
    /* The chip took less input than it was given, and has room again. May be NULL. */
    void (*input_room)(struct uart_port *port);
};

#endif
