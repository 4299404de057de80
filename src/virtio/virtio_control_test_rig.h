/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio_control between a fake back end, a fake owner, and a transport that only counts. */
#ifndef VIRTIO_VIRTIO_CONTROL_TEST_RIG_H
#define VIRTIO_VIRTIO_CONTROL_TEST_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "fake_backend.h"
#include "fake_owner.h"
#include "virtio/virtio_control.h"

#define RIG_READY (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK)
#define RIG_WORKING (RIG_READY | VIRTIO_STATUS_DRIVER_OK)

struct rig {
    struct fake_backend fake;
    struct fake_owner owner;
    struct virtio_control control;
    struct virtio_control_queue queues[FAKE_BACKEND_QUEUES];
    /* the transport */
    uint16_t vectors[FAKE_BACKEND_QUEUES];
    bool live[FAKE_BACKEND_QUEUES];
    unsigned queue_interrupts[FAKE_BACKEND_QUEUES], interrupts_here, config_interrupts, queue_resets, resets;
};

/* With these features added, hidden and required by the owner. */
void rig_make(struct rig *rig, uint64_t added, uint64_t hidden, uint64_t required);
int rig_setup(void **state);
int rig_setup_ring_reset(void **state);
int rig_teardown(void **state);

/* As a driver does: the status up to FEATURES_OK with these features; queues set up and enabled; DRIVER_OK. */
void rig_negotiate(struct rig *rig, uint64_t features);
void rig_enable(struct rig *rig, unsigned index, uint32_t size);
void rig_work(struct rig *rig);

#endif
