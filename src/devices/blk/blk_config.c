/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * All that the configuration space says follows from the options, the capacity and the cache mode, so it is made anew
 * for each read; it is read a few times in a guest's life. The driver may write one byte of it, writeback, when it
 * has VIRTIO_BLK_F_CONFIG_WCE.
 *
 * A disk with a write cache offers FLUSH and CONFIG_WCE (5.2.5.2: CONFIG_WCE not without FLUSH). What mode is in force
 * is decided by what the driver took: CONFIG_WCE, the byte; only FLUSH, write-back; neither, write-through, since such
 * a driver never flushes (5.2.6.2).
 *
 * Limits
 *
 * No geometry, lifetime, secure erase or zones. seg_max and size_max are advice to the driver, not enforced: the
 * queue's own caps bound a chain, and Linux's drivers are known to go by seg_max alone.
 */
#include <errno.h>

#include "devices/blk/blk_config.h"

/* "blkc": the cache mode. */
#define BLK_STATE_TAG UINT32_C(0x636b6c62)
#define BLK_STATE_VERSION 1
#define BLK_STATE_BYTES 1

/* What Linux's requests use when nobody says otherwise: 128 descriptors less header and status. */
#define BLK_SEG_MAX_DEFAULT 126

/* physical_block_exp shifts block_bytes; a physical block beyond 2 GiB is a mistake. */
#define BLK_PHYSICAL_EXP_MAX 19

static const struct blk *blk_of(const struct virtio_device *device)
{
    return (const struct blk *)(const void *)((const char *)device - offsetof(struct blk, device));
}

static uint8_t physical_exp(const struct blk_options *options)
{
    uint8_t exp = 0;
    while (exp < BLK_PHYSICAL_EXP_MAX && (uint64_t)options->block_bytes << exp < options->physical_bytes)
        exp++;
    return exp;
}

int blk_options_check(struct blk_options *options)
{
    if (options->block_bytes != 512 && options->block_bytes != 4096)
        return -EINVAL;
    if ((uint64_t)options->block_bytes << physical_exp(options) != options->physical_bytes)
        options->physical_bytes = options->block_bytes;
    options->optimal_io_bytes -= options->optimal_io_bytes % options->block_bytes;
    if (options->seg_max == 0)
        options->seg_max = BLK_SEG_MAX_DEFAULT;
    if (options->seg_max > VIRTQ_LONG_RUN_PIECES - 2) /* header and status */
        return -EINVAL;
    if (options->size_max != 0 && options->size_max < options->block_bytes)
        return -EINVAL;
    uint64_t granularity = align_up(options->discard_granularity_bytes, options->block_bytes);
    bool told = granularity != 0 && granularity <= UINT32_MAX;
    options->discard_granularity_bytes = told ? (uint32_t)granularity : options->block_bytes;
    return 0;
}

uint64_t blk_features(const struct virtio_device *device)
{
    const struct blk *blk = blk_of(device);
    const struct blk_options *options = &blk->options;
    uint64_t features = VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_TOPOLOGY;

    if (options->size_max != 0)
        features |= VIRTIO_BLK_F_SIZE_MAX;
    if (options->write_cache)
        features |= VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_CONFIG_WCE;
    if (device->queue_count > 1)
        features |= VIRTIO_BLK_F_MQ;
    if (options->read_only)
        return features | VIRTIO_BLK_F_RO;
    if (options->discard)
        features |= VIRTIO_BLK_F_DISCARD;
    if (options->write_zeroes)
        features |= VIRTIO_BLK_F_WRITE_ZEROES;
    return features;
}

int blk_set_features(struct virtio_device *device, uint64_t features)
{
    struct blk *blk = container_of(device, struct blk, device);

    /* 5.2.5.2: a driver that can switch the cache but not flush it must find it off. */
    if ((features & VIRTIO_BLK_F_CONFIG_WCE) != 0 && (features & VIRTIO_BLK_F_FLUSH) == 0)
        atomic_store_explicit(&blk->writeback, false, memory_order_relaxed);
    return 0;
}

bool blk_is_write_through(const struct blk *blk)
{
    if ((blk->device.features & VIRTIO_BLK_F_CONFIG_WCE) != 0)
        return !atomic_load_explicit(&blk->writeback, memory_order_relaxed);
    return (blk->device.features & VIRTIO_BLK_F_FLUSH) == 0;
}

void blk_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t size)
{
    const struct blk *blk = blk_of(device);
    const struct blk_options *options = &blk->options;
    uint64_t capacity = atomic_load_explicit(&blk->capacity_sectors, memory_order_relaxed);
    struct virtio_blk_config config;

    /* By memset, since padding is shown to the guest as well (5.2.5.2: unused bytes are 0). */
    memset(&config, 0, sizeof(config));
    config.capacity = cpu_to_le64(capacity);
    config.size_max = cpu_to_le32(options->size_max);
    config.seg_max = cpu_to_le32(options->seg_max);
    config.blk_size = cpu_to_le32(options->block_bytes);
    config.topology.physical_block_exp = physical_exp(options);
    uint32_t blocks = options->physical_bytes / options->block_bytes;
    config.topology.min_io_size = cpu_to_le16((uint16_t)u32_min(blocks, UINT16_MAX));
    config.topology.opt_io_size = cpu_to_le32(options->optimal_io_bytes / options->block_bytes);
    config.writeback = atomic_load_explicit(&blk->writeback, memory_order_relaxed);
    config.num_queues = cpu_to_le16(device->queue_count);
    if (options->discard && !options->read_only) {
        config.max_discard_sectors = cpu_to_le32(BLK_DISCARD_SECTORS_MAX);
        config.max_discard_seg = cpu_to_le32(BLK_RANGES_MAX);
        config.discard_sector_alignment = cpu_to_le32(options->discard_granularity_bytes / VIRTIO_BLK_SECTOR_BYTES);
    }
    if (options->write_zeroes && !options->read_only) {
        config.max_write_zeroes_sectors = cpu_to_le32(BLK_WRITE_ZEROES_SECTORS_MAX);
        config.max_write_zeroes_seg = cpu_to_le32(BLK_RANGES_MAX);
        config.write_zeroes_may_unmap = options->discard;
    }
    ASSERT(range_within(offset, size, VIRTIO_BLK_CONFIG_BYTES));
    memcpy(to, (const uint8_t *)&config + offset, size);
}

int blk_config_write(struct virtio_device *device, uint32_t offset, const void *from, uint32_t size)
{
    struct blk *blk = container_of(device, struct blk, device);

    if (offset != offsetof(struct virtio_blk_config, writeback) || size != 1 || !blk->options.write_cache)
        return -EPERM;
    /*
     * A vhost-user front end passes the driver's features on only when the driver is up, yet the byte may be written
     * as soon as the driver has chosen: before any features are known, what is on offer decides. After a reset that
     * keeps them (SET_STATUS 0), that are still the features of the driver before: a front end sets new ones first.
     */
    if (device->features != 0 && (device->features & VIRTIO_BLK_F_CONFIG_WCE) == 0)
        return -EPERM;
    uint8_t value = *(const uint8_t *)from;
    if (value > 1)
        return -EINVAL;
    atomic_store_explicit(&blk->writeback, value != 0, memory_order_relaxed);
    return 0;
}

void blk_reset(struct virtio_device *device)
{
    struct blk *blk = container_of(device, struct blk, device);

    atomic_store_explicit(&blk->writeback, blk->options.write_cache, memory_order_relaxed);
}

int blk_save(const struct virtio_device *device, struct state_writer *writer)
{
    uint8_t writeback = atomic_load_explicit(&blk_of(device)->writeback, memory_order_relaxed);

    return state_put(writer, BLK_STATE_TAG, BLK_STATE_VERSION, &writeback, BLK_STATE_BYTES);
}

int blk_load(struct virtio_device *device, struct state_reader *reader)
{
    struct blk *blk = container_of(device, struct blk, device);
    struct state_record record;
    int r;

    while ((r = state_next(reader, &record)) > 0) {
        if (record.tag != BLK_STATE_TAG)
            continue;
        if (record.version > BLK_STATE_VERSION)
            return -ENOTSUP;
        if (record.length != BLK_STATE_BYTES || record.payload[0] > 1)
            return -EBADMSG;
        /* A cache that is on where no driver can flush it: the state is of another disk. */
        if (record.payload[0] == 1 && !blk->options.write_cache)
            return -EINVAL;
        atomic_store_explicit(&blk->writeback, record.payload[0] != 0, memory_order_relaxed);
    }
    return r;
}
