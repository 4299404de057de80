/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_arm64_test_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define VECTORS 0x2000u
#define VECTOR_INTERRUPT 0x280u /* from the same level, with its own stack pointer */
#define REPORT 0x11000000u
#define DISTRIBUTOR UINT64_C(0x08000000)
#define PROCESSOR_INTERFACE UINT64_C(0x08010000)
#define REDISTRIBUTORS UINT64_C(0x080a0000)
#define ICC_PMR 0xc230u     /* op0 3, op1 0, CRn 4, CRm 6, op2 0 */
#define ICC_IGRPEN1 0xc667u /* 3, 0, 12, 12, 7 */

GUEST(handler);
GUEST(handler_v2);

void rig_arch_vm(struct kvm_rig *rig, unsigned flags)
{
    (void)rig;
    (void)flags;
}

void rig_arch_vcpu(struct kvm_rig *rig, unsigned flags)
{
    (void)flags;
    assert_int_equal(kvm_arm64_vcpu_init(&rig->vcpu, KVM_ARM64_PSCI), 0);
}

void rig_arch_load(struct kvm_rig *rig)
{
    assert_int_equal(kvm_arm64_reg_set_u64(&rig->vcpu, kvm_arm64_reg_pc, RIG_CODE), 0);
}

bool rig_is_report(const struct kvm_exit *exit)
{
    return exit->cause == KVM_CAUSE_MMIO && exit->access.is_write && exit->access.address == REPORT &&
           exit->access.size == 4;
}

void rig_gic_open(struct kvm_rig *rig, struct kvm_arm64_gic *gic)
{
    const struct kvm_arm64_gic_config config = {
        .interrupts = 64,
        .processors = 1,
        .distributor = DISTRIBUTOR,
        .redistributors = REDISTRIBUTORS,
        .processor_interface = PROCESSOR_INTERFACE,
    };
    assert_int_equal(kvm_arm64_gic_open(gic, &rig->vm, &config), 0);
    const uint8_t *handler = gic->version == 3 ? guest_handler : guest_handler_v2;
    const uint8_t *end = gic->version == 3 ? guest_handler_end : guest_handler_v2_end;
    memcpy(rig->memory + VECTORS + VECTOR_INTERRUPT, handler, (size_t)(end - handler));
}

static void set_narrow(const struct kvm_arm64_gic *gic, uint32_t group, uint64_t attribute, uint32_t value)
{
    assert_int_equal(kvm_device_set(gic->vm, gic->handle, group, attribute, &value), 0);
}

void rig_gic_enable(const struct kvm_arm64_gic *gic)
{
    const uint32_t bit = 1u << (RIG_INTERRUPT % 32);
    const uint32_t distributor = KVM_DEV_ARM_VGIC_GRP_DIST_REGS;
    set_narrow(gic, distributor, 0xc00 + RIG_INTERRUPT / 16 * 4, 2u << (RIG_INTERRUPT % 16 * 2)); /* an edge */
    set_narrow(gic, distributor, 0x100 + RIG_INTERRUPT / 32 * 4, bit);
    if (gic->version == 3) {
        set_narrow(gic, distributor, 0x80 + RIG_INTERRUPT / 32 * 4, bit); /* group 1 */
        set_narrow(gic, distributor, 0, 2);
        const uint64_t all = 0xff, on = 1;
        assert_int_equal(kvm_device_set(gic->vm, gic->handle, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, ICC_PMR, &all), 0);
        assert_int_equal(kvm_device_set(gic->vm, gic->handle, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, ICC_IGRPEN1, &on), 0);
    } else {
        set_narrow(gic, distributor, 0x800 + RIG_INTERRUPT, 1); /* to processor 0 */
        set_narrow(gic, distributor, 0, 1);
        set_narrow(gic, KVM_DEV_ARM_VGIC_GRP_CPU_REGS, 4, 0x1f); /* bits 7 to 3 of a priority */
        set_narrow(gic, KVM_DEV_ARM_VGIC_GRP_CPU_REGS, 0, 1);
    }
}
