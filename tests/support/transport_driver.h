/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver's side of virtio-mmio and virtio-pci, as Linux's goes about it (VIRTIO 1.3, 3.1, 4.1.5, 4.2.3): it finds
 * the device, negotiates, sets up queues, kicks, resets. Its numbers are those of Linux's headers, not ours. All it
 * does are accesses through a bus and, for PCI, a function's configuration space.
 */
#ifndef TESTS_SUPPORT_TRANSPORT_DRIVER_H
#define TESTS_SUPPORT_TRANSPORT_DRIVER_H

#include "fake_driver.h"
#include "machine/pci.h"

enum transport_field {
    TRANSPORT_DEVICE_SELECT,
    TRANSPORT_DEVICE_FEATURES,
    TRANSPORT_DRIVER_SELECT,
    TRANSPORT_DRIVER_FEATURES,
    TRANSPORT_STATUS,
    TRANSPORT_GENERATION,
    TRANSPORT_QUEUE_SELECT,
    TRANSPORT_QUEUE_SIZE_MAX, /* pci: the same as the next */
    TRANSPORT_QUEUE_SIZE,
    TRANSPORT_QUEUE_ENABLE,
    TRANSPORT_QUEUE_RESET,
    TRANSPORT_DESC_LOW,
    TRANSPORT_DESC_HIGH,
    TRANSPORT_DRIVER_LOW,
    TRANSPORT_DRIVER_HIGH,
    TRANSPORT_DEVICE_LOW,
    TRANSPORT_DEVICE_HIGH,
    TRANSPORT_FIELDS,
};

struct transport_place {
    uint64_t offset;
    unsigned size;
};

struct transport_driver {
    struct bus *bus;
    const struct transport_place *places; /* [TRANSPORT_FIELDS], from @registers */
    uint64_t registers;                   /* address of mmio's, or of the common configuration */
    uint64_t config;                      /* of the configuration space */
    struct pci_function *function;        /* NULL: mmio */
    uint64_t isr, notify;
    uint32_t notify_multiplier;
    unsigned window; /* offset of the PCI_CFG capability */
    unsigned msix;   /* offset of MSI-X's; 0: none */
    uint64_t msix_table;
    uint64_t shared; /* region with id @shared_id */
    uint64_t shared_bytes;
    uint8_t shared_id;
    uint64_t features; /* negotiated */
    unsigned later;    /* accesses that answered BUS_LATER */
};

/* The device at @address of @bus; false: it is none (4.2.3.1). */
bool transport_driver_find_mmio(struct transport_driver *driver, struct bus *bus, uint64_t address);
/*
 * The function: its capabilities, BARs placed from @address on (aligned to their size by the caller's choice of it),
 * memory and bus mastering on. False: it is no modern device (4.1.2).
 */
bool transport_driver_find_pci(struct transport_driver *driver, struct bus *bus, struct pci_function *function,
                               uint64_t address);
/* MSI-X on, and vectors 0 to @count - 1 open: vector i sends i + 0x40 to 0xfee00000. */
void transport_driver_use_msix(struct transport_driver *driver, unsigned count);

uint64_t transport_driver_read(struct transport_driver *driver, uint64_t address, unsigned size);
void transport_driver_write(struct transport_driver *driver, uint64_t address, unsigned size, uint64_t value);
uint32_t transport_driver_get(struct transport_driver *driver, enum transport_field field);
void transport_driver_set(struct transport_driver *driver, enum transport_field field, uint32_t value);

/* Add bits to the status. */
void transport_driver_add_status(struct transport_driver *driver, uint8_t bits);
uint64_t transport_driver_offered(struct transport_driver *driver);
/* 3.1.1, steps 1 to 6, with those of @wanted that are on offer; false: FEATURES_OK did not stay. */
bool transport_driver_negotiate(struct transport_driver *driver, uint64_t wanted);
/* Set up queue @index with the ring of @ring, and enable it; false: it is not there, or smaller. */
bool transport_driver_set_up(struct transport_driver *driver, unsigned index, const struct fake_driver *ring);
/* Its vector, or that of the configuration (@index UINT16_MAX); answers what the device has then. PCI only. */
uint16_t transport_driver_set_vector(struct transport_driver *driver, unsigned index, uint16_t vector);
void transport_driver_kick(struct transport_driver *driver, unsigned index, const struct fake_driver *ring);
/* What interrupted, acknowledged. */
uint32_t transport_driver_interrupts(struct transport_driver *driver);
/* 2.4: begin; and is it done? */
void transport_driver_reset(struct transport_driver *driver);
bool transport_driver_is_reset(struct transport_driver *driver);

#endif
