/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The file or block device behind a disk: opened, recognised as raw, locked against other users as QEMU locks its
 * images, and measured. Used on the control thread; nothing is logged, errors come as one line of text to print.
 */
#ifndef PLATFORM_LINUX_DISK_IMAGE_H
#define PLATFORM_LINUX_DISK_IMAGE_H

#include "base/base.h"

/* Room for a path of reasonable length and a sentence; longer ones are cut. */
#define DISK_IMAGE_ERROR_BYTES 512

/* Past the host's page cache (O_DIRECT)? */
enum disk_direct {
    DISK_DIRECT_OFF,
    DISK_DIRECT_ON,   /* or fail, saying why */
    DISK_DIRECT_AUTO, /* for block devices, and files in memory, where it can be had */
};

struct disk_image_options {
    const char *path;
    bool read_only;
    enum disk_direct direct;
    bool without_lock; /* for file systems that have no locks; nothing then keeps a second writer away */
    /*
     * How long to try for the locks. The I/O of a process that was killed goes on for a while and keeps them, rightly:
     * it could still land on the image. Whoever takes over has to wait for that.
     */
    unsigned lock_wait_ms;
};

struct disk_image {
    int fd; /* owned; back ends borrow it. -1: not open */
    bool read_only;
    bool block_device;
    bool direct;                        /* the page cache is bypassed */
    bool non_blocking;                  /* the descriptor is O_NONBLOCK: see disk_image.c */
    bool discard;                       /* space can be given back, as far as can be told without trying */
    uint64_t size_bytes;                /* as it was when opened or refreshed */
    uint32_t logical_block_bytes;       /* what a transfer must be a multiple of; 512 for files, unless direct */
    uint32_t physical_block_bytes;      /* at least logical_block_bytes */
    uint32_t optimal_io_bytes;          /* 0: not known */
    uint32_t discard_granularity_bytes; /* at least logical_block_bytes */
    uint32_t direct_block_bytes;        /* with direct: what offsets and lengths must be multiples of; at most 4096 */
    uint32_t direct_memory_bytes;       /* with direct: what memory must be aligned to; at most 4096 */
};

/*
 * Open, check, lock and measure. On failure @image is not open and @error has one line: what, where, what to do.
 * -ENOENT, -EACCES, …: as open(2) says. -ENOTBLK: neither a regular file nor a block device. -EMEDIUMTYPE: an image
 * format other than raw. -EBUSY: another process uses it in a way that excludes this one. -ENOLCK: locks do not work
 * there. -ENODATA: too short for one sector. -EOPNOTSUPP: there is no O_DIRECT there, or none that a guest could use.
 */
int disk_image_open(struct disk_image *image, const struct disk_image_options *options, char *error,
                    size_t error_bytes);

/* Close, which also gives up the locks. Nothing may be in flight. A closed image stays closed. */
void disk_image_close(struct disk_image *image);

/* Look up the size again, after someone else has changed it: also in image->size_bytes from now on. */
int disk_image_refresh_size(struct disk_image *image, uint64_t *ret_size_bytes);

#endif
