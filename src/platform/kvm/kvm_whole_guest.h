/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The guest that kvm_whole_try runs, of one architecture. Its memory is at guest-physical address 0. */
#ifndef PLATFORM_KVM_KVM_WHOLE_GUEST_H
#define PLATFORM_KVM_KVM_WHOLE_GUEST_H

#include "platform/kvm/kvm_vcpu.h"

#define KVM_WHOLE_MEMORY_BYTES (64u << 10)

/* Write the guest's code and tables to @memory, and set the processor to its beginning. */
int kvm_whole_guest_prepare(struct kvm_vcpu *vcpu, uint8_t *memory);
/* What is wrong with how the guest ended, or NULL. */
const char *kvm_whole_guest_judge(const uint8_t *memory, const struct kvm_exit *exit);

#endif
