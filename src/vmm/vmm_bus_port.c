/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "vmm/vmm_bus_port.h"

#include <errno.h>

static struct kvm_doorbell vmm_bus_doorbell(const struct vmm_bus_port *port, const struct bus *bus, uint64_t address,
                                            const struct bus_doorbell *doorbell)
{
    return (struct kvm_doorbell){
        .address = address,
        .is_port = bus == port->pio,
        .size = doorbell->size,
        .by_value = doorbell->by_value,
        .value = doorbell->value,
        .handle = doorbell->handle,
    };
}

static int vmm_bus_bind(struct bus_port *bus_port, struct bus *bus, uint64_t address,
                        const struct bus_doorbell *doorbell)
{
    const struct vmm_bus_port *port = container_of(bus_port, struct vmm_bus_port, port);
    const struct kvm_doorbell kvm = vmm_bus_doorbell(port, bus, address, doorbell);
    return kvm_vm_doorbell_add(port->vm, &kvm);
}

static void vmm_bus_unbind(struct bus_port *bus_port, struct bus *bus, uint64_t address,
                           const struct bus_doorbell *doorbell)
{
    const struct vmm_bus_port *port = container_of(bus_port, struct vmm_bus_port, port);
    const struct kvm_doorbell kvm = vmm_bus_doorbell(port, bus, address, doorbell);
    int r = kvm_vm_doorbell_remove(port->vm, &kvm);
    ASSERT(r == 0); /* the bus takes away what it has bound, where it has bound it */
}

static int vmm_bus_map(struct bus_port *bus_port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    struct vmm_bus_port *port = container_of(bus_port, struct vmm_bus_port, port);
    uint64_t slot;
    if (bus == port->pio)
        return -EINVAL;
    int r = resource_find(port->slots, 1, 1, 0, UINT32_MAX, "memory of a device", &slot);
    if (r < 0)
        return r;
    const struct kvm_slot kvm = {
        .number = (uint32_t)slot,
        .address = address,
        .bytes = memory->size,
        .host = memory->host,
        .read_only = memory->read_only,
    };
    r = kvm_vm_slot_set(port->vm, &kvm);
    if (r < 0) {
        resource_release(port->slots, slot);
        return r;
    }
    memory->owner = slot;
    return 0;
}

static void vmm_bus_unmap(struct bus_port *bus_port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    struct vmm_bus_port *port = container_of(bus_port, struct vmm_bus_port, port);
    (void)bus;
    (void)address;
    int r = kvm_vm_slot_remove(port->vm, (uint32_t)memory->owner);
    ASSERT(r == 0);
    resource_release(port->slots, memory->owner);
}

static const struct bus_port_class vmm_bus_port_class = {
    .bind = vmm_bus_bind,
    .unbind = vmm_bus_unbind,
    .map = vmm_bus_map,
    .unmap = vmm_bus_unmap,
};

void vmm_bus_port_init(struct vmm_bus_port *port, const struct kvm_vm *vm, const struct bus *pio,
                       struct resource_space *slots)
{
    *port = (struct vmm_bus_port){.port.class = &vmm_bus_port_class, .vm = vm, .pio = pio, .slots = slots};
}
