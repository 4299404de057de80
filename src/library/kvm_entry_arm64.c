/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "library/kvm_entry.h"
#include "platform/kvm/kvm_arm64.h"

int library_kvm_entry(struct kvm_vcpu *vcpu, uint64_t entry)
{
    int r = kvm_arm64_vcpu_init(vcpu, KVM_ARM64_PSCI);
    return r < 0 ? r : kvm_arm64_reg_set_u64(vcpu, kvm_arm64_reg_pc, entry);
}
