/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Interrupts into a VM: wires, messages, eventfds, and the table that says what each number (GSI) stands for.
 *
 * The interrupt controllers themselves are made by kvm_x86.h and kvm_arm64.h, and must exist before. Any thread may
 * raise interrupts; a table is its caller's, for one thread at a time.
 */
#ifndef PLATFORM_KVM_KVM_IRQ_H
#define PLATFORM_KVM_KVM_IRQ_H

#include <linux/kvm.h>

#include "platform/kvm/kvm_vm.h"

/*
 * Raise or lower a wire (KVM_IRQ_LINE, 4.25). x86-64: @number is a GSI. arm64: kvm_arm64_irq_number() makes it of an
 * interrupt's kind and number.
 */
int kvm_irq_line(const struct kvm_vm *vm, uint32_t number, bool raised);

/*
 * Send a message (KVM_SIGNAL_MSI, 4.70) without a GSI. @device_id: for GICv3's ITS, which needs one, or NULL.
 * 1: delivered; 0: the guest has it masked; -errno.
 */
int kvm_irq_message(const struct kvm_vm *vm, uint64_t address, uint32_t data, const uint32_t *device_id);

/*
 * Bind an eventfd to a GSI (KVM_IRQFD, 4.75): each write to it raises an edge, or, with @resample other than -1, a
 * level that the guest's end of interrupt lowers; then KVM signals @resample, and who still wants service writes again.
 * Both are borrowed: KVM keeps references. -EBUSY: this eventfd is bound; -EINVAL: no interrupt controller in KVM.
 */
int kvm_irq_bind(const struct kvm_vm *vm, uint32_t gsi, int handle, int resample);
/* Nothing more arrives from there once it returns. */
int kvm_irq_unbind(const struct kvm_vm *vm, uint32_t gsi, int handle);

/* What KVM holds at most on every architecture (KVM_MAX_IRQ_ROUTES). */
#define KVM_ROUTES_MAX 4096

/*
 * What each GSI stands for (KVM_SET_GSI_ROUTING, 4.52): pins of interrupt controllers, or one message. It is as the
 * kernel reads it, some 200 KiB: not for a stack. A change takes effect with the next commit, all at once.
 */
struct kvm_routes {
    uint32_t count;
    uint32_t flags; /* 0 */
    struct kvm_irq_routing_entry entries[KVM_ROUTES_MAX];
};

void kvm_routes_init(struct kvm_routes *routes);
/*
 * @gsi raises @pin of @chip, beside what else it raises. x86-64: KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE, _IOAPIC; arm64: 0,
 * and the pin is the number of the shared interrupt, from 0. -ENOSPC: KVM_ROUTES_MAX.
 */
int kvm_routes_add_pin(struct kvm_routes *routes, uint32_t gsi, uint32_t chip, uint32_t pin);
/* @gsi sends this message from now on, and raises nothing else. @device_id as above. -ENOSPC. */
int kvm_routes_set_message(struct kvm_routes *routes, uint32_t gsi, uint64_t address, uint32_t data,
                           const uint32_t *device_id);
/* @gsi raises nothing. */
void kvm_routes_remove(struct kvm_routes *routes, uint32_t gsi);
/* Does @gsi raise anything? */
bool kvm_routes_has(const struct kvm_routes *routes, uint32_t gsi);
/*
 * What a machine has when it starts. x86-64: GSI 0 to 15 raise the same pin of both PICs and of the I/O APIC, but for
 * @gsi 2, the cascade; 16 to 23 of the I/O APIC alone. arm64: GSI n is shared interrupt n, for @pins of them.
 */
int kvm_routes_add_default(struct kvm_routes *routes, unsigned pins);
/*
 * Give the table to KVM, which waits until nobody uses the old one. arm64: not before the GIC is initialised, which
 * makes a table of its own. -EINVAL: an entry is none.
 */
int kvm_routes_commit(const struct kvm_vm *vm, const struct kvm_routes *routes);

#endif
