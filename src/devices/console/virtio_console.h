/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio-console on the wire, little-endian (VIRTIO 1.3, 5.3). Nothing else. */
#ifndef DEVICES_CONSOLE_VIRTIO_CONSOLE_H
#define DEVICES_CONSOLE_VIRTIO_CONSOLE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* 5.3.2, the queues of port 0 */
#define VIRTIO_CONSOLE_RECEIVEQ 0
#define VIRTIO_CONSOLE_TRANSMITQ 1

/* 5.3.3 */
#define VIRTIO_CONSOLE_F_SIZE (UINT64_C(1) << 0)
#define VIRTIO_CONSOLE_F_MULTIPORT (UINT64_C(1) << 1)
#define VIRTIO_CONSOLE_F_EMERG_WRITE (UINT64_C(1) << 2)

/* 5.3.4 */
struct virtio_console_config {
    uint16_t cols;
    uint16_t rows;
    uint32_t max_nr_ports;
    uint32_t emerg_wr;
};
static_assert(offsetof(struct virtio_console_config, emerg_wr) == 8, "VIRTIO 1.3, 5.3.4");
static_assert(sizeof(struct virtio_console_config) == 12, "VIRTIO 1.3, 5.3.4");

#endif
