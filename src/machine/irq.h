/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Interrupts as devices see them: a wire with a level, or a message. Both are ports: who owns the interrupt controller
 * implements them.
 *
 * Threads: irq_line_set is for whoever serves the device, one thread at a time a line; irq_line_pulse and msi_send may
 * be called by any thread, also several at a time, and do not block.
 */
#ifndef MACHINE_IRQ_H
#define MACHINE_IRQ_H

#include "base/base.h"

struct irq_line {
    const struct irq_line_class *class;
};

struct irq_line_class {
    /* A level-triggered line is raised or lowered; to tell it what it is already, costs little and changes nothing. */
    void (*set)(struct irq_line *line, bool raised);
    /* An edge on an edge-triggered line. */
    void (*pulse)(struct irq_line *line);
};

/* A device without a wire: @line may be NULL. */
static inline void irq_line_set(struct irq_line *line, bool raised)
{
    if (line)
        line->class->set(line, raised);
}

static inline void irq_line_pulse(struct irq_line *line)
{
    if (line)
        line->class->pulse(line);
}

/* A message-signalled interrupt (PCI Local Bus 3.0, 6.8): a write of @data to @address. */
struct msi_message {
    uint64_t address;
    uint32_t data;
};

struct msi_port {
    const struct msi_port_class *class;
};

struct msi_port_class {
    /* @source: the requester ID of the function (bus, device, function), which GICv3's ITS looks at. */
    void (*send)(struct msi_port *port, uint16_t source, const struct msi_message *message);
};

static inline void msi_send(struct msi_port *port, uint16_t source, const struct msi_message *message)
{
    port->class->send(port, source, message);
}

#endif
