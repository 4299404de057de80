/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The lines of a queue: handles by which two sides wake each other without a word about what for. */
#ifndef VIRTIO_QUEUE_LINE_H
#define VIRTIO_QUEUE_LINE_H

enum queue_line {
    QUEUE_LINE_KICK,  /* the driver's side to the device: watch it */
    QUEUE_LINE_CALL,  /* the device to the driver: signalled on VIRTIO_EVENT_NOTIFY */
    QUEUE_LINE_ERROR, /* the device to the driver's side: signalled when the queue breaks */
};

#endif
