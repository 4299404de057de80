/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The register through which a guest tells that it has crashed: pvpanic (QEMU, docs/specs/pvpanic), in memory, one
 * byte. It reads as the events that are understood; a write tells which have happened. ACPI knows it as QEMU0001, a
 * device tree as "qemu,pvpanic-mmio".
 *
 * It keeps nothing: there is no reset and nothing to save.
 *
 * Threads: one at a time, under the machine's lock. Nothing blocks.
 */
#ifndef DEVICES_PVPANIC_PVPANIC_H
#define DEVICES_PVPANIC_PVPANIC_H

#include "machine/bus.h"

#define PVPANIC_BYTES 1 /* of the bus */

#define PVPANIC_PANICKED (1u << 0)     /* the guest's kernel has crashed, and does nothing more */
#define PVPANIC_CRASH_LOADED (1u << 1) /* it has crashed, and goes on with its crash kernel */
#define PVPANIC_SHUTDOWN (1u << 2)     /* it shuts down in order, and cannot say so in another way */
#define PVPANIC_EVENTS (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED | PVPANIC_SHUTDOWN)

/* The port. From inside a write of the guest: must not block. */
struct pvpanic_port {
    const struct pvpanic_port_class *class;
};

struct pvpanic_port_class {
    /* @events: PVPANIC_…, at least one. */
    void (*event)(struct pvpanic_port *port, unsigned events);
};

struct pvpanic {
    struct bus_device device;
    struct pvpanic_port *port; /* borrowed */
};

/* @port is borrowed and outlives the device. */
void pvpanic_init(struct pvpanic *pvpanic, struct pvpanic_port *port);

#endif
