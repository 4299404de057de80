/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory of a front end in this process. The file behind it stays the front end's, who may cut it off under our hands:
 * touching what is gone raises SIGBUS, which is survived here.
 */
#ifndef PLATFORM_LINUX_SHARED_MAPPING_H
#define PLATFORM_LINUX_SHARED_MAPPING_H

#include "base/base.h"

/* Mappings at a time in the whole process: every memory slot in a map that is being replaced by another, and some. */
#define SHARED_MAPPINGS_MAX 1280

struct shared_mapping {
    uint8_t *base;  /* the first byte asked for */
    uint64_t owner; /* for shared_mapping_close */
};

/*
 * Map @bytes at @offset of file @handle, shared, readable and writable; @offset may be unaligned. The handle stays the
 * caller's. When a page of it turns out to be gone, zeros take its place and @fault_handle (an eventfd, borrowed until
 * close) is signalled. -EINVAL: no bytes, or the end wraps. -ENXIO: the file is shorter. -ENOMEM: too many mappings,
 * or no room. Others as mmap(2) has them. From any thread.
 */
int shared_mapping_open(int handle, uint64_t offset, uint64_t bytes, int fault_handle,
                        struct shared_mapping *ret_mapping);
void shared_mapping_close(uint64_t owner);

#endif
