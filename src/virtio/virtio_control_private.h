/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What virtio_control's files share. */
#ifndef VIRTIO_VIRTIO_CONTROL_PRIVATE_H
#define VIRTIO_VIRTIO_CONTROL_PRIVATE_H

#include "virtio/virtio_control.h"

/* The status bits that a driver sets (2.1). */
#define VIRTIO_CONTROL_DRIVER_BITS                                                                                     \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK |          \
     VIRTIO_STATUS_FAILED)

/* Are the driver's features any good? Then the back end has them. Every queue is stopped. */
bool virtio_control_accept_features(struct virtio_control *control);

/* Can a queue have this size, with the features that were negotiated? */
bool virtio_control_size_fits(const struct virtio_control *control, uint32_t size);

/* Bring every queue to where it is to be, as far as that goes without waiting. */
void virtio_control_update_queues(struct virtio_control *control);

#endif
