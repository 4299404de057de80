/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * KVM on arm64: the interrupt controller (GIC) in KVM, registers, and the whole state as records.
 *
 * In this order: kvm_vm_open, every kvm_vcpu_open and kvm_arm64_vcpu_init, kvm_arm64_gic_open (which initialises it),
 * kvm_routes_commit, kvm_vcpu_run. A GIC that was made and not initialised makes kvm_vcpu_run fail with -ENXIO, which
 * is why they are one step here.
 */
#ifndef PLATFORM_KVM_KVM_ARM64_H
#define PLATFORM_KVM_KVM_ARM64_H

#include <linux/kvm.h>

#include "base/state.h"
#include "platform/kvm/kvm_vcpu.h"

/* ---- interrupts (4.25) */

enum kvm_arm64_irq_kind {
    KVM_ARM64_IRQ_PRIVATE, /* PPI, of one processor: number 16 to 31 */
    KVM_ARM64_IRQ_SHARED,  /* SPI: number 32 to 1019 */
};

/* The @number of kvm_irq_line. @interrupt is the GIC's own number (INTID). @processor is for private ones. */
uint32_t kvm_arm64_irq_number(enum kvm_arm64_irq_kind kind, uint32_t processor, uint32_t interrupt);

/* ---- the GIC (Documentation/virt/kvm/devices/arm-vgic.rst, -v3.rst, -its.rst) */

struct kvm_arm64_gic {
    const struct kvm_vm *vm; /* borrowed */
    int handle;              /* -1: not open */
    int its_handle;          /* -1: none */
    unsigned version;        /* 2 or 3 */
    unsigned interrupts;     /* 64 to 1024, a multiple of 32, private ones included */
    unsigned processors;
};

struct kvm_arm64_gic_config {
    unsigned version;             /* 2 or 3; 0: 3 where it can be had, else 2 */
    unsigned interrupts;          /* as above */
    unsigned processors;          /* all are open; version 2 has at most 8 */
    uint64_t distributor;         /* 64 KiB (v2: 4 KiB), aligned so */
    uint64_t redistributors;      /* v3: 128 KiB for each processor, aligned to 64 KiB */
    uint64_t processor_interface; /* v2: 8 KiB, aligned to 4 KiB */
    uint64_t its;                 /* v3: 128 KiB, aligned to 64 KiB: messages; 0: none */
};

/*
 * Make and initialise it. @vm is borrowed until close. -ENODEV: this host has no GIC of that version for guests;
 * -EINVAL: an address or number does not fit.
 */
int kvm_arm64_gic_open(struct kvm_arm64_gic *gic, const struct kvm_vm *vm, const struct kvm_arm64_gic_config *config);
/* Its handles; the device lives as long as the VM. Also of one that failed to open. */
void kvm_arm64_gic_close(struct kvm_arm64_gic *gic);
/* Can this VM have a GIC of @version (2 or 3)? Nothing is made. */
bool kvm_arm64_gic_possible(const struct kvm_vm *vm, unsigned version);

/* ---- virtual processors */

/* Bits of kvm_arm64_vcpu_init's @features: KVM_ARM_VCPU_. The usual: */
#define KVM_ARM64_PSCI (1u << 2)      /* KVM_ARM_VCPU_PSCI_0_2: power by calls, as the device tree says */
#define KVM_ARM64_POWER_OFF (1u << 0) /* KVM_ARM_VCPU_POWER_OFF: waits until another one turns it on */

/*
 * Give it the host's kind of processor (4.82, 4.83). Again, on a processor that ran: it is reset. -EINVAL: a feature
 * that this host lacks.
 */
int kvm_arm64_vcpu_init(struct kvm_vcpu *vcpu, uint32_t features);

/* Registers by number (4.68, 4.69): KVM_REG_ARM64 | …, whose size is part of the number. @value has that many bytes. */
int kvm_arm64_reg_get(const struct kvm_vcpu *vcpu, uint64_t id, void *ret_value);
int kvm_arm64_reg_set(struct kvm_vcpu *vcpu, uint64_t id, const void *value);
size_t kvm_arm64_reg_bytes(uint64_t id);
int kvm_arm64_reg_get_u64(const struct kvm_vcpu *vcpu, uint64_t id, uint64_t *ret_value);
int kvm_arm64_reg_set_u64(struct kvm_vcpu *vcpu, uint64_t id, uint64_t value);

/* Numbers of the registers that a loader sets: X0 to X30 and the program counter, the processor's state. */
uint64_t kvm_arm64_reg_x(unsigned number);
extern const uint64_t kvm_arm64_reg_sp, kvm_arm64_reg_pc, kvm_arm64_reg_pstate;
/* The virtual timer: counter, compare value, control. KVM's numbers of the first two are exchanged; these are right. */
extern const uint64_t kvm_arm64_reg_timer_count, kvm_arm64_reg_timer_compare, kvm_arm64_reg_timer_control;
/* Its affinity, MPIDR_EL1, as the device tree names a processor. */
int kvm_arm64_vcpu_affinity(const struct kvm_vcpu *vcpu, uint64_t *ret_affinity);

/* A host has some 250 to 700; SVE adds to them. */
#define KVM_ARM64_REGS_MAX 2048
struct kvm_arm64_reg_list { /* as the kernel writes it (4.84), 16 KiB */
    uint64_t count;
    uint64_t ids[KVM_ARM64_REGS_MAX];
};
/* -E2BIG. */
int kvm_arm64_reg_list(const struct kvm_vcpu *vcpu, struct kvm_arm64_reg_list *ret_list);

/* ---- the whole state, as records of base/state.h */

#define KVM_ARM64_VCPU_STATE_BYTES_MAX (128u << 10)
#define KVM_ARM64_GIC_STATE_BYTES_MAX(processors) ((80u << 10) + 2048u * (processors))

/* All processors have stopped and completed their last access. @list is room of the caller's. -ENOSPC: no room. */
int kvm_arm64_vcpu_save(struct kvm_vcpu *vcpu, struct kvm_arm64_reg_list *list, struct state_writer *writer);
/*
 * Of a processor that kvm_arm64_vcpu_init gave the same features. -EBADMSG: it is no state of a processor, or one of a
 * later version; -EINVAL, -ENOENT: this host's processor differs in a register. Of no use after a failure.
 */
int kvm_arm64_vcpu_restore(struct kvm_vcpu *vcpu, struct state_reader *reader);

/*
 * After every processor has stopped. With an ITS this writes tables into guest memory, which is to be saved afterwards.
 * @affinities: of each processor, kvm_arm64_vcpu_affinity.
 */
int kvm_arm64_gic_save(const struct kvm_arm64_gic *gic, const uint64_t *affinities, struct state_writer *writer);
/*
 * A new one, of the same version and with as many interrupts, or the one that was saved (a reset); after guest memory
 * and processors have been restored, and before they run. -EINVAL: it is another one; -EBADMSG: it is no state of a
 * GIC. A GICv2 does not tell the level of its wires: those that are raised must be raised again.
 */
int kvm_arm64_gic_restore(const struct kvm_arm64_gic *gic, struct state_reader *reader);

#endif
