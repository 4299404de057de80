/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_dirty.h"

#include <errno.h>
#include <linux/kvm.h>

#include "platform/kvm/kvm_constants.h"

int kvm_dirty_log_manual(const struct kvm_vm *vm)
{
    /* Of what is offered, everything: pages of a new slot count as written at once, too, which spares protecting them.
     */
    int offered = kvm_vm_check(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
    if (offered == 0)
        return -ENOTSUP;
    const uint64_t arguments[4] = {(uint64_t)offered & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE};
    return kvm_vm_enable(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, arguments);
}

size_t kvm_dirty_log_bytes(uint64_t bytes, uint32_t page_bytes)
{
    uint64_t pages = bytes / page_bytes;
    return (size_t)(align_up(pages, 64) / 8);
}

int kvm_dirty_log_get(const struct kvm_vm *vm, uint32_t slot, void *bitmap)
{
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};
    int r = kvm_ioctl(vm->host->system, vm->handle, KVM_GET_DIRTY_LOG, &log);
    return r < 0 ? r : 0;
}

int kvm_dirty_log_clear(const struct kvm_vm *vm, uint32_t slot, uint64_t first_page, uint32_t pages, const void *bitmap)
{
    struct kvm_clear_dirty_log log = {
        .slot = slot,
        .num_pages = pages,
        .first_page = first_page,
        .dirty_bitmap = (void *)(uintptr_t)bitmap,
    };
    int r = kvm_ioctl(vm->host->system, vm->handle, KVM_CLEAR_DIRTY_LOG, &log);
    return r < 0 ? r : 0;
}

int kvm_dirty_ring_enable(struct kvm_vm *vm, uint32_t bytes)
{
    /* The one of weak memory order says how entries are handed over; the older one was x86-64's alone. */
    unsigned capability = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
    int bytes_max = kvm_vm_check(vm, capability);
    if (bytes_max == 0) {
        capability = KVM_CAP_DIRTY_LOG_RING;
        bytes_max = kvm_vm_check(vm, capability);
    }
    if (bytes_max == 0)
        return -ENOTSUP;
    if (!is_power_of_two(bytes) || bytes > (uint32_t)bytes_max || bytes < vm->host->page_bytes)
        return -EINVAL;
    const uint64_t arguments[4] = {bytes};
    int r = kvm_vm_enable(vm, capability, arguments);
    if (r == 0)
        vm->dirty_ring_bytes = bytes;
    return r;
}

bool kvm_dirty_ring_pop(struct kvm_vcpu *vcpu, uint32_t *ret_slot, uint64_t *ret_page)
{
    if (!vcpu->dirty)
        return false;
    struct kvm_dirty_gfn *entry = &vcpu->dirty[vcpu->dirty_next & (vcpu->dirty_count - 1)];
    /* Handed over by acquire and release, as 8.29 wants: dirty is KVM's word, reset is ours. */
    if ((__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & (KVM_DIRTY_GFN_F_DIRTY | KVM_DIRTY_GFN_F_RESET)) !=
        KVM_DIRTY_GFN_F_DIRTY)
        return false;
    *ret_slot = entry->slot;
    *ret_page = entry->offset;
    __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    vcpu->dirty_next++;
    return true;
}

int kvm_dirty_ring_reset(const struct kvm_vm *vm)
{
    return kvm_ioctl_number(vm->host->system, vm->handle, KVM_RESET_DIRTY_RINGS, 0);
}
