/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Messages for GICv2, which has none: a frame of registers in which a write of an interrupt's number raises it (Arm
 * Server Base System Architecture, appendix E, "GICv2m"). Linux finds it as "arm,gic-v2m-frame".
 *
 * It keeps nothing: there is no reset and nothing to save.
 *
 * Threads: one at a time, under the machine's lock. Nothing blocks.
 */
#ifndef DEVICES_GICV2M_GICV2M_H
#define DEVICES_GICV2M_GICV2M_H

#include "machine/bus.h"

#define GICV2M_BYTES 0x1000 /* of the bus */

/* Registers. */
#define GICV2M_TYPER 0x008  /* the first interrupt, from bit 16 on, and how many */
#define GICV2M_SETSPI 0x040 /* written: the number of the interrupt that is raised, an edge */
#define GICV2M_IIDR 0xfcc

/* The port. From inside a write of the guest: must not block. */
struct gicv2m_port {
    const struct gicv2m_port_class *class;
};

struct gicv2m_port_class {
    /* An edge of shared @interrupt, which is one of the frame's. */
    void (*raise)(struct gicv2m_port *port, uint32_t interrupt);
};

struct gicv2m {
    struct bus_device device;
    struct gicv2m_port *port; /* borrowed */
    uint32_t first, count;
};

/* @port is borrowed and outlives the frame; it raises interrupts @first to @first + @count - 1 (INTID). */
void gicv2m_init(struct gicv2m *frame, struct gicv2m_port *port, uint32_t first, uint32_t count);

#endif
