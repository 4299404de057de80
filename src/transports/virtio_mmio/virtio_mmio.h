/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio over MMIO (VIRTIO 1.3, 4.2): the registers of one device, for a driver of version 2. It drives any back end
 * (virtio_backend.h). Pure; threads as virtio_control.h has them.
 */
#ifndef TRANSPORTS_VIRTIO_MMIO_VIRTIO_MMIO_H
#define TRANSPORTS_VIRTIO_MMIO_VIRTIO_MMIO_H

#include "machine/bus_window.h"
#include "machine/irq.h"
#include "virtio/virtio_control.h"

/* What it occupies: the registers, and up to 256 bytes of configuration space. */
#define VIRTIO_MMIO_BYTES 0x200

/* Shared memory regions of a device; the types that have any have one or two (2.10). */
#define VIRTIO_MMIO_SHARED_MAX 4

struct virtio_mmio_config {
    /* The part that all transports share; VIRTIO_F_NOTIF_CONFIG_DATA is for PCI and not offered here. */
    struct virtio_control_config control;
    struct bus_doorbell *doorbells; /* borrowed: [backend->queue_count], written by init */
    struct bus *bus;                /* borrowed: where the owner places the device */
    struct irq_line *line;          /* borrowed */
    /*
     * The line's level follows InterruptStatus. Else each event is an edge, for which no driver has to answer before
     * the next one comes: what a line that is described as edge-triggered needs.
     */
    bool level;
};

struct virtio_mmio {
    struct virtio_control control;
    struct bus_device device; /* the registers, VIRTIO_MMIO_BYTES: the owner adds it to the bus, and removes it */
    /* The shared memory regions, one behind the other: virtio_mmio_place_shared puts it there. */
    struct bus_window shared;
    struct bus_memory shared_memories[VIRTIO_MMIO_SHARED_MAX];
    uint64_t shared_sizes[VIRTIO_MMIO_SHARED_MAX];
    uint8_t shared_ids[VIRTIO_MMIO_SHARED_MAX];
    unsigned shared_count;
    bool shared_placed;
    uint64_t shared_base;
    struct bus *bus;
    struct irq_line *line;
    bool level;
    struct bus_doorbell *doorbells;
    /* registers that are only written */
    uint32_t device_features_select;
    uint32_t driver_features_select;
    uint32_t queue_select;
    uint32_t shared_select;
};

void virtio_mmio_init(struct virtio_mmio *mmio, const struct virtio_mmio_config *config);

/* Bytes of all shared memory regions, a multiple of @page_bytes (a power of two); 0: there are none. */
uint64_t virtio_mmio_shared_bytes(const struct virtio_mmio *mmio, uint64_t page_bytes);
/*
 * The regions are at @base of the guest from now on, as many bytes as above: places mmio->shared.device there. Before
 * the driver looks. Errors are those of bus_add and bus_memory_add; then the driver finds no region.
 */
int virtio_mmio_place_shared(struct virtio_mmio *mmio, uint64_t base, uint64_t page_bytes);
/* Takes them away again. */
void virtio_mmio_remove_shared(struct virtio_mmio *mmio);

/* As virtio_control_save and _load, with the registers above: its record comes first. */
#define VIRTIO_STATE_MMIO 0x4f494d4du /* the four selectors, u32 */
int virtio_mmio_save(const struct virtio_mmio *mmio, struct state_writer *writer);
int virtio_mmio_load(struct virtio_mmio *mmio, struct state_reader *reader);

#endif
