/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio-blk on the wire, little-endian (VIRTIO 1.3, 5.2). Nothing else. */
#ifndef DEVICES_BLK_VIRTIO_BLK_H
#define DEVICES_BLK_VIRTIO_BLK_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* 5.2.3 */
#define VIRTIO_BLK_F_SIZE_MAX (UINT64_C(1) << 1)
#define VIRTIO_BLK_F_SEG_MAX (UINT64_C(1) << 2)
#define VIRTIO_BLK_F_GEOMETRY (UINT64_C(1) << 4)
#define VIRTIO_BLK_F_RO (UINT64_C(1) << 5)
#define VIRTIO_BLK_F_BLK_SIZE (UINT64_C(1) << 6)
#define VIRTIO_BLK_F_FLUSH (UINT64_C(1) << 9)
#define VIRTIO_BLK_F_TOPOLOGY (UINT64_C(1) << 10)
#define VIRTIO_BLK_F_CONFIG_WCE (UINT64_C(1) << 11)
#define VIRTIO_BLK_F_MQ (UINT64_C(1) << 12)
#define VIRTIO_BLK_F_DISCARD (UINT64_C(1) << 13)
#define VIRTIO_BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

/* 5.2.4; every field at its natural place, so no packing is needed */
struct virtio_blk_config {
    uint64_t capacity; /* of 512 bytes */
    uint32_t size_max;
    uint32_t seg_max;
    struct {
        uint16_t cylinders;
        uint8_t heads;
        uint8_t sectors;
    } geometry;
    uint32_t blk_size;
    struct {
        uint8_t physical_block_exp;
        uint8_t alignment_offset;
        uint16_t min_io_size;
        uint32_t opt_io_size;
    } topology;
    uint8_t writeback;
    uint8_t unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors;
    uint32_t max_discard_seg;
    uint32_t discard_sector_alignment;
    uint32_t max_write_zeroes_sectors;
    uint32_t max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
};
static_assert(offsetof(struct virtio_blk_config, blk_size) == 20, "VIRTIO 1.3, 5.2.4");
static_assert(offsetof(struct virtio_blk_config, writeback) == 32, "VIRTIO 1.3, 5.2.4");
static_assert(offsetof(struct virtio_blk_config, num_queues) == 34, "VIRTIO 1.3, 5.2.4");
static_assert(offsetof(struct virtio_blk_config, write_zeroes_may_unmap) == 56, "VIRTIO 1.3, 5.2.4");
static_assert(sizeof(struct virtio_blk_config) == 64, "60 bytes of 5.2.4 before secure erase, and padding");
#define VIRTIO_BLK_CONFIG_BYTES 60

/* 5.2.6: the device-readable header of each request; the last writable byte is the status */
struct virtio_blk_header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};
static_assert(sizeof(struct virtio_blk_header) == 16, "VIRTIO 1.3, 5.2.6");

#define VIRTIO_BLK_T_IN 0
#define VIRTIO_BLK_T_OUT 1
#define VIRTIO_BLK_T_FLUSH 4
#define VIRTIO_BLK_T_GET_ID 8
#define VIRTIO_BLK_T_DISCARD 11
#define VIRTIO_BLK_T_WRITE_ZEROES 13

#define VIRTIO_BLK_S_OK 0
#define VIRTIO_BLK_S_IOERR 1
#define VIRTIO_BLK_S_UNSUPP 2

#define VIRTIO_BLK_SECTOR_BYTES 512
#define VIRTIO_BLK_ID_BYTES 20

/* 5.2.6: one range of DISCARD or WRITE_ZEROES */
struct virtio_blk_range {
    uint64_t sector;
    uint32_t num_sectors;
    uint32_t flags;
};
static_assert(sizeof(struct virtio_blk_range) == 16, "VIRTIO 1.3, 5.2.6");

#define VIRTIO_BLK_RANGE_UNMAP 1

#endif
