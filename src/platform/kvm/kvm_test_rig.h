/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A small machine on the host's KVM for tests: memory at guest-physical address 0, a processor, and a guest that is
 * written in assembly beside it. What a guest has to say it reports: by a port on x86-64, by an access to no memory on
 * arm64.
 */
#ifndef PLATFORM_KVM_KVM_TEST_RIG_H
#define PLATFORM_KVM_KVM_TEST_RIG_H

#include "platform/kvm/kvm_irq.h"
#include "platform/kvm/kvm_vcpu.h"

#define RIG_MEMORY_BYTES (2u << 20)
#define RIG_CODE 0x6000u       /* where guests begin */
#define RIG_MMIO 0x10000000u   /* no memory is there */
#define RIG_WINDOW_A 0x400000u /* for further memory */
#define RIG_WINDOW_B 0x600000u

struct kvm_rig {
    struct kvm_host host;
    struct kvm_vm vm;
    struct kvm_vcpu vcpu;
    uint8_t *memory;
};

/* A guest of the assembly file: guest_X to guest_X_end. */
#define GUEST(name) extern const uint8_t guest_##name[], guest_##name##_end[]

enum rig_flags {
    RIG_INTERRUPTS = 1, /* an interrupt controller in KVM */
    RIG_DIRTY_RING = 2, /* rings of dirty pages */
};

/* Everything but the guest. What fails is a failed assertion. */
void rig_open(struct kvm_rig *rig, unsigned flags);
void rig_close(struct kvm_rig *rig);
/* Copy the guest to where guests begin, and let the processor begin there. */
void rig_load(struct kvm_rig *rig, const uint8_t *guest, const uint8_t *guest_end);
#define RIG_LOAD(rig, name) rig_load((rig), guest_##name, guest_##name##_end)

/* Of the architecture: called by the above. */
void rig_arch_vm(struct kvm_rig *rig, unsigned flags);
void rig_arch_vcpu(struct kvm_rig *rig, unsigned flags);
void rig_arch_load(struct kvm_rig *rig);
bool rig_is_report(const struct kvm_exit *exit);

/* Memory of @bytes, zeros, to put into slots; to be unmapped by rig_memory_free. */
void *rig_memory(size_t bytes);
void rig_memory_free(void *memory, size_t bytes);

/* Run to the next exit, which shall be @cause. */
void rig_run(struct kvm_rig *rig, enum kvm_cause cause, struct kvm_exit *ret_exit);
/* Run to the next exit, which shall be an access of the given form, and give its value (a read: 0). */
uint64_t rig_access(struct kvm_rig *rig, enum kvm_cause cause, uint64_t address, uint32_t size, bool is_write,
                    struct kvm_exit *ret_exit);
/* Run to the next exit, which shall be a report, and give it. */
uint32_t rig_report(struct kvm_rig *rig);

/* Prints the plan of a test program that can do nothing here, and says so; else false. */
bool rig_skip(void);

#endif
