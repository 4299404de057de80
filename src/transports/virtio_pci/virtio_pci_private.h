/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What virtio_pci's files share. */
#ifndef TRANSPORTS_VIRTIO_PCI_VIRTIO_PCI_PRIVATE_H
#define TRANSPORTS_VIRTIO_PCI_VIRTIO_PCI_PRIVATE_H

#include "transports/virtio_pci/virtio_pci.h"
#include "transports/virtio_pci/virtio_pci_regs.h"

#define VIRTIO_PCI_BAR_REGISTERS 0
#define VIRTIO_PCI_BAR_SHARED 2

/* Parts of BAR 0: which page they begin in. */
#define VIRTIO_PCI_PAGE 0x1000u
#define VIRTIO_PCI_PAGE_COMMON 0
#define VIRTIO_PCI_PAGE_ISR 1
#define VIRTIO_PCI_PAGE_DEVICE 2
#define VIRTIO_PCI_PAGE_PENDING 3
#define VIRTIO_PCI_PAGE_TABLE 4

/* The notification area: so far apart are the queues (notify_off_multiplier). */
#define VIRTIO_PCI_NOTIFY_BYTES 4u

extern const struct bus_device_class virtio_pci_registers_class;

/* The ISR status, which reading clears (4.1.4.5). */
uint8_t virtio_pci_read_isr(struct virtio_pci *pci);
void virtio_pci_set_config_vector(struct virtio_pci *pci, uint16_t vector);
void virtio_pci_set_queue_vector(struct virtio_pci *pci, uint16_t index, uint16_t vector);

/* What the driver finds BAR 0 by (4.1.4); -ENOSPC: no room in the configuration space. */
int virtio_pci_add_capabilities(struct virtio_pci *pci);
/* And region @index, which begins at @offset of BAR 2. */
int virtio_pci_add_shared_capability(struct virtio_pci *pci, unsigned index, const struct virtio_shared_region *region,
                                     uint64_t offset);

#endif
