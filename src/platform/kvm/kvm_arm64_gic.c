/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <errno.h>

#include "platform/kvm/kvm_arm64.h"

bool kvm_arm64_gic_possible(const struct kvm_vm *vm, unsigned version)
{
    struct kvm_create_device device = {
        .type = version == 3 ? KVM_DEV_TYPE_ARM_VGIC_V3 : KVM_DEV_TYPE_ARM_VGIC_V2,
        .flags = KVM_CREATE_DEVICE_TEST,
    };
    return kvm_ioctl(vm->host->system, vm->handle, KVM_CREATE_DEVICE, &device) >= 0;
}

static int set_address(const struct kvm_arm64_gic *gic, int handle, uint64_t type, uint64_t address)
{
    return kvm_device_set(gic->vm, handle, KVM_DEV_ARM_VGIC_GRP_ADDR, type, &address);
}

static int gic_place(const struct kvm_arm64_gic *gic, const struct kvm_arm64_gic_config *config)
{
    bool is_v3 = gic->version == 3;
    int r = set_address(gic, gic->handle, is_v3 ? KVM_VGIC_V3_ADDR_TYPE_DIST : KVM_VGIC_V2_ADDR_TYPE_DIST,
                        config->distributor);
    if (r < 0)
        return r;
    return is_v3 ? set_address(gic, gic->handle, KVM_VGIC_V3_ADDR_TYPE_REDIST, config->redistributors)
                 : set_address(gic, gic->handle, KVM_VGIC_V2_ADDR_TYPE_CPU, config->processor_interface);
}

static int its_open(struct kvm_arm64_gic *gic, uint64_t address)
{
    int r = kvm_device_open(gic->vm, KVM_DEV_TYPE_ARM_VGIC_ITS, &gic->its_handle);
    if (r < 0)
        return r;
    r = set_address(gic, gic->its_handle, KVM_VGIC_ITS_ADDR_TYPE, address);
    if (r < 0)
        return r;
    return kvm_device_set(gic->vm, gic->its_handle, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
}

int kvm_arm64_gic_open(struct kvm_arm64_gic *gic, const struct kvm_vm *vm, const struct kvm_arm64_gic_config *config)
{
    unsigned version = config->version;
    if (version == 0)
        version = kvm_arm64_gic_possible(vm, 3) ? 3 : 2;
    *gic = (struct kvm_arm64_gic){
        .vm = vm,
        .handle = -1,
        .its_handle = -1,
        .version = version,
        .interrupts = config->interrupts,
        .processors = config->processors,
    };
    if ((version != 2 && version != 3) || (version == 2 && config->processors > 8))
        return -EINVAL;
    int r = kvm_device_open(vm, version == 3 ? KVM_DEV_TYPE_ARM_VGIC_V3 : KVM_DEV_TYPE_ARM_VGIC_V2, &gic->handle);
    const uint32_t interrupts = config->interrupts;
    if (r == 0)
        r = kvm_device_set(vm, gic->handle, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts);
    if (r == 0)
        r = gic_place(gic, config);
    if (r == 0)
        r = kvm_device_set(vm, gic->handle, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
    if (r == 0 && version == 3 && config->its != 0)
        r = its_open(gic, config->its);
    if (r < 0)
        kvm_arm64_gic_close(gic);
    return r < 0 ? r : 0;
}

void kvm_arm64_gic_close(struct kvm_arm64_gic *gic)
{
    if (gic->vm && gic->its_handle != -1)
        kvm_device_close(gic->vm, gic->its_handle);
    if (gic->vm && gic->handle != -1)
        kvm_device_close(gic->vm, gic->handle);
    gic->its_handle = gic->handle = -1;
}
