/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * KVM on x86-64: interrupt controllers and timer in KVM, registers, CPUID, and the whole state as records.
 *
 * Registers are read and written on the processor's thread while it does not run (kvm_vcpu_complete first).
 */
#ifndef PLATFORM_KVM_KVM_X86_H
#define PLATFORM_KVM_KVM_X86_H

#include <linux/kvm.h>

#include "base/state.h"
#include "platform/kvm/kvm_vcpu.h"

/*
 * Three pages at @address of the guest's address space that KVM takes for itself on Intel's processors, and one page
 * for its identity map (4.27, 4.39): nothing else may be there, and the guest is told that they are reserved. Below
 * 4 GiB; before the first processor. An address that serves everybody: 0xfffbc000 and 0xfffbd000 on.
 */
#define KVM_X86_IDENTITY_MAP_ADDRESS UINT64_C(0xfffbc000)
#define KVM_X86_TASK_STATE_ADDRESS UINT64_C(0xfffbd000)
int kvm_x86_reserve_pages(const struct kvm_vm *vm, uint64_t identity_map_address, uint64_t task_state_address);

/*
 * Both PICs, the I/O APIC at 0xfec00000 and local APICs in KVM (4.24). Before processors and doorbells. A table of
 * routes is there afterwards: kvm_routes_add_default's.
 */
int kvm_x86_irqchip_open(const struct kvm_vm *vm);
/* Local APICs alone (7.5, KVM_CAP_SPLIT_IRQCHIP); @pins GSIs are for an I/O APIC outside, whose EOIs are exits. */
int kvm_x86_irqchip_open_split(const struct kvm_vm *vm, unsigned pins);
/*
 * The timer 8254 in KVM, on GSI 0, and ports 0x40 to 0x43 (4.71). @speaker: port 0x61 as well, so that a guest that
 * measures time by it causes no exits.
 */
int kvm_x86_pit_open(const struct kvm_vm *vm, bool speaker);

/* ---- CPUID */

/* Hosts have some 60 to 120 entries; this is also KVM's own limit (KVM_MAX_CPUID_ENTRIES). */
#define KVM_X86_CPUID_MAX 256

/* As the kernel reads it (struct kvm_cpuid2), some 10 KiB. */
struct kvm_x86_cpuid {
    uint32_t count;
    uint32_t padding;
    struct kvm_cpuid_entry2 entries[KVM_X86_CPUID_MAX];
};

/* What this host's KVM can give a guest (4.46). -E2BIG. */
int kvm_x86_cpuid_supported(const struct kvm_host *host, struct kvm_x86_cpuid *ret_cpuid);

struct kvm_x86_topology {
    uint32_t processors;   /* of the machine: one socket, one thread a core, APIC IDs from 0 */
    bool tsc_deadline;     /* KVM_CAP_TSC_DEADLINE_TIMER is there: the local APIC in KVM has that mode */
    uint32_t address_bits; /* guest-physical, to be told to the guest; 0: what the host has */
};

/*
 * Make a copy of @cpuid fit processor @index: its APIC ID, the topology leaves 1, 4, 0xb, 0x1f, 0x80000008, 0x8000001d
 * and 0x8000001e, the hypervisor bit, and the TSC deadline timer. KVM's own leaves (0x40000000 on) stay. What a guest
 * of ours must not see is taken out: nested virtualization (VMX, SVM), whose state is not saved, and MONITOR/MWAIT.
 */
void kvm_x86_cpuid_filter(struct kvm_x86_cpuid *cpuid, const struct kvm_x86_topology *topology, uint32_t index);
/* Entry of @function and @index (0 where the function has no index), or NULL. */
struct kvm_cpuid_entry2 *kvm_x86_cpuid_find(struct kvm_x86_cpuid *cpuid, uint32_t function, uint32_t index);

/* Before the processor runs first (4.20). -EINVAL: KVM refuses it. */
int kvm_x86_cpuid_set(struct kvm_vcpu *vcpu, const struct kvm_x86_cpuid *cpuid);
int kvm_x86_cpuid_get(const struct kvm_vcpu *vcpu, struct kvm_x86_cpuid *ret_cpuid);

/* ---- registers (4.11 to 4.14, 4.31 to 4.45, …), as the kernel has them */

int kvm_x86_regs_get(const struct kvm_vcpu *vcpu, struct kvm_regs *ret_regs);
int kvm_x86_regs_set(struct kvm_vcpu *vcpu, const struct kvm_regs *regs);
/* Without the page-directory pointers of sregs2, which only a guest in 32-bit PAE mode has. */
int kvm_x86_sregs_get(const struct kvm_vcpu *vcpu, struct kvm_sregs *ret_sregs);
int kvm_x86_sregs_set(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs);
/* -ENOTSUP before Linux 5.14: then use the others. */
int kvm_x86_sregs2_get(const struct kvm_vcpu *vcpu, struct kvm_sregs2 *ret_sregs);
int kvm_x86_sregs2_set(struct kvm_vcpu *vcpu, const struct kvm_sregs2 *sregs);
int kvm_x86_fpu_get(const struct kvm_vcpu *vcpu, struct kvm_fpu *ret_fpu);
int kvm_x86_fpu_set(struct kvm_vcpu *vcpu, const struct kvm_fpu *fpu);
/* The XSAVE area. The largest today has 11 KiB (AMX); a host that needs more is -E2BIG. */
#define KVM_X86_XSAVE_BYTES_MAX 16384
/* What this VM's processors need: 4096, or more with KVM_CAP_XSAVE2. */
int kvm_x86_xsave_bytes(const struct kvm_vm *vm);
/* @area: KVM_X86_XSAVE_BYTES_MAX. Returns how many are filled. */
int kvm_x86_xsave_get(const struct kvm_vcpu *vcpu, void *area);
int kvm_x86_xsave_set(struct kvm_vcpu *vcpu, const void *area, size_t bytes);
int kvm_x86_xcrs_get(const struct kvm_vcpu *vcpu, struct kvm_xcrs *ret_xcrs);
int kvm_x86_xcrs_set(struct kvm_vcpu *vcpu, const struct kvm_xcrs *xcrs);
int kvm_x86_debugregs_get(const struct kvm_vcpu *vcpu, struct kvm_debugregs *ret_debugregs);
int kvm_x86_debugregs_set(struct kvm_vcpu *vcpu, const struct kvm_debugregs *debugregs);
int kvm_x86_lapic_get(const struct kvm_vcpu *vcpu, struct kvm_lapic_state *ret_lapic);
int kvm_x86_lapic_set(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic);
int kvm_x86_events_get(const struct kvm_vcpu *vcpu, struct kvm_vcpu_events *ret_events);
int kvm_x86_events_set(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *events);
/* In kHz, or -errno. */
int kvm_x86_tsc_khz_get(const struct kvm_vcpu *vcpu);
/* -ENOTSUP: this processor cannot scale its counter to so many. */
int kvm_x86_tsc_khz_set(struct kvm_vcpu *vcpu, uint32_t khz);
/* The guest's clock stood still; its watchdogs are to forgive that (4.70's neighbour KVM_KVMCLOCK_CTRL). */
int kvm_x86_clock_was_paused(struct kvm_vcpu *vcpu);
/* A non-maskable interrupt. */
int kvm_x86_nmi(struct kvm_vcpu *vcpu);

/* Model-specific registers. */
#define KVM_X86_MSRS_MAX 1024
struct kvm_x86_msr_list { /* as the kernel writes it */
    uint32_t count;
    uint32_t indices[KVM_X86_MSRS_MAX];
};
/* Those that make up a processor's state here (4.3). -E2BIG. */
int kvm_x86_msr_list(const struct kvm_host *host, struct kvm_x86_msr_list *ret_list);
/* Read the values of @entries[0 .. @count), whose indices are set. Returns how many came: the next one cannot be read.
 */
int kvm_x86_msrs_get(const struct kvm_vcpu *vcpu, struct kvm_msr_entry *entries, unsigned count);
int kvm_x86_msrs_set(struct kvm_vcpu *vcpu, const struct kvm_msr_entry *entries, unsigned count);

/* The VM's clock (4.29, 4.30). */
int kvm_x86_clock_get(const struct kvm_vm *vm, struct kvm_clock_data *ret_clock);
/* Only its member clock counts: it goes on from there. */
int kvm_x86_clock_set(const struct kvm_vm *vm, const struct kvm_clock_data *clock);

/* ---- the whole state, as records of base/state.h */

/* Enough for any processor's, and for what the VM has. */
#define KVM_X86_VCPU_STATE_BYTES_MAX (64u << 10)
#define KVM_X86_VM_STATE_BYTES_MAX 8192u

/*
 * Save a processor, which does not run and has completed its last access (kvm_vcpu_complete); all of them, before any
 * is restored. @msrs: kvm_x86_msr_list's; those that cannot be read are left out. Up to 20 KiB of stack, as restore.
 * -ENOSPC: no room.
 */
int kvm_x86_vcpu_save(struct kvm_vcpu *vcpu, const struct kvm_x86_msr_list *msrs, struct state_writer *writer);
/*
 * Give a new processor that state, its CPUID and the frequency of its counter too. Records this version does not know
 * are skipped. -EBADMSG: it is no state of a processor, or one of a later version; -EINVAL, …: KVM refuses a part: this
 * host lacks what the other had. The processor is of no use after a failure.
 */
int kvm_x86_vcpu_restore(struct kvm_vcpu *vcpu, struct state_reader *reader);
/*
 * Give a processor that ran an earlier state of its own back, as of before it ran: what CPUID says, and its counter's
 * frequency, which KVM lets nobody change by then, stay. Errors as above.
 */
int kvm_x86_vcpu_reset(struct kvm_vcpu *vcpu, struct state_reader *reader);

/* PICs, I/O APIC, timer (where it was made) and clock. After all processors have stopped. */
int kvm_x86_vm_save(const struct kvm_vm *vm, struct state_writer *writer);
/* The same controllers were made, and processors not yet run. */
int kvm_x86_vm_restore(const struct kvm_vm *vm, struct state_reader *reader);

#endif
