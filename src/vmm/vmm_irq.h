/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * How interrupts of devices reach KVM: wires, messages sent by hand, and vectors whose handle KVM itself listens to.
 *
 * Threads: lines and vectors are made and changed under the machine's lock. irq_line_pulse, msi_send and writes to a
 * vector's handle come from any thread.
 */
#ifndef VMM_VMM_IRQ_H
#define VMM_VMM_IRQ_H

#include "machine/irq.h"
#include "platform/kvm/kvm_irq.h"

/* Interrupt numbers that stand for messages, above those that stand for wires. KVM routes no more than this. */
#define VMM_MESSAGE_GSIS_MAX 2048u

struct vmm_irqs {
    const struct kvm_vm *vm;   /* borrowed */
    struct kvm_routes *routes; /* owned */
    bool routes_ready;         /* KVM has been given them, and is given each change */
    struct msi_port msi;       /* sends by hand: for what has no handle */
    bool source_matters;       /* GICv3's ITS tells senders apart */
    /* GICv2 has no messages: a frame of ours (GICv2m) takes them, and a message is the number of a wire. */
    uint64_t frame_address; /* of its doorbell; 0: none */
    uint32_t message_base;  /* the first GSI for messages */
    uint8_t taken[VMM_MESSAGE_GSIS_MAX / 8];
};

/* @wires: the GSIs below this are wires' (kvm_routes_add_default). -ENOMEM. */
int vmm_irqs_open(struct vmm_irqs *irqs, const struct kvm_vm *vm, unsigned wires);
/* The interrupt controllers are there: give KVM the routes now, and each change from now on. */
int vmm_irqs_begin(struct vmm_irqs *irqs);
void vmm_irqs_close(struct vmm_irqs *irqs);

struct vmm_line {
    struct irq_line line;
    struct vmm_irqs *irqs;
    uint32_t gsi;
    int handle; /* eventfd that is an edge; -1: not open */
};

/* Wire @gsi. An edge of it is a write to an eventfd, so that any thread can make one. */
int vmm_line_open(struct vmm_line *line, struct vmm_irqs *irqs, uint32_t gsi);
/* A half-made or closed one is fine; so are zeros. */
void vmm_line_close(struct vmm_line *line);

struct vmm_vector {
    struct vmm_irqs *irqs;
    int handle; /* eventfd: a write is an interrupt; while the vector is closed writes are kept. -1: none */
    uint32_t gsi;
    bool bound;
};

/* -ENOSPC: all GSIs for messages are taken; others as of eventfd(2). */
int vmm_vector_open(struct vmm_vector *vector, struct vmm_irqs *irqs);
void vmm_vector_close(struct vmm_vector *vector);
/* It sends @message from now on, on behalf of @source; NULL: nothing, and signals are kept until there is one. */
int vmm_vector_set(struct vmm_vector *vector, uint16_t source, const struct msi_message *message);
/* Is there a signal that was kept? */
bool vmm_vector_pending(const struct vmm_vector *vector);

#endif
