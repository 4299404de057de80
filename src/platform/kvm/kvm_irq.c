/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_irq.h"

#include <assert.h>
#include <errno.h>

/* The table is handed to the kernel as it is. */
static_assert(offsetof(struct kvm_routes, entries) == offsetof(struct kvm_irq_routing, entries),
              "as the kernel has it");

static int kvm_irq_ioctl(const struct kvm_vm *vm, unsigned long request, void *argument)
{
    return kvm_ioctl(vm->host->system, vm->handle, request, argument);
}

int kvm_irq_line(const struct kvm_vm *vm, uint32_t number, bool raised)
{
    struct kvm_irq_level level = {.irq = number, .level = raised};
    return kvm_irq_ioctl(vm, KVM_IRQ_LINE, &level);
}

int kvm_irq_message(const struct kvm_vm *vm, uint64_t address, uint32_t data, const uint32_t *device_id)
{
    struct kvm_msi message = {
        .address_lo = (uint32_t)address,
        .address_hi = (uint32_t)(address >> 32),
        .data = data,
        .flags = device_id ? KVM_MSI_VALID_DEVID : 0,
        .devid = device_id ? *device_id : 0,
    };
    int r = kvm_irq_ioctl(vm, KVM_SIGNAL_MSI, &message);
    return r > 0 ? 1 : r;
}

int kvm_irq_bind(const struct kvm_vm *vm, uint32_t gsi, int handle, int resample)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)handle, .gsi = gsi};
    if (resample != -1) {
        if (kvm_vm_check(vm, KVM_CAP_IRQFD_RESAMPLE) == 0)
            return -ENOTSUP;
        irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
        irqfd.resamplefd = (uint32_t)resample;
    }
    return kvm_irq_ioctl(vm, KVM_IRQFD, &irqfd);
}

int kvm_irq_unbind(const struct kvm_vm *vm, uint32_t gsi, int handle)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)handle, .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN};
    return kvm_irq_ioctl(vm, KVM_IRQFD, &irqfd);
}

void kvm_routes_init(struct kvm_routes *routes)
{
    routes->count = 0;
    routes->flags = 0;
}

int kvm_routes_add_pin(struct kvm_routes *routes, uint32_t gsi, uint32_t chip, uint32_t pin)
{
    if (routes->count == KVM_ROUTES_MAX)
        return -ENOSPC;
    routes->entries[routes->count++] = (struct kvm_irq_routing_entry){
        .gsi = gsi,
        .type = KVM_IRQ_ROUTING_IRQCHIP,
        .u.irqchip = {.irqchip = chip, .pin = pin},
    };
    return 0;
}

/* The first entry of @gsi, or the count. */
static uint32_t kvm_routes_find(const struct kvm_routes *routes, uint32_t gsi)
{
    uint32_t i = 0;
    while (i < routes->count && routes->entries[i].gsi != gsi)
        i++;
    return i;
}

int kvm_routes_set_message(struct kvm_routes *routes, uint32_t gsi, uint64_t address, uint32_t data,
                           const uint32_t *device_id)
{
    struct kvm_irq_routing_entry entry = {
        .gsi = gsi,
        .type = KVM_IRQ_ROUTING_MSI,
        .flags = device_id ? KVM_MSI_VALID_DEVID : 0,
        .u.msi = {.address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data},
    };
    if (device_id)
        entry.u.msi.devid = *device_id;
    uint32_t at = kvm_routes_find(routes, gsi);
    if (at == routes->count) {
        if (at == KVM_ROUTES_MAX)
            return -ENOSPC;
    } else {
        kvm_routes_remove(routes, gsi);
    }
    routes->entries[routes->count++] = entry;
    return 0;
}

void kvm_routes_remove(struct kvm_routes *routes, uint32_t gsi)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < routes->count; i++) {
        if (routes->entries[i].gsi != gsi)
            routes->entries[kept++] = routes->entries[i];
    }
    routes->count = kept;
}

bool kvm_routes_has(const struct kvm_routes *routes, uint32_t gsi)
{
    return kvm_routes_find(routes, gsi) < routes->count;
}

int kvm_routes_commit(const struct kvm_vm *vm, const struct kvm_routes *routes)
{
    return kvm_ioctl_read_only(vm->host->system, vm->handle, KVM_SET_GSI_ROUTING, routes);
}
