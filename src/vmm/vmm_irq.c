/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * KVM knows interrupts by number (GSI), and a table says what each number raises. The low ones are wires and stay as
 * they are; each vector of a device gets one of its own above them, whose entry is rewritten when the guest changes the
 * vector's message. The vector's eventfd is bound to that number (irqfd), so a signal reaches the guest without us.
 *
 * A vector that the guest has masked is unbound: what is written to the eventfd meanwhile stays in its counter, which
 * is the pending bit, and KVM delivers it when the eventfd is bound again.
 *
 * With GICv2 a message is a write to a frame that KVM does not have; what it raises is a wire, whose number is the
 * message's data. The vector is then bound to that wire.
 *
 * Limits
 *
 * VMM_MESSAGE_GSIS_MAX vectors. A change of a message costs KVM a grace period, some microseconds to milliseconds.
 */
#include "vmm/vmm_irq.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/vmm_board.h"

static void vmm_irqs_send(struct msi_port *port, uint16_t source, const struct msi_message *message)
{
    struct vmm_irqs *irqs = container_of(port, struct vmm_irqs, msi);
    uint32_t device_id = source;
    if (irqs->frame_address != 0 && message->address == irqs->frame_address) {
        uint32_t number = vmm_board_line_number(message->data - VMM_BOARD_WIRE_BASE);
        kvm_irq_line(irqs->vm, number, true);
        kvm_irq_line(irqs->vm, number, false);
        return;
    }
    /* What the guest has masked, or wrote wrongly, is lost as on a bus. */
    kvm_irq_message(irqs->vm, message->address, message->data, irqs->source_matters ? &device_id : NULL);
}

static const struct msi_port_class vmm_irqs_msi_class = {.send = vmm_irqs_send};

int vmm_irqs_open(struct vmm_irqs *irqs, const struct kvm_vm *vm, unsigned wires)
{
    *irqs = (struct vmm_irqs){.vm = vm, .msi.class = &vmm_irqs_msi_class, .message_base = wires};
    irqs->routes = malloc(sizeof(*irqs->routes));
    if (!irqs->routes)
        return -ENOMEM;
    kvm_routes_init(irqs->routes);
    return kvm_routes_add_default(irqs->routes, wires);
}

int vmm_irqs_begin(struct vmm_irqs *irqs)
{
    int r = kvm_routes_commit(irqs->vm, irqs->routes);
    irqs->routes_ready = r == 0;
    return r;
}

void vmm_irqs_close(struct vmm_irqs *irqs)
{
    free(irqs->routes);
    irqs->routes = NULL;
}

static void vmm_line_set(struct irq_line *line, bool raised)
{
    const struct vmm_line *wire = container_of(line, struct vmm_line, line);
    kvm_irq_line(wire->irqs->vm, vmm_board_line_number(wire->gsi), raised);
}

/* Adding to an eventfd fails when its counter is full: then an edge is due anyway. */
static void vmm_signal(int handle)
{
    const uint64_t one = 1;
    ssize_t written = write(handle, &one, sizeof(one));
    (void)written;
}

static void vmm_line_pulse(struct irq_line *line)
{
    vmm_signal(container_of(line, struct vmm_line, line)->handle);
}

static const struct irq_line_class vmm_line_class = {.set = vmm_line_set, .pulse = vmm_line_pulse};

int vmm_line_open(struct vmm_line *line, struct vmm_irqs *irqs, uint32_t gsi)
{
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (handle < 0)
        return -errno;
    int r = kvm_irq_bind(irqs->vm, gsi, handle, -1);
    if (r < 0) {
        close(handle);
        return r;
    }
    *line = (struct vmm_line){.line.class = &vmm_line_class, .irqs = irqs, .gsi = gsi, .handle = handle};
    return 0;
}

void vmm_line_close(struct vmm_line *line)
{
    if (!line->irqs)
        return;
    kvm_irq_unbind(line->irqs->vm, line->gsi, line->handle);
    close(line->handle);
    line->irqs = NULL;
}

static int vmm_irqs_take(struct vmm_irqs *irqs, uint32_t *ret_gsi)
{
    for (unsigned i = 0; i < VMM_MESSAGE_GSIS_MAX; i++) {
        if (irqs->taken[i / 8] & 1u << i % 8)
            continue;
        irqs->taken[i / 8] |= (uint8_t)(1u << i % 8);
        *ret_gsi = irqs->message_base + i;
        return 0;
    }
    return -ENOSPC;
}

int vmm_vector_open(struct vmm_vector *vector, struct vmm_irqs *irqs)
{
    uint32_t gsi;
    *vector = (struct vmm_vector){.handle = -1};
    int r = vmm_irqs_take(irqs, &gsi);
    if (r < 0)
        return r;
    *vector = (struct vmm_vector){.irqs = irqs, .gsi = gsi, .handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (vector->handle >= 0)
        return 0;
    r = -errno;
    vmm_vector_close(vector);
    return r;
}

static void vmm_vector_unbind(struct vmm_vector *vector)
{
    if (vector->bound)
        kvm_irq_unbind(vector->irqs->vm, vector->gsi, vector->handle);
    vector->bound = false;
}

void vmm_vector_close(struct vmm_vector *vector)
{
    if (!vector->irqs)
        return;
    vmm_vector_unbind(vector);
    kvm_routes_remove(vector->irqs->routes, vector->gsi);
    unsigned i = vector->gsi - vector->irqs->message_base;
    vector->irqs->taken[i / 8] &= (uint8_t) ~(1u << i % 8);
    if (vector->handle >= 0)
        close(vector->handle);
    *vector = (struct vmm_vector){.handle = -1};
}

/* What @gsi raises, in the table. */
static int vmm_vector_route(struct vmm_vector *vector, uint16_t source, const struct msi_message *message)
{
    struct vmm_irqs *irqs = vector->irqs;
    uint32_t device_id = source;
    if (irqs->frame_address != 0 && message->address == irqs->frame_address) {
        uint32_t wire = message->data - VMM_BOARD_WIRE_BASE;
        kvm_routes_remove(irqs->routes, vector->gsi);
        return wire < irqs->message_base ? kvm_routes_add_pin(irqs->routes, vector->gsi, 0, wire) : -EINVAL;
    }
    return kvm_routes_set_message(irqs->routes, vector->gsi, message->address, message->data,
                                  irqs->source_matters ? &device_id : NULL);
}

int vmm_vector_set(struct vmm_vector *vector, uint16_t source, const struct msi_message *message)
{
    struct vmm_irqs *irqs = vector->irqs;
    if (!message) {
        vmm_vector_unbind(vector);
        return 0;
    }
    int r = vmm_vector_route(vector, source, message);
    if (r == 0 && irqs->routes_ready)
        r = kvm_routes_commit(irqs->vm, irqs->routes);
    if (r == 0 && !vector->bound) {
        r = kvm_irq_bind(irqs->vm, vector->gsi, vector->handle, -1);
        vector->bound = r == 0;
    }
    return r;
}

bool vmm_vector_pending(const struct vmm_vector *vector)
{
    struct pollfd poll_handle = {.fd = vector->handle, .events = POLLIN};
    return !vector->bound && poll(&poll_handle, 1, 0) == 1;
}
