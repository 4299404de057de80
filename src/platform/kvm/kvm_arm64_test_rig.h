/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The rig's GIC. */
#ifndef PLATFORM_KVM_KVM_ARM64_TEST_RIG_H
#define PLATFORM_KVM_KVM_ARM64_TEST_RIG_H

#include "platform/kvm/kvm_arm64.h"
#include "platform/kvm/kvm_test_rig.h"

#define RIG_INTERRUPT 40u /* shared, enabled, an edge */

/* Make the GIC of a rig that was opened with RIG_INTERRUPTS. */
void rig_gic_open(struct kvm_rig *rig, struct kvm_arm64_gic *gic);
/* Turn it on by its state, and RIG_INTERRUPT with it: what a guest's driver would do. */
void rig_gic_enable(const struct kvm_arm64_gic *gic);

#endif
