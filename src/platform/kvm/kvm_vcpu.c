/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. Whoever wants a processor back sets immediate_exit in the state that is shared with KVM, which
 * looks at it after it has decided to enter the guest with signals taken into account: a guest that runs already is
 * interrupted by a signal, one that is about to run is not entered. kvm_vcpu_run clears the flag once it has ended
 * because of it; the caller looks at what is wanted after that, so no request is lost: one that comes later sets the
 * flag again.
 *
 * Limits. Nothing tells kvm_vcpu_interrupt from a signal of another kind; both are KVM_CAUSE_INTERRUPTED.
 */
#include "platform/kvm/kvm_vcpu.h"

#include <errno.h>
#include <linux/kvm.h>

#include "platform/kvm/kvm_constants.h"

/* The kernel's set of signals, which is smaller than the C library's: 64 of them. */
#define KERNEL_SIGNAL_SET_BYTES 8

static int kvm_vcpu_ioctl(const struct kvm_vcpu *vcpu, unsigned long request, void *argument)
{
    return kvm_ioctl(vcpu->vm->host->system, vcpu->handle, request, argument);
}

static int vcpu_map(struct kvm_vcpu *vcpu)
{
    const struct kvm_host *host = vcpu->vm->host;
    void *at;
    int r = host->system->map(host->system, vcpu->handle, 0, host->run_bytes, &at);
    if (r < 0)
        return r;
    vcpu->run = at;
    /* The ring of coalesced writes lies so many pages into the same mapping, one page long. */
    uint64_t ring = (uint64_t)kvm_vm_check(vcpu->vm, KVM_CAP_COALESCED_MMIO) * host->page_bytes;
    if (ring != 0 && range_within(ring, host->page_bytes, host->run_bytes)) {
        vcpu->coalesced = (struct kvm_coalesced_mmio_ring *)(void *)((uint8_t *)at + ring);
        vcpu->coalesced_max =
            (uint32_t)((host->page_bytes - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio));
    }
    if (vcpu->vm->dirty_ring_bytes == 0)
        return 0;
    r = host->system->map(host->system, vcpu->handle, (uint64_t)KVM_DIRTY_LOG_PAGE_OFFSET * host->page_bytes,
                          vcpu->vm->dirty_ring_bytes, &at);
    if (r < 0)
        return r;
    vcpu->dirty = at;
    vcpu->dirty_count = vcpu->vm->dirty_ring_bytes / (uint32_t)sizeof(struct kvm_dirty_gfn);
    return 0;
}

int kvm_vcpu_open(struct kvm_vcpu *vcpu, const struct kvm_vm *vm, uint32_t index)
{
    *vcpu = (struct kvm_vcpu){0};
    int handle = kvm_ioctl_number(vm->host->system, vm->handle, KVM_CREATE_VCPU, index);
    if (handle < 0)
        return handle;
    *vcpu = (struct kvm_vcpu){.vm = vm, .handle = handle, .index = index};
    int r = vcpu_map(vcpu);
    if (r < 0)
        kvm_vcpu_close(vcpu);
    return r;
}

void kvm_vcpu_close(struct kvm_vcpu *vcpu)
{
    if (vcpu->vm) {
        const struct kvm_system *system = vcpu->vm->host->system;
        if (vcpu->dirty)
            system->unmap(system, vcpu->dirty, vcpu->vm->dirty_ring_bytes);
        if (vcpu->run)
            system->unmap(system, vcpu->run, vcpu->vm->host->run_bytes);
        system->close(system, vcpu->handle);
    }
    *vcpu = (struct kvm_vcpu){0};
}

int kvm_vcpu_run(struct kvm_vcpu *vcpu, struct kvm_exit *ret_exit)
{
    const struct kvm_host *host = vcpu->vm->host;
    int r = host->system->ioctl(host->system, vcpu->handle, KVM_RUN, NULL);
    if (r >= 0) {
        kvm_exit_decode(vcpu->run, host->run_bytes, ret_exit);
        return 0;
    }
    switch (r) {
    case -EINTR:
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        ret_exit->cause = KVM_CAUSE_INTERRUPTED;
        return 0;
    case -EAGAIN: /* it was not started yet, and something arrived (x86-64) */
        ret_exit->cause = KVM_CAUSE_INTERRUPTED;
        return 0;
    case -EFAULT:
    case -EHWPOISON:
        if (vcpu->run->exit_reason != KVM_EXIT_MEMORY_FAULT)
            return r;
        kvm_exit_decode(vcpu->run, host->run_bytes, ret_exit);
        return 0;
    default:
        return r;
    }
}

int kvm_vcpu_complete(struct kvm_vcpu *vcpu, struct kvm_exit *ret_exit)
{
    kvm_vcpu_interrupt(vcpu);
    struct kvm_exit exit;
    int r = kvm_vcpu_run(vcpu, &exit);
    if (r < 0)
        return r;
    if (exit.cause == KVM_CAUSE_INTERRUPTED)
        return 0;
    *ret_exit = exit;
    return -EBUSY;
}

void kvm_vcpu_interrupt(struct kvm_vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

int kvm_vcpu_kick(struct kvm_vcpu *vcpu, pthread_t thread, int signal)
{
    kvm_vcpu_interrupt(vcpu);
    return -pthread_kill(thread, signal);
}

static void kick_arrived(int signal)
{
    (void)signal; /* that it came is enough: KVM_RUN ends */
}

int kvm_kick_prepare(int signal)
{
    struct sigaction action = {.sa_handler = kick_arrived}; /* no SA_RESTART */
    sigemptyset(&action.sa_mask);
    return sigaction(signal, &action, NULL) == 0 ? 0 : -errno;
}

int kvm_vcpu_set_signals(struct kvm_vcpu *vcpu, const sigset_t *blocked)
{
    if (!blocked)
        return kvm_vcpu_ioctl(vcpu, KVM_SET_SIGNAL_MASK, NULL);
    /* struct kvm_signal_mask: a length, then so many bytes. */
    uint8_t mask[sizeof(uint32_t) + KERNEL_SIGNAL_SET_BYTES] = {0};
    const uint32_t bytes = KERNEL_SIGNAL_SET_BYTES;
    memcpy(mask, &bytes, sizeof(bytes));
    memcpy(mask + sizeof(bytes), blocked, KERNEL_SIGNAL_SET_BYTES);
    return kvm_vcpu_ioctl(vcpu, KVM_SET_SIGNAL_MASK, mask);
}

int kvm_vcpu_get_state(const struct kvm_vcpu *vcpu, uint32_t *ret_state)
{
    struct kvm_mp_state state;
    int r = kvm_vcpu_ioctl(vcpu, KVM_GET_MP_STATE, &state);
    if (r >= 0)
        *ret_state = state.mp_state;
    return r;
}

int kvm_vcpu_set_state(struct kvm_vcpu *vcpu, uint32_t state)
{
    struct kvm_mp_state mp_state = {.mp_state = state};
    return kvm_vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp_state);
}

int kvm_vcpu_enable(const struct kvm_vcpu *vcpu, unsigned capability, const uint64_t *arguments)
{
    struct kvm_enable_cap enable = {.cap = capability};
    if (arguments)
        memcpy(enable.args, arguments, sizeof(enable.args));
    if (kvm_vm_check(vcpu->vm, capability) == 0)
        return -ENOTSUP;
    return kvm_vcpu_ioctl(vcpu, KVM_ENABLE_CAP, &enable);
}

int kvm_vcpu_debug_step(struct kvm_vcpu *vcpu, bool step)
{
    struct kvm_guest_debug debug = {.control = step ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0};
    if (kvm_vm_check(vcpu->vm, KVM_CAP_SET_GUEST_DEBUG) == 0)
        return -ENOTSUP;
    return kvm_vcpu_ioctl(vcpu, KVM_SET_GUEST_DEBUG, &debug);
}

bool kvm_vcpu_coalesced_pop(struct kvm_vcpu *vcpu, struct kvm_coalesced_write *ret_write)
{
    struct kvm_coalesced_mmio_ring *ring = vcpu->coalesced;
    if (!ring)
        return false;
    uint32_t first = __atomic_load_n(&ring->first, __ATOMIC_RELAXED);
    if (first == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE) || first >= vcpu->coalesced_max)
        return false;
    const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[first];
    uint64_t value = get_le64(entry->data);
    uint32_t size = u32_min(entry->len, sizeof(entry->data));
    if (size < 8)
        value &= (UINT64_C(1) << (8 * size)) - 1;
    *ret_write = (struct kvm_coalesced_write){
        .address = entry->phys_addr,
        .value = value,
        .size = size,
        .is_port = entry->pio != 0,
    };
    __atomic_store_n(&ring->first, (first + 1) % vcpu->coalesced_max, __ATOMIC_RELEASE);
    return true;
}
