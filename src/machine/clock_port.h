/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The port of a clock chip: what time it is, and a timer.
 *
 * Threads: called on the thread that uses the chip, from inside the chip's functions. Must not block, and must not call
 * the chip.
 */
#ifndef MACHINE_CLOCK_PORT_H
#define MACHINE_CLOCK_PORT_H

#include "base/base.h"

#define CLOCK_PORT_NEVER UINT64_MAX

struct clock_port {
    const struct clock_port_class *class;
};

struct clock_port_class {
    /* UTC in ns since 1970, without leap seconds. May jump, as the host's clock may. */
    uint64_t (*now_ns)(struct clock_port *port);
    /*
     * Have the chip's alarm function called once now_ns() has reached @at_ns; it replaces the time asked for before.
     * CLOCK_PORT_NEVER: none. Too early or once too often does no harm. NULL: there is no timer, and what the chip
     * would announce by interrupt at a time shows in its registers alone.
     */
    void (*set_alarm)(struct clock_port *port, uint64_t at_ns);
};

#endif
