/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtual processor's thread: it runs the guest, and serves what the guest does to devices under the machine's lock.
 * Asked to, it parks: it leaves the guest with its registers consistent, and waits.
 */
#ifndef VMM_VMM_VCPU_H
#define VMM_VMM_VCPU_H

#include <pthread.h>

#include "platform/kvm/kvm_vcpu.h"

struct vmm;

struct vmm_vcpu {
    struct vmm *vmm; /* borrowed */
    unsigned index;
    struct kvm_vcpu kvm;
    pthread_t thread;
    bool started;    /* there is a thread */
    bool parked;     /* under the machine's lock */
    bool incomplete; /* it could not be brought to rest: its registers are of no use */
    /* counted by its own thread, read by others for people */
    _Atomic uint64_t exits_total, mmio_total, pio_total, interrupted_total;
};

/* Start the threads of all processors, parked. -EAGAIN, -ENOMEM: none is there then. */
int vmm_vcpus_start(struct vmm *vmm);
/* Ask all to park; vmm_attend is posted when the last one has. The lock is held. */
void vmm_vcpus_park(struct vmm *vmm);
/* All go on. The lock is held. */
void vmm_vcpus_unpark(struct vmm *vmm);
/* All end, and are joined. They are parked. The lock is not held. */
void vmm_vcpus_stop(struct vmm *vmm);

#endif
