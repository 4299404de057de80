/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a firmware does before it starts a system (PCI Firmware 3.3, 3.5, 4.1): numbers for the buses behind bridges,
 * addresses for every BAR, windows for every bridge with room for what may be plugged in later, interrupt lines,
 * decoders on. A guest that likes it keeps it; one that does not writes its own.
 *
 * Addresses come from the windows of the root's BAR engine, largest first, so that the same machine has the same
 * addresses after every reset: I/O; memory below 4 GiB; memory above. 64-bit BARs that may be prefetched go above, and
 * so do those on the root bus that may not, when there is no room below. Expansion ROMs get none: whoever wants to read
 * one places it.
 *
 * Threads: as the bus. Nothing is kept.
 */
#ifndef MACHINE_PCI_ASSIGN_H
#define MACHINE_PCI_ASSIGN_H

#include "machine/pci.h"

struct pci_assign_options {
    /* Room behind each bridge, at least: in MiB of memory below and above 4 GiB, and in 4 KiB of I/O. */
    uint32_t reserve_memory, reserve_prefetchable, reserve_io;
    uint8_t
        lines[PCI_WIRES]; /* interrupt line register for each wire of the root, which ACPI and device tree overrule */
};

/*
 * Assign everything that is plugged into @root. -ENOSPC: something found no room, or no bus number was left; it stays
 * without, and everything else has been done.
 */
int pci_assign(struct pci_root *root, const struct pci_assign_options *options);

#endif
