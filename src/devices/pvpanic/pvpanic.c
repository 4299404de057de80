/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A write of known events goes to the port as it is, each time; bits that are unknown are dropped, and a write of none
 * but those tells nothing.
 *
 * Limits
 *
 * Memory alone: neither the ISA port nor the PCI function of the specification.
 */
#include "devices/pvpanic/pvpanic.h"

static enum bus_result pvpanic_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    (void)device, (void)offset, (void)size; /* it is one byte */
    *ret_value = PVPANIC_EVENTS;
    return BUS_DONE;
}

static enum bus_result pvpanic_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pvpanic *pvpanic = container_of(device, struct pvpanic, device);
    unsigned events = value & PVPANIC_EVENTS;

    (void)offset, (void)size;
    if (events)
        pvpanic->port->class->event(pvpanic->port, events);
    return BUS_DONE;
}

static const struct bus_device_class pvpanic_class = {
    .name = "pvpanic",
    .read = pvpanic_read,
    .write = pvpanic_write,
};

void pvpanic_init(struct pvpanic *pvpanic, struct pvpanic_port *port)
{
    *pvpanic = (struct pvpanic){.device.class = &pvpanic_class, .port = port};
}
