/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A thread enters the guest, serves the exit, and enters it again. Kicks and interrupts cause no exits
 * (vmm_bus_port.c, vmm_irq.c), so what is left takes the machine's lock: docs/decisions/0014.
 *
 * Parking: park_wanted is set, and every thread is kicked out of the guest. Each lets KVM finish the instruction whose
 * access it has just answered, so that registers are consistent, counts itself as parked, and waits. The last one tells
 * the control loop. A thread that waits for a device (BUS_LATER) parks once the device has answered.
 *
 * Threads begin parked: the machine runs when all are there.
 */
#include "vmm/vmm_vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "platform/linux/sandbox.h"
#include "platform/linux/vhost_kernel.h"
#include "vmm/vmm_private.h"

/* It interrupts system calls; nothing else of this process uses it. */
#define VMM_VCPU_SIGNAL (SIGRTMIN + 1)

/* An exit's service is a few calls deep; the C library's printing wants the most. */
#define VMM_VCPU_STACK_BYTES (256u << 10)

/* Pieces of an instruction that is brought to an end: the widest copies 64 bytes, a string instruction stops anyway. */
#define VMM_VCPU_PIECES_MAX 64u

/* What serving an exit asks of the kernel: KVM, messages to back ends; and loops, to which it has things done. */
static const int vmm_vcpu_calls[] = {SYS_sendmsg, SYS_mprotect};
static const unsigned vmm_vcpu_requests[] = {
    KVM_RUN,       KVM_CHECK_EXTENSION,        KVM_IRQ_LINE, KVM_SIGNAL_MSI, KVM_SET_GSI_ROUTING, KVM_IRQFD,
    KVM_IOEVENTFD, KVM_SET_USER_MEMORY_REGION,
};
static const struct sandbox_calls vmm_vcpu_list = {
    .calls = vmm_vcpu_calls,
    .call_count = ARRAY_SIZE(vmm_vcpu_calls),
    .requests = vmm_vcpu_requests,
    .request_count = ARRAY_SIZE(vmm_vcpu_requests),
};

/* ---- exits */

static void vmm_vcpu_wait(struct vmm *vmm, const struct bus_device *device)
{
    while (bus_device_busy(device) && !vmm->stopping)
        pthread_cond_wait(&vmm->settled, &vmm->lock);
}

static void vmm_vcpu_write(struct vmm *vmm, struct bus *bus, uint64_t address, unsigned size, uint64_t value)
{
    struct bus_device *device;
    if (bus_write(bus, address, size, value, &device) == BUS_LATER)
        vmm_vcpu_wait(vmm, device);
}

static uint64_t vmm_vcpu_read(struct vmm *vmm, struct bus *bus, uint64_t address, unsigned size)
{
    struct bus_device *device;
    uint64_t value;
    if (bus_read(bus, address, size, &value, &device) == BUS_LATER)
        vmm_vcpu_wait(vmm, device);
    return value;
}

static void vmm_vcpu_access(struct vmm_vcpu *vcpu, struct bus *bus, const struct kvm_access *access)
{
    struct vmm *vmm = vcpu->vmm;
    vmm_lock(vmm);
    for (uint32_t i = 0; i < access->count; i++) {
        if (access->is_write)
            vmm_vcpu_write(vmm, bus, access->address, access->size, kvm_access_value(access, i));
        else
            kvm_access_answer(access, i, vmm_vcpu_read(vmm, bus, access->address, access->size));
    }
    vmm_unlock(vmm);
}

static void vmm_vcpu_tell(struct vmm_vcpu *vcpu, unsigned event, const struct kvm_exit *exit)
{
    char text[KVM_EXIT_TEXT_BYTES], whole[VMM_ERROR_BYTES];
    kvm_exit_text(exit, text, sizeof(text));
    snprintf(whole, sizeof(whole), "processor %u: %s", vcpu->index, text);
    vmm_lock(vcpu->vmm);
    vmm_tell(vcpu->vmm, event, whole);
    vmm_unlock(vcpu->vmm);
}

static unsigned vmm_vcpu_event(const struct kvm_exit *exit)
{
    if (exit->cause != KVM_CAUSE_SYSTEM_EVENT)
        return VMM_EVENT_CRASH;
    switch (exit->system_event.kind) {
    case KVM_SYSTEM_SHUTDOWN:
        return VMM_EVENT_POWER_OFF;
    case KVM_SYSTEM_RESET:
        return VMM_EVENT_RESET;
    default:
        return VMM_EVENT_CRASH;
    }
}

static inline void vmm_count(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

static void vmm_vcpu_serve(struct vmm_vcpu *vcpu, const struct kvm_exit *exit)
{
    struct vmm *vmm = vcpu->vmm;
    vmm_count(&vcpu->exits_total);
    switch (exit->cause) {
    case KVM_CAUSE_MMIO:
        vmm_count(&vcpu->mmio_total);
        vmm_vcpu_access(vcpu, vmm->mmio, &exit->access);
        break;
    case KVM_CAUSE_PIO:
        vmm_count(&vcpu->pio_total);
        vmm_vcpu_access(vcpu, vmm->pio, &exit->access);
        break;
    case KVM_CAUSE_INTERRUPTED:
        vmm_count(&vcpu->interrupted_total);
        break;
    case KVM_CAUSE_EOI:
    case KVM_CAUSE_BUS_LOCK:
    case KVM_CAUSE_NOTIFY:
    case KVM_CAUSE_INTERRUPT_WINDOW:
        break;
    default:
        vmm_vcpu_tell(vcpu, vmm_vcpu_event(exit), exit);
        break;
    }
}

/* ---- parking */

/* Let the instruction whose access was served last come to its end. */
static void vmm_vcpu_come_to_rest(struct vmm_vcpu *vcpu)
{
    struct kvm_exit exit;
    int r = -EBUSY;
    for (unsigned i = 0; i < VMM_VCPU_PIECES_MAX && r == -EBUSY; i++) {
        r = kvm_vcpu_complete(&vcpu->kvm, &exit);
        if (r == -EBUSY)
            vmm_vcpu_serve(vcpu, &exit);
    }
    vcpu->incomplete = r < 0;
}

/* Wait until the machine goes on; false: the thread is to end. */
static bool vmm_vcpu_park(struct vmm_vcpu *vcpu, bool fresh)
{
    struct vmm *vmm = vcpu->vmm;
    if (!fresh)
        vmm_vcpu_come_to_rest(vcpu);
    vmm_lock(vmm);
    vcpu->parked = true;
    vmm->parked_count++;
    if (vmm->parked_count == vmm->options.processors)
        vmm_tell(vmm, VMM_EVENT_PARKED, NULL);
    while (atomic_load(&vmm->park_wanted) && !vmm->stopping)
        pthread_cond_wait(&vmm->unparked, &vmm->lock);
    bool goes_on = !vmm->stopping;
    vmm->parked_count--;
    vcpu->parked = false;
    vmm_unlock(vmm);
    return goes_on;
}

static void vmm_vcpu_fail(struct vmm_vcpu *vcpu, const char *what, int error)
{
    char text[VMM_ERROR_BYTES];
    snprintf(text, sizeof(text), "processor %u: %s: %s", vcpu->index, what, strerror(-error));
    vmm_lock(vcpu->vmm);
    vmm_tell(vcpu->vmm, VMM_EVENT_FAILED, text);
    vmm_unlock(vcpu->vmm);
}

static void vmm_vcpu_enter_sandbox(struct vmm_vcpu *vcpu)
{
    static const struct sandbox_calls *const lists[] = {&sandbox_thread_calls, &loop_system_calls, &vmm_vcpu_list,
                                                        &vhost_kernel_system_calls};
    if (!vcpu->vmm->options.sandbox)
        return;
    int r = sandbox_enter(lists, ARRAY_SIZE(lists));
    if (r < 0)
        vmm_vcpu_fail(vcpu, "cannot limit its system calls", r);
}

static void *vmm_vcpu_main(void *argument)
{
    struct vmm_vcpu *vcpu = argument;
    struct kvm_exit exit;
    bool fresh = true;
    vmm_vcpu_enter_sandbox(vcpu);
    for (;;) {
        if (atomic_load(&vcpu->vmm->park_wanted)) {
            if (!vmm_vcpu_park(vcpu, fresh))
                return NULL;
            fresh = false;
            continue;
        }
        int r = kvm_vcpu_run(&vcpu->kvm, &exit);
        if (r < 0)
            vmm_vcpu_fail(vcpu, "KVM cannot run it", r);
        else
            vmm_vcpu_serve(vcpu, &exit);
    }
}

/* ---- all of them, for the control loop */

int vmm_vcpus_start(struct vmm *vmm)
{
    pthread_attr_t attributes;
    int r = kvm_kick_prepare(VMM_VCPU_SIGNAL);
    if (r < 0)
        return r;
    r = pthread_attr_init(&attributes);
    if (r != 0)
        return -r;
    pthread_attr_setstacksize(&attributes, VMM_VCPU_STACK_BYTES);
    for (unsigned i = 0; i < vmm->options.processors && r == 0; i++) {
        struct vmm_vcpu *vcpu = &vmm->vcpus[i];
        char name[16];
        r = pthread_create(&vcpu->thread, &attributes, vmm_vcpu_main, vcpu);
        vcpu->started = r == 0;
        snprintf(name, sizeof(name), "vcpu-%u", i);
        if (r == 0)
            pthread_setname_np(vcpu->thread, name);
    }
    pthread_attr_destroy(&attributes);
    if (r != 0)
        vmm_vcpus_stop(vmm);
    return -r;
}

void vmm_vcpus_park(struct vmm *vmm)
{
    if (atomic_exchange(&vmm->park_wanted, true)) {
        /* Those that have parked already will not say so again. */
        if (vmm->parked_count == vmm->options.processors)
            vmm_tell(vmm, VMM_EVENT_PARKED, NULL);
        return;
    }
    for (unsigned i = 0; i < vmm->options.processors; i++) {
        struct vmm_vcpu *vcpu = &vmm->vcpus[i];
        if (vcpu->started)
            kvm_vcpu_kick(&vcpu->kvm, vcpu->thread, VMM_VCPU_SIGNAL);
    }
}

void vmm_vcpus_unpark(struct vmm *vmm)
{
    atomic_store(&vmm->park_wanted, false);
    pthread_cond_broadcast(&vmm->unparked);
}

void vmm_vcpus_stop(struct vmm *vmm)
{
    vmm_lock(vmm);
    vmm->stopping = true;
    pthread_cond_broadcast(&vmm->unparked);
    pthread_cond_broadcast(&vmm->settled);
    vmm_unlock(vmm);
    for (unsigned i = 0; i < vmm->options.processors; i++) {
        struct vmm_vcpu *vcpu = &vmm->vcpus[i];
        if (vcpu->started)
            pthread_join(vcpu->thread, NULL);
        vcpu->started = false;
    }
}
