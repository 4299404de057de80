/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * MSI with one vector and a 64-bit address (PCI Local Bus 3.0, 6.8.1), without mask bits: what a root port interrupts
 * with. A function with more to say takes MSI-X.
 *
 * Threads: as the bus, pci_msi_send included.
 */
#ifndef MACHINE_PCI_MSI_H
#define MACHINE_PCI_MSI_H

#include "machine/pci.h"

struct pci_msi {
    struct pci_capability capability;
    struct pci_function *function; /* borrowed */
};

/* Give @function the capability. -ENOSPC: no room for it. */
int pci_msi_init(struct pci_msi *msi, struct pci_function *function);
/* The guest has switched it on: the function does not use its pin. */
bool pci_msi_is_enabled(const struct pci_msi *msi);
/* Send, if it is on and the function may write memory, through the root's msi port. */
void pci_msi_send(struct pci_msi *msi);

#endif
