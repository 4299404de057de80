/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A device's message goes past this frame where the hypervisor knows what it means (irqfd). What arrives here is a
 * write by a processor, or by a device that sends by hand.
 *
 * Limits
 *
 * One frame, 32-bit accesses.
 */
#include "devices/gicv2m/gicv2m.h"

#define TYPER_FIRST_SHIFT 16

static enum bus_result gicv2m_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    const struct gicv2m *frame = container_of(device, struct gicv2m, device);
    if (size == 4 && offset == GICV2M_TYPER)
        *ret_value = frame->first << TYPER_FIRST_SHIFT | frame->count;
    return BUS_DONE;
}

static enum bus_result gicv2m_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct gicv2m *frame = container_of(device, struct gicv2m, device);
    if (size == 4 && offset == GICV2M_SETSPI && range_within(value - frame->first, 1, frame->count))
        frame->port->class->raise(frame->port, (uint32_t)value);
    return BUS_DONE;
}

static const struct bus_device_class gicv2m_class = {
    .name = "gicv2m",
    .read = gicv2m_read,
    .write = gicv2m_write,
};

void gicv2m_init(struct gicv2m *frame, struct gicv2m_port *port, uint32_t first, uint32_t count)
{
    ASSERT(first >= 32 && count > 0 && range_within(first, count, 1020));
    *frame = (struct gicv2m){.device.class = &gicv2m_class, .port = port, .first = first, .count = count};
}
