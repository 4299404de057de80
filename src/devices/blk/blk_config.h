/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the disk says about itself: features, configuration space, saved state (VIRTIO 1.3, 5.2.3 to 5.2.5). */
#ifndef DEVICES_BLK_BLK_CONFIG_H
#define DEVICES_BLK_BLK_CONFIG_H

#include "devices/blk/blk.h"

/* Ranges of one DISCARD or WRITE_ZEROES: each is one operation, and all of them must find room in one batch. */
#define BLK_RANGES_MAX 16
static_assert(BLK_RANGES_MAX <= BLK_BATCH_MAX, "or such a request could never start");

/* 2 GiB a range: freeing space is quick, so this only keeps byte counts far from the end of 32-bit sums elsewhere. */
#define BLK_DISCARD_SECTORS_MAX (UINT32_C(1) << 22)

/* 64 MiB a range: a host file system without zeroed extents writes them, and a queue that stops waits for that. */
#define BLK_WRITE_ZEROES_SECTORS_MAX (UINT32_C(1) << 17)

/* -EINVAL: no disk can be so. Fills in what was left at 0. */
int blk_options_check(struct blk_options *options);

/* The members of struct virtio_device_class, as there. */
uint64_t blk_features(const struct virtio_device *device);
int blk_set_features(struct virtio_device *device, uint64_t features);
void blk_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t size);
int blk_config_write(struct virtio_device *device, uint32_t offset, const void *from, uint32_t size);
void blk_reset(struct virtio_device *device);
int blk_save(const struct virtio_device *device, struct state_writer *writer);
int blk_load(struct virtio_device *device, struct state_reader *reader);

/* Must a write be stable before it is reported (5.2.6.2, "a write becomes stable")? */
bool blk_is_write_through(const struct blk *blk);

#endif
