/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Image formats told by their first or last bytes. Only raw images are served: to serve another kind as raw would show
 * the guest the container instead of its disk, and writes would destroy it.
 */
#ifndef PLATFORM_LINUX_DISK_FORMAT_H
#define PLATFORM_LINUX_DISK_FORMAT_H

#include "base/base.h"

#define DISK_FORMAT_HEAD_BYTES 512 /* every magic number we know lies in there */
#define DISK_FORMAT_TAIL_BYTES 512 /* a fixed VHD ends with its footer */

struct disk_format {
    const char *title;     /* "qcow2", for people */
    const char *qemu_name; /* what qemu-img -f wants */
};

/*
 * The format of an image of @size bytes that begins with @head (@head_bytes of it, as many as there are up to
 * DISK_FORMAT_HEAD_BYTES) and ends with @tail (likewise). NULL: nothing known, so raw. What a guest writes on its raw
 * disk decides here too: the answer refuses a disk, and does nothing else.
 */
const struct disk_format *disk_format_detect(const uint8_t *head, size_t head_bytes, const uint8_t *tail,
                                             size_t tail_bytes, uint64_t size);

#endif
