/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtio disk, whole: the image, the engine that does its I/O, the model and its queues. Whoever serves it (a
 * vhost-user server, a machine of our own) plugs in device and queue port.
 *
 * Threads: open, close and resize on the control thread. Nothing here blocks longer than opening a file does, but for
 * the wait for a predecessor's lock on the image (disk_lock.h).
 */
#ifndef PLATFORM_LINUX_DISK_DEVICE_H
#define PLATFORM_LINUX_DISK_DEVICE_H

#include "devices/blk/blk.h"
#include "platform/linux/blk_backend.h"
#include "platform/linux/disk_image.h"
#include "platform/linux/disk_report.h"
#include "platform/linux/server_queue.h"

/* Requests a queue may have in flight: twice the ring that QEMU makes by default. */
#define DISK_DEPTH_DEFAULT 256

#define DISK_DEVICE_ERROR_BYTES 512

struct disk_device_options {
    const char *path;     /* borrowed until close; NULL: a disk that does nothing, */
    uint64_t null_bytes;  /* of this size */
    const char *serial;   /* NULL: none; at most VIRTIO_BLK_ID_BYTES */
    unsigned queues;      /* 1 to BLK_QUEUES_MAX */
    unsigned depth;       /* requests in flight a queue */
    uint32_t block_bytes; /* logical block: 512, 4096, or 0: as the image wants it */
    uint32_t seg_max;     /* as struct blk_options has them */
    uint32_t size_max;
    uint64_t limit_iops, limit_bytes_per_s;
    enum blk_engine engine;
    enum disk_direct direct;
    bool read_only;
    bool in_order;
};

struct disk_device {
    struct disk_device_options options;
    struct disk_image image;
    struct blk_backend backend;
    struct device_queues queues;
    struct blk blk;
    struct disk_report report;
};

/*
 * -EINVAL: options that make no sense for this image; others as of disk_image_open and blk_backend_open. @error has one
 * line then. The object must not be moved while open.
 */
int disk_device_open(struct disk_device *disk, const struct disk_device_options *options, char *error,
                     size_t error_bytes);
/* Every queue has stopped. */
void disk_device_close(struct disk_device *disk);

/* What the queues' threads need; its context is @disk. */
void disk_device_queue_port(struct disk_device *disk, struct server_queue_port *ret_port);

/* Tell the log of the disk's errors while @loop runs; end when it runs no more. A null disk has none. */
void disk_device_report_begin(struct disk_device *disk, struct loop *loop, const struct log *log);
void disk_device_report_end(struct disk_device *disk);

/*
 * Take over the file's new size: > 0, the driver is to be told; 0, nothing has changed. -ENOTSUP: a null disk; -EINVAL:
 * shorter than a block, or it has shrunk and @may_shrink is false; others as of stat(2). @error has one line then.
 */
int disk_device_resize(struct disk_device *disk, bool may_shrink, uint64_t *ret_bytes, char *error, size_t error_bytes);

#endif
