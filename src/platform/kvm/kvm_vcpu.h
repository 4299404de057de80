/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtual processor.
 *
 * Threads: it belongs to the thread that runs it, which is also the one that reads and writes its registers, while it
 * does not run. kvm_vcpu_interrupt and kvm_vcpu_kick are for everybody. Nothing allocates once it is open.
 */
#ifndef PLATFORM_KVM_KVM_VCPU_H
#define PLATFORM_KVM_KVM_VCPU_H

#include <pthread.h>
#include <signal.h>

#include "platform/kvm/kvm_exit.h"
#include "platform/kvm/kvm_vm.h"

struct kvm_coalesced_mmio_ring;
struct kvm_dirty_gfn;

struct kvm_vcpu {
    const struct kvm_vm *vm; /* borrowed */
    int handle;
    uint32_t index;                            /* x86-64: its APIC ID */
    struct kvm_run *run;                       /* shared with KVM, host->run_bytes */
    struct kvm_coalesced_mmio_ring *coalesced; /* inside run, one for the VM; NULL: not offered */
    uint32_t coalesced_max;
    struct kvm_dirty_gfn *dirty; /* mapped; NULL: no ring */
    uint32_t dirty_count;        /* entries, a power of two */
    uint32_t dirty_next;
};

/*
 * Make it (4.7, 4.5). @vm is borrowed until close. x86-64: after the interrupt controller; arm64: before the GIC is
 * initialised, and kvm_arm64_vcpu_init comes next. -EEXIST: that index is there; -EINVAL: too high.
 */
int kvm_vcpu_open(struct kvm_vcpu *vcpu, const struct kvm_vm *vm, uint32_t index);
/*
 * Not while it runs. Also of one that is all zeros or failed to open. KVM itself forgets it with its VM only: an index
 * cannot be opened again.
 */
void kvm_vcpu_close(struct kvm_vcpu *vcpu);

/*
 * Run the guest until something is to be done (4.10), and say what: 0 with *ret_exit filled, also when a signal came
 * (KVM_CAUSE_INTERRUPTED). Blocks. What the last exit wanted to have answered must be in place. -errno: KVM cannot run
 * it at all. -EFAULT: memory behind a slot is gone; -ENXIO: arm64, the GIC was made and not initialised; -ENOEXEC:
 * arm64, kvm_arm64_vcpu_init is missing.
 */
int kvm_vcpu_run(struct kvm_vcpu *vcpu, struct kvm_exit *ret_exit);

/*
 * Let the processor take what the last access was answered, and go no further: its registers are consistent afterwards.
 * To be called before they are read, after an exit of any kind; look at what is wanted of the processor afterwards, as
 * after KVM_CAUSE_INTERRUPTED. 0, or what kvm_vcpu_run gives; and -EBUSY with
 * *ret_exit filled: the same instruction wants another access (a wide one comes in pieces); serve it, and call again.
 */
int kvm_vcpu_complete(struct kvm_vcpu *vcpu, struct kvm_exit *ret_exit);

/*
 * Make it come back soon: the next kvm_vcpu_run, or the one that is about to enter the guest, ends with
 * KVM_CAUSE_INTERRUPTED. From any thread and from signal handlers. What is wanted of the processor is to be written
 * before, by an atomic store. A guest that runs already does not notice: that needs kvm_vcpu_kick, or that a handler of
 * the processor's own thread calls this.
 */
void kvm_vcpu_interrupt(struct kvm_vcpu *vcpu);
/*
 * The same, and a signal to @thread, which runs it, so that it comes back now. kvm_kick_prepare(@signal) was called
 * before. 0, or as pthread_kill has it, negative.
 */
int kvm_vcpu_kick(struct kvm_vcpu *vcpu, pthread_t thread, int signal);
/* Install a handler for @signal that does nothing and interrupts system calls: once for the process. */
int kvm_kick_prepare(int signal);

/*
 * While the guest runs these signals are blocked, instead of the thread's own set (4.21). One that the thread blocks
 * and
 * @blocked does not, ends kvm_vcpu_run without a handler, and stays pending. NULL: back to the thread's own.
 */
int kvm_vcpu_set_signals(struct kvm_vcpu *vcpu, const sigset_t *blocked);

/* What a processor does (4.38): KVM_MP_STATE_. */
int kvm_vcpu_get_state(const struct kvm_vcpu *vcpu, uint32_t *ret_state);
int kvm_vcpu_set_state(struct kvm_vcpu *vcpu, uint32_t state);

/* A capability of the processor, as kvm_vm_enable. */
int kvm_vcpu_enable(const struct kvm_vcpu *vcpu, unsigned capability, const uint64_t *arguments);

/* Step by step (4.87): an exit of KVM_CAUSE_DEBUG after each instruction. */
int kvm_vcpu_debug_step(struct kvm_vcpu *vcpu, bool step);

/* A write that the VM's ring collected (kvm_vm_coalesce_add). */
struct kvm_coalesced_write {
    uint64_t address;
    uint64_t value;
    uint32_t size;
    bool is_port;
};
/*
 * Take the oldest: true, or false when there is none. The ring is the VM's, and every processor sees the same: one
 * thread at a time, whichever.
 */
bool kvm_vcpu_coalesced_pop(struct kvm_vcpu *vcpu, struct kvm_coalesced_write *ret_write);

#endif
