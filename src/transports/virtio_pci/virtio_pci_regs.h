/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a virtio device over PCI shows (VIRTIO 1.3, 4.1), little-endian. The wire, nothing else. */
#ifndef TRANSPORTS_VIRTIO_PCI_VIRTIO_PCI_REGS_H
#define TRANSPORTS_VIRTIO_PCI_VIRTIO_PCI_REGS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* 4.1.2, discovery: a modern device's id is its type's number above this. */
#define VIRTIO_PCI_VENDOR 0x1af4
#define VIRTIO_PCI_DEVICE_BASE 0x1040
#define VIRTIO_PCI_REVISION 1 /* at least: 4.1.2.1 */

/* 4.1.4, capabilities */
enum virtio_pci_cfg_type {
    VIRTIO_PCI_CAP_COMMON_CFG = 1,
    VIRTIO_PCI_CAP_NOTIFY_CFG = 2,
    VIRTIO_PCI_CAP_ISR_CFG = 3,
    VIRTIO_PCI_CAP_DEVICE_CFG = 4,
    VIRTIO_PCI_CAP_PCI_CFG = 5,
    VIRTIO_PCI_CAP_SHARED_MEMORY_CFG = 8,
};

struct virtio_pci_cap {
    uint8_t cap_vndr; /* id and link are PCI's */
    uint8_t cap_next;
    uint8_t cap_len;
    uint8_t cfg_type;
    uint8_t bar;
    uint8_t id;
    uint8_t padding[2];
    uint32_t offset;
    uint32_t length;
};
static_assert(sizeof(struct virtio_pci_cap) == 16, "VIRTIO 1.3, 4.1.4");
static_assert(offsetof(struct virtio_pci_cap, offset) == 8, "VIRTIO 1.3, 4.1.4");

/* 4.1.4.4 */
struct virtio_pci_notify_cap {
    struct virtio_pci_cap cap;
    uint32_t notify_off_multiplier;
};
static_assert(sizeof(struct virtio_pci_notify_cap) == 20, "VIRTIO 1.3, 4.1.4.4");

/* 4.1.4.7: shared memory regions */
struct virtio_pci_cap64 {
    struct virtio_pci_cap cap;
    uint32_t offset_hi;
    uint32_t length_hi;
};
static_assert(sizeof(struct virtio_pci_cap64) == 24, "VIRTIO 1.3, 4.1.4");

/* 4.1.4.9: a window into the BARs */
struct virtio_pci_cfg_cap {
    struct virtio_pci_cap cap;
    uint8_t pci_cfg_data[4];
};
static_assert(sizeof(struct virtio_pci_cfg_cap) == 20, "VIRTIO 1.3, 4.1.4.9");

/* 4.1.4.3, the common configuration structure */
struct virtio_pci_common_cfg {
    uint32_t device_feature_select;
    uint32_t device_feature; /* read-only */
    uint32_t driver_feature_select;
    uint32_t driver_feature;
    uint16_t config_msix_vector;
    uint16_t num_queues; /* read-only */
    uint8_t device_status;
    uint8_t config_generation; /* read-only */
    /* of the queue that is selected */
    uint16_t queue_select;
    uint16_t queue_size;
    uint16_t queue_msix_vector;
    uint16_t queue_enable;
    uint16_t queue_notify_off; /* read-only */
    uint64_t queue_desc;
    uint64_t queue_driver;
    uint64_t queue_device;
    uint16_t queue_notif_config_data; /* read-only */
    uint16_t queue_reset;
    uint16_t admin_queue_index; /* read-only */
    uint16_t admin_queue_num;   /* read-only */
};
static_assert(sizeof(struct virtio_pci_common_cfg) == 64, "VIRTIO 1.3, 4.1.4.3");
static_assert(offsetof(struct virtio_pci_common_cfg, queue_select) == 22, "VIRTIO 1.3, 4.1.4.3");
static_assert(offsetof(struct virtio_pci_common_cfg, queue_desc) == 32, "VIRTIO 1.3, 4.1.4.3");
static_assert(offsetof(struct virtio_pci_common_cfg, queue_reset) == 58, "VIRTIO 1.3, 4.1.4.3");

#endif
