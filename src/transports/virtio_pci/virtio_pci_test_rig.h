/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio-pci in a root, between a fake back end and a driver. */
#ifndef TRANSPORTS_VIRTIO_PCI_VIRTIO_PCI_TEST_RIG_H
#define TRANSPORTS_VIRTIO_PCI_VIRTIO_PCI_TEST_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "fake_owner.h"
#include "transport_driver.h"
#include "transports/virtio_pci/virtio_pci.h"
#include "transports/virtio_pci/virtio_pci_regs.h"

#define RIG_ECAM UINT64_C(0xe0000000)
#define RIG_WINDOW UINT64_C(0x1000000000) /* for BARs: 16 GiB */
#define RIG_WINDOW_BYTES UINT64_C(0x400000000)
#define RIG_BARS (RIG_WINDOW + 0x100000)
#define RIG_VECTORS 4
#define RIG_PAGE UINT64_C(4096)
#define RIG_WORKING                                                                                                    \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK)

/* Offsets in the common configuration. */
#define RIG_FIELD(name) offsetof(struct virtio_pci_common_cfg, name)

struct rig {
    struct bus_port port;
    unsigned bound, mapped;
    uint64_t last_address;
    unsigned last_size;
    int last_handle;
    struct bus bus;
    struct pci_root root;
    /* messages that were sent */
    struct msi_port msi;
    unsigned messages;
    struct msi_message last_message;
    struct fake_backend fake;
    struct fake_owner owner;
    struct virtio_pci pci;
    struct virtio_control_queue queues[FAKE_BACKEND_QUEUES];
    struct virtio_pci_queue pci_queues[FAKE_BACKEND_QUEUES];
    struct pci_msix_vector vectors[RIG_VECTORS];
    struct transport_driver driver;
    struct fake_driver ring;
};

/* On @backend, or the fake one if NULL. The fake back end is made once, by rig_setup. */
void rig_make(struct rig *rig, struct virtio_backend *backend, unsigned vector_count);
int rig_setup(void **state);
int rig_setup_intx(void **state); /* without MSI-X */
int rig_teardown(void **state);

void rig_negotiate(struct rig *rig, uint64_t features);
/* A driver at work on queues 0 and 1, with these features and VERSION_1. */
void rig_work(struct rig *rig, uint64_t features);

uint32_t rig_config_read(struct rig *rig, unsigned offset, unsigned size);
void rig_config_write(struct rig *rig, unsigned offset, unsigned size, uint32_t value);
uint64_t rig_read(struct rig *rig, uint64_t offset, unsigned size);
void rig_write(struct rig *rig, uint64_t offset, unsigned size, uint64_t value);

#endif
