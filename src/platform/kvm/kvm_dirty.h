/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Which pages did the guest write? Two ways, for slots with log_dirty: a bit for each page, read slot by slot (the
 * log), or a ring of pages for each virtual processor (the ring), which costs what was written and not what there is. A
 * VM with rings has no log, but on arm64 for what KVM itself writes (KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP).
 */
#ifndef PLATFORM_KVM_KVM_DIRTY_H
#define PLATFORM_KVM_KVM_DIRTY_H

#include "platform/kvm/kvm_vcpu.h"

/*
 * Reading the log shall not forget it and protect the pages again; kvm_dirty_log_clear does, piece by piece (7.18).
 * Before slots are set. -ENOTSUP.
 */
int kvm_dirty_log_manual(const struct kvm_vm *vm);

/* Room for the bits of @bytes of memory with pages of @page_bytes: whole 64-bit words. */
size_t kvm_dirty_log_bytes(uint64_t bytes, uint32_t page_bytes);
/*
 * The bits of @slot to @bitmap (4.8): bit 0 of byte 0 is its first page. Unless manual, they are cleared in KVM. Room
 * is as kvm_dirty_log_bytes says. -ENOENT: no such slot, or it has no log.
 */
int kvm_dirty_log_get(const struct kvm_vm *vm, uint32_t slot, void *bitmap);
/*
 * Forget the pages whose bits are set, of @pages from @first_page on, both multiples of 64 (the last may end the slot);
 * bit 0 of @bitmap is @first_page (4.117).
 */
int kvm_dirty_log_clear(const struct kvm_vm *vm, uint32_t slot, uint64_t first_page, uint32_t pages,
                        const void *bitmap);

/*
 * Rings of @bytes for each processor, a power of two (8.29). Before the first processor is made. -ENOTSUP; -EINVAL: too
 * large, or none.
 */
int kvm_dirty_ring_enable(struct kvm_vm *vm, uint32_t bytes);
/*
 * Take the next page that @vcpu wrote: true with the slot and the page's number in it, or false when there is none. The
 * page may be written again, unseen, until kvm_dirty_ring_reset: read it after that. On one thread at a time for each
 * processor; it may run meanwhile.
 */
bool kvm_dirty_ring_pop(struct kvm_vcpu *vcpu, uint32_t *ret_slot, uint64_t *ret_page);
/* Protect again all pages that were taken, of all processors; their number, or -errno. One thread at a time. */
int kvm_dirty_ring_reset(const struct kvm_vm *vm);

#endif
