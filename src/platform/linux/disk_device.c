/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/disk_device.h"

#include <errno.h>
#include <stdio.h>

#include "platform/linux/short_text.h"

/* Chains of the longest kind are rare; some are kept so that one slow request does not hold up the next. */
#define DISK_LONG_RUNS 4

/* With a seg-max above this they are the rule: header and status are pieces too. */
#define DISK_SEG_MAX_MEDIUM (VIRTQ_MEDIUM_RUN_PIECES - 2)

/* The last I/O of a process that was killed is done by then, on a disk that works. */
#define DISK_LOCK_WAIT_MS 1000

static int disk_device_handle(void *context, unsigned index)
{
    struct disk_device *disk = context;
    return blk_backend_handle(&disk->backend, index);
}

static bool disk_device_ready(void *context, unsigned index)
{
    const struct disk_device *disk = context;
    return blk_backend_ready(&disk->backend, index);
}

static bool disk_device_rest(void *context, unsigned index)
{
    struct disk_device *disk = context;
    return blk_backend_rest(&disk->backend, index);
}

void disk_device_queue_port(struct disk_device *disk, struct server_queue_port *ret_port)
{
    *ret_port = (struct server_queue_port){
        .handle = disk_device_handle,
        .ready = disk_device_ready,
        .rest = disk_device_rest,
        .context = disk,
    };
}

static struct blk_options disk_device_blk_options(const struct disk_device *disk)
{
    const struct disk_device_options *options = &disk->options;
    const struct disk_image *image = &disk->image;
    bool file = options->path != NULL;
    uint32_t block_bytes = options->block_bytes == 4096                                   ? 4096
                           : file && image->logical_block_bytes > VIRTIO_BLK_SECTOR_BYTES ? 4096
                                                                                          : VIRTIO_BLK_SECTOR_BYTES;
    struct blk_options blk = {
        .size_bytes = file ? image->size_bytes : options->null_bytes,
        .block_bytes = block_bytes,
        .physical_bytes = file && image->physical_block_bytes > block_bytes ? image->physical_block_bytes : block_bytes,
        .optimal_io_bytes = file ? image->optimal_io_bytes : 0,
        .seg_max = options->seg_max,
        .size_max = options->size_max,
        .limit_iops = options->limit_iops,
        .limit_bytes_per_s = options->limit_bytes_per_s,
        .discard_granularity_bytes = file ? image->discard_granularity_bytes : 0,
        .read_only = options->read_only,
        .discard = file && !options->read_only && image->discard,
        .write_zeroes = file && !options->read_only,
        .write_cache = file && !options->read_only,
    };
    if (options->serial)
        memcpy(blk.serial, options->serial, strlen(options->serial));
    return blk;
}

/* The model, on queues that are open. */
static int disk_device_make(struct disk_device *disk, char *error, size_t error_bytes)
{
    const struct blk_options blk = disk_device_blk_options(disk);
    if (disk->options.block_bytes == VIRTIO_BLK_SECTOR_BYTES && blk.block_bytes != VIRTIO_BLK_SECTOR_BYTES) {
        snprintf(error, error_bytes, "--block-size=512: %s has blocks of %u%s; leave the option out",
                 SHORTENED(disk->options.path), blk.block_bytes, disk->image.direct ? " past the page cache" : "");
        return -EINVAL;
    }
    int r = blk_init(&disk->blk, disk->queues.queues, (uint16_t)disk->options.queues, disk->backend.port, &blk);
    if (r < 0) {
        snprintf(error, error_bytes, "cannot make a disk of %llu bytes in blocks of %u: %s",
                 (unsigned long long)blk.size_bytes, blk.block_bytes, strerror(-r));
        return r;
    }
    disk->blk.device.offers_in_order = disk->options.in_order;
    return 0;
}

static int disk_device_open_backend(struct disk_device *disk, char *error, size_t error_bytes)
{
    const struct disk_device_options *options = &disk->options;
    const struct blk_backend_options backend = {
        .engine = options->path ? options->engine : BLK_ENGINE_NULL,
        .image = options->path ? &disk->image : NULL,
        .queues = options->queues,
        .depth = options->depth,
    };
    const struct virtq_arena_shape shape = {
        .slots = (uint16_t)options->depth,
        .medium_runs = (uint16_t)options->depth,
        .long_runs = options->seg_max > DISK_SEG_MAX_MEDIUM ? (uint16_t)options->depth : DISK_LONG_RUNS,
        .request_bytes = blk_request_bytes(),
    };
    int r = blk_backend_open(&disk->backend, &backend, error, error_bytes);
    if (r < 0)
        return r;
    r = device_queues_open(&disk->queues, options->queues, &shape);
    if (r < 0)
        snprintf(error, error_bytes, "out of memory");
    else
        r = disk_device_make(disk, error, error_bytes);
    if (r < 0) {
        device_queues_close(&disk->queues);
        blk_backend_close(&disk->backend);
    }
    return r;
}

int disk_device_open(struct disk_device *disk, const struct disk_device_options *options, char *error,
                     size_t error_bytes)
{
    *disk = (struct disk_device){.options = *options};
    if (!options->path)
        return disk_device_open_backend(disk, error, error_bytes);
    const struct disk_image_options image = {
        .path = options->path,
        .read_only = options->read_only,
        .direct = options->direct,
        .lock_wait_ms = DISK_LOCK_WAIT_MS,
    };
    int r = disk_image_open(&disk->image, &image, error, error_bytes);
    if (r < 0)
        return r;
    r = disk_device_open_backend(disk, error, error_bytes);
    if (r < 0)
        disk_image_close(&disk->image);
    return r;
}

void disk_device_close(struct disk_device *disk)
{
    device_queues_close(&disk->queues);
    blk_backend_close(&disk->backend);
    if (disk->options.path)
        disk_image_close(&disk->image);
}

void disk_device_report_begin(struct disk_device *disk, struct loop *loop, const struct log *log)
{
    struct disk_errors *errors = blk_backend_errors(&disk->backend);
    if (errors)
        disk_report_begin(&disk->report, loop, log, disk->options.path, errors, DISK_REPORT_PAUSE_NS);
}

void disk_device_report_end(struct disk_device *disk)
{
    if (disk->report.errors)
        disk_report_end(&disk->report);
}

int disk_device_resize(struct disk_device *disk, bool may_shrink, uint64_t *ret_bytes, char *error, size_t error_bytes)
{
    const char *path = disk->options.path;
    uint64_t bytes, before = atomic_load(&disk->blk.capacity_sectors) * VIRTIO_BLK_SECTOR_BYTES;
    if (!path) {
        snprintf(error, error_bytes, "a null disk has no file to follow");
        return -ENOTSUP;
    }
    int r = disk_image_refresh_size(&disk->image, &bytes);
    if (r < 0) {
        snprintf(error, error_bytes, "cannot find out the size of %s: %s", SHORTENED(path), strerror(-r));
        return r;
    }
    /* As the guest is shown it: in whole blocks. */
    bytes = align_down(bytes, disk->blk.options.block_bytes);
    if (bytes == 0) {
        snprintf(error, error_bytes, "%s is shorter than one block of %u bytes, the least a disk has; make it larger",
                 SHORTENED(path), disk->blk.options.block_bytes);
        return -EINVAL;
    }
    if (bytes < before && !may_shrink) {
        snprintf(error, error_bytes, "%s has shrunk from %llu to %llu bytes; --shrink takes that away from the guest",
                 SHORTENED(path), (unsigned long long)before, (unsigned long long)bytes);
        return -EINVAL;
    }
    *ret_bytes = bytes;
    if (bytes == before)
        return 0;
    blk_resize(&disk->blk, bytes);
    return 1;
}
