/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <errno.h>

#include "library/kvm_entry.h"
#include "platform/kvm/kvm_x86.h"

int library_kvm_entry(struct kvm_vcpu *vcpu, uint64_t entry)
{
    if (entry > UINT16_MAX)
        return -EINVAL;
    struct kvm_x86_cpuid cpuid;
    int r = kvm_x86_cpuid_supported(vcpu->vm->host, &cpuid);
    if (r < 0)
        return r;
    const struct kvm_x86_topology topology = {.processors = vcpu->index + 1};
    kvm_x86_cpuid_filter(&cpuid, &topology, vcpu->index);
    r = kvm_x86_cpuid_set(vcpu, &cpuid);
    struct kvm_sregs sregs;
    if (r == 0)
        r = kvm_x86_sregs_get(vcpu, &sregs);
    if (r < 0)
        return r;
    sregs.cs.base = 0; /* after a reset it is near 4 GiB */
    sregs.cs.selector = 0;
    r = kvm_x86_sregs_set(vcpu, &sregs);
    const struct kvm_regs regs = {.rip = entry, .rflags = 2};
    return r < 0 ? r : kvm_x86_regs_set(vcpu, &regs);
}
