/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_vm.h"

#include <errno.h>
#include <linux/kvm.h>

int kvm_vm_open(struct kvm_vm *vm, const struct kvm_host *host, unsigned address_bits)
{
    *vm = (struct kvm_vm){0};
    unsigned long type = 0;
    if (address_bits != 0) {
        /* Where KVM has no say in it, the number only has to be one that the caller can do without. */
        int bits_max = kvm_host_check(host, KVM_CAP_ARM_VM_IPA_SIZE);
        if (bits_max == 0 || address_bits < 32 || address_bits > (unsigned)bits_max)
            return -ENOTSUP;
        type = KVM_VM_TYPE_ARM_IPA_SIZE(address_bits);
    }
    int handle = kvm_ioctl_number(host->system, host->handle, KVM_CREATE_VM, type);
    if (handle < 0)
        return handle;
    *vm = (struct kvm_vm){.host = host, .handle = handle};
    return 0;
}

void kvm_vm_close(struct kvm_vm *vm)
{
    if (vm->host)
        vm->host->system->close(vm->host->system, vm->handle);
    *vm = (struct kvm_vm){0};
}

static int kvm_vm_ioctl(const struct kvm_vm *vm, unsigned long request, void *argument)
{
    return kvm_ioctl(vm->host->system, vm->handle, request, argument);
}

int kvm_vm_check(const struct kvm_vm *vm, unsigned capability)
{
    int r = kvm_ioctl_number(vm->host->system, vm->handle, KVM_CHECK_EXTENSION, capability);
    return r < 0 ? 0 : r;
}

int kvm_vm_enable(const struct kvm_vm *vm, unsigned capability, const uint64_t *arguments)
{
    struct kvm_enable_cap enable = {.cap = capability};
    if (arguments)
        memcpy(enable.args, arguments, sizeof(enable.args));
    return kvm_vm_check(vm, capability) == 0 ? -ENOTSUP : kvm_vm_ioctl(vm, KVM_ENABLE_CAP, &enable);
}

int kvm_vm_slot_set(const struct kvm_vm *vm, const struct kvm_slot *slot)
{
    uint64_t page = vm->host->page_bytes;
    if (slot->bytes == 0 || !is_aligned(slot->bytes, page) || !is_aligned(slot->address, page) ||
        !is_aligned((uintptr_t)slot->host, page))
        return -EINVAL;
    if (slot->read_only && kvm_vm_check(vm, KVM_CAP_READONLY_MEM) == 0)
        return -ENOTSUP;
    struct kvm_userspace_memory_region region = {
        .slot = slot->number,
        .flags = (slot->read_only ? KVM_MEM_READONLY : 0) | (slot->log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = slot->address,
        .memory_size = slot->bytes,
        .userspace_addr = (uintptr_t)slot->host,
    };
    return kvm_vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

int kvm_vm_slot_remove(const struct kvm_vm *vm, uint32_t number)
{
    struct kvm_userspace_memory_region region = {.slot = number};
    return kvm_vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

unsigned kvm_vm_slots_max(const struct kvm_vm *vm)
{
    int count = kvm_vm_check(vm, KVM_CAP_NR_MEMSLOTS);
    return count == 0 ? 32 : (unsigned)count; /* 32: what every KVM has, before the capability */
}

static int kvm_vm_doorbell(const struct kvm_vm *vm, const struct kvm_doorbell *doorbell, uint32_t flags)
{
    if (doorbell->size == 0 && (doorbell->by_value || kvm_vm_check(vm, KVM_CAP_IOEVENTFD_ANY_LENGTH) == 0))
        return doorbell->by_value ? -EINVAL : -ENOTSUP;
    struct kvm_ioeventfd ioeventfd = {
        .datamatch = doorbell->by_value ? doorbell->value : 0,
        .addr = doorbell->address,
        .len = doorbell->size,
        .fd = doorbell->handle,
        .flags = flags | (doorbell->is_port ? KVM_IOEVENTFD_FLAG_PIO : 0) |
                 (doorbell->by_value ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
    };
    return kvm_vm_ioctl(vm, KVM_IOEVENTFD, &ioeventfd);
}

int kvm_vm_doorbell_add(const struct kvm_vm *vm, const struct kvm_doorbell *doorbell)
{
    return kvm_vm_doorbell(vm, doorbell, 0);
}

int kvm_vm_doorbell_remove(const struct kvm_vm *vm, const struct kvm_doorbell *doorbell)
{
    return kvm_vm_doorbell(vm, doorbell, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static int kvm_vm_coalesce(const struct kvm_vm *vm, unsigned long request, uint64_t address, uint32_t bytes,
                           bool is_port)
{
    struct kvm_coalesced_mmio_zone zone = {.addr = address, .size = bytes, .pio = is_port};
    if (kvm_vm_check(vm, KVM_CAP_COALESCED_MMIO) == 0 || (is_port && kvm_vm_check(vm, KVM_CAP_COALESCED_PIO) == 0))
        return -ENOTSUP;
    return kvm_vm_ioctl(vm, request, &zone);
}

int kvm_vm_coalesce_add(const struct kvm_vm *vm, uint64_t address, uint32_t bytes, bool is_port)
{
    return kvm_vm_coalesce(vm, KVM_REGISTER_COALESCED_MMIO, address, bytes, is_port);
}

int kvm_vm_coalesce_remove(const struct kvm_vm *vm, uint64_t address, uint32_t bytes, bool is_port)
{
    return kvm_vm_coalesce(vm, KVM_UNREGISTER_COALESCED_MMIO, address, bytes, is_port);
}

int kvm_device_open(const struct kvm_vm *vm, uint32_t type, int *ret_handle)
{
    struct kvm_create_device device = {.type = type};
    int r = kvm_vm_ioctl(vm, KVM_CREATE_DEVICE, &device);
    if (r < 0)
        return r;
    *ret_handle = (int)device.fd;
    return 0;
}

void kvm_device_close(const struct kvm_vm *vm, int handle)
{
    vm->host->system->close(vm->host->system, handle);
}

static int kvm_device_attribute(const struct kvm_vm *vm, int handle, unsigned long request, uint32_t group,
                                uint64_t attribute, const void *value)
{
    struct kvm_device_attr attr = {.group = group, .attr = attribute, .addr = (uintptr_t)value};
    return kvm_ioctl(vm->host->system, handle, request, &attr);
}

bool kvm_device_has(const struct kvm_vm *vm, int handle, uint32_t group, uint64_t attribute)
{
    return kvm_device_attribute(vm, handle, KVM_HAS_DEVICE_ATTR, group, attribute, NULL) == 0;
}

int kvm_device_set(const struct kvm_vm *vm, int handle, uint32_t group, uint64_t attribute, const void *value)
{
    return kvm_device_attribute(vm, handle, KVM_SET_DEVICE_ATTR, group, attribute, value);
}

int kvm_device_get(const struct kvm_vm *vm, int handle, uint32_t group, uint64_t attribute, void *ret_value)
{
    return kvm_device_attribute(vm, handle, KVM_GET_DEVICE_ATTR, group, attribute, ret_value);
}
