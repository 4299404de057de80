/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Numbers that every virtio device shares: device ids, feature bits, status bits (VIRTIO 1.3, 2.1, 5, 6). */
#ifndef VIRTIO_VIRTIO_IDS_H
#define VIRTIO_VIRTIO_IDS_H

#include <stdint.h>

/* 5, Device Types */
enum virtio_id {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLOCK = 2,
    VIRTIO_ID_CONSOLE = 3,
    VIRTIO_ID_ENTROPY = 4,
    VIRTIO_ID_SCSI = 8,
    VIRTIO_ID_GPU = 16,
    VIRTIO_ID_INPUT = 18,
    VIRTIO_ID_VSOCK = 19,
    VIRTIO_ID_SOUND = 25,
    VIRTIO_ID_FS = 26,
    VIRTIO_ID_I2C = 34,
    VIRTIO_ID_GPIO = 41,
};

/* 6, Reserved Feature Bits: bits 24 to 41 belong to the ring and the transport, the rest to the device type. */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)
#define VIRTIO_F_ACCESS_PLATFORM (UINT64_C(1) << 33)
#define VIRTIO_F_RING_PACKED (UINT64_C(1) << 34)
#define VIRTIO_F_IN_ORDER (UINT64_C(1) << 35)
#define VIRTIO_F_ORDER_PLATFORM (UINT64_C(1) << 36)
#define VIRTIO_F_SR_IOV (UINT64_C(1) << 37)
#define VIRTIO_F_NOTIFICATION_DATA (UINT64_C(1) << 38)
#define VIRTIO_F_NOTIF_CONFIG_DATA (UINT64_C(1) << 39)
#define VIRTIO_F_RING_RESET (UINT64_C(1) << 40)
#define VIRTIO_F_ADMIN_VQ (UINT64_C(1) << 41)

/* 2.1, Device Status Field */
#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER 2
#define VIRTIO_STATUS_DRIVER_OK 4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_STATUS_NEEDS_RESET 64
#define VIRTIO_STATUS_FAILED 128

#endif
