/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The buses' port on KVM: a doorbell is an ioeventfd, memory of a device is a memory slot. */
#ifndef VMM_VMM_BUS_PORT_H
#define VMM_VMM_BUS_PORT_H

#include "machine/bus.h"
#include "machine/resources.h"
#include "platform/kvm/kvm_vm.h"

struct vmm_bus_port {
    struct bus_port port;
    const struct kvm_vm *vm;      /* borrowed */
    const struct bus *pio;        /* which of the buses has ports */
    struct resource_space *slots; /* of the VM; borrowed */
};

void vmm_bus_port_init(struct vmm_bus_port *port, const struct kvm_vm *vm, const struct bus *pio,
                       struct resource_space *slots);

#endif
