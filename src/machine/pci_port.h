/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A root port of PCI Express with a slot for native hot plug (PCIe 6.0, 6.7, 7.5.1.3, 7.5.3): a bridge from the root
 * bus to one of its own, on which there is one device, number 0. The guest finds the slot's registers in the port's
 * PCIe capability: attention button, power controller, indicators, presence, state of the link.
 *
 * Life of a slot: pci_port_plug puts a device in, function 0 last, since that one makes the card seen. For
 * pci_port_unplug_request the button is pressed; a guest that agrees takes the slot's power away, the listener is told
 * that the device may go, and pci_port_unplug takes it out. Done without the guest's consent that is a surprise
 * removal, which the guest is told of as well. A device without power cannot be reached; with power again it begins
 * anew.
 *
 * Threads: as the bus. The listener is called from within the guest's write; it must not unplug there, but afterwards.
 */
#ifndef MACHINE_PCI_PORT_H
#define MACHINE_PCI_PORT_H

#include "machine/pci.h"
#include "machine/pci_msi.h"

struct pci_port;

struct pci_port_listener {
    const struct pci_port_listener_class *class;
};

struct pci_port_listener_class {
    /* Asked for the device, the guest has switched the slot's power off: it may be taken out. */
    void (*ejected)(struct pci_port_listener *listener, struct pci_port *port);
};

struct pci_port_options {
    uint16_t slot_number; /* 1 to 8191, different from those of other ports (Physical Slot Number) */
    uint8_t port_number;  /* of the link */
    uint16_t vendor, device;
    uint8_t pin;                        /* for a guest without MSI: 1: INTA#, … */
    struct pci_port_listener *listener; /* borrowed; may be NULL */
};

struct pci_port {
    struct pci_function function;          /* the bridge itself */
    struct pci_capability header, express; /* what of its registers is watched */
    struct pci_msi msi;
    struct pci_bus bus; /* behind it */
    struct pci_port_options options;
    bool powered;   /* as the guest wants it */
    bool requested; /* the guest has been asked to let the device go */
    bool resetting; /* the bus behind it, by BRIDGE_CONTROL */
    bool notifies;  /* the condition of its interrupt is true */
};

/* @options is copied. Then the port is plugged in with pci_port_connect. */
int pci_port_init(struct pci_port *port, const struct pci_port_options *options);
/* As @device.@number of the root bus. Errors are pci_function_plug's. */
int pci_port_connect(struct pci_port *port, struct pci_root *root, unsigned device, unsigned number);
/* The slot is empty. */
void pci_port_disconnect(struct pci_port *port);

/*
 * Put @function in, as function @number of the device; function 0 comes last, and makes the slot occupied. @hot: the
 * guest runs, and is told. -EEXIST: taken; -EBUSY: the slot is occupied already; -EINVAL: no such function.
 */
int pci_port_plug(struct pci_port *port, unsigned number, struct pci_function *function, bool hot);
/* Ask the guest to let the device go. -ENOENT: there is none; -EALREADY: the slot has no power, it may go. */
int pci_port_unplug_request(struct pci_port *port);
/* Take all of the device out, now, and tell the guest. -ENOENT: there is none. */
int pci_port_unplug(struct pci_port *port);

bool pci_port_is_occupied(const struct pci_port *port);
/* Does the slot have power, as the guest wants it? */
bool pci_port_has_power(const struct pci_port *port);

#endif
