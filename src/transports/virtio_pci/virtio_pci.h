/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio over PCI (VIRTIO 1.3, 4.1): one function, for a modern driver. It drives any back end (virtio_backend.h).
 *
 * BAR 0 has all registers, the notification area and MSI-X; BAR 2, where the device has shared memory regions, those.
 * The owner plugs virtio_pci.function into a root (pci.h); the guest, or whoever assigns addresses, places the BARs,
 * and doorbells and memory follow.
 *
 * Pure; threads as virtio_control.h has them.
 */
#ifndef TRANSPORTS_VIRTIO_PCI_VIRTIO_PCI_H
#define TRANSPORTS_VIRTIO_PCI_VIRTIO_PCI_H

#include "machine/bus_window.h"
#include "machine/pci_msix.h"
#include "virtio/virtio_control.h"

/* Shared memory regions of a device; the types that have any have one or two (2.10). */
#define VIRTIO_PCI_SHARED_MAX 4

/* The transport's own part of a queue. */
struct virtio_pci_queue {
    struct bus_doorbell doorbell;
    _Atomic uint16_t vector; /* read on any thread */
};

struct virtio_pci_config {
    struct virtio_control_config control; /* the part that all transports share */
    struct virtio_pci_queue *queues;      /* borrowed: [backend->queue_count], written by init */
    struct bus *bus;                      /* borrowed: where the BARs are placed */
    struct pci_msix_vector *vectors;      /* borrowed: [vector_count] */
    unsigned vector_count;                /* best one a queue, and one for the configuration; 0: no MSI-X */
    struct pci_msix_port *msix_port;      /* borrowed; NULL: messages go through the root's msi port alone */
    bool integrated;                      /* plugged into the root's own bus, not behind a port (PCIe 6.0, 7.5.3.2) */
    uint64_t shared_page_bytes;           /* what memory slots are made of: a power of two */
};

struct virtio_pci {
    struct virtio_control control;
    struct pci_function function; /* the owner plugs it in, and saves it with the root, which saves all of this, too */
    struct bus_device registers;  /* what BAR 0 holds */
    struct bus_window shared;     /* what BAR 2 holds */
    uint64_t registers_bytes, shared_bytes; /* of the BARs; 0: there is none */
    struct bus_memory shared_memories[VIRTIO_PCI_SHARED_MAX];
    unsigned shared_count;
    struct pci_msix msix;
    bool has_msix;
    bool msix_enabled; /* as the queues' notifications are routed now */
    struct bus *bus;
    struct virtio_pci_queue *queues;
    uint32_t notify_offset; /* of the notification area in BAR 0 */
    /* capabilities in configuration space (4.1.4) */
    struct pci_capability common, notify, isr, device, window, msix_watch, power, express;
    struct pci_capability shared_capabilities[VIRTIO_PCI_SHARED_MAX];
    /* registers (4.1.4.3) */
    uint32_t device_feature_select;
    uint32_t driver_feature_select;
    uint16_t queue_select;
    uint16_t config_vector;
};

/* Records of the state, before those of virtio_control. */
#define VIRTIO_STATE_PCI 0x49435056u       /* first: the selectors u32, u32, u16, config_vector u16 */
#define VIRTIO_STATE_PCI_QUEUE 0x51435056u /* one a queue, in order: index u16, vector u16 */

/*
 * Make the function, with its capabilities and BARs. -EINVAL: more vectors than MSI-X has. -ENOSPC: more shared memory
 * regions, or capabilities, than there is room for.
 */
int virtio_pci_init(struct virtio_pci *pci, const struct virtio_pci_config *config);

#endif
