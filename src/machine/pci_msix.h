/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * MSI-X (PCI Local Bus 3.0, 6.8.2; PCIe 6.0, 7.7.2): the capability, and the table and the pending bits, which lie in a
 * BAR. The owner of the interrupts is told through a port what each vector would send now. Where he has handles (irqfd)
 * signals go past this object; where he has none, pci_msix_send sends.
 *
 * A vector is open when MSI-X is on, neither the function nor the vector is masked, and the function is a bus master in
 * D0; else it is closed, and what is sent to it stays pending until it opens. With MSI-X off nothing is kept.
 *
 * Threads: as the bus, but for pci_msix_send, which may be called by any thread at any time between init and done: a
 * vector's entry has a sequence number, and whoever changes it looks at the pending bit afterwards. So no signal is
 * lost; one that meets a mask in the same moment may still go out, with the old message.
 */
#ifndef MACHINE_PCI_MSIX_H
#define MACHINE_PCI_MSIX_H

#include <stdatomic.h>

#include "machine/pci.h"

#define PCI_MSIX_VECTORS_MAX 2048u /* PCI Local Bus 3.0, 6.8.2.3 */
#define PCI_MSIX_ENTRY_BYTES 16u

struct pci_msix;

struct pci_msix_port {
    const struct pci_msix_port_class *class;
};

struct pci_msix_port_class {
    /*
     * Vector @index sends @message from now on; NULL: it is closed. Called when that has changed, never from
     * pci_msix_send. What the owner's handle has collected while it was closed is his to deliver. May be NULL.
     */
    void (*changed)(struct pci_msix_port *port, unsigned index, const struct msi_message *message);
    /* Has the owner's handle of closed vector @index collected a signal? Nothing is consumed. May be NULL: no. */
    bool (*pending)(struct pci_msix_port *port, unsigned index);
};

struct pci_msix_vector {
    _Atomic uint32_t sequence; /* odd: being changed */
    _Atomic uint32_t words[4]; /* address, upper address, data, control; as the guest wrote them */
    _Atomic bool open;
    _Atomic bool pending;
};

struct pci_msix {
    struct pci_capability capability;
    struct pci_function *function;   /* borrowed */
    struct pci_msix_port *port;      /* borrowed; NULL: nobody listens */
    struct pci_msix_vector *vectors; /* [count], borrowed */
    unsigned count;
    uint8_t bar;
    uint32_t table_offset, pending_offset; /* in the BAR; multiples of 8 */
    _Atomic bool enabled;
    struct bus_device device; /* table and pending bits as a BAR of their own, for owners without anything else in it */
};

/* Bytes of the table, and of the pending bits, for @count vectors. */
static inline uint32_t pci_msix_table_bytes(unsigned count)
{
    return count * PCI_MSIX_ENTRY_BYTES;
}
static inline uint32_t pci_msix_pending_bytes(unsigned count)
{
    return (count + 63) / 64 * 8;
}

/*
 * Give @function MSI-X with @count vectors, whose table lies at @table_offset of BAR @bar and pending bits at
 * @pending_offset; both are best in pages of their own. -EINVAL: a number that cannot be; -ENOSPC: no room for the
 * capability.
 */
int pci_msix_init(struct pci_msix *msix, struct pci_function *function, struct pci_msix_port *port,
                  struct pci_msix_vector *vectors, unsigned count, unsigned bar, uint32_t table_offset,
                  uint32_t pending_offset);

/* Is offset @offset of the BAR in the table or the pending bits? For devices with other things in the same BAR. */
bool pci_msix_covers(const struct pci_msix *msix, uint64_t offset);
/* Accesses at an offset of the BAR; 4 and 8 bytes, aligned, do something (6.8.2). */
void pci_msix_read(struct pci_msix *msix, uint64_t offset, unsigned size, uint64_t *ret_value);
void pci_msix_write(struct pci_msix *msix, uint64_t offset, unsigned size, uint64_t value);

/* MSI-X is on: the function does not use its pin. */
static inline bool pci_msix_is_enabled(const struct pci_msix *msix)
{
    return atomic_load_explicit(&msix->enabled, memory_order_acquire);
}
/* What vector @index sends; false: it is closed, or there is no such vector. */
bool pci_msix_message(const struct pci_msix *msix, unsigned index, struct msi_message *ret_message);
/*
 * Send vector @index through the root's msi port, or note it as pending. Any thread. A vector that is not there
 * (VIRTIO_MSI_NO_VECTOR) sends nothing.
 */
void pci_msix_send(struct pci_msix *msix, unsigned index);

#endif
