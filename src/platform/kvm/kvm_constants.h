/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Numbers of KVM's interface that the headers of Debian 12 (Linux 6.1) lack; from include/uapi/linux/kvm.h of 6.12. */
#ifndef PLATFORM_KVM_KVM_CONSTANTS_H
#define PLATFORM_KVM_KVM_CONSTANTS_H

#include <linux/kvm.h>

#ifndef KVM_CAP_DIRTY_LOG_RING_ACQ_REL /* Linux 6.1 */
#define KVM_CAP_DIRTY_LOG_RING_ACQ_REL 223
#endif
#ifndef KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP /* Linux 6.3 */
#define KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP 225
#endif
#ifndef KVM_EXIT_MEMORY_FAULT /* Linux 6.8 */
#define KVM_EXIT_MEMORY_FAULT 39
#endif

/* 0 on arm64 before Linux 6.3, where that KVM had no ring; the same number as x86-64's since. */
#if KVM_DIRTY_LOG_PAGE_OFFSET == 0
#undef KVM_DIRTY_LOG_PAGE_OFFSET
#define KVM_DIRTY_LOG_PAGE_OFFSET 64
#endif

/* The member memory_fault of struct kvm_run's union, which begins where mmio does. */
struct kvm_memory_fault_words {
    __u64 flags, address, bytes;
};

#endif
