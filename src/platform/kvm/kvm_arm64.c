/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_arm64.h"

#include <assert.h>
#include <errno.h>

#include "platform/kvm/kvm_constants.h"
#include "platform/kvm/kvm_irq.h"

static_assert(offsetof(struct kvm_arm64_reg_list, ids) == offsetof(struct kvm_reg_list, reg), "as the kernel has it");
static_assert(KVM_ARM64_PSCI == 1u << KVM_ARM_VCPU_PSCI_0_2, "as the kernel has it");
static_assert(KVM_ARM64_POWER_OFF == 1u << KVM_ARM_VCPU_POWER_OFF, "as the kernel has it");

static const struct kvm_capability capabilities[] = {
    {"USER_MEMORY", KVM_CAP_USER_MEMORY, KVM_NEEDED, "memory of ours as the guest's"},
    {"ONE_REG", KVM_CAP_ONE_REG, KVM_NEEDED, "registers"},
    {"ARM_PSCI_0_2", KVM_CAP_ARM_PSCI_0_2, KVM_NEEDED, "power-off, reset and more than one processor"},
    {"IRQCHIP", KVM_CAP_IRQCHIP, KVM_NEEDED, "an interrupt controller in the kernel"},
    {"DEVICE_CTRL", KVM_CAP_DEVICE_CTRL, KVM_NEEDED, "an interrupt controller in the kernel"},
    {"IRQFD", KVM_CAP_IRQFD, KVM_NEEDED, "interrupts by eventfd"},
    {"IOEVENTFD", KVM_CAP_IOEVENTFD, KVM_NEEDED, "doorbells without an exit"},
    {"IRQ_ROUTING", KVM_CAP_IRQ_ROUTING, KVM_NEEDED, "interrupts by eventfd"},
    {"IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT, KVM_NEEDED, "stopping a processor without a race"},
    {"MP_STATE", KVM_CAP_MP_STATE, KVM_NEEDED, "saving a processor"},
    {"SIGNAL_MSI", KVM_CAP_SIGNAL_MSI, KVM_USED, "message-signalled interrupts"},
    {"MSI_DEVID", KVM_CAP_MSI_DEVID, KVM_USED, "message-signalled interrupts by an ITS"},
    {"ARM_VM_IPA_SIZE", KVM_CAP_ARM_VM_IPA_SIZE, KVM_USED, "more than 40 bits of guest-physical address"},
    {"VCPU_EVENTS", KVM_CAP_VCPU_EVENTS, KVM_USED, "saving a pending system error"},
    {"READONLY_MEM", KVM_CAP_READONLY_MEM, KVM_USED, "ROM"},
    {"IOEVENTFD_ANY_LENGTH", KVM_CAP_IOEVENTFD_ANY_LENGTH, KVM_USED, "faster doorbells"},
    {"IRQFD_RESAMPLE", KVM_CAP_IRQFD_RESAMPLE, KVM_USED, "level-triggered interrupts by eventfd"},
    {"COALESCED_MMIO", KVM_CAP_COALESCED_MMIO, KVM_USED, "collecting writes"},
    {"MANUAL_DIRTY_LOG_PROTECT2", KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_USED, "a dirty log in small steps"},
    {"DIRTY_LOG_RING_ACQ_REL", KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_USED, "dirty pages as a ring"},
    {"DIRTY_LOG_RING_WITH_BITMAP", KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, KVM_USED, "that ring beside an ITS"},
    {"SET_GUEST_DEBUG", KVM_CAP_SET_GUEST_DEBUG, KVM_USED, "single steps"},
    {"ARM_NISV_TO_USER", KVM_CAP_ARM_NISV_TO_USER, KVM_USED, "naming an access that cannot be emulated"},
    {"ARM_SYSTEM_SUSPEND", KVM_CAP_ARM_SYSTEM_SUSPEND, KVM_USED, "a guest that suspends itself"},
};

const struct kvm_capability *kvm_capabilities(size_t *ret_count)
{
    *ret_count = ARRAY_SIZE(capabilities);
    return capabilities;
}

/* ---- exits */

void kvm_exit_decode_debug(const struct kvm_run *run, struct kvm_exit *ret_exit)
{
    ret_exit->debug.pc = run->debug.arch.far;
    ret_exit->debug.exception = 0;
    ret_exit->debug.syndrome = run->debug.arch.hsr;
}

const char *kvm_exit_entry_reason(uint64_t reason)
{
    return reason == 1 ? "this processor lacks what the guest runs on"
                       : NULL; /* bit 0: a 32-bit guest on the wrong one */
}

/* ---- interrupts */

uint32_t kvm_arm64_irq_number(enum kvm_arm64_irq_kind kind, uint32_t processor, uint32_t interrupt)
{
    uint32_t type = kind == KVM_ARM64_IRQ_SHARED ? KVM_ARM_IRQ_TYPE_SPI : KVM_ARM_IRQ_TYPE_PPI;
    /* The processor's number is cut in two for historical reasons. */
    return (processor >> 8 & KVM_ARM_IRQ_VCPU2_MASK) << KVM_ARM_IRQ_VCPU2_SHIFT | type << KVM_ARM_IRQ_TYPE_SHIFT |
           (processor & KVM_ARM_IRQ_VCPU_MASK) << KVM_ARM_IRQ_VCPU_SHIFT |
           (interrupt & KVM_ARM_IRQ_NUM_MASK) << KVM_ARM_IRQ_NUM_SHIFT;
}

int kvm_routes_add_default(struct kvm_routes *routes, unsigned pins)
{
    int r = 0;
    for (uint32_t gsi = 0; gsi < pins && r == 0; gsi++)
        r = kvm_routes_add_pin(routes, gsi, 0, gsi);
    return r;
}

/* ---- virtual processors */

static int vcpu_ioctl(const struct kvm_vcpu *vcpu, unsigned long request, void *argument)
{
    return kvm_ioctl(vcpu->vm->host->system, vcpu->handle, request, argument);
}

int kvm_arm64_vcpu_init(struct kvm_vcpu *vcpu, uint32_t features)
{
    struct kvm_vcpu_init init = {0};
    int r = kvm_ioctl(vcpu->vm->host->system, vcpu->vm->handle, KVM_ARM_PREFERRED_TARGET, &init);
    if (r < 0)
        return r;
    init.features[0] |= features;
    r = vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
    if (r < 0 || (features & 1u << KVM_ARM_VCPU_SVE) == 0)
        return r;
    int sve = KVM_ARM_VCPU_SVE; /* all lengths of vectors that the host has (4.119) */
    return vcpu_ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, &sve);
}

size_t kvm_arm64_reg_bytes(uint64_t id)
{
    return (size_t)1 << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}

int kvm_arm64_reg_get(const struct kvm_vcpu *vcpu, uint64_t id, void *ret_value)
{
    struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)ret_value};
    return vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg);
}

int kvm_arm64_reg_set(struct kvm_vcpu *vcpu, uint64_t id, const void *value)
{
    struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)value};
    return vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &reg);
}

int kvm_arm64_reg_get_u64(const struct kvm_vcpu *vcpu, uint64_t id, uint64_t *ret_value)
{
    uint64_t value;
    ASSERT(kvm_arm64_reg_bytes(id) == sizeof(value));
    int r = kvm_arm64_reg_get(vcpu, id, &value);
    if (r >= 0)
        *ret_value = value;
    return r;
}

int kvm_arm64_reg_set_u64(struct kvm_vcpu *vcpu, uint64_t id, uint64_t value)
{
    ASSERT(kvm_arm64_reg_bytes(id) == sizeof(value));
    return kvm_arm64_reg_set(vcpu, id, &value);
}

#define CORE_REG(member) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(member))

const uint64_t kvm_arm64_reg_sp = CORE_REG(regs.sp);
const uint64_t kvm_arm64_reg_pc = CORE_REG(regs.pc);
const uint64_t kvm_arm64_reg_pstate = CORE_REG(regs.pstate);
const uint64_t kvm_arm64_reg_timer_count = KVM_REG_ARM_TIMER_CNT;
const uint64_t kvm_arm64_reg_timer_compare = KVM_REG_ARM_TIMER_CVAL;
const uint64_t kvm_arm64_reg_timer_control = KVM_REG_ARM_TIMER_CTL;

uint64_t kvm_arm64_reg_x(unsigned number)
{
    ASSERT(number <= 30);
    return CORE_REG(regs.regs[0]) + number * (sizeof(uint64_t) / sizeof(uint32_t));
}

int kvm_arm64_vcpu_affinity(const struct kvm_vcpu *vcpu, uint64_t *ret_affinity)
{
    uint64_t value;
    int r = kvm_arm64_reg_get_u64(vcpu, ARM64_SYS_REG(3, 0, 0, 0, 5), &value); /* MPIDR_EL1 */
    if (r >= 0)
        *ret_affinity = value & UINT64_C(0xff00ffffff); /* Aff3, Aff2, Aff1, Aff0 */
    return r;
}

int kvm_arm64_reg_list(const struct kvm_vcpu *vcpu, struct kvm_arm64_reg_list *ret_list)
{
    ret_list->count = KVM_ARM64_REGS_MAX;
    int r = vcpu_ioctl(vcpu, KVM_GET_REG_LIST, ret_list);
    return r < 0 ? r : 0;
}
