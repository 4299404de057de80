/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio-mmio on a bus, between a fake back end and a driver. */
#ifndef TRANSPORTS_VIRTIO_MMIO_VIRTIO_MMIO_TEST_RIG_H
#define TRANSPORTS_VIRTIO_MMIO_VIRTIO_MMIO_TEST_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "fake_owner.h"
#include "transport_driver.h"
#include "transports/virtio_mmio/virtio_mmio.h"
#include "transports/virtio_mmio/virtio_mmio_regs.h"

#define RIG_BASE UINT64_C(0xd0000000)
#define RIG_WORKING                                                                                                    \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK)

/* What is bound now, of a port that can bind so many doorbells. */
struct rig_port {
    struct bus_port port;
    unsigned bound, mapped, room;
    uint64_t last_address, last_value;
    unsigned last_size;
    int last_handle;
    bool refuses_memory;
};

struct rig {
    struct rig_port port;
    struct bus bus;
    struct fake_backend fake;
    struct fake_owner owner;
    struct virtio_mmio mmio;
    struct virtio_control_queue queues[FAKE_BACKEND_QUEUES];
    struct bus_doorbell doorbells[FAKE_BACKEND_QUEUES];
    struct transport_driver driver;
    /* rings that nobody looks at: addresses for the driver to write */
    struct fake_driver ring;
};

/* On @backend, or the fake one if NULL; all features of the transport are on offer. */
void rig_make(struct rig *rig, struct virtio_backend *backend, bool level);
int rig_setup(void **state);
int rig_setup_level(void **state);
int rig_teardown(void **state);

/* A driver at work on queues 0 and 1, with these features and VERSION_1. */
void rig_work(struct rig *rig, uint64_t features);

static inline uint32_t rig_read(struct rig *rig, uint64_t offset)
{
    return (uint32_t)transport_driver_read(&rig->driver, RIG_BASE + offset, 4);
}

static inline void rig_write(struct rig *rig, uint64_t offset, uint32_t value)
{
    transport_driver_write(&rig->driver, RIG_BASE + offset, 4, value);
}

#endif
