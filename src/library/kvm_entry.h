/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* How a new processor begins at an address: each architecture's own way, as include/backplane/kvm.h says. */
#ifndef LIBRARY_KVM_ENTRY_H
#define LIBRARY_KVM_ENTRY_H

#include "platform/kvm/kvm_vcpu.h"

/* -EINVAL: it cannot begin there. */
int library_kvm_entry(struct kvm_vcpu *vcpu, uint64_t entry);

#endif
