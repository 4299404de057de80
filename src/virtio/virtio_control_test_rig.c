/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "virtio/virtio_control_test_rig.h"

#include <stdlib.h>

static struct rig *of(const struct virtio_control *control)
{
    return container_of((uintptr_t)control, struct rig, control);
}

static void queue_interrupt(struct virtio_control *control, unsigned index, bool here)
{
    of(control)->queue_interrupts[index]++;
    of(control)->interrupts_here += here;
}

static void config_interrupt(struct virtio_control *control)
{
    of(control)->config_interrupts++;
}

static uint16_t queue_vector(const struct virtio_control *control, unsigned index)
{
    return of(control)->vectors[index];
}

static void queue_live(struct virtio_control *control, unsigned index, bool live)
{
    assert_int_not_equal(of(control)->live[index], live);
    of(control)->live[index] = live;
}

static void queue_reset(struct virtio_control *control, unsigned index)
{
    assert_false(of(control)->live[index]);
    of(control)->queue_resets++;
}

static void reset(struct virtio_control *control)
{
    of(control)->resets++;
}

static const struct virtio_control_class class = {
    .name = "counting",
    .queue_interrupt = queue_interrupt,
    .config_interrupt = config_interrupt,
    .queue_vector = queue_vector,
    .queue_live = queue_live,
    .queue_reset = queue_reset,
    .reset = reset,
};

void rig_make(struct rig *rig, uint64_t added, uint64_t hidden, uint64_t required)
{
    struct virtio_control_config config = {
        .backend = &rig->fake.backend,
        .port = &rig->owner.port,
        .queues = rig->queues,
        .features_added = added,
        .features_hidden = hidden,
        .features_required = required,
    };

    *rig = (struct rig){0};
    fake_backend_init(&rig->fake);
    fake_owner_init(&rig->owner);
    for (unsigned i = 0; i < FAKE_BACKEND_QUEUES; i++)
        rig->vectors[i] = (uint16_t)i;
    virtio_control_init(&rig->control, &class, &config);
}

int rig_setup(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));

    if (rig == NULL)
        return -1;
    rig_make(rig, 0, 0, 0);
    *state = rig;
    return 0;
}

int rig_setup_ring_reset(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));

    if (rig == NULL)
        return -1;
    rig_make(rig, VIRTIO_F_RING_RESET, 0, 0);
    *state = rig;
    return 0;
}

int rig_teardown(void **state)
{
    free(*state);
    return 0;
}

void rig_negotiate(struct rig *rig, uint64_t features)
{
    struct virtio_control *control = &rig->control;

    virtio_control_set_status(control, VIRTIO_STATUS_ACKNOWLEDGE);
    virtio_control_set_status(control, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    virtio_control_set_driver_features(control, 0, (uint32_t)features);
    virtio_control_set_driver_features(control, 1, (uint32_t)(features >> 32));
    virtio_control_set_status(control, RIG_READY);
}

void rig_enable(struct rig *rig, unsigned index, uint32_t size)
{
    struct virtio_control *control = &rig->control;

    virtio_control_queue_set_size(control, index, size);
    virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DESC, false, 0x10000 * (index + 1));
    virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DESC, true, 0x1);
    virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DRIVER, false, 0x20000 * (index + 1));
    virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DRIVER, true, 0x2);
    virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DEVICE, false, 0x30000 * (index + 1));
    virtio_control_queue_set_address(control, index, VIRTIO_CONTROL_DEVICE, true, 0x3);
    virtio_control_queue_enable(control, index);
}

void rig_work(struct rig *rig)
{
    rig_negotiate(rig, VIRTIO_F_VERSION_1 | (rig->control.features_added & VIRTIO_F_RING_RESET));
    rig_enable(rig, 0, 64);
    rig_enable(rig, 1, 128);
    virtio_control_set_status(&rig->control, RIG_WORKING);
}
