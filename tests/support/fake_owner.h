/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Whoever owns the machine, for tests of transports: gives out handles for notifications (FAKE_NOTIFY_HANDLE and the
 * vector) or none, counts what was settled, and has a wire that shows its level and counts its edges.
 */
#ifndef TESTS_SUPPORT_FAKE_OWNER_H
#define TESTS_SUPPORT_FAKE_OWNER_H

#include "fake_backend.h"
#include "machine/irq.h"
#include "virtio/virtio_control.h"

struct fake_owner {
    struct virtio_control_port port;
    struct irq_line line;
    bool gives_handles;
    unsigned settled;
    /* the wire */
    bool raised;
    unsigned pulses;
};

static inline int fake_owner_notify_handle(struct virtio_control_port *port, unsigned index, uint16_t vector)
{
    (void)index;
    return container_of(port, struct fake_owner, port)->gives_handles ? FAKE_NOTIFY_HANDLE + vector : -1;
}

static inline void fake_owner_settled(struct virtio_control_port *port)
{
    container_of(port, struct fake_owner, port)->settled++;
}

static inline void fake_owner_set(struct irq_line *line, bool raised)
{
    container_of(line, struct fake_owner, line)->raised = raised;
}

static inline void fake_owner_pulse(struct irq_line *line)
{
    container_of(line, struct fake_owner, line)->pulses++;
}

static inline void fake_owner_init(struct fake_owner *owner)
{
    static const struct virtio_control_port_class port_class = {fake_owner_notify_handle, fake_owner_settled};
    static const struct irq_line_class line_class = {fake_owner_set, fake_owner_pulse};

    *owner = (struct fake_owner){.port.class = &port_class, .line.class = &line_class};
}

#endif
