/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The template's wire, little-endian. No clause of VIRTIO has it; a real device names its own here. Nothing else. */
#ifndef DEVICES_TEMPLATE_VIRTIO_TEMPLATE_H
#define DEVICES_TEMPLATE_VIRTIO_TEMPLATE_H

#include <assert.h>
#include <stdint.h>

/* A device of the standard has its number in virtio/virtio_ids.h. This one is no device's. */
#define VIRTIO_ID_TEMPLATE 0xffff

struct virtio_template_config {
    uint32_t message_bytes_max; /* what of a longer message arrives */
};
static_assert(sizeof(struct virtio_template_config) == 4, "the template's configuration");

#endif
